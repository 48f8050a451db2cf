//! What belongs to a stack without being in its template: its policy, and the programs run around it.

use std::os::unix::fs::PermissionsExt as _;

use super::{Lab, scenario};
use crate::stacks::has;

const ENTRY: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/entry, Type: String, Value: !Ref Value}
Outputs:
  Name: {Value: !Ref Entry}
";

fn policed(value: &str, deny: &str) -> String {
    format!(
        "\
data:
  template: data.yaml
  parameters: {{Value: {value}}}
  policy:
    Statement:
      - {{Effect: Allow, Principal: '*', Action: 'Update:*', Resource: '*'}}
      - {{Effect: Deny, Principal: '*', Action: {deny}, Resource: LogicalResourceId/Entry}}
"
    )
}

fn policy(lab: &Lab) -> Option<serde_json::Value> {
    let asked = lab.cloudformation().get_stack_policy().stack_name(lab.cloud_name("data"));
    let body = lab.wait(asked.send()).expect("an answer").stack_policy_body?;
    Some(serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn a_policy_is_set_kept_and_held_to() {
    scenario(|lab| {
        lab.template("data", ENTRY);
        lab.stacks(&policed("one", "'Update:Replace'"));
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(policy(lab).expect("a policy")["Statement"][1]["Action"], "Update:Replace");
        has(&lab.ends(&["plan"], 0), &["no change"]);

        // It lets the resource be changed, but not when it says no more.
        lab.stacks(&policed("two", "'Update:*'"));
        let refused = lab.ends(&["plan"], 1);
        has(&refused, &["statement 2 of its policy denies Update:Modify of Entry (AWS::SSM::Parameter)"]);
        lab.ends(&["apply", "-y"], 1);
        assert_eq!(lab.parameter("entry").as_deref(), Some("one"));
        lab.stacks(&policed("two", "'Update:Replace'"));
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.parameter("entry").as_deref(), Some("two"));

        // A change of nothing but the policy, and a saved plan that does not hold after another one.
        lab.stacks(&policed("two", "'Update:Delete'"));
        has(&lab.ends(&["plan", "--out", "plan.json"], 3), &["~ policy", "Update:Delete"]);
        lab.stacks(&policed("two", "'Update:*'"));
        has(&lab.ends(&["apply", "-y", "plan.json"], 1), &["the repository has other policy of `data`"]);
        lab.ends(&["apply", "-y"], 0);

        // Somebody takes it away.
        let open = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"Update:*","Resource":"*"}]}"#;
        let set = lab.cloudformation().set_stack_policy().stack_name(lab.cloud_name("data"));
        lab.wait(set.stack_policy_body(open).send()).expect("set");
        has(&lab.ends(&["drift"], 3), &["policy", "sets the repository's policy again"]);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(policy(lab).expect("a policy")["Statement"][1]["Action"], "Update:*");
        lab.ends(&["drift"], 0);
    });
}

#[test]
fn hooks_are_run_around_a_change_and_can_refuse_it() {
    scenario(|lab| {
        lab.template("data", ENTRY);
        let hooked = |value: &str| {
            format!(
                "\
data:
  template: data.yaml
  parameters: {{Value: {value}}}
  hooks:
    before_apply: [[scripts/check, '$(touch never)']]
    after_apply: [[sh, -c, 'echo \"$FLEETWRIGHT_ACTION $FLEETWRIGHT_OUTPUT_Name\" >> log']]
    before_destroy: [[sh, -c, 'echo \"$FLEETWRIGHT_ACTION $FLEETWRIGHT_STACK\" >> log']]
"
            )
        };
        let check =
            "#!/bin/sh\necho \"given $1\"\ntest \"$FLEETWRIGHT_ENVIRONMENT\" = test && ! test -e closed\n";
        lab.write("scripts/check", check);
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(lab.path("scripts/check"), open).expect("it can be run");
        let log = || std::fs::read_to_string(lab.path("log")).unwrap_or_default();

        lab.stacks(&hooked("one"));
        has(&lab.ends(&["plan"], 3), &["$ before_apply scripts/check $(touch never)"]);
        assert_eq!(log(), "");
        has(
            &lab.ends(&["apply", "-y"], 0),
            &["data  | before_apply scripts/check $(touch never)", "data  | given $(touch never)"],
        );
        assert!(!lab.path("never").exists(), "no shell reads the words");
        lab.ends(&["apply", "-y"], 0);
        let name = format!("/{}/entry", lab.project);
        assert_eq!(log(), format!("create {name}\n"));

        lab.write("closed", "");
        lab.stacks(&hooked("two"));
        let refused = lab.ends(&["apply", "-y"], 1);
        has(&refused, &["the hook `scripts/check $(touch never)` failed: it ended with status 1"]);
        has(&refused, &["at: stacks/all.yaml:5", "nothing of the stack was changed"]);
        assert_eq!(lab.parameter("entry").as_deref(), Some("one"));
        lab.ends(&["destroy", "-y"], 0);
        assert_eq!(log(), format!("create {name}\ndelete data\n"));
    });
}
