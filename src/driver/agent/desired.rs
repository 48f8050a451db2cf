//! Keeps what the cluster runs outside the cluster, and gets it back.
//!
//! What is written and what is restored is decided in [`crate::plan::desired`]; this asks and does.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use async_trait::async_trait;
use tokio::time::sleep;

use super::{Agent, AgentError, FOLLOWS, LEADS};
use crate::driver::rendezvous::Which;
use crate::model::cluster::Durability;
use crate::model::desired::Held;
use crate::model::member::Membership as State;
use crate::model::name::ServiceName;
use crate::plan::desired as plan;
use crate::port::cluster::ClusterError;
use crate::port::desired::{Holder, Records};
use crate::port::standing::Restore;

/// How long what is in the bucket is taken for known while nothing changes in the engine.
const AGAIN: Duration = Duration::from_secs(300);
/// Time between two attempts after one failed, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Time between two comparisons of the engine with what was written.
const KEEP: Duration = Duration::from_secs(3);
/// How long the published generation is taken for known.
const GENERATION: Duration = Duration::from_secs(60);

/// Keeps the documents of one cluster's services.
pub struct Desired {
    holder: Arc<dyn Holder>,
    records: Arc<dyn Records>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// What the engine held when everything was written, and when that was.
    done: Option<(u64, Vec<Held>, Instant)>,
    /// When to try again, and after how long the last time.
    retry: Option<(Instant, Duration)>,
    known: Durability,
}

/// What a founder restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The services.
    pub services: Vec<ServiceName>,
}

impl Desired {
    /// What `holder` holds, in `records`.
    pub fn new(holder: Arc<dyn Holder>, records: Arc<dyn Records>) -> Self {
        Self { holder, records, kept: Mutex::default() }
    }

    /// How far what the engine holds is kept, as far as this machine knows.
    pub fn known(&self) -> Durability {
        self.lock().known.clone()
    }

    /// Writes what has been settled since the last time. The leader of `generation` calls it often;
    /// the bucket is only asked when something changed, and now and then.
    pub async fn keep(&self, generation: u64, now: Instant) {
        if self.lock().retry.is_some_and(|(at, _)| now < at) {
            return;
        }
        if let Err(error) = self.try_keep(generation, now).await {
            tracing::warn!(%error, "keeping the services' documents in the bucket");
            let mut kept = self.lock();
            let pause = kept.retry.map_or(RETRY.0, |(_, pause)| (pause * 2).min(RETRY.1));
            kept.retry = Some((now + pause, pause));
            kept.known.error = Some(error.to_string());
        }
    }

    async fn try_keep(&self, generation: u64, now: Instant) -> Result<(), AgentError> {
        let held = self.holder.held().await?;
        let done = self.lock().done.as_ref().is_some_and(|(of, before, at)| {
            *of == generation && *before == held && now.duration_since(*at) < AGAIN
        });
        if done {
            return Ok(());
        }
        let keeping = plan::keep(generation, &held, &self.records.read().await?);
        for (service, reason) in &keeping.unreadable {
            tracing::warn!(%service, reason, "the service's document in the bucket can't be read and is left alone");
        }
        let mut written: Option<DateTime<Utc>> = None;
        for write in &keeping.writes {
            let service = &write.document.service;
            // Where the condition does not hold somebody else wrote; the next round compares again.
            if !self.records.write(service, &write.document, write.replaces.as_deref()).await? {
                tracing::info!(%service, "another machine wrote the service's document; comparing again");
                return Ok(());
            }
            tracing::info!(%service, number = write.document.number, "the service's document is in the bucket");
            written = Some(Utc::now());
        }
        let mut kept = self.lock();
        kept.done = Some((generation, held, now));
        kept.retry = None;
        let names = |of: &[(ServiceName, String)]| {
            of.iter().map(|(service, reason)| (service.clone(), reason.clone())).collect()
        };
        kept.known = Durability {
            checked: Some(Utc::now()),
            written: written.or(kept.known.written),
            newer: keeping.newer,
            unreadable: names(&keeping.unreadable),
            unknown: keeping.unknown,
            error: None,
        };
        Ok(())
    }

