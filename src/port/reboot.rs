//! Leave to reboot: where the cluster keeps it, how a machine asks for it, and the machine itself.

use std::io;

use async_trait::async_trait;

use super::cluster::ClusterError;
use crate::model::name::{BootId, MachineId};
use crate::model::reboot::{Answer, Leave, Mark, Returned};

/// A leave as the engine keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The engine's id of it: a later leave has another.
    pub id: String,
    /// What it says.
    pub leave: Leave,
}

/// Where the cluster keeps who may reboot, through the engine of a control machine. It keeps
/// one leave at most, whoever writes it. Every method may be called again after any failure.
#[async_trait]
pub trait Leaves: Send + Sync {
    /// The leave that there is.
    async fn held(&self) -> Result<Option<Held>, ClusterError>;

    /// Gives leave, unless there is one; whether it did.
    async fn take(&self, leave: &Leave) -> Result<bool, ClusterError>;

    /// Ends this very leave, and no other that came after it.
    async fn end(&self, held: &Held) -> Result<(), ClusterError>;

    /// What the machine's node says of its reboot.
    async fn mark(&self, machine: &MachineId) -> Result<Option<Mark>, ClusterError>;

    /// Writes at the machine's node that it is about to reboot.
    async fn set_mark(&self, machine: &MachineId, mark: &Mark) -> Result<(), ClusterError>;

    /// Has the machine take work again, and takes the mark off its node.
    async fn resume(&self, machine: &MachineId) -> Result<(), ClusterError>;
}

/// The cluster, as a machine asks it for leave through the API of any control machine.
#[async_trait]
pub trait AskLeave: Send + Sync {
    /// What the cluster knows of this machine's reboot.
    async fn mark(&self, machine: &MachineId) -> Result<Option<Mark>, ClusterError>;

    /// Asks for leave to end `boot`, and whether leave that was given still counts.
    async fn ask(&self, machine: &MachineId, boot: &BootId) -> Result<Answer, ClusterError>;

    /// Says that the machine has rebooted, or will not; it takes work again.
    async fn give_back(&self, machine: &MachineId) -> Result<Returned, ClusterError>;
}

/// The machine an agent runs on.
#[async_trait]
pub trait Host: Send + Sync {
    /// The boot it is in.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn boot(&self) -> io::Result<BootId>;

    /// The file that says that the machine should be rebooted, if there is one.
    fn wants_reboot(&self) -> Option<&'static str>;

    /// Says to the machine's own units that work is being taken off it, or that it takes some again.
    ///
    /// # Errors
    /// When it can't be written down.
    fn set_draining(&self, draining: bool) -> io::Result<()>;

    /// Has it reboot. It goes on for a while after this returns.
    ///
    /// # Errors
    /// When the machine's init refuses.
    async fn reboot(&self) -> io::Result<()>;
}
