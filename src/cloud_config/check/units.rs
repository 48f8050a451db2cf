//! `coreos.units`, and files that are units.

use std::collections::HashSet;

use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::{Config, Spanned, Unit};
use crate::cloud_config::target::Target;
use crate::unit::{self, Kind};

/// Services that documents start and that no image has any more.
const GONE: [(&str, &str); 3] = [
    ("etcd.service", "etcd-member.service"),
    ("etcd2.service", "etcd-member.service"),
    ("fleet.service", ""),
];

/// Where files are units.
const FOLDERS: [&str; 4] =
    ["/etc/systemd/system/", "/run/systemd/system/", "/etc/systemd/network/", "/run/systemd/network/"];

/// The targets that units of the model are written for.
pub const UNITS: [Target; 3] = [Target::CoreosLegacy, Target::Flatcar, Target::Ignition3_3];

/// Where a mount unit of that name is mounted: `var-lib-docker.mount` on `/var/lib/docker`.
pub fn mount_point(name: &str) -> Option<String> {
    name.strip_suffix(".mount").map(unit::unescape_path)
}

/// The kind of unit that a name says.
pub fn kind(name: &str) -> Option<Kind> {
    Kind::of_suffix(suffix(name))
}

/// Checks every unit.
pub fn check(config: &Config<'_>, report: &mut Report<'_>) {
    let mut seen: HashSet<&str> = HashSet::new();
    let brought = brought(config);
    for unit in &config.units {
        let Some(name) = unit.name.as_ref().filter(|name| !name.value.is_empty()) else {
            let finding = Finding::error("missing-key", unit.span, "the unit has no `name`");
            report.add(&UNITS, finding);
            continue;
        };
        if !seen.insert(&name.value) {
            let message = format!("the unit `{}` is given twice", name.value);
            report.add(&UNITS, Finding::warning("duplicate-entry", name.span, message));
        }
        if self::name(name, report) {
            purpose(unit, name, report);
        }
        if is_absent(unit, &name.value, &brought) {
            let message = format!("nothing here makes a unit `{}`, and most images have none", name.value);
            let finding = Finding::warning("unit-not-in-image", name.span, message);
            report
                .add(&Target::COREOS, finding.help("write its `content`, or the name of one that is there"));
        }
        drop_ins(unit, name, report);
    }
}

fn suffix(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, suffix)| suffix)
}

/// Whether the name is that of a unit.
fn name(name: &Spanned<String>, report: &mut Report<'_>) -> bool {
    let error = |message: String| Finding::error("bad-unit-name", name.span, message);
    let own = suffix(&name.value);
    let finding = if kind(&name.value).is_none() {
        let finding =
            error(format!("`{}` is not the name of a unit: it ends in none of their types", name.value));
        match report.suggest(own, Kind::all_suffixes()) {
            Some(near) => finding.label(format!("did you mean `.{near}`?")),
            None if own.is_empty() => finding.label(format!("write `{}.service`", name.value)),
            None => finding,
        }
    } else if name.value.len() > 255 {
        error("the name of a unit has 255 characters at most".to_owned())
    } else if let Some(bad) =
        name.value.chars().find(|c| !c.is_ascii_alphanumeric() && !":_.\\-@".contains(*c))
    {
        error(format!("the name of a unit has no `{bad}`"))
    } else if name.value.starts_with(['.', '@']) {
        error("nothing stands before the type".to_owned())
    } else {
        return true;
    };
    report.add(&UNITS, finding.help("systemd never reads it"));
    false
}

/// The units that the document has the text of.
fn brought<'c>(config: &'c Config<'_>) -> HashSet<&'c str> {
    let with_content = config.units.iter().filter(|unit| unit.content.is_some());
    let names = with_content.filter_map(|unit| unit.name.as_ref()).map(|name| name.value.as_str());
    let paths = config.files.iter().filter_map(|file| file.path.as_ref());
    names.chain(paths.filter_map(|path| unit_of_file(&path.value))).collect()
}

/// Whether something is to be done with a unit that is not there, as far as can be told.
fn is_absent(unit: &Unit, name: &str, brought: &HashSet<&str>) -> bool {
    let commanded = unit.command.as_ref().is_some_and(|command| command.value != "stop");
    let gone = GONE.iter().any(|(gone, _)| *gone == name);
    let Ok(name) = unit::UnitName::parse(name) else { return false };
    let template = name.template();
    let mut names = [Some(name.as_str()), template.as_deref()].into_iter().flatten();
    (commanded || unit.enable.is_some())
        && !gone
        && !name.kind().is_network()
        && !names.any(|name| unit::is_well_known(name) || brought.contains(name))
}

