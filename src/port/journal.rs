//! The record of runs: written before each action, so that a killed process can be followed by another.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::model::git_ref::GitRef;
pub use crate::model::journal::{KnownImage, Printed, Record};
use crate::model::name::{CommitId, ImageKey, PipelineName, RepositoryName};
use crate::model::run::{Answer, Run, RunConfig, RunId, RunState, Trigger};
use crate::model::step_log::{LogLine, StepLog};
use crate::port::step_logs::StepLogError;

/// Why the journal can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file can't be opened.
    #[error("opening the journal {path}: {reason}")]
    Open {
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
    /// A later version of fleetwright wrote it.
    #[error("the journal {path} has schema {found}, this version knows up to {known}")]
    Newer {
        /// The file.
        path: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It can't be read or written.
    #[error("{doing} the journal: {reason}")]
    Access {
        /// What was tried.
        doing: &'static str,
        /// What happened.
        reason: String,
    },
    /// The log of a step can't be written or read.
    #[error(transparent)]
    Log(#[from] StepLogError),
    /// The run, or the step, has ended; nothing is added to what has ended.
    #[error("{what} has ended already")]
    Ended {
        /// What, in words.
        what: String,
    },
    /// It holds something that makes no sense.
    #[error("the journal's {what} can't be read: {reason}")]
    Corrupt {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
}

/// A run to put into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The git repository.
    pub repository: RepositoryName,
    /// The commit.
    pub commit: CommitId,
    /// The first line of the commit's message.
    pub subject: String,
    /// What started it.
    pub trigger: Trigger,
    /// The branch, tag or pull request that the commit is of, where that is known.
    pub reference: Option<GitRef>,
    /// What it is given.
    pub parameters: BTreeMap<String, String>,
    /// Who asked for it, where that is known.
    pub asked_by: Option<String>,
}

/// Something that starts runs of a pipeline, each of them once: a schedule, or another pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause<'a> {
    /// The pipeline.
    pub pipeline: &'a PipelineName,
    /// What starts it, in words that stay the same.
    pub words: &'a str,
}

/// An event with its place in its run's stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number in the run, from 1, without gaps.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// What, as JSON.
    pub event: String,
}

/// Lines of a step with their place in their run's stream. The lines themselves are in the log of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesEntry {
    /// The number of the first line in the run.
    pub seq: i64,
    /// The step's position, from 0.
    pub index: usize,
    /// The step's name.
    pub step: String,
    /// The number of the first line in the log of the step.
    pub first: u64,
    /// How many there are.
    pub count: u32,
}

/// A part of a run's stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Logged {
    /// An event.
    Event(Entry),
    /// Lines, each of which is an event of its own.
    Lines(LinesEntry),
}

/// What came of [`Journal::observe`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The new runs.
    pub queued: Vec<RunId>,
    /// The queued runs that they took the place of.
    pub superseded: Vec<RunId>,
}

/// Which runs are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest, at most this many, newest first.
    Newest(u32),
    /// Those of a pipeline that have not ended, oldest first.
    Open(PipelineName),
    /// Those that fit all of it, newest first.
    Fitting {
        /// The pipeline; any, where none is given.
        pipeline: Option<PipelineName>,
        /// The state; any, where none is given.
        state: Option<RunState>,
        /// How the commit's id begins; any, where nothing is given.
        commit: Option<String>,
        /// Only runs with a lower number.
        before: Option<RunId>,
        /// At most this many.
        limit: u32,
    },
}

/// The record of runs. Calls are short and synchronous; what was written has reached the
/// disk when a call returns.
pub trait Journal: Send + Sync {
    /// Notes where references stand and puts those of `runs` into the queue whose reference has moved, together or not at
    /// all. Queued runs of the same pipeline and reference that a change started are superseded. On the first sight of a
    /// repository, a run for a commit that was run before is left out.
    fn observe(
        &self,
        at: DateTime<Utc>,
        repository: &RepositoryName,
        moved: &BTreeMap<GitRef, CommitId>,
        runs: &[NewRun],
    ) -> Result<Observed, JournalError>;

