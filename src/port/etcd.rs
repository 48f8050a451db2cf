//! etcd: its members over the network, and its unit and files on this machine.

use std::path::PathBuf;

use async_trait::async_trait;

use super::cluster::ClusterError;
use super::cluster_wire::EtcdClient;
use crate::model::etcd::{Begin, Member, Service};
use crate::model::name::MachineId;

/// Why something about etcd did not come about; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No answer, or none that is understood.
    #[error("etcd can't be reached at {endpoint}: {reason}")]
    Unreachable {
        /// Whom was asked.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// It said no; often only for now, as while a member does not answer.
    #[error("{doing} through {endpoint}: {reason}")]
    Refused {
        /// Who was asked.
        endpoint: String,
        /// What was tried, on what.
        doing: String,
        /// etcd's words.
        reason: String,
    },
    /// A file of this machine's etcd.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it did not work.
        source: std::io::Error,
    },
    /// No certificate could be made.
    #[error("{0}")]
    Certificate(String),
    /// The unit.
    #[error("{doing} {unit}: {reason}")]
    Unit {
        /// What was tried.
        doing: &'static str,
        /// The unit.
        unit: String,
        /// What systemd said.
        reason: String,
    },
}

/// etcd's members over the network. `endpoint` is the client URL of one of them, who is asked.
#[async_trait]
pub trait EtcdMembers: Send + Sync {
    /// Whether the member answers, and a majority stands behind its answer.
    async fn is_healthy(&self, endpoint: &str) -> bool;

    /// The members. Only what one that is healthy says is surely not out of date.
    async fn members(&self, endpoint: &str) -> Result<Vec<Member>, EtcdError>;

    /// Adds a member without a vote, to be found at `peer_url` once it has started. etcd
    /// refuses while another is without a vote, or a voting one does not answer.
    async fn add_learner(&self, endpoint: &str, peer_url: &str) -> Result<(), EtcdError>;

    /// Gives a member its vote. etcd refuses until it has nearly caught up with the others.
    async fn promote(&self, endpoint: &str, member: u64) -> Result<(), EtcdError>;

    /// Removes a member for good; one that is not there is no error. etcd refuses what would
    /// cost the majority.
    async fn remove(&self, endpoint: &str, member: u64) -> Result<(), EtcdError>;
}

/// etcd on this machine.
#[async_trait]
pub trait EtcdMachine: Send + Sync {
    /// Whether there is a member's data.
    fn has_data(&self) -> Result<bool, EtcdError>;

    /// What the unit does.
    async fn service(&self) -> Result<Service, EtcdError>;

    /// Writes certificates and environment, and starts the unit. One that has no data yet
    /// and was started with something else is started again.
    async fn start(&self, begin: &Begin) -> Result<(), EtcdError>;

    /// Starts the unit on the data that is there as the only member, whoever else was one. Until
    /// [`start`](Self::start) is called, a restart of the unit does that again.
    async fn start_alone(&self, begin: &Begin) -> Result<(), EtcdError>;

    /// Stops the unit, and takes away what it would be started with.
    async fn stop(&self) -> Result<(), EtcdError>;

    /// Stops the unit, and moves the data out of the way; what was moved there before is deleted.
    async fn set_aside(&self) -> Result<(), EtcdError>;
}

/// The unit of etcd on this machine, which is not ours.
#[async_trait]
pub trait EtcdUnit: Send + Sync {
    /// What it does.
    async fn service(&self) -> Result<Service, EtcdError>;

    /// Starts it, and does not wait until it has.
    async fn start(&self) -> Result<(), EtcdError>;

    /// Stops it, and waits until it has.
    async fn stop(&self) -> Result<(), EtcdError>;
}

/// Who lets a machine's programs speak to etcd.
#[async_trait]
pub trait EtcdAccess: Send + Sync {
    /// A certificate for the key that the machine made for itself (its public part, as PEM),
    /// and where members are. [`ClusterError::NotFound`] when the cluster has no etcd.
    async fn client(&self, machine: &MachineId, public_key: &str) -> Result<EtcdClient, ClusterError>;
}

/// What a machine's own programs find etcd with.
pub trait EtcdClientFiles: Send + Sync {
    /// The public part of the machine's key, as PEM; the key is made when there is none.
    ///
    /// # Errors
    /// When it can't be made or kept.
    fn public_key(&self) -> Result<String, EtcdError>;

    /// Writes where members are and whom to trust, and with `renew` also the certificate.
    /// Returns whether the certificate was written: it always is when there was none that fits.
    ///
    /// # Errors
    /// When they can't be written.
    fn install(&self, client: &EtcdClient, renew: bool) -> Result<bool, EtcdError>;
}
