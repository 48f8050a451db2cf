//! `pipelines/*.yaml`: a mapping from pipeline names to their steps.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decode::{Fields, Reader};
use super::services::{image, reference, resources, variables, words};
use crate::model::name::ServiceName;
use crate::model::pipeline::{Action, Build, Pipeline, Rollout, Script, Step};
use crate::model::setting::Place;
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// The kinds of steps.
const STEPS: [&str; 3] = ["build", "run", "rollout"];
/// The most times that a command is tried again.
const RETRIES_MOST: i64 = 10;

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
    let fields = reader.fields(value, key.span, "a pipeline", &["repository", "paths", "steps"])?;
    let node = reader.required(&fields, "repository");
    let repository_span = node.map_or(key.span, |node| node.span);
    let repository = node.and_then(|node| reader.name(node));
    let paths = fields.get("paths").map(|node| paths(reader, node)).unwrap_or_default();
    let mut parsed = Vec::new();
    let mut wanted = 0;
    if let Some(node) = reader.required(&fields, "steps") {
        let items = reader.items(node, "`steps`");
        if items.is_empty() && node.items().is_some() {
            let diagnostic = Diagnostic::error("missing-key", "a pipeline needs at least one step");
            reader.problem(diagnostic, node.span, "this is empty");
        }
        wanted = items.len();
        for item in items {
            parsed.extend(step(reader, item));
        }
    }
    let place = Place::new(reader.file, key.span);
    let complete = parsed.len() == wanted;
    let steps = connected(reader, parsed, complete);
    let pipeline = Pipeline { name: name?, repository: repository?, paths, steps, place };
    Some(Decoded { pipeline, repository: repository_span, complete })
}

/// Patterns of files that set a pipeline off.
fn paths(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let items = reader.items(node, "`paths`");
    if items.is_empty() && node.items().is_some() {
        let diagnostic =
            Diagnostic::error("bad-value", "`paths` is empty, so that nothing sets the pipeline off");
        reader.problem(diagnostic, node.span, "name files, such as `web/**`, or remove it");
    }
    let mut patterns = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "a pattern of `paths`") else { continue };
        let bare = text.strip_prefix('!').unwrap_or(text);
        let part = |part: &str| matches!(part, "" | "." | "..");
        let label = if bare.trim_end_matches('/').split('/').any(part) {
            Some("write a path inside the repository, such as `web/**`")
        } else if bare.contains(['[', ']', '\\', '{', '}']) {
            Some("`*`, `**` and `?` are what stands for something else")
        } else {
            None
        };
        match label {
            Some(label) => {
                let message = format!("`{text}` is no pattern of files");
                reader.problem(Diagnostic::error("bad-value", message), item.span, label);
            }
            None => patterns.push(text.to_owned()),
        }
    }
    if !patterns.is_empty() && patterns.iter().all(|pattern| pattern.starts_with('!')) {
        let diagnostic =
            Diagnostic::error("bad-value", "`paths` only says what does not set the pipeline off");
        reader.problem(diagnostic, node.span, "begin with a pattern without `!`, such as `**`");
    }
    patterns
}

/// A step before the names that it needs are looked up.
struct Parsed<'n> {
    step: Step,
    /// What other steps call it.
    name: String,
    /// What it needs.
    needs: Needs<'n>,
}

/// The steps with the positions of those that each of them needs. Where some could not be read, a name that is missing may
/// be theirs.
fn connected(reader: &mut Reader<'_>, parsed: Vec<Parsed<'_>>, complete: bool) -> Vec<Step> {
    let names: Vec<String> = parsed.iter().map(|one| one.name.clone()).collect();
    let mut steps: Vec<Step> = Vec::new();
    for (index, Parsed { mut step, needs, .. }) in parsed.into_iter().enumerate() {
        step.needs = match needs {
            None => index.checked_sub(1).into_iter().collect(),
            Some(needs) => {
                needs.into_iter().filter_map(|need| needed(reader, &names, index, need, complete)).collect()
            }
        };
        steps.push(step);
    }
    steps
}

