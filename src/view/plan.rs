//! Plans, for people and as JSON.

use std::fmt::Write as _;

use super::paint::{BAD, BOLD, CHANGE, DIM, GOOD, NOTE, Paint};
use super::warnings;
use super::words::{count, list};
use crate::model::deployed::{Action, PropertyChange};
use crate::model::name::StackName;
use crate::model::nested::shown;
use crate::plan::secret::{Handling, Uncompared};
use crate::plan::stack::{
    Claim, Consequence, LeftStack, ParameterValue, Plan, Reason, ResourcePlan, StackAction, StackPlan,
    UserDataEffect,
};

/// Longer values are cut: the line must stay one.
const LONGEST_VALUE: usize = 60;

/// The plan's JSON document.
///
/// # Errors
/// When it can't be written as JSON.
pub fn json(plan: &Plan) -> Result<serde_json::Value, serde_json::Error> {
    let mut document = serde_json::to_value(plan)?;
    if let Some(map) = document.as_object_mut() {
        map.insert("changes".to_owned(), plan.has_changes().into());
    }
    Ok(document)
}

/// The plan for people.
pub fn human(plan: &Plan, paint: Paint) -> String {
    let mut out = String::new();
    let width = plan.stacks.iter().map(|stack| stack.stack.as_str().len()).max().unwrap_or(0);
    for stack in plan.stacks.iter().filter(|stack| !is_quiet(stack)) {
        one(&mut out, stack, &plan.region, width, paint);
        out.push('\n');
    }
    let quiet: Vec<&StackPlan> = plan.stacks.iter().filter(|stack| is_quiet(stack)).collect();
    for stack in &quiet {
        let _ = writeln!(out, "{:width$}   {}   no change", stack.stack, plan.region);
        for open in &stack.uncompared {
            let _ = writeln!(out, "  {} {}", paint.paint(DIM, "?"), uncompared(open));
            let name = format!("{}.{}", stack.stack, open.parameter);
            let _ = writeln!(out, "    `--set-secret {name}` sets it");
        }
    }
    if !quiet.is_empty() {
        out.push('\n');
    }
    for left in &plan.left {
        let _ = writeln!(out, "{}", left_text(left, paint));
    }
    if !plan.left.is_empty() {
        out.push('\n');
    }
    if let Some(change) = &plan.access {
        let _ = writeln!(out, "{}", super::access::human(change, paint));
    }
    if let Some(change) = &plan.notify {
        let _ = writeln!(out, "{}", super::notify::human(change, paint));
    }
    let _ = writeln!(out, "{}", summary(plan));
    out
}

fn left_text(left: &LeftStack, paint: Paint) -> String {
    let (name, status) = (&left.cloud_name, &left.status);
    if left.delete {
        format!(
            "{} {name} ({status}) is deleted, with all it holds: the repository no longer has it",
            paint.paint(BAD, "-")
        )
    } else {
        format!(
            "{} {name} ({status}) is not in the repository any more, and is kept: `fleetwright apply --prune` deletes it",
            paint.paint(NOTE, "!")
        )
    }
}

pub(super) fn is_quiet(stack: &StackPlan) -> bool {
    stack.action == StackAction::Unchanged && stack.consequences.is_empty()
}

