//! What machines do when the cluster's majority is away, for real: nothing that a majority may need
//! is deleted, and everything comes back without a person.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use fleetwright::model::machine::{Machine, Role};
use fleetwright::model::name::MachineId;
use fleetwright::plan::agent::membership::Waiting;
use fleetwright::port::cluster::Snapshot;

use crate::faults::{deploy, running, unique};
use crate::support::lab::{Lab, poll, ready, service, tool};

/// How long the cluster may take to be whole again, on two busy cores.
const LIMIT: Duration = Duration::from_secs(300);
/// How long one control machine runs alone in the long form. An agent once deleted the managers' log
/// after 90 s.
const ALONE: Duration = Duration::from_secs(100);
/// The same in the short form, after its agent has logged that it waits for a leader. The decisions that
/// follow from this state are tested in `plan::agent::membership`; the earliest is a restart after 10 s.
const ALONE_BRIEFLY: Duration = Duration::from_secs(15);

/// Runs a shell line in a machine; its output, if it succeeded.
fn attempt(lab: &Lab, machine: &Machine, line: &str) -> Option<String> {
    let container = lab.container(machine);
    let output = Command::new("docker").args(["exec", &container, "sh", "-c", line]).output();
    let output = output.expect("docker can be run");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a shell line in a machine that must succeed.
fn inside(lab: &Lab, machine: &Machine, line: &str) -> String {
    tool("docker", &["exec", &lab.container(machine), "sh", "-c", line]).trim().to_owned()
}

/// The identity of the managers' log on disk; a new one is another file.
fn kept(lab: &Lab, machine: &Machine) -> Option<String> {
    attempt(lab, machine, "stat -c %i-%W /var/lib/docker/swarm/raft/wal-v3-encrypted")
}

fn swarm(lab: &Lab, machine: &Machine) -> Option<String> {
    attempt(lab, machine, "docker info --format '{{.Swarm.Cluster.ID}}'").filter(|id| !id.is_empty())
}

fn node(lab: &Lab, machine: &Machine) -> Option<String> {
    attempt(lab, machine, "docker info --format '{{.Swarm.NodeID}}'").filter(|id| !id.is_empty())
}

fn journal(lab: &Lab, machine: &Machine) -> String {
    attempt(lab, machine, "journalctl -u fleetwright-agent -n 60 --no-pager").unwrap_or_default()
}

fn machines(snapshot: &Snapshot, role: Role) -> Vec<Machine> {
    snapshot.machines.iter().filter(|machine| machine.role == role).cloned().collect()
}

fn whole(lab: &Lab, what: &str) -> Snapshot {
    lab.until(what, LIMIT, |snapshot| {
        (ready(snapshot, Role::Control) == 3 && ready(snapshot, Role::Worker) == 2).then(|| snapshot.clone())
    })
}

const STOP: &str = "systemctl stop fleetwright-agent && systemctl stop docker.socket docker.service";
const START: &str = "systemctl start --no-block docker.socket docker.service fleetwright-agent";

/// All orders of three machines.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn control_machines_that_start_one_after_the_other_keep_what_they_hold() {
    let lab = Lab::up();
    let commit = deploy(&lab, &unique("staggered"));
    // In the long form every order, and Docker restarted with two minutes between.
    let long = std::env::var_os("FLEETWRIGHT_OUTAGES").is_some();
    let orders = if long { &ORDERS[..] } else { &ORDERS[..1] };
    let gap = if long { Duration::from_secs(120) } else { Duration::ZERO };
    for order in orders {
        let before = whole(&lab, "the cluster is whole");
        let control = machines(&before, Role::Control);
        let worker = machines(&before, Role::Worker).remove(0);
        let state: Vec<_> = control.iter().map(|machine| kept(&lab, machine)).collect();
        let swarm_before = poll(LIMIT, || swarm(&lab, &control[0])).expect("a swarm with a leader");
        let worker_before = node(&lab, &worker);
        let instances = healthy(&before);
        // All at once: Docker takes 20 s to stop without a majority.
        std::thread::scope(|scope| {
            let lab = &lab;
            for machine in &control {
                scope.spawn(move || inside(lab, machine, STOP));
            }
        });
        let begun = Instant::now();
        for (number, index) in order.iter().enumerate() {
            let machine = &control[*index];
            let since = inside(&lab, machine, "date +%s");
            inside(&lab, machine, START);
            let alone = if long { ALONE } else { ALONE_BRIEFLY };
            let until = if number == 0 { alone.max(gap) } else { gap };
            if number == 0 {
                let label = Waiting::Leader.label();
                let said = format!("journalctl -u fleetwright-agent --since @{since} | grep -F '{label}'");
                let waits = poll(LIMIT, || attempt(&lab, machine, &said));
                assert!(waits.is_some(), "{}", journal(&lab, machine));
            }
            let started = Instant::now();
            while started.elapsed() < until {
                assert_eq!(kept(&lab, machine), state[*index], "{}", journal(&lab, machine));
                std::thread::sleep(Duration::from_secs(2));
            }
        }
        let after = whole(&lab, "the control machines have a majority again");
        println!("order {order:?}: whole {:.0} s after the first start", begun.elapsed().as_secs_f64());
        for (machine, state) in control.iter().zip(&state) {
            assert_eq!(kept(&lab, machine), *state, "{}", journal(&lab, machine));
        }
        let swarm_after = poll(LIMIT, || swarm(&lab, &control[0]));
        assert_eq!(swarm_after, Some(swarm_before), "the same swarm");
        assert_eq!(node(&lab, &worker), worker_before, "the worker is the same node");
        assert!(running(&after, &commit), "{after:#?}");
        // Nothing was stopped on the workers.
        let workers: BTreeSet<_> = machines(&after, Role::Worker).into_iter().map(|one| one.id).collect();
        let stay = |all: &BTreeMap<String, MachineId>| -> BTreeSet<String> {
            all.iter().filter(|(_, at)| workers.contains(*at)).map(|(id, _)| id.clone()).collect()
        };
        let left = stay(&healthy(&lab.snapshot().expect("a cluster")));
        assert!(stay(&instances).is_subset(&left), "{instances:?} {left:?}");
    }
}

