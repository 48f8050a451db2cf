//! `recover`, from every way in which a stack can be stuck; reached by what leads there wherever
//! `apply` can be led there.

use super::{CONFIRM, Lab, TEMPLATE, has};
use crate::support::fake_aws::When;

const DB: &str = "shop-local-db";

#[test]
fn rollback_complete_is_deleted_and_created_anew() {
    let lab = Lab::new();
    lab.aws.fail(DB, "Topic", When::Create, "Topic is not wanted");
    let failed = lab.ends(&["apply", "-y"], 1);
    has(
        &failed,
        &["cause: Topic: Topic is not wanted", "the stack is ROLLBACK_COMPLETE: `fleetwright recover db`"],
    );
    assert_eq!(lab.status().as_deref(), Some("ROLLBACK_COMPLETE"));
    has(&lab.ends(&["plan"], 1), &["blocked: ROLLBACK_COMPLETE", "`fleetwright recover db`"]);
    has(&lab.ends(&["apply", "-y"], 1), &["stack `db` is ROLLBACK_COMPLETE"]);
    has(&lab.ends(&["recover", "db", "--dry-run"], 0), &["is ROLLBACK_COMPLETE: it will be deleted"]);
    // It holds nothing any more, so that a yes is enough.
    let recovered = lab.recover(&[], 0);
    has(&recovered, &["it holds nothing any more", "✓ deleted", "db does not exist: nothing to recover"]);
    assert_eq!(lab.status(), None);
    lab.aws.mend();
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
}

#[test]
fn rollback_failed_names_what_is_left_and_deletes_it() {
    let lab = Lab::new();
    lab.aws.fail(DB, "Topic", When::Create, "Topic is not wanted");
    lab.aws.fail(DB, "Queue", When::Rollback, "Queue is in use");
    let failed = lab.ends(&["apply", "-y"], 1);
    has(&failed, &["cause: Topic: Topic is not wanted", "the stack is ROLLBACK_FAILED"]);
    assert_eq!(lab.status().as_deref(), Some("ROLLBACK_FAILED"));
    let refused = lab.recover(&[], 2);
    has(
        &refused,
        &["1 resource with it:", "AWS::SQS::Queue", "`-y` alone does not allow", "--confirm shop-local-db"],
    );
    assert_eq!(lab.status().as_deref(), Some("ROLLBACK_FAILED"), "nothing was done");
    has(&lab.recover(&CONFIRM, 0), &["✓ deleted"]);
    assert_eq!(lab.status(), None);
}

/// The tags by which the stack is known as ours.
const TAGS: [(&str, &str); 6] = [
    ("Tags.member.1.Key", "fleetwright:project"),
    ("Tags.member.1.Value", "shop"),
    ("Tags.member.2.Key", "fleetwright:environment"),
    ("Tags.member.2.Value", "local"),
    ("Tags.member.3.Key", "fleetwright:stack"),
    ("Tags.member.3.Value", "db"),
];

/// Somebody makes the stack, or changes it, so that what fails is left as it is.
fn by_hand(lab: &Lab, kind: &str, template: &str) {
    let name = [("StackName", DB), ("ChangeSetName", "by-hand")];
    let fields = [("ChangeSetType", kind), ("TemplateBody", template)];
    lab.aws.ask("CreateChangeSet", &[&name[..], &fields, &TAGS].concat());
    lab.aws.ask("DescribeChangeSet", &name);
    lab.aws.ask("ExecuteChangeSet", &[&name[..], &[("DisableRollback", "true")]].concat());
    lab.aws.wait_until("it stands still", |world| !world.stack(DB).is_busy());
}

#[test]
fn create_failed_is_deleted_with_what_it_holds() {
    let lab = Lab::new();
    lab.aws.fail(DB, "Topic", When::Create, "Topic is not wanted");
    by_hand(&lab, "CREATE", TEMPLATE);
    assert_eq!(lab.status().as_deref(), Some("CREATE_FAILED"));
    has(&lab.recover(&[], 2), &["is CREATE_FAILED", "AWS::SQS::Queue", "--confirm shop-local-db"]);
    has(&lab.recover(&CONFIRM, 0), &["✓ deleted", "does not exist: nothing to recover"]);
    assert_eq!(lab.status(), None);
}

#[test]
fn update_failed_is_rolled_back() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.aws.fail(DB, "Topic", When::Update, "Topic is not wanted");
    by_hand(&lab, "UPDATE", &TEMPLATE.replace("!Ref Title", "second"));
    assert_eq!(lab.status().as_deref(), Some("UPDATE_FAILED"));
    has(&lab.ends(&["apply", "-y"], 1), &["stack `db` is UPDATE_FAILED", "`fleetwright recover db`"]);
    // CloudFormation's answer gets lost on its way; it is asked again.
    lab.aws.lose_answer("RollbackStack");
    let recovered = lab.recover(&[], 0);
    has(&recovered, &["the update that failed will be undone", "db is UPDATE_ROLLBACK_COMPLETE: at rest"]);
    assert_eq!(lab.status().as_deref(), Some("UPDATE_ROLLBACK_COMPLETE"));
    assert_eq!(lab.aws.calls("RollbackStack"), 2);
}