fn one(out: &mut String, stack: &StackPlan, region: &str, width: usize, paint: Paint) {
    let name = paint.paint(BOLD, &format!("{:width$}", stack.stack));
    let _ = writeln!(out, "{name}   {region}   {}", headline(stack));
    if let StackAction::Blocked(blocked) = &stack.action {
        let _ = writeln!(out, "  {} {}", paint.paint(BAD, "✗"), blocked.why);
        let _ = writeln!(out, "    next: {}", blocked.next);
        return;
    }
    let longest = stack.parameters.iter().map(|p| p.name.len()).max().unwrap_or(0);
    for parameter in &stack.parameters {
        let after = match &parameter.after {
            ParameterValue::Known(text) => short(text),
            ParameterValue::AfterApply(references) => format!("{references}, known after apply"),
            ParameterValue::Hidden => "(hidden)".to_owned(),
        };
        let (sign, values) = match &parameter.before {
            Some(before) => (paint.paint(CHANGE, "~"), format!("{} -> {after}", short(before))),
            None => (paint.paint(GOOD, "+"), after),
        };
        let _ = writeln!(out, "  {sign} parameter {:longest$}   {values}", parameter.name);
    }
    for open in &stack.uncompared {
        let _ = writeln!(out, "  {} {}", paint.paint(DIM, "?"), uncompared(open));
    }
    for tag in &stack.tags {
        let _ = writeln!(out, "  {} tag {}   {}", sign_of(tag, paint), tag.path, values(tag));
    }
    if let Some(protect) = stack.protect {
        let (sign, words) =
            if protect { (paint.paint(GOOD, "+"), "on") } else { (paint.paint(BAD, "-"), "off") };
        let _ = writeln!(out, "  {sign} protection from deletion {words}");
    }
    if let Some(diff) = &stack.policy {
        let _ = writeln!(out, "  {} policy", paint.paint(CHANGE, "~"));
        unified(out, diff, paint);
    }
    for hook in &stack.hooks {
        let _ = writeln!(out, "  {} {} {}", paint.paint(NOTE, "$"), hook.when.name(), hook.command.join(" "));
    }
    for output in &stack.outputs {
        let _ = writeln!(out, "  {} output {}   {}", sign_of(output, paint), output.path, values(output));
    }
    let names = stack.resources.iter().map(|r| r.resource.len()).max().unwrap_or(0);
    let types = stack.resources.iter().map(|r| r.resource_type.len()).max().unwrap_or(0);
    for resource in &stack.resources {
        self::resource(out, resource, names, types, paint);
    }
    for text in notes(stack) {
        let _ = writeln!(out, "  {} {text}", paint.paint(NOTE, "!"));
    }
}

/// What follows from a plan and what to think about, a sentence or two each.
pub(super) fn notes(stack: &StackPlan) -> Vec<String> {
    let warnings = stack.warnings.iter().map(|warning| warnings::warning(warning, stack));
    let sizes = stack.sizes.iter().map(warnings::size);
    let consequences = stack.consequences.iter().map(|consequence| consequence_text(consequence, stack));
    warnings.chain(sizes).chain(consequences).collect()
}

/// A parameter that was not compared, and what apply does with it.
pub(super) fn uncompared(open: &Uncompared) -> String {
    let apply = match open.apply {
        Handling::Keeps => "the stack keeps the value it has",
        Handling::Sends => "the update sends the value that the repository has",
        Handling::Defaults => "the update sets it to the template's default",
    };
    format!("parameter {}   not compared (NoEcho): {apply}", open.parameter)
}

pub(super) fn headline(stack: &StackPlan) -> String {
    let to_roll = match machines_to_roll(stack) {
        0 => String::new(),
        machines => format!(", {} to be replaced", count(machines, "machine")),
    };
    let resources = stack.resources.len();
    let going: usize = stack.sizes.iter().map(|size| size.going as usize).sum();
    let to_roll = match going {
        0 => to_roll,
        going => format!("{to_roll}, {} to go", count(going, "machine")),
    };
    match &stack.action {
        StackAction::Create => format!("create, {}", count(resources, "resource")),
        StackAction::Update if resources == 0 => format!("update, {}{to_roll}", without_resources(stack)),
        StackAction::Update => format!("update, {}{to_roll}", count(resources, "resource")),
        StackAction::Unchanged => format!("no change{to_roll}"),
        StackAction::Blocked(blocked) => format!("blocked: {}", blocked.status),
    }
}

