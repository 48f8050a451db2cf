//! How the control machines come to one etcd, and how it stays one: who founds it, who joins,
//! which members are taken off. Pure; nothing here waits or asks.
//!
//! A member joins without a vote and is given one when it has caught up. That way one that
//! dies on its way in costs nobody the majority, not even a cluster of one.

use std::net::IpAddr;

use super::claim::{self, FIRST_S, Founder, Race, instances, is_living};
use super::majority;
use crate::model::etcd::{Member, Observed, Service, peer_url};
use crate::model::founding::{Entry, Log};
use crate::model::group::Group;
use crate::model::name::MachineId;

/// What a control machine that is a manager of its cluster sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// This machine.
    pub me: &'a MachineId,
    /// Its address.
    pub address: IpAddr,
    /// The groups of control machines, as read completely.
    pub control_groups: &'a [Group],
    /// The founding log of etcd, which holds claims only.
    pub log: &'a Log,
    /// The machine that claimed before there was a log (`etcd/initialiser`).
    pub initialiser: Option<&'a MachineId>,
    /// Machines that wrote down that they may have a vote, which they do before they get it.
    pub recorded: &'a [MachineId],
    /// Control machines that wrote themselves down, and their addresses.
    pub registered: &'a [(MachineId, IpAddr)],
    /// Whether there is a member's data on this machine.
    pub data: bool,
    /// The unit of etcd on this machine.
    pub service: Service,
    /// The members, from one that has a majority behind it; `None` when no such member
    /// answers. It must have been read before the groups and what machines wrote down.
    pub members: Option<&'a [Observed]>,
    /// Whether this machine leads the managers.
    pub leads: bool,
    /// How long this machine has been trying to become a member, in seconds.
    pub waited_s: u64,
    /// How long this machine has seen the log's present last record, in seconds.
    pub last_for_s: u64,
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing: this machine is a member with a vote.
    Settled,
    /// Look again later.
    Wait(Waiting),
    /// Create the next record of the log with this machine's claim.
    Claim {
        /// The machine whose claim came to nothing.
        instead: Option<MachineId>,
    },
    /// Found: this machine is the one.
    Found,
    /// Have this machine added to the members.
    Add,
    /// Start as the member that was added.
    Join,
    /// Start on the data that is there.
    Start,
    /// Have this machine's member, of that id, be given its vote.
    Promote(u64),
    /// Take a member off for good.
    Remove {
        /// Its id.
        member: u64,
        /// Why.
        reason: Reason,
    },
    /// Put data aside that nobody will ever talk to.
    SetAside,
    /// Take back that this machine may have a vote.
    Withdraw,
    /// Take back what a machine that is gone wrote down.
    Forget(MachineId),
}

/// Why a member is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its instance is no longer in its group, or on its way out, and it does not answer.
    InstanceGone,
    /// The machine that added it went before it started.
    NeverStarted,
    /// It is this machine's own, and its data is lost.
    DataLost,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// There is no unit to start.
    Unit,
    /// The group does not list this machine as one that stays.
    Group,
    /// Another machine founds.
    Founder,
    /// A living machine may have a vote, but no member with a majority answers.
    Majority,
    /// It is starting.
    Starting,
    /// Another member is on its way in.
    AnotherJoins,
    /// A member does not answer.
    Unhealthy,
    /// A member is yet to be taken off whose machine had this address before.
    Address,
}

impl Waiting {
    /// What is waited for, to follow `waiting for`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unit => "a unit of etcd to start",
            Self::Group => "its group to list this machine",
            Self::Founder => "another control machine to found etcd",
            Self::Majority => "a member of etcd with a majority behind it",
            Self::Starting => "etcd to start",
            Self::AnotherJoins => "another member to have joined",
            Self::Unhealthy => "every member to answer",
            Self::Address => "the member that had this machine's address to be taken off",
        }
    }
}

