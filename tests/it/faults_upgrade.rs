//! A fleet of the previous version becomes one of this version, by `roll`. Long: `make test-upgrade`
//! builds the previous version first.

use std::path::PathBuf;
use std::time::Duration;

use fleetwright::model::feature::Features;
use fleetwright::model::machine::Role;

use crate::faults::{deploy, running, unique};
use crate::support::lab::{Lab, ready};

#[test]
#[ignore = "needs a build of the previous version: make test-upgrade"]
fn a_fleet_of_the_previous_version_is_upgraded_by_roll() {
    let former = std::env::var_os("FLEETWRIGHT_FORMER").map(PathBuf::from);
    let former = former.expect("FLEETWRIGHT_FORMER names a checkout of the previous version that is built");
    let mut lab = Lab::of(&former);
    let commit = deploy(&lab, &unique("previous version"));
    lab.become_this_version();
    let seen = lab.until("the former control machines answer", Duration::from_secs(60), |snapshot| {
        running(snapshot, &commit).then(|| snapshot.clone())
    });
    assert!(seen.machines.iter().all(|machine| machine.features == Features::default()), "{seen:#?}");
    // They do what they did before, and what they can't do is refused with the next step.
    let second = deploy(&lab, &unique("through former control machines"));
    let refused = lab.run(&["cluster", "recover", "--dry-run"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("too old"), "{refused:?}");

    lab.ok(&["roll", "control", "-y"]);
    lab.forget_token();
    lab.until("control machines of this version", Duration::from_secs(120), |snapshot| {
        let mut control = snapshot.machines.iter().filter(|machine| machine.role == Role::Control);
        let all = control.all(|machine| machine.features == Features::own());
        (all && ready(snapshot, Role::Control) == 3 && running(snapshot, &second)).then_some(())
    });
    // Former workers go on under them.
    let third = deploy(&lab, &unique("former workers"));
    lab.ok(&["roll", "workers", "-y"]);
    lab.until("a fleet of this version", Duration::from_secs(120), |snapshot| {
        let all = snapshot.machines.iter().all(|machine| machine.features == Features::own());
        (all && ready(snapshot, Role::Worker) >= 2 && running(snapshot, &third)).then_some(())
    });
    let web = lab.snapshot().expect("a cluster");
    let history = &web.services.iter().find(|one| one.name.as_str() == "web").expect("web").history;
    assert!(history.len() >= 3, "the history is kept: {history:#?}");
    deploy(&lab, &unique("this version"));
}
