//! What moves a saved plan, and what does not.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::model::deployed::DeployedStack;
use crate::model::setting::Place;
use crate::model::stack::{ParameterValue, Piece, RenderedStack};
use crate::plan::stack::{PLAN_VERSION, predict, resolve};
use crate::source::{SourceFile, Span};

fn rendered(template: &serde_json::Value) -> RenderedStack {
    let text = |text: &str| ParameterValue { pieces: vec![Piece::Text(text.to_owned())] };
    RenderedStack {
        name: "db".parse().expect("a name"),
        cloud_name: "demo-local-db".to_owned(),
        is_named: false,
        values: Vec::new(),
        overridden: Vec::new(),
        template: template.to_string(),
        template_file: "templates/cloudformation/db.yaml".to_owned(),
        parameters: vec![("Size".to_owned(), text("2")), ("Password".to_owned(), text("hunter2hunter2"))],
        hidden: vec!["Password".to_owned()],
        kept: BTreeMap::new(),
        forced: Vec::new(),
        rules: BTreeMap::new(),
        places: BTreeMap::new(),
        tags: BTreeMap::from([("team".to_owned(), "platform".to_owned())]),
        protect: None,
        policy: None,
        hooks: Vec::new(),
        nested: Vec::new(),
        depends_on: Vec::new(),
        outputs: Vec::new(),
        user_data: Vec::new(),
        unset: Vec::new(),
        place: Place::new(&SourceFile::new("stacks/main.yaml", "db:"), Span::new(0, 2)),
    }
}

fn template() -> serde_json::Value {
    json!({
        "Parameters": {"Size": {"Type": "Number"}, "Password": {"Type": "String", "NoEcho": "true"}},
        "Resources": {"Db": {"Type": "AWS::RDS::DBInstance", "Properties": {
            "AllocatedStorage": {"Ref": "Size"}, "MasterUserPassword": {"Ref": "Password"},
        }}},
    })
}

fn deployed_stack() -> DeployedStack {
    DeployedStack {
        name: "demo-local-db".to_owned(),
        id: "arn:1".to_owned(),
        status: "CREATE_COMPLETE".to_owned(),
        updated: DateTime::from_timestamp(1_700_000_000, 0),
        parameters: BTreeMap::from([
            ("Size".to_owned(), "1".to_owned()),
            ("Password".to_owned(), "****".to_owned()),
        ]),
        ..DeployedStack::default()
    }
}

/// The plan of one stack, saved; then what has moved after `change`.
fn moved(existing: bool, change: impl FnOnce(&mut RenderedStack, &mut Option<DeployedStack>)) -> Vec<String> {
    let document = template();
    let mut stack = rendered(&document);
    let mut deployed = existing.then(deployed_stack);
    let text = document.to_string();
    let saved = {
        let desired = Desired { stack: &stack, document: &document };
        let there =
            deployed.as_ref().map(|stack| Existing { stack, template: &text, document: Some(&document) });
        let plan = predict(desired, there, &resolve(&stack, &BTreeMap::new()), None);
        let plan = Plan {
            selected: Vec::new(),
            not_selected: Vec::new(),
            access: None,
            notify: None,
            version: PLAN_VERSION,
            project: "demo".parse().expect("a name"),
            environment: "local".parse().expect("a name"),
            region: "eu-west-1".to_owned(),
            left: Vec::new(),
            stacks: vec![plan],
        };
        SavedPlan::new(plan, DateTime::default(), [(desired, there)])
    };
    // What was saved comes back whole, and tells no secret.
    let json = serde_json::to_string(&saved).expect("it is JSON");
    assert!(!json.contains("hunter2"), "{json}");
    let saved: SavedPlan = serde_json::from_str(&json).expect("it was saved");
    assert!(saved.is_one());
    change(&mut stack, &mut deployed);
    let desired = Desired { stack: &stack, document: &document };
    let there = deployed.as_ref().map(|stack| Existing { stack, template: &text, document: Some(&document) });
    saved.moved([(desired, there)], &[]).iter().map(ToString::to_string).collect()
}

#[test]
fn a_plan_holds_while_nothing_moves() {
    assert_eq!(moved(true, |_, _| {}), Vec::<String>::new());
    assert_eq!(moved(false, |_, _| {}), Vec::<String>::new());
}

#[test]
fn a_plan_does_not_hold_when_the_repository_moves() {
    let moved = moved(true, |stack, _| {
        stack.template.push(' ');
        stack.template.push_str("# more");
        stack.parameters[0].1 = ParameterValue { pieces: vec![Piece::Text("3".to_owned())] };
        stack.tags.clear();
    });
    assert_eq!(moved, ["the repository has other template and parameters and tags of `db`"]);
}

#[test]
fn a_plan_does_not_hold_when_the_cloud_moves() {
    let change = |with: fn(&mut Option<DeployedStack>)| moved(true, |_, deployed| with(deployed));
    assert_eq!(change(|stack| *stack = None), ["stack `db` is gone"]);
    assert_eq!(
        change(|stack| stack.as_mut().expect("there").id = "arn:2".to_owned()),
        ["stack `db` was deleted and created anew"]
    );
    assert_eq!(
        change(|stack| stack.as_mut().expect("there").updated = DateTime::from_timestamp(1_700_000_060, 0)),
        ["stack `db` was changed at 2023-11-14 22:14:20 UTC"]
    );
    assert_eq!(
        change(|stack| {
            stack.as_mut().expect("there").parameters.insert("Size".to_owned(), "9".to_owned());
        }),
        ["stack `db` was changed (parameters) at 2023-11-14 22:13:20 UTC"]
    );
    assert_eq!(
        change(|stack| stack.as_mut().expect("there").status = "UPDATE_ROLLBACK_COMPLETE".to_owned()),
        ["stack `db` is UPDATE_ROLLBACK_COMPLETE, and was CREATE_COMPLETE"]
    );
    assert_eq!(moved(false, |_, deployed| *deployed = Some(deployed_stack())), ["stack `db` exists now"]);
}

#[test]
fn a_secret_that_only_a_template_s_change_could_show_is_not_shown() {
    let document = template();
    let stack = rendered(&document);
    let mut before = template();
    before["Resources"]["Db"]["Properties"]["MasterUsername"] = json!("root");
    before["Resources"]["Db"]["Properties"]["MasterUserPassword"] = json!({"Fn::Sub": "${Password}!"});
    let deployed = deployed_stack();
    let text = before.to_string();
    let existing = Existing { stack: &deployed, template: &text, document: Some(&before) };
    let desired = Desired { stack: &stack, document: &document };
    let plan = predict(desired, Some(existing), &resolve(&stack, &BTreeMap::new()), None);
    let json = serde_json::to_string(&plan).expect("it is JSON");
    assert!(json.contains("MasterUserPassword") && !json.contains("hunter2"), "{json}");
}

#[test]
fn a_plan_of_the_first_version_is_read_for_ever() {
    for (name, text) in crate::source::samples::of("plan") {
        let saved: SavedPlan = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(saved.is_one() && saved.version == 1 && saved.plan.has_changes(), "{name}");
        assert_eq!(saved.basis[0].deployed.as_ref().map(|deployed| deployed.id.as_str()), Some("arn:1"));
    }
}
