//! Emptying machines without taking anything away before its replacement is healthy.
//!
//! Swarm's own drain stops tasks before it starts others. So the machine is paused first,
//! which keeps new tasks away; then every service with tasks there is told to replace its
//! tasks, which starts the new one first and waits for its health; and only an empty
//! machine is drained. Every step looks at what there is, so that the work can be taken up
//! by another manager, or again after a failure, and several drains merge.

use std::time::Duration;

use bollard::models::{
    NodeSpecAvailabilityEnum as Availability, Service, ServiceUpdateStatusStateEnum as Update, Task,
    TaskState,
};
use chrono::{DateTime, Utc};

use super::engine::{Change, Engine};
use super::observe::{self, DRAIN, Observed};
use super::{Swarm, mounted, spec};
use crate::model::name::{MachineId, VolumeName};
use crate::port::cluster::ClusterError;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long an instance may wait for a place before the drain is given up.
const NO_PLACE: chrono::TimeDelta = chrono::TimeDelta::seconds(45);

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// Keep new work away from a machine.
    Pause(MachineId),
    /// Replace all tasks of a service, by its name.
    Move(String),
    /// Let the engine stop what is left, which is bound to the machine.
    Drain(MachineId),
    /// Look again later.
    Wait,
    /// It can't be done now; what was paused takes work again.
    Refuse(String),
    /// The machines run nothing.
    Done,
}

/// What becomes of instances that can't be replaced elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// They are a reason to refuse: a person drains, and no machine keeps a volume.
    Replace,
    /// The machine ends or reboots, whatever they are. Those that are bound to its volumes stop when everything
    /// else has moved; others are a reason to refuse.
    OnItsOwn,
    /// They stop with everything else.
    Force,
}

/// Empties `machines`.
pub async fn drain(swarm: &Swarm, machines: &[MachineId], manner: Manner) -> Result<(), ClusterError> {
    let engine = &swarm.engine;
    loop {
        let observed = engine.observe().await?;
        for machine in machines {
            if observed.node(machine).is_none() {
                return Err(ClusterError::NotFound { what: "machine", name: machine.to_string() });
            }
        }
        let step = next(&observed, machines, manner, Utc::now());
        if step != Step::Wait {
            tracing::info!(?step, "emptying machines");
        }
        match step {
            Step::Pause(machine) => set(engine, &observed, &machine, Availability::PAUSE).await?,
            Step::Drain(machine) => set(engine, &observed, &machine, Availability::DRAIN).await?,
            Step::Move(name) => {
                let Some(service) = observed.service(&name) else { continue };
                // Where they go they may have to be pulled, with what the registry accepts today.
                let pull = swarm.pull_again(service).await;
                match engine.amend_service(service, spec::force_again, pull).await {
                    Ok(()) | Err(Change::Outdated) => {}
                    Err(Change::Failed(error)) => return Err(error),
                }
            }
            Step::Wait => tokio::time::sleep(LOOK).await,
            Step::Refuse(reason) => {
                for machine in machines {
                    if began(&observed, machine).is_some() {
                        set(engine, &observed, machine, Availability::ACTIVE).await?;
                    }
                }
                return Err(ClusterError::Refused { reason });
            }
            Step::Done => return Ok(()),
        }
    }
}

fn next(observed: &Observed, machines: &[MachineId], manner: Manner, now: DateTime<Utc>) -> Step {
    let force = manner == Manner::Force;
    let node_ids: Vec<&str> =
        machines.iter().filter_map(|id| observed.node(id)).filter_map(|node| node.id.as_deref()).collect();
    let here = |task: &&Task| {
        observe::is_alive(task) && task.node_id.as_deref().is_some_and(|id| node_ids.contains(&id))
    };
    let kept: Vec<VolumeName> = match manner {
        Manner::OnItsOwn => {
            machines.iter().filter_map(|id| observed.node(id)).flat_map(mounted::volumes).collect()
        }
        Manner::Replace | Manner::Force => Vec::new(),
    };
    // What the machines' own daemons and volumes bind to them has nowhere to go.
    let bound = |service: &Service| {
        is_global(service) || kept.iter().any(|volume| mounted::asks_for(service, volume))
    };
    let replicated: Vec<(&str, &Service)> = observed
        .services
        .iter()
        .filter(|service| !bound(service))
        .filter_map(|service| Some((observe::name_of(service)?, service)))
        .filter(|(_, service)| observed.tasks_of(service).any(|task| here(&task) && wanted(task)))
        .collect();
    // Refuse before anything is touched.
    if !force {
        for (name, service) in &replicated {
            let elsewhere = observed.nodes.iter().any(|node| {
                let leaves = node.id.as_deref().is_some_and(|id| node_ids.contains(&id));
                !leaves && observe::takes_work(node) && observe::fits(service, node)
            });
            if !elsewhere {
                return Step::Refuse(format!(
                    "service `{name}` has no other machine to go to; add one, or remove the service first"
                ));
            }
        }
    }
    for machine in machines {
        let Some(node) = observed.node(machine) else { continue };
        if observe::availability(node) == Availability::ACTIVE && observe::is_up(node) {
            return Step::Pause(machine.clone());
        }
    }
    if !force {
        let start = machines.iter().filter_map(|machine| began(observed, machine)).min();
        let mut waits = false;
        for (name, service) in &replicated {
            match replacement(observed, name, service, start, now) {
                Step::Wait => waits = true,
                step => return step,
            }
        }
        // Instances that were told to stop still serve until they end.
        let ending = observed
            .tasks
            .iter()
            .filter(here)
            .any(|task| observed.services.iter().any(|s| s.id == task.service_id && !bound(s)));
        let reachable = |machine: &MachineId| observed.node(machine).is_some_and(observe::is_up);
        if waits || (ending && machines.iter().any(reachable)) {
            return Step::Wait;
        }
    }
    for machine in machines {
        let Some(node) = observed.node(machine) else { continue };
        if observe::availability(node) != Availability::DRAIN {
            return Step::Drain(machine.clone());
        }
        let runs = observed.tasks.iter().any(|task| observe::is_alive(task) && task.node_id == node.id);
        if runs && observe::is_up(node) {
            return Step::Wait;
        }
    }
    Step::Done
}

