//! Health checks of services.

use std::time::Duration;

use super::{key_span, words};
use crate::model::service::{HealthCheck, HealthProbe, Port};
use crate::repo::decode::{Fields, Reader};
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// What a health check is, unless its file says something else.
const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const RETRIES: u32 = 3;
const START_PERIOD: Duration = Duration::from_secs(10);

/// The shortest time between two checks, and the least that one may take.
const SHORTEST: Duration = Duration::from_millis(100);

/// The ways to ask, of which a check has one.
const KINDS: [&str; 3] = ["http", "tcp", "command"];

pub(super) fn health(
    reader: &mut Reader<'_>,
    node: &Node,
    place: Span,
    ports: &[Port],
) -> Option<HealthCheck> {
    check(reader, node, place, ports, INTERVAL)
}

/// The check of a container that is no service, made every `interval` unless it says something else.
pub fn health_check(
    reader: &mut Reader<'_>,
    node: &Node,
    place: Span,
    interval: Duration,
) -> Option<HealthCheck> {
    check(reader, node, place, &[], interval)
}

fn check(
    reader: &mut Reader<'_>,
    node: &Node,
    place: Span,
    ports: &[Port],
    usual: Duration,
) -> Option<HealthCheck> {
    let keys = ["http", "tcp", "command", "port", "interval", "timeout", "retries", "start_period"];
    let fields = reader.fields(node, place, "a health check", &keys)?;
    let probe = probe(reader, node, &fields, place, ports);
    let interval = fields.get("interval").map_or(Some(usual), |node| often(reader, node, "`interval`"));
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

fn probe(
    reader: &mut Reader<'_>,
    node: &Node,
    fields: &Fields<'_>,
    place: Span,
    ports: &[Port],
) -> Option<HealthProbe> {
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| fields.get(kind).is_some()).collect();
    match given.as_slice() {
        ["http"] => http(reader, fields, fields.get("http")?, place, ports),
        ["tcp"] => {
            reader.integer(fields.get("tcp")?, "`tcp`", 1, 65_535).map(|port| HealthProbe::Tcp { port })
        }
        ["command"] => {
            let given = fields.get("command")?;
            let command = words(reader, given, "`command`");
            if given.items().is_some_and(<[Node]>::is_empty) {
                let diagnostic =
                    Diagnostic::error("bad-value", "`command` of a health check names no program");
                reader.problem(diagnostic, key_span(node, "command"), "write its words as a list");
                return None;
            }
            (!command.is_empty()).then_some(HealthProbe::Command { command })
        }
        [] => {
            let diagnostic =
                Diagnostic::error("missing-key", "a health check needs `http`, `tcp` or `command`");
            let help = "`{http: /health, port: 8080}` asks for a page, `{tcp: 8080}` makes a connection, \
                        `{command: [pg_isready]}` runs a program in the container";
            reader.problem(diagnostic.help(help), place, "none is given");
            None
        }
        _ => {
            let diagnostic = Diagnostic::error(
                "conflicting-keys",
                "a health check has one of `http`, `tcp` and `command`",
            );
            reader.problem(diagnostic, place, "remove the others");
            None
        }
    }
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
