//! Events of rollouts, one line each.

use crate::event::rollout::RolloutEvent;
use crate::model::service::RevisionState;

/// An event in one line; `None` for failures, which are reported with their cause.
pub fn line(event: &RolloutEvent) -> Option<String> {
    Some(match event {
        RolloutEvent::Started { service, revision, digest } => {
            format!("{service}   revision {revision}   {}   rolling out", digest.short())
        }
        RolloutEvent::PreDeploy { service, revision, state } => {
            format!("{service}   revision {revision}   pre_deploy {}", state.label())
        }
        RolloutEvent::Progress { service, revision, healthy, desired } => {
            format!("{service}   revision {revision}   {healthy} of {desired} new instances are healthy")
        }
        RolloutEvent::Ended { service, revision, state: RevisionState::Running, reason: None } => {
            format!("{service}   revision {revision}   running")
        }
        RolloutEvent::Ended { .. } => return None,
    })
}
