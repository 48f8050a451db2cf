//! Answers in which something is missing: nothing that matters may rest on what may not be there.

use super::{Lab, has};
use crate::support::fake_aws::Spoil;

const DB: &str = "shop-local-db";

#[test]
fn a_stack_whose_answer_is_cut_off_is_not_created_again() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    // Once: it is asked for again. Always: there is no plan.
    lab.aws.spoil("DescribeStacks", 1, Spoil::CutBefore("<StackStatus>"));
    has(&lab.ends(&["plan"], 0), &["no change"]);
    lab.aws.spoil("DescribeStacks", 100, Spoil::CutBefore("</Stacks>"));
    has(&lab.ends(&["plan"], 1), &["listing stacks", "in the middle of its answer"]);
}

#[test]
fn a_stack_that_lacks_something_is_not_left_out() {
    for field in ["StackId", "StackStatus", "StackName", "Stacks"] {
        let lab = Lab::new();
        lab.ends(&["apply", "-y"], 0);
        lab.aws.spoil("DescribeStacks", 100, Spoil::Without(field));
        has(&lab.ends(&["plan"], 1), &[&format!("the answer is incomplete: it has no `{field}`"), "next:"]);
    }
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.aws.spoil("GetTemplate", 100, Spoil::Without("TemplateBody"));
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    has(&lab.ends(&["plan"], 1), &["it has no `TemplateBody`"]);
}

#[test]
fn an_update_needs_none_of_the_fields_that_are_optional() {
    for field in ["LastUpdatedTime", "ChangeSetId", "ExecutionStatus", "Replacement", "ResourceStatus"] {
        let lab = Lab::new();
        lab.ends(&["apply", "-y"], 0);
        lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
        for action in ["DescribeStacks", "DescribeChangeSet", "DescribeStackEvents"] {
            lab.aws.spoil(action, 1000, Spoil::Without(field));
        }
        let text = lab.ends(&["apply", "-y"], 0);
        assert!(text.contains("✓ updated"), "without {field}:\n{text}");
        has(&lab.ends(&["plan"], 0), &["no change"]);
    }
}

#[test]
fn a_replacement_that_the_change_set_does_not_tell_is_still_one() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 5\n      QueueName: other");
    for field in ["Replacement", "RequiresRecreation"] {
        lab.aws.spoil("DescribeChangeSet", 100, Spoil::Without(field));
        has(&lab.ends(&["plan"], 3), &["± Queue", "replace "]);
    }
}

#[test]
fn an_execution_that_is_accepted_and_does_not_begin_is_repeated() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    lab.aws.swallow("ExecuteChangeSet", 1);
    has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
    assert_eq!(
        lab.aws.world().stack(DB).resource("Queue").expect("it is there").properties["DelaySeconds"],
        "7"
    );
}

#[test]
fn an_execution_that_never_begins_is_a_failure_and_can_t_begin_later() {
    let lab = Lab::new();
    lab.ends(&["apply", "-y"], 0);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 9");
    lab.aws.swallow("ExecuteChangeSet", 1000);
    let text = lab.ends(&["apply", "-y"], 1);
    has(&text, &["✗ failed", "accepted the request to execute the change set and never began"]);
    assert!(lab.aws.world().waiting().is_empty(), "it can't begin later");
}

#[test]
fn an_output_under_a_false_condition_blocks_the_stack_that_needs_it() {
    let lab = Lab::new();
    let template = "Parameters:\n  Extra:\n    Type: String\n    Default: 'no'\n\
                    Conditions:\n  HasExtra: !Equals [!Ref Extra, 'yes']\n\
                    Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n\
                    Outputs:\n  Extra:\n    Condition: HasExtra\n    Value: !Ref Topic\n";
    let user = "Parameters:\n  From:\n    Type: String\n\
                Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n    Properties:\n      DisplayName: !Ref From\n";
    lab.write("templates/cloudformation/db.yaml", template);
    lab.write("templates/cloudformation/web.yaml", user);
    let stacks = |more: &str| {
        format!(
            "db:\n  template: db.yaml\n{more}web:\n  template: web.yaml\n  parameters:\n    From: ${{db.Extra}}\n"
        )
    };
    lab.write("stacks/all.yaml", &stacks(""));
    has(
        &lab.ends(&["apply", "-y"], 1),
        &[
            "parameter `From` needs output `Extra` of stack `db`",
            "only under condition `HasExtra`",
            "stacks/all.yaml",
        ],
    );
    assert_eq!(lab.aws.status("shop-local-web"), None, "it was not begun");
    // Where it holds, it is waited for as ever.
    lab.ends(&["destroy", "-y"], 0);
    lab.write("stacks/all.yaml", &stacks("  parameters:\n    Extra: 'yes'\n"));
    has(&lab.ends(&["apply", "-y"], 0), &["2 stacks created"]);
    has(&lab.ends(&["plan"], 0), &["no change"]);
}
