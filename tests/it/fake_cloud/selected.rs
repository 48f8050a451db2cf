//! Some stacks of an environment, and environments of which a stack is blocked.

use serde_json::Value;

use super::{Lab, TEMPLATE, has};
use crate::support::fake_aws::When;

const USER: &str = "Parameters:\n  Topic:\n    Type: String\nResources:\n  Address:\n    Type: AWS::SSM::Parameter\n    \
                    Properties:\n      Type: String\n      Value: !Sub \"${Topic} first\"\nOutputs:\n  Topic:\n    Value: \
                    !Ref Address\n";

/// `db`, `user` of it, `behind` that uses `user`, and `other`, which needs nothing.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("templates/cloudformation/user.yaml", USER);
    lab.write("templates/cloudformation/other.yaml", TEMPLATE);
    let stacks = "db:\n  template: db.yaml\nuser:\n  template: user.yaml\n  parameters: {Topic: \"${db.Topic}\"}\nbehind:\n  \
                  template: user.yaml\n  parameters: {Topic: \"${user.Topic}\"}\nother:\n  template: other.yaml\n  \
                  parameters: {Title: \"${env.TITLE:-first}\"}\n";
    lab.write("stacks/all.yaml", stacks);
    lab
}

fn there(lab: &Lab) -> Vec<String> {
    let names = ["db", "user", "behind", "other"].map(|name| (name, format!("shop-local-{name}")));
    let is = |(_, stack): &&(&str, String)| lab.aws.status(stack).is_some();
    names.iter().filter(is).map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn apply_and_plan_of_some_stacks_take_what_they_depend_on_and_nothing_else() {
    let lab = lab();
    let plan = lab.ends(&["plan", "user"], 3);
    has(
        &plan,
        &["Plan: 2 stacks to create. Not asked for: `behind` and `other`.", "`fleetwright apply user`"],
    );
    let run = lab.run(&["plan", "user", "-o", "json"]);
    let document: Value = serde_json::from_str(&run.stdout).expect("one document");
    assert_eq!(document["selected"], serde_json::json!(["user"]));
    assert_eq!(document["not_selected"], serde_json::json!(["behind", "other"]));
    has(
        &lab.ends(&["apply", "-y", "user"], 0),
        &["db    ✓ created", "user  ✓ created", "2 stacks created", "Not asked for: `behind` and `other`."],
    );
    assert_eq!(there(&lab), ["db", "user"]);
    has(&lab.ends(&["apply", "-y", "other", "shop-local-db"], 0), &["1 stack unchanged and 1 created"]);
    assert_eq!(there(&lab), ["db", "user", "other"]);
    has(&lab.ends(&["plan"], 3), &["1 stack to create, 3 unchanged"]);
    has(&lab.ends(&["apply", "-y", "usr"], 2), &["there is no stack `usr`", "did you mean `user`?"]);
    has(&lab.ends(&["apply", "-y", "--prune", "user"], 2), &["--prune"]);
}

#[test]
fn what_was_not_asked_for_is_neither_looked_at_nor_needed() {
    let lab = lab();
    lab.ends(&["apply", "-y"], 0);
    // Stacks that left the repository are not of a plan of others.
    lab.stranger(
        "shop-local-gone",
        &[
            ("fleetwright:project", "shop"),
            ("fleetwright:environment", "local"),
            ("fleetwright:stack", "gone"),
        ],
    );
    lab.write("templates/cloudformation/other.yaml", &TEMPLATE.replace("DelaySeconds: 5", "DelaySeconds: 9"));
    let text = std::fs::read_to_string(lab.path("stacks/all.yaml")).expect("the stacks");
    lab.write("stacks/all.yaml", &text.replace("${env.TITLE:-first}", "${env.NOT_SET}"));
    has(&lab.ends(&["apply", "-y"], 2), &["`NOT_SET` is not set"]);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    let text = lab.ends(&["apply", "-y", "db"], 0);
    has(&text, &["1 stack updated", "Not asked for: "]);
    assert!(!text.contains("shop-local-gone"), "{text}");
    assert_eq!(
        lab.aws.world().stack("shop-local-other").resource("Queue").expect("it").properties["DelaySeconds"],
        "5"
    );
}

#[test]
fn a_saved_plan_of_some_stacks_is_of_these_alone() {
    let lab = lab();
    lab.ends(&["plan", "user", "--out", "plan.json"], 3);
    // What was not asked for may move.
    lab.ends(&["apply", "-y", "other"], 0);
    has(&lab.ends(&["apply", "-y", "plan.json", "db"], 2), &["a saved plan is applied as a whole"]);
    has(&lab.ends(&["apply", "-y", "plan.json"], 0), &["2 stacks created"]);
    assert_eq!(there(&lab), ["db", "user", "other"]);
    has(&lab.ends(&["apply", "-y", "plan.json"], 1), &["does not hold any more", "`db` exists now"]);
    // A file that is called like a stack is meant when it is given as a file.
    lab.ends(&["plan", "behind", "--out", "behind"], 3);
    has(&lab.ends(&["apply", "-y", "./behind"], 0), &["1 created"]);
}

/// Leaves `db` stuck after an update that failed.
fn stuck(lab: &Lab) {
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.edit("Value: !Sub \"", "Value: !Sub \"new ");
    lab.aws.fail("shop-local-db", "Address", When::Update, "Address is not wanted");
    lab.aws.fail("shop-local-db", "Queue", When::Rollback, "Queue can't go back");
    lab.ends(&["apply", "-y", "db"], 1);
    assert_eq!(lab.status().as_deref(), Some("UPDATE_ROLLBACK_FAILED"));
    lab.aws.mend();
}

#[test]
fn a_blocked_stack_stops_itself_and_what_depends_on_it_and_the_summary_says_so() {
    let lab = lab();
    stuck(&lab);
    lab.write("templates/cloudformation/user.yaml", &USER.replace("first", "second"));
    lab.write("templates/cloudformation/other.yaml", &TEMPLATE.replace("DelaySeconds: 5", "DelaySeconds: 9"));
    let plan = lab.ends(&["plan", "--out", "plan.json"], 1);
    has(
        &plan,
        &[
            "1 stack to update",
            "3 blocked",
            "it depends on `db`, which is blocked",
            "it depends on `user`, which is blocked",
            "brings the other stacks up to date meanwhile",
            "no plan was written",
        ],
    );
    let applied = lab.ends(&["apply", "-y"], 1);
    has(
        &applied,
        &[
            "db      ✗ blocked",
            "cause: its last change failed and could not be undone",
            "`fleetwright recover db`",
            "user    ✗ blocked",
            "other   ✓ updated",
            "3 stacks blocked and 1 updated",
        ],
    );
    let queue = |stack: &str| lab.aws.world().stack(stack).resource("Queue").expect("it").properties.clone();
    assert_eq!(queue("shop-local-other")["DelaySeconds"], "9");
    // Nothing is left but what is blocked: nothing is asked, and nothing is done.
    has(
        &lab.ends(&["apply", "-y"], 1),
        &["stack `db` is UPDATE_ROLLBACK_FAILED", "`fleetwright recover db`"],
    );
    lab.ends(&["apply", "-y", "behind"], 1);
    has(&lab.ends(&["apply", "-y", "other"], 0), &["1 stack unchanged"]);
    lab.recover(&[], 0);
    has(&lab.ends(&["apply", "-y"], 0), &["updated"]);
    has(&lab.ends(&["plan"], 0), &["no change"]);
}

#[test]
fn what_is_unchanged_behind_a_blocked_stack_is_not_blocked() {
    let lab = lab();
    stuck(&lab);
    lab.write("templates/cloudformation/other.yaml", &TEMPLATE.replace("DelaySeconds: 5", "DelaySeconds: 9"));
    has(
        &lab.ends(&["apply", "-y"], 1),
        &["db      ✗ blocked", "user    ✓ unchanged", "behind  ✓ unchanged", "other   ✓ updated"],
    );
}

#[test]
fn a_change_that_cloudformation_refuses_to_compute_blocks_its_stack_alone() {
    let lab = lab();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.write("templates/cloudformation/other.yaml", &TEMPLATE.replace("DelaySeconds: 5", "DelaySeconds: 9"));
    lab.aws.refuse_of("shop-local-db", "CreateChangeSet", "Template error: something in it is not liked", 2);
    let applied = lab.ends(&["apply", "-y"], 1);
    has(
        &applied,
        &[
            "db      ✗ blocked",
            "CloudFormation refuses the change: Template error: something in it is not liked (ValidationError)",
            "other   ✓ updated",
            "1 stack blocked",
        ],
    );
    assert!(lab.aws.world().waiting().is_empty(), "no change set is left");
}

#[test]
fn somebody_else_s_stack_of_one_name_does_not_keep_the_others_back() {
    let lab = lab();
    lab.stranger("shop-local-db", &[]);
    has(&lab.ends(&["apply", "-y"], 1), &["db      ✗ blocked", "3 stacks blocked and 1 created"]);
    assert_eq!(there(&lab), ["db", "other"]);
    assert!(lab.aws.world().stack("shop-local-db").is.tags.is_empty());
}
