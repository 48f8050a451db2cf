//! Where a control machine stores the record of changes.

use super::kept::KeptError;
use crate::model::audit::{AuditEvent, Draft, Ended, Filter};

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
    fn begin(&self, draft: &Draft) -> Result<String, KeptError>;

    /// Stores how a change ended.
    ///
    /// # Errors
    /// When it can't be written.
    fn end(&self, ended: &Ended) -> Result<(), KeptError>;

    /// The events of the newest `limit` changes that `filter` takes, oldest first.
    ///
    /// # Errors
    /// When it can't be read.
    fn newest(&self, filter: &Filter, limit: u32) -> Result<Vec<AuditEvent>, KeptError>;

    /// Up to `limit` events that are not marked as shipped.
    ///
    /// # Errors
    /// When it can't be read.
    fn unshipped(&self, limit: u32) -> Result<Option<Unshipped>, KeptError>;

    /// Marks the events up to `last` as shipped.
    ///
    /// # Errors
    /// When it can't be written.
    fn shipped(&self, last: i64) -> Result<(), KeptError>;
}
