//! The starter of the pipeline server, on a machine: from an empty volume to a run and a backup, and on the next machine
//! with the same volume. CloudFormation, the machine, its Docker, git and the registry are real. The emulator attaches
//! volumes in its records alone, so the test hands their devices to the machines.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::stacks::Stacks;
use crate::support::git_http::GitHttp;
use crate::support::lab::{copy_tree, home, poll, root, tool};

/// This computer, as machines of a local cloud know it.
const HOST: &str = "local-cloud.internal";
/// What is on the volume.
const FOLDER: &str = "/var/lib/fleetwright-serve";
/// A machine boots, installs what is missing, and attaches its volume.
const BOOT: Duration = Duration::from_secs(400);

const PIPELINE: &str = "\
web:
  repository: web
  steps:
    - build: {image: ci/web}
    - run: {name: test, image: ci/web, command: 'echo tested; grep one /www/index.html'}
";

/// A disk, as a file and a device of this computer.
struct Disk {
    device: String,
    _file: tempfile::NamedTempFile,
}

impl Disk {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(4 << 30).expect("its length");
        let path = file.path().to_str().expect("a path");
        Self { device: tool("losetup", &["--find", "--show", path]).trim().to_owned(), _file: file }
    }

    /// Makes it the machine's, where the engine of EC2 would attach it.
    fn attach(&self, machine: &str) {
        let number = self.device.trim_start_matches("/dev/loop");
        // A machine of the local cloud may use no device of this computer. Only with control groups of version 1 can one be
        // allowed to a container that runs: first to the container's group, then to those below it.
        let id = tool("docker", &["inspect", "--format", "{{.Id}}", machine]);
        let group = format!("/sys/fs/cgroup/devices/docker/{}", id.trim());
        assert!(
            Path::new(&group).exists(),
            "this test needs control groups of version 1: there is no {group}"
        );
        allow(Path::new(&group), &format!("b 7:{number} rwm"));
        tool("docker", &["exec", machine, "mknod", "/dev/xvdf", "b", "7", number]);
    }
}

