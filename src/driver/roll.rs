//! Replacing a group's machines: the shell around [`crate::plan::roll`], which decides.
//!
//! The state of a roll stands in the group and the cluster, so this loop may be killed
//! anywhere and begun again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::follow::Pace;
use crate::event::roll::RollEvent;
use crate::event::{EventKind, Events};
use crate::model::machine::Role;
use crate::model::name::{MachineId, VolumeName};
use crate::plan::roll::{self, Observed, Options, RollError, Step, Waiting};
use crate::port::cloud::CloudError;
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::groups::Groups;

/// How long one and the same thing is waited for; a machine's boot and a slow drain fit in.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long the cluster may be out of reach in the middle of a roll: control machines
/// come and go, and so do the addresses they are reached at.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(120);

/// Why a roll did not end.
#[derive(Debug, thiserror::Error)]
pub enum RollFailure {
    /// The group is not there.
    #[error("there is no autoscaling group `{0}`")]
    NoGroup(String),
    /// The cloud did not do what it was asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The cluster did not do what it was asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The group's state does not allow a decision.
    #[error(transparent)]
    Undecided(#[from] RollError),
    /// Something that was waited for did not come.
    #[error("nothing changed for {} minutes while waiting: {waiting}", .after.as_secs() / 60)]
    Stuck {
        /// What was waited for.
        waiting: String,
        /// How long.
        after: Duration,
    },
    /// A signal came.
    #[error("the roll was stopped")]
    Stopped,
}

/// A roll and all it needs.
pub struct Roll {
    /// The groups.
    pub groups: Arc<dyn Groups>,
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// Where events go.
    pub events: Events,
    /// The group's name.
    pub group: String,
    /// Its role in the cluster.
    pub role: Role,
    /// What was asked for.
    pub options: Options,
    /// The volumes whose data may be lost with the machines.
    pub lose: Vec<VolumeName>,
    /// How often is looked.
    pub pace: Pace,
    /// Cancelled by the first signal.
    pub stop: CancellationToken,
}

impl Roll {
    /// Rolls until there is nothing left to do; returns the machines that were replaced.
    ///
    /// # Errors
    /// When something can't be done, or does not happen in time. What was done stays, and
    /// another run goes on from there.
    pub async fn run(&self) -> Result<Vec<MachineId>, RollFailure> {
        let since = Instant::now();
        let mut pace = self.pace;
        let mut replaced: Vec<MachineId> = Vec::new();
        // The step before this one, and since when it is the same.
        let mut last: Option<(Step, Instant)> = None;
        loop {
            if self.stop.is_cancelled() {
                return Err(RollFailure::Stopped);
            }
            let group = self.groups.group(&self.group).await?;
            let group = group.ok_or_else(|| RollFailure::NoGroup(self.group.clone()))?;
            // Before anything was begun, a cluster out of reach is the user's to know at once.
            let patience = if last.is_some() { CLUSTER_PATIENCE } else { Duration::ZERO };
            let snapshot = self.snapshot(patience).await?;
            let observed = Observed {
                group: &group,
                role: self.role,
                machines: &snapshot.machines,
                services: &snapshot.services,
                now: chrono::Utc::now().timestamp(),
            };
            let step = roll::next(observed, self.options)?;
            tracing::debug!(group = self.group, ?step, "next step");
            if last.is_none() && step != Step::Done {
                let resumed = roll::intent(&group)?.is_some();
                let machines = words(&roll::candidates(&group, self.options.all)?);
                self.emit(RollEvent::Began { group: self.group.clone(), machines, resumed });
            }
            match &last {
                Some((known, since)) if *known == step => {
                    if since.elapsed() > PATIENCE {
                        return Err(RollFailure::Stuck { waiting: describe(&step), after: PATIENCE });
                    }
                    // What was asked for takes its time; asking again at once would not help.
                    if !pace.wait(&self.stop).await {
                        return Err(RollFailure::Stopped);
                    }
                }
                _ => {
                    pace.quicken();
                    self.tell(&step);
                    last = Some((step.clone(), Instant::now()));
                }
            }
            if self.perform(step, &mut replaced).await? {
                let seconds = since.elapsed().as_secs_f64();
                self.emit(RollEvent::Done { group: self.group.clone(), replaced: words(&replaced), seconds });
                return Ok(replaced);
            }
        }
    }

