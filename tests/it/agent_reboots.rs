//! Machines that want to reboot do so by themselves, one after the other, and nothing is missed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fleetwright::model::machine::{Machine, MachineState};
use fleetwright::model::service::InstanceState;
use fleetwright::port::cluster::Snapshot;

use crate::faults::{deploy, running, unique};
use crate::support::lab::{Lab, poll, service, tool};

/// How long two reboots may take, with moving all instances twice, on two busy cores.
const LIMIT: Duration = Duration::from_secs(420);

/// Runs a shell line in a machine.
fn inside(lab: &Lab, machine: &Machine, line: &str) -> String {
    tool("docker", &["exec", &lab.container(machine), "sh", "-c", line])
}

fn boot_of(lab: &Lab, machine: &Machine) -> Option<String> {
    let container = lab.container(machine);
    let arguments = ["exec", container.as_str(), "cat", "/proc/sys/kernel/random/boot_id"];
    let output = std::process::Command::new("docker").args(arguments).output().expect("docker can be run");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Asks everything that is given out as healthy; the instances that did not answer.
fn unanswered(snapshot: &Snapshot) -> Vec<String> {
    let web = service(snapshot, "web").expect("it is deployed");
    let healthy = web.instances.iter().filter(|one| one.state == InstanceState::Healthy);
    let addresses = healthy.flat_map(|one| one.addresses.iter().map(|address| (one.name.clone(), *address)));
    addresses
        .filter(|(_, address)| !answers(*address))
        .map(|(name, address)| format!("{name} {address}"))
        .collect()
}

fn answers(address: SocketAddr) -> bool {
    let url = format!("http://{address}/");
    let output = std::process::Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "2", "--noproxy", "*", "--output", "/dev/null", &url])
        .output();
    output.expect("curl can be run").status.success()
}

#[test]
fn machines_reboot_one_after_the_other_and_nothing_is_missed() {
    let lab = Lab::up();
    let commit = deploy(&lab, &unique("reboots"));
    // A worker that serves, and the control machine that leads the others.
    let machines: Vec<Machine> = lab.until("an instance is healthy", Duration::from_secs(60), |snapshot| {
        if !running(snapshot, &commit) {
            return None;
        }
        let web = service(snapshot, "web")?;
        let id = web.instances.iter().find(|i| i.state == InstanceState::Healthy)?.machine.clone()?;
        let worker = snapshot.machines.iter().find(|m| m.id == id)?;
        let leader = snapshot.machines.iter().find(|m| m.leader)?;
        Some(vec![worker.clone(), leader.clone()])
    });
    let members = lab.snapshot().expect("a cluster").machines.len();
    let before: BTreeMap<_, _> = machines.iter().map(|m| (m.id.clone(), boot_of(&lab, m))).collect();
    for machine in &machines {
        // Where the templates leave it out, a machine never reboots by itself.
        let line = "sed -i '/^reboots:/,$d' /etc/fleetwright/agent.yaml && \
                    printf 'reboots:\\n  window: \"00:00-24:00\"\\n' >> /etc/fleetwright/agent.yaml && \
                    systemctl restart fleetwright-agent && touch /run/reboot-required";
        inside(&lab, machine, line);
    }

    let begun = Instant::now();
    let (mut looks, mut turns) = (0, Vec::new());
    let done = poll(LIMIT, || {
        let snapshot = lab.snapshot()?;
        looks += 1;
        let rebooting: Vec<_> = snapshot
            .machines
            .iter()
            .filter(|m| m.state == MachineState::Rebooting)
            .map(|m| m.id.clone())
            .collect();
        assert!(rebooting.len() <= 1, "{rebooting:?} at once");
        if let Some(id) = rebooting.first()
            && turns.last() != Some(id)
        {
            println!("{:5.1} s: the turn of {id}", begun.elapsed().as_secs_f64());
            turns.push(id.clone());
        }
        let web = service(&snapshot, "web").expect("it is deployed");
        assert!(web.is_whole(), "{web:#?}");
        assert_eq!(unanswered(&snapshot), Vec::<String>::new());
        let rebooted = machines.iter().all(|machine| {
            let ready =
                snapshot.machines.iter().any(|m| m.id == machine.id && m.state == MachineState::Ready);
            let boot = boot_of(&lab, machine);
            ready && boot.is_some() && boot != before[&machine.id]
        });
        rebooted.then_some(())
    });
    for machine in &machines {
        let line = "journalctl -u fleetwright-agent -o short-precise --no-hostname | grep -E 'reboot|takes work' || true";
        println!("{}:\n{}", machine.id, inside(&lab, machine, line));
    }
    done.expect("both have rebooted");
    println!("two reboots took {:.1} s; looked {looks} times", begun.elapsed().as_secs_f64());
    assert_eq!(turns.len(), 2, "{turns:?}");
    assert!(looks >= 10, "looked {looks} times");

    // The same machines, each in its second boot, and nobody has leave any more.
    let after = lab.snapshot().expect("a cluster");
    assert_eq!(after.machines.len(), members);
    let free = poll(Duration::from_secs(60), || {
        let configs = inside(&lab, &machines[1], "docker config ls --format '{{.Name}}'");
        (!configs.lines().any(|name| name == "fleetwright.reboot")).then_some(())
    });
    free.expect("the leave is given back");
    for machine in &machines {
        inside(
            &lab,
            machine,
            "test ! -e /run/reboot-required && sed -i '/^reboots:/,$d' /etc/fleetwright/agent.yaml",
        );
        inside(&lab, machine, "systemctl restart fleetwright-agent");
    }
}
