//! Watching branches: ask where they stand, fetch only when they moved, queue the runs.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{Notify, watch};

use super::queue::announce;
use super::run::{Parts, Wish};
use crate::event::pipeline::PipelineEvent;
use crate::model::name::PipelineName;
use crate::model::run::{RunId, RunState, Trigger};
use crate::plan::changed_paths::fit;
use crate::plan::run::{Change, Problem};
use crate::port::git::{GitError, GitSource};
use crate::port::journal::{JournalError, NewRun};

/// The longest time between two looks at a repository that does not answer, unless
/// looks are further apart anyway.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A branch with the pipelines that run for it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The repository and branch.
    pub source: GitSource,
    /// The time between two looks.
    pub every: Duration,
    /// The pipelines.
    pub pipelines: Vec<PipelineName>,
    /// Which changed files set a pipeline off, where not all do.
    pub paths: BTreeMap<PipelineName, Vec<String>>,
    /// Asks for a check without delay.
    pub hint: Arc<Notify>,
}

/// When the next look is due.
#[derive(Debug, Clone)]
struct Pace {
    every: Duration,
    failures: u32,
}

impl Pace {
    /// Takes in whether the repository has answered.
    fn heard(&mut self, answered: bool) {
        self.failures = if answered { 0 } else { self.failures + 1 };
    }

    /// The time until the next look; `random` is from 0 to 1 and spreads it by a tenth
    /// either way, so that many repositories are not asked in step.
    fn wait(&self, random: f64) -> Duration {
        let slow = self.every * 2_u32.saturating_pow(self.failures.min(16));
        slow.min(BACKOFF_MAX.max(self.every)).mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
    }
}

/// Why no commit was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// The reason.
    pub problem: Problem,
    /// Whether the repository has answered and only lacks the branch so far.
    pub answered: bool,
}

impl From<GitError> for Unseen {
    fn from(error: GitError) -> Self {
        let answered = matches!(error, GitError::NoBranch { .. });
        Self { problem: error.into(), answered }
    }
}

/// Watches a branch until told to stop. What does not work is said once and tried again.
///
/// # Errors
/// When the journal can't be used.
pub async fn watch(
    parts: &Parts,
    watched: &Watched,
    mut wish: watch::Receiver<Wish>,
) -> Result<(), JournalError> {
    let mut pace = Pace { every: watched.every, failures: 0 };
    let mut complaint = None;
    while *wish.borrow_and_update() == Wish::GoOn {
        tokio::select! {
            _ = wish.changed() => continue,
            result = look(parts, watched) => match result? {
                Ok(_) => {
                    if complaint.take().is_some() {
                        parts.events.note(format!("repository `{}` answers again", watched.source.name));
                    }
                    pace.heard(true);
                }
                Err(Unseen { problem, answered }) => {
                    pace.heard(answered);
                    if complaint.as_ref() != Some(&problem.reason) {
                        let (name, reason) = (&watched.source.name, &problem.reason);
                        parts.events.note(format!("repository `{name}`: {reason}; trying again"));
                        complaint = Some(problem.reason);
                    }
                }
            }
        }
        tokio::select! {
            _ = wish.changed() => {}
            () = watched.hint.notified() => {}
            () = tokio::time::sleep(pace.wait(random())) => {}
        }
    }
    Ok(())
}

/// Looks once; gives the runs that this has put into the queue.
///
/// # Errors
/// The outer error is the journal's, the inner one the repository's.
pub async fn look(parts: &Parts, watched: &Watched) -> Result<Result<Vec<RunId>, Unseen>, JournalError> {
    let source = &watched.source;
    let head = match parts.git.head(source).await {
        Ok(head) => head,
        Err(error) => return Ok(Err(error.into())),
    };
    let before = parts.journal.seen(&source.name)?;
    if before.as_ref() == Some(&head) {
        return Ok(Ok(Vec::new()));
    }
    // The commit's subject goes into the journal.
    if let Err(problem) = parts.learn().await {
        return Ok(Err(Unseen { problem, answered: false }));
    }
    let fetched = match parts.git.fetch(source).await {
        Ok(()) => parts.git.commit(&source.name, head.as_str()).await,
        Err(error) => Err(error),
    };
    let commit = match fetched {
        Ok(commit) => commit,
        Err(error) => return Ok(Err(error.into())),
    };
    // What is pushed first sets everything off, and so does what replaces something that is gone.
    let changed = match before.filter(|_| !watched.paths.is_empty()) {
        Some(before) => match parts.git.changed(&source.name, &before, &head).await {
            Ok(changed) => changed,
            Err(error) => return Ok(Err(error.into())),
        },
        None => None,
    };
    let is_meant = |pipeline: &&PipelineName| match (&changed, watched.paths.get(*pipeline)) {
        (Some(changed), Some(paths)) => fit(paths, changed),
        (None, _) | (_, None) => true,
    };
    let runs: Vec<NewRun> = watched
        .pipelines
        .iter()
        .filter(is_meant)
        .map(|pipeline| NewRun {
            pipeline: pipeline.clone(),
            repository: source.name.clone(),
            commit: commit.id.clone(),
            subject: commit.subject.clone(),
            trigger: Trigger::Poll,
        })
        .collect();
    let observed = parts.journal.observe(Utc::now(), &source.name, &head, &runs)?;
    for id in &observed.superseded {
        if let Some(run) = parts.journal.run(*id)? {
            let event = PipelineEvent::Finished {
                run: run.id,
                pipeline: run.pipeline,
                state: RunState::Superseded,
                seconds: 0.0,
                reason: run.reason,
            };
            parts.record(*id, vec![Change::Event(event)])?;
        }
    }
    for id in &observed.queued {
        if let Some(found) = parts.journal.run(*id)?
            && let Some(run) = runs.iter().find(|run| run.pipeline == found.pipeline)
        {
            announce(parts, *id, run, None)?;
        }
    }
    Ok(Ok(observed.queued))
}

/// From 0 to 1; good enough to spread looks.
fn random() -> f64 {
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spread_and_slow_down_while_nobody_answers() {
        let pace = |every, failures| Pace { every: Duration::from_secs(every), failures };
        assert_eq!(pace(2, 0).wait(0.5), Duration::from_secs(2));
        assert_eq!(pace(2, 0).wait(0.0), Duration::from_millis(1800));
        assert_eq!(pace(2, 3).wait(0.5), Duration::from_secs(16));
        assert_eq!(pace(2, 99).wait(0.5), BACKOFF_MAX);
        assert_eq!(pace(300, 99).wait(0.5), Duration::from_secs(300), "never faster than asked for");
        assert!((0.0..=1.0).contains(&random()));
    }

    #[test]
    fn a_repository_that_answers_without_a_branch_is_asked_as_often_as_any_other() {
        let no_branch = GitError::NoBranch { url: "web".to_owned(), branch: "main".to_owned() };
        let mut pace = Pace { every: Duration::from_secs(2), failures: 3 };
        pace.heard(Unseen::from(no_branch).answered);
        assert_eq!(pace.wait(0.5), Duration::from_secs(2));
        pace.heard(false);
        assert_eq!(pace.wait(0.5), Duration::from_secs(4));
    }
}
