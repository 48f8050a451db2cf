//! Which run is next, and who works on it.
//!
//! The runs of a pipeline are worked on one after the other, by whichever process holds
//! the pipeline's lock. The lock ends with its process, so a run that is `running` while
//! the lock is free was left by a process that died or was stopped, and is gone on with.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::run::{Parts, Wish, drive};
use crate::event::pipeline::PipelineEvent;
use crate::model::name::PipelineName;
use crate::model::run::{Run, RunConfig, RunId, RunState, RunStep, StepState};
use crate::plan::run::{Change, Effect, Input, RunMachine};
use crate::port::journal::{JournalError, NewRun, Record, Which};

/// How often the journal is looked at for what other processes have put there.
const LOOK: Duration = Duration::from_millis(500);

/// How often a run may end the process that works on it, without getting on in between.
const ATTEMPTS: u32 = 2;

/// Says what a run shall do, when it begins.
#[async_trait]
pub trait Configure: Send + Sync {
    /// The run's config, frozen from then on.
    ///
    /// # Errors
    /// When the infra repository does not say it, with the reason.
    async fn config(&self, run: &Run) -> Result<RunConfig, String>;
}

/// What came of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Turn {
    /// There is nothing to do.
    Idle,
    /// Another process works on this pipeline.
    Elsewhere,
    /// A run was worked on.
    Worked,
    /// No run is begun now, with the reason: the disk is full, for example.
    NoRoom(String),
}

