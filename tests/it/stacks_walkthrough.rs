//! docs/provisioning.md, run as it stands: its commands, and the lines that they are said to print.

use std::process::Command;

use crate::stacks::Stacks;
use crate::support::lab::root;

/// A command of the document, and the lines that are shown below it.
struct Shown<'d> {
    command: &'d str,
    lines: Vec<&'d str>,
}

/// The commands of the `console` blocks, in their order.
fn shown(document: &str) -> Vec<Shown<'_>> {
    let mut all: Vec<Shown<'_>> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(language) => inside = !inside && language == "console",
            None if !inside => {}
            None => match line.strip_prefix("$ ") {
                Some(command) => all.push(Shown { command, lines: Vec::new() }),
                None => all.last_mut().expect("a block begins with a command").lines.push(line),
            },
        }
    }
    all
}

/// Whether a printed line is the one shown, in which `…` stands for anything.
fn is_like(line: &str, wanted: &str) -> bool {
    let mut pieces = wanted.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| line.strip_prefix(first)) else { return false };
    for piece in pieces {
        let piece = piece.trim();
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty() || wanted.ends_with('…')
}

/// Withdraws who has access, which an earlier run in the same cloud has published: the document begins without.
fn withdraw_access(stacks: &Stacks) {
    let files = ["fleetwright.yaml", "stacks/cluster.yaml"].map(|file| stacks.path(file));
    let [project, described] = files.clone().map(|file| std::fs::read_to_string(file).expect("the file"));
    let levels = ["access:", "admin:", "deployer:", "viewer:"];
    let kept = project.lines().filter(|line| !levels.iter().any(|key| line.trim_start().starts_with(key)));
    let kept: Vec<&str> = kept.collect();
    std::fs::write(&files[0], kept.join("\n")).expect("written");
    std::fs::write(&files[1], "{}\n").expect("written");
    stacks.ends(&["apply", "-y"], 0);
    std::fs::write(&files[0], project).expect("written");
    std::fs::write(&files[1], described).expect("written");
}

#[test]
fn the_walk_through_of_the_documents_is_true() {
    let document = std::fs::read_to_string(root().join("docs/provisioning.md")).expect("the document");
    let stacks = Stacks::up("walk", "10.74.");
    stacks.ends(&["destroy", "-y"], 0);
    withdraw_access(&stacks);
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_fleetwright")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let commands = shown(&document);
    assert!(commands.len() > 8, "the document has blocks of `console`");
    for Shown { command, lines } in commands {
        // With the environment that a `fleetwright` of the tests has.
        let like = stacks.command(&[]);
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{command} 2>&1")]).current_dir(stacks.path("")).env_clear();
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        let output = shell.output().expect("the shell runs");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let mut rest = printed.lines();
        for line in lines {
            assert!(
                rest.any(|printed| is_like(printed.trim_end(), line)),
                "`{command}` does not print `{line}`, or not there:\n{printed}"
            );
        }
    }
}

#[test]
fn three_dots_stand_for_anything() {
    assert!(is_like("workers  ✓ created   0.4 s", "workers  ✓ created …"));
    assert!(is_like("0 errors in 9 files (3 ms).", "0 errors in … files …"));
    assert!(is_like("  ~ A   B   c", "  ~ A … B … c"));
    assert!(!is_like("  ~ A   B   c", "  ~ A … C … c") && !is_like("a b", "a") && !is_like("b a", "a"));
}
