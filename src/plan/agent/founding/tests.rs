use super::*;
use crate::model::group::Lifecycle::{self, InService, Pending, TerminatingWait};
use crate::plan::agent::claim::{FIRST_S, FOUNDING_S};
use crate::plan::agent::tests::{group, id};

fn swarm(text: &str) -> SwarmId {
    text.parse().expect("an id")
}

fn claim(number: usize) -> Entry {
    Entry::Claim { machine: id(number) }
}

fn published(number: usize, cluster: &str) -> Entry {
    Entry::Published { machine: id(number), cluster: swarm(cluster) }
}

fn holder(number: usize, cluster: Option<&str>) -> Holder {
    Holder { machine: id(number), key: format!("k{number}"), cluster: cluster.map(swarm) }
}

/// A world of control machines 1 to 3, as machine `me` sees it.
struct World {
    me: MachineId,
    groups: Vec<Group>,
    log: Log,
    legacy: Option<MachineId>,
    token: bool,
    registered: Vec<(MachineId, IpAddr)>,
    holders: Vec<Holder>,
    waited_s: u64,
    last_for_s: u64,
}

impl World {
    fn of(me: usize, living: &[(usize, Lifecycle)], log: Vec<Entry>) -> Self {
        Self {
            me: id(me),
            groups: vec![group("control", living)],
            log: Log::of(log),
            legacy: None,
            token: false,
            registered: vec![],
            holders: vec![],
            waited_s: 0,
            last_for_s: 0,
        }
    }

    fn all(me: usize, log: Vec<Entry>) -> Self {
        Self::of(me, &[(1, InService), (2, InService), (3, InService)], log)
    }

    fn register(mut self, number: usize) -> Self {
        self.registered.push((id(number), address(number)));
        self.token = true;
        self
    }

    fn hold(mut self, number: usize, cluster: Option<&str>) -> Self {
        self.holders.push(holder(number, cluster));
        self
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            me: &self.me,
            role: Role::Control,
            control_groups: &self.groups,
            log: &self.log,
            legacy: self.legacy.as_ref(),
            token: self.token,
            registered: &self.registered,
            holders: &self.holders,
            waited_s: self.waited_s,
            last_for_s: self.last_for_s,
        }
    }

    fn enter(&self) -> Step {
        enter(&self.seen())
    }

    fn standing(&self, cluster: &str, token_is_ours: Option<bool>, alone: Option<bool>) -> Standing {
        standing(&self.seen(), &Own { cluster: &swarm(cluster), token_is_ours, alone })
    }
}

fn address(number: usize) -> IpAddr {
    format!("10.0.0.{number}").parse().expect("an address")
}

const FIRST_CLAIM: Step = Step::Claim { instead: None };
const FOUNDER: Step = Step::Wait(Waiting::Founder);

#[test]
fn the_lowest_machine_in_service_founds() {
    let launched = [(1, Pending), (2, InService), (3, InService)];
    assert_eq!(World::of(2, &launched, vec![]).enter(), FIRST_CLAIM);
    let mut third = World::of(3, &launched, vec![]);
    assert_eq!(third.enter(), FOUNDER);
    third.waited_s = FIRST_S + 1;
    assert_eq!(third.enter(), FIRST_CLAIM, "one that never comes up is not waited for for ever");
    assert_eq!(World::of(2, &launched, vec![claim(2)]).enter(), Step::Found);
}

#[test]
fn a_claim_of_a_machine_that_is_gone_is_taken_over_at_once() {
    let world = World::of(2, &[(2, InService), (3, InService)], vec![claim(1)]);
    assert_eq!(world.enter(), Step::Claim { instead: Some(id(1)) });
}

