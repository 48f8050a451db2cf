//! A cluster in memory: rolls out at once, or as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::Utc;
use fleetwright::model::logs::LogEntry;
use fleetwright::model::machine::Machine;
use fleetwright::model::mount::{SecretRef, SecretVersion};
use fleetwright::model::name::{MachineId, ServiceName, VolumeName};
use fleetwright::model::service::{
    Deployed, Deployment, Instance, InstanceState, Revision, RevisionState, Scale, ScaleTo, ServiceStatus,
};
use fleetwright::model::timeline::{EventPage, TimelineEvent};
use fleetwright::port::cluster::{Cluster, ClusterError, Snapshot};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

/// What becomes of the next rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// They succeed at once.
    Healthy,
    /// They stay as they are until [`FakeCluster::settle`].
    Slow,
}

/// The cluster.
#[derive(Clone)]
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

struct State {
    mood: Mood,
    services: Vec<ServiceStatus>,
    deployments: Vec<Deployment>,
    machines: Vec<Machine>,
    events: Vec<TimelineEvent>,
    lines: Vec<LogEntry>,
}

impl FakeCluster {
    /// An empty one.
    pub fn new(mood: Mood) -> Self {
        let (machines, events, lines) = (Vec::new(), Vec::new(), Vec::new());
        let state = State { mood, services: Vec::new(), deployments: Vec::new(), machines, events, lines };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(watch::Sender::new(1)) }
    }

    /// Every deployment that made a revision, oldest first.
    pub fn deployments(&self) -> Vec<Deployment> {
        self.state.lock().expect("the state").deployments.clone()
    }

    /// What becomes of the rollouts after this.
    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().expect("the state").mood = mood;
    }

    /// What it reports of machines, of what happened, and of what instances have printed.
    pub fn reports(&self, machines: Vec<Machine>, events: Vec<TimelineEvent>, lines: Vec<LogEntry>) {
        {
            let mut state = self.state.lock().expect("the state");
            (state.machines, state.events, state.lines) = (machines, events, lines);
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// The events of one of those names.
    pub fn happened(&self, of: &str) -> EventPage {
        let state = self.state.lock().expect("the state");
        let fits = |event: &&TimelineEvent| {
            let machine = event.machine.as_ref().is_some_and(|machine| machine.as_str() == of);
            machine || event.service.as_ref().is_some_and(|service| service.as_str() == of)
        };
        let events = state.events.iter().filter(fits).cloned().collect();
        EventPage { version: 1, events, missing: Vec::new() }
    }

    /// What instances have printed that contains `text`.
    pub fn printed(&self, text: &str) -> Vec<LogEntry> {
        let state = self.state.lock().expect("the state");
        state.lines.iter().filter(|line| line.text.contains(text)).cloned().collect()
    }

    /// Ends what is being rolled out.
    pub fn settle(&self, healthy: bool) {
        {
            let mut state = self.state.lock().expect("the state");
            for service in &mut state.services {
                settle(service, healthy);
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn snapshot_now(&self) -> Snapshot {
        let state = self.state.lock().expect("the state");
        let (machines, services) = (state.machines.clone(), state.services.clone());
        Snapshot { version: 1, revision: *self.changed.borrow(), machines, services }
    }
}

fn settle(service: &mut ServiceStatus, healthy: bool) {
    if service.history.first().is_none_or(|newest| newest.state != RevisionState::RollingOut) {
        return;
    }
    if healthy {
        service.history[0].state = RevisionState::Running;
        for older in service.history.iter_mut().skip(1).filter(|r| r.state == RevisionState::Running) {
            older.state = RevisionState::Replaced;
        }
        let digest = service.history[0].digest.clone();
        for instance in &mut service.instances {
            instance.digest = digest.clone();
            instance.state = InstanceState::Healthy;
        }
    } else {
        service.history[0].state = RevisionState::RolledBack;
        service.history[0].reason = Some("web@1 never became healthy: 500 from /health".into());
    }
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        Ok(self.snapshot_now())
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        let cluster = self.clone();
        let mut changed = self.changed.subscribe();
        changed.mark_changed();
        Ok(stream::unfold((cluster, changed), |(cluster, mut changed)| async move {
            changed.changed().await.ok()?;
            let snapshot = cluster.snapshot_now();
            Some((Ok(snapshot), (cluster, changed)))
        })
        .boxed())
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<u64, ClusterError> {
        let number = {
            let mut state = self.state.lock().expect("the state");
            let mood = state.mood;
            let name = &deployment.spec.name;
            let at = match state.services.iter().position(|service| service.name == *name) {
                Some(at) => at,
                None => {
                    let desired = match deployment.spec.scale {
                        Scale::Replicas(replicas) => replicas,
                        Scale::EveryMachine => 1,
                    };
                    let instances = (1..=desired).map(|slot| Instance {
                        id: format!("task{slot}"),
                        name: format!("{name}@{slot}"),
                        machine: Some("i-0d3c1f2a".parse().expect("an id")),
                        ports: Vec::new(),
                        addresses: vec!["10.77.1.4:20001".parse().expect("an address")],
                        state: InstanceState::Starting,
                        digest: None,
                        restarts: 0,
                        message: None,
                        since: Utc::now(),
                    });
                    let instances = instances.collect();
                    state.services.push(ServiceStatus {
                        name: name.clone(),
                        desired,
                        scaled_from: None,
                        stopped: false,
                        instances,
                        history: Vec::new(),
                    });
                    state.services.len() - 1
                }
            };
            let service = &mut state.services[at];
            let same = service.history.iter().find(|r| r.state == RevisionState::Running);
            if let Some(same) = same.filter(|r| r.digest.as_ref() == Some(&deployment.digest)) {
                return Ok(same.number);
            }
            let number = service.history.first().map_or(1, |newest| newest.number + 1);
            service.history.insert(
                0,
                Revision {
                    number,
                    digest: Some(deployment.digest.clone()),
                    origin: deployment.origin.clone(),
                    state: RevisionState::RollingOut,
                    reason: None,
                    failed: None,
                    pre_deploy: None,
                    since: Utc::now(),
                },
            );
            match mood {
                Mood::Healthy => settle(service, true),
                Mood::Slow => {}
            }
            state.deployments.push(deployment.clone());
            number
        };
        self.changed.send_modify(|count| *count += 1);
        Ok(number)
    }

    async fn deployed(&self, service: &ServiceName, wanted: Option<u64>) -> Result<Deployed, ClusterError> {
        let state = self.state.lock().expect("the state");
        let missing = |what| ClusterError::NotFound { what, name: service.to_string() };
        let status = state.services.iter().find(|status| status.name == *service);
        let status = status.ok_or_else(|| missing("service"))?;
        let revision = wanted.or_else(|| Some(status.history.first()?.number)).unwrap_or(1);
        // Each deployment of the service is the next revision.
        let nth = usize::try_from(revision).expect("a number").checked_sub(1);
        let mut of_it = state.deployments.iter().filter(|one| one.spec.name == *service);
        let deployment = nth.and_then(|nth| of_it.nth(nth)).ok_or_else(|| missing("revision"))?.clone();
        let live = deployment.spec.scale;
        Ok(Deployed { version: 1, revision, deployment, live, stopped: false })
    }

    async fn secret_versions(
        &self,
        _: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
        Ok(BTreeMap::new())
    }

    /// The number changes, and no instance.
    async fn scale(&self, service: &ServiceName, to: ScaleTo) -> Result<(), ClusterError> {
        let mut state = self.state.lock().expect("the state");
        let found = state.services.iter_mut().find(|one| one.name == *service);
        match (found, to) {
            (Some(found), ScaleTo::Replicas(count)) => {
                found.desired = count;
                Ok(())
            }
            _ => Err(ClusterError::NotFound { what: "service", name: service.to_string() }),
        }
    }

    async fn rollback(&self, service: &ServiceName, to: Option<u64>) -> Result<u64, ClusterError> {
        // Only a revision that is named is one to go back to: the one before is not kept.
        if to.is_none() {
            return Err(ClusterError::NotFound { what: "earlier revision", name: service.to_string() });
        }
        let deployed = self.deployed(service, to).await?;
        self.deploy(&deployed.deployment).await
    }

    async fn remove(&self, service: &ServiceName) -> Result<(), ClusterError> {
        Err(ClusterError::NotFound { what: "service", name: service.to_string() })
    }

    async fn logs(
        &self,
        service: &ServiceName,
        _tail: u32,
        _follow: bool,
    ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError> {
        Err(ClusterError::NotFound { what: "service", name: service.to_string() })
    }

    async fn drain(&self, _machines: &[MachineId], _: &[VolumeName]) -> Result<(), ClusterError> {
        Ok(())
    }
}
