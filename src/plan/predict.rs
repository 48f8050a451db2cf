//! What an update changes, predicted from two templates.
//!
//! Known parameters are put in their places in both, so that a changed parameter shows
//! as the changed properties it causes; changes then spread along references.

use std::collections::BTreeMap;

use serde_json::Value;
use similar::TextDiff;

use super::document::{self, Reference};
use super::replacement::{Effect, effect};
use super::stack::{Claim, Desired, ParameterValue, ResourcePlan, UserDataChange, UserDataEffect, keeps};
use crate::cloud_config;
use crate::model::changes::differences;
use crate::model::deployed::{Action, PropertyChange};

/// What stands for a value that is known only after apply.
pub const AFTER_APPLY: &str = "known after apply";

/// Every resource of a new stack.
pub fn created(document: &Value) -> Vec<ResourcePlan> {
    document::resources(document).into_iter().map(|(name, resource)| create(name, resource)).collect()
}

/// The resources that differ between what is deployed and what is wanted.
pub fn updated(
    before: Option<&Value>,
    before_parameters: &BTreeMap<String, String>,
    desired: Desired<'_>,
    after_parameters: &BTreeMap<String, ParameterValue>,
) -> Vec<ResourcePlan> {
    let after = desired.document;
    // One that is set in any case may be another.
    let forced = |name: &str| desired.stack.forced.iter().any(|forced| forced == name);
    // What is never shown stays a reference in both.
    let hidden = |name: &str| {
        document::is_hidden(after, name) || before.is_some_and(|before| document::is_hidden(before, name))
    };
    let known_before = |name: &str| match before_parameters.get(name) {
        Some(_) if forced(name) => Some("(hidden)".to_owned()),
        found => found.filter(|_| !hidden(name)).cloned(),
    };
    let known_after = |name: &str| match after_parameters.get(name) {
        _ if forced(name) => Some("(hidden, set anew)".to_owned()),
        _ if hidden(name) => None,
        Some(ParameterValue::Known(text)) => Some(text.clone()),
        Some(ParameterValue::AfterApply(shown)) => Some(format!("{shown} ({AFTER_APPLY})")),
        Some(ParameterValue::Hidden) => None,
        None => document::parameter_default(after, name),
    };
    let after = substitute(after, &known_after);
    let after_resources = document::resources(&after);
    let before = before.map(|before| substitute(before, &known_before));
    let before_resources = before.as_ref().map(document::resources);

    let mut plans: BTreeMap<String, ResourcePlan> = BTreeMap::new();
    for (name, resource) in &after_resources {
        let plan = match before_resources.as_ref().map(|all| all.get(name)) {
            Some(Some(old)) => update(name, old, resource),
            Some(None) => Some(create(name, resource)),
            None => Some(unknown(name, resource)),
        };
        plans.extend(plan.map(|plan| ((*name).to_owned(), plan)));
    }
    for (name, resource) in before_resources.iter().flatten() {
        if !after_resources.contains_key(name) {
            let plan = bare(name, resource, Action::Delete, Claim::Predicted);
            plans.insert((*name).to_owned(), plan);
        }
    }
    spread(&mut plans, &after_resources);
    plans.into_values().collect()
}

/// Adds the resources that a change of the stack's tags reaches: any of them may take the tags over.
pub fn tagged(resources: &mut Vec<ResourcePlan>, document: &Value) {
    for (name, resource) in document::resources(document) {
        if !resources.iter().any(|plan| plan.resource == name) {
            let mut plan = bare(name, resource, Action::Update, Claim::Unknown);
            plan.properties.push(PropertyChange { path: "Tags".to_owned(), before: None, after: None });
            resources.push(plan);
        }
    }
    resources.sort_by(|a, b| a.resource.cmp(&b.resource));
}

fn bare(name: &str, resource: &Value, action: Action, claim: Claim) -> ResourcePlan {
    ResourcePlan {
        resource: name.to_owned(),
        resource_type: document::resource_type(resource).to_owned(),
        action,
        claim,
        properties: Vec::new(),
        user_data: None,
    }
}

fn create(name: &str, resource: &Value) -> ResourcePlan {
    let user_data = document::user_data(resource).map(|text| UserDataChange {
        lines: text.lines().count(),
        diff: None,
        effects: None,
    });
    ResourcePlan { user_data, ..bare(name, resource, Action::Create, Claim::Predicted) }
}

/// Nothing is known of the resource before: anything may happen to it.
fn unknown(name: &str, resource: &Value) -> ResourcePlan {
    bare(name, resource, Action::MaybeReplace, Claim::Unknown)
}

fn update(name: &str, before: &Value, after: &Value) -> Option<ResourcePlan> {
    let mut properties = differences(before, after);
    if properties.is_empty() {
        return None;
    }
    let is_new_type = document::resource_type(before) != document::resource_type(after);
    // Policies and metadata stand beside the properties, and replace nothing.
    let mut worst = Effect::InPlace;
    for property in &mut properties {
        if let Some(path) = property.path.strip_prefix("Properties.") {
            worst = worst.max(effect(after, path));
            property.path = path.to_owned();
        }
    }
    let action = match worst {
        _ if is_new_type => Action::Replace,
        Effect::Replaces => Action::Replace,
        Effect::Perhaps => Action::MaybeReplace,
        Effect::InPlace => Action::Update,
    };
    let depends_on_apply =
        properties.iter().any(|p| p.after.as_deref().is_some_and(|after| after.contains(AFTER_APPLY)));
    let claim = match action {
        _ if depends_on_apply => Claim::Unknown,
        Action::MaybeReplace => Claim::Unknown,
        Action::Create | Action::Update | Action::Replace | Action::Delete => Claim::Predicted,
    };
    // A replacement that hangs on a value nobody knows yet may not come.
    let action = if depends_on_apply && action == Action::Replace { Action::MaybeReplace } else { action };
    let user_data = user_data_change(before, after);
    if user_data.is_some() {
        properties.retain(|property| !document::is_user_data(&property.path));
    }
    Some(ResourcePlan { properties, user_data, ..bare(name, after, action, claim) })
}