/// At e1e3c77 a living initialiser was waited for without limit.
#[test]
fn a_living_founder_that_never_founds_is_waited_for_within_a_limit() {
    let mut world = World::all(2, vec![claim(1)]);
    (world.waited_s, world.last_for_s) = (10_000, FOUNDING_S);
    assert_eq!(world.enter(), FOUNDER);
    world.last_for_s = FOUNDING_S + 1;
    assert_eq!(world.enter(), Step::Claim { instead: Some(id(1)) });
    world.waited_s = 0;
    assert_eq!(world.enter(), Step::Claim { instead: Some(id(1)) }, "the lowest of the others is first");
    // The one that was taken over from does not found.
    let late = World::all(1, vec![claim(1), claim(2)]);
    assert_eq!(late.enter(), FOUNDER);
}

#[test]
fn a_cluster_that_is_there_is_joined_by_a_machine_on_record() {
    let world = World::of(2, &[(2, InService), (3, InService)], vec![claim(1), published(1, "a")]);
    let mut world = world.register(3).register(1);
    world.waited_s = 10_000;
    assert_eq!(world.enter(), Step::Record(Some(swarm("a"))));
    let world = world.hold(2, Some("a"));
    assert_eq!(world.enter(), Step::Join(vec![address(3)]), "machine 1 is gone");
}

#[test]
fn nothing_is_founded_on_a_list_without_this_machine() {
    for listed in [vec![], vec![(1, InService)], vec![(9, TerminatingWait)]] {
        for log in [vec![], vec![claim(9)], vec![claim(1)], vec![claim(1), published(1, "a")]] {
            let mut world = World::of(9, &listed, log);
            (world.waited_s, world.last_for_s) = (10_000, 10_000);
            assert_eq!(world.enter(), Step::Wait(Waiting::Group));
        }
    }
}

#[test]
fn nothing_is_founded_while_a_living_machine_may_hold_the_state() {
    for last in [None, Some(claim(2)), Some(claim(9))] {
        let log = vec![claim(1), published(1, "a")].into_iter().chain(last).collect();
        let mut world = World::all(2, log).hold(3, Some("a"));
        (world.waited_s, world.last_for_s) = (10_000, 10_000);
        assert_eq!(world.enter(), Step::Wait(Waiting::Majority));
        // Its record says nothing: it holds none. Two of that kind must not wait for each other.
        let both = world.hold(2, Some("a"));
        assert_eq!(both.enter(), Step::Withdraw(vec!["k2".to_owned()]));
    }
    // What a machine recorded that founded in vain, or of a cluster that was replaced, holds up nobody.
    let world = World::all(2, vec![claim(1), published(1, "a"), claim(2), published(2, "b"), claim(2)]);
    let world = world.hold(3, Some("a")).hold(1, Some("x"));
    assert_eq!(world.enter(), Step::Found);
}

#[test]
fn a_lost_cluster_is_founded_again() {
    let gone = World::of(2, &[(2, InService), (3, InService)], vec![claim(1), published(1, "a")]);
    let gone = gone.hold(1, Some("a")).hold(2, Some("a"));
    assert_eq!(gone.enter(), FIRST_CLAIM, "this machine has lost its own data");
}

#[test]
fn a_worker_only_joins() {
    for log in [vec![], vec![claim(5)], vec![claim(1), published(1, "a")]] {
        let mut world = World::of(5, &[(1, InService)], log);
        world.waited_s = 10_000;
        let seen = Seen { role: Role::Worker, ..world.seen() };
        assert_eq!(enter(&seen), Step::Wait(Waiting::Control));
        let world = world.register(1);
        let seen = Seen { role: Role::Worker, ..world.seen() };
        assert_eq!(enter(&seen), Step::Join(vec![address(1)]), "without a record");
    }
}

