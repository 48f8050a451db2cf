//! Giving leave to reboot, and taking it back, for the API of a control machine.
//!
//! Any control machine may answer: the engine takes one leave at most, whoever writes it,
//! so two that answer at once can't both give it. What is decided is in
//! [`crate::plan::agent::reboot`].

use chrono::Utc;

use crate::model::machine::Machine;
use crate::model::member::Node;
use crate::model::name::{BootId, MachineId};
use crate::model::reboot::{Answer, Leave, Mark, Returned};
use crate::model::service::ServiceStatus;
use crate::plan::agent::reboot::{self as plan, Refusal, Return, Verdict};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::membership::Membership;
use crate::port::reboot::{Held, Leaves};

/// The cluster, through the engine of a control machine.
#[derive(Clone, Copy)]
pub struct Through<'a> {
    /// The leave.
    pub leaves: &'a dyn Leaves,
    /// The nodes.
    pub membership: &'a dyn Membership,
    /// Machines and services.
    pub cluster: &'a dyn Cluster,
}

/// What was read at one moment.
struct Seen {
    held: Option<Held>,
    nodes: Vec<Node>,
    machines: Vec<Machine>,
    services: Vec<ServiceStatus>,
    now: i64,
}

impl Seen {
    fn cluster(&self) -> plan::Cluster<'_> {
        plan::Cluster {
            held: self.held.as_ref().map(|held| &held.leave),
            nodes: &self.nodes,
            machines: &self.machines,
            services: &self.services,
            now: self.now,
        }
    }
}

impl Through<'_> {
    async fn look(&self) -> Result<Seen, ClusterError> {
        let held = self.leaves.held().await?;
        let nodes = self.membership.nodes().await?;
        let snapshot = self.cluster.snapshot().await?;
        let now = Utc::now().timestamp();
        Ok(Seen { held, nodes, machines: snapshot.machines, services: snapshot.services, now })
    }

    /// What is known of a machine's reboot.
    ///
    /// # Errors
    /// When the engine does not say, or the machine is not in the cluster.
    pub async fn mark(&self, machine: &MachineId) -> Result<Option<Mark>, ClusterError> {
        // Leave may have been given and not been noted at the node, or have gone to another.
        let held = self.leaves.held().await?.filter(|held| held.leave.machine == *machine);
        match held {
            Some(held) => Ok(Some(held.leave.mark)),
            None => self.leaves.mark(machine).await,
        }
    }

    /// Gives `machine` leave to end `boot`, says that it still has it, or why not.
    ///
    /// # Errors
    /// When the engine does not answer; the machine may have leave then, and asks again.
    pub async fn ask(&self, machine: &MachineId, boot: &BootId) -> Result<Answer, ClusterError> {
        let seen = self.look().await?;
        let refused = |refusal: Refusal| Answer::Wait { reason: refusal.to_string() };
        match plan::leave(machine, boot, seen.cluster()) {
            Verdict::Refuse(refusal) => Ok(refused(refusal)),
            Verdict::Lapsed => Ok(Answer::Lapsed),
            Verdict::Again { since, alone } => {
                let mark = Mark { since, boot: boot.clone() };
                self.leaves.set_mark(machine, &mark).await?;
                Ok(Answer::Granted { since, alone })
            }
            Verdict::Grant { instead, alone } => {
                if let (Some(lapsed), Some(held)) = (instead, &seen.held) {
                    tracing::warn!(%machine, %lapsed, "the leave to reboot is taken over");
                    self.leaves.end(held).await?;
                }
                let mark = Mark { since: seen.now, boot: boot.clone() };
                let leave = Leave { machine: machine.clone(), mark };
                if !self.leaves.take(&leave).await? {
                    let reason = "another machine was given leave at this moment".to_owned();
                    return Ok(Answer::Wait { reason });
                }
                self.leaves.set_mark(machine, &leave.mark).await?;
                tracing::info!(%machine, alone, "given leave to reboot");
                Ok(Answer::Granted { since: seen.now, alone })
            }
        }
    }

    /// Has `machine` take work again, and lets another have its turn once every service is whole.
    ///
    /// # Errors
    /// When the engine does not answer; the machine asks again.
    pub async fn give_back(&self, machine: &MachineId) -> Result<Returned, ClusterError> {
        loop {
            let marked = self.leaves.mark(machine).await?.is_some();
            let seen = self.look().await?;
            match plan::give_back(machine, marked, seen.cluster()) {
                Return::Resume => {
                    self.leaves.resume(machine).await?;
                    tracing::info!(%machine, "takes work again");
                }
                Return::End => {
                    if let Some(held) = &seen.held {
                        self.leaves.end(held).await?;
                    }
                    tracing::info!(%machine, "gave its leave to reboot back");
                    return Ok(Returned::Done);
                }
                Return::Wait(refusal) => return Ok(Returned::Wait { reason: refusal.to_string() }),
                Return::Done => return Ok(Returned::Done),
            }
        }
    }
}
