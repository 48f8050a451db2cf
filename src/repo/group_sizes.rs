//! Groups keep the size that somebody or something gave them: the policy that says so is put into the template.
//!
//! Without it CloudFormation sets a group back to the template's sizes with any change of it, however small.
//! With it, CloudFormation sets only the sizes that the template itself changes.

use std::collections::BTreeMap;

use super::document;
use crate::source::SourceFile;
use crate::yaml::{self, Kind, Node};

/// The type of a group.
const GROUP: &str = "AWS::AutoScaling::AutoScalingGroup";
/// The policy and its one key.
const POLICY: &str = "AutoScalingScheduledAction";
const KEY: &str = "IgnoreUnmodifiedGroupSizeProperties";

/// `text` with the policy for every group that has nothing to say about it; the text as it is where that can't
/// be put in without changing anything else.
pub fn kept(text: String) -> String {
    if !text.contains(GROUP) {
        return text;
    }
    let Some(changed) = inserted(&text) else { return text };
    // What was put in must be all that differs.
    match (document::read(&text), document::read(&changed)) {
        (Some(before), Some(mut after)) => {
            let resources = after.get_mut("Resources").and_then(serde_json::Value::as_object_mut);
            for (name, resource) in resources.into_iter().flatten() {
                let had = before.pointer(&format!("/Resources/{name}/UpdatePolicy"));
                let Some(resource) = resource.as_object_mut() else { continue };
                match had {
                    None => drop(resource.remove("UpdatePolicy")),
                    Some(had) => drop(resource.insert("UpdatePolicy".to_owned(), had.clone())),
                }
            }
            if before == after { changed } else { text }
        }
        _ => text,
    }
}

fn inserted(text: &str) -> Option<String> {
    let file = SourceFile::new("template", text);
    let root = yaml::parse(&file, &mut Vec::new())?;
    // From the last to the first, so that places before stay where they are.
    let mut at: BTreeMap<usize, String> = BTreeMap::new();
    for (_, resource) in root.get("Resources").and_then(Node::entries)? {
        if resource.get("Type").and_then(Node::text) != Some(GROUP) {
            continue;
        }
        let (into, keys): (&Node, &[&str]) = match resource.get("UpdatePolicy") {
            None => (resource, &["UpdatePolicy", POLICY]),
            Some(policy) if is_open(policy) => (policy, &[POLICY]),
            Some(_) => continue,
        };
        let (place, words) = insertion(text, into, keys)?;
        at.insert(place, words);
    }
    let mut changed = text.to_owned();
    for (place, words) in at.into_iter().rev() {
        changed.insert_str(place, &words);
    }
    Some(changed)
}

/// Whether the policy says nothing of scheduled actions and is no expression.
fn is_open(policy: &Node) -> bool {
    let Kind::Mapping(entries) = &policy.kind else { return false };
    let named =
        |word: &str| entries.iter().any(|(key, _)| key.text().is_some_and(|key| key.starts_with(word)));
    policy.tag.is_none() && !entries.is_empty() && !named(POLICY) && !named("Fn::")
}

/// Where the policy goes below `keys`, as the first entry of a mapping, and how it is written there.
fn insertion(text: &str, into: &Node, keys: &[&str]) -> Option<(usize, String)> {
    let (first, _) = into.entries()?.first()?;
    let place = first.span.start;
    if text.get(into.span.start..)?.starts_with('{') {
        let inner = keys.iter().rev().fold(format!("{{\"{KEY}\": true}}"), |inner, key| {
            if key == &keys[0] { inner } else { format!("{{\"{key}\": {inner}}}") }
        });
        return Some((place, format!("\"{}\": {inner}, ", keys[0])));
    }
    let line = text[..place].rfind('\n').map_or(0, |at| at + 1);
    let indent = &text[line..place];
    if !indent.bytes().all(|byte| byte == b' ') {
        return None;
    }
    let mut words = String::new();
    for (depth, key) in keys.iter().enumerate() {
        words.push_str(&format!("{indent}{:1$}{key}:\n", "", depth * 2));
    }
    words.push_str(&format!("{indent}{:1$}{KEY}: true\n", "", keys.len() * 2));
    Some((line, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> serde_json::Value {
        let document = document::read(text).expect("a template");
        document.pointer("/Resources/Group/UpdatePolicy").cloned().unwrap_or_default()
    }

    #[test]
    fn a_group_keeps_its_size_in_every_way_of_writing_it() {
        let wanted = serde_json::json!({POLICY: {KEY: true}});
        let block = "Resources:\n  # the machines\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup # here\n    \
                     Properties:\n      MaxSize: '4'\n  Topic:\n    Type: AWS::SNS::Topic\n";
        let changed = kept(block.to_owned());
        assert_eq!(policy(&changed), wanted);
        assert!(changed.contains("# the machines") && changed.contains("# here"), "{changed}");
        let flow = r#"{"Resources": {"Group": {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": {"MaxSize": 4}}}}"#;
        assert_eq!(policy(&kept(flow.to_owned())), wanted);
        let lines = "{\n  \"Resources\": {\n    \"Group\": {\n      \"Type\": \"AWS::AutoScaling::AutoScalingGroup\"\n    }\n  }\n}\n";
        assert_eq!(policy(&kept(lines.to_owned())), wanted);
        let rolling = "Resources:\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy:\n      \
                       AutoScalingRollingUpdate:\n        MinInstancesInService: 1\n";
        let both = policy(&kept(rolling.to_owned()));
        assert_eq!(both[POLICY], wanted[POLICY]);
        assert_eq!(both["AutoScalingRollingUpdate"]["MinInstancesInService"], 1);
        assert_eq!(kept(changed.clone()), changed, "it is put in once");
    }

    #[test]
    fn what_the_template_says_itself_stays() {
        for text in [
            "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n",
            "Resources:\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy:\n      \
             AutoScalingScheduledAction:\n        IgnoreUnmodifiedGroupSizeProperties: false\n",
            "Resources:\n  Group:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    UpdatePolicy: !If\n      - A\n      \
             - AutoScalingReplacingUpdate: {WillReplace: true}\n      - !Ref AWS::NoValue\n",
            "no template: AWS::AutoScaling::AutoScalingGroup",
        ] {
            assert_eq!(kept(text.to_owned()), text);
        }
    }
}
