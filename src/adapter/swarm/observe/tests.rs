use bollard::models::{NodeSpec, NodeStatus};
use serde_json::json;

use super::*;

fn node(state: NodeState, labels: &[(&str, &str)]) -> Node {
    let own = [(INSTANCE, "i-1"), (ADDRESS, "10.0.0.1")];
    let labels = own.iter().chain(labels).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Node {
        id: Some("n1".into()),
        spec: Some(NodeSpec { labels: Some(labels.collect()), ..NodeSpec::default() }),
        status: Some(NodeStatus { state: Some(state), ..NodeStatus::default() }),
        ..Node::default()
    }
}

#[test]
fn a_node_that_a_new_leader_has_not_heard_of_yet_is_up() {
    assert!(is_up(&node(NodeState::READY, &[])));
    assert!(is_up(&node(NodeState::UNKNOWN, &[])));
    assert!(!is_up(&node(NodeState::DOWN, &[])));
    assert!(!is_up(&node(NodeState::DISCONNECTED, &[])));
}

#[test]
fn a_machine_reboots_until_it_takes_work_again_or_does_not_come_back() {
    let mark = [(REBOOT, "1795514400 40dd558d")];
    let at = |seconds: i64| DateTime::from_timestamp(1_795_514_400 + seconds, 0).expect("a time");
    let state = |state, labels: &[_], seconds| {
        machine(&node(state, labels), at(seconds)).map(|machine| machine.state)
    };
    assert_eq!(state(NodeState::READY, &mark, 60), Some(MachineState::Rebooting));
    assert_eq!(state(NodeState::DOWN, &mark, 60), Some(MachineState::Rebooting));
    assert_eq!(state(NodeState::DOWN, &mark, 3_600), Some(MachineState::Down));
    assert_eq!(state(NodeState::READY, &[], 60), Some(MachineState::Ready));
    let machine = machine(&node(NodeState::READY, &mark), at(60)).expect("a machine");
    assert_eq!(machine.metadata, BTreeMap::new(), "the mark is no metadata to place by");
}

/// Labels that earlier versions wrote, in the engine's own form.
#[test]
fn every_recorded_node_is_understood() {
    for (name, text) in crate::source::samples::of("labels") {
        let node: Node = serde_json::from_str(&text).expect("the sample");
        let observed = Observed { nodes: vec![node], ..Observed::default() };
        let machines = observed.machines(DateTime::from_timestamp(1_795_514_400, 0).expect("a time"));
        let [machine] = machines.as_slice() else { panic!("{name}: {machines:?}") };
        assert_eq!((machine.id.as_str(), machine.state), ("i-0a1", MachineState::Rebooting), "{name}");
        let metadata: Vec<&str> = machine.metadata.keys().map(String::as_str).collect();
        assert_eq!(metadata, ["disk", "group", "role", "zone"], "{name}");
        let disk = machine.pressure.map(|pressure| pressure.disk);
        assert_eq!(disk, name.ends_with("3.json").then_some(87), "{name}");
    }
}

/// A service of one instance without a health check, watched for five seconds, in revision 4.
fn unchecked() -> Service {
    let labels =
        HashMap::from([(SERVICE.to_owned(), "web".to_owned()), (spec::REVISION.to_owned(), "4".to_owned())]);
    let json = json!({
        "ID": "s1",
        "Spec": {
            "Name": "web",
            "Labels": labels,
            "Mode": { "Replicated": { "Replicas": 1 } },
            "TaskTemplate": { "ContainerSpec": { "Image": "web", "Healthcheck": { "Test": ["NONE"] } } },
            "UpdateConfig": { "Monitor": 5_000_000_000_i64, "FailureAction": "rollback" },
        },
    });
    serde_json::from_value(json).expect("a service")
}

/// The task that is `number` in time: its state began then.
fn task(number: i64, state: &str, wanted: &str) -> Task {
    let json = json!({
        "ID": format!("t{number}"),
        "ServiceID": "s1",
        "Slot": 1,
        "CreatedAt": moment(number).to_rfc3339(),
        "Spec": { "ContainerSpec": { "Labels": { spec::REVISION: "4" } } },
        "Status": { "State": state, "Timestamp": moment(number).to_rfc3339(), "Err": "task: non-zero exit (1)" },
        "DesiredState": wanted,
    });
    serde_json::from_value(json).expect("a task")
}

fn moment(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_514_400 + second, 0).expect("a time")
}

