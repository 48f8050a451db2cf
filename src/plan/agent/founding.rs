//! How control machines come to one swarm: who founds it, which of several is the cluster, and when
//! a lost one is replaced. Pure; nothing here waits or asks.
//!
//! Every step is one change that others can see, and everything is read again before the next.

use std::net::IpAddr;

use super::claim::{Founder, Race, founder, is_living};
use crate::model::founding::{Entry, Holder, Log};
use crate::model::group::Group;
use crate::model::machine::Role;
use crate::model::name::{MachineId, SwarmId};

/// What a machine sees that is not in the published cluster.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// This machine.
    pub me: &'a MachineId,
    /// Its role.
    pub role: Role,
    /// The groups of control machines, as read completely. They are read before the rest.
    pub control_groups: &'a [Group],
    /// The founding log.
    pub log: &'a Log,
    /// The machine that claimed before there was a log (`initialiser`).
    pub legacy: Option<&'a MachineId>,
    /// Whether the join token for this role is there.
    pub token: bool,
    /// Control machines that are in the cluster and serve its API.
    pub registered: &'a [(MachineId, IpAddr)],
    /// Control machines that may hold its state.
    pub holders: &'a [Holder],
    /// How long this machine has been trying, in seconds.
    pub waited_s: u64,
    /// How long this machine has seen the log's present last record, in seconds.
    pub last_for_s: u64,
}

impl<'a> Seen<'a> {
    fn race(&self) -> Race<'a> {
        Race {
            me: self.me,
            control_groups: self.control_groups,
            log: self.log,
            legacy: self.legacy,
            waited_s: self.waited_s,
            last_for_s: self.last_for_s,
        }
    }

    fn published(&self) -> Option<&'a SwarmId> {
        self.log.published().map(|one| one.cluster)
    }

    /// Whether a cluster of the version before the log may exist.
    fn has_legacy_cluster(&self) -> bool {
        self.log.is_empty() && self.token
    }

    /// Whether that record is of the cluster that exists, if one does. Those of machines that
    /// founded in vain and of clusters that were replaced are not.
    fn counts(&self, holder: &Holder) -> bool {
        match self.published() {
            Some(published) => holder.cluster.as_ref().is_none_or(|cluster| cluster == published),
            None => self.has_legacy_cluster(),
        }
    }

    fn own_records(&self) -> impl Iterator<Item = &'a Holder> {
        let me = self.me;
        self.holders.iter().filter(move |holder| holder.machine == *me)
    }
}

/// The next step of a machine whose engine is in no swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Record that this machine may hold state of that cluster; `None` while its id is not published.
    Record(Option<SwarmId>),
    /// Join through any of these managers.
    Join(Vec<IpAddr>),
    /// Create the next record of the log with this machine's claim.
    Claim {
        /// The machine whose claim came to nothing.
        instead: Option<MachineId>,
    },
    /// Start a swarm: this machine is the one.
    Found,
    /// Delete this machine's own records of these keys: it holds nothing.
    Withdraw(Vec<String>),
    /// Look again later.
    Wait(Waiting),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A worker needs a control machine to join.
    Control,
    /// The group does not list this machine as one that stays.
    Group,
    /// Another machine founds.
    Founder,
    /// A living machine may hold the cluster's state, but none can be joined.
    Majority,
}

impl Waiting {
    /// What is waited for, to follow `waiting for`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Control => "a control machine to join",
            Self::Group => "its group to list this machine",
            Self::Founder => "another control machine to found the cluster",
            Self::Majority => {
                "the control machines that hold the cluster's state to have a majority again. If they never \
                 will, see `fleetwright cluster recover`"
            }
        }
    }
}

/// The next step of a machine whose engine is in no swarm and holds no state of one.
pub fn enter(seen: &Seen<'_>) -> Step {
    let living = |id: &MachineId| is_living(seen.control_groups, id);
    let others: Vec<IpAddr> = seen
        .registered
        .iter()
        .filter(|(id, _)| id != seen.me && living(id))
        .map(|(_, address)| *address)
        .collect();
    if seen.token && !others.is_empty() {
        let published = seen.published();
        let recorded = seen.own_records().any(|holder| holder.cluster.as_ref() == published);
        return match seen.role {
            Role::Control if !recorded => Step::Record(published.cloned()),
            Role::Control | Role::Worker => Step::Join(others),
        };
    }
    if seen.role == Role::Worker {
        return Step::Wait(Waiting::Control);
    }
    if !living(seen.me) {
        return Step::Wait(Waiting::Group);
    }
    if is_held(seen) {
        // Two that both recorded themselves and hold nothing would wait for each other.
        let keys: Vec<String> = seen.own_records().map(|holder| holder.key.clone()).collect();
        return if keys.is_empty() { Step::Wait(Waiting::Majority) } else { Step::Withdraw(keys) };
    }
    match founder(&seen.race()) {
        Founder::Me => Step::Found,
        Founder::Claim { instead } => Step::Claim { instead },
        Founder::Other => Step::Wait(Waiting::Founder),
        Founder::Unlisted => Step::Wait(Waiting::Group),
    }
}

