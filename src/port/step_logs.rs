//! What steps print, kept beside the journal.
//!
//! The journal says how many lines a step has, and is right: a process may have been killed after it has kept lines and
//! before the journal had their number. So every call says how many there are. What is kept beyond is cut off before
//! more is appended, and is never read.

use crate::model::run::RunId;
use crate::model::step_log::{Found, LogLine, NewLine, Search, StepLog};

/// Why lines can't be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the log {path}: {reason}")]
pub struct StepLogError {
    /// What was tried.
    pub doing: &'static str,
    /// The file or folder.
    pub path: String,
    /// What happened.
    pub reason: String,
}

/// A place for what steps print. Calls are synchronous; one process at a time appends to a log, any may read it.
pub trait StepLogs: Send + Sync {
    /// Appends lines to a log that has `known`, and returns how many it has then. They have reached the disk when it
    /// returns. Once a log is as long as it may be, or the disk is nearly full, a line that says so is its last one, and
    /// what comes later is dropped.
    ///
    /// # Errors
    /// When they can't be written.
    fn append(&self, log: StepLog, known: u64, lines: &[NewLine]) -> Result<u64, StepLogError>;

    /// Lines of a log that has `known`, from the one of that number: at most `count`, and fewer when they are long, but
    /// at least one where there is one. A line that is missing is left out.
    ///
    /// # Errors
    /// When they can't be read.
    fn page(&self, log: StepLog, known: u64, from: u64, count: usize) -> Result<Vec<LogLine>, StepLogError>;

    /// Searches a log that has `known` lines.
    ///
    /// # Errors
    /// When it can't be read.
    fn search(&self, log: StepLog, known: u64, search: &Search) -> Result<Found, StepLogError>;

    /// Notes that the logs of a run get no further lines. What memory they have is freed.
    fn close(&self, run: RunId);

    /// Removes the logs of a run.
    ///
    /// # Errors
    /// When something can't be removed.
    fn remove(&self, run: RunId) -> Result<(), StepLogError>;

    /// How many bytes the logs of a run take on the disk.
    ///
    /// # Errors
    /// When the folder can't be read.
    fn size(&self, run: RunId) -> Result<u64, StepLogError>;

    /// The runs that have logs, sorted.
    ///
    /// # Errors
    /// When the folder can't be read.
    fn runs(&self) -> Result<Vec<RunId>, StepLogError>;
}
