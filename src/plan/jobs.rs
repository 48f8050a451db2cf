//! What happens to jobs: which occurrences are claimed, started, stopped, tried again and recorded.
//!
//! Several machines may believe that they lead, each with a view that is seconds old, and any of them
//! may die between two steps. So nothing is decided by a view. Three kinds of objects decide, each
//! created once or changed only as it was seen: the claim of an occurrence, whose name follows from the
//! job and the time; the permit of an attempt, which either the attempt takes before it executes the
//! command or a leader takes to make sure that it never will; and the outcome, a mark on the claim that
//! follows from the permits alone. What is returned here may therefore be carried out late, twice, or
//! not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::duration::human;
use crate::model::job::{Kind, OccurrenceId, Outcome, Overlap};
use crate::model::occurrence::{Action, Attempt, Claimed, End, Exit, Job, Permit, Rules, Stop, Task, Void};

pub mod permit;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// How late an occurrence may be started without `catch_up`: a change of leaders takes half a minute.
pub const PUNCTUAL: Duration = Duration::from_secs(90);
/// How long an attempt may wait for a machine and its image.
pub const STARTING: Duration = Duration::from_secs(600);
/// How long the report of a machine on an ended container is waited for.
pub const REPORT: Duration = Duration::from_secs(10);
/// How long a machine may not answer until what ran there counts as unknown.
pub const LOST: Duration = Duration::from_secs(60);
/// How many settled occurrences of a job are kept.
pub const KEPT: usize = 20;
/// How many occurrences wait behind one that runs.
pub const QUEUE: usize = 10;
/// How many missed occurrences are recorded at once: the newest.
pub const MISSED: usize = 5;
/// How long the container of a job's last occurrence is kept for its log.
const LOGS: Duration = Duration::from_secs(24 * 3600);
/// The same of a command: its caller reads the end of the log.
const COMMAND_LOGS: Duration = Duration::from_secs(15);
/// How long a command is recorded at least.
const COMMAND_KEPT: Duration = Duration::from_secs(3600);
/// How long after it was asked for a command may begin. A request that arrives later is a repeated one.
pub const COMMAND_FRESH: Duration = Duration::from_secs(600);
/// How often an attempt is begun again that never ran, because its machine went.
const MOVES: usize = 20;
/// How many times of a schedule are considered in one round: a week of minutes.
const TIMES: usize = 7 * 24 * 60;

/// How long after its `failures`th failure an occurrence is tried again.
pub fn delay(failures: u32) -> Duration {
    Duration::from_secs(10 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(300))
}

/// Whether `later` is at least that long after `earlier`.
fn passed(earlier: DateTime<Utc>, later: DateTime<Utc>, wait: Duration) -> bool {
    (later - earlier).to_std().is_ok_and(|passed| passed >= wait)
}

/// What is to be done at `now`.
pub fn decide(now: DateTime<Utc>, jobs: &[Job], claimed: &[Claimed]) -> Vec<Action> {
    let mut actions = Vec::new();
    for job in jobs {
        claims(now, job, claimed, &mut actions);
    }
    let mut groups: BTreeMap<(Kind, &str), Vec<&Claimed>> = BTreeMap::new();
    for one in claimed {
        groups.entry((one.id.kind, &one.id.of)).or_default().push(one);
    }
    for ((kind, of), all) in groups {
        let job = jobs.iter().find(|job| kind == Kind::Job && job.name.as_str() == of);
        group(now, kind, job, all, &mut actions);
    }
    actions
}

