//! Locks between processes of one machine.

/// A lock that is held; dropping it lets go.
pub type Guard = Box<dyn std::any::Any + Send + Sync>;

/// Locks by name. The operating system lets go of those of a process that dies, however it dies.
pub trait Locks: Send + Sync {
    /// Takes the lock, or gives `None` when somebody has it.
    ///
    /// # Errors
    /// When locks can't be had at all.
    fn try_lock(&self, name: &str) -> std::io::Result<Option<Guard>>;
}
