//! The roles of tasks, as the managers have recorded them.

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::{Task, TaskState};

use super::Swarm;
use super::jobs::OCCURRENCE;
use super::spec::{ROLE, SERVICE};
use crate::model::role::RoleTask;
use crate::port::cluster::ClusterError;
use crate::port::roles::RoleTasks;

#[async_trait]
impl RoleTasks for Swarm {
    async fn role_task(&self, id: &str) -> Result<Option<RoleTask>, ClusterError> {
        let task = match self.engine.docker().inspect_task(id).await {
            Ok(task) => task,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(error) => return Err(self.engine.error(format!("reading task {id}"), error)),
        };
        // The engine also takes the beginning of an id, and names.
        if task.id.as_deref() != Some(id) {
            return Ok(None);
        }
        let container = task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref());
        let Some(container) = container else { return Ok(None) };
        let label = |key: &str| container.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
        let name = match (label(OCCURRENCE), label(SERVICE)) {
            (Some(occurrence), _) => occurrence,
            (None, Some(service)) => match task.slot.filter(|slot| *slot > 0) {
                Some(slot) => format!("{service}.{slot}"),
                // One on every machine has no number.
                None => service,
            },
            (None, None) => return Ok(None),
        };
        let role = label(ROLE).unwrap_or_default();
        let tokens = if role.is_empty() { Vec::new() } else { self.token_hashes(container).await? };
        Ok(Some(RoleTask { name, role, node: task.node_id.clone(), runs: runs(&task), tokens }))
    }
}

/// Whether a task is to run, is placed, and has not ended. Its container may run for a moment before the managers
/// know it.
fn runs(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    let placed = match state {
        Some(
            TaskState::ASSIGNED
            | TaskState::ACCEPTED
            | TaskState::PREPARING
            | TaskState::READY
            | TaskState::STARTING
            | TaskState::RUNNING,
        ) => true,
        Some(
            TaskState::NEW
            | TaskState::ALLOCATED
            | TaskState::PENDING
            | TaskState::COMPLETE
            | TaskState::SHUTDOWN
            | TaskState::FAILED
            | TaskState::REJECTED
            | TaskState::REMOVE
            | TaskState::ORPHANED,
        )
        | None => false,
    };
    placed && task.desired_state == Some(TaskState::RUNNING)
}

#[cfg(test)]
mod tests {
    use bollard::models::TaskStatus;

    use super::*;

    #[test]
    fn a_task_runs_from_its_placement_until_it_ends_or_is_to_stop() {
        let task = |state, desired_state| Task {
            status: Some(TaskStatus { state: Some(state), ..Default::default() }),
            desired_state: Some(desired_state),
            ..Default::default()
        };
        for state in [TaskState::ASSIGNED, TaskState::STARTING, TaskState::RUNNING] {
            assert!(runs(&task(state, TaskState::RUNNING)), "{state:?}");
            assert!(!runs(&task(state, TaskState::SHUTDOWN)), "{state:?}");
        }
        for state in [TaskState::PENDING, TaskState::COMPLETE, TaskState::FAILED, TaskState::ORPHANED] {
            assert!(!runs(&task(state, TaskState::RUNNING)), "{state:?}");
        }
        assert!(!runs(&Task::default()));
    }
}
