//! The kinds of steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::infra;
use super::matrix::expanded;
use super::triggers::when;
use super::{Parsed, needs, timeout, unlike_pattern};
use crate::model::access::Level;
use crate::model::name::ServiceName;
use crate::model::pipeline::{Action, Approve, Build, Rollout, Script, Step, When};
use crate::model::run::{CacheSpec, Companion};
use crate::model::service::Limits;
use crate::model::setting::Place;
use crate::repo::decode::{Fields, Reader, list};
use crate::repo::services::{health_check, image, reference, resources, variables, words};
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// The kinds of steps.
const STEPS: [&str; 9] = ["build", "run", "rollout", "approve", "job", "plan", "apply", "deploy", "drift"];
/// The most times that a command is tried again.
const RETRIES_MOST: i64 = 10;
/// Time between two checks of a container that runs beside a command, unless its file says something else: a command
/// waits for the first that succeeds.
const COMPANION_INTERVAL: Duration = Duration::from_secs(1);

/// The steps that an item of `steps` stands for: several where it has a matrix, none where it could not be read.
pub(super) fn step(reader: &mut Reader<'_>, node: &Node) -> Vec<Parsed> {
    if reader.fields(node, node.span, "a step", &STEPS).is_none() {
        return Vec::new();
    }
    let entries = node.entries().unwrap_or_default();
    let [(key, value)] = entries else {
        let diagnostic = Diagnostic::error("wrong-type", "a step has one key, which says what it does");
        let help = format!("the kinds of steps are {}", list(&STEPS));
        reader.problem(diagnostic.help(help), node.span, "");
        return Vec::new();
    };
    let Some(kind) = key.text() else { return Vec::new() };
    let place = reader.place(node);
    let Some(twins) = expanded(reader, kind, value) else { return Vec::new() };
    let mut steps = Vec::new();
    for (number, twin) in twins.iter().enumerate() {
        let known = reader.problems.len();
        let parsed = match kind {
            "build" => build(reader, &twin.body, key.span),
            "run" => script(reader, &twin.body, key.span, &twin.label),
            "rollout" => rollout(reader, &twin.body, key.span),
            "approve" => approve(reader, &twin.body, key.span),
            "job" => infra::job(reader, &twin.body, key.span),
            "plan" => infra::plan(reader, &twin.body, key.span),
            "apply" => infra::apply(reader, &twin.body, key.span),
            "deploy" => infra::deploy(reader, &twin.body, key.span),
            "drift" => infra::drift(reader, &twin.body, key.span),
            _ => None,
        };
        // What stands in the file once is said once.
        for problem in reader.problems.split_off(known) {
            if !reader.problems.contains(&problem) {
                reader.problems.push(problem);
            }
        }
        let Some(Parsed { step, name, needs, .. }) = parsed else { return Vec::new() };
        let names_something = matches!(step.action, Action::Rollout(_) | Action::Job(_) | Action::Infra(_));
        let place = if names_something { step.place } else { place.clone() };
        steps.push(Parsed { step: Step { place, ..step }, name, needs, twin: (number, twins.len()) });
    }
    steps
}

/// A step with what every kind has.
pub(super) fn parsed(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    place: Place,
    name: String,
    action: Action,
) -> Parsed {
    let (timeout, when) = (timeout(reader, fields), when(reader, fields));
    let needs = needs(reader, fields);
    Parsed { step: Step { action, needs: Vec::new(), timeout, when, place }, name, needs, twin: (0, 1) }
}

fn rollout(reader: &mut Reader<'_>, value: &Node, place: Span) -> Option<Parsed> {
    let keys = ["service", "services", "name", "needs", "when", "timeout"];
    let fields = reader.fields(value, place, "a rollout step", &keys)?;
    let name = own_name(reader, &fields);
    let (services, place) = match fields.get("services") {
        Some(node) => (together(reader, value, &fields, node)?, reader.place(node)),
        None => {
            let node = reader.required(&fields, "service")?;
            (vec![reader.name(node)?], reader.place(node))
        }
    };
    let name = name.or_else(|| services.first().map(ServiceName::to_string)).unwrap_or_default();
    Some(parsed(reader, &fields, place, name, Action::Rollout(Rollout { services })))
}