/// What this machine does next.
pub fn next(seen: &Seen<'_>) -> Action {
    if let Some(action) = tidy(seen) {
        return action;
    }
    if seen.service == Service::Missing {
        return Action::Wait(Waiting::Unit);
    }
    match (seen.members, seen.data) {
        (Some(members), data) => match mine(seen, members) {
            Some(own) => go_on(seen, members, own, data),
            None if !is_living(seen.control_groups, seen.me) => Action::Wait(Waiting::Group),
            None if data => Action::SetAside,
            None => join(seen, members),
        },
        (None, true) if is_stranded(seen) => Action::SetAside,
        (None, true) if seen.service == Service::Running => Action::Wait(Waiting::Majority),
        (None, true) => Action::Start,
        (None, false) if seen.service == Service::Running => Action::Wait(Waiting::Starting),
        (None, false) => found(seen),
    }
}

/// Whether this machine's data is of a member that never had a vote, and no machine with a
/// vote lives: nobody can ever give it one. That is so when a founder goes before any other
/// has joined.
fn is_stranded(seen: &Seen<'_>) -> bool {
    seen.waited_s > FIRST_S
        && is_living(seen.control_groups, seen.me)
        && !seen.recorded.iter().any(|id| id == seen.me || is_living(seen.control_groups, id))
}

/// What to do with this machine's member.
fn go_on(seen: &Seen<'_>, members: &[Observed], own: &Observed, data: bool) -> Action {
    let started = own.member.name.is_some();
    if !data {
        if !started && own.member.learner {
            return Action::Join;
        }
        // What has voted, or followed, must not come back with an empty memory.
        return match has_majority(members, own.member.id) {
            true => Action::Remove { member: own.member.id, reason: Reason::DataLost },
            false => Action::Wait(Waiting::Majority),
        };
    }
    if seen.service != Service::Running {
        return Action::Start;
    }
    if !own.member.learner {
        return Action::Settled;
    }
    match started && own.healthy {
        true if voters(members).all(|one| one.healthy) => Action::Promote(own.member.id),
        true => Action::Wait(Waiting::Unhealthy),
        false => Action::Wait(Waiting::Starting),
    }
}

/// How this machine becomes a member of what is there.
fn join(seen: &Seen<'_>, members: &[Observed]) -> Action {
    // It had a vote, and has none any more: should the others go, nobody must wait for it.
    if seen.recorded.contains(seen.me) {
        return Action::Withdraw;
    }
    let url = peer_url(seen.address);
    if members.iter().any(|one| one.member.peer_urls.contains(&url)) {
        return Action::Wait(Waiting::Address);
    }
    // etcd takes one at a time, and none while a voting member does not answer.
    if members.iter().any(|one| one.member.learner || one.member.name.is_none()) {
        return Action::Wait(Waiting::AnotherJoins);
    }
    if !members.iter().all(|one| one.healthy) {
        return Action::Wait(Waiting::Unhealthy);
    }
    Action::Add
}

/// Whether and how there comes to be an etcd when none answers and this machine has no data.
fn found(seen: &Seen<'_>) -> Action {
    // A list without this machine is not the whole list, and nothing may be founded on it.
    if !is_living(seen.control_groups, seen.me) {
        return Action::Wait(Waiting::Group);
    }
    let votes = |id: &MachineId| id != seen.me && is_living(seen.control_groups, id);
    if seen.recorded.iter().any(votes) {
        // Two that both wrote this down and have none would wait for each other.
        return match seen.recorded.contains(seen.me) {
            true => Action::Withdraw,
            false => Action::Wait(Waiting::Majority),
        };
    }
    let race = Race {
        me: seen.me,
        control_groups: seen.control_groups,
        log: seen.log,
        legacy: seen.initialiser,
        waited_s: seen.waited_s,
        last_for_s: seen.last_for_s,
    };
    match claim::founder(&race) {
        Founder::Me => Action::Found,
        _ if seen.recorded.contains(seen.me) => Action::Withdraw,
        Founder::Claim { instead } => Action::Claim { instead },
        Founder::Other => Action::Wait(Waiting::Founder),
        Founder::Unlisted => Action::Wait(Waiting::Group),
    }
}

