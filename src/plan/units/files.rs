//! The units of a service as they are installed on a machine: pure.
//!
//! Two versions of a service may run beside each other on one machine, so every unit gets a name of its own there:
//! `web.service` of task `k3v9…` is `web-k3v9x0ab.service`, and `web@.service` of its second instance
//! `web-k3v9x0ab@2.service`. Where units of one service name each other, they are given these names too. What belongs
//! to the place and not to the text (limits, variables, secrets) is in a drop-in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::model::unit::{Installed, SLICE, UnitOrder};
use crate::unit::{ItemKind, Kind, Unit, UnitName};

/// The variable with the folder that holds a unit's files and secrets.
const FOLDER: &str = "FLEETWRIGHT_FOLDER";
/// The variable with the number that grows from one copy of an instance to the next.
const EPOCH: &str = "FLEETWRIGHT_EPOCH";
/// The name of the drop-in; its number puts it behind those of distributions.
const DROP_IN: &str = "90-fleetwright.conf";
/// How many characters of a task's id are in names: the engine generates ids from 36 characters.
const SHORT: usize = 8;

/// Keys whose values are names of units, from systemd.unit(5), systemd.timer(5), systemd.path(5),
/// systemd.socket(5) and systemd.service(5).
const NAMES: [&str; 26] = [
    "After",
    "Also",
    "Before",
    "BindsTo",
    "Conflicts",
    "JoinsNamespaceOf",
    "OnFailure",
    "OnSuccess",
    "PartOf",
    "PropagatesReloadTo",
    "PropagatesStopTo",
    "ReloadPropagatedFrom",
    "RequiredBy",
    "Requires",
    "Requisite",
    "Service",
    "Sockets",
    "StopPropagatedFrom",
    "Unit",
    "Upholds",
    "UpheldBy",
    "WantedBy",
    "Wants",
    "BindTo",
    "OverridableRequires",
    "RequiresOverridable",
];

/// Where the units of a task are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The engine's id of the task.
    pub task: &'a str,
    /// The number of the instance.
    pub slot: &'a str,
    /// The folder for files and secrets, which is the task's own.
    pub folder: &'a str,
    /// The number that grows from one copy of the instance to the next.
    pub epoch: u64,
}

/// Where a file that a placeholder holds at `target` is in the folder of its task.
pub fn copied(target: &str) -> String {
    format!("files{target}")
}

/// The file with the variables that hold secrets, in the folder of a task.
pub const VARIABLES: &str = "variables";

/// What is installed for an order.
pub fn install(order: &UnitOrder, place: Place<'_>) -> Installed {
    let names = Names { order, place };
    let target = format!("fleetwright-{}.target", short(place.task));
    let start: Vec<String> = order.units.start.iter().map(|name| names.own(name)).collect();
    let mut files = BTreeMap::new();
    let mut units = Vec::new();
    for (name, text) in &order.units.files {
        let own = names.own(name);
        files.insert(own.clone(), names.text(name, text));
        files.insert(format!("{own}.d/{DROP_IN}"), drop_in(order, place, name, text, &target));
        units.push(own);
    }
    let wants: String = start.iter().map(|name| format!("Wants={name}\nAfter={name}\n")).collect();
    files.insert(
        target.clone(),
        format!("[Unit]\nDescription=Units of a service of fleetwright\nDefaultDependencies=no\n{wants}"),
    );
    Installed { target, start, units, files }
}

/// The variables that hold secrets, as systemd reads them from a file.
pub fn variables(secrets: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, value) in secrets {
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            // Line ends stand for themselves there, unlike in units.
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    }
    text
}

/// Whether a unit is a template, which is neither started nor stopped itself.
pub fn is_template(unit: &str) -> bool {
    UnitName::parse(unit).is_ok_and(|name| name.is_template())
}

/// The template that a unit is an instance of.
pub fn template_of(unit: &str) -> Option<String> {
    UnitName::parse(unit).ok()?.template()
}

fn short(task: &str) -> &str {
    task.get(..SHORT).unwrap_or(task)
}

struct Names<'a> {
    order: &'a UnitOrder,
    place: Place<'a>,
}

