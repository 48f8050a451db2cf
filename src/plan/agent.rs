//! What an agent does next: what its engine's state calls for ([`membership`]), how its machine gets
//! into the cluster ([`founding`]), whether a manager may leave, and which members are removed. Pure;
//! nothing here waits or asks.

use std::collections::BTreeSet;

use crate::model::group::{Group, GroupInstance};
use crate::model::member::{Membership, Node, Stored};
use crate::model::name::MachineId;

pub mod claim;
pub mod etcd;
pub mod founding;
pub mod membership;
pub mod reboot;
pub mod rejoin;

/// How long a node may be down before it counts as never having become a machine.
const NEVER_REGISTERED_S: u64 = 120;

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

/// Whether a machine that is to go may leave its swarm, which deletes what its engine keeps of it. A
/// machine that still holds a manager's state stays in: the others may need it until the instance
/// is gone, and then remove its node.
pub fn may_leave(state: &Membership, stored: Option<&Stored>) -> bool {
    match state {
        Membership::In { manager: true, .. } | Membership::Out | Membership::Locked => false,
        Membership::In { manager: false, .. } | Membership::Pending | Membership::Broken { .. } => {
            stored.is_some_and(|stored| !stored.raft)
        }
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