/// What an update changes that reaches no resource.
fn without_resources(stack: &StackPlan) -> String {
    let mut parts = Vec::new();
    if !stack.outputs.is_empty() {
        parts.push(format!("{} and no resource", count(stack.outputs.len(), "output")));
    } else if stack.reasons.contains(&Reason::Template) {
        parts.push("the template's text and no resource".to_owned());
    }
    if stack.protect.is_some() {
        parts.push("protection".to_owned());
    }
    if stack.policy.is_some() {
        parts.push("policy".to_owned());
    }
    if parts.is_empty() { "no resource".to_owned() } else { parts.join(", ") }
}

fn resource(out: &mut String, plan: &ResourcePlan, names: usize, types: usize, paint: Paint) {
    let (sign, words) = match plan.action {
        Action::Create => (paint.paint(GOOD, "+"), "create"),
        Action::Update => (paint.paint(CHANGE, "~"), "update in place"),
        Action::MaybeReplace => (paint.paint(CHANGE, "±"), "may be replaced"),
        Action::Replace => (paint.paint(BAD, "±"), "replace"),
        Action::Delete => (paint.paint(BAD, "-"), "delete"),
    };
    let claim = match plan.claim {
        Claim::Confirmed => "confirmed",
        Claim::Predicted => "predicted",
        Claim::Unknown => "unknown",
    };
    let _ = writeln!(
        out,
        "  {sign} {:names$}   {:types$}   {words:15}   {}",
        plan.resource,
        plan.resource_type,
        paint.paint(DIM, claim)
    );
    let longest = plan.properties.iter().map(|p| p.path.len()).max().unwrap_or(0);
    for property in &plan.properties {
        let line = format!("      {:longest$}   {}", property.path, values(property));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if let Some(user_data) = &plan.user_data {
        match &user_data.diff {
            None => {
                let _ = writeln!(out, "      user data, {}", count(user_data.lines, "line"));
            }
            Some(diff) => {
                let _ = writeln!(out, "      user data{}", effect_text(user_data.effects.as_deref()));
                for effect in user_data.effects.iter().flatten() {
                    let sign = match effect.change.as_str() {
                        "added" => paint.paint(GOOD, "+"),
                        "removed" => paint.paint(BAD, "-"),
                        _ => paint.paint(CHANGE, "~"),
                    };
                    let _ = writeln!(out, "        {sign} {} {}", effect.what, short(&effect.name));
                }
                unified(out, diff, paint);
            }
        }
    }
}

/// Behind `user data`: whether a machine would notice the change at all.
pub(super) fn effect_text(effects: Option<&[UserDataEffect]>) -> &'static str {
    match effects {
        Some([]) => ", which does the same as before",
        Some(_) | None => "",
    }
}

/// A difference in unified form.
pub(super) fn unified(out: &mut String, diff: &str, paint: Paint) {
    for line in diff.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => GOOD,
            Some(b'-') => BAD,
            _ => DIM,
        };
        let _ = writeln!(out, "        {}", paint.paint(style, line));
    }
}

fn sign_of(change: &PropertyChange, paint: Paint) -> String {
    match (&change.before, &change.after) {
        (None, _) => paint.paint(GOOD, "+"),
        (Some(_), None) => paint.paint(BAD, "-"),
        (Some(_), Some(_)) => paint.paint(CHANGE, "~"),
    }
}

pub(super) fn values(change: &PropertyChange) -> String {
    match (&change.before, &change.after) {
        (None, None) => String::new(),
        (None, Some(after)) => format!("-> {}", short(after)),
        (Some(before), None) => format!("{} -> (none)", short(before)),
        (Some(before), Some(after)) => format!("{} -> {}", short(before), short(after)),
    }
}

