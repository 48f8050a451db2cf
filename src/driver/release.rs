//! Takes a release back whose last service failed: what was rolled out before it returns to the revision
//! that it had. What is done is decided in [`crate::plan::release`]; this asks and does.

use crate::driver::deploy::running;
use crate::driver::rollout::{Outcome, follow};
use crate::event::rollout::RolloutEvent;
use crate::model::service::{Deployment, RevisionState, ScaleTo};
use crate::plan::release::{Back, Member, Present, back};
use crate::port::cluster::{Cluster, ClusterError};

/// The outcome for a service of a release that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// It runs what it ran before.
    Back {
        /// The revision that it had before.
        to: u64,
    },
    /// It ran that all the time, or the engine has gone back already.
    Unchanged {
        /// The revision that it had before.
        at: u64,
    },
    /// It was removed: it did not exist before.
    Removed,
    /// It was stopped: it did not exist before, and the caller may not remove it.
    Stopped,
    /// It was left alone, because it was changed by somebody else meanwhile.
    Left,
    /// It could not be taken back.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Returned {
    /// It as part of a sentence about a service.
    pub fn words(&self, member: &Member) -> String {
        let service = &member.service;
        match self {
            Self::Unchanged { at } => format!("`{service}` is at revision {at}, as before"),
            Self::Back { to } => format!("`{service}` is back at revision {to}"),
            Self::Removed => format!("`{service}` was removed, as it did not exist before"),
            Self::Stopped => format!(
                "`{service}` was stopped: it did not exist before, and removing it takes the level `admin`"
            ),
            Self::Left => format!("`{service}` was changed by somebody else meanwhile, and was left alone"),
            Self::Failed { reason } => {
                format!("`{service}` could not be taken back from revision {}: {reason}", member.revision)
            }
        }
    }
}

/// Takes the services of a release back, the last one first, and reports the outcome for each. It may be
/// called again after it was interrupted anywhere.
///
/// # Errors
/// When the cluster does not answer.
pub async fn take_back(
    cluster: &dyn Cluster,
    members: &[Member],
    tell: &(dyn Fn(RolloutEvent) + Send + Sync),
) -> Result<Vec<Returned>, ClusterError> {
    let mut returned = Vec::new();
    for member in members.iter().rev() {
        returned.push(match one(cluster, member, tell).await {
            Ok(returned) => returned,
            Err(error @ (ClusterError::Unreachable { .. } | ClusterError::Engine { .. })) => {
                return Err(error);
            }
            Err(error) => Returned::Failed { reason: error.to_string() },
        });
    }
    returned.reverse();
    Ok(returned)
}

async fn one(
    cluster: &dyn Cluster,
    member: &Member,
    tell: &(dyn Fn(RolloutEvent) + Send + Sync),
) -> Result<Returned, ClusterError> {
    let service = &member.service;
    let present = match (running(cluster, service).await?, member.before) {
        (None, _) => Present::Absent,
        (Some(now), Some(before)) if now.revision > member.revision => {
            let before = cluster.deployed(service, Some(before)).await?.deployment;
            Present::At { revision: now.revision, as_before: is_same(&now.deployment, &before) }
        }
        (Some(now), _) => Present::At { revision: now.revision, as_before: false },
    };
    let revision = match back(member, present) {
        Back::There => return Ok(Returned::Unchanged { at: member.before.unwrap_or(member.revision) }),
        Back::Leave => return Ok(Returned::Left),
        Back::Remove => {
            return match cluster.remove(service).await {
                Ok(()) | Err(ClusterError::NotFound { .. }) => Ok(Returned::Removed),
                Err(ClusterError::Denied { .. }) => match cluster.scale(service, ScaleTo::Stop).await {
                    // Nothing of it ever ran.
                    Ok(()) | Err(ClusterError::NotFound { .. }) => Ok(Returned::Stopped),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
        }
        Back::To(before) => cluster.take_back(service, before).await?,
        Back::Follow(revision) => revision,
    };
    let to = member.before.unwrap_or(revision);
    let outcome = follow(cluster, service, revision, tell).await?;
    Ok(match outcome {
        Outcome::Running | Outcome::Short { .. } => {
            let state = RevisionState::Running;
            tell(RolloutEvent::Ended { service: service.clone(), revision, state, reason: None });
            Returned::Back { to }
        }
        Outcome::Undone { reason, .. } => Returned::Failed { reason },
        Outcome::Superseded { .. } | Outcome::Removed => Returned::Left,
    })
}

/// Whether two deployments run the same, however many instances and with whichever values of secrets.
fn is_same(one: &Deployment, other: &Deployment) -> bool {
    let mut same = one.clone();
    same.spec.scale = other.spec.scale;
    (same.spec, same.registry, same.digest, same.restarted)
        == (other.spec.clone(), other.registry.clone(), other.digest.clone(), other.restarted)
}
