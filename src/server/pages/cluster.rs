//! What the templates of services and machines are filled with.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::super::pipeline::Seen;
use super::views::ago;
use crate::model::logs::LogEntry;
use crate::model::machine::{Machine, MachineState};
use crate::model::percent::encoded;
use crate::model::service::{
    Instance, InstanceState, Origin, PreDeployState, Revision, RevisionState, ServiceStatus,
};
use crate::model::timeline::{EventKind, EventPage, TimelineEvent, short};
use crate::plan::deploy::FieldChange;
use crate::plan::why::Why;

/// What is known of the cluster.
#[derive(Debug, Serialize)]
pub struct ClusterView {
    lost: Option<String>,
    since: Option<String>,
    asking: bool,
    empty: bool,
    services: Vec<ServiceView>,
    machines: Vec<MachineView>,
}

impl ClusterView {
    /// Of what was seen, as of `now`.
    pub fn new(seen: &Seen, now: DateTime<Utc>) -> Self {
        let snapshot = seen.snapshot.as_ref();
        let services = snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
        let machines = snapshot.iter().flat_map(|(snapshot, _)| &snapshot.machines);
        Self {
            lost: seen.lost.as_deref().map(|lost| lost.trim_end_matches('.').to_owned()),
            since: snapshot.filter(|_| seen.lost.is_some()).map(|(_, at)| ago(*at, now)),
            asking: snapshot.is_none() && seen.lost.is_none(),
            empty: snapshot.is_some_and(|(snapshot, _)| snapshot.services.is_empty()),
            services: services.map(|status| ServiceView::new(status, &BTreeMap::new(), now)).collect(),
            machines: machines.map(|machine| MachineView::new(machine, seen)).collect(),
        }
    }
}

/// A service.
#[derive(Debug, Serialize)]
pub struct ServiceView {
    name: String,
    class: &'static str,
    stopped: bool,
    healthy: u32,
    desired: u64,
    scaled_from: Option<u32>,
    running: Option<RevisionView>,
    newest: Option<RevisionView>,
    instances: Vec<InstanceView>,
    history: Vec<RevisionView>,
}

impl ServiceView {
    /// Of a service; `runs` are the runs that deployed its revisions, by their numbers.
    pub fn new(status: &ServiceStatus, runs: &BTreeMap<u64, i64>, now: DateTime<Utc>) -> Self {
        let is_running = |revision: &&Revision| revision.state == RevisionState::Running;
        let revision = |revision: &Revision| RevisionView::new(revision, runs, now);
        Self {
            name: status.name.to_string(),
            class: match (status.stopped, status.is_whole()) {
                (true, _) => "",
                (false, true) => "good",
                (false, false) => "bad",
            },
            stopped: status.stopped,
            healthy: status.healthy(),
            desired: u64::from(status.desired),
            scaled_from: status.scaled_from,
            running: status.history.iter().find(is_running).map(revision),
            newest: status.history.first().filter(|first| !is_running(first)).map(revision),
            instances: status.instances.iter().map(|instance| InstanceView::new(instance, now)).collect(),
            history: status.history.iter().map(revision).collect(),
        }
    }
}

/// The change that made a revision.
#[derive(Debug, Clone, Serialize)]
pub struct OriginView {
    repository: String,
    /// Its first digits; `None` where it was deployed by hand.
    short: Option<String>,
    commit: String,
    subject: String,
}

impl OriginView {
    /// Of a revision.
    pub fn new(origin: &Origin) -> Self {
        Self {
            repository: origin.repository.clone(),
            short: origin.commit.get(..7).map(str::to_owned),
            commit: origin.commit.clone(),
            subject: origin.subject.clone(),
        }
    }
}

/// A revision of a service.
#[derive(Debug, Serialize)]
pub struct RevisionView {
    number: u64,
    class: &'static str,
    words: &'static str,
    reason: Option<String>,
    digest: String,
    image: String,
    origin: OriginView,
    since: String,
    run: Option<i64>,
    can_return: bool,
}

