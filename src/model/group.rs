//! Autoscaling groups and their instances, as the cloud provider reports them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::MachineId;

/// How many machines a group has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// The fewest that the desired number may be set to.
    pub min: u32,
    /// The most that the desired number may be set to.
    pub max: u32,
    /// How many there should be.
    pub desired: u32,
}

/// A launch template at a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchTemplate {
    /// Its id, such as `lt-0a1b`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version: a number, or `$Latest` or `$Default` when the group follows one.
    pub version: String,
}

/// Where an instance is in its life, hooks included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Being launched (also while a launch hook holds it).
    Pending,
    /// Counts towards the group's desired capacity.
    InService,
    /// Being terminated.
    Terminating,
    /// Held by a hook before it is terminated.
    TerminatingWait,
    /// Let go by its hooks; about to be terminated.
    TerminatingProceed,
    /// Gone.
    Terminated,
    /// Standby, detached, or in a warm pool: not part of what the group serves with.
    Aside,
}

impl Lifecycle {
    /// Whether it is on its way out, or out.
    pub fn is_leaving(self) -> bool {
        match self {
            Self::Terminating | Self::TerminatingWait | Self::TerminatingProceed | Self::Terminated => true,
            Self::Pending | Self::InService | Self::Aside => false,
        }
    }
}

/// An instance of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInstance {
    /// Its id.
    pub id: MachineId,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Whether the group's health check is content with it.
    pub healthy: bool,
    /// Its availability zone.
    pub zone: String,
    /// What it was launched from.
    pub launch_template: Option<LaunchTemplate>,
}

/// An autoscaling group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many machines it has, and may have.
    pub capacity: Capacity,
    /// What it launches new instances from.
    pub launch_template: Option<LaunchTemplate>,
    /// Its instances, sorted by id.
    pub instances: Vec<GroupInstance>,
    /// Its own tags.
    pub tags: BTreeMap<String, String>,
}
