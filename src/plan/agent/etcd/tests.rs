use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::*;
use crate::model::group::{Capacity, GroupInstance, Lifecycle};
use crate::plan::agent::claim::FOUNDING_S;

pub(super) fn id(number: u8) -> MachineId {
    format!("i-{number}").parse().expect("an id")
}

pub(super) fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

pub(super) fn group(instances: &[(u8, Lifecycle)]) -> Group {
    Group {
        name: "control".to_owned(),
        capacity: Capacity { min: 0, max: 9, desired: 3 },
        launch_template: None,
        instances: instances
            .iter()
            .map(|(number, lifecycle)| GroupInstance {
                id: id(*number),
                lifecycle: *lifecycle,
                healthy: true,
                zone: "a".into(),
                launch_template: None,
            })
            .collect(),
        tags: BTreeMap::new(),
    }
}

fn member(number: u8, healthy: bool) -> Observed {
    let member = Member {
        id: number.into(),
        name: Some(format!("i-{number}")),
        peer_urls: vec![peer_url(address(number))],
        client_urls: vec!["https://there".to_owned()],
        learner: false,
    };
    Observed { member, healthy }
}

fn unstarted(number: u8) -> Observed {
    let mut one = member(number, false);
    (one.member.name, one.member.learner) = (None, true);
    one.member.client_urls.clear();
    one
}

fn seen<'a>(me: &'a MachineId, groups: &'a [Group]) -> Seen<'a> {
    let number = me.as_str().trim_start_matches("i-").parse().expect("a number");
    Seen {
        me,
        address: address(number),
        control_groups: groups,
        log: const { &Log::new() },
        initialiser: None,
        recorded: &[],
        registered: &[],
        data: false,
        service: Service::Stopped,
        members: None,
        leads: false,
        waited_s: 0,
        last_for_s: 0,
    }
}

fn claims(numbers: &[u8]) -> Log {
    Log::of(numbers.iter().map(|number| Entry::Claim { machine: id(*number) }).collect())
}

const FIRST_CLAIM: Action = Action::Claim { instead: None };

use Lifecycle::{InService, TerminatingWait};

#[test]
fn one_founds_and_the_others_wait() {
    let groups = [group(&[(1, InService), (2, InService)])];
    let (one, two) = (id(1), id(2));
    assert_eq!(next(&seen(&one, &groups)), FIRST_CLAIM);
    assert_eq!(next(&seen(&two, &groups)), Action::Wait(Waiting::Founder));
    assert_eq!(next(&Seen { waited_s: 61, ..seen(&two, &groups) }), FIRST_CLAIM);
    let log = claims(&[1]);
    assert_eq!(next(&Seen { log: &log, ..seen(&one, &groups) }), Action::Found);
    let other = Seen { log: &log, waited_s: 61, ..seen(&two, &groups) };
    assert_eq!(next(&other), Action::Wait(Waiting::Founder));
    let no_unit = Seen { service: Service::Missing, ..seen(&one, &groups) };
    assert_eq!(next(&no_unit), Action::Wait(Waiting::Unit));
    let unlisted = id(9);
    assert_eq!(next(&Seen { waited_s: 61, ..seen(&unlisted, &groups) }), Action::Wait(Waiting::Group));
}

/// At e1e3c77 a living machine that had claimed was waited for without limit.
#[test]
fn a_living_founder_that_never_founds_is_taken_over() {
    let groups = [group(&[(1, InService), (2, InService)])];
    let (one, two) = (id(1), id(2));
    let log = claims(&[1]);
    let late = Seen { log: &log, waited_s: 999, last_for_s: FOUNDING_S, ..seen(&two, &groups) };
    assert_eq!(next(&late), Action::Wait(Waiting::Founder));
    let over = Seen { last_for_s: FOUNDING_S + 1, ..late };
    assert_eq!(next(&over), Action::Claim { instead: Some(one.clone()) });
    // Not one that may have a vote: it may just be about to start.
    let recorded = [id(1)];
    assert_eq!(next(&Seen { recorded: &recorded, ..over }), Action::Wait(Waiting::Majority));
    // The same for one that claimed before there was a log.
    let legacy = Seen { initialiser: Some(&one), waited_s: 999, ..seen(&two, &groups) };
    assert_eq!(next(&legacy), Action::Wait(Waiting::Founder));
    let over = Seen { last_for_s: FOUNDING_S + 1, ..legacy };
    assert_eq!(next(&over), Action::Claim { instead: Some(one) });
}

