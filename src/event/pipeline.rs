//! What happens to runs of pipelines.

use serde::{Deserialize, Serialize};

use crate::model::name::{CommitId, Digest, ImageKey, PipelineName};
use crate::model::redact::WITHHELD;
use crate::model::run::{RunId, RunState, SameAs, Trigger};

use super::rollout::RolloutEvent;

/// Something that happened to a run. `step` is the step's name, such as `build demo/web`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum PipelineEvent {
    /// A run was put into the queue.
    Queued {
        /// The run.
        run: RunId,
        /// The pipeline.
        pipeline: PipelineName,
        /// The commit.
        commit: CommitId,
        /// The first line of its message.
        subject: String,
        /// What started it.
        trigger: Trigger,
        /// The name of the token of who asked for it, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A run began.
    Started {
        /// The run.
        run: RunId,
        /// The pipeline.
        pipeline: PipelineName,
        /// The commit.
        commit: CommitId,
        /// The first line of its message.
        subject: String,
        /// The names of its steps.
        steps: Vec<String>,
    },
    /// A process took up a run that another one had begun.
    Resumed {
        /// The run.
        run: RunId,
        /// The pipeline.
        pipeline: PipelineName,
        /// Where it goes on; `None` when every step is done.
        step: Option<String>,
    },
    /// A step began.
    StepStarted {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
    },
    /// The registry holds the image already.
    NothingToBuild {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// What would go into it.
        key: ImageKey,
        /// Its digest.
        digest: Digest,
        /// The run that built it.
        same_as: SameAs,
    },
    /// The builder begins.
    Building {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// What goes into it.
        key: ImageKey,
        /// How many files the context has.
        files: usize,
    },
    /// The image goes to the registry.
    Pushing {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Where to.
        reference: String,
    },
    /// The image is in the registry.
    Pushed {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// The registry's digest.
        digest: Digest,
    },
    /// Something happened to the rollout that a step follows.
    Rollout {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// What.
        rollout: RolloutEvent,
    },
    /// A builder's or registry's words, secrets masked.
    Log {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// One line.
        text: String,
    },
    /// People are asked.
    Asking {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// What is asked.
        message: String,
    },
    /// Something did not work and will be tried again.
    Retrying {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// What did not work.
        reason: String,
        /// Which try comes, from 2.
        attempt: u32,
        /// How long until then, in seconds.
        seconds: f64,
    },
    /// A step ended.
    StepFinished {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// `succeeded`, `failed` or `skipped`.
        outcome: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// The first cause of a failure.
        reason: Option<String>,
    },
    /// Somebody runs a program in a container like that of a step that has failed.
    Shell {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// The name of the token of who it is.
        by: String,
        /// The program, without its arguments: they may hold secrets.
        program: String,
    },
    /// A run ended.
    Finished {
        /// The run.
        run: RunId,
        /// The pipeline.
        pipeline: PipelineName,
        /// What became of it.
        state: RunState,
        /// How long it took from its start, in seconds.
        seconds: f64,
        /// Why, when there is something to say.
        reason: Option<String>,
    },
}

impl PipelineEvent {
    /// What stands in place of this event when it cannot be shown without a secret.
    pub fn withheld(&self) -> Self {
        Self::withheld_of(self.run())
    }

    /// What stands in place of an event of `run`. Its text is the same for every event.
    pub fn withheld_of(run: RunId) -> Self {
        Self::Log { run, step: "-".to_owned(), text: format!("an event is {WITHHELD}") }
    }

    /// The run it belongs to.
    pub fn run(&self) -> RunId {
        match self {
            Self::Queued { run, .. }
            | Self::Started { run, .. }
            | Self::Resumed { run, .. }
            | Self::StepStarted { run, .. }
            | Self::NothingToBuild { run, .. }
            | Self::Building { run, .. }
            | Self::Pushing { run, .. }
            | Self::Pushed { run, .. }
            | Self::Rollout { run, .. }
            | Self::Log { run, .. }
            | Self::Asking { run, .. }
            | Self::Retrying { run, .. }
            | Self::StepFinished { run, .. }
            | Self::Shell { run, .. }
            | Self::Finished { run, .. } => *run,
        }
    }

    /// The step it belongs to.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Queued { .. } | Self::Started { .. } | Self::Finished { .. } => None,
            Self::Resumed { step, .. } => step.as_deref(),
            Self::StepStarted { step, .. }
            | Self::NothingToBuild { step, .. }
            | Self::Building { step, .. }
            | Self::Pushing { step, .. }
            | Self::Pushed { step, .. }
            | Self::Rollout { step, .. }
            | Self::Log { step, .. }
            | Self::Asking { step, .. }
            | Self::Retrying { step, .. }
            | Self::Shell { step, .. }
            | Self::StepFinished { step, .. } => Some(step),
        }
    }
}
