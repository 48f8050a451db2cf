//! Membership of a swarm, through the engine of this machine.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::models::{
    LocalNodeState, NodeSpecRoleEnum, Reachability, SwarmInitRequest, SwarmJoinRequest, SwarmSpec,
    SwarmSpecDispatcher, SwarmSpecOrchestration,
};
use bollard::query_parameters::{DeleteNodeOptions, LeaveSwarmOptions};
use chrono::Utc;
use futures_util::stream::BoxStream;
use serde_json::Value;

use super::Swarm;
use super::drain::Manner;
use super::engine::Change;
use super::host_files;
use super::observe::{self, INSTANCE, Observed};
use super::ports;
use super::spec::{FEATURE, NODE, REGISTERED, YES};
use super::symptoms;
use crate::model::address::AddressPool;
use crate::model::host_file_state::HostFileStates;
use crate::model::member::{JoinTokens, Manager, Membership as State, Node, Report};
use crate::model::name::MachineId;
use crate::model::pressure::Pressure;
use crate::model::secret::Secret;
use crate::model::service::{PublishedPorts, Symptoms};
use crate::model::unit::PlacedTasks;
use crate::port::cluster::ClusterError;
use crate::port::jobs::JobStore;
use crate::port::membership::Membership;

/// Where managers listen for each other and for workers.
pub(super) const PORT: u16 = 2377;
/// Time between two signs of life of a node; it counts as down after three of them.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How many tasks are kept for each slot: enough to count the attempts after which a rollout has failed.
const TASK_HISTORY: i64 = 5;

#[async_trait]
impl Membership for Swarm {
    async fn report(&self) -> Result<Report, ClusterError> {
        let info = self
            .engine
            .docker()
            .info()
            .await
            .map_err(|error| self.engine.error("asking the engine", error))?;
        let swarm = info.swarm.unwrap_or_default();
        let cluster = swarm.cluster.and_then(|cluster| cluster.id).and_then(|id| id.parse().ok());
        let state = match swarm.local_node_state {
            Some(LocalNodeState::ACTIVE) => State::In {
                node: swarm.node_id.unwrap_or_default(),
                manager: swarm.control_available.unwrap_or(false),
            },
            Some(LocalNodeState::PENDING) => State::Pending,
            Some(LocalNodeState::ERROR) => State::Broken { reason: swarm.error.unwrap_or_default() },
            Some(LocalNodeState::LOCKED) => State::Locked,
            Some(LocalNodeState::INACTIVE | LocalNodeState::EMPTY) | None => State::Out,
        };
        Ok(Report { state, cluster })
    }

    async fn answers(&self) -> bool {
        match self.engine.docker().ping().await {
            Ok(_) | Err(Error::DockerResponseServerError { .. } | Error::RequestTimeoutError) => true,
            Err(_) => false,
        }
    }

