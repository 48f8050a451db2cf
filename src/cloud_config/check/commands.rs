//! `runcmd`, `bootcmd` and `packages`.

use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::{CommandKind, Config};
use crate::cloud_config::target::Target;

/// Checks every command.
pub fn check(config: &Config<'_>, report: &mut Report<'_>) {
    for (name, commands) in [("bootcmd", &config.boot_commands), ("runcmd", &config.run_commands)] {
        for command in commands {
            match &command.kind {
                CommandKind::Mapping(key, value) => {
                    let message =
                        format!("this command is a mapping, `{key}` to `{value}`, because of its colon");
                    let finding = Finding::error("command-is-mapping", command.span, message);
                    let label = format!("write '{}'", format!("{key}: {value}").replace('\'', "''"));
                    let help = format!("cloud-init then runs nothing of `{name}`");
                    report.add(&Target::CLOUD_INIT, finding.label(label).help(help));
                }
                CommandKind::Words(words) if words.is_empty() => {
                    let message = "this command is an empty list";
                    report.add(&Target::CLOUD_INIT, Finding::warning("useless-key", command.span, message));
                }
                CommandKind::Words(words) => {
                    let shell = ["|", "||", "&&", ">", ">>", "<", ";", "2>&1"];
                    if let Some(word) = words.iter().find(|word| shell.contains(&word.as_str())) {
                        let message = format!("`{word}` is an argument here: no shell reads a list");
                        let finding = Finding::warning("shell-in-list", command.span, message);
                        report.add(&Target::CLOUD_INIT, finding.help("write the command as one text"));
                    }
                }
                CommandKind::Shell(_) | CommandKind::Other => {}
            }
        }
    }
}