/// A step that waits for people. Its value may be only the question.
fn approve(reader: &mut Reader<'_>, value: &Node, place: Span) -> Option<Parsed> {
    let at = reader.place(value);
    if value.entries().is_none() && value.text().is_some() {
        let message = message(reader, value)?;
        let approve = Approve { name: APPROVE.to_owned(), message, level: Level::Deployer };
        let step = Step {
            action: Action::Approve(approve),
            needs: Vec::new(),
            timeout: None,
            when: When::default(),
            place: at,
        };
        return Some(Parsed { step, name: APPROVE.to_owned(), needs: None, twin: (0, 1) });
    }
    let keys = ["name", "message", "role", "needs", "when", "timeout"];
    let fields = reader.fields(value, place, "an approve step", &keys)?;
    let name = own_name(reader, &fields).unwrap_or_else(|| APPROVE.to_owned());
    let message = reader.required(&fields, "message").and_then(|node| message(reader, node));
    let level = match fields.get("role") {
        None => Some(Level::Deployer),
        Some(node) => match reader.text(node, "`role`")?.parse() {
            Ok(Level::Viewer) => {
                let diagnostic =
                    Diagnostic::error("bad-value", "a viewer changes nothing, and approves nothing");
                reader.problem(diagnostic, node.span, "use `deployer` or `admin`");
                None
            }
            Ok(level) => Some(level),
            Err(error) => {
                let diagnostic = Diagnostic::error("bad-value", error.to_string());
                reader.problem(diagnostic, node.span, "use `deployer` or `admin`");
                None
            }
        },
    };
    let approve = Approve { name: name.clone(), message: message?, level: level? };
    Some(parsed(reader, &fields, at, name, Action::Approve(approve)))
}

/// What a step is called that waits for people.
const APPROVE: &str = "approve";
/// The longest question, in characters.
const MESSAGE_MOST: usize = 500;