    async fn init(&self, address: IpAddr, pool: &AddressPool) -> Result<(), ClusterError> {
        let request = SwarmInitRequest {
            listen_addr: Some(format!("{address}:{PORT}")),
            advertise_addr: Some(address.to_string()),
            data_path_addr: Some(address.to_string()),
            // The engine's own default is 10.0.0.0/8, where most VPCs lie.
            default_addr_pool: Some(vec![pool.pool().to_string()]),
            subnet_size: Some(u32::from(pool.subnet())),
            spec: Some(SwarmSpec {
                orchestration: Some(SwarmSpecOrchestration {
                    task_history_retention_limit: Some(TASK_HISTORY),
                }),
                dispatcher: Some(SwarmSpecDispatcher {
                    heartbeat_period: i64::try_from(HEARTBEAT.as_nanos()).ok(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.engine
            .docker()
            .init_swarm(request)
            .await
            .map(|_| ())
            .map_err(|error| self.engine.error("starting a swarm", error))
    }

    async fn join(
        &self,
        address: IpAddr,
        via: &[IpAddr],
        token: &Secret<String>,
    ) -> Result<(), ClusterError> {
        let request = SwarmJoinRequest {
            listen_addr: Some(format!("{address}:{PORT}")),
            advertise_addr: Some(address.to_string()),
            data_path_addr: Some(address.to_string()),
            remote_addrs: Some(via.iter().map(|manager| format!("{manager}:{PORT}")).collect()),
            join_token: Some(token.expose().clone()),
        };
        match self.engine.docker().join_swarm(request).await {
            Ok(()) => Ok(()),
            // The engine goes on trying in the background.
            Err(Error::DockerResponseServerError { message, .. })
                if message.contains("in the background") =>
            {
                Ok(())
            }
            Err(error) => Err(self.engine.error("joining the swarm", error)),
        }
    }

    async fn leave(&self, force: bool) -> Result<(), ClusterError> {
        match self.engine.docker().leave_swarm(Some(LeaveSwarmOptions { force })).await {
            Ok(()) => Ok(()),
            Err(Error::DockerResponseServerError { message, .. })
                if message.contains("not part of a swarm") =>
            {
                Ok(())
            }
            Err(error) => Err(self.engine.error("leaving the swarm", error)),
        }
    }

    async fn join_tokens(&self) -> Result<JoinTokens, ClusterError> {
        let swarm = self
            .engine
            .docker()
            .inspect_swarm()
            .await
            .map_err(|error| self.engine.error("reading the join tokens", error))?;
        let tokens = swarm.join_tokens.unwrap_or_default();
        match (tokens.manager, tokens.worker) {
            (Some(manager), Some(worker)) => {
                Ok(JoinTokens { manager: Secret::new(manager), worker: Secret::new(worker) })
            }
            _ => Err(ClusterError::Engine {
                doing: "reading the join tokens".to_owned(),
                reason: "the engine gave none".to_owned(),
            }),
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>, ClusterError> {
        let nodes = self
            .engine
            .docker()
            .list_nodes(None::<bollard::query_parameters::ListNodesOptions>)
            .await
            .map_err(|error| self.engine.error("reading the nodes", error))?;
        let now = Utc::now();
        Ok(nodes
            .iter()
            .filter_map(|node| {
                let labels = node.spec.as_ref().and_then(|spec| spec.labels.clone()).unwrap_or_default();
                let changed = node.updated_at.or(node.created_at)?;
                let manager = node.manager_status.as_ref().map(|status| Manager {
                    leader: status.leader.unwrap_or(false),
                    reachable: status.reachability == Some(Reachability::REACHABLE),
                });
                Some(Node {
                    id: node.id.clone()?,
                    instance: observe::label(node, INSTANCE).and_then(|id| id.parse().ok()),
                    address: observe::connected_from(node),
                    manager,
                    up: observe::is_up(node),
                    labels: labels.into_iter().collect(),
                    unchanged_s: u64::try_from((now - changed).num_seconds()).unwrap_or(0),
                })
            })
            .collect())
    }

    async fn register(&self, node: &str, labels: &BTreeMap<String, String>) -> Result<(), ClusterError> {
        self.change(node, |spec| {
            let known = spec.labels.get_or_insert_default();
            let features = format!("{NODE}{FEATURE}");
            let before = known.len();
            // What an earlier agent of the machine could do says nothing of this one.
            known.retain(|key, _| match key.strip_prefix(NODE) {
                Some(own) if key.starts_with(&features) => labels.contains_key(own),
                Some(_) | None => true,
            });
            // It registers a node that its engine has just told it.
            known.remove(observe::GONE);
            let mut changed = known.len() != before;
            for (key, value) in labels {
                changed |= known.insert(format!("{NODE}{key}"), value.clone()).as_ref() != Some(value);
            }
            changed |= mark_registered(known);
            changed
        })
        .await
    }

    async fn demote(&self, node: &str) -> Result<(), ClusterError> {
        self.change(node, |spec| {
            let manager = spec.role == Some(NodeSpecRoleEnum::MANAGER);
            spec.role = Some(NodeSpecRoleEnum::WORKER);
            manager
        })
        .await
    }

    async fn remove_node(&self, node: &str) -> Result<(), ClusterError> {
        // Not by force: only a node that is down can be removed so.
        match self.engine.docker().delete_node(node, Some(DeleteNodeOptions { force: false })).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.engine.error(format!("removing node {node}"), error)),
        }
    }

    async fn evacuate(&self, machines: &[MachineId]) -> Result<(), ClusterError> {
        super::drain::drain(self, machines, Manner::Force).await
    }

    async fn vacate(&self, machines: &[MachineId]) -> Result<(), ClusterError> {
        let _turn = self.drains.lock().await;
        super::drain::drain(self, machines, Manner::OnItsOwn).await
    }

    async fn settle(&self) -> Result<(), ClusterError> {
        self.keep_history().await?;
        Swarm::settle(self).await
    }

    async fn node_of_task(&self, task: &str) -> Result<Option<String>, ClusterError> {
        match self.engine.docker().inspect_task(task).await {
            Ok(task) => Ok(task.node_id.filter(|node| !node.is_empty())),
            // The engine forgets the task of an attempt that was stopped; its permit says where it ran.
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                self.node_of_attempt(task).await
            }
            Err(error) => Err(self.engine.error(format!("reading task {task}"), error)),
        }
    }

    async fn report_unhealthy(&self, task: &str, seen: &Symptoms) -> Result<(), ClusterError> {
        // An attempt of a job has no revision, and a revision no permit.
        self.ended(task, seen).await?;
        Swarm::report_unhealthy(self, task, seen).await
    }

    async fn engine_gone(&self, machine: &MachineId, gone: bool) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let node = observed.node(machine).and_then(|node| node.id.as_deref());
        let node =
            node.ok_or_else(|| ClusterError::NotFound { what: "machine", name: machine.to_string() })?;
        self.change(node, |spec| {
            let labels = spec.labels.get_or_insert_default();
            if gone {
                labels.insert(observe::GONE.to_owned(), YES.to_owned()).is_none()
            } else {
                labels.remove(observe::GONE).is_some()
            }
        })
        .await
    }

    async fn placed_units(&self, node: &str) -> Result<PlacedTasks, ClusterError> {
        Swarm::placed_units(self, node).await
    }

    async fn own_ports(&self) -> Result<PublishedPorts, ClusterError> {
        Swarm::own_ports(self).await
    }

    fn port_changes(&self) -> BoxStream<'static, ()> {
        ports::changes(self.engine.docker())
    }

    async fn ports(&self, machine: &MachineId, ports: &PublishedPorts) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let node = observed.node(machine).and_then(|node| node.id.as_deref());
        let node =
            node.ok_or_else(|| ClusterError::NotFound { what: "machine", name: machine.to_string() })?;
        self.change(node, |spec| ports::write(spec.labels.get_or_insert_default(), ports)).await
    }

    async fn pressure(&self, machine: &MachineId, pressure: Pressure) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let node = observed.node(machine).and_then(|node| node.id.as_deref());
        let node =
            node.ok_or_else(|| ClusterError::NotFound { what: "machine", name: machine.to_string() })?;
        self.change(node, |spec| {
            let text = pressure.to_string();
            let labels = spec.labels.get_or_insert_default();
            labels.insert(observe::PRESSURE.to_owned(), text.clone()).as_ref() != Some(&text)
        })
        .await
    }

    async fn host_files(&self, machine: &MachineId, states: &HostFileStates) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let node = observed.node(machine).and_then(|node| node.id.as_deref());
        let node =
            node.ok_or_else(|| ClusterError::NotFound { what: "machine", name: machine.to_string() })?;
        let text = serde_json::to_string(states).unwrap_or_default();
        self.change(node, |spec| {
            let labels = spec.labels.get_or_insert_default();
            if states.is_empty() {
                return labels.remove(host_files::STATES).is_some();
            }
            labels.insert(host_files::STATES.to_owned(), text.clone()).as_ref() != Some(&text)
        })
        .await
    }

