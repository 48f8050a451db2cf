use super::*;
use crate::model::deployed::PropertyChange;
use crate::plan::drift::DRIFT_VERSION;

fn report() -> DriftReport {
    let change = |path: &str, before: Option<&str>, after: Option<&str>| PropertyChange {
        path: path.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    };
    let drifted = |resource: &str, kind: &str, id: &str, state, found_by, differences| Drifted {
        resource: resource.to_owned(),
        resource_type: kind.to_owned(),
        physical_id: id.to_owned(),
        state,
        found_by,
        differences,
        user_data: None,
        note: None,
    };
    let not = |resource: &str, properties: &[&str], why: &str| NotChecked {
        resource: resource.to_owned(),
        resource_type: "AWS::X::Y".to_owned(),
        properties: properties.iter().map(|p| (*p).to_owned()).collect(),
        why: why.to_owned(),
    };
    let mut template = drifted(
        "Template",
        "AWS::EC2::LaunchTemplate",
        "lt-0a1",
        DriftState::Modified,
        FoundBy::Fleetwright,
        vec![
            change("LaunchTemplateData.InstanceType", Some("t3.micro"), Some("t3.large")),
            change("LaunchTemplateData.KeyName", None, Some("ops")),
        ],
    );
    template.user_data =
        Some("@@ -1,2 +1,2 @@\n #cloud-config\n-hostname: web\n+hostname: other\n".to_owned());
    template.note = Some("version 4 is the newest".to_owned());
    let topic = drifted(
        "Topic",
        "AWS::SNS::Topic",
        "arn:topic",
        DriftState::Deleted,
        FoundBy::CloudFormation,
        vec![],
    );
    let queue = drifted(
        "Queue",
        "AWS::SQS::Queue",
        "https://queue",
        DriftState::Modified,
        FoundBy::CloudFormation,
        vec![change("DelaySeconds", Some("5"), None)],
    );
    let stack = |name: &str, checked, drifted, not_checked| StackDrift {
        stack: name.parse().expect("a name"),
        cloud_name: format!("shop-production-{name}"),
        checked,
        drifted,
        not_checked,
    };
    DriftReport {
        version: DRIFT_VERSION,
        project: "shop".parse().expect("a name"),
        environment: "production".parse().expect("a name"),
        region: "eu-west-1".to_owned(),
        stacks: vec![
            stack("network", 12, vec![], vec![]),
            stack(
                "workers",
                5,
                vec![queue, template, topic],
                vec![
                    not("Alarm", &[], "CloudFormation has no drift detection for this type"),
                    not("Hook", &[], "CloudFormation has no drift detection for this type"),
                    not(
                        "Template",
                        &["LaunchTemplateData.ImageId"],
                        "what they should be is known to CloudFormation only",
                    ),
                ],
            ),
        ],
        absent: vec!["edge".parse().expect("a name")],
        not_ours: Vec::new(),
    }
}

#[test]
fn drift_says_what_differs_and_what_was_not_looked_at() {
    insta::assert_snapshot!(human(&report(), Paint(false)));
}

#[test]
fn nothing_drifted_is_one_line_a_stack() {
    let mut report = report();
    report.stacks.truncate(1);
    report.absent.clear();
    insta::assert_snapshot!(human(&report, Paint(false)));
}

#[test]
fn json_has_all_of_it() {
    let document = json(&report()).expect("JSON");
    assert_eq!(document["drift"], true);
    assert_eq!(document["stacks"][1]["drifted"][1]["found_by"], "fleetwright");
    assert_eq!(document["stacks"][1]["not_checked"][2]["properties"][0], "LaunchTemplateData.ImageId");
}
