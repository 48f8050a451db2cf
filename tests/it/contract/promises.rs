//! What a plan promises, and what is never deleted by accident.

use aws_sdk_cloudformation::types::Parameter;

use super::cloud::refused;
use super::{Lab, scenario};
use crate::stacks::has;

const ENTRY: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/<{ stack }>, Type: String, Value: !Ref Value}
";

fn two_stacks(lab: &Lab) {
    lab.template("entry", ENTRY);
    lab.stacks(
        "\
first:
  template: entry.yaml
  parameters: {Value: one}
second:
  template: entry.yaml
  parameters: {Value: two}
",
    );
}

#[test]
fn a_saved_plan_is_applied_as_it_was_shown_or_not_at_all() {
    scenario(|lab| {
        two_stacks(lab);
        lab.ends(&["plan", "--out", "plan.json"], 3);
        lab.ends(&["apply", "-y", "plan.json"], 0);
        assert_eq!(lab.parameter("first").as_deref(), Some("one"));

        // The cloud moves: somebody changes another stack than the plan does.
        lab.edit("stacks/all.yaml", "Value: one", "Value: changed");
        lab.ends(&["plan", "--out", "plan.json"], 3);
        let value = Parameter::builder().parameter_key("Value").parameter_value("by hand").build();
        let update = lab.cloudformation().update_stack().stack_name(lab.cloud_name("second"));
        lab.wait(update.use_previous_template(true).parameters(value).send()).expect("an update");
        lab.until("it is done", || (lab.status("second") == "UPDATE_COMPLETE").then_some(()));
        let refused = lab.ends(&["apply", "-y", "plan.json"], 1);
        has(
            &refused,
            &["does not hold any more; nothing was changed", "stack `second` was changed (parameters"],
        );
        assert_eq!(lab.parameter("first").as_deref(), Some("one"));
        assert_eq!(lab.parameter("second").as_deref(), Some("by hand"));

        // The repository moves.
        lab.ends(&["plan", "--out", "plan.json"], 3);
        lab.edit("stacks/all.yaml", "Value: changed", "Value: again");
        let refused = lab.ends(&["apply", "-y", "plan.json"], 1);
        has(&refused, &["nothing was changed", "the repository has other parameters of `first`"]);
        assert_eq!(lab.parameter("first").as_deref(), Some("one"));

        // Back as it was, the promise holds, once.
        lab.edit("stacks/all.yaml", "Value: again", "Value: changed");
        has(&lab.ends(&["apply", "-y", "plan.json"], 0), &["2 stacks updated"]);
        assert_eq!(lab.parameter("first").as_deref(), Some("changed"));
        assert_eq!(lab.parameter("second").as_deref(), Some("two"));
        has(&lab.ends(&["apply", "-y", "plan.json"], 1), &["does not hold any more"]);
    });
}

#[test]
fn what_is_protected_is_not_deleted() {
    scenario(|lab| {
        two_stacks(lab);
        lab.edit("stacks/all.yaml", "first:\n", "first:\n  protect: true\n");
        lab.ends(&["apply", "-y"], 0);
        has(&lab.ends(&["destroy", "-y"], 1), &["`first` is protected from deletion; nothing was deleted"]);
        assert_eq!(lab.parameter("second").as_deref(), Some("two"), "not the others either");
        // It is CloudFormation that protects, from everybody.
        let delete = lab.cloudformation().delete_stack().stack_name(lab.cloud_name("first"));
        let error = lab.wait(delete.send()).expect_err("it is protected");
        assert!(refused(&error, "TerminationProtection"), "{error:?}");

        lab.edit("stacks/all.yaml", "protect: true", "protect: false");
        has(&lab.ends(&["plan"], 3), &["- protection from deletion off"]);
        has(&lab.ends(&["apply", "-y"], 0), &["first   ✓ updated", "second  ✓ unchanged"]);
        has(&lab.ends(&["destroy", "-y"], 0), &["2 stacks deleted"]);
        assert_eq!(lab.parameter("first"), None);
    });
}

#[test]
fn a_stack_that_left_the_repository_is_kept_until_it_is_asked_for() {
    scenario(|lab| {
        two_stacks(lab);
        lab.ends(&["apply", "-y"], 0);
        let cloud_name = lab.cloud_name("second");
        lab.stacks("first:\n  template: entry.yaml\n  parameters: {Value: one}\n");
        has(&lab.ends(&["plan"], 0), &[&cloud_name, "is kept: `fleetwright apply --prune` deletes it"]);
        has(&lab.ends(&["apply", "-y"], 0), &["1 stack unchanged"]);
        assert_eq!(lab.parameter("second").as_deref(), Some("two"));

        has(&lab.ends(&["plan", "--prune"], 3), &[&format!("- {cloud_name}"), "1 stack to delete"]);
        // Where nobody can type the name, nothing goes.
        has(&lab.ends(&["apply", "--prune"], 2), &["there is no terminal to ask on"]);
        assert_eq!(lab.parameter("second").as_deref(), Some("two"));
        let pruned = lab.ends(&["apply", "-y", "--prune"], 0);
        has(&pruned, &[&format!("{cloud_name} goes with 1 resource"), "AWS::SSM::Parameter", "✓ deleted"]);
        assert_eq!((lab.status("second"), lab.parameter("second")), (String::new(), None));
        assert_eq!(lab.parameter("first").as_deref(), Some("one"));
    });
}

#[test]
fn a_protected_stack_that_left_the_repository_is_not_deleted() {
    scenario(|lab| {
        two_stacks(lab);
        lab.edit("stacks/all.yaml", "second:\n", "second:\n  protect: true\n");
        lab.ends(&["apply", "-y"], 0);
        // Nothing else of the plan is done either.
        lab.stacks("first:\n  template: entry.yaml\n  parameters: {Value: changed}\n");
        let refused = lab.ends(&["apply", "-y", "--prune"], 1);
        has(&refused, &[&lab.cloud_name("second"), "is protected from deletion; nothing was changed"]);
        assert_eq!(lab.parameter("first").as_deref(), Some("one"));
        assert_eq!(lab.parameter("second").as_deref(), Some("two"));
    });
}
