//! Power and quorum, lost and regained on real machines: nothing that a majority had is lost, and
//! no container is stopped that need not be.
//!
//! `make test-machines` cuts the power of the fleet once. `make test-power` is the long form, and runs the tests
//! in [`long`] as well, which `make test-machines` leaves out. FLEETWRIGHT_POWER says
//! how often the power fails; FLEETWRIGHT_POWER_SEED is the first seed, and each round prints its own.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use fleetwright::model::machine::{Machine, Role};
use fleetwright::model::name::MachineId;
use fleetwright::port::cluster::Snapshot;

use crate::faults::{deploy, running, unique};
use crate::support::lab::{Lab, poll, ready, service, tool};

/// How long machines may take from their boot until the cluster is whole.
const WHOLE: Duration = Duration::from_secs(300);
/// How long machines are off. Some control machines are then without a majority for longer than a
/// minute and a half, after which agents once deleted what they held.
const OFF: &str = "2s..170s";
/// The same in `make test-machines`, which has no time for that.
const OFF_BRIEFLY: &str = "2s..30s";
/// With it, in the long form, the first control machine is on after 3 s and the second after 151 s.
const STAGGERED: u64 = 20_262_519;
/// With it, in `make test-machines`, the first one is on after 2 s, the workers within 8 s, and the other control
/// machines after 27 s.
const STAGGERED_BRIEFLY: u64 = 20_262_678;
/// The key that is in etcd before the fault.
const KEY: &str = "/tests/power";

/// What must be the same after the fault.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    /// The engine's cluster, which a second foundation would change.
    cluster: String,
    /// The engine's node of each machine.
    nodes: BTreeMap<String, String>,
    /// The token of managers: it changes when the cluster's authority does.
    token: String,
    /// The revisions of the service, with their digests and outcomes.
    revisions: Vec<String>,
    /// What etcd holds.
    etcd: String,
    /// Secrets and configs of the engine.
    objects: BTreeSet<String>,
}

/// The fleet with something in it to lose.
struct Fault {
    lab: Lab,
    machines: Vec<Machine>,
    commit: String,
}

impl Fault {
    fn prepare() -> Self {
        let lab = Lab::up();
        let commit = deploy(&lab, &unique("power"));
        let machines = lab.until("it is deployed", Duration::from_secs(60), |snapshot| {
            (is_whole(snapshot) && running(snapshot, &commit)).then(|| snapshot.machines.clone())
        });
        Self { lab, machines, commit }
    }

    fn of(&self, role: Role) -> Vec<&Machine> {
        self.machines.iter().filter(|machine| machine.role == role).collect()
    }

