//! Leave to reboot: which machine has it, and when it is given back. Pure.
//!
//! A cluster has one leave. It is given when nothing would be missed: every service is
//! whole, the managers can decide without the machine, and nothing else is being moved. The
//! machine asks again once it is empty, and the same must hold then.

use std::fmt;

use super::majority;
use crate::model::machine::{Machine, MachineState};
use crate::model::member::{Node, the_one};
use crate::model::name::{BootId, MachineId};
use crate::model::reboot::{LEAVE, Leave};
use crate::model::service::{InstanceState, RevisionState, ServiceStatus};

pub mod turn;

/// How old leave may be for a reboot to begin; it leaves time to come back before another
/// machine may take over.
const BEGIN_S: i64 = 15 * 60;

/// All that the answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// The leave that there is.
    pub held: Option<&'a Leave>,
    /// The engine's nodes.
    pub nodes: &'a [Node],
    /// The machines.
    pub machines: &'a [Machine],
    /// The services.
    pub services: &'a [ServiceStatus],
    /// The time, in seconds since 1970.
    pub now: i64,
}

/// The answer to a machine that asks for leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gets leave, in the place of another whose leave counts no more.
    Grant {
        /// Whose, and why it does not.
        instead: Option<Lapsed>,
        /// Whether no other machine could take over what it runs.
        alone: bool,
    },
    /// It has leave, and may go on.
    Again {
        /// Since when.
        since: i64,
        /// Whether no other machine could take over what it runs.
        alone: bool,
    },
    /// It had leave, which is from another boot, too old to begin, or another machine's by now.
    Lapsed,
    /// Not now.
    Refuse(Refusal),
}

/// Leave that counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lapsed {
    /// Its machine is no longer a member.
    Gone(MachineId),
    /// It is too old.
    TooOld(MachineId),
}

impl fmt::Display for Lapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(machine) => write!(f, "{machine} had leave and is no longer in the cluster"),
            Self::TooOld(machine) => {
                write!(f, "{machine} has had leave for more than {} minutes", LEAVE.as_secs() / 60)
            }
        }
    }
}

/// Why a machine can't reboot now, or its leave not be given back yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No node is this machine.
    NoMember(MachineId),
    /// Another machine's turn.
    Other {
        /// The machine.
        machine: MachineId,
        /// How long it has had leave, in seconds.
        for_s: i64,
    },
    /// Somebody paused or drained it, or it does not answer.
    State(MachineState),
    /// Other managers don't answer.
    Managers(Vec<String>),
    /// The managers could not decide without it.
    Majority {
        /// How many there are.
        managers: usize,
    },
    /// Other machines are being emptied: a drain or a roll is under way.
    Emptying(Vec<MachineId>),
    /// A rollout is under way.
    RollingOut(Vec<String>),
    /// Services lack instances.
    NotWhole(Vec<String>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMember(machine) => write!(f, "{machine} is not in the cluster"),
            Self::Other { machine, for_s } => {
                write!(f, "it is the turn of {machine}, for {} minutes so far", for_s / 60)
            }
            Self::State(state) => write!(f, "it is {}", state.word()),
            Self::Managers(nodes) => write!(f, "control machines don't answer: {}", nodes.join(", ")),
            Self::Majority { managers } => write!(
                f,
                "{managers} control machines can't decide without it; three or more, or one alone, can reboot"
            ),
            Self::Emptying(machines) => {
                let machines: Vec<&str> = machines.iter().map(MachineId::as_str).collect();
                write!(f, "other machines are being emptied: {}", machines.join(", "))
            }
            Self::RollingOut(services) => write!(f, "rollouts are under way: {}", services.join(", ")),
            Self::NotWhole(services) => {
                write!(f, "services lack healthy instances: {}", services.join(", "))
            }
        }
    }
}

/// Whether `machine`, in its boot `boot`, may reboot.
pub fn leave(machine: &MachineId, boot: &BootId, cluster: Cluster<'_>) -> Verdict {
    match decide(machine, boot, cluster) {
        Ok(verdict) => verdict,
        Err(refusal) => Verdict::Refuse(refusal),
    }
}

fn decide(machine: &MachineId, boot: &BootId, cluster: Cluster<'_>) -> Result<Verdict, Refusal> {
    let node = cluster.node(machine).ok_or_else(|| Refusal::NoMember(machine.clone()))?;
    let alone = cluster.nodes.len() == 1;
    let verdict = match cluster.held {
        Some(Leave { machine: holder, mark }) if holder == machine => {
            if mark.boot != *boot || cluster.now - mark.since > BEGIN_S {
                return Ok(Verdict::Lapsed);
            }
            Verdict::Again { since: mark.since, alone }
        }
        other => {
            let state = cluster.machines.iter().find(|one| one.id == *machine).map(|one| one.state);
            match state {
                Some(MachineState::Ready) => {}
                Some(MachineState::Rebooting) => return Ok(Verdict::Lapsed),
                Some(state) => return Err(Refusal::State(state)),
                None => return Err(Refusal::NoMember(machine.clone())),
            }
            let instead = other.map(|leave| cluster.lapsed(leave)).transpose()?;
            Verdict::Grant { instead, alone }
        }
    };
    if node.manager.is_some() {
        cluster.can_decide_without(node)?;
    }
    cluster.is_quiet(machine)?;
    cluster.is_whole()?;
    Ok(verdict)
}

