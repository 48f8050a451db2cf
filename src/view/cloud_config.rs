//! What user data does, and what changes of it, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cloud_config::{Change, Effects, File, Unit, User, redacted, shown_setting};

/// Version of the JSON documents, raised when a field changes its meaning.
const VERSION: u32 = 1;

/// What a machine would have, section by section.
pub fn effects(effects: &Effects) -> String {
    let mut out = String::new();
    if let Some(script) = &effects.script {
        let _ = writeln!(out, "user data of {} bytes that is no cloud-config", script.len());
        return out;
    }
    if let Some(hostname) = &effects.hostname {
        let _ = writeln!(out, "hostname {hostname}");
    }
    section(&mut out, "users", effects.users.iter().map(user));
    section(
        &mut out,
        "groups",
        effects.groups.iter().map(|(name, members)| spaced(name, &members.join(", "))),
    );
    section(&mut out, "packages", effects.packages.iter().cloned());
    section(&mut out, "mounts", effects.mounts.iter().cloned());
    let width = effects.files.iter().map(|file| file.path.chars().count()).max().unwrap_or(0);
    section(&mut out, "files", effects.files.iter().map(|file| self::file(file, width)));
    section(&mut out, "units", effects.units.iter().map(unit));
    let commands = effects.commands.iter().map(|command| {
        let line = redacted(&command.line);
        let mut lines = line.lines();
        let first = lines.next().unwrap_or_default();
        let more = lines.count();
        let rest = if more == 0 { String::new() } else { format!(" (and {more} more lines)") };
        format!("{} {first}{rest}", command.list)
    });
    section(&mut out, "commands", commands);
    let settings = effects.settings.iter().map(|(name, value)| spaced(name, &shown_setting(name, value)));
    section(&mut out, "settings", settings);
    if out.is_empty() { "nothing\n".to_owned() } else { out }
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            let _ = writeln!(out, "{title}");
        }
        let _ = writeln!(out, "  {line}");
    }
}

fn spaced(name: &str, rest: &str) -> String {
    if rest.is_empty() { name.to_owned() } else { format!("{name}  {rest}") }
}

fn file(file: &File, width: usize) -> String {
    let append = if file.append { "  appended" } else { "" };
    let (path, mode, size) = (&file.path, file.mode, file.content.len());
    format!("{path:<width$}  {mode:04o}  {}  {size} bytes{append}", file.owner)
}

fn unit(unit: &Unit) -> String {
    let flags = [(unit.enabled, "enabled"), (unit.masked, "masked"), (unit.runtime, "runtime")];
    let mut facts: Vec<String> =
        flags.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned()).collect();
    facts.extend(unit.commands.iter().cloned());
    facts.extend(unit.drop_ins.iter().map(|(name, _)| format!("drop-in {name}")));
    spaced(&unit.name, &facts.join(", "))
}

fn user(user: &User) -> String {
    let mut facts = Vec::new();
    if !user.groups.is_empty() {
        facts.push(format!("groups {}", user.groups.join(", ")));
    }
    match user.keys.len() {
        0 => {}
        1 => facts.push("1 key".to_owned()),
        number => facts.push(format!("{number} keys")),
    }
    if user.password.is_some() {
        facts.push("a password".to_owned());
    }
    facts.extend(user.options.iter().map(|(key, value)| format!("{key} {value}")));
    spaced(&user.name, &facts.join("; "))
}

/// What a machine would have, as JSON. Passwords are only said to be there.
pub fn effects_json(effects: &Effects) -> Value {
    let files = effects.files.iter().map(|file| {
        json!({
            "path": file.path,
            "size": file.content.len(),
            "mode": format!("{:04o}", file.mode),
            "owner": file.owner,
            "append": file.append,
        })
    });
    let units = effects.units.iter().map(|unit| {
        json!({
            "name": unit.name,
            "enabled": unit.enabled,
            "masked": unit.masked,
            "runtime": unit.runtime,
            "commands": unit.commands,
            "drop_ins": unit.drop_ins.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })
    });
    let users = effects.users.iter().map(|user| {
        json!({
            "name": user.name,
            "groups": user.groups,
            "keys": user.keys,
            "password": user.password.is_some(),
        })
    });
    let commands = effects
        .commands
        .iter()
        .map(|command| json!({ "list": command.list, "line": redacted(&command.line) }));
    let settings = effects.settings.iter();
    let settings = settings.map(|(name, value)| (name.clone(), Value::from(shown_setting(name, value))));
    json!({
        "version": VERSION,
        "cloud_config": effects.script.is_none(),
        "hostname": effects.hostname,
        "files": files.collect::<Vec<_>>(),
        "units": units.collect::<Vec<_>>(),
        "users": users.collect::<Vec<_>>(),
        "groups": effects.groups.iter().map(|(name, members)| json!({ "name": name, "members": members })).collect::<Vec<_>>(),
        "packages": effects.packages,
        "mounts": effects.mounts,
        "commands": commands.collect::<Vec<_>>(),
        "settings": settings.collect::<serde_json::Map<_, _>>(),
    })
}

/// What changes, each with the machines it reaches.
pub fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no difference: both do the same\n".to_owned();
    }
    let mut out = String::new();
    for change in changes {
        let sign = match change.kind.word() {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let _ = write!(out, "{sign} {}", change.what.word());
        if !change.name.is_empty() {
            let _ = write!(out, " {}", change.name.replace('\n', "\\n"));
        }
        let _ = writeln!(out, " {}", change.kind.word());
        for detail in &change.details {
            let _ = writeln!(out, "    {detail}");
        }
        let _ = writeln!(out, "    {}", change.reach);
        for line in change.diff.iter().flat_map(|diff| diff.lines()) {
            let _ = writeln!(out, "      {line}");
        }
    }
    let rolls = changes.iter().filter(|change| change.reach.needs_roll()).count();
    let unit = if changes.len() == 1 { "change" } else { "changes" };
    let _ = writeln!(out, "{} {unit}, {rolls} of them by a roll only", changes.len());
    out
}

/// What changes, as JSON.
pub fn changes_json(changes: &[Change]) -> Value {
    let list = changes.iter().map(|change| {
        json!({
            "what": change.what.word(),
            "name": change.name,
            "kind": change.kind.word(),
            "details": change.details,
            "diff": change.diff,
            "reach": change.reach.word(),
            "needs_roll": change.reach.needs_roll(),
        })
    });
    json!({ "version": VERSION, "changes": list.collect::<Vec<_>>() })
}