/// How the replacement of a service's tasks goes on.
fn replacement(
    observed: &Observed,
    name: &str,
    service: &Service,
    start: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Step {
    let stuck = observed.tasks_of(service).find_map(|task| {
        let status = task.status.as_ref()?;
        let error = status.err.as_deref().filter(|text| !text.is_empty())?;
        let waits = status.state == Some(TaskState::PENDING) && wanted(task);
        (waits && now - status.timestamp? > NO_PLACE).then_some(error)
    });
    if let Some(error) = stuck {
        return Step::Refuse(format!("service `{name}` finds no place elsewhere: {error}"));
    }
    let update = service.update_status.as_ref();
    match update.and_then(|update| update.state) {
        Some(Update::UPDATING | Update::ROLLBACK_STARTED) => Step::Wait,
        Some(Update::PAUSED | Update::ROLLBACK_PAUSED)
            if start.is_some() && update.and_then(|update| update.started_at) >= start =>
        {
            let now = observed.now(service);
            let why = now.failures.get(&now.current).cloned().or(now.update_message).unwrap_or_default();
            Step::Refuse(format!("service `{name}` did not become healthy elsewhere: {why}"))
        }
        Some(
            Update::EMPTY
            | Update::PAUSED
            | Update::COMPLETED
            | Update::ROLLBACK_PAUSED
            | Update::ROLLBACK_COMPLETED,
        )
        | None => Step::Move(name.to_owned()),
    }
}

fn is_global(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.mode.as_ref()).is_some_and(|mode| mode.global.is_some())
}

pub(super) fn wanted(task: &Task) -> bool {
    !matches!(task.desired_state, Some(TaskState::SHUTDOWN | TaskState::REMOVE))
}

/// When emptying a machine began; `None` when it did not.
fn began(observed: &Observed, machine: &MachineId) -> Option<DateTime<Utc>> {
    observe::label(observed.node(machine)?, DRAIN)?.parse().ok()
}

async fn set(
    engine: &Engine,
    observed: &Observed,
    machine: &MachineId,
    availability: Availability,
) -> Result<(), ClusterError> {
    let Some(node) = observed.node(machine) else { return Ok(()) };
    let mut spec = node.spec.clone().unwrap_or_default();
    let labels = spec.labels.get_or_insert_default();
    if availability == Availability::ACTIVE {
        labels.remove(DRAIN);
    } else {
        labels.entry(DRAIN.to_owned()).or_insert_with(|| Utc::now().to_rfc3339());
    }
    spec.availability = Some(availability);
    match engine.update_node(node, spec).await {
        Ok(()) | Err(Change::Outdated) => Ok(()),
        Err(Change::Failed(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("as the engine writes it")
    }

    fn node(id: &str, availability: &str, labels: Value) -> bollard::models::Node {
        let mut all = json!({"fleetwright.instance": format!("i-{id}")});
        all.as_object_mut().expect("an object").extend(labels.as_object().expect("an object").clone());
        read(json!({
            "ID": id,
            "Spec": {"Role": "worker", "Availability": availability, "Labels": all},
            "Status": {"State": "ready"},
        }))
    }

    /// A database on the volume of machine `a`, and a page that runs there as well.
    fn observed(availability: &str, page_is_here: bool) -> Observed {
        let service = |name: &str, constraints: Value| {
            read(json!({
                "ID": name,
                "Spec": {
                    "Name": name,
                    "Labels": {"fleetwright.service": name},
                    "TaskTemplate": {"Placement": {"Constraints": constraints}},
                    "Mode": {"Replicated": {"Replicas": 1}},
                },
            }))
        };
        let task = |service: &str, node: &str| {
            read(json!({
                "ID": format!("{service}-1"), "ServiceID": service, "NodeID": node, "Slot": 1,
                "DesiredState": "running", "Status": {"State": "running"},
            }))
        };
        let volume: VolumeName = "data".parse().expect("a name");
        Observed {
            at: DateTime::UNIX_EPOCH,
            nodes: vec![
                node("a", availability, json!({ format!("{}data", mounted::VOLUME): "yes" })),
                node("b", "active", json!({})),
            ],
            services: vec![service("db", json!([mounted::constraint(&volume)])), service("page", json!([]))],
            tasks: vec![task("db", "a"), task("page", if page_is_here { "a" } else { "b" })],
            configs: Vec::new(),
        }
    }

    #[test]
    fn a_machine_that_ends_moves_what_can_move_before_what_its_volume_binds_stops() {
        let machines = ["i-a".parse().expect("an id")];
        let step = |observed: &Observed, manner| next(observed, &machines, manner, DateTime::UNIX_EPOCH);
        let own = |observed: &Observed| step(observed, Manner::OnItsOwn);
        assert_eq!(own(&observed("active", true)), Step::Pause(machines[0].clone()));
        assert_eq!(own(&observed("pause", true)), Step::Move("page".into()));
        assert_eq!(own(&observed("pause", false)), Step::Drain(machines[0].clone()));
        assert_eq!(own(&observed("drain", false)), Step::Wait, "the database stops");
        let refused = step(&observed("active", true), Manner::Replace);
        assert!(
            matches!(&refused, Step::Refuse(why) if why.contains("`db` has no other machine")),
            "{refused:?}"
        );
    }
}