/// Works on the runs of a pipeline until told to stop.
///
/// # Errors
/// When the journal or the locks can't be used.
pub async fn work(
    parts: &Parts,
    configure: &dyn Configure,
    pipeline: &PipelineName,
    mut wish: watch::Receiver<Wish>,
) -> Result<(), JournalError> {
    let mut changed = parts.changed.subscribe();
    let mut lacked: Option<String> = None;
    while *wish.borrow_and_update() == Wish::GoOn {
        let turned = turn(parts, configure, pipeline, &wish).await?;
        match turned {
            Turn::NoRoom(reason) => {
                if lacked.as_ref() != Some(&reason) {
                    parts.events.note(format!("runs of `{pipeline}` wait: {reason}"));
                    lacked = Some(reason);
                }
            }
            Turn::Worked => {
                lacked = None;
                continue;
            }
            Turn::Idle | Turn::Elsewhere => {}
        }
        tokio::select! {
            _ = wish.changed() => {}
            _ = changed.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    Ok(())
}

/// Works on the run that is next, if this process may.
async fn turn(
    parts: &Parts,
    configure: &dyn Configure,
    pipeline: &PipelineName,
    wish: &watch::Receiver<Wish>,
) -> Result<Turn, JournalError> {
    let open = Which::Open(pipeline.clone());
    if parts.journal.runs(&open)?.is_empty() {
        return Ok(Turn::Idle);
    }
    let lock = parts.locks.try_lock(&format!("pipeline-{pipeline}"));
    let lock = lock.map_err(|error| JournalError::Access { doing: "locking", reason: error.to_string() })?;
    let Some(_lock) = lock else { return Ok(Turn::Elsewhere) };
    // Read again: what was open before may have ended before the lock was free.
    let Some(run) = next(parts.journal.runs(&open)?) else { return Ok(Turn::Idle) };
    // What has begun is continued: it may free what it takes.
    if run.state == RunState::Queued
        && let Some(reason) = parts.space.lack().or_else(|| parts.troubles.stops())
    {
        return Ok(Turn::NoRoom(reason));
    }
    // Counted on the disk before anything is begun, so that a run that ends the process is known.
    if parts.journal.attempt(run.id)? > ATTEMPTS {
        ended_elsewhere(quarantine(parts, &run))?;
        return Ok(Turn::Worked);
    }
    let config = match (configure.config(&run).await, &run.config) {
        (now, Some(begun_with)) => goes_on_with(begun_with, now.ok()),
        (Ok(now), None) => now,
        (Err(reason), None) => {
            ended_elsewhere(end(parts, &run, RunState::Failed, reason))?;
            return Ok(Turn::Worked);
        }
    };
    let driven = drive(parts, &run, config, wish.clone()).await;
    parts.journal.leave(run.id)?;
    ended_elsewhere(driven.map(drop))?;
    Ok(Turn::Worked)
}

/// What a run does that had begun: what it was told then, but at the registry's address of now.
/// The registry may have moved since, a local cloud's most of all.
fn goes_on_with(begun_with: &RunConfig, now: Option<RunConfig>) -> RunConfig {
    let mut config = begun_with.clone();
    if let Some(now) = now.filter(|now| now.environment == config.environment) {
        (config.push, config.pull) = (now.push, now.pull);
    }
    config
}

/// What has begun goes first, then what has waited longest.
fn next(open: Vec<Run>) -> Option<Run> {
    let begun = open.iter().position(|run| run.state == RunState::Running).unwrap_or(0);
    open.into_iter().nth(begun)
}

/// A run that was superseded or cancelled while it was taken up needs nothing more.
fn ended_elsewhere(result: Result<(), JournalError>) -> Result<(), JournalError> {
    match result {
        Err(JournalError::Ended { what }) => {
            tracing::info!(what, "somebody else has ended it");
            Ok(())
        }
        result => result,
    }
}

/// Sets a run aside that ended its process each time it was worked on.
fn quarantine(parts: &Parts, run: &Run) -> Result<(), JournalError> {
    let step = run.steps.iter().find(|step| !step.state.is_ended());
    let at = step.map_or_else(String::new, |step| format!(" at `{}`", step.name));
    let reason = format!(
        "the process that worked on it ended {ATTEMPTS} times{at}; `fleetwright pipeline retry {}` tries it again",
        run.id
    );
    end(parts, run, RunState::Quarantined, reason)
}

/// Ends a run that no step of is at work.
fn end(parts: &Parts, run: &Run, state: RunState, reason: String) -> Result<(), JournalError> {
    let event = PipelineEvent::Finished {
        run: run.id,
        pipeline: run.pipeline.clone(),
        state,
        seconds: 0.0,
        reason: Some(reason.clone()),
    };
    let record = Record::Run { state, reason: Some(reason) };
    parts.record(run.id, vec![Change::Record(record), Change::Event(event)])
}

/// Puts a run into the queue that someone asked for.
///
/// # Errors
/// When the journal can't be written.
pub fn enqueue(parts: &Parts, run: &NewRun) -> Result<RunId, JournalError> {
    let id = parts.journal.enqueue(chrono::Utc::now(), run)?;
    announce(parts, id, run)?;
    Ok(id)
}

/// Puts a quarantined run back into the queue; `false` when it is not quarantined.
///
/// # Errors
/// When the journal can't be written.
pub fn retry(parts: &Parts, run: RunId) -> Result<bool, JournalError> {
    let done = parts.journal.retry(run)?;
    parts.ring();
    Ok(done)
}

/// The result of cancelling a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It has ended now. A rollout that had begun continues in the cluster.
    Done {
        /// Whether the cluster had been asked for a rollout.
        rolls_out: bool,
    },
    /// It had ended before.
    Ended(RunState),
    /// There is no such run.
    Unknown,
}

/// Ends a run, whether it waits or another process works on it. That process notices at its next look.
///
/// # Errors
/// When the journal can't be read or written.
pub fn cancel(parts: &Parts, id: RunId, reason: &str) -> Result<Cancelled, JournalError> {
    let Some(run) = parts.journal.run(id)? else { return Ok(Cancelled::Unknown) };
    if run.state.is_ended() {
        return Ok(Cancelled::Ended(run.state));
    }
    let cancelled = match &run.config {
        None => end(parts, &run, RunState::Cancelled, reason.to_owned()),
        Some(config) => {
            let cancel = Input::Cancel { reason: reason.to_owned() };
            let effects = RunMachine::new(&run, config.clone()).handle(chrono::Utc::now(), cancel);
            let changes = effects.into_iter().filter_map(|effect| match effect {
                Effect::Record(changes) => Some(changes),
                _ => None,
            });
            parts.record(id, changes.flatten().collect())
        }
    };
    match cancelled {
        Ok(()) => {
            let begun = |step: &RunStep| {
                matches!(
                    step.state,
                    StepState::Deploying { .. } | StepState::Following { .. } | StepState::Releasing { .. }
                )
            };
            Ok(Cancelled::Done { rolls_out: run.steps.iter().any(begun) })
        }
        // It ended while it was read.
        Err(JournalError::Ended { .. }) => {
            let now = parts.journal.run(id)?;
            Ok(now.map_or(Cancelled::Unknown, |run| Cancelled::Ended(run.state)))
        }
        Err(error) => Err(error),
    }
}

/// Says that a run was put into the queue.
pub(super) fn announce(parts: &Parts, id: RunId, run: &NewRun) -> Result<(), JournalError> {
    let event = PipelineEvent::Queued {
        run: id,
        pipeline: run.pipeline.clone(),
        commit: run.commit.clone(),
        subject: run.subject.clone(),
        trigger: run.trigger,
        by: run.asked_by.clone(),
    };
    parts.record(id, vec![Change::Event(event)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::run::tests::{config, queued_run};

    #[test]
    fn a_run_goes_on_with_its_own_steps_at_the_registry_of_now() {
        let begun_with = config();
        let moved = RunConfig { push: "127.0.0.1:6000".into(), steps: Vec::new(), ..config() };
        let expected = RunConfig { push: moved.push.clone(), ..config() };
        assert_eq!(goes_on_with(&begun_with, Some(moved.clone())), expected);
        assert_eq!(goes_on_with(&begun_with, None), begun_with);
        let elsewhere = RunConfig { environment: "staging".into(), ..moved };
        assert_eq!(goes_on_with(&begun_with, Some(elsewhere)), begun_with);
    }

    #[test]
    fn what_was_begun_goes_before_what_waits() {
        let waiting = queued_run(1);
        let begun = Run { state: RunState::Running, ..queued_run(2) };
        assert_eq!(next(vec![waiting.clone(), begun.clone()]).map(|run| run.id), Some(begun.id));
        assert_eq!(next(vec![waiting.clone(), queued_run(3)]).map(|run| run.id), Some(waiting.id));
        assert_eq!(next(Vec::new()), None);
    }
}
