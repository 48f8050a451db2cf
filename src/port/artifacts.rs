//! Files that are kept of the workspaces of runs.

use std::fs::File;
use std::path::PathBuf;

use crate::model::run::RunId;

/// Why files can't be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the artifacts in {path}: {reason}")]
pub struct ArtifactError {
    /// What was tried.
    pub doing: &'static str,
    /// The folder.
    pub path: String,
    /// What happened.
    pub reason: String,
}

/// A place for files of runs. Calls are short and synchronous.
pub trait Artifacts: Send + Sync {
    /// An empty folder in which files of a step are put together. What an earlier call has put there is gone.
    ///
    /// # Errors
    /// When it can't be made.
    fn stage(&self, run: RunId, step: usize) -> Result<PathBuf, ArtifactError>;

    /// Makes what is in the folder of [`stage`](Self::stage) the files of the step, in place of those it had.
    ///
    /// # Errors
    /// When it can't be moved.
    fn keep(&self, run: RunId, step: usize) -> Result<(), ArtifactError>;

    /// Makes the files of a step those of the same step of another run as well, in place of those it had.
    ///
    /// # Errors
    /// When they can't be read or written.
    fn copy(&self, from: RunId, to: RunId, step: usize) -> Result<(), ArtifactError>;

    /// Opens a file of a step; `None` when there is none of that path.
    ///
    /// # Errors
    /// When it can't be read.
    fn open(&self, run: RunId, step: usize, path: &str) -> Result<Option<File>, ArtifactError>;

    /// Removes the files of a run.
    ///
    /// # Errors
    /// When something can't be removed.
    fn remove(&self, run: RunId) -> Result<(), ArtifactError>;

    /// How many bytes the files of a run have.
    ///
    /// # Errors
    /// When the folder can't be read.
    fn size(&self, run: RunId) -> Result<u64, ArtifactError>;

    /// The runs that have files, sorted.
    ///
    /// # Errors
    /// When the folder can't be read.
    fn runs(&self) -> Result<Vec<RunId>, ArtifactError>;
}
