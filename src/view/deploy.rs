//! What a deployment would change, service by service.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::paint::{BAD, CHANGE, DIM, GOOD, Paint};
use crate::model::name::MachineId;
use crate::plan::comparison::Comparison;
use crate::plan::deploy::{FieldChange, JobAction, ServiceAction, ServicePlan};
use crate::plan::host_file::{HostFileAction, HostFilePlan, MachineEffect, Rendered};

/// The plan as people read it.
pub fn human(compared: &Comparison, paint: Paint) -> String {
    let Comparison { services: plans, jobs, host_files, notes: _ } = compared;
    let mut text = String::new();
    for plan in plans.iter().filter(|plan| plan.has_changes()) {
        let _ = writeln!(text, "{}", head(plan, paint));
        text.push_str(&changes(&plan.changes));
    }
    for plan in jobs.iter().filter(|plan| plan.has_changes()) {
        let (sign, words) = match plan.action {
            JobAction::Create => (paint.paint(GOOD, "+"), "is created"),
            JobAction::Change | JobAction::Nothing => {
                (paint.paint(CHANGE, "~"), "is changed from its next occurrence on")
            }
        };
        let _ = writeln!(text, "  {sign} job {}   {words}", plan.job);
        text.push_str(&changes(&plan.changes));
    }
    for plan in host_files.iter().filter(|plan| plan.has_changes()) {
        text.push_str(&host_file(plan, paint));
    }
    for plan in plans {
        if let Some(note) = note(plan) {
            let _ = writeln!(text, "  {note}");
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&summary(compared));
    text.push('\n');
    text
}

/// The section of a plan that lists services and jobs; `named` is what the command that deploys them needs to
/// name their environment.
pub fn section(compared: &Comparison, named: &str, paint: Paint) -> String {
    let mut text = format!("\n{}\n\n{}", heading(compared), human(compared, paint));
    for note in &compared.notes {
        let _ = writeln!(text, "  {} {note}", paint.paint(DIM, "?"));
    }
    if compared.has_changes() {
        let _ = writeln!(text, "Deploy them with `fleetwright deploy{named}`.");
    }
    text
}

/// The same in the document of a plan.
pub fn beside(document: &mut Value, compared: &Comparison) {
    if let Some(map) = document.as_object_mut() {
        let changes = map.get("changes") == Some(&Value::Bool(true)) || compared.has_changes();
        map.insert("changes".to_owned(), changes.into());
        map.insert("services".to_owned(), json!(compared.services));
        map.insert("jobs".to_owned(), json!(compared.jobs));
        map.insert("host_files".to_owned(), json!(compared.host_files));
        map.insert("notes".to_owned(), json!(compared.notes));
    }
}

fn heading(compared: &Comparison) -> &'static str {
    if compared.host_files.is_empty() { "Services and jobs" } else { "Services, jobs and watched files" }
}

fn all(compared: &Comparison) -> &'static str {
    if compared.jobs.is_empty() {
        "All services and watched files"
    } else {
        "All services, jobs and watched files"
    }
}

/// A watched file that changes: its fields, and what becomes of it on machines.
fn host_file(plan: &HostFilePlan, paint: Paint) -> String {
    let (sign, words) = match plan.action {
        HostFileAction::Create => (paint.paint(GOOD, "+"), "is created"),
        HostFileAction::Change | HostFileAction::Nothing => (paint.paint(CHANGE, "~"), "is changed"),
    };
    let mut text = format!("  {sign} watched file {} ({})   {words}\n", plan.name, plan.path);
    text.push_str(&changes(&plan.changes));
    if plan.machines.is_empty() {
        let _ = writeln!(text, "      {}", paint.paint(DIM, "no machine gets another text"));
    }
    for effect in &plan.machines {
        text.push_str(&machine_effect(effect, paint));
    }
    text
}

