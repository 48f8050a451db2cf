//! What a machine would have once its user data was applied.
//!
//! Comments, the order of keys, quotes and encodings are gone here: two documents with the same
//! effects do the same. The order of commands stays.

use super::document::{Document, Kind};
use super::model::{Config, options, plain};
use super::parts::{self, Part};
use super::scalar::{Scalar, scalar};
use super::target::Dialect;
use crate::source::{SourceFile, Span};
use crate::yaml::{Kind as Value, Node};

mod services;

/// All that a document does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effects {
    /// What kind of user data it is.
    pub kind: Kind,
    /// Which engine it is for.
    pub dialect: Dialect,
    /// The text itself where it is no cloud-config, or can't be read.
    pub script: Option<String>,
    /// The name of the machine.
    pub hostname: Option<String>,
    /// Files, by path.
    pub files: Vec<File>,
    /// Units, by name: of `coreos.units`, or of files and `systemctl` commands.
    pub units: Vec<Unit>,
    /// Users, by name.
    pub users: Vec<User>,
    /// Groups with their members, by name.
    pub groups: Vec<(String, Vec<String>)>,
    /// Packages, by name.
    pub packages: Vec<String>,
    /// Lines of fstab, in their order.
    pub mounts: Vec<String>,
    /// Commands in the order they run.
    pub commands: Vec<Command>,
    /// Every other setting by its path, `coreos.update.reboot_strategy`.
    pub settings: Vec<(String, String)>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: String,
    /// What is in it, decoded; as written where it can't be decoded.
    pub content: Vec<u8>,
    /// Its mode.
    pub mode: u32,
    /// Its owner, such as `root:root`.
    pub owner: String,
    /// Whether it is added to what is there.
    pub append: bool,
}

/// A unit of systemd, or a file of networkd.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Whether it is started at each boot.
    pub enabled: bool,
    /// Whether it can't be started at all.
    pub masked: bool,
    /// Whether it lives below `/run`, and so until the next boot.
    pub runtime: bool,
    /// What systemd is told to do with it, in order: `start`.
    pub commands: Vec<String>,
    /// Its text, where `coreos.units` has it.
    pub content: Option<String>,
    /// Its drop-ins by name, with their text where `coreos.units` has it.
    pub drop_ins: Vec<(String, Option<String>)>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name; `default` is the image's own user.
    pub name: String,
    /// The groups, sorted.
    pub groups: Vec<String>,
    /// The public keys, sorted.
    pub keys: Vec<String>,
    /// The password, hashed or in clear, never to be shown.
    pub password: Option<String>,
    /// The rest.
    pub options: Vec<(String, String)>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// `bootcmd`, at every boot, `runcmd`, once, or `script`, a part of a message, once.
    pub list: &'static str,
    /// As it would be typed.
    pub line: String,
}

/// What the user data `text` does.
pub fn effects(text: &str) -> Effects {
    let file = SourceFile::new("user data", text);
    let document = Document::read(&file);
    let mut effects = Effects {
        kind: document.kind,
        dialect: document.dialect(),
        script: None,
        hostname: None,
        files: Vec::new(),
        units: Vec::new(),
        users: Vec::new(),
        groups: Vec::new(),
        packages: Vec::new(),
        mounts: Vec::new(),
        commands: Vec::new(),
        settings: Vec::new(),
    };
    let mut scripts = Vec::new();
    let whole = match document.kind {
        Kind::Multipart => parts::of_message(&file).ok().map(|parts| whole(&parts, &mut scripts)),
        Kind::CloudConfig => document.root,
        _ => None,
    };
    let Some(root) = &whole else {
        effects.script = Some(text.to_owned());
        return effects;
    };
    let config = Config::read(root, effects.dialect);
    effects.hostname = config.hostname.as_ref().or(config.fqdn.as_ref()).map(|name| name.value.clone());
    effects.files = files(&config);
    effects.files.extend(scripts.iter().cloned());
    effects.files.sort_by(|a, b| a.path.cmp(&b.path));
    effects.users = users(&config);
    for (name, members) in &config.groups {
        let mut members = members.clone();
        members.sort();
        effects.groups.push((name.value.clone(), members));
    }
    effects.groups.sort();
    effects.groups.dedup();
    effects.packages = config.packages.iter().map(|package| package.value.clone()).collect();
    effects.packages.sort();
    effects.packages.dedup();
    effects.mounts = config.mounts.iter().map(|mount| mount.fields.join(" ")).collect();
    for (list, commands) in [("bootcmd", &config.boot_commands), ("runcmd", &config.run_commands)] {
        let lines = commands.iter().map(|command| command.kind.line()).filter(|line| !line.is_empty());
        effects.commands.extend(lines.map(|line| Command { list, line }));
    }
    let run = scripts.into_iter().map(|script| Command { list: "script", line: script.path });
    effects.commands.extend(run);
    effects.units = services::units(&config, &effects.files);
    effects.settings = settings(&config);
    effects
}

