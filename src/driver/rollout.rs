//! Following a rollout to its end: the engine carries it out, this only tells how it ended.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::event::rollout::RolloutEvent;
use crate::model::name::ServiceName;
use crate::model::service::{
    FailedInstance, Instance, InstanceState, PreDeployState, RevisionState, ServiceStatus,
};
use crate::port::cluster::{Cluster, ClusterError};

/// How long a service that runs may take to have all of its instances.
const GROWTH: Duration = Duration::from_secs(5 * 60);

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The revision runs, and every instance is healthy.
    Running,
    /// The revision runs, and instances are missing.
    Short {
        /// How many instances are missing, and why.
        reason: String,
    },
    /// It failed; the revision before runs again, or what was left of it.
    Undone {
        /// The state of the revision.
        state: RevisionState,
        /// Why.
        reason: String,
        /// Whether it failed before its first instance started, so that what ran before keeps running.
        before: bool,
        /// The first of its instances that failed, or its `pre_deploy` command.
        failed: Option<Box<FailedInstance>>,
    },
    /// Something newer was rolled out before it ended.
    Superseded {
        /// The newer revision.
        by: u64,
    },
    /// The service was removed meanwhile.
    Removed,
}

/// Whether the rollout of `revision` has ended, and how.
pub fn judge(status: &ServiceStatus, revision: u64) -> Option<Outcome> {
    let found = status.history.iter().find(|known| known.number == revision)?;
    match found.state {
        RevisionState::RollingOut => None,
        RevisionState::Running => status.is_whole().then_some(Outcome::Running),
        state @ (RevisionState::RolledBack | RevisionState::Failed) => Some(Outcome::Undone {
            state,
            reason: found.reason.clone().unwrap_or_else(|| "no reason is known".to_owned()),
            before: matches!(found.pre_deploy, Some(PreDeployState::Failed | PreDeployState::Unknown)),
            failed: found.failed.clone().map(Box::new),
        }),
        RevisionState::Replaced => {
            let by = status.history.first().map_or(revision, |newest| newest.number);
            Some(Outcome::Superseded { by })
        }
    }
}

/// The state of a revision's `pre_deploy` command, if it has run one.
pub fn pre_deploy(status: &ServiceStatus, revision: u64) -> Option<PreDeployState> {
    status.history.iter().find(|known| known.number == revision)?.pre_deploy
}

/// What is missing of a service that runs, for a message.
fn missing(status: &ServiceStatus) -> String {
    let counts = format!("{} of {} instances are healthy", status.healthy(), status.desired);
    let waits = |one: &&Instance| one.state != InstanceState::Healthy && one.message.is_some();
    match status.instances.iter().find(waits) {
        Some(one) => format!("{counts}; {}: {}", one.name, one.message.clone().unwrap_or_default()),
        None => counts,
    }
}

/// Waits until the rollout of `revision` has ended, and reports its progress.
///
/// # Errors
/// When the cluster can't be watched any longer.
pub async fn follow(
    cluster: &dyn Cluster,
    service: &ServiceName,
    revision: u64,
    tell: &(dyn Fn(RolloutEvent) + Send + Sync),
) -> Result<Outcome, ClusterError> {
    let mut progress = Progress::default();
    let mut command = None;
    let judge = move |status: &ServiceStatus| {
        let outcome = judge(status, revision);
        let now = pre_deploy(status, revision);
        if let Some(state) = now.filter(|_| now != command) {
            tell(RolloutEvent::PreDeploy { service: service.clone(), revision, state });
            command = now;
        }
        if outcome.is_none()
            && now.is_none_or(|state| state == PreDeployState::Succeeded)
            && let Some((healthy, desired)) = progress.next(status, revision)
        {
            tell(RolloutEvent::Progress { service: service.clone(), revision, healthy, desired });
        }
        let rolls = status
            .history
            .iter()
            .any(|known| known.number == revision && known.state == RevisionState::RollingOut);
        (outcome, rolls)
    };
    wait(cluster, service, judge).await
}

/// Waits until a service has as many healthy instances as it should, however many that are.
///
/// # Errors
/// When the cluster can't be watched any longer.
pub async fn follow_number(cluster: &dyn Cluster, service: &ServiceName) -> Result<Outcome, ClusterError> {
    let settled = |status: &ServiceStatus| {
        let stopping = status.instances.iter().any(|one| one.state == InstanceState::Stopping);
        let all = u32::try_from(status.instances.len()).unwrap_or(u32::MAX);
        ((status.is_whole() && !stopping && all <= status.desired).then_some(Outcome::Running), false)
    };
    wait(cluster, service, settled).await
}

