//! Watched files: their definitions in a cluster, what machines are sent of them, and the machine that has them.

use std::collections::BTreeMap;
use std::io;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::cluster::ClusterError;
use crate::model::host_file::{Definition, FeedLine, HostFileSpec, Reload};
use crate::model::host_file_state::HostFileStates;
use crate::model::name::{HostFileName, MachineId};

/// The watched files of a cluster. Every method may be called again after any failure.
#[async_trait]
pub trait HostFileCluster: Send + Sync {
    /// All definitions, sorted by name.
    async fn host_files(&self) -> Result<Vec<Definition>, ClusterError>;

    /// Makes a definition what `spec` says, and returns its number; that of the present one where nothing differs.
    async fn deploy_host_file(&self, spec: &HostFileSpec) -> Result<u64, ClusterError>;

    /// Removes a definition. The files on machines stay as they are.
    async fn remove_host_file(&self, name: &HostFileName) -> Result<(), ClusterError>;
}

/// The keys of a cluster, for people who want to know what a file is rendered from.
#[async_trait]
pub trait ReadKeys: Send + Sync {
    /// The keys in etcd below each of the prefixes.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] where the cluster has no etcd.
    async fn read_keys(&self, prefixes: &[String]) -> Result<BTreeMap<String, String>, ClusterError>;
}

/// What a machine is sent: its files and what they are rendered from, in lines that follow each other.
pub type Lines = BoxStream<'static, Result<FeedLine, ClusterError>>;

/// The control machines, for a machine that has watched files.
#[async_trait]
pub trait Feeds: Send + Sync {
    /// The files of `machine` as a whole, and then what changes, until dropped.
    async fn feed(&self, machine: &MachineId) -> Result<Lines, ClusterError>;

    /// Reports how far its files have come.
    async fn report(&self, machine: &MachineId, states: &HostFileStates) -> Result<(), ClusterError>;
}

/// What etcd holds.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The keys below each of the prefixes now, and again after every change, until dropped. It ends with an error
    /// when etcd can't be reached.
    async fn watch(
        &self,
        prefixes: &[String],
    ) -> Result<BoxStream<'static, Result<BTreeMap<String, String>, ClusterError>>, ClusterError>;
}

/// A file as it is on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDisk {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether its permission bits and its owner are those that are wanted.
    pub is_owned: bool,
}

/// What is remembered of a file over restarts of the agent and reboots.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFileRecord {
    /// [`HOST_FILE_VERSION`](crate::model::host_file::HOST_FILE_VERSION).
    pub version: u32,
    /// The number of the definition that was applied last.
    pub number: u64,
    /// The reload that is still due for what is in place.
    pub due: Option<Reload>,
}

/// The disk of the machine.
pub trait HostDisk: Send + Sync {
    /// The file of `spec`; `None` where there is none.
    fn read(&self, spec: &HostFileSpec) -> io::Result<Option<OnDisk>>;

    /// Writes a new file beside the one that it is to replace, readable by nobody but its owner-to-be, and returns
    /// its path.
    fn prepare(&self, spec: &HostFileSpec, text: &str) -> io::Result<String>;

    /// Puts a prepared file in its place: whoever opens it finds the old one or the new one, and never a part.
    fn replace(&self, candidate: &str, spec: &HostFileSpec) -> io::Result<()>;

    /// Removes a prepared file.
    fn discard(&self, candidate: &str);

    /// What is remembered of files.
    fn records(&self) -> io::Result<BTreeMap<HostFileName, HostFileRecord>>;

    /// Remembers it; it outlives the machine's power.
    fn record(&self, name: &HostFileName, record: &HostFileRecord) -> io::Result<()>;

    /// Forgets it.
    fn forget(&self, name: &HostFileName) -> io::Result<()>;

    /// Says that every file has been dealt with since the machine started: those who wait for that may start.
    fn settled(&self) -> io::Result<()>;
}

/// The programs of the machine.
#[async_trait]
pub trait Programs: Send + Sync {
    /// Executes a check. The error is what it says, in one line.
    async fn check(&self, command: &[String]) -> Result<(), String>;

    /// Reloads a program. The error is why it was not.
    async fn reload(&self, reload: &Reload) -> Result<(), String>;
}
