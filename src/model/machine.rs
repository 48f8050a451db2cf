//! Machines of a cluster, as its engine and its agents see them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::feature::Features;
use super::host_file_state::HostFileState;
use super::name::{HostFileName, MachineId};
use super::pressure::Pressure;

/// What a machine does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds the cluster's state and serves its API.
    Control,
    /// Runs services only.
    Worker,
}

impl Role {
    /// The word in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Worker => "worker",
        }
    }
}

/// Whether a machine can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// Up, and takes work.
    Ready,
    /// Up, keeps what it runs, takes nothing new.
    Paused,
    /// Up, and being emptied.
    Draining,
    /// It has leave to reboot: being emptied for it, away, or coming back.
    Rebooting,
    /// The engine can't reach it.
    Down,
}

impl MachineState {
    /// The word in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Rebooting => "rebooting",
            Self::Down => "down",
        }
    }
}

/// A machine that is, or was until just now, a member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its instance id.
    pub id: MachineId,
    /// Its private address.
    pub address: IpAddr,
    /// Its role.
    pub role: Role,
    /// Whether it can be given work.
    pub state: MachineState,
    /// Whether it is the managers' leader now.
    pub leader: bool,
    /// The autoscaling group it belongs to, as the cloud names it.
    pub group: String,
    /// Metadata that placement can ask for, `group`, `role` and `zone` included.
    pub metadata: BTreeMap<String, String>,
    /// What its agent can do.
    #[serde(default)]
    pub features: Features,
    /// How full it is; `None` where its agent has not reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// Its watched files, as its agent has reported them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub host_files: BTreeMap<HostFileName, HostFileState>,
}
