//! What is likely to go wrong, or to cost what nobody wanted to lose, said before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::Conditions;
use super::document;
use super::stack::{Desired, Existing, Outputs, ParameterValue, ResourcePlan, StackAction, StackPlan};
use crate::model::changes::text;
use crate::model::deployed::{Action, PropertyChange};
use crate::schema;

/// Something to think about before the plan is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Warning {
    /// An export changes or goes while other stacks import it: CloudFormation refuses that.
    ExportInUse {
        /// The export.
        export: String,
        /// The output.
        output: String,
        /// Whether it goes; otherwise its value changes, or may.
        goes: bool,
        /// The stacks that import it.
        importers: Vec<String>,
    },
    /// A resource with a fixed name is replaced: the new one can't have the name while the old one has it.
    NameTaken {
        /// The logical id.
        resource: String,
        /// The property that holds the name.
        property: String,
        /// The name.
        name: String,
    },
    /// A resource got another logical id: it is destroyed, and another one is made.
    Renamed {
        /// The logical id that goes.
        from: String,
        /// The logical id that comes.
        to: String,
        /// The type of both.
        resource_type: String,
    },
    /// A stack seems to have another name in the repository: what it holds is made again.
    StackRenamed {
        /// The stack that the repository no longer has, as CloudFormation names it.
        from: String,
    },
}

/// The outputs that change, by name; the values as far as they are known.
pub fn outputs(
    plan: &StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    parameters: &BTreeMap<String, ParameterValue>,
    region: &str,
) -> Vec<PropertyChange> {
    let (StackAction::Update, Some(existing)) = (&plan.action, existing) else { return Vec::new() };
    let Some(old) = existing.document else { return Vec::new() };
    let conditions = Conditions {
        document: desired.document,
        parameters,
        region,
        stack: desired.stack.cloud_name.as_str(),
    };
    let section = |document: &Value| -> BTreeMap<String, Value> {
        let outputs = document.get("Outputs").and_then(Value::as_object).into_iter().flatten();
        outputs.map(|(name, output)| (name.clone(), output.clone())).collect()
    };
    let (before, after) = (section(old), section(desired.document));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let change = |name: &String| {
        let value = after.get(name).and_then(|output| output.get("Value"));
        PropertyChange {
            path: name.clone(),
            before: existing.stack.outputs.get(name).cloned(),
            after: value.map(|value| {
                conditions.text(value).unwrap_or_else(|| match value {
                    Value::Object(_) => super::predict::AFTER_APPLY.to_owned(),
                    value => text(value),
                })
            }),
        }
    };
    changed.map(change).collect()
}

/// The deployed exports that the plan may change, and whether each goes. `known` are the outputs that stay.
pub fn exports_at_risk(
    plan: &StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    parameters: &BTreeMap<String, ParameterValue>,
    known: &Outputs,
    region: &str,
) -> Vec<(String, String, bool)> {
    let (StackAction::Update, Some(existing)) = (&plan.action, existing) else { return Vec::new() };
    let conditions = Conditions {
        document: desired.document,
        parameters,
        region,
        stack: desired.stack.cloud_name.as_str(),
    };
    let outputs = desired.document.get("Outputs").and_then(Value::as_object);
    let exports: Vec<(&String, Option<String>)> = outputs
        .into_iter()
        .flatten()
        .filter(|(_, output)| conditions.exists(output) != Some(false))
        .filter_map(|(name, output)| Some((name, conditions.text(output.pointer("/Export/Name")?))))
        .collect();
    let at_risk = existing.stack.exports.iter().filter_map(|(output, export)| {
        let by_name = exports.iter().find(|(_, name)| name.as_deref() == Some(export.as_str()));
        // A name that is known only later is compared by its output.
        let same = by_name.or_else(|| exports.iter().find(|(of, name)| *of == output && name.is_none()));
        match same {
            None => Some((export.clone(), output.clone(), true)),
            Some((of, _)) if *of == output && known.contains_key(output) => None,
            // The value may be the same in spite of all.
            Some((of, _)) => {
                let value = outputs?.get(*of)?.get("Value")?;
                let now = conditions.text(value);
                let before = existing.stack.outputs.get(output);
                (now.is_none() || now.as_ref() != before).then(|| (export.clone(), output.clone(), false))
            }
        }
    });
    at_risk.collect()
}

/// Replacements of resources whose names are fixed.
pub fn names_taken(
    plan: &StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    parameters: &BTreeMap<String, ParameterValue>,
    region: &str,
) -> Vec<Warning> {
    let Some((existing, old)) = existing.and_then(|e| Some((e, e.document?))) else { return Vec::new() };
    let deployed: BTreeMap<String, ParameterValue> = existing
        .stack
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), ParameterValue::Known(value.clone())))
        .collect();
    let stack = desired.stack.cloud_name.as_str();
    let after = Conditions { document: desired.document, parameters, region, stack };
    let before = Conditions { document: old, parameters: &deployed, region, stack };
    let (olds, news) = (document::resources(old), document::resources(desired.document));
    let replaced = plan.resources.iter().filter(|resource| resource.action == Action::Replace);
    let taken = replaced.filter_map(|resource| {
        let (was, is) = (olds.get(resource.resource.as_str())?, news.get(resource.resource.as_str())?);
        // One of another type has its own names.
        if document::resource_type(was) != document::resource_type(is) {
            return None;
        }
        let (property, name) = name_of(resource, is, &after)?;
        let former = was.get("Properties")?.get(&property)?;
        let same = before.text(former).as_deref() == Some(name.as_str());
        same.then(|| Warning::NameTaken { resource: resource.resource.clone(), property, name })
    });
    taken.collect()
}