/// One line, and not too long; an empty text is shown as such.
fn short(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let text = shown(text);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(LONGEST_VALUE) {
        None => line,
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

pub(super) fn consequence_text(consequence: &Consequence, stack: &StackPlan) -> String {
    match consequence {
        Consequence::MachinesToRoll { launch_template, version, made_by_apply, machines, .. } => {
            let mut by_version: Vec<(Option<&str>, Vec<&str>)> = Vec::new();
            for machine in machines {
                let version = machine.version.as_deref();
                match by_version.iter_mut().find(|(known, _)| *known == version) {
                    Some((_, ids)) => ids.push(machine.id.as_str()),
                    None => by_version.push((version, vec![machine.id.as_str()])),
                }
            }
            let running: Vec<String> = by_version
                .into_iter()
                .map(|(version, ids)| {
                    let verb = if ids.len() == 1 { "runs" } else { "run" };
                    let what = version.map_or("no launch template".to_owned(), |v| format!("version {v}"));
                    format!("{} {verb} {what} ({})", count(ids.len(), "machine"), ids.join(", "))
                })
                .collect();
            let new = if *made_by_apply { "will be" } else { "is" };
            let it = if machines.len() == 1 { "It keeps" } else { "They keep" };
            format!(
                "Launch template {launch_template} {new} at version {version}; {}. {it} it until \
                 `fleetwright roll {}`.",
                list(&running),
                stack.stack
            )
        }
    }
}

fn machines_to_roll(stack: &StackPlan) -> usize {
    stack
        .consequences
        .iter()
        .map(|consequence| match consequence {
            Consequence::MachinesToRoll { machines, .. } => machines.len(),
        })
        .sum()
}

/// The last lines: what apply would do in one sentence, and the next step.
pub fn summary(plan: &Plan) -> String {
    let number = |wanted: fn(&StackAction) -> bool| plan.stacks.iter().filter(|s| wanted(&s.action)).count();
    let create = number(|action| matches!(action, StackAction::Create));
    let update = number(|action| matches!(action, StackAction::Update));
    let unchanged = number(|action| matches!(action, StackAction::Unchanged));
    let blocked = number(|action| matches!(action, StackAction::Blocked(_)));
    let machines: usize = plan.stacks.iter().map(machines_to_roll).sum();
    let mut parts = Vec::new();
    let delete = plan.deleted().count();
    for (number, words) in [(create, "to create"), (update, "to update"), (delete, "to delete")] {
        match (number, parts.is_empty()) {
            (0, _) => {}
            (_, true) => parts.push(format!("{} {words}", count(number, "stack"))),
            (_, false) => parts.push(format!("{number} {words}")),
        }
    }
    if plan.access.is_some() {
        parts.push("access to change".to_owned());
    }
    if plan.notify.is_some() {
        parts.push("notifications to change".to_owned());
    }
    let mut text = if parts.is_empty() && blocked == 0 {
        match unchanged {
            1 => "Plan: no change; 1 stack is as the repository says.".to_owned(),
            many => format!("Plan: no change; {} are as the repository says.", count(many, "stack")),
        }
    } else {
        if blocked > 0 {
            parts.push(format!("{blocked} blocked"));
        }
        if unchanged > 0 {
            parts.push(format!("{unchanged} unchanged"));
        }
        format!("Plan: {}.", parts.join(", "))
    };
    let open: usize = plan.stacks.iter().map(|stack| stack.uncompared.len()).sum();
    if open > 0 {
        let (values, were) = (count(open, "value"), if open == 1 { "was" } else { "were" });
        let _ = write!(text, " {values} of NoEcho parameters {were} not compared.");
    }
    if !plan.not_selected.is_empty() {
        let _ = write!(text, " {}", not_selected(&plan.not_selected));
    }
    if machines > 0 {
        let _ = write!(text, " {} would be replaced by a roll.", count(machines, "machine"));
    }
    text
}

/// What a plan or an apply of some stacks leaves out.
pub fn not_selected(stacks: &[StackName]) -> String {
    let names: Vec<String> = stacks.iter().map(|name| format!("`{name}`")).collect();
    format!("Not asked for: {}.", list(&names))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
