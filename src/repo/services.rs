//! `services/*.yaml`: a mapping from service names to what runs.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decode::{Fields, Reader};
use crate::model::container::Reservations;
use crate::model::name::{EnvironmentName, ServiceName};
use crate::model::project::{Service, Wanted};
use crate::model::role::ROLE_PORT;
use crate::model::service::{Limits, Port, PreDeploy, Protocol, Scale, ServiceSpec, UpdatePolicy};
use crate::model::setting::Place;
use crate::source::{Diagnostic, Span};
use crate::yaml::{Node, Scalar};

pub(super) mod container;
mod health;
mod image;
mod later;
pub(super) mod mounts;
pub(super) mod overlay;
mod units;

pub use health::health_check;
pub use image::{image, reference};
pub(super) use later::{environment, role};

/// The most instances a service may have; more is a typing error, not a wish.
const REPLICAS_MOST: i64 = 10_000;

/// The least memory that the engine gives a container.
const MEMORY_LEAST: u64 = 6 << 20;

/// How long a new instance is watched, unless given.
const MONITOR: Duration = Duration::from_secs(5);

/// How long an instance goes on serving after it was told to stop, unless given.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a `pre_deploy` command may run, unless given, and at most.
const PRE_DEPLOY: Duration = Duration::from_secs(5 * 60);
const PRE_DEPLOY_MOST: Duration = Duration::from_secs(24 * 3600);

/// The keys of a service that concern its rollout and its place. Its container's are in [`container`].
const KEYS: [&str; 16] = [
    "image",
    "replicas",
    "every_machine",
    "command",
    "env",
    "ports",
    "health",
    "resources",
    "placement",
    "spread",
    "max_per_machine",
    "update",
    "stop_grace_period",
    "pre_deploy",
    "depends_on",
    "environments",
];

/// Names that services and jobs may use.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The project's environments; none where they are not known.
    pub environments: &'a [EnvironmentName],
    /// The repository's stacks.
    pub stacks: &'a [&'a str],
}

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node, scope: Scope<'_>) -> Vec<Service> {
    let entries = reader.entries(root, "a file of services");
    entries.iter().filter_map(|(key, value)| service(reader, key, value, scope)).collect()
}

fn service(reader: &mut Reader<'_>, key: &Node, value: &Node, scope: Scope<'_>) -> Option<Service> {
    let name: Option<ServiceName> = reader.name(key);
    let place = Place::new(reader.file, key.span);
    let mut base = value.clone();
    overlay::rename(reader, &mut base);
    let own = base.get("environments").cloned();
    let wanted = wanted(reader, key, &base, name.as_ref(), scope);
    let of_environments = overlay::in_environments(
        reader,
        (&base, own.as_ref()),
        scope.environments,
        overlay::rename,
        |reader, key, merged| self::wanted(reader, key, merged, name.as_ref(), scope),
    );
    Some(Service { wanted: wanted?, environments: of_environments, place })
}

