//! Where a control machine stores the record of changes.

use crate::model::audit::{AuditEvent, Draft, Ended, Filter};

/// Why the record can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file can't be opened.
    #[error("opening the audit log {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
    /// A later version of fleetwright wrote it.
    #[error("the audit log {path} has schema {found}, this version knows up to {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It can't be read or written.
    #[error("{doing} the audit log: {reason}")]
    Access {
        /// What was tried.
        doing: &'static str,
        /// What happened.
        reason: String,
    },
}

/// Events that are not in the bucket yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unshipped {
    /// The number of the first.
    pub first: i64,
    /// The number of the last.
    pub last: i64,
    /// The events, oldest first.
    pub events: Vec<AuditEvent>,
}

/// The audit log of one control machine. Calls block until what they write survives a power cut.
pub trait AuditLog: Send + Sync {
    /// Its name, which no other log has.
    fn name(&self) -> &str;

    /// Stores that a change is about to be carried out; gives the change's id.
    ///
    /// # Errors
    /// When it can't be written.
    fn begin(&self, draft: &Draft) -> Result<String, AuditError>;

    /// Stores how a change ended.
    ///
    /// # Errors
    /// When it can't be written.
    fn end(&self, ended: &Ended) -> Result<(), AuditError>;

    /// The events of the newest `limit` changes that `filter` takes, oldest first.
    ///
    /// # Errors
    /// When it can't be read.
    fn newest(&self, filter: &Filter, limit: u32) -> Result<Vec<AuditEvent>, AuditError>;

    /// Up to `limit` events that are not marked as shipped.
    ///
    /// # Errors
    /// When it can't be read.
    fn unshipped(&self, limit: u32) -> Result<Option<Unshipped>, AuditError>;

    /// Marks the events up to `last` as shipped.
    ///
    /// # Errors
    /// When it can't be written.
    fn shipped(&self, last: i64) -> Result<(), AuditError>;
}
