//! What an agent does about the state of its machine's engine. Pure; nothing here waits or asks.
//!
//! An outage has many faces: a manager whose engine was restarted reports `pending` until there is
//! a majority again, `error` when its address was missing at that moment, or that it is a worker.
//! All of them pass. So what a manager holds is deleted only when a majority of the published
//! cluster says that its node was removed, and a worker leaves its swarm only for a cluster that
//! can take it.

use crate::model::machine::Role;
use crate::model::member::{Membership, Stored};
use crate::model::name::SwarmId;
use crate::model::standing::{Place, Standing};

/// How long a machine that was never a member may take to join, in seconds, before it begins again.
pub const JOINING_S: u64 = 90;
/// How long the cluster must have said that a node is none of its own before that is believed, in
/// seconds: a manager that was cut off may answer for ten more.
pub const REMOVED_S: u64 = 30;
/// How long an engine may wait for a cluster that answers, in seconds, before it is restarted.
pub const STUCK_S: u64 = 120;
/// How long the engine must have been in a state that a restart ends, in seconds.
pub const SETTLED_S: u64 = 10;
/// The time until the second restart of the engine, in seconds; it doubles with each.
const RESTART_S: u64 = 30;
/// The longest time between two restarts, in seconds.
const RESTART_MOST_S: u64 = 600;
/// How many restarts are tried before an engine that holds no state begins again.
const RESTARTS: u32 = 3;

/// What the engine is found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine<'a> {
    /// It answers.
    Reports(&'a Membership),
    /// It does not answer, though its unit runs, or somebody stopped it.
    Silent,
    /// It does not answer, and its unit has failed.
    Failed,
}

/// What the rendezvous says of this machine's swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Published {
    /// It could not be read, or the machine's own swarm is not known.
    Unknown,
    /// No swarm is published.
    None,
    /// It is the published one.
    Same,
    /// Another one is published.
    Other,
}

/// Compares the swarm of this machine with the published one.
pub fn published(own: Option<&SwarmId>, published: Result<Option<&SwarmId>, ()>) -> Published {
    match (own, published) {
        (_, Err(())) => Published::Unknown,
        (_, Ok(None)) => Published::None,
        (Some(own), Ok(Some(published))) if own == published => Published::Same,
        (Some(_), Ok(Some(_))) => Published::Other,
        (None, Ok(Some(_))) => Published::Unknown,
    }
}

/// Everything that decides what is done.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What the machine should be.
    pub role: Role,
    /// The engine.
    pub engine: Engine<'a>,
    /// Whether the engine has a leader, as far as it reports that.
    pub leader: bool,
    /// What it keeps on disk; `None` when that could not be read.
    pub stored: Option<&'a Stored>,
    /// The published cluster.
    pub published: Published,
    /// What the published cluster says of this machine's node; `None` when no control machine with a
    /// majority answers, or the one that answers is of another swarm than the published one.
    pub standing: Option<&'a Standing>,
    /// How long that has been said without a break, in seconds.
    pub said_for_s: u64,
    /// How long the engine has been in this state, in seconds.
    pub for_s: u64,
    /// How often the engine was restarted for this.
    pub restarts: u32,
    /// How long ago it was restarted last, in seconds.
    pub restarted_s: Option<u64>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing: it is the member that it should be.
    Stay,
    /// Enter the cluster: the engine is in no swarm and holds no state of one.
    Enter,
    /// Find out whether this manager's swarm becomes the published one.
    Settle,
    /// Look again later; what runs goes on running.
    Wait(Waiting),
    /// Restart the engine, which deletes nothing.
    Restart(Cause),
    /// Leave a swarm that this machine never was a member of, and begin again.
    StartOver,
    /// Leave by force, which deletes what the engine keeps of its swarm, and join the published one.
    Rejoin(Rejoin),
    /// Make this manager a worker, which its swarm agrees to.
    Demote,
    /// Nothing can be done without a person.
    Report(Trouble),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiting {
    /// The engine has to answer.
    Engine,
    /// What the engine keeps has to become readable.
    Disk,
    /// The managers have to have a leader again.
    Leader,
    /// The first join is under way.
    Joining,
    /// The engine was just restarted, or will be.
    Restart,
    /// A control machine has to answer before a worker is disturbed.
    Cluster,
}

