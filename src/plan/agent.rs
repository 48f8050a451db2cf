//! What an agent does next: how its machine gets into the cluster, whether a manager may
//! leave, and which members are to be taken off the books. Pure; nothing here waits or asks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::group::{Group, GroupInstance, Lifecycle};
use crate::model::machine::Role;
use crate::model::member::Node;
use crate::model::name::MachineId;

pub mod etcd;
pub mod reboot;

/// How long the machine that should initialise the cluster may take before another may.
const PATIENCE_S: u64 = 60;
/// How long a node may be down before it counts as never having become a machine.
const NEVER_REGISTERED_S: u64 = 120;

/// What a machine outside the cluster sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside<'a> {
    /// This machine.
    pub me: &'a MachineId,
    /// Its role.
    pub role: Role,
    /// The groups of control machines, as read completely.
    pub control_groups: &'a [Group],
    /// Who initialises or has initialised the cluster.
    pub initialiser: Option<&'a MachineId>,
    /// Whether the join token for this role is there.
    pub token: bool,
    /// Control machines that wrote themselves down.
    pub registered: &'a [(MachineId, IpAddr)],
    /// How long this machine has been trying, in seconds.
    pub waited_s: u64,
}

/// How a machine gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Join through any of these managers.
    Join(Vec<IpAddr>),
    /// Try to become the one that initialises.
    Claim,
    /// Take that over from one that is gone.
    TakeOver(MachineId),
    /// Initialise: this machine is the one.
    Initialise,
    /// Look again later.
    Wait(&'static str),
}

/// How a machine outside the cluster gets in.
pub fn enter(seen: &Outside<'_>) -> Entry {
    let instances: Vec<&GroupInstance> =
        seen.control_groups.iter().flat_map(|group| &group.instances).collect();
    let living = |id: &MachineId| instances.iter().any(|one| one.id == *id && !one.lifecycle.is_leaving());
    let others: Vec<IpAddr> = seen
        .registered
        .iter()
        .filter(|(id, _)| id != seen.me && living(id))
        .map(|(_, address)| *address)
        .collect();
    if seen.token && !others.is_empty() {
        return Entry::Join(others);
    }
    if seen.role == Role::Worker {
        return Entry::Wait("for a control machine");
    }
    // A list without this machine is not the whole list, and nothing may be founded on it.
    if !living(seen.me) {
        return Entry::Wait("for its group to list this machine");
    }
    let lowest = instances
        .iter()
        .filter(|one| one.lifecycle == Lifecycle::InService)
        .map(|one| &one.id)
        .min()
        .is_some_and(|id| id == seen.me);
    let mine = lowest || seen.waited_s > PATIENCE_S;
    match seen.initialiser {
        Some(id) if id == seen.me => Entry::Initialise,
        Some(id) if living(id) => Entry::Wait("for the cluster to be initialised"),
        Some(id) if mine => Entry::TakeOver(id.clone()),
        None if mine => Entry::Claim,
        Some(_) | None => Entry::Wait("for another control machine to initialise"),
    }
}

/// How many managers must take part in decisions.
fn majority(managers: usize) -> usize {
    managers / 2 + 1
}

/// Whether the managers can decide now, and still could without `node`.
fn can_spare(nodes: &[Node], node: &str) -> bool {
    let managers = nodes.iter().filter(|one| one.manager.is_some()).count();
    let reachable = |skip: Option<&str>| {
        nodes
            .iter()
            .filter(|one| one.manager.is_some_and(|manager| manager.reachable))
            .filter(|one| Some(one.id.as_str()) != skip)
            .count()
    };
    managers > 1 && reachable(None) >= majority(managers) && reachable(Some(node)) >= majority(managers - 1)
}

/// Whether and how a manager may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The others go on without it.
    Now,
    /// The others would lose their majority.
    Wait,
    /// There is no other: the cluster ends with it.
    Last,
}

/// Whether the manager `me` may leave.
pub fn leave(nodes: &[Node], me: &str) -> Leave {
    let others = nodes.iter().filter(|one| one.manager.is_some() && one.id != me).count();
    if others == 0 {
        Leave::Last
    } else if can_spare(nodes, me) {
        Leave::Now
    } else {
        Leave::Wait
    }
}

/// What the leading manager's agent sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside<'a> {
    /// Its own instance.
    pub me: &'a MachineId,
    /// All nodes of the engine.
    pub nodes: &'a [Node],
    /// All groups of the cluster, as read completely.
    pub groups: &'a [Group],
    /// Groups that were asked for by name and don't exist any more.
    pub deleted_groups: &'a BTreeSet<String>,
    /// Control machines that wrote themselves down.
    pub registered: &'a [MachineId],
}

/// What to do about a member, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a manager a worker.
    Demote {
        /// The node.
        node: String,
        /// Why.
        reason: Reason,
    },
    /// Take a node off the list.
    Remove {
        /// The node.
        node: String,
        /// Why.
        reason: Reason,
    },
    /// Take a control machine out of the rendezvous.
    Forget {
        /// The machine.
        machine: MachineId,
    },
}

/// Why a member is taken off the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its instance is no longer in its group, or on its way out, and it does not answer.
    InstanceGone,
    /// Its machine has joined again as another node.
    JoinedAgain,
    /// It does not answer, and no agent ever said which machine it is.
    NeverRegistered,
}

/// What is to be done about members that are gone. At most one manager is demoted at a
/// time, and none whose going would cost the majority.
pub fn reconcile(seen: &Inside<'_>) -> Vec<Action> {
    let instances: Vec<&GroupInstance> = seen.groups.iter().flat_map(|group| &group.instances).collect();
    // A list without this machine is not the whole list.
    if !instances.iter().any(|one| one.id == *seen.me) {
        return Vec::new();
    }
    let mut actions = Vec::new();
    let mut demoted = false;
    for node in seen.nodes.iter().filter(|node| !answers(node)) {
        let Some(reason) = reason(seen, &instances, node) else { continue };
        if node.manager.is_none() {
            actions.push(Action::Remove { node: node.id.clone(), reason });
        } else if !demoted && can_spare(seen.nodes, &node.id) {
            demoted = true;
            actions.push(Action::Demote { node: node.id.clone(), reason });
        }
    }
    for machine in seen.registered {
        if !instances.iter().any(|one| one.id == *machine) {
            actions.push(Action::Forget { machine: machine.clone() });
        }
    }
    actions
}

/// Whether a node, or a manager on it, can still be reached.
fn answers(node: &Node) -> bool {
    node.up || node.manager.is_some_and(|manager| manager.reachable)
}

fn reason(seen: &Inside<'_>, instances: &[&GroupInstance], node: &Node) -> Option<Reason> {
    let Some(instance) = &node.instance else {
        return (node.unchanged_s > NEVER_REGISTERED_S).then_some(Reason::NeverRegistered);
    };
    if seen
        .nodes
        .iter()
        .any(|other| other.instance.as_ref() == Some(instance) && other.id != node.id && answers(other))
    {
        return Some(Reason::JoinedAgain);
    }
    match instances.iter().find(|one| one.id == *instance) {
        Some(one) => one.lifecycle.is_leaving().then_some(Reason::InstanceGone),
        None => {
            let group = node.labels.get("fleetwright.group")?;
            let known = seen.groups.iter().any(|one| one.name == *group);
            (known || seen.deleted_groups.contains(group)).then_some(Reason::InstanceGone)
        }
    }
}

#[cfg(test)]
mod tests;
