//! Whether a template's conditions hold, as far as that is known before apply, and what follows for the outputs
//! that others use: one that does not come into being can't be waited for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document;
use super::stack::{Desired, Existing, ParameterValue, StackAction, StackPlan};
use crate::model::changes::text;

/// How deep expressions are followed: conditions may refer to each other in a circle.
const DEEPEST: usize = 40;

/// What conditions can refer to.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    /// The template.
    pub document: &'a Value,
    /// The parameters that are given.
    pub parameters: &'a BTreeMap<String, ParameterValue>,
    /// The region.
    pub region: &'a str,
    /// The stack's name in CloudFormation.
    pub stack: &'a str,
}

impl Conditions<'_> {
    /// Whether the condition of that name holds; `None` where that is not known yet.
    pub fn holds(&self, name: &str) -> Option<bool> {
        self.named(name, DEEPEST)
    }

    /// The text of an expression; `None` where it is not known yet.
    pub fn text(&self, expression: &Value) -> Option<String> {
        self.value(expression, DEEPEST)?.as_str().map(str::to_owned)
    }

    /// Whether something with a `Condition` of its own comes into being.
    pub fn exists(&self, of: &Value) -> Option<bool> {
        match of.get("Condition") {
            None => Some(true),
            Some(name) => self.holds(name.as_str()?),
        }
    }

    fn named(&self, name: &str, depth: usize) -> Option<bool> {
        self.test(self.document.get("Conditions")?.get(name)?, depth.checked_sub(1)?)
    }

    fn test(&self, expression: &Value, depth: usize) -> Option<bool> {
        let (function, argument) = expression.as_object().filter(|map| map.len() == 1)?.iter().next()?;
        let all = || argument.as_array().map(|items| items.iter().map(|item| self.test(item, depth)));
        match function.as_str() {
            "Condition" => self.named(argument.as_str()?, depth),
            "Fn::Not" => all()?.next()?.map(|holds| !holds),
            "Fn::And" => all()?.try_fold(Some(true), both)?,
            "Fn::Or" => {
                all()?.map(|holds| holds.map(|holds| !holds)).try_fold(Some(true), both)?.map(|no| !no)
            }
            "Fn::Equals" => match argument.as_array()?.as_slice() {
                [a, b] if a == b => Some(true),
                [a, b] => Some(self.value(a, depth)? == self.value(b, depth)?),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of an expression as CloudFormation compares it: scalars are texts.
    fn value(&self, expression: &Value, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        let map = match expression {
            Value::Object(map) => map,
            Value::Array(items) => return items.iter().map(|item| self.value(item, depth)).collect(),
            Value::String(text) if text.contains("{{resolve:") => return None,
            scalar => return Some(Value::String(text(scalar))),
        };
        let (function, argument) = map.iter().next().filter(|_| map.len() == 1)?;
        let words = |value: &Value| self.value(value, depth)?.as_str().map(str::to_owned);
        match (function.as_str(), argument) {
            ("Ref", Value::String(name)) => self.reference(name),
            ("Fn::Sub", Value::String(text)) => self.substitute(text),
            ("Fn::Join", Value::Array(parts)) => {
                let list = self.value(parts.get(1)?, depth)?;
                let items: Option<Vec<&str>> = list.as_array()?.iter().map(Value::as_str).collect();
                Some(Value::String(items?.join(parts.first()?.as_str()?)))
            }
            ("Fn::Select", Value::Array(parts)) => {
                let index: usize = words(parts.first()?)?.parse().ok()?;
                self.value(parts.get(1)?, depth)?.as_array()?.get(index).cloned()
            }
            ("Fn::Split", Value::Array(parts)) => {
                let source = words(parts.get(1)?)?;
                Some(
                    source
                        .split(parts.first()?.as_str()?)
                        .map(|part| Value::String(part.to_owned()))
                        .collect(),
                )
            }
            ("Fn::FindInMap", Value::Array(keys)) => {
                let [map, first, second] = keys.as_slice() else { return None };
                let of = self.document.get("Mappings")?.get(words(map)?)?;
                self.value(of.get(words(first)?)?.get(words(second)?)?, depth)
            }
            ("Fn::If", Value::Array(parts)) => match parts.as_slice() {
                [name, yes, no] => {
                    let holds = self.named(name.as_str()?, depth)?;
                    self.value(if holds { yes } else { no }, depth)
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn reference(&self, name: &str) -> Option<Value> {
        match name {
            "AWS::Region" => return Some(Value::String(self.region.to_owned())),
            "AWS::StackName" => return Some(Value::String(self.stack.to_owned())),
            "AWS::Partition" => {
                let partition = match self.region {
                    region if region.starts_with("cn-") => "aws-cn",
                    region if region.starts_with("us-gov-") => "aws-us-gov",
                    region if region.starts_with("us-iso") => return None,
                    _ => "aws",
                };
                return Some(Value::String(partition.to_owned()));
            }
            _ => {}
        }
        let declared = self.document.get("Parameters")?.get(name)?;
        let kind = declared.get("Type").and_then(Value::as_str).unwrap_or_default();
        // The value is the name of what holds the value.
        if kind.starts_with("AWS::SSM::Parameter::Value") {
            return None;
        }
        let given = match self.parameters.get(name) {
            Some(ParameterValue::Known(text)) => text.clone(),
            Some(ParameterValue::AfterApply(_) | ParameterValue::Hidden) => return None,
            None => document::parameter_default(self.document, name)?,
        };
        Some(match kind {
            kind if kind.starts_with("List<") || kind == "CommaDelimitedList" => {
                given.split(',').map(|item| Value::String(item.trim().to_owned())).collect()
            }
            _ => Value::String(given),
        })
    }

    fn substitute(&self, text: &str) -> Option<Value> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}')?;
            done.push_str(before);
            match name.strip_prefix('!') {
                Some(literal) => done.push_str(&format!("${{{literal}}}")),
                None => done.push_str(self.reference(name.trim())?.as_str()?),
            }
            rest = after;
        }
        done.push_str(rest);
        Some(Value::String(done))
    }
}

/// Three-valued `and`: `None` ends the fold early, since one that is false decides.
fn both(so_far: Option<bool>, next: Option<bool>) -> Option<Option<bool>> {
    Some(match (so_far, next) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    })
}

/// The outputs of a planned stack that apply will not bring about, and why.
pub fn lacking(
    plan: &StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    parameters: &BTreeMap<String, ParameterValue>,
    region: &str,
) -> BTreeMap<String, String> {
    let stack = desired.stack.cloud_name.as_str();
    let conditions = Conditions { document: desired.document, parameters, region, stack };
    let outputs = desired.document.get("Outputs").and_then(Value::as_object).into_iter().flatten();
    let lacking = outputs.filter_map(|(name, output)| {
        let condition = output.get("Condition").and_then(Value::as_str);
        let is_there = existing.is_some_and(|existing| existing.stack.outputs.contains_key(name));
        let why = match (&plan.action, condition) {
            // Nothing will change, so what is not there does not come.
            (StackAction::Unchanged, Some(condition)) if !is_there => {
                format!("which it does not have: condition `{condition}` is false")
            }
            (StackAction::Unchanged, None) if !is_there => "which it does not have".to_owned(),
            (StackAction::Create | StackAction::Update, Some(condition))
                if conditions.exists(output) == Some(false) =>
            {
                format!("which it has only under condition `{condition}`, and that is false")
            }
            _ => return None,
        };
        Some((name.clone(), why))
    });
    lacking.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(condition: Value, parameters: &[(&str, ParameterValue)]) -> Option<bool> {
        let document = json!({
            "Parameters": {
                "Env": {"Type": "String", "Default": "dev"},
                "Zones": {"Type": "CommaDelimitedList", "Default": "a, b"},
                "Image": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/x"},
                "Late": {"Type": "String"},
                "Count": {"Type": "Number", "Default": 1},
            },
            "Mappings": {"Sizes": {"dev": {"big": false}, "prod": {"big": "true"}}},
            "Conditions": {
                "C": condition,
                "IsProd": {"Fn::Equals": [{"Ref": "Env"}, "prod"]},
                "Round": {"Fn::Not": [{"Condition": "Round"}]},
                "IsLate": {"Fn::Equals": [{"Ref": "Late"}, "x"]},
            },
        });
        let parameters: BTreeMap<String, ParameterValue> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Conditions { document: &document, parameters: &parameters, region: "eu-west-1", stack: "shop-a" }
            .holds("C")
    }

    #[test]
    fn conditions_are_true_false_or_not_known_yet() {
        let prod = [("Env", ParameterValue::Known("prod".to_owned()))];
        let late = [("Late", ParameterValue::AfterApply("${a.B}".to_owned()))];
        let is_prod = json!({"Condition": "IsProd"});
        let is_late = json!({"Condition": "IsLate"});
        assert_eq!(holds(is_prod.clone(), &[]), Some(false));
        assert_eq!(holds(is_prod.clone(), &prod), Some(true));
        assert_eq!(holds(json!({"Fn::Not": [is_prod]}), &[]), Some(true));
        assert_eq!(holds(is_late.clone(), &late), None);
        assert_eq!(holds(json!({"Fn::And": [is_late, is_prod]}), &late), Some(false));
        assert_eq!(holds(json!({"Fn::Or": [is_late, is_prod]}), &late), None);
        assert_eq!(holds(json!({"Fn::Or": [is_late, {"Fn::Not": [is_prod]}]}), &late), Some(true));
        let equals = |a: Value, b: Value| holds(json!({"Fn::Equals": [a, b]}), &[]);
        assert_eq!(equals(json!({"Ref": "AWS::Region"}), json!("eu-west-1")), Some(true));
        assert_eq!(equals(json!({"Ref": "AWS::AccountId"}), json!("1")), None);
        assert_eq!(equals(json!({"Ref": "Image"}), json!("/x")), None);
        assert_eq!(equals(json!({"Ref": "Count"}), json!(1)), Some(true));
        assert_eq!(
            equals(json!({"Fn::FindInMap": ["Sizes", {"Ref": "Env"}, "big"]}), json!("true")),
            Some(false)
        );
        assert_eq!(equals(json!({"Fn::Join": ["-", {"Ref": "Zones"}]}), json!("a-b")), Some(true));
        assert_eq!(equals(json!({"Fn::Select": ["1", {"Ref": "Zones"}]}), json!("b")), Some(true));
        assert_eq!(equals(json!({"Fn::Sub": "${AWS::StackName}/${Env}"}), json!("shop-a/dev")), Some(true));
        assert_eq!(equals(json!({"Fn::Select": [0, {"Fn::Split": ["/", "x/y"]}]}), json!("x")), Some(true));
        assert_eq!(equals(json!({"Fn::If": ["IsProd", "1", "2"]}), json!("2")), Some(true));
        assert_eq!(equals(json!("{{resolve:ssm:/x}}"), json!("x")), None);
        assert_eq!(holds(json!({"Condition": "Round"}), &[]), None);
        assert_eq!(holds(json!({"Condition": "Nowhere"}), &[]), None);
    }
}
