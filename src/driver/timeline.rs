//! What a control machine records of its cluster, and how the records of all of them are read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::model::feature::Feature;
use crate::model::machine::{Machine, MachineState, Role};
use crate::model::name::{MachineId, ServiceName};
use crate::model::service::{Instance, ServiceStatus};
use crate::model::timeline::{EventPage, EventQuery, MissingEvents, TIMELINE_VERSION, TimelineEvent, merged};
use crate::plan::timeline::{Seen, derive, of_jobs};
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::jobs::JobCluster;
use crate::port::kept::{Kept, KeptError};
use crate::port::streams::Agents;
use crate::port::timeline::Timeline;

/// Time between two attempts to observe the cluster.
const RETRY: Duration = Duration::from_secs(2);
/// Time between two checks for jobs that have failed.
const JOBS: Duration = Duration::from_secs(5);
/// Time between two times at which what was observed is kept.
const KEEP: Duration = Duration::from_secs(10);
/// How old an observation may be to derive from it: what changed since has happened just now, more or less.
const FRESH: TimeDelta = TimeDelta::minutes(5);
/// How long another control machine may take to send its events.
const ANSWER: Duration = Duration::from_secs(3);

/// How many instances are remembered that are not listed any more.
const REMEMBERED: usize = 2_000;

/// The events of this control machine.
#[derive(Clone)]
pub struct Events {
    /// Where they are kept; `None` when that can't be opened.
    own: Option<Arc<dyn Timeline>>,
    me: MachineId,
    recent: Arc<Mutex<Recent>>,
}

/// Instances as they were observed last, by the engine's task. One that fails before it replaces another is
/// not listed any more when its machine reports how.
#[derive(Debug, Default)]
struct Recent {
    instances: HashMap<String, (ServiceName, Instance)>,
    /// The tasks, in the order in which they were first observed.
    order: VecDeque<String>,
}

impl Recent {
    fn remember(&mut self, services: &[ServiceStatus]) {
        for service in services {
            for instance in &service.instances {
                let known =
                    self.instances.insert(instance.id.clone(), (service.name.clone(), instance.clone()));
                if known.is_none() {
                    self.order.push_back(instance.id.clone());
                }
            }
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.instances.remove(&oldest);
            }
        }
    }
}

impl Events {
    /// The events that the control machine `me` keeps in `own`.
    pub fn new(own: Option<Arc<dyn Timeline>>, me: MachineId) -> Self {
        Self { own, me, recent: Arc::default() }
    }

    /// The instance that a task is, among `services` or as it was observed last.
    pub fn known(&self, task: &str, services: &[ServiceStatus]) -> Option<(ServiceName, Instance)> {
        let listed = services.iter().find_map(|service| {
            let instance = service.instances.iter().find(|instance| instance.id == task)?;
            Some((service.name.clone(), instance.clone()))
        });
        listed.or_else(|| self.recent().instances.get(task).cloned())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records events. That they can't be recorded keeps nothing from being done.
    pub async fn record(&self, events: Vec<TimelineEvent>) {
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.blocking(move |own| own.record(&events)).await {
            tracing::warn!(%error, "recording events");
        }
    }

    /// The events of this machine alone.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn own(&self, query: EventQuery) -> Result<Vec<TimelineEvent>, KeptError> {
        self.blocking(move |own| own.read(&query)).await
    }

    /// The events of all control machines among `machines`, merged; those whose events are missing are named.
    pub async fn of_all(&self, query: &EventQuery, machines: &[Machine], agents: &dyn Agents) -> EventPage {
        let others = machines.iter().filter(|one| one.role == Role::Control && one.id != self.me);
        let asked =
            others.map(async |machine| (machine.id.to_string(), of_other(query, machine, agents).await));
        let (own, others) = tokio::join!(self.own(query.clone()), join_all(asked));
        let own = (self.me.to_string(), own.map_err(|error| error.to_string()));
        let (mut events, mut missing) = (Vec::new(), Vec::new());
        for (machine, answer) in std::iter::once(own).chain(others) {
            match answer {
                Ok(found) => events.extend(found),
                Err(reason) => missing.push(MissingEvents { machine, reason }),
            }
        }
        let mut events = merged(events);
        events.retain(|event| query.takes(event));
        events.drain(..events.len().saturating_sub(query.limit as usize));
        EventPage { version: TIMELINE_VERSION, events, missing }
    }

