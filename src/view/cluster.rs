//! A cluster as a whole: its control machines, and what is kept of it.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::table::table;
use super::time;
use crate::model::cluster::{Answer, Asked, EngineState, LogEnd, View};
use crate::model::desired::{Bucket, Stored};
use crate::model::feature::Features;
use crate::model::job::Jobs;
use crate::model::name::{MachineId, ServiceName};
use crate::model::service::ServiceStatus;
use crate::plan::cluster::{self as plan, Health, Recovery};
use crate::plan::desired::described;

fn engine(view: &View) -> &'static str {
    match view.engine {
        EngineState::Out => "in no cluster",
        EngineState::Waiting => "waits for a majority",
        EngineState::Manager if view.leads() => "leads",
        EngineState::Manager => "follows",
        EngineState::Alone => "has no leader",
        EngineState::Worker => "worker",
        EngineState::Broken => "broken",
    }
}

fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ago", time::human((now - at).to_std().unwrap_or_default()))
}

/// The state of the whole, for people.
pub fn status(asked: &[Asked], now: DateTime<Utc>) -> String {
    let health = plan::health(asked);
    let machines =
        if asked.len() == 1 { "1 control machine" } else { &format!("{} control machines", asked.len()) };
    let mut text = format!("{machines}: {}\n", health.words());
    if let Some(view) = plan::best(asked) {
        let id = view.id.as_deref().unwrap_or("unknown");
        let restored = if view.restored { "" } else { ", its services are not restored yet" };
        let _ = writeln!(text, "cluster {id}, generation {}{restored}", view.generation);
    }
    let rows: Vec<Vec<String>> = asked
        .iter()
        .map(|one| match &one.answer {
            Answer::View(view) => vec![
                one.machine.clone(),
                view.address.to_string(),
                engine(view).to_owned(),
                view.log.map_or_else(|| "-".to_owned(), |log| format!("{}/{}", log.term, log.index)),
                lacking(view.features),
                view.message.clone().unwrap_or_default(),
            ],
            Answer::TooOld => {
                vec![
                    one.machine.clone(),
                    "-".into(),
                    "too old to say".into(),
                    "-".into(),
                    "-".into(),
                    String::new(),
                ]
            }
            Answer::Silent(reason) => {
                vec![
                    one.machine.clone(),
                    "-".into(),
                    "does not answer".into(),
                    "-".into(),
                    "-".into(),
                    reason.clone(),
                ]
            }
        })
        .collect();
    text.push('\n');
    text.push_str(&table(&["MACHINE", "ADDRESS", "STATE", "LOG", "LACKS", ""], &rows));
    text.push('\n');
    let etcd: Vec<bool> = asked.iter().filter_map(|one| Some(one.view()?.etcd?.healthy)).collect();
    if !etcd.is_empty() {
        let healthy = etcd.iter().filter(|healthy| **healthy).count();
        let majority = if healthy == 0 { ": no majority" } else { "" };
        let _ = writeln!(text, "etcd answers on {healthy} of {} machines{majority}.", etcd.len());
    }
    text.push_str(&kept(asked, now));
    let _ = writeln!(text, "{}", next_loss(health));
    text
}

fn lacking(features: Features) -> String {
    let lacking: Vec<&str> = Features::own().beyond(features).map(|feature| feature.word()).collect();
    if lacking.is_empty() { "nothing".to_owned() } else { lacking.join(", ") }
}

fn kept(asked: &[Asked], now: DateTime<Utc>) -> String {
    let leader = asked.iter().filter_map(Asked::view).find(|view| view.leads());
    let Some(leader) = leader else {
        return "Without a leader, nothing is written to the bucket.\n".to_owned();
    };
    let known = &leader.durability;
    let mut text = match (known.checked, &known.error) {
        (Some(at), None) => format!("The bucket has what the cluster had settled {}", ago(at, now)),
        (Some(at), Some(error)) => {
            format!(
                "The bucket has what the cluster had settled {}, and nothing later: {error}",
                ago(at, now)
            )
        }
        (None, Some(error)) => format!("The bucket can't be compared with the cluster: {error}"),
        (None, None) => "The leader has not compared the bucket with the cluster yet".to_owned(),
    };
    if let Some(at) = known.written {
        let _ = write!(text, "; last written {}", ago(at, now));
    }
    text.push_str(".\n");
    let names =
        |services: &[ServiceName]| services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !known.newer.is_empty() {
        let _ = writeln!(text, "The bucket has later revisions than the cluster of {}.", names(&known.newer));
    }
    if !known.unknown.is_empty() {
        let _ = writeln!(
            text,
            "The bucket has services that the cluster does not run: {}.",
            names(&known.unknown)
        );
    }
    for (service, reason) in &known.unreadable {
        let _ = writeln!(text, "The document of {service} in the bucket can't be read: {reason}.");
    }
    text
}

