//! cloud-init's dialect for coreos-cloudinit: files that are units, and `systemctl` commands, become
//! units.

use super::refuse;
use super::tree::{Map, flag, text};
use crate::cloud_config::check::files::SYSTEM;
use crate::cloud_config::effects::mode;
use crate::cloud_config::finding::Report;
use crate::cloud_config::model::{Command, CommandKind, Config, File, User};
use crate::cloud_config::scalar::boolean;
use crate::cloud_config::target::{Dialect, Target};
use crate::source::Span;
use crate::unit::UnitName;
use crate::yaml::Node;

const FOLDER: &str = "/etc/systemd/system/";

/// Groups that Container Linux and Flatcar have, besides those that all systems have.
const IMAGE: [&str; 2] = ["docker", "core"];

/// Where cloud-init writes what `sudo` asks for.
const SUDOERS: &str = "/etc/sudoers.d/90-cloud-init-users";

/// A unit that is being collected.
#[derive(Default)]
struct Unit {
    name: String,
    mask: bool,
    enable: bool,
    content: Option<String>,
    command: Option<String>,
    drop_ins: Vec<(String, String)>,
}

/// The tree for coreos-cloudinit. What can't be translated goes to `report`.
pub fn tree(config: &Config<'_>, target: Target, report: &mut Report<'_>) -> Node {
    without_counterpart(config, target, report);
    let mut root = Map::default();
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    match (&config.hostname, &config.fqdn) {
        (Some(_), Some(fqdn)) => {
            refuse(
                report,
                target,
                fqdn.span,
                "coreos-cloudinit has nothing like `fqdn`",
                "write it into /etc/hosts",
            );
        }
        (Some(name), None) => root.put("hostname", text(&name.value)),
        (None, Some(fqdn)) => root.put("hostname", text(short(&fqdn.value))),
        (None, None) => {}
    }
    for (key, value) in &config.rest {
        if key.value.replace('-', "_") == "manage_etc_hosts" && value.text() == Some("localhost") {
            root.put("manage_etc_hosts", text("localhost"));
        }
    }
    root.put_list(
        "ssh_authorized_keys",
        config.ssh_authorized_keys.iter().map(|key| text(key.value.trim())).collect(),
    );
    let mut rules = String::new();
    let mut users = Vec::new();
    for user in &config.users {
        users.push(self::user(user, target, report));
        if let Some(name) = &user.name {
            rules.extend(user.sudo.iter().map(|rule| format!("{} {rule}\n", name.value)));
        }
    }
    root.put_list("users", users);
    let mut units: Vec<Unit> = Vec::new();
    let mut files = Vec::new();
    for file in &config.files {
        match unit_of(config, file) {
            Some((unit, None, content)) => named(&mut units, unit).content = Some(content.to_owned()),
            Some((unit, Some(name), content)) => {
                named(&mut units, unit).drop_ins.push((name.to_owned(), content.to_owned()));
            }
            None => files.push(self::file(file, target, report)),
        }
    }
    if !rules.is_empty() {
        let mut file = Map::default();
        file.put("path", text(SUDOERS));
        file.put("permissions", text("0440"));
        file.put("content", text(rules));
        files.push(file.node());
    }
    root.put_list("write_files", files);
    for command in &config.run_commands {
        run(command, &mut units, target, report);
    }
    let mut coreos = Map::default();
    coreos.put_list("units", units.into_iter().map(unit).collect());
    if !coreos.is_empty() {
        root.put("coreos", coreos.node());
    }
    root.node()
}