/// An update that failed, and whose rollback failed too.
fn rollback_that_failed() -> Lab {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.edit("Value: !Sub \"", "Value: !Sub \"new ");
    lab.aws.fail(DB, "Address", When::Update, "Address is not wanted");
    lab.aws.fail(DB, "Queue", When::Rollback, "Queue can't go back");
    let failed = lab.ends(&["apply", "-y"], 1);
    has(&failed, &["cause: Address: Address is not wanted", "the stack is UPDATE_ROLLBACK_FAILED"]);
    assert_eq!(lab.status().as_deref(), Some("UPDATE_ROLLBACK_FAILED"));
    lab
}

#[test]
fn update_rollback_failed_goes_on_once_its_cause_is_gone() {
    let lab = rollback_that_failed();
    let failed = lab.recover(&[], 1);
    has(
        &failed,
        &["`Queue` could not be undone", "✗ failed", "cause: Queue: Queue can't go back", "`--skip Queue`"],
    );
    assert_eq!(lab.status().as_deref(), Some("UPDATE_ROLLBACK_FAILED"));
    lab.aws.mend();
    lab.aws.lose_answer("ContinueUpdateRollback");
    has(&lab.recover(&[], 0), &["db is UPDATE_ROLLBACK_COMPLETE: at rest"]);
    let world = lab.aws.world();
    assert_eq!(world.stack(DB).resource("Queue").expect("it is there").properties["DelaySeconds"], "5");
}

#[test]
fn update_rollback_failed_passes_over_what_it_is_told_to() {
    let lab = rollback_that_failed();
    has(&lab.recover(&["--skip", "Queue"], 2), &["It will pass over `Queue`", "--confirm shop-local-db"]);
    let recovered = lab.recover(&[&["--skip", "Queue"], &CONFIRM[..]].concat(), 0);
    has(&recovered, &["db is UPDATE_ROLLBACK_COMPLETE: at rest"]);
    let world = lab.aws.world();
    // It is as the update left it.
    assert_eq!(world.stack(DB).resource("Queue").expect("it is there").properties["DelaySeconds"], "7");
}

#[test]
fn delete_failed_is_tried_again_and_leaves_behind_what_it_is_told_to() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.aws.fail(DB, "Queue", When::Delete, "Queue is in use");
    has(&lab.ends(&["destroy", "-y"], 1), &["✗ failed", "cause: Queue: Queue is in use"]);
    assert_eq!(lab.status().as_deref(), Some("DELETE_FAILED"));
    let failed = lab.recover(&CONFIRM, 1);
    has(&failed, &["1 resource with it:", "cause: Queue: Queue is in use", "`--retain RESOURCE`"]);
    assert_eq!(lab.status().as_deref(), Some("DELETE_FAILED"));
    let recovered = lab.recover(&["--retain", "Queue"], 0);
    has(&recovered, &["it holds nothing any more", "Left behind: `Queue`", "✓ deleted"]);
    assert_eq!(lab.status(), None);
    let world = lab.aws.world();
    let gone = world.stacks.iter().find(|stack| stack.name == DB).expect("known by its id");
    assert_eq!(gone.resource("Queue").map(|queue| queue.status.as_str()), Some("DELETE_SKIPPED"));
}

#[test]
fn a_stranger_s_review_is_discarded_only_by_its_name() {
    let lab = Lab::new();
    let theirs = [("ChangeSetType", "CREATE"), ("ChangeSetName", "look-at-this"), ("TemplateBody", TEMPLATE)];
    lab.aws.ask("CreateChangeSet", &[&[("StackName", DB)], &theirs[..]].concat());
    has(
        &lab.ends(&["apply", "-y"], 1),
        &["somebody else made a change set", "`fleetwright recover db` discards it"],
    );
    has(&lab.recover(&[], 2), &["somebody else made a change set to create it", "--confirm shop-local-db"]);
    has(&lab.recover(&["--confirm", "shop-local-other"], 1), &["stopped: nothing was changed"]);
    assert_eq!(lab.status().as_deref(), Some("REVIEW_IN_PROGRESS"));
    has(&lab.recover(&CONFIRM, 0), &["✓ deleted"]);
    assert_eq!(lab.status(), None);
}

#[test]
fn import_rollback_failed_is_left_to_a_person() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.aws.take_calls();
    lab.aws.put_into(DB, "IMPORT_ROLLBACK_FAILED");
    let refused = lab.recover(&CONFIRM, 1);
    has(&refused, &["an import could not be undone", "describe-stack-events --stack-name shop-local-db"]);
    has(&lab.ends(&["apply", "-y"], 1), &["IMPORT_ROLLBACK_FAILED"]);
    assert_eq!(lab.status().as_deref(), Some("IMPORT_ROLLBACK_FAILED"));
    assert_eq!(lab.aws.calls("PutObject"), 0, "there is nothing to take a lock for");
}

#[test]
fn work_under_way_is_waited_for() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.stop_time();
    let mut killed = lab.begin(&["apply", "-y"]);
    lab.aws.wait_until("it is executed", |world| world.stack(DB).is_busy());
    killed.kill().expect("killed");
    killed.wait().expect("it ended");
    lab.aws.take_calls();
    let mut waiting = lab.begin(&["recover", "db", "-y"]);
    lab.aws.wait_until("it looks twice", |world| world.called("DescribeStackEvents") > 2);
    assert!(waiting.try_wait().expect("a child").is_none(), "it waits");
    assert_eq!(lab.aws.calls("PutObject"), 0, "waiting takes no lock");
    lab.aws.go_on();
    let text = lab.finish(waiting, 0);
    has(&text, &["db is UPDATE_IN_PROGRESS: waiting for CloudFormation", "db is UPDATE_COMPLETE: at rest"]);
}