#[test]
fn a_founder_that_went_alone_is_taken_over() {
    let groups = [group(&[(2, InService), (3, InService)])];
    let (one, two, three) = (id(1), id(2), id(3));
    // It had founded, which its machine wrote down; but its machine is gone.
    let recorded = [id(1)];
    let log = claims(&[1]);
    let left = Seen { log: &log, recorded: &recorded, ..seen(&two, &groups) };
    assert_eq!(next(&left), Action::Claim { instead: Some(one.clone()) });
    let legacy = Seen { initialiser: Some(&one), recorded: &recorded, ..seen(&two, &groups) };
    assert_eq!(next(&legacy), Action::Claim { instead: Some(one) });
    // One that was on its way in has data that nobody will ever talk to.
    let follower = Seen { data: true, service: Service::Running, ..left.clone() };
    assert_eq!(next(&follower), Action::Wait(Waiting::Majority));
    assert_eq!(next(&Seen { waited_s: 61, ..follower }), Action::SetAside);
    // One with a vote is never given up while its machine lives.
    let recorded = [id(1), id(2)];
    let voter = Seen { log: &log, recorded: &recorded, waited_s: 999, ..seen(&two, &groups) };
    assert_eq!(next(&Seen { data: true, ..voter.clone() }), Action::Start);
    let running = Seen { data: true, service: Service::Running, ..voter.clone() };
    assert_eq!(next(&running), Action::Wait(Waiting::Majority));
    let beside = Seen { me: &three, address: address(3), ..voter };
    assert_eq!(next(&beside), Action::Wait(Waiting::Majority));
}

#[test]
fn two_that_lost_their_data_do_not_wait_for_each_other() {
    let groups = [group(&[(1, InService), (2, InService)])];
    let (one, two) = (id(1), id(2));
    let recorded = [id(1), id(2)];
    let log = claims(&[1]);
    let second = Seen { log: &log, recorded: &recorded, ..seen(&two, &groups) };
    assert_eq!(next(&second), Action::Withdraw);
    let first = Seen { log: &log, recorded: &recorded[..1], ..seen(&one, &groups) };
    assert_eq!(next(&first), Action::Found);
    assert!(may_found(&one, &groups, &log, &recorded[..1]));
    assert!(!may_found(&one, &groups, &log, &recorded), "another founds at the same time");
    assert!(!may_found(&one, &groups, &claims(&[1, 2]), &[]), "it was taken over from");
}

#[test]
fn a_machine_joins_in_steps() {
    let groups = [group(&[(1, InService), (2, InService)])];
    let me = id(2);
    let mut members = vec![member(1, true)];
    assert_eq!(next(&Seen { members: Some(&members), ..seen(&me, &groups) }), Action::Add);
    members.push(unstarted(2));
    assert_eq!(next(&Seen { members: Some(&members), ..seen(&me, &groups) }), Action::Join);
    members[1].member.name = Some("i-2".to_owned());
    let then = |members: &[Observed], service: Service| {
        next(&Seen { members: Some(members), data: true, service, ..seen(&me, &groups) })
    };
    assert_eq!(then(&members, Service::Running), Action::Wait(Waiting::Starting));
    members[1].healthy = true;
    assert_eq!(then(&members, Service::Running), Action::Promote(2));
    members[1].member.learner = false;
    assert_eq!(then(&members, Service::Running), Action::Settled);
    assert_eq!(then(&members, Service::Stopped), Action::Start);
}

