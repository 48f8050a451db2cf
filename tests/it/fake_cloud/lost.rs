//! Answers that are lost: what CloudFormation does decides, and not what arrived of it.

use std::time::Duration;

use super::{Lab, has};
use crate::support::proxy::Proxy;

const DB: &str = "shop-local-db";

#[test]
fn a_lost_answer_does_no_harm_where_tokens_are_not_known() {
    let lab = Lab::new();
    lab.aws.forget_tokens();
    for action in ["CreateChangeSet", "ExecuteChangeSet", "DeleteStack"] {
        lab.aws.lose_answer(action);
    }
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    for action in ["CreateChangeSet", "ExecuteChangeSet"] {
        lab.aws.lose_answer(action);
    }
    has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
    has(&lab.ends(&["destroy", "-y"], 0), &["✓ deleted"]);
}

#[test]
fn a_plan_whose_change_set_was_made_already_is_the_same_plan() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.forget_tokens();
    lab.aws.lose_answer("CreateChangeSet");
    has(&lab.ends(&["plan"], 3), &["5 -> 7", "confirmed"]);
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
}

/// A lab behind a proxy.
fn behind() -> (Lab, Proxy) {
    let lab = Lab::new();
    let proxy = Proxy::before(lab.aws.port());
    let port = proxy.port();
    (lab.behind(port), proxy)
}

#[test]
fn a_stack_is_followed_through_seconds_without_a_connection() {
    let (lab, proxy) = behind();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.stop_time();
    let child = lab.begin(&["apply", "-y", "--no-lock"]);
    lab.aws.wait_until("it is followed", |world| {
        world.stack(DB).is_busy() && world.called("DescribeStackEvents") > 4
    });
    proxy.down(true);
    // The fault itself: longer than a single call is repeated.
    std::thread::sleep(Duration::from_secs(20));
    assert!(proxy.refused() > 3, "it asks again and again");
    proxy.down(false);
    lab.aws.go_on();
    let text = lab.finish(child, 0);
    has(&text, &["no answer for", "CloudFormation continues", "✓ updated"]);
}

#[test]
fn a_stack_that_can_t_be_watched_any_more_is_left_running() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.stop_time();
    let child = lab.begin(&["apply", "-y", "--no-lock"]);
    lab.aws.wait_until("it is followed", |world| {
        world.stack(DB).is_busy() && world.called("DescribeStackEvents") > 4
    });
    // The credentials expire: a minute is enough to know that this does not pass.
    lab.aws.expire();
    let text = lab.finish(child, 1);
    has(&text, &["left to CloudFormation", "does not answer", "`fleetwright apply` again"]);
    assert!(!text.contains("✗ failed"), "{text}");
    lab.aws.renew();
    lab.aws.go_on();
    has(&lab.ends(&["apply", "-y"], 0), &["1 stack unchanged"]);
}

#[test]
fn a_server_that_is_not_there_at_all_begins_nothing() {
    let (lab, proxy) = behind();
    proxy.down(true);
    has(&lab.ends(&["plan"], 1), &["can't be reached"]);
}
