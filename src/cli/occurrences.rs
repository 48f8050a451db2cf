//! Shared by the commands about jobs: following an occurrence to its end.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::Done;
use super::context::Context;
use super::context::cluster::failure;
use super::failure::Failure;
use crate::model::job::{Occurrence, OccurrenceId, Outcome, Progress};
use crate::model::redact::Mask;
use crate::port::cluster::ClusterError;
use crate::port::jobs::{JobCluster, Output};
use crate::view;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(400);
/// How long after its end more output is waited for.
const SILENCE: Duration = Duration::from_millis(1200);
/// How many lines are fetched of what ran before it was followed.
const TAIL: u32 = 100_000;
/// How long the cluster may not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key that no other occurrence has.
pub fn key() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let hash = Sha256::digest(format!("{} {}", now.as_nanos(), std::process::id()));
    let hex: String = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("x{hex}")
}

/// How following ended.
pub enum Followed {
    /// The occurrence has ended.
    Ended(Box<Occurrence>),
    /// The caller stops following.
    Interrupted,
}

/// Follows an occurrence, and prints its output.
///
/// # Errors
/// When it can't be found, or the cluster does not answer for long.
pub async fn follow(
    context: &Context,
    cluster: &dyn JobCluster,
    id: &OccurrenceId,
) -> Result<Followed, Failure> {
    tokio::select! {
        followed = to_its_end(context, cluster, id) => followed.map(|one| Followed::Ended(Box::new(one))),
        _ = tokio::signal::ctrl_c() => Ok(Followed::Interrupted),
    }
}

/// An occurrence as soon as it runs, or has ended before.
///
/// # Errors
/// When it can't be found, or the cluster does not answer for long.
pub async fn begun(cluster: &dyn JobCluster, id: &OccurrenceId) -> Result<Occurrence, Failure> {
    let (mut seen, mut reported) = (Instant::now(), None);
    loop {
        if let Some(one) = look(cluster, id, &mut seen).await? {
            if matches!(one.progress, Progress::Running | Progress::Ended(_)) {
                return Ok(one);
            }
            if one.reason.is_some() && one.reason != reported {
                reported = one.reason;
                eprintln!("waiting: {}", reported.as_deref().unwrap_or_default());
            }
        }
        sleep(LOOK).await;
    }
}

/// An occurrence; `None` while the cluster does not answer, which it last did when it was `seen`.
async fn look(
    cluster: &dyn JobCluster,
    id: &OccurrenceId,
    seen: &mut Instant,
) -> Result<Option<Occurrence>, Failure> {
    match cluster.jobs().await {
        Ok(jobs) => {
            *seen = Instant::now();
            let one = jobs.occurrence(id).cloned();
            one.map(Some).ok_or_else(|| {
                let next = "`fleetwright job ls` shows what it has";
                Failure::failed(format!("the cluster has forgotten {id}"), next)
            })
        }
        // Its leader may be changing; what has begun continues.
        Err(ClusterError::Unreachable { .. }) if seen.elapsed() < PATIENCE => Ok(None),
        Err(error) => Err(failure(&error)),
    }
}

type Lines = BoxStream<'static, Result<Output, ClusterError>>;

async fn to_its_end(
    context: &Context,
    cluster: &dyn JobCluster,
    id: &OccurrenceId,
) -> Result<Occurrence, Failure> {
    let mut lines: Option<(u32, Lines)> = None;
    let mut seen = Instant::now();
    loop {
        let Some(one) = look(cluster, id, &mut seen).await? else {
            sleep(LOOK).await;
            continue;
        };
        let over = matches!(one.progress, Progress::Ended(_));
        let open = lines.as_ref().is_some_and(|(attempt, _)| *attempt == one.attempts);
        if !open && one.attempts > 0 && (over || one.progress == Progress::Running) {
            // One that can't be read yet is tried again.
            if let Ok(opened) = cluster.occurrence_logs(id, TAIL, !over).await {
                lines = Some((one.attempts, opened));
            }
        }
        let wait = if over { SILENCE } else { LOOK };
        let ended = drain(context, &mut lines, wait).await;
        if over {
            // Lines on their way to a leader that changed are in the record.
            if lines.is_none() {
                one.lines.iter().for_each(|line| show(context, &Output::Out(line.clone())));
            }
            return Ok(one);
        }
        if ended {
            sleep(LOOK).await;
        }
    }
}

/// Prints lines until none comes for a while; whether there can be no more.
async fn drain(context: &Context, lines: &mut Option<(u32, Lines)>, wait: Duration) -> bool {
    let Some((_, stream)) = lines else { return true };
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, stream.next()).await {
            Ok(Some(Ok(line))) => show(context, &line),
            Ok(Some(Err(_)) | None) => return true,
            Err(_) => return false,
        }
    }
}

/// Prints a line of output where it belongs.
pub fn show(context: &Context, line: &Output) {
    let (stream, text) = match line {
        Output::Out(text) => ("stdout", text),
        Output::Err(text) => ("stderr", text),
    };
    if context.json() {
        let line = json!({ "version": 1, "kind": "output", "stream": stream, "text": text });
        view::json::line(&Mask::process().json(line));
    } else if stream == "stdout" {
        // A reader that has gone away is no reason to stop following.
        let _ = view::out::try_stdout(&format!("{text}\n"));
    } else {
        eprintln!("{text}");
    }
}

/// What a command says about an occurrence that has ended.
///
/// # Errors
/// When it did not succeed.
pub fn ended(context: &Context, one: &Occurrence, what: &str) -> Result<Done, Failure> {
    if context.json() {
        view::json::line(&json!({ "version": 1, "kind": "ended", "occurrence": one }));
    }
    let Progress::Ended(outcome) = one.progress else { return Ok(Done::Ok) };
    let reason = one.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    match outcome {
        Outcome::Succeeded => {
            if !context.json() {
                eprintln!("{}   succeeded{}", one.id, view::jobs::took(one));
            }
            Ok(Done::Ok)
        }
        Outcome::Unknown => Err(Failure::failed(
            format!("whether {what} did its work is unknown{reason}"),
            "check its work before you run it again; nothing repeats it",
        )),
        Outcome::Skipped | Outcome::Missed | Outcome::Replaced => Err(Failure::failed(
            format!("{what} was {}{reason}", outcome.label()),
            "`fleetwright job history` shows what ran instead",
        )),
        Outcome::Failed | Outcome::TimedOut => Err(Failure::failed(
            format!("{what} {}{reason}", outcome.label()),
            "`fleetwright job logs` shows its output",
        )),
    }
}
