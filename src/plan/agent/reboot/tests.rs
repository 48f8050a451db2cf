use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::turn::{Outcome, Reason, Seen, Step, Turn};
use super::*;
use crate::model::machine::Role;
use crate::model::member::Manager;
use crate::model::reboot::{Answer, Mark};
use crate::model::service::{Instance, Revision};

pub(super) const NOW: i64 = 1_795_514_400;

pub(super) fn id(number: usize) -> MachineId {
    format!("i-{number}").parse().expect("an id")
}

pub(super) fn boot(number: usize) -> BootId {
    format!("b{number}").parse().expect("a boot")
}

/// A node that is up, and a manager that answers when `manager`.
pub(super) fn node(number: usize, manager: bool) -> Node {
    Node {
        id: format!("n{number}"),
        instance: Some(id(number)),
        address: None,
        manager: manager.then_some(Manager { leader: number == 1, reachable: true }),
        up: true,
        labels: BTreeMap::new(),
        unchanged_s: 10,
    }
}

pub(super) fn machine(number: usize, state: MachineState) -> Machine {
    Machine {
        id: id(number),
        address: "10.0.0.1".parse().expect("an address"),
        role: Role::Worker,
        state,
        leader: false,
        group: "workers".into(),
        metadata: BTreeMap::new(),
        features: crate::model::feature::Features::default(),
        pressure: None,
        host_files: Default::default(),
    }
}

/// A service that wants `desired` instances and has a healthy one on each of those machines.
pub(super) fn service(desired: u32, on: &[usize]) -> ServiceStatus {
    let since = DateTime::from_timestamp(NOW, 0).expect("a time");
    let instances = on.iter().map(|number| Instance {
        id: format!("t{number}"),
        name: format!("web@{number}"),
        machine: Some(id(*number)),
        addresses: vec![],
        ports: vec![],
        state: InstanceState::Healthy,
        digest: None,
        restarts: 0,
        message: None,
        since,
    });
    ServiceStatus {
        name: "web".parse().expect("a name"),
        desired,
        scaled_from: None,
        stopped: false,
        instances: instances.collect(),
        history: vec![Revision {
            number: 1,
            digest: format!("sha256:{}", "0".repeat(64)).parse().ok(),
            origin: crate::model::service::Origin {
                repository: "-".into(),
                commit: String::new(),
                subject: String::new(),
            },
            state: RevisionState::Running,
            reason: None,
            failed: None,
            pre_deploy: None,
            since,
        }],
    }
}

pub(super) fn held_by(number: usize, since: i64) -> Leave {
    Leave { machine: id(number), mark: Mark { since, boot: boot(number) } }
}

/// Three managers and two workers, all well, with a service on the workers.
struct Fleet {
    held: Option<Leave>,
    nodes: Vec<Node>,
    machines: Vec<Machine>,
    services: Vec<ServiceStatus>,
}

impl Fleet {
    fn new() -> Self {
        Self {
            held: None,
            nodes: (1..=5).map(|number| node(number, number <= 3)).collect(),
            machines: (1..=5).map(|number| machine(number, MachineState::Ready)).collect(),
            services: vec![service(2, &[4, 5])],
        }
    }