fn message(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`message`")?.trim();
    if text.is_empty() || text.chars().count() > MESSAGE_MOST {
        let diagnostic =
            Diagnostic::error("bad-value", format!("a `message` has 1 to {MESSAGE_MOST} characters"));
        reader.problem(diagnostic, node.span, "say what is approved");
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn own_name(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    fields.get("name").and_then(|node| step_name(reader, node))
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

fn build(reader: &mut Reader<'_>, value: &Node, place: Span) -> Option<Parsed> {
    let keys = [
        "image",
        "context",
        "dockerfile",
        "args",
        "secrets",
        "target",
        "name",
        "matrix",
        "needs",
        "when",
        "timeout",
    ];
    let fields = reader.fields(value, place, "a build step", &keys)?;
    let name = own_name(reader, &fields);
    let image = reader.required(&fields, "image").and_then(|node| image(reader, node));
    let context = fields.get("context").map_or(Some(".".to_owned()), |node| path(reader, node, "`context`"));
    let dockerfile = fields
        .get("dockerfile")
        .map_or(Some("Dockerfile".to_owned()), |node| path(reader, node, "`dockerfile`"));
    let args = fields.get("args").map(|node| variables(reader, node, "`args`")).unwrap_or_default();
    let target = fields.get("target").and_then(|node| target(reader, node));
    let secrets = fields.get("secrets").map(|node| secrets(reader, node)).unwrap_or_default();
    let build = Build { image: image?, context: context?, dockerfile: dockerfile?, args, target, secrets };
    let name = name.unwrap_or_else(|| build.image.clone());
    let place = reader.place(value);
    Some(parsed(reader, &fields, place, name, Action::Build(build)))
}

fn script(reader: &mut Reader<'_>, value: &Node, place: Span, label: &str) -> Option<Parsed> {
    let keys = [
        "name",
        "image",
        "command",
        "env",
        "secrets",
        "retries",
        "resources",
        "services",
        "caches",
        "artifacts",
        "reports",
        "matrix",
        "needs",
        "when",
        "timeout",
    ];
    let fields = reader.fields(value, place, "a run step", &keys)?;
    let name = own_name(reader, &fields);
    let image = reader.required(&fields, "image").and_then(|node| any_image(reader, node));
    let command = reader.required(&fields, "command").and_then(|node| command(reader, node));
    let env = fields.get("env").map(|node| variables(reader, node, "`env`")).unwrap_or_default();
    let (secrets, secret_files) =
        fields.get("secrets").map(|node| variable_secrets(reader, node, &env)).unwrap_or_default();
    let retries = fields.get("retries").and_then(|node| reader.integer(node, "`retries`", 0, RETRIES_MOST));
    let limits = fields.get("resources").map(|node| limits(reader, node)).unwrap_or_default();
    let companions = fields.get("services").map(|node| companions(reader, node)).unwrap_or_default();
    let caches = fields.get("caches").map(|node| caches(reader, node)).unwrap_or_default();
    let artifacts =
        fields.get("artifacts").map(|node| files(reader, node, "`artifacts`")).unwrap_or_default();
    let reports = fields.get("reports").map(|node| files(reader, node, "`reports`")).unwrap_or_default();
    let retries = retries.unwrap_or_default();
    let (image, command) = (image?, command?);
    let called = name.unwrap_or_else(|| last_part(&image).to_owned());
    let name = if label.is_empty() { called.clone() } else { format!("{called} ({label})") };
    let script = Script {
        name,
        image,
        command,
        env,
        secrets,
        secret_files,
        retries,
        limits,
        companions,
        caches,
        artifacts,
        reports,
    };
    let place = reader.place(value);
    Some(parsed(reader, &fields, place, called, Action::Run(script)))
}

fn any_image(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    reference(reader, node)?;
    reader.text(node, "`image`").map(str::to_owned)
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Limits {
    if let Some((key, _)) = node.entry("reservations") {
        let diagnostic = Diagnostic::error("unknown-key", "`reservations` are for services");
        reader.problem(diagnostic, key.span, "remove it; `limits` are what a step may use");
    }
    resources(reader, node).0
}

/// Containers that run beside a command.
fn companions(reader: &mut Reader<'_>, node: &Node) -> Vec<Companion> {
    let entries = reader.entries(node, "`services`");
    entries.iter().filter_map(|(key, value)| companion(reader, key, value)).collect()
}

fn companion(reader: &mut Reader<'_>, key: &Node, value: &Node) -> Option<Companion> {
    let name: ServiceName = reader.name(key)?;
    let keys = ["image", "command", "env", "health", "resources"];
    let fields = reader.fields(value, key.span, "a service of a step", &keys)?;
    let image = reader.required(&fields, "image").and_then(|node| any_image(reader, node));
    let command = fields.get("command").map(|node| words(reader, node, "`command`")).unwrap_or_default();
    let env = fields.get("env").map(|node| variables(reader, node, "`env`")).unwrap_or_default();
    let health = match value.entry("health") {
        Some((key, node)) => Some(health_check(reader, node, key.span, COMPANION_INTERVAL)?),
        None => None,
    };
    let limits = fields.get("resources").map(|node| limits(reader, node)).unwrap_or_default();
    Some(Companion { name: name.to_string(), image: image?, command, env, health, limits })
}

/// Folders that outlive the run: paths, or paths with the files whose content decides which cache it is.
fn caches(reader: &mut Reader<'_>, node: &Node) -> Vec<CacheSpec> {
    let items = reader.items(node, "`caches`");
    let mut caches: Vec<CacheSpec> = Vec::new();
    for item in items {
        let Some((cache, span)) = cache(reader, item) else { continue };
        if caches.iter().any(|known| known.path == cache.path) {
            let diagnostic =
                Diagnostic::error("duplicate-name", format!("`{}` is a cache twice", cache.path));
            reader.problem(diagnostic, span, "remove one of them");
            continue;
        }
        caches.push(cache);
    }
    caches
}

fn cache(reader: &mut Reader<'_>, item: &Node) -> Option<(CacheSpec, Span)> {
    if item.entries().is_none() {
        let path = cache_path(reader, item)?;
        return Some((CacheSpec { path, key: Vec::new() }, item.span));
    }
    let fields = reader.fields(item, item.span, "a cache", &["path", "key"])?;
    let node = reader.required(&fields, "path")?;
    let folder = cache_path(reader, node)?;
    let key = match fields.get("key") {
        None => Vec::new(),
        Some(key) if key.text().is_some() => vec![path(reader, key, "`key`")?],
        Some(key) => {
            let items = reader.items(key, "`key`");
            items.iter().map(|item| path(reader, item, "`key`")).collect::<Option<Vec<_>>>()?
        }
    };
    Some((CacheSpec { path: folder, key }, node.span))
}

fn cache_path(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "a cache")?;
    let path = text.trim_end_matches('/');
    let label = if !text.starts_with('/') {
        "write the whole path in the container, such as `/root/.cache`"
    } else if path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) || path.is_empty() {
        "name a folder below `/`"
    } else if ["/workspace", "/proc", "/sys", "/dev", "/run", "/.fleetwright"].contains(&path) {
        "this folder has another use"
    } else {
        return Some(path.to_owned());
    };
    reader.problem(Diagnostic::error("bad-value", format!("`{text}` can't be a cache")), node.span, label);
    None
}

/// Patterns of files in the workspace.
fn files(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    for item in reader.items(node, what) {
        let Some(text) = reader.text(item, "a pattern of files") else { continue };
        let part = |part: &str| matches!(part, "" | "." | "..");
        let label = if text.trim_end_matches('/').split('/').any(part) {
            Some("write a path inside the workspace, such as `report/*.xml`")
        } else if text.starts_with('!') {
            Some("only what is kept can be named")
        } else {
            unlike_pattern(text)
        };
        match label {
            Some(label) => {
                let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is no pattern of files"));
                reader.problem(diagnostic, item.span, label);
            }
            None => patterns.push(text.to_owned()),
        }
    }
    patterns
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

/// Secrets of a command: variables, and the SSM parameters that hold their values; and which variables hold the path of a file.
fn variable_secrets(
    reader: &mut Reader<'_>,
    node: &Node,
    env: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let (mut secrets, mut files) = (BTreeMap::new(), BTreeSet::new());
    for (key, value) in reader.entries(node, "`secrets`") {
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
        let parameter = match value.entries() {
            None => Some(value),
            Some(_) => {
                files.insert(name.to_owned());
                let fields = reader.fields(value, key.span, "a secret as a file", &["file"]);
                fields.and_then(|fields| reader.required(&fields, "file"))
            }
        };
        let Some(parameter) = parameter else { continue };
        not_a_value(reader, parameter);
        if let Some(parameter) = reader.text(parameter, &format!("`{name}`")) {
            secrets.insert(name.to_owned(), parameter.to_owned());
        }
    }
    (secrets, files)
}

/// Reports what is no parameter's name.
pub(in crate::repo) fn not_a_value(reader: &mut Reader<'_>, value: &Node) {
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

/// A path that stays inside the git repository.
pub(super) fn path(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reader.text(node, what)?;
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` leaves the git repository"));
        reader.problem(diagnostic, node.span, "give a path inside it");
        return None;
    }
    Some(text.to_owned())
}
