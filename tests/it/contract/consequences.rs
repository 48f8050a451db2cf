//! What a change does to resources, and to the stacks that use them.

use super::{Lab, scenario};
use crate::stacks::has;

/// A launch template, which costs nothing as long as nothing is launched, and a topic.
const MACHINES: &str = "\
Resources:
  Template:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateName: <{ project }>-<{ name }>
      LaunchTemplateData: {InstanceType: <{ type }>}
  Topic:
    Type: AWS::SNS::Topic
    Properties: {TopicName: <{ project }>-<{ name }>, DisplayName: <{ display }>}
Outputs:
  Version: {Value: !GetAtt Template.LatestVersionNumber}
  Topic: {Value: !Ref Topic}
";

const NOTES: &str = "\
Parameters:
  Version: {Type: String}
  Topic: {Type: String}
Resources:
  FirstNote:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/version, Type: String, Value: !Ref Version}
  SecondNote:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/topic, Type: String, Value: !Ref Topic}
";

fn machines(lab: &Lab) {
    lab.template("machines", MACHINES);
    lab.template("notes", NOTES);
    lab.stacks(
        "\
machines:
  template: machines.yaml
  values: {name: one, type: t3.micro, display: first}
notes:
  template: notes.yaml
  parameters: {Version: \"${machines.Version}\", Topic: \"${machines.Topic}\"}
",
    );
}

#[test]
fn a_change_reaches_those_who_use_what_changes_and_no_others() {
    scenario(|lab| {
        machines(lab);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.parameter("version").as_deref(), Some("1"));
        let before = lab.resources("machines");

        // A new version of the same launch template: the same resource, another output.
        lab.edit("stacks/all.yaml", "type: t3.micro", "type: t3.small");
        let planned = lab.ends(&["plan"], 3);
        // How a launch template changes is told in more ways than one.
        has(&planned, &[" Template   AWS::EC2::LaunchTemplate", "known after apply", "2 stacks to update"]);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.parameter("version").as_deref(), Some("2"));
        assert_eq!(lab.resources("machines"), before);

        // A change in place of what is used by its id alone reaches nobody.
        lab.edit("stacks/all.yaml", "display: first", "display: second");
        has(&lab.ends(&["plan"], 3), &["~ Topic", "1 stack to update, 1 unchanged"]);
        lab.ends(&["apply", "-y"], 0);
        assert_eq!(lab.resources("machines"), before);

        // A replacement gives new ids, which arrive where they are used.
        lab.edit("stacks/all.yaml", "name: one", "name: two");
        has(&lab.ends(&["plan"], 3), &["± Template", "± Topic", "2 stacks to update"]);
        lab.ends(&["apply", "-y"], 0);
        let after = lab.resources("machines");
        assert!(after["Template"] != before["Template"] && after["Topic"] != before["Topic"], "{after:?}");
        assert_eq!(lab.parameter("version").as_deref(), Some("1"));
        assert_eq!(lab.parameter("topic").as_ref(), Some(&after["Topic"]));
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn what_is_to_be_retained_is_retained() {
    scenario(|lab| {
        let kept = "\
Resources:
  Kept:
    Type: AWS::SSM::Parameter
    DeletionPolicy: Retain
    Properties: {Name: /<{ project }>/kept, Type: String, Value: one}
  Other:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/other, Type: String, Value: one}
";
        lab.template("kept", kept);
        lab.stacks("kept:\n  template: kept.yaml\n");
        lab.ends(&["apply", "-y"], 0);
        has(&lab.ends(&["destroy", "-y"], 0), &["1 stack deleted"]);
        assert_eq!((lab.parameter("kept").as_deref(), lab.parameter("other")), (Some("one"), None));

        // What is in the way of a creation is its first cause, and stays as it is.
        let failed = lab.ends(&["apply", "-y"], 1);
        has(&failed, &["✗ failed", "already exists"]);
        assert_eq!(lab.parameter("kept").as_deref(), Some("one"));
    });
}

#[test]
fn a_plan_leaves_nothing_behind() {
    scenario(|lab| {
        machines(lab);
        lab.ends(&["plan"], 3);
        assert_eq!((lab.status("machines"), lab.status("notes")), (String::new(), String::new()));
        lab.ends(&["apply", "-y"], 0);
        lab.edit("stacks/all.yaml", "display: first", "display: second");
        let before = lab.stack("machines").expect("the stack").last_updated_time;
        lab.ends(&["plan", "--out", "plan.json"], 3);
        let sets = lab.cloudformation().list_change_sets().stack_name(lab.cloud_name("machines"));
        let sets = lab.wait(sets.send()).expect("the change sets").summaries.unwrap_or_default();
        // AWS keeps those that were executed for a while.
        let waiting =
            sets.iter().filter(|set| set.execution_status().is_some_and(|s| s.as_str() == "AVAILABLE"));
        assert_eq!(waiting.count(), 0, "{sets:?}");
        assert_eq!(lab.stack("machines").expect("the stack").last_updated_time, before);
    });
}

#[test]
fn a_template_too_large_for_a_request_goes_through_the_bucket() {
    scenario(|lab| {
        machines(lab);
        lab.template("machines", &format!("{MACHINES}{}", "# much to say\n".repeat(4000)));
        lab.ends(&["apply", "-y"], 0);
        let objects = lab.s3().list_objects_v2().bucket(lab.bucket()).prefix("templates/");
        let objects = lab.wait(objects.send()).expect("the bucket").contents.unwrap_or_default();
        assert_eq!(objects.len(), 1);
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}