/// The wanted state of a service, from its own keys or merged with an environment's.
fn wanted(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    name: Option<&ServiceName>,
    scope: Scope<'_>,
) -> Option<Wanted> {
    let keys: Vec<&'static str> =
        KEYS.into_iter().chain(container::KEYS).chain(mounts::KEYS).chain(units::KEYS).collect();
    let fields = reader.fields(value, key.span, "a service", &keys)?;
    let units = units::decode(reader, value, &fields);
    let image = match &units {
        Some(_) => Some((String::new(), None)),
        None => reader.required(&fields, "image").and_then(|node| image::reference(reader, node)),
    };
    let scale = scale(reader, value, &fields);
    let command = fields.get("command").map(|node| words(reader, node, "`command`")).unwrap_or_default();
    let (environment, mut later) =
        fields.get("env").map(|node| later::environment(reader, node, scope.stacks)).unwrap_or_default();
    let role = fields.get("aws_role");
    let role = role.and_then(|node| later::role(reader, node, fields.get("env"), scope.stacks));
    let mut ports = Vec::new();
    if let Some(node) = fields.get("ports") {
        for item in reader.items(node, "`ports`") {
            ports.extend(port(reader, item));
        }
    }
    if let (Some(_), Some(node)) = (&units, fields.get("ports"))
        && ports.iter().any(|port| port.host.is_none())
    {
        let message = "a unit listens at a port of its machine itself, so the engine can't pick one";
        let diagnostic = Diagnostic::error("bad-value", message);
        reader.problem(diagnostic, node.span, "write `{container: 8080, host: 8080}` for each");
    }
    let health = match fields.get("health") {
        Some(node) => {
            let place = value.entry("health").map_or(node.span, |(key, _)| key.span);
            health::health(reader, node, place, &ports)
        }
        None => None,
    };
    let (limits, reservations) =
        fields.get("resources").map(|node| resources(reader, node)).unwrap_or_default();
    let placement = fields.get("placement").map(|node| reader.texts(node, "`placement`")).unwrap_or_default();
    let update = match fields.get("update") {
        Some(node) => update(reader, node),
        None => Some(UpdatePolicy { parallel: 1, monitor: MONITOR, deadline: None }),
    };
    let drain = fields
        .get("stop_grace_period")
        .map_or(Some(DRAIN), |node| reader.duration(node, "`stop_grace_period`"));
    let pre_deploy = fields.get("pre_deploy").map(|node| pre_deploy(reader, value, node));
    let mut container = container::decode(reader, &fields);
    if let Some((role, looked_up)) = role {
        container.aws_role = Some(role);
        later.extend(looked_up);
        if let Some(node) = fields.get("ports")
            && ports.iter().any(|port| port.container == ROLE_PORT)
        {
            later::taken(reader, node);
        }
    }
    let files = mounts::decode(reader, value, &fields, scale, &mut container);
    container.reservations = reservations;
    container.spread = fields.get("spread").and_then(|node| metadata_key(reader, node, "`spread`"));
    container.max_per_machine = fields
        .get("max_per_machine")
        .and_then(|node| reader.integer(node, "`max_per_machine`", 1, REPLICAS_MOST));
    if scale == Some(Scale::EveryMachine)
        && let Some((key, _)) = value.entry("max_per_machine")
    {
        let diagnostic =
            Diagnostic::error("conflicting-keys", "`every_machine` runs one instance on each machine");
        reader.problem(diagnostic, key.span, "remove it, or give `replicas`");
    }
    let mut depends_on = Vec::new();
    if let Some(node) = fields.get("depends_on") {
        for item in reader.items(node, "`depends_on`") {
            depends_on.extend(reader.name(item).map(|name| (name, reader.place(item))));
        }
    }
    let (image, elsewhere) = image?;
    let spec = ServiceSpec {
        name: name?.clone(),
        image,
        command,
        scale: scale?,
        environment,
        ports,
        health,
        limits,
        placement,
        update: update?,
        drain: drain?,
        container,
        // One that can't be used must not count as none.
        pre_deploy: match pre_deploy {
            Some(found) => Some(found?),
            None => None,
        },
        units: None,
    };
    Some(Wanted { spec, elsewhere, files, units, later, depends_on })
}

/// A command as a list of words, which is not run by a shell.
pub(super) fn words(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(Scalar::Text(text)) = node.scalar() {
        let list: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        let diagnostic =
            Diagnostic::error("wrong-type", format!("{what} must be a list, but this is a text"));
        let help = format!("it is not run by a shell; write a list: `[{}]`", list.join(", "));
        reader.problem(diagnostic.help(help), node.span, "this is a text");
        return words;
    }
    for item in reader.items(node, what) {
        words.extend(reader.text(item, "an argument").map(str::to_owned));
    }
    words
}

