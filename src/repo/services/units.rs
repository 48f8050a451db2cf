//! The keys of a service that is made of systemd units.

use std::time::Duration;

use super::key_span;
use crate::model::project::UnitSource;
use crate::model::unit::OnDisconnect;
use crate::repo::decode::{Fields, Reader};
use crate::source::Diagnostic;
use crate::unit::{Kind, UnitName};
use crate::yaml::Node;

/// The keys that [`decode`] reads.
pub const KEYS: [&str; 4] = ["unit", "units", "exclusive", "on_disconnect"];

/// Keys of containers, and what says the same of a unit.
const NOT_OF_UNITS: [(&str, &str); 19] = [
    ("image", "a service is made of an image or of units"),
    ("command", "write it in `ExecStart=` of the unit"),
    ("entrypoint", "write it in `ExecStart=` of the unit"),
    ("user", "write `User=` and `Group=` in the unit"),
    ("workdir", "write `WorkingDirectory=` in the unit"),
    ("hostname", "a unit has the name of its machine"),
    ("labels", "units have no labels"),
    ("extra_hosts", "a unit has the hosts file of its machine"),
    ("cap_add", "write `AmbientCapabilities=` in the unit"),
    ("cap_drop", "write `CapabilityBoundingSet=` in the unit"),
    ("read_only", "write `ProtectSystem=strict` in the unit"),
    ("tmpfs", "write `TemporaryFileSystem=` in the unit"),
    ("ulimits", "write `LimitNOFILE=` and the like in the unit"),
    ("sysctls", "a unit has the kernel parameters of its machine"),
    ("stop_signal", "write `KillSignal=` in the unit"),
    ("init", "systemd is the init of units"),
    ("logging", "units log to the journal of their machine"),
    ("volumes", "write `StateDirectory=` or paths of the machine in the unit"),
    ("pre_deploy", "write `ExecStartPre=` in the unit"),
];

/// The least time after which a machine may stop units on its own.
const LEAST: Duration = Duration::from_secs(10);

/// The units of a service; `None` where it runs an image.
pub fn decode(reader: &mut Reader<'_>, service: &Node, fields: &Fields<'_>) -> Option<UnitSource> {
    let (one, several) = (fields.get("unit"), fields.get("units"));
    if one.is_none() && several.is_none() {
        for key in ["exclusive", "on_disconnect"] {
            if fields.get(key).is_some() {
                let message = format!("`{key}` is for services that are made of units");
                let diagnostic = Diagnostic::error("conflicting-keys", message);
                reader.problem(diagnostic, key_span(service, key), "remove it, or name the `unit`");
            }
        }
        return None;
    }
    if one.is_some() && several.is_some() {
        let diagnostic = Diagnostic::error("conflicting-keys", "a service has `unit` or `units`, not both");
        reader.problem(diagnostic, key_span(service, "units"), "name all of them in `units`");
    }
    for (key, instead) in NOT_OF_UNITS {
        if fields.get(key).is_some() {
            let message = format!("`{key}` is for containers, and this service is made of units");
            let diagnostic = Diagnostic::error("conflicting-keys", message);
            reader.problem(diagnostic, key_span(service, key), instead);
        }
    }
    let mut start = Vec::new();
    let named: Vec<&Node> = match several {
        Some(node) => reader.items(node, "`units`").iter().collect(),
        None => one.into_iter().collect(),
    };
    for node in named {
        let Some(name) = unit(reader, node) else { continue };
        if start.iter().any(|(known, _)| *known == name) {
            let diagnostic = Diagnostic::error("conflicting-keys", format!("unit `{name}` is given twice"));
            reader.problem(diagnostic, node.span, "remove one");
            continue;
        }
        start.push((name, reader.place(node)));
    }
    let exclusive =
        fields.get("exclusive").and_then(|node| reader.boolean(node, "`exclusive`")).unwrap_or_default();
    let on_disconnect =
        fields.get("on_disconnect").and_then(|node| on_disconnect(reader, node)).unwrap_or_default();
    let counted = fields.get("replicas").is_some() || fields.get("every_machine").is_some();
    Some(UnitSource { start, exclusive, on_disconnect, counted })
}

fn unit(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "the name of a unit")?;
    let problem = match UnitName::parse(text) {
        Ok(name) if name.instance().is_some() => Some((
            format!("`{text}` is one instance of a template"),
            format!("write `{}`; `replicas` says how many there are", name.template().unwrap_or_default()),
        )),
        Ok(name) if matches!(name.kind(), Kind::Service | Kind::Timer | Kind::Socket | Kind::Path) => None,
        Ok(name) => Some((
            format!("a service can't be made of a {}", name.kind().suffix()),
            "name units that end in `.service`, `.timer`, `.socket` or `.path`".to_owned(),
        )),
        Err(why) => {
            Some((format!("`{text}` is no name of a unit: {why}"), "such as `web.service`".to_owned()))
        }
    };
    match problem {
        Some((message, label)) => {
            reader.problem(Diagnostic::error("bad-unit-name", message), node.span, label);
            None
        }
        None => Some(text.to_owned()),
    }
}

/// `keep`, or `stop_after: 30s`.
fn on_disconnect(reader: &mut Reader<'_>, node: &Node) -> Option<OnDisconnect> {
    if let Some(text) = node.text().filter(|_| node.entries().is_none()) {
        if text == "keep" {
            return Some(OnDisconnect::Keep);
        }
        let diagnostic = Diagnostic::error("bad-value", format!("there is no `on_disconnect: {text}`"));
        reader.problem(diagnostic, node.span, "write `keep` or `{stop_after: 30s}`");
        return None;
    }
    let fields = reader.fields(node, node.span, "`on_disconnect`", &["stop_after"])?;
    let node = reader.required(&fields, "stop_after")?;
    let time = reader.duration(node, "`stop_after`")?;
    // Less would stop everything whenever a control machine restarts.
    if time < LEAST {
        let message = format!("`stop_after` must be at least `{}s`", LEAST.as_secs());
        let diagnostic = Diagnostic::error("out-of-range", message);
        reader.problem(diagnostic, node.span, "control machines restart and hand over in that time");
        return None;
    }
    Some(OnDisconnect::StopAfter(time))
}