fn next_loss(health: Health) -> &'static str {
    match health {
        Health::Whole => {
            "Another control machine can be lost without effect. If all are lost, their successors restore the services from the bucket."
        }
        Health::Fragile => {
            "If another control machine is lost, nothing can be changed until it is back or `fleetwright cluster recover` is run."
        }
        Health::NoMajority => {
            "When enough control machines are back, they go on by themselves. If they are lost for good: `fleetwright cluster recover --dry-run`."
        }
        Health::Silent => {
            "If the control machines are lost for good, their successors restore the services from the bucket: `fleetwright cluster rebuild`."
        }
    }
}

/// The same as a document.
pub fn document(asked: &[Asked]) -> Value {
    let health = match plan::health(asked) {
        Health::Whole => "whole",
        Health::Fragile => "fragile",
        Health::NoMajority => "no-majority",
        Health::Silent => "silent",
    };
    let best = plan::best(asked);
    let leader = asked.iter().filter_map(Asked::view).find(|view| view.leads());
    let machines: Vec<Value> = asked
        .iter()
        .map(|one| match &one.answer {
            Answer::View(view) => json!({
                "machine": one.machine, "answers": true, "address": view.address, "engine": view.engine,
                "leads": view.leads(), "log": view.log, "features": view.features, "message": view.message,
                "etcd": view.etcd,
            }),
            Answer::TooOld => {
                json!({ "machine": one.machine, "answers": true, "message": "its agent is too old" })
            }
            Answer::Silent(reason) => json!({ "machine": one.machine, "answers": false, "message": reason }),
        })
        .collect();
    json!({
        "version": 1,
        "health": health,
        "id": best.and_then(|view| view.id.clone()),
        "generation": best.map(|view| view.generation),
        "restored": best.map(|view| view.restored),
        "machines": machines,
        "durability": leader.map(|view| &view.durability),
    })
}

/// What a recovery will do, for people.
pub fn recovery(cluster: Option<&Recovery>, etcd: Option<&(MachineId, LogEnd)>) -> String {
    let mut text = String::new();
    if let Some(recovery) = cluster {
        let log = recovery.log;
        let _ = writeln!(
            text,
            "The cluster goes on from {}, whose log is the newest that answers: term {}, entry {}.",
            recovery.machine, log.term, log.index
        );
        for machine in &recovery.join_again {
            let _ = writeln!(text, "  {machine}   gives up its own copy of the state and joins again");
        }
        for machine in &recovery.gone {
            let _ = writeln!(
                text,
                "  {machine}   does not answer: it is removed, and must not come back as it is"
            );
        }
    }
    if let Some((machine, log)) = etcd {
        let _ = writeln!(
            text,
            "etcd goes on from {machine}, whose data is the newest that answers: term {}, entry {}.",
            log.term, log.index
        );
    }
    text.push_str(
        "Lost is what only machines that do not answer had recorded; services that are in the project's bucket \
         are restored.\nWhat runs goes on running.\n",
    );
    text
}

/// The same as a document.
pub fn recovery_document(cluster: Option<&Recovery>, etcd: Option<&(MachineId, LogEnd)>) -> Value {
    json!({
        "version": 1,
        "machine": cluster.map(|recovery| &recovery.machine),
        "log": cluster.map(|recovery| recovery.log),
        "join_again": cluster.map(|recovery| &recovery.join_again),
        "removed": cluster.map(|recovery| &recovery.gone),
        "etcd": etcd.map(|(machine, log)| json!({ "machine": machine, "log": log })),
    })
}

/// What a rebuild does about one service or job.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuildRow {
    kind: &'static str,
    name: ServiceName,
    what: Rebuild,
}

