//! docs/provisioning.md, run as it stands: its commands, and the lines that they are said to print.

use std::process::Command;

use crate::stacks::Stacks;
use crate::support::lab::root;
use crate::support::walkthrough::{Step, assert_shown, steps};

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
    let steps = steps(&document);
    assert!(steps.len() > 8, "the document has blocks of `console`");
    for step in steps {
        let Step::Run { command, lines } = step else { panic!("it writes no files") };
        // With the environment that a `fleetwright` of the tests has.
        let like = stacks.command(&[]);
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{command} 2>&1")]).current_dir(stacks.path("")).env_clear();
        shell.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", &path);
        let output = shell.output().expect("the shell runs");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        assert_shown(command, &lines, &printed);
    }
}
