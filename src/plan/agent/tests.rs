use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::group::{Capacity, Lifecycle};
use crate::model::member::Manager;

pub(super) fn id(number: usize) -> MachineId {
    format!("i-{number}").parse().expect("an id")
}

pub(super) fn group(name: &str, instances: &[(usize, Lifecycle)]) -> Group {
    Group {
        name: name.to_owned(),
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

fn node(number: usize, manager: Option<bool>, up: bool) -> Node {
    Node {
        id: format!("n{number}"),
        instance: Some(id(number)),
        address: None,
        manager: manager.map(|reachable| Manager { leader: number == 1, reachable }),
        up,
        labels: BTreeMap::from([("fleetwright.group".to_owned(), "control".to_owned())]),
        unchanged_s: 10,
    }
}

use Lifecycle::{InService, Pending, TerminatingWait};

fn inside<'a>(
    me: &'a MachineId,
    nodes: &'a [Node],
    groups: &'a [Group],
    deleted: &'a BTreeSet<String>,
) -> Inside<'a> {
    Inside { me, nodes, groups, deleted_groups: deleted, registered: &[] }
}

#[test]
fn a_gone_manager_is_demoted_and_then_removed() {
    let groups = [group("control", &[(1, InService), (2, InService), (4, InService)])];
    let (me, none) = (id(1), BTreeSet::new());
    let mut nodes = vec![node(1, Some(true), true), node(2, Some(true), true), node(3, Some(false), false)];
    let reason = Reason::InstanceGone;
    assert_eq!(
        reconcile(&inside(&me, &nodes, &groups, &none)),
        [Action::Demote { node: "n3".into(), reason }]
    );
    nodes[2].manager = None;
    assert_eq!(
        reconcile(&inside(&me, &nodes, &groups, &none)),
        [Action::Remove { node: "n3".into(), reason }]
    );
}

#[test]
fn a_down_node_of_a_living_instance_is_left_alone() {
    let groups = [group("control", &[(1, InService), (2, InService)])];
    let (me, none) = (id(1), BTreeSet::new());
    let nodes = [node(1, Some(true), true), node(2, None, false)];
    assert_eq!(reconcile(&inside(&me, &nodes, &groups, &none)), []);
}

#[test]
fn a_gone_machine_that_still_answers_is_left_to_its_own_agent() {
    let groups = [group("control", &[(1, InService), (2, TerminatingWait)])];
    let (me, none) = (id(1), BTreeSet::new());
    let nodes = [node(1, Some(true), true), node(2, None, true)];
    assert_eq!(reconcile(&inside(&me, &nodes, &groups, &none)), []);
}

#[test]
fn a_group_that_was_not_read_proves_nothing() {
    let groups = [group("control", &[(1, InService)])];
    let me = id(1);
    let mut worker = node(7, None, false);
    worker.labels.insert("fleetwright.group".into(), "workers".into());
    let nodes = [node(1, Some(true), true), worker];
    let none = BTreeSet::new();
    assert_eq!(reconcile(&inside(&me, &nodes, &groups, &none)), []);
    let deleted = BTreeSet::from(["workers".to_owned()]);
    assert_eq!(reconcile(&inside(&me, &nodes, &groups, &deleted)).len(), 1);
}

#[test]
fn the_node_before_a_second_joining_is_removed() {
    let groups = [group("control", &[(1, InService), (2, InService)])];
    let (me, none) = (id(1), BTreeSet::new());
    let mut again = node(2, None, true);
    again.id = "n2b".into();
    let nodes = [node(1, Some(true), true), node(2, None, false), again];
    assert_eq!(
        reconcile(&inside(&me, &nodes, &groups, &none)),
        [Action::Remove { node: "n2".into(), reason: Reason::JoinedAgain }]
    );
}

#[test]
fn control_machines_that_are_gone_are_forgotten() {
    let groups = [group("control", &[(1, InService)])];
    let (me, none, registered) = (id(1), BTreeSet::new(), [id(1), id(8)]);
    let nodes = [node(1, Some(true), true)];
    let seen = Inside { registered: &registered, ..inside(&me, &nodes, &groups, &none) };
    assert_eq!(reconcile(&seen), [Action::Forget { machine: id(8) }]);
}

