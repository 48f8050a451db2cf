//! `apply` killed or interrupted at chosen moments: run again, it goes on from there.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Lab, has};

const DB: &str = "shop-local-db";

/// Kills an apply once it has called `action`, which is not even looked at with `before`.
fn kill_at(lab: &Lab, action: &str, before: bool) {
    let gate = lab.aws.gate(action, before);
    let mut child = lab.begin(&["apply", "-y"]);
    lab.aws.wait_at(&gate);
    child.kill().expect("killed");
    child.wait().expect("it ended");
    lab.aws.lift(&gate);
}

fn converged(lab: &Lab) {
    has(&lab.ends(&["plan"], 0), &["no change"]);
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
}

#[test]
fn a_creation_killed_after_its_change_set_was_made_is_taken_up_again() {
    let lab = Lab::new();
    kill_at(&lab, "CreateChangeSet", false);
    assert_eq!(lab.status().as_deref(), Some("REVIEW_IN_PROGRESS"));
    has(&lab.ends(&["plan"], 3), &["1 stack to create"]);
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
    converged(&lab);
}

#[test]
fn an_update_killed_before_its_change_set_is_executed_is_done_anew() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    kill_at(&lab, "ExecuteChangeSet", true);
    assert_eq!(lab.aws.world().waiting().len(), 1, "it is left behind for now");
    has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
    converged(&lab);
}

#[test]
fn an_update_killed_while_it_is_under_way_is_waited_for_and_found_done() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.stop_time();
    kill_at(&lab, "ExecuteChangeSet", false);
    assert_eq!(lab.status().as_deref(), Some("UPDATE_IN_PROGRESS"));
    lab.aws.take_calls();
    let again = lab.begin(&["apply", "-y"]);
    lab.aws.wait_until("it looks twice", |world| world.called("DescribeStackEvents") > 2);
    lab.aws.go_on();
    has(&lab.finish(again, 0), &["1 stack unchanged"]);
    assert_eq!(lab.aws.world().stack(DB).status, "UPDATE_COMPLETE");
    assert_eq!(lab.aws.calls("CreateChangeSet"), 0, "there was nothing left to do");
    converged(&lab);
}

#[test]
fn an_update_that_is_interrupted_is_left_to_cloudformation() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.stop_time();
    let child = lab.begin(&["apply", "-y"]);
    lab.aws.wait_until("it is followed", |world| {
        world.stack(DB).is_busy() && world.called("DescribeStackEvents") > 3
    });
    let process = Pid::from_raw(i32::try_from(child.id()).expect("a process"));
    kill(process, Signal::SIGINT).expect("it runs");
    let text = lab.finish(child, 1);
    has(&text, &["left to CloudFormation, which goes on with it", "CloudFormation goes on with `db`"]);
    lab.aws.go_on();
    // The lock was given back, so that others need not wait for it.
    has(&lab.ends(&["apply", "-y"], 0), &["1 stack unchanged"]);
    converged(&lab);
}

#[test]
fn an_update_that_is_interrupted_while_it_is_computed_is_taken_back() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.take_calls();
    lab.aws.stall_change_sets();
    let child = lab.begin(&["plan"]);
    lab.aws.wait_until("it is computed", |world| world.called("DescribeChangeSet") > 1);
    let process = Pid::from_raw(i32::try_from(child.id()).expect("a process"));
    kill(process, Signal::SIGINT).expect("it runs");
    has(&lab.finish(child, 1), &["stopped before the plan was complete; nothing was changed"]);
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
}
