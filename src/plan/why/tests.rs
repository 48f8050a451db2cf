use super::*;
use crate::model::machine::Role;
use crate::model::service::{FailedInstance, Origin};

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
        metadata: BTreeMap::from([("role".to_owned(), "worker".to_owned())]),
        features: crate::model::feature::Features::default(),
        pressure: None,
        host_files: Default::default(),
    }
}

fn instance(slot: u32, machine: Option<&str>, state: InstanceState, message: Option<&str>) -> Instance {
    Instance {
        id: format!("task{slot}"),
        name: format!("web@{slot}"),
        machine: machine.map(|id| id.parse().expect("an id")),
        addresses: Vec::new(),
        ports: Vec::new(),
        state,
        restarts: 0,
        digest: None,
        message: message.map(str::to_owned),
        since: at(0),
    }
}

fn revision(number: u64, state: RevisionState) -> Revision {
    Revision {
        number,
        digest: None,
        origin: Origin::by_hand(),
        state,
        reason: None,
        pre_deploy: None,
        failed: None,
        since: at(0),
    }
}

fn web(instances: Vec<Instance>) -> ServiceStatus {
    ServiceStatus {
        name: "web".parse().expect("a name"),
        desired: 2,
        scaled_from: None,
        stopped: false,
        instances,
        history: vec![revision(3, RevisionState::Running)],
    }
}

fn healthy(slot: u32) -> Instance {
    instance(slot, Some("i-1"), InstanceState::Healthy, None)
}

fn event(
    seconds: i64,
    kind: EventKind,
    slot: Option<u32>,
    machine: Option<&str>,
    text: &str,
) -> TimelineEvent {
    let event = TimelineEvent::new(format!("{kind:?}{seconds}"), at(seconds), kind, text);
    let machine = machine.map(|id| id.parse().expect("an id"));
    let event = event.of(&"web".parse().expect("a name")).on(machine.as_ref());
    match slot {
        Some(slot) => event.instance(&format!("web@{slot}")),
        None => event,
    }
}

/// The answer as a command shows it, without the days.
fn shown(service: &ServiceStatus, events: &[TimelineEvent], placement: &[(&str, &str)]) -> String {
    let machines = [machine("i-1", MachineState::Ready), machine("i-2", MachineState::Down)];
    let placement: BTreeMap<String, String> =
        placement.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let answer = why(&Known { service, machines: &machines, events, placement: Some(&placement) });
    let mut text = format!("{:?}: {}\n", answer.situation, answer.state);
    for problem in &answer.problems {
        text.push_str(&format!("  {}  {}\n", problem.instance, problem.text));
    }
    for entry in &answer.story {
        let seconds = |at: DateTime<Utc>| at.timestamp() - 1_800_000_000;
        let times = if entry.times > 1 {
            format!(" ({} times since {})", entry.times, seconds(entry.since))
        } else {
            String::new()
        };
        let by = entry.event.by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
        text.push_str(&format!(
            "  {:>3} {}  {}{by}{times}\n",
            seconds(entry.event.at),
            entry.event.subject(),
            entry.event.text
        ));
    }
    for next in &answer.next {
        text.push_str(&format!("  next: {next}\n"));
    }
    text
}

#[test]
fn a_service_that_is_whole_has_nothing_to_explain() {
    let mut service = web(vec![healthy(1), healthy(2)]);
    let events = [event(1, EventKind::Healthy, Some(2), Some("i-1"), "healthy on i-1; 2/2")];
    let whole = shown(&service, &events, &[]);
    service.scaled_from = Some(4);
    let scaled = event(2, EventKind::Scaled, None, None, "scaled from 4 to 2 instances").by("token/ci");
    insta::assert_snapshot!(whole + &shown(&service, &[scaled], &[]));
}

#[test]
fn somebody_stopped_it() {
    let service = ServiceStatus { stopped: true, desired: 0, ..web(vec![]) };
    let events = [event(5, EventKind::Stopped, None, None, "was stopped").by("arn:aws:iam::1:user/ada")];
    insta::assert_snapshot!(shown(&service, &events, &[]));
}

#[test]
fn no_machine_fits() {
    let waits = |message| web(vec![healthy(1), instance(2, None, InstanceState::Pending, Some(message))]);
    let constraint = waits("no suitable node (scheduling constraints not satisfied on 2 nodes)");
    let resources =
        waits("no suitable node (insufficient resources on 1 node; 1 node not available for new tasks)");
    let port = waits("no suitable node (host-mode port already in use on 1 node)");
    insta::assert_snapshot!(
        [
            shown(&constraint, &[], &[("role", "worker"), ("disk", "ssd")]),
            shown(&constraint, &[], &[("role", "worker")]),
            shown(&resources, &[], &[]),
            shown(&port, &[], &[]),
        ]
        .join("\n")
    );
    let machines = [machine("i-1", MachineState::Paused), machine("i-2", MachineState::Down)];
    let placement = BTreeMap::from([("role".to_owned(), "worker".to_owned())]);
    let known = Known { service: &constraint, machines: &machines, events: &[], placement: Some(&placement) };
    assert_eq!(
        why(&known).problems[0].text,
        "waits for a machine: of those with `role=worker` none takes work (i-1 is paused, i-2 is down)"
    );
    let known = Known { placement: None, ..known };
    assert!(
        why(&known).problems[0].text.contains("constraints not satisfied"),
        "a viewer sees the engine's words"
    );
}