impl RevisionView {
    fn new(revision: &Revision, runs: &BTreeMap<u64, i64>, now: DateTime<Utc>) -> Self {
        let waits = matches!(revision.pre_deploy, Some(PreDeployState::Waiting | PreDeployState::Running));
        let (class, words) = match revision.state {
            RevisionState::RollingOut if waits => ("busy", "runs its pre_deploy"),
            RevisionState::RollingOut => ("busy", "is rolling out"),
            RevisionState::RolledBack => ("bad", "was rolled back"),
            RevisionState::Failed => ("bad", "failed"),
            RevisionState::Replaced => ("", "was replaced"),
            RevisionState::Running => ("good", "runs"),
        };
        Self {
            number: revision.number,
            class,
            words,
            reason: revision.reason.clone(),
            digest: revision.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            image: revision.image(),
            origin: OriginView::new(&revision.origin),
            since: ago(revision.since, now),
            run: runs.get(&revision.number).copied(),
            can_return: revision.state == RevisionState::Replaced && revision.digest.is_some(),
        }
    }
}

/// An instance of a service.
#[derive(Debug, Serialize)]
pub struct InstanceView {
    name: String,
    /// The name as the value of a field of a query.
    query: String,
    class: &'static str,
    state: &'static str,
    message: Option<String>,
    restarts: u32,
    machine: Option<String>,
    addresses: Vec<String>,
    image: String,
    since: String,
}

impl InstanceView {
    /// Of an instance, as of `now`.
    pub fn new(instance: &Instance, now: DateTime<Utc>) -> Self {
        let dash = || "–".to_owned();
        let mut addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() {
            addresses.push(dash());
        }
        Self {
            name: instance.name.clone(),
            query: encoded(&instance.name),
            class: match instance.state {
                InstanceState::Healthy => "good",
                InstanceState::Starting | InstanceState::Stopping | InstanceState::Pending => "busy",
                InstanceState::Failed => "bad",
            },
            state: instance.state.word(),
            message: instance.message.clone(),
            restarts: instance.restarts,
            machine: instance.machine.as_ref().map(ToString::to_string),
            addresses,
            image: instance.digest.as_ref().map_or_else(dash, |digest| digest.short().to_string()),
            since: ago(instance.since, now),
        }
    }
}

/// A machine.
#[derive(Debug, Serialize)]
pub struct MachineView {
    id: String,
    class: &'static str,
    state: &'static str,
    role: String,
    address: String,
    zone: String,
    group: String,
    /// What it is short of.
    short: Vec<String>,
    /// How full it is, in percent: disk, inodes, available memory.
    pressure: Option<(u8, u8, u8)>,
    /// What placement can ask for.
    metadata: Vec<(String, String)>,
    /// The services that have instances on it.
    services: Vec<String>,
}

impl MachineView {
    /// Of a machine, in what was seen of its cluster.
    pub fn new(machine: &Machine, seen: &Seen) -> Self {
        let services = seen.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
        let on_it = |service: &&ServiceStatus| {
            service.instances.iter().any(|instance| instance.machine.as_ref() == Some(&machine.id))
        };
        Self {
            id: machine.id.to_string(),
            class: match machine.state {
                MachineState::Ready => "good",
                MachineState::Paused | MachineState::Draining | MachineState::Rebooting => "busy",
                MachineState::Down => "bad",
            },
            state: machine.state.word(),
            role: format!("{}{}", machine.role.word(), if machine.leader { ", leader" } else { "" }),
            address: machine.address.to_string(),
            zone: machine.metadata.get("zone").cloned().unwrap_or_else(|| "–".to_owned()),
            group: machine.group.clone(),
            short: machine
                .pressure
                .iter()
                .flat_map(|pressure| pressure.short_of())
                .map(|short| short.to_string())
                .collect(),
            pressure: machine.pressure.map(|p| (p.disk, p.inodes, p.memory_available)),
            metadata: machine.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            services: services.filter(on_it).map(|service| service.name.to_string()).collect(),
        }
    }
}

/// What happened, newest first.
#[derive(Debug, Default, Serialize)]
pub struct EventsView {
    events: Vec<EventView>,
    /// Control machines whose events are missing, with the reasons.
    missing: Vec<String>,
    /// Why nothing can be read.
    lost: Option<String>,
}

