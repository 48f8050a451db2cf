//! What a control machine says of a machine that is in doubt, and the turns to join again, for the
//! API of a control machine.
//!
//! Any control machine may answer: it does so only while the managers have a leader, and the engine
//! keeps one turn at most, whoever writes it.

use std::sync::{Arc, Mutex};

use chrono::Utc;

use super::rendezvous::{Rendezvous, RendezvousError, Which};
use crate::model::name::{MachineId, SwarmId};
use crate::model::standing::{Place, STANDING_VERSION, Standing, Turn};
use crate::plan::agent::rejoin::{self as plan, Verdict};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::membership::Membership;
use crate::port::standing::Turns;

/// The cluster, through the engine of a control machine, and its rendezvous.
#[derive(Clone)]
pub struct Standings {
    /// The nodes.
    membership: Arc<dyn Membership>,
    /// Whose turn it is.
    turns: Arc<dyn Turns>,
    /// The services.
    cluster: Arc<dyn Cluster>,
    /// The rendezvous.
    rendezvous: Rendezvous,
    /// The swarm that is known to have its deployments, which never ends.
    restored: Arc<Mutex<Option<SwarmId>>>,
}

impl Standings {
    /// Answers through the engine of a control machine and its cluster's rendezvous.
    pub fn new(
        membership: Arc<dyn Membership>,
        turns: Arc<dyn Turns>,
        cluster: Arc<dyn Cluster>,
        rendezvous: Rendezvous,
    ) -> Self {
        Self { membership, turns, cluster, rendezvous, restored: Arc::default() }
    }

    /// What the node is to the cluster.
    ///
    /// # Errors
    /// When this machine's manager has no leader, or the rendezvous cannot be read.
    pub async fn standing(&self, node: &str) -> Result<Standing, ClusterError> {
        // A manager answers this one only through a leader, which a majority follows.
        let nodes = self.membership.nodes().await?;
        let cluster = self.own().await?;
        let restored = self.is_restored(&cluster).await?;
        let node = match nodes.iter().find(|one| one.id == node) {
            Some(one) if one.manager.is_some() => Place::Manager,
            Some(_) => Place::Worker,
            None => Place::Unknown,
        };
        Ok(Standing { version: STANDING_VERSION, cluster, restored, node })
    }

    /// Gives `machine` the turn to join this cluster, says that it still has it, or why not.
    ///
    /// # Errors
    /// When the engine does not answer; the machine may have the turn then, and asks again.
    pub async fn turn(&self, machine: &MachineId) -> Result<Turn, ClusterError> {
        let restored = self.is_restored(&self.own().await?).await?;
        let held = self.turns.held_turn().await?;
        let nodes = self.membership.nodes().await?;
        let services = self.cluster.snapshot().await?.services;
        let now = Utc::now().timestamp();
        match plan::turn(machine, restored, held.as_ref(), &nodes, &services, now) {
            Verdict::Again => Ok(Turn::Granted),
            Verdict::Wait(reason) => Ok(Turn::Wait { reason: reason.to_string() }),
            Verdict::Grant { instead } => {
                if let (true, Some(held)) = (instead, &held) {
                    self.turns.end_turn(held).await?;
                }
                if !self.turns.take_turn(machine, now).await? {
                    let reason = "another machine got its turn at this moment".to_owned();
                    return Ok(Turn::Wait { reason });
                }
                tracing::info!(%machine, "it is this machine's turn to join");
                Ok(Turn::Granted)
            }
        }
    }

    async fn own(&self) -> Result<SwarmId, ClusterError> {
        self.membership.report().await?.cluster.ok_or_else(|| ClusterError::Unreachable {
            endpoint: "this control machine".to_owned(),
            reason: "the managers have no leader".to_owned(),
        })
    }

    async fn is_restored(&self, cluster: &SwarmId) -> Result<bool, ClusterError> {
        // Every machine asks again and again, and the parameter store answers only so often.
        if self.restored.lock().is_ok_and(|known| known.as_ref() == Some(cluster)) {
            return Ok(true);
        }
        let log = self.rendezvous.log(Which::Swarm).await.map_err(unreadable)?;
        let restored = match log.published() {
            Some(published) if published.cluster == cluster => {
                self.rendezvous.is_restored(published.generation).await.map_err(unreadable)?
            }
            Some(_) | None => false,
        };
        if restored && let Ok(mut known) = self.restored.lock() {
            *known = Some(cluster.clone());
        }
        Ok(restored)
    }
}

fn unreadable(error: RendezvousError) -> ClusterError {
    ClusterError::Engine { doing: "reading the rendezvous".to_owned(), reason: error.to_string() }
}
