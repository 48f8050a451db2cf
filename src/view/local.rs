//! The local cloud at the terminal.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::local::LocalEvent;
use crate::event::{Event, EventKind};
use crate::model::local_cloud::LocalStatus;

/// Shows preparation as it goes: moving lines on a terminal, one line per thing begun and
/// finished elsewhere.
#[derive(Debug)]
pub struct Progress {
    live: Option<MultiProgress>,
    bars: Vec<(String, ProgressBar)>,
}

impl Progress {
    /// Prints on stderr; `live` when lines may be redrawn.
    pub fn new(live: bool) -> Self {
        Self { live: live.then(MultiProgress::new), bars: Vec::new() }
    }

    /// Shows one event.
    pub fn handle(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Local(event) => self.local(event),
            EventKind::Note { text } => self.line(text),
            _ => {}
        }
    }

    fn local(&mut self, event: &LocalEvent) {
        match event {
            LocalEvent::Started { step, detail } => match &self.live {
                Some(live) => {
                    let style = ProgressStyle::with_template("{prefix:14} {spinner} {msg}  {elapsed}")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner());
                    let bar = live.add(ProgressBar::new_spinner().with_style(style));
                    bar.set_prefix(step.clone());
                    bar.set_message(detail.clone());
                    bar.enable_steady_tick(Duration::from_millis(120));
                    self.bars.push((step.clone(), bar));
                }
                None => eprintln!("{step:14} … {detail}"),
            },
            LocalEvent::Progress { step, detail, bytes } => {
                if let Some((_, bar)) = self.bars.iter().find(|(name, _)| name == step) {
                    let downloaded = bytes.map(|b| format!("  {}", megabytes(b))).unwrap_or_default();
                    bar.set_message(format!("{detail}{downloaded}"));
                }
            }
            LocalEvent::Finished { step, outcome, seconds, bytes } => {
                if let Some(at) = self.bars.iter().position(|(name, _)| name == step) {
                    self.bars.remove(at).1.finish_and_clear();
                }
                let downloaded = match bytes {
                    Some(bytes) if *bytes > 0 => format!("  {} downloaded", megabytes(*bytes)),
                    _ => String::new(),
                };
                self.line(&format!("{step:14} ✓ {outcome}  {seconds:.1} s{downloaded}"));
            }
            LocalEvent::PowerCycle { machines, seed } => {
                let count = match machines.len() {
                    1 => "1 machine".to_owned(),
                    n => format!("{n} machines"),
                };
                self.line(&format!("cutting the power of {count}; `--seed {seed}` repeats it"));
            }
            LocalEvent::PowerCut { instance, seconds } => {
                self.line(&format!("{instance}  off for {seconds:.1} s"));
            }
            LocalEvent::PowerOn { instance, seconds } => {
                self.line(&format!("{instance}  on again after {seconds:.1} s"));
            }
        }
    }

    fn line(&self, text: &str) {
        match &self.live {
            Some(live) if live.println(text).is_ok() => {}
            _ => eprintln!("{text}"),
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// The status as tables.
pub fn status(status: &LocalStatus, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    let word = match (&status.broken, status.up, status.parts.is_empty()) {
        (Some(_), _, _) => "broken",
        (None, true, _) => "up",
        (None, false, true) => "not up",
        (None, false, false) => "down",
    };
    let _ = writeln!(text, "local cloud `{}`: {word}", status.name);
    if !status.parts.is_empty() {
        let mut parts = table(&["PART", "STATE", "ADDRESS", "PID", "SINCE"]);
        for part in &status.parts {
            parts.add_row([
                part.name.clone(),
                part.state.clone(),
                part.address.clone().unwrap_or_else(|| "-".into()),
                part.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
                part.since.map_or_else(|| "-".into(), |since| age(now - since)),
            ]);
        }
        let _ = writeln!(text, "\n{}", trimmed(&parts));
    }
    if !status.machines.is_empty() {
        let mut machines = table(&["INSTANCE", "GROUP", "ADDRESS", "LIFECYCLE", "CONTAINER", "CLOUD-INIT"]);
        for machine in &status.machines {
            machines.add_row([
                machine.instance.clone(),
                machine.group.clone().unwrap_or_else(|| "-".into()),
                machine.address.map_or_else(|| "-".into(), |address| address.to_string()),
                machine.lifecycle.clone(),
                machine.container.clone(),
                machine.cloud_init.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
        let _ = writeln!(text, "\n{}", trimmed(&machines));
    }
    for part in status.parts.iter().filter(|part| part.state != "running") {
        if let Some(message) = &part.message {
            let _ = writeln!(text, "\n! {}: {message}", part.name);
        }
    }
    let rerun = if status.name == "local" { String::new() } else { format!(" --name {}", status.name) };
    if let Some(broken) = &status.broken {
        let _ = writeln!(
            text,
            "\n! {broken}\n  next: fleetwright local down{rerun} && fleetwright local up{rerun}"
        );
    }
    for problem in &status.problems {
        let _ = writeln!(text, "\n! {}\n  next: {}", problem.message, problem.next);
    }
    if !status.parts.is_empty() {
        let _ = writeln!(text, "\nlogs in {}", status.logs);
    }
    text
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// A table without the blanks that it puts at the edges.
fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<&str> =
        text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n")
}

fn age(age: chrono::TimeDelta) -> String {
    match age.num_seconds() {
        s if s < 120 => format!("{} s", s.max(0)),
        s if s < 7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::local_cloud::{LocalMachine, LocalPart, LocalProblem};

    #[test]
    fn a_status_says_what_is_wrong_and_what_to_do() {
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(600);
        let since = Some(DateTime::UNIX_EPOCH);
        let part = |name: &str, state: &str, message: Option<&str>| LocalPart {
            name: name.into(),
            state: state.into(),
            address: Some("127.0.0.1:14601".into()),
            pid: Some(4711),
            since,
            message: message.map(str::to_owned),
        };
        let shown = status(
            &LocalStatus {
                version: 1,
                name: "local".into(),
                up: true,
                broken: None,
                parts: vec![
                    part("supervisor", "running", None),
                    part("registry", "down", Some("it ended with status 2; it is restarted after 500 ms")),
                ],
                machines: vec![LocalMachine {
                    instance: "i-0d3c1f2a9b8e7d6c5".into(),
                    group: Some("demo-local-workers".into()),
                    address: "10.77.1.4".parse().ok(),
                    lifecycle: "Terminating:Wait".into(),
                    container: "running".into(),
                    cloud_init: Some("done".into()),
                }],
                problems: vec![LocalProblem { message: "it does not work".into(), next: "mend it".into() }],
                logs: "/home/x/logs".into(),
            },
            now,
        );
        insta::assert_snapshot!(shown, @"
        local cloud `local`: up

        PART        STATE    ADDRESS          PID   SINCE
        supervisor  running  127.0.0.1:14601  4711  10 min
        registry    down     127.0.0.1:14601  4711  10 min

        INSTANCE             GROUP               ADDRESS    LIFECYCLE         CONTAINER  CLOUD-INIT
        i-0d3c1f2a9b8e7d6c5  demo-local-workers  10.77.1.4  Terminating:Wait  running    done

        ! registry: it ended with status 2; it is restarted after 500 ms

        ! it does not work
          next: mend it

        logs in /home/x/logs
        ");
    }
}
