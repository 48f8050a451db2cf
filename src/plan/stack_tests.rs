//! Tests of planning a stack: what differs, what that changes, and what is confirmed.

use serde_json::json;

use super::*;
use crate::model::deployed::{ChangeSetId, ResourceChange};
use crate::model::group::{Capacity, GroupInstance, LaunchTemplate};
use crate::model::setting::Place;
use crate::model::stack::{ParameterValue as Value_, Piece, Reference as Output};
use crate::plan::within::beyond;
use crate::source::{SourceFile, Span};

fn name(text: &str) -> StackName {
    text.parse().expect("a stack name")
}

fn rendered(document: &Value) -> RenderedStack {
    let reference = Output { stack: name("network"), output: "Subnets".to_owned() };
    RenderedStack {
        name: name("workers"),
        cloud_name: "demo-local-workers".to_owned(),
        is_named: false,
        values: Vec::new(),
        overridden: Vec::new(),
        template: document.to_string(),
        template_file: "templates/cloudformation/group.yaml".to_owned(),
        parameters: vec![
            ("Subnets".to_owned(), Value_ { pieces: vec![Piece::Output(reference)] }),
            ("Size".to_owned(), Value_ { pieces: vec![Piece::Text("2".to_owned())] }),
        ],
        tags: BTreeMap::from([("team".to_owned(), "platform".to_owned())]),
        protect: None,
        policy: None,
        hooks: Vec::new(),
        nested: Vec::new(),
        depends_on: vec![name("network")],
        outputs: Vec::new(),
        user_data: Vec::new(),
        hidden: Vec::new(),
        kept: BTreeMap::new(),
        forced: Vec::new(),
        rules: BTreeMap::new(),
        places: BTreeMap::new(),
        unset: Vec::new(),
        place: Place::new(&SourceFile::new("stacks/main.yaml", "workers:"), Span::new(0, 7)),
    }
}

fn template(user_data: &str) -> Value {
    json!({
        "Parameters": {"Subnets": {"Type": "CommaDelimitedList"}, "Size": {"Type": "Number", "Default": "1"}},
        "Resources": {
            "Template": {"Type": "AWS::EC2::LaunchTemplate", "Properties": {"LaunchTemplateData": {
                "UserData": {"Fn::Base64": user_data},
            }}},
            "Group": {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": {
                "MaxSize": {"Ref": "Size"},
                "VPCZoneIdentifier": {"Ref": "Subnets"},
                "LaunchTemplate": {"Version": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]}},
            }},
        },
        "Outputs": {
            "GroupName": {"Value": {"Ref": "Group"}},
            "Version": {"Value": {"Fn::GetAtt": ["Template", "LatestVersionNumber"]}},
        },
    })
}

fn deployed(stack: &RenderedStack) -> DeployedStack {
    DeployedStack {
        name: stack.cloud_name.clone(),
        id: "arn:1".to_owned(),
        status: "CREATE_COMPLETE".to_owned(),
        parameters: BTreeMap::from([
            ("Subnets".to_owned(), "subnet-1,subnet-2".to_owned()),
            ("Size".to_owned(), "2".to_owned()),
        ]),
        outputs: BTreeMap::from([
            ("GroupName".to_owned(), "demo-local-workers".to_owned()),
            ("Version".to_owned(), "1".to_owned()),
        ]),
        tags: stack.tags.clone(),
        ..DeployedStack::default()
    }
}

fn group() -> Group {
    let template = |version: &str| {
        let version = version.to_owned();
        Some(LaunchTemplate { id: "lt-1".to_owned(), name: "demo-local-workers".to_owned(), version })
    };
    let instance = |id: &str, version: &str| GroupInstance {
        id: id.parse().expect("an id"),
        lifecycle: Lifecycle::InService,
        healthy: true,
        zone: "a".to_owned(),
        launch_template: template(version),
    };
    Group {
        name: "demo-local-workers".to_owned(),
        capacity: Capacity { min: 2, max: 4, desired: 2 },
        launch_template: template("6"),
        instances: vec![instance("i-0d3c", "6"), instance("i-0f11", "6")],
        tags: BTreeMap::new(),
    }
}

fn subnets(value: &str) -> BTreeMap<StackName, Outputs> {
    BTreeMap::from([(name("network"), Outputs::from([("Subnets".to_owned(), value.to_owned())]))])
}

/// The plan of going from `before` to `after`, predicted.
fn planned(before: &Value, after: &Value, outputs: &BTreeMap<StackName, Outputs>) -> StackPlan {
    let (old, new) = (rendered(before), rendered(after));
    let deployed = deployed(&old);
    let existing = Existing { stack: &deployed, template: &old.template, document: Some(before) };
    let desired = Desired { stack: &new, document: after };
    predict(desired, Some(existing), &resolve(&new, outputs), Some(&group()))
}