fn user_data_change(before: &Value, after: &Value) -> Option<UserDataChange> {
    let (before, after) = (document::user_data(before), document::user_data(after));
    if before == after {
        return None;
    }
    let after = after.unwrap_or_default();
    let effects = before.as_deref().map(|before| effects(before, &after));
    let diff = before.map(|before| {
        TextDiff::from_lines(before.as_str(), after.as_str()).unified_diff().context_radius(2).to_string()
    });
    Some(UserDataChange { lines: after.lines().count(), diff, effects })
}

/// What the change does to a machine: comments, quotes and the order of keys do nothing.
fn effects(before: &str, after: &str) -> Vec<UserDataEffect> {
    let changes = cloud_config::difference(&cloud_config::effects(before), &cloud_config::effects(after));
    let effect = |change: cloud_config::Change| UserDataEffect {
        what: change.what.word().to_owned(),
        name: change.name,
        change: change.kind.word().to_owned(),
        reach: change.reach.word().to_owned(),
    };
    changes.into_iter().map(effect).collect()
}

/// Lets changes spread along references until nothing new is reached.
fn spread(plans: &mut BTreeMap<String, ResourcePlan>, resources: &BTreeMap<&str, &Value>) {
    loop {
        let mut reached = Vec::new();
        for (name, resource) in resources {
            let Some(properties) = resource.get("Properties") else { continue };
            let changes = |reference: &Reference| {
                let target = plans.get(reference.name());
                target.is_some_and(|target| !keeps(target.action, reference))
            };
            // One that is created anew is never at hand for what already stands.
            if matches!(plans.get(*name), Some(plan) if plan.action == Action::Create) {
                continue;
            }
            let paths = paths_to(properties, &changes);
            if paths.is_empty() {
                continue;
            }
            let new: Vec<String> = match plans.get(*name) {
                Some(plan) => paths
                    .into_iter()
                    .filter(|path| !plan.properties.iter().any(|p| p.path == *path))
                    .collect(),
                None => paths,
            };
            if !new.is_empty() {
                reached.push(((*name).to_owned(), *resource, new));
            }
        }
        if reached.is_empty() {
            return;
        }
        for (name, resource, paths) in reached {
            let plan = plans
                .entry(name.clone())
                .or_insert_with(|| bare(&name, resource, Action::Update, Claim::Unknown));
            let stays = paths.iter().all(|path| effect(resource, path) == Effect::InPlace);
            if !stays && plan.action == Action::Update {
                plan.action = Action::MaybeReplace;
            }
            plan.properties.extend(paths.into_iter().map(|path| PropertyChange {
                path,
                before: None,
                after: Some(AFTER_APPLY.to_owned()),
            }));
            plan.properties.sort_by(|a, b| a.path.cmp(&b.path));
        }
    }
}

/// The paths of the innermost expressions below `value` that hold a reference for which `wanted` holds.
fn paths_to(value: &Value, wanted: &impl Fn(&Reference) -> bool) -> Vec<String> {
    fn walk(path: &str, value: &Value, wanted: &impl Fn(&Reference) -> bool, found: &mut Vec<String>) {
        let join = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
        match value {
            Value::Object(map) if is_expression(map) => {
                if document::references(value).iter().any(wanted) {
                    found.push(path.to_owned());
                }
            }
            Value::Object(map) => map.iter().for_each(|(key, inner)| walk(&join(key), inner, wanted, found)),
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(at, inner)| walk(&join(&at.to_string()), inner, wanted, found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk("", value, wanted, &mut found);
    found
}

fn is_expression(map: &serde_json::Map<String, Value>) -> bool {
    map.len() == 1 && map.keys().all(|key| key == "Ref" || key.starts_with("Fn::"))
}

/// The document with known parameters in place of `Ref` and of `${Name}` in `Fn::Sub`.
fn substitute(value: &Value, known: &impl Fn(&str) -> Option<String>) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(|item| substitute(item, known)).collect()),
        Value::Object(map) => {
            if map.len() == 1
                && let Some(Value::String(name)) = map.get("Ref")
                && let Some(text) = known(name)
            {
                return Value::String(text);
            }
            if map.len() == 1
                && let Some(Value::String(text)) = map.get("Fn::Sub")
            {
                let text = substitute_text(text, known);
                // With nothing left to put in, it is a plain text.
                return if text.contains("${") {
                    serde_json::json!({ "Fn::Sub": text })
                } else {
                    Value::String(text)
                };
            }
            Value::Object(map.iter().map(|(key, inner)| (key.clone(), substitute(inner, known))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn substitute_text(text: &str, known: &impl Fn(&str) -> Option<String>) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((inner, after)) = after.split_once('}') else { break };
        done.push_str(before);
        match known(inner.trim()) {
            Some(value) => done.push_str(&value),
            None => {
                done.push_str("${");
                done.push_str(inner);
                done.push('}');
            }
        }
        rest = after;
    }
    done.push_str(rest);
    done
}
