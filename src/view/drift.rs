//! Drift, for people and as JSON.

use std::fmt::Write as _;

use super::paint::{BAD, BOLD, CHANGE, DIM, GOOD, NOTE, Paint};
use super::plan::{unified, values};
use super::words::count;
use crate::model::drift::DriftState;
use crate::plan::drift::{DriftReport, Drifted, FoundBy, NotChecked, StackDrift};

/// The report's JSON document.
///
/// # Errors
/// When it can't be written as JSON.
pub fn json(report: &DriftReport) -> Result<serde_json::Value, serde_json::Error> {
    let mut document = serde_json::to_value(report)?;
    if let Some(map) = document.as_object_mut() {
        map.insert("drift".to_owned(), report.has_drift().into());
    }
    Ok(document)
}

/// The report for people.
pub fn human(report: &DriftReport, paint: Paint) -> String {
    let mut out = String::new();
    let names = report.stacks.iter().map(|stack| &stack.stack).chain(&report.absent);
    let names = names.chain(report.not_ours.iter().map(|other| &other.stack));
    let width = names.map(|name| name.as_str().len()).max().unwrap_or(0);
    for stack in &report.stacks {
        one(&mut out, stack, &report.region, width, paint);
    }
    for name in &report.absent {
        let _ = writeln!(out, "{name:width$}   {}   does not exist", report.region);
    }
    for other in &report.not_ours {
        let _ = writeln!(out, "{:width$}   {}   not checked: {}", other.stack, report.region, other.why);
        let _ = writeln!(out, "{:width$}     next: {}", "", other.next);
    }
    let _ = writeln!(out, "\n{}", summary(report));
    out
}

fn one(out: &mut String, stack: &StackDrift, region: &str, width: usize, paint: Paint) {
    let name = paint.paint(BOLD, &format!("{:width$}", stack.stack));
    let headline = match stack.drifted.len() {
        0 if stack.checked == 0 => "nothing could be checked".to_owned(),
        0 => format!("no drift, {} checked", count(stack.checked, "resource")),
        drifted => format!("drift in {drifted} of {}", count(stack.checked, "resource")),
    };
    let _ = writeln!(out, "{name}   {region}   {headline}");
    let width = |of: fn(&Drifted) -> &str| stack.drifted.iter().map(|d| of(d).len()).max().unwrap_or(0);
    let widths = (width(|d| &d.resource), width(|d| &d.resource_type), width(|d| &d.physical_id));
    for drifted in &stack.drifted {
        self::drifted(out, drifted, widths, paint);
    }
    // What has one reason stands on one line.
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for not_checked in &stack.not_checked {
        let name = named(not_checked);
        match reasons.iter_mut().find(|(why, _)| *why == not_checked.why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((&not_checked.why, vec![name])),
        }
    }
    for (why, names) in reasons {
        let _ = writeln!(out, "  {} not checked: {} ({why})", paint.paint(NOTE, "?"), names.join(", "));
    }
}

fn named(not_checked: &NotChecked) -> String {
    match not_checked.properties.as_slice() {
        [] => not_checked.resource.clone(),
        properties => format!("{} {}", not_checked.resource, properties.join(" ")),
    }
}

fn drifted(out: &mut String, drifted: &Drifted, widths: (usize, usize, usize), paint: Paint) {
    let sign = match drifted.state {
        DriftState::Deleted => paint.paint(BAD, "-"),
        DriftState::Modified | DriftState::InSync => paint.paint(CHANGE, "~"),
    };
    let by = match (drifted.state, drifted.found_by) {
        (DriftState::Deleted, _) => "is gone",
        (_, FoundBy::CloudFormation) => "found by CloudFormation",
        (_, FoundBy::Fleetwright) => "found by fleetwright",
    };
    let (names, types, ids) = widths;
    let (resource, kind, id) = (&drifted.resource, &drifted.resource_type, &drifted.physical_id);
    let by = paint.paint(DIM, by);
    let _ = writeln!(out, "  {sign} {resource:names$}   {kind:types$}   {id:ids$}   {by}");
    let longest = drifted.differences.iter().map(|d| d.path.len()).max().unwrap_or(0);
    for difference in &drifted.differences {
        let line = format!("      {:longest$}   {}", difference.path, values(difference));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if let Some(diff) = &drifted.user_data {
        let _ = writeln!(out, "      user data");
        unified(out, diff, paint);
    }
    if let Some(note) = &drifted.note {
        let _ = writeln!(out, "      {} {note}", paint.paint(GOOD, "i"));
    }
}

/// What was found in a sentence, and the next step.
fn summary(report: &DriftReport) -> String {
    let drifted: usize = report.stacks.iter().map(|stack| stack.drifted.len()).sum();
    let checked: usize = report.stacks.iter().map(|stack| stack.checked).sum();
    let left_out: usize = report.stacks.iter().map(|stack| stack.not_checked.len()).sum();
    let not =
        if left_out == 0 { String::new() } else { format!("; {left_out} not checked, or not as a whole") };
    if drifted == 0 {
        return format!("Drift: none in {}{not}.", count(checked, "resource"));
    }
    format!(
        "Drift: {drifted} of {}{not}.\n`fleetwright apply` does not undo it, since CloudFormation compares with what it \
         did last: change it back, or take it into the template.",
        count(checked, "resource")
    )
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
