//! What the cluster says of a machine that is in doubt about its membership, and how a machine
//! that has to join again gets its turn.

use async_trait::async_trait;

use super::cluster::ClusterError;
use crate::model::name::MachineId;
use crate::model::standing::{HeldTurn, Standing, Turn};

/// The cluster, as a machine in doubt asks it through the API of any control machine.
#[async_trait]
pub trait AskStanding: Send + Sync {
    /// What the node is to the cluster, from a majority of it.
    ///
    /// # Errors
    /// When no control machine answers that has a leader: then nothing may be concluded.
    async fn standing(&self, node: &str) -> Result<Standing, ClusterError>;

    /// Asks whether this machine may leave its swarm and join this cluster now.
    ///
    /// # Errors
    /// When no control machine answers; the machine asks again.
    async fn turn(&self, machine: &MachineId) -> Result<Turn, ClusterError>;
}

/// Where the cluster keeps whose turn it is. It keeps one at most, whoever writes it. Every method
/// may be called again after any failure.
#[async_trait]
pub trait Turns: Send + Sync {
    /// The turn that there is.
    async fn held_turn(&self) -> Result<Option<HeldTurn>, ClusterError>;

    /// Gives the turn to `machine`, unless there is one; whether it did.
    async fn take_turn(&self, machine: &MachineId, now: i64) -> Result<bool, ClusterError>;

    /// Ends this very turn, and no other that came after it.
    async fn end_turn(&self, held: &HeldTurn) -> Result<(), ClusterError>;
}

/// Brings back what ran in the cluster before, when a cluster is founded in the place of one that
/// was lost. The agent of the leading manager calls it until it returns `true`; workers join after
/// that and not before.
#[async_trait]
pub trait Restore: Send + Sync {
    /// Deploys what is recorded and not there; `true` when nothing is left to do.
    ///
    /// # Errors
    /// When something could not be read or deployed; it is called again.
    async fn restore(&self) -> Result<bool, ClusterError>;
}
