//! What differs between two trees of values, leaf by leaf.

use serde_json::Value;

use super::deployed::PropertyChange;

/// The leaves that differ between `before` and `after`, sorted by path (`A.B.0.C`).
/// A map or list that stands on one side only is told leaf by leaf too, an empty one as `{}` or `[]`.
pub fn differences(before: &Value, after: &Value) -> Vec<PropertyChange> {
    let mut found = Vec::new();
    walk("", Some(before), Some(after), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<PropertyChange>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None)
            if !is_empty(before) || !is_empty(after) =>
        {
            let mut keys: Vec<&String> = [before, after]
                .into_iter()
                .flatten()
                .filter_map(Value::as_object)
                .flat_map(|m| m.keys())
                .collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                walk(
                    &join(path, key),
                    before.and_then(|v| v.get(key)),
                    after.and_then(|v| v.get(key)),
                    found,
                );
            }
        }
        (Some(Value::Array(_)) | None, Some(Value::Array(_)) | None)
            if !is_empty(before) || !is_empty(after) =>
        {
            let length = |side: Option<&Value>| side.and_then(Value::as_array).map_or(0, Vec::len);
            for index in 0..length(before).max(length(after)) {
                let side = |side: Option<&'_ Value>| side.and_then(|v| v.get(index)).cloned();
                let (before, after) = (side(before), side(after));
                walk(&join(path, &index.to_string()), before.as_ref(), after.as_ref(), found);
            }
        }
        // A number and its text look the same, and are not.
        (Some(b), Some(a)) if !b.is_object() && !b.is_array() && text(b) == text(a) => {
            let written = |value: &Value| match value {
                Value::String(text) => format!("\"{text}\""),
                other => text(other),
            };
            found.push(PropertyChange {
                path: path.to_owned(),
                before: Some(written(b)),
                after: Some(written(a)),
            });
        }
        // A scalar against a map or a list: the larger side would bury the change in leaves.
        _ => found.push(PropertyChange {
            path: path.to_owned(),
            before: before.map(text),
            after: after.map(text),
        }),
    }
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    }
}

fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

/// A scalar as CloudFormation would print it; anything else as JSON on one line.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn told(before: Value, after: Value) -> Vec<String> {
        differences(&before, &after)
            .into_iter()
            .map(|c| {
                format!("{}: {} -> {}", c.path, c.before.unwrap_or("-".into()), c.after.unwrap_or("-".into()))
            })
            .collect()
    }

    #[test]
    fn leaves_are_told_by_path() {
        assert_eq!(
            told(
                json!({"MaxSize": "4", "Tags": [{"Key": "a", "Value": "1"}], "Same": {"x": [1]}}),
                json!({"MaxSize": "6", "Tags": [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": ""}], "Same": {"x": [1]}}),
            ),
            ["MaxSize: 4 -> 6", "Tags.0.Value: 1 -> 2", "Tags.1.Key: - -> b", "Tags.1.Value: - -> "],
        );
        assert_eq!(told(json!({"A": {"B": 1}}), json!({"A": []})), [r#"A: {"B":1} -> []"#]);
        assert_eq!(told(json!({"A": {}}), json!({})), ["A: {} -> -"]);
        assert_eq!(
            told(json!({"A": 1, "B": "true"}), json!({"A": "1", "B": true})),
            [r#"A: 1 -> "1""#, r#"B: "true" -> true"#]
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_is_told_exactly_when_nothing_differs(a in values(), b in values()) {
            prop_assert_eq!(differences(&a, &b).is_empty(), a == b);
        }
    }
}