#[test]
fn a_program_that_crashes_again_and_again_is_not_healthy_in_between() {
    let seen = |tasks: Vec<Task>, at: i64| {
        let observed = Observed { at: moment(at), services: vec![unchecked()], tasks, ..Observed::default() };
        let status = observed.service_statuses().remove(0);
        let one = status.instances.last().cloned().expect("an instance");
        (one.state, one.restarts, status.is_whole())
    };
    let running = |second| task(second, "running", "running");
    let failed = |second| task(second, "failed", "shutdown");
    assert_eq!(seen(vec![running(0)], 1), (InstanceState::Healthy, 0, true), "the first start is believed");
    assert_eq!(seen(vec![failed(0), running(6)], 8), (InstanceState::Starting, 1, false));
    assert_eq!(seen(vec![failed(0), running(6)], 11), (InstanceState::Healthy, 1, true));
    let complete = task(12, "complete", "shutdown");
    assert_eq!(seen(vec![failed(0), failed(6), complete, running(18)], 20).1, 3);
}

#[test]
fn a_failure_is_old_news_once_another_task_ran_in_its_place() {
    let instances = |tasks: Vec<Task>| {
        let observed = Observed { at: moment(60), services: vec![unchecked()], tasks, ..Observed::default() };
        observed.service_statuses().remove(0).instances.len()
    };
    let failed = || task(0, "failed", "shutdown");
    assert_eq!(instances(vec![failed()]), 1, "nothing has taken its place yet");
    // Scaled down: the engine remembers both.
    assert_eq!(instances(vec![failed(), task(6, "shutdown", "shutdown")]), 0);
    assert_eq!(instances(vec![task(6, "failed", "shutdown"), task(0, "complete", "shutdown")]), 1);
}

#[test]
fn a_first_revision_that_waits_for_its_command_is_shown_before_its_service_exists() {
    let config = |spec, number: u64| Config {
        id: Some(format!("c{number}")),
        version: Some(bollard::models::ObjectVersion { index: Some(number) }),
        created_at: DateTime::from_timestamp(1_700_000_000, 0),
        spec: Some(spec),
        ..Config::default()
    };
    let wanted = spec::tests::deployment("web", 'a');
    let waits = config(Record::create(&wanted, 1, true).expect("JSON"), 1);
    let mut observed = Observed { configs: vec![waits], ..Observed::default() };
    let statuses = observed.service_statuses();
    let [web] = statuses.as_slice() else { panic!("{statuses:#?}") };
    assert_eq!((web.name.as_str(), web.desired, web.is_whole()), ("web", 0, true));
    assert_eq!(web.history[0].pre_deploy, Some(crate::model::service::PreDeployState::Waiting));
    assert_eq!(web.history[0].state, RevisionState::RollingOut);
    // One whose creation was interrupted waits for nothing.
    let plain = config(Record::create(&wanted, 2, false).expect("JSON"), 2);
    assert!(Observed { configs: vec![plain], ..Observed::default() }.service_statuses().is_empty());
    observed.configs.push(config(Record::removal("web", 2), 3));
    assert!(observed.service_statuses().is_empty(), "it was removed");
}

#[test]
fn a_service_has_room_while_its_machines_hold_one_instance_more() {
    let machines = |count| vec![node(NodeState::READY, &[("fleetwright.role", "worker")]); count];
    let spec = |replicas: i64, most: Option<i64>| -> ServiceSpec {
        let placement = json!({
            "Constraints": ["node.labels.fleetwright.role == worker"],
            "MaxReplicas": most,
        });
        let text = json!({
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {"Placement": placement},
        });
        serde_json::from_value(text).expect("as the engine reads it")
    };
    assert!(has_room(&machines(2), &spec(2, None)));
    assert!(has_room(&machines(2), &spec(3, Some(2))));
    assert!(!has_room(&machines(2), &spec(2, Some(1))));
    assert!(has_room(&machines(3), &spec(2, Some(1))));
    let mut others = machines(2);
    others.push(node(NodeState::DOWN, &[("fleetwright.role", "worker")]));
    others.push(node(NodeState::READY, &[("fleetwright.role", "control")]));
    assert!(!has_room(&others, &spec(2, Some(1))));
    let global = serde_json::from_value(json!({"Mode": {"Global": {}}})).expect("as the engine reads it");
    assert!(has_room(&machines(1), &global));
}