/// Modules that coreos-cloudinit has nothing like.
fn without_counterpart(config: &Config<'_>, target: Target, report: &mut Report<'_>) {
    let mut no = |span: Span, name: &str, help: &str| {
        refuse(report, target, span, format!("coreos-cloudinit has nothing like `{name}`"), help);
    };
    let oneshot = "write a unit with `Type=oneshot` instead";
    if let Some(command) = config.boot_commands.first() {
        no(command.span, "bootcmd", oneshot);
    }
    if let Some(package) = config.packages.first() {
        no(package.span, "packages", "run it as a container, or put it into the image");
    }
    if let Some((group, _)) = config.groups.first() {
        no(group.span, "groups", oneshot);
    }
    if let Some(mount) = config.mounts.first() {
        no(mount.span, "mounts", "write a unit that mounts it");
    }
    if let Some(swap) = &config.swap {
        no(swap.span, "swap", oneshot);
    }
    for (name, value) in &config.rest {
        let key = name.value.replace('-', "_");
        let is_off =
            boolean(value) == Some(false) && (key == "manage_etc_hosts" || key.starts_with("package_"));
        let localhost = key == "manage_etc_hosts" && value.text() == Some("localhost");
        if !is_off && !localhost {
            no(name.span, &name.value, if key == "manage_etc_hosts" { "write `localhost`" } else { "" });
        }
    }
}

/// The unit and the drop-in that a file is, with its text, if nothing else is written to it.
fn unit_of<'f>(config: &'f Config<'_>, file: &'f File<'_>) -> Option<(&'f str, Option<&'f str>, &'f str)> {
    let path = file.path.as_ref()?;
    let mode = file.permissions.map_or(Some(0o644), |node| mode(node, Dialect::CloudInit));
    let owner = file.owner.as_ref().map_or("", |owner| owner.value.as_str());
    let once =
        config.files.iter().filter(|other| other.path.as_ref().is_some_and(|own| own.value == path.value));
    if mode != Some(0o644) || !matches!(owner, "" | "root" | "root:root") || file.append || once.count() > 1 {
        return None;
    }
    let text = std::str::from_utf8(file.data.as_ref().ok()?).ok().filter(|text| !text.trim().is_empty())?;
    let rest = path.value.strip_prefix(FOLDER)?;
    let (unit, drop_in) = match rest.split_once('/') {
        None => (rest, None),
        Some((folder, name)) => (folder.strip_suffix(".d")?, Some(name)),
    };
    let named = UnitName::parse(unit).is_ok_and(|name| !name.kind().is_network())
        && drop_in.is_none_or(|name| name.ends_with(".conf") && !name.contains('/'));
    named.then_some((unit, drop_in, text))
}

fn named<'u>(units: &'u mut Vec<Unit>, name: &str) -> &'u mut Unit {
    let at = units.iter().position(|unit| unit.name == name).unwrap_or_else(|| {
        units.push(Unit { name: name.to_owned(), ..Unit::default() });
        units.len() - 1
    });
    &mut units[at]
}

fn unit(unit: Unit) -> Node {
    let mut out = Map::default();
    out.put("name", text(unit.name));
    out.put_flag("mask", unit.mask);
    out.put_flag("enable", unit.enable);
    if let Some(content) = unit.content {
        out.put("content", text(content));
    }
    let drop_ins = unit.drop_ins.into_iter().map(|(name, content)| {
        let mut drop_in = Map::default();
        drop_in.put("name", text(name));
        drop_in.put("content", text(content));
        drop_in.node()
    });
    out.put_list("drop_ins", drop_ins.collect());
    if let Some(command) = unit.command {
        out.put("command", text(command));
    }
    out.node()
}

/// A command, if it is one of `systemctl` that a unit can say.
fn run(command: &Command, units: &mut Vec<Unit>, target: Target, report: &mut Report<'_>) {
    let words: Vec<&str> = match &command.kind {
        CommandKind::Words(words) => words.iter().map(String::as_str).collect(),
        // What a shell would make more of than words is no plain command.
        CommandKind::Shell(line)
            if line.chars().all(|c| c.is_ascii_alphanumeric() || " @._:/-".contains(c)) =>
        {
            line.split_whitespace().collect()
        }
        CommandKind::Other => return,
        CommandKind::Shell(_) | CommandKind::Mapping(..) => Vec::new(),
    };
    if let Err(why) = systemctl(&words, units) {
        refuse(report, target, command.span, why, "write a unit with `Type=oneshot` instead");
    }
}

