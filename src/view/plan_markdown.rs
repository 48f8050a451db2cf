//! Plans as Markdown, to stand in a pull request.

use std::fmt::Write as _;

use super::plan::{effect_text, headline, is_quiet, notes, summary, uncompared};
use super::words::count;
use crate::model::deployed::{Action, PropertyChange};
use crate::model::nested::shown;
use crate::plan::predict::AFTER_APPLY;
use crate::plan::stack::{Claim, ParameterValue, Plan, ResourcePlan, StackAction, StackPlan};

/// The plan as Markdown (GitHub's dialect, which the others read too).
pub fn markdown(plan: &Plan) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### Plan of {} for `{}` in {}\n", plan.project, plan.environment, plan.region);
    let _ = writeln!(out, "**{}**", summary(plan).trim_start_matches("Plan: "));
    for stack in plan.stacks.iter().filter(|stack| !is_quiet(stack)) {
        one(&mut out, stack);
    }
    let quiet: Vec<String> = plan
        .stacks
        .iter()
        .filter(|stack| is_quiet(stack))
        .map(|stack| format!("`{}`", stack.stack))
        .collect();
    if !quiet.is_empty() {
        let _ = writeln!(out, "\nNo change: {}", quiet.join(", "));
    }
    for left in &plan.left {
        let what = if left.delete { "**is deleted**" } else { "is kept" };
        let _ =
            writeln!(out, "\n> ⚠ {} is not in the repository any more, and {what}.", code(&left.cloud_name));
    }
    if let Some(change) = &plan.access {
        out.push_str(&super::access::markdown(change));
    }
    if let Some(change) = &plan.notify {
        out.push_str(&super::notify::markdown(change));
    }
    out
}

fn one(out: &mut String, stack: &StackPlan) {
    let _ = writeln!(out, "\n#### {}: {}\n", stack.stack, headline(stack));
    if let StackAction::Blocked(blocked) = &stack.action {
        let _ = writeln!(out, "- {}\n- next: {}", text(&blocked.why), text(&blocked.next));
        return;
    }
    for parameter in &stack.parameters {
        let after = match &parameter.after {
            ParameterValue::Known(value) => code(value),
            ParameterValue::AfterApply(references) => format!("{}, known after apply", code(references)),
            ParameterValue::Hidden => "(hidden)".to_owned(),
        };
        let before =
            parameter.before.as_deref().map_or(String::new(), |before| format!("{} → ", code(before)));
        let _ = writeln!(out, "- parameter {}: {before}{after}", code(&parameter.name));
    }
    for open in &stack.uncompared {
        let _ = writeln!(out, "- {}", text(&uncompared(open)));
    }
    for tag in &stack.tags {
        let _ = writeln!(out, "- tag {}: {}", code(&tag.path), values(tag));
    }
    if let Some(protect) = stack.protect {
        let _ = writeln!(out, "- protection from deletion {}", if protect { "on" } else { "**off**" });
    }
    if let Some(diff) = &stack.policy {
        block(out, "policy", diff);
    }
    for hook in &stack.hooks {
        let _ = writeln!(out, "- {} runs {}", hook.when.name(), code(&hook.command.join(" ")));
    }
    for output in &stack.outputs {
        let _ = writeln!(out, "- output {}: {}", code(&output.path), values(output));
    }
    if !stack.resources.is_empty() {
        if !stack.parameters.is_empty() || !stack.tags.is_empty() || !stack.hooks.is_empty() {
            out.push('\n');
        }
        out.push_str("| | Resource | Type | Change | Claim |\n|---|---|---|---|---|\n");
        for resource in &stack.resources {
            row(out, resource);
        }
        out.push('\n');
    }
    for resource in &stack.resources {
        details(out, resource);
    }
    for note in notes(stack) {
        let _ = writeln!(out, "> ⚠ {}", text(&note));
    }
}

fn row(out: &mut String, plan: &ResourcePlan) {
    let (sign, words) = match plan.action {
        Action::Create => ("+", "create"),
        Action::Update => ("~", "update in place"),
        Action::MaybeReplace => ("±", "**may be replaced**"),
        Action::Replace => ("±", "**replace**"),
        Action::Delete => ("-", "**delete**"),
    };
    let claim = match plan.claim {
        Claim::Confirmed => "confirmed",
        Claim::Predicted => "predicted",
        Claim::Unknown => "unknown",
    };
    let _ = writeln!(out, "| {sign} | `{}` | {} | {words} | {claim} |", plan.resource, plan.resource_type);
}

fn details(out: &mut String, plan: &ResourcePlan) {
    for property in &plan.properties {
        let _ = writeln!(out, "- `{}` {}: {}", plan.resource, code(&property.path), values(property));
    }
    let Some(user_data) = &plan.user_data else { return };
    let Some(diff) = &user_data.diff else {
        let _ = writeln!(out, "- `{}` user data, {}", plan.resource, count(user_data.lines, "line"));
        return;
    };
    for effect in user_data.effects.iter().flatten() {
        let _ = writeln!(
            out,
            "- `{}` user data: {} {} {}",
            plan.resource,
            effect.what,
            code(&effect.name),
            effect.change
        );
    }
    let same = effect_text(user_data.effects.as_deref());
    block(out, &format!("user data of <code>{}</code>{same}", plan.resource), diff);
}

/// A difference that is folded up.
fn block(out: &mut String, summary: &str, diff: &str) {
    // No run of backticks in the text may end the block.
    let longest = diff.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = write!(
        out,
        "\n<details><summary>{summary}</summary>\n\n{fence}diff\n{}\n{fence}\n\n</details>\n\n",
        diff.trim_end()
    );
}

fn values(change: &PropertyChange) -> String {
    match (&change.before, &change.after) {
        (None, None) => "changes".to_owned(),
        (None, Some(after)) => format!("→ {}", code(shown(after))),
        (Some(before), None) => format!("{} → none", code(shown(before))),
        (Some(before), Some(after)) => format!("{} → {}", code(shown(before)), code(shown(after))),
    }
}

/// A value as code, on one line, whatever backticks it has.
fn code(value: &str) -> String {
    if value.is_empty() || value == AFTER_APPLY {
        return if value.is_empty() { "`\"\"`".to_owned() } else { value.to_owned() };
    }
    let line: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{line}{space}{fence}")
}

/// Prose with nothing in it that Markdown would take for markup of ours.
fn text(prose: &str) -> String {
    let mut out = String::with_capacity(prose.len());
    for c in prose.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '*' | '_' | '[' | ']' | '|' | '#' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
