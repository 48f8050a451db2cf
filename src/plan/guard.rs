//! Stack policies in a plan: how they change, and what they will not let happen.

use serde_json::Value;
use similar::TextDiff;

use super::stack::{Blocked, Claim, Desired, Existing, ResourcePlan, StackAction, StackPlan};
use crate::model::deployed::Action;
use crate::model::stack_policy::{Denial, same};

/// How a stack's policy changes, in unified form; `None` where it stays.
pub fn policy_change(desired: Desired<'_>, existing: Option<Existing<'_>>) -> Option<String> {
    let wanted = desired.stack.policy.as_ref()?.document();
    let text = existing.and_then(|existing| existing.stack.policy.as_deref());
    let deployed = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
    if deployed.as_ref().is_some_and(|deployed| same(deployed, &wanted)) {
        return None;
    }
    let pretty = |value: &Value| format!("{value:#}\n");
    let before = deployed.as_ref().map(pretty).unwrap_or_default();
    let after = pretty(&wanted);
    Some(TextDiff::from_lines(before.as_str(), after.as_str()).unified_diff().context_radius(2).to_string())
}

/// Blocks the update of a stack whose policy will refuse it: CloudFormation would begin, fail and roll back.
pub fn hold_back(plan: &mut StackPlan, desired: Desired<'_>, existing: Option<Existing<'_>>) {
    let (Some(policy), Some(existing), StackAction::Update) = (&desired.stack.policy, existing, &plan.action)
    else {
        return;
    };
    let denied = plan.resources.iter().find_map(|resource| {
        let action = action(resource)?;
        let denial = policy.denial(action, &resource.resource, &resource.resource_type)?;
        Some((action, resource, denial))
    });
    let Some((action, resource, denial)) = denied else { return };
    let by = match denial {
        Denial::Statement(number) => format!("statement {number} of its policy denies"),
        Denial::NotAllowed => "no statement of its policy allows".to_owned(),
    };
    plan.action = StackAction::Blocked(Blocked {
        status: existing.stack.status.clone(),
        why: format!("{by} {action} of {} ({})", resource.resource, resource.resource_type),
        next: format!(
            "leave {} as it is, or change `policy` of `{}` in stacks/ for this change",
            resource.resource, plan.stack
        ),
    });
}

/// What the policy calls it; `None` for what no policy is about, or what may not come.
fn action(resource: &ResourcePlan) -> Option<&'static str> {
    match (resource.action, resource.claim) {
        (_, Claim::Unknown) | (Action::Create | Action::MaybeReplace, _) => None,
        (Action::Update, _) => Some("Update:Modify"),
        (Action::Replace, _) => Some("Update:Replace"),
        (Action::Delete, _) => Some("Update:Delete"),
    }
}
