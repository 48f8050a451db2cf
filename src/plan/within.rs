//! Whether a change set stays within a plan: nothing is applied that was not planned.

use super::replacement;
use super::stack::{Claim, ResourcePlan, StackPlan};
use crate::model::deployed::{Action, ChangeSet, ResourceChange};

/// What a change set would do that the plan did not say; empty when it may be executed.
pub fn beyond(plan: &StackPlan, change_set: &ChangeSet) -> Vec<String> {
    let beyond = change_set.changes.iter().filter_map(|change| {
        let planned = plan.resources.iter().find(|resource| resource.resource == change.resource);
        let actual = replacement::action(change, planned.map_or(&[], |planned| &planned.properties));
        match planned {
            // What is within a nested stack is told only by a change set: a plan that had none speaks of
            // the nested stack as a whole.
            None if is_within_planned(plan, &change.resource) => None,
            None => {
                Some(format!("it would {} {}, of which the plan says nothing", verb(actual), name(change)))
            }
            Some(planned) if allows(planned, actual) => None,
            Some(planned) => Some(format!(
                "it would {} {}, where the plan says {}",
                verb(actual),
                name(change),
                verb(planned.action)
            )),
        }
    });
    beyond.collect()
}

fn is_within_planned(plan: &StackPlan, resource: &str) -> bool {
    let Some((outer, _)) = resource.split_once('.') else { return false };
    let mut planned = plan.resources.iter();
    planned.any(|planned| planned.resource == outer && planned.claim != Claim::Confirmed)
}

fn name(change: &ResourceChange) -> String {
    format!("`{}` ({})", change.resource, change.resource_type)
}

fn allows(planned: &ResourcePlan, actual: Action) -> bool {
    match (planned.action, actual) {
        (planned, actual) if planned == actual => true,
        // Less than was planned is within the plan.
        (Action::Replace, Action::MaybeReplace | Action::Update) => true,
        (Action::MaybeReplace, Action::Update) => true,
        (Action::MaybeReplace, Action::Replace) => planned.claim == Claim::Unknown,
        // A prediction speaks of what it knows; that a value known only later may replace
        // the resource is part of it, and the plan says so by the claim.
        (Action::Update, Action::MaybeReplace) => planned.claim == Claim::Unknown,
        (
            Action::Create | Action::Update | Action::MaybeReplace | Action::Replace | Action::Delete,
            Action::Create | Action::Update | Action::MaybeReplace | Action::Replace | Action::Delete,
        ) => false,
    }
}

/// The word for an action in a sentence.
pub fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::MaybeReplace => "perhaps replace",
        Action::Replace => "replace",
        Action::Delete => "delete",
    }
}
