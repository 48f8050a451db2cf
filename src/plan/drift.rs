//! Drift that CloudFormation can't see, and one account of all drift that says what was not checked.
//!
//! CloudFormation never reads a launch template's data back (its schema calls it write-only), says
//! nothing of the machines in a group, and passes over types that it can't detect. So launch
//! templates are compared here with what the deployed template says, groups with their sizes and
//! their machines' versions, and what nobody looked at is listed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use super::document;
use super::evaluate::{Scope, has_hidden, has_holes, matches, shown};
use super::roll::INTENT_TAG;
use crate::model::changes::text;
use crate::model::deployed::{DeployedStack, Phase, PropertyChange, StackResource};
use crate::model::drift::{DriftState, ResourceDrift, TemplateVersion};
use crate::model::group::{Group, Lifecycle};
use crate::model::name::{EnvironmentName, ProjectName, StackName};
use crate::model::stack_policy::{StackPolicy, same};

/// The version of the report's JSON document; raised when a field changes its meaning.
pub const DRIFT_VERSION: u32 = 1;

/// Why CloudFormation passes over a resource while it looks at others.
pub const NO_DETECTION: &str = "CloudFormation has no drift detection for this type";

/// A launch template's type.
pub const LAUNCH_TEMPLATE: &str = "AWS::EC2::LaunchTemplate";
/// A group's type.
pub const GROUP: &str = "AWS::AutoScaling::AutoScalingGroup";

/// The drift of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftReport {
    /// [`DRIFT_VERSION`].
    pub version: u32,
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Its region.
    pub region: String,
    /// The stacks that exist, in the order of their dependency.
    pub stacks: Vec<StackDrift>,
    /// Stacks of the repository that do not exist.
    pub absent: Vec<StackName>,
    /// Stacks of the repository whose name somebody else's stack has; those are not looked at.
    pub not_ours: Vec<NotOurs>,
}

/// A stack of the repository whose name somebody else's stack has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotOurs {
    /// The stack, as the repository names it.
    pub stack: StackName,
    /// Whose it is.
    pub why: String,
    /// What to do.
    pub next: String,
}

impl DriftReport {
    /// Whether anything differs from what CloudFormation left.
    pub fn has_drift(&self) -> bool {
        self.stacks.iter().any(|stack| !stack.drifted.is_empty())
    }

    /// Puts what `f` makes of it in the place of every value that the report shows; names stay.
    pub fn map_values(&mut self, f: impl Fn(&str) -> String) {
        for drifted in self.stacks.iter_mut().flat_map(|stack| &mut stack.drifted) {
            for difference in &mut drifted.differences {
                difference.before = difference.before.as_deref().map(&f);
                difference.after = difference.after.as_deref().map(&f);
            }
            drifted.user_data = drifted.user_data.as_deref().map(&f);
        }
    }
}

/// The drift of one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackDrift {
    /// The stack, as the repository names it.
    pub stack: StackName,
    /// As CloudFormation names it.
    pub cloud_name: String,
    /// How many resources were looked at.
    pub checked: usize,
    /// What differs, sorted by logical id.
    pub drifted: Vec<Drifted>,
    /// What was not looked at, or not as a whole; sorted by logical id.
    pub not_checked: Vec<NotChecked>,
}

/// A resource that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drifted {
    /// The logical id.
    pub resource: String,
    /// The type.
    pub resource_type: String,
    /// The id by which its service knows it.
    pub physical_id: String,
    /// Whether it differs or is gone.
    pub state: DriftState,
    /// Who found it.
    pub found_by: FoundBy,
    /// What differs: `before` is what the template says, `after` what there is.
    pub differences: Vec<PropertyChange>,
    /// The difference of the user data in unified form, where it differs and may be shown.
    pub user_data: Option<String>,
    /// What it means or what to do, where that is no matter of course.
    pub note: Option<String>,
}

/// Who found a drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FoundBy {
    /// CloudFormation's drift detection.
    CloudFormation,
    /// fleetwright, by asking the service itself.
    Fleetwright,
}

/// A resource that was not looked at, or not as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotChecked {
    /// The logical id.
    pub resource: String,
    /// The type.
    pub resource_type: String,
    /// Properties that were left out; empty when it is the whole resource.
    pub properties: Vec<String>,
    /// Why.
    pub why: String,
}

