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