/// What is recorded when the cluster continues from what one machine holds, at `now`. Its state may be older
/// than what the others did: what had not begun in it may have run since. Nothing of that begins again.
pub fn begin_again(now: DateTime<Utc>, jobs: &[Job], claimed: &[Claimed]) -> Vec<Action> {
    let reason = "the cluster was recovered from one machine, on which it had not begun: it may or may not have \
                  run before that";
    let begun = |one: &Claimed| {
        // One that runs is followed to its end.
        one.attempts.last().is_some_and(|last| matches!(last.permit, Permit::Held { .. }))
    };
    let open = claimed.iter().filter(|one| one.outcome.is_none() && one.rules.is_some() && !begun(one));
    let unknown = open.map(|one| Action::Settle {
        id: one.id.clone(),
        outcome: Outcome::Unknown,
        reason: Some(reason.to_owned()),
    });
    let recorded = jobs.iter().map(|job| Action::Record { job: job.name.clone(), until: now });
    unknown.chain(recorded).collect()
}

/// Claims what is due.
fn claims(now: DateTime<Utc>, job: &Job, claimed: &[Claimed], actions: &mut Vec<Action>) {
    let Some(times) = &job.times else { return };
    let newest = claimed
        .iter()
        .filter(|one| one.id.kind == Kind::Job && one.id == OccurrenceId::due(&job.name, one.at))
        .map(|one| one.at)
        .max();
    let late = job.catch_up.unwrap_or_default().max(PUNCTUAL);
    let week = now - TimeDelta::days(7);
    let after = job.from.max(job.recorded).max(newest.unwrap_or(job.from)).max(week);
    let due = times.between(after, now, TIMES);
    let (missed, due): (Vec<_>, Vec<_>) =
        due.into_iter().partition(|at| passed(*at, now, late + Duration::from_nanos(1)));
    let newest = missed.len().saturating_sub(MISSED);
    let claim = |at: &DateTime<Utc>, missed| Action::Claim { job: job.name.clone(), at: *at, missed };
    actions.extend(missed[newest..].iter().map(|at| claim(at, true)));
    actions.extend(due.iter().map(|at| claim(at, false)));
}

/// What an occurrence may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It may begin and continue.
    First,
    /// It must end for a later one.
    Replaced,
    /// That many are before it; `last` if none is behind it.
    Behind { before: usize, last: bool },
    /// Its job was removed, or its revision is not to be rolled out any more.
    Removed,
}

fn group(now: DateTime<Utc>, kind: Kind, job: Option<&Job>, all: Vec<&Claimed>, actions: &mut Vec<Action>) {
    let (mut open, mut settled): (Vec<&Claimed>, Vec<&Claimed>) =
        all.into_iter().partition(|one| one.outcome.is_none());
    // A claim that was created after it had been forgotten counts for nothing.
    open.retain(|one| {
        let late =
            job.is_some_and(|job| one.id.is_due() && one.at <= job.recorded) && one.attempts.is_empty();
        if late {
            actions.push(Action::Forget { id: one.id.clone(), at: one.at });
        }
        !late
    });
    // What has begun continues, whatever was due before it.
    open.sort_by_key(|one| (one.attempts.is_empty(), one.at, one.id.clone()));
    let replaces = |one: &&Claimed| one.rules.is_some_and(|rules| rules.overlap == Overlap::Replace);
    let replaced = kind == Kind::Job && open.iter().skip(1).any(replaces);
    let running = open.iter().filter(|one| one.attempts.iter().any(runs_now)).count();
    for (index, one) in open.iter().enumerate() {
        let turn = match (kind, index) {
            (Kind::Command, _) => Turn::First,
            // It changes something that the versions share, so it is never stopped halfway.
            (Kind::Before, _) if one.attempts.iter().any(runs_now) => Turn::First,
            (Kind::Before, _) if !one.wanted => Turn::Removed,
            (Kind::Before, _) if running > 0 => Turn::Behind { before: running, last: true },
            (Kind::Before, _) => Turn::First,
            (Kind::Job, _) if job.is_none() => Turn::Removed,
            (Kind::Job, 0) if replaced => Turn::Replaced,
            (Kind::Job, 0) => Turn::First,
            (Kind::Job, before) => Turn::Behind { before, last: index + 1 == open.len() },
        };
        actions.extend(next(now, one, turn));
    }
    settled.sort_by_key(|one| std::cmp::Reverse((one.at, one.id.clone())));
    let oldest_open = open.iter().map(|one| one.at).min();
    let mut logs = true;
    for (index, one) in settled.iter().enumerate() {
        let Some((outcome, recorded)) = one.outcome else { continue };
        let ran = one.attempts.iter().any(|attempt| attempt.service.is_some());
        let keep = match kind {
            _ if outcome == Outcome::Unknown => Duration::ZERO,
            // The engine keeps a secret for as long as a container has it.
            _ if one.outdated => Duration::ZERO,
            Kind::Job if logs && job.is_some() => LOGS,
            Kind::Job => Duration::ZERO,
            Kind::Command | Kind::Before => COMMAND_LOGS,
        };
        logs &= !ran;
        if passed(recorded, now, keep) {
            let services = one.attempts.iter().filter(|attempt| attempt.service.is_some());
            let remove = |attempt: &Attempt| Action::Remove { id: one.id.clone(), attempt: attempt.number };
            actions.extend(services.map(remove));
        }
        if one.attempts.iter().any(|attempt| attempt.permit != Permit::Free) {
            actions.push(Action::Tidy { id: one.id.clone() });
        }
        let old = match kind {
            Kind::Job => oldest_open.is_none_or(|open| one.at < open),
            Kind::Command | Kind::Before => passed(recorded, now, COMMAND_KEPT),
        };
        // A revision that waits for it must find its outcome.
        let needed = kind == Kind::Before && one.wanted;
        if index >= KEPT && old && one.attempts.is_empty() && !needed {
            actions.push(Action::Forget { id: one.id.clone(), at: one.at });
        }
    }
}

