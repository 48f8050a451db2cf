//! What the leader does about jobs, and how a control machine permits an attempt.
//!
//! What is done is decided in [`crate::plan::jobs`]; this asks and does.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::model::job::OccurrenceId;
use crate::model::occurrence::{Action, Claimed, Permit};
use crate::plan::before;
use crate::plan::jobs::{self as plan, decide, permit};
use crate::port::cluster::ClusterError;
use crate::port::jobs::{AskPermit, JobStore, JobView};

/// How often taking a permit is tried again, because somebody else created one at the same time.
const ATTEMPTS: u32 = 3;

/// Does what is to be done about jobs at `now`. Several leaders may do it at once.
///
/// # Errors
/// When the jobs can't be read, or the first thing that could not be done; the rest is done then.
pub async fn advance(jobs: &dyn JobStore, now: DateTime<Utc>) -> Result<(), ClusterError> {
    let view = jobs.view().await?;
    let mut failed = None;
    for action in decide(now, view.jobs(), view.claimed()) {
        if !matches!(action, Action::Tidy { .. } | Action::Remove { .. }) {
            tracing::info!(?action, "jobs");
        }
        if let Err(error) = view.perform(&action).await {
            tracing::warn!(%error, ?action, "jobs");
            failed.get_or_insert(error);
        }
    }
    for (service, waits) in view.waiting() {
        for action in before::decide(waits) {
            tracing::info!(%service, ?action, "before a rollout");
            if let Err(error) = view.perform_before(service, action).await {
                tracing::warn!(%service, %error, ?action, "before a rollout");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Records what may have run while this machine's state was not the cluster's, so that it does not begin again:
/// the cluster continues from this machine alone. It may be called again after any failure.
///
/// # Errors
/// When the jobs can't be read, or something can't be recorded.
pub async fn begin_again(jobs: &dyn JobStore, now: DateTime<Utc>) -> Result<(), ClusterError> {
    let view = jobs.view().await?;
    for action in plan::begin_again(now, view.jobs(), view.claimed()) {
        tracing::warn!(?action, "jobs of a recovered cluster");
        view.perform(&action).await?;
    }
    Ok(())
}

/// Permits attempts, on a control machine.
pub struct Permits {
    jobs: Arc<dyn JobStore>,
}

impl Permits {
    /// Permits what is kept in `jobs`.
    pub fn new(jobs: Arc<dyn JobStore>) -> Self {
        Self { jobs }
    }
}

/// The occurrence in a view, and up to when its job is recorded.
fn find<'v>(view: &'v dyn JobView, id: &OccurrenceId) -> (Option<&'v Claimed>, Option<DateTime<Utc>>) {
    let one = view.claimed().iter().find(|one| one.id == *id);
    let job = view.jobs().iter().find(|job| job.name.as_str() == id.of);
    (one, job.map(|job| job.recorded))
}

fn refused(id: &OccurrenceId, reason: impl std::fmt::Display) -> ClusterError {
    ClusterError::Refused { reason: format!("{id} is not permitted to run: {reason}") }
}

#[async_trait]
impl AskPermit for Permits {
    async fn permit(&self, task: &str, nonce: &str) -> Result<(), ClusterError> {
        for _ in 0..ATTEMPTS {
            let view = self.jobs.view().await?;
            let Some((id, attempt)) = view.attempt_of(task) else {
                let reason = format!("task {task} is to run no occurrence of a job");
                return Err(ClusterError::Refused { reason });
            };
            if view.holder(&id, attempt) != Some(nonce) {
                let (one, recorded) = find(view.as_ref(), &id);
                permit::before(one, attempt, recorded).map_err(|reason| refused(&id, reason))?;
                if !view.take(&id, attempt, task, nonce).await? {
                    continue;
                }
            }
            // What was seen before may have changed while the permit was taken.
            let view = self.jobs.view().await?;
            let (one, recorded) = find(view.as_ref(), &id);
            let own = one.and_then(|one| one.attempts.iter().find(|known| known.number == attempt));
            let held = own.is_some_and(|own| matches!(own.permit, Permit::Held { end: None, .. }));
            if !held || view.holder(&id, attempt) != Some(nonce) {
                return Err(refused(&id, permit::Refusal::Over));
            }
            if let Err(reason) = permit::after(one, recorded, view.rivals(&id).iter()) {
                view.return_permit(&id, attempt).await?;
                return Err(refused(&id, reason));
            }
            tracing::info!(%id, attempt, task, "permitted");
            return Ok(());
        }
        Err(ClusterError::Unreachable {
            endpoint: "the managers".to_owned(),
            reason: "the permit was taken or withdrawn at the same time".to_owned(),
        })
    }
}
