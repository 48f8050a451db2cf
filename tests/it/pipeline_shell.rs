//! `pipeline shell`: a program in a container like that of a step that has failed.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleetwright::model::run::RunId;
use fleetwright::port::step_containers::StepContainers as _;

use crate::pipeline_serve::Site;
use crate::pipeline_steps::{commit, site};
use crate::support::endpoints::STEP_TOKEN;
use crate::support::lab::poll;

const STEPS: &str = r#"    - run: {name: good, image: demo/web, needs: [demo/web], command: "echo good"}
    - run:
        name: test
        image: demo/web
        env: {GREETING: "good day"}
        secrets: {TOKEN: /team/step-token}
        resources: {limits: {memory: 64MiB}}
        command: "echo made > made; echo outside > /outside; exit 3"
"#;

/// Runs a shell with this as its standard input.
fn shell(site: &Site, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let all = [&["pipeline", "shell"][..], arguments].concat();
    let mut command = site.command_in(site.folder.path(), &all);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("it starts");
    process.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
    let output = process.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn docker(arguments: &[&str]) -> String {
    let done = Command::new("docker").args(arguments).output().expect("docker runs");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_what_the_step_had_and_is_recorded() {
    let site = site(STEPS);
    commit(&site, "one", &[("greeting", b"hello\n")]);
    let serve = site.serve();
    site.wait_for("failed", |run| run["state"] == "failed");

    // What is kept has ended, and holds no secret. The run has failed before it is tidied up.
    let host = site.registry.host();
    let kept = || {
        let all = docker(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}} {{.Image}} {{.Names}}"]);
        let mut ours = all.lines().filter(|line| line.contains(&host)).map(str::to_owned);
        let line = ours.next()?;
        let id = line.split(' ').next().expect("an id");
        let is_tidy = ours.next().is_none()
            && line.contains(" exited ")
            && !docker(&["cp", &format!("{id}:/run/secrets/TOKEN"), "-"]).contains(STEP_TOKEN);
        is_tidy.then_some(line)
    };
    let kept = poll(Duration::from_secs(20), kept).expect("one container that has ended and holds no secret");
    let name = kept.rsplit(' ').next().expect("a name");
    let scope = name.split('-').nth(2).expect("a scope");

    // Input that is no terminal; the exit status is passed on.
    let script = "cat made greeting /outside; echo \"$GREETING of $FLEETWRIGHT_RUN\"; \
                  test \"$TOKEN\" = \"$(cat /run/secrets/TOKEN)\" && echo \"token ${#TOKEN}\"; \
                  grep NoNewPrivs /proc/self/status; cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null \
                  || cat /sys/fs/cgroup/memory.max; echo again > again; echo to stderr >&2; exit 7\n";
    let (status, stdout, stderr) = shell(&site, &["1", "test", "--", "sh"], script);
    assert_eq!(status, Some(7), "{stdout}{stderr}");
    let token = format!("token {}", STEP_TOKEN.len());
    let expected =
        ["made", "hello", "outside", "good day of 1", &token, "NoNewPrivs:\t1", "67108864"].join("\n") + "\n";
    assert_eq!(stdout, expected, "{stderr}");
    assert!(stderr.contains("to stderr"), "{stderr}");
    // The workspace is the run's own; what is outside of it is as the step left it.
    let (status, stdout, stderr) = shell(&site, &["1", "test"], "cat again; ls /outside\n");
    assert_eq!((status, stdout.as_str()), (Some(0), "again\n/outside\n"), "{stderr}");
    let (status, _, stderr) = shell(&site, &["1", "test", "--", "nosuch"], "");
    assert_eq!(status, Some(127), "{stderr}");
    // Nothing of them is left but the image. Callers have the exit status before the container is removed.
    let ours = format!("label=fleetwright.pipelines={scope}");
    let left = || docker(&["ps", "-aq", "--filter", &ours, "--filter", "label=fleetwright.shell"]);
    poll(Duration::from_secs(20), || left().is_empty().then_some(())).unwrap_or_else(|| panic!("{}", left()));

    // Who has opened it is part of the run.
    let (_, said, _) = site.run(&["pipeline", "show", "1", "-o", "json"]);
    assert!(said.contains("\"failed\""), "{said}");
    let log = site.client().get(format!("{}v1/runs/1/log?follow=false", serve.page)).send().await;
    let log = log.expect("an answer").text().await.expect("text");
    let shells: Vec<&str> = log.lines().filter(|line| line.contains("\"what\":\"shell\"")).collect();
    assert_eq!(shells.len(), 3, "{log}");
    assert!(
        shells[0].contains("\"by\":\"the server's own token\"") && shells[0].contains("\"program\":\"sh\"")
    );
    assert!(!log.contains(STEP_TOKEN));
    // The image of the shells holds no secret either, nor do its layers.
    let made = docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "fleetwright-shell"]);
    let image = made.lines().find(|image| image.contains(scope)).expect("the image of the shells");
    let saved = Command::new("docker").args(["save", image]).output().expect("docker runs");
    assert!(saved.status.success(), "{saved:?}");
    let token = STEP_TOKEN.as_bytes();
    assert!(!saved.stdout.windows(token.len()).any(|window| window == token));

    // Only where something is kept, and only for who may start runs.
    let refused = |arguments: &[&str], said: &str| {
        let (status, _, stderr) = shell(&site, arguments, "");
        assert!(status != Some(0) && stderr.contains(said), "{arguments:?}: {stderr}");
    };
    refused(&["1", "good"], "it is succeeded; those that failed are `run test`");
    refused(&["1", "tset"], "did you mean `test`?");
    refused(&["9", "test"], "there is no run 9");
    let made = site.run(&["serve", "token", "create", "eve", "--role", "viewer"]);
    assert!(made.0, "{}", made.2);
    let token = made.1.split_whitespace().last().expect("a token").to_owned();
    let mut viewer = site.command_in(site.folder.path(), &["pipeline", "shell", "1", "test"]);
    let viewer = viewer.env("FLEETWRIGHT_SERVE_TOKEN", token).stdin(Stdio::null()).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&viewer.stderr).into_owned();
    assert!(!viewer.status.success() && stderr.contains("this needs the role deployer"), "{stderr}");
    let plain = site
        .client()
        .post(format!("{}v1/runs/1/shell", serve.page))
        .json(&serde_json::json!({"step": "test"}));
    assert_eq!(plain.send().await.expect("an answer").status(), 426);

    // A retry takes the workspace over as the shell has left it.
    site.steps().clear(RunId(1)).await.expect("cleared");
    refused(&["1", "test"], "it had no container, or the disk was full and it was removed");
    let images = docker(&["image", "ls", "--format", "{{.Tag}}", "fleetwright-shell"]);
    assert!(!images.contains(scope), "{images}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_has_a_terminal_and_ends_with_its_connection() {
    let site = site(STEPS);
    commit(&site, "one", &[("greeting", b"hello\n")]);
    let serve = site.serve();
    site.wait_for("failed", |run| run["state"] == "failed");
    // `script` gives the command a terminal of this size.
    let program = env!("CARGO_BIN_EXE_fleetwright");
    let line = format!(
        "stty rows 33 cols 99; {program} pipeline shell 1 test -- sh -c 'sleep 1; stty size; tty; exit 5'"
    );
    let command = site.command_in(site.folder.path(), &[]);
    let mut scripted = Command::new("script");
    scripted.args(["-qec", &line, "/dev/null"]).current_dir(site.folder.path()).env_clear();
    scripted.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    let output = scripted.stdin(Stdio::null()).output().expect("script (package bsdutils) is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("33 99") && said.contains("/dev/"), "{said}");

    // A caller that is killed takes the program with it.
    let mut command =
        site.command_in(site.folder.path(), &["pipeline", "shell", "1", "test", "--", "sleep", "1000"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let shells = || {
        // One question: a container may be gone before the next one.
        let of = ["--filter", "label=fleetwright.shell", "--format", "{{.Command}}"];
        let all = docker(&[&["ps", "--no-trunc"], &of[..]].concat());
        all.lines().filter(|line| line.contains("sleep 1000")).count()
    };
    let wait = |wanted: usize| {
        let limit = Instant::now() + Duration::from_secs(30);
        while shells() != wanted {
            assert!(Instant::now() < limit, "{} shells", shells());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait(1);
    process.kill().expect("killed");
    process.wait().expect("ended");
    wait(0);
    drop(serve);
}
