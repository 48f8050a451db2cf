//! An attempt as a service of the engine: a replicated one of one instance that is never started again.
//! The engine's own jobs run again after a change of leaders.

use std::collections::HashMap;

use bollard::models::{
    Mount, MountType, Service, ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, Task as EngineTask,
    TaskState,
};

use super::super::observe::{self, Observed};
use super::super::spec::{self, OnFailure, PROBE_IN_CONTAINER, PROBE_ON_MACHINE, SERVICE, TEMPLATE};
use super::objects::ATTEMPT;
use crate::model::container::{RestartCondition, RestartPolicy};
use crate::model::feature::Feature;
use crate::model::job::{Kind, OccurrenceId};
use crate::model::occurrence::Task;
use crate::model::service::Deployment;

/// The label of services and containers of an attempt: its occurrence.
pub const OCCURRENCE: &str = "fleetwright.occurrence";

/// Where the agent listens for helpers that ask for permits, on the machine: a folder, so that what
/// was mounted once stays the same when the agent starts again.
pub const PERMITS_ON_MACHINE: &str = "/var/lib/fleetwright/permits";
/// Where a container sees it.
const PERMITS_IN_CONTAINER: &str = "/.fleetwright/permits";
/// The socket in it.
pub const SOCKET: &str = "agent.sock";

/// The name of the service of an attempt. No service of ours has `_` in its name.
pub fn name(id: &OccurrenceId, attempt: u32) -> String {
    let kind = match id.kind {
        Kind::Job => "job",
        Kind::Command => "run",
        Kind::Before => "before",
    };
    format!("{kind}_{}_{}_{attempt}", id.of, id.key)
}

/// The service of an attempt at `deployment`. One that is attended waits for its caller instead of executing
/// its command.
pub fn service(id: &OccurrenceId, attempt: u32, deployment: &Deployment, attended: bool) -> ServiceSpec {
    let mut deployment = deployment.clone();
    let never =
        RestartPolicy { condition: RestartCondition::None, delay: None, max_attempts: None, window: None };
    deployment.spec.container.restart = Some(never);
    // The whole command, so that nothing of the image's own is looked up.
    deployment.spec.container.entrypoint = std::mem::take(&mut deployment.spec.command);
    let mut spec = spec::service_spec(&deployment, 0, OnFailure::Stop);
    let labels = || {
        HashMap::from([(OCCURRENCE.to_owned(), id.to_string()), (ATTEMPT.to_owned(), attempt.to_string())])
    };
    spec.name = Some(name(id, attempt));
    // Without the label of a service nothing takes it for one.
    spec.labels = Some(labels());
    spec.mode = Some(ServiceSpecMode {
        replicated: Some(ServiceSpecModeReplicated { replicas: Some(1) }),
        ..Default::default()
    });
    (spec.update_config, spec.rollback_config) = (None, None);
    if let Some(task) = &mut spec.task_template {
        // It shares the service's network, and is not found under the service's name.
        for network in task.networks.iter_mut().flatten() {
            network.aliases = None;
        }
        let placement = task.placement.get_or_insert_default();
        placement.constraints.get_or_insert_default().push(spec::needs(Feature::Jobs));
        if attended {
            placement.constraints.get_or_insert_default().push(spec::needs(Feature::AttendedRuns));
        }
        if let Some(container) = &mut task.container_spec {
            let own = container.labels.get_or_insert_default();
            own.remove(SERVICE);
            own.remove(TEMPLATE);
            own.extend(labels());
            let socket = format!("{PERMITS_IN_CONTAINER}/{SOCKET}");
            let word = if attended { "attend" } else { "permit" };
            let helper = [PROBE_IN_CONTAINER, word, &socket, "--"].map(str::to_owned);
            let command = container.command.take().unwrap_or_default();
            container.command = Some(helper.into_iter().chain(command).collect());
            container.args = None;
            let mount = |source: &str, target: &str| Mount {
                typ: Some(MountType::BIND),
                source: Some(source.to_owned()),
                target: Some(target.to_owned()),
                read_only: Some(true),
                ..Default::default()
            };
            let mounts = container.mounts.get_or_insert_default();
            // It is there already where it sets variables.
            mounts.retain(|mount| mount.target.as_deref() != Some(PROBE_IN_CONTAINER));
            mounts.extend([
                mount(PROBE_ON_MACHINE, PROBE_IN_CONTAINER),
                mount(PERMITS_ON_MACHINE, PERMITS_IN_CONTAINER),
            ]);
        }
    }
    spec
}

/// The attempt that a service runs; `None` for another service.
pub fn attempt_of(service: &Service) -> Option<(OccurrenceId, u32)> {
    let labels = service.spec.as_ref()?.labels.as_ref()?;
    Some((labels.get(OCCURRENCE)?.parse().ok()?, labels.get(ATTEMPT)?.parse().ok()?))
}

/// What the engine says about the task of an attempt's service.
pub fn task(observed: &Observed, service: &Service) -> Task {
    let created = |task: &&EngineTask| task.created_at;
    let Some(task) = observed.tasks_of(service).max_by_key(created) else { return Task::None };
    let (Some(status), Some(state)) =
        (task.status.as_ref(), task.status.as_ref().and_then(|status| status.state))
    else {
        return Task::None;
    };
    let error = || status.err.clone().filter(|text| !text.is_empty()).map(|text| observe::plain(&text));
    let node = observed.nodes.iter().find(|node| node.id.is_some() && node.id == task.node_id);
    let lost = task.node_id.as_ref().is_some_and(|id| !id.is_empty()) && !node.is_some_and(observe::is_up);
    match state {
        TaskState::COMPLETE | TaskState::FAILED | TaskState::REJECTED | TaskState::SHUTDOWN => {
            let exit = status.container_status.as_ref().and_then(|container| container.exit_code);
            let started = status.container_status.as_ref().is_some_and(|one| one.container_id.is_some());
            Task::Ended {
                at: status.timestamp.unwrap_or(observed.at),
                exit: exit.filter(|_| started && state != TaskState::REJECTED),
                reason: error().filter(|_| state == TaskState::REJECTED || !started),
            }
        }
        TaskState::ORPHANED => Task::Lost,
        TaskState::REMOVE => Task::None,
        _ if lost => Task::Lost,
        TaskState::RUNNING => Task::Running,
        TaskState::NEW
        | TaskState::ALLOCATED
        | TaskState::PENDING
        | TaskState::ASSIGNED
        | TaskState::ACCEPTED
        | TaskState::PREPARING
        | TaskState::READY
        | TaskState::STARTING => Task::Waiting { message: error() },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::spec::tests::deployment;
    use super::*;
    use crate::model::job::one_off;

    #[test]
    fn an_attempt_is_a_service_of_its_own_that_runs_once() {
        let id: OccurrenceId = "job.nightly.202611290200".parse().expect("an id");
        let deployment = one_off(deployment("web", 'a'), vec!["bin/report".into(), "--daily".into()]);
        let spec = service(&id, 1, &deployment, false);
        let service = Service { spec: Some(spec.clone()), ..Default::default() };
        assert_eq!(attempt_of(&service), Some((id, 1)));
        assert_eq!(observe::name_of(&service), None, "it is not one of the services");
        let mut json = serde_json::to_value(spec).expect("JSON");
        json.sort_all_objects();
        insta::assert_snapshot!(format!("{json:#}"));
    }
}
