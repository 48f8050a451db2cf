//! The units that a document makes, enables and starts.

use super::{File, Unit};
use crate::cloud_config::model::{CommandKind, Config};

/// Where a file is a unit.
const FOLDER: &str = "/etc/systemd/system/";

/// The units of `coreos.units`, of files and of `systemctl` commands, by name.
pub fn units(config: &Config<'_>, files: &[File]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    for unit in &config.units {
        let Some(name) = &unit.name else { continue };
        let own = named(&mut units, &name.value);
        own.enabled |= unit.enable.is_some();
        own.masked |= unit.mask;
        own.runtime |= unit.runtime;
        own.commands.extend(unit.command.iter().map(|command| command.value.clone()));
        if let Some(content) = &unit.content {
            own.content = Some(content.value.clone());
        }
        for drop_in in &unit.drop_ins {
            let Some(name) = &drop_in.name else { continue };
            let content = drop_in.content.as_ref().map(|content| content.value.clone()).unwrap_or_default();
            own.drop_ins.retain(|(known, _)| *known != name.value);
            own.drop_ins.push((name.value.clone(), Some(content)));
        }
    }
    for file in files {
        let Some(rest) = file.path.strip_prefix(FOLDER) else { continue };
        match rest.split_once('/') {
            None if rest.contains('.') => {
                named(&mut units, rest);
            }
            Some((folder, name)) => {
                if let Some(unit) = folder.strip_suffix(".d") {
                    named(&mut units, unit).drop_ins.push((name.to_owned(), None));
                }
            }
            None => {}
        }
    }
    for command in config.boot_commands.iter().chain(&config.run_commands) {
        match &command.kind {
            CommandKind::Words(words) => systemctl(words.iter().map(String::as_str), &mut units),
            CommandKind::Shell(line) => systemctl(line.split_whitespace(), &mut units),
            CommandKind::Mapping(..) | CommandKind::Other => {}
        }
    }
    for unit in &mut units {
        unit.drop_ins.sort();
    }
    units.sort_by(|a, b| a.name.cmp(&b.name));
    units
}

fn named<'u>(units: &'u mut Vec<Unit>, name: &str) -> &'u mut Unit {
    let at = units.iter().position(|unit| unit.name == name).unwrap_or_else(|| {
        units.push(Unit { name: name.to_owned(), ..Unit::default() });
        units.len() - 1
    });
    &mut units[at]
}

/// What a `systemctl` command does to units. A line of a shell that does more than one thing is
/// not taken apart.
fn systemctl<'w>(mut words: impl Iterator<Item = &'w str>, units: &mut Vec<Unit>) {
    if words.next().is_none_or(|program| program.rsplit('/').next() != Some("systemctl")) {
        return;
    }
    let words: Vec<&str> = words.collect();
    if words.iter().any(|word| word.contains([';', '|', '&', '$', '>', '`'])) {
        return;
    }
    let now = words.contains(&"--now");
    let mut plain = words.into_iter().filter(|word| !word.starts_with('-'));
    let Some(verb) = plain.next() else { return };
    for name in plain {
        let name = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
        match verb {
            "enable" | "reenable" => named(units, &name).enabled = true,
            "disable" => named(units, &name).enabled = false,
            "mask" => named(units, &name).masked = true,
            "unmask" => named(units, &name).masked = false,
            "start" | "stop" | "restart" | "reload" | "try-restart" | "reload-or-restart" => {
                named(units, &name).commands.push(verb.to_owned());
            }
            _ => return,
        }
        if now && verb == "enable" {
            named(units, &name).commands.push("start".to_owned());
        }
    }
}
