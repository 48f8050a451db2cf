//! The CoreOS dialect for cloud-init: units become files and `systemctl` commands.

use std::collections::HashSet;

use super::refuse;
use super::tree::{Map, flag, list, text, texts};
use crate::cloud_config::effects::mode;
use crate::cloud_config::finding::Report;
use crate::cloud_config::model::{Config, File, Unit, User};
use crate::cloud_config::target::{Dialect, Target};
use crate::unit::UnitName;
use crate::yaml::Node;

/// The tree for cloud-init. What can't be translated goes to `report`.
pub fn tree(config: &Config<'_>, target: Target, report: &mut Report<'_>) -> Node {
    for section in &config.sections {
        let message = format!(
            "`coreos.{}` sets up a program that machines with cloud-init do not have",
            section.name.value
        );
        refuse(report, target, section.name.span, message, "write the files that its successor reads");
    }
    let mut root = Map::default();
    if let Some(name) = &config.hostname {
        root.put("hostname", text(&name.value));
    }
    for (key, value) in &config.rest {
        if key.value.replace('-', "_") == "manage_etc_hosts" {
            root.put("manage_etc_hosts", text(value.text().unwrap_or_default()));
        }
    }
    root.put_list(
        "ssh_authorized_keys",
        config.ssh_authorized_keys.iter().map(|key| text(key.value.trim())).collect(),
    );
    if !config.users.is_empty() {
        // The image's own user stays, as `core` does.
        let users = config.users.iter().map(|user| self::user(user, target, report));
        let users: Vec<Node> = users.collect();
        root.put("users", list(std::iter::once(text("default")).chain(users)));
    }
    let mut files: Vec<Node> = config.files.iter().map(|file| self::file(config, file)).collect();
    let mut commands: Vec<Vec<&str>> = Vec::new();
    let (mut network, mut reload) = (false, false);
    let masked: HashSet<&str> = config.units.iter().filter(|unit| unit.mask).filter_map(name).collect();
    for unit in &config.units {
        let Some(own) = name(unit) else { continue };
        let is_network = UnitName::parse(own).is_ok_and(|name| name.kind().is_network());
        // coreos-cloudinit puts a link to /dev/null in the place of the file.
        let written = if masked.contains(own) { Vec::new() } else { unit_files(unit, own, is_network) };
        let any = !written.is_empty();
        files.extend(written);
        network |= is_network && any;
        reload |= !is_network && any;
        if is_network && unit.mask {
            let message =
                format!("`{own}` is masked, which networkd's files are by a link that cloud-init can't make");
            refuse(report, target, unit.span, message, "write an empty file of that name");
        }
    }
    if reload {
        commands.push(vec!["systemctl", "daemon-reload"]);
    }
    // All are masked before any is enabled, and all enabled before any is started.
    let services: Vec<(&Unit, &str)> = config
        .units
        .iter()
        .filter_map(|unit| Some((unit, name(unit)?)))
        .filter(|(_, name)| !UnitName::parse(name).is_ok_and(|name| name.kind().is_network()))
        .collect();
    commands.extend(
        services.iter().filter(|(unit, _)| unit.mask).map(|(_, name)| vec!["systemctl", "mask", name]),
    );
    let enabled = services.iter().filter(|(unit, _)| unit.enable.is_some());
    commands.extend(enabled.map(|(_, name)| vec!["systemctl", "enable", name]));
    if network {
        commands.push(vec!["systemctl", "restart", "systemd-networkd.service"]);
    }
    for (unit, name) in &services {
        if let Some(command) = &unit.command {
            // Nothing that runs before cloud-init is done may wait for it to be done.
            commands.push(vec!["systemctl", "--no-block", &command.value, name]);
        }
    }
    root.put_list("write_files", files);
    root.put_list("runcmd", commands.into_iter().map(texts).collect());
    root.node()
}

fn name(unit: &Unit) -> Option<&str> {
    unit.name.as_ref().map(|name| name.value.as_str())
}

fn unit_files(unit: &Unit, name: &str, is_network: bool) -> Vec<Node> {
    let top = if unit.runtime { "/run" } else { "/etc" };
    let folder = if is_network { "network" } else { "system" };
    let path = format!("{top}/systemd/{folder}/{name}");
    let file = |path: &str, content: &str| {
        let mut file = Map::default();
        file.put("path", text(path));
        file.put("permissions", text("0644"));
        file.put("content", text(content));
        file.node()
    };
    let mut files = Vec::new();
    if let Some(content) = &unit.content {
        files.push(file(&path, &content.value));
    }
    for drop_in in &unit.drop_ins {
        let Some(name) = &drop_in.name else { continue };
        let content = drop_in.content.as_ref().map_or("", |content| content.value.as_str());
        files.push(file(&format!("{path}.d/{}", name.value), content));
    }
    files
}

fn file(config: &Config<'_>, file: &File<'_>) -> Node {
    let mut out = Map::default();
    if let Some(path) = &file.path {
        out.put("path", text(&path.value));
    }
    let owner = file.owner.as_ref().map(|owner| owner.value.as_str()).filter(|owner| !owner.is_empty());
    if let Some(owner) = owner {
        out.put("owner", text(owner));
    }
    if let Some(mode) = file.permissions.and_then(|node| mode(node, Dialect::CoreOs)) {
        out.put("permissions", text(format!("{mode:04o}")));
    }
    super::content(file, &mut out);
    // cloud-init makes users after files, coreos-cloudinit before.
    let users = config.users.iter().filter_map(|user| user.name.as_ref());
    let made: Vec<&str> = users.map(|name| name.value.as_str()).collect();
    if owner.is_some_and(|owner| owner.split(':').any(|name| made.contains(&name))) {
        out.put("defer", flag(true));
    }
    out.node()
}

fn user(user: &User, target: Target, report: &mut Report<'_>) -> Node {
    let mut out = Map::default();
    if let Some(name) = &user.name {
        out.put("name", text(&name.value));
    }
    if let Some(hash) = &user.hash {
        out.put("passwd", text(&hash.value));
        // cloud-init locks it unless told otherwise.
        out.put("lock_passwd", flag(false));
    }
    if let Some(group) = &user.primary_group {
        out.put("primary_group", text(group));
    }
    let groups = user.groups.iter().skip(usize::from(user.primary_group.is_some()));
    let groups: Vec<Node> = groups.map(text).collect();
    out.put_list("groups", groups);
    for (key, value) in &user.rest {
        match key.as_str() {
            "gecos" | "homedir" | "shell" if !value.is_empty() => out.put(key, text(value)),
            "no_create_home" | "no_user_group" | "no_log_init" | "system" => {
                out.put_flag(key, value == "true")
            }
            _ if value.is_empty() => {}
            "gecos" | "homedir" | "shell" => {}
            _ => {
                let message = format!("cloud-init has nothing like `{key}`");
                refuse(report, target, user.span, message, "write the keys down");
            }
        }
    }
    out.put_list("ssh_authorized_keys", user.keys.iter().map(|key| text(key.value.trim())).collect());
    out.node()
}
