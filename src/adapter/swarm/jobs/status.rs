//! Jobs as people see them.

use super::objects::{Claim, Settled};
use super::{View, reason_of};
use crate::model::job::{JobStatus, Jobs, Kind, Occurrence, Progress};
use crate::model::occurrence::{Attempt, Claimed, Permit, Task};

/// All jobs of a view.
pub fn jobs(view: &View) -> Jobs {
    let of = |kind: Kind, name: Option<&str>| {
        let mut found: Vec<Occurrence> = view
            .objects
            .claims
            .iter()
            .filter(|claim| claim.id.kind == kind && name.is_none_or(|name| claim.id.of == name))
            .map(|claim| occurrence(view, claim))
            .collect();
        found.sort_by_key(|one| std::cmp::Reverse((one.at, one.id.clone())));
        found
    };
    let mut jobs: Vec<JobStatus> = view
        .jobs
        .iter()
        .filter_map(|job| {
            let definition = view.objects.definition(&job.name)?;
            let stored = definition.content.as_ref()?.as_ref();
            let schedule = stored.ok().and_then(|stored| stored.job.spec.schedule.clone());
            Some(JobStatus {
                name: job.name.clone(),
                number: definition.number,
                timezone: schedule.as_ref().map(|schedule| schedule.timezone.clone()),
                schedule: schedule.map(|schedule| schedule.cron),
                next: job.times.as_ref().and_then(|times| times.after(view.observed.at)),
                problem: stored.err().cloned(),
                occurrences: of(Kind::Job, Some(job.name.as_str())),
            })
        })
        .collect();
    jobs.sort_by(|a, b| a.name.cmp(&b.name));
    Jobs { version: 1, jobs, commands: of(Kind::Command, None) }
}

fn occurrence(view: &View, claim: &Claim) -> Occurrence {
    let stored = claim.content.as_ref().ok();
    let at = stored.map_or(claim.object.created, |stored| stored.at);
    let by = stored.and_then(|stored| stored.by.clone());
    let blank = Occurrence {
        id: claim.id.clone(),
        at,
        by,
        progress: Progress::Waiting,
        attempts: 0,
        started: None,
        ended: None,
        exit: None,
        reason: claim.content.as_ref().err().cloned(),
        machine: None,
        task: None,
        lines: Vec::new(),
    };
    if let Some(settled) = &claim.settled {
        let Settled { outcome, reason, attempts, started, ended, exit, machine, lines, .. } = settled.clone();
        let progress = Progress::Ended(outcome);
        return Occurrence { progress, attempts, started, ended, exit, reason, machine, lines, ..blank };
    }
    match view.claimed.iter().find(|one| one.id == claim.id) {
        Some(one) => open(view, one, blank),
        None => blank,
    }
}

/// One that has not ended.
fn open(view: &View, one: &Claimed, blank: Occurrence) -> Occurrence {
    let held = |attempt: &&Attempt| matches!(attempt.permit, Permit::Held { .. });
    let attempts = u32::try_from(one.attempts.iter().filter(held).count()).unwrap_or(u32::MAX);
    let Some(last) = one.attempts.last() else { return blank };
    let permit = view.objects.permit(&one.id, last.number);
    let machine = permit.and_then(|permit| permit.state.machine.clone());
    match &last.permit {
        Permit::Held { since, end: None, lost, .. } => Occurrence {
            progress: Progress::Running,
            attempts,
            started: Some(*since),
            machine,
            task: permit.and_then(|permit| permit.state.task.clone()),
            reason: lost.map(|_| "its machine does not answer".to_owned()),
            ..blank
        },
        Permit::Held { since, end: Some(end), .. } => Occurrence {
            progress: Progress::Starting,
            attempts,
            started: Some(*since),
            ended: Some(end.at),
            machine,
            reason: permit.and_then(|permit| reason_of(permit.state.end.as_ref()?)),
            ..blank
        },
        Permit::Free | Permit::Void { .. } => {
            let reason = match &last.service {
                Some(Task::Waiting { message }) => message.clone(),
                Some(Task::None | Task::Running | Task::Ended { .. } | Task::Lost) | None => None,
            };
            Occurrence { progress: Progress::Starting, attempts, reason, ..blank }
        }
    }
}
