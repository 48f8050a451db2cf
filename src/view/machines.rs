//! The machines of a cluster.

use std::collections::BTreeMap;

use super::table::table;
use crate::model::machine::{Machine, MachineState};
use crate::model::pressure::Pressure;
use crate::model::service::{InstanceState, ServiceStatus};

/// A table of machines, with what each runs, and what those are short of that are; with all figures where
/// `wide`.
pub fn machines(machines: &[Machine], services: &[ServiceStatus], wide: bool) -> String {
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
    let short = |machine: &Machine| {
        let short = machine.pressure.map(Pressure::short_of).unwrap_or_default();
        short.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let any_short = machines.iter().any(|machine| !short(machine).is_empty());
    let rows: Vec<_> = machines
        .iter()
        .map(|machine| {
            let zone = machine.metadata.get("zone").map_or("-", String::as_str);
            let mut row = vec![
                machine.id.to_string(),
                machine.address.to_string(),
                if machine.leader { "control, leads".to_owned() } else { machine.role.word().to_owned() },
                machine.state.word().to_owned(),
                running.get(machine.id.as_str()).copied().unwrap_or(0).to_string(),
                zone.to_owned(),
                machine.group.clone(),
            ];
            if wide {
                let figure = |of: fn(&Pressure) -> u8| {
                    machine.pressure.as_ref().map_or_else(|| "-".to_owned(), |one| format!("{} %", of(one)))
                };
                row.extend([
                    figure(|one| one.disk),
                    figure(|one| one.inodes),
                    figure(|one| one.memory_available),
                ]);
            }
            if any_short {
                row.push(short(machine));
            }
            row
        })
        .collect();
    let mut columns = vec!["MACHINE", "ADDRESS", "ROLE", "STATE", "INSTANCES", "ZONE", "GROUP"];
    if wide {
        columns.extend(["DISK USED", "INODES USED", "MEMORY FREE"]);
    }
    if any_short {
        columns.push("RUNS SHORT");
    }
    let mut text = table(&columns, &rows);
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
            pressure: None,
            host_files: Default::default(),
        };
        insta::assert_snapshot!(machines(
            &[
                machine("i-0a1", Role::Control, MachineState::Ready, true),
                machine("i-0b2", Role::Control, MachineState::Rebooting, false),
                machine("i-0c3", Role::Worker, MachineState::Down, false),
            ],
            &[],
            false
        ));
        let with = |id: &str, disk, memory_available| Machine {
            pressure: Some(Pressure { disk, inodes: 12, memory_available }),
            ..machine(id, Role::Worker, MachineState::Ready, false)
        };
        let some = [
            with("i-0d4", 91, 4),
            with("i-0e5", 40, 60),
            machine("i-0f6", Role::Worker, MachineState::Ready, false),
        ];
        insta::assert_snapshot!("pressure", machines(&some, &[], false) + "\n" + &machines(&some, &[], true));
    }
}
