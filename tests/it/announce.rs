//! The announcer of the shipped documents: on a machine that has booted them, against a real etcd in another container,
//! and in a whole cluster with its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fleetwright::local::image::Release;
use fleetwright::model::machine::{Machine, Role};

use crate::support::lab::{Lab as Fleet, fleetwright, poll, tool};
use crate::support::shipped;

/// What no wait here should reach.
const PATIENCE: Duration = Duration::from_secs(60);
/// The lease's time, and what etcd takes to see that it has passed.
const LEASE: Duration = Duration::from_secs(30);
/// What a machine may take from its first moment until it is announced, and etcd with it.
const CLUSTER: Duration = Duration::from_secs(240);
/// What the machine's capabilities are in the local cloud, too.
const CAPABILITIES: &str = "SYS_ADMIN NET_ADMIN SYS_PTRACE SYS_NICE NET_RAW MKNOD SYS_CHROOT DAC_READ_SEARCH SYSLOG \
                            LINUX_IMMUTABLE IPC_LOCK AUDIT_CONTROL";

/// A network with an etcd and a machine, which goes when the test ends.
struct Lab {
    name: String,
    seed: tempfile::TempDir,
}

impl Lab {
    fn new(user_data: &str) -> Self {
        // The machine image is made where it is missing.
        let seed = tempfile::tempdir().expect("a folder");
        let triv = seed.path().join("triv.yaml");
        std::fs::write(&triv, "#cloud-config\nhostname: first\n").expect("written");
        let made = fleetwright().args(["cloud-config", "boot"]).arg(&triv).output().expect("the binary runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let lab = Self { name: format!("fleetwright-announce-{}", std::process::id()), seed };
        tool("docker", &["network", "create", &lab.name]);
        lab.start_etcd();
        lab.start_machine(user_data);
        lab
    }

    fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    fn start_etcd(&self) {
        let (name, image) = (self.part("etcd"), fleetwright::local::image::tag(Release::default()));
        let own = format!("http://{name}:2379");
        tool(
            "docker",
            &[
                "run",
                "-d",
                "--name",
                &name,
                "--network",
                &self.name,
                &image,
                "etcd",
                "--data-dir",
                "/data",
                "--listen-client-urls",
                "http://0.0.0.0:2379",
                "--advertise-client-urls",
                &own,
            ],
        );
    }

    fn start_machine(&self, user_data: &str) {
        let seed = self.seed.path();
        std::fs::write(seed.join("user-data"), user_data).expect("written");
        std::fs::write(seed.join("meta-data"), "instance-id: i-0123\nlocal-hostname: m\n").expect("written");
        let mut command = Command::new("docker");
        command.args(["run", "-d", "--name", &self.part("machine"), "--network", &self.name]);
        command.args(CAPABILITIES.split_whitespace().flat_map(|name| ["--cap-add", name]));
        command.args(["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]);
        let init = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            command.args(["--cgroupns", "private"]);
            "mount -o remount,bind,rw /sys/fs/cgroup && exec /sbin/init"
        } else {
            command.args(["--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]);
            "exec /sbin/init"
        };
        command.args(["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-v", "/var/lib/docker"]);
        command.arg("-v").arg(format!("{}:/var/lib/cloud/seed/nocloud:ro", seed.display()));
        command.arg("-v").arg(format!("{}:/usr/local/bin/fleetwright:ro", shipped::AGENT));
        // The agent is to find no metadata service, wherever this runs.
        let init = format!("ip route add unreachable 169.254.169.254 && {init}");
        command.args([&fleetwright::local::image::tag(Release::default()), "sh", "-c", &init]);
        let output = command.output().expect("docker runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a shell line in a part; its output, if it ends well.
    fn try_in(&self, part: &str, line: &str) -> Option<String> {
        let output = Command::new("docker")
            .args(["exec", &self.part(part), "sh", "-c", line])
            .output()
            .expect("docker runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn machine(&self, line: &str) -> String {
        self.try_in("machine", line).unwrap_or_else(|| panic!("`{line}` failed; {}", self.log()))
    }

    fn log(&self) -> String {
        let line = "journalctl -b --no-pager -u fleetwright-announce";
        self.try_in("machine", line).unwrap_or_default()
    }

    /// The keys of all machines and their values; `None` while etcd does not answer.
    fn hosts(&self) -> Option<String> {
        self.try_in("etcd", "ETCDCTL_API=3 etcdctl get --prefix /fleetwright/hosts/")
    }

    fn until(&self, what: &str, limit: Duration, condition: impl Fn(&str) -> bool) -> Duration {
        let begun = Instant::now();
        let found = poll(limit, || self.hosts().filter(|hosts| condition(hosts)));
        assert!(found.is_some(), "{what}: not within {limit:?}; there is {:?}; {}", self.hosts(), self.log());
        begun.elapsed()
    }

    fn announced(&self, what: &str) -> Duration {
        self.until(what, PATIENCE, |hosts| hosts.starts_with("/fleetwright/hosts/i-0123\n"))
    }

    fn withdrawn(&self, what: &str, limit: Duration) -> Duration {
        self.until(what, limit, str::is_empty)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for part in ["machine", "etcd"] {
            let _ = Command::new("docker").args(["rm", "-fv", &self.part(part)]).output();
        }
        let _ = Command::new("docker").args(["network", "rm", &self.name]).output();
    }
}

#[test]
fn a_machine_is_announced_while_it_serves_and_no_longer() {
    let lab = Lab::new(&shipped::user_data("workers", "worker.yaml"));
    let active = "systemctl is-active --quiet fleetwright-announce fleetwright-agent";
    poll(PATIENCE, || lab.try_in("machine", active)).unwrap_or_else(|| panic!("not active; {}", lab.log()));
    // Nobody has said where an etcd is: it waits.
    assert_eq!(lab.hosts().as_deref(), Some(""));
    assert!(lab.log().contains("waiting for /run/fleetwright/etcd-client.env"), "{}", lab.log());

    let access = format!("ETCDCTL_API=3\\nETCDCTL_ENDPOINTS=http://{}:2379\\n", lab.part("etcd"));
    lab.machine(&format!(
        "mkdir -p /run/fleetwright && printf '{access}' > /run/fleetwright/new \
         && mv /run/fleetwright/new /run/fleetwright/etcd-client.env"
    ));
    eprintln!("announced after {:?}", lab.announced("the key"));
    let hosts = lab.hosts().expect("etcd answers");
    let value: serde_json::Value =
        serde_json::from_str(hosts.lines().nth(1).expect("a value")).expect("it is JSON");
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = tool("docker", &["inspect", "--format", format, &lab.part("machine")]);
    assert_eq!((&value["address"], &value["role"]), (&address.trim().into(), &"worker".into()), "{value}");
    let since = value["since"].as_str().expect("a time");
    assert!(since.len() == 20 && since.ends_with('Z'), "{since}");

    // Not healthy: withdrawn until it is again.
    lab.machine("systemctl stop fleetwright-agent");
    eprintln!("withdrawn {:?} after the agent", lab.withdrawn("the agent has stopped", PATIENCE));
    lab.machine("systemctl start fleetwright-agent");
    lab.announced("the agent is back");
    lab.machine("systemctl stop docker.socket docker.service");
    eprintln!("withdrawn {:?} after Docker", lab.withdrawn("Docker has stopped", PATIENCE));
    lab.machine("systemctl start docker.service");
    lab.announced("Docker is back");

    // An etcd that comes back with what it knew, and one that has lost it.
    tool("docker", &["stop", "--time", "1", &lab.part("etcd")]);
    let complained = poll(PATIENCE, || lab.log().lines().any(|line| line.contains("etcd: ")).then_some(()));
    assert!(complained.is_some(), "{}", lab.log());
    let rounds = lab.log().lines().filter(|line| line.contains("etcd: ")).count();
    assert!(rounds <= 3, "what goes on is said once; {}", lab.log());
    tool("docker", &["start", &lab.part("etcd")]);
    eprintln!("announced {:?} after etcd's return", lab.announced("etcd is back"));
    tool("docker", &["rm", "-fv", &lab.part("etcd")]);
    lab.start_etcd();
    eprintln!("announced {:?} after a new etcd", lab.announced("etcd is new"));

    // Stopped, it withdraws the key itself: by the time that systemctl returns.
    lab.machine("systemctl stop fleetwright-announce");
    assert_eq!(lab.hosts().as_deref(), Some(""), "{}", lab.log());
    lab.machine("systemctl start fleetwright-announce");
    lab.announced("it was started again");

    // The agent says so before work is taken off the machine.
    lab.machine("touch /run/fleetwright/draining");
    lab.withdrawn("the machine is being drained", Duration::from_secs(20));
    lab.machine("rm /run/fleetwright/draining");
    lab.announced("it takes work again");

    // Killed, the key goes with its lease.
    tool("docker", &["kill", &lab.part("machine")]);
    assert!(lab.hosts().is_some_and(|hosts| !hosts.is_empty()), "the key outlives the machine for a while");
    eprintln!("gone {:?} after the machine", lab.withdrawn("the machine was killed", LEASE));
}

#[test]
fn every_machine_of_a_cluster_is_announced_and_its_heir_when_it_dies() {
    let lab = Fleet::up();
    let snapshot = lab.snapshot().expect("the cluster answers");
    let workers: Vec<&Machine> = snapshot.machines.iter().filter(|m| m.role == Role::Worker).collect();
    let (asked, victim) = (lab.container(workers[0]), workers[1]);
    // As the agent's documents say: the endpoints and certificates of the machine that asks.
    let line = "set -a && . /run/fleetwright/etcd-client.env && etcdctl get --prefix --keys-only /fleetwright/hosts/";
    let announced = || {
        let output =
            Command::new("docker").args(["exec", &asked, "sh", "-c", line]).output().expect("docker runs");
        let keys = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = keys.lines().filter_map(|key| key.strip_prefix("/fleetwright/hosts/"));
        names.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let all: BTreeSet<String> = snapshot.machines.iter().map(|machine| machine.id.to_string()).collect();
    let whole = poll(CLUSTER, || (announced() == all).then_some(()));
    assert!(whole.is_some(), "there are {all:?}, and announced are {:?}", announced());

    tool("docker", &["kill", &lab.container(victim)]);
    let begun = Instant::now();
    let name = victim.id.to_string();
    assert!(
        poll(LEASE, || (!announced().contains(&name)).then_some(())).is_some(),
        "{name} is still announced"
    );
    eprintln!("gone {:?} after the machine", begun.elapsed());
    let whole = poll(CLUSTER, || (announced().len() == all.len()).then_some(()));
    assert!(whole.is_some(), "announced are {:?}", announced());
    eprintln!("its heir is announced {:?} after", begun.elapsed());
}
