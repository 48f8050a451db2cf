//! Stacks that come, change and go.

use super::{Lab, scenario};
use crate::stacks::has;

/// A parameter with a value, and a second one.
const ENTRY: &str = "\
Parameters:
  Value: {Type: String}
Resources:
  Entry:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/<{ name }>, Type: String, Value: !Ref Value}
  More:
    Type: AWS::SSM::Parameter
    Properties: {Name: /<{ project }>/<{ name }>-more, Type: String, Value: more}
Outputs:
  Value: {Value: !GetAtt Entry.Value}
";

/// Two stacks, the second of which uses the first one's output.
fn two_stacks(lab: &Lab) {
    lab.template("entry", ENTRY);
    lab.stacks(
        "\
first:
  template: entry.yaml
  values: {name: first}
  parameters: {Value: one}
second:
  template: entry.yaml
  values: {name: second}
  parameters: {Value: \"${first.Value} and two\"}
  tags: {team: water}
",
    );
}

#[test]
fn two_stacks_go_from_nothing_through_changes_to_nothing() {
    scenario(|lab| {
        two_stacks(lab);
        has(&lab.ends(&["plan"], 3), &["2 stacks to create", "${first.Value} and two", "predicted"]);
        has(&lab.ends(&["apply", "-y"], 0), &["✓ created", "2 stacks created"]);
        assert_eq!(lab.parameter("second").as_deref(), Some("one and two"));
        has(&lab.ends(&["plan"], 0), &["no change"]);
        assert_eq!(lab.plan_json(0)["changes"], false);

        // In place, and what uses it follows.
        lab.edit("stacks/all.yaml", "Value: one", "Value: other");
        let before = lab.resources("first");
        has(&lab.ends(&["plan"], 3), &["~", "confirmed"]);
        has(&lab.ends(&["apply", "-y"], 0), &["2 stacks updated"]);
        assert_eq!(lab.parameter("second").as_deref(), Some("other and two"));
        assert_eq!(lab.resources("first"), before, "it was updated in place");
        has(&lab.ends(&["plan"], 0), &["no change"]);

        // A property that can't change in place: another resource takes its place.
        lab.edit("stacks/all.yaml", "name: second", "name: renamed");
        let plan = lab.plan_json(3);
        let resources = plan["stacks"][1]["resources"].as_array().expect("resources").clone();
        assert_eq!(resources.len(), 2, "{plan:#}");
        assert!(resources.iter().all(|r| r["action"] == "replace" && r["claim"] == "confirmed"), "{plan:#}");
        has(&lab.ends(&["apply", "-y"], 0), &["1 stack unchanged and 1 updated"]);
        assert_ne!(lab.resources("second")["Entry"], before["Entry"]);
        assert_eq!(lab.parameter("second"), None, "the old one is gone");
        assert_eq!(lab.parameter("renamed").as_deref(), Some("other and two"));

        // A resource that leaves its template goes.
        let without = ENTRY.split("  More:").next().expect("what is before it");
        lab.template("entry", &format!("{without}Outputs:\n  Value: {{Value: !GetAtt Entry.Value}}\n"));
        has(&lab.ends(&["plan"], 3), &["- More", "2 stacks to update"]);
        has(&lab.ends(&["apply", "-y"], 0), &["2 stacks updated"]);
        assert_eq!(lab.parameter("first-more"), None);
        assert!(!lab.resources("first").contains_key("More"));

        // What uses something goes before what it uses.
        let destroyed = lab.ends(&["destroy", "-y", "-o", "json"], 0);
        let place = |stack: &str| {
            let line = format!(r#""what":"finished","stack":"{stack}""#);
            destroyed.find(&line).unwrap_or_else(|| panic!("no `{line}` in\n{destroyed}"))
        };
        assert!(place("second") < place("first"));
        assert_eq!((lab.status("first"), lab.status("second")), (String::new(), String::new()));
        assert_eq!(lab.parameter("first"), None);
        has(&lab.ends(&["destroy", "-y"], 0), &["nothing to delete"]);
    });
}

#[test]
fn every_stack_carries_its_tags() {
    scenario(|lab| {
        two_stacks(lab);
        lab.ends(&["apply", "-y"], 0);
        let tags = |stack: &str| -> Vec<String> {
            let stack = lab.stack(stack).expect("the stack");
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            let mut tags: Vec<_> =
                stack.tags().iter().map(|tag| format!("{}={}", text(tag.key()), text(tag.value()))).collect();
            tags.sort();
            tags
        };
        let own = |stack: &str| {
            vec![
                "fleetwright:environment=test".to_owned(),
                format!("fleetwright:project={}", lab.project),
                format!("fleetwright:stack={stack}"),
            ]
        };
        assert_eq!(tags("first"), own("first"));
        assert_eq!(tags("second"), [own("second"), vec!["team=water".to_owned()]].concat());

        lab.edit("stacks/all.yaml", "team: water", "team: fire");
        has(&lab.ends(&["plan"], 3), &["team", "1 stack to update, 1 unchanged"]);
        lab.ends(&["apply", "-y"], 0);
        assert!(tags("second").contains(&"team=fire".to_owned()));
        has(&lab.ends(&["plan"], 0), &["no change"]);
    });
}

#[test]
fn what_a_scenario_leaves_is_cleaned_up() {
    scenario(|lab| {
        two_stacks(lab);
        lab.edit("stacks/all.yaml", "first:\n", "first:\n  protect: true\n");
        lab.ends(&["apply", "-y"], 0);
        lab.clean();
        assert_eq!((lab.status("first"), lab.status("second")), (String::new(), String::new()));
        let buckets = lab.wait(lab.s3().list_buckets().send()).expect("the buckets");
        let bucket = lab.bucket();
        assert!(!buckets.buckets().iter().any(|known| known.name() == Some(bucket.as_str())), "{bucket}");
    });
}
