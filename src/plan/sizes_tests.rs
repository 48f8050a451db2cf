use serde_json::json;

use super::*;
use crate::model::group::Capacity;

fn group(live: u32) -> Group {
    let instances = (0..live).map(|number| GroupInstance {
        id: format!("i-{number:04}").parse().expect("an id"),
        lifecycle: Lifecycle::InService,
        healthy: true,
        zone: if number % 2 == 0 { "a" } else { "b" }.to_owned(),
        launch_template: None,
    });
    Group {
        name: "shop-local-workers".to_owned(),
        capacity: Capacity { min: 1, max: 10, desired: live },
        launch_template: None,
        instances: instances.collect(),
        tags: BTreeMap::new(),
    }
}

fn sized(min: u32, max: u32, desired: Option<u32>) -> Sizes {
    Sizes {
        name: None,
        min: Given::Number(min),
        max: Given::Number(max),
        desired: desired.map_or(Given::Nothing, Given::Number),
    }
}

fn touched(action: Action) -> ResourcePlan {
    ResourcePlan {
        resource: "Group".to_owned(),
        resource_type: GROUP.to_owned(),
        action,
        claim: super::super::stack::Claim::Confirmed,
        properties: Vec::new(),
        user_data: None,
    }
}

/// What follows for a group of `live` machines; the cause, its size after, and how many go.
fn follows(live: u32, old: &Sizes, new: Sizes, keeps: bool) -> Option<(SizeCause, Option<u32>, u32)> {
    let size = one(&touched(Action::Update), &group(live), old, Some(&(new, keeps)), Vec::new())?;
    Some((size.cause, size.after, size.going))
}

#[test]
fn a_group_that_somebody_scaled_keeps_its_size_within_its_bounds() {
    let old = || sized(1, 10, Some(2));
    // The template's 2 is the same as before; without the policy CloudFormation sets it again.
    assert_eq!(follows(8, &old(), old(), true), Some((SizeCause::Kept, Some(8), 0)));
    assert_eq!(follows(8, &old(), old(), false), Some((SizeCause::Reset, Some(2), 6)));
    assert_eq!(follows(2, &old(), old(), true), None, "there is nothing to say");
    // The template changes it: that is what is wanted.
    assert_eq!(follows(8, &old(), sized(1, 10, Some(3)), true), Some((SizeCause::Changed, Some(3), 5)));
    // Bounds that exclude the live size.
    assert_eq!(follows(8, &old(), sized(1, 5, Some(2)), true), Some((SizeCause::AboveMaximum, Some(5), 3)));
    assert_eq!(follows(2, &old(), sized(4, 10, Some(2)), true), Some((SizeCause::BelowMinimum, Some(4), 0)));
    assert_eq!(
        follows(8, &sized(1, 10, None), sized(1, 5, None), true),
        Some((SizeCause::AboveMaximum, Some(5), 3))
    );
    assert_eq!(follows(8, &sized(1, 10, None), sized(1, 12, None), true), None);
    // A value that is known only later.
    let unknown = Sizes { desired: Given::Unknown, ..old() };
    assert_eq!(follows(8, &old(), unknown, true), Some((SizeCause::Changed, None, 0)));
}

#[test]
fn a_group_that_is_replaced_or_deleted_loses_all_its_machines() {
    let old = sized(1, 10, Some(2));
    let new = (sized(1, 10, Some(2)), true);
    let size = one(&touched(Action::Replace), &group(8), &old, Some(&new), Vec::new()).expect("it says so");
    assert_eq!((size.cause, size.after, size.going), (SizeCause::Replaced, Some(2), 8));
    let size = one(&touched(Action::Delete), &group(8), &old, None, Vec::new()).expect("it says so");
    assert_eq!((size.cause, size.after, size.going), (SizeCause::Deleted, Some(0), 8));
}

#[test]
fn machines_go_from_the_fullest_zone_and_the_oldest_version_first() {
    let mut group = group(3);
    let template = |version: &str| crate::model::group::LaunchTemplate {
        id: "lt-1".to_owned(),
        name: "t".to_owned(),
        version: version.to_owned(),
    };
    for (instance, version) in group.instances.iter_mut().zip(["3", "1", "2"]) {
        instance.launch_template = Some(template(version));
    }
    let order = in_order_of_termination(&group);
    let order: Vec<&str> = order.iter().map(MachineId::as_str).collect();
    assert_eq!(order, ["i-0002", "i-0001", "i-0000"]);
}

#[test]
fn what_else_scales_a_group_is_named() {
    let template = json!({"Resources": {
        "Group": {"Type": GROUP},
        "Night": {"Type": "AWS::AutoScaling::ScheduledAction", "Properties": {"AutoScalingGroupName": {"Ref": "Group"}}},
        "Load": {"Type": "AWS::AutoScaling::ScalingPolicy", "Properties": {"AutoScalingGroupName": {"Ref": "Group"}}},
        "Other": {"Type": "AWS::AutoScaling::ScalingPolicy", "Properties": {"AutoScalingGroupName": "x"}},
    }});
    assert_eq!(scalers(&template, "Group"), ["Load", "Night"]);
}
