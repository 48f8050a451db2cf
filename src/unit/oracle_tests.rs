//! Verdicts on single lines, compared with those of the systemd that is installed here.

use std::process::Command;

use super::*;

/// Lines below their section; each is put into a unit that is right otherwise.
const LINES: &str = include_str!("oracle_lines.txt");

/// What systemd takes without a word when it loads the unit, and fails of, or forgets, later.
const LATER: &[&str] = &[
    "ExecStartPre=$A b",
    "CapabilityBoundingSet=CAP_FOO",
    "CapabilityBoundingSet=CHOWN",
    "ConditionFirstBoot=maybe",
];

/// The lines that systemd complains of; `None` where there is no systemd.
fn complaints<'l>(name: &str, before: &str, after: &str, lines: &[&'l str]) -> Option<Vec<&'l str>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    let mut rest = lines.to_vec();
    let mut found = Vec::new();
    // Some lines make it give up the whole file: they are taken out, one by one.
    loop {
        std::fs::write(&path, format!("{before}{}\n{after}", rest.join("\n"))).expect("a file");
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&path)
            .envs([
                ("SYSTEMD_LOG_TARGET", "console"),
                ("SYSTEMD_LOG_LEVEL", "notice"),
                ("SYSTEMD_COLORS", "0"),
            ])
            .output()
            .ok()?;
        let start = format!("{}:", path.display());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let numbers =
            text.lines().filter_map(|line| line.strip_prefix(&start)?.split(':').next()?.parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        let line = |number: &usize| number - before.lines().count() - 1;
        let Some(last) = numbers.last().map(line).filter(|_| text.contains("has a bad unit file setting"))
        else {
            found.extend(numbers.iter().map(|number| rest[line(number)]));
            return Some(found);
        };
        found.push(rest.remove(last));
    }
}

fn compare(name: &str, before: &str, after: &str, lines: &[&str], differences: &mut Vec<String>) {
    let number = before.lines().count() + 1;
    let Some(complaints) = complaints(name, before, after, lines) else {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    };
    println!("{} lines compared, {} of them wrong", lines.len(), complaints.len());
    for line in lines.iter().filter(|line| !LATER.contains(line)) {
        let problems = check_text(name, &format!("{before}{line}\n{after}"), &Options::default());
        let at = |problem: &&Diagnostic| {
            problem.label.as_ref().is_some_and(|label| label.file.position(label.span.start).line == number)
        };
        let ours: Vec<_> = problems.iter().filter(at).collect();
        let said = ours.first().map_or("nothing", |problem| &problem.message);
        // Warnings are ours to give, whatever systemd says.
        match complaints.contains(line) {
            true if ours.is_empty() => differences.push(format!("{line:?}: systemd complains")),
            false if ours.iter().any(|problem| problem.is_error()) => {
                differences.push(format!("{line:?}: systemd takes it, we say: {said}"));
            }
            _ => {}
        }
    }
}

#[test]
fn lines_are_judged_as_systemd_does() {
    let mut differences = Vec::new();
    let units = [
        ("Service", "a@i.service", "[Service]\nExecStart=/bin/true\n", ""),
        ("Unit", "a@i.service", "[Unit]\n", "[Service]\nExecStart=/bin/true\n"),
        ("Socket", "a.socket", "[Socket]\nListenStream=/run/z\n", ""),
    ];
    for (section, name, before, after) in units {
        let header = format!("[{section}]");
        let lines = LINES.lines().skip_while(|line| *line != header).skip(1);
        let lines: Vec<_> = lines.take_while(|line| !line.starts_with('[')).collect();
        assert!(lines.len() > 20, "{section}");
        compare(name, before, after, &lines, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn nothing_is_ignored_where_systemd_ignores_it() {
    let mut differences = Vec::new();
    let units = [
        ("Service", "a.service", "[Service]\nExecStart=/bin/true\n"),
        ("Unit", "a.service", "[Service]\nExecStart=/bin/true\n[Unit]\n"),
        ("Socket", "a.socket", "[Socket]\nListenStream=/run/a\n"),
        ("Timer", "a.timer", "[Timer]\nOnBootSec=1\n"),
        ("Path", "a.path", "[Path]\nPathExists=/a\n"),
    ];
    for (section, name, before) in units {
        let keys = table::keys(section).filter(|key| table::ignores_nothing(section, key));
        let lines: Vec<String> = keys.map(|key| format!("{key}=")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let Some(theirs) = complaints(name, before, "", &lines) else {
            eprintln!("skipped: there is no systemd-analyze");
            return;
        };
        differences.extend(
            lines.iter().filter(|line| !theirs.contains(line)).map(|line| format!("{section}/{line}")),
        );
    }
    assert!(differences.is_empty(), "systemd takes {differences:?}");
}
