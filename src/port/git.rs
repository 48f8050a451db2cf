//! Git repositories elsewhere, and their mirrors here.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::model::image::{EntryKind, TreeEntry};
use crate::model::name::{CommitId, RepositoryName};

/// Why git did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The other side can't be reached, or refuses; trying again may help.
    #[error("{doing} {url}: {reason}")]
    Remote {
        /// What was tried.
        doing: &'static str,
        /// The repository's URL, without user or password.
        url: String,
        /// What git said.
        reason: String,
    },
    /// The other side has no such branch.
    #[error("{url} has no branch `{branch}`")]
    NoBranch {
        /// The repository's URL, without user or password.
        url: String,
        /// The branch.
        branch: String,
    },
    /// The mirror has no such commit, folder or file.
    #[error("there is no {what} in repository `{repository}`{}", at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default())]
    NotFound {
        /// What was looked for, in words.
        what: String,
        /// The repository.
        repository: RepositoryName,
        /// The commit it was looked for in.
        at: Option<String>,
    },
    /// The tree holds something that no image can be built from.
    #[error("`{path}`: {reason}")]
    Unfit {
        /// The path in the repository.
        path: String,
        /// Why.
        reason: String,
    },
    /// The mirror can't be read or written.
    #[error("{doing} the mirror {path}: {reason}")]
    Mirror {
        /// What was tried.
        doing: &'static str,
        /// The mirror's folder.
        path: String,
        /// What happened.
        reason: String,
    },
}

impl GitError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }
}

/// A repository to mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// Its name in `fleetwright.yaml`; the mirror is called the same.
    pub name: RepositoryName,
    /// Where it is cloned from.
    pub url: String,
    /// The branch that is watched.
    pub branch: String,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// The first line of its message.
    pub subject: String,
}

/// A file to put into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Its path in the archive.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Where its content comes from.
    pub content: Content,
}

/// Where the content of an archive's file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The git blob of that id.
    Blob(String),
    /// These bytes.
    Bytes(Bytes),
}

/// A tar archive, piece by piece.
pub type Archive = BoxStream<'static, std::io::Result<Bytes>>;

/// Git repositories and their mirrors. Every method may be called again after any failure.
#[async_trait]
pub trait GitRemote: Send + Sync {
    /// Asks the other side where the branch stands; fetches nothing.
    async fn head(&self, source: &GitSource) -> Result<CommitId, GitError>;

    /// Brings the mirror up to date, making it first where there is none.
    async fn fetch(&self, source: &GitSource) -> Result<(), GitError>;

    /// The commit that `revision` (an id, a branch, a tag) names in the mirror.
    async fn commit(&self, repository: &RepositoryName, revision: &str) -> Result<Commit, GitError>;

    /// Every file of `folder` (`.` is the root) at `commit`, sorted by path. A tree that exceeds
    /// [`TreeLimits`](crate::model::image::TreeLimits) is refused while it is walked.
    async fn tree(
        &self,
        repository: &RepositoryName,
        commit: &CommitId,
        folder: &str,
    ) -> Result<Vec<TreeEntry>, GitError>;

    /// Checks that the files are within the limits on size, without unpacking any.
    async fn weigh(&self, repository: &RepositoryName, entries: &[ArchiveEntry]) -> Result<(), GitError>;

    /// The content of a blob of a few megabytes at most.
    async fn blob(&self, repository: &RepositoryName, id: &str) -> Result<Bytes, GitError>;

    /// The files as a tar archive, in the order given: owner 0, time 0, modes 644 and
    /// 755, read from the mirror as the archive is taken.
    fn archive(&self, repository: &RepositoryName, entries: Vec<ArchiveEntry>) -> Archive;
}
