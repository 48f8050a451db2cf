//! CloudFormation templates, rendered or deployed, as trees with their short tags written out.

use serde_json::{Map, Value, json};

use crate::source::SourceFile;
use crate::yaml::{self, Kind, Node, Scalar};

/// Reads a template, YAML or JSON; `None` when it is neither, or no mapping.
pub fn read(text: &str) -> Option<Value> {
    let file = SourceFile::new("template", text);
    let mut problems = Vec::new();
    let node = yaml::parse(&file, &mut problems)?;
    problems.is_empty().then(|| value(&node)).filter(Value::is_object)
}

/// A part of a template that was read as `node`, as a tree.
pub fn tree(node: &Node) -> Value {
    value(node)
}

/// The short tag of a function that is called at `node`, without its `!`.
pub fn short_tag(node: &Node) -> Option<&str> {
    node.tag.as_deref()?.strip_prefix('!').filter(|tag| !tag.is_empty() && !tag.starts_with('!'))
}

fn value(node: &Node) -> Value {
    match short_tag(node) {
        Some(tag) => function(tag, untagged(node)),
        None => untagged(node),
    }
}

/// What stands at `node`, whatever function is called with it by a tag.
pub fn untagged(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar { text, .. } => match node.scalar() {
            Some(Scalar::Null) => Value::Null,
            Some(Scalar::Bool(value)) => Value::Bool(value),
            Some(Scalar::Integer(value)) => json!(value),
            Some(Scalar::Float(value)) => json!(value),
            Some(Scalar::Text(_)) | None => Value::String(text.clone()),
        },
        Kind::Sequence(items) => Value::Array(items.iter().map(value).collect()),
        Kind::Mapping(entries) => {
            let entries = entries.iter().map(|(k, v)| (k.text().unwrap_or_default().to_owned(), value(v)));
            Value::Object(entries.collect())
        }
    }
}

/// The long form of a short tag.
fn function(tag: &str, argument: Value) -> Value {
    let (name, argument) = match (tag, argument) {
        ("Ref" | "Condition", argument) => (tag.to_owned(), argument),
        ("GetAtt", Value::String(dotted)) => {
            // The resource's name has no dot; an attribute's may.
            let parts = match dotted.split_once('.') {
                Some((name, attribute)) => json!([name, attribute]),
                None => json!([dotted]),
            };
            ("Fn::GetAtt".to_owned(), parts)
        }
        (_, argument) => (format!("Fn::{tag}"), argument),
    };
    Value::Object(Map::from_iter([(name, argument)]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_tags_are_written_out() {
        let text = "Resources:\n  A:\n    Type: T\n    Properties:\n      X: !Ref Vpc\n      Y: !GetAtt Group.Outputs.Id\n      Z: !Join [\",\", [!Ref A, b]]\n      W: !Sub \"${A}-x\"\n      N: \"4\"\n      M: 4\n";
        assert_eq!(
            read(text).expect("a template")["Resources"]["A"]["Properties"],
            json!({
                "X": {"Ref": "Vpc"},
                "Y": {"Fn::GetAtt": ["Group", "Outputs.Id"]},
                "Z": {"Fn::Join": [",", [{"Ref": "A"}, "b"]]},
                "W": {"Fn::Sub": "${A}-x"},
                "N": "4",
                "M": 4,
            })
        );
    }

    /// A template's values; numbers that JSON and YAML write alike.
    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[a-c:#{}\\[\\]&*!|>'\"%@`,\n -]{0,12}".prop_map(Value::from),
        ];
        let inner = leaf.prop_recursive(4, 24, 4, |inner| {
            let key = "[A-Za-z:]{1,8}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[A-Z][a-z]{0,6}", inner, 1..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        /// What is read, written and read again is the same: the template that an import sends says
        /// what the deployed one does.
        #[test]
        fn a_tree_survives_its_writing(tree in tree()) {
            let read_back = read(&format!("{tree:#}"));
            prop_assert_eq!(read_back.as_ref(), Some(&tree));
            prop_assert_eq!(read(&tree.to_string()), Some(tree));
        }
    }

    #[test]
    fn json_templates_are_read_too() {
        assert_eq!(
            read(r#"{"Resources": {"A": {"Type": "T"}}}"#),
            Some(json!({"Resources": {"A": {"Type": "T"}}}))
        );
        assert_eq!(read("just text"), None);
        assert_eq!(read("a: [1"), None);
    }
}
