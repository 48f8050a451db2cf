//! Forges that show the state of commits.

use async_trait::async_trait;

use crate::model::commit_status::{CommitStatus, StatusTarget};
use crate::model::name::RepositoryName;

/// Why a status was not reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StatusError(pub String);

/// Reports statuses. A status may be reported again.
#[async_trait]
pub trait CommitStatuses: Send + Sync {
    /// Reports `status`, in place of an earlier one of the same commit and context.
    async fn report(&self, target: &StatusTarget, status: &CommitStatus) -> Result<(), StatusError>;
}

/// Shows texts in pull requests.
#[async_trait]
pub trait Comments: Send + Sync {
    /// Shows `text`, Markdown, in the pull request with this number, in place of an earlier one with the same key; `false`
    /// where the repository has no forge that is known.
    async fn comment(
        &self,
        repository: &RepositoryName,
        number: u64,
        key: &str,
        text: &str,
    ) -> Result<bool, StatusError>;
}
