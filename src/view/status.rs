//! Services: where they run, which version, how healthy, since when.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::table::table;
use super::time;
use crate::model::service::{FailedInstance, Instance, Origin, Revision, RevisionState, ServiceStatus};

/// All services, one line each.
pub fn services(services: &[ServiceStatus], now: DateTime<Utc>) -> String {
    if services.is_empty() {
        return "No services run in this cluster.\n".to_owned();
    }
    let rows: Vec<_> = services
        .iter()
        .map(|service| {
            let current = current(service);
            vec![
                service.name.to_string(),
                current.map_or_else(|| "-".to_owned(), |revision| revision.number.to_string()),
                current.map_or_else(|| "-".to_owned(), |revision| revision.image()),
                current.map_or_else(|| "-".to_owned(), |revision| origin(&revision.origin)),
                format!("{}/{}", service.healthy(), service.desired),
                state(service, current),
                current.map_or_else(|| "-".to_owned(), |revision| ago(revision.since, now)),
            ]
        })
        .collect();
    table(&["SERVICE", "REVISION", "IMAGE", "FROM", "HEALTHY", "STATE", "SINCE"], &rows)
}

/// The state of a service, with what was changed manually.
fn state(service: &ServiceStatus, current: Option<&Revision>) -> String {
    match (manual(service), current) {
        _ if service.stopped => "stopped".to_owned(),
        (Some(_), Some(revision)) => format!("{}, scaled manually", revision.words()),
        (None, Some(revision)) => revision.words(),
        (_, None) => "-".to_owned(),
    }
}

/// How the number of instances differs from the file's, if it was set manually.
fn manual(service: &ServiceStatus) -> Option<String> {
    match (service.stopped, service.scaled_from) {
        (true, _) => Some(format!("stopped; `fleetwright start {}` starts it", service.name)),
        (false, Some(count)) => Some(format!("scaled manually, its file says {count}")),
        (false, None) => None,
    }
}