    fn unhealthy(&self) -> BoxStream<'static, (String, Symptoms)> {
        symptoms::stream(self.engine.docker())
    }
}

/// Marks a node as registered; whether it was not marked before.
fn mark_registered(labels: &mut HashMap<String, String>) -> bool {
    labels.insert(REGISTERED.to_owned(), YES.to_owned()).as_deref() != Some(YES)
}

impl Swarm {
    /// Makes a swarm that the version before founded keep as many tasks as this one counts.
    async fn keep_history(&self) -> Result<(), ClusterError> {
        let kept = "/Orchestration/TaskHistoryRetentionLimit";
        self.engine
            .amend_swarm(|spec| {
                let enough = |limit: &Value| limit.as_i64().is_some_and(|limit| limit >= TASK_HISTORY);
                if spec.pointer(kept).is_some_and(enough) {
                    return false;
                }
                spec["Orchestration"]["TaskHistoryRetentionLimit"] = TASK_HISTORY.into();
                true
            })
            .await
    }

    /// Marks the nodes that control machines of the version before registered without a mark, so that
    /// a service which asks for the mark finds them.
    pub(super) async fn mark_nodes(&self, observed: &Observed) -> Result<(), ClusterError> {
        let is_unmarked = |node: &&bollard::models::Node| {
            observe::label(node, INSTANCE).is_some() && observe::label(node, REGISTERED).is_none()
        };
        for id in observed.nodes.iter().filter(is_unmarked).filter_map(|node| node.id.as_deref()) {
            let marked = self
                .change(id, |spec| {
                    let labels = spec.labels.get_or_insert_default();
                    labels.contains_key(INSTANCE) && mark_registered(labels)
                })
                .await;
            match marked {
                Ok(()) | Err(ClusterError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Changes a node's specification; `edit` says whether it changed anything.
    pub(super) async fn change(
        &self,
        node: &str,
        edit: impl Fn(&mut bollard::models::NodeSpec) -> bool + Send,
    ) -> Result<(), ClusterError> {
        for _ in 0..super::ATTEMPTS {
            let seen = match self.engine.docker().inspect_node(node).await {
                Ok(seen) => seen,
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    return Err(ClusterError::NotFound { what: "machine", name: node.to_owned() });
                }
                Err(error) => return Err(self.engine.error(format!("reading node {node}"), error)),
            };
            let mut spec = seen.spec.clone().unwrap_or_default();
            if !edit(&mut spec) {
                return Ok(());
            }
            match self.engine.update_node(&seen, spec).await {
                Ok(()) => return Ok(()),
                Err(Change::Outdated) => {}
                Err(Change::Failed(error)) => return Err(error),
            }
        }
        Err(ClusterError::Refused {
            reason: format!("node `{node}` is being changed by somebody else; try again"),
        })
    }
}
