//! `local status`: what is up, gathered from the supervisor's state, the emulator and Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::local_cloud::{LocalMachine, LocalPart, LocalProblem, LocalStatus};
use crate::model::name::LocalName;

use super::emulator::Emulator;
use super::error::LocalError;
use super::home::Home;
use super::machines::{self, Machines};
use super::process::ProcessId;
use super::reconcile::{ContainerState, PowerCut};
use super::state::{Part, State};

/// Looks at the cloud `name`. A cloud that is not up has a status too, and what can't be
/// found out is one of its problems.
pub async fn status(home: &Home, name: &LocalName) -> LocalStatus {
    let files = home.cloud(name);
    let supervised = State::is_supervised(&files);
    let mut status = LocalStatus {
        version: 1,
        name: name.to_string(),
        up: false,
        broken: None,
        parts: Vec::new(),
        machines: Vec::new(),
        problems: Vec::new(),
        logs: files.dir().join("logs").display().to_string(),
    };
    let Some(state) = State::read(&files) else { return status };
    status.up = supervised && state.ready && state.broken.is_none();
    status.broken = state.broken.clone();
    let alive = |process: &Option<ProcessId>| process.clone().filter(ProcessId::is_alive);
    let part = |name: &str, part: &Part, address: String| {
        let process = alive(&part.process);
        let word = match (&process, part.answers) {
            (Some(_), true) => "running",
            (Some(_), false) => "starting",
            (None, _) => "down",
        };
        LocalPart {
            name: name.into(),
            state: word.into(),
            address: Some(address),
            pid: process.as_ref().map(|p| p.pid),
            since: process.as_ref().map(|p| p.since),
            message: part.message.clone(),
        }
    };
    let supervisor = Some(state.supervisor.clone()).filter(|_| supervised);
    status.parts = vec![
        LocalPart {
            name: "supervisor".into(),
            state: if supervised { "running" } else { "down" }.into(),
            address: None,
            pid: supervisor.as_ref().map(|p| p.pid),
            since: supervisor.as_ref().map(|p| p.since),
            message: None,
        },
        part("emulator", &state.emulator, format!("http://127.0.0.1:{}", state.ports.emulator)),
        part("registry", &state.registry, format!("127.0.0.1:{}", state.ports.registry)),
    ];
    status.problems = state
        .problems
        .iter()
        .map(|p| LocalProblem { message: p.message.clone(), next: p.next.clone() })
        .collect();
    if !supervised {
        let error = LocalError::NotUp { name: name.to_string() };
        status.problems.push(LocalProblem {
            message: "the supervisor is gone; machines are not kept equal to instances".into(),
            next: error.next(),
        });
    }
    if status.up {
        match machines_of(name, home, &state).await {
            Ok(machines) => status.machines = machines,
            // A status is wanted most when something is wrong.
            Err(error) => {
                status.up = false;
                status.problems.push(LocalProblem { message: error.to_string(), next: error.next() });
            }
        }
    }
    status
}

async fn machines_of(name: &LocalName, home: &Home, state: &State) -> Result<Vec<LocalMachine>, LocalError> {
    let docker = machines::connect().await?;
    let machines = Machines::new(docker, name.clone(), home.cloud(name));
    let emulator = Emulator::new(state.ports.emulator);
    let instances = emulator.instances(None, Duration::ZERO).await?.instances;
    let observed = machines.observe().await?.machines;
    let off: BTreeSet<String> = observed
        .iter()
        .filter(|machine| matches!(machine.power, PowerCut::Ordered { .. }))
        .map(|machine| machine.instance.clone())
        .collect();
    let containers: BTreeMap<String, Option<ContainerState>> =
        observed.into_iter().map(|m| (m.instance, m.container)).collect();
    let rows = instances.into_iter().filter(|i| !i.is_terminated()).map(async |instance| {
        let container = containers.get(&instance.id).copied().flatten();
        let running = container == Some(ContainerState::Running);
        let cloud_init = if running {
            // A machine that is frozen would not answer for ever.
            let asked = tokio::time::timeout(Duration::from_secs(2), machines.cloud_init(&instance.id));
            asked.await.unwrap_or(None)
        } else {
            None
        };
        let container = match container {
            Some(ContainerState::Stopped | ContainerState::Rebooting) if off.contains(&instance.id) => "off",
            Some(ContainerState::Created) => "starting",
            Some(ContainerState::Running) => "running",
            Some(ContainerState::Rebooting) => "rebooting",
            Some(ContainerState::Stopped) => "stopped",
            Some(ContainerState::Removing) | None => "gone",
        };
        LocalMachine {
            lifecycle: instance
                .lifecycle
                .clone()
                .unwrap_or_else(|| format!("{:?}", instance.state).to_lowercase()),
            instance: instance.id,
            group: instance.group,
            address: instance.private_ip,
            container: container.into(),
            cloud_init,
        }
    });
    let mut rows = futures_util::future::join_all(rows).await;
    rows.sort_by(|a, b| (&a.group, a.address).cmp(&(&b.group, b.address)));
    Ok(rows)
}