/// Whether this machine, which is to found and has written down that it may have a vote, still is
/// the one after a last look: of two at once, at least one sees the other.
pub fn may_found(me: &MachineId, control_groups: &[Group], log: &Log, recorded: &[MachineId]) -> bool {
    let claimed = matches!(log.last(), Some(Entry::Claim { machine }) if machine == me);
    claimed && !recorded.iter().any(|id| id != me && is_living(control_groups, id))
}

/// What the machine that leads the managers does about members that are gone. One thing at a time.
pub fn tidy(seen: &Seen<'_>) -> Option<Action> {
    let members = seen.members.filter(|_| seen.leads)?;
    // A list without this machine is not the whole list.
    if !instances(seen.control_groups).any(|one| one.id == *seen.me) {
        return None;
    }
    for one in members.iter().filter(|one| !one.healthy && !is_mine(seen, &one.member)) {
        let Some(reason) = gone(seen, &one.member) else { continue };
        if has_majority(members, one.member.id) {
            return Some(Action::Remove { member: one.member.id, reason });
        }
    }
    let listed = |id: &MachineId| instances(seen.control_groups).any(|one| one.id == *id);
    let member = |id: &MachineId| members.iter().any(|one| one.member.name.as_deref() == Some(id.as_str()));
    seen.recorded.iter().find(|id| !listed(id) && !member(id)).cloned().map(Action::Forget)
}

/// Why a member that does not answer is to be taken off; `None` when it is not.
fn gone(seen: &Seen<'_>, member: &Member) -> Option<Reason> {
    match &member.name {
        // Whoever has no instance's name was not put there by an agent.
        Some(name) => {
            let id: MachineId = name.parse().ok()?;
            (name.starts_with("i-") && !is_living(seen.control_groups, &id)).then_some(Reason::InstanceGone)
        }
        // Every control machine writes itself down before it is added.
        None => {
            let waited_for = seen.registered.iter().any(|(id, address)| {
                member.peer_urls.contains(&peer_url(*address)) && is_living(seen.control_groups, id)
            });
            (!waited_for).then_some(Reason::NeverStarted)
        }
    }
}

/// How a machine that is to go leaves etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It is no member.
    Out,
    /// The others go on without this member of its.
    Now(u64),
    /// The others would lose their majority, or what is stored.
    Wait,
    /// Nobody is left who could go on.
    Last,
}

/// How this machine leaves.
pub fn leave(seen: &Seen<'_>) -> Leave {
    let others = instances(seen.control_groups).any(|one| one.id != *seen.me && !one.lifecycle.is_leaving());
    let last = if others { Leave::Wait } else { Leave::Last };
    let Some(members) = seen.members else {
        return if seen.data { last } else { Leave::Out };
    };
    let Some(own) = mine(seen, members) else { return Leave::Out };
    if voters(members).all(|one| one.member.id == own.member.id) && !own.member.learner {
        return last;
    }
    match has_majority(members, own.member.id) {
        true => Leave::Now(own.member.id),
        false => last,
    }
}

/// Whether the voting members can decide now, and still could without the member of that id.
fn has_majority(members: &[Observed], without: u64) -> bool {
    let healthy = voters(members).filter(|one| one.healthy).count();
    let decides = healthy >= majority(voters(members).count());
    let rest: Vec<_> = voters(members).filter(|one| one.member.id != without).collect();
    let answering = rest.iter().filter(|one| one.healthy).count();
    decides && !rest.is_empty() && answering >= majority(rest.len())
}

fn voters(members: &[Observed]) -> impl Iterator<Item = &Observed> {
    members.iter().filter(|one| !one.member.learner)
}

fn mine<'a>(seen: &Seen<'_>, members: &'a [Observed]) -> Option<&'a Observed> {
    members.iter().find(|one| is_mine(seen, &one.member))
}

/// Whether a member is this machine's: by its name, or where it has none yet by its address.
fn is_mine(seen: &Seen<'_>, member: &Member) -> bool {
    match &member.name {
        Some(name) => name == seen.me.as_str(),
        None => member.peer_urls.contains(&peer_url(seen.address)),
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