fn purpose(unit: &Unit, name: &Spanned<String>, report: &mut Report<'_>) {
    if kind(&name.value).is_some_and(Kind::is_network) {
        let command = unit.command.as_ref().map(|command| ("command", command.span));
        let enable = unit.enable.as_ref().map(|enable| ("enable", enable.span));
        for (key, span) in command.into_iter().chain(enable) {
            let message = format!("`{key}` has no effect on `{}`, a file of networkd", name.value);
            let finding = Finding::warning("useless-key", span, message);
            report.add(&Target::COREOS, finding.help("networkd is restarted by itself; remove the key"));
        }
        return;
    }
    if let Some(command) = unit.command.as_ref().filter(|_| unit.mask) {
        let message = format!("`{}` is masked, so that `{}` fails", name.value, command.value);
        let finding = Finding::error("command-on-masked-unit", command.span, message);
        let help = "coreos-cloudinit stops at the first command that fails";
        report.add(
            &Target::COREOS,
            match command.value.as_str() {
                // A masked unit can be stopped.
                "stop" => return,
                _ => finding.help(help),
            },
        );
    }
    if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == name.value && unit.content.is_none())
        && let Some(command) = &unit.command
        && command.value != "stop"
    {
        let message = format!("no image has a `{}` any more, so that `{}` fails", name.value, command.value);
        let finding = Finding::error("unit-not-in-image", command.span, message);
        let finding = match *instead {
            "" => finding,
            instead => finding.help(format!("Flatcar has `{instead}`")),
        };
        report.add(&[Target::Flatcar], finding);
    }
    if let (Some(enable), Some(content)) = (&unit.enable, &unit.content)
        && !content.value.lines().any(|line| line.trim() == "[Install]")
    {
        let message = format!("`{}` can't be enabled: it has no section [Install]", name.value);
        let finding = Finding::error("not-installable", enable.span, message);
        let help = "systemd reports no error and starts nothing at boot";
        report.add(&UNITS, finding.help(help));
    }
    let does_something = unit.mask
        || unit.content.is_some()
        || unit.command.is_some()
        || unit.enable.is_some()
        || !unit.drop_ins.is_empty();
    if !does_something {
        let message = format!("nothing is done with `{}`", name.value);
        report.add(&UNITS, Finding::warning("useless-key", name.span, message));
    }
}

fn drop_ins(unit: &Unit, owner: &Spanned<String>, report: &mut Report<'_>) {
    for drop_in in &unit.drop_ins {
        let Some(name) = drop_in.name.as_ref().filter(|name| !name.value.is_empty()) else {
            let message = format!("a drop-in of `{}` has no `name`", owner.value);
            report.add(&UNITS, Finding::error("missing-key", drop_in.span, message));
            continue;
        };
        drop_in_name(name, &UNITS, report);
    }
}

fn drop_in_name(name: &Spanned<String>, targets: &[Target], report: &mut Report<'_>) {
    if !name.value.ends_with(".conf") || name.value.contains('/') {
        let message = format!("`{}` is not the name of a drop-in: it must end in .conf", name.value);
        let finding = Finding::error("bad-unit-name", name.span, message);
        let finding = finding.label(format!("write `{}.conf`", name.value.trim_end_matches(".config")));
        report.add(targets, finding.help("systemd never reads it"));
    }
}

/// The name of the unit, or of the drop-in with its folder, that a file of that path is.
pub fn unit_of_file(path: &str) -> Option<&str> {
    let rest = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder))?;
    match rest.split_once('/') {
        None => Some(rest),
        // A link in `multi-user.target.wants`, or something else, is none.
        Some((folder, _)) => {
            folder.strip_suffix(".d").and_then(kind).filter(|kind| !kind.is_network()).map(|_| rest)
        }
    }
}

/// Checks the name of a file of `write_files` that is a drop-in.
pub fn file(path: &Spanned<String>, report: &mut Report<'_>) {
    if let Some((_, name)) = unit_of_file(&path.value).and_then(|unit| unit.split_once('/')) {
        let name = Spanned { value: name.to_owned(), span: path.span };
        drop_in_name(&name, &Target::ALL, report);
    }
}