    fn seen(&self) -> Cluster<'_> {
        let Self { held, nodes, machines, services } = self;
        Cluster { held: held.as_ref(), nodes, machines, services, now: NOW }
    }

    fn ask(&self, number: usize) -> Verdict {
        leave(&id(number), &boot(number), self.seen())
    }

    fn refused(&self, number: usize) -> String {
        match self.ask(number) {
            Verdict::Refuse(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

const GRANT: Verdict = Verdict::Grant { instead: None, alone: false };

#[test]
fn a_machine_of_a_cluster_that_is_whole_gets_leave() {
    let fleet = Fleet::new();
    for number in 1..=5 {
        assert_eq!(fleet.ask(number), GRANT, "{number}");
    }
}

#[test]
fn only_one_has_leave_and_keeps_it_when_it_asks_again() {
    let mut fleet = Fleet::new();
    fleet.held = Some(held_by(4, NOW - 120));
    assert_eq!(fleet.refused(5), "it is the turn of i-4, for 2 minutes so far");
    fleet.machines[3].state = MachineState::Rebooting;
    assert_eq!(fleet.ask(4), Verdict::Again { since: NOW - 120, alone: false });
}

#[test]
fn leave_that_lapsed_is_taken_over() {
    let mut fleet = Fleet::new();
    fleet.held = Some(held_by(9, NOW - 60));
    assert_eq!(fleet.ask(4), Verdict::Grant { instead: Some(Lapsed::Gone(id(9))), alone: false });
    fleet.held = Some(held_by(5, NOW - 1_800));
    assert!(fleet.refused(4).contains("30 minutes so far"));
    fleet.held = Some(held_by(5, NOW - 1_801));
    assert_eq!(fleet.ask(4), Verdict::Grant { instead: Some(Lapsed::TooOld(id(5))), alone: false });
}

#[test]
fn a_reboot_does_not_begin_on_old_leave_or_on_another_boot_s() {
    let mut fleet = Fleet::new();
    fleet.held = Some(held_by(4, NOW - 901));
    assert_eq!(fleet.ask(4), Verdict::Lapsed);
    fleet.held = Some(held_by(5, NOW - 60));
    fleet.machines[3].state = MachineState::Rebooting;
    assert_eq!(fleet.ask(4), Verdict::Lapsed, "another has it by now");
    fleet.held = Some(held_by(4, NOW - 60));
    assert_eq!(leave(&id(4), &boot(7), fleet.seen()), Verdict::Lapsed);
}

#[test]
fn nobody_reboots_while_a_service_lacks_instances_or_is_rolled_out() {
    let mut fleet = Fleet::new();
    fleet.services[0].instances[0].state = InstanceState::Starting;
    assert_eq!(fleet.refused(1), "services lack healthy instances: web");
    let mut fleet = Fleet::new();
    fleet.services[0].history[0].state = RevisionState::RollingOut;
    assert_eq!(fleet.refused(1), "rollouts are under way: web");
    fleet.held = Some(held_by(4, NOW));
    assert_eq!(fleet.refused(4), "rollouts are under way: web", "nor when it has leave already");
}

#[test]
fn the_managers_can_always_decide() {
    let mut fleet = Fleet::new();
    fleet.nodes[2].manager = Some(Manager { leader: false, reachable: false });
    assert_eq!(fleet.refused(1), "control machines don't answer: i-3");
    assert_eq!(fleet.ask(4), GRANT, "a worker is not missed by them");
    fleet.nodes.remove(2);
    assert_eq!(
        fleet.refused(1),
        "2 control machines can't decide without it; three or more, or one alone, can reboot"
    );
    fleet.nodes.remove(1);
    assert_eq!(fleet.ask(1), GRANT, "a manager without others has no better moment");
}

#[test]
fn the_only_machine_is_told_that_it_is_alone() {
    let mut fleet = Fleet::new();
    fleet.nodes.truncate(1);
    assert_eq!(fleet.refused(4), "i-4 is not in the cluster");
    assert_eq!(fleet.ask(1), Verdict::Grant { instead: None, alone: true });
}

#[test]
fn nobody_reboots_while_another_is_emptied() {
    let mut fleet = Fleet::new();
    fleet.machines[3].state = MachineState::Draining;
    assert_eq!(fleet.refused(5), "other machines are being emptied: i-4");
    fleet.services[0].instances.retain(|instance| instance.machine != Some(id(4)));
    fleet.services[0].desired = 1;
    assert_eq!(fleet.ask(5), GRANT, "one that runs nothing may stay drained");
}

#[test]
fn a_machine_that_somebody_took_out_of_work_stays_as_it_is() {
    let mut fleet = Fleet::new();
    fleet.machines[3].state = MachineState::Draining;
    assert_eq!(fleet.refused(4), "it is draining");
    fleet.machines[3].state = MachineState::Paused;
    assert_eq!(fleet.refused(4), "it is paused");
}

#[test]
fn leave_is_given_back_only_when_all_is_well_again() {
    let mut fleet = Fleet::new();
    fleet.held = Some(held_by(3, NOW));
    let back = |fleet: &Fleet, marked| give_back(&id(3), marked, fleet.seen());
    fleet.nodes[2].up = false;
    assert_eq!(back(&fleet, true), Return::Wait(Refusal::State(MachineState::Down)));
    fleet.nodes[2].up = true;
    fleet.nodes[2].manager = Some(Manager { leader: false, reachable: false });
    assert_eq!(back(&fleet, true), Return::Resume);
    assert_eq!(back(&fleet, false), Return::Wait(Refusal::Managers(vec!["i-3".into()])));
    fleet.nodes[2] = node(3, true);
    fleet.services[0].desired = 3;
    assert_eq!(back(&fleet, false), Return::Wait(Refusal::NotWhole(vec!["web".into()])));
    fleet.services[0].desired = 2;
    assert_eq!(back(&fleet, false), Return::End);
    fleet.held = Some(held_by(4, NOW));
    assert_eq!(back(&fleet, false), Return::Done, "another's leave is not its to end");
    assert_eq!(back(&fleet, true), Return::Resume, "but it takes work again");
}

fn seen(minute: i64) -> Seen {
    let start = DateTime::from_timestamp(NOW, 0).expect("a time");
    Seen { now: start + TimeDelta::minutes(minute), wanted: true, opened: Some(start) }
}

fn granted(alone: bool) -> Outcome {
    Outcome::Answered(Answer::Granted { since: NOW, alone })
}

fn wait() -> Outcome {
    Outcome::Answered(Answer::Wait { reason: "no".into() })
}

/// A turn after those outcomes, all in the first minute.
fn after(outcomes: &[Outcome]) -> Turn {
    let mut turn = Turn::new(boot(1));
    for outcome in outcomes {
        let _ = turn.next(seen(0));
        turn.took(outcome, seen(0));
    }
    turn
}

#[test]
fn a_turn_goes_from_the_wish_to_the_reboot() {
    let mut turn = Turn::new(boot(1));
    for (step, outcome) in [
        (Step::Look, Outcome::Looked(None)),
        (Step::Ask, wait()),
        (Step::Ask, granted(false)),
        (Step::Empty, Outcome::Emptied),
        (Step::Ask, wait()),
        (Step::Ask, granted(false)),
        (Step::Reboot, Outcome::Told),
    ] {
        assert_eq!(turn.next(seen(0)), step);
        turn.took(&outcome, seen(0));
    }
    assert_eq!(turn.next(seen(1)), Step::Rest, "it is going down");
    assert_eq!(turn.next(seen(6)), Step::GiveBack(Reason::StillUp));
}

#[test]
fn a_machine_on_its_own_reboots_without_being_emptied() {
    assert_eq!(after(&[Outcome::Looked(None), granted(true)]).next(seen(0)), Step::Reboot);
}

#[test]
fn a_machine_that_was_frozen_asks_again_before_it_goes() {
    let cleared = [Outcome::Looked(None), granted(false), Outcome::Emptied, granted(false)];
    assert_eq!(after(&cleared).next(seen(1)), Step::Ask);
    assert_eq!(after(&cleared).next(seen(11)), Step::GiveBack(Reason::TooSlow));
}

#[test]
fn nothing_is_asked_without_a_wish_or_outside_of_the_window() {
    let mut turn = after(&[Outcome::Looked(None)]);
    assert_eq!(turn.next(Seen { wanted: false, ..seen(0) }), Step::Rest);
    assert_eq!(turn.next(Seen { opened: None, ..seen(0) }), Step::Rest);
    assert_eq!(turn.next(seen(0)), Step::Ask);
}

#[test]
fn a_turn_ends_when_the_window_closes_or_the_wish_goes() {
    let stages = [
        vec![Outcome::Looked(None), granted(false)],
        vec![Outcome::Looked(None), granted(false), Outcome::Emptied],
        vec![Outcome::Looked(None), granted(false), Outcome::Emptied, granted(false)],
    ];
    for outcomes in stages {
        let closed = Seen { opened: None, ..seen(0) };
        assert_eq!(after(&outcomes).next(closed), Step::GiveBack(Reason::Closed));
        let unwanted = Seen { wanted: false, ..seen(0) };
        assert_eq!(after(&outcomes).next(unwanted), Step::GiveBack(Reason::NotWanted));
    }
}

#[test]
fn what_can_t_be_emptied_waits_for_the_next_window() {
    let mut turn = after(&[Outcome::Looked(None), granted(false), Outcome::NotEmptied]);
    assert_eq!(turn.next(seen(0)), Step::GiveBack(Reason::Refused));
    turn.took(&Outcome::GivenBack, seen(0));
    assert_eq!(turn.next(seen(1)), Step::Rest);
    let tomorrow: DateTime<Utc> = seen(24 * 60).now;
    assert_eq!(turn.next(Seen { now: tomorrow, wanted: true, opened: Some(tomorrow) }), Step::Ask);
}

#[test]
fn emptying_takes_ten_minutes_at_most() {
    for outcomes in [vec![granted(false)], vec![granted(false), Outcome::Emptied]] {
        let mut turn = after(&[vec![Outcome::Looked(None)], outcomes].concat());
        assert_ne!(turn.next(seen(10)), Step::GiveBack(Reason::TooSlow));
        assert_eq!(turn.next(seen(11)), Step::GiveBack(Reason::TooSlow));
    }
}

#[test]
fn an_agent_that_starts_again_finds_out_where_it_was() {
    let mark = |number| Outcome::Looked(Some(Mark { since: NOW, boot: boot(number) }));
    assert_eq!(after(&[mark(1)]).next(seen(0)), Step::Ask, "it had leave, and still wants to");
    assert_eq!(after(&[mark(2)]).next(seen(0)), Step::GiveBack(Reason::Rebooted));
    assert_eq!(after(&[mark(1)]).next(seen(11)), Step::GiveBack(Reason::TooSlow));
}

#[test]
fn leave_that_nothing_came_of_is_given_back_and_asked_for_again() {
    let mut turn = after(&[Outcome::Looked(None), Outcome::Answered(Answer::Lapsed)]);
    assert_eq!(turn.next(seen(0)), Step::GiveBack(Reason::Lapsed));
    turn.took(&Outcome::GivenBack, seen(0));
    assert_eq!(turn.next(seen(0)), Step::Ask);
}

#[test]
fn a_flag_that_stays_does_not_have_the_machine_reboot_again() {
    let mark = Outcome::Looked(Some(Mark { since: NOW, boot: boot(2) }));
    assert_eq!(after(&[mark, Outcome::GivenBack]).next(seen(0)), Step::Rest);
}
