//! The machines of a cluster.

use std::collections::BTreeMap;

use super::table::table;
use crate::model::machine::{Machine, MachineState};
use crate::model::service::{InstanceState, ServiceStatus};

/// A table of machines, with what each runs.
pub fn machines(machines: &[Machine], services: &[ServiceStatus]) -> String {
    if machines.is_empty() {
        return "No machine has joined this cluster.\n".to_owned();
    }
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in services.iter().flat_map(|service| &service.instances) {
        let counts = match instance.state {
            InstanceState::Healthy | InstanceState::Starting | InstanceState::Stopping => true,
            InstanceState::Pending | InstanceState::Failed => false,
        };
        if let (true, Some(machine)) = (counts, &instance.machine) {
            *running.entry(machine.as_str()).or_default() += 1;
        }
    }
    let rows: Vec<_> = machines
        .iter()
        .map(|machine| {
            let zone = machine.metadata.get("zone").map_or("-", String::as_str);
            vec![
                machine.id.to_string(),
                machine.address.to_string(),
                if machine.leader { "control, leads".to_owned() } else { machine.role.word().to_owned() },
                machine.state.word().to_owned(),
                running.get(machine.id.as_str()).copied().unwrap_or(0).to_string(),
                zone.to_owned(),
                machine.group.clone(),
            ]
        })
        .collect();
    let mut text = table(&["MACHINE", "ADDRESS", "ROLE", "STATE", "INSTANCES", "ZONE", "GROUP"], &rows);
    let down = machines.iter().filter(|machine| machine.state == MachineState::Down).count();
    if down > 0 {
        let units = if down == 1 { "1 machine does" } else { &format!("{down} machines do") };
        text.push_str(&format!("\n{units} not answer.\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::machine::Role;

    #[test]
    fn control_machines_come_first_and_the_leader_shows() {
        let machine = |id: &str, role, state, leader| Machine {
            id: id.parse().expect("an id"),
            address: "10.77.1.4".parse().expect("an address"),
            role,
            state,
            leader,
            group: "demo-local-group".into(),
            metadata: BTreeMap::from([("zone".to_owned(), "eu-west-1a".to_owned())]),
            features: crate::model::feature::Features::default(),
        };
        insta::assert_snapshot!(machines(
            &[
                machine("i-0a1", Role::Control, MachineState::Ready, true),
                machine("i-0b2", Role::Control, MachineState::Rebooting, false),
                machine("i-0c3", Role::Worker, MachineState::Down, false),
            ],
            &[]
        ));
    }
}
