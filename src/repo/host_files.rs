//! `host_files/*.yaml`: a mapping from names of watched files to what they are rendered from, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;

use super::decode::{Fields, Reader, list};
use super::services::{overlay, words};
use super::templates::{FOLDER, Templates};
use super::with_suggestion;
use crate::host_file::{FUNCTIONS, Surroundings, VARIABLES, render};
use crate::model::host_file::{
    CANDIDATE, Endpoint, Facts, Host, HostFileSpec, MODE, Owner, Reload, Selection, TEMPLATE_MOST,
};
use crate::model::machine::Role;
use crate::model::name::{EnvironmentName, HostFileName, ServiceName};
use crate::model::project::HostFile;
use crate::model::service::InstanceState;
use crate::model::setting::Place;
use crate::source::{Diagnostic, SourceFile, suggest};
use crate::yaml::{Node, Scalar};

/// The folder that templates of watched files are in, below [`FOLDER`].
pub const TEMPLATES: &str = "host_files/";

const KEYS: [&str; 11] = [
    "template",
    "path",
    "mode",
    "owner",
    "keys",
    "services",
    "machines",
    "check",
    "reload",
    "where",
    "environments",
];

/// Folders whose files are not ours to replace: the kernel's, and the agent's own.
const NEVER: [&str; 6] =
    ["/proc", "/sys", "/dev", "/etc/fleetwright", "/run/fleetwright", "/var/lib/fleetwright"];

/// The signals that programs read their files again on, or that end them; from `signal(7)`.
const SIGNALS: [&str; 8] = ["HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2", "WINCH"];

/// What the definitions are read with.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The project's environments; none where they are not known.
    pub environments: &'a [EnvironmentName],
    /// Everything in `templates/`.
    pub templates: &'a [Arc<SourceFile>],
    /// The services that there are, and whether all of them could be read.
    pub services: (&'a [&'a str], bool),
}

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node, scope: Scope<'_>) -> Vec<HostFile> {
    let entries = reader.entries(root, "a file of watched files");
    entries.iter().filter_map(|(key, value)| host_file(reader, key, value, scope)).collect()
}

fn host_file(reader: &mut Reader<'_>, key: &Node, value: &Node, scope: Scope<'_>) -> Option<HostFile> {
    let name: Option<HostFileName> = reader.name(key);
    let place = Place::new(reader.file, key.span);
    let own = value.get("environments").cloned();
    let wanted = spec(reader, key, value, name.as_ref(), scope);
    let environments = overlay::in_environments(
        reader,
        (value, own.as_ref()),
        scope.environments,
        |_, _| (),
        |reader, key, merged| spec(reader, key, merged, name.as_ref(), scope),
    );
    Some(HostFile { wanted: wanted?, environments, place })
}

fn spec(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    name: Option<&HostFileName>,
    scope: Scope<'_>,
) -> Option<HostFileSpec> {
    let fields = reader.fields(value, key.span, "a watched file", &KEYS)?;
    let template = reader.required(&fields, "template").and_then(|node| template(reader, node, scope));
    let path = reader.required(&fields, "path").and_then(|node| path(reader, node));
    let mode = match fields.get("mode") {
        Some(node) => super::services::container::mode(reader, node),
        None => Some(MODE),
    };
    let owner = match fields.get("owner") {
        Some(node) => Some(owner(reader, node)?),
        None => None,
    };
    let keys = fields.get("keys").map(|node| keys(reader, node)).unwrap_or_default();
    let services = fields.get("services").map(|node| services(reader, node, scope)).unwrap_or_default();
    let machines = match fields.get("machines") {
        Some(node) => reader.boolean(node, "`machines`")?,
        None => false,
    };
    let check = fields.get("check").map(|node| check(reader, node)).unwrap_or_default();
    let reload = match fields.get("reload") {
        Some(node) => Some(reload(reader, node)?),
        None => None,
    };
    let placement = fields.get("where").map(|node| reader.texts(node, "`where`")).unwrap_or_default();
    let (source, file) = template?;
    let spec = HostFileSpec {
        name: name?.clone(),
        path: path?,
        source,
        template: file.text().to_owned(),
        mode: mode?,
        owner,
        keys,
        services,
        machines,
        check,
        reload,
        placement,
    };
    try_out(reader, &spec, &file);
    Some(spec)
}

