//! Values that nobody may read where the program prints or writes.

use super::{Lab, scenario};
use crate::stacks::has;

const FIRST: &str = "first-Secret-7Qz41";
const SECOND: &str = "second-Secret-9Kx52";

/// Uses a secret where it can be looked up; the condition fails with the reason it is given.
const SECRET: &str = "\
Parameters:
  Password: {Type: String, NoEcho: true}
  Label: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/entry, Type: String, Value: !Ref Password, Description: !Ref Label}
<% if fails %>
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Wait:
    Type: AWS::CloudFormation::WaitCondition
    Properties: {Handle: !Ref Handle, Timeout: '120', Count: 1}
<% endif %>
";

fn nowhere(lab: &Lab, value: &str) {
    for (place, text) in [("what was printed", lab.printed()), ("what was kept", lab.kept())] {
        assert!(!text.contains(value), "`{value}` is in {place}:\n{text}");
    }
    for file in ["plan.json", "plan2.json"] {
        let plan = std::fs::read_to_string(lab.path(file)).unwrap_or_default();
        assert!(!plan.contains(value), "`{value}` is in {file}:\n{plan}");
    }
}

#[test]
fn a_noecho_value_is_shown_nowhere() {
    scenario(|lab| {
        lab.template("secret", SECRET);
        lab.stacks(
            "\
secret:
  template: secret.yaml
  values: {fails: false}
  parameters: {Password: \"${env.PASSWORD}\", Label: one}
",
        );
        // Creation, from a saved plan.
        lab.set("PASSWORD", FIRST);
        lab.ends(&["plan"], 3);
        lab.plan_json(3);
        lab.ends(&["plan", "--markdown"], 3);
        lab.ends(&["plan", "--out", "plan.json"], 3);
        lab.ends(&["apply", "-y", "plan.json"], 0);
        assert_eq!(lab.parameter("entry").as_deref(), Some(FIRST));
        has(&lab.ends(&["plan"], 0), &["no change"]);

        // An update, as events.
        lab.set("PASSWORD", SECOND);
        lab.edit("stacks/all.yaml", "Label: one", "Label: two");
        lab.ends(&["plan", "--out", "plan2.json"], 3);
        lab.plan_json(3);
        lab.ends(&["apply", "-y", "-o", "json"], 0);
        assert_eq!(lab.parameter("entry").as_deref(), Some(SECOND));

        // Failures whose reason quotes it: in words, and as events.
        lab.edit("stacks/all.yaml", "fails: false", "fails: true");
        for output in ["human", "json"] {
            let failing = lab.start(&["apply", "-y", "-o", output]);
            lab.signal("secret", Some(&format!("could not log in with {SECOND}")));
            has(&lab.ended(failing, 1), &["could not log in with [redacted]"]);
            assert_eq!(lab.status("secret"), "UPDATE_ROLLBACK_COMPLETE");
        }
        lab.ends(&["render"], 0);
        lab.ends(&["destroy", "-y"], 0);
        nowhere(lab, FIRST);
        nowhere(lab, SECOND);
    });
}

#[test]
fn dynamic_references_are_resolved_by_the_cloud_alone() {
    scenario(|lab| {
        lab.put_parameter("source", "resolved-by-ssm-3Wc8");
        lab.template(
            "vault",
            "\
Resources:
  Vault:
    Type: AWS::SecretsManager::Secret
    Properties:
      Name: <{ project }>-vault
      GenerateSecretString:
        SecretStringTemplate: '{\"user\": \"app\"}'
        GenerateStringKey: key
        PasswordLength: 24
        ExcludePunctuation: true
Outputs:
  Id: {Value: !Ref Vault}
",
        );
        lab.template(
            "user",
            "\
Parameters:
  Given: {Type: String}
  Vault: {Type: String}
Resources:
  Written:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/written, Type: String, Value: '{{resolve:ssm:/<{ project }>/source}}'}
  Passed:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/given, Type: String, Value: !Ref Given, Description: !Ref Vault}
  Secret:
    Type: AWS::SSM::Parameter
    Properties:
      Name: /<{ project }>/secret
      Type: String
      Value: '{{resolve:secretsmanager:<{ project }>-vault:SecretString:key}}'
",
        );
        let reference = format!("{{{{resolve:ssm:/{}/source}}}}", lab.project);
        lab.stacks(&format!(
            "\
vault:
  template: vault.yaml
user:
  template: user.yaml
  parameters: {{Given: \"{reference}\", Vault: \"${{vault.Id}}\"}}
"
        ));
        let secret = format!("{{{{resolve:secretsmanager:{}-vault:SecretString:key}}}}", lab.project);
        has(&lab.ends(&["render", "user"], 0), &[&reference, &secret]);
        has(&lab.ends(&["plan", "--out", "plan.json"], 3), &[&reference]);
        lab.plan_json(3);
        lab.ends(&["apply", "-y"], 0);
        let template = lab.cloudformation().get_template().stack_name(lab.cloud_name("user"));
        let template = lab.wait(template.send()).expect("the template").template_body.unwrap_or_default();
        has(&template, &[&reference, &secret]);
        has(&lab.ends(&["plan"], 0), &["no change"]);

        // The resources have the values.
        assert_eq!(lab.parameter("written").as_deref(), Some("resolved-by-ssm-3Wc8"));
        assert_eq!(lab.parameter("given").as_deref(), Some("resolved-by-ssm-3Wc8"));
        let value = lab.parameter("secret").expect("a value");
        assert!(value.len() == 24 && !value.contains("resolve"), "{value}");

        lab.edit(
            "templates/cloudformation/user.yaml",
            "Value: !Ref Given,",
            "Value: !Ref Given, Tier: Standard,",
        );
        lab.ends(&["plan", "--out", "plan2.json"], 3);
        lab.ends(&["apply", "-y", "-o", "json"], 0);
        lab.ends(&["destroy", "-y"], 0);
        nowhere(lab, "resolved-by-ssm");
        nowhere(lab, &value);
    });
}

#[test]
fn a_parameter_may_name_one_of_systems_manager() {
    scenario(|lab| {
        lab.put_parameter("source", "looked-up");
        lab.template(
            "user",
            "\
Parameters:
  Source: {Type: 'AWS::SSM::Parameter::Value<String>'}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/entry, Type: String, Value: !Ref Source}
",
        );
        let name = format!("/{}/source", lab.project);
        lab.stacks(&format!("user:\n  template: user.yaml\n  parameters: {{Source: {name}}}\n"));
        has(&lab.ends(&["plan"], 3), &[&name]);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.parameter("entry").as_deref(), Some("looked-up"));
        has(&lab.ends(&["plan"], 0), &["no change"]);

        // One that is not there is told in the cloud's words, before anything is changed.
        lab.edit("stacks/all.yaml", "/source", "/nowhere");
        has(&lab.ends(&["apply", "-y"], 1), &[&format!("/{}/nowhere", lab.project)]);
        assert_eq!(lab.parameter("entry").as_deref(), Some("looked-up"));
        assert_eq!(lab.status("user"), "CREATE_COMPLETE");
    });
}
