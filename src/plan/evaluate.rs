//! The values that a deployed stack's template gives, as far as they can be told without asking.
//!
//! Parameters, pseudo parameters and the ids of the stack's own resources are known. Anything else
//! (most attributes, imports, dynamic references) is a hole: it matches whatever stands there.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document;
use crate::model::changes::text;
use crate::model::deployed::{DeployedStack, StackResource};

/// Stands in a text for what is not known. No template can hold it: YAML and JSON refuse it unescaped,
/// and CloudFormation altogether.
const HOLE: char = '\u{1}';
/// The same, for a value that is never shown.
const HIDDEN: char = '\u{2}';

/// What the expressions of a stack's template can use.
pub struct Scope<'a> {
    document: &'a Value,
    stack: &'a DeployedStack,
    ids: BTreeMap<&'a str, &'a str>,
}

impl<'a> Scope<'a> {
    /// The scope of a stack with this template, which holds `resources`.
    pub fn new(document: &'a Value, stack: &'a DeployedStack, resources: &'a [StackResource]) -> Self {
        let held = resources.iter().filter(|r| !r.physical_id.is_empty() && !r.status.starts_with("DELETE"));
        let ids = held.map(|r| (r.resource.as_str(), r.physical_id.as_str())).collect();
        Self { document, stack, ids }
    }

    /// `expression`'s value, with holes in it where it is not known; `None` where it is
    /// `AWS::NoValue`.
    pub fn value(&self, expression: &Value) -> Option<Value> {
        match expression {
            Value::Array(items) => Some(Value::Array(items.iter().filter_map(|i| self.value(i)).collect())),
            Value::Object(map) => match map.iter().next() {
                Some((function, argument)) if map.len() == 1 && is_function(function) => {
                    self.call(function, argument)
                }
                _ => {
                    let entries = map.iter().filter_map(|(key, v)| Some((key.clone(), self.value(v)?)));
                    Some(Value::Object(entries.collect::<Map<_, _>>()))
                }
            },
            Value::String(text) => Some(Value::String(dynamic(text))),
            Value::Null | Value::Bool(_) | Value::Number(_) => Some(expression.clone()),
        }
    }

    fn call(&self, function: &str, argument: &Value) -> Option<Value> {
        let unknown = || Some(Value::String(HOLE.to_string()));
        match (function, argument) {
            ("Ref", Value::String(name)) if name == "AWS::NoValue" => None,
            ("Ref", Value::String(name)) => Some(self.reference(name)),
            ("Fn::Sub", Value::String(text)) => Some(Value::String(self.substitute(text, None))),
            ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(text), own] => Some(Value::String(self.substitute(text, own.as_object()))),
                _ => unknown(),
            },
            ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(with), list] => self.join(with, list).or_else(unknown),
                _ => unknown(),
            },
            ("Fn::Base64", inner) => self.value(inner),
            ("Fn::FindInMap", Value::Array(keys)) => self.find(keys).or_else(unknown),
            ("Fn::Select", Value::Array(parts)) => match parts.as_slice() {
                [index, list] => {
                    let list = self.value(list)?;
                    let index = text(&self.value(index)?).parse::<usize>().ok();
                    let item = index.and_then(|index| list.as_array()?.get(index).cloned());
                    item.or_else(unknown)
                }
                _ => unknown(),
            },
            _ => unknown(),
        }
    }

    /// What `Ref` gives: a text, or a list for a parameter that is one.
    fn reference(&self, name: &str) -> Value {
        let hole = Value::String(HOLE.to_string());
        let declared = self.document.get("Parameters").and_then(|all| all.get(name));
        if let Some(declared) = declared {
            if document::is_hidden(self.document, name) {
                return Value::String(HIDDEN.to_string());
            }
            let kind = declared.get("Type").and_then(Value::as_str).unwrap_or_default();
            // The value is the name of what holds the value.
            if kind.starts_with("AWS::SSM::") {
                return hole;
            }
            return match self.stack.parameters.get(name) {
                Some(value) if kind.starts_with("List<") || kind == "CommaDelimitedList" => {
                    value.split(',').map(|item| Value::String(item.trim().to_owned())).collect()
                }
                Some(value) => Value::String(dynamic(value)),
                None => hole,
            };
        }
        if let Some(id) = self.ids.get(name) {
            return Value::String((*id).to_owned());
        }
        // arn:PARTITION:cloudformation:REGION:ACCOUNT:stack/NAME/ID
        let part = |index: usize| self.stack.id.split(':').nth(index).filter(|part| !part.is_empty());
        let pseudo = match name {
            "AWS::Partition" => part(1),
            "AWS::Region" => part(3),
            "AWS::AccountId" => part(4),
            "AWS::StackName" => Some(self.stack.name.as_str()),
            "AWS::StackId" => Some(self.stack.id.as_str()),
            _ => None,
        };
        pseudo.map_or(hole, |text| Value::String(text.to_owned()))
    }

    fn substitute(&self, text: &str, own: Option<&Map<String, Value>>) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inner, after)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            rest = after;
            let name = inner.trim();
            if let Some(literal) = name.strip_prefix('!') {
                out.push_str("${");
                out.push_str(literal);
                out.push('}');
            } else if let Some(value) = own.and_then(|own| own.get(name)) {
                out.push_str(&self.value(value).map(|value| self::text(&value)).unwrap_or_default());
            } else if name.contains('.') {
                out.push(HOLE);
            } else {
                out.push_str(&self::text(&self.reference(name)));
            }
        }
        out.push_str(rest);
        dynamic(&out)
    }

    fn join(&self, with: &str, list: &Value) -> Option<Value> {
        let value = self.value(list)?;
        let items: Vec<String> = value.as_array()?.iter().map(text).collect();
        Some(Value::String(items.join(with)))
    }

    fn find(&self, keys: &[Value]) -> Option<Value> {
        let [map, first, second] = keys else { return None };
        let key = |key: &Value| self.value(key).map(|key| text(&key));
        let mapping = self.document.get("Mappings")?.get(key(map)?)?;
        mapping.get(key(first)?)?.get(key(second)?).cloned()
    }
}

