//! `pipelines/*.yaml`: a mapping from pipeline names to their steps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decode::{Fields, Reader};
use super::services::{image, variables};
use crate::model::name::ServiceName;
use crate::model::pipeline::{Action, Build, Pipeline, Rollout, Step};
use crate::model::setting::Place;
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// The kinds of steps.
const STEPS: [&str; 2] = ["build", "rollout"];

/// A pipeline as far as it could be read.
#[derive(Debug)]
pub struct Decoded {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Where its repository is named.
    pub repository: Span,
    /// Whether all of its steps could be read.
    pub complete: bool,
}

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node) -> Vec<Decoded> {
    let entries = reader.entries(root, "a file of pipelines");
    entries.iter().filter_map(|(key, value)| pipeline(reader, key, value)).collect()
}

fn pipeline(reader: &mut Reader<'_>, key: &Node, value: &Node) -> Option<Decoded> {
    let name = reader.name(key);
    let fields = reader.fields(value, key.span, "a pipeline", &["repository", "steps"])?;
    let node = reader.required(&fields, "repository");
    let repository_span = node.map_or(key.span, |node| node.span);
    let repository = node.and_then(|node| reader.name(node));
    let mut steps = Vec::new();
    let mut wanted = 0;
    if let Some(node) = reader.required(&fields, "steps") {
        let items = reader.items(node, "`steps`");
        if items.is_empty() && node.items().is_some() {
            let diagnostic = Diagnostic::error("missing-key", "a pipeline needs at least one step");
            reader.problem(diagnostic, node.span, "this is empty");
        }
        wanted = items.len();
        for item in items {
            steps.extend(step(reader, item));
        }
    }
    let place = Place::new(reader.file, key.span);
    let complete = steps.len() == wanted;
    let pipeline = Pipeline { name: name?, repository: repository?, steps, place };
    Some(Decoded { pipeline, repository: repository_span, complete })
}

fn step(reader: &mut Reader<'_>, node: &Node) -> Option<Step> {
    reader.fields(node, node.span, "a step", &STEPS)?;
    let place = reader.place(node);
    let entries = node.entries().unwrap_or_default();
    let [(key, value)] = entries else {
        let diagnostic = Diagnostic::error("wrong-type", "a step has one key, which says what it does");
        reader.problem(diagnostic.help("the kinds of steps are `build` and `rollout`"), node.span, "");
        return None;
    };
    match key.text()? {
        "build" => {
            let (build, timeout) = build(reader, value, key.span)?;
            Some(Step { action: Action::Build(build), timeout, place })
        }
        "rollout" => {
            let keys = ["service", "services", "timeout"];
            let fields = reader.fields(value, key.span, "a rollout step", &keys)?;
            let timeout = timeout(reader, &fields);
            let (services, place) = match fields.get("services") {
                Some(node) => (together(reader, value, &fields, node)?, reader.place(node)),
                None => {
                    let node = reader.required(&fields, "service")?;
                    (vec![reader.name(node)?], reader.place(node))
                }
            };
            Some(Step { action: Action::Rollout(Rollout { services }), timeout, place })
        }
        _ => None,
    }
}

/// The services of a step that are rolled out together.
fn together(
    reader: &mut Reader<'_>,
    value: &Node,
    fields: &Fields<'_>,
    node: &Node,
) -> Option<Vec<ServiceName>> {
    if let (Some(_), Some((key, _))) = (fields.get("service"), value.entry("service")) {
        let diagnostic =
            Diagnostic::error("conflicting-keys", "a rollout step has `service` or `services`, not both");
        reader.problem(diagnostic, key.span, "remove one of them");
        return None;
    }
    let items = reader.items(node, "`services`");
    if items.is_empty() {
        if node.items().is_some() {
            let diagnostic = Diagnostic::error("missing-key", "`services` names no service");
            reader.problem(diagnostic, node.span, "this is empty");
        }
        return None;
    }
    let mut services: Vec<ServiceName> = Vec::new();
    for item in items {
        let name: ServiceName = reader.name(item)?;
        if services.contains(&name) {
            let diagnostic = Diagnostic::error("duplicate-name", format!("`{name}` is named twice"));
            reader.problem(diagnostic, item.span, "remove it");
            return None;
        }
        services.push(name);
    }
    Some(services)
}

fn build(reader: &mut Reader<'_>, value: &Node, place: Span) -> Option<(Build, Option<Duration>)> {
    let keys = ["image", "context", "dockerfile", "args", "secrets", "target", "timeout"];
    let fields = reader.fields(value, place, "a build step", &keys)?;
    let timeout = timeout(reader, &fields);
    let image = reader.required(&fields, "image").and_then(|node| image(reader, node));
    let context = fields.get("context").map_or(Some(".".to_owned()), |node| path(reader, node, "`context`"));
    let dockerfile = fields
        .get("dockerfile")
        .map_or(Some("Dockerfile".to_owned()), |node| path(reader, node, "`dockerfile`"));
    let args = fields.get("args").map(|node| variables(reader, node, "`args`")).unwrap_or_default();
    let target = fields.get("target").and_then(|node| target(reader, node));
    let secrets = fields.get("secrets").map(|node| secrets(reader, node)).unwrap_or_default();
    let build = Build { image: image?, context: context?, dockerfile: dockerfile?, args, target, secrets };
    Some((build, timeout))
}

/// Secrets of a build: ids of the Dockerfile, and the SSM parameters that hold them.
fn secrets(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for (key, value) in node.entries().unwrap_or_default() {
        let id = key.text().unwrap_or_default();
        if id.is_empty() || !id.chars().all(word) {
            let diagnostic = Diagnostic::error("bad-value", format!("`{id}` is not the id of a secret"))
                .help("it is what `id=` names in `RUN --mount=type=secret,id=...`");
            reader.problem(diagnostic, key.span, "letters, digits, `-`, `_` and `.`");
        }
        if value.text().is_some_and(|name| !name.starts_with('/')) {
            let diagnostic = Diagnostic::error("bad-value", "a secret names an SSM parameter, not a value")
                .help("store it with `aws ssm put-parameter --type SecureString --name /NAME`");
            reader.problem(diagnostic, value.span, "a parameter's name begins with `/`");
        }
    }
    reader.texts(node, "`secrets`")
}

/// A stage of the Dockerfile, by its name or number.
fn target(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`target`")?;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || !text.chars().all(word) {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not the name of a stage"))
            .help("`target` is what follows `AS` in a `FROM` of the Dockerfile");
        reader.problem(diagnostic, node.span, "letters, digits, `-`, `_` and `.`");
        return None;
    }
    Some(text.to_owned())
}

/// How long a step may take: whole seconds, up to a day.
fn timeout(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Duration> {
    let node = fields.get("timeout")?;
    let timeout = reader.duration(node, "`timeout`")?;
    if timeout < Duration::from_secs(1) || timeout > Duration::from_secs(24 * 3600) {
        let diagnostic = Diagnostic::error("bad-value", "a step's `timeout` is from `1s` to `24h`");
        reader.problem(diagnostic, node.span, "this is not");
        return None;
    }
    Some(timeout)
}

/// A path that stays inside the git repository.
fn path(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reader.text(node, what)?;
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` leaves the git repository"));
        reader.problem(diagnostic, node.span, "give a path inside it");
        return None;
    }
    Some(text.to_owned())
}