/// Whether another machine that lives may hold state of the cluster that exists.
fn is_held(seen: &Seen<'_>) -> bool {
    if seen.published().is_none() && !seen.has_legacy_cluster() {
        return false;
    }
    let other = |id: &MachineId| id != seen.me && is_living(seen.control_groups, id);
    seen.registered.iter().any(|(id, _)| other(id))
        || seen.holders.iter().any(|holder| other(&holder.machine) && seen.counts(holder))
}

/// The swarm of a manager, beside what is published.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Its id.
    pub cluster: &'a SwarmId,
    /// Whether the published join token of managers is this swarm's; `None` when none is published.
    pub token_is_ours: Option<bool>,
    /// Whether it has no node but this machine; `None` when it cannot be asked.
    pub alone: Option<bool>,
}

/// The next step of a machine that is a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its swarm is the published one.
    Member,
    /// Record that this machine holds state of its swarm.
    Record,
    /// Create the next record of the log with its swarm's id.
    Publish,
    /// Claim again: the machine that took over from this one came to nothing.
    Claim {
        /// The machine whose claim came to nothing.
        instead: Option<MachineId>,
    },
    /// Another machine took over, and may publish its own swarm.
    Wait(Waiting),
    /// Another swarm was published: leave this one, which nobody joined.
    GiveWay,
    /// Nothing can be done without a person.
    Report(Trouble),
}

/// What a person has to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The swarm was the cluster once, and another one was published since.
    Superseded,
    /// The swarm was not founded by this machine's agent, or has other nodes, and another is the cluster.
    Foreign,
}

impl Trouble {
    /// What is wrong and what to do.
    pub fn label(self) -> &'static str {
        match self {
            Self::Superseded => {
                "this machine holds the state of a cluster that was replaced by another. It is kept. Terminate \
                 the machine if nothing of it is needed"
            }
            Self::Foreign => {
                "this machine manages a swarm that is not the cluster's and that its agent did not found, or that \
                 has other nodes. It is kept. Run `docker swarm leave --force` on the machine if nothing of it is \
                 needed"
            }
        }
    }
}

/// The next step of a machine that is a manager of `own`.
pub fn standing(seen: &Seen<'_>, own: &Own<'_>) -> Standing {
    if seen.published() == Some(own.cluster) {
        return Standing::Member;
    }
    if seen.log.ever_published(own.cluster) {
        return Standing::Report(Trouble::Superseded);
    }
    let publish = || {
        let recorded = seen.own_records().any(|holder| holder.cluster.as_ref() == Some(own.cluster));
        if recorded { Standing::Publish } else { Standing::Record }
    };
    match seen.log.last() {
        // A cluster of the version before the log: the one that the token opens.
        None => match own.token_is_ours {
            Some(true) => publish(),
            Some(false) => Standing::Report(Trouble::Foreign),
            None if seen.legacy.is_none_or(|id| id == seen.me) => publish(),
            None => claim_again(seen),
        },
        Some(Entry::Claim { machine }) if machine == seen.me => publish(),
        Some(Entry::Claim { .. }) => claim_again(seen),
        Some(Entry::Published { .. }) => match own.alone {
            None => Standing::Wait(Waiting::Majority),
            Some(true) if seen.log.ever_claimed(seen.me) => Standing::GiveWay,
            Some(_) => Standing::Report(Trouble::Foreign),
        },
    }
}

/// A machine that founded and was taken over from keeps its swarm until another is published.
fn claim_again(seen: &Seen<'_>) -> Standing {
    match founder(&seen.race()) {
        Founder::Claim { instead } => Standing::Claim { instead },
        Founder::Me | Founder::Other => Standing::Wait(Waiting::Founder),
        Founder::Unlisted => Standing::Wait(Waiting::Group),
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
