//! Following a rollout to its end: the engine carries it out, this only tells how it ended.

use futures_util::StreamExt;

use crate::model::name::ServiceName;
use crate::model::service::{RevisionState, ServiceStatus};
use crate::port::cluster::{Cluster, ClusterError};

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The revision runs, and every instance is healthy.
    Running,
    /// It failed; the revision before runs again, or what was left of it.
    Undone {
        /// Why.
        reason: String,
    },
    /// Something newer was rolled out before it ended.
    Superseded {
        /// The newer revision.
        by: u64,
    },
}

/// Whether the rollout of `revision` has ended, and how.
pub fn judge(status: &ServiceStatus, revision: u64) -> Option<Outcome> {
    let found = status.history.iter().find(|known| known.number == revision)?;
    match found.state {
        RevisionState::RollingOut => None,
        RevisionState::Running => status.is_whole().then_some(Outcome::Running),
        RevisionState::RolledBack | RevisionState::Failed => Some(Outcome::Undone {
            reason: found.reason.clone().unwrap_or_else(|| "no reason is known".to_owned()),
        }),
        RevisionState::Replaced => {
            let by = status.history.first().map_or(revision, |newest| newest.number);
            Some(Outcome::Superseded { by })
        }
    }
}

/// Waits until the rollout of `revision` has ended.
///
/// # Errors
/// When the cluster can't be watched any longer.
pub async fn follow(
    cluster: &dyn Cluster,
    service: &ServiceName,
    revision: u64,
) -> Result<Outcome, ClusterError> {
    let mut snapshots = cluster.watch().await?;
    while let Some(snapshot) = snapshots.next().await {
        let snapshot = snapshot?;
        let status = snapshot.services.iter().find(|status| status.name == *service);
        if let Some(outcome) = status.and_then(|status| judge(status, revision)) {
            return Ok(outcome);
        }
    }
    Err(ClusterError::Unreachable {
        endpoint: "the cluster".to_owned(),
        reason: "it ended the stream of changes".to_owned(),
    })
}
