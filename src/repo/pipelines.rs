//! `pipelines/*.yaml`: a mapping from pipeline names to their steps.

use std::time::Duration;

use super::decode::{Fields, Reader};
use super::services::{image, variables};
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
            let fields = reader.fields(value, key.span, "a rollout step", &["service", "timeout"])?;
            let timeout = timeout(reader, &fields);
            let node = reader.required(&fields, "service")?;
            let service = reader.name(node)?;
            let place = reader.place(node);
            Some(Step { action: Action::Rollout(Rollout { service }), timeout, place })
        }
        _ => None,
    }
}

fn build(reader: &mut Reader<'_>, value: &Node, place: Span) -> Option<(Build, Option<Duration>)> {
    let keys = ["image", "context", "dockerfile", "args", "timeout"];
    let fields = reader.fields(value, place, "a build step", &keys)?;
    let timeout = timeout(reader, &fields);
    let image = reader.required(&fields, "image").and_then(|node| image(reader, node));
    let context = fields.get("context").map_or(Some(".".to_owned()), |node| path(reader, node, "`context`"));
    let dockerfile = fields
        .get("dockerfile")
        .map_or(Some("Dockerfile".to_owned()), |node| path(reader, node, "`dockerfile`"));
    let args = fields.get("args").map(|node| variables(reader, node, "`args`")).unwrap_or_default();
    Some((Build { image: image?, context: context?, dockerfile: dockerfile?, args }, timeout))
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
