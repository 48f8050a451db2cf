//! The keys of a service that concern its containers. They have Compose's names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{variables, words};
use crate::model::container::{ContainerSettings, LogLimits, RestartCondition, RestartPolicy, Tmpfs, Ulimit};
use crate::repo::decode::{Fields, Reader, list};
use crate::source::{Diagnostic, suggest};
use crate::yaml::{Node, Scalar};

/// The keys of a service that concern its container.
pub(in crate::repo) const KEYS: [&str; 17] = [
    "entrypoint",
    "user",
    "workdir",
    "hostname",
    "labels",
    "extra_hosts",
    "cap_add",
    "cap_drop",
    "read_only",
    "tmpfs",
    "ulimits",
    "sysctls",
    "stop_signal",
    "init",
    "logging",
    "restart",
    "aws_role",
];

/// The capabilities of Linux, from `capabilities(7)`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The limits that Docker knows, by its names.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The signals that end or notify a process, without `SIG`.
const SIGNALS: [&str; 10] = ["ABRT", "ALRM", "HUP", "INT", "KILL", "QUIT", "TERM", "USR1", "USR2", "WINCH"];

/// What a file of logs is at least.
const LOG_LEAST: u64 = 1 << 10;

pub(in crate::repo) fn decode(reader: &mut Reader<'_>, fields: &Fields<'_>) -> ContainerSettings {
    let text = |reader: &mut Reader<'_>, key: &str| {
        fields.get(key).and_then(|node| reader.text(node, &format!("`{key}`")).map(str::to_owned))
    };
    let workdir = text(reader, "workdir");
    if let (Some(path), Some(node)) = (&workdir, fields.get("workdir")) {
        absolute(reader, node, path);
    }
    let flag = |reader: &mut Reader<'_>, key: &str| {
        fields.get(key).and_then(|node| reader.boolean(node, &format!("`{key}`"))).unwrap_or_default()
    };
    ContainerSettings {
        entrypoint: fields
            .get("entrypoint")
            .map(|node| words(reader, node, "`entrypoint`"))
            .unwrap_or_default(),
        user: fields.get("user").and_then(|node| user(reader, node)),
        workdir,
        hostname: fields.get("hostname").and_then(|node| hostname(reader, node)),
        labels: fields.get("labels").map(|node| labels(reader, node)).unwrap_or_default(),
        extra_hosts: fields.get("extra_hosts").map(|node| hosts(reader, node)).unwrap_or_default(),
        cap_add: fields
            .get("cap_add")
            .map(|node| capabilities(reader, node, "`cap_add`"))
            .unwrap_or_default(),
        cap_drop: fields
            .get("cap_drop")
            .map(|node| capabilities(reader, node, "`cap_drop`"))
            .unwrap_or_default(),
        read_only: flag(reader, "read_only"),
        tmpfs: fields.get("tmpfs").map(|node| tmpfs(reader, node)).unwrap_or_default(),
        ulimits: fields.get("ulimits").map(|node| ulimits(reader, node)).unwrap_or_default(),
        sysctls: fields.get("sysctls").map(|node| variables(reader, node, "`sysctls`")).unwrap_or_default(),
        stop_signal: fields.get("stop_signal").and_then(|node| signal(reader, node)),
        init: flag(reader, "init"),
        logging: fields.get("logging").and_then(|node| logging(reader, node)),
        restart: fields.get("restart").and_then(|node| restart(reader, node)),
        ..ContainerSettings::default()
    }
}

pub(super) fn absolute(reader: &mut Reader<'_>, node: &Node, path: &str) -> bool {
    let wrong = match path {
        _ if !path.starts_with('/') => "it must start with `/`",
        _ if path.split('/').any(|part| part == "..") => "write it without `..`",
        _ if path.contains('\0') => "it can't hold a NUL character",
        _ => return true,
    };
    let diagnostic =
        Diagnostic::error("bad-value", format!("`{path}` is not an absolute path in the container"));
    reader.problem(diagnostic, node.span, wrong);
    false
}

