//! What goes into the machine of a run, and what comes out of it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::event::pipeline::PipelineEvent;
use crate::model::infra_step::{InfraSpec, Planned};
use crate::model::job::{JobImage, JobSpec};
use crate::model::journal::{KnownImage, Record};
use crate::model::name::{Digest, ImageKey, ServiceName};
use crate::model::run::{Answer, BuildSpec, CacheSpec, RunId, RunState};
use crate::model::service::{Deployment, RevisionState};
use crate::model::step_container::{ContainerEnd, ContainerRequest};
use crate::model::step_files::{StepFile, TestReport};
use crate::plan::release::Member;

/// What happened, for a [`RunMachine`](super::RunMachine).
#[derive(Debug, Clone)]
pub enum Input {
    /// Begin, or resume after a restart; comes first, and once.
    Begin,
    /// The action that was performed for a step has ended.
    Done {
        /// The step's position.
        index: usize,
        /// With which result.
        result: Box<Result<Outcome, Problem>>,
    },
    /// The wait of a step is over.
    Due {
        /// The step's position.
        index: usize,
    },
    /// A step has taken as long as it may.
    Expired {
        /// The step's position.
        index: usize,
    },
    /// A run of a newer commit waits for this one.
    Newer {
        /// That run.
        run: RunId,
    },
    /// A disk is so full that what fills it further must end.
    NoRoom {
        /// Which disk, and how full it is, as the end of a sentence.
        reason: String,
    },
    /// End the run.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Leave the run where it is, for another process to resume.
    Stop,
}

/// What came of an action.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The tree was read.
    Inspected {
        /// What would go into the image.
        key: ImageKey,
        /// How many files the context has.
        files: usize,
        /// The same image, when the registry holds it already.
        known: Option<KnownImage>,
    },
    /// The image was built.
    Built,
    /// The image is in the registry.
    Pushed {
        /// The registry's digest.
        digest: Digest,
    },
    /// The files of the commit are in the run's workspace.
    CheckedOut {
        /// How many.
        files: usize,
    },
    /// The results of an earlier run are there.
    TakenOver {
        /// The files and the tests of its steps, by their positions.
        files: Vec<(usize, Vec<StepFile>, Option<TestReport>)>,
    },
    /// The image of a command is on the engine.
    Prepared {
        /// The image, with its registry's host and digest.
        image: String,
    },
    /// The container of a command is there, and not started.
    Created,
    /// A command has ended.
    Ended(ContainerEnd),
    /// People have answered.
    Answered(Answer),
    /// A run of a newer commit waits, and the question is not answered yet.
    Overtaken {
        /// That run.
        run: RunId,
    },
    /// Files of the workspace are kept.
    Collected {
        /// The files.
        files: Vec<StepFile>,
        /// What the reports among them say.
        tests: Option<TestReport>,
    },
    /// The cluster was told.
    Deployed {
        /// The revision that this made, or that runs it already.
        revision: u64,
    },
    /// The revision that each service of a release is at; `None` for one that does not exist.
    Looked {
        /// In the order of the services.
        before: Vec<Option<u64>>,
    },
    /// What was rolled out of a release was taken back.
    TakenBack {
        /// The outcome for each service, for a message.
        words: String,
    },
    /// A job has ended.
    JobEnded {
        /// Why it did not succeed; `None` where it did.
        failure: Option<String>,
    },
    /// What would change is known.
    Planned(Planned),
    /// The environment is as the files of the commit describe it.
    InfraDone {
        /// What was done, in one line.
        summary: String,
    },
    /// The rollout has ended.
    Followed {
        /// How.
        end: RolloutEnd,
        /// Why, when there is something to say.
        reason: Option<String>,
    },
}

/// How a rollout has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutEnd {
    /// The revision runs.
    Running,
    /// Something newer has replaced it.
    Replaced,
    /// The revision before runs again.
    RolledBack,
    /// It does not run as it should.
    Failed,
}

impl From<RolloutEnd> for RevisionState {
    fn from(end: RolloutEnd) -> Self {
        match end {
            RolloutEnd::Running => Self::Running,
            RolloutEnd::Replaced => Self::Replaced,
            RolloutEnd::RolledBack => Self::RolledBack,
            RolloutEnd::Failed => Self::Failed,
        }
    }
}

/// How long something that did not work is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// About half a minute: a registry or engine that restarts.
    Short,
    /// Some minutes: a cluster whose machines are replaced.
    Long,
}

/// Why an action did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The first cause.
    pub reason: String,
    /// How long it is worth trying again.
    pub patience: Patience,
    /// Whether something worked before it: tries are counted from the start again.
    pub progressed: bool,
}

impl Problem {
    /// A problem that trying again does not mend.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), patience: Patience::None, progressed: false }
    }
}

