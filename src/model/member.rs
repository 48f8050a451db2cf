//! The cluster's membership, as the agents see it: nodes of the engine and the instances behind them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::machine::Role;
use super::name::{MachineId, SwarmId};
use super::secret::Secret;

/// What a machine is, as its metadata service and its configuration tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its instance id.
    pub instance: MachineId,
    /// Its private address.
    pub address: IpAddr,
    /// Its region.
    pub region: String,
    /// Its availability zone.
    pub zone: String,
    /// Its autoscaling group.
    pub group: String,
    /// What it does in its cluster.
    pub role: Role,
}

/// Whether this machine is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// It belongs to no cluster.
    Out,
    /// It is about to be a member: it joins for the first time, or it was a member before its engine
    /// was restarted and waits for a leader. What it has on disk shows which.
    Pending,
    /// It is in.
    In {
        /// Its node id.
        node: String,
        /// Whether it is a manager, and its cluster can be changed through it.
        manager: bool,
    },
    /// The engine gave up.
    Broken {
        /// The engine's words.
        reason: String,
    },
    /// The engine needs a key from a person before it reads its state.
    Locked,
}

/// What the engine reports of its membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether this machine is a member.
    pub state: Membership,
    /// The swarm's id; `None` on workers, and on managers while they have no leader.
    pub cluster: Option<SwarmId>,
}

/// What the engine keeps on disk of its membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Whether there is a store of the managers' log. A majority may need it, even of a machine
    /// whose engine reports that it is none.
    pub raft: bool,
    /// The node's certificate: every machine that was ever a member has one.
    pub certificate: Option<NodeCertificate>,
}

/// The subject of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The node's id.
    pub node: String,
    /// The swarm.
    pub cluster: SwarmId,
    /// Whether it was issued to a manager.
    pub manager: bool,
}

/// The secrets with which machines join.
#[derive(Debug, Clone)]
pub struct JoinTokens {
    /// For control machines.
    pub manager: Secret<String>,
    /// For workers.
    pub worker: Secret<String>,
}

/// A node of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The engine's id of it.
    pub id: String,
    /// The instance it is; `None` until its agent has registered it.
    pub instance: Option<MachineId>,
    /// Where it connected from.
    pub address: Option<IpAddr>,
    /// What it is to the other managers; `None` for a worker.
    pub manager: Option<Manager>,
    /// Whether the engine reaches it.
    pub up: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How long it has not changed, in seconds.
    pub unchanged_s: u64,
}

/// What a manager is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manager {
    /// Whether it leads.
    pub leader: bool,
    /// Whether it takes part in decisions now.
    pub reachable: bool,
}

/// The node that a machine is, among those registered as it: the one that answers, or else the
/// last that did. `None` when two answer, since only one can be right.
pub fn the_one<T>(candidates: impl Iterator<Item = (bool, T)>) -> Option<T> {
    let (mut up, mut down) = (Vec::new(), None);
    for (answers, node) in candidates {
        if answers {
            up.push(node);
        } else {
            down = Some(node);
        }
    }
    match up.len() {
        0 => down,
        1 => up.pop(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_one_node() {
        assert_eq!(the_one([].into_iter()), None::<u8>);
        assert_eq!(the_one([(true, 1)].into_iter()), Some(1));
        assert_eq!(the_one([(false, 1), (true, 2), (false, 3)].into_iter()), Some(2));
        assert_eq!(the_one([(false, 1), (false, 2)].into_iter()), Some(2));
        assert_eq!(the_one([(true, 1), (false, 2), (true, 3)].into_iter()), None);
    }
}