/// `USER[:GROUP]`.
fn user(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`user`")?;
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 2 || !parts.iter().all(|one| part(one)) {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a user"));
        reader.problem(diagnostic, node.span, "write `app`, `1000` or `\"1000:1000\"`");
        return None;
    }
    Some(text.to_owned())
}

fn hostname(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`hostname`")?;
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(part) {
        let diagnostic = Diagnostic::error("bad-name", format!("`{text}` is not the name of a host"));
        reader.problem(diagnostic.help("use letters, digits and `-`"), node.span, "");
        return None;
    }
    Some(text.to_owned())
}

/// Labels of a container; those that begin with `fleetwright.` are ours.
fn labels(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    for (key, _) in node.entries().unwrap_or_default() {
        let Some(name) = key.text() else { continue };
        if name.starts_with("fleetwright.") || name.starts_with("com.docker.") {
            let message = format!("`{name}` is a reserved label");
            reader.problem(Diagnostic::error("bad-value", message), key.span, "choose another name");
        }
    }
    reader.texts(node, "`labels`")
}

fn hosts(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, String> {
    let hosts = reader.texts(node, "`extra_hosts`");
    for (_, value) in node.entries().unwrap_or_default() {
        if let Some(text) = value.text()
            && text.parse::<IpAddr>().is_err()
        {
            let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not an IP address"));
            reader.problem(diagnostic, value.span, "such as `10.0.1.4`");
        }
    }
    hosts
}

fn capabilities(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in reader.items(node, what) {
        let Some(text) = reader.text(item, "a capability") else { continue };
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" || CAPABILITIES.contains(&name) {
            found.push(name.to_owned());
            continue;
        }
        let diagnostic = Diagnostic::error("bad-value", format!("there is no capability `{text}`"));
        let label = suggest(name, CAPABILITIES)
            .map_or("such as `NET_BIND_SERVICE`".to_owned(), |near| format!("did you mean `{near}`?"));
        reader.problem(diagnostic, item.span, label);
    }
    found
}