/// Whether an attempt has its permit, and is not known to have ended.
fn runs_now(attempt: &Attempt) -> bool {
    matches!(attempt.permit, Permit::Held { end: None, .. })
}

/// What is to be done about an occurrence that has no outcome.
fn next(now: DateTime<Utc>, one: &Claimed, turn: Turn) -> Vec<Action> {
    let Some(rules) = one.rules else { return Vec::new() };
    let id = || one.id.clone();
    // What is left of earlier attempts is not needed.
    let last = one.attempts.last();
    let over = one.attempts.iter().filter(|attempt| {
        attempt.service.is_some() && (Some(*attempt) != last || matches!(attempt.permit, Permit::Void { .. }))
    });
    let mut actions: Vec<Action> =
        over.map(|attempt| Action::Remove { id: id(), attempt: attempt.number }).collect();
    let action = match last {
        None => begin(now, one, 1, turn),
        Some(Attempt { number, permit: Permit::Void { why, at }, .. }) => match why {
            Void::Withdrawn(outcome, reason) => {
                Some(Action::Settle { id: id(), outcome: *outcome, reason: Some(reason.clone()) })
            }
            Void::Moved => begin(now, one, number + 1, turn),
            Void::Failed(reason) => {
                again(now, one, rules, (Outcome::Failed, Some(reason.clone())), (*number, *at), turn)
            }
        },
        Some(attempt @ Attempt { permit: Permit::Free, .. }) => not_begun(now, one, attempt, turn),
        Some(Attempt { number, permit: Permit::Held { since, stop, lost, end }, service, .. }) => match end {
            Some(end) => ended(now, one, rules, (*number, *stop, end), turn),
            None => {
                let task = service.as_ref().unwrap_or(&Task::None);
                runs(now, one, rules, (*number, *since, *stop, *lost, task), turn)
            }
        },
    };
    actions.extend(action);
    actions
}

fn void(one: &Claimed, attempt: u32, why: Void) -> Option<Action> {
    Some(Action::Void { id: one.id.clone(), attempt, why })
}

