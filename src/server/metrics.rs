//! The state of a cluster in the text format of Prometheus, version 0.0.4
//! ("Exposition formats" in its documentation).

use std::fmt::Write as _;

use crate::model::machine::{Machine, MachineState};
use crate::model::pressure::Pressure;
use crate::model::service::{InstanceState, RevisionState, ServiceStatus};
use crate::port::cluster::Snapshot;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All states of instances and of machines, so that each has a value at all times.
const INSTANCES: [InstanceState; 5] = [
    InstanceState::Pending,
    InstanceState::Starting,
    InstanceState::Healthy,
    InstanceState::Stopping,
    InstanceState::Failed,
];
const MACHINES: [MachineState; 5] = [
    MachineState::Ready,
    MachineState::Paused,
    MachineState::Draining,
    MachineState::Rebooting,
    MachineState::Down,
];

/// The metrics of a snapshot.
pub fn text(snapshot: &Snapshot) -> String {
    let mut out = Metrics::default();
    let services = &snapshot.services;
    out.each(
        "fleetwright_service_instances_desired",
        "How many instances a service should have.",
        services,
        |one| vec![(service(one), f64::from(one.desired))],
    );
    out.each("fleetwright_service_instances", "Instances of a service by state.", services, |one| {
        let count = |state: InstanceState| one.instances.iter().filter(|known| known.state == state).count();
        let value = |state: InstanceState| {
            let labels = format!("{},state={}", service(one), quoted(state.word()));
            (labels, f64::from(u32::try_from(count(state)).unwrap_or(u32::MAX)))
        };
        INSTANCES.into_iter().map(value).collect()
    });
    out.each(
        "fleetwright_service_whole",
        "Whether as many instances are healthy as there should be.",
        services,
        |one| vec![(service(one), flag(one.is_whole()))],
    );
    out.each("fleetwright_service_stopped", "Whether a service is stopped.", services, |one| {
        vec![(service(one), flag(one.stopped))]
    });
    out.each(
        "fleetwright_service_instance_restarts",
        "Restarts of the instances of the present revision, as far as the engine remembers.",
        services,
        |one| vec![(service(one), one.instances.iter().map(|instance| f64::from(instance.restarts)).sum())],
    );
    out.each("fleetwright_service_revision", "The number of the newest revision.", services, |one| {
        let number = one.history.first().map_or(0, |revision| revision.number);
        vec![(service(one), number as f64)]
    });
    out.each(
        "fleetwright_rollout_running",
        "Whether the newest revision is being rolled out.",
        services,
        |one| vec![(service(one), flag(newest(one) == Some(RevisionState::RollingOut)))],
    );
    out.each(
        "fleetwright_rollout_failed",
        "Whether the newest revision failed, or was rolled back.",
        services,
        |one| {
            let failed = matches!(newest(one), Some(RevisionState::Failed | RevisionState::RolledBack));
            vec![(service(one), flag(failed))]
        },
    );
    let machines = &snapshot.machines;
    out.each(
        "fleetwright_machine_state",
        "The state of a machine: 1 for the present one.",
        machines,
        |one| {
            let value = |state: MachineState| {
                (format!("{},state={}", machine(one), quoted(state.word())), flag(one.state == state))
            };
            MACHINES.into_iter().map(value).collect()
        },
    );
    out.each("fleetwright_machine_leader", "Whether a machine leads the managers.", machines, |one| {
        vec![(machine(one), flag(one.leader))]
    });
    let figure = |of: fn(&Pressure) -> u8| {
        move |one: &Machine| -> Vec<(String, f64)> {
            let value = one.pressure.as_ref().map(|pressure| f64::from(of(pressure)) / 100.0);
            value.map(|value| (machine(one), value)).into_iter().collect()
        }
    };
    out.each(
        "fleetwright_machine_disk_used_ratio",
        "How much of a machine's fullest disk is used.",
        machines,
        figure(|pressure| pressure.disk),
    );
    out.each(
        "fleetwright_machine_inodes_used_ratio",
        "How many of a machine's inodes are used.",
        machines,
        figure(|pressure| pressure.inodes),
    );
    out.each(
        "fleetwright_machine_memory_available_ratio",
        "How much of a machine's memory is available.",
        machines,
        figure(|pressure| pressure.memory_available),
    );
    out.0
}

fn newest(service: &ServiceStatus) -> Option<RevisionState> {
    service.history.first().map(|revision| revision.state)
}

pub(super) fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn service(service: &ServiceStatus) -> String {
    format!("service={}", quoted(service.name.as_str()))
}

fn machine(machine: &Machine) -> String {
    format!(
        "machine={},group={},role={}",
        quoted(machine.id.as_str()),
        quoted(&machine.group),
        quoted(machine.role.word())
    )
}

/// The value of a label.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// A text of metrics.
#[derive(Default)]
pub(super) struct Metrics(pub(super) String);

impl Metrics {
    /// A gauge with the values of each item.
    pub(super) fn each<T>(
        &mut self,
        name: &str,
        help: &str,
        items: &[T],
        values: impl Fn(&T) -> Vec<(String, f64)>,
    ) {
        self.of("gauge", name, help, items, values);
    }

    /// A metric of that type with the values of each item.
    pub(super) fn of<T>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        items: &[T],
        values: impl Fn(&T) -> Vec<(String, f64)>,
    ) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in items.iter().flat_map(values) {
            let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_a_value_for_each_state() {
        let (_, sample) = crate::source::samples::of("answers").pop().expect("a sample");
        let document: serde_json::Value = serde_json::from_str(&sample).expect("JSON");
        let snapshot: Snapshot = serde_json::from_value(document["snapshot"].clone()).expect("a snapshot");
        insta::assert_snapshot!(text(&snapshot));
    }

    #[test]
    fn the_values_of_labels_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
    }
}
