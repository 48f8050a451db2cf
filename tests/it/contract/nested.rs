//! Stacks within stacks, whose templates are files of the repository.

use super::{Lab, scenario};
use crate::stacks::has;

const OUTER: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: inner.yaml
      Parameters: {Value: !Ref Value}
Outputs:
  Name: {Value: !GetAtt Inner.Outputs.Name}
";

const INNER: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/entry, Type: String, Value: !Ref Value, Description: first}
Outputs:
  Name: {Value: !Ref Entry}
";

fn written(lab: &Lab) {
    lab.template("outer", OUTER);
    lab.template("inner", INNER);
    lab.stacks("outer:\n  template: outer.yaml\n  parameters: {Value: one}\n");
}

#[test]
fn a_nested_stack_goes_with_the_one_around_it() {
    scenario(|lab| {
        written(lab);
        lab.ends(&["validate"], 0);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.parameter("entry").as_deref(), Some("one"));
        let plan = lab.ends(&["plan"], 0);
        has(&plan, &["no change"]);
        assert!(!plan.contains("is not in the repository"), "the inner stack is the outer one's: {plan}");
        has(&lab.ends(&["drift"], 0), &["no drift"]);

        // A change of nothing but the inner template is one of the outer stack.
        lab.edit("templates/cloudformation/inner.yaml", "Description: first", "Description: second");
        has(
            &lab.ends(&["plan"], 3),
            &["Inner   AWS::CloudFormation::Stack", "TemplateURL   templates/", "1 stack to update"],
        );
        lab.ends(&["apply", "-y"], 0);
        has(&lab.ends(&["plan"], 0), &["no change"]);
        let inner = lab.resources("outer")["Inner"].clone();
        let asked = lab.cloudformation().get_template().stack_name(inner);
        let template = lab.wait(asked.send()).expect("its template").template_body.unwrap_or_default();
        has(&template, &["Description: second"]);

        lab.ends(&["destroy", "-y"], 0);
        assert_eq!(lab.parameter("entry"), None);
    });
}

#[test]
fn what_is_wrong_with_a_nested_template_is_said_at_its_place() {
    scenario(|lab| {
        written(lab);
        lab.edit("templates/cloudformation/outer.yaml", "{Value: !Ref Value}", "{Valu: !Ref Value}");
        let said = lab.ends(&["validate"], 2);
        has(
            &said,
            &["templates/cloudformation/inner.yaml declares no parameter `Valu`", "did you mean `Value`?"],
        );
        has(&said, &["`Inner` gives no value for the parameter `Value`"]);
        has(&said, &["templates/cloudformation/outer.yaml:8:20"]);
        written(lab);
        lab.edit("templates/cloudformation/outer.yaml", "inner.yaml", "iner.yaml");
        has(&lab.ends(&["validate"], 2), &["there is no template templates/cloudformation/iner.yaml"]);
        written(lab);
        lab.edit("templates/cloudformation/inner.yaml", "Type: String, Value", "Typ: String, Value");
        let said = lab.ends(&["validate"], 2);
        has(&said, &["templates/cloudformation/inner.yaml:6", "`Typ`"]);
    });
}

#[test]
fn a_failure_within_is_told_by_its_first_cause() {
    scenario(|lab| {
        written(lab);
        let wait = "  Handle:\n    Type: AWS::CloudFormation::WaitConditionHandle\n  Wait:\n    \
                    Type: AWS::CloudFormation::WaitCondition\n    \
                    Properties: {Handle: !Ref Handle, Timeout: '1', Count: 1}\nOutputs:";
        lab.edit("templates/cloudformation/inner.yaml", "Outputs:", wait);
        // An emulator may tell the inner stack's reason as the outer one's.
        let said = lab.ends(&["apply", "-y"], 1);
        assert!(
            said.contains("cause: Inner.Wait: ") || said.contains("cause: Inner: WaitCondition timed out"),
            "{said}"
        );
    });
}