    /// Runs a shell line in a machine; `None` when it fails there.
    fn inside(&self, machine: &Machine, line: &str) -> Option<String> {
        let container = self.lab.container(machine);
        let output = Command::new("docker")
            .args(["exec", &container, "sh", "-c", line])
            .output()
            .expect("docker runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a line with etcd's environment in a control machine.
    fn etcd(&self, line: &str) -> Option<String> {
        let control = self.of(Role::Control)[0];
        self.inside(control, &format!("set -a && . /run/fleetwright/etcd-client.env && {line}"))
    }

    /// Puts something into etcd that no earlier round has put there.
    fn remember(&self, value: &str) {
        let put = format!("etcdctl put {KEY} '{value}'");
        let done = poll(Duration::from_secs(120), || self.etcd(&put));
        assert!(done.is_some(), "etcd takes nothing");
    }

    /// Asks the cluster for what must be kept.
    fn kept(&self) -> Option<Kept> {
        let control = self.of(Role::Control)[0];
        let nodes = self.inside(control, "docker node ls --format '{{.Hostname}} {{.ID}}'")?;
        let lists = "docker secret ls -q; docker config ls -q";
        let snapshot = self.lab.snapshot()?;
        let history = &service(&snapshot, "web")?.history;
        Some(Kept {
            cluster: self.inside(control, "docker info --format '{{.Swarm.Cluster.ID}}'")?,
            nodes: nodes
                .lines()
                .filter_map(|line| line.split_once(' '))
                .map(|(host, id)| (host.to_owned(), id.to_owned()))
                .collect(),
            token: self.inside(control, "docker swarm join-token -q manager")?,
            revisions: history
                .iter()
                .map(|r| format!("{} {:?} {} {:?}", r.number, r.digest, r.origin.commit, r.state))
                .collect(),
            etcd: self.etcd(&format!("etcdctl get --print-value-only {KEY}"))?,
            objects: self.inside(control, lists)?.lines().map(str::to_owned).collect(),
        })
    }

    fn must_keep(&self) -> Kept {
        poll(Duration::from_secs(60), || self.kept()).expect("a cluster that answers")
    }

    /// The containers of services on workers, with the moments of their starts.
    fn containers(&self) -> BTreeMap<MachineId, BTreeSet<String>> {
        let line = "docker ps -q --no-trunc --filter label=com.docker.swarm.service.name \
                    | xargs -r docker inspect --format '{{.Id}} {{.State.StartedAt}}'";
        let of = |machine: &&Machine| {
            let list = self.inside(machine, line).expect("the worker's Docker answers");
            (machine.id.clone(), list.lines().map(str::to_owned).collect())
        };
        self.of(Role::Worker).iter().map(of).collect()
    }

    /// Waits until the cluster is whole with the same machines, and compares.
    fn holds(&self, before: &Kept, what: &str) {
        let begun = Instant::now();
        let ids = |machines: &[Machine]| -> BTreeSet<MachineId> {
            machines.iter().map(|machine| machine.id.clone()).collect()
        };
        let whole = || {
            let snapshot = self.lab.snapshot()?;
            (is_whole(&snapshot) && running(&snapshot, &self.commit)).then_some(snapshot)
        };
        let Some(snapshot) = poll(WHOLE, whole) else {
            panic!("{what}: not whole after {WHOLE:?}\n{}", self.evidence());
        };
        println!("{what}: whole after {:.0} s", begun.elapsed().as_secs_f64());
        assert_eq!(ids(&snapshot.machines), ids(&self.machines), "{what}: other machines");
        // Certificates and endpoints of etcd are written again after a boot, members answer one by one.
        let same = || self.kept().filter(|after| after == before);
        if poll(Duration::from_secs(120), same).is_none() {
            assert_eq!(self.kept().as_ref(), Some(before), "{what}\n{}", self.evidence());
        }
        for machine in self.of(Role::Control) {
            let aside = self.inside(machine, "ls -d /var/lib/fleetwright/etcd.aside 2>/dev/null || true");
            assert_eq!(aside.as_deref(), Some(""), "{what}: {} has moved etcd's data aside", machine.id);
        }
    }

    /// A change goes through as well, and is what the next round has to lose.
    fn deploys(&mut self, what: &str) {
        self.commit = deploy(&self.lab, &unique(what));
        let commit = self.commit.clone();
        self.lab.until("the cluster takes a deployment", Duration::from_secs(90), |snapshot| {
            (is_whole(snapshot) && running(snapshot, &commit)).then_some(())
        });
    }

    /// What machines say of themselves, for the message of a failure.
    fn evidence(&self) -> String {
        let line = "docker info --format '{{.Swarm.LocalNodeState}} manager={{.Swarm.ControlAvailable}} \
                    cluster={{if .Swarm.Cluster}}{{.Swarm.Cluster.ID}}{{end}} {{.Swarm.Error}}'; \
                    systemctl is-active docker fleetwright-agent fleetwright-etcd; \
                    journalctl -u fleetwright-agent -o short-precise --no-pager -n 25; \
                    journalctl -u docker -o cat --no-pager -n 8";
        let status = self.lab.run(&["local", "status"]);
        let mut text = String::from_utf8_lossy(&status.stdout).into_owned();
        let status = self.lab.run(&["status"]);
        text.push_str(&String::from_utf8_lossy(&status.stdout));
        text.push_str(&String::from_utf8_lossy(&status.stderr));
        text.push_str(&self.lab.moves());
        for machine in &self.machines {
            let container = self.lab.container(machine);
            let output = Command::new("docker").args(["exec", &container, "sh", "-c", line]).output();
            let output = output.expect("docker runs");
            text.push_str(&format!("--- {} {}\n", machine.id, machine.role.word()));
            text.push_str(&String::from_utf8_lossy(&output.stdout));
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        text
    }
}

/// Three control machines, two workers, and the service with all its instances.
fn is_whole(snapshot: &Snapshot) -> bool {
    ready(snapshot, Role::Control) == 3
        && ready(snapshot, Role::Worker) == 2
        && service(snapshot, "web").is_some_and(|web| web.is_whole())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The power of all machines is cut at once, and each is switched on after a delay of its own.
#[test]
fn a_fleet_whose_power_failed_is_the_same_fleet_when_it_is_back() {
    let mut fault = Fault::prepare();
    let rounds = number("FLEETWRIGHT_POWER");
    let (off, staggered) = if rounds.is_some() { (OFF, STAGGERED) } else { (OFF_BRIEFLY, STAGGERED_BRIEFLY) };
    let first = number("FLEETWRIGHT_POWER_SEED").unwrap_or(staggered);
    for round in 0..rounds.unwrap_or(1) {
        let seed = (first + round).to_string();
        let what = format!("power cycle with the seed {seed}");
        fault.remember(&unique("power"));
        let before = fault.must_keep();
        let events =
            fault.lab.ok(&["local", "power-cycle", "--all", "--delay", off, "--seed", &seed, "-o", "json"]);
        assert_eq!(events.matches("\"power-on\"").count(), 5, "{events}");
        fault.holds(&before, &what);
        fault.deploys("after the power cut");
    }
}

/// What takes too long for every run of the tests.
mod long {
    use super::*;

    /// Longer than any agent waits for a majority before it does something about it.
    const APART: Duration = Duration::from_secs(150);

    /// Docker of all control machines is stopped, so that there is no majority, and started on one after the other.
    #[test]
    fn control_machines_without_a_majority_keep_their_state_and_workers_their_containers() {
        let mut fault = Fault::prepare();
        for order in [[1, 2, 0], [0, 2, 1], [1, 0, 2], [2, 0, 1], [0, 1, 2], [2, 1, 0]] {
            let what = format!("Docker started in the order {order:?}, {APART:?} apart");
            fault.remember(&unique("quorum"));
            let before = fault.must_keep();
            let containers = fault.containers();
            assert!(containers.values().any(|containers| !containers.is_empty()), "{containers:?}");
            let control: Vec<String> =
                fault.of(Role::Control).iter().map(|machine| fault.lab.container(machine)).collect();
            for machine in &control {
                tool("docker", &["exec", machine, "systemctl", "stop", "docker.socket", "docker.service"]);
            }
            for (at, index) in order.into_iter().enumerate() {
                if at > 0 {
                    // The fault itself: this long there is no majority, and then a bare one.
                    std::thread::sleep(APART);
                }
                // Without a majority the daemon is up after 20 s only.
                tool("docker", &["exec", &control[index], "systemctl", "start", "--no-block", "docker"]);
            }
            fault.holds(&before, &what);
            let after = fault.containers();
            assert_eq!(
                after,
                containers,
                "{what}: no container of a worker need be stopped\n{}",
                fault.evidence()
            );
            fault.deploys("after the quorum");
        }
    }

    /// One machine loses its power while the others go on: it is the same machine when it is back.
    #[test]
    fn each_machine_whose_power_fails_alone_comes_back_as_itself() {
        let fault = Fault::prepare();
        fault.remember(&unique("one"));
        let before = fault.must_keep();
        fault.lab.ok(&[
            "local",
            "power-cycle",
            "--all",
            "--one-at-a-time",
            "--delay",
            "20s..60s",
            "--order",
            "listed",
        ]);
        fault.holds(&before, "one machine after the other");
    }
}
