//! The sentences of a plan on sizes of groups, and on what to think about.

use super::words::{count, list};
use crate::plan::sizes::{GroupSize, SizeCause};
use crate::plan::stack::StackPlan;
use crate::plan::warnings::Warning;

/// A warning, and what to do about it.
pub fn warning(warning: &Warning, stack: &StackPlan) -> String {
    match warning {
        Warning::ExportInUse { export, output, goes, importers } => {
            let what = if *goes { "goes" } else { "may get another value" };
            let importers: Vec<String> = importers.iter().map(|name| format!("`{name}`")).collect();
            format!(
                "Export `{export}` (output {output}) {what}, but {} it, and CloudFormation refuses that: the \
                 update would fail and roll back. Make the importers use something else first.",
                imports(&importers)
            )
        }
        Warning::NameTaken { resource, property, name } => format!(
            "{resource} is replaced and keeps its {property} `{name}`: the new one can't be made while the old one \
             has that name, so the update would fail. Change {property} in the same commit."
        ),
        Warning::Renamed { from, to, resource_type } => format!(
            "{from} goes and {to} comes, and both look like the same {resource_type}: a logical id that changes \
             destroys the resource and what it holds. Keep `{from}`, or move it with a stack refactor of \
             CloudFormation before."
        ),
        Warning::StackRenamed { from } => format!(
            "{from} holds the same resources and is not in the repository any more. If {} is its new name, keep \
             what it holds: give {} the `cloud_name` `{from}` instead of creating it.",
            stack.stack, stack.stack
        ),
    }
}

fn imports(importers: &[String]) -> String {
    let verb = if importers.len() == 1 { "imports" } else { "import" };
    format!("{} {verb}", list(importers))
}

/// What happens to the size of a group.
pub fn size(size: &GroupSize) -> String {
    let GroupSize { group, live, after, .. } = size;
    let has = format!("Group {group} has {}", count(*live as usize, "machine"));
    let template = size.template.map_or_else(String::new, |number| format!(" ({number} in the template)"));
    let to = after.map_or_else(|| "a size known only after apply".to_owned(), |after| after.to_string());
    let mut text = match size.cause {
        SizeCause::Kept => {
            format!("{has}{template}: they are kept, since the template's size does not change.")
        }
        SizeCause::Changed => format!("{has}; the template changes that to {to}."),
        SizeCause::Reset => format!(
            "{has}; this change sets it back to the template's {to}, since its UpdatePolicy has \
             IgnoreUnmodifiedGroupSizeProperties off."
        ),
        SizeCause::BelowMinimum => {
            format!("{has}, fewer than its minimum after the change: it grows to {to}.")
        }
        SizeCause::AboveMaximum => {
            format!("{has}, more than its maximum after the change: it shrinks to {to}.")
        }
        SizeCause::Replaced => format!("{has}; a new group with {to} takes its place, and all of them go."),
        SizeCause::Deleted => format!("{has}; the group is deleted, and all of them go."),
    };
    let ids: Vec<&str> = size.candidates.iter().map(crate::model::name::MachineId::as_str).collect();
    let going = size.going as usize;
    if after.is_none() && !ids.is_empty() {
        text.push_str(&format!(" Any of its machines may go: {}.", ids.join(", ")));
    } else if going > 0 && going >= ids.len() {
        text.push_str(&format!(" Going: {}.", ids.join(", ")));
    } else if going > 0 {
        let (first, rest) = ids.split_at(going);
        text.push_str(&format!(
            " {} of these go, by the default termination policy the first: {}; {}.",
            going,
            first.join(", "),
            rest.join(", ")
        ));
    }
    if !size.scaled_by.is_empty() && size.cause != SizeCause::Deleted {
        let names: Vec<String> = size.scaled_by.iter().map(|name| format!("`{name}`")).collect();
        let (verb, it) = if names.len() == 1 { ("sets", "it") } else { ("set", "them") };
        text.push_str(&format!(
            " {} {verb} its size as well: leave DesiredCapacity out of the template and leave that to {it}.",
            list(&names)
        ));
    }
    text
}
