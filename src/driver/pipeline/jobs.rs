//! Steps that run a job on the cluster.

use std::time::Duration;

use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use super::run::Parts;
use crate::model::job::{
    JobDeployment, JobImage, JobSpec, Kind, Occurrence, OccurrenceId, Outcome as Ended, Progress,
};
use crate::model::run::Run;
use crate::model::service::Origin;
use crate::plan::run::{Outcome, Problem};
use crate::port::cluster::ClusterError;
use crate::port::jobs::{JobCluster, Output};

/// Time between two looks at the occurrence.
const LOOK: Duration = Duration::from_millis(500);
/// How long after its end more output is waited for.
const SILENCE: Duration = Duration::from_millis(1200);
/// How many lines are fetched of what ran before it was followed.
const TAIL: u32 = 1_000_000;

/// A job that is to run.
pub(super) struct Wanted<'a> {
    /// The step's position.
    pub index: usize,
    /// The job.
    pub spec: &'a JobSpec,
    /// The image that a step before has built for it.
    pub image: Option<&'a JobImage>,
}

/// The occurrence that the step of a run asks for: always the same one, so that it runs once whoever asks how often.
fn occurrence(run: &Run, index: usize, spec: &JobSpec) -> Result<OccurrenceId, Problem> {
    let queued = run.queued.timestamp_micros();
    let hash = Sha256::digest(format!("{} {} {queued} {index}", run.pipeline, run.id));
    let hex: String = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    OccurrenceId::asked(Kind::Job, spec.name.as_str(), &format!("p{hex}"))
        .map_err(|error| Problem::lasting(error.to_string()))
}

/// Has the cluster run the job, and waits for its end. `known` says how many lines of which attempt have come before;
/// `print` takes those that come now, with their attempt and their number.
pub(super) async fn run_job(
    parts: &Parts,
    run: &Run,
    wanted: Wanted<'_>,
    known: (u32, u64),
    print: &(dyn Fn(u32, u64, &str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let jobs = parts.connect.jobs().await?;
    let id = occurrence(run, wanted.index, wanted.spec)?;
    let there = jobs.jobs().await?.occurrence(&id).cloned();
    if there.is_none() {
        if let Some(image) = wanted.image {
            let job = JobDeployment {
                spec: wanted.spec.clone(),
                image: Some(image.clone()),
                origin: Origin {
                    repository: run.repository.to_string(),
                    commit: run.commit.to_string(),
                    subject: run.subject.clone(),
                },
            };
            jobs.deploy_job(&job).await?;
        }
        jobs.run_job(&id, None).await.map_err(|error| match error {
            ClusterError::NotFound { .. } => Problem::lasting(format!(
                "the cluster has no job `{0}`; `fleetwright deploy {0}` deploys it",
                wanted.spec.name
            )),
            error => error.into(),
        })?;
    }
    let one = follow(&*jobs, &id, known, print).await?;
    let failure = match one.progress {
        Progress::Ended(Ended::Succeeded) => None,
        _ => Some(failure(&one)),
    };
    Ok(Outcome::JobEnded { failure })
}

fn failure(one: &Occurrence) -> String {
    let label = match one.progress {
        Progress::Ended(outcome) => outcome.label(),
        _ => "did not end",
    };
    match (&one.reason, one.exit) {
        (Some(reason), _) => format!("the job {label}: {reason}"),
        (None, Some(exit)) => format!("the job {label}: exit status {exit}"),
        (None, None) => format!("the job {label}"),
    }
}

async fn follow(
    jobs: &dyn JobCluster,
    id: &OccurrenceId,
    known: (u32, u64),
    print: &(dyn Fn(u32, u64, &str) + Send + Sync),
) -> Result<Occurrence, Problem> {
    let (mut attempt, mut number) = known;
    let mut open = None;
    loop {
        let found = jobs.jobs().await?.occurrence(id).cloned();
        let one = found.ok_or_else(|| {
            Problem::lasting(format!("the cluster has forgotten {id}, so how it ended is not known"))
        })?;
        let over = matches!(one.progress, Progress::Ended(_));
        let is_new = open.as_ref().is_none_or(|(of, _)| *of != one.attempts);
        if is_new && one.attempts > 0 && (over || one.progress == Progress::Running) {
            // One that can't be read yet is tried again.
            if let Ok(opened) = jobs.occurrence_logs(id, TAIL, !over).await {
                let skip = if one.attempts == attempt { number } else { 0 };
                (attempt, number) = (one.attempts, skip);
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                open = Some((one.attempts, opened.skip(skip).boxed()));
            }
        }
        let until = Instant::now() + if over { SILENCE } else { LOOK };
        match &mut open {
            None => tokio::time::sleep_until(until).await,
            Some((_, lines)) => {
                while let Ok(line) =
                    timeout(until.saturating_duration_since(Instant::now()), lines.next()).await
                {
                    let Some(Ok(Output::Out(text) | Output::Err(text))) = line else {
                        // It is opened again unless the occurrence has ended.
                        open = None;
                        tokio::time::sleep_until(until).await;
                        break;
                    };
                    number += 1;
                    print(attempt, number, &text);
                }
            }
        }
        if over {
            // Of a machine that is gone only the last lines are in the record.
            if number == 0 {
                for (number, line) in one.lines.iter().enumerate() {
                    print(one.attempts, number as u64 + 1, line);
                }
            }
            return Ok(one);
        }
    }
}
