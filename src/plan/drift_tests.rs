use serde_json::json;

use super::*;
use crate::model::group::{Capacity, GroupInstance, LaunchTemplate};

fn held(name: &str, kind: &str, id: &str) -> StackResource {
    StackResource {
        resource: name.to_owned(),
        resource_type: kind.to_owned(),
        physical_id: id.to_owned(),
        status: "CREATE_COMPLETE".to_owned(),
    }
}

fn document() -> Value {
    json!({
        "Parameters": {"Key": {"Type": "String", "NoEcho": true}},
        "Resources": {
            "Topic": {"Type": "AWS::SNS::Topic"},
            "Template": {"Type": "AWS::EC2::LaunchTemplate", "Properties": {"LaunchTemplateData": {
                "InstanceType": "t3.micro",
                "EbsOptimized": true,
                "IamInstanceProfile": {"Arn": {"Fn::GetAtt": ["Profile", "Arn"]}},
                "UserData": {"Fn::Base64": {"Fn::Sub": "#cloud-config\nhostname: ${AWS::StackName}\n"}},
            }}},
            "Group": {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": {
                "MinSize": 1, "MaxSize": "4", "DesiredCapacity": "2",
                "LaunchTemplate": {
                    "LaunchTemplateId": {"Ref": "Template"},
                    "Version": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]},
                },
            }},
        },
    })
}

fn version(number: u64, data: Value) -> BTreeMap<String, Option<TemplateVersion>> {
    let version = TemplateVersion { version: number, made_by: "arn:ops".to_owned(), data };
    [("Template".to_owned(), Some(version))].into()
}

fn as_it_was() -> Value {
    json!({
        "InstanceType": "t3.micro",
        "EbsOptimized": "true",
        "IamInstanceProfile": {"Arn": "arn:profile"},
        "UserData": "I2Nsb3VkLWNvbmZpZwpob3N0bmFtZTogc2hvcC1hLXdlYgo=",
    })
}

fn machines(versions: &[&str], desired: u32) -> BTreeMap<String, Option<Group>> {
    let template =
        |v: &str| LaunchTemplate { id: "lt-1".to_owned(), name: "web".to_owned(), version: v.to_owned() };
    let instances = versions.iter().enumerate().map(|(number, version)| GroupInstance {
        id: format!("i-{number}").parse().expect("an id"),
        lifecycle: Lifecycle::InService,
        healthy: true,
        zone: "a".to_owned(),
        launch_template: Some(template(version)),
    });
    let group = Group {
        name: "shop-a-web".to_owned(),
        capacity: Capacity { min: 1, max: 4, desired },
        launch_template: Some(template("3")),
        instances: instances.collect(),
        tags: BTreeMap::new(),
    };
    [("Group".to_owned(), Some(group))].into()
}

fn checked(
    detected: Result<&[ResourceDrift], &str>,
    templates: &BTreeMap<String, Option<TemplateVersion>>,
    groups: &BTreeMap<String, Option<Group>>,
) -> StackDrift {
    checked_with(&document(), detected, templates, groups)
}

fn checked_with(
    document: &Value,
    detected: Result<&[ResourceDrift], &str>,
    templates: &BTreeMap<String, Option<TemplateVersion>>,
    groups: &BTreeMap<String, Option<Group>>,
) -> StackDrift {
    let deployed = DeployedStack {
        name: "shop-a-web".to_owned(),
        id: "arn:aws:cloudformation:eu-west-1:123456789012:stack/shop-a-web/1".to_owned(),
        ..DeployedStack::default()
    };
    let resources = [
        held("Topic", "AWS::SNS::Topic", "arn:topic"),
        held("Template", LAUNCH_TEMPLATE, "lt-1"),
        held("Group", GROUP, "shop-a-web"),
    ];
    let seen = Seen {
        stack: &deployed,
        document: Some(document),
        policy: None,
        resources: &resources,
        detected: detected.unwrap_or_default(),
        undetected: detected.err().unwrap_or(NO_DETECTION),
        launch_templates: templates,
        groups,
    };
    stack(&"web".parse().expect("a name"), &seen)
}

fn told(resource: &str, state: DriftState, differences: Vec<PropertyChange>) -> ResourceDrift {
    ResourceDrift {
        resource: resource.to_owned(),
        resource_type: String::new(),
        physical_id: String::new(),
        state,
        differences,
    }
}

#[test]
fn what_is_as_it_was_left_has_no_drift_and_what_is_not_known_is_named() {
    let detected = ["Topic", "Template", "Group"].map(|name| told(name, DriftState::InSync, vec![]));
    let drift = checked(Ok(&detected), &version(3, as_it_was()), &machines(&["3", "3"], 2));
    assert_eq!(drift.drifted, []);
    assert_eq!(drift.checked, 3);
    let [left_out] = drift.not_checked.as_slice() else { panic!("{:?}", drift.not_checked) };
    assert_eq!(left_out.properties, ["LaunchTemplateData.IamInstanceProfile.Arn"]);
}

