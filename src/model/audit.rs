//! The record of changes: who did what, when, from where, and how it ended.
//!
//! A change is two events: one is stored before it is carried out, one after. A change
//! whose second event is missing has an unknown outcome. Each control machine stores the
//! events of the requests that it answered; readers merge those of all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::access::Level;

/// The version of stored and sent events; raised when a field changes its meaning.
pub const AUDIT_VERSION: u32 = 1;

/// The longest text in a record, in characters; what is longer is cut.
const LONGEST: usize = 300;

/// Somebody is about to change something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// [`AUDIT_VERSION`].
    pub version: u32,
    /// Distinguishes the change from any other.
    pub id: String,
    /// When it was about to be carried out.
    pub at: DateTime<Utc>,
    /// Who: an ARN, `token/NAME`, `machine/INSTANCE`, or `break-glass`.
    pub by: String,
    /// The level that this principal had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// The address that the request came from; `None` for what the control machine does on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// What, such as `deploy`.
    pub operation: String,
    /// On what, such as `service/web`.
    pub target: String,
    /// More of what was asked for: an image's digest, a commit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// The control machine that recorded it.
    pub recorded_by: String,
}

/// A change that is about to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Now.
    pub at: DateTime<Utc>,
    /// See [`Begun::by`].
    pub by: String,
    /// See [`Begun::level`].
    pub level: Option<Level>,
    /// See [`Begun::from`].
    pub from: Option<IpAddr>,
    /// See [`Begun::operation`].
    pub operation: String,
    /// See [`Begun::target`].
    pub target: String,
    /// See [`Begun::details`].
    pub details: BTreeMap<String, String>,
    /// Whose change it is, which decides how long it is kept.
    pub class: Class,
}

impl Draft {
    /// The event, with texts from outside bounded.
    pub fn begun(&self, id: String, recorded_by: String) -> Begun {
        let details = self.details.iter().map(|(name, value)| (name.clone(), bounded(value))).collect();
        Begun {
            version: AUDIT_VERSION,
            id,
            at: self.at,
            by: bounded(&self.by),
            level: self.level,
            from: self.from,
            operation: self.operation.clone(),
            target: bounded(&self.target),
            details,
            recorded_by,
        }
    }
}

/// Whose changes are kept for how long. Each class has a bound of its own, so that neither
/// a hostile machine nor refused requests can push the changes of people out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// People, and programs that act for them.
    Person,
    /// Machines of the cluster, for themselves.
    Machine,
    /// Requests that the caller's level does not allow.
    Denied,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Person, Self::Machine, Self::Denied];

    /// The word that is stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Machine => "machine",
            Self::Denied => "denied",
        }
    }

    /// How many changes of this class a control machine keeps.
    pub fn bound(self) -> i64 {
        match self {
            Self::Person => 50_000,
            Self::Machine => 10_000,
            Self::Denied => 5_000,
        }
    }
}

/// How many of the oldest changes have to go when there are `count`, of which `bound` are kept.
pub fn surplus(count: i64, bound: i64) -> i64 {
    (count - bound).max(0)
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The caller has to ask again; nothing is decided yet.
    Waiting,
    /// It was carried out, or will be by the engine without further requests.
    Done,
    /// It was tried and failed.
    Failed,
    /// The principal's level does not allow it, or the cluster's state does not.
    Refused,
}

/// The end of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// [`AUDIT_VERSION`].
    pub version: u32,
    /// The change.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// How.
    pub outcome: Outcome,
    /// Why it failed or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it made: the number of a revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// One line of an audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEvent {
    /// A change is about to be carried out.
    Begun(Begun),
    /// It ended.
    Ended(Ended),
}

impl AuditEvent {
    /// The change that it is about.
    pub fn id(&self) -> &str {
        match self {
            Self::Begun(begun) => &begun.id,
            Self::Ended(ended) => &ended.id,
        }
    }

    /// When it happened.
    pub fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Begun(begun) => begun.at,
            Self::Ended(ended) => ended.at,
        }
    }
}

/// A change with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Who, what, when, from where.
    pub begun: Begun,
    /// How it ended; `None` when that is unknown.
    pub ended: Option<Ended>,
}

impl Change {
    /// How it ended, in a word.
    pub fn outcome(&self) -> &'static str {
        match self.ended.as_ref().map(|ended| ended.outcome) {
            None => "unknown",
            Some(Outcome::Waiting) => "waiting",
            Some(Outcome::Done) => "done",
            Some(Outcome::Failed) => "failed",
            Some(Outcome::Refused) => "refused",
        }
    }
}

