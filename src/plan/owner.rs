//! Whose a deployed stack is.
//!
//! A name is no proof: anybody can make a stack called PROJECT-ENVIRONMENT-STACK, and two environments can
//! come to the same name. So the tags decide, which every apply writes.

use super::stack::{Blocked, is_ours};
use crate::model::deployed::{DeployedStack, Phase};
use crate::model::stack::{ENVIRONMENT_TAG, PROJECT_TAG, RenderedStack, STACK_TAG};

/// Whose a deployed stack is, which has the name of a stack of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It is the repository's.
    Ours,
    /// It is part of another stack, and changes with it.
    Nested,
    /// It has none of the tags.
    Nobody,
    /// Its tags name another owner. What a tag does not say is `None`.
    Other {
        /// The project.
        project: Option<String>,
        /// The environment.
        environment: Option<String>,
        /// The stack, as its repository names it.
        stack: Option<String>,
    },
}

/// What is to be done with a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Something that keeps it. `cloud_name` in its file is enough: the repository names it.
    Change,
    /// Its deletion, which needs the tags themselves.
    Delete,
}

/// Whose `stack` is, which is found under the name of `wanted`.
pub fn owner(wanted: &RenderedStack, stack: &DeployedStack) -> Owner {
    if stack.nested {
        return Owner::Nested;
    }
    let keys = [PROJECT_TAG, ENVIRONMENT_TAG, STACK_TAG];
    let is = |key: &str| stack.tags.get(key) == wanted.tags.get(key);
    if keys.iter().all(|key| is(key)) {
        return Owner::Ours;
    }
    let says = |key: &str| stack.tags.get(key).cloned();
    if keys.iter().all(|key| says(key).is_none()) {
        return Owner::Nobody;
    }
    Owner::Other { project: says(PROJECT_TAG), environment: says(ENVIRONMENT_TAG), stack: says(STACK_TAG) }
}

/// Why `stack` must be left alone although it has the name of `wanted`, and what to do; `None` where it may
/// be worked on for this `purpose`.
pub fn refusal(wanted: &RenderedStack, stack: &DeployedStack, purpose: Purpose) -> Option<Blocked> {
    let owner = owner(wanted, stack);
    let allowed = match (&owner, purpose) {
        (Owner::Ours, _) => true,
        (Owner::Nested, _) => false,
        // A stack that was never created holds nothing, and may have no tags. Unless they name another owner, the
        // change sets that wait for it say whose it is, and the plan and `recover` judge by them.
        (_, Purpose::Change) if stack.phase() == Phase::InReview && !names_another(wanted, stack) => true,
        (_, Purpose::Delete) if stack.phase() == Phase::InReview && !names_another(wanted, stack) => {
            !stack.waiting.is_empty() && stack.waiting.iter().all(|name| is_ours(name))
        }
        (Owner::Nobody | Owner::Other { .. }, Purpose::Change) => wanted.is_named,
        (Owner::Nobody | Owner::Other { .. }, Purpose::Delete) => false,
    };
    (!allowed).then(|| Blocked {
        status: stack.status.clone(),
        why: format!("`{}` in CloudFormation {}", stack.name, whose(wanted, &owner)),
        next: next(wanted, &owner, purpose),
    })
}

/// Whether a tag says something else than it would on a stack of ours.
fn names_another(wanted: &RenderedStack, stack: &DeployedStack) -> bool {
    [PROJECT_TAG, ENVIRONMENT_TAG, STACK_TAG]
        .iter()
        .any(|key| stack.tags.get(*key).is_some_and(|value| wanted.tags.get(*key) != Some(value)))
}

/// Whose it is, behind its name.
fn whose(wanted: &RenderedStack, owner: &Owner) -> String {
    let Owner::Other { project, environment, stack } = owner else {
        return match owner {
            Owner::Nested => "is nested in another stack, and changes with it",
            _ => "has none of fleetwright's tags: something else made it",
        }
        .to_owned();
    };
    let missing: Vec<&str> = [(PROJECT_TAG, project), (ENVIRONMENT_TAG, environment), (STACK_TAG, stack)]
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(key, _)| *key)
        .collect();
    let part = |what: &str, value: &Option<String>| value.as_ref().map(|value| format!("{what} `{value}`"));
    let mut parts = Vec::new();
    parts.extend(part("stack", stack));
    parts.extend(part("environment", environment));
    parts.extend(part("project", project));
    let here = |key: &str| wanted.tags.get(key).map_or("", String::as_str);
    let without = match missing.as_slice() {
        [] => String::new(),
        [one] => format!(" and has no tag `{one}`"),
        [one, other, ..] => format!(" and has no tags `{one}` and `{other}`"),
    };
    format!(
        "belongs to {}{without}; this is stack `{}` of environment `{}` of project `{}`",
        parts.join(" of "),
        wanted.name,
        here(ENVIRONMENT_TAG),
        here(PROJECT_TAG)
    )
}

fn next(wanted: &RenderedStack, owner: &Owner, purpose: Purpose) -> String {
    let (name, place) = (&wanted.name, &wanted.place);
    if *owner == Owner::Nested {
        return format!("give stack `{name}` ({place}) another name");
    }
    if wanted.is_named && purpose == Purpose::Delete {
        return format!(
            "if it is to be deleted from here, `fleetwright apply {name}` takes it over first; otherwise remove \
             `{name}` from the repository ({place}), which leaves it as it is"
        );
    }
    let environment = wanted.tags.get(ENVIRONMENT_TAG).map_or("ENVIRONMENT", String::as_str);
    format!(
        "if it is to be taken over, write `cloud_name: {{{environment}: {cloud}}}` into stack `{name}` ({place}), or \
         give `{name}` another name and run `fleetwright adopt {cloud}`; if not, give `{name}` another name",
        cloud = wanted.cloud_name
    )
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
