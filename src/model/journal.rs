//! What is written down of a run.

use super::name::{Digest, ImageKey};
use super::run::{RunConfig, RunState, SameAs, StepState};
use super::step_files::{StepFile, TestReport};

/// One change of a run. Those of one `Journal::record` are written together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// The run begins with these steps.
    Begun(RunConfig),
    /// A step is in another state.
    Step {
        /// Its position, from 0.
        index: usize,
        /// The state.
        state: StepState,
    },
    /// Files of a step's workspace are kept.
    Files {
        /// The step's position, from 0.
        index: usize,
        /// The files.
        files: Vec<StepFile>,
        /// What its tests have shown.
        tests: Option<TestReport>,
    },
    /// An image is in the registry.
    Image {
        /// What went into it.
        key: ImageKey,
        /// Its repository, with the registry's host.
        name: String,
        /// The registry's digest.
        digest: Digest,
    },
    /// The run is in another state.
    Run {
        /// The state.
        state: RunState,
        /// Why, when there is something to say.
        reason: Option<String>,
    },
    /// A step has printed lines, which are in its log.
    Lines {
        /// The step's position, from 0.
        index: usize,
        /// How many lines the log had before.
        known: u64,
        /// How many it has now.
        now: u64,
        /// The first line among them that reads like a failure.
        fault: Option<u64>,
    },
    /// Something to show, as JSON; the journal does not look inside.
    Event(String),
}

/// An image that was pushed before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownImage {
    /// The registry's digest then.
    pub digest: Digest,
    /// The run that pushed it.
    pub built_by: SameAs,
}

/// What a step has printed, as far as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Printed {
    /// How many lines its log has. Those that an earlier version has recorded come first.
    pub lines: u64,
    /// How many of them are in the journal itself: those that a version before schema 4 has recorded.
    pub old: u64,
    /// The first line that reads like a failure, where one was noted.
    pub fault: Option<u64>,
}