/// What was found of a stack.
pub struct Seen<'a> {
    /// The stack.
    pub stack: &'a DeployedStack,
    /// Its deployed template as a tree.
    pub document: Option<&'a Value>,
    /// The policy that the repository gives it.
    pub policy: Option<&'a StackPolicy>,
    /// Its resources.
    pub resources: &'a [StackResource],
    /// What CloudFormation's detection found, for each resource that it looked at.
    pub detected: &'a [ResourceDrift],
    /// Why it did not look at the others.
    pub undetected: &'a str,
    /// The newest versions of its launch templates, by logical id; `None` when one is gone.
    pub launch_templates: &'a BTreeMap<String, Option<TemplateVersion>>,
    /// Its groups, by logical id; `None` when one is gone.
    pub groups: &'a BTreeMap<String, Option<Group>>,
}

/// What differs in one stack, and what was not looked at.
pub fn stack(name: &StackName, seen: &Seen<'_>) -> StackDrift {
    let held: Vec<&StackResource> = seen
        .resources
        .iter()
        .filter(|resource| !resource.physical_id.is_empty() && resource.status != "DELETE_COMPLETE")
        .collect();
    let scope = seen.document.map(|document| Scope::new(document, seen.stack, seen.resources));
    let mut drift = StackDrift {
        stack: name.clone(),
        cloud_name: seen.stack.name.clone(),
        checked: 0,
        drifted: Vec::new(),
        not_checked: Vec::new(),
    };
    for resource in held {
        let detected = seen.detected.iter().find(|detected| detected.resource == resource.resource);
        let own = own(seen, scope.as_ref(), resource);
        if detected.is_none() && own.is_none() {
            drift.not_checked.push(not_checked(resource, Vec::new(), seen.undetected.to_owned()));
            continue;
        }
        drift.checked += 1;
        let own = own.unwrap_or_default();
        if let (Some(detected), None) = (detected, &own.drifted)
            && detected.state != DriftState::InSync
        {
            drift.drifted.push(Drifted {
                resource: resource.resource.clone(),
                resource_type: resource.resource_type.clone(),
                physical_id: resource.physical_id.clone(),
                state: detected.state,
                found_by: FoundBy::CloudFormation,
                differences: detected.differences.clone(),
                user_data: None,
                note: None,
            });
        }
        if let Some(mut drifted) = own.drifted {
            // CloudFormation may have seen more of it, in its own words.
            for told in detected.iter().flat_map(|detected| &detected.differences) {
                if !drifted.differences.iter().any(|ours| ours.path == told.path) {
                    drifted.differences.push(told.clone());
                }
            }
            drift.drifted.push(drifted);
        }
        if detected.is_none() && own.is_part {
            let why = format!("{}; only {} compared", seen.undetected, own.what);
            drift.not_checked.push(not_checked(resource, Vec::new(), why));
        }
        if !own.left_out.is_empty() {
            let why = "what they should be is known to CloudFormation only".to_owned();
            drift.not_checked.push(not_checked(resource, own.left_out, why));
        }
        if let Some(why) = own.not_compared {
            drift.not_checked.push(not_checked(resource, Vec::new(), why));
        }
    }
    if seen.policy.is_some() && seen.stack.phase() == Phase::Settled {
        drift.checked += 1;
        drift.drifted.extend(policy(seen));
    }
    drift.drifted.sort_by(|a, b| a.resource.cmp(&b.resource));
    drift.not_checked.sort_by(|a, b| a.resource.cmp(&b.resource));
    drift
}

fn not_checked(resource: &StackResource, properties: Vec<String>, why: String) -> NotChecked {
    NotChecked {
        resource: resource.resource.clone(),
        resource_type: resource.resource_type.clone(),
        properties,
        why,
    }
}

/// A policy that somebody else set.
fn policy(seen: &Seen<'_>) -> Option<Drifted> {
    let wanted = seen.policy?.document();
    let deployed = seen.stack.policy.as_deref();
    let parsed = deployed.and_then(|text| serde_json::from_str::<Value>(text).ok());
    if parsed.as_ref().is_some_and(|deployed| same(deployed, &wanted)) {
        return None;
    }
    Some(Drifted {
        resource: seen.stack.name.clone(),
        resource_type: "AWS::CloudFormation::Stack".to_owned(),
        physical_id: String::new(),
        state: DriftState::Modified,
        found_by: FoundBy::Fleetwright,
        differences: vec![PropertyChange {
            path: "policy".to_owned(),
            before: Some(wanted.to_string()),
            after: deployed.map(str::to_owned),
        }],
        user_data: None,
        note: Some("`fleetwright apply` sets the repository's policy again".to_owned()),
    })
}

/// What we looked at ourselves.
#[derive(Default)]
struct Own {
    drifted: Option<Drifted>,
    /// Whether it is less than all of the resource, and what it is.
    is_part: bool,
    what: &'static str,
    /// Properties whose expected values are not known.
    left_out: Vec<String>,
    /// Why nothing was compared after all.
    not_compared: Option<String>,
}

