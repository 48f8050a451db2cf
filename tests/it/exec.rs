//! Programs in running instances, as people execute them, on a real fleet.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fleetwright::model::service::{Instance, InstanceState};
use fleetwright::port::cluster::Snapshot;

use crate::faults::{deploy, unique};
use crate::support::lab::{Lab, poll, service, tool};

/// What a command printed, and its exit status.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    code: Option<i32>,
    out: String,
    err: String,
}

fn seen(output: &Output) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Seen { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn exec(lab: &Lab, instance: &str, options: &[&str], command: &[&str]) -> Seen {
    let arguments = [&["exec", instance], options, &["--"], command].concat();
    let begun = Instant::now();
    let seen = seen(&lab.run(&arguments));
    println!("$ fleetwright {}   -> {seen:?} in {:?}", arguments.join(" "), begun.elapsed());
    seen
}

/// The container of the machine that an instance runs on.
fn machine(lab: &Lab, snapshot: &Snapshot, instance: &str) -> String {
    let web = service(snapshot, "web").expect("web");
    // The one that it replaced may still be stopping elsewhere, under the same name.
    let runs = |one: &&Instance| one.name == instance && one.state == InstanceState::Healthy;
    let placed = web.instances.iter().find(runs).expect("the instance");
    let machine = snapshot.machines.iter().find(|one| Some(&one.id) == placed.machine.as_ref());
    lab.container(machine.expect("its machine"))
}

/// A command whose input comes from `input`.
fn fed(lab: &Lab, arguments: &[&str], input: Vec<u8>) -> Output {
    let mut child = lab.command(arguments);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("its end");
    let _ = feeding.join().expect("fed");
    output
}

/// Waits until no process on the machine has `words` in its command line.
fn gone(machine: &str, words: &str) {
    let list = || tool("docker", &["exec", machine, "ps", "-eo", "args"]);
    let found = poll(Duration::from_secs(15), || (!list().contains(words)).then_some(()));
    assert!(found.is_some(), "`{words}` still runs:\n{}", list());
}

#[test]
fn a_program_in_an_instance_is_as_if_it_were_here() {
    let lab = Lab::up();
    deploy(&lab, &unique("exec"));
    let [first, second] = lab.instances();
    let first = first.as_str();
    let snapshot = lab.snapshot().expect("the cluster answers");
    let host = machine(&lab, &snapshot, first);

    // Both channels, and the exit status.
    let both = exec(&lab, first, &[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(both, Seen { code: Some(7), out: "out\n".into(), err: "err\n".into() });
    // Any healthy one, and which.
    let any = exec(&lab, "web", &[], &["true"]);
    assert!(any.code == Some(0) && any.err.starts_with("web@") && any.err.contains(" on i-"), "{any:?}");
    // What can't be executed, as a shell says it.
    let missing = exec(&lab, first, &[], &["no-such-program"]);
    assert_eq!(missing.code, Some(127), "{missing:?}");
    assert!(missing.err.contains("`no-such-program` could not be started"), "{missing:?}");
    assert_eq!(exec(&lab, first, &[], &["/etc"]).code, Some(126));
    // What is not there.
    let none = exec(&lab, "web@77", &[], &["true"]);
    let expected = format!("no running instance `web@77`; running: {first}, {second}");
    assert!(none.code == Some(1) && none.err.contains(&expected), "{none:?}");
    let none = exec(&lab, "nothing", &[], &["true"]);
    assert!(none.code == Some(2) && none.err.contains("there is no service `nothing`"), "{none:?}");

    // How long it takes is printed: this program and this computer are not what is measured elsewhere.
    let container =
        "docker exec $(docker ps -q --filter label=com.docker.swarm.service.name=web | head -1) true";
    let time = |run: &dyn Fn()| {
        let mut times: Vec<Duration> = (0..5)
            .map(|_| {
                let begun = Instant::now();
                run();
                begun.elapsed()
            })
            .collect();
        times.sort();
        times[2]
    };
    let plain = time(&|| drop(tool("docker", &["exec", &host, "sh", "-c", container])));
    let ours = time(&|| drop(lab.ok(&["exec", first, "--", "true"])));
    println!("docker exec there: {plain:?}; fleetwright exec: {ours:?}");

    // Pipes, with an end of the input.
    let echoed = seen(&fed(&lab, &["exec", "-i", first, "--", "cat"], b"x\n".to_vec()));
    assert_eq!((echoed.code, echoed.out.as_str()), (Some(0), "x\n"), "{echoed:?}");
    // 50 MB there and back.
    let bytes: Vec<u8> =
        (0..50_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let begun = Instant::now();
    let back = fed(&lab, &["exec", "-i", first, "--", "cat"], bytes.clone());
    println!("50 MB there and back: {:?}", begun.elapsed());
    assert!(back.status.success() && back.stdout == bytes, "{} bytes came back", back.stdout.len());
    let sum = seen(&fed(&lab, &["exec", "-i", first, "--", "sh", "-c", "md5sum"], bytes.clone()));
    let mut local =
        Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("md5sum");
    local.stdin.take().expect("a pipe").write_all(&bytes).expect("written");
    let local = local.wait_with_output().expect("its end");
    assert_eq!(sum.out, String::from_utf8_lossy(&local.stdout));

    // A reader that goes away early ends the program, quietly.
    let program = env!("CARGO_BIN_EXE_fleetwright");
    let shell = lab.command(&[]);
    let mut early = Command::new("bash");
    early.env_clear().envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    early.current_dir(lab.infra.path()).args([
        "-c",
        &format!("{program} exec {first} -- cat /dev/zero | head -c 1000 | wc -c; echo ${{PIPESTATUS[0]}}"),
    ]);
    let early = seen(&early.output().expect("bash"));
    assert_eq!((early.out.as_str(), early.err.as_str()), ("1000\n141\n", ""));
    gone(&host, "cat /dev/zero");

    // A terminal of the caller's kind.
    let mut script = Command::new("script");
    script.env_clear().envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("TERM", "xterm-256color").current_dir(lab.infra.path()).stdin(Stdio::null());
    let line =
        format!("stty rows 41 cols 123; {program} exec {first} -it -- sh -c 'echo $TERM; tty; exit 5'");
    script.args(["-qec", &line, "/dev/null"]);
    let shown = seen(&script.output().expect("script"));
    assert_eq!(shown.code, Some(5), "{shown:?}");
    // No program of the demo's static busybox can read the size of a terminal on this kernel.
    assert!(shown.out.contains("xterm-256color\r\n") && shown.out.contains("/dev/pts/"), "{shown:?}");
    let refused = exec(&lab, first, &["-it"], &["sh"]);
    assert!(refused.code == Some(2) && refused.err.contains("leave out `-t`"), "{refused:?}");
    // Each line as JSON.
    let json = exec(&lab, first, &["-o", "json"], &["sh", "-c", "printf 'a\\nb'; exit 3"]);
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(
        (lines[0]["event"].as_str(), lines[1]["text"].as_str()),
        (Some("started"), Some("a")),
        "{json:?}"
    );
    assert!(lines.iter().any(|line| line["status"] == 3) && json.code == Some(3), "{json:?}");

    // Two people at once.
    let both: Vec<_> = ["one", "two"]
        .map(|text| {
            let mut command =
                lab.command(&["exec", first, "--", "sh", "-c", &format!("sleep 1; echo {text}")]);
            command.stdout(Stdio::piped()).spawn().expect("the binary runs")
        })
        .into_iter()
        .map(|child| String::from_utf8(child.wait_with_output().expect("its end").stdout).expect("text"))
        .collect();
    assert_eq!(both, ["one\n", "two\n"]);

    // Ctrl-C stops the program; whoever is killed takes it along, with its children.
    let start = |script: &str| {
        let mut command = lab.command(&["exec", first, "--", "sh", "-c", script]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
    };
    let runs = |words: &str| {
        let list = || tool("docker", &["exec", &host, "ps", "-eo", "args"]);
        assert!(poll(Duration::from_secs(15), || list().contains(words).then_some(())).is_some(), "{words}");
    };
    let child = start("echo begun; sleep 4711");
    runs("sleep 4711");
    tool("kill", &["-INT", &child.id().to_string()]);
    let ended = seen(&child.wait_with_output().expect("its end"));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    gone(&host, "sleep 4711");
    let mut child = start("trap '' TERM INT; sleep 4712 & sleep 4713; sleep 4714");
    runs("sleep 4713");
    child.kill().expect("killed");
    child.wait().expect("its end");
    for words in ["sleep 4712", "sleep 4713", "sleep 4714"] {
        gone(&host, words);
    }

    commands_of_their_own(&lab, &snapshot);

    // Who may not.
    let token =
        lab.ok(&["cluster", "token", "create", "--name", "exec-viewer", "--level", "viewer", "-o", "json"]);
    let token: serde_json::Value = serde_json::from_str(&token).expect("JSON");
    let mut viewer = lab.command(&["exec", first, "--", "true"]);
    viewer.env("FLEETWRIGHT_CLUSTER_TOKEN", token["token"].as_str().expect("a token"));
    let denied = seen(&viewer.output().expect("the binary runs"));
    lab.ok(&["cluster", "token", "revoke", "exec-viewer"]);
    assert!(
        denied.code == Some(1) && denied.err.contains("may not execute programs in instances"),
        "{denied:?}"
    );
    assert!(denied.err.contains("needs the level deployer"), "{denied:?}");

    // Who did what, without arguments.
    exec(&lab, &second, &[], &["echo", "hunter2"]);
    let audit = lab.ok(&["audit", "-o", "json"]);
    assert!(!audit.contains("hunter2") && !audit.contains("sleep 4712"), "an argument is in the record");
    for recorded in [
        "\"exec\"",
        &format!("\"{second}\""),
        "\"program\": \"echo\"",
        "\"arguments\": \"1\"",
        "token/exec-viewer",
    ] {
        assert!(audit.contains(recorded), "{recorded} is missing in {audit}");
    }

    // A machine that goes away in the middle.
    let child = start("echo begun; sleep 4715");
    runs("sleep 4715");
    tool("docker", &["pause", &host]);
    let begun = Instant::now();
    let lost = seen(&child.wait_with_output().expect("its end"));
    tool("docker", &["unpause", &host]);
    println!("the loss was noticed after {:?}: {lost:?}", begun.elapsed());
    assert!(lost.code == Some(1) && lost.err.contains("broke before the program ended"), "{lost:?}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    gone(&host, "sleep 4715");
    lab.until("the cluster is whole again", Duration::from_secs(180), |snapshot| {
        let all =
            snapshot.machines.iter().all(|one| one.state == fleetwright::model::machine::MachineState::Ready);
        (all && service(snapshot, "web").is_some_and(|web| web.is_whole())).then_some(())
    });
}

/// `run` with a terminal or an input: a container of its own that ends with its connection, whatever dies.
fn commands_of_their_own(lab: &Lab, snapshot: &Snapshot) {
    let piped = seen(&fed(lab, &["run", "web", "-i", "--", "sh", "-c", "cat; exit 9"], b"x\n".to_vec()));
    assert_eq!((piped.code, piped.out.as_str()), (Some(9), "x\n"), "{piped:?}");
    let program = env!("CARGO_BIN_EXE_fleetwright");
    let shell = lab.command(&[]);
    let mut script = Command::new("script");
    script.env_clear().envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("TERM", "xterm-256color").current_dir(lab.infra.path()).stdin(Stdio::null());
    let line = format!("stty rows 41 cols 123; {program} run web -it -- sh -c 'echo $TERM; tty; exit 5'");
    script.args(["-qec", &line, "/dev/null"]);
    let shown = seen(&script.output().expect("script"));
    assert_eq!(shown.code, Some(5), "{shown:?}");
    assert!(shown.out.contains("xterm-256color\r\n") && shown.out.contains("/dev/pts/"), "{shown:?}");
    let missing = seen(&fed(lab, &["run", "web", "-i", "--", "no-such-program"], Vec::new()));
    assert_eq!(missing.code, Some(127), "{missing:?}");

    let machines: Vec<String> = snapshot.machines.iter().map(|one| lab.container(one)).collect();
    let start = |number: &str| {
        let command = ["run", "web", "-i", "--", "sh", "-c", &format!("sleep {number}; true")];
        let mut child = lab.command(&command);
        let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let words = format!("sleep {number}");
        let found = poll(Duration::from_secs(60), || {
            machines.iter().find(|one| tool("docker", &["exec", one, "ps", "-eo", "args"]).contains(&words))
        });
        (child.expect("the binary runs"), found.expect("it runs somewhere").clone())
    };
    // Ctrl-C interrupts it.
    let (child, machine) = start("4721");
    tool("kill", &["-INT", &child.id().to_string()]);
    let ended = seen(&child.wait_with_output().expect("its end"));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    gone(&machine, "sleep 4721");
    // The command line is killed.
    let (mut child, machine) = start("4722");
    child.kill().expect("killed");
    child.wait().expect("its end");
    gone(&machine, "sleep 4722");
    // The agent is killed.
    let (child, machine) = start("4723");
    tool(
        "docker",
        &["exec", &machine, "systemctl", "kill", "--signal=KILL", "--kill-who=main", "fleetwright-agent"],
    );
    let lost = seen(&child.wait_with_output().expect("its end"));
    assert!(lost.code == Some(1) && lost.err.contains("broke before the program ended"), "{lost:?}");
    gone(&machine, "sleep 4723");
    // Nothing of them is left, and what they were is recorded without arguments.
    let left = || lab.on_manager("docker service ls --format '{{.Name}}'").unwrap_or_default();
    let removed = poll(Duration::from_secs(120), || (!left().contains("run_web")).then_some(()));
    assert!(removed.is_some(), "{}", left());
    let history = lab.ok(&["job", "history", "--commands", "-o", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let exits: Vec<i64> = history["occurrences"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["exit"].as_i64())
        .collect();
    // The newest first: the killed agent's, the killed command line's, and those that ended.
    assert!(exits.starts_with(&[1, 129, 130, 127, 5, 9]), "{exits:?}");
}