fn lines(plan: &StackPlan) -> Vec<String> {
    plan.resources
        .iter()
        .map(|r| {
            let paths: Vec<&str> = r.properties.iter().map(|p| p.path.as_str()).collect();
            format!("{} {:?} {:?} {}", r.resource, r.action, r.claim, paths.join(","))
        })
        .collect()
}

#[test]
fn what_is_as_it_should_be_is_unchanged_even_when_written_differently() {
    let document = template("a");
    let plan = planned(&document, &document, &subnets("subnet-1,subnet-2"));
    assert_eq!(plan.action, StackAction::Unchanged);
    assert!(plan.consequences.is_empty());

    let stack = rendered(&document);
    let deployed = deployed(&stack);
    let text = format!("# a comment\n{}", stack.template);
    let existing = Existing { stack: &deployed, template: &text, document: Some(&document) };
    let desired = Desired { stack: &stack, document: &document };
    let parameters = resolve(&stack, &subnets("subnet-1,subnet-2"));
    assert_eq!(predict(desired, Some(existing), &parameters, None).action, StackAction::Unchanged);
}

#[test]
fn a_line_of_user_data_is_planned_down_to_the_machines() {
    let plan = planned(&template("a\nb\n"), &template("a\nc\n"), &subnets("subnet-1,subnet-2"));
    assert_eq!(plan.reasons, [Reason::Template]);
    assert_eq!(lines(&plan), ["Group Update Unknown LaunchTemplate.Version", "Template Update Predicted "]);
    let user_data = plan.resources[1].user_data.as_ref().and_then(|u| u.diff.as_deref()).expect("a diff");
    assert_eq!(user_data, "@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    let [Consequence::MachinesToRoll { version, made_by_apply: true, machines, .. }] =
        plan.consequences.as_slice()
    else {
        panic!("{:?}", plan.consequences)
    };
    assert_eq!(version, "7");
    assert_eq!(machines.len(), 2);
}

#[test]
fn a_change_set_has_the_last_word() {
    let mut plan = planned(&template("a\n"), &template("b\n"), &subnets("subnet-1,subnet-2"));
    let change = |resource: &str, kind: &str, path: &str| ResourceChange {
        resource: resource.to_owned(),
        resource_type: kind.to_owned(),
        action: Action::Update,
        certain: true,
        properties: vec![PropertyChange {
            path: path.to_owned(),
            before: Some("6".to_owned()),
            after: Some(KNOWN_AFTER_APPLY.to_owned()),
        }],
    };
    let mut change_set = ChangeSet {
        id: ChangeSetId("arn:cs".to_owned()),
        state: ChangeSetState::Ready,
        changes: vec![
            change("Template", "AWS::EC2::LaunchTemplate", "LaunchTemplateData.UserData"),
            change("Group", "AWS::AutoScaling::AutoScalingGroup", "LaunchTemplate.Version"),
        ],
    };
    assert!(beyond(&plan, &change_set).is_empty());
    confirm(&mut plan, &change_set, Some(&group()));
    assert_eq!(lines(&plan), ["Group Update Confirmed LaunchTemplate.Version", "Template Update Confirmed "]);
    assert_eq!(plan.resources[0].properties[0].after.as_deref(), Some("known after apply"));
    assert!(plan.resources[1].user_data.is_some());
    assert_eq!(plan.consequences.len(), 1);

    change_set.changes[1].action = Action::Replace;
    assert_eq!(
        beyond(&plan, &change_set),
        ["it would replace `Group` (AWS::AutoScaling::AutoScalingGroup), where the plan says update"]
    );
    change_set.state = ChangeSetState::Empty;
    confirm(&mut plan, &change_set, None);
    assert_eq!(plan.action, StackAction::Unchanged);
}

#[test]
fn a_parents_change_reaches_only_the_outputs_it_touches() {
    let (before, after) = (template("a\n"), template("b\n"));
    let (old, new) = (rendered(&before), rendered(&after));
    let deployed = deployed(&old);
    let existing = Existing { stack: &deployed, template: &old.template, document: Some(&before) };
    let desired = Desired { stack: &new, document: &after };
    let plan = planned(&before, &after, &subnets("subnet-1,subnet-2"));
    let known = known_outputs(&plan, desired, Some(existing));
    assert_eq!(known.keys().collect::<Vec<_>>(), ["GroupName"]);
}

#[test]
fn what_a_parent_will_only_know_later_is_unknown_here_and_may_then_be_anything() {
    let document = template("a");
    let plan = planned(&document, &document, &BTreeMap::new());
    assert_eq!(plan.reasons, [Reason::AfterApply]);
    assert_eq!(plan.parameters[0].after, ParameterValue::AfterApply("${network.Subnets}".to_owned()));
    assert_eq!(lines(&plan), ["Group Update Unknown VPCZoneIdentifier"]);
}

#[test]
fn parameters_and_tags_are_changes_of_their_own() {
    let document = template("a");
    let mut stack = rendered(&document);
    stack.tags.insert("team".to_owned(), "core".to_owned());
    let mut deployed = deployed(&stack);
    deployed.tags.insert("team".to_owned(), "platform".to_owned());
    deployed.parameters.insert("Size".to_owned(), "1".to_owned());
    let existing = Existing { stack: &deployed, template: &stack.template, document: Some(&document) };
    let desired = Desired { stack: &stack, document: &document };
    let plan = predict(desired, Some(existing), &resolve(&stack, &subnets("subnet-1,subnet-2")), None);
    assert_eq!(plan.reasons, [Reason::Parameter, Reason::Tags]);
    assert_eq!(lines(&plan), ["Group Update Predicted MaxSize", "Template Update Unknown Tags"]);
    assert_eq!(plan.resources[0].properties[0].after.as_deref(), Some("2"));
    // One that is not given any more falls back to its default.
    stack.parameters.pop();
    let desired = Desired { stack: &stack, document: &document };
    deployed.parameters.insert("Size".to_owned(), "2".to_owned());
    let existing = Existing { stack: &deployed, template: &stack.template, document: Some(&document) };
    let plan = predict(desired, Some(existing), &resolve(&stack, &subnets("subnet-1,subnet-2")), None);
    assert_eq!(plan.parameters[0].after, ParameterValue::Known("1".to_owned()));
}

#[test]
fn hidden_parameters_are_neither_compared_nor_shown() {
    let mut document = template("a");
    document["Parameters"]["Size"]["NoEcho"] = json!(true);
    let stack = rendered(&document);
    let mut deployed = deployed(&stack);
    deployed.parameters.insert("Size".to_owned(), "****".to_owned());
    let existing = Existing { stack: &deployed, template: &stack.template, document: Some(&document) };
    let desired = Desired { stack: &stack, document: &document };
    let parameters = resolve(&stack, &subnets("subnet-1,subnet-2"));
    assert_eq!(predict(desired, Some(existing), &parameters, None).action, StackAction::Unchanged);
    let new = predict(desired, None, &parameters, None);
    assert!(new.parameters.iter().any(|p| p.name == "Size" && p.after == ParameterValue::Hidden));
}

#[test]
fn a_property_that_can_not_change_in_place_means_a_replacement() {
    let mut after = template("a");
    after["Resources"]["Group"]["Properties"]["AutoScalingGroupName"] = json!("other");
    let plan = planned(&template("a"), &after, &subnets("subnet-1,subnet-2"));
    assert_eq!(lines(&plan), ["Group Replace Predicted AutoScalingGroupName"]);
}

#[test]
fn stacks_that_stand_badly_say_so_with_a_next_step() {
    let document = template("a");
    let stack = rendered(&document);
    let standing = |status: &str, waiting: Option<&str>| {
        let mut deployed = deployed(&stack);
        deployed.status = status.to_owned();
        deployed.waiting = waiting.map(str::to_owned).into_iter().collect();
        let existing = Existing { stack: &deployed, template: "", document: None };
        let desired = Desired { stack: &stack, document: &document };
        match predict(desired, Some(existing), &resolve(&stack, &BTreeMap::new()), None).action {
            StackAction::Blocked(blocked) => blocked.why,
            other => format!("{other:?}"),
        }
    };
    let (theirs, ours) = ("theirs", "fleetwright-17-2");
    let said = [
        standing("ROLLBACK_COMPLETE", None),
        standing("REVIEW_IN_PROGRESS", Some(theirs)),
        standing("REVIEW_IN_PROGRESS", Some(ours)),
        // Nobody's change set waits in it.
        standing("REVIEW_IN_PROGRESS", None),
        standing("UPDATE_IN_PROGRESS", None),
        standing("UPDATE_ROLLBACK_FAILED", None),
    ];
    insta::assert_snapshot!(said.join("\n"), @r"
    its creation failed, and CloudFormation can't update what never came to be
    somebody else made a change set to create it and has not executed it
    Create
    Create
    CloudFormation is at work on it
    its last change failed and could not be undone
    ");
}

#[test]
fn user_data_is_compared_by_what_it_does_to_a_machine() {
    let told = |before: &str, after: &str| {
        let plan = planned(&template(before), &template(after), &subnets("subnet-1,subnet-2"));
        let template = plan.resources.iter().find(|resource| resource.resource == "Template");
        let effects = template.and_then(|t| t.user_data.clone()).and_then(|data| data.effects);
        let line = |e: UserDataEffect| format!("{} {} {} {}", e.change, e.what, e.name, e.reach);
        effects.map(|effects| effects.into_iter().map(line).collect::<Vec<_>>())
    };
    let before = "#cloud-config\nhostname: web\npackages: [curl]\n";
    assert_eq!(told(before, "#cloud-config\n# why\npackages: ['curl']\nhostname: web\n"), Some(vec![]));
    assert_eq!(
        told(before, "#cloud-config\nhostname: web\npackages: [curl, jq]\n"),
        Some(vec!["added package jq new-machines".to_owned()])
    );
}
