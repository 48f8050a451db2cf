//! Jobs and their occurrences.

use chrono::{DateTime, Utc};

use super::table::table;
use super::time::human;
use crate::model::job::{JobStatus, Occurrence, Progress};

/// How long an occurrence ran, ` in 4.1 s`; empty where that is not known.
pub fn took(one: &Occurrence) -> String {
    let ran = one.started.zip(one.ended).and_then(|(from, to)| (to - from).to_std().ok());
    ran.map_or_else(String::new, |ran| format!(" in {}", human(ran)))
}

fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    match (now - at).to_std() {
        Ok(passed) => format!("{} ago", human(passed)),
        Err(_) => format!("in {}", human((at - now).to_std().unwrap_or_default())),
    }
}

fn state(one: &Occurrence) -> String {
    match one.progress {
        Progress::Waiting => "waiting".to_owned(),
        Progress::Starting if one.attempts > 0 => "failed, to be tried again".to_owned(),
        Progress::Starting => "starting".to_owned(),
        Progress::Running => "running".to_owned(),
        Progress::Ended(outcome) => outcome.label().to_owned(),
    }
}

/// A table of jobs.
pub fn list(jobs: &[JobStatus], now: DateTime<Utc>) -> String {
    if jobs.is_empty() {
        return "The cluster has no jobs; `fleetwright deploy` deploys those in jobs/.\n".to_owned();
    }
    let dash = || "-".to_owned();
    let rows: Vec<_> = jobs
        .iter()
        .map(|job| {
            let schedule = job.schedule.as_ref().map(|cron| match job.timezone.as_deref() {
                None | Some("UTC") => cron.clone(),
                Some(zone) => format!("{cron} {zone}"),
            });
            let last = job.occurrences.first();
            vec![
                job.name.to_string(),
                schedule.unwrap_or_else(dash),
                job.next.map_or_else(dash, |at| ago(at, now)),
                last.map_or_else(dash, |one| ago(one.at, now)),
                match (&job.problem, last) {
                    (Some(problem), _) => problem.clone(),
                    (None, Some(one)) => state(one),
                    (None, None) => dash(),
                },
            ]
        })
        .collect();
    table(&["JOB", "SCHEDULE", "NEXT", "LAST", "STATE"], &rows)
}

/// A table of occurrences.
pub fn history(occurrences: &[Occurrence], now: DateTime<Utc>) -> String {
    if occurrences.is_empty() {
        return "Nothing has run yet.\n".to_owned();
    }
    let dash = || "-".to_owned();
    let rows: Vec<_> = occurrences
        .iter()
        .map(|one| {
            let ran = one.started.zip(one.ended).and_then(|(from, to)| (to - from).to_std().ok());
            vec![
                format!("{}.{}", one.id.of, one.id.key),
                ago(one.at, now),
                state(one),
                ran.map_or_else(dash, human),
                one.attempts.to_string(),
                one.exit.map_or_else(dash, |exit| exit.to_string()),
                one.machine.as_ref().map_or_else(dash, ToString::to_string),
                one.reason
                    .clone()
                    .or_else(|| one.by.as_ref().map(|by| format!("asked for by {by}")))
                    .unwrap_or_default(),
            ]
        })
        .collect();
    table(&["OCCURRENCE", "DUE", "STATE", "TOOK", "ATTEMPTS", "EXIT", "MACHINE", "REASON"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::{OccurrenceId, Outcome};

    #[test]
    fn jobs_and_their_history() {
        let at = |text: &str| format!("2026-11-29T{text}Z").parse::<DateTime<Utc>>().expect("a time");
        let now = at("02:31:00");
        let one = |key: &str, progress, exit: Option<i64>, reason: Option<&str>| Occurrence {
            id: format!("job.report.{key}").parse::<OccurrenceId>().expect("an id"),
            at: at("02:30:00"),
            by: None,
            progress,
            attempts: u32::from(exit.is_some()),
            started: exit.map(|_| at("02:30:01")),
            ended: exit.map(|_| at("02:30:05")),
            exit,
            reason: reason.map(str::to_owned),
            machine: exit.map(|_| "i-1".parse().expect("an id")),
            task: None,
            lines: Vec::new(),
        };
        let mut asked = one("x1", Progress::Ended(Outcome::Succeeded), Some(0), None);
        asked.by = Some("arn:aws:iam::1:user/ada".to_owned());
        let occurrences = vec![
            one("202611290230", Progress::Ended(Outcome::Failed), Some(1), Some("it exited with status 1")),
            one(
                "202611290200",
                Progress::Ended(Outcome::Skipped),
                None,
                Some("an earlier occurrence had not ended"),
            ),
            asked,
        ];
        let job = JobStatus {
            name: "report".parse().expect("a name"),
            number: 1,
            schedule: Some("*/30 * * * *".to_owned()),
            timezone: Some("Europe/Berlin".to_owned()),
            next: Some(at("03:00:00")),
            problem: None,
            occurrences: occurrences.clone(),
        };
        insta::assert_snapshot!("jobs", list(&[job], now));
        insta::assert_snapshot!("history", history(&occurrences, now));
        assert_eq!(took(&occurrences[0]), " in 4.0 s");
    }
}