/// The template's path relative to the root, and its file.
fn template(reader: &mut Reader<'_>, node: &Node, scope: Scope<'_>) -> Option<(String, Arc<SourceFile>)> {
    let text = reader.text(node, "`template`")?;
    let path = text.strip_prefix("./").unwrap_or(text);
    let folder = format!("{FOLDER}{TEMPLATES}");
    let known: Vec<&str> =
        scope.templates.iter().filter_map(|file| file.name().strip_prefix(&folder)).collect();
    let Some(short) = path.strip_prefix(&folder).filter(|name| !name.is_empty()) else {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a file in {folder}"));
        let help = "templates of watched files are kept there, because they are rendered on machines";
        reader.problem(diagnostic.help(help), node.span, format!("such as `{folder}app.conf`"));
        return None;
    };
    let Some(file) = scope.templates.iter().find(|file| file.name() == path) else {
        let diagnostic = Diagnostic::error("missing-template", format!("there is no file {path}"));
        let found = with_suggestion(diagnostic, reader.file, node.span, short, &known, &folder);
        reader.problems.push(found);
        return None;
    };
    if file.text().len() > TEMPLATE_MOST {
        let (has, most) = (file.text().len().div_ceil(1 << 10), TEMPLATE_MOST >> 10);
        let message = format!("{path} has {has} KiB, and the template of a watched file can have {most} KiB");
        reader.problem(Diagnostic::error("out-of-range", message), node.span, "");
        return None;
    }
    Some((path.to_owned(), Arc::clone(file)))
}

