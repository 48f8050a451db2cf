//! A control machine's part in `cluster status`, `recover` and `rebuild`: it answers without the
//! others, and goes on alone on request.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::Mutex;

use super::agent::desired::Desired;
use super::jobs::begin_again;
use super::rendezvous::{Rendezvous, RendezvousError, Which};
use crate::model::cluster::{EngineState, EtcdView, LogEnd, View};
use crate::model::feature::Features;
use crate::model::founding::Entry;
use crate::model::name::MachineId;
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::RestoredServices;
use crate::port::jobs::JobStore;
use crate::port::membership::Membership;
use crate::port::recovery::{ControlMachine, EtcdSurvivor, Generations, Logs, Survivor};

/// This machine.
#[derive(Clone)]
pub struct Own {
    /// Its instance.
    pub machine: MachineId,
    /// Its private address.
    pub address: IpAddr,
    /// Its engine.
    pub engine: Arc<dyn Survivor>,
    /// Its logs.
    pub logs: Arc<dyn Logs>,
    /// What is published of the cluster.
    pub generations: Arc<dyn Generations>,
    /// Its etcd; `None` where it keeps none.
    pub etcd: Option<Arc<dyn EtcdSurvivor>>,
    /// What is kept of the cluster in the bucket.
    pub desired: Option<Arc<Desired>>,
    /// The same of its jobs.
    pub desired_jobs: Option<Arc<Desired>>,
    /// Its jobs, which a leader advances while it holds the lock.
    pub jobs: Arc<Mutex<Arc<dyn JobStore>>>,
}

#[async_trait]
impl ControlMachine for Own {
    async fn view(&self) -> View {
        let (engine, log, generation) =
            tokio::join!(self.engine.view(), self.logs.engine(), self.generations.current());
        let mut message = engine.message;
        let log = log.unwrap_or_else(|error| {
            message.get_or_insert(format!("its log can't be read: {error}"));
            None
        });
        let (generation, restored) = match generation {
            Ok(current) => current.unwrap_or_default(),
            Err(error) => {
                message.get_or_insert(error.to_string());
                (0, false)
            }
        };
        let etcd = match &self.etcd {
            Some(etcd) => {
                let log = self.logs.etcd().await.unwrap_or_default();
                Some(EtcdView { healthy: etcd.is_healthy().await, log })
            }
            None => None,
        };
        View {
            version: 1,
            machine: self.machine.clone(),
            address: self.address,
            features: Features::own(),
            engine: engine.state,
            message,
            id: engine.id,
            node: engine.node,
            generation,
            restored,
            log,
            managers: engine.managers,
            durability: self.desired.as_ref().map(|desired| desired.known()).unwrap_or_default(),
            etcd,
        }
    }

    async fn recover(&self, log: LogEnd) -> Result<(), ClusterError> {
        let refused = |reason: String| Err(ClusterError::Refused { reason });
        let before = self.engine.view().await;
        // Alone with a majority, it has gone on already, and what follows may be missing.
        if before.state == EngineState::Manager && before.managers.len() > 1 {
            return refused(format!(
                "{} has a majority of the control machines behind it; there is nothing to recover",
                self.machine
            ));
        }
        if matches!(before.state, EngineState::Out | EngineState::Worker) {
            return refused(format!("{} holds no state of the cluster", self.machine));
        }
        let own = self.logs.engine().await.map_err(|error| ClusterError::Engine {
            doing: "reading this machine's log".to_owned(),
            reason: error.to_string(),
        })?;
        if own.is_none_or(|own| own < log) {
            return refused(format!(
                "the log of {} no longer ends where it did; run `fleetwright cluster recover` again",
                self.machine
            ));
        }
        tracing::warn!(?own, "this machine goes on as the cluster's only control machine");
        // As a leader it would start what is due, before it is known that it may have run.
        let jobs = self.jobs.lock().await;
        self.engine.go_on_alone(self.address).await?;
        begin_again(jobs.as_ref(), Utc::now()).await?;
        drop(jobs);
        self.generations.begin_another().await
    }

    async fn recover_etcd(&self, log: LogEnd) -> Result<(), ClusterError> {
        let refused = |reason: String| Err(ClusterError::Refused { reason });
        let Some(etcd) = &self.etcd else {
            return Err(ClusterError::NotFound { what: "etcd", name: self.machine.to_string() });
        };
        if etcd.is_healthy().await {
            return refused(format!("etcd on {} has a majority; there is nothing to recover", self.machine));
        }
        let own = self.logs.etcd().await.map_err(|error| ClusterError::Engine {
            doing: "reading the log of this machine's etcd".to_owned(),
            reason: error.to_string(),
        })?;
        if own.is_none_or(|own| own < log) {
            return refused(format!(
                "the log of etcd on {} no longer ends where it did; run `fleetwright cluster recover` again",
                self.machine
            ));
        }
        tracing::warn!(?own, "etcd on this machine goes on as its only member");
        etcd.go_on_alone().await
    }

    async fn restore(&self) -> Result<RestoredServices, ClusterError> {
        let from = async |desired: &Option<Arc<Desired>>, what: &str| {
            let Some(desired) = desired else { return Ok(Vec::new()) };
            let restored = desired.restore().await.map_err(|error| ClusterError::Engine {
                doing: format!("restoring {what} from the project's bucket"),
                reason: error.to_string(),
            })?;
            Ok::<_, ClusterError>(restored.services)
        };
        let services = from(&self.desired, "services").await?;
        let jobs = from(&self.desired_jobs, "jobs").await?;
        // Both kinds of names have the same rule.
        let jobs = jobs.iter().filter_map(|name| name.as_str().parse().ok()).collect();
        Ok(RestoredServices { services, jobs })
    }
}

/// What is published of the cluster, in its rendezvous.
#[derive(Clone)]
pub struct Published {
    /// The rendezvous.
    pub rendezvous: Rendezvous,
    /// The engine of this machine.
    pub engine: Arc<dyn Membership>,
    /// This machine.
    pub machine: MachineId,
}

#[async_trait]
impl Generations for Published {
    async fn current(&self) -> Result<Option<(u64, bool)>, ClusterError> {
        let log = self.rendezvous.log(Which::Swarm).await.map_err(unreadable)?;
        let Some(published) = log.published() else { return Ok(None) };
        let restored = self.rendezvous.is_restored(published.generation).await.map_err(unreadable)?;
        Ok(Some((published.generation, restored)))
    }

    async fn begin_another(&self) -> Result<(), ClusterError> {
        let cluster = self.engine.report().await?.cluster.ok_or_else(|| ClusterError::Unreachable {
            endpoint: "this machine's engine".to_owned(),
            reason: "it does not say which cluster it is a manager of".to_owned(),
        })?;
        let log = self.rendezvous.log(Which::Swarm).await.map_err(unreadable)?;
        let entry = Entry::Published { machine: self.machine.clone(), cluster };
        match self.rendezvous.append(Which::Swarm, &log, &entry).await.map_err(unreadable)? {
            true => Ok(()),
            false => Err(ClusterError::Refused {
                reason:
                    "another machine published a cluster at this moment; run `fleetwright cluster status`"
                        .to_owned(),
            }),
        }
    }
}

fn unreadable(error: RendezvousError) -> ClusterError {
    ClusterError::Engine { doing: "reading the rendezvous".to_owned(), reason: error.to_string() }
}