/// Allows a device to a control group, and then to those below it.
fn allow(group: &Path, rule: &str) {
    std::fs::write(group.join("devices.allow"), rule).expect("allowed");
    let below = std::fs::read_dir(group).expect("a folder").map(|entry| entry.expect("an entry").path());
    below.filter(|path| path.is_dir()).for_each(|path| allow(&path, rule));
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

struct Site {
    stacks: Stacks,
    disk: Disk,
}

impl Site {
    /// The machine that the emulator has attached the journal's volume to, other than `before`.
    fn machine(&self, before: &str) -> String {
        let found = poll(BOOT, || {
            let volumes = self.stacks.query("ec2", "Action=DescribeVolumes&Version=2016-11-15");
            let attached =
                volumes.split("<volumeId>").find(|volume| volume.contains("<device>/dev/sdf</device>"))?;
            let instance = attached.split("<instanceId>").nth(1)?.split('<').next()?;
            let container = format!("fleetwright-stacks-{instance}");
            let runs =
                Command::new("docker").args(["exec", &container, "true"]).output().expect("docker runs");
            (container != before && runs.status.success()).then_some(container)
        });
        let machine = found.unwrap_or_else(|| {
            let machines =
                tool("docker", &["ps", "--format", "{{.Names}}", "--filter", "name=fleetwright-stacks-i-"]);
            let first = machines.lines().find(|name| *name != before).unwrap_or_default();
            panic!("no machine attaches the volume:\n{machines}\n{}", journal(first))
        });
        self.disk.attach(&machine);
        machine
    }
}

/// What units of a machine have printed.
fn journal(machine: &str) -> String {
    let units = ["-u", "fleetwright-journal", "-u", "fleetwright-serve", "-u", "cloud-final"];
    let arguments = [&["exec", machine, "journalctl", "--no-pager", "-n", "120"][..], &units].concat();
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A command on the machine, in the infra repository there and with the server's variables.
fn there(machine: &str, arguments: &[&str]) -> Output {
    let environment = format!("--property=EnvironmentFile={FOLDER}/environment");
    let home = format!("--setenv=FLEETWRIGHT_HOME={FOLDER}/home");
    let infra = format!("{FOLDER}/infra");
    let run =
        ["exec", machine, "systemd-run", "--quiet", "--pipe", "--wait", "--collect", &environment, &home];
    let program = ["/usr/local/bin/fleetwright", "-C", &infra];
    Command::new("docker").args([&run[..], &program, arguments].concat()).output().expect("docker runs")
}

fn runs(machine: &str) -> Option<Vec<Value>> {
    let output = there(machine, &["pipeline", "list", "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout).ok()?;
    list["runs"].as_array().cloned()
}

/// Waits until a run of the pipeline has succeeded.
fn succeeds(machine: &str, pipeline: &str) {
    let mut last = None;
    let found = poll(Duration::from_secs(180), || {
        last = runs(machine);
        let ended = |run: &&Value| run["pipeline"] == pipeline && run["state"] == "succeeded";
        last.as_ref()?.iter().any(|run| ended(&run)).then_some(())
    });
    assert!(found.is_some(), "no run of {pipeline} succeeds: {last:#?}\n{}", journal(machine));
}

fn commit(folder: &Path, subject: &str) {
    let mut options = git2::RepositoryInitOptions::new();
    git2::Repository::init_opts(folder, options.initial_head("main")).expect("a repository");
    fleetwright::cli::demo::application::commit_all(folder, subject).expect("a commit");
}

#[test]
fn the_servers_machine_is_replaced_and_its_journal_stays() {
    let stacks = Stacks::up("ciserver", "10.73.");
    stacks.edit("stacks/cluster.yaml", "machines: 1", "machines: 0");
    copy_tree(&root().join("examples/ci"), &stacks.path(""));
    stacks.edit("stacks/ci.yaml", "git@git.example:shop/infra.git", "INFRA");
    std::fs::write(stacks.path("pipelines/web.yaml"), PIPELINE).expect("written");
    let git = tempfile::tempdir().expect("a folder");
    let http = GitHttp::serve(git.path());
    stacks.edit("stacks/ci.yaml", "INFRA", &http.url(HOST, "infra"));
    stacks.parameter("/fleetwright/ci/deploy-key", "git over HTTP reads no key\n");
    let application = git.path().join("web");
    std::fs::create_dir_all(application.join("www")).expect("a folder");
    std::fs::write(application.join("Dockerfile"), "FROM demo/base:1\nCOPY www /www\n").expect("written");
    std::fs::write(application.join("www/index.html"), "one\n").expect("written");
    commit(&application, "first");
    stacks.ends(&["validate"], 0);
    let infra = git.path().join("infra");
    let push = |subject: &str| {
        copy_tree(&stacks.path(""), &infra);
        commit(&infra, subject);
    };
    push("first");
    stacks.ends(&["apply", "-y"], 0);

    // The volume is new: it gets a file system, and the server waits for its variables.
    let site = Site { stacks, disk: Disk::new() };
    let machine = site.machine("");
    let mounted = poll(BOOT, || {
        let arguments = ["exec", &machine, "mountpoint", "--quiet", FOLDER];
        Command::new("docker").args(arguments).status().expect("docker runs").success().then_some(())
    });
    assert!(mounted.is_some(), "{}", journal(&machine));
    let port = site.stacks.var("FLEETWRIGHT_REGISTRY_PULL").rsplit(':').next().expect("a port").to_owned();
    let variables = format!(
        "DEMO_WEB_REPOSITORY={}\nFLEETWRIGHT_REGISTRY_PUSH={HOST}:{port}\nFLEETWRIGHT_REGISTRY_PULL={HOST}:{port}\n",
        http.url(HOST, "web")
    );
    let trust = |machine: &str| {
        let ca = std::fs::read_to_string(home().join("local/stacks/registry/ca.pem")).expect("the authority");
        let folder = format!("/etc/docker/certs.d/{HOST}:{port}");
        let script = format!("mkdir -p {folder}; printf '%s' '{ca}' >{folder}/ca.crt");
        tool("docker", &["exec", machine, "sh", "-c", &script]);
    };
    trust(&machine);
    let script = format!("umask 077; printf '%s' '{variables}' >{FOLDER}/environment");
    tool("docker", &["exec", &machine, "sh", "-c", &script]);
    succeeds(&machine, "web");
    let log = there(&machine, &["pipeline", "logs", "1", "test"]);
    assert_eq!(String::from_utf8_lossy(&log.stdout), "tested\none\n");

    // A change of the infra repository is noticed.
    std::fs::write(site.stacks.path("pipelines/second.yaml"), PIPELINE.replacen("web:", "second:", 1))
        .expect("written");
    copy_tree(&site.stacks.path("pipelines"), &infra.join("pipelines"));
    commit(&infra, "second");
    let began = poll(Duration::from_secs(120), || {
        there(&machine, &["pipeline", "run", "second"]).status.success().then_some(())
    });
    assert!(began.is_some(), "{}", journal(&machine));
    succeeds(&machine, "second");
    tool("docker", &["exec", &machine, "systemctl", "start", "fleetwright-backup"]);
    let before = runs(&machine).expect("a list").len();

    // The next machine has the same journal.
    let id = machine.trim_start_matches("fleetwright-stacks-");
    let terminate = format!(
        "Action=TerminateInstanceInAutoScalingGroup&Version=2011-01-01&InstanceId={id}\
         &ShouldDecrementDesiredCapacity=false"
    );
    site.stacks.query("autoscaling", &terminate);
    poll(Duration::from_secs(120), || {
        let runs = Command::new("docker").args(["exec", &machine, "true"]).output().expect("docker runs");
        (!runs.status.success()).then_some(())
    })
    .expect("the machine is gone");
    let next = site.machine(&machine);
    let mut last = None;
    poll(BOOT, || {
        last = runs(&next);
        last.as_ref().is_some_and(|runs| runs.len() >= before).then_some(())
    })
    .unwrap_or_else(|| panic!("the journal has {last:#?}\n{}", journal(&next)));
    trust(&next);
    let run = there(&next, &["pipeline", "run", "second"]);
    assert!(run.status.success(), "{}\n{}", String::from_utf8_lossy(&run.stderr), journal(&next));
    site.stacks.ends(&["destroy", "-y"], 0);
}
