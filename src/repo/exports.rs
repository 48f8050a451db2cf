//! Outputs that stacks export to each other by name: they make an order too, which nothing in `stacks/` shows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document;
use crate::model::stack::Stack;
use crate::yaml::{Kind, Node};

/// What a stack exports and imports, as far as the names can be told offline.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trade {
    /// What it exports.
    pub exports: Vec<Export>,
    imports: Vec<String>,
}

/// An export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// The output that has it.
    pub output: String,
    /// The resource whose nested stack has that output, where it is not the stack's own.
    pub nested: Option<String>,
    /// Whether it surely exists: its output has no condition, or one that holds.
    pub sure: bool,
}

/// What the names in a template may be made of.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// Those of a stack that has the name `cloud_name` in CloudFormation.
    pub fn of(stack: &Stack, cloud_name: &str, region: &str) -> Self {
        let given = stack.parameters.iter().filter_map(|p| Some((p.name.clone(), p.value.literal()?)));
        let mut names = Self::nested(given, region);
        names.0.insert("AWS::StackName".to_owned(), cloud_name.to_owned());
        names
    }

    /// Those of a nested stack: CloudFormation chooses its name.
    pub fn nested(given: impl Iterator<Item = (String, String)>, region: &str) -> Self {
        let mut names: BTreeMap<String, String> = given.collect();
        names.insert("AWS::Region".to_owned(), region.to_owned());
        // These are the same for all stacks of an environment, whatever they are.
        for pseudo in ["AWS::AccountId", "AWS::Partition", "AWS::URLSuffix"] {
            names.insert(pseudo.to_owned(), format!("${{{pseudo}}}"));
        }
        Self(names)
    }
}

/// The parts of a rendered template that decide what it exports and imports.
#[derive(Debug, Default)]
pub struct Terms {
    parameters: Value,
    conditions: Value,
    outputs: Value,
    /// What `Fn::ImportValue` is called with, in the template's order.
    imports: Vec<Value>,
}

impl Terms {
    /// Those of the template that was read from `text` as `root`; `None` where it exports and imports nothing.
    pub fn read(text: &str, root: &Node) -> Option<Self> {
        let may_import = text.contains("ImportValue");
        if !may_import && !text.contains("Export") {
            return None;
        }
        let mut terms = Self::default();
        if document::short_tag(root).is_none() {
            let section = |name| root.get(name).map(document::tree).unwrap_or_default();
            terms.parameters = section("Parameters");
            terms.conditions = section("Conditions");
            terms.outputs = section("Outputs");
        }
        if may_import {
            imports(root, &mut terms.imports);
        }
        Some(terms)
    }

    /// What they come to. `names` has a value for each parameter that is given one that is known; those that are given
    /// another are in `open`.
    pub fn trade(&self, mut names: Names, open: &[&str]) -> Trade {
        for (name, declared) in self.parameters.as_object().into_iter().flatten() {
            let default = declared.get("Default").and_then(Value::as_str);
            if let Some(default) = default.filter(|_| !open.contains(&name.as_str())) {
                names.0.entry(name.clone()).or_insert_with(|| default.to_owned());
            }
        }
        let known = Known { conditions: &self.conditions, names: &names.0 };
        let mut trade = Trade::default();
        for (output, value) in self.outputs.as_object().into_iter().flatten() {
            let name = value.get("Export").and_then(|export| export.get("Name"));
            let Some(name) = name.and_then(|name| known.text(name)) else { continue };
            let condition = value.get("Condition").and_then(Value::as_str);
            let holds = condition.map_or(Some(true), |condition| known.condition(condition, 0));
            if holds != Some(false) {
                let (output, sure) = (output.clone(), holds == Some(true));
                trade.exports.push(Export { name, output, nested: None, sure });
            }
        }
        trade.imports = self.imports.iter().filter_map(|name| known.text(name)).collect();
        trade
    }
}

impl Trade {
    /// Adds what a stack nested in it as `resource` trades.
    pub fn include(&mut self, resource: &str, inner: Self) {
        self.imports.extend(inner.imports);
        let exports = inner.exports.into_iter();
        self.exports.extend(exports.map(|export| Export { nested: Some(resource.to_owned()), ..export }));
    }
}

