//! Watching branches: ask where they stand, fetch only when they moved, queue the runs.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{Notify, watch};

use super::queue::announce;
use super::run::{Parts, Wish};
use crate::event::pipeline::PipelineEvent;
use crate::model::git_ref::{GitRef, RefKind};
use crate::model::name::{CommitId, PipelineName, RepositoryName};
use crate::model::pipeline::Triggers;
use crate::model::run::{RunId, RunState, Trigger};
use crate::plan::changed_paths::fit;
use crate::plan::conditions::set_off;
use crate::plan::run::{Change, Problem};
use crate::port::git::{GitError, GitSource};
use crate::port::journal::{Cause, JournalError, NewRun};

/// The longest time between two looks at a repository that does not answer, unless
/// looks are further apart anyway.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A repository with the pipelines that run for it.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The repository, and the branch that pipelines run for unless they say something else.
    pub source: GitSource,
    /// The time between two looks.
    pub every: Duration,
    /// The pipelines.
    pub pipelines: Vec<WatchedPipeline>,
    /// Asks for a check without delay.
    pub hint: Arc<Notify>,
}

/// Whether a reference is of some kind.
type IsOfKind = fn(RefKind<'_>) -> bool;

/// A pipeline that runs for a repository.
#[derive(Debug, Clone)]
pub struct WatchedPipeline {
    /// Its name.
    pub name: PipelineName,
    /// What sets it off.
    pub triggers: Triggers,
    /// Which changed files do, where not all do.
    pub paths: Vec<String>,
}

impl WatchedPipeline {
    /// The kinds of references, besides the watched branch, that set it off, as causes.
    fn kinds(&self) -> impl Iterator<Item = (&'static str, IsOfKind)> {
        let Triggers { branches, tags, pull_requests, .. } = &self.triggers;
        let branches = branches.as_ref().is_some_and(|branches| !branches.is_empty());
        let all: [(bool, &'static str, IsOfKind); 3] = [
            (branches, "branches", |kind| matches!(kind, RefKind::Branch(_))),
            (!tags.is_empty(), "tags", |kind| matches!(kind, RefKind::Tag(_))),
            (*pull_requests, "pull requests", |kind| matches!(kind, RefKind::PullRequest(_))),
        ];
        all.into_iter().filter(|(wanted, ..)| *wanted).map(|(_, words, is)| (words, is))
    }
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
    /// What a person can do about it, where that is known.
    pub next: Option<String>,
    /// Whether the repository has answered and only lacks the branch so far.
    pub answered: bool,
}

impl Unseen {
    fn note(&self, repository: &RepositoryName) -> String {
        let note = format!("repository `{repository}`: {}; trying again", self.problem.reason);
        match &self.next {
            Some(next) => format!("{note}\n next: {next}"),
            None => note,
        }
    }
}

impl From<GitError> for Unseen {
    fn from(error: GitError) -> Self {
        let answered = matches!(error, GitError::NoBranch { .. });
        let next = error.next().map(str::to_owned);
        Self { problem: error.into(), next, answered }
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
                Err(unseen) => {
                    pace.heard(unseen.answered);
                    if complaint.as_ref() != Some(&unseen.problem.reason) {
                        parts.events.note(unseen.note(&watched.source.name));
                        complaint = Some(unseen.problem.reason);
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
    let main = GitRef::branch(&source.branch);
    let (found, heads) = match references(parts, watched, &main).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.into())),
    };
    // Runs from a journal that was restored need what is in no mirror yet.
    if !parts.git.is_mirrored(&source.name) && !found.is_empty() {
        let references: Vec<GitRef> = found.keys().cloned().collect();
        if let Err(error) = parts.git.fetch(source, &references).await {
            return Ok(Err(error.into()));
        }
    }
    let before = parts.journal.seen(&source.name, &main)?;
    let new = new_kinds(parts, watched)?;
    let moved: BTreeMap<GitRef, CommitId> =
        found.into_iter().filter(|(reference, commit)| before.get(reference) != Some(commit)).collect();
    if moved.is_empty() {
        settle_kinds(parts, watched, &new)?;
        return Ok(Ok(Vec::new()));
    }
    // The commit's subject goes into the journal.
    if let Err(problem) = parts.learn().await {
        return Ok(Err(Unseen { problem, next: None, answered: false }));
    }
    let wanted = Wanted { watched, main: &main, before: &before, new: &new, heads: &heads };
    let runs = match wanted.runs(parts, &moved).await {
        Ok(runs) => runs,
        Err(error) => return Ok(Err(error.into())),
    };
    let observed = parts.journal.observe(Utc::now(), &source.name, &moved, &runs)?;
    settle_kinds(parts, watched, &new)?;
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
            && let Some(run) =
                runs.iter().find(|run| run.pipeline == found.pipeline && run.reference == found.reference)
        {
            announce(parts, *id, run)?;
        }
    }
    Ok(Ok(observed.queued))
}

/// Where the references stand that set something off, and the heads of all branches where pull requests do.
async fn references(
    parts: &Parts,
    watched: &Watched,
    main: &GitRef,
) -> Result<(BTreeMap<GitRef, CommitId>, BTreeSet<CommitId>), GitError> {
    let source = &watched.source;
    if watched.pipelines.iter().all(|pipeline| pipeline.kinds().next().is_none()) {
        let head = parts.git.head(source).await?;
        return Ok((BTreeMap::from([(main.clone(), head)]), BTreeSet::new()));
    }
    let pull_requests = watched.pipelines.iter().any(|pipeline| pipeline.triggers.pull_requests);
    let mut found = parts.git.references(source, pull_requests).await?;
    let mut all = watched.pipelines.iter();
    if !found.contains_key(main)
        && all.any(|pipeline| set_off(&pipeline.triggers, main, main).is_some())
        && found.is_empty()
    {
        return Err(GitError::NoBranch { url: source.name.to_string(), branch: source.branch.clone() });
    }
    let is_branch = |reference: &GitRef| matches!(reference.kind(), RefKind::Branch(_));
    let heads = found.iter().filter(|(reference, _)| is_branch(reference)).map(|(_, head)| head.clone());
    let heads = if pull_requests { heads.collect() } else { BTreeSet::new() };
    found.retain(|reference, _| {
        watched.pipelines.iter().any(|pipeline| set_off(&pipeline.triggers, main, reference).is_some())
    });
    Ok((found, heads))
}

/// The kinds of references that a pipeline is set off by and was not before, with their words. What is there already of
/// such a kind sets nothing off.
fn new_kinds(
    parts: &Parts,
    watched: &Watched,
) -> Result<BTreeSet<(PipelineName, &'static str)>, JournalError> {
    let mut new = BTreeSet::new();
    for pipeline in &watched.pipelines {
        for (words, _) in pipeline.kinds() {
            if parts.journal.mark(Cause { pipeline: &pipeline.name, words })?.is_none() {
                new.insert((pipeline.name.clone(), words));
            }
        }
    }
    Ok(new)
}

/// Notes that what is there of new kinds has been seen.
fn settle_kinds(
    parts: &Parts,
    watched: &Watched,
    new: &BTreeSet<(PipelineName, &'static str)>,
) -> Result<(), JournalError> {
    for (pipeline, words) in new {
        parts.journal.start(
            Utc::now(),
            Cause { pipeline, words },
            None,
            watched.source.name.as_str(),
            None,
        )?;
    }
    Ok(())
}

/// What moved references set off.
struct Wanted<'a> {
    watched: &'a Watched,
    main: &'a GitRef,
    before: &'a BTreeMap<GitRef, CommitId>,
    new: &'a BTreeSet<(PipelineName, &'static str)>,
    /// The heads of the repository's branches.
    heads: &'a BTreeSet<CommitId>,
}

