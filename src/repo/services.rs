//! `services/*.yaml`: a mapping from service names to what runs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decode::{Fields, Reader};
use crate::model::project::Service;
use crate::model::service::{HealthCheck, HealthProbe, Limits, Port, Scale, ServiceSpec, UpdatePolicy};
use crate::model::setting::Place;
use crate::source::{Diagnostic, Span};
use crate::yaml::{Node, Scalar};

/// The most instances a service may have; more is a typing error, not a wish.
const REPLICAS_MOST: i64 = 10_000;

/// What a health check is, unless its file says something else.
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRIES: u32 = 3;
const START_PERIOD: Duration = Duration::from_secs(10);

/// The shortest time between two checks, and the least that one may take.
const SHORTEST: Duration = Duration::from_millis(100);

/// The least memory that the engine gives a container.
const MEMORY_LEAST: u64 = 6 << 20;

/// How long a new instance is watched, unless given.
const MONITOR: Duration = Duration::from_secs(5);

/// How long an instance goes on serving after it was told to stop, unless given.
const DRAIN: Duration = Duration::from_secs(10);

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node) -> Vec<Service> {
    let entries = reader.entries(root, "a file of services");
    entries.iter().filter_map(|(key, value)| service(reader, key, value)).collect()
}

fn service(reader: &mut Reader<'_>, key: &Node, value: &Node) -> Option<Service> {
    let name = reader.name(key);
    let keys = [
        "image",
        "replicas",
        "every_machine",
        "command",
        "environment",
        "ports",
        "health",
        "limits",
        "placement",
        "update",
        "drain",
    ];
    let fields = reader.fields(value, key.span, "a service", &keys)?;
    let image = reader.required(&fields, "image").and_then(|node| image(reader, node));
    let scale = scale(reader, value, &fields);
    let mut command = Vec::new();
    if let Some(node) = fields.get("command") {
        for item in reader.items(node, "`command`") {
            command.extend(reader.text(item, "an argument").map(str::to_owned));
        }
    }
    let environment =
        fields.get("environment").map(|node| variables(reader, node, "`environment`")).unwrap_or_default();
    let mut ports = Vec::new();
    if let Some(node) = fields.get("ports") {
        for item in reader.items(node, "`ports`") {
            ports.extend(port(reader, item));
        }
    }
    let health = match fields.get("health") {
        Some(node) => {
            let place = value.entry("health").map_or(node.span, |(key, _)| key.span);
            health(reader, node, place, &ports)
        }
        None => None,
    };
    let limits = fields.get("limits").and_then(|node| limits(reader, node)).unwrap_or_default();
    let placement = fields.get("placement").map(|node| reader.texts(node, "`placement`")).unwrap_or_default();
    let update = match fields.get("update") {
        Some(node) => update(reader, node),
        None => Some(UpdatePolicy { parallel: 1, monitor: MONITOR, deadline: None }),
    };
    let drain = fields.get("drain").map_or(Some(DRAIN), |node| reader.duration(node, "`drain`"));
    let spec = ServiceSpec {
        name: name?,
        image: image?,
        command,
        scale: scale?,
        environment,
        ports,
        health,
        limits,
        placement,
        update: update?,
        drain: drain?,
    };
    Some(Service { spec, place: Place::new(reader.file, key.span) })
}

/// An image's repository, without registry host, tag or digest.
pub fn image(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`image`")?;
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
    };
    let host =
        text.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    if host || text.len() > 200 || !text.split('/').all(part) {
        let diagnostic = Diagnostic::error("bad-image", format!("`{text}` is not the name of an image"));
        let (label, help) = if host {
            (
                "it names a registry",
                "where images are kept is the environment's `registry` in fleetwright.yaml",
            )
        } else if text.contains([':', '@']) {
            ("it has a tag or digest", "a rollout uses the digest that its pipeline has built")
        } else {
            ("", "use lower-case letters, digits, `-`, `_`, `.` and `/`, such as `team/web`")
        };
        reader.problem(diagnostic.help(help), node.span, label);
        return None;
    }
    Some(text.to_owned())
}

fn scale(reader: &mut Reader<'_>, value: &Node, fields: &Fields<'_>) -> Option<Scale> {
    let replicas = match fields.get("replicas") {
        Some(node) => Some(reader.integer(node, "`replicas`", 0, REPLICAS_MOST)?),
        None => None,
    };
    let every = match fields.get("every_machine") {
        Some(node) => reader.boolean(node, "`every_machine`")?,
        None => false,
    };
    if replicas.is_some() && every {
        let place = value.entry("every_machine").map_or(value.span, |(key, _)| key.span);
        let diagnostic =
            Diagnostic::error("conflicting-keys", "a service has `replicas` or `every_machine`, not both");
        reader.problem(diagnostic, place, "remove one of them");
        return None;
    }
    Some(if every { Scale::EveryMachine } else { Scale::Replicas(replicas.unwrap_or(1)) })
}

fn port(reader: &mut Reader<'_>, node: &Node) -> Option<Port> {
    let fields = reader.fields(node, node.span, "a port", &["container", "host"])?;
    let container =
        reader.required(&fields, "container").and_then(|node| reader.integer(node, "`container`", 1, 65_535));
    let host = match fields.get("host") {
        Some(node) => Some(reader.integer(node, "`host`", 1, 65_535)?),
        None => None,
    };
    Some(Port { container: container?, host })
}

