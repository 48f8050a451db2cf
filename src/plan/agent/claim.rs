//! The protocol by which machines agree on the one that founds, for the swarm and for etcd alike.
//!
//! A claim is a record of the founding log, so that taking over is the creation of the next record
//! and nothing that a competitor wrote is ever deleted or overwritten. See [`crate::model::founding`].

use crate::model::founding::{Entry, Log};
use crate::model::group::{Group, GroupInstance, Lifecycle};
use crate::model::name::MachineId;

/// How long the machine that should claim first may take before another may, in seconds.
pub const FIRST_S: u64 = 60;
/// How long a living machine may take to found after it claimed, in seconds.
pub const FOUNDING_S: u64 = 180;

/// What a machine that could found sees of the others.
#[derive(Debug, Clone, Copy)]
pub struct Race<'a> {
    /// This machine.
    pub me: &'a MachineId,
    /// The groups of control machines, as read completely.
    pub control_groups: &'a [Group],
    /// The founding log.
    pub log: &'a Log,
    /// The machine that claimed before there was a log (`initialiser`).
    pub legacy: Option<&'a MachineId>,
    /// How long this machine has been trying, in seconds.
    pub waited_s: u64,
    /// How long this machine has seen the log's present last record, in seconds.
    pub last_for_s: u64,
}

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Founder {
    /// This machine's: its claim is the last record.
    Me,
    /// This machine may claim, instead of the one named, if any.
    Claim {
        /// The machine whose claim came to nothing.
        instead: Option<MachineId>,
    },
    /// Another's.
    Other,
    /// This machine must not found: its group does not list it, so the list may be incomplete.
    Unlisted,
}

/// Whose turn it is to found.
pub fn founder(race: &Race<'_>) -> Founder {
    let Race { me, control_groups, log, .. } = *race;
    if !is_living(control_groups, me) {
        return Founder::Unlisted;
    }
    let claimed = match log.last() {
        Some(Entry::Claim { machine }) => Some(machine),
        Some(Entry::Published { .. }) => None,
        None => race.legacy,
    };
    if let Some(Entry::Claim { machine }) = log.last()
        && machine == me
    {
        return Founder::Me;
    }
    // It claimed before there was a log, and now does so in the log.
    if claimed == Some(me) {
        return Founder::Claim { instead: None };
    }
    if let Some(other) = claimed
        && is_living(control_groups, other)
        && race.last_for_s <= FOUNDING_S
    {
        return Founder::Other;
    }
    let lowest = instances(control_groups)
        .filter(|one| one.lifecycle == Lifecycle::InService && Some(&one.id) != claimed)
        .map(|one| &one.id)
        .min();
    if lowest == Some(me) || race.waited_s > FIRST_S {
        return Founder::Claim { instead: claimed.cloned() };
    }
    Founder::Other
}

/// All instances of the groups.
pub fn instances(groups: &[Group]) -> impl Iterator<Item = &GroupInstance> {
    groups.iter().flat_map(|group| &group.instances)
}

/// Whether the groups list that machine, whatever its state.
pub fn is_listed(groups: &[Group], id: &MachineId) -> bool {
    instances(groups).any(|one| one.id == *id)
}

/// Whether the groups list that machine and do not terminate it.
pub fn is_living(groups: &[Group], id: &MachineId) -> bool {
    instances(groups).any(|one| one.id == *id && !one.lifecycle.is_leaving())
}