/// What happens on machines, with the difference between the texts.
pub fn machine_effect(effect: &MachineEffect, paint: Paint) -> String {
    let names: Vec<&str> = effect.machines.iter().map(MachineId::as_str).collect();
    let on = match names.as_slice() {
        [one] => format!("on {one}"),
        [first, second] => format!("on {first} and {second}"),
        [first, second, rest @ ..] => format!("on {first}, {second} and {} more", rest.len()),
        [] => String::new(),
    };
    match &effect.change {
        Rendered::Same => String::new(),
        Rendered::New { lines } => {
            let lines = if *lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
            format!("      {} {on}: a new file with {lines}\n", paint.paint(GOOD, "+"))
        }
        Rendered::Left => {
            format!("      {} {on}: the file stays, and is not kept up to date\n", paint.paint(DIM, "-"))
        }
        Rendered::Failed { reason } => {
            format!("      {} {on}: it can't be rendered: {}\n", paint.paint(BAD, "!"), one_line(reason))
        }
        Rendered::Changed { diff } => {
            let mut text = format!("      {} {on}:\n", paint.paint(CHANGE, "~"));
            for line in diff.lines().filter(|line| !line.starts_with("---") && !line.starts_with("+++")) {
                let shown = one_line(line);
                let shown = match line.chars().next() {
                    Some('+') => paint.paint(GOOD, &shown).to_string(),
                    Some('-') => paint.paint(BAD, &shown).to_string(),
                    Some('@') => paint.paint(DIM, &shown).to_string(),
                    _ => shown,
                };
                let _ = writeln!(text, "          {shown}");
            }
            text
        }
    }
}

/// The fields that change, a line each.
fn changes(changes: &[FieldChange]) -> String {
    let width = changes.iter().map(|change| change.field.chars().count()).max().unwrap_or(0);
    let line = |change: &FieldChange| format!("      {:width$}   {}\n", change.field, values(change));
    changes.iter().map(line).collect()
}

fn head(plan: &ServicePlan, paint: Paint) -> String {
    match plan.action {
        ServiceAction::Create => format!("  {} {}   is created", paint.paint(GOOD, "+"), plan.service),
        ServiceAction::Replace if plan.stopped => {
            format!("  {} {}   is changed", paint.paint(CHANGE, "~"), plan.service)
        }
        ServiceAction::Replace => {
            format!("  {} {}   instances are replaced", paint.paint(CHANGE, "±"), plan.service)
        }
        ServiceAction::Adjust => {
            format!("  {} {}   no instance is replaced", paint.paint(CHANGE, "~"), plan.service)
        }
        ServiceAction::Nothing => format!("    {}", plan.service),
    }
}

fn values(change: &FieldChange) -> String {
    match (&change.before, &change.after) {
        (None, Some(after)) => shown(after),
        (Some(before), Some(after)) => format!("{} -> {}", shown(before), shown(after)),
        (Some(before), None) => format!("{} -> (not set)", shown(before)),
        (None, None) => String::new(),
    }
}

/// A value in one line, with digests as tables show them.
fn shown(value: &str) -> String {
    let value = match value.rsplit_once('@') {
        Some((name, digest)) => match digest.parse::<crate::model::name::Digest>() {
            Ok(digest) => format!("{name}@{}", digest.short()),
            Err(_) => value.to_owned(),
        },
        None => value.to_owned(),
    };
    if value.is_empty() { "\"\"".to_owned() } else { one_line(&value) }
}

/// A text in one line: its control characters are shown by their escapes.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// A remark on a service whose number of instances is not the file's.
fn note(plan: &ServicePlan) -> Option<String> {
    if plan.stopped {
        return Some(format!(
            "{0} is stopped and stays stopped; `fleetwright start {0}` starts it",
            plan.service
        ));
    }
    let count = plan.by_hand?;
    Some(format!("{} keeps {}, set with `scale`", plan.service, instances(count)))
}

fn instances(count: u32) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

