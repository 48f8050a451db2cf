//! What CloudFormation says: both ways in which it tells changes, and a policy's denial.

use serde_json::Value;

use super::{Lab, has};
use crate::support::fake_aws::Dialect;

/// The plan of every kind of change, as JSON.
fn plan_in(dialect: Dialect) -> Value {
    let lab = Lab::speaking(dialect);
    let more = "  Gone:\n    Type: AWS::SNS::Topic\nOutputs:";
    lab.edit("Outputs:", more);
    lab.ends(&["apply", "-y"], 0);
    lab.edit(more, "  New:\n    Type: AWS::SNS::Topic\nOutputs:");
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7\n      Tags:\n        - Key: team\n          Value: blue");
    // A topic's name can't be changed in place, and the parameter needs the topic.
    lab.edit("DisplayName: !Ref Title", "DisplayName: !Ref Title\n      TopicName: named");
    let run = lab.run(&["plan", "-o", "json"]);
    assert_eq!(run.status, Some(3), "{run}");
    serde_json::from_str(&run.stdout).expect("one document")
}

#[test]
fn both_dialects_of_change_sets_give_the_same_plan() {
    let (details, contexts) = (plan_in(Dialect::Details), plan_in(Dialect::Contexts));
    let resources = &details["stacks"][0]["resources"];
    let told: Vec<String> = resources
        .as_array()
        .expect("resources")
        .iter()
        .map(|r| format!("{} {} {}", r["resource"], r["action"], r["claim"]).replace('"', ""))
        .collect();
    let wanted = [
        "Address update confirmed",
        "Gone delete confirmed",
        "New create confirmed",
        "Queue update confirmed",
        "Topic replace confirmed",
    ];
    assert_eq!(told, wanted, "{resources:#}");
    assert_eq!(details, contexts);
}

const POLICY: &str = r#"{"Statement": [
    {"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"},
    {"Effect": "Deny", "Action": ["Update:Replace", "Update:Delete"], "Principal": "*", "Resource": "LogicalResourceId/Topic"}
]}"#;

#[test]
fn an_update_that_the_stack_s_policy_denies_ends_with_its_words() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.aws.ask("SetStackPolicy", &[("StackName", "shop-local-db"), ("StackPolicyBody", POLICY)]);
    // What the policy lets pass is done.
    lab.edit("!Ref Title", "second");
    has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
    let topic = || lab.aws.world().stack("shop-local-db").resource("Topic").expect("it is there").id.clone();
    let before = topic();
    lab.edit("DisplayName: second", "TopicName: named");
    let failed = lab.ends(&["apply", "-y"], 1);
    has(
        &failed,
        &[
            "✗ failed",
            "cause: Topic: Action denied by stack policy: Statement [#2] does not allow [Update:Replace] for \
             resource [Topic]",
            "at: templates/cloudformation/db.yaml:10",
            "next: ",
        ],
    );
    assert_eq!(lab.status().as_deref(), Some("UPDATE_ROLLBACK_COMPLETE"));
    assert_eq!(topic(), before, "nothing took its place");
}
