//! Runs that neither a push nor a person starts: those that are due, and those that follow others.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::queue::announce;
use super::run::{Parts, Wish};
use crate::model::git_ref::GitRef;
use crate::model::name::PipelineName;
use crate::model::run::{Run, RunId, Trigger};
use crate::model::schedule::Times;
use crate::port::git::{GitError, GitSource};
use crate::port::journal::{Cause, JournalError, NewRun};

/// How often the clock and the journal are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The longest wait after a repository could not be asked.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A time that was missed longer ago than this starts nothing any more.
const MISSED: TimeDelta = TimeDelta::hours(24);
/// How many missed times are counted. Only the last one starts a run.
const TIMES_MOST: usize = 2_000;

/// A pipeline that a schedule or another pipeline starts.
#[derive(Debug, Clone)]
pub struct Caused {
    /// The pipeline.
    pub name: PipelineName,
    /// Its repository and the branch that it watches.
    pub source: GitSource,
    /// When it is due, and the expression that says so.
    pub times: Option<(Times, String)>,
    /// The pipelines after whose success it runs.
    pub after: Vec<PipelineName>,
}

/// Starts runs of a pipeline until `wish` says otherwise. A failure is reported once and retried.
///
/// # Errors
/// When the journal can't be used.
pub async fn watch(
    parts: &Parts,
    caused: &Caused,
    mut wish: watch::Receiver<Wish>,
) -> Result<(), JournalError> {
    let mut complaint: Option<String> = None;
    let mut wait = LOOK;
    while *wish.borrow_and_update() == Wish::GoOn {
        match look(parts, caused, Utc::now()).await? {
            Ok(_) => {
                complaint = None;
                wait = LOOK;
            }
            Err(error) => {
                wait = (wait * 2).min(BACKOFF_MAX);
                let reason = error.to_string();
                if complaint.as_ref() != Some(&reason) {
                    let mut note = format!("pipeline `{}` is due: {reason}; trying again", caused.name);
                    if let Some(next) = error.next() {
                        note.push_str(&format!("\n next: {next}"));
                    }
                    parts.events.note(note);
                    complaint = Some(reason);
                }
            }
        }
        tokio::select! {
            _ = wish.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

/// Looks once; gives the runs that this has put into the queue.
///
/// # Errors
/// The outer error is the journal's, the inner one the repository's.
pub async fn look(
    parts: &Parts,
    caused: &Caused,
    now: DateTime<Utc>,
) -> Result<Result<Vec<RunId>, GitError>, JournalError> {
    let mut started = Vec::new();
    if let Some((times, words)) = &caused.times {
        let cause = Cause { pipeline: &caused.name, words };
        let mark = parts.journal.mark(cause)?;
        let next = match due(times, mark.as_deref(), now) {
            Due::No => None,
            Due::From(at) => {
                parts.journal.start(now, cause, mark.as_deref(), &at, None)?;
                None
            }
            Due::Now(at) => Some(at),
        };
        if let Some(at) = next {
            let run = match head(parts, caused, Trigger::Schedule).await {
                Ok(run) => run,
                Err(error) => return Ok(Err(error)),
            };
            let id = parts.journal.start(now, cause, mark.as_deref(), &at, Some(&run))?;
            started.extend(begun(parts, id, &run)?);
        }
    }
    for before in &caused.after {
        let words = format!("after {before}");
        let cause = Cause { pipeline: &caused.name, words: &words };
        let last = parts.journal.succeeded(before)?;
        let mark = parts.journal.mark(cause)?;
        let to = last.as_ref().map_or_else(|| "0".to_owned(), |run| run.id.to_string());
        match (&mark, last) {
            // What has run before the pipeline was there starts nothing.
            (None, _) => drop(parts.journal.start(now, cause, None, &to, None)?),
            (Some(mark), Some(last)) if *mark != to => {
                let run = match following(parts, caused, last).await {
                    Ok(run) => run,
                    Err(error) => return Ok(Err(error)),
                };
                let id = parts.journal.start(now, cause, Some(mark), &to, Some(&run))?;
                started.extend(begun(parts, id, &run)?);
            }
            (Some(_), _) => {}
        }
    }
    Ok(Ok(started))
}

fn begun(parts: &Parts, id: Option<RunId>, run: &NewRun) -> Result<Option<RunId>, JournalError> {
    if let Some(id) = id {
        announce(parts, id, run)?;
    }
    Ok(id)
}

/// Whether something is due.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Nothing is.
    No,
    /// What is due from that time on is run; nothing is due now.
    From(String),
    /// Something is, and was at that time.
    Now(String),
}

fn due(times: &Times, mark: Option<&str>, now: DateTime<Utc>) -> Due {
    let written = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let Some(from) = mark.and_then(|mark| DateTime::parse_from_rfc3339(mark).ok()) else {
        return Due::From(written(now));
    };
    // Long gaps are not counted through: what matters is the last time before now.
    let from = from.to_utc().max(now - MISSED);
    match times.between(from, now, TIMES_MOST).last() {
        None => Due::No,
        Some(last) => Due::Now(written(*last)),
    }
}

/// A run of the head of the watched branch.
async fn head(parts: &Parts, caused: &Caused, trigger: Trigger) -> Result<NewRun, GitError> {
    let source = &caused.source;
    let head = parts.git.head(source).await?;
    parts.git.fetch(source, &[]).await?;
    let commit = parts.git.commit(&source.name, head.as_str()).await?;
    Ok(NewRun {
        pipeline: caused.name.clone(),
        repository: source.name.clone(),
        commit: commit.id,
        subject: commit.subject,
        trigger,
        reference: Some(GitRef::branch(&source.branch)),
        parameters: BTreeMap::new(),
        asked_by: None,
    })
}

/// A run that follows another: of the same commit where it is of the same repository.
async fn following(parts: &Parts, caused: &Caused, last: Run) -> Result<NewRun, GitError> {
    let because = format!("run {} of {}", last.id, last.pipeline);
    let run = if last.repository == caused.source.name {
        NewRun {
            pipeline: caused.name.clone(),
            repository: last.repository,
            commit: last.commit,
            subject: last.subject,
            trigger: Trigger::Pipeline,
            reference: last.reference,
            parameters: BTreeMap::new(),
            asked_by: None,
        }
    } else {
        head(parts, caused, Trigger::Pipeline).await?
    };
    Ok(NewRun { asked_by: Some(because), ..run })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schedule::Schedule;

    #[test]
    fn of_what_was_missed_the_last_is_run_and_nothing_that_is_older_than_a_day() {
        let schedule = Schedule { cron: "0 3 * * *".into(), timezone: "UTC".into() };
        let times = schedule.times().expect("a schedule");
        let at = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").to_utc();
        let now = at("2026-11-30T12:00:00Z");
        assert_eq!(due(&times, None, now), Due::From("2026-11-30T12:00:00Z".into()));
        assert_eq!(due(&times, Some("2026-11-30T03:00:00Z"), now), Due::No);
        let three = Due::Now("2026-11-30T03:00:00Z".into());
        assert_eq!(due(&times, Some("2026-11-29T03:00:00Z"), now), three);
        assert_eq!(due(&times, Some("2026-11-01T03:00:00Z"), now), three, "once, however many were missed");
        let late = at("2026-12-02T02:00:00Z");
        assert_eq!(due(&times, Some("2026-11-30T03:00:00Z"), late), Due::Now("2026-12-01T03:00:00Z".into()));
        let rare = Schedule { cron: "0 3 1 * *".into(), timezone: "UTC".into() }.times().expect("a schedule");
        assert_eq!(due(&rare, Some("2026-10-15T00:00:00Z"), now), Due::No, "longer ago than a day");
    }
}