    /// Carries a step out; `true` when it was the last.
    async fn perform(&self, step: Step, replaced: &mut Vec<MachineId>) -> Result<bool, RollFailure> {
        match step {
            Step::Begin { tags } => {
                for (key, value) in &tags {
                    self.groups.put_tag(&self.group, key, value).await?;
                }
            }
            Step::SetCapacity(capacity) => self.groups.set_capacity(&self.group, capacity).await?,
            Step::Drain(machines) => self.drain(&machines).await?,
            Step::Terminate(machines) => {
                for machine in machines {
                    self.groups.terminate(&machine, true).await?;
                    if !replaced.contains(&machine) {
                        replaced.push(machine);
                    }
                }
            }
            Step::Wait(_) => {}
            Step::End { tags } => {
                for key in &tags {
                    self.groups.delete_tag(&self.group, key).await?;
                }
                return Ok(true);
            }
            Step::Done => return Ok(true),
        }
        Ok(false)
    }

    fn tell(&self, step: &Step) {
        let group = self.group.clone();
        match step {
            Step::SetCapacity(capacity) => {
                let (desired, max) = (capacity.desired, capacity.max);
                self.emit(RollEvent::Capacity { group, desired, max });
            }
            Step::Drain(machines) => self.emit(RollEvent::Draining { group, machines: words(machines) }),
            Step::Terminate(machines) => {
                self.emit(RollEvent::Terminating { group, machines: words(machines) });
            }
            Step::Wait(_) => self.emit(RollEvent::Waiting { group, text: describe(step) }),
            // Bookkeeping.
            Step::Begin { .. } | Step::End { .. } | Step::Done => {}
        }
    }

    /// A drain ends when the machines are empty; a signal does not wait for that.
    async fn drain(&self, machines: &[MachineId]) -> Result<(), RollFailure> {
        tokio::select! {
            drained = tokio::time::timeout(PATIENCE, self.cluster.drain(machines, &self.lose)) => match drained {
                // The member that was asked may be the one that goes, and managers elect a
                // new leader then; what is observed next decides.
                Ok(Err(error)) if is_transient(&error) => {
                    tracing::debug!(%error, "a drain was cut off");
                    Ok(())
                }
                Ok(drained) => Ok(drained?),
                Err(_) => {
                    let waiting = describe(&Step::Drain(machines.to_vec()));
                    Err(RollFailure::Stuck { waiting, after: PATIENCE })
                }
            },
            () = self.stop.cancelled() => Err(RollFailure::Stopped),
        }
    }

    async fn snapshot(&self, patience: Duration) -> Result<Snapshot, RollFailure> {
        let since = Instant::now();
        let mut pace = self.pace;
        loop {
            match self.cluster.snapshot().await {
                Err(error) if is_transient(&error) && since.elapsed() < patience => {
                    if !pace.wait(&self.stop).await {
                        return Err(RollFailure::Stopped);
                    }
                }
                answer => return Ok(answer?),
            }
        }
    }

    fn emit(&self, event: RollEvent) {
        self.events.emit(EventKind::Roll(event));
    }
}

fn words(machines: &[MachineId]) -> Vec<String> {
    machines.iter().map(MachineId::to_string).collect()
}

/// Whether the cluster may answer otherwise in a moment.
fn is_transient(error: &ClusterError) -> bool {
    match error {
        ClusterError::Unreachable { .. } | ClusterError::Engine { .. } => true,
        ClusterError::NotFound { .. } | ClusterError::Refused { .. } | ClusterError::Denied { .. } => false,
    }
}

fn describe(step: &Step) -> String {
    let waiting = match step {
        Step::Drain(machines) => return format!("{} to be empty", words(machines).join(", ")),
        Step::Terminate(machines) => return format!("{} to be terminated", words(machines).join(", ")),
        Step::Begin { .. } | Step::End { .. } => return "the group's tags".to_owned(),
        Step::SetCapacity(_) | Step::Done => return "the group's capacity".to_owned(),
        Step::Wait(waiting) => waiting,
    };
    match waiting {
        Waiting::Launching { have, want } => format!("{have} of {want} machines are in service"),
        Waiting::Joining(machines) => {
            format!("{} to become ready in the cluster", words(machines).join(", "))
        }
        Waiting::Leaving(machines) => format!("{} to leave", words(machines).join(", ")),
        Waiting::NotWhole(services) => format!("{} to have all healthy instances", services.join(", ")),
        Waiting::ControlNotReady(machines) => {
            format!("control machines {} to be ready", words(machines).join(", "))
        }
    }
}