#[test]
fn a_manager_leaves_when_the_others_can_go_on() {
    let three = [node(1, Some(true), true), node(2, Some(true), true), node(3, Some(true), true)];
    assert_eq!(leave(&three, "n1"), Leave::Now);
    let mut one_lost = three.clone();
    one_lost[2] = node(3, Some(false), false);
    assert_eq!(leave(&one_lost, "n1"), Leave::Wait);
    assert_eq!(leave(&three[..2], "n1"), Leave::Now);
    assert_eq!(leave(&three[..1], "n1"), Leave::Last);
}

#[test]
fn a_machine_that_goes_leaves_no_swarm_whose_state_it_still_holds() {
    let member = |manager| Membership::In { node: "n1".into(), manager };
    let none = Stored::default();
    let raft = Stored { raft: true, certificate: None };
    for state in [member(false), Membership::Pending, Membership::Broken { reason: String::new() }] {
        assert!(may_leave(&state, Some(&none)), "{state:?}");
        assert!(!may_leave(&state, Some(&raft)), "{state:?}");
        assert!(!may_leave(&state, None), "{state:?}");
    }
    for state in [member(true), Membership::Out, Membership::Locked] {
        assert!(!may_leave(&state, Some(&none)), "{state:?}");
    }
}

fn any_node(number: usize) -> impl Strategy<Value = Node> {
    (any::<Option<bool>>(), any::<bool>(), any::<bool>(), 0_u64..300).prop_map(
        move |(manager, up, registered, unchanged_s)| Node {
            instance: registered.then(|| id(number)),
            unchanged_s,
            ..node(number, manager, up)
        },
    )
}

fn any_lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![
        Just(Pending),
        Just(InService),
        Just(TerminatingWait),
        Just(Lifecycle::TerminatingProceed),
        Just(Lifecycle::Terminated)
    ]
}

proptest! {
    #[test]
    fn the_majority_is_never_lost(
        nodes in (1_usize..8).prop_flat_map(|count| (1..=count).map(any_node).collect::<Vec<_>>()),
        listed in proptest::collection::vec((1_usize..9, any_lifecycle()), 0..8),
        me in 1_usize..8,
    ) {
        let groups = [group("control", &listed)];
        let (me, none) = (id(me), BTreeSet::new());
        let actions = reconcile(&inside(&me, &nodes, &groups, &none));
        if !listed.iter().any(|(number, _)| id(*number) == me) {
            prop_assert!(actions.is_empty(), "the list lacks this machine");
        }
        let mut after = nodes.clone();
        for action in &actions {
            match action {
                Action::Demote { node, .. } => {
                    let known = after.iter_mut().find(|one| one.id == *node).expect("a known node");
                    prop_assert!(!known.up && known.manager.is_some_and(|manager| !manager.reachable));
                    known.manager = None;
                }
                Action::Remove { node, .. } => {
                    let known = nodes.iter().find(|one| one.id == *node).expect("a known node");
                    prop_assert!(known.manager.is_none() && !known.up);
                    let living = listed.iter().any(|(number, lifecycle)| {
                        known.instance == Some(id(*number)) && !lifecycle.is_leaving()
                    });
                    let listed_as_leaving = listed.iter().any(|(number, lifecycle)| {
                        known.instance == Some(id(*number)) && lifecycle.is_leaving()
                    });
                    prop_assert!(!living || listed_as_leaving, "its instance lives");
                }
                Action::Forget { .. } => {}
            }
        }
        let managers = after.iter().filter(|one| one.manager.is_some()).count();
        let reachable = after.iter().filter(|one| one.manager.is_some_and(|manager| manager.reachable)).count();
        let before = nodes.iter().filter(|one| one.manager.is_some_and(|manager| manager.reachable)).count();
        if actions.iter().any(|action| matches!(action, Action::Demote { .. })) {
            prop_assert_eq!(before, reachable, "no manager that takes part is demoted");
            prop_assert!(reachable > managers / 2);
        }
    }
}
