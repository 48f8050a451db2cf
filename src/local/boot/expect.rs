//! What a machine must have come to after its first boot: a small YAML file that stands beside a cloud-config.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Booted, Ran, Unit};

/// What is expected. Without a word about them, no unit may have failed and cloud-init must have gone well.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Files by path.
    pub files: BTreeMap<String, File>,
    /// The active state of units by name: `active`, `inactive`, `failed`.
    pub units: BTreeMap<String, String>,
    /// Whether units are enabled.
    pub enabled: BTreeMap<String, bool>,
    /// Units that may fail.
    pub may_fail: Vec<String>,
    /// Programs that are run in the machine.
    pub commands: Vec<Command>,
    /// The most seconds until cloud-init is done.
    pub seconds: Option<u64>,
}

/// What is expected of a file.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Whether it must not be there.
    pub absent: bool,
    /// Its mode, such as `"0644"`.
    pub mode: Option<String>,
    /// Its owner, `user:group`.
    pub owner: Option<String>,
    /// A text in it.
    pub contains: Option<String>,
}

/// A program that is run in the machine.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Command {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// The status it must end with.
    pub status: i64,
    /// A text in its output.
    pub contains: Option<String>,
}

/// Whether one expectation holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was expected.
    pub what: String,
    /// Whether it is so.
    pub holds: bool,
    /// What is there instead; empty when it holds.
    pub found: String,
}

fn verdict(what: String, holds: bool, found: impl Into<String>) -> Verdict {
    Verdict { what, holds, found: if holds { String::new() } else { found.into() } }
}

/// Holds a machine against what is expected of it.
pub fn judge(expect: &Expect, booted: &Booted) -> Vec<Verdict> {
    let mut verdicts = vec![verdict(
        "cloud-init is done without errors".to_owned(),
        booted.errors.is_empty() && booted.done,
        if booted.done { booted.errors.join("; ") } else { "it was not done in time".to_owned() },
    )];
    let failed: Vec<&str> = booted
        .failed
        .iter()
        .map(String::as_str)
        .filter(|unit| {
            let stated = expect.units.get(*unit).is_some_and(|state| state == "failed");
            !stated && !expect.may_fail.iter().any(|may| may == unit)
        })
        .collect();
    verdicts.push(verdict("no unit has failed".to_owned(), failed.is_empty(), failed.join(", ")));
    if let Some(most) = expect.seconds {
        let took = format!("it took {:.1} s", booted.seconds);
        verdicts.push(verdict(format!("done within {most} s"), booted.seconds <= most as f64, took));
    }
    for (path, file) in &expect.files {
        verdicts.extend(self::file(path, file, booted));
    }
    for (name, state) in &expect.units {
        let found = booted.units.get(name).map_or("not there", |unit: &Unit| unit.active.as_str());
        verdicts.push(verdict(format!("{name} is {state}"), found == state, format!("it is {found}")));
    }
    for (name, enabled) in &expect.enabled {
        let found = booted.units.get(name).map_or("not there", |unit| unit.enabled.as_str());
        let words = if *enabled { "enabled" } else { "not enabled" };
        let holds = (found == "enabled") == *enabled;
        verdicts.push(verdict(format!("{name} is {words}"), holds, format!("it is {found}")));
    }
    for command in &expect.commands {
        let what = command.run.join(" ");
        let ran: Option<&Ran> = booted.ran.iter().find(|ran| ran.command == command.run);
        let Some(ran) = ran else { continue };
        let status = format!("`{what}` ends with status {}", command.status);
        verdicts.push(verdict(
            status,
            ran.status == command.status,
            format!("{}: {}", ran.status, ran.output),
        ));
        if let Some(text) = &command.contains {
            let holds = ran.output.contains(text);
            verdicts.push(verdict(format!("`{what}` says `{text}`"), holds, ran.output.clone()));
        }
    }
    verdicts
}

/// Holds one file against what is expected of it.
pub fn file(path: &str, file: &File, booted: &Booted) -> Vec<Verdict> {
    let there = booted.files.get(path);
    if file.absent {
        return vec![verdict(format!("{path} is not there"), there.is_none(), "it is there")];
    }
    let Some(there) = there else {
        return vec![verdict(format!("{path} is there"), false, "it is not there")];
    };
    let mut verdicts = vec![verdict(format!("{path} is there"), true, "")];
    if let Some(mode) = &file.mode {
        let same = mode.trim_start_matches('0') == there.mode.trim_start_matches('0');
        verdicts.push(verdict(format!("{path} has mode {mode}"), same, format!("it has {}", there.mode)));
    }
    if let Some(owner) = &file.owner {
        let found = format!("it is {}'s", there.owner);
        verdicts.push(verdict(format!("{path} is {owner}'s"), *owner == there.owner, found));
    }
    if let Some(text) = &file.contains {
        let holds = there.text.contains(text.as_str());
        verdicts.push(verdict(format!("{path} holds `{text}`"), holds, "it does not"));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::*;

    fn booted() -> Booted {
        Booted {
            done: true,
            seconds: 7.5,
            errors: Vec::new(),
            warnings: Vec::new(),
            failed: vec!["x.service".to_owned()],
            units: [(
                "docker.service".to_owned(),
                Unit { active: "active".to_owned(), enabled: "enabled".to_owned() },
            )]
            .into(),
            files: [(
                "/etc/a".to_owned(),
                Seen {
                    mode: "644".to_owned(),
                    owner: "root:root".to_owned(),
                    bytes: 3,
                    text: "abc".to_owned(),
                },
            )]
            .into(),
            ran: vec![Ran { command: vec!["true".to_owned()], status: 0, output: "well".to_owned() }],
        }
    }

    fn lines(text: &str) -> Vec<String> {
        let expect: Expect = serde_yaml::from_str(text).expect("it can be read");
        let line = |verdict: Verdict| {
            let sign = if verdict.holds { "+" } else { "-" };
            format!("{sign} {} {}", verdict.what, verdict.found).trim_end().to_owned()
        };
        judge(&expect, &booted()).into_iter().map(line).collect()
    }

    #[test]
    fn what_holds_and_what_does_not_is_said_for_each() {
        let text = "\
files:
  /etc/a: {mode: \"0644\", owner: root:root, contains: bc}
  /etc/b: {}
  /etc/c: {absent: true}
units: {docker.service: active, ssh.service: active}
enabled: {docker.service: false}
commands:
  - {run: [\"true\"], contains: well}
seconds: 5
";
        insta::assert_snapshot!(lines(text).join("\n"));
    }

    #[test]
    fn a_failed_unit_is_a_failure_unless_it_may_fail() {
        assert_eq!(lines("{}")[1], "- no unit has failed x.service");
        assert_eq!(lines("may_fail: [x.service]")[1], "+ no unit has failed");
        assert_eq!(lines("units: {x.service: failed}")[1], "+ no unit has failed");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let refused = serde_yaml::from_str::<Expect>("fils: {}").expect_err("it is refused").to_string();
        assert!(refused.contains("fils"), "{refused}");
    }
}