/// `None` for a type of which only CloudFormation can tell.
fn own(seen: &Seen<'_>, scope: Option<&Scope<'_>>, resource: &StackResource) -> Option<Own> {
    let scope = scope?;
    let properties =
        document::resources(seen.document?).get(resource.resource.as_str())?.get("Properties")?;
    let drifted = |state, differences, user_data, note| {
        Some(Drifted {
            resource: resource.resource.clone(),
            resource_type: resource.resource_type.clone(),
            physical_id: resource.physical_id.clone(),
            state,
            found_by: FoundBy::Fleetwright,
            differences,
            user_data,
            note,
        })
    };
    match resource.resource_type.as_str() {
        LAUNCH_TEMPLATE => {
            let Some(actual) = seen.launch_templates.get(&resource.resource)? else {
                return Some(Own {
                    drifted: drifted(DriftState::Deleted, Vec::new(), None, None),
                    ..Own::default()
                });
            };
            let expected = scope.value(properties.get("LaunchTemplateData")?)?;
            let compared = launch_template(&expected, actual);
            let found = if compared.differences.is_empty() && compared.user_data.is_none() {
                None
            } else {
                let by = if actual.made_by.is_empty() {
                    String::new()
                } else {
                    format!(", made by {}", actual.made_by)
                };
                let note = format!(
                    "version {} is the newest{by}; CloudFormation can't see this. A change of the template makes a \
                     new version with all that the template says",
                    actual.version
                );
                drifted(DriftState::Modified, compared.differences, compared.user_data, Some(note))
            };
            Some(Own {
                drifted: found,
                is_part: true,
                what: "its data was",
                left_out: compared.left_out,
                not_compared: None,
            })
        }
        GROUP => {
            let Some(actual) = seen.groups.get(&resource.resource)? else {
                return Some(Own {
                    drifted: drifted(DriftState::Deleted, Vec::new(), None, None),
                    ..Own::default()
                });
            };
            let part = Own { is_part: true, what: "its sizes and machines were", ..Own::default() };
            if actual.tags.contains_key(INTENT_TAG) {
                let why = "a roll is under way, which changes its sizes and machines for a while".to_owned();
                return Some(Own { not_compared: Some(why), ..part });
            }
            let expected = scope.value(properties)?;
            let (differences, note) = group(seen, &expected, properties, actual);
            let found = if differences.is_empty() {
                None
            } else {
                drifted(DriftState::Modified, differences, None, note)
            };
            Some(Own { drifted: found, ..part })
        }
        _ => None,
    }
}

struct Compared {
    differences: Vec<PropertyChange>,
    user_data: Option<String>,
    left_out: Vec<String>,
}

fn launch_template(expected: &Value, actual: &TemplateVersion) -> Compared {
    let mut compared = Compared { differences: Vec::new(), user_data: None, left_out: Vec::new() };
    walk("LaunchTemplateData", Some(expected), Some(&actual.data), &mut compared);
    let path = "LaunchTemplateData.UserData";
    if let Some(at) = compared.differences.iter().position(|difference| difference.path == path) {
        compared.differences.remove(at);
    }
    compared.left_out.retain(|left_out| left_out != path);
    let decoded = |value: &Value| {
        let value = value.get("UserData").map(text).unwrap_or_default();
        // `Fn::Base64` was evaluated to what it encodes; a literal is encoded already.
        let text = document::decode_user_data(&value).unwrap_or(value);
        // Parsers of YAML do not agree on the line end of a text that ends its file, and no machine cares.
        format!("{}\n", text.trim_end())
    };
    let (want, have) = (decoded(expected), decoded(&actual.data));
    if !matches(&want, &have) {
        let hidden = expected.get("UserData").is_some_and(has_hidden);
        if hidden {
            // What stands in the hidden value's place can't be told from what is around it.
            compared.differences.push(PropertyChange { path: path.to_owned(), before: None, after: None });
        } else {
            let want = shown(&want);
            let diff = TextDiff::from_lines(want.as_str(), have.as_str());
            compared.user_data = Some(diff.unified_diff().context_radius(2).to_string());
        }
    }
    compared
}

