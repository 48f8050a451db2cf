//! Golden files of plans.

use super::*;
use crate::model::name::{MachineId, StackName};
use crate::model::stack::Moment;
use crate::plan::stack::{
    Blocked, OldMachine, PLAN_VERSION, ParameterChange, PlannedHook, Reason, UserDataChange, UserDataEffect,
};

fn machine(id: &str) -> OldMachine {
    OldMachine { id: id.parse::<MachineId>().expect("an id"), version: Some("6".to_owned()) }
}

fn stack(name: &str, action: StackAction) -> StackPlan {
    StackPlan {
        stack: name.parse::<StackName>().expect("a name"),
        cloud_name: format!("demo-local-{name}"),
        template_file: format!("templates/cloudformation/{name}.yaml"),
        depends_on: Vec::new(),
        uncompared: Vec::new(),
        action,
        reasons: Vec::new(),
        parameters: Vec::new(),
        tags: Vec::new(),
        protect: None,
        policy: None,
        hooks: Vec::new(),
        resources: Vec::new(),
        consequences: Vec::new(),
        outputs: Vec::new(),
        sizes: Vec::new(),
        warnings: Vec::new(),
    }
}

fn change(path: &str, before: Option<&str>, after: Option<&str>) -> PropertyChange {
    let own = |text: Option<&str>| text.map(str::to_owned);
    PropertyChange { path: path.to_owned(), before: own(before), after: own(after) }
}

fn effect(what: &str, name: &str, change: &str) -> UserDataEffect {
    let own = str::to_owned;
    UserDataEffect { what: own(what), name: own(name), change: own(change), reach: own("new-machines") }
}

fn resource(name: &str, kind: &str, action: Action, claim: Claim) -> ResourcePlan {
    ResourcePlan {
        resource: name.to_owned(),
        resource_type: kind.to_owned(),
        action,
        claim,
        properties: Vec::new(),
        user_data: None,
    }
}

fn plan(stacks: Vec<StackPlan>) -> Plan {
    Plan {
        selected: Vec::new(),
        not_selected: Vec::new(),
        access: None,
        notify: None,
        version: PLAN_VERSION,
        project: "demo".parse().expect("a name"),
        environment: "local".parse().expect("a name"),
        region: "eu-west-1".to_owned(),
        left: Vec::new(),
        stacks,
    }
}

fn update() -> Plan {
    let mut workers = stack("workers", StackAction::Update);
    workers.reasons = vec![Reason::Template];
    workers.depends_on = vec!["network".parse().expect("a name")];
    workers.parameters = vec![ParameterChange {
        name: "ImageId".to_owned(),
        before: Some("ami-1".to_owned()),
        after: ParameterValue::Known("ami-2".to_owned()),
    }];
    workers.policy = Some("@@ -1,2 +1,2 @@\n   \"Statement\": [\n-    \"Allow\"\n+    \"Deny\"\n".to_owned());
    workers.hooks = vec![PlannedHook {
        when: Moment::BeforeApply,
        command: vec!["scripts/check".to_owned(), "--strict".to_owned()],
    }];
    workers.tags = vec![change("team", Some("platform"), None)];
    let diff = "@@ -3,2 +3,2 @@\n   \"log-driver\": \"json-file\",\n-  \"max-size\": \"10m\"\n+  \"max-size\": \"50m\"\n";
    workers.resources = vec![
        ResourcePlan {
            properties: vec![
                change("MaxSize", Some("4"), Some("6")),
                change("LaunchTemplate.Version", Some("6"), Some("known after apply")),
                change("Description", None, Some(&"long ".repeat(20))),
                change("Bare", None, None),
            ],
            ..resource("Group", "AWS::AutoScaling::AutoScalingGroup", Action::Update, Claim::Confirmed)
        },
        ResourcePlan {
            user_data: Some(UserDataChange {
                lines: 12,
                diff: Some(diff.to_owned()),
                effects: Some(vec![
                    effect("file", "/etc/docker/daemon.json", "changed"),
                    effect("unit", "x.service", "added"),
                ]),
            }),
            ..resource("LaunchTemplate", "AWS::EC2::LaunchTemplate", Action::Update, Claim::Confirmed)
        },
        resource("Old", "AWS::SSM::Parameter", Action::Delete, Claim::Confirmed),
        resource("Profile", "AWS::IAM::InstanceProfile", Action::MaybeReplace, Claim::Unknown),
    ];
    workers.consequences = vec![Consequence::MachinesToRoll {
        group: "demo-local-workers".to_owned(),
        launch_template: "demo-local-workers".to_owned(),
        version: "7".to_owned(),
        made_by_apply: true,
        machines: vec![machine("i-0d3c"), machine("i-0f11")],
    }];
    plan(vec![stack("network", StackAction::Unchanged), stack("control", StackAction::Unchanged), workers])
}