/// One service in full.
pub fn service(service: &ServiceStatus, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    let manual = manual(service).map_or_else(String::new, |words| format!(" ({words})"));
    let healthy = format!("{}/{} healthy{manual}", service.healthy(), service.desired);
    let _ = match current(service) {
        Some(revision) => writeln!(
            text,
            "{}   revision {}   {}   {}{healthy}   {}",
            service.name,
            revision.number,
            revision.image(),
            from(&revision.origin),
            match revision.state {
                RevisionState::RollingOut =>
                    format!("{} for {}", revision.words(), since(revision.since, now)),
                RevisionState::Running | RevisionState::Replaced | RevisionState::RolledBack => {
                    format!("rolled out {}", ago(revision.since, now))
                }
                RevisionState::Failed => format!("failed {}", ago(revision.since, now)),
            },
        ),
        None => writeln!(text, "{}   {healthy}", service.name),
    };
    if !service.instances.is_empty() {
        let rows: Vec<_> = service.instances.iter().map(|one| instance(one, now)).collect();
        text.push('\n');
        text.push_str(&table(&["INSTANCE", "MACHINE", "ADDRESS", "STATE", "IMAGE", "SINCE", ""], &rows));
    }
    if !service.history.is_empty() {
        text.push_str("\nHISTORY\n");
        text.push_str(&history(&service.history, now));
    }
    // Older failures are in the history; the newest is what people are about to mend.
    if let Some((revision, failed)) = newest_failure(service) {
        let _ = writeln!(text, "\nWHY REVISION {} FAILED ({})", revision.number, ago(failed.at, now));
        for line in failed.report() {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// How the newest revision failed, if it did.
pub fn newest_failure(service: &ServiceStatus) -> Option<(&Revision, &FailedInstance)> {
    let newest = service.history.first()?;
    Some((newest, newest.failed.as_ref()?))
}

/// The revision that runs, or is on its way.
fn current(service: &ServiceStatus) -> Option<&Revision> {
    let of = |wanted: &[RevisionState]| service.history.iter().find(|one| wanted.contains(&one.state));
    of(&[RevisionState::RollingOut, RevisionState::Running]).or_else(|| service.history.first())
}

fn instance(one: &Instance, now: DateTime<Utc>) -> Vec<String> {
    let addresses: Vec<_> = one.addresses.iter().map(ToString::to_string).collect();
    vec![
        one.name.clone(),
        one.machine.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        if addresses.is_empty() { "-".to_owned() } else { addresses.join(",") },
        one.state.word().to_owned(),
        one.digest.as_ref().map_or_else(|| "-".to_owned(), crate::model::name::Digest::short),
        since(one.since, now),
        remark(one),
    ]
}

/// Why an instance waits or failed, and whether that is not the first time.
fn remark(one: &Instance) -> String {
    let restarts = match one.restarts {
        0 => None,
        1 => Some("restarted once".to_owned()),
        times => Some(format!("restarted {times} times")),
    };
    restarts.into_iter().chain(one.message.clone()).collect::<Vec<_>>().join("; ")
}

fn history(revisions: &[Revision], now: DateTime<Utc>) -> String {
    let rows: Vec<_> = revisions
        .iter()
        .map(|revision| {
            let subject = match (&revision.reason, revision.origin.subject.as_str()) {
                (Some(reason), _) => reason.clone(),
                (None, "") => String::new(),
                (None, subject) => format!("\"{subject}\""),
            };
            vec![
                revision.number.to_string(),
                revision.words(),
                commit(&revision.origin),
                ago(revision.since, now),
                subject,
            ]
        })
        .collect();
    // The heading is the section's: the first line of the table is left out.
    let text = table(&["", "", "", "", ""], &rows);
    text.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
}

fn from(origin: &Origin) -> String {
    match (origin.commit.is_empty(), origin.subject.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("from {}   ", self::origin(origin)),
        (false, false) => format!("from {} \"{}\"   ", self::origin(origin), origin.subject),
    }
}

fn origin(origin: &Origin) -> String {
    if origin.commit.is_empty() {
        "by hand".to_owned()
    } else {
        format!("{}@{}", origin.repository, commit(origin))
    }
}

fn commit(origin: &Origin) -> String {
    if origin.commit.is_empty() { "by hand".to_owned() } else { origin.commit.chars().take(7).collect() }
}

fn since(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    // A clock that is a little ahead must not make a time negative.
    let span = (now - then).to_std().unwrap_or(Duration::ZERO);
    match span.as_secs() {
        seconds @ 0..10 => format!("{seconds} s"),
        _ => time::human(span),
    }
}

fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ago", since(then, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::{InstanceState, PreDeployState};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).expect("a time")
    }

    fn revision(number: u64, state: RevisionState, seconds: i64, reason: Option<&str>) -> Revision {
        Revision {
            number,
            digest: format!("sha256:{}41ab", "9f2c".repeat(15)).parse().ok(),
            origin: Origin {
                repository: "shop".into(),
                commit: format!("{number}b1d0e7").repeat(6)[..40].to_owned(),
                subject: "faster search".into(),
            },
            state,
            reason: reason.map(str::to_owned),
            failed: None,
            pre_deploy: None,
            since: at(seconds),
        }
    }

    fn web() -> ServiceStatus {
        let instance = |slot: u32, machine: &str, state, message: Option<&str>| Instance {
            id: format!("task{slot}"),
            name: format!("web@{slot}"),
            machine: Some(machine.parse().expect("a machine")),
            ports: Vec::new(),
            addresses: vec![format!("10.0.1.{slot}:20001").parse().expect("an address")],
            state,
            digest: revision(1, RevisionState::Running, 0, None).digest,
            restarts: 0,
            message: message.map(str::to_owned),
            since: at(60),
        };
        let mut pending =
            instance(3, "i-0", InstanceState::Pending, Some("no suitable node (insufficient resources)"));
        pending.machine = None;
        pending.addresses.clear();
        pending.digest = None;
        ServiceStatus {
            name: "web".parse().expect("a name"),
            desired: 3,
            scaled_from: Some(2),
            stopped: false,
            instances: vec![
                instance(1, "i-0d3c", InstanceState::Healthy, None),
                Instance { restarts: 3, ..instance(2, "i-0f11", InstanceState::Stopping, None) },
                pending,
            ],
            history: vec![
                Revision {
                    failed: Some(FailedInstance {
                        name: "web@1".into(),
                        machine: Some("i-0d3c".parse().expect("a machine")),
                        at: at(120),
                        exit: 137,
                        error: None,
                        out_of_memory: false,
                        probe: Some("500 from /health".into()),
                        lines: vec!["listening on 8080".into(), "no database: connection refused".into()],
                    }),
                    ..revision(
                        12,
                        RevisionState::RolledBack,
                        100,
                        Some("web@1 never became healthy: 500 from /health"),
                    )
                },
                revision(11, RevisionState::Running, 0, None),
                revision(9, RevisionState::Replaced, -7_000, None),
            ],
        }
    }

    #[test]
    fn a_service_in_full() {
        insta::assert_snapshot!(service(&web(), at(240)));
    }

    #[test]
    fn a_service_whose_next_revision_runs_its_command() {
        let mut web = web();
        let next = Revision {
            pre_deploy: Some(PreDeployState::Running),
            ..revision(13, RevisionState::RollingOut, 200, None)
        };
        web.history.insert(0, next);
        web.history[1].pre_deploy = Some(PreDeployState::Failed);
        web.instances.truncate(1);
        insta::assert_snapshot!(service(&web, at(240)));
    }

    #[test]
    fn all_services() {
        let mut by_hand = web();
        by_hand.name = "batch".parse().expect("a name");
        by_hand.history.truncate(0);
        by_hand.instances.clear();
        by_hand.scaled_from = None;
        insta::assert_snapshot!(services(&[by_hand, web()], at(240)));
        assert_eq!(services(&[], at(0)), "No services run in this cluster.\n");
    }
}
