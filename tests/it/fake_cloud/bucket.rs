//! The project's bucket: whose it is, how it is protected, and what is read from it in the end.

use super::{Lab, TEMPLATE, has};

/// Where this project keeps what belongs to the account and region.
const BUCKET: &str = "fleetwright-shop-123456789012-eu-west-1";
const STRANGER: &str = "999999999999";

/// A template that is too large for a request.
fn large() -> String {
    format!("{TEMPLATE}{}", "# a line that makes the template larger than a request may be\n".repeat(1000))
}

#[test]
fn a_bucket_of_somebody_else_is_never_used() {
    for open in [true, false] {
        let lab = Lab::new();
        lab.write("templates/cloudformation/db.yaml", &large());
        lab.aws.make_bucket(BUCKET, STRANGER, open);
        let said = lab.ends(&["apply", "-y"], 1);
        if open {
            has(
                &said,
                &[BUCKET, "belongs to another AWS account, not to 123456789012", "choose another `project`"],
            );
        } else {
            has(&said, &[BUCKET, "may not belong to account 123456789012"]);
        }
        assert_eq!(lab.aws.protections(BUCKET), (Vec::new(), 0), "nothing was written to it");
        assert_eq!(lab.status(), None);
        assert_eq!(lab.aws.calls("CreateChangeSet"), 0);
    }
}

#[test]
fn a_bucket_is_protected_before_anything_is_in_it() {
    // One that is new, and one that was made by a command that was killed at once.
    for made in [false, true] {
        let lab = Lab::new();
        if made {
            lab.aws.make_bucket(BUCKET, "123456789012", false);
        }
        let first_object = lab.aws.gate("PutObject", true);
        let mut child = lab.begin(&["apply", "-y"]);
        lab.aws.wait_at(&first_object);
        let (protections, objects) = lab.aws.protections(BUCKET);
        child.kill().expect("killed");
        child.wait().expect("ended");
        let names: Vec<&str> = protections.iter().map(|(name, _)| name.as_str()).collect();
        // The policy last: who finds it knows that the others are there.
        assert_eq!(names, ["PutPublicAccessBlock", "PutBucketEncryption", "PutBucketPolicy"]);
        assert_eq!(objects, 0);
        let [block, encryption, policy] = &protections[..] else { unreachable!("three") };
        for flag in ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"] {
            has(&block.1, &[&format!("<{flag}>true</{flag}>")]);
        }
        has(&encryption.1, &["AES256"]);
        has(&policy.1, &["aws:SecureTransport", "Deny", &format!("arn:aws:s3:::{BUCKET}/*")]);
        lab.aws.lift(&first_object);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.aws.protections(BUCKET).0.len(), 3, "it is protected once");
    }
}

#[test]
fn a_template_that_was_exchanged_in_the_bucket_is_not_executed() {
    let lab = Lab::new();
    lab.write("templates/cloudformation/db.yaml", &large());
    lab.aws.exchange_objects("DelaySeconds: 5", "DelaySeconds: 9");
    let said = lab.ends(&["apply", "-y"], 1);
    has(
        &said,
        &[
            "something else than was rendered",
            "the template was exchanged in the bucket",
            "nothing was executed",
        ],
    );
    assert_eq!(lab.aws.calls("ExecuteChangeSet"), 0);
    lab.aws.wait_until("the empty stack is removed", |world| world.find("shop-local-db").is_none());
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");

    // The same for a stack that exists.
    lab.aws.exchange_objects("no such text", "");
    lab.ends(&["apply", "-y"], 0);
    let executed = lab.aws.calls("ExecuteChangeSet");
    lab.edit("DelaySeconds: 5", "DelaySeconds: 6");
    lab.aws.exchange_objects("DisplayName: !Ref Title", "DisplayName: owned");
    let said = lab.ends(&["apply", "-y"], 1);
    assert!(said.contains("exchanged in the bucket") || said.contains("goes beyond the plan"), "{said}");
    assert_eq!(lab.aws.calls("ExecuteChangeSet"), executed);
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
}

#[test]
fn a_nested_template_that_was_exchanged_is_not_executed() {
    let lab = Lab::new();
    let parent = "Resources:\n  Child:\n    Type: AWS::CloudFormation::Stack\n    Properties:\n      TemplateURL: child.yaml\n";
    let child = "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n    Properties:\n      DisplayName: ours\n";
    lab.write("templates/cloudformation/db.yaml", parent);
    lab.write("templates/cloudformation/child.yaml", child);
    lab.aws.exchange_objects("DisplayName: ours", "DisplayName: theirs");
    let said = lab.ends(&["apply", "-y"], 1);
    has(&said, &["the nested template templates/cloudformation/child.yaml was exchanged in the bucket"]);
    assert_eq!(lab.aws.calls("ExecuteChangeSet"), 0);
    lab.aws.wait_until("the empty stack is removed", |world| world.find("shop-local-db").is_none());
    lab.aws.exchange_objects("no such text", "");
    lab.ends(&["apply", "-y"], 0);
}

#[test]
fn a_template_within_the_request_needs_no_further_call() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.aws.take_calls();
    lab.edit("DelaySeconds: 5", "DelaySeconds: 6");
    lab.ends(&["apply", "-y"], 0);
    let calls = lab.aws.take_calls();
    assert!(calls.get("GetTemplate").copied().unwrap_or(0) <= 1, "{calls:?}");
}