impl Waiting {
    /// What is waited for, to follow `waiting for`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Engine => "Docker to answer",
            Self::Disk => "/var/lib/docker/swarm to be readable",
            Self::Leader => "the control machines to have a leader; nothing is stopped or deleted meanwhile",
            Self::Joining => "Docker to join the swarm",
            Self::Restart => "the next time that Docker may be restarted",
            Self::Cluster => "a control machine to answer; what runs here is left alone",
        }
    }
}

/// Why the engine is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its unit failed.
    UnitFailed,
    /// It gave up, as when its address did not exist yet.
    Error,
    /// The cluster answers and knows this machine, but the engine does not get back in.
    Stuck,
}

/// Why a machine leaves its swarm for the published one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejoin {
    /// A majority of the published cluster says that its node was removed.
    Removed,
    /// The cluster that it knows was replaced by another, and it holds no state.
    Replaced,
    /// It should be a manager, is a worker, and holds no state.
    NoManager,
}

/// What a person has to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The engine's state is encrypted with a key that only a person has.
    Locked,
    /// The engine says that it is in no swarm, but keeps the state of a manager.
    Orphaned,
    /// A manager of another swarm should be a worker of this one.
    WrongManager,
    /// The engine has been restarted often without getting back into a cluster that answers.
    Restarts,
}

impl Trouble {
    /// What is wrong and what to do.
    pub fn label(self) -> &'static str {
        match self {
            Self::Locked => "the swarm is locked. Run `docker swarm unlock` on this machine",
            Self::Orphaned => {
                "Docker is in no swarm, but /var/lib/docker/swarm/raft holds the state of a manager. It is kept. \
                 Restore /var/lib/docker/swarm from a backup and restart Docker, or move the folder away if \
                 nothing of it is needed"
            }
            Self::WrongManager => {
                "this machine should be a worker and manages another swarm than the cluster's. Its state is kept. \
                 Run `docker swarm leave --force` on it if nothing of it is needed"
            }
            Self::Restarts => "Docker does not get back into the swarm. See `journalctl -u docker`",
        }
    }
}

/// What is done about the engine's state.
pub fn decide(seen: &Seen<'_>) -> Action {
    match seen.engine {
        Engine::Silent => Action::Wait(Waiting::Engine),
        Engine::Failed => restart(seen, Cause::UnitFailed),
        Engine::Reports(state) => match state {
            Membership::Locked => Action::Report(Trouble::Locked),
            Membership::Out => outside(seen),
            Membership::In { manager: true, .. } => manager(seen),
            Membership::In { manager: false, .. } => worker(seen),
            Membership::Pending => pending(seen),
            Membership::Broken { .. } => broken(seen),
        },
    }
}

/// Whether a majority may need what the engine keeps. What can't be read counts as such.
fn holds_state(seen: &Seen<'_>) -> bool {
    seen.stored.is_none_or(|stored| stored.raft)
}

/// Whether the engine was a member of some swarm at some time.
fn was_member(seen: &Seen<'_>) -> bool {
    seen.stored.is_none_or(|stored| stored.certificate.is_some())
}

/// Whether a majority of the published cluster, which is this machine's own, says that its node was
/// removed, and has said so for long enough.
fn is_removed(seen: &Seen<'_>) -> bool {
    seen.published == Published::Same
        && seen.said_for_s >= REMOVED_S
        && seen.standing.is_some_and(|standing| standing.node == Place::Unknown)
}

/// Whether this machine, which holds no state, knows a cluster that was replaced by one that runs
/// what it should.
fn is_replaced(seen: &Seen<'_>) -> bool {
    seen.published == Published::Other
        && !holds_state(seen)
        && seen.standing.is_some_and(|standing| standing.restored)
}

/// Whether the machine's own cluster answers and knows its node.
fn is_known(seen: &Seen<'_>) -> bool {
    seen.published == Published::Same && seen.standing.is_some_and(|standing| standing.node != Place::Unknown)
}

fn rejoin(seen: &Seen<'_>) -> Option<Action> {
    if is_removed(seen) {
        return Some(Action::Rejoin(Rejoin::Removed));
    }
    is_replaced(seen).then_some(Action::Rejoin(Rejoin::Replaced))
}

