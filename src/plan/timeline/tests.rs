use proptest::prelude::*;

use super::*;
use crate::model::machine::Role;
use crate::model::service::{Ended, Origin};
use crate::model::timeline::merged;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
}

fn machine(id: &str, state: MachineState) -> Machine {
    Machine {
        id: id.parse().expect("an id"),
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

fn instance(task: &str, slot: u32, machine: Option<&str>, state: InstanceState, since: i64) -> Instance {
    Instance {
        id: task.into(),
        name: format!("web@{slot}"),
        machine: machine.map(|id| id.parse().expect("an id")),
        addresses: Vec::new(),
        ports: Vec::new(),
        state,
        restarts: 0,
        digest: None,
        message: None,
        since: at(since),
    }
}

fn revision(number: u64, state: RevisionState, since: i64) -> Revision {
    Revision {
        number,
        digest: format!("sha256:{}41ab", "9f2c".repeat(15)).parse().ok(),
        origin: Origin {
            repository: "shop".into(),
            commit: "4b1d0e7".repeat(6)[..40].to_owned(),
            subject: "faster search".into(),
        },
        state,
        reason: None,
        pre_deploy: None,
        failed: None,
        since: at(since),
    }
}

fn web(desired: u32, instances: Vec<Instance>, history: Vec<Revision>) -> ServiceStatus {
    ServiceStatus {
        name: "web".parse().expect("a name"),
        desired,
        scaled_from: None,
        stopped: false,
        instances,
        history,
    }
}

/// What is derived from two observations, a line each.
fn lines(before: (&[Machine], &[ServiceStatus]), after: (&[Machine], &[ServiceStatus])) -> String {
    let seen = |(machines, services)| Seen { machines, services };
    let events = merged(derive(Some(seen(before)), seen(after), at(100)));
    let line = |event: &TimelineEvent| {
        let at = event.at.timestamp() - 1_800_000_000;
        format!("{at:>3} {} {}\n", event.subject(), event.text)
    };
    events.iter().map(line).collect()
}

#[test]
fn a_rollout_is_told_from_its_beginning_to_its_end() {
    use InstanceState::{Healthy, Starting, Stopping};
    let machines = [machine("i-1", MachineState::Ready), machine("i-2", MachineState::Ready)];
    let old = revision(1, RevisionState::Running, 0);
    let before = web(1, vec![instance("a", 1, Some("i-1"), Healthy, 0)], vec![old.clone()]);
    let during = web(
        1,
        vec![instance("a", 1, Some("i-1"), Stopping, 97), instance("b", 1, Some("i-2"), Healthy, 96)],
        vec![revision(2, RevisionState::RollingOut, 90), old.clone()],
    );
    let done = web(
        1,
        vec![instance("b", 1, Some("i-2"), Healthy, 96)],
        vec![
            revision(2, RevisionState::Running, 90),
            Revision { state: RevisionState::Replaced, ..old.clone() },
        ],
    );
    let failed =
        Revision { reason: Some("web@1 exited with 3".into()), ..revision(2, RevisionState::RolledBack, 90) };
    let back = web(1, vec![instance("b", 1, Some("i-2"), Starting, 99)], vec![failed, old]);
    insta::assert_snapshot!(
        [
            lines((&machines, &[before]), (&machines, std::slice::from_ref(&during))),
            lines((&machines, std::slice::from_ref(&during)), (&machines, &[done])),
            lines((&machines, &[during]), (&machines, &[back])),
        ]
        .join("--\n")
    );
}

#[test]
fn an_instance_of_a_rollout_that_fails_is_not_said_to_be_replaced() {
    use InstanceState::{Healthy, Starting};
    let machines = [machine("i-1", MachineState::Ready), machine("i-2", MachineState::Ready)];
    let old = instance("a", 1, Some("i-1"), Healthy, 0);
    let history = vec![revision(2, RevisionState::RollingOut, 90), revision(1, RevisionState::Running, 0)];
    let during = web(1, vec![old.clone(), instance("b", 1, Some("i-2"), Starting, 95)], history.clone());
    // The engine's failed task is left out while the one in its place is healthy.
    let after = web(1, vec![old], history);
    let told = lines((&machines, std::slice::from_ref(&during)), (&machines, std::slice::from_ref(&after)));
    assert_eq!(told, "100 web@1 ended on i-2 before it was healthy\n");
    // Its machine reports how it ended, and that is the same event.
    let seen = |services| Seen { machines: &machines, services };
    let (before, gone) = (std::slice::from_ref(&during), std::slice::from_ref(&after));
    for lines in [vec!["no database".to_owned()], Vec::new()] {
        let ended = Ended { exit: 3, error: None, out_of_memory: false, lines: lines.clone() };
        let reported = Symptoms { probe: None, ended: Some(ended) };
        let reported = of_symptoms(&during.name, &during.instances[1], &reported, at(101));
        let all = merged(derive(Some(seen(before)), seen(gone), at(100)).into_iter().chain(reported));
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!(one.text, "exited on i-2 with status 3 before it was healthy");
        assert_eq!((&one.lines, one.at), (&lines, at(100)));
    }
    let stopped = ServiceStatus { stopped: true, ..after };
    let told = lines((&machines, &[during]), (&machines, &[stopped]));
    assert!(told.contains("the service was stopped"), "{told}");
}

#[test]
fn a_revision_s_command_is_told_before_its_rollout() {
    let old = revision(1, RevisionState::Running, 0);
    let of = |pre_deploy, state, since| {
        let newest = Revision { pre_deploy: Some(pre_deploy), ..revision(2, state, since) };
        [web(0, vec![], vec![newest, old.clone()])]
    };
    let waits = of(PreDeployState::Waiting, RevisionState::RollingOut, 90);
    let runs = of(PreDeployState::Running, RevisionState::RollingOut, 90);
    // Its time is that of the rollout from then on.
    let begun = of(PreDeployState::Succeeded, RevisionState::RollingOut, 98);
    let mut failed = of(PreDeployState::Failed, RevisionState::Failed, 90);
    failed[0].history[0].reason = Some("its `pre_deploy` failed: it exited with status 3".to_owned());
    let before = [web(0, vec![], vec![old.clone()])];
    insta::assert_snapshot!(
        [
            lines((&[], &before), (&[], &waits)),
            lines((&[], &waits), (&[], &runs)),
            lines((&[], &runs), (&[], &begun)),
            lines((&[], &runs), (&[], &failed)),
            lines((&[], &before), (&[], &runs)),
        ]
        .join("--\n")
    );
}

#[test]
fn an_instance_that_a_drain_takes_off_its_volume_is_moved_and_has_not_failed() {
    let machines = [machine("i-1", MachineState::Draining)];
    let of = |state, message: Option<&str>| {
        let one = instance("a", 1, Some("i-1"), state, 0);
        [web(1, vec![Instance { message: message.map(str::to_owned), ..one }], Vec::new())]
    };
    let before = of(InstanceState::Healthy, None);
    let after = of(InstanceState::Failed, Some("assigned node no longer meets constraints"));
    let told = lines((&machines, &before), (&machines, &after));
    assert_eq!(told, "100 web@1 moved away from i-1, which is being emptied\n");
}

#[test]
fn machines_come_and_go_and_take_their_instances_along() {
    use InstanceState::{Failed, Healthy, Pending, Stopping};
    let ready = [machine("i-1", MachineState::Ready), machine("i-2", MachineState::Ready)];
    let drains = [machine("i-1", MachineState::Draining), machine("i-2", MachineState::Ready)];
    let down = [machine("i-1", MachineState::Down), machine("i-2", MachineState::Ready)];
    let other = [machine("i-2", MachineState::Ready), machine("i-3", MachineState::Ready)];
    let history = vec![revision(1, RevisionState::Running, 0)];
    let of = |instances| [web(2, instances, history.clone())];
    let two = of(vec![instance("a", 1, Some("i-1"), Healthy, 0), instance("b", 2, Some("i-2"), Healthy, 0)]);
    let moves = of(vec![
        instance("a", 1, Some("i-1"), Stopping, 98),
        instance("b", 2, Some("i-2"), Healthy, 0),
        instance("c", 1, Some("i-2"), Healthy, 97),
    ]);
    let lost = of(vec![
        Instance {
            message: Some("its machine does not answer".into()),
            ..instance("a", 1, Some("i-1"), Failed, 0)
        },
        instance("b", 2, Some("i-2"), Healthy, 0),
        Instance { message: Some("no suitable node".into()), ..instance("c", 1, None, Pending, 99) },
    ]);
    insta::assert_snapshot!(
        [
            lines((&ready, &two), (&drains, &moves)),
            lines((&ready, &two), (&down, &lost)),
            lines((&down, &lost), (&other, &two)),
        ]
        .join("--\n")
    );
}

#[test]
fn a_machine_that_runs_short_is_told_once_and_again_when_it_has_enough() {
    let of = |disk, memory_available| {
        let pressure = Some(Pressure { disk, inodes: 1, memory_available });
        [Machine { pressure, ..machine("i-1", MachineState::Ready) }]
    };
    let told = |before: &[Machine], after: &[Machine]| lines((before, &[]), (after, &[]));
    assert_eq!(
        told(&[machine("i-1", MachineState::Ready)], &of(91, 50)),
        "100 i-1 runs short: disk 91 % full\n"
    );
    assert_eq!(told(&of(91, 50), &of(97, 50)), "");
    assert_eq!(told(&of(91, 50), &of(91, 3)), "100 i-1 runs short: memory 3 % available\n");
    assert_eq!(told(&of(91, 50), &of(40, 50)), "100 i-1 has enough space on its disk again\n");
}

#[test]
fn what_somebody_did_by_hand_is_said() {
    let machines = [machine("i-1", MachineState::Ready)];
    let one = |task, state| instance(task, 1, Some("i-1"), state, 0);
    let three = web(3, vec![one("a", InstanceState::Healthy)], Vec::new());
    let one_left = web(1, vec![one("a", InstanceState::Stopping)], Vec::new());
    let stopped =
        ServiceStatus { stopped: true, ..web(0, vec![one("a", InstanceState::Stopping)], Vec::new()) };
    insta::assert_snapshot!(
        [
            lines((&machines, std::slice::from_ref(&three)), (&machines, &[one_left])),
            lines((&machines, std::slice::from_ref(&three)), (&machines, std::slice::from_ref(&stopped))),
            lines((&machines, &[stopped]), (&machines, std::slice::from_ref(&three))),
            lines((&machines, &[three]), (&machines, &[])),
        ]
        .join("--\n")
    );
}

#[test]
fn the_first_observation_yields_only_what_has_a_time_of_its_own() {
    let machines = [machine("i-1", MachineState::Down)];
    let failed = revision(2, RevisionState::RolledBack, 5);
    let services = [web(
        1,
        vec![instance("a", 1, Some("i-1"), InstanceState::Healthy, 7)],
        vec![failed, revision(1, RevisionState::Running, 1)],
    )];
    let events = derive(None, Seen { machines: &machines, services: &services }, at(100));
    let kinds: BTreeSet<EventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, BTreeSet::from([EventKind::Deployed, EventKind::Placed, EventKind::Healthy]));
    assert!(events.iter().all(|event| event.at < at(10)), "{events:?}");
}

#[test]
fn who_asked_is_part_of_the_same_event() {
    let name: ServiceName = "web".parse().expect("a name");
    let after = web(
        1,
        Vec::new(),
        vec![revision(2, RevisionState::RollingOut, 90), revision(1, RevisionState::Running, 0)],
    );
    let after = std::slice::from_ref(&after);
    let seen = derive(None, Seen { machines: &[], services: after }, at(91));
    let details = |number: &str| BTreeMap::from([("revision".to_owned(), number.to_owned())]);
    let target = Target::Service(name);
    let ask =
        |number: &str| of_request("token/ci", at(90), Operation::Deploy, &target, &details(number), after);
    let all = merged(seen.into_iter().chain(ask("2")));
    assert_eq!(all.len(), 2);
    assert_eq!((all[1].by.as_deref(), all[0].by.as_deref()), (Some("token/ci"), None));
    assert_eq!(ask("1"), [], "a deployment that changed nothing made no revision");

    let back = |more: Option<&str>| {
        let mut details = details("2");
        details.extend(more.map(|word| (word.to_owned(), "taken back".to_owned())));
        of_request("token/ci", at(90), Operation::RollbackTo, &target, &details, after)[0].text.clone()
    };
    assert!(back(None).ends_with(", a rollback on request"));
    assert!(back(Some("release")).ends_with(", its release failed and is taken back"));

    let scale = |key: &str, value: &str| {
        let details = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        of_request("token/ci", at(90), Operation::Scale, &target, &details, after)
    };
    assert_eq!(scale("replicas", "5")[0].text, "scaled to 5 instances");
    assert_eq!(scale("to", "stop")[0].kind, EventKind::Stopped);
    assert_eq!(scale("to", "what-a-later-version-knows"), []);
    let machines = Target::Machines(vec!["i-1".parse().expect("an id"), "i-2".parse().expect("an id")]);
    let drained = of_request("token/ci", at(90), Operation::Drain, &machines, &BTreeMap::new(), after);
    assert_eq!(drained.len(), 2);
    for operation in Operation::ALL {
        let about = of_request("x", at(90), *operation, &Target::Cluster, &BTreeMap::new(), after);
        assert_eq!(about, [], "{operation:?}");
    }
}

#[test]
fn a_machine_s_report_says_how_an_instance_ended() {
    let services = [web(
        1,
        vec![
            instance("a", 1, Some("i-1"), InstanceState::Failed, 7),
            instance("b", 2, Some("i-1"), InstanceState::Stopping, 7),
        ],
        Vec::new(),
    )];
    let ended = |exit, out_of_memory, probe: Option<&str>| Symptoms {
        probe: probe.map(str::to_owned),
        ended: Some(Ended { exit, error: None, out_of_memory, lines: vec!["no database".to_owned()] }),
    };
    let of = |number: usize, seen: &Symptoms| {
        of_symptoms(&services[0].name, &services[0].instances[number], seen, at(8))
    };
    let text = |seen: &Symptoms| of(0, seen).map(|event| (event.kind, event.text));
    assert_eq!(
        text(&ended(3, false, None)),
        Some((EventKind::Ended, "exited on i-1 with status 3".to_owned()))
    );
    assert_eq!(
        text(&ended(137, true, None)),
        Some((
            EventKind::OutOfMemory,
            "was killed on i-1: it used more memory than `resources.limits.memory`".to_owned()
        ))
    );
    let unhealthy = Symptoms { probe: Some("500 from /health\n".into()), ended: None };
    assert_eq!(
        text(&unhealthy),
        Some((EventKind::Unhealthy, "unhealthy on i-1: 500 from /health".to_owned()))
    );
    assert_eq!(of(1, &ended(0, false, None)), None, "it was meant to stop");
    // What the swarm shows of it and what its machine reported are one event.
    let seen =
        derive(None, Seen { machines: &[machine("i-1", MachineState::Ready)], services: &services }, at(9));
    let reported = of(0, &ended(3, false, None));
    let all = merged(seen.into_iter().chain(reported));
    let ends: Vec<_> = all.iter().filter(|event| event.kind == EventKind::Ended).collect();
    assert_eq!((ends.len(), ends[0].lines.len()), (1, 1));
    assert_eq!(ends[0].at, at(7));
}

fn any_service() -> impl Strategy<Value = ServiceStatus> {
    let state = prop::sample::select(vec![
        InstanceState::Pending,
        InstanceState::Starting,
        InstanceState::Healthy,
        InstanceState::Stopping,
        InstanceState::Failed,
    ]);
    let one =
        (0_u32..6, prop::option::of(0_u32..3), state, 0_i64..90).prop_map(|(task, on, state, since)| {
            let on = on.map(|number| format!("i-{number}"));
            instance(&format!("t{task}"), task % 3, on.as_deref(), state, since)
        });
    let revisions = (0_u64..4, prop::bool::ANY).prop_map(|(newest, rolling)| {
        let state = |number| match (number == newest, rolling) {
            (true, true) => RevisionState::RollingOut,
            (true, false) => RevisionState::Running,
            (false, _) => RevisionState::Replaced,
        };
        (1..=newest)
            .rev()
            .map(|number| revision(number, state(number), i64::try_from(number).unwrap_or(0)))
            .collect::<Vec<_>>()
    });
    (0_u32..4, prop::collection::vec(one, 0..5), revisions, prop::bool::ANY).prop_map(
        |(desired, mut instances, history, stopped)| {
            instances.sort_by(|a, b| a.id.cmp(&b.id));
            instances.dedup_by(|a, b| a.id == b.id);
            ServiceStatus { stopped, ..web(desired, instances, history) }
        },
    )
}

fn any_machines() -> impl Strategy<Value = Vec<Machine>> {
    let state = prop::sample::select(vec![
        MachineState::Ready,
        MachineState::Paused,
        MachineState::Draining,
        MachineState::Rebooting,
        MachineState::Down,
    ]);
    prop::collection::vec((0_u32..3, state), 0..3).prop_map(|all| {
        let all: BTreeMap<u32, MachineState> = all.into_iter().collect();
        all.into_iter().map(|(number, state)| machine(&format!("i-{number}"), state)).collect()
    })
}

proptest! {
    /// Nothing happens while nothing changes; what happens is about the service or a machine; and control
    /// machines that observe the same at slightly different times record the same events.
    #[test]
    fn observers_of_the_same_change_record_the_same(
        before in (any_machines(), prop::option::of(any_service())),
        after in (any_machines(), prop::option::of(any_service())),
    ) {
        let of = |(machines, service): &(Vec<Machine>, Option<ServiceStatus>)| {
            (machines.clone(), service.iter().cloned().collect::<Vec<_>>())
        };
        let (before, after) = (of(&before), of(&after));
        let seen = |one: &(Vec<Machine>, Vec<ServiceStatus>)| -> (Vec<Machine>, Vec<ServiceStatus>) { one.clone() };
        let (first, second) = (seen(&before), seen(&after));
        let first = Seen { machines: &first.0, services: &first.1 };
        let second = Seen { machines: &second.0, services: &second.1 };
        prop_assert_eq!(derive(Some(second), second, at(100)), vec![]);
        let one = derive(Some(first), second, at(100));
        let other = derive(Some(first), second, at(107));
        let ids: BTreeSet<&str> = one.iter().map(|event| event.id.as_str()).collect();
        prop_assert_eq!(ids.len(), one.len(), "each event has an id of its own");
        prop_assert!(one.iter().all(|event| event.subject() != "-"));
        prop_assert_eq!(merged(one.iter().cloned().chain(other)), merged(one));
    }
}
