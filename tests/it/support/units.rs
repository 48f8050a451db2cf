//! Services that are made of units, on the fleet of the tests.

use std::time::Duration;

use fleetwright::model::machine::{Machine, Role};
use fleetwright::model::service::InstanceState;

use super::lab::{Lab, poll, service, tool};

/// Writes a file of the fleet's infra repository.
pub fn put(lab: &Lab, path: &str, text: &str) {
    let path = lab.infra.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, text).expect("written");
}

/// What a script prints on a machine.
pub fn sh(container: &str, script: &str) -> String {
    tool("docker", &["exec", container, "sh", "-c", script])
}

/// The workers.
pub fn workers(lab: &Lab) -> Vec<Machine> {
    let machines =
        lab.until("the cluster answers", Duration::from_secs(30), |found| Some(found.machines.clone()));
    machines.into_iter().filter(|machine| machine.role == Role::Worker).collect()
}

/// Where the healthy instances of a service run, once there are exactly `count`.
pub fn placed(lab: &Lab, name: &str, count: usize) -> Vec<Machine> {
    lab.until(name, Duration::from_secs(120), |snapshot| {
        let found = service(snapshot, name)?;
        let healthy = found.instances.iter().all(|one| one.state == InstanceState::Healthy);
        let on = |id| snapshot.machines.iter().find(|machine| machine.id == id).cloned();
        let machines: Vec<Machine> =
            found.instances.iter().filter_map(|one| on(one.machine.clone()?)).collect();
        (healthy && machines.len() == count && found.instances.len() == count).then_some(machines)
    })
}

/// The active units of a service on a machine.
pub fn active(container: &str, service: &str) -> Vec<String> {
    let list =
        format!("systemctl list-units --plain --no-legend --state=active '{service}-*' | cut -d' ' -f1");
    sh(container, &list).lines().map(str::to_owned).collect()
}

/// Removes services with their files, and waits until their units are gone.
pub fn remove(lab: &Lab, names: &[&str]) {
    for name in names {
        lab.ok(&["remove", name, "--yes"]);
        let _ = std::fs::remove_file(lab.infra.path().join(format!("services/{name}.yaml")));
    }
    for machine in workers(lab) {
        for name in names {
            let container = lab.container(&machine);
            let gone = poll(Duration::from_secs(60), || active(&container, name).is_empty().then_some(()));
            assert!(gone.is_some(), "{name} still runs on {container}");
        }
    }
}