/// The next attempt, of which there is nothing yet.
fn begin(now: DateTime<Utc>, one: &Claimed, attempt: u32, turn: Turn) -> Option<Action> {
    let withdrawn = |outcome, reason: &str| void(one, attempt, Void::Withdrawn(outcome, reason.to_owned()));
    let overlap = one.rules.map_or(Overlap::Skip, |rules| rules.overlap);
    match turn {
        Turn::Removed if one.id.kind == Kind::Before => {
            withdrawn(Outcome::Replaced, "its revision is not to be rolled out any more")
        }
        Turn::Removed => withdrawn(Outcome::Skipped, "the job was removed"),
        Turn::Replaced => withdrawn(Outcome::Replaced, "a later occurrence took its place"),
        Turn::Behind { before, last } => match overlap {
            Overlap::Skip => withdrawn(Outcome::Skipped, "an earlier occurrence had not ended"),
            Overlap::Queue if before > QUEUE => {
                withdrawn(Outcome::Skipped, &format!("{QUEUE} occurrences were waiting already"))
            }
            Overlap::Replace if !last => withdrawn(Outcome::Replaced, "a later occurrence took its place"),
            Overlap::Queue | Overlap::Replace => None,
        },
        Turn::First => {
            if let Some(problem) = &one.problem {
                return withdrawn(Outcome::Failed, problem);
            }
            if one.id.kind == Kind::Command && one.attempts.is_empty() && passed(one.at, now, COMMAND_FRESH) {
                return withdrawn(Outcome::Missed, "it could not be started when it was asked for");
            }
            let moves =
                one.attempts.iter().filter(|one| matches!(one.permit, Permit::Void { why: Void::Moved, .. }));
            if moves.count() >= MOVES {
                return withdrawn(Outcome::Failed, "its machines went before it could begin");
            }
            Some(Action::Start { id: one.id.clone(), attempt })
        }
    }
}

/// An attempt that has a service and no permit.
fn not_begun(now: DateTime<Utc>, one: &Claimed, attempt: &Attempt, turn: Turn) -> Option<Action> {
    let number = attempt.number;
    match turn {
        Turn::First => {}
        // Two leaders began two of them: this one gets its turn in another attempt.
        Turn::Behind { .. } => {
            let skips = one.rules.is_some_and(|rules| rules.overlap == Overlap::Skip);
            return if skips { begin(now, one, number, turn) } else { void(one, number, Void::Moved) };
        }
        Turn::Replaced | Turn::Removed => return begin(now, one, number, turn),
    }
    let failed = |reason: String| void(one, number, Void::Failed(reason));
    match attempt.service.as_ref().unwrap_or(&Task::None) {
        Task::Lost => void(one, number, Void::Moved),
        Task::Ended { at, reason, exit } => {
            // A permit may be on its way into this view.
            if !passed(*at, now, REPORT) {
                return None;
            }
            failed(match (reason, exit) {
                (Some(reason), _) => format!("could not start: {reason}"),
                (None, Some(exit)) => format!("it ended with status {exit} before it was permitted to run"),
                (None, None) => "it ended before it was permitted to run".to_owned(),
            })
        }
        Task::None | Task::Waiting { .. } | Task::Running if !passed(attempt.since, now, STARTING) => None,
        Task::Waiting { message: Some(message) } => failed(format!("it did not start: {message}")),
        Task::None | Task::Waiting { message: None } | Task::Running => failed("it did not start".to_owned()),
    }
}