/// The changes that `events` tell of, each once, oldest first. The order of the events and
/// how often each is among them make no difference; an end whose beginning is missing is dropped.
pub fn merge(events: impl IntoIterator<Item = AuditEvent>) -> Vec<Change> {
    let mut begun: BTreeMap<String, Begun> = BTreeMap::new();
    let mut ended: BTreeMap<String, Ended> = BTreeMap::new();
    for event in events {
        match event {
            AuditEvent::Begun(new) => keep(&mut begun, new.id.clone(), new, |one| (one.at, text(one))),
            // A change that was waited for ends once more, and for good.
            AuditEvent::Ended(new) => keep(&mut ended, new.id.clone(), new, |one| {
                (std::cmp::Reverse((one.outcome != Outcome::Waiting, one.at)), text(one))
            }),
        }
    }
    let mut changes: Vec<Change> =
        begun.into_iter().map(|(id, begun)| Change { begun, ended: ended.remove(&id) }).collect();
    changes.sort_by(|a, b| (a.begun.at, &a.begun.id).cmp(&(b.begun.at, &b.begun.id)));
    changes
}

/// Keeps the one of the two that `rank` puts first.
fn keep<T, R: Ord>(known: &mut BTreeMap<String, T>, id: String, new: T, rank: impl Fn(&T) -> R) {
    match known.get(&id) {
        Some(old) if rank(old) <= rank(&new) => {}
        _ => {
            known.insert(id, new);
        }
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Which changes a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// None before that.
    pub since: Option<DateTime<Utc>>,
    /// Only by principals that have this in their name.
    pub by: Option<String>,
    /// Only on this target: `service/web`, or `web` for a target of any kind with that name.
    pub target: Option<String>,
}

impl Filter {
    /// Whether `change` is wanted.
    pub fn takes(&self, change: &Change) -> bool {
        let begun = &change.begun;
        self.since.is_none_or(|since| begun.at >= since)
            && self.by.as_ref().is_none_or(|by| begun.by.to_lowercase().contains(&by.to_lowercase()))
            && self.target.as_ref().is_none_or(|target| {
                begun
                    .target
                    .split(',')
                    .any(|one| one == target || one.split_once('/').is_some_and(|(_, name)| name == target))
            })
    }
}

/// What to store of a text that came from outside: no control characters, at most 300 characters.
pub fn bounded(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= LONGEST {
        return clean;
    }
    clean.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// An object of audit events in the project's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its key. No two different batches of a machine have one key.
    pub key: String,
    /// One JSON object a line.
    pub bytes: Vec<u8>,
}

/// Where the batches of a cluster are in the project's bucket; ends with `/`.
pub fn folder(project: &str, environment: &str, cluster: &str) -> String {
    format!("audit/{project}/{environment}/{cluster}/")
}

/// The batch of `events`, which are numbered from `first` to `last` in the log `log` of one
/// control machine. `None` without events.
pub fn batch(folder: &str, log: &str, first: i64, last: i64, events: &[AuditEvent]) -> Option<Batch> {
    let at = events.iter().map(AuditEvent::at).min()?;
    let key = format!(
        "{folder}{}/{}-{log}-{first}-{last}.ndjson",
        at.format("%Y-%m-%d"),
        at.format("%Y%m%dT%H%M%S%3fZ"),
    );
    let mut bytes = Vec::new();
    for event in events {
        bytes.extend_from_slice(text(event).as_bytes());
        bytes.push(b'\n');
    }
    Some(Batch { key, bytes })
}

/// Whether the batch of that key can have events since then. An event is stored in a batch
/// that is named for its oldest event, so one day more is asked for.
pub fn may_hold(folder: &str, key: &str, since: Option<DateTime<Utc>>) -> bool {
    let Some(rest) = key.strip_prefix(folder) else { return false };
    let Some(since) = since else { return true };
    let Some(day) = since.checked_sub_days(chrono::Days::new(1)) else { return true };
    let day = day.format("%Y-%m-%d").to_string();
    rest.get(..10).is_none_or(|found| *found >= *day)
}

/// The events of a batch. Lines that are not understood are counted, not passed over silently.
pub fn read_batch(bytes: &[u8]) -> (Vec<AuditEvent>, usize) {
    let mut unread = 0;
    let events = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .filter_map(|line| {
            let event = serde_json::from_slice(line).ok();
            unread += usize::from(event.is_none());
            event
        })
        .collect();
    (events, unread)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