/// The name of metadata of machines.
fn metadata_key(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let text = reader.text(node, what)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if text.is_empty() || !text.bytes().all(legal) {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not the name of metadata"));
        reader.problem(
            diagnostic.help("a machine has `zone` and `role`, and its group's tags"),
            node.span,
            "",
        );
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

/// A port: a mapping, or Compose's short form `[HOST:]CONTAINER[/PROTOCOL]`.
fn port(reader: &mut Reader<'_>, node: &Node) -> Option<Port> {
    if node.entries().is_none()
        && let Some(text) = node.text()
    {
        return short_port(reader, node, text);
    }
    let fields = reader.fields(node, node.span, "a port", &["container", "host", "protocol"])?;
    let container =
        reader.required(&fields, "container").and_then(|node| reader.integer(node, "`container`", 1, 65_535));
    let host = match fields.get("host") {
        Some(node) => Some(reader.integer(node, "`host`", 1, 65_535)?),
        None => None,
    };
    let protocol = match fields.get("protocol") {
        None => Protocol::Tcp,
        Some(node) => match reader.text(node, "`protocol`")? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => {
                let diagnostic = Diagnostic::error("bad-value", format!("there is no protocol `{other}`"));
                reader.problem(diagnostic, node.span, "write `tcp` or `udp`");
                return None;
            }
        },
    };
    Some(Port { container: container?, host, protocol })
}

fn short_port(reader: &mut Reader<'_>, node: &Node, text: &str) -> Option<Port> {
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), Some(Protocol::Tcp)),
        Some((ports, "udp")) => (ports, Some(Protocol::Udp)),
        Some((ports, _)) => (ports, None),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (host, container) = match ports.split_once(':') {
        Some((host, container)) => (Some(number(host)), number(container)),
        None => (None, number(ports)),
    };
    if let (Some(container), Some(protocol), None | Some(Some(_))) = (container, protocol, host) {
        return Some(Port { container, host: host.flatten(), protocol });
    }
    let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a port"));
    let help = "write `8080` (the engine picks the machine's port), `\"80:8080\"` (port 80 of the machine), \
                `53:53/udp`, or a mapping with `container`, `host` and `protocol`";
    reader.problem(diagnostic.help(help), node.span, "");
    None
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

/// What an instance may use at most, and what is kept free for it.
pub(super) fn resources(reader: &mut Reader<'_>, node: &Node) -> (Limits, Option<Reservations>) {
    let Some(fields) = reader.fields(node, node.span, "resources", &["limits", "reservations"]) else {
        return Default::default();
    };
    let limits = fields.get("limits").and_then(|node| amounts(reader, node, "limits")).unwrap_or_default();
    let limits = Limits { memory_bytes: limits.memory_bytes, cpu_millis: limits.cpu_millis };
    let kept = fields.get("reservations").and_then(|node| amounts(reader, node, "reservations"));
    if let (Some(kept), Some((key, _))) = (kept, node.entry("reservations")) {
        let more =
            |kept: Option<u64>, limit: Option<u64>| kept.zip(limit).is_some_and(|(kept, most)| kept > most);
        if more(kept.memory_bytes, limits.memory_bytes) || more(kept.cpu_millis, limits.cpu_millis) {
            let diagnostic = Diagnostic::error("out-of-range", "`reservations` exceed `limits`");
            reader.problem(diagnostic, key.span, "raise `limits`, or reserve less");
        }
    }
    (limits, kept)
}

/// Memory and CPU.
fn amounts(reader: &mut Reader<'_>, node: &Node, what: &'static str) -> Option<Reservations> {
    let fields = reader.fields(node, node.span, what, &["memory", "cpu"])?;
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
    Some(Reservations { memory_bytes, cpu_millis })
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

/// A command that runs once before a revision is rolled out.
fn pre_deploy(reader: &mut Reader<'_>, service: &Node, node: &Node) -> Option<PreDeploy> {
    let place = key_span(service, "pre_deploy");
    let fields = reader.fields(node, place, "a `pre_deploy`", &["command", "timeout"])?;
    let command = reader.required(&fields, "command").and_then(|node| program(reader, node));
    let timeout = fields.get("timeout").map_or(Some(PRE_DEPLOY), |node| {
        let timeout = reader.duration(node, "`timeout`")?;
        if !(Duration::from_secs(1)..=PRE_DEPLOY_MOST).contains(&timeout) {
            let diagnostic =
                Diagnostic::error("out-of-range", "the `timeout` of `pre_deploy` must be from `1s` to `24h`");
            reader.problem(diagnostic, node.span, format!("the default is `{}m`", PRE_DEPLOY.as_secs() / 60));
            return None;
        }
        Some(timeout)
    });
    Some(PreDeploy { command: command?, timeout: timeout? })
}

/// A program and its arguments, of which there is at least the program.
pub(super) fn program(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    let command = words(reader, node, "`command`");
    if node.items().is_some_and(<[Node]>::is_empty) || command.first().is_some_and(String::is_empty) {
        let diagnostic = Diagnostic::error("bad-value", "`command` names no program");
        reader.problem(diagnostic, node.span, "such as `[bin/migrate, --all]`");
        return None;
    }
    (!command.is_empty()).then_some(command)
}

/// The place to point at for `key` of a mapping.
fn key_span(node: &Node, key: &str) -> Span {
    node.entry(key).map_or(node.span, |(key, _)| key.span)
}