fn walk(path: &str, expected: Option<&Value>, actual: Option<&Value>, compared: &mut Compared) {
    let join = |key: &str| format!("{path}.{key}");
    match (expected, actual) {
        (Some(Value::Object(want)), Some(Value::Object(have))) => {
            let mut keys: Vec<&String> = want.keys().chain(have.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                walk(&join(key), want.get(key), have.get(key), compared);
            }
        }
        (Some(Value::Array(want)), Some(Value::Array(have))) => {
            for index in 0..want.len().max(have.len()) {
                walk(&join(&index.to_string()), want.get(index), have.get(index), compared);
            }
        }
        (Some(want), _) if has_holes(want) => match (want, actual) {
            (Value::String(want), Some(Value::String(have))) if matches(want, have) => {
                compared.left_out.push(path.to_owned());
            }
            // A hole for a whole list, map or nothing at all.
            (Value::String(want), _) if matches(want, "") => compared.left_out.push(path.to_owned()),
            _ => differ(path, expected, actual, compared),
        },
        (Some(want), Some(have)) if is_same(want, have) => {}
        (None, None) => {}
        _ => differ(path, expected, actual, compared),
    }
}

/// What CloudFormation was given as a number or a word, EC2 tells as a text.
fn is_same(want: &Value, have: &Value) -> bool {
    text(want).eq_ignore_ascii_case(&text(have))
}

fn differ(path: &str, expected: Option<&Value>, actual: Option<&Value>, compared: &mut Compared) {
    let hidden = expected.is_some_and(has_hidden);
    compared.differences.push(PropertyChange {
        path: path.to_owned(),
        before: expected.map(|value| shown(&text(value))),
        after: actual.map(text).filter(|_| !hidden),
    });
}

fn group(
    seen: &Seen<'_>,
    expected: &Value,
    properties: &Value,
    actual: &Group,
) -> (Vec<PropertyChange>, Option<String>) {
    let mut differences = Vec::new();
    let capacity = actual.capacity;
    let sizes = [("DesiredCapacity", capacity.desired), ("MaxSize", capacity.max), ("MinSize", capacity.min)];
    for (path, have) in sizes {
        let Some(want) = expected.get(path).map(text) else { continue };
        if want.parse::<u32>().is_ok_and(|want| want != have) {
            let (before, after) = (Some(want), Some(have.to_string()));
            differences.push(PropertyChange { path: path.to_owned(), before, after });
        }
    }
    let serving =
        actual.instances.iter().filter(|i| i.lifecycle == Lifecycle::InService && i.healthy).count();
    if u32::try_from(serving).is_ok_and(|serving| serving < capacity.desired) {
        differences.push(PropertyChange {
            path: "machines in service".to_owned(),
            before: Some(capacity.desired.to_string()),
            after: Some(serving.to_string()),
        });
    }
    let mut note = None;
    if let Some(target) = &actual.launch_template {
        if let Some(version) = follows(seen, properties).filter(|newest| *newest != target.version) {
            differences.push(PropertyChange {
                path: "LaunchTemplate.Version".to_owned(),
                before: Some(version),
                after: Some(target.version.clone()),
            });
        }
        let old = actual.instances.iter().filter(|instance| !instance.lifecycle.is_leaving()).filter(|i| {
            // A group that follows `$Latest` does not say which number that is.
            target.version.parse::<u64>().is_ok()
                && i.launch_template.as_ref().is_none_or(|own| own.version != target.version)
        });
        for instance in old {
            note = Some(format!(
                "`fleetwright roll` replaces machines of another version than {}",
                target.version
            ));
            differences.push(PropertyChange {
                path: format!("machine {}", instance.id),
                before: Some(format!("version {}", target.version)),
                after: Some(instance.launch_template.as_ref().map_or_else(
                    || "no launch template".to_owned(),
                    |template| format!("version {}", template.version),
                )),
            });
        }
    }
    (differences, note)
}

/// The version that the group's template makes it follow: the newest of a launch template of the
/// stack, as long as that is what CloudFormation made of it.
fn follows(seen: &Seen<'_>, properties: &Value) -> Option<String> {
    let version = properties.get("LaunchTemplate")?.get("Version")?;
    let references = document::references(version);
    let [document::Reference::Attribute(template, attribute)] =
        references.iter().collect::<Vec<_>>().as_slice()
    else {
        return None;
    };
    if attribute != "LatestVersionNumber" {
        return None;
    }
    let newest = seen.launch_templates.get(template)?.as_ref()?;
    let data = document::resources(seen.document?)
        .get(template.as_str())?
        .get("Properties")?
        .get("LaunchTemplateData")?
        .clone();
    let scope = Scope::new(seen.document?, seen.stack, seen.resources);
    let compared = launch_template(&scope.value(&data)?, newest);
    let is_its_own = compared.differences.is_empty() && compared.user_data.is_none();
    is_its_own.then(|| newest.version.to_string())
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