/// The position of a step that the one at `index` needs. Steps stand after those that they need, so there are no circles.
fn needed(
    reader: &mut Reader<'_>,
    names: &[String],
    index: usize,
    (name, span): (&str, Span),
    complete: bool,
) -> Option<usize> {
    let mut found = names[..index].iter().enumerate().filter(|(_, known)| *known == name);
    match (found.next(), found.next()) {
        (Some((position, _)), None) => return Some(position),
        (Some(_), Some(_)) => {
            let message = format!("several steps before this one are called `{name}`");
            let diagnostic = Diagnostic::error("ambiguous-step", message);
            reader.problem(diagnostic, span, "give each of them a `name`");
        }
        (None, _) if names[index..].iter().any(|known| known == name) => {
            let message = format!("`{name}` does not stand before the step that needs it");
            reader.problem(Diagnostic::error("unknown-step", message), span, "move it up");
        }
        (None, _) if !complete => {}
        (None, _) => {
            let known: Vec<&str> = names[..index].iter().map(String::as_str).collect();
            let diagnostic =
                Diagnostic::error("unknown-step", format!("there is no step `{name}` before this one"));
            super::did_you_mean(reader, diagnostic, span, name, &known, "the pipeline so far");
        }
    }
    None
}

/// The name that a step has of its own, and the steps that it needs.
fn connections<'n>(reader: &mut Reader<'_>, fields: &Fields<'n>) -> Connections<'n> {
    let name = fields.get("name").and_then(|node| step_name(reader, node));
    let needs = fields.get("needs").map(|node| {
        let items = reader.items(node, "`needs`");
        items.iter().filter_map(|item| Some((reader.text(item, "the name of a step")?, item.span))).collect()
    });
    (name, needs)
}

fn step<'n>(reader: &mut Reader<'_>, node: &'n Node) -> Option<Parsed<'n>> {
    reader.fields(node, node.span, "a step", &STEPS)?;
    let place = reader.place(node);
    let entries = node.entries().unwrap_or_default();
    let [(key, value)] = entries else {
        let diagnostic = Diagnostic::error("wrong-type", "a step has one key, which says what it does");
        reader.problem(diagnostic.help("the kinds of steps are `build`, `run` and `rollout`"), node.span, "");
        return None;
    };
    match key.text()? {
        "build" => {
            let (build, timeout, (name, needs)) = build(reader, value, key.span)?;
            let name = name.unwrap_or_else(|| build.image.clone());
            let step = Step { action: Action::Build(build), needs: Vec::new(), timeout, place };
            Some(Parsed { step, name, needs })
        }
        "run" => {
            let (script, timeout, needs) = script(reader, value, key.span)?;
            let name = script.name.clone();
            let step = Step { action: Action::Run(script), needs: Vec::new(), timeout, place };
            Some(Parsed { step, name, needs })
        }
        "rollout" => {
            let keys = ["service", "services", "name", "needs", "timeout"];
            let fields = reader.fields(value, key.span, "a rollout step", &keys)?;
            let timeout = timeout(reader, &fields);
            let (name, needs) = connections(reader, &fields);
            let (services, place) = match fields.get("services") {
                Some(node) => (together(reader, value, &fields, node)?, reader.place(node)),
                None => {
                    let node = reader.required(&fields, "service")?;
                    (vec![reader.name(node)?], reader.place(node))
                }
            };
            let name = name.or_else(|| services.first().map(ServiceName::to_string)).unwrap_or_default();
            let step =
                Step { action: Action::Rollout(Rollout { services }), needs: Vec::new(), timeout, place };
            Some(Parsed { step, name, needs })
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

/// The names of steps with their places; `None` for the step before.
type Needs<'n> = Option<Vec<(&'n str, Span)>>;
/// A name of its own, and what it needs.
type Connections<'n> = (Option<String>, Needs<'n>);

fn build<'n>(
    reader: &mut Reader<'_>,
    value: &'n Node,
    place: Span,
) -> Option<(Build, Option<Duration>, Connections<'n>)> {
    let keys = ["image", "context", "dockerfile", "args", "secrets", "target", "name", "needs", "timeout"];
    let fields = reader.fields(value, place, "a build step", &keys)?;
    let timeout = timeout(reader, &fields);
    let connections = connections(reader, &fields);
    let image = reader.required(&fields, "image").and_then(|node| image(reader, node));
    let context = fields.get("context").map_or(Some(".".to_owned()), |node| path(reader, node, "`context`"));
    let dockerfile = fields
        .get("dockerfile")
        .map_or(Some("Dockerfile".to_owned()), |node| path(reader, node, "`dockerfile`"));
    let args = fields.get("args").map(|node| variables(reader, node, "`args`")).unwrap_or_default();
    let target = fields.get("target").and_then(|node| target(reader, node));
    let secrets = fields.get("secrets").map(|node| secrets(reader, node)).unwrap_or_default();
    let build = Build { image: image?, context: context?, dockerfile: dockerfile?, args, target, secrets };
    Some((build, timeout, connections))
}