/// The cloud-config that the parts of a message come to: of two keys that are the same cloud-init
/// keeps the later. Scripts are files that it runs in their order.
fn whole(parts: &[Part], scripts: &mut Vec<File>) -> Node {
    let mut entries: Vec<(Node, Node)> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        match part.kind() {
            Kind::CloudConfig => {
                let root = Document::read(&part.file).root.map(|root| root.kind);
                let Some(Value::Mapping(own)) = root else { continue };
                for (key, value) in own {
                    entries.retain(|(known, _)| known.text() != key.text());
                    entries.push((key, value));
                }
            }
            Kind::Script => {
                let name = part.name.clone().unwrap_or_else(|| format!("part-{:03}", number + 1));
                scripts.push(File {
                    path: format!("/var/lib/cloud/instance/scripts/{name}"),
                    content: part.file.text().as_bytes().to_vec(),
                    mode: 0o700,
                    owner: "root:root".to_owned(),
                    append: false,
                });
            }
            Kind::Multipart | Kind::Ignition | Kind::CloudInitOnly | Kind::Unknown => {}
        }
    }
    Node { span: Span::new(0, 0), tag: None, kind: Value::Mapping(entries) }
}

/// The files by path, what is written twice joined.
pub fn files(config: &Config<'_>) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let written =
        config.files.iter().filter(|file| !file.defer).chain(config.files.iter().filter(|file| file.defer));
    for file in written {
        let Some(path) = &file.path else { continue };
        let content = match &file.data {
            Ok(data) => data.clone(),
            Err(_) => file.content.and_then(Node::text).unwrap_or_default().as_bytes().to_vec(),
        };
        let new = File {
            path: path.value.clone(),
            content,
            mode: file.permissions.and_then(|node| mode(node, config.dialect)).unwrap_or(0o644),
            owner: file.owner.as_ref().map_or_else(|| "root:root".to_owned(), |owner| owner.value.clone()),
            append: file.append,
        };
        match files.iter_mut().find(|file| file.path == new.path) {
            Some(old) if new.append => {
                old.content.extend(new.content);
                (old.mode, old.owner) = (new.mode, new.owner);
            }
            Some(old) => *old = new,
            None => files.push(new),
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// A mode as the engine reads it: coreos-cloudinit as it was written, cloud-init as the number that
/// YAML makes of it.
pub fn mode(node: &Node, dialect: Dialect) -> Option<u32> {
    match (dialect, scalar(node)?) {
        (Dialect::CloudInit, Scalar::Integer(mode)) => u32::try_from(mode).ok(),
        (Dialect::CoreOs, Scalar::Integer(_)) | (_, Scalar::Text(_)) => {
            let text = node.text()?;
            u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok()
        }
        _ => None,
    }
}

fn users(config: &Config<'_>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    if !config.ssh_authorized_keys.is_empty() {
        let name = match config.dialect {
            Dialect::CoreOs => "core",
            Dialect::CloudInit => "default",
        };
        let keys = config.ssh_authorized_keys.iter().map(|key| key.value.trim().to_owned()).collect();
        let (groups, password, options) = (Vec::new(), None, Vec::new());
        users.push(User { name: name.to_owned(), groups, keys, password, options });
    }
    for user in &config.users {
        let Some(name) = &user.name else { continue };
        let password = user.plain.as_ref().or(user.hash.as_ref()).map(|password| password.value.clone());
        let keys = user.keys.iter().map(|key| key.value.trim().to_owned());
        match users.iter_mut().find(|known| known.name == name.value) {
            Some(known) => {
                known.keys.extend(keys);
                known.groups.extend(user.groups.iter().cloned());
                known.password = password.or(known.password.take());
                known.options.extend(user.rest.iter().cloned());
            }
            None => users.push(User {
                name: name.value.clone(),
                groups: user.groups.clone(),
                keys: keys.collect(),
                password,
                options: user.rest.clone(),
            }),
        }
    }
    for user in &mut users {
        // `sudo: false` allows as much as nothing.
        user.options.retain(|(key, value)| !(value.is_empty() || key == "sudo" && value == "false"));
        for list in [&mut user.groups, &mut user.keys] {
            list.sort();
            list.dedup();
        }
        user.options.sort();
        user.options.dedup();
    }
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users
}

fn settings(config: &Config<'_>) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for section in &config.sections {
        let own = section.name.value.replace('-', "_");
        let options = section.options.iter();
        settings.extend(options.map(|(key, value)| (format!("coreos.{own}.{key}"), value.clone())));
    }
    if let Some(swap) = &config.swap {
        settings.extend(swap.options.iter().map(|(key, value)| (format!("swap.{key}"), value.clone())));
    }
    for (name, node) in &config.rest {
        flatten(&name.value.replace('-', "_"), node, &mut settings);
    }
    if let (Some(_), Some(fqdn)) = (&config.hostname, &config.fqdn) {
        settings.push(("fqdn".to_owned(), fqdn.value.clone()));
    }
    for (name, value) in &mut settings {
        match name.as_str() {
            "growpart.mode" if value == "false" => "off".clone_into(value),
            "power_state.delay" => *value = value.trim_start_matches('+').to_owned(),
            _ => {}
        }
    }
    settings.sort();
    settings
}

/// One level of a mapping goes into the names; what is below stays one value.
fn flatten(name: &str, node: &Node, settings: &mut Vec<(String, String)>) {
    let inner = options(node);
    if node.entries().is_some() && !inner.is_empty() {
        settings.extend(inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
    } else {
        settings.push((name.to_owned(), plain(node)));
    }
}
