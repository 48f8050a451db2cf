//! Occurrences as a leader sees them, and what it can do about them.
//!
//! What is decided is in `plan/jobs`; how it is kept, in the engine's adapter.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::job::{OccurrenceId, Outcome, Overlap};
use super::name::JobName;
use super::schedule::Times;

/// A job as it is deployed.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: JobName,
    /// When it is due; `None` for one without a schedule.
    pub times: Option<Times>,
    /// Its schedule counts from then on.
    pub from: DateTime<Utc>,
    /// Everything up to then is recorded or forgotten: nothing of it may begin.
    pub recorded: DateTime<Utc>,
    /// How late it may be started.
    pub catch_up: Option<Duration>,
}

/// The rules of an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What happens while an earlier one has not ended.
    pub overlap: Overlap,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How often it is tried again.
    pub retries: u32,
}

/// An occurrence that was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// Its id.
    pub id: OccurrenceId,
    /// When it was due, or asked for.
    pub at: DateTime<Utc>,
    /// Its rules; `None` where a later version claimed it, which is left alone.
    pub rules: Option<Rules>,
    /// Why it can't run.
    pub problem: Option<String>,
    /// Whether it may still begin. A revision's occurrence may not once the revision is not the newest
    /// of its service any more, or waits for nothing.
    pub wanted: bool,
    /// Whether an attempt was given a value of a secret that is not the newest.
    pub outdated: bool,
    /// Its attempts in order; the first has the number 1.
    pub attempts: Vec<Attempt>,
    /// Its outcome, once that is recorded, and when it was.
    pub outcome: Option<(Outcome, DateTime<Utc>)>,
}

/// An attempt of an occurrence.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// Since when there is something of it.
    pub since: DateTime<Utc>,
    /// Whether it may run.
    pub permit: Permit,
    /// What the engine runs of it; `None` without a service.
    pub service: Option<Task>,
}

/// The permit of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Permit {
    /// It has not been granted.
    Free,
    /// A leader took it: the attempt never runs.
    Void {
        /// Why.
        why: Void,
        /// When.
        at: DateTime<Utc>,
    },
    /// The attempt took it, and executed the command.
    Held {
        /// When.
        since: DateTime<Utc>,
        /// Why it was stopped.
        stop: Option<Stop>,
        /// Since when its machine does not answer.
        lost: Option<DateTime<Utc>>,
        /// How it ended.
        end: Option<End>,
    },
}

/// Why an attempt never runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Void {
    /// Its machine went before it began: another attempt follows.
    Moved,
    /// It could not be started.
    Failed(String),
    /// The occurrence is not to run any more.
    Withdrawn(Outcome, String),
}

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It took longer than its timeout.
    TimedOut,
    /// A later occurrence takes its place.
    Replaced,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When.
    pub at: DateTime<Utc>,
    /// How.
    pub exit: Exit,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status; `None` where nobody saw it.
    Status(Option<i64>),
    /// Whether it ended is unknown.
    Unknown,
}

/// What the engine says about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// There is no task, or none any more.
    None,
    /// It is not running yet.
    Waiting {
        /// What it waits for.
        message: Option<String>,
    },
    /// Its container runs.
    Running,
    /// Its container has ended, or could not be started.
    Ended {
        /// When.
        at: DateTime<Utc>,
        /// The exit status.
        exit: Option<i64>,
        /// Why it could not be started.
        reason: Option<String>,
    },
    /// Its machine does not answer.
    Lost,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Claim an occurrence that is due.
    Claim {
        /// The job.
        job: JobName,
        /// When it was due.
        at: DateTime<Utc>,
        /// Whether it is too late to start it: it is recorded as missed.
        missed: bool,
    },
    /// Create the service of an attempt.
    Start {
        /// The occurrence.
        id: OccurrenceId,
        /// The attempt.
        attempt: u32,
    },
    /// Take the permit of an attempt, if nobody has it.
    Void {
        /// The occurrence.
        id: OccurrenceId,
        /// The attempt.
        attempt: u32,
        /// Why.
        why: Void,
    },
    /// Stop an attempt that runs, and note why.
    Stop {
        /// The occurrence.
        id: OccurrenceId,
        /// The attempt.
        attempt: u32,
        /// Why.
        why: Stop,
    },
    /// Note at the permit that the machine does not answer, or that it does again.
    Lost {
        /// The occurrence.
        id: OccurrenceId,
        /// The attempt.
        attempt: u32,
        /// Whether it is lost.
        lost: bool,
    },
    /// Note at the permit how the attempt ended, unless that is noted.
    End {
        /// The occurrence.
        id: OccurrenceId,
        /// The attempt.
        attempt: u32,
        /// How.
        end: End,
    },
    /// Record the outcome.
    Settle {
        /// The occurrence.
        id: OccurrenceId,
        /// The outcome.
        outcome: Outcome,
        /// Why.
        reason: Option<String>,
    },
    /// Remove the service of an attempt.
    Remove {
        /// The occurrence.
        id: OccurrenceId,
        /// The attempt.
        attempt: u32,
    },
    /// Note that everything of a job up to then is recorded or forgotten.
    Record {
        /// The job.
        job: JobName,
        /// Up to when.
        until: DateTime<Utc>,
    },
    /// Delete the permits of a recorded occurrence.
    Tidy {
        /// The occurrence.
        id: OccurrenceId,
    },
    /// Delete an occurrence, after nothing up to its time may begin any more.
    Forget {
        /// The occurrence.
        id: OccurrenceId,
        /// Its time.
        at: DateTime<Utc>,
    },
}
