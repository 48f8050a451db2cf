//! Groups that somebody scaled: what a plan says of them, and what CloudFormation is given.

use std::fmt::Write as _;

use super::{Lab, has};

const TEMPLATE: &str = "Parameters:
  Max:
    Type: Number
    Default: 10
Resources:
  Group:
    Type: AWS::AutoScaling::AutoScalingGroup
    Properties:
      AutoScalingGroupName: !Ref AWS::StackName
      MinSize: '1'
      MaxSize: !Ref Max
      DesiredCapacity: '2'
      Cooldown: '60'
      LaunchTemplate:
        LaunchTemplateId: lt-0a1b2c3d
        Version: '1'
";

/// A group with `live` machines.
fn group(lab: &Lab, live: u32) {
    let mut instances = String::new();
    for number in 0..live {
        let _ = write!(
            instances,
            "<member><InstanceId>i-{number:08}</InstanceId><AvailabilityZone>a</AvailabilityZone>\
             <LifecycleState>InService</LifecycleState><HealthStatus>Healthy</HealthStatus></member>"
        );
    }
    let tag = |key: &str, value: &str| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    let tags = tag("fleetwright:project", "shop") + &tag("fleetwright:environment", "local");
    lab.aws.world().groups = vec![format!(
        "<AutoScalingGroupName>shop-local-db</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>10</MaxSize>\
         <DesiredCapacity>{live}</DesiredCapacity><Instances>{instances}</Instances><Tags>{tags}</Tags>"
    )];
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("templates/cloudformation/db.yaml", &TEMPLATE.replace("!Ref AWS::StackName", "shop-local-db"));
    lab.ends(&["apply", "-y"], 0);
    group(&lab, 8);
    lab
}

#[test]
fn the_live_size_is_kept_and_the_plan_says_so() {
    let lab = lab();
    let given = lab.aws.world().stack("shop-local-db").is.text.clone();
    assert!(given.contains("IgnoreUnmodifiedGroupSizeProperties: true"), "{given}");
    lab.edit("Cooldown: '60'", "Cooldown: '90'");
    let text = lab.ends(&["plan"], 3);
    has(&text, &["shop-local-db has 8 machines (2 in the template): they are kept"]);
    // What the template itself changes is wanted.
    lab.edit("DesiredCapacity: '2'", "DesiredCapacity: '6'");
    let text = lab.ends(&["plan"], 3);
    has(
        &text,
        &["has 8 machines; the template changes that to 6", "2 of these go", "i-00000000, i-00000001;"],
    );
    has(&text, &["2 machines to go"]);
    has(&lab.ends(&["plan", "--markdown"], 3), &["2 of these go"]);
}

#[test]
fn bounds_that_exclude_the_live_size_are_named() {
    let lab = lab();
    lab.write("stacks/all.yaml", "db:\n  template: db.yaml\n  parameters:\n    Max: '5'\n");
    has(
        &lab.ends(&["plan"], 3),
        &["more than its maximum after the change: it shrinks to 5", "3 of these go"],
    );
    lab.write("stacks/all.yaml", "db:\n  template: db.yaml\n");
    lab.edit("MinSize: '1'", "MinSize: '9'");
    has(&lab.ends(&["plan"], 3), &["fewer than its minimum after the change: it grows to 9"]);
}

#[test]
fn a_template_that_sets_the_size_each_time_is_taken_at_its_word() {
    let lab = Lab::new();
    let policy = "    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy:\n      AutoScalingScheduledAction:\n        \
                  IgnoreUnmodifiedGroupSizeProperties: false\n";
    let template = TEMPLATE.replace("    Type: AWS::AutoScaling::AutoScalingGroup\n", policy);
    let template = template.replace("!Ref AWS::StackName", "shop-local-db");
    lab.write("templates/cloudformation/db.yaml", &template);
    lab.ends(&["apply", "-y"], 0);
    group(&lab, 8);
    lab.edit("Cooldown: '60'", "Cooldown: '90'");
    has(&lab.ends(&["plan"], 3), &["sets it back to the template's 2", "6 of these go"]);
}

#[test]
fn a_group_that_is_replaced_and_what_else_scales_it_are_named() {
    let lab = lab();
    lab.edit("AutoScalingGroupName: shop-local-db", "AutoScalingGroupName: other");
    has(&lab.ends(&["plan"], 3), &["a new group with 2 takes its place, and all of them go"]);
    lab.edit("AutoScalingGroupName: other", "AutoScalingGroupName: shop-local-db");
    lab.edit("DesiredCapacity: '2'", "DesiredCapacity: '3'");
    lab.edit(
        "Resources:\n",
        "Resources:\n  Night:\n    Type: AWS::AutoScaling::ScheduledAction\n    Properties:\n      \
         AutoScalingGroupName: !Ref Group\n      Recurrence: 0 22 * * *\n      DesiredCapacity: 1\n",
    );
    has(&lab.ends(&["plan"], 3), &["`Night` sets its size as well"]);
}