fn summary(compared: &Comparison) -> String {
    let Comparison { services: plans, jobs, host_files, notes: _ } = compared;
    let count = |action| plans.iter().filter(|plan| plan.action == action).count();
    let services =
        |count: usize| if count == 1 { "1 service".to_owned() } else { format!("{count} services") };
    let (new, replaced, adjusted) =
        (count(ServiceAction::Create), count(ServiceAction::Replace), count(ServiceAction::Adjust));
    let mut parts = Vec::new();
    if new > 0 {
        parts.push(format!("{} to create", services(new)));
    }
    if replaced > 0 {
        parts.push(format!("{} to roll out", services(replaced)));
    }
    if adjusted > 0 {
        parts.push(format!("{} to adjust", services(adjusted)));
    }
    match jobs.iter().filter(|plan| plan.has_changes()).count() {
        0 => {}
        1 => parts.push("1 job to deploy".to_owned()),
        more => parts.push(format!("{more} jobs to deploy")),
    }
    match host_files.iter().filter(|plan| plan.has_changes()).count() {
        0 => {}
        1 => parts.push("1 watched file to deploy".to_owned()),
        more => parts.push(format!("{more} watched files to deploy")),
    }
    match (parts.as_slice(), plans.as_slice()) {
        ([], []) if !host_files.is_empty() => "All watched files are deployed.".to_owned(),
        ([], _) if !host_files.is_empty() => format!("{} match their files.", all(compared)),
        ([], _) if !jobs.is_empty() => "All services and jobs match their files.".to_owned(),
        ([], [one]) => format!("`{}` matches its file.", one.service),
        ([], _) => "All services match their files.".to_owned(),
        (parts, _) => format!("{}.", parts.join(", ")),
    }
}

/// The plan as JSON.
pub fn json(environment: &str, compared: &Comparison) -> Value {
    let Comparison { services, jobs, host_files, notes: _ } = compared;
    json!({
        "version": 1,
        "environment": environment,
        "changes": compared.has_changes(),
        "services": services,
        "jobs": jobs,
        "host_files": host_files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(field: &str, before: Option<&str>, after: Option<&str>) -> FieldChange {
        let own = |value: Option<&str>| value.map(str::to_owned);
        FieldChange { field: field.to_owned(), before: own(before), after: own(after) }
    }

    #[test]
    fn a_plan_names_every_field_and_what_happens_to_instances() {
        let plan = |service: &str, action, changes| ServicePlan {
            service: service.parse().expect("a name"),
            action,
            changes,
            by_hand: None,
            stopped: false,
        };
        let image = |hex: &str| format!("registry.internal:5000/demo/web@sha256:{}", hex.repeat(64));
        let plans = [
            plan(
                "web",
                ServiceAction::Replace,
                vec![
                    change("env.GREETING", Some("hello"), Some("")),
                    change("env.OLD", Some("x"), None),
                    change("image", Some(&image("a")), Some(&image("b"))),
                ],
            ),
            plan("cache", ServiceAction::Create, vec![change("replicas", None, Some("1"))]),
            ServicePlan { by_hand: Some(5), ..plan("batch", ServiceAction::Nothing, vec![]) },
            ServicePlan { stopped: true, by_hand: Some(0), ..plan("old", ServiceAction::Nothing, vec![]) },
            plan("more", ServiceAction::Adjust, vec![change("replicas", Some("2"), Some("3"))]),
        ];
        let services =
            |plans: &[ServicePlan]| Comparison { services: plans.to_vec(), ..Comparison::default() };
        insta::assert_snapshot!(human(&services(&plans), Paint(false)));
        assert_eq!(human(&services(&[]), Paint(false)), "All services match their files.\n");
        let calm = plan("web", ServiceAction::Nothing, vec![]);
        assert_eq!(human(&services(&[calm]), Paint(false)), "`web` matches its file.\n");
    }
}
