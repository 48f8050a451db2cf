//! The cluster that runs services, whatever engine is behind it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::model::machine::Machine;
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::{MachineId, ServiceName, VolumeName};
use crate::model::service::{Deployed, Deployment, ScaleTo, ServiceStatus};

/// Why a cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing answered, or it stopped answering; trying again may help.
    #[error("the cluster can't be reached at {endpoint}: {reason}")]
    Unreachable {
        /// What was tried.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The named thing is not there.
    #[error("there is no {what} `{name}` in the cluster")]
    NotFound {
        /// `service`, `revision`, `machine`, `token`, `etcd`, `job`, `watched file` or `container of occurrence`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The request can't be carried out in the cluster's present state.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// The caller may not do that.
    #[error("{reason}")]
    Denied {
        /// Who may not do what, and why.
        reason: String,
    },
    /// The engine failed.
    #[error("{doing}: {reason}")]
    Engine {
        /// What was tried, on what.
        doing: String,
        /// What the engine said.
        reason: String,
    },
}

/// All there is to see in a cluster at one moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// Version of this document, 1.
    pub version: u32,
    /// Raised by every change; a watcher can tell what it has seen.
    pub revision: u64,
    /// The machines, sorted by role, then id.
    pub machines: Vec<Machine>,
    /// The services, sorted by name.
    pub services: Vec<ServiceStatus>,
}

/// A cluster. Every method may be called again after any failure.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// What there is now.
    async fn snapshot(&self) -> Result<Snapshot, ClusterError>;

    /// What there is now, and again after every change, until dropped. An instance is
    /// no longer [`Healthy`](crate::model::service::InstanceState::Healthy) in it before
    /// its process exits.
    async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError>;

    /// The same for permanent watchers, which need to know of a change within seconds only: each observation
    /// costs the engine's leader and this machine CPU.
    async fn observe(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        self.watch().await
    }

    /// Makes the service what `deployment` says, and returns the number of the revision
    /// this made, or of the present one when nothing differs. The engine carries the
    /// rollout on by itself; it is followed through `watch`.
    async fn deploy(&self, deployment: &Deployment) -> Result<u64, ClusterError>;

    /// What a service runs, or what its revision of that number says.
    async fn deployed(&self, service: &ServiceName, revision: Option<u64>) -> Result<Deployed, ClusterError>;

    /// The newest version of each of those secrets that is set. Values are not read.
    async fn secret_versions(
        &self,
        secrets: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError>;

    /// Goes back to the revision that ran before the present one, or to that of number `to`; returns
    /// the new revision.
    async fn rollback(&self, service: &ServiceName, to: Option<u64>) -> Result<u64, ClusterError>;

    /// The same to revision `to`, because the release failed that the current revision is part of. Events
    /// report that.
    async fn take_back(&self, service: &ServiceName, to: u64) -> Result<u64, ClusterError> {
        self.rollback(service, Some(to)).await
    }

    /// Changes the number of instances. It is no revision, replaces no instance, and is kept until
    /// the service's file asks for another number than it does now.
    async fn scale(&self, service: &ServiceName, to: ScaleTo) -> Result<(), ClusterError>;

    /// Removes a service.
    async fn remove(&self, service: &ServiceName) -> Result<(), ClusterError>;

    /// The service's log lines, `NAME@SLOT MACHINE | text`, the last `tail` and, when `follow`, those to come.
    async fn logs(
        &self,
        service: &ServiceName,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError>;

    /// Moves everything off `machines` without taking anything away before its
    /// replacement is healthy, and returns when they run nothing. They take no new work from then on.
    /// Machines that keep a volume are refused, unless it is one of `lose`: its services begin
    /// elsewhere with an empty one.
    async fn drain(&self, machines: &[MachineId], lose: &[VolumeName]) -> Result<(), ClusterError>;
}
