//! `write_files`: paths, modes, contents, owners, and what hides a file later.

use std::collections::{HashMap, HashSet};

use super::units::{self, mount_point};
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::{Config, File, Spanned};
use crate::cloud_config::scalar::{Scalar, scalar};
use crate::cloud_config::target::Target;

/// Users and groups that Debian's and Flatcar's images have.
pub const SYSTEM: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "adm",
    "tty",
    "disk",
    "lp",
    "mail",
    "news",
    "uucp",
    "man",
    "proxy",
    "kmem",
    "dialout",
    "fax",
    "voice",
    "cdrom",
    "floppy",
    "tape",
    "sudo",
    "audio",
    "dip",
    "www-data",
    "backup",
    "operator",
    "list",
    "irc",
    "src",
    "shadow",
    "utmp",
    "video",
    "sasl",
    "plugdev",
    "staff",
    "games",
    "users",
    "nogroup",
    "nobody",
    "wheel",
    "systemd-journal",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "messagebus",
    "sshd",
    "_chrony",
    "_apt",
    "input",
    "kvm",
    "render",
    "crontab",
    "netdev",
];

/// What the document says elsewhere, by name.
struct Others<'c> {
    /// Users and groups that it creates.
    accounts: HashSet<&'c str>,
    /// Where `mounts` mounts something.
    mounts: HashSet<&'c str>,
    /// Where mount units do, with their names.
    units: HashMap<String, &'c str>,
}

impl<'c> Others<'c> {
    fn new(config: &'c Config<'_>) -> Self {
        let mut accounts: HashSet<&str> =
            config.groups.iter().map(|(group, _)| group.value.as_str()).collect();
        for user in &config.users {
            accounts.extend(user.name.iter().map(|name| name.value.as_str()));
            accounts.extend(user.groups.iter().map(String::as_str));
        }
        let points = config.mounts.iter().filter_map(|mount| mount.fields.get(1));
        let names = config.units.iter().filter_map(|unit| unit.name.as_ref());
        Self {
            accounts,
            mounts: points
                .map(|point| point.trim_end_matches('/'))
                .filter(|point| !point.is_empty())
                .collect(),
            units: names.filter_map(|name| Some((mount_point(&name.value)?, name.value.as_str()))).collect(),
        }
    }
}

/// Users that images call their default one. cloud-init creates them, too, after the files.
const DEFAULT_USERS: [&str; 8] =
    ["admin", "almalinux", "centos", "debian", "ec2-user", "fedora", "rocky", "ubuntu"];

/// Checks every file.
pub fn check(config: &Config<'_>, report: &mut Report<'_>) {
    let others = Others::new(config);
    let mut seen: HashSet<&str> = HashSet::new();
    for file in &config.files {
        path(file, report);
        mode(file, report);
        content(file, report);
        owner(config, &others, file, report);
        let Some(path) = &file.path else { continue };
        if !seen.insert(&path.value) && !file.append {
            let message = format!("`{}` is written twice; the last one stays", path.value);
            report.add(&Target::READERS, Finding::warning("duplicate-entry", path.span, message.clone()));
            // Ignition refuses the whole document.
            report.add(&[Target::Ignition3_3], Finding::error("duplicate-entry", path.span, message));
        }
        hidden(&others, file, path, report);
        units::file(path, report);
    }
}

fn path(file: &File<'_>, report: &mut Report<'_>) {
    let Some(path) = file.path.as_ref().filter(|path| !path.value.is_empty()) else {
        let message = "the file has no `path`";
        let finding = Finding::error("missing-key", file.span, message);
        let help = "coreos-cloudinit fails on it and applies nothing after it";
        report.add(&Target::COREOS, finding.help(help));
        report.add(&[Target::Ignition3_3], Finding::error("missing-key", file.span, message));
        // cloud-init's is found by its structure.
        return;
    };
    if !path.value.starts_with('/') {
        let message = format!("`{}` is a relative path", path.value);
        let finding = Finding::warning("relative-path", path.span, message.clone());
        let label = format!("write `/{}`", path.value);
        report.add(&Target::READERS, finding.label(label.clone()));
        report.add(&[Target::Ignition3_3], Finding::error("relative-path", path.span, message).label(label));
    }
    let parts: Vec<&str> = path.value.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.first() == Some(&"usr") && parts.len() > 1 {
        let message = format!("`{}` can't be written: /usr is read-only", path.value);
        let finding = Finding::error("read-only-path", path.span, message);
        report.add(&Target::COREOS, finding.help("write below /etc, /opt or /var"));
        let message = format!("`{}` can't be written where /usr is read-only", path.value);
        // Fedora CoreOS keeps /usr/local in /var, Flatcar does not.
        let finding = match parts.get(1) {
            Some(&"local") => Finding::warning("read-only-path", path.span, message),
            _ => Finding::error("read-only-path", path.span, message),
        };
        report.add(&[Target::Ignition3_3], finding.help("write below /etc, /opt or /var"));
    }
}

/// The decimal numbers of modes that people write, as far as they look octal: with digits 8 and 9
/// they are refused anyway.
const DECIMAL: &[(&str, &str)] = &[
    ("420", "0644"),
    ("416", "0640"),
    ("436", "0664"),
    ("511", "0777"),
    ("256", "0400"),
    ("320", "0500"),
    ("360", "0550"),
];

