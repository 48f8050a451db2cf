//! Creations and updates that fail.

use super::{Lab, has};
use crate::support::fake_aws::When;

#[test]
fn a_stack_goes_from_nothing_through_a_change_to_nothing() {
    let lab = Lab::new();
    has(&lab.ends(&["plan"], 3), &["1 stack to create"]);
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
    assert_eq!(lab.status().as_deref(), Some("CREATE_COMPLETE"));
    has(&lab.ends(&["plan"], 0), &["no change"]);
    // So large that it goes through the bucket.
    lab.edit("Outputs:", &format!("{}Outputs:", "# much to say\n".repeat(4000)));
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    has(&lab.ends(&["plan"], 3), &["DelaySeconds", "5 -> 7", "confirmed"]);
    has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
    has(&lab.ends(&["plan"], 0), &["no change"]);
    assert!(lab.aws.world().waiting().is_empty(), "a plan leaves no change set");
    has(&lab.ends(&["destroy", "-y"], 0), &["✓ deleted"]);
    assert_eq!(lab.status(), None);
}

#[test]
fn a_failed_update_names_its_first_cause_and_place_and_others_go_on() {
    let lab = Lab::new();
    let other = "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n";
    lab.write("templates/cloudformation/other.yaml", other);
    let user = "Parameters:\n  Topic:\n    Type: String\nResources:\n  Address:\n    Type: AWS::SSM::Parameter\n    \
                Properties:\n      Type: String\n      Value: !Ref Topic\n";
    lab.write("templates/cloudformation/user.yaml", user);
    let stacks = "db:\n  template: db.yaml\nother:\n  template: other.yaml\nuser:\n  template: user.yaml\n  \
                  parameters:\n    Topic: ${db.Topic}\n";
    lab.write("stacks/all.yaml", stacks);
    has(&lab.ends(&["apply", "-y"], 0), &["3 stacks created"]);

    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.edit("!Ref Title", "second");
    lab.write(
        "templates/cloudformation/other.yaml",
        &other.replace("SNS::Topic\n", "SNS::Topic\n    Properties:\n      DisplayName: new\n"),
    );
    let reason =
        "Resource handler returned message: \"Delay is not wanted\" (Service: Sqs, Status Code: 400)";
    lab.aws.fail("shop-local-db", "Queue", When::Update, reason);
    let failed = lab.ends(&["apply", "-y"], 1);
    has(
        &failed,
        &[
            "db     ✗ failed",
            &format!("cause: Queue: {reason}"),
            "at: templates/cloudformation/db.yaml:6",
            "next: remove the cause, then `fleetwright apply` again",
            "other  ✓ updated",
        ],
    );
    assert_eq!(lab.status().as_deref(), Some("UPDATE_ROLLBACK_COMPLETE"));
    // The other resource of the same stack was cancelled, which is no cause.
    let reasons: Vec<String> =
        lab.aws.world().stack("shop-local-db").events.iter().map(|event| event.reason.clone()).collect();
    assert!(reasons.iter().any(|reason| reason == "Resource update cancelled"), "{reasons:?}");

    lab.aws.mend();
    has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
    has(&lab.ends(&["plan"], 0), &["no change"]);
}
