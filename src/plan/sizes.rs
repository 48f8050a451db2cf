//! What a change does to the size of a group that lives: its machines may be more, or fewer, than the template's,
//! because somebody scaled it, or a policy or a schedule did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::condition::Conditions;
use super::document;
use super::stack::{Desired, Existing, ParameterValue, ResourcePlan, StackAction, StackPlan};
use crate::model::deployed::Action;
use crate::model::group::{Group, GroupInstance, Lifecycle};
use crate::model::name::MachineId;

/// The type of a group.
const GROUP: &str = "AWS::AutoScaling::AutoScalingGroup";
/// The types that set the desired capacity as time passes.
const SCALERS: [&str; 2] = ["AWS::AutoScaling::ScheduledAction", "AWS::AutoScaling::ScalingPolicy"];
/// The tags that CloudFormation puts on a group.
const STACK_NAME: &str = "aws:cloudformation:stack-name";
const LOGICAL_ID: &str = "aws:cloudformation:logical-id";

/// What happens to the size of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSize {
    /// The group's name.
    pub group: String,
    /// Its logical id.
    pub resource: String,
    /// Its desired capacity now.
    pub live: u32,
    /// How many the template says; `None` where it says nothing, or that is not known yet.
    pub template: Option<u32>,
    /// Its desired capacity after the change; `None` where that is not known yet.
    pub after: Option<u32>,
    /// Why that is.
    pub cause: SizeCause,
    /// How many machines go.
    pub going: u32,
    /// The machines that may be among them, those first that the default termination policy takes first.
    pub candidates: Vec<MachineId>,
    /// What else sets the size: resources of the template.
    pub scaled_by: Vec<String>,
}

/// Why a group has its size after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SizeCause {
    /// The template's size is the same as before, so the live one is kept.
    Kept,
    /// The template's size changes.
    Changed,
    /// The template sets the size with every change.
    Reset,
    /// The live size is below the minimum after the change.
    BelowMinimum,
    /// The live size is above the maximum after the change.
    AboveMaximum,
    /// The group is replaced by a new one.
    Replaced,
    /// The group is deleted.
    Deleted,
}

/// What the plan does to the sizes of the groups that live.
pub fn sizes(
    plan: &StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    parameters: &BTreeMap<String, ParameterValue>,
    groups: &[Group],
    region: &str,
) -> Vec<GroupSize> {
    let (StackAction::Update, Some(existing)) = (&plan.action, existing) else { return Vec::new() };
    let Some(old) = existing.document else { return Vec::new() };
    let stack = desired.stack.cloud_name.as_str();
    let deployed: BTreeMap<String, ParameterValue> = existing
        .stack
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), ParameterValue::Known(value.clone())))
        .collect();
    let before = Conditions { document: old, parameters: &deployed, region, stack };
    let after = Conditions { document: desired.document, parameters, region, stack };
    let (olds, news) = (document::resources(old), document::resources(desired.document));
    let touched = plan.resources.iter().filter(|resource| resource.resource_type == GROUP);
    let sizes = touched.filter_map(|resource| {
        let old = Sizes::of(olds.get(resource.resource.as_str())?, &before);
        let group = groups.iter().find(|group| is_group(group, resource, stack, &old))?;
        let new = news.get(resource.resource.as_str()).map(|new| (Sizes::of(new, &after), keeps_sizes(new)));
        let scaled_by = scalers(desired.document, &resource.resource);
        one(resource, group, &old, new.as_ref(), scaled_by)
    });
    sizes.collect()
}

/// The sizes that a template gives a group. `Unknown` is not the same as saying nothing.
struct Sizes {
    name: Option<String>,
    min: Given,
    max: Given,
    desired: Given,
}

#[derive(Clone, Copy, PartialEq)]
enum Given {
    Nothing,
    Unknown,
    Number(u32),
}

impl Sizes {
    fn of(resource: &Value, conditions: &Conditions<'_>) -> Self {
        let property = |name: &str| resource.get("Properties").and_then(|all| all.get(name));
        let number = |name: &str| match property(name) {
            None => Given::Nothing,
            Some(value) if value.get("Ref").is_some_and(|r| r == "AWS::NoValue") => Given::Nothing,
            Some(value) => {
                let known = conditions.text(value).and_then(|text| text.trim().parse().ok());
                known.map_or(Given::Unknown, Given::Number)
            }
        };
        Self {
            name: property("AutoScalingGroupName").and_then(|name| conditions.text(name)),
            min: number("MinSize"),
            max: number("MaxSize"),
            desired: number("DesiredCapacity"),
        }
    }
}