fn systemctl(words: &[&str], units: &mut Vec<Unit>) -> Result<(), String> {
    let no = || Err("coreos-cloudinit runs no commands but those of a unit".to_owned());
    let Some((program, words)) = words.split_first() else { return no() };
    if !matches!(*program, "systemctl" | "/bin/systemctl" | "/usr/bin/systemctl") {
        return no();
    }
    let (options, plain): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with('-'));
    let Some((verb, names)) = plain.split_first() else { return no() };
    let now = options.contains(&"--now");
    if options.iter().any(|option| !matches!(*option, "--now" | "--no-block" | "--quiet" | "-q")) {
        return no();
    }
    if *verb == "daemon-reload" && names.is_empty() && !now {
        return Ok(());
    }
    for name in names {
        let name = if name.contains('.') { (*name).to_owned() } else { format!("{name}.service") };
        let unit = named(units, &name);
        let command = match (*verb, now) {
            ("mask", false) => {
                unit.mask = true;
                continue;
            }
            ("enable", _) => {
                unit.enable = true;
                if !now {
                    continue;
                }
                "start"
            }
            ("start" | "stop" | "restart" | "reload" | "try-restart" | "reload-or-restart", false) => verb,
            _ => return no(),
        };
        match &unit.command {
            Some(known) if known != command => {
                return Err(format!("`{name}` gets two commands, and coreos-cloudinit takes one"));
            }
            _ => unit.command = Some(command.to_owned()),
        }
    }
    if names.is_empty() { no() } else { Ok(()) }
}

fn file(file: &File<'_>, target: Target, report: &mut Report<'_>) -> Node {
    let mut out = Map::default();
    if let Some(path) = &file.path {
        out.put("path", text(&path.value));
    }
    if let Some(owner) = file.owner.as_ref().filter(|owner| !owner.value.is_empty()) {
        out.put("owner", text(&owner.value));
    }
    if let Some(mode) = file.permissions.and_then(|node| mode(node, Dialect::CloudInit)) {
        out.put("permissions", text(format!("{mode:04o}")));
    }
    if file.append {
        refuse(report, target, file.span, "coreos-cloudinit writes files whole and adds to none", "");
    }
    super::content(file, &mut out);
    out.node()
}

fn user(user: &User, target: Target, report: &mut Report<'_>) -> Node {
    let mut no = |span: Span, message: String, help: &str| refuse(report, target, span, message, help);
    let mut out = Map::default();
    let name = user.name.as_ref().map_or("", |name| name.value.as_str());
    out.put("name", text(name));
    let locked = user.rest.iter().all(|(key, value)| key != "lock_passwd" || value != "false");
    if let Some(hash) = &user.hash {
        // As `usermod --lock` does, which cloud-init runs unless told otherwise.
        let lock = if locked && !hash.value.starts_with('!') { "!" } else { "" };
        out.put("passwd", text(format!("{lock}{}", hash.value)));
    }
    if let Some(plain) = &user.plain {
        let message = format!("the password of `{name}` is in clear, and coreos-cloudinit takes a hash only");
        no(plain.span, message, "`mkpasswd --method=sha-512` makes one for `passwd`");
    }
    for group in user
        .groups
        .iter()
        .filter(|group| !SYSTEM.contains(&group.as_str()) && !IMAGE.contains(&group.as_str()))
    {
        let message = format!("coreos-cloudinit makes no group, and the image has no `{group}`");
        no(user.span, message, "");
    }
    if let Some(group) = &user.primary_group {
        out.put("primary_group", text(group));
    }
    let groups = user.groups.iter().skip(usize::from(user.primary_group.is_some()));
    out.put_list("groups", groups.map(text).collect());
    for (key, value) in &user.rest {
        match key.as_str() {
            "sudo" | "lock_passwd" | "create_groups" => {}
            _ if value.is_empty() || value == "false" || value == "[]" => {}
            "gecos" | "homedir" | "shell" => out.put(key, text(value)),
            "no_create_home" | "no_user_group" | "no_log_init" | "system" => out.put(key, flag(true)),
            _ => no(user.span, format!("coreos-cloudinit has nothing like `{key}` of a user"), ""),
        }
    }
    out.put_list("ssh_authorized_keys", user.keys.iter().map(|key| text(key.value.trim())).collect());
    out.node()
}