    /// Where the references of a repository were last seen. Journals of old know no names of branches; what they have seen
    /// is that of `watched`.
    fn seen(
        &self,
        repository: &RepositoryName,
        watched: &GitRef,
    ) -> Result<BTreeMap<GitRef, CommitId>, JournalError>;

    /// How far a cause has got; `None` for one that is new.
    fn mark(&self, cause: Cause<'_>) -> Result<Option<String>, JournalError>;

    /// Notes that a cause has got from `from` to `to` and puts `run` into the queue, together or not at all; `None` when
    /// there is no run, or the cause is no longer at `from`.
    fn start(
        &self,
        at: DateTime<Utc>,
        cause: Cause<'_>,
        from: Option<&str>,
        to: &str,
        run: Option<&NewRun>,
    ) -> Result<Option<RunId>, JournalError>;

    /// The last run of a pipeline that has succeeded.
    fn succeeded(&self, pipeline: &PipelineName) -> Result<Option<Run>, JournalError>;

    /// Puts a run into the queue that someone asked for.
    fn enqueue(&self, at: DateTime<Utc>, run: &NewRun) -> Result<RunId, JournalError>;

    /// Puts a run into the queue of which it is settled already what it does.
    fn enqueue_as(&self, at: DateTime<Utc>, run: &NewRun, config: &RunConfig) -> Result<RunId, JournalError>;

    /// Writes changes of a run.
    fn record(&self, at: DateTime<Utc>, run: RunId, records: &[Record]) -> Result<(), JournalError>;

    /// Notes what somebody has answered to the step at `index`; `false` when somebody has before.
    fn answer(&self, run: RunId, index: usize, answer: &Answer) -> Result<bool, JournalError>;

    /// What somebody has answered to the step at `index`.
    fn answered(&self, run: RunId, index: usize) -> Result<Option<Answer>, JournalError>;

    /// Counts an attempt at a run, before it is begun, and returns how many were begun since the
    /// run last got on, this one included. [`Journal::leave`] takes it back.
    fn attempt(&self, run: RunId) -> Result<u32, JournalError>;

    /// Notes that an attempt has ended without taking the process with it.
    fn leave(&self, run: RunId) -> Result<(), JournalError>;

    /// Puts a quarantined run back into the queue, where it was; `false` when it is not quarantined.
    fn retry(&self, run: RunId) -> Result<bool, JournalError>;

    /// A run.
    fn run(&self, id: RunId) -> Result<Option<Run>, JournalError>;

    /// Runs.
    fn runs(&self, which: &Which) -> Result<Vec<Run>, JournalError>;

    /// The events and lines of a run after the number `after`, at most `limit` of both together.
    fn rows(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Logged>, JournalError>;

    /// The events of a run after the number `after`, at most `limit`, without what its steps have printed.
    fn events(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Entry>, JournalError>;

    /// How much a step has printed.
    fn printed(&self, log: StepLog) -> Result<Printed, JournalError>;

    /// Lines that a version before schema 4 has recorded, from the one of that number, at most `count`.
    fn old_lines(&self, log: StepLog, from: u64, count: u32) -> Result<Vec<LogLine>, JournalError>;

    /// How many bytes the logs of runs have; those without any are left out.
    fn log_sizes(&self) -> Result<BTreeMap<RunId, u64>, JournalError>;

    /// Removes a run that has ended, with its log and what it has built; `false` when there is none, or when somebody may
    /// still work on it.
    fn forget(&self, run: RunId) -> Result<bool, JournalError>;

    /// The image that was pushed for a key under that name.
    fn image(&self, key: &ImageKey, name: &str) -> Result<Option<KnownImage>, JournalError>;
}