fn path(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`path`")?;
    let folder = NEVER.iter().find(|folder| {
        text.strip_prefix(**folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let wrong = match text {
        _ if !text.starts_with('/') => "it must start with `/`".to_owned(),
        _ if text.ends_with('/') => "it must name a file".to_owned(),
        _ if text.split('/').any(|part| part == ".." || part == ".") => {
            "write it without `.` and `..`".to_owned()
        }
        _ if text.contains("//") => "write it with single slashes".to_owned(),
        _ if text.chars().any(char::is_control) => "it can't hold control characters".to_owned(),
        _ => match folder {
            Some(folder) => format!("{folder} is not for files of yours"),
            None => return Some(text.to_owned()),
        },
    };
    let message = format!("`{}` can't be the path of a watched file", text.escape_default());
    reader.problem(Diagnostic::error("bad-value", message), node.span, wrong);
    None
}

/// `USER` or `USER:GROUP`.
fn owner(reader: &mut Reader<'_>, node: &Node) -> Option<Owner> {
    let text = reader.text(node, "`owner`")?;
    let legal = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if !legal(user) || !group.is_none_or(legal) {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not an owner"));
        reader.problem(diagnostic, node.span, "write `USER` or `USER:GROUP`");
        return None;
    }
    Some(Owner { user: user.to_owned(), group: group.map(str::to_owned) })
}

fn keys(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for item in reader.items(node, "`keys`") {
        let Some(text) = reader.text(item, "a prefix of keys") else { continue };
        if !text.starts_with('/') {
            let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a prefix of keys"));
            reader.problem(diagnostic, item.span, "it must start with `/`");
            continue;
        }
        let clean = text.trim_end_matches('/');
        found.insert(if clean.is_empty() { "/" } else { clean }.to_owned());
    }
    found.into_iter().collect()
}

/// `all`, or a list of services.
fn services(reader: &mut Reader<'_>, node: &Node, scope: Scope<'_>) -> Selection {
    if node.scalar() == Some(Scalar::Text("all")) {
        return Selection::All;
    }
    if let Some(Scalar::Text(text)) = node.scalar() {
        let diagnostic = Diagnostic::error("wrong-type", "`services` must be a list, or `all`");
        reader.problem(diagnostic, node.span, format!("write `[{text}]`"));
        return Selection::default();
    }
    let (known, complete) = scope.services;
    let mut found = BTreeSet::new();
    for item in reader.items(node, "`services`") {
        let Some(name) = reader.name::<ServiceName>(item) else { continue };
        if complete && !known.contains(&name.as_str()) {
            let diagnostic = Diagnostic::error("unknown-service", format!("there is no service `{name}`"));
            super::did_you_mean(reader, diagnostic, item.span, name.as_str(), known, "services/");
        }
        found.insert(name);
    }
    Selection::Named(found)
}

fn program(reader: &mut Reader<'_>, node: &Node, what: &str, words: &[String]) -> bool {
    if words.first().is_some_and(|word| !word.trim().is_empty()) {
        return true;
    }
    if node.items().is_some() {
        let diagnostic = Diagnostic::error("bad-value", format!("{what} names no program"));
        reader.problem(diagnostic, node.span, "such as `[systemctl, reload, haproxy]`");
    }
    false
}

fn check(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let words = words(reader, node, "`check`");
    if program(reader, node, "`check`", &words) && !words.iter().any(|word| word.contains(CANDIDATE)) {
        let diagnostic = Diagnostic::error(
            "bad-value",
            "`check` does not name the new file, so it would judge the old one",
        );
        let help = format!("`{CANDIDATE}` stands for its path: `[haproxy, -c, -f, \"{CANDIDATE}\"]`");
        reader.problem(diagnostic.help(help), node.span, format!("no word holds `{CANDIDATE}`"));
    }
    words
}

/// A command, or a mapping with `signal` and `unit`.
fn reload(reader: &mut Reader<'_>, node: &Node) -> Option<Reload> {
    if node.entries().is_none() {
        let words = words(reader, node, "`reload`");
        return program(reader, node, "`reload`", &words).then_some(Reload::Command(words));
    }
    let fields = reader.fields(node, node.span, "a reload by signal", &["signal", "unit"])?;
    let signal = reader.required(&fields, "signal").and_then(|node| signal(reader, node));
    let unit = unit(reader, &fields);
    Some(Reload::Signal { signal: signal?, unit: unit? })
}

fn signal(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`signal`")?;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if SIGNALS.contains(&name) {
        return Some(name.to_owned());
    }
    let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a signal for programs"));
    let label = match suggest(name, SIGNALS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of {}", list(&SIGNALS)),
    };
    reader.problem(diagnostic, node.span, label);
    None
}

fn unit(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    let node = reader.required(fields, "unit")?;
    let text = reader.text(node, "`unit`")?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b':' | b'\\');
    if text.ends_with(".service") && text.len() > ".service".len() && text.bytes().all(legal) {
        return Some(text.to_owned());
    }
    let diagnostic =
        Diagnostic::error("bad-value", format!("`{text}` is not the name of a unit with processes"));
    reader.problem(diagnostic, node.span, "such as `haproxy.service`");
    None
}

/// Renders the template with one instance of each service: what it names that there is not is found here, and not
/// on the machines.
fn try_out(reader: &mut Reader<'_>, spec: &HostFileSpec, file: &Arc<SourceFile>) {
    let surroundings = Surroundings {
        lenient: true,
        ..Surroundings::still("project", "environment", "cluster", DateTime::UNIX_EPOCH)
    };
    let Err(error) = render(spec, &sample(spec), &surroundings) else { return };
    // Values are made up, so whether the template can do with them says nothing.
    let judged = ["template-syntax", "unknown-variable", "unknown-field", "missing-template"];
    // Something of a value that has none of the name.
    let of_names = |found: &Diagnostic| {
        let text = found.label.as_ref().map(|label| label.text.as_str()).unwrap_or_default();
        found.message.starts_with("there is no ") || text.contains("`undefined`")
    };
    let found = Templates::of_host_file(file, &FUNCTIONS).errors(&error, file.name());
    for mut problem in found.into_iter().filter(|one| judged.contains(&one.code) || of_names(one)) {
        if problem.code == "unknown-variable" {
            problem.help = vec![format!("a template of a watched file has {}", list(&VARIABLES))];
        }
        let place = problem.label.as_ref().map(|label| label.span);
        if !reader
            .problems
            .iter()
            .any(|known| known.code == problem.code && known.label.as_ref().map(|label| label.span) == place)
        {
            reader.problems.push(problem);
        }
    }
}

fn sample(spec: &HostFileSpec) -> Facts {
    let machine = Host {
        id: "i-0".parse().expect("an id"),
        address: std::net::Ipv4Addr::new(10, 0, 0, 1).into(),
        role: Role::Worker,
        group: "workers".to_owned(),
        ready: true,
        metadata: BTreeMap::new(),
    };
    let endpoint = |name: &ServiceName| Endpoint {
        name: format!("{name}@1"),
        id: "0".to_owned(),
        machine: machine.id.clone(),
        address: machine.address,
        port: Some(20_000),
        ports: BTreeMap::new(),
        healthy: true,
        state: InstanceState::Healthy,
    };
    let services = match &spec.services {
        Selection::All => BTreeMap::new(),
        Selection::Named(names) => {
            names.iter().map(|name| (name.clone(), Arc::new(vec![endpoint(name)]))).collect()
        }
    };
    Facts {
        machine: Some(machine.clone()),
        machines: Arc::new(vec![machine]),
        services,
        keys: BTreeMap::new(),
    }
}

/// Reports files that two definitions would write on one machine.
pub fn check_paths(files: &[HostFile], environments: &[EnvironmentName], problems: &mut Vec<Diagnostic>) {
    for (at, file) in files.iter().enumerate() {
        for other in &files[..at] {
            let clash = environments
                .iter()
                .map(|name| (file.in_environment(name), other.in_environment(name)))
                .find(|(one, other)| one.path == other.path && may_meet(&one.placement, &other.placement));
            let Some((one, other_spec)) = clash else { continue };
            let message =
                format!("watched files `{}` and `{}` have the same path", other_spec.name, one.name);
            let diagnostic =
                Diagnostic::error("conflicting-keys", message).at(&file.place.file, file.place.span, "");
            let help = format!(
                "`{}` is at {}; give one another path, or other machines with `where`",
                other_spec.name, other.place
            );
            problems.push(diagnostic.help(help));
        }
    }
}

/// Whether a machine can have both.
fn may_meet(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> bool {
    one.iter().all(|(key, value)| other.get(key).is_none_or(|known| known == value))
}