#[test]
fn a_launch_template_changed_by_somebody_is_found_though_cloudformation_calls_it_in_sync() {
    let mut data = as_it_was();
    data["InstanceType"] = json!("t3.large");
    data["KeyName"] = json!("ops");
    data["UserData"] = json!("I2Nsb3VkLWNvbmZpZwpob3N0bmFtZTogb3RoZXIK");
    let detected = [told("Template", DriftState::InSync, vec![])];
    let drift = checked(Ok(&detected), &version(4, data), &machines(&["3", "3"], 2));
    let [template] = drift.drifted.as_slice() else { panic!("{:?}", drift.drifted) };
    let paths: Vec<&str> = template.differences.iter().map(|d| d.path.as_str()).collect();
    assert_eq!(paths, ["LaunchTemplateData.InstanceType", "LaunchTemplateData.KeyName"]);
    assert!(
        template
            .user_data
            .as_deref()
            .is_some_and(|diff| diff.contains("-hostname: shop-a-web\n+hostname: other"))
    );
    assert_eq!(template.found_by, FoundBy::Fleetwright);
    // The group's version is not judged by a template that is not CloudFormation's.
    assert!(drift.drifted.iter().all(|drifted| drifted.resource != "Group"));
}

#[test]
fn a_group_is_held_against_its_sizes_its_version_and_its_machines() {
    let mut groups = machines(&["3", "2"], 3);
    let drift = checked(Ok(&[]), &version(3, as_it_was()), &groups);
    let changes = |drift: &StackDrift| -> Vec<String> {
        let group = drift.drifted.iter().find(|drifted| drifted.resource == "Group");
        let differences = group.into_iter().flat_map(|group| &group.differences);
        differences
            .map(|d| format!("{} {:?} {:?}", d.path, d.before.as_deref(), d.after.as_deref()))
            .collect()
    };
    assert_eq!(
        changes(&drift),
        [
            "DesiredCapacity Some(\"2\") Some(\"3\")",
            "machines in service Some(\"3\") Some(\"2\")",
            "machine i-1 Some(\"version 3\") Some(\"version 2\")",
        ]
    );
    let newer = checked(Ok(&[]), &version(5, as_it_was()), &machines(&["3", "3"], 2));
    assert_eq!(changes(&newer), ["LaunchTemplate.Version Some(\"5\") Some(\"3\")"]);
    // A roll changes all of that for a while.
    if let Some(Some(group)) = groups.get_mut("Group") {
        group.tags.insert(INTENT_TAG.to_owned(), "{}".to_owned());
    }
    let rolling = checked(Ok(&[]), &version(3, as_it_was()), &groups);
    assert_eq!(changes(&rolling), Vec::<String>::new());
    assert!(rolling.not_checked.iter().any(|n| n.resource == "Group" && n.why.contains("roll")));
}

#[test]
fn what_nobody_looked_at_is_always_listed() {
    let drift = checked(Err("no detection here"), &version(3, as_it_was()), &machines(&["3", "3"], 2));
    let listed: Vec<(&str, &str)> =
        drift.not_checked.iter().map(|n| (n.resource.as_str(), n.why.as_str())).collect();
    assert_eq!(
        listed,
        [
            ("Group", "no detection here; only its sizes and machines were compared"),
            ("Template", "no detection here; only its data was compared"),
            ("Template", "what they should be is known to CloudFormation only"),
            ("Topic", "no detection here"),
        ]
    );
    let drift = checked(Ok(&[]), &version(3, as_it_was()), &machines(&["3", "3"], 2));
    let listed = |name: &str| drift.not_checked.iter().find(|n| n.resource == name).map(|n| n.why.as_str());
    assert_eq!(listed("Topic"), Some(NO_DETECTION));
    // What we look at ourselves is a part of the resource, whoever passes over the rest.
    assert!(listed("Group").is_some_and(|why| why.ends_with("only its sizes and machines were compared")));
}

#[test]
fn what_is_gone_is_told_once() {
    let gone = [("Template".to_owned(), None)].into();
    let detected =
        [told("Template", DriftState::Deleted, vec![]), told("Topic", DriftState::Deleted, vec![])];
    let drift = checked(Ok(&detected), &gone, &machines(&["3", "3"], 2));
    let names: Vec<(&str, DriftState)> =
        drift.drifted.iter().map(|d| (d.resource.as_str(), d.state)).collect();
    assert_eq!(names, [("Template", DriftState::Deleted), ("Topic", DriftState::Deleted)]);
}

#[test]
fn user_data_with_a_hidden_value_is_compared_and_never_shown() {
    let mut document = document();
    let user_data = &mut document["Resources"]["Template"]["Properties"]["LaunchTemplateData"]["UserData"];
    *user_data = json!({"Fn::Base64": {"Fn::Sub": "key: ${Key}\nport: 1\n"}});
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let mut data = as_it_was();
    data["UserData"] = json!(encode("key: hunter2\nport: 1\n"));
    let same = checked_with(&document, Ok(&[]), &version(3, data.clone()), &machines(&["3", "3"], 2));
    assert_eq!(same.drifted, []);
    data["UserData"] = json!(encode("key: hunter2\nport: 2\n"));
    let other = checked_with(&document, Ok(&[]), &version(3, data), &machines(&["3", "3"], 2));
    assert_eq!(other.drifted.len(), 1);
    assert!(!format!("{other:?}").contains("hunter2"));
}