#[test]
fn an_update_is_shown_down_to_the_machines() {
    insta::assert_snapshot!(human(&update(), Paint(false)));
}

#[test]
fn an_update_stands_in_a_pull_request_as_markdown() {
    let mut plan = update();
    let resource = &mut plan.stacks[2].resources[0];
    resource.properties.push(change("Odd", Some("a `tick` | and\nmore"), Some("")));
    insta::assert_snapshot!(crate::view::plan_markdown::markdown(&plan));
}

#[test]
fn colour_changes_no_word() {
    let coloured = human(&update(), Paint(true));
    let plain = anstyle_free(&coloured);
    assert_eq!(plain, human(&update(), Paint(false)));
    assert_ne!(plain, coloured);
}

fn anstyle_free(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out + rest
}

#[test]
fn a_creation_names_what_is_known_later() {
    let mut network = stack("network", StackAction::Create);
    network.reasons = vec![Reason::New];
    network.resources = vec![resource("Vpc", "AWS::EC2::VPC", Action::Create, Claim::Predicted)];
    let mut workers = stack("workers", StackAction::Create);
    workers.parameters = vec![
        ParameterChange {
            name: "Subnets".to_owned(),
            before: None,
            after: ParameterValue::AfterApply("${network.Subnets}".to_owned()),
        },
        ParameterChange { name: "Token".to_owned(), before: None, after: ParameterValue::Hidden },
    ];
    workers.resources = vec![ResourcePlan {
        user_data: Some(UserDataChange { lines: 13, diff: None, effects: None }),
        ..resource("LaunchTemplate", "AWS::EC2::LaunchTemplate", Action::Create, Claim::Predicted)
    }];
    insta::assert_snapshot!(human(&plan(vec![network, workers]), Paint(false)));
}

#[test]
fn nothing_to_do_is_said_and_machines_that_wait_for_a_roll_are_not_forgotten() {
    let mut workers = stack("workers", StackAction::Unchanged);
    workers.consequences = vec![Consequence::MachinesToRoll {
        group: "demo-local-workers".to_owned(),
        launch_template: "demo-local-workers".to_owned(),
        version: "7".to_owned(),
        made_by_apply: false,
        machines: vec![machine("i-0d3c"), OldMachine { version: None, ..machine("i-0f11") }],
    }];
    let plans = [plan(vec![stack("network", StackAction::Unchanged)]), plan(vec![workers])];
    insta::assert_snapshot!(plans.map(|plan| human(&plan, Paint(false))).join("----\n"));
}

#[test]
fn a_blocked_stack_says_what_to_do() {
    let blocked = Blocked {
        status: "ROLLBACK_COMPLETE".to_owned(),
        why: "its creation failed".to_owned(),
        next: "delete it".to_owned(),
    };
    let plan =
        plan(vec![stack("network", StackAction::Blocked(blocked)), stack("workers", StackAction::Create)]);
    insta::assert_snapshot!(human(&plan, Paint(false)));
}

#[test]
fn the_json_document_is_stable() {
    let document = json(&update()).expect("it is JSON");
    insta::assert_snapshot!(format!("{document:#}"));
}
