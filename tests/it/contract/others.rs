//! Others at work on the same stacks: with this program, or with CloudFormation itself.

use aws_sdk_cloudformation::types::{ChangeSetType, Tag};

use super::{Kind, Lab, scenario, scenario_except};
use crate::stacks::has;

/// Waits for an answer before it is done.
const SLOW: &str = "\
Resources:
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Wait:
    Type: AWS::CloudFormation::WaitCondition
    Properties: {Handle: !Ref Handle, Timeout: '120', Count: 1}
";

const ENTRY: &str = "\
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/<{ stack }>, Type: String, Value: one}
";

#[test]
fn two_at_the_same_time_keep_out_of_each_other_s_way() {
    scenario(|lab| {
        lab.template("slow", SLOW);
        lab.template("entry", ENTRY);
        lab.stacks("slow:\n  template: slow.yaml\n");
        let first = lab.start(&["apply", "-y"]);
        let process = format!("(process {})", first.id());
        lab.until("it is at work", || (lab.status("slow") == "CREATE_IN_PROGRESS").then_some(()));

        // Another one, whose repository has another stack.
        lab.stacks("entry:\n  template: entry.yaml\n");
        let refused = lab.ends(&["apply", "-y"], 1);
        has(&refused, &[&process, "has changed `test` for", "with `fleetwright apply`"]);
        has(&refused, &["wait until it is done"]);
        has(&lab.ends(&["plan"], 3), &["1 stack to create"]);
        assert_eq!(lab.parameter("entry"), None);

        lab.signal("slow", None);
        has(&lab.ended(first, 0), &["1 stack created"]);
        has(&lab.ends(&["apply", "-y"], 0), &["1 stack created"]);
        assert_eq!(lab.parameter("entry").as_deref(), Some("one"));
    });
}

#[test]
fn a_creation_that_was_never_begun_is_taken_up_again() {
    scenario(|lab| {
        lab.template("entry", ENTRY);
        lab.stacks("entry:\n  template: entry.yaml\n");
        // What an apply leaves that was killed between making a change set and executing it.
        let ours = lab
            .cloudformation()
            .create_change_set()
            .stack_name(lab.cloud_name("entry"))
            .change_set_name("fleetwright-1-1")
            .change_set_type(ChangeSetType::Create)
            .template_body("Resources:\n  Topic: {Type: AWS::SNS::Topic}\n");
        lab.wait(ours.send()).expect("a change set");
        lab.until("it is there", || (lab.status("entry") == "REVIEW_IN_PROGRESS").then_some(()));
        has(&lab.ends(&["apply", "-y"], 0), &["1 stack created"]);
        assert_eq!(lab.resources("entry").into_keys().collect::<Vec<_>>(), ["Entry"]);
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn a_stack_that_somebody_reviews_is_theirs() {
    scenario(|lab| {
        lab.template("entry", ENTRY);
        lab.stacks("entry:\n  template: entry.yaml\n");
        let name = lab.cloud_name("entry");
        let theirs = lab
            .cloudformation()
            .create_change_set()
            .stack_name(&name)
            .change_set_name("theirs")
            .change_set_type(ChangeSetType::Create)
            .template_body(format!(
                "Resources:\n  Topic: {{Type: AWS::SNS::Topic, Properties: {{DisplayName: {}}}}}\n",
                lab.project
            ))
            // So that it is found where the scenario is cleaned up.
            .tags(Tag::builder().key("fleetwright:project").value(&lab.project).build());
        lab.wait(theirs.send()).expect("a change set");
        lab.until("it is there", || (lab.status("entry") == "REVIEW_IN_PROGRESS").then_some(()));

        has(&lab.ends(&["apply", "-y"], 1), &["REVIEW_IN_PROGRESS", "`fleetwright recover entry`"]);
        let recover = ["recover", "entry", "-y"];
        has(&lab.ends(&recover, 2), &["somebody else made a change set", &format!("`--confirm {name}`")]);
        assert_eq!(lab.status("entry"), "REVIEW_IN_PROGRESS");
        lab.ends(&["recover", "entry", "-y", "--confirm", &name], 0);
        assert_eq!(lab.status("entry"), "");
        has(&lab.ends(&["apply", "-y"], 0), &["1 stack created"]);
    });
}

const BASE: &str = "\
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/base, Type: String, Value: one}
Outputs:
  Value:
    Value: !GetAtt Entry.Value
    Export: {Name: <{ project }>-value}
";

const USER: &str = "\
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties:
      Name: /<{ project }>/user
      Type: String
      Value: !ImportValue <{ project }>-value
";

/// A stack that exports a value, and one that imports it.
fn exporter_and_importer(lab: &Lab) {
    lab.template("base", BASE);
    lab.template("user", USER);
    // The names alone make the order: nothing else says which of them comes first.
    lab.stacks("user:\n  template: user.yaml\nbase:\n  template: base.yaml\n");
    has(&lab.ends(&["apply", "-y"], 0), &["base  ✓ created", "user  ✓ created"]);
    assert_eq!(lab.parameter("user").as_deref(), Some("one"));
}

#[test]
fn an_output_that_others_import_stays() {
    let why = "it takes a change of outputs alone for none, and lets go of an export that is in use";
    scenario_except(&[(Kind::Ministack, why)], |lab| {
        exporter_and_importer(lab);
        lab.template("base", BASE.split("Outputs:").next().expect("what is before it"));
        let refused = lab.ends(&["apply", "-y"], 1);
        has(&refused, &["✗ failed", &format!("{}-value", lab.project), &lab.cloud_name("user")]);
        let stack = lab.stack("base").expect("the stack");
        assert_eq!(stack.outputs().len(), 1, "the output is still there");
        lab.template("base", BASE);
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn a_stack_whose_output_others_import_stays() {
    scenario(|lab| {
        exporter_and_importer(lab);
        lab.stacks("user:\n  template: user.yaml\n");
        let refused = lab.ends(&["apply", "-y", "--prune"], 1);
        has(&refused, &["✗ failed", &format!("{}-value", lab.project), &lab.cloud_name("user")]);
        assert_eq!(lab.parameter("base").as_deref(), Some("one"), "nothing of it is gone");

        // What imports goes before what exports, as with references.
        lab.stacks("base:\n  template: base.yaml\nuser:\n  template: user.yaml\n");
        lab.ends(&["destroy", "-y"], 0);
        assert_eq!((lab.parameter("base"), lab.parameter("user")), (None, None));
    });
}