/// Which stacks must be there before `trades[index]`.
pub fn needed(trades: &[Trade], index: usize) -> Vec<usize> {
    let Some(own) = trades.get(index) else { return Vec::new() };
    let exports = |other: &usize| {
        let exports = |name: &String| trades[*other].exports.iter().any(|export| export.name == *name);
        *other != index && own.imports.iter().any(exports)
    };
    (0..trades.len()).filter(exports).collect()
}

fn imports(node: &Node, found: &mut Vec<Value>) {
    if document::short_tag(node) == Some("ImportValue") {
        found.push(document::untagged(node));
    }
    match &node.kind {
        Kind::Scalar { .. } => {}
        Kind::Sequence(items) => items.iter().for_each(|item| imports(item, found)),
        Kind::Mapping(entries) => {
            for (key, value) in entries {
                if key.text() == Some("Fn::ImportValue") {
                    found.push(document::tree(value));
                }
                imports(value, found);
            }
        }
    }
}

/// How deep conditions may name each other.
const DEPTH: usize = 20;

/// What expressions of a template come to, as far as that is known offline.
struct Known<'a> {
    conditions: &'a Value,
    names: &'a BTreeMap<String, String>,
}

impl Known<'_> {
    /// The text of a name, where all of it is known.
    fn text(&self, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(map) => match call(map)? {
                ("Ref", Value::String(target)) => self.names.get(target).cloned(),
                ("Fn::Sub", Value::String(text)) => self.substitute(text, None),
                ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                    [Value::String(text), given] => self.substitute(text, Some(given)),
                    _ => None,
                },
                ("Fn::Join", Value::Array(parts)) => match parts.as_slice() {
                    [Value::String(with), Value::Array(items)] => {
                        let items: Option<Vec<String>> = items.iter().map(|item| self.text(item)).collect();
                        Some(items?.join(with))
                    }
                    _ => None,
                },
                ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                    [Value::String(condition), yes, no] => match self.condition(condition, 0)? {
                        true => self.text(yes),
                        false => self.text(no),
                    },
                    _ => None,
                },
                _ => None,
            },
            Value::Null | Value::Bool(_) | Value::Array(_) => None,
        }
    }

    fn substitute(&self, text: &str, given: Option<&Value>) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}')?;
            out.push_str(before);
            match name.strip_prefix('!') {
                Some(literal) => out.push_str(&format!("${{{literal}}}")),
                None => match given.and_then(|given| given.get(name.trim())) {
                    Some(value) => out.push_str(&self.text(value)?),
                    None => out.push_str(self.names.get(name.trim())?),
                },
            }
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    }

    /// Whether the condition of that name holds.
    fn condition(&self, name: &str, depth: usize) -> Option<bool> {
        self.holds(self.conditions.get(name)?, depth + 1)
    }

    fn holds(&self, value: &Value, depth: usize) -> Option<bool> {
        if depth > DEPTH {
            return None;
        }
        let (name, argument) = call(value.as_object()?)?;
        let items = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        let each = || items.iter().map(|item| self.holds(item, depth + 1));
        match (name, items) {
            ("Condition", _) => self.condition(argument.as_str()?, depth + 1),
            ("Fn::Equals", [a, b]) => Some(self.text(a)? == self.text(b)?),
            ("Fn::Not", [one]) => self.holds(one, depth + 1).map(|holds| !holds),
            ("Fn::And", _) if each().any(|holds| holds == Some(false)) => Some(false),
            ("Fn::And", _) => each().all(|holds| holds == Some(true)).then_some(true),
            ("Fn::Or", _) if each().any(|holds| holds == Some(true)) => Some(true),
            ("Fn::Or", _) => each().all(|holds| holds == Some(false)).then_some(false),
            _ => None,
        }
    }
}