#[test]
fn one_joins_at_a_time_and_only_a_whole_etcd() {
    let groups = [group(&[(1, InService), (2, InService), (3, InService)])];
    let me = id(3);
    let wait = |members: &[Observed]| match next(&Seen { members: Some(members), ..seen(&me, &groups) }) {
        Action::Wait(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(&[member(1, true), unstarted(2)]), Waiting::AnotherJoins);
    assert_eq!(wait(&[member(1, true), member(2, false)]), Waiting::Unhealthy);
    let mut before = member(3, false);
    before.member.name = Some("i-0".to_owned());
    assert_eq!(wait(&[member(1, true), before]), Waiting::Address);
}

#[test]
fn a_member_without_its_data_joins_anew() {
    let groups = [group(&[(1, InService), (2, InService), (3, InService)])];
    let me = id(3);
    let members = [member(1, true), member(2, true), member(3, false)];
    let lost = Seen { members: Some(&members), ..seen(&me, &groups) };
    assert_eq!(next(&lost), Action::Remove { member: 3, reason: Reason::DataLost });
    // Once it is off, the vote that it had is no more.
    let (off, recorded) = ([member(1, true), member(2, true)], [id(1), id(2), id(3)]);
    let off = Seen { members: Some(&off), recorded: &recorded, ..seen(&me, &groups) };
    assert_eq!(next(&off), Action::Withdraw);
    assert_eq!(next(&Seen { recorded: &recorded[..2], ..off }), Action::Add);
    // And one that was removed gives its data up.
    let removed = Seen { members: Some(&members[..2]), data: true, ..seen(&me, &groups) };
    assert_eq!(next(&removed), Action::SetAside);
}

#[test]
fn the_leader_takes_off_who_is_gone() {
    let groups = [group(&[(1, InService), (2, InService), (4, InService)])];
    let me = id(1);
    let members = [member(1, true), member(2, true), member(3, false)];
    let whole = Seen {
        members: Some(&members),
        data: true,
        service: Service::Running,
        leads: true,
        ..seen(&me, &groups)
    };
    assert_eq!(next(&whole), Action::Remove { member: 3, reason: Reason::InstanceGone });
    assert_eq!(next(&Seen { leads: false, ..whole.clone() }), Action::Settled);
    // Not while it answers, not when that can't be decided, and not on a list without this machine.
    for members in [
        [member(1, true), member(2, true), member(3, true)],
        [member(1, true), member(2, false), member(3, false)],
    ] {
        assert_eq!(next(&Seen { members: Some(&members), ..whole.clone() }), Action::Settled);
    }
    let others = [group(&[(2, InService)])];
    assert_eq!(next(&Seen { control_groups: &others, ..whole.clone() }), Action::Settled);
    // A member that somebody added by hand is theirs.
    let mut theirs = members.clone();
    theirs[2].member.name = Some("backup".to_owned());
    assert_eq!(next(&Seen { members: Some(&theirs), ..whole.clone() }), Action::Settled);

    let joining = [member(1, true), member(2, true), unstarted(4)];
    let registered = [(id(4), address(4))];
    let waits = Seen { members: Some(&joining), registered: &registered, ..whole.clone() };
    assert_eq!(next(&waits), Action::Settled, "its machine lives");
    let nobody = Seen { members: Some(&joining), ..whole.clone() };
    assert_eq!(next(&nobody), Action::Remove { member: 4, reason: Reason::NeverStarted });

    let recorded = [id(1), id(2), id(3), id(7)];
    let forgets = Seen { recorded: &recorded, members: Some(&members[..2]), ..whole };
    assert_eq!(next(&forgets), Action::Forget(id(3)));
}

#[test]
fn a_machine_leaves_when_the_others_can_go_on() {
    let groups = [group(&[(1, TerminatingWait), (2, InService), (3, InService)])];
    let me = id(1);
    let with =
        |members: &[Observed]| leave(&Seen { members: Some(members), data: true, ..seen(&me, &groups) });
    assert_eq!(with(&[member(1, true), member(2, true), member(3, true)]), Leave::Now(1));
    assert_eq!(with(&[member(1, true), member(2, true), member(3, false)]), Leave::Wait);
    assert_eq!(with(&[member(1, true), member(2, true)]), Leave::Now(1));
    assert_eq!(with(&[member(1, true)]), Leave::Wait, "what is stored is nowhere else yet");
    assert_eq!(with(&[member(1, true), unstarted(2)]), Leave::Wait);
    assert_eq!(with(&[member(2, true)]), Leave::Out);
    let dissolved = [group(&[(1, TerminatingWait), (2, TerminatingWait)])];
    let last = [member(1, true)];
    let seen = Seen { members: Some(&last), data: true, ..seen(&me, &dissolved) };
    assert_eq!(leave(&seen), Leave::Last);
    assert_eq!(leave(&Seen { members: None, ..seen.clone() }), Leave::Last);
    assert_eq!(leave(&Seen { members: None, data: false, ..seen }), Leave::Out);
}
