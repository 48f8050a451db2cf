//! What a control machine keeps in a file of its own.

use std::fmt;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The audit log.
    AuditLog,
    /// The events.
    Events,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuditLog => "the audit log",
            Self::Events => "the events",
        })
    }
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// It can't be opened.
    #[error("opening {what} in {path}: {reason}")]
    Open {
        /// What it keeps.
        what: Kept,
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
    /// A later version of fleetwright wrote it.
    #[error("{path} with {what} has schema {found}, and this version knows up to {known}")]
    Newer {
        /// What it keeps.
        what: Kept,
        /// The file.
        path: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It can't be read or written.
    #[error("{doing} {what}: {reason}")]
    Access {
        /// What it keeps.
        what: Kept,
        /// What was tried.
        doing: &'static str,
        /// What happened.
        reason: String,
    },
}