fn script<'n>(
    reader: &mut Reader<'_>,
    value: &'n Node,
    place: Span,
) -> Option<(Script, Option<Duration>, Needs<'n>)> {
    let keys = ["name", "image", "command", "env", "secrets", "retries", "resources", "needs", "timeout"];
    let fields = reader.fields(value, place, "a run step", &keys)?;
    let timeout = timeout(reader, &fields);
    let (name, needs) = connections(reader, &fields);
    let image = reader.required(&fields, "image").and_then(|node| {
        reference(reader, node)?;
        reader.text(node, "`image`").map(str::to_owned)
    });
    let command = reader.required(&fields, "command").and_then(|node| command(reader, node));
    let env = fields.get("env").map(|node| variables(reader, node, "`env`")).unwrap_or_default();
    let secrets = fields.get("secrets").map(|node| variable_secrets(reader, node, &env)).unwrap_or_default();
    let retries = fields.get("retries").and_then(|node| reader.integer(node, "`retries`", 0, RETRIES_MOST));
    let limits = fields.get("resources").map(|node| {
        if let Some((key, _)) = node.entry("reservations") {
            let diagnostic = Diagnostic::error("unknown-key", "`reservations` are for services");
            reader.problem(diagnostic, key.span, "remove it; `limits` are what a step may use");
        }
        resources(reader, node).0
    });
    let (retries, limits) = (retries.unwrap_or_default(), limits.unwrap_or_default());
    let (image, command) = (image?, command?);
    let name = name.unwrap_or_else(|| last_part(&image).to_owned());
    Some((Script { name, image, command, env, secrets, retries, limits }, timeout, needs))
}

/// A text is for a shell that ends at the first failure, a list is executed as it is.
fn command(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    if let Some(text) = node.text() {
        if text.trim().is_empty() {
            let diagnostic = Diagnostic::error("bad-value", "`command` is empty");
            reader.problem(diagnostic, node.span, "write what is run, such as `make test`");
            return None;
        }
        return Some(vec!["/bin/sh".to_owned(), "-ec".to_owned(), text.to_owned()]);
    }
    let words = words(reader, node, "`command`");
    if words.first().is_none_or(String::is_empty) {
        if node.items().is_some_and(<[Node]>::is_empty) {
            let diagnostic = Diagnostic::error("bad-value", "`command` is empty");
            reader.problem(diagnostic, node.span, "write what is run, such as `[make, test]`");
        }
        return None;
    }
    Some(words)
}

/// The name in an image's reference: `golang` of `docker.io/library/golang:1.22`.
fn last_part(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name)
}

/// What a step is called in lists and logs.
fn step_name(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`name`")?;
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '/');
    if text.trim() != text || text.is_empty() || text.len() > 60 || !text.chars().all(legal) {
        let diagnostic = Diagnostic::error("bad-name", format!("`{text}` can't be the name of a step"));
        reader.problem(
            diagnostic.help("letters, digits, blanks, `-`, `_`, `.` and `/`, 60 at most"),
            node.span,
            "",
        );
        return None;
    }
    Some(text.to_owned())
}

/// Secrets of a command: variables, and the SSM parameters that hold their values.
fn variable_secrets(
    reader: &mut Reader<'_>,
    node: &Node,
    env: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (key, value) in node.entries().unwrap_or_default() {
        let name = key.text().unwrap_or_default();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
            let diagnostic = Diagnostic::error("bad-name", format!("`{name}` is not the name of a variable"));
            reader.problem(diagnostic, key.span, "letters, digits and `_`");
        }
        if env.contains_key(name) {
            let message = format!("`{name}` is a variable in `env` and in `secrets`");
            reader.problem(Diagnostic::error("conflicting-keys", message), key.span, "remove one of them");
        }
        not_a_value(reader, value);
    }
    reader.texts(node, "`secrets`")
}

/// Reports what is no parameter's name.
fn not_a_value(reader: &mut Reader<'_>, value: &Node) {
    if value.text().is_some_and(|name| !name.starts_with('/')) {
        let diagnostic = Diagnostic::error("bad-value", "a secret names an SSM parameter, not a value")
            .help("store it with `aws ssm put-parameter --type SecureString --name /NAME`");
        reader.problem(diagnostic, value.span, "a parameter's name begins with `/`");
    }
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
        not_a_value(reader, value);
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
