//! Git repositories elsewhere, and their mirrors here.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

use crate::model::git_ref::GitRef;
use crate::model::image::{ContextFile, TreeEntry};
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
        /// What a person can do about it, where what git said implies it.
        next: Option<String>,
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
    /// There is no mirror: what serves has lost its folder, or begins in a new one.
    #[error("repository `{repository}` is not fetched yet")]
    NoMirror {
        /// The repository.
        repository: RepositoryName,
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
        matches!(self, Self::Remote { .. } | Self::NoMirror { .. })
    }

    /// What a person can do about it, where that is known.
    pub fn next(&self) -> Option<&str> {
        match self {
            Self::Remote { next, .. } => next.as_deref(),
            Self::NoBranch { .. }
            | Self::NotFound { .. }
            | Self::Unfit { .. }
            | Self::NoMirror { .. }
            | Self::Mirror { .. } => None,
        }
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
    /// When it was committed.
    pub time: DateTime<Utc>,
}

/// What a path of a commit leads to, its links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// A file.
    File {
        /// Its path in the repository.
        path: String,
        /// The id of its blob.
        blob: String,
    },
    /// A folder.
    Folder {
        /// Its path in the repository; empty for the root.
        path: String,
    },
    /// Nothing is there, and no link was followed.
    Nothing,
    /// A link leads nowhere.
    Broken {
        /// The link's path in the repository.
        link: String,
        /// Where it points.
        target: String,
        /// Why it leads nowhere.
        reason: &'static str,
    },
    /// The path enters a submodule.
    Submodule {
        /// The submodule's path in the repository.
        path: String,
    },
}

/// The content of a file, piece by piece.
pub type Content = BoxStream<'static, std::io::Result<Bytes>>;

/// Git repositories and their mirrors. Every method may be called again after any failure.
#[async_trait]
pub trait GitRemote: Send + Sync {
    /// Asks the other side where the branch stands; fetches nothing.
    async fn head(&self, source: &GitSource) -> Result<CommitId, GitError>;

    /// Asks the other side where its branches and tags stand, and what its pull requests propose if these are wanted;
    /// fetches nothing. Of a tag, it is the commit that counts.
    async fn references(
        &self,
        source: &GitSource,
        pull_requests: bool,
    ) -> Result<BTreeMap<GitRef, CommitId>, GitError>;

    /// Brings the mirror's branches and tags up to date, and the pull requests in `also`. The mirror is made first where
    /// there is none.
    async fn fetch(&self, source: &GitSource, also: &[GitRef]) -> Result<(), GitError>;

    /// Whether there is a mirror.
    fn is_mirrored(&self, repository: &RepositoryName) -> bool;

    /// The commit that `revision` (an id, a branch, a tag) names in the mirror.
    async fn commit(&self, repository: &RepositoryName, revision: &str) -> Result<Commit, GitError>;

    /// What `path`, from the repository's root, leads to at `commit`, with links followed.
    async fn locate(
        &self,
        repository: &RepositoryName,
        commit: &CommitId,
        path: &str,
    ) -> Result<Located, GitError>;

    /// Every file of `folder` (`.` is the root) at `commit`, sorted by path. A tree that exceeds
    /// [`TreeLimits`](crate::model::image::TreeLimits) is refused while it is walked.
    async fn tree(
        &self,
        repository: &RepositoryName,
        commit: &CommitId,
        folder: &str,
    ) -> Result<Vec<TreeEntry>, GitError>;

    /// The paths of all files that differ between two commits, in bytes as git has them; `None` where the mirror does not
    /// have the first one.
    async fn changed(
        &self,
        repository: &RepositoryName,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Option<Vec<Vec<u8>>>, GitError>;

    /// The sizes of the files and the targets of the links, without unpacking anything large. What
    /// is beyond the limits on size, a Git LFS pointer, or a link to no path is refused.
    async fn measure(
        &self,
        repository: &RepositoryName,
        entries: Vec<TreeEntry>,
    ) -> Result<Vec<ContextFile>, GitError>;

    /// The content of a blob of a few megabytes at most.
    async fn blob(&self, repository: &RepositoryName, id: &str) -> Result<Bytes, GitError>;

    /// The content of a blob of any size within the limits, read from the mirror as it is taken.
    fn content(&self, repository: &RepositoryName, id: &str) -> Content;
}