    /// Records what happens in the cluster, for as long as it runs.
    pub async fn observe(&self, cluster: &dyn Cluster, jobs: &dyn JobCluster) {
        tokio::join!(self.follow(cluster), self.follow_jobs(jobs));
    }

    async fn follow(&self, cluster: &dyn Cluster) {
        let mut before = match self.blocking(|own| own.kept()).await {
            Ok(kept) => kept.filter(|(_, at)| Utc::now() - *at < FRESH).map(|(seen, _)| seen),
            Err(error) => {
                tracing::warn!(%error, "reading what was observed last");
                None
            }
        };
        let mut kept: Option<Instant> = None;
        loop {
            match cluster.observe().await {
                Ok(mut snapshots) => {
                    while let Some(Ok(snapshot)) = snapshots.next().await {
                        self.recent().remember(&snapshot.services);
                        self.record(difference(before.as_ref(), &snapshot)).await;
                        if kept.is_none_or(|at| at.elapsed() >= KEEP) {
                            kept = Some(Instant::now());
                            let seen = snapshot.clone();
                            if let Err(error) = self.blocking(move |own| own.keep(&seen, Utc::now())).await {
                                tracing::warn!(%error, "keeping what was observed");
                            }
                        }
                        before = Some(snapshot);
                    }
                }
                Err(error) => tracing::debug!(%error, "observing the cluster for its events"),
            }
            sleep(RETRY).await;
        }
    }

    async fn follow_jobs(&self, jobs: &dyn JobCluster) {
        let mut recorded: Vec<TimelineEvent> = Vec::new();
        loop {
            match jobs.jobs().await {
                Ok(jobs) => {
                    let failed = of_jobs(&jobs);
                    let new = failed.iter().filter(|event| !recorded.contains(event)).cloned().collect();
                    self.record(new).await;
                    recorded = failed;
                }
                Err(error) => tracing::debug!(%error, "reading jobs for their events"),
            }
            sleep(JOBS).await;
        }
    }

    /// The file waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Timeline) -> Result<T, KeptError> + Send + 'static,
    ) -> Result<T, KeptError> {
        let Some(own) = self.own.clone() else {
            let reason = "its file can't be opened; see `journalctl -u fleetwright-agent` there".to_owned();
            return Err(KeptError::Access { what: Kept::Events, doing: "reading", reason });
        };
        tokio::task::spawn_blocking(move || work(own.as_ref())).await.unwrap_or_else(|error| {
            Err(KeptError::Access { what: Kept::Events, doing: "reading", reason: error.to_string() })
        })
    }
}

fn difference(before: Option<&Snapshot>, after: &Snapshot) -> Vec<TimelineEvent> {
    derive(before.map(seen), seen(after), Utc::now())
}

fn seen(snapshot: &Snapshot) -> Seen<'_> {
    Seen { machines: &snapshot.machines, services: &snapshot.services }
}

async fn of_other(
    query: &EventQuery,
    machine: &Machine,
    agents: &dyn Agents,
) -> Result<Vec<TimelineEvent>, String> {
    if machine.state == MachineState::Down {
        return Err("it does not answer".to_owned());
    }
    if !machine.features.has(Feature::Events) {
        return Err(format!("its agent is too old for it (it lacks {}); roll its group", Feature::Events));
    }
    let answer: Result<EventPage, ClusterError> =
        match timeout(ANSWER, agents.events(&machine.id, machine.address, query)).await {
            Ok(answer) => answer,
            Err(_) => return Err(format!("it does not answer within {} s", ANSWER.as_secs())),
        };
    let page = answer.map_err(|error| error.to_string())?;
    match page.missing.into_iter().next() {
        Some(missing) => Err(missing.reason),
        None => Ok(page.events),
    }
}