/// An event.
#[derive(Debug, Serialize)]
struct EventView {
    at: String,
    iso: String,
    class: &'static str,
    subject: String,
    service: Option<String>,
    machine: Option<String>,
    text: String,
    by: Option<String>,
    lines: Vec<String>,
}

impl EventsView {
    /// Of what was read; output is shown to those who may read logs.
    pub fn new(read: &Result<EventPage, String>, may_read: bool) -> Self {
        let page = match read {
            Ok(page) => page,
            Err(lost) => return Self { lost: Some(lost.clone()), ..Self::default() },
        };
        let missing = page.missing.iter().map(|one| format!("{}: {}", one.machine, one.reason));
        Self {
            events: page.events.iter().rev().map(|event| EventView::new(event, may_read)).collect(),
            missing: missing.collect(),
            lost: None,
        }
    }
}

impl EventView {
    fn new(event: &TimelineEvent, may_read: bool) -> Self {
        Self {
            at: event.at.format("%Y-%m-%d %H:%M:%S").to_string(),
            iso: event.at.to_rfc3339(),
            class: event_class(event.kind),
            subject: event.subject().to_owned(),
            service: event.service.as_ref().map(ToString::to_string),
            machine: event.machine.as_ref().map(ToString::to_string),
            text: event.text.clone(),
            by: event.by.as_deref().map(|by| short(by).to_owned()),
            lines: if may_read { event.lines.clone() } else { Vec::new() },
        }
    }
}

fn event_class(kind: EventKind) -> &'static str {
    match kind {
        EventKind::RolledOut
        | EventKind::PreDeploySucceeded
        | EventKind::Healthy
        | EventKind::Ready
        | EventKind::HostFileWell
        | EventKind::Relieved => "good",
        EventKind::RolledBack
        | EventKind::RolloutFailed
        | EventKind::Unhealthy
        | EventKind::Ended
        | EventKind::OutOfMemory
        | EventKind::Lost
        | EventKind::Pressure
        | EventKind::HostFileFailed
        | EventKind::JobFailed => "bad",
        EventKind::Deployed
        | EventKind::PreDeployStarted
        | EventKind::Waiting
        | EventKind::Draining
        | EventKind::Paused
        | EventKind::Rebooting
        | EventKind::Moved => "busy",
        EventKind::Scaled
        | EventKind::Stopped
        | EventKind::Started
        | EventKind::Removed
        | EventKind::Placed
        | EventKind::Stopping
        | EventKind::Joined
        | EventKind::Left
        | EventKind::Leads
        | EventKind::JobDeployed
        | EventKind::JobRun
        | EventKind::HostFileDeployed
        | EventKind::Other => "",
    }
}

/// Why a service is in the state it is in.
#[derive(Debug, Serialize)]
pub struct WhyView {
    state: String,
    problems: Vec<(String, String)>,
    next: Vec<String>,
}

impl WhyView {
    /// Of an answer.
    pub fn new(why: &Why) -> Self {
        let problems = why.problems.iter().map(|one| (one.instance.clone(), one.text.clone()));
        Self { state: why.state.clone(), problems: problems.collect(), next: why.next.clone() }
    }
}

/// A line of a service's log.
#[derive(Debug, Serialize)]
pub struct LineView {
    time: String,
    iso: String,
    instance: String,
    machine: String,
    text: String,
}

impl LineView {
    /// Of a line; `text` is what may be shown of it.
    pub fn new(entry: &LogEntry, text: String) -> Self {
        Self {
            time: entry.at.format("%H:%M:%S").to_string(),
            iso: entry.at.to_rfc3339(),
            instance: entry.instance.clone(),
            machine: entry.machine.clone(),
            text,
        }
    }
}

/// A field that a rollback changes.
#[derive(Debug, Serialize)]
pub struct ChangeView {
    field: String,
    before: String,
    after: String,
}

impl ChangeView {
    /// Of a change.
    pub fn new(change: &FieldChange) -> Self {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        Self { field: change.field.clone(), before: value(&change.before), after: value(&change.after) }
    }
}