#[test]
fn its_instances_fail() {
    let of = |message: Option<&str>| {
        let failed = instance(2, Some("i-1"), InstanceState::Failed, message);
        web(vec![healthy(1), Instance { restarts: 3, ..failed }])
    };
    let image = of(Some("No such image: registry:5000/team/web@sha256:0"));
    let memory = event(
        9,
        EventKind::OutOfMemory,
        Some(2),
        Some("i-1"),
        "was killed on i-1: it used more memory than `resources.limits.memory`",
    );
    let memories: Vec<_> =
        (0..4).map(|nth| TimelineEvent { at: at(nth * 10), id: nth.to_string(), ..memory.clone() }).collect();
    let health = event(9, EventKind::Unhealthy, Some(2), Some("i-1"), "unhealthy on i-1: 500 from /health");
    let exit = event(9, EventKind::Ended, Some(2), Some("i-1"), "exited on i-1 with status 3");
    insta::assert_snapshot!(
        [
            shown(&image, &[], &[]),
            shown(&of(Some("non-zero exit (137)")), &memories, &[]),
            shown(&of(Some("unhealthy container")), &[health], &[]),
            shown(&of(Some("non-zero exit (3)")), &[exit], &[]),
            shown(&of(Some("non-zero exit (3)")), &[], &[]),
        ]
        .join("\n")
    );
}

#[test]
fn its_machine_is_lost() {
    let service = web(vec![
        healthy(1),
        instance(2, Some("i-2"), InstanceState::Failed, Some("its machine does not answer")),
        instance(
            2,
            None,
            InstanceState::Pending,
            Some("no suitable node (max replicas per node limit exceed)"),
        ),
    ]);
    let gone = TimelineEvent::seen("down.i-2", at(8), EventKind::Lost, "does not answer");
    let events = [
        event(1, EventKind::Healthy, Some(2), Some("i-2"), "healthy on i-2; 2/2"),
        gone.on(Some(&"i-2".parse().expect("an id"))),
        // Machines on which it never ran are no part of its story.
        TimelineEvent::seen("down.i-9", at(8), EventKind::Lost, "does not answer")
            .on(Some(&"i-9".parse().expect("an id"))),
        event(9, EventKind::Lost, Some(2), Some("i-2"), "lost: i-2 does not answer"),
    ];
    insta::assert_snapshot!(shown(&service, &events, &[]));
}

#[test]
fn it_is_being_rolled_out_or_was_rolled_back() {
    let starting = instance(2, Some("i-1"), InstanceState::Starting, None);
    let mut service = web(vec![healthy(1), starting]);
    service.history.insert(0, revision(4, RevisionState::RollingOut));
    let deployed = event(1, EventKind::Deployed, None, None, "revision 4 begins to roll out").by("token/ci");
    let rolling = shown(&service, std::slice::from_ref(&deployed), &[]);
    let failed = FailedInstance {
        name: "web@2".into(),
        machine: None,
        at: at(5),
        exit: 7,
        error: None,
        out_of_memory: false,
        probe: None,
        lines: vec!["no database".into()],
    };
    service.history[0] = Revision { failed: Some(failed), ..revision(4, RevisionState::RolledBack) };
    service.instances = vec![healthy(1), healthy(2)];
    let back = event(
        6,
        EventKind::RolledBack,
        None,
        None,
        "revision 4 failed, and the revision before was restored",
    );
    let rolled_back = shown(&service, &[deployed.clone(), back.clone()], &[]);
    service.instances.pop();
    insta::assert_snapshot!([rolling, rolled_back, shown(&service, &[deployed, back], &[])].join("\n"));
}

#[test]
fn its_command_has_not_succeeded_yet_or_did_not() {
    let mut service = web(vec![healthy(1), healthy(2)]);
    let waits = |state| Revision { pre_deploy: Some(state), ..revision(4, RevisionState::RollingOut) };
    service.history.insert(0, waits(PreDeployState::Waiting));
    let runs = event(2, EventKind::PreDeployStarted, None, None, "the `pre_deploy` of revision 4 runs");
    let waiting = shown(&service, &[], &[]);
    service.history[0] = waits(PreDeployState::Running);
    let running = shown(&service, std::slice::from_ref(&runs), &[]);
    let not = |state, reason: &str| Revision {
        pre_deploy: Some(state),
        reason: Some(reason.to_owned()),
        ..revision(4, RevisionState::Failed)
    };
    service.history[0] = not(PreDeployState::Failed, "its `pre_deploy` failed: it exited with status 3");
    let failed = shown(&service, std::slice::from_ref(&runs), &[]);
    service.history[0] = not(
        PreDeployState::Unknown,
        "the machine of its `pre_deploy` was lost while that ran: whether it did its work is not known",
    );
    insta::assert_snapshot!([waiting, running, failed, shown(&service, &[runs], &[])].join("\n"));
}
