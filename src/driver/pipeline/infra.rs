//! Steps in which fleetwright works with the files of the commit.

use std::time::Duration;

use super::run::Parts;
use super::work::{At, files_of};
use crate::model::git_ref::RefKind;
use crate::model::infra_step::{InfraSpec, Planned};
use crate::model::run::Run;
use crate::plan::run::{Outcome, Patience, Problem};
use crate::port::infra::{InfraEnd, InfraError, InfraRequest};
use crate::port::locks::Guard;

/// Time between two looks whether another run has done its work.
const AGAIN: Duration = Duration::from_millis(250);

/// What is asked for.
pub(super) struct Asked<'a> {
    /// The step's position.
    pub index: usize,
    /// What the step is called in lists.
    pub step: &'a str,
    /// What to do.
    pub spec: &'a InfraSpec,
    /// The position of the step that has planned it, and the plan.
    pub planned: Option<&'a (usize, Planned)>,
    /// Whether somebody has approved it in this run.
    pub approved: bool,
    /// Whether it may have been begun before.
    pub resumed: bool,
}

/// Does the work of such a step.
pub(super) async fn work(
    parts: &Parts,
    run: &Run,
    asked: Asked<'_>,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    parts.learn().await?;
    let environment = run.config.as_ref().map_or("", |config| config.environment.as_str());
    let _alone = if asked.spec.work.changes() { Some(alone(parts, environment, lines).await?) } else { None };
    let at = At { repository: &run.repository, commit: &run.commit };
    let files = files_of(&parts.git, at, lines).await?;
    let request = InfraRequest {
        run: run.id,
        step: asked.index,
        spec: asked.spec,
        environment,
        files,
        planned: asked.planned,
        approved: asked.approved,
        resumed: asked.resumed,
    };
    let end = parts.infra.perform(request, lines).await.map_err(|error| match error {
        InfraError::Failed(reason) => Problem::lasting(reason),
        InfraError::Busy(reason) => Problem { reason, patience: Patience::Long, progressed: false },
    })?;
    match end {
        InfraEnd::Done { summary } => Ok(Outcome::InfraDone { summary }),
        InfraEnd::Planned { planned, markdown } => {
            post(parts, run, asked.step, environment, &markdown, lines).await;
            Ok(Outcome::Planned(planned))
        }
    }
}

/// Shows a plan in the pull request that it is of. A forge that refuses it does not make the plan wrong.
async fn post(
    parts: &Parts,
    run: &Run,
    step: &str,
    environment: &str,
    markdown: &str,
    lines: &(dyn Fn(&str) + Send + Sync),
) {
    let Some(RefKind::PullRequest(number)) = run.reference.as_ref().map(|reference| reference.kind()) else {
        return;
    };
    let short: String = run.commit.as_str().chars().take(10).collect();
    let heading = format!("### `{step}` of `{}` for {environment}, at {short}", run.pipeline);
    let text = parts.mask.mask(&format!("{heading}\n\n{markdown}"));
    let key = format!("{}/{step}/{environment}", run.pipeline);
    match parts.comments.comment(&run.repository, number, &key, &text).await {
        Ok(true) => lines(&format!("the plan stands in pull request {number}")),
        Ok(false) => {}
        Err(error) => lines(&format!("the plan can't be shown in pull request {number}: {error}")),
    }
}

/// Waits until no other run changes the environment.
async fn alone(
    parts: &Parts,
    environment: &str,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Guard, Problem> {
    let name = format!("infra-{environment}");
    let mut said = false;
    loop {
        match parts.locks.try_lock(&name) {
            Ok(Some(guard)) => return Ok(guard),
            Ok(None) => {
                if !said {
                    lines(&format!("waiting for another run that changes `{environment}` to end"));
                    said = true;
                }
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(Problem::lasting(format!("the lock `{name}`: {error}"))),
        }
    }
}

/// Removes the plans of runs that have ended.
pub(super) fn sweep(parts: &Parts) {
    for id in parts.infra.kept() {
        let run = parts.journal.run(id);
        if run.is_ok_and(|run| run.is_none_or(|run| run.state.is_ended())) {
            parts.infra.clear(id);
        }
    }
}