fn health(reader: &mut Reader<'_>, node: &Node, place: Span, ports: &[Port]) -> Option<HealthCheck> {
    let keys = ["http", "tcp", "port", "interval", "timeout", "retries", "start_period"];
    let fields = reader.fields(node, place, "a health check", &keys)?;
    let probe = match (fields.get("http"), fields.get("tcp")) {
        (Some(path), None) => http(reader, &fields, path, place, ports),
        (None, Some(port)) => reader.integer(port, "`tcp`", 1, 65_535).map(|port| HealthProbe::Tcp { port }),
        (None, None) => {
            let diagnostic = Diagnostic::error("missing-key", "a health check needs `http` or `tcp`");
            let help = "`{http: /health, port: 8080}` asks for a page, `{tcp: 8080}` makes a connection";
            reader.problem(diagnostic.help(help), place, "neither is given");
            None
        }
        (Some(_), Some(_)) => {
            let diagnostic =
                Diagnostic::error("conflicting-keys", "a health check has `http` or `tcp`, not both");
            reader.problem(diagnostic, place, "remove one of them");
            None
        }
    };
    let interval = fields.get("interval").map_or(Some(INTERVAL), |node| often(reader, node, "`interval`"));
    let timeout = fields.get("timeout").map_or(Some(TIMEOUT), |node| often(reader, node, "`timeout`"));
    let retries =
        fields.get("retries").map_or(Some(RETRIES), |node| reader.integer(node, "`retries`", 1, 1_000));
    let start_period =
        fields.get("start_period").map_or(Some(START_PERIOD), |node| reader.duration(node, "`start_period`"));
    Some(HealthCheck {
        probe: probe?,
        interval: interval?,
        timeout: timeout?,
        retries: retries?,
        start_period: start_period?,
    })
}

/// A time of a health check. The engine takes none for its own default, which nobody means who writes `0s`.
fn often(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Duration> {
    let time = reader.duration(node, what)?;
    if time < SHORTEST {
        let diagnostic = Diagnostic::error("out-of-range", format!("{what} must be at least `100ms`"));
        reader.problem(diagnostic, node.span, "too short");
        return None;
    }
    Some(time)
}

/// A mapping from names of environment variables to texts.
pub fn variables(reader: &mut Reader<'_>, node: &Node, what: &str) -> BTreeMap<String, String> {
    for (key, value) in node.entries().unwrap_or_default() {
        let Some(name) = key.text() else { continue };
        let legal =
            !name.is_empty() && !name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control());
        if !legal {
            let message = format!("`{}` is not the name of a variable", name.escape_default());
            let diagnostic = Diagnostic::error("bad-name", message);
            let help = match name.split_once('=') {
                Some((name, value)) if !name.is_empty() => format!("write `{name}: {value}`"),
                _ => "a name is not empty, and has no `=`, blank or control character".to_owned(),
            };
            reader.problem(diagnostic.help(help), key.span, "");
        }
        if value.text().is_some_and(|text| text.contains('\0')) {
            let diagnostic =
                Diagnostic::error("bad-value", "the value of a variable can't hold a NUL character");
            reader.problem(diagnostic, value.span, "");
        }
    }
    reader.texts(node, what)
}

fn http(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    path: &Node,
    place: Span,
    ports: &[Port],
) -> Option<HealthProbe> {
    let text = reader.text(path, "`http`")?.to_owned();
    if !text.starts_with('/') {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a path"));
        reader.problem(diagnostic, path.span, "it must start with `/`");
    }
    let port = match (fields.get("port"), ports) {
        (Some(node), _) => reader.integer(node, "`port`", 1, 65_535)?,
        (None, [only]) => only.container,
        (None, _) => {
            let diagnostic =
                Diagnostic::error("missing-key", "a health check by `http` needs the key `port`");
            let help = "it may be left out only when the service has exactly one port";
            reader.problem(diagnostic.help(help), place, "`port` is missing");
            return None;
        }
    };
    Some(HealthProbe::Http { port, path: text })
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Option<Limits> {
    let fields = reader.fields(node, node.span, "limits", &["memory", "cpu"])?;
    let memory_bytes = fields.get("memory").and_then(|node| {
        let bytes = reader.size(node, "`memory`")?;
        if bytes < MEMORY_LEAST {
            let diagnostic = Diagnostic::error("out-of-range", "`memory` must be at least `6MiB`");
            reader.problem(diagnostic, node.span, "the engine starts no container with less");
            return None;
        }
        Some(bytes)
    });
    let cpu_millis = fields.get("cpu").and_then(|node| {
        let cpus = match node.scalar() {
            Some(Scalar::Integer(number)) => number as f64,
            Some(Scalar::Float(number)) => number,
            _ => {
                reader.wrong_type(node, "`cpu` must be a number of cores, such as `0.25`", "");
                return None;
            }
        };
        if !(0.001..=1024.0).contains(&cpus) {
            let diagnostic = Diagnostic::error("out-of-range", "`cpu` must be from 0.001 to 1024 cores");
            reader.problem(diagnostic, node.span, "");
            return None;
        }
        Some((cpus * 1000.0).round() as u64)
    });
    Some(Limits { memory_bytes, cpu_millis })
}

fn update(reader: &mut Reader<'_>, node: &Node) -> Option<UpdatePolicy> {
    let fields = reader.fields(node, node.span, "an update policy", &["parallel", "monitor", "deadline"])?;
    let parallel =
        fields.get("parallel").map_or(Some(1), |node| reader.integer(node, "`parallel`", 1, REPLICAS_MOST));
    let monitor = fields.get("monitor").map_or(Some(MONITOR), |node| reader.duration(node, "`monitor`"));
    let deadline = match fields.get("deadline") {
        Some(node) => Some(reader.duration(node, "`deadline`")?),
        None => None,
    };
    Some(UpdatePolicy { parallel: parallel?, monitor: monitor?, deadline })
}
