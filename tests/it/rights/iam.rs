//! Policies of IAM, evaluated: actions and resources with wildcards, two kinds of conditions, and a denial
//! that wins. Anything else in a policy is a failure of the test.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What is asked, by somebody who has the policies.
#[derive(Debug, Clone)]
pub struct Request {
    /// `service:Operation`.
    pub action: String,
    /// An ARN, or `*` for what has none.
    pub resource: String,
    /// What is known of it besides.
    pub context: BTreeMap<String, String>,
}

impl Request {
    /// A request without context.
    pub fn new(action: &str, resource: &str) -> Self {
        Self { action: action.to_owned(), resource: resource.to_owned(), context: BTreeMap::new() }
    }

    /// The same with one key of its context set.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.context.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Whether it grants, or denies.
    pub allows: bool,
    /// Its actions.
    pub actions: Vec<String>,
    /// Its resources.
    pub resources: Vec<String>,
    /// Operator, key, values.
    pub conditions: Vec<(String, String, Vec<String>)>,
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().map(|item| item.as_str().expect("a text").to_owned()).collect(),
        other => panic!("neither a text nor a list: {other}"),
    }
}

impl Statement {
    /// Reads a statement of a template.
    pub fn read(value: &Value) -> Self {
        let map = value.as_object().expect("a statement");
        for key in map.keys() {
            assert!(
                ["Sid", "Effect", "Action", "Resource", "Condition"].contains(&key.as_str()),
                "`{key}` is not read"
            );
        }
        let mut conditions = Vec::new();
        for (operator, keys) in map.get("Condition").and_then(Value::as_object).into_iter().flatten() {
            assert!(
                ["StringEquals", "StringLike", "Null"].contains(&operator.as_str()),
                "`{operator}` is not read"
            );
            for (key, values) in keys.as_object().expect("keys") {
                conditions.push((operator.clone(), key.clone(), texts(values)));
            }
        }
        let effect = map["Effect"].as_str().expect("an effect");
        assert!(["Allow", "Deny"].contains(&effect), "{effect}");
        Self {
            allows: effect == "Allow",
            actions: texts(&map["Action"]),
            resources: texts(&map["Resource"]),
            conditions,
        }
    }

    /// The statement as IAM takes it.
    pub fn json(&self) -> Value {
        let mut json = json!({
            "Effect": if self.allows { "Allow" } else { "Deny" },
            "Action": self.actions,
            "Resource": self.resources,
        });
        for (operator, key, values) in &self.conditions {
            json["Condition"][operator][key] = json!(values);
        }
        json
    }

    /// Removes the conditions.
    pub fn drop_conditions(&mut self) {
        self.conditions.clear();
    }

    /// Whether the statement is about a request.
    pub fn applies(&self, request: &Request) -> bool {
        let action = request.action.to_lowercase();
        self.actions.iter().any(|pattern| matches(&pattern.to_lowercase(), &action))
            && self.resources.iter().any(|pattern| matches(pattern, &request.resource))
            && self.conditions.iter().all(|(operator, key, values)| {
                if operator == "Null" {
                    return values
                        .iter()
                        .any(|absent| (absent == "true") != request.context.contains_key(key));
                }
                // A key that the request does not have meets no other condition.
                request.context.get(key).is_some_and(|actual| {
                    values.iter().any(|value| match operator.as_str() {
                        "StringEquals" => value == actual,
                        _ => matches(value, actual),
                    })
                })
            })
    }
}

/// Whether somebody with these statements may make the request.
pub fn is_allowed(statements: &[Statement], request: &Request) -> bool {
    let applying: Vec<&Statement> =
        statements.iter().filter(|statement| statement.applies(request)).collect();
    !applying.is_empty() && applying.iter().all(|statement| statement.allows)
}

/// Whether `text` is what `pattern` describes, with `*` for anything and `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            matches(rest, text)
                || text.char_indices().any(|(at, one)| matches(rest, &text[at + one.len_utf8()..]))
        }
        Some(expected) => match text.chars().next() {
            Some(one) if expected == '?' || expected == one => {
                matches(&pattern[expected.len_utf8()..], &text[one.len_utf8()..])
            }
            _ => false,
        },
    }
}

#[test]
fn policies_are_evaluated_as_iam_does() {
    let allow = |action: &str, resource: &str| {
        Statement::read(&json!({"Effect": "Allow", "Action": action, "Resource": resource}))
    };
    let deny = |action: &str, resource: &str| {
        Statement::read(&json!({"Effect": "Deny", "Action": action, "Resource": resource}))
    };
    for (pattern, text, expected) in [
        ("*", "", true),
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "abd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*/x", "a/b/x", true),
        ("a.c", "abc", false),
        ("", "a", false),
        ("**b", "aab", true),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
    let get = Request::new("s3:GetObject", "arn:x/y");
    assert!(!is_allowed(&[], &get));
    assert!(is_allowed(&[allow("S3:get*", "arn:x/*")], &get));
    assert!(!is_allowed(&[allow("s3:Get*", "ARN:x/*")], &get));
    assert!(!is_allowed(&[allow("s3:*", "*"), deny("s3:GetObject", "arn:x/y")], &get));
    let conditional = Statement::read(&json!({
        "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*",
        "Condition": {"StringEquals": {"a": "1"}, "StringLike": {"b": ["x*", "y"]}},
    }));
    let conditional = [conditional];
    let once = Statement::read(&json!({
        "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Condition": {"Null": {"a": "false"}},
    }));
    assert!(!is_allowed(std::slice::from_ref(&once), &get));
    assert!(is_allowed(&[once], &get.clone().with("a", "1")));
    assert!(!is_allowed(&conditional, &get));
    assert!(!is_allowed(&conditional, &get.clone().with("a", "1")));
    assert!(!is_allowed(&conditional, &get.clone().with("a", "2").with("b", "y")));
    assert!(is_allowed(&conditional, &get.clone().with("a", "1").with("b", "xyz")));
}
