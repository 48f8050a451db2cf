//! Programs of the repository that are run before and after a stack is changed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// Why a hook did not do its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// It can't be run.
    #[error("it can't be run: {reason}")]
    NotRun {
        /// Why.
        reason: String,
    },
    /// It ended with another status than 0.
    #[error("it ended with status {status}")]
    Status {
        /// The status.
        status: i32,
    },
    /// A signal ended it.
    #[error("a signal ended it")]
    Killed,
    /// It took too long.
    #[error("it had not ended after {} minutes, and was ended", .limit.as_secs() / 60)]
    TimedOut {
        /// How long it may take.
        limit: Duration,
    },
    /// It was stopped, since fleetwright was.
    #[error("it was stopped")]
    Stopped,
}

/// Takes a hook's output, line by line.
pub type Lines<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Runs hooks.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Runs a command at the repository's root, with `environment` added to this process's, until it
    /// has ended. `stop` ends it early. Its output goes to `line`.
    async fn run(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        line: Lines<'_>,
        stop: &CancellationToken,
    ) -> Result<(), HookError>;
}
