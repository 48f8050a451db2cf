//! The units of services on a machine: systemd and its files, the placeholders of the engine, and the managers' word
//! on their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::cluster::ClusterError;
use crate::model::name::MachineId;
use crate::model::service::HealthProbe;
use crate::model::unit::{Installed, UnitOrder, UnitState, UnitTask, UnitTaskAsked, Which, Why};

/// Something of the machine did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {reason}")]
pub struct UnitError {
    /// What was being done.
    pub doing: String,
    /// Why it did not work.
    pub reason: String,
}

/// systemd of this machine.
#[async_trait]
pub trait UnitManager: Send + Sync {
    /// The units of those names; of one that systemd does not know, nothing.
    ///
    /// # Errors
    /// When systemd can't be asked.
    async fn states(&self, names: &[String]) -> Result<BTreeMap<String, UnitState>, UnitError>;

    /// Has systemd read its files again.
    ///
    /// # Errors
    /// When it does not.
    async fn reload(&self) -> Result<(), UnitError>;

    /// Begins to start a unit, without waiting for it.
    ///
    /// # Errors
    /// When it can't be started.
    async fn start(&self, name: &str) -> Result<(), UnitError>;

    /// Begins to stop a unit, without waiting for it.
    ///
    /// # Errors
    /// When it can't be stopped.
    async fn stop(&self, name: &str) -> Result<(), UnitError>;

    /// Forgets that a unit failed. One that did not is no error.
    ///
    /// # Errors
    /// When systemd can't be asked.
    async fn forget(&self, name: &str) -> Result<(), UnitError>;

    /// Returns when a unit may have changed, or after `limit`.
    async fn changed(&self, limit: Duration);
}

/// What the agent keeps of the units of one task, for as long as the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitRecord {
    /// Version of this document, 1.
    pub version: u32,
    /// The task that they belong to now.
    pub task: String,
    /// The task that they were installed for, after which files and units are named.
    pub installed_for: String,
    /// Their service.
    pub service: String,
    /// The number of the instance.
    pub slot: String,
    /// The id of their template.
    pub template: String,
    /// What was ordered.
    pub order: UnitOrder,
    /// The target that starts and stops all of them.
    pub target: String,
    /// The units whose states count.
    pub start: Vec<String>,
    /// All units.
    pub units: Vec<String>,
    /// Whether systemd was asked to start them.
    pub started: bool,
    /// Why they are being stopped, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Why>,
}

/// Where units, their files and secrets are kept. All of it is in memory, and gone when the machine restarts.
#[async_trait]
pub trait UnitStore: Send + Sync {
    /// All records. What belongs to none is removed from systemd's folder, and named.
    ///
    /// # Errors
    /// When they can't be read.
    async fn load(&self) -> Result<(Vec<UnitRecord>, Vec<String>), UnitError>;

    /// The folder for what belongs to a task.
    fn folder(&self, task: &str) -> String;

    /// Writes a record, the files for systemd, and `private` files by their paths in the folder of the task.
    ///
    /// # Errors
    /// When they can't be written.
    async fn install(
        &self,
        record: &UnitRecord,
        installed: &Installed,
        private: &[PrivateFile],
    ) -> Result<(), UnitError>;

    /// Writes a record again.
    ///
    /// # Errors
    /// When it can't be written.
    async fn update(&self, record: &UnitRecord) -> Result<(), UnitError>;

    /// Removes all that belongs to a record.
    ///
    /// # Errors
    /// When it can't be removed.
    async fn remove(&self, record: &UnitRecord) -> Result<(), UnitError>;
}

/// A file of a unit that is not systemd's.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateFile {
    /// Its path in the folder of the task.
    pub path: String,
    /// Its content, which may be secret.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and group, by number.
    pub owner: (u32, u32),
}

impl std::fmt::Debug for PrivateFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateFile({}, {} bytes)", self.path, self.content.len())
    }
}

/// A placeholder that has connected, with what it brings.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// What it stands for.
    pub which: Which,
    /// What it orders.
    pub order: UnitOrder,
    /// The files and secrets that it holds, by their paths in its container.
    pub held: Vec<PrivateFile>,
}

/// Asks control machines about tasks of this machine.
#[async_trait]
pub trait AskStandings: Send + Sync {
    /// What the managers say of tasks of `machine`.
    ///
    /// # Errors
    /// When no control machine answers.
    async fn standings(
        &self,
        machine: &MachineId,
        tasks: &[UnitTaskAsked],
    ) -> Result<Vec<UnitTask>, ClusterError>;
}

/// The health of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing is known yet.
    Unknown,
    /// It is healthy, and what its check answered.
    Healthy(String),
    /// It is not, and what its check answered.
    Unhealthy(String),
}

/// A placeholder that is connected.
#[derive(Debug, Clone)]
pub struct Present {
    /// What it brings.
    pub arrived: Arc<Arrived>,
    /// When the engine asked it to stop, if it did.
    pub told: Option<Instant>,
    /// Which of its connections this is.
    pub connection: u64,
}

/// The placeholders of this machine.
#[async_trait]
pub trait Door: Send + Sync {
    /// Those that are connected and have not been asked to end, by their tasks.
    fn present(&self) -> Vec<Present>;
    /// Has a placeholder end with that status, after it has said why.
    fn end(&self, task: &str, status: u8, reason: &str);
    /// Says how its units are.
    fn health(&self, task: &str, health: Health);
    /// Has a placeholder print a line.
    fn print(&self, task: &str, line: &[u8]);
    /// When a placeholder printed its last line, if it has printed any.
    fn printed(&self, task: &str) -> Option<Instant>;
    /// Returns when one has come or gone, or was asked to stop.
    async fn changed(&self);
}

/// Asks whether units are healthy.
#[async_trait]
pub trait CheckHealth: Send + Sync {
    /// What a check answers.
    ///
    /// # Errors
    /// Its words, where it fails or takes longer than `limit`.
    async fn check(&self, probe: &HealthProbe, limit: Duration) -> Result<String, String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::unit::Standing;
    use crate::port::cluster_wire::{UnitTasks, UnitTasksRequest};

    #[test]
    fn everything_recorded_about_units_is_understood() {
        for (name, text) in crate::source::samples::of("units") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let part = |key: &str| sample[key].clone();
            let request: UnitTasksRequest = serde_json::from_value(part("request")).expect(&name);
            assert_eq!(request.tasks.len(), 1, "{name}");
            let answer: UnitTasks = serde_json::from_value(part("answer")).expect(&name);
            assert_eq!(answer.tasks[1].standing, Standing::Succeeded("c".to_owned()), "{name}");
            let order: UnitOrder = serde_json::from_value(part("order")).expect(&name);
            let record: UnitRecord = serde_json::from_value(part("record")).expect(&name);
            assert_eq!(record.order, order, "{name}");
        }
    }
}