impl Names<'_> {
    /// The name on the machine of one of the order's units.
    fn own(&self, name: &str) -> String {
        let Ok(parsed) = UnitName::parse(name) else { return name.to_owned() };
        let suffix = parsed.kind().suffix();
        let first = format!("{}-{}", parsed.prefix(), short(self.place.task));
        if parsed.is_template() {
            // A socket with `Accept=yes` makes an instance for each connection.
            let socket = format!("{}.socket", parsed.prefix());
            let slot = if self.order.units.start.contains(&socket) { "" } else { self.place.slot };
            return format!("{first}@{slot}.{suffix}");
        }
        match parsed.instance() {
            Some(instance) => format!("{first}@{instance}.{suffix}"),
            None => format!("{first}.{suffix}"),
        }
    }

    /// The same for a word of a unit, which may name any unit.
    fn named(&self, word: &str) -> String {
        if self.order.units.files.contains_key(word) {
            return self.own(word);
        }
        // `log@%i.service` is an instance of `log@.service`.
        let (stem, suffix) = word.rsplit_once('.').unwrap_or((word, ""));
        if let Some((prefix, instance)) = stem.split_once('@')
            && self.order.units.files.contains_key(&format!("{prefix}@.{suffix}"))
        {
            return format!("{prefix}-{}@{instance}.{suffix}", short(self.place.task));
        }
        word.to_owned()
    }

    /// The text of a unit, with names and paths as they are on the machine.
    fn text(&self, name: &str, text: &str) -> String {
        let unit = Unit::parse(name, text);
        let file = unit.file();
        let mut out = String::new();
        for item in file.items() {
            let as_is = file.source().slice(item.span);
            match &item.kind {
                ItemKind::Entry(entry) if NAMES.contains(&entry.key.as_str()) => {
                    let words: Vec<String> =
                        entry.value.as_str().split_whitespace().map(|word| self.named(word)).collect();
                    let _ = writeln!(out, "{}={}", entry.key.as_str(), words.join(" "));
                }
                _ => out.push_str(&self.paths(as_is)),
            }
        }
        out
    }

    /// A text in which the paths of the order's files and secrets are those on the machine.
    fn paths(&self, text: &str) -> String {
        let secrets = self.order.secrets.iter().map(|secret| secret.target.as_str());
        let mut targets: Vec<&str> = self.order.files.iter().map(String::as_str).chain(secrets).collect();
        // A path may begin as another one does.
        targets.sort_by_key(|target| std::cmp::Reverse(target.len()));
        let mut out = String::new();
        let mut rest = text;
        let mut before = ' ';
        while let Some(next) = rest.chars().next() {
            let found = targets.iter().find(|target| {
                !is_of_path(before)
                    && rest.strip_prefix(**target).is_some_and(|after| !after.starts_with(is_of_path))
            });
            let taken = match found {
                Some(target) => {
                    out.push_str(&format!("{}/{}", self.place.folder, copied(target)));
                    target.len()
                }
                None => {
                    out.push(next);
                    next.len_utf8()
                }
            };
            before = rest[..taken].chars().next_back().unwrap_or(' ');
            rest = &rest[taken..];
        }
        out
    }
}

fn is_of_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '_' | '-' | '.')
}

/// What the place adds to a unit.
fn drop_in(order: &UnitOrder, place: Place<'_>, name: &str, text: &str, target: &str) -> String {
    let mut out = format!("[Unit]\nPartOf={target}\n");
    let Some(kind) = UnitName::parse(name).ok().map(|name| name.kind()) else { return out };
    let section = match kind {
        Kind::Service => "Service",
        Kind::Socket => "Socket",
        Kind::Mount => "Mount",
        Kind::Swap => "Swap",
        // The others have no processes.
        _ => return out,
    };
    let unit = Unit::parse(name, text);
    let says =
        |key: &str| unit.file().entries().any(|(of, entry)| of == section && entry.key.as_str() == key);
    let _ = write!(out, "\n[{section}]\nSlice={SLICE}\n");
    if let Some(bytes) = order.memory_bytes {
        let _ = write!(out, "MemoryMax={bytes}\nMemorySwapMax=0\n");
    }
    if let Some(millis) = order.cpu_millis {
        let _ = writeln!(out, "CPUQuota={}%", (millis as f64 / 10.0).ceil());
    }
    if kind != Kind::Service {
        return out;
    }
    if !says("TimeoutStopSec") && !says("TimeoutSec") {
        let _ = writeln!(out, "TimeoutStopSec={}ms", order.stop.as_millis());
    }
    for (key, value) in &order.environment {
        let _ = writeln!(out, "Environment={}", quoted(&format!("{key}={}", escaped(value))));
    }
    let _ = writeln!(out, "Environment={FOLDER}={}/files {EPOCH}={}", place.folder, place.epoch);
    if order.secrets.iter().any(|secret| secret.env.is_some()) {
        let _ = writeln!(out, "EnvironmentFile={}/{VARIABLES}", place.folder);
    }
    for secret in &order.secrets {
        let _ = writeln!(out, "LoadCredential={}:{}/{}", secret.name, place.folder, copied(&secret.target));
    }
    out
}