    /// Makes the engine hold what the bucket has, before anybody else may join. It may be called
    /// again after any failure.
    ///
    /// # Errors
    /// When the bucket can't be read, in whole or in part, or the engine refuses something. The
    /// cluster must not be called whole then: a machine that joined it would stop what runs there.
    pub async fn restore(&self) -> Result<Restored, AgentError> {
        let bucket = self.records.read().await?;
        let held = self.holder.held().await?;
        let plan = plan::restore(&held, &bucket);
        let mut restored = Restored::default();
        for document in &plan.restore {
            self.holder.restore(document).await?;
            tracing::info!(service = %document.service, number = document.number, "restored from the bucket");
            restored.services.push(document.service.clone());
        }
        match plan.unreadable.first() {
            None => Ok(restored),
            Some((service, reason)) => {
                Err(AgentError::Document { service: service.clone(), reason: reason.clone() })
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Restore for Desired {
    async fn restore(&self) -> Result<bool, ClusterError> {
        match Desired::restore(self).await {
            Ok(_) => Ok(true),
            Err(AgentError::Cluster(error)) => Err(error),
            Err(error) => Err(ClusterError::Engine {
                doing: "restoring services from the project's bucket".to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

/// Restores several kinds of documents, one after the other.
pub struct All(pub Vec<Arc<Desired>>);

#[async_trait]
impl Restore for All {
    async fn restore(&self) -> Result<bool, ClusterError> {
        for desired in &self.0 {
            Restore::restore(desired.as_ref()).await?;
        }
        Ok(true)
    }
}

impl Agent {
    /// While this machine leads the managers: keeps what the cluster has settled in the bucket.
    pub(super) async fn keep_desired(&self) {
        let Some(desired) = &self.desired else { return std::future::pending().await };
        let mut known: Option<(u64, Instant)> = None;
        loop {
            sleep(KEEP).await;
            let generation = match known {
                Some((generation, at)) if at.elapsed() < GENERATION => Ok(Some(generation)),
                Some(_) | None => self.generation_to_keep().await,
            };
            match (generation, self.leads().await) {
                (Ok(Some(generation)), Ok(true)) => {
                    known.get_or_insert((generation, Instant::now()));
                    desired.keep(generation, Instant::now()).await;
                    if let Some(jobs) = &self.desired_jobs {
                        jobs.keep(generation, Instant::now()).await;
                    }
                }
                (Ok(_), Ok(_)) => known = None,
                (Err(error), _) | (_, Err(error)) => {
                    known = None;
                    tracing::debug!(%error, "finding out whether to keep what the cluster runs");
                }
            }
        }
    }

    /// The generation that this machine's swarm is published as; `None` until its services are restored:
    /// what is not there yet must not be taken for removed.
    async fn generation_to_keep(&self) -> Result<Option<u64>, AgentError> {
        let Some(own) = self.engine.report().await?.cluster else { return Ok(None) };
        let rendezvous = self.rendezvous();
        let log = rendezvous.log(Which::Swarm).await?;
        match log.published().filter(|published| *published.cluster == own) {
            Some(published) if rendezvous.is_restored(published.generation).await? => {
                Ok(Some(published.generation))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Whether this machine leads the managers. Several ask often, and the answer is shared for a moment: whatever
    /// follows from it is refused by the managers if another one leads meanwhile.
    pub(super) async fn leads(&self) -> Result<bool, AgentError> {
        let mut held = self.leadership.lock().await;
        if let Some((at, leads)) = *held
            && at.elapsed() < if leads { LEADS } else { FOLLOWS }
        {
            return Ok(leads);
        }
        *held = None;
        let State::In { node, manager: true } = self.engine.state().await? else { return Ok(false) };
        let nodes = self.engine.nodes().await?;
        let is_leader = |manager: crate::model::member::Manager| manager.leader;
        let leads = nodes.iter().any(|one| one.id == node && one.manager.is_some_and(is_leader));
        *held = Some((tokio::time::Instant::now(), leads));
        Ok(leads)
    }
}

#[cfg(test)]
mod tests;