fn is_function(name: &str) -> bool {
    name == "Ref" || name.starts_with("Fn::")
}

/// A text with its dynamic references (`{{resolve:ssm:/name}}`) as values that are never shown.
fn dynamic(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{resolve:") {
        let Some((_, after)) = after.split_once("}}") else { break };
        out.push_str(before);
        out.push(HIDDEN);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether anything in it is not known.
pub fn has_holes(value: &Value) -> bool {
    any(value, &|text| text.contains([HOLE, HIDDEN]))
}

/// Whether anything in it is never shown.
pub fn has_hidden(value: &Value) -> bool {
    any(value, &|text| text.contains(HIDDEN))
}

fn any(value: &Value, test: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => test(text),
        Value::Array(items) => items.iter().any(|item| any(item, test)),
        Value::Object(map) => map.values().any(|item| any(item, test)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The text for people: `…` where it is not known.
pub fn shown(text: &str) -> String {
    text.replace([HOLE, HIDDEN], "…")
}

/// Whether `actual` can be what `expected` stands for: holes match anything.
pub fn matches(expected: &str, actual: &str) -> bool {
    let mut pieces = expected.split([HOLE, HIDDEN]);
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = actual.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn evaluated(document: &Value, expression: &Value) -> Option<Value> {
        let stack = DeployedStack {
            name: "shop-a-web".to_owned(),
            id: "arn:aws:cloudformation:eu-west-1:123456789012:stack/shop-a-web/1".to_owned(),
            parameters: [("Size", "4"), ("Ids", "a, b"), ("Key", "****"), ("Name", "/x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..DeployedStack::default()
        };
        let resources = [StackResource {
            resource: "Group".to_owned(),
            resource_type: "AWS::EC2::SecurityGroup".to_owned(),
            physical_id: "sg-1".to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
        }];
        Scope::new(document, &stack, &resources).value(expression)
    }

    #[test]
    fn what_is_known_is_put_in_and_what_is_not_is_a_hole() {
        let document = json!({
            "Parameters": {
                "Size": {"Type": "Number"},
                "Ids": {"Type": "CommaDelimitedList"},
                "Key": {"Type": "String", "NoEcho": true},
                "Name": {"Type": "AWS::SSM::Parameter::Value<String>"},
            },
            "Mappings": {"Zones": {"eu-west-1": {"first": "a"}}},
        });
        let cases = [
            (json!({"Ref": "Size"}), json!("4")),
            (json!({"Ref": "Ids"}), json!(["a", "b"])),
            (json!({"Ref": "Key"}), json!("\u{2}")),
            (json!({"Ref": "Name"}), json!("\u{1}")),
            (json!({"Ref": "Group"}), json!("sg-1")),
            (json!({"Fn::GetAtt": ["Group", "Arn"]}), json!("\u{1}")),
            (
                json!({"Fn::Sub": "${AWS::Region}/${Size}/${Group.Arn}/${!Not}"}),
                json!("eu-west-1/4/\u{1}/${Not}"),
            ),
            (json!({"Fn::Sub": ["${A}-${Size}", {"A": {"Ref": "Group"}}]}), json!("sg-1-4")),
            (json!({"Fn::Join": ["-", [{"Ref": "Size"}, "x"]]}), json!("4-x")),
            (json!({"Fn::FindInMap": ["Zones", {"Ref": "AWS::Region"}, "first"]}), json!("a")),
            (json!({"Fn::Select": ["1", {"Ref": "Ids"}]}), json!("b")),
            (json!({"Fn::ImportValue": "x"}), json!("\u{1}")),
            (json!("pre {{resolve:ssm:/a}} post"), json!("pre \u{2} post")),
            (json!({"A": {"Ref": "AWS::NoValue"}, "B": 1}), json!({"B": 1})),
        ];
        for (expression, expected) in cases {
            assert_eq!(evaluated(&document, &expression), Some(expected), "{expression}");
        }
    }

    #[test]
    fn holes_match_anything_and_the_rest_only_itself() {
        assert!(matches("a\u{1}c", "abbbc"));
        assert!(matches("\u{1}", ""));
        assert!(matches("a\u{1}b\u{2}c", "a1b2c"));
        assert!(!matches("a\u{1}c", "abbb"));
        assert!(!matches("abc", "abcd"));
        assert!(!matches("a\u{1}a", "a"));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_with_any_piece_unknown(text in "[a-c\n]{0,12}", from in 0usize..13, to in 0usize..13) {
            let (from, to) = (from.min(to).min(text.len()), to.max(from).min(text.len()));
            let holed = format!("{}\u{1}{}", &text[..from], &text[to..]);
            prop_assert!(matches(&holed, &text));
            prop_assert!(matches(&text, &text));
        }
    }
}