#[derive(Debug, Clone, PartialEq)]
enum Rebuild {
    Present,
    Removed,
    Restore { revision: u64, image: String, digest: Option<String> },
    Unreadable(String),
}

/// The words for rows about services and about jobs.
const SERVICE: &str = "service";
const JOB: &str = "job";

impl RebuildRow {
    /// Whether it is restored.
    pub fn is_restored(&self) -> bool {
        matches!(self.what, Rebuild::Restore { .. })
    }

    /// Why its document can't be read, if it can't.
    pub fn unreadable(&self) -> Option<String> {
        match &self.what {
            Rebuild::Unreadable(reason) => Some(format!("{} `{}`: {reason}", self.kind, self.name)),
            Rebuild::Present | Rebuild::Removed | Rebuild::Restore { .. } => None,
        }
    }

    fn of(kind: &'static str, name: &ServiceName, stored: &Stored, newest: Option<u64>) -> Self {
        let what = match &stored.document {
            Err(reason) => Rebuild::Unreadable(reason.clone()),
            Ok(document) => match described(document) {
                None => Rebuild::Removed,
                Some(_) if newest.is_some_and(|newest| newest >= document.number) => Rebuild::Present,
                Some((kept, digest, image)) => Rebuild::Restore { revision: kept.number, image, digest },
            },
        };
        Self { kind, name: name.clone(), what }
    }
}

/// What a rebuild does about each service and job in the bucket; `present` is what the cluster has, where that
/// is known.
pub fn rebuild_rows(
    services: &Bucket,
    jobs: &Bucket,
    present: Option<&(Vec<ServiceStatus>, Jobs)>,
) -> Vec<RebuildRow> {
    let of_services = services.iter().map(|(name, stored)| {
        let known = present.and_then(|(services, _)| services.iter().find(|one| one.name == *name));
        let newest = known.and_then(|one| one.history.iter().map(|revision| revision.number).max());
        RebuildRow::of(SERVICE, name, stored, newest)
    });
    let of_jobs = jobs.iter().map(|(name, stored)| {
        let known =
            present.and_then(|(_, jobs)| jobs.jobs.iter().find(|one| one.name.as_str() == name.as_str()));
        RebuildRow::of(JOB, name, stored, known.map(|one| one.number))
    });
    of_services.chain(of_jobs).collect()
}

/// What a rebuild does, for people.
pub fn rebuild(rows: &[RebuildRow], changeable: bool) -> String {
    if rows.is_empty() {
        return "The project's bucket has no service and no job of this cluster.\n".to_owned();
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let mut line = vec![format!("{} {}", row.kind, row.name)];
            line.extend(match &row.what {
                Rebuild::Present => ["is there".to_owned(), String::new(), String::new()],
                Rebuild::Removed => ["was removed".to_owned(), String::new(), String::new()],
                Rebuild::Unreadable(reason) => ["can't be read".to_owned(), String::new(), reason.clone()],
                Rebuild::Restore { revision, image, digest } => [
                    "is restored".to_owned(),
                    revision.to_string(),
                    digest.as_ref().map_or_else(|| image.clone(), |digest| format!("{image}@{digest}")),
                ],
            });
            line
        })
        .collect();
    let mut text = table(&["", "", "REVISION", "IMAGE"], &lines);
    if !changeable {
        text.push_str("\nNo control machine leads a cluster now, so what it has is not known.\n");
    }
    text
}

/// The same as a document.
pub fn rebuild_document(rows: &[RebuildRow], changeable: bool) -> Value {
    let one = |row: &RebuildRow| {
        let (action, revision, digest, reason) = match &row.what {
            Rebuild::Present => ("none", None, None, None),
            Rebuild::Removed => ("removed", None, None, None),
            Rebuild::Unreadable(reason) => ("unreadable", None, None, Some(reason)),
            Rebuild::Restore { revision, digest, .. } => ("restore", Some(revision), digest.as_ref(), None),
        };
        json!({ row.kind: row.name, "action": action, "revision": revision, "digest": digest, "reason": reason })
    };
    let of = |kind| rows.iter().filter(|row| row.kind == kind).map(one).collect::<Vec<Value>>();
    json!({ "version": 1, "leads": changeable, "changes": rows.iter().any(RebuildRow::is_restored), "services": of(SERVICE), "jobs": of(JOB) })
}
