//! What happens when control machines are lost for good: more of them than the cluster can spare.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fleetwright::model::machine::{Machine, Role};
use fleetwright::model::service::RevisionState;
use fleetwright::port::cluster::Snapshot;

use crate::faults::{deploy, running, unique};
use crate::support::lab::{Lab, poll, ready, service, tool};

fn of_role(snapshot: &Snapshot, role: Role) -> Vec<Machine> {
    snapshot.machines.iter().filter(|machine| machine.role == role).cloned().collect()
}

/// The containers that run on the workers.
fn containers(lab: &Lab, workers: &[Machine]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for worker in workers {
        let ids = tool("docker", &["exec", &lab.container(worker), "docker", "ps", "-q", "--no-trunc"]);
        found.extend(ids.split_whitespace().map(str::to_owned));
    }
    found
}

/// The document of `cluster status`.
fn status(lab: &Lab) -> Option<serde_json::Value> {
    let output = lab.run(&["cluster", "status", "--output", "json"]);
    serde_json::from_slice(&output.stdout).ok()
}

/// Waits until the bucket has the revision that runs, which the leader's journal says.
fn kept(lab: &Lab) {
    let snapshot = lab.snapshot().expect("a cluster");
    let (number, _) = current(&snapshot).expect("a revision that runs");
    let wanted = format!("service=web number={number}");
    let control = of_role(&snapshot, Role::Control);
    let done = poll(Duration::from_secs(90), || {
        let written = control.iter().any(|machine| {
            let (name, unit) = (lab.container(machine), "fleetwright-agent");
            let journal = ["exec", &name, "journalctl", "-u", unit, "-o", "cat", "--no-pager"];
            tool("docker", &journal).lines().any(|line| line.ends_with(&wanted))
        });
        written.then_some(())
    });
    assert!(done.is_some(), "the bucket has no revision {number} of web: {:?}", status(lab));
    assert!(lab.run(&["cluster", "rebuild"]).status.success(), "there is nothing to restore");
}

/// The newest revision that runs: its number and digest.
fn current(snapshot: &Snapshot) -> Option<(u64, String)> {
    let web = service(snapshot, "web")?;
    let running = web.history.iter().find(|one| one.state == RevisionState::Running)?;
    Some((running.number, running.digest.as_ref()?.to_string()))
}

#[test]
fn a_majority_that_is_lost_for_good_is_recovered() {
    let lab = Lab::up();
    let commit = deploy(&lab, &unique("majority"));
    kept(&lab);
    let before = lab.snapshot().expect("a cluster");
    let refused = lab.run(&["cluster", "recover", "--dry-run"]);
    assert_eq!(refused.status.code(), Some(1), "there is a majority");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("majority"), "{refused:?}");

    let (control, workers) = (of_role(&before, Role::Control), of_role(&before, Role::Worker));
    let running_before = containers(&lab, &workers);
    let updated = || lab.on_manager("docker service inspect web --format '{{.UpdatedAt}}'");
    let updated_before = updated().expect("a manager");
    // The one that leads is among them: the survivor's log may lack what was agreed on last.
    let (lost, survivors): (Vec<_>, Vec<_>) = control.iter().partition(|machine| machine.leader);
    for machine in lost.iter().chain(survivors.iter().skip(1)) {
        tool("docker", &["rm", "-fv", &lab.container(machine)]);
    }
    let survivor = survivors[0];
    let seen = poll(Duration::from_secs(60), || {
        let document = status(&lab)?;
        (document["health"] == "no-majority").then_some(document)
    });
    let seen = seen.unwrap_or_else(|| panic!("{:?}", status(&lab)));
    assert!(seen["machines"].as_array().is_some_and(|all| !all.is_empty()), "{seen}");
    // Each waits for machines that do not answer.
    let (dry, wrong) = std::thread::scope(|scope| {
        let wrong = scope.spawn(|| lab.run(&["cluster", "recover", "--yes", "another"]));
        let dry = lab.ok(&["cluster", "recover", "--dry-run", "--output", "json"]);
        (dry, wrong.join().expect("it is run"))
    });
    assert!(dry.contains(survivor.id.as_str()), "{dry}");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");

    let begun = Instant::now();
    lab.ok(&["cluster", "recover", "--yes", "main"]);
    println!("recovered after {:.1} s", begun.elapsed().as_secs_f64());
    lab.until("three control machines", Duration::from_secs(300), |snapshot| {
        (ready(snapshot, Role::Control) == 3 && ready(snapshot, Role::Worker) >= 2).then_some(())
    });
    println!("whole after {:.1} s", begun.elapsed().as_secs_f64());
    let after = lab.until("the service runs as before", Duration::from_secs(60), |snapshot| {
        running(snapshot, &commit).then(|| snapshot.clone())
    });
    assert_eq!(current(&after), current(&before));
    assert_eq!(updated(), Some(updated_before), "nobody changed the service\n{}", lab.moves());
    // The engine's new leader waits 18 s for each worker. One that finds it later gets new instances,
    // which nobody can prevent: the workers look for the lost managers, too.
    let stayed = containers(&lab, &workers).intersection(&running_before).count();
    println!("{stayed} of {} containers stayed", running_before.len());
    deploy(&lab, &unique("after the recovery"));
}

#[test]
fn services_come_back_when_all_control_machines_are_replaced_at_once() {
    let lab = Lab::up();
    let commit = deploy(&lab, &unique("rebuilt"));
    kept(&lab);
    let before = lab.snapshot().expect("a cluster");
    let id = status(&lab).map(|document| document["id"].clone());
    for machine in of_role(&before, Role::Control) {
        tool("docker", &["rm", "-fv", &lab.container(&machine)]);
    }
    let begun = Instant::now();
    let after = lab.until("the service is back", Duration::from_secs(420), |snapshot| {
        let whole = ready(snapshot, Role::Control) == 3 && ready(snapshot, Role::Worker) >= 2;
        (whole && running(snapshot, &commit)).then(|| snapshot.clone())
    });
    println!("rebuilt after {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(current(&after), current(&before), "the same number, the same digest");
    let document = status(&lab).expect("a document");
    assert_ne!(Some(document["id"].clone()), id, "it is another cluster");
    assert_eq!((&document["restored"], &document["health"]), (&true.into(), &"whole".into()), "{document}");
    let numbers = |snapshot: &Snapshot| service(snapshot, "web").map(|web| web.history[0].number);
    deploy(&lab, &unique("after the rebuild"));
    let next = lab.snapshot().expect("a cluster");
    assert!(numbers(&next) > numbers(&before), "numbers go on: {:?} {:?}", numbers(&next), numbers(&before));
    kept(&lab);
}
