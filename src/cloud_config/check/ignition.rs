//! What Ignition has no counterpart for.
//!
//! Ignition runs once, before there is a system that could run programs: it partitions, writes
//! files and units, and makes users. So everything that runs later is refused, with a reason.

use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::Config;
use crate::cloud_config::target::Target;
use crate::yaml::Node;

const TARGETS: [Target; 1] = [Target::Ignition3_3];

/// Keys of the root that are translated, besides those that the model holds.
const TRANSLATED: [&str; 4] = ["disk_setup", "fs_setup", "device_aliases", "manage_etc_hosts"];

/// Sections of `coreos` that are translated.
const SECTIONS: [&str; 3] = ["flannel", "locksmith", "update"];

/// Refuses what can't be translated.
pub fn check(config: &Config<'_>, report: &mut Report<'_>) {
    if !report.wants(&TARGETS) {
        return;
    }
    let oneshot = "write a unit with `Type=oneshot` instead, and say what it comes after";
    let mut refuse = |span, name: &str, why: &str, help: &str| {
        let message = format!("Ignition has nothing like `{name}`: {why}");
        let finding = Finding::error("not-in-ignition", span, message);
        report.add(&TARGETS, if help.is_empty() { finding } else { finding.help(help) });
    };
    for (name, commands) in [("bootcmd", &config.boot_commands), ("runcmd", &config.run_commands)] {
        if let Some(command) = commands.first() {
            refuse(command.span, name, "it runs no commands", oneshot);
        }
    }
    if let Some(package) = config.packages.first() {
        let help = "run it as a container, put it into the image, or install it from a unit";
        refuse(package.span, "packages", "it installs nothing, and /usr is read-only", help);
    }
    if let Some(swap) = &config.swap {
        refuse(swap.span, "swap", "it makes no swap file", oneshot);
    }
    for (name, node) in &config.rest {
        if !TRANSLATED.contains(&name.value.replace('-', "_").as_str()) {
            let help = if node_is_empty(node) { "" } else { oneshot };
            refuse(name.span, &name.value, "it only writes files, units and users, and makes disks", help);
        }
    }
    for section in &config.sections {
        let name = &section.name;
        if !SECTIONS.contains(&name.value.as_str()) {
            refuse(name.span, &format!("coreos.{}", name.value), "no image that has it reads this", "");
        }
    }
    for unit in &config.units {
        if let Some(command) = unit.command.as_ref().filter(|command| command.value != "start") {
            let why = "a unit can be enabled, and so be started at boot, and nothing else";
            refuse(command.span, &format!("command: {}", command.value), why, "");
        }
    }
}

fn node_is_empty(node: &Node) -> bool {
    node.text().is_some_and(str::is_empty)
}
