//! What is asked of AWS: how often, and what when it answers that this was too often.

use std::fmt::Write as _;

use super::{Lab, has};

/// Stacks enough for several pages.
const STACKS: usize = 50;

/// Many stacks that are deployed as they are wanted.
fn many() -> Lab {
    let lab = Lab::new();
    let template = std::iter::once("Resources:\n".to_owned())
        .chain((0..8).map(|at| format!("  Topic{at}:\n    Type: AWS::SNS::Topic\n")))
        .collect::<String>();
    lab.write("templates/cloudformation/db.yaml", &template);
    let mut stacks = String::new();
    for at in 0..STACKS {
        let _ = writeln!(stacks, "s{at}:\n  template: db.yaml");
        let (name, short) = (format!("shop-local-s{at}"), format!("s{at}"));
        let stack = [("StackName", name.as_str()), ("ChangeSetName", "first")];
        let tags = [
            ("Tags.member.1.Key", "fleetwright:project"),
            ("Tags.member.1.Value", "shop"),
            ("Tags.member.2.Key", "fleetwright:environment"),
            ("Tags.member.2.Value", "local"),
            ("Tags.member.3.Key", "fleetwright:stack"),
            ("Tags.member.3.Value", short.as_str()),
        ];
        let wanted = [("ChangeSetType", "CREATE"), ("TemplateBody", template.as_str())];
        lab.aws.ask("CreateChangeSet", &[&stack[..], &wanted[..], &tags[..]].concat());
        lab.aws.ask("DescribeChangeSet", &stack);
        lab.aws.ask("ExecuteChangeSet", &stack);
    }
    lab.write("stacks/all.yaml", &stacks);
    lab.aws.wait_until("all are there", |world| world.stacks.iter().all(|s| s.status == "CREATE_COMPLETE"));
    lab
}

#[test]
fn a_plan_without_changes_asks_little_and_then_next_to_nothing() {
    let lab = many();
    has(&lab.ends(&["plan"], 0), &["no change"]);
    let first = lab.aws.take_calls();
    let count: u32 = first.values().sum();
    assert!(count < 60, "{count} calls for {STACKS} stacks: {first:?}");
    has(&lab.ends(&["plan"], 0), &["no change"]);
    let second = lab.aws.take_calls();
    let count: u32 = second.values().sum();
    // Two of them are parameters: who has access to the cluster, and who is notified.
    assert!(count <= 6, "{count} calls for {STACKS} stacks that are known: {second:?}");
    // An apply looks at what is under way, too; it takes no lock and makes no change set.
    has(&lab.ends(&["apply", "-y"], 0), &["50 stacks unchanged"]);
    let apply = lab.aws.take_calls();
    let count: u32 = apply.values().sum();
    let asked: Vec<&str> = apply.keys().map(String::as_str).collect();
    assert_eq!(asked, ["DescribeAutoScalingGroups", "DescribeStacks", "GetParameter"], "{apply:?}");
    assert!(count <= 12, "{count} calls for {STACKS} stacks that are known: {apply:?}");
}

#[test]
fn an_apply_succeeds_where_fewer_calls_are_allowed_than_it_makes() {
    let lab = Lab::new();
    let stacks: String = (0..6).map(|at| format!("s{at}:\n  template: db.yaml\n")).collect();
    lab.write("stacks/all.yaml", &stacks);
    lab.aws.limit(10.0, 12.0);
    has(&lab.ends(&["apply", "-y"], 0), &["6 stacks created"]);
    let calls = lab.aws.take_calls();
    assert!(calls.contains_key("throttled"), "{calls:?}");
}

#[test]
fn a_plan_succeeds_although_it_is_throttled() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.throttle("*", 2);
    has(&lab.ends(&["plan"], 3), &["5 -> 7", "confirmed"]);
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
}

#[test]
fn calls_that_fail_in_passing_are_made_again() {
    let lab = Lab::new();
    let once = ["CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DescribeStackEvents"];
    once.iter().for_each(|action| lab.aws.unavailable(action, 1));
    lab.aws.unavailable("DescribeStacks", 2);
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
    assert_eq!((lab.aws.calls("CreateChangeSet"), lab.aws.calls("ExecuteChangeSet")), (2, 2));
}

#[test]
fn an_answer_that_was_lost_on_its_way_does_no_harm() {
    let lab = Lab::new();
    for action in ["CreateChangeSet", "ExecuteChangeSet", "DeleteStack"] {
        lab.aws.lose_answer(action);
    }
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
    has(&lab.ends(&["destroy", "-y"], 0), &["✓ deleted"]);
    for action in ["CreateChangeSet", "ExecuteChangeSet", "DeleteStack"] {
        assert_eq!(lab.aws.calls(action), 2, "{action}");
    }
}