/// An attempt that holds its permit and is not known to have ended.
fn runs(
    now: DateTime<Utc>,
    one: &Claimed,
    rules: Rules,
    (attempt, since, stop, lost, task): (u32, DateTime<Utc>, Option<Stop>, Option<DateTime<Utc>>, &Task),
    turn: Turn,
) -> Option<Action> {
    let id = one.id.clone();
    match (task, stop, lost) {
        (Task::Ended { at, exit, .. }, ..) => passed(*at, now, REPORT).then(|| {
            let exit = Exit::Status(*exit);
            Action::End { id, attempt, end: End { at: *at, exit } }
        }),
        (Task::Running | Task::Waiting { .. }, _, Some(_)) => Some(Action::Lost { id, attempt, lost: false }),
        (Task::Running | Task::Waiting { .. }, Some(why), None) => Some(Action::Stop { id, attempt, why }),
        (Task::Running | Task::Waiting { .. }, None, None) => {
            let late = rules.timeout.is_some_and(|timeout| passed(since, now, timeout));
            let why = match turn {
                _ if late => Stop::TimedOut,
                Turn::Replaced => Stop::Replaced,
                Turn::First | Turn::Behind { .. } | Turn::Removed => return None,
            };
            Some(Action::Stop { id, attempt, why })
        }
        // It was stopped, and the engine has forgotten it. Its machine may still report how it ended.
        (Task::None, Some(_), Some(lost)) => passed(lost, now, REPORT).then_some(Action::End {
            id,
            attempt,
            end: End { at: now, exit: Exit::Status(None) },
        }),
        (Task::None | Task::Lost, _, None) => Some(Action::Lost { id, attempt, lost: true }),
        (Task::None | Task::Lost, _, Some(lost)) => passed(lost, now, LOST).then_some(Action::End {
            id,
            attempt,
            end: End { at: now, exit: Exit::Unknown },
        }),
    }
}

/// An attempt that ran and ended.
fn ended(
    now: DateTime<Utc>,
    one: &Claimed,
    rules: Rules,
    (attempt, stop, end): (u32, Option<Stop>, &End),
    turn: Turn,
) -> Option<Action> {
    let settle = |outcome, reason: Option<&str>| {
        Some(Action::Settle { id: one.id.clone(), outcome, reason: reason.map(str::to_owned) })
    };
    match (end.exit, stop) {
        (Exit::Unknown, _) => settle(
            Outcome::Unknown,
            Some("its machine was lost while it ran: it may or may not have done its work"),
        ),
        (_, Some(Stop::Replaced)) => settle(Outcome::Replaced, Some("a later occurrence took its place")),
        (Exit::Status(status), Some(Stop::TimedOut)) => {
            let timeout = rules.timeout.unwrap_or_default();
            let reason = format!("it took longer than {}", human(timeout));
            // It may have done its work after all, at the last moment.
            if status.is_none_or(|status| status == 0) {
                return settle(Outcome::TimedOut, Some(&reason));
            }
            again(now, one, rules, (Outcome::TimedOut, Some(reason)), (attempt, end.at), turn)
        }
        (Exit::Status(Some(0)), None) => settle(Outcome::Succeeded, None),
        (Exit::Status(Some(_)), None) => {
            again(now, one, rules, (Outcome::Failed, None), (attempt, end.at), turn)
        }
        (Exit::Status(None), None) => settle(Outcome::Failed, None),
    }
}

/// Whether an attempt failed.
fn has_failed(attempt: &Attempt) -> bool {
    match &attempt.permit {
        Permit::Free | Permit::Void { why: Void::Moved | Void::Withdrawn(..), .. } => false,
        Permit::Void { why: Void::Failed(_), .. } => true,
        Permit::Held { stop, end, .. } => {
            end.as_ref().is_some_and(|end| *stop == Some(Stop::TimedOut) || end.exit != Exit::Status(Some(0)))
        }
    }
}

/// After a failure: another attempt, or the end.
fn again(
    now: DateTime<Utc>,
    one: &Claimed,
    rules: Rules,
    (outcome, reason): (Outcome, Option<String>),
    (attempt, at): (u32, DateTime<Utc>),
    turn: Turn,
) -> Option<Action> {
    let failures = one.attempts.iter().filter(|attempt| has_failed(attempt)).count();
    let failures = u32::try_from(failures).unwrap_or(u32::MAX);
    if failures > rules.retries {
        return Some(Action::Settle { id: one.id.clone(), outcome, reason });
    }
    let waits = turn == Turn::First && !passed(at, now, delay(failures));
    if waits { None } else { begin(now, one, attempt + 1, turn) }
}