fn mode(file: &File<'_>, report: &mut Report<'_>) {
    let Some(node) = file.permissions else { return };
    let written = node.text().unwrap_or_default();
    let text = match scalar(node) {
        Some(Scalar::Text(text)) => text,
        Some(Scalar::Integer(value)) => {
            number(written, value, node.span, report);
            return;
        }
        _ => {
            let message = format!("`permissions` must be a text, but this is {}", node.what());
            report.add(&Target::ALL, Finding::error("wrong-type", node.span, message));
            return;
        }
    };
    if !is_mode(text) {
        let message = format!("`{text}` is no mode");
        let finding = Finding::error("bad-mode", node.span, message);
        let help = "coreos-cloudinit refuses it; write three or four octal digits, such as \"0644\"";
        report.add(&[Target::CoreosLegacy, Target::Flatcar, Target::Ignition3_3], finding.clone().help(help));
        // Python's `int(text, 8)` takes a bit more.
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| (b'0'..b'8').contains(&byte)) {
            let help = "cloud-init falls back to 0644 without an error";
            report.add(&Target::CLOUD_INIT, finding.help(help));
        }
    }
}

/// A mode without quotes, which each engine reads in its own way.
fn number(written: &str, value: i64, span: crate::source::Span, report: &mut Report<'_>) {
    let error = |message: String| Finding::error("unquoted-mode", span, message);
    let zero = written.starts_with('0');
    let decimal = DECIMAL.iter().find(|(decimal, _)| *decimal == written);
    let label = match decimal {
        Some((_, octal)) => format!("write \"{octal}\""),
        None if zero => format!("write \"{written}\""),
        None => format!("write \"0{written}\""),
    };
    let message = match decimal {
        Some((_, octal)) => {
            format!("the mode `{written}` is 0{written} to coreos-cloudinit, and {octal} to cloud-init")
        }
        None if zero => {
            format!("the mode `{written}` has no quotes, so that YAML makes it the number {value}")
        }
        None => format!("the mode `{written}` has no quotes, so that cloud-init makes it {value:#06o}")
            .replace("0o", "0"),
    };
    if decimal.is_some() {
        report.add(&Target::ALL, error(message).label(label));
        return;
    }
    let finding = error(message).label(label);
    report.add(
        &Target::CLOUD_INIT,
        match zero {
            true => finding.help("it works at boot, but `cloud-init schema` refuses it"),
            false => finding,
        },
    );
    // go-yaml gives the field the text as it was written.
    if !is_mode(written) {
        let finding = Finding::error("bad-mode", span, format!("`{written}` is no mode"));
        report.add(&[Target::CoreosLegacy, Target::Flatcar, Target::Ignition3_3], finding);
    }
}

fn is_mode(text: &str) -> bool {
    let digits = text.bytes().all(|byte| (b'0'..b'8').contains(&byte));
    digits && (matches!(text.len(), 3 | 4) || text.len() == 5 && text.starts_with('0'))
}

fn content(file: &File<'_>, report: &mut Report<'_>) {
    if let (Err(why), Some(content)) = (&file.data, file.content) {
        let message = format!("the content can't be decoded: {why}");
        report.add(&Target::ALL, Finding::error("undecodable-content", content.span, message));
    }
}

fn owner(config: &Config<'_>, others: &Others<'_>, file: &File<'_>, report: &mut Report<'_>) {
    let Some(owner) = file.owner.as_ref().filter(|owner| !owner.value.is_empty()) else { return };
    let (user, group) = owner.value.split_once(':').unwrap_or((&owner.value, ""));
    for (name, what) in [(user, "user"), (group, "group")] {
        if name.is_empty() || name == "-1" || SYSTEM.contains(&name) {
            continue;
        }
        let image = config.default_user && DEFAULT_USERS.contains(&name);
        let created = image || others.accounts.contains(name);
        let numeric = name.bytes().all(|byte| byte.is_ascii_digit());
        if numeric {
            let message = format!("`{name}` is looked up as the name of a {what}, and there is none");
            let finding = Finding::error("unknown-owner", owner.span, message);
            let help =
                "cloud-init takes no numbers here, and stops writing files: use a name, or chown in runcmd";
            report.add(&Target::CLOUD_INIT, finding.help(help));
        } else if created {
            if !file.defer {
                let message = format!("the {what} `{name}` does not exist yet when the file is written");
                let finding = Finding::error("owner-created-later", owner.span, message);
                let help =
                    "cloud-init stops here and writes none of the files that follow: add `defer: true`";
                report.add(&Target::CLOUD_INIT, finding.help(help));
            }
        } else if !file.defer || config.packages.is_empty() {
            let message = format!("the document creates no {what} `{name}`");
            let finding = Finding::warning("unknown-owner", owner.span, message);
            let help = "where the image has none either, the engine stops here and writes no more files";
            // Every image of the CoreOS family has the user core.
            let targets: &[Target] = if name == "core" { &Target::CLOUD_INIT } else { &Target::READERS };
            report.add(targets, finding.help(help));
        }
    }
}

/// A file below a directory that something is mounted on later.
fn hidden(others: &Others<'_>, file: &File<'_>, path: &Spanned<String>, report: &mut Report<'_>) {
    for (at, _) in path.value.match_indices('/').skip(1) {
        let point = &path.value[..at];
        if others.mounts.contains(point) && !file.defer {
            let message = format!("`{}` is hidden by what is mounted on {point} later", path.value);
            let finding = Finding::error("hidden-by-mount", path.span, message);
            report.add(&Target::CLOUD_INIT, finding.help("`defer: true` writes it after the mounts"));
        }
        if let Some(name) = others.units.get(point) {
            let message = format!("`{}` is hidden once {name} is mounted on {point}", path.value);
            let finding = Finding::warning("hidden-by-mount", path.span, message);
            report.add(&Target::COREOS, finding.help("write it from a unit that comes after the mount"));
        }
    }
}
