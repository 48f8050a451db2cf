//! What fails: for real, by a wait condition that nobody answers.

use super::{Lab, scenario};
use crate::stacks::has;

/// A parameter and, where `fails`, a condition that can't come true.
const FRAGILE: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/entry, Type: String, Value: !Ref Value}
<% if fails %>
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Never:
    Type: AWS::CloudFormation::WaitCondition
    DependsOn: Entry
    Properties: {Handle: !Ref Handle, Timeout: '1', Count: 1}
<% endif %>
";

/// The stack `fragile`, and one that needs it.
fn fragile(lab: &Lab, fails: bool) {
    lab.template("fragile", &format!("{FRAGILE}Outputs:\n  Value: {{Value: !GetAtt Entry.Value}}\n"));
    lab.template(
        "behind",
        "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/behind, Type: String, Value: !Ref Value}
",
    );
    lab.stacks(&format!(
        "\
fragile:
  template: fragile.yaml
  values: {{fails: {fails}}}
  parameters: {{Value: one}}
behind:
  template: behind.yaml
  parameters: {{Value: \"${{fragile.Value}}\"}}
"
    ));
}

#[test]
fn a_creation_that_failed_is_recovered_from() {
    scenario(|lab| {
        fragile(lab, true);
        let failed = lab.ends(&["apply", "-y"], 1);
        has(&failed, &["✗ failed", "cause: Never: WaitCondition timed out"]);
        has(&failed, &["at: templates/cloudformation/fragile.yaml:", "skipped: what it depends on failed"]);
        has(&failed, &["the stack is ROLLBACK_COMPLETE: `fleetwright recover fragile`"]);
        assert_eq!(lab.status("fragile"), "ROLLBACK_COMPLETE");
        assert_eq!(lab.parameter("entry"), None, "what was made is gone again");

        has(&lab.ends(&["apply", "-y"], 1), &["ROLLBACK_COMPLETE", "`fleetwright recover fragile`"]);
        has(&lab.ends(&["recover", "fragile", "--dry-run"], 0), &["it will be deleted", "holds nothing"]);
        assert_eq!(lab.status("fragile"), "ROLLBACK_COMPLETE", "a dry run does nothing");
        has(&lab.ends(&["recover", "fragile", "-y"], 0), &["✓ deleted", "nothing to recover"]);

        lab.edit("stacks/all.yaml", "fails: true", "fails: false");
        has(&lab.ends(&["apply", "-y"], 0), &["2 stacks created"]);
        assert_eq!(lab.parameter("behind").as_deref(), Some("one"));
    });
}

#[test]
fn an_update_that_failed_leaves_what_was_there() {
    scenario(|lab| {
        fragile(lab, false);
        lab.ends(&["apply", "-y"], 0);
        lab.edit("stacks/all.yaml", "fails: false", "fails: true");
        lab.edit("stacks/all.yaml", "Value: one", "Value: two");
        let failed = lab.ends(&["apply", "-y"], 1);
        has(
            &failed,
            &["cause: Never: WaitCondition timed out", "at: templates/cloudformation/fragile.yaml:"],
        );
        has(&failed, &["remove the cause, then `fleetwright apply` again"]);
        assert_eq!(lab.status("fragile"), "UPDATE_ROLLBACK_COMPLETE");
        assert_eq!(lab.parameter("entry").as_deref(), Some("one"));
        assert_eq!(lab.parameter("behind").as_deref(), Some("one"));

        // At rest: nothing to recover, and the next apply goes on.
        has(&lab.ends(&["recover", "fragile", "-y"], 0), &["at rest"]);
        lab.edit("stacks/all.yaml", "fails: true", "fails: false");
        has(&lab.ends(&["apply", "-y"], 0), &["2 stacks updated"]);
        assert_eq!(lab.parameter("behind").as_deref(), Some("two"));
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn an_update_that_was_not_rolled_back_is_recovered_from() {
    scenario(|lab| {
        fragile(lab, false);
        lab.ends(&["apply", "-y"], 0);

        // Somebody else's update, which CloudFormation was told to leave as it failed.
        let body = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /PROJECT/entry, Type: String, Value: halfway}
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Never:
    Type: AWS::CloudFormation::WaitCondition
    DependsOn: Entry
    Properties: {Handle: !Ref Handle, Timeout: '1', Count: 1}
Outputs:
  Value: {Value: !GetAtt Entry.Value}
";
        let value = aws_sdk_cloudformation::types::Parameter::builder()
            .parameter_key("Value")
            .use_previous_value(true)
            .build();
        let update = lab
            .cloudformation()
            .update_stack()
            .stack_name(lab.cloud_name("fragile"))
            .template_body(body.replace("PROJECT", &lab.project))
            .parameters(value)
            .disable_rollback(true);
        lab.wait(update.send()).expect("an update");
        lab.until("the update has failed", || (lab.status("fragile") == "UPDATE_FAILED").then_some(()));
        assert_eq!(lab.parameter("entry").as_deref(), Some("halfway"));

        has(&lab.ends(&["plan"], 1), &["UPDATE_FAILED", "`fleetwright recover fragile`"]);
        has(
            &lab.ends(&["recover", "fragile", "-y"], 0),
            &["the update that failed will be undone", "at rest"],
        );
        assert_eq!(lab.status("fragile"), "UPDATE_ROLLBACK_COMPLETE");
        assert_eq!(lab.parameter("entry").as_deref(), Some("one"));
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn what_was_interrupted_leaves_cloudformation_to_end_what_it_began() {
    scenario(|lab| {
        fragile(lab, true);
        lab.edit("templates/cloudformation/fragile.yaml", "Timeout: '1'", "Timeout: '120'");
        let apply = lab.start(&["apply", "-y"]);
        lab.until("the creation is under way", || {
            (lab.status("fragile") == "CREATE_IN_PROGRESS").then_some(())
        });
        let process = nix::unistd::Pid::from_raw(i32::try_from(apply.id()).expect("a process"));
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).expect("it runs");
        let said = lab.ended(apply, 1);
        has(&said, &["CloudFormation goes on with `fragile`", "`behind` not begun"]);
        has(&said, &["`fleetwright apply` goes on from here"]);
        assert_eq!(lab.status("fragile"), "CREATE_IN_PROGRESS");

        lab.signal("fragile", None);
        has(&lab.ends(&["apply", "-y"], 0), &["1 stack unchanged and 1 created"]);
    });
}

#[test]
fn what_was_killed_goes_on_when_it_is_run_again() {
    scenario(|lab| {
        fragile(lab, true);
        lab.edit("templates/cloudformation/fragile.yaml", "Timeout: '1'", "Timeout: '120'");
        let mut apply = lab.start(&["apply", "-y"]);
        lab.until("the creation is under way", || {
            (lab.status("fragile") == "CREATE_IN_PROGRESS").then_some(())
        });
        apply.kill().expect("killed");
        apply.wait().expect("it ended");

        // The next one takes the lock of the dead, waits for what goes on by itself, and does the rest.
        let again = lab.start(&["apply", "-y"]);
        lab.signal("fragile", None);
        has(&lab.ended(again, 0), &["1 stack unchanged and 1 created"]);
        assert_eq!(lab.status("fragile"), "CREATE_COMPLETE");
        assert_eq!(lab.parameter("behind").as_deref(), Some("one"));
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn a_failure_stops_what_depends_on_it_and_nothing_else() {
    scenario(|lab| {
        fragile(lab, true);
        lab.template(
            "apart",
            "\
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/apart, Type: String, Value: one}
",
        );
        lab.write("stacks/apart.yaml", "apart:\n  template: apart.yaml\n");
        let failed = lab.ends(&["apply", "-y", "-o", "json"], 1);
        let outcome = |stack: &str, outcome: &str| {
            let events = failed.lines().filter(|line| line.contains(r#""what":"finished""#));
            let of = |line: &&str| line.contains(&format!(r#""stack":"{stack}""#));
            assert!(
                events.filter(of).any(|line| line.contains(&format!(r#""outcome":"{outcome}""#))),
                "{stack} is not {outcome} in:\n{failed}"
            );
        };
        outcome("fragile", "failed");
        outcome("behind", "skipped");
        outcome("apart", "created");
        assert_eq!((lab.parameter("apart").as_deref(), lab.parameter("behind")), (Some("one"), None));
        assert_eq!(lab.status("behind"), "");
    });
}
