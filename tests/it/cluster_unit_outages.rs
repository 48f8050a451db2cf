//! What units do when a machine dies, when what they depend on is away for a while, and when nothing happens at all,
//! beside plain tasks of the engine in the same run. `make test-machines` runs it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fleetwright::model::machine::{Machine, Role};

use crate::support::lab::{Lab, poll, ready, tool};
use crate::support::units::{active, placed, put, remove, sh, workers};

/// A unit for each instance, which writes into one file which process it is, ten times a second.
const STEADY: &str = "\
[Unit]
Description=Runs steadily

[Service]
ExecStart=/bin/sh -c 'while :; do echo $$$$ >> /run/steady; sleep 0.1; done'
";

/// How many units run where many are meant.
fn many() -> usize {
    std::env::var("FLEETWRIGHT_UNITS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn manager(lab: &Lab, script: &str) -> String {
    lab.on_manager(script).expect("a manager answers").trim().to_owned()
}

/// Starts plain tasks of the engine on the workers.
fn start_tasks(lab: &Lab, count: usize) {
    let image = crate::cluster_unit_faults::image(lab);
    manager(
        lab,
        &format!(
            "docker service create --detach --name plain --replicas {count} --constraint node.role==worker \
             --entrypoint /bin/sh {image} -c 'trap \"exit 0\" TERM; while :; do sleep 1 & wait; done' >/dev/null"
        ),
    );
}

/// How many plain tasks run on a machine.
fn tasks_on(container: &str) -> usize {
    sh(container, "docker ps -q --filter name=^plain | wc -l").trim().parse().unwrap_or(0)
}

#[test]
fn a_killed_worker_s_units_run_elsewhere_as_soon_as_its_plain_tasks() {
    let lab = Lab::up();
    let count = 8;
    start_tasks(&lab, count);
    put(&lab, "templates/units/steady@.service", STEADY);
    let text = format!("steady: {{unit: steady@.service, replicas: {count}, placement: {{role: worker}}}}\n");
    put(&lab, "services/steady.yaml", &text);
    lab.ok(&["deploy", "steady", "--yes"]);
    let machines: Vec<String> = workers(&lab).iter().map(|machine| lab.container(machine)).collect();
    let both = |container: &String| (active(container, "steady").len(), tasks_on(container));
    let spread = poll(Duration::from_secs(60), || {
        let all: Vec<(usize, usize)> = machines.iter().map(both).collect();
        let sum = |of: fn(&(usize, usize)) -> usize| all.iter().map(of).sum::<usize>();
        (sum(|one| one.0) == count && sum(|one| one.1) == count && all[0].0 > 0 && all[0].1 > 0).then_some(())
    });
    assert!(spread.is_some(), "{:?}", machines.iter().map(both).collect::<Vec<_>>());

    tool("docker", &["kill", &machines[0]]);
    let begun = Instant::now();
    let (mut units, mut tasks) = (None, None);
    let moved = poll(Duration::from_secs(120), || {
        let (of_units, of_tasks) = both(&machines[1]);
        if of_units == count {
            units.get_or_insert_with(|| begun.elapsed());
        }
        if of_tasks == count {
            tasks.get_or_insert_with(|| begun.elapsed());
        }
        Some((units?, tasks?))
    });
    let (units, tasks) = moved.unwrap_or_else(|| panic!("units {units:?}, tasks {tasks:?}"));
    println!(
        "units of a killed worker ran elsewhere after {units:.1?}, plain tasks after {tasks:.1?}: {:.2} times",
        units.as_secs_f64() / tasks.as_secs_f64()
    );
    manager(&lab, "docker service rm plain");
    lab.until("the group has replaced the machine", Duration::from_secs(240), |snapshot| {
        (ready(snapshot, Role::Worker) == 2).then_some(())
    });
    remove(&lab, &["steady"]);
}

#[test]
fn what_runs_keeps_running_while_what_it_depends_on_is_away() {
    let lab = Lab::up();
    for machine in workers(&lab) {
        sh(&lab.container(&machine), "rm -f /run/steady");
    }
    put(&lab, "templates/units/steady.service", STEADY);
    put(
        &lab,
        "services/steady.yaml",
        "steady: {unit: steady.service, every_machine: true, exclusive: true, placement: {role: worker}}\n",
    );
    lab.ok(&["deploy", "steady", "--yes"]);
    let machines = placed(&lab, "steady", 2);
    let processes = |machine: &Machine| -> BTreeSet<String> {
        sh(&lab.container(machine), "sort -u /run/steady").lines().map(str::to_owned).collect()
    };
    let before: Vec<BTreeSet<String>> = machines.iter().map(processes).collect();
    assert!(before.iter().all(|one| one.len() == 1), "{before:?}");
    let unchanged = |what: &str| {
        placed(&lab, "steady", 2);
        let now: Vec<BTreeSet<String>> = machines.iter().map(processes).collect();
        assert_eq!(now, before, "{what}: the same process all the time, and no other");
        println!("{what}: each unit ran on");
    };

    for machine in &machines {
        sh(&lab.container(machine), "systemctl kill -s KILL containerd");
    }
    for machine in &machines {
        let container = lab.container(machine);
        let back = poll(Duration::from_secs(60), || {
            let state = sh(&container, "systemctl is-active containerd docker || true");
            (state == "active\nactive\n").then_some(())
        });
        assert!(back.is_some(), "containerd is back");
    }
    unchanged("containerd was killed on both");

    let emulator = lab.pid("emulator");
    tool("kill", &["-STOP", &emulator]);
    std::thread::sleep(Duration::from_secs(10));
    tool("kill", &["-CONT", &emulator]);
    unchanged("the cloud's interfaces were away for 10 s");

    let leader = lab.until("a leader", Duration::from_secs(60), |snapshot| {
        snapshot.machines.iter().find(|machine| machine.leader).cloned()
    });
    let container = lab.container(&leader);
    tool("docker", &["pause", &container]);
    std::thread::sleep(Duration::from_secs(10));
    tool("docker", &["unpause", &container]);
    lab.until("all control machines are back", Duration::from_secs(90), |snapshot| {
        (ready(snapshot, Role::Control) == 3).then_some(())
    });
    unchanged("the leader was paused for 10 s");
    remove(&lab, &["steady"]);
}

/// The agent's processor time on a machine, in hundredths of a second.
fn agent_time(container: &str) -> u64 {
    let script = "cut -d' ' -f14,15 /proc/$(systemctl show -p MainPID --value fleetwright-agent)/stat";
    sh(container, script).split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum()
}

/// The managers' log grows with each write: an object that is created has the number of its own.
fn log_index(lab: &Lab) -> u64 {
    let name = format!("probe-{}", crate::faults::unique("index").replace(' ', "-"));
    let script = format!(
        "echo x | docker config create {name} - >/dev/null && docker config inspect {name} --format '{{{{.Version.Index}}}}' \
         && docker config rm {name} >/dev/null"
    );
    manager(lab, &script).parse().expect("a number")
}

#[test]
fn idle_units_write_nothing_to_managers() {
    let lab = Lab::up();
    let count = many();
    let machines: Vec<String> = workers(&lab).iter().map(|machine| lab.container(machine)).collect();
    let minute = || {
        let (index, time): (u64, u64) = (log_index(&lab), machines.iter().map(|one| agent_time(one)).sum());
        std::thread::sleep(Duration::from_secs(60));
        let later: u64 = machines.iter().map(|one| agent_time(one)).sum();
        (log_index(&lab) - index, later - time)
    };
    let (writes, time) = minute();
    put(
        &lab,
        "templates/units/many@.service",
        "[Unit]\nDescription=One of many, %i\n\n[Service]\nExecStart=/bin/sleep infinity\n",
    );
    let text = format!("many: {{unit: many@.service, replicas: {count}, placement: {{role: worker}}}}\n");
    put(&lab, "services/many.yaml", &text);
    lab.ok(&["deploy", "many", "--yes"]);
    placed(&lab, "many", count);
    let (writes_with, time_with) = minute();
    println!(
        "in a minute: {writes} writes to managers without units, {writes_with} with {count}; the agents of {} machines used \
         {time} and {time_with} hundredths of a second",
        machines.len()
    );
    // The engine renews certificates and its own bookkeeping now and then.
    assert!(writes_with <= writes + 5, "{writes} without, {writes_with} with");
    remove(&lab, &["many"]);
}
