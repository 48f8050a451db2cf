//! fleetwright's own commands, as steps of pipelines use them.

use async_trait::async_trait;

use super::images::Lines;
use super::step_containers::WorkspaceFiles;
use crate::model::infra_step::{InfraSpec, Planned};
use crate::model::run::RunId;

/// Why a command did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InfraError {
    /// It has failed; trying again does not mend that.
    #[error("{0}")]
    Failed(String),
    /// Somebody else is at work, or what was begun before has not ended.
    #[error("{0}")]
    Busy(String),
}

/// What a step asks for.
pub struct InfraRequest<'a> {
    /// The run.
    pub run: RunId,
    /// The step's position.
    pub step: usize,
    /// What to do.
    pub spec: &'a InfraSpec,
    /// The environment.
    pub environment: &'a str,
    /// The files of the commit.
    pub files: WorkspaceFiles,
    /// The position of the step that has planned it, and the plan; for `apply`.
    pub planned: Option<&'a (usize, Planned)>,
    /// Whether somebody has approved it in this run.
    pub approved: bool,
    /// Whether it may have been begun before.
    pub resumed: bool,
}

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfraEnd {
    /// What would change is known, and kept for the steps after it.
    Planned {
        /// The plan.
        planned: Planned,
        /// As Markdown, for people who look at the change.
        markdown: String,
    },
    /// The environment is as the files describe it.
    Done {
        /// What was done, in one line.
        summary: String,
    },
}

/// Runs fleetwright's own commands with the files of a commit.
#[async_trait]
pub trait Infra: Send + Sync {
    /// Does what is asked for. Dropped, the command is asked to stop: it leaves what has begun, and begins nothing else.
    ///
    /// # Errors
    /// When the command fails.
    async fn perform(&self, request: InfraRequest<'_>, lines: Lines<'_>) -> Result<InfraEnd, InfraError>;

    /// The runs of which plans are kept.
    fn kept(&self) -> Vec<RunId>;

    /// Removes what is kept of a run.
    fn clear(&self, run: RunId);
}