impl Wanted<'_> {
    async fn runs(&self, parts: &Parts, moved: &BTreeMap<GitRef, CommitId>) -> Result<Vec<NewRun>, GitError> {
        let source = &self.watched.source;
        let references: Vec<GitRef> = moved.keys().cloned().collect();
        let mut runs = Vec::new();
        parts.git.fetch(source, &references).await?;
        for (reference, id) in moved {
            let pipelines = self.watched.pipelines.iter().filter_map(|pipeline| {
                let trigger = set_off(&pipeline.triggers, self.main, reference)?;
                (!self.is_old(pipeline, reference)).then_some((pipeline, trigger))
            });
            let pipelines: Vec<_> = pipelines.collect();
            if pipelines.is_empty() {
                continue;
            }
            let commit = parts.git.commit(&source.name, id.as_str()).await?;
            let changed = self.changed(parts, reference, &commit.id, &pipelines).await?;
            for (pipeline, trigger) in pipelines {
                let is_meant = match &changed {
                    Some(changed) if trigger != Trigger::Tag => fit(&pipeline.paths, changed),
                    _ => true,
                };
                if is_meant {
                    // Somebody has pushed the commit to a branch who may do that.
                    let own = trigger == Trigger::PullRequest && self.heads.contains(id);
                    let trigger = if own { Trigger::OwnPullRequest } else { trigger };
                    runs.push(NewRun {
                        pipeline: pipeline.name.clone(),
                        repository: source.name.clone(),
                        commit: commit.id.clone(),
                        subject: commit.subject.clone(),
                        trigger,
                        reference: Some(reference.clone()),
                        parameters: BTreeMap::new(),
                        asked_by: None,
                    });
                }
            }
        }
        Ok(runs)
    }

    /// Whether the reference was there before the pipeline wanted to know of its kind.
    fn is_old(&self, pipeline: &WatchedPipeline, reference: &GitRef) -> bool {
        reference != self.main
            && pipeline
                .kinds()
                .any(|(words, is)| is(reference.kind()) && self.new.contains(&(pipeline.name.clone(), words)))
    }

    /// The files that a moved reference has changed, where a pipeline asks for that. What is pushed first sets everything
    /// off, and so does what replaces something that is gone; a pull request changes what the watched branch has.
    async fn changed(
        &self,
        parts: &Parts,
        reference: &GitRef,
        to: &CommitId,
        pipelines: &[(&WatchedPipeline, Trigger)],
    ) -> Result<Option<Vec<Vec<u8>>>, GitError> {
        if pipelines.iter().all(|(pipeline, _)| pipeline.paths.is_empty()) {
            return Ok(None);
        }
        let from = match reference.kind() {
            RefKind::PullRequest(_) => self.before.get(self.main),
            RefKind::Branch(_) | RefKind::Tag(_) => self.before.get(reference),
        };
        match from {
            Some(from) => parts.git.changed(&self.watched.source.name, from, to).await,
            None => Ok(None),
        }
    }
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