/// Watches until `judge` has an outcome. It also says whether time doesn't count yet, because the
/// engine has a deadline of its own.
async fn wait(
    cluster: &dyn Cluster,
    service: &ServiceName,
    mut judge: impl FnMut(&ServiceStatus) -> (Option<Outcome>, bool),
) -> Result<Outcome, ClusterError> {
    let mut snapshots = cluster.watch().await?;
    let mut limit = None;
    let mut last = None;
    loop {
        let next = match limit {
            Some(limit) => timeout_at(limit, snapshots.next()).await,
            None => Ok(snapshots.next().await),
        };
        let snapshot = match next {
            Err(_) => {
                let minutes = GROWTH.as_secs() / 60;
                let reason = last.map_or_else(String::new, |status| missing(&status));
                return Ok(Outcome::Short { reason: format!("{reason} after {minutes} min") });
            }
            Ok(None) => {
                return Err(ClusterError::Unreachable {
                    endpoint: "the cluster".to_owned(),
                    reason: "it ended the stream of changes".to_owned(),
                });
            }
            Ok(Some(snapshot)) => snapshot?,
        };
        let Some(status) = snapshot.services.into_iter().find(|status| status.name == *service) else {
            return Ok(Outcome::Removed);
        };
        let (outcome, rolls) = judge(&status);
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        limit = if rolls { None } else { limit.or_else(|| Some(Instant::now() + GROWTH)) };
        last = Some(status);
    }
}

/// The number of new healthy instances during a rollout.
#[derive(Default)]
struct Progress {
    /// Those that were healthy at first; they are to be replaced.
    before: Option<BTreeSet<String>>,
    told: Option<(u32, u32)>,
}

impl Progress {
    /// How many new instances are healthy, of how many, if that is news.
    fn next(&mut self, status: &ServiceStatus, revision: u64) -> Option<(u32, u32)> {
        let healthy = || status.instances.iter().filter(|one| one.state == InstanceState::Healthy);
        let before = self.before.get_or_insert_with(|| healthy().map(|one| one.id.clone()).collect());
        // While the engine takes a rollout back, new instances run the version before.
        let version = status.history.iter().find(|known| known.number == revision)?.digest.as_ref();
        let is_new = |one: &&Instance| {
            !before.contains(&one.id) && (version.is_none() || one.digest.as_ref() == version)
        };
        let new = healthy().filter(is_new).count();
        let now = (u32::try_from(new).unwrap_or(u32::MAX), status.desired);
        let news = self.told.map_or(now.0 > 0, |told| told != now);
        self.told = Some(now);
        news.then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Origin;

    #[test]
    fn what_runs_after_a_failure_is_not_counted_as_new() {
        let status = |instances: &[(&str, char)]| -> ServiceStatus {
            let digest = |of: char| format!("sha256:{}", of.to_string().repeat(64));
            let since = "2026-11-30T12:00:00Z";
            let instances: Vec<_> = instances
                .iter()
                .map(|(id, version)| {
                    serde_json::json!({"id": id, "name": "web@1", "machine": null, "addresses": [],
                        "state": "healthy", "digest": digest(*version), "message": null, "since": since})
                })
                .collect();
            let revision = |number: u64, version: char, state: &str| {
                serde_json::json!({"number": number, "digest": digest(version), "state": state, "reason": null,
                    "since": since, "origin": Origin::by_hand()})
            };
            let history = [revision(2, 'b', "rolling-out"), revision(1, 'a', "replaced")];
            serde_json::from_value(serde_json::json!({"name": "web", "desired": 2, "instances": instances,
                "history": history}))
            .expect("a status")
        };
        let mut progress = Progress::default();
        assert_eq!(progress.next(&status(&[("x", 'a'), ("y", 'a')]), 2), None);
        assert_eq!(progress.next(&status(&[("z", 'b'), ("y", 'a')]), 2), Some((1, 2)));
        // The new one failed, and the version before runs there again.
        assert_eq!(progress.next(&status(&[("w", 'a'), ("y", 'a')]), 2), Some((0, 2)));
    }
}