/// The healthy instances of the application and where they run.
fn healthy(snapshot: &Snapshot) -> BTreeMap<String, MachineId> {
    let web = service(snapshot, "web").expect("it is deployed");
    let healthy =
        web.instances.iter().filter(|one| one.state == fleetwright::model::service::InstanceState::Healthy);
    healthy.filter_map(|one| Some((one.id.clone(), one.machine.clone()?))).collect()
}

#[test]
fn an_engine_that_started_before_its_address_existed_is_restarted_and_keeps_what_it_holds() {
    let lab = Lab::up();
    let machine = machines(&whole(&lab, "the cluster is whole"), Role::Control).remove(0);
    let before = kept(&lab, &machine);
    assert!(before.is_some());
    let device = inside(
        &lab,
        &machine,
        "ip -o -4 addr show | grep -v ' lo ' | grep -v docker | awk '{print $2; exit}'",
    );
    let (route, prefix) = (
        inside(&lab, &machine, "ip route show default"),
        inside(&lab, &machine, &format!("ip -o -4 addr show dev {device} | awk '{{print $4; exit}}'")),
    );
    println!("{prefix} on {device}, {route}");
    inside(&lab, &machine, &format!("ip addr del {prefix} dev {device} && systemctl restart docker"));
    let failed = poll(Duration::from_secs(60), || {
        let info = "docker info --format '{{.Swarm.LocalNodeState}}: {{.Swarm.Error}}'";
        attempt(&lab, &machine, info).filter(|state| state.starts_with("error"))
    });
    println!("without its address: {failed:?}");
    assert!(failed.is_some(), "{}", journal(&lab, &machine));
    inside(&lab, &machine, &format!("ip addr add {prefix} dev {device} && ip route add {route}"));
    let begun = Instant::now();
    let active = poll(LIMIT, || {
        let info = "docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'";
        attempt(&lab, &machine, info).filter(|state| state == "active true")
    });
    assert!(active.is_some(), "{}", journal(&lab, &machine));
    whole(&lab, "the machine is a manager again");
    println!("a manager again {:.0} s after its address was back", begun.elapsed().as_secs_f64());
    assert_eq!(kept(&lab, &machine), before, "{}", journal(&lab, &machine));
    let journal = journal(&lab, &machine);
    assert!(journal.contains("Docker is restarted; nothing is deleted"), "{journal}");
}

#[test]
fn machines_whose_nodes_were_removed_join_again() {
    let lab = Lab::up();
    let before = whole(&lab, "the cluster is whole");
    let leader = before.machines.iter().find(|machine| machine.leader).expect("a leader").clone();
    let follower =
        machines(&before, Role::Control).into_iter().find(|machine| !machine.leader).expect("a follower");
    let worker = machines(&before, Role::Worker).remove(0);
    for machine in [&worker, &follower] {
        let old = node(&lab, machine).expect("a node");
        let remove = format!("docker node demote {old} >/dev/null 2>&1; docker node rm --force {old}");
        inside(&lab, &leader, &remove);
        let begun = Instant::now();
        lab.until("the machine is another node of the cluster", LIMIT, |snapshot| {
            let back = snapshot.machines.iter().any(|one| one.id == machine.id);
            let new = node(&lab, machine).is_some_and(|new| new != old);
            (back && new && ready(snapshot, machine.role) >= ready(&before, machine.role)).then_some(())
        });
        println!(
            "{} ({}) joined again after {:.0} s",
            machine.id,
            machine.role.word(),
            begun.elapsed().as_secs_f64()
        );
    }
}

#[test]
fn workers_join_the_cluster_that_replaces_one_whose_control_machines_are_all_lost() {
    let lab = Lab::up();
    deploy(&lab, &unique("all control machines lost"));
    let before = whole(&lab, "the cluster is whole");
    let workers = machines(&before, Role::Worker);
    let old = poll(LIMIT, || swarm(&lab, &machines(&before, Role::Control)[0])).expect("a swarm");
    for machine in machines(&before, Role::Control) {
        tool("docker", &["rm", "-f", &lab.container(&machine)]);
    }
    let begun = Instant::now();
    let after = whole(&lab, "new control machines have founded a cluster and the workers have joined it");
    println!("whole after {:.0} s", begun.elapsed().as_secs_f64());
    let new = poll(LIMIT, || swarm(&lab, &machines(&after, Role::Control)[0])).expect("a swarm");
    assert_ne!(old, new);
    let ids: BTreeSet<_> = machines(&after, Role::Worker).into_iter().map(|machine| machine.id).collect();
    assert!(workers.iter().all(|worker| ids.contains(&worker.id)), "the same machines: {ids:?}");
    // One went after the other: the second asked while it was the first one's turn, or came later.
    let turns: Vec<String> = workers.iter().map(|worker| journal(&lab, worker)).collect();
    assert!(turns.iter().all(|journal| journal.contains("Replaced")), "{turns:#?}");
    let commit = deploy(&lab, &unique("after the control machines"));
    lab.until("the cluster takes a deploy", Duration::from_secs(90), |s| running(s, &commit).then_some(()));
}