/// Something that takes time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the tree, compute the key, ask the registry.
    Inspect {
        /// The build.
        build: BuildSpec,
    },
    /// Build what was inspected.
    Build {
        /// The build.
        build: BuildSpec,
        /// What goes into it.
        key: ImageKey,
    },
    /// Push what was built.
    Push {
        /// The build.
        build: BuildSpec,
        /// What was built.
        key: ImageKey,
    },
    /// Put the files of the commit into the run's workspace.
    CheckOut,
    /// Copy what is taken over from an earlier run.
    TakeOver {
        /// The earlier run.
        from: RunId,
        /// Whether its workspace is copied.
        workspace: bool,
        /// The positions of the steps whose files are kept as those of this run.
        steps: Vec<usize>,
    },
    /// Have the engine pull the image of a command.
    Prepare {
        /// The image as the step names it, or as a step before has built it.
        image: String,
    },
    /// Create the container of a command.
    Create {
        /// Which attempt, from 1.
        attempt: u32,
        /// What it runs. The images of its companions are as the step names them, or as a step before has built them.
        request: Box<ContainerRequest>,
        /// The caches that it has.
        caches: Vec<CacheSpec>,
    },
    /// Start the container of a command, unless that has happened, and wait for its end.
    Execute {
        /// The image, with its registry's host and digest.
        image: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// How many lines of what it prints are in the journal.
        known: u64,
    },
    /// Wait for the answer of people.
    Ask {
        /// The hash of what they are shown.
        shown: String,
    },
    /// Keep files of the workspace.
    Collect {
        /// Which attempt, from 1.
        attempt: u32,
        /// Patterns of the files.
        artifacts: Vec<String>,
        /// Patterns of the reports of tests.
        reports: Vec<String>,
    },
    /// Tell the cluster.
    Deploy {
        /// What shall run.
        deployment: Box<Deployment>,
        /// The cluster may have been told already, at this time or later: look first.
        told_since: Option<DateTime<Utc>>,
    },
    /// Find out what services run before a release.
    Look {
        /// The services.
        services: Vec<ServiceName>,
    },
    /// Take back what was rolled out of a release.
    TakeBack {
        /// The services that were begun.
        members: Vec<Member>,
    },
    /// Have the cluster run a job, unless that has happened, and wait for its end.
    RunJob {
        /// The job.
        spec: Box<JobSpec>,
        /// The image that a step before has built for it.
        image: Option<JobImage>,
        /// Which of its attempts printed the lines that are in the journal.
        attempt: u32,
        /// How many those are.
        known: u64,
    },
    /// Work with the infra repository that the commit holds.
    Infra {
        /// What to do.
        spec: InfraSpec,
        /// The position of the step that has planned it, and the plan; for `apply`.
        planned: Option<(usize, Planned)>,
        /// Whether somebody has approved it in this run.
        approved: bool,
        /// Whether it may have been begun before.
        resumed: bool,
    },
    /// Wait until the cluster is done.
    Follow {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: u64,
        /// Its image.
        digest: Digest,
    },
}

impl Action {
    /// Whether it can fill the disks of the server or its engine.
    pub fn fills_disks(&self) -> bool {
        match self {
            Self::Build { .. }
            | Self::CheckOut
            | Self::TakeOver { .. }
            | Self::Prepare { .. }
            | Self::Create { .. }
            | Self::Execute { .. }
            | Self::Collect { .. } => true,
            Self::Inspect { .. }
            | Self::Push { .. }
            | Self::Ask { .. }
            | Self::Deploy { .. }
            | Self::Look { .. }
            | Self::TakeBack { .. }
            | Self::RunJob { .. }
            | Self::Infra { .. }
            | Self::Follow { .. } => false,
        }
    }
}

/// Something to be written down; all of one effect are written together.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Of the run's state.
    Record(Record),
    /// To be shown.
    Event(PipelineEvent),
}

/// How work on a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The run has ended so.
    Ended(RunState),
    /// The run is left where it is, for another process.
    Left,
}

/// What the shell shall do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write this down; nothing that follows may begin before it is on the disk.
    Record(Vec<Change>),
    /// Do this for the step at `index`, and say [`Input::Done`].
    Perform {
        /// The step's position.
        index: usize,
        /// What.
        action: Action,
    },
    /// Say [`Input::Due`] after this time.
    Wait {
        /// The step's position.
        index: usize,
        /// How long.
        time: Duration,
    },
    /// Drop the action that is being performed for the step at `index`, or its wait.
    Drop {
        /// The step's position.
        index: usize,
    },
    /// Stop the command of the step at `index`, which is dropped: others may follow that must not meet it.
    Halt {
        /// The step's position.
        index: usize,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Nothing more happens.
    End(Ending),
}