/// The property that names a resource, and the name, where the template fixes it.
fn name_of(resource: &ResourcePlan, is: &Value, conditions: &Conditions<'_>) -> Option<(String, String)> {
    let kind = resource.resource_type.as_str();
    let schema = schema::all().find(kind)?;
    let last = kind.rsplit("::").next().unwrap_or_default();
    let identifies = |property: &str| {
        let alone = matches!(schema.primary_identifier.as_slice(), [only] if only == property);
        let own = property.strip_suffix("Name").is_some_and(|stem| last.ends_with(stem));
        alone || (own && schema.create_only_properties.iter().any(|known| known == property))
    };
    let given = is.get("Properties")?.as_object()?;
    given.iter().filter(|(property, _)| identifies(property)).find_map(|(property, value)| {
        // What changes with the replacement is free.
        let changes = resource.properties.iter().any(|change| change.path == *property);
        let name = conditions.text(value)?;
        (!changes).then(|| (property.clone(), name))
    })
}

/// Resources that go and come again under another logical id.
pub fn renames(plan: &StackPlan, desired: Desired<'_>, existing: Option<Existing<'_>>) -> Vec<Warning> {
    let Some(old) = existing.and_then(|existing| existing.document) else { return Vec::new() };
    let (olds, news) = (document::resources(old), document::resources(desired.document));
    let of = |action: Action| plan.resources.iter().filter(move |resource| resource.action == action);
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for gone in of(Action::Delete) {
        let Some(was) = olds.get(gone.resource.as_str()) else { continue };
        let candidates = of(Action::Create).filter(|new| new.resource_type == gone.resource_type);
        let near = candidates
            .filter(|new| !taken.contains(new.resource.as_str()))
            .filter_map(|new| Some((likeness(was, news.get(new.resource.as_str())?), new)))
            .filter(|(likeness, _)| *likeness >= LIKE)
            .max_by_key(|(likeness, _)| *likeness);
        if let Some((_, new)) = near {
            taken.insert(new.resource.as_str());
            found.push(Warning::Renamed {
                from: gone.resource.clone(),
                to: new.resource.clone(),
                resource_type: gone.resource_type.clone(),
            });
        }
    }
    found
}

/// How much alike two resources must be, in percent of their properties, to count as the same.
const LIKE: usize = 60;

/// How much alike the properties of two resources are, in percent; without any they are the same.
fn likeness(a: &Value, b: &Value) -> usize {
    let properties =
        |of: &Value| of.get("Properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let (a, b) = (properties(a), properties(b));
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let same = names.iter().filter(|name| a.get(**name) == b.get(**name)).count();
    (same * 100).checked_div(names.len()).unwrap_or(100)
}

/// Whether a new stack holds what a deployed one holds: the same resources of the same types.
pub fn is_same_stack(new: &Value, deployed: &Value) -> bool {
    let types = |document: &Value| -> BTreeMap<String, String> {
        let resources = document::resources(document).into_iter();
        resources.map(|(name, r)| (name.to_owned(), document::resource_type(r).to_owned())).collect()
    };
    let (new, deployed) = (types(new), types(deployed));
    !new.is_empty() && new == deployed
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn resources_are_alike_when_most_of_them_is_the_same() {
        let queue = |properties: Value| json!({"Type": "AWS::SQS::Queue", "Properties": properties});
        let one = queue(json!({"DelaySeconds": 5, "MessageRetentionPeriod": 60, "Tags": []}));
        assert_eq!(likeness(&one, &one), 100);
        assert_eq!(
            likeness(&one, &queue(json!({"DelaySeconds": 7, "MessageRetentionPeriod": 60, "Tags": []}))),
            66
        );
        assert_eq!(likeness(&one, &queue(json!({"DelaySeconds": 7}))), 0);
        assert_eq!(likeness(&json!({"Type": "A"}), &json!({"Type": "A"})), 100);
    }

    #[test]
    fn stacks_are_the_same_by_what_they_hold() {
        let one = json!({"Resources": {"A": {"Type": "X"}, "B": {"Type": "Y"}}});
        let changed = json!({"Resources": {"A": {"Type": "X", "Properties": {"P": 1}}, "B": {"Type": "Y"}}});
        assert!(is_same_stack(&one, &changed));
        assert!(!is_same_stack(&one, &json!({"Resources": {"A": {"Type": "X"}}})));
        assert!(!is_same_stack(&json!({}), &json!({})));
    }
}
