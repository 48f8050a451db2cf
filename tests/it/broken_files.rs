//! What runs is asked about most when something is broken: a file that is not right keeps nobody from commands that do
//! not need it.

use assert_cmd::assert::OutputAssertExt as _;

use crate::support::lab::fleetwright;

/// Nothing listens there.
const PROJECT: &str = "\
project: demo
clusters:
  main: {engine: swarm, endpoint: \"https://127.0.0.1:9\"}
environments:
  local: {region: us-east-1, cluster: main}
";

/// Commands that need nothing but fleetwright.yaml.
const COMMANDS: &[&[&str]] = &[
    &["audit"],
    &["cluster", "token", "list"],
    &["drain", "i-0123456789abcdef0"],
    &["events"],
    &["exec", "web", "--", "true"],
    &["job", "history", "report"],
    &["job", "logs", "report"],
    &["job", "ls"],
    &["job", "run", "report"],
    &["logs", "web"],
    &["machines"],
    &["pipeline", "cancel", "1"],
    &["pipeline", "list"],
    &["pipeline", "logs", "1"],
    &["pipeline", "retry", "1"],
    &["pipeline", "run", "web"],
    &["restart", "web"],
    &["rollback", "web"],
    &["run", "web", "--", "true"],
    &["scale", "web=2"],
    &["start", "web"],
    &["status"],
    &["stop", "web"],
    &["why", "web"],
];

#[test]
fn a_broken_file_keeps_nobody_from_what_does_not_need_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = &|arguments: &[&str]| {
        let mut command = fleetwright();
        command.current_dir(folder.path()).env("FLEETWRIGHT_CLUSTER_TOKEN", "a-token-of-a-test");
        command.env("FLEETWRIGHT_HOME", folder.path().join("home")).args(arguments);
        command.output().expect("the binary runs")
    };
    std::fs::write(folder.path().join("fleetwright.yaml"), PROJECT).expect("written");
    for broken in ["services", "jobs", "stacks", "pipelines", "templates/units"] {
        std::fs::create_dir_all(folder.path().join(broken)).expect("made");
        std::fs::write(folder.path().join(broken).join("web.yaml"), "web: {\n").expect("written");
    }
    run(&["validate"]).assert().code(2);
    // Nobody answers, which each of them tries for a while: at the same time.
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> =
            COMMANDS.iter().map(|command| scope.spawn(move || (command, run(command)))).collect();
        running.into_iter().map(|one| one.join().expect("it ends")).collect()
    });
    for (command, output) in outputs {
        let words = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(2), "{command:?}: {words}");
        assert!(!words.contains("web.yaml"), "{command:?}: {words}");
    }
    // What is wrong with the file that they do need is reported.
    std::fs::write(folder.path().join("fleetwright.yaml"), format!("{PROJECT}surprise: 1\n"))
        .expect("written");
    for command in COMMANDS {
        let output = run(command);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && words.contains("fleetwright.yaml:6"),
            "{command:?}: {words}"
        );
    }
}
