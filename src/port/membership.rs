//! Becoming, being and ceasing to be a member of a cluster, as the agent on a machine needs it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::cluster::ClusterError;
use super::cluster_wire::Registration;
use crate::model::address::AddressPool;
use crate::model::host_file_state::HostFileStates;
use crate::model::member::{Identity, JoinTokens, Membership as State, Node, Report};
use crate::model::name::MachineId;
use crate::model::pressure::Pressure;
use crate::model::secret::Secret;
use crate::model::service::{PublishedPorts, Symptoms};
use crate::model::unit::PlacedTasks;

/// The engine of this machine. Every method may be called again after any failure; those
/// about other machines need this one to be a manager.
#[async_trait]
pub trait Membership: Send + Sync {
    /// What the engine reports of this machine's membership.
    async fn report(&self) -> Result<Report, ClusterError>;

    /// Whether this machine is a member.
    async fn state(&self) -> Result<State, ClusterError> {
        Ok(self.report().await?.state)
    }

    /// Whether the engine is there, however busy it may be.
    async fn answers(&self) -> bool {
        self.report().await.is_ok()
    }

    /// Starts a cluster with this machine as its only manager. Its overlay networks get their addresses
    /// from `pool`, which the engine never changes afterwards.
    async fn init(&self, address: IpAddr, pool: &AddressPool) -> Result<(), ClusterError>;

    /// Joins a cluster through any of its managers; it may go on after this returns.
    async fn join(&self, address: IpAddr, via: &[IpAddr], token: &Secret<String>)
    -> Result<(), ClusterError>;

    /// Leaves, which deletes what the engine keeps of the swarm. Without `force` the engine refuses on
    /// a manager. Whether it may is decided in `plan::agent::membership`, and nowhere else.
    async fn leave(&self, force: bool) -> Result<(), ClusterError>;

    /// The secrets with which others join.
    async fn join_tokens(&self) -> Result<JoinTokens, ClusterError>;

    /// All nodes.
    async fn nodes(&self) -> Result<Vec<Node>, ClusterError>;

    /// Writes down which machine a node is.
    async fn register(&self, node: &str, labels: &BTreeMap<String, String>) -> Result<(), ClusterError>;

    /// Makes a manager a worker. The engine refuses what would lose the majority.
    async fn demote(&self, node: &str) -> Result<(), ClusterError>;

    /// Removes a node that is down.
    async fn remove_node(&self, node: &str) -> Result<(), ClusterError>;

    /// Empties machines that end or reboot, for their own agents. As a drain does, it takes nothing away before
    /// its replacement is healthy; but what a volume binds to such a machine has no replacement, and stops last.
    async fn vacate(&self, machines: &[MachineId]) -> Result<(), ClusterError>;

    /// Stops everything on machines at once, replaced or not.
    async fn evacuate(&self, machines: &[MachineId]) -> Result<(), ClusterError>;

    /// Records what the engine would forget: what became of revisions.
    async fn settle(&self) -> Result<(), ClusterError>;

    /// The node that runs a task; `None` when there is no such task, or it has no node yet.
    async fn node_of_task(&self, task: &str) -> Result<Option<String>, ClusterError>;

    /// Records why a task failed, unless it was meant to stop.
    async fn report_unhealthy(&self, task: &str, seen: &Symptoms) -> Result<(), ClusterError>;

    /// Writes down whether the engine of a machine has stopped, as its own agent saw it: its instances
    /// are not given out from then on, before the managers miss it.
    async fn engine_gone(&self, machine: &MachineId, gone: bool) -> Result<(), ClusterError>;

    /// The published ports of this machine's tasks.
    async fn own_ports(&self) -> Result<PublishedPorts, ClusterError>;

    /// The tasks of units, and which services want one on a node as on every other.
    async fn placed_units(&self, node: &str) -> Result<PlacedTasks, ClusterError>;

    /// Something that may change the published ports of this machine's tasks. It ends when the engine does.
    fn port_changes(&self) -> BoxStream<'static, ()>;

    /// Writes down the published ports of a machine's tasks, as its own agent saw them.
    async fn ports(&self, machine: &MachineId, ports: &PublishedPorts) -> Result<(), ClusterError>;

    /// Writes down how full a machine is, as its own agent measured it.
    async fn pressure(&self, machine: &MachineId, pressure: Pressure) -> Result<(), ClusterError>;

    /// Writes down how far a machine's watched files have come, as its own agent reports it.
    async fn host_files(&self, machine: &MachineId, states: &HostFileStates) -> Result<(), ClusterError>;

    /// Tasks on this machine whose health check begins to fail, or whose container has ended.
    fn unhealthy(&self) -> BoxStream<'static, (String, Symptoms)>;
}

/// The cluster, as an agent reaches it through the API of any control machine.
#[async_trait]
pub trait Control: Send + Sync {
    /// Says which machine a node is.
    async fn register(&self, machine: &MachineId, registration: &Registration) -> Result<(), ClusterError>;

    /// Reports why a task is unhealthy, or how it ended, and how long ago that was.
    async fn report_unhealthy(&self, task: &str, seen: &Symptoms, age: Duration) -> Result<(), ClusterError>;

    /// Reports whether the engine of this machine has stopped.
    async fn engine_gone(&self, machine: &MachineId, gone: bool) -> Result<(), ClusterError>;

    /// Reports the published ports of this machine's tasks.
    async fn ports(&self, machine: &MachineId, ports: &PublishedPorts) -> Result<(), ClusterError>;

    /// Reports how full this machine is.
    async fn pressure(&self, machine: &MachineId, pressure: Pressure) -> Result<(), ClusterError>;

    /// Empties machines; with `force` also when that takes away what nothing can replace.
    async fn empty(&self, machines: &[MachineId], force: bool) -> Result<(), ClusterError>;
}

/// The secrets of a new cluster.
#[derive(Debug, Clone)]
pub struct ClusterSecrets {
    /// The certificate of its authority, as PEM; no secret.
    pub authority: String,
    /// The authority's key, as PEM.
    pub authority_key: Secret<String>,
    /// The token for when nothing else works.
    pub api_token: Secret<String>,
    /// What workers of the version before machines had certificates bear. It is not made any more,
    /// and honoured as long as the rendezvous holds one.
    pub worker_token: Option<Secret<String>>,
}

/// What this machine is and what becomes of it, from the metadata service.
#[async_trait]
pub trait Metadata: Send + Sync {
    /// What this machine is, as far as the metadata service knows; role and metadata are the caller's.
    async fn identity(&self) -> Result<Identity, MetadataError>;

    /// Why and that this machine is to go, if it is.
    async fn notice(&self) -> Result<Option<Notice>, MetadataError>;
}

/// The word that a machine is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Its group terminates it, and waits for its agent's word where it has a hook.
    Terminated,
    /// The provider takes it back.
    Reclaimed,
}

/// Why the metadata service did not answer as hoped.
#[derive(Debug, thiserror::Error)]
#[error("the metadata service, asked for {path}: {reason}")]
pub struct MetadataError {
    /// What was asked for.
    pub path: String,
    /// What happened.
    pub reason: String,
}
