//! A control machine as it is without the others: what `cluster status` reports, and what brings a
//! cluster back whose majority is lost for good.

use std::net::IpAddr;

use async_trait::async_trait;

use super::cluster::ClusterError;
use super::cluster_wire::RestoredServices;
use crate::model::cluster::{Asked, EngineState, LogEnd, Manager, View};
use crate::model::name::MachineId;

/// What the engine of this machine says, which it can without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineView {
    /// Its state.
    pub state: EngineState,
    /// Its own words, where it says more.
    pub message: Option<String>,
    /// The engine's id of the cluster.
    pub id: Option<String>,
    /// The engine's id of this machine's node.
    pub node: Option<String>,
    /// The managers; empty without a majority.
    pub managers: Vec<Manager>,
}

/// The engine of this machine. Every method answers within seconds, majority or not.
#[async_trait]
pub trait Survivor: Send + Sync {
    /// What the engine says.
    async fn view(&self) -> EngineView;

    /// Makes this machine the only manager of its cluster, with everything that its log holds, and
    /// takes the other managers off the list. It may be called again after any failure.
    ///
    /// # Errors
    /// When the engine refuses, or was left in between.
    async fn go_on_alone(&self, address: IpAddr) -> Result<(), ClusterError>;
}

/// Which founding of the cluster is published. A recovery counts as another founding: what it knows
/// replaces what the cluster before it wrote.
#[async_trait]
pub trait Generations: Send + Sync {
    /// The generation that is published, and whether its services are restored; `None` when nothing is
    /// published.
    ///
    /// # Errors
    /// When it can't be read.
    async fn current(&self) -> Result<Option<(u64, bool)>, ClusterError>;

    /// Publishes another generation of the same cluster, from this machine.
    ///
    /// # Errors
    /// When it can't be published, or another machine publishes one at this moment.
    async fn begin_another(&self) -> Result<(), ClusterError>;
}

/// The etcd of this machine.
#[async_trait]
pub trait EtcdSurvivor: Send + Sync {
    /// Whether it answers, and a majority stands behind its answer.
    async fn is_healthy(&self) -> bool;

    /// Makes this machine's member the only one, with everything that its data holds. The other
    /// machines find that theirs was removed, and join again.
    ///
    /// # Errors
    /// When it does not come up. It may be called again after any failure.
    async fn go_on_alone(&self) -> Result<(), ClusterError>;
}

/// The logs of this machine.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Where etcd's log ends; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read.
    async fn etcd(&self) -> std::io::Result<Option<LogEnd>>;

    /// Where the engine's log ends; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read.
    async fn engine(&self) -> std::io::Result<Option<LogEnd>>;
}

/// One control machine's part in `cluster status`, `recover` and `rebuild`.
#[async_trait]
pub trait ControlMachine: Send + Sync {
    /// What the machine knows of its cluster.
    async fn view(&self) -> View;

    /// Goes on from this machine alone, if it has no majority behind it and its log does not end before
    /// `log`. It may be called again after any failure.
    ///
    /// # Errors
    /// When it must not, or the engine refuses.
    async fn recover(&self, log: LogEnd) -> Result<(), ClusterError>;

    /// The same for its etcd.
    ///
    /// # Errors
    /// When it must not, or etcd does not come up.
    async fn recover_etcd(&self, log: LogEnd) -> Result<(), ClusterError>;

    /// Restores from the bucket what the cluster lacks; what it restored.
    ///
    /// # Errors
    /// When the bucket can't be read, or the engine refuses something.
    async fn restore(&self) -> Result<RestoredServices, ClusterError>;
}

/// The control machines of a cluster, each asked by itself.
#[async_trait]
pub trait ControlMachines: Send + Sync {
    /// What each of them answers, in the order of their ids.
    ///
    /// # Errors
    /// When they can't be found.
    async fn ask_all(&self) -> Result<Vec<Asked>, ClusterError>;

    /// Has the cluster go on from `machine` alone.
    ///
    /// # Errors
    /// When it refuses, or does not answer.
    async fn recover(&self, machine: &MachineId, log: LogEnd) -> Result<(), ClusterError>;

    /// The same for etcd.
    ///
    /// # Errors
    /// When it refuses, or does not answer.
    async fn recover_etcd(&self, machine: &MachineId, log: LogEnd) -> Result<(), ClusterError>;

    /// Has a control machine restore from the bucket what the cluster lacks.
    ///
    /// # Errors
    /// When it refuses, or none answers.
    async fn restore(&self) -> Result<RestoredServices, ClusterError>;
}