/// A value in which systemd reads no specifier.
fn escaped(value: &str) -> String {
    value.replace('%', "%%")
}

/// A value in quotes, as systemd unquotes it in units.
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::unit::{ORDER_VERSION, OnDisconnect, UnitSecret, UnitSet};

    #[test]
    fn a_socket_has_an_instance_of_its_service_for_each_connection() {
        let order =
            order(&["greet.socket"], &[("greet.socket", "[Socket]\nAccept=yes\n"), ("greet@.service", "")]);
        let place = Place { task: "k3v9x0abcdef", slot: "1", folder: "/run/x", epoch: 0 };
        assert_eq!(install(&order, place).units, ["greet-k3v9x0ab.socket", "greet-k3v9x0ab@.service"]);
        assert!(is_template("greet-k3v9x0ab@.service") && !is_template("greet-k3v9x0ab.socket"));
        let instance = "greet-k3v9x0ab@3-127.0.0.1:18090-127.0.0.1:40000.service";
        assert_eq!(template_of(instance).as_deref(), Some("greet-k3v9x0ab@.service"));
    }

    fn order(start: &[&str], files: &[(&str, &str)]) -> UnitOrder {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        UnitOrder {
            version: ORDER_VERSION,
            units: UnitSet {
                start: start.iter().map(|name| (*name).to_owned()).collect(),
                files,
                exclusive: false,
                on_disconnect: OnDisconnect::Keep,
                apart: Vec::new(),
            },
            environment: BTreeMap::from([("GREETING".to_owned(), "50% \"more\"".to_owned())]),
            health: None,
            memory_bytes: Some(64 << 20),
            cpu_millis: Some(250),
            stop: Duration::from_secs(10),
            secrets: vec![UnitSecret {
                name: "password".to_owned(),
                target: "/run/secrets/password".to_owned(),
                env: Some("PASSWORD".to_owned()),
            }],
            files: vec!["/etc/web.conf".to_owned(), "/etc/web.conf.d".to_owned()],
        }
    }

    const PLACE: Place<'_> = Place {
        task: "k3v9x0abcdefgh",
        slot: "2",
        folder: "/run/fleetwright/units/k3v9x0abcdefgh",
        epoch: 7,
    };

    fn shown(installed: &Installed) -> String {
        installed.files.iter().map(|(path, text)| format!("--- {path}\n{text}")).collect()
    }

    #[test]
    fn units_get_names_of_their_own_and_what_the_place_adds() {
        let order = order(
            &["web@.service", "log.service"],
            &[
                (
                    "web@.service",
                    "[Unit]\nAfter=network.target log.service\n# as it was\n[Service]\nExecStart=/usr/bin/web --config \
                     /etc/web.conf /etc/web.conf.old\nEnvironmentFile=/run/secrets/password\n",
                ),
                (
                    "log.service",
                    "[Unit]\nPartOf=web@%i.service\n[Service]\nExecStart=/bin/log\nTimeoutStopSec=2\n",
                ),
            ],
        );
        let installed = install(&order, PLACE);
        assert_eq!(installed.start, ["web-k3v9x0ab@2.service", "log-k3v9x0ab.service"]);
        insta::assert_snapshot!(shown(&installed));
    }

    #[test]
    fn what_is_installed_is_read_by_systemd_as_it_was_meant() {
        let order = order(&["a.service"], &[("a.service", "[Service]\nExecStart=/bin/a\n")]);
        let installed = install(&order, PLACE);
        for (path, text) in installed.files.iter().filter(|(path, _)| !path.ends_with(".target")) {
            let unit = Unit::parse(path, text.as_str());
            let problems = crate::unit::check(&unit, &crate::unit::Options::default());
            assert!(problems.iter().all(|problem| !problem.is_error()), "{path}: {problems:?}\n{text}");
        }
    }

    #[test]
    fn values_of_secrets_are_quoted() {
        let secrets =
            [("A".to_owned(), "it's \"x\\y\"".to_owned()), ("B".to_owned(), "two\nlines".to_owned())];
        assert_eq!(variables(&secrets), "A=\"it's \\\"x\\\\y\\\"\"\nB=\"two\nlines\"\n");
    }
}
