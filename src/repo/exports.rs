//! Outputs that stacks export to each other by name: they make an order too, which nothing in `stacks/` shows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document;
use crate::model::stack::Stack;

/// What a stack exports and imports, as far as the names can be told offline.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trade {
    exports: Vec<String>,
    imports: Vec<String>,
}

/// What the names in a template may be made of.
pub struct Names<'a> {
    /// The stack's name in CloudFormation.
    pub cloud_name: &'a str,
    /// The region.
    pub region: &'a str,
    /// The stack, for its parameters.
    pub stack: &'a Stack,
}

/// Whether a rendered template may export or import anything; it is read a second time only then.
pub fn may_trade(text: &str) -> bool {
    text.contains("Export") || text.contains("ImportValue")
}

/// Reads a rendered template.
pub fn read(text: &str, names: &Names<'_>) -> Trade {
    let mut trade = Trade::default();
    let Some(tree) = document::read(text).filter(|_| may_trade(text)) else { return trade };
    let known = known(&tree, names);
    for output in tree.get("Outputs").and_then(Value::as_object).into_iter().flat_map(|all| all.values()) {
        let name = output.get("Export").and_then(|export| export.get("Name"));
        trade.exports.extend(name.and_then(|name| text_of(name, &known)));
    }
    imports(&tree, &known, &mut trade.imports);
    trade
}

/// Which stacks must be there before `trades[index]`.
pub fn needed(trades: &[Trade], index: usize) -> Vec<usize> {
    let Some(own) = trades.get(index) else { return Vec::new() };
    let exports = |other: &usize| {
        *other != index && own.imports.iter().any(|name| trades[*other].exports.contains(name))
    };
    (0..trades.len()).filter(exports).collect()
}

fn known(tree: &Value, names: &Names<'_>) -> BTreeMap<String, String> {
    let mut known = BTreeMap::from([
        ("AWS::StackName".to_owned(), names.cloud_name.to_owned()),
        ("AWS::Region".to_owned(), names.region.to_owned()),
    ]);
    for (name, declared) in tree.get("Parameters").and_then(Value::as_object).into_iter().flatten() {
        let given = names.stack.parameters.iter().find(|given| given.name == *name);
        let value = match given {
            Some(given) => given.value.literal(),
            None => declared.get("Default").and_then(Value::as_str).map(str::to_owned),
        };
        known.extend(value.map(|value| (name.clone(), value)));
    }
    known
}

fn imports(value: &Value, known: &BTreeMap<String, String>, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| imports(item, known, found)),
        Value::Object(map) => {
            for (key, inner) in map {
                if key == "Fn::ImportValue" {
                    found.extend(text_of(inner, known));
                }
                imports(inner, known, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The text of a name, where all of it is known.
fn text_of(value: &Value, known: &BTreeMap<String, String>) -> Option<String> {
    let function = |map: &serde_json::Map<String, Value>| match (map.len(), map.iter().next()) {
        (1, Some((name, argument))) => Some((name.clone(), argument.clone())),
        _ => None,
    };
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(map) => match function(map)? {
            (name, Value::String(target)) if name == "Ref" => known.get(&target).cloned(),
            (name, Value::String(text)) if name == "Fn::Sub" => substitute(&text, known),
            (name, Value::Array(parts)) if name == "Fn::Join" => match parts.as_slice() {
                [Value::String(with), Value::Array(items)] => {
                    let items: Option<Vec<String>> = items.iter().map(|item| text_of(item, known)).collect();
                    Some(items?.join(with))
                }
                _ => None,
            },
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

fn substitute(text: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}')?;
        out.push_str(before);
        out.push_str(known.get(name.trim())?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_followed_as_far_as_they_are_known() {
        let known = BTreeMap::from([("Net".to_owned(), "shop-a-network".to_owned())]);
        let cases = [
            (r#""plain""#, Some("plain")),
            (r#"{"Ref": "Net"}"#, Some("shop-a-network")),
            (r#"{"Fn::Sub": "${Net}-VpcId"}"#, Some("shop-a-network-VpcId")),
            (r#"{"Fn::Join": ["-", [{"Ref": "Net"}, "VpcId"]]}"#, Some("shop-a-network-VpcId")),
            (r#"{"Fn::Sub": "${Other}-VpcId"}"#, None),
            (r#"{"Fn::GetAtt": ["A", "B"]}"#, None),
        ];
        for (value, expected) in cases {
            let value: Value = serde_json::from_str(value).expect("JSON");
            assert_eq!(text_of(&value, &known).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn an_importer_needs_its_exporter_and_nobody_needs_himself() {
        let trade = |exports: &[&str], imports: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Trade { exports: own(exports), imports: own(imports) }
        };
        let trades = [trade(&[], &["net-Vpc", "elsewhere"]), trade(&["net-Vpc"], &["net-Vpc"])];
        assert_eq!(needed(&trades, 0), [1]);
        assert_eq!(needed(&trades, 1), Vec::<usize>::new());
    }
}
