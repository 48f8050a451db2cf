//! What is left of runs on the engine: removed when they have ended, or kept for a while where they have failed.

use chrono::{DateTime, Utc};

use super::run::Parts;
use crate::model::run::{Run, RunId, RunState, StepAction};
use crate::plan::kept::{Circumstances, failed_commands, is_kept};
use crate::plan::run::{Outcome, Problem};
use crate::port::journal::{JournalError, Which};

/// Removes what a run that has ended has on the engine, but what is kept of a failed one. What remains is removed by
/// [`sweep`](super::run::sweep).
pub(super) async fn settle(parts: &Parts, id: RunId) {
    let run = match parts.journal.run(id) {
        Ok(Some(run)) => run,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(run = id.0, %error, "reading a run that has ended");
            return;
        }
    };
    parts.infra.clear(id);
    let commands = run.config.iter().flat_map(|config| &config.steps);
    if commands.into_iter().any(|step| matches!(step, StepAction::Run(_))) {
        tidy(parts, &run, Utc::now()).await;
    }
}

/// Keeps or removes what is left of one run.
async fn tidy(parts: &Parts, run: &Run, now: DateTime<Utc>) {
    let circumstances = Circumstances {
        is_full: parts.space.lack().is_some(),
        is_awaited: is_awaited(parts, run).unwrap_or(true),
    };
    let done = match is_kept(run, now, circumstances) {
        true => parts.steps.keep(run.id, &failed_commands(run)).await,
        false => parts.steps.clear(run.id).await,
    };
    if let Err(error) = done {
        tracing::warn!(run = run.id.0, %error, "removing the containers of a run");
    }
}

/// Whether a run that has not ended takes the workspace of `run` over.
fn is_awaited(parts: &Parts, run: &Run) -> Result<bool, JournalError> {
    let open = parts.journal.runs(&Which::Open(run.pipeline.clone()))?;
    Ok(open.iter().any(|other| {
        let taken = other.config.as_ref().and_then(|config| config.taken.as_ref());
        taken.is_some_and(|taken| taken.run == run.id && taken.workspace)
    }))
}

/// Removes what is left of runs that have ended, or keeps it.
pub(super) async fn sweep_runs(parts: &Parts) {
    let left = match parts.steps.left().await {
        Ok(left) => left,
        Err(error) => {
            tracing::debug!(%error, "listing what runs have left");
            return;
        }
    };
    for id in left {
        match parts.journal.run(id) {
            Ok(Some(run)) if run.state.is_ended() && run.state != RunState::Quarantined => {
                tidy(parts, &run, Utc::now()).await;
            }
            Ok(None) => {
                if let Err(error) = parts.steps.clear(id).await {
                    tracing::warn!(run = id.0, %error, "removing the containers of a run");
                }
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Copies what is taken over from the run `from`.
pub(super) async fn take_over(
    parts: &Parts,
    to: RunId,
    from: RunId,
    workspace: bool,
    steps: &[usize],
) -> Result<Outcome, Problem> {
    let gone = |what: &str| {
        Problem::lasting(format!(
            "{what} of run {from} is gone; `fleetwright pipeline retry {from}` runs every step"
        ))
    };
    let earlier = parts.journal.run(from)?.ok_or_else(|| gone("the record"))?;
    if workspace && !parts.steps.copy_workspace(from, to).await? {
        return Err(gone("the workspace"));
    }
    let mut files = Vec::new();
    for index in steps {
        let Some(step) = earlier.steps.get(*index) else { continue };
        if step.files.is_empty() && step.tests.is_none() {
            continue;
        }
        let copied = parts.artifacts.copy(from, to, *index);
        copied.map_err(|error| Problem::lasting(error.to_string()))?;
        files.push((*index, step.files.clone(), step.tests.clone()));
    }
    Ok(Outcome::TakenOver { files })
}
