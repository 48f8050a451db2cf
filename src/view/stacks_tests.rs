//! Golden files of apply and destroy.

use super::*;
use crate::event::stack::Failure;

fn started(stack: &str, work: Work, resources: Option<u32>) -> StackEvent {
    StackEvent::Started { stack: stack.to_owned(), work, resources }
}

fn resource(stack: &str, resource: &str, kind: &str, status: &str, reason: &str) -> StackEvent {
    StackEvent::Resource {
        stack: stack.to_owned(),
        resource: resource.to_owned(),
        resource_type: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
    }
}

fn finished(stack: &str, outcome: Outcome, seconds: f64, failure: Option<Failure>) -> StackEvent {
    StackEvent::Finished { stack: stack.to_owned(), outcome, seconds, failure }
}

fn story() -> Vec<StackEvent> {
    let failure = Failure {
        cause: "Group: MaxSize 6 is above the account's limit of 5".to_owned(),
        at: Some("templates/cloudformation/group.yaml:52".to_owned()),
        next: "remove the cause, then `fleetwright apply` again".to_owned(),
    };
    let (own, group) = ("AWS::CloudFormation::Stack", "AWS::AutoScaling::AutoScalingGroup");
    vec![
        started("busy", Work::Wait, None),
        finished("busy", Outcome::Settled, 3.0, None),
        finished("network", Outcome::Unchanged, 0.0, None),
        started("control", Work::Create, Some(2)),
        started("workers", Work::Update, Some(3)),
        resource("workers", "demo-local-workers", own, "UPDATE_IN_PROGRESS", "User Initiated"),
        resource("control", "Role", "AWS::IAM::Role", "CREATE_IN_PROGRESS", ""),
        resource("control", "Role", "AWS::IAM::Role", "CREATE_COMPLETE", ""),
        finished("control", Outcome::Created, 8.1, None),
        resource("workers", "Template", "AWS::EC2::LaunchTemplate", "UPDATE_COMPLETE", ""),
        resource("workers", "Group", group, "UPDATE_IN_PROGRESS", ""),
        resource("workers", "Group", group, "UPDATE_FAILED", "MaxSize 6 is above the account's limit of 5"),
        resource("workers", "demo-local-workers", own, "UPDATE_ROLLBACK_COMPLETE", ""),
        finished("workers", Outcome::Failed, 41.0, Some(failure)),
        finished("monitor", Outcome::Skipped, 0.0, None),
        finished("later", Outcome::NotBegun, 0.0, None),
        finished("slow", Outcome::LeftRunning, 2.0, None),
        finished("old", Outcome::Deleted, 2.0, None),
    ]
}

fn lines(streaming: bool) -> String {
    let names = ["network", "control", "workers", "monitor"];
    let mut board = Board::new(names, Paint(false), streaming);
    story().iter().flat_map(|event| board.take(event)).collect::<Vec<_>>().join("\n")
}

#[test]
fn one_line_a_stack_and_the_first_cause() {
    insta::assert_snapshot!(lines(false));
}

#[test]
fn resources_are_streamed_where_nothing_can_be_redrawn() {
    insta::assert_snapshot!(lines(true));
}

#[test]
fn the_live_line_follows_the_resources() {
    let mut board = Board::new(["workers"], Paint(false), false);
    let mut seen = Vec::new();
    for event in story().iter().filter(|event| {
        matches!(event, StackEvent::Started { stack, .. } | StackEvent::Resource { stack, .. } if stack == "workers")
    }) {
        board.take(event);
        seen.push(board.live("workers"));
    }
    insta::assert_snapshot!(seen.join("\n"));
}

#[test]
fn the_summary_counts_outcomes() {
    let outcomes =
        [Outcome::Unchanged, Outcome::Created, Outcome::Created, Outcome::Failed, Outcome::Skipped];
    insta::assert_snapshot!(
        summary(&outcomes, Duration::from_secs(12)),
        @"1 stack unchanged, 2 created, 1 failed and 1 skipped in 12 s."
    );
}

#[test]
fn a_destroy_names_what_will_be_lost() {
    let loss = |stack: &str, machines: &[&str]| Loss {
        stack: stack.to_owned(),
        machines: machines.iter().map(|m| (*m).to_owned()).collect(),
    };
    let losses_ = [loss("workers", &["i-0d3c", "i-0f11"]), loss("network", &[])];
    insta::assert_snapshot!(losses("demo-local", "eu-west-1", &losses_));
}
