//! The tasks of units, as the managers have them.

use bollard::models::{NodeSpecAvailabilityEnum as Availability, Task as EngineTask, TaskState};

use super::Swarm;
use super::observe::{availability, fits, name_of};
use super::placeholder::UNITS;
use super::spec::{SERVICE, TEMPLATE};
use crate::model::unit::{PlacedTask, PlacedTasks};
use crate::port::cluster::ClusterError;

impl Swarm {
    /// The tasks of units, and which services want one on a node as on every other.
    pub(super) async fn placed_units(&self, node: &str) -> Result<PlacedTasks, ClusterError> {
        let observed = self.engine.observe().await?;
        let own = observed.nodes.iter().find(|one| one.id.as_deref() == Some(node));
        let everywhere = observed.services.iter().filter_map(|service| {
            let is_global = service.spec.as_ref()?.mode.as_ref()?.global.is_some();
            // A drained node is to have none.
            let is_drained = own.is_none_or(|node| availability(node) == Availability::DRAIN);
            let name = name_of(service).filter(|_| is_global && !is_drained)?;
            fits(service, own?).then(|| name.to_owned())
        });
        Ok(PlacedTasks {
            tasks: observed.tasks.iter().filter_map(task).collect(),
            everywhere: everywhere.collect(),
        })
    }
}

fn task(task: &EngineTask) -> Option<PlacedTask> {
    let container = task.spec.as_ref()?.container_spec.as_ref()?;
    let label = |key: &str| container.labels.as_ref()?.get(key).cloned();
    label(UNITS)?;
    let state = task.status.as_ref().and_then(|status| status.state);
    let slot = match task.slot {
        Some(slot) if slot > 0 => slot.to_string(),
        _ => task.node_id.clone()?,
    };
    Some(PlacedTask {
        id: task.id.clone()?,
        service: label(SERVICE)?,
        slot,
        node: task.node_id.clone().filter(|node| !node.is_empty()),
        template: label(TEMPLATE)?,
        wanted: matches!(task.desired_state, Some(TaskState::RUNNING | TaskState::READY)),
        ended: has_ended(state),
        version: task.version.as_ref().and_then(|version| version.index).unwrap_or_default(),
    })
}

fn has_ended(state: Option<TaskState>) -> bool {
    match state {
        Some(
            TaskState::COMPLETE
            | TaskState::SHUTDOWN
            | TaskState::FAILED
            | TaskState::REJECTED
            | TaskState::REMOVE
            | TaskState::ORPHANED,
        ) => true,
        Some(
            TaskState::NEW
            | TaskState::ALLOCATED
            | TaskState::PENDING
            | TaskState::ASSIGNED
            | TaskState::ACCEPTED
            | TaskState::PREPARING
            | TaskState::READY
            | TaskState::STARTING
            | TaskState::RUNNING,
        )
        | None => false,
    }
}