/// What is to be done for a machine that gives its leave back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// Have it take work again.
    Resume,
    /// Let another have its turn.
    End,
    /// Look again later.
    Wait(Refusal),
    /// Nothing is left to do.
    Done,
}

/// The next step of giving leave back; `marked` is whether the machine's node says that it is to reboot.
pub fn give_back(machine: &MachineId, marked: bool, cluster: Cluster<'_>) -> Return {
    let Some(node) = cluster.node(machine) else {
        return Return::Wait(Refusal::NoMember(machine.clone()));
    };
    let has_leave = cluster.held.is_some_and(|leave| leave.machine == *machine);
    if !marked && !has_leave {
        return Return::Done;
    }
    if !node.up {
        return Return::Wait(Refusal::State(MachineState::Down));
    }
    if marked {
        return Return::Resume;
    }
    if node.manager.is_some_and(|manager| !manager.reachable) {
        return Return::Wait(Refusal::Managers(vec![name(node)]));
    }
    match cluster.is_whole() {
        Ok(()) => Return::End,
        Err(refusal) => Return::Wait(refusal),
    }
}

impl Cluster<'_> {
    /// The node of a machine; the last, as everywhere, when it joined twice.
    fn node(&self, machine: &MachineId) -> Option<&Node> {
        the_one(
            self.nodes
                .iter()
                .filter(|node| node.instance.as_ref() == Some(machine))
                .map(|node| (node.up, node)),
        )
    }

    /// Why another's leave counts no more.
    fn lapsed(&self, leave: &Leave) -> Result<Lapsed, Refusal> {
        if self.node(&leave.machine).is_none() {
            Ok(Lapsed::Gone(leave.machine.clone()))
        } else if leave.mark.has_lapsed(self.now) {
            Ok(Lapsed::TooOld(leave.machine.clone()))
        } else {
            let for_s = self.now - leave.mark.since;
            Err(Refusal::Other { machine: leave.machine.clone(), for_s })
        }
    }

    /// Whether the other managers are all there and a majority. A manager without others has
    /// nobody to wait for: what runs on the workers goes on while it is away.
    fn can_decide_without(&self, node: &Node) -> Result<(), Refusal> {
        let managers: Vec<&Node> = self.nodes.iter().filter(|one| one.manager.is_some()).collect();
        let others: Vec<&&Node> = managers.iter().filter(|one| one.id != node.id).collect();
        let away: Vec<String> = others
            .iter()
            .filter(|one| one.manager.is_some_and(|manager| !manager.reachable) || !one.up)
            .map(|one| name(one))
            .collect();
        if !away.is_empty() {
            return Err(Refusal::Managers(away));
        }
        if !others.is_empty() && others.len() < majority(managers.len()) {
            return Err(Refusal::Majority { managers: managers.len() });
        }
        Ok(())
    }

    /// Whether nothing moves but what `machine` itself gives away. A machine that was drained and
    /// runs nothing may stay so for as long as it likes.
    fn is_quiet(&self, machine: &MachineId) -> Result<(), Refusal> {
        let runs = |id: &MachineId| {
            self.services.iter().flat_map(|service| &service.instances).any(|instance| {
                instance.machine.as_ref() == Some(id)
                    && match instance.state {
                        InstanceState::Starting | InstanceState::Healthy | InstanceState::Stopping => true,
                        InstanceState::Pending | InstanceState::Failed => false,
                    }
            })
        };
        let emptying: Vec<MachineId> = self
            .machines
            .iter()
            .filter(|one| one.state == MachineState::Draining && one.id != *machine && runs(&one.id))
            .map(|one| one.id.clone())
            .collect();
        if !emptying.is_empty() {
            return Err(Refusal::Emptying(emptying));
        }
        let rolling = self.named(|service| {
            service.history.first().is_some_and(|newest| newest.state == RevisionState::RollingOut)
        });
        if rolling.is_empty() { Ok(()) } else { Err(Refusal::RollingOut(rolling)) }
    }

    fn is_whole(&self) -> Result<(), Refusal> {
        let broken = self.named(|service| !service.is_whole());
        if broken.is_empty() { Ok(()) } else { Err(Refusal::NotWhole(broken)) }
    }

    fn named(&self, is_it: impl Fn(&ServiceStatus) -> bool) -> Vec<String> {
        self.services.iter().filter(|service| is_it(service)).map(|one| one.name.to_string()).collect()
    }
}

/// The name people know a node by.
fn name(node: &Node) -> String {
    node.instance.as_ref().map_or_else(|| node.id.clone(), MachineId::to_string)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
