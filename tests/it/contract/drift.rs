//! What was changed behind CloudFormation's back.

use super::{Kind, Lab, scenario, scenario_except};
use crate::stacks::has;

const ENTRIES: &str = "\
Parameters:
  Secret: {Type: String, NoEcho: true, Default: hunter2-5Xq}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/entry, Type: String, Value: one}
  Other:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/other, Type: String, Value: !Ref Secret}
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
";

const TEMPLATE: &str = "\
Resources:
  Template:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        InstanceType: t3.micro
        UserData: !Base64
          Fn::Sub: |
            #cloud-config
            hostname: ${AWS::StackName}
";

fn report(lab: &Lab, status: i32) -> serde_json::Value {
    let output = lab.run(&mut lab.command(&["drift", "-o", "json"]));
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

#[test]
fn what_somebody_changed_is_found_and_what_was_not_looked_at_is_named() {
    scenario(|lab| {
        lab.template("entries", ENTRIES);
        lab.stacks("entries:\n  template: entries.yaml\n");
        has(&lab.ends(&["drift"], 0), &["entries", "does not exist"]);
        lab.ends(&["apply", "-y"], 0);
        has(&lab.ends(&["drift"], 0), &["no drift, 2 resources checked", "not checked: Handle"]);

        lab.put_parameter("entry", "two");
        let said = lab.ends(&["drift"], 3);
        has(&said, &["drift in 1 of 2 resources", "~ Entry", "one -> two", "found by CloudFormation"]);
        has(&said, &["`fleetwright apply` does not undo it"]);
        // CloudFormation compares with what it did last, and so does the plan.
        has(&lab.ends(&["plan"], 0), &["no change"]);
        let report = report(lab, 3);
        assert_eq!(report["drift"], true);
        let drifted = &report["stacks"][0]["drifted"][0];
        assert_eq!((&drifted["resource"], &drifted["state"]), (&"Entry".into(), &"modified".into()));
        assert_eq!(report["stacks"][0]["not_checked"][0]["resource"], "Handle");

        let name = format!("/{}/entry", lab.project);
        lab.wait(lab.ssm().delete_parameter().name(name).send()).expect("deleted");
        has(&lab.ends(&["drift", "entries"], 3), &["- Entry", "is gone"]);
        assert!(!lab.printed().contains("hunter2-5Xq"));
        lab.ends(&["drift", "entires"], 2);
    });
}

#[test]
fn a_launch_template_s_data_is_compared_though_cloudformation_never_reads_it() {
    let cannot = [(Kind::Aws, "a version is made by an unsigned request, which only an emulator takes")];
    scenario_except(&cannot, |lab| {
        lab.template("machines", TEMPLATE);
        lab.stacks("machines:\n  template: machines.yaml\n");
        lab.ends(&["apply", "-y"], 0);
        let said = lab.ends(&["drift"], 0);
        has(
            &said,
            &["no drift, 1 resource checked", "not checked: Template (", "only its data was compared"],
        );

        let id = lab.resources("machines")["Template"].clone();
        let form = format!(
            "Action=CreateLaunchTemplateVersion&Version=2016-11-15&LaunchTemplateId={id}&SourceVersion=1\
             &LaunchTemplateData.InstanceType=m5.large&LaunchTemplateData.UserData=I2Nsb3VkLWNvbmZpZwo="
        );
        let made = lab.post(&form);
        assert!(made.contains("<versionNumber>2</versionNumber>"), "{made}");
        let said = lab.ends(&["drift"], 3);
        has(&said, &["LaunchTemplateData.InstanceType   t3.micro -> m5.large", "found by fleetwright"]);
        has(&said, &["-hostname: ", "version 2 is the newest"]);
    });
}