fn outside(seen: &Seen<'_>) -> Action {
    match seen.stored {
        None => Action::Wait(Waiting::Disk),
        Some(stored) if stored.raft => Action::Report(Trouble::Orphaned),
        Some(_) => Action::Enter,
    }
}

fn manager(seen: &Seen<'_>) -> Action {
    // One that has a leader is part of a majority itself.
    if !seen.leader && is_removed(seen) {
        return Action::Rejoin(Rejoin::Removed);
    }
    match (seen.role, seen.published) {
        (Role::Control, Published::Same) => Action::Stay,
        // Without its id nothing can be compared, and that is so while there is no leader.
        (Role::Control, Published::Unknown) if seen.leader => Action::Stay,
        (Role::Control, Published::Unknown) => Action::Wait(Waiting::Leader),
        (Role::Control, Published::None | Published::Other) if seen.leader => Action::Settle,
        (Role::Control, Published::None | Published::Other) => Action::Wait(Waiting::Leader),
        (Role::Worker, Published::Same) if seen.leader => Action::Demote,
        (Role::Worker, Published::Same) => Action::Wait(Waiting::Leader),
        (Role::Worker, Published::Unknown) => Action::Wait(Waiting::Cluster),
        (Role::Worker, Published::None | Published::Other) => Action::Report(Trouble::WrongManager),
    }
}

fn worker(seen: &Seen<'_>) -> Action {
    if let Some(action) = rejoin(seen) {
        return action;
    }
    if seen.role == Role::Worker {
        return Action::Stay;
    }
    // A manager without a majority may say so, and one that joins is a worker for a moment.
    if holds_state(seen) {
        return if is_known(seen) && seen.for_s > STUCK_S {
            restart(seen, Cause::Stuck)
        } else {
            Action::Wait(Waiting::Leader)
        };
    }
    if is_known(seen) && seen.for_s > JOINING_S {
        return Action::Rejoin(Rejoin::NoManager);
    }
    Action::Wait(Waiting::Leader)
}

fn pending(seen: &Seen<'_>) -> Action {
    if let Some(action) = rejoin(seen) {
        return action;
    }
    if !holds_state(seen) && !was_member(seen) {
        return if seen.for_s > JOINING_S { Action::StartOver } else { Action::Wait(Waiting::Joining) };
    }
    if is_known(seen) && seen.for_s > STUCK_S {
        return stuck(seen);
    }
    Action::Wait(Waiting::Leader)
}

fn broken(seen: &Seen<'_>) -> Action {
    if let Some(action) = rejoin(seen) {
        return action;
    }
    if !holds_state(seen) && !was_member(seen) {
        return Action::StartOver;
    }
    // A restart ends a worker's containers, so that must be good for something. A manager's is not
    // put off: when all of them gave up, none answers.
    if seen.role == Role::Worker && !holds_state(seen) && seen.standing.is_none() {
        return Action::Wait(Waiting::Cluster);
    }
    if is_known(seen) { stuck_with(seen, Cause::Error) } else { restart(seen, Cause::Error) }
}

fn stuck(seen: &Seen<'_>) -> Action {
    stuck_with(seen, Cause::Stuck)
}

/// Restarts do not help for ever where the cluster answers: a control machine that got a certificate
/// and never became a manager holds nothing and can join again.
fn stuck_with(seen: &Seen<'_>, cause: Cause) -> Action {
    if seen.restarts < RESTARTS {
        return restart(seen, cause);
    }
    let manager = seen.standing.is_some_and(|standing| standing.node == Place::Manager);
    if seen.role == Role::Control && !holds_state(seen) && !manager {
        return Action::Rejoin(Rejoin::NoManager);
    }
    match restart(seen, cause) {
        Action::Wait(_) => Action::Report(Trouble::Restarts),
        action => action,
    }
}

fn restart(seen: &Seen<'_>, cause: Cause) -> Action {
    let pause = RESTART_S.saturating_mul(1 << seen.restarts.saturating_sub(1).min(10)).min(RESTART_MOST_S);
    let due = match seen.restarted_s {
        None => seen.for_s >= SETTLED_S,
        Some(ago) => ago >= pause,
    };
    if due { Action::Restart(cause) } else { Action::Wait(Waiting::Restart) }
}

#[cfg(test)]
mod tests;