#[test]
fn a_swarm_is_published_by_the_last_claim_only() {
    let world = World::all(1, vec![claim(1)]);
    assert_eq!(world.standing("a", None, Some(true)), Standing::Record);
    let world = world.hold(1, Some("a"));
    assert_eq!(world.standing("a", None, Some(true)), Standing::Publish);
    let member = World::all(1, vec![claim(1), published(1, "a")]);
    assert_eq!(member.standing("a", Some(true), Some(true)), Standing::Member);
    // Another took over and has not published yet: nobody gives way before somebody has.
    let mut late = World::all(1, vec![claim(1), claim(2)]);
    assert_eq!(late.standing("a", None, Some(true)), Standing::Wait(Waiting::Founder));
    late.last_for_s = FOUNDING_S + 1;
    assert_eq!(late.standing("a", None, Some(true)), Standing::Claim { instead: Some(id(2)) });
}

#[test]
fn a_swarm_that_was_founded_in_vain_gives_way_and_no_other_does() {
    let log = vec![claim(1), claim(2), published(2, "b")];
    let world = World::all(1, log.clone());
    assert_eq!(world.standing("a", Some(false), Some(true)), Standing::GiveWay);
    assert_eq!(world.standing("a", Some(false), Some(false)), Standing::Report(Trouble::Foreign));
    assert_eq!(world.standing("a", Some(false), None), Standing::Wait(Waiting::Majority));
    // A swarm that somebody made by hand is not the agent's to delete.
    let other = World::all(3, log);
    assert_eq!(other.standing("c", Some(false), Some(true)), Standing::Report(Trouble::Foreign));
    // Nor is one that was the cluster once.
    let log = vec![claim(1), published(1, "a"), claim(2), published(2, "b")];
    for alone in [None, Some(true), Some(false)] {
        let old = World::all(1, log.clone());
        assert_eq!(old.standing("a", Some(false), alone), Standing::Report(Trouble::Superseded));
    }
}

#[test]
fn a_cluster_of_the_version_before_the_log_is_joined_adopted_and_never_founded_again() {
    // A new agent joins it as before, with a record of what it may hold.
    let mut world = World::all(2, vec![]).register(1);
    (world.legacy, world.waited_s, world.last_for_s) = (Some(id(1)), 10_000, 10_000);
    assert_eq!(world.enter(), Step::Record(None));
    let world = world.hold(2, None);
    assert_eq!(world.enter(), Step::Join(vec![address(1)]));
    // A manager whose agent is upgraded publishes the swarm that the token opens, and no other.
    let mut manager = World::all(2, vec![]).register(1).register(2);
    manager.legacy = Some(id(1));
    assert_eq!(manager.standing("a", Some(true), Some(false)), Standing::Record);
    assert_eq!(manager.standing("b", Some(false), Some(true)), Standing::Report(Trouble::Foreign));
    let manager = manager.hold(2, Some("a"));
    assert_eq!(manager.standing("a", Some(true), Some(false)), Standing::Publish);
    // One that holds its state and is not registered at the moment is waited for.
    let mut waiting = World::all(3, vec![]).hold(1, None);
    (waiting.legacy, waiting.token, waiting.waited_s, waiting.last_for_s) =
        (Some(id(1)), true, 10_000, 10_000);
    assert_eq!(waiting.enter(), Step::Wait(Waiting::Majority));
    // All of its control machines are gone: it is founded again, in the log.
    let mut lost = World::of(3, &[(3, InService)], vec![]);
    (lost.legacy, lost.token) = (Some(id(1)), true);
    assert_eq!(lost.enter(), Step::Claim { instead: Some(id(1)) });
}

#[test]
fn a_founder_that_is_upgraded_while_it_founds_goes_on() {
    let mut world = World::all(3, vec![]);
    world.legacy = Some(id(3));
    assert_eq!(world.enter(), FIRST_CLAIM, "its claim was not in the log");
    assert_eq!(world.standing("a", None, Some(true)), Standing::Record);
    let mut other = World::all(2, vec![]);
    other.legacy = Some(id(3));
    assert_eq!(other.enter(), FOUNDER);
    assert_eq!(other.standing("b", None, Some(true)), Standing::Wait(Waiting::Founder));
}
