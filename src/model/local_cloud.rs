//! The state of a local cloud, as `local status` shows it.

use std::net::Ipv4Addr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A local cloud at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalStatus {
    /// Version of this document, 1.
    pub version: u32,
    /// The cloud's name.
    pub name: String,
    /// Whether it is up and whole.
    pub up: bool,
    /// What was lost that can't be restored, when something was.
    pub broken: Option<String>,
    /// The supervisor, the emulator and the registry.
    pub parts: Vec<LocalPart>,
    /// The machines, sorted by group, then address.
    pub machines: Vec<LocalMachine>,
    /// What does not work for now.
    pub problems: Vec<LocalProblem>,
    /// The folder of its logs.
    pub logs: String,
}

/// A process of the local cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPart {
    /// `supervisor`, `emulator` or `registry`.
    pub name: String,
    /// `running`, `starting` or `down`.
    pub state: String,
    /// Where it can be reached.
    pub address: Option<String>,
    /// Its process.
    pub pid: Option<i32>,
    /// When that was started.
    pub since: Option<DateTime<Utc>>,
    /// What is wrong, or was when it last ended.
    pub message: Option<String>,
}

/// A machine of the local cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalMachine {
    /// The instance.
    pub instance: String,
    /// Its autoscaling group.
    pub group: Option<String>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its state in the group, such as `InService`, or EC2's word when it is in none.
    pub lifecycle: String,
    /// Its container: `running`, `starting`, `rebooting`, `off` (its power was cut on purpose),
    /// `stopped` or `gone`.
    pub container: String,
    /// What its cloud-init has come to: `done`, `running` or the first error.
    pub cloud_init: Option<String>,
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalProblem {
    /// What.
    pub message: String,
    /// The next step.
    pub next: String,
}
