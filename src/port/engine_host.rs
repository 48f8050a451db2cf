//! The engine as a program on this machine: what it keeps on disk, and how it is restarted.

use std::io;

use async_trait::async_trait;

use crate::model::member::Stored;
use crate::model::pressure::Pressure;

/// The engine's unit in the machine's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineUnit {
    /// It runs.
    Running,
    /// It is being started or stopped.
    Changing,
    /// It ended with a failure and is not started again by itself.
    Failed,
    /// Somebody stopped it, or it does not exist.
    Stopped,
}

/// The engine's files and unit.
#[async_trait]
pub trait EngineHost: Send + Sync {
    /// What the engine keeps on disk of its membership.
    ///
    /// # Errors
    /// When it can't be read. It must not be taken for empty then.
    async fn stored(&self) -> io::Result<Stored>;

    /// The state of the engine's unit.
    ///
    /// # Errors
    /// When the machine's init does not answer.
    async fn unit(&self) -> io::Result<EngineUnit>;

    /// Whether the whole machine is being shut down.
    ///
    /// # Errors
    /// When the machine's init does not answer.
    async fn is_shutting_down(&self) -> io::Result<bool>;

    /// How full the machine is.
    ///
    /// # Errors
    /// When its kernel does not report it.
    fn pressure(&self) -> io::Result<Pressure>;

    /// Restarts the engine, also after it failed too often in a row. Returns before it answers again.
    ///
    /// # Errors
    /// When the machine's init refuses.
    async fn restart(&self) -> io::Result<()>;
}
