//! The lock of an environment: who may change its stacks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of the lock's document, raised when a field changes its meaning.
pub const LOCK_VERSION: u32 = 1;

/// What a lock says of its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// [`LOCK_VERSION`].
    pub version: u32,
    /// Tells this holding from any other, also of the same process.
    pub id: String,
    /// Who: `user@host`.
    pub holder: String,
    /// The host, by its machine id where it has one: names are not unique.
    pub host: String,
    /// The process on it.
    pub process: u32,
    /// When that process began, in clock ticks since the host's start: numbers of processes come again.
    pub started: u64,
    /// What it does, such as `apply`.
    pub command: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when, unless it is renewed.
    pub expires: DateTime<Utc>,
    /// Whether it was given back.
    pub released: bool,
    /// Which of its holder's writes this is; earlier versions did not count them.
    #[serde(default)]
    pub write: u64,
}