fn is_group(group: &Group, resource: &ResourcePlan, stack: &str, old: &Sizes) -> bool {
    let tag = |key: &str| group.tags.get(key).map(String::as_str);
    match (tag(STACK_NAME), tag(LOGICAL_ID)) {
        (Some(name), Some(id)) => name == stack && id == resource.resource,
        _ => old.name.as_deref() == Some(group.name.as_str()),
    }
}

/// Whether CloudFormation sets only the sizes that the template changes.
fn keeps_sizes(resource: &Value) -> bool {
    let at = "/UpdatePolicy/AutoScalingScheduledAction/IgnoreUnmodifiedGroupSizeProperties";
    resource.pointer(at).is_some_and(|value| value == &Value::Bool(true) || value == "true")
}

fn scalers(template: &Value, group: &str) -> Vec<String> {
    let uses = |resource: &Value| document::references(resource).iter().any(|r| r.name() == group);
    let all = document::resources(template).into_iter();
    let all =
        all.filter(|(_, resource)| SCALERS.contains(&document::resource_type(resource)) && uses(resource));
    all.map(|(name, _)| name.to_owned()).collect()
}

fn one(
    resource: &ResourcePlan,
    group: &Group,
    old: &Sizes,
    new: Option<&(Sizes, bool)>,
    scaled_by: Vec<String>,
) -> Option<GroupSize> {
    let live = group.capacity.desired;
    let size = |template: Given, after: Option<u32>, cause: SizeCause| {
        let replaced = matches!(cause, SizeCause::Replaced | SizeCause::Deleted);
        let going = if replaced { live } else { after.map_or(0, |after| live.saturating_sub(after)) };
        let candidates =
            if going > 0 || after.is_none() { in_order_of_termination(group) } else { Vec::new() };
        GroupSize {
            group: group.name.clone(),
            resource: resource.resource.clone(),
            live,
            template: if let Given::Number(number) = template { Some(number) } else { None },
            after,
            cause,
            going,
            candidates,
            scaled_by: scaled_by.clone(),
        }
    };
    let Some((new, keeps)) = new else { return Some(size(Given::Nothing, Some(0), SizeCause::Deleted)) };
    if resource.action == Action::Replace {
        let after = match (new.desired, new.min) {
            (Given::Number(number), _) | (Given::Nothing, Given::Number(number)) => Some(number),
            _ => None,
        };
        return Some(size(new.desired, after, SizeCause::Replaced));
    }
    // What the template does not change, the policy leaves as it is.
    let bound = |old: Given, new: Given, live: u32| match new {
        Given::Nothing => Some(live),
        new if *keeps && new == old && new != Given::Unknown => Some(live),
        Given::Number(number) => Some(number),
        Given::Unknown => None,
    };
    let min = bound(old.min, new.min, group.capacity.min);
    let max = bound(old.max, new.max, group.capacity.max);
    let target = bound(old.desired, new.desired, live);
    let cause = match new.desired {
        Given::Nothing => SizeCause::Kept,
        new if *keeps && new == old.desired => SizeCause::Kept,
        new if new == old.desired => SizeCause::Reset,
        _ => SizeCause::Changed,
    };
    let (Some(target), Some(min), Some(max)) = (target, min, max) else {
        return Some(size(new.desired, None, SizeCause::Changed));
    };
    let (after, cause) = match target {
        target if target > max => (max, SizeCause::AboveMaximum),
        target if target < min => (min, SizeCause::BelowMinimum),
        target => (target, cause),
    };
    let differs = matches!(new.desired, Given::Number(number) if number != live);
    let is_news = after != live || differs || cause == SizeCause::Changed;
    is_news.then(|| size(new.desired, Some(after), cause))
}

/// The machines in the order in which the default termination policy takes them, as far as that can be told: from
/// the zone with the most of them, then those of the oldest launch template version.
fn in_order_of_termination(group: &Group) -> Vec<MachineId> {
    let serving = |i: &&GroupInstance| matches!(i.lifecycle, Lifecycle::Pending | Lifecycle::InService);
    let mut left: Vec<&GroupInstance> = group.instances.iter().filter(serving).collect();
    let version = |instance: &GroupInstance| {
        instance
            .launch_template
            .as_ref()
            .and_then(|template| template.version.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let mut order = Vec::new();
    while !left.is_empty() {
        let in_zone = |zone: &str| left.iter().filter(|instance| instance.zone == zone).count();
        let next = left.iter().enumerate().min_by_key(|(_, instance)| {
            (std::cmp::Reverse(in_zone(&instance.zone)), version(instance), instance.id.clone())
        });
        let Some((at, _)) = next else { break };
        order.push(left.remove(at).id.clone());
    }
    order
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
