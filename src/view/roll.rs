//! Rolls as they go: one line a step.

use std::time::Duration;

use super::time;
use super::words::count;
use crate::event::roll::RollEvent;

/// The line for an event; `live` ones are replaced by the next on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text.
    pub text: String,
    /// Whether it is only good until the next.
    pub live: bool,
}

/// The line for an event.
pub fn line(event: &RollEvent) -> Line {
    let stays = |text: String| Line { text, live: false };
    match event {
        RollEvent::Began { group, machines, resumed } => {
            let verb = if *resumed { "going on with" } else { "rolling" };
            let left = if *resumed { "left to replace" } else { "to replace" };
            let names =
                if machines.is_empty() { String::new() } else { format!(": {}", machines.join(", ")) };
            stays(format!("{verb} {group}, {} {left}{names}", count(machines.len(), "machine")))
        }
        RollEvent::Capacity { group, desired, max } => {
            stays(format!("{group}  {} wanted, {max} at most", count(*desired as usize, "machine")))
        }
        RollEvent::Draining { group, machines } => {
            stays(format!("{group}  draining {}", machines.join(", ")))
        }
        RollEvent::Terminating { group, machines } => {
            let runs = if machines.len() == 1 { "which runs" } else { "which run" };
            stays(format!("{group}  terminating {}, {runs} nothing", machines.join(", ")))
        }
        RollEvent::Waiting { group, text } => Line { text: format!("{group}  waiting: {text}"), live: true },
        RollEvent::Done { group, replaced, seconds } => {
            let took = time::human(Duration::try_from_secs_f64(*seconds).unwrap_or_default());
            stays(match replaced.len() {
                0 => format!("{group}  nothing (more) to replace, {took}"),
                number => format!("{group}  ✓ {} replaced in {took}", count(number, "machine")),
            })
        }
    }
}

/// The question before a roll.
pub fn question(group: &str, machines: &[String], batch: u32, control: bool) -> String {
    let pace = match (control, batch) {
        (true, _) | (false, 1) => "one at a time".to_owned(),
        (false, many) => format!("{many} at a time"),
    };
    format!(
        "{} of {group} will be replaced, {pace}, a new one first, each drained before it goes:\n  {}",
        count(machines.len(), "machine"),
        machines.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_line_by_line() {
        let group = || "demo-local-workers".to_owned();
        let machines = || vec!["i-1".to_owned(), "i-2".to_owned()];
        let events = [
            RollEvent::Began { group: group(), machines: machines(), resumed: false },
            RollEvent::Began { group: group(), machines: vec!["i-2".to_owned()], resumed: true },
            RollEvent::Capacity { group: group(), desired: 3, max: 4 },
            RollEvent::Waiting { group: group(), text: "2 of 3 machines are in service".to_owned() },
            RollEvent::Draining { group: group(), machines: vec!["i-1".to_owned()] },
            RollEvent::Terminating { group: group(), machines: vec!["i-1".to_owned()] },
            RollEvent::Done { group: group(), replaced: machines(), seconds: 83.2 },
            RollEvent::Done { group: group(), replaced: Vec::new(), seconds: 0.3 },
        ];
        let lines: Vec<String> = events.iter().map(|event| line(event).text).collect();
        insta::assert_snapshot!(lines.join("\n"));
        insta::assert_snapshot!(question(&group(), &machines(), 1, false));
    }
}