/// The function that a mapping calls.
fn call(map: &serde_json::Map<String, Value>) -> Option<(&str, &Value)> {
    match (map.len(), map.iter().next()) {
        (1, Some((name, argument))) => Some((name, argument)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;
    use crate::yaml;

    fn terms(text: &str) -> Terms {
        let root = yaml::parse(&SourceFile::new("template", text), &mut Vec::new()).expect("it is YAML");
        Terms::read(text, &root).expect("it exports or imports something")
    }

    #[test]
    fn imports_are_found_in_both_forms_anywhere() {
        let text = "Resources:\n  A:\n    Type: !ImportValue a\n    Properties:\n      - Fn::ImportValue: !Sub \"${N}-b\"\n      \
                    - !ImportValue\n        Fn::Sub: [c, {X: !ImportValue d}]\nOutputs:\n  O:\n    Value: {Fn::ImportValue: e}\n";
        let names = Names::nested([("N".to_owned(), "n".to_owned())].into_iter(), "eu-west-1");
        assert_eq!(terms(text).trade(names, &[]).imports, ["a", "n-b", "c", "d", "e"]);
        let root = yaml::parse(&SourceFile::new("template", "A: b"), &mut Vec::new()).expect("it is YAML");
        assert!(Terms::read("A: b", &root).is_none());
    }

    #[test]
    fn names_are_followed_as_far_as_they_are_known() {
        let names = Names::nested([("Net".to_owned(), "shop-a-network".to_owned())].into_iter(), "eu-west-1");
        let conditions = serde_json::json!({"Live": {"Fn::Equals": [{"Ref": "Net"}, "x"]}});
        let known = Known { conditions: &conditions, names: &names.0 };
        let cases = [
            (r#""plain""#, Some("plain")),
            (r#"{"Ref": "Net"}"#, Some("shop-a-network")),
            (r#"{"Fn::Sub": "${Net}-VpcId"}"#, Some("shop-a-network-VpcId")),
            (r#"{"Fn::Sub": ["${N}-VpcId", {"N": {"Ref": "Net"}}]}"#, Some("shop-a-network-VpcId")),
            (r#"{"Fn::Join": ["-", [{"Ref": "Net"}, "VpcId"]]}"#, Some("shop-a-network-VpcId")),
            (r#"{"Fn::If": ["Live", "a", "b"]}"#, Some("b")),
            (r#"{"Fn::Sub": "${AWS::AccountId}-a"}"#, Some("${AWS::AccountId}-a")),
            (r#"{"Fn::Sub": "${Other}-VpcId"}"#, None),
            (r#"{"Fn::GetAtt": ["A", "B"]}"#, None),
        ];
        for (value, expected) in cases {
            let value: Value = serde_json::from_str(value).expect("JSON");
            assert_eq!(known.text(&value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn an_export_under_a_condition_is_sure_only_where_that_holds() {
        let tree = serde_json::json!({
            "Parameters": {"Stage": {"Type": "String", "Default": "test"}, "Other": {"Type": "String"}},
            "Conditions": {
                "Live": {"Fn::Equals": [{"Ref": "Stage"}, "live"]},
                "Test": {"Fn::Not": [{"Condition": "Live"}]},
                "Open": {"Fn::Equals": [{"Ref": "Other"}, "live"]},
            },
            "Outputs": {
                "A": {"Condition": "Live", "Value": "a", "Export": {"Name": "n"}},
                "B": {"Condition": "Test", "Value": "a", "Export": {"Name": "n"}},
                "C": {"Condition": "Open", "Value": "a", "Export": {"Name": "n"}},
            },
        });
        let trade =
            terms(&tree.to_string()).trade(Names::nested(std::iter::empty(), "eu-west-1"), &["Other"]);
        let found: Vec<_> = trade.exports.iter().map(|e| (e.output.as_str(), e.sure)).collect();
        assert_eq!(found, [("B", true), ("C", false)]);
    }

    #[test]
    fn an_importer_needs_its_exporter_and_nobody_needs_himself() {
        let trade = |exports: &[&str], imports: &[&str]| {
            let export = |name: &&str| Export {
                name: (*name).to_owned(),
                output: "O".to_owned(),
                nested: None,
                sure: true,
            };
            let imports = imports.iter().map(|name| (*name).to_owned()).collect();
            Trade { exports: exports.iter().map(export).collect(), imports }
        };
        let trades = [trade(&[], &["net-Vpc", "elsewhere"]), trade(&["net-Vpc"], &["net-Vpc"])];
        assert_eq!(needed(&trades, 0), [1]);
        assert_eq!(needed(&trades, 1), Vec::<usize>::new());
    }
}
