//! What a cluster says of a machine that is in doubt about its membership, and the turn that a
//! machine needs before it joins again.

use serde::{Deserialize, Serialize};

use super::name::{MachineId, SwarmId};

/// The version of [`Standing`] that is sent.
pub const STANDING_VERSION: u32 = 1;

/// What a control machine answers for its cluster. It answers only while the managers have a
/// leader, so a majority stands behind what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The version of this format, [`STANDING_VERSION`].
    pub version: u32,
    /// The swarm that answers.
    pub cluster: SwarmId,
    /// Whether the cluster runs the deployments that it should: those of the cluster before it are
    /// restored, if there was one.
    pub restored: bool,
    /// What the node is to the cluster that answers.
    pub node: Place,
}

/// What a node is to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A manager.
    Manager,
    /// A worker.
    Worker,
    /// Not a node of this cluster: it was removed, or belongs to another.
    Unknown,
}

/// The answer to a machine that has to leave the swarm that it knows and join this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// It may go now.
    Granted,
    /// Not now: ask again.
    Wait {
        /// Why, for its log.
        reason: String,
    },
}

/// The turn to join again, as the engine of a control machine keeps it: one machine at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTurn {
    /// The engine's id of it: a later turn has another.
    pub id: String,
    /// The machine that has it.
    pub machine: MachineId,
    /// Since when, in seconds since 1970.
    pub since: i64,
}