/// Folders in memory: a list of their paths, or a mapping from them to `size` and `mode`.
fn tmpfs(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, Tmpfs> {
    let mut found = BTreeMap::new();
    if node.items().is_some() {
        for item in reader.items(node, "`tmpfs`") {
            if let Some(path) = reader.text(item, "a folder").map(str::to_owned)
                && absolute(reader, item, &path)
            {
                found.insert(path, Tmpfs::default());
            }
        }
        return found;
    }
    for (key, value) in reader.entries(node, "`tmpfs`") {
        let Some(path) = key.text() else { continue };
        if !absolute(reader, key, path) {
            continue;
        }
        let Some(fields) = reader.fields(value, key.span, "a folder in memory", &["size", "mode"]) else {
            continue;
        };
        let folder = tmpfs_folder(reader, &fields);
        found.insert(path.to_owned(), folder);
    }
    found
}

/// A folder in memory, by its `size` and `mode`.
pub(super) fn tmpfs_folder(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Tmpfs {
    let size_bytes = fields.get("size").and_then(|node| reader.size(node, "`size`"));
    let mode = fields.get("mode").and_then(|node| mode(reader, node));
    Tmpfs { size_bytes, mode }
}

/// Permission bits, octal.
pub(in crate::repo) fn mode(reader: &mut Reader<'_>, node: &Node) -> Option<u32> {
    let text = reader.text(node, "`mode`")?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode =
        u32::from_str_radix(digits, 8).ok().filter(|mode| (3..=4).contains(&digits.len()) && *mode <= 0o7777);
    if mode.is_none() {
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a file mode"));
        reader.problem(diagnostic, node.span, "write octal digits, such as `0440`");
    }
    mode
}

/// Limits of processes: a number, or a mapping with `soft` and `hard`.
fn ulimits(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, Ulimit> {
    let mut found = BTreeMap::new();
    for (key, value) in reader.entries(node, "`ulimits`") {
        let Some(name) = key.text() else { continue };
        if !ULIMITS.contains(&name) {
            let diagnostic = Diagnostic::error("unknown-key", format!("there is no limit `{name}`"));
            let label = suggest(name, ULIMITS).map_or_else(
                || format!("one of {}", list(&ULIMITS)),
                |near| format!("did you mean `{near}`?"),
            );
            reader.problem(diagnostic, key.span, label);
            continue;
        }
        let number = |reader: &mut Reader<'_>, node: &Node, what: &str| {
            reader.integer::<i64>(node, what, -1, i64::MAX)
        };
        let limit = if value.entries().is_some() {
            let Some(fields) = reader.fields(value, key.span, "a limit", &["soft", "hard"]) else { continue };
            let soft = reader.required(&fields, "soft").and_then(|node| number(reader, node, "`soft`"));
            let hard = reader.required(&fields, "hard").and_then(|node| number(reader, node, "`hard`"));
            soft.zip(hard)
        } else {
            number(reader, value, &format!("`{name}`")).map(|both| (both, both))
        };
        let Some((soft, hard)) = limit else { continue };
        if hard >= 0 && (soft > hard || soft < 0) {
            let diagnostic = Diagnostic::error("out-of-range", "`soft` can't be more than `hard`");
            reader.problem(diagnostic, value.span, "");
        }
        found.insert(name.to_owned(), Ulimit { soft, hard });
    }
    found
}

fn signal(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`stop_signal`")?;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if SIGNALS.contains(&name) {
        return Some(format!("SIG{name}"));
    }
    let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a signal that stops a process"));
    let label = suggest(name, SIGNALS)
        .map_or("such as `SIGTERM`".to_owned(), |near| format!("did you mean `SIG{near}`?"));
    reader.problem(diagnostic, node.span, label);
    None
}

fn logging(reader: &mut Reader<'_>, node: &Node) -> Option<LogLimits> {
    let fields = reader.fields(node, node.span, "logging", &["max_size", "max_files"])?;
    let max_size_bytes = reader.required(&fields, "max_size").and_then(|node| {
        let size = reader.size(node, "`max_size`")?;
        if size < LOG_LEAST {
            let diagnostic = Diagnostic::error("out-of-range", "`max_size` must be at least `1KiB`");
            reader.problem(diagnostic, node.span, "too small");
            return None;
        }
        Some(size)
    });
    let max_files =
        fields.get("max_files").map_or(Some(2), |node| reader.integer(node, "`max_files`", 1, 1_000));
    Some(LogLimits { max_size_bytes: max_size_bytes?, max_files: max_files? })
}

/// When an instance that ended is started again: a word, or a mapping.
fn restart(reader: &mut Reader<'_>, node: &Node) -> Option<RestartPolicy> {
    if node.entries().is_none() {
        let condition = condition(reader, node)?;
        return Some(RestartPolicy { condition, delay: None, max_attempts: None, window: None });
    }
    let keys = ["condition", "delay", "max_attempts", "window"];
    let fields = reader.fields(node, node.span, "a restart policy", &keys)?;
    let condition =
        fields.get("condition").map_or(Some(RestartCondition::Any), |node| condition(reader, node));
    let delay = fields.get("delay").and_then(|node| reader.duration(node, "`delay`"));
    let max_attempts =
        fields.get("max_attempts").and_then(|node| reader.integer(node, "`max_attempts`", 1, 1_000_000));
    let window = fields.get("window").and_then(|node| reader.duration(node, "`window`"));
    Some(RestartPolicy { condition: condition?, delay, max_attempts, window })
}

fn condition(reader: &mut Reader<'_>, node: &Node) -> Option<RestartCondition> {
    // `no` of Compose is a text here, since only `true` and `false` are booleans.
    match (reader.text(node, "`restart`")?, node.scalar()) {
        ("any" | "always", _) => Some(RestartCondition::Any),
        ("on-failure", _) => Some(RestartCondition::OnFailure),
        ("none" | "no", _) | (_, Some(Scalar::Bool(false))) => Some(RestartCondition::None),
        (other, _) => {
            let diagnostic = Diagnostic::error("bad-value", format!("`{other}` is not a restart condition"));
            reader.problem(diagnostic, node.span, "write `any`, `on-failure` or `none`");
            None
        }
    }
}
