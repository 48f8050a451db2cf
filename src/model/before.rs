//! Revisions that run a command before they are rolled out, as a leader sees them.
//!
//! What is decided is in `plan/before`; how it is kept, in the engine's adapter.

use super::job::Outcome;
use super::service::Deployment;

/// A service with revisions that wait for their command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// The revision that the service is at; 0 where there is no service.
    pub current: u64,
    /// The highest number of a revision or a removal.
    pub newest: u64,
    /// The revisions that wait.
    pub waiting: Vec<Waiting>,
}

impl Waits {
    /// Whether a revision may still be rolled out: it is the newest, and the service is not at it yet.
    pub fn is_wanted(&self, revision: u64) -> bool {
        revision == self.newest && revision > self.current
    }
}

/// A revision whose record says that it waits for its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The revision.
    pub revision: u64,
    /// Its command.
    pub command: Command,
}

/// How far the command of a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It was not claimed.
    Unclaimed,
    /// It was claimed, and has no outcome.
    Open,
    /// It ended so.
    Ended(Outcome),
}

/// What is to be done about a revision that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Claim its command.
    Claim {
        /// The revision.
        revision: u64,
    },
    /// Update the service to it.
    RollOut {
        /// The revision.
        revision: u64,
    },
    /// Record that its rollout has begun: the service is at it.
    Begun {
        /// The revision.
        revision: u64,
    },
    /// Record that it failed.
    Fail {
        /// The revision.
        revision: u64,
        /// How its command ended.
        outcome: Outcome,
    },
    /// Record that a newer one took its place.
    Replace {
        /// The revision.
        revision: u64,
    },
}

/// Whether a new revision runs its command, where `present` is what the service runs. One that changes
/// nothing but the number of instances, or restarts them, does not.
pub fn is_needed(present: Option<&Deployment>, wanted: &Deployment) -> bool {
    if wanted.spec.pre_deploy.is_none() {
        return false;
    }
    let Some(present) = present else { return true };
    let mut same = wanted.clone();
    same.spec.scale = present.spec.scale;
    same.restarted = present.restarted;
    same.origin = present.origin.clone();
    same != *present
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Scale;

    #[test]
    fn a_scale_or_a_restart_runs_no_command() {
        let samples = crate::source::samples::of("requests");
        let sample: serde_json::Value =
            serde_json::from_str(&samples.last().expect("a sample").1).expect("JSON");
        let present: Deployment = serde_json::from_value(sample["deployment"].clone()).expect("a deployment");
        assert!(is_needed(None, &present), "the first deployment runs it");
        let mut wanted = present.clone();
        wanted.spec.scale = Scale::Replicas(7);
        wanted.restarted = None;
        wanted.origin.subject = "another".to_owned();
        assert!(!is_needed(Some(&present), &wanted));
        wanted.spec.environment.insert("MORE".to_owned(), "x".to_owned());
        assert!(is_needed(Some(&present), &wanted));
        wanted.spec.pre_deploy = None;
        assert!(!is_needed(Some(&present), &wanted));
    }
}
