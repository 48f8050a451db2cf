//! The containers in which steps of pipelines run their commands.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::images::{ImageError, Lines, Open};
use super::streams::{Process, Terminal};
use crate::model::image::ContextFile;
use crate::model::run::RunId;
use crate::model::step_container::{ContainerEnd, ContainerRequest};
use crate::model::step_files::StepFile;

/// One attempt at a step of a run. It has one container, whoever asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// The step's position, from 0.
    pub step: usize,
    /// Which attempt, from 1.
    pub number: u32,
}

/// What a run's workspace holds at first.
pub struct WorkspaceFiles {
    /// The files of the commit.
    pub files: Vec<ContextFile>,
    /// The time of all of them.
    pub time: DateTime<Utc>,
    /// Opens a file by the id of its blob.
    pub open: Open,
}

/// A line of what a command prints, or a piece of a very long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrintedLine<'a> {
    /// Its number, from 1. It follows from what the command has printed alone.
    pub number: u64,
    /// Its text, as it was printed: neither masked nor without control sequences. Bytes that are not UTF-8 are `\\xNN`.
    pub text: &'a str,
    /// The end of the piece before it, so that a secret can be found that is in both.
    pub before: &'a str,
    /// The beginning of the piece after it.
    pub after: &'a str,
    /// Whether the next one continues it.
    pub continues: bool,
}

/// A program that somebody runs by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a standard input.
    pub input: bool,
    /// Its terminal, if it gets one.
    pub terminal: Option<Terminal>,
}

/// Which files of a workspace are wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The folders that hold all of them, as paths in the workspace; the empty path is all of it.
    pub folders: &'a [String],
    /// Whether the file of that path is.
    pub fits: &'a (dyn Fn(&str) -> bool + Send + Sync),
}

/// Takes lines of what a command prints.
pub type Printed<'a> = &'a (dyn Fn(PrintedLine<'_>) + Send + Sync);

/// An engine that runs steps. Containers outlive the process that asked for them. Every method may be called again
/// after any failure, and dropping a call stops nothing.
#[async_trait]
pub trait StepContainers: Send + Sync {
    /// Has the engine pull `image`, which names its registry's host and a digest, unless it is there.
    async fn pull(&self, image: &str, lines: Lines<'_>) -> Result<(), ImageError>;

    /// Makes the workspace of a run, with those files, and what its containers share.
    async fn prepare(&self, run: RunId, files: WorkspaceFiles) -> Result<(), ImageError>;

    /// Creates the container of an attempt, unless it is there. It is not started. Its companions are, and are healthy
    /// then; of one that is not, `lines` gets the last that it has printed.
    async fn create(
        &self,
        attempt: Attempt,
        request: &ContainerRequest,
        lines: Lines<'_>,
    ) -> Result<(), ImageError>;

    /// Starts the container of an attempt, unless that has happened, and waits for its end. `printed` gets all lines
    /// after the first `known`, each once, and always with the same number.
    async fn follow(
        &self,
        attempt: Attempt,
        known: u64,
        printed: Printed<'_>,
    ) -> Result<ContainerEnd, ImageError>;

    /// Copies the files of the workspace that `wanted` names to `folder`, which is there and empty; sorted. Links and
    /// what is not a file are left out.
    async fn collect(
        &self,
        attempt: Attempt,
        wanted: Wanted<'_>,
        folder: &Path,
    ) -> Result<Vec<StepFile>, ImageError>;

    /// Removes the companions of an attempt, and stops its command where it has not ended.
    async fn dismiss(&self, attempt: Attempt) -> Result<(), ImageError>;

    /// Whether the engine has the workspace of a run.
    async fn has_workspace(&self, run: RunId) -> Result<bool, ImageError>;

    /// Makes the workspace of `to`, with what that of `from` holds; `false` when there is none any more.
    async fn copy_workspace(&self, from: RunId, to: RunId) -> Result<bool, ImageError>;

    /// Stops and removes everything of a run but its workspace, and the container of the last attempt at each of `steps`,
    /// which loses its secrets.
    async fn keep(&self, run: RunId, steps: &[usize]) -> Result<(), ImageError>;

    /// Starts a program in a container like that of the last attempt at a step, which has ended and is kept: with its
    /// files, the workspace, and `secrets` by their variables. `None` when no such container is kept.
    async fn shell(
        &self,
        run: RunId,
        step: usize,
        secrets: &BTreeMap<String, String>,
        program: &Program,
    ) -> Result<Option<Process>, ImageError>;

    /// Stops and removes everything of a run.
    async fn clear(&self, run: RunId) -> Result<(), ImageError>;

    /// The runs of which the engine has something, sorted.
    async fn left(&self) -> Result<Vec<RunId>, ImageError>;
}
