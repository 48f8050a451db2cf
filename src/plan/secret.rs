//! Values of `NoEcho` parameters: nobody tells what is deployed, so they can't be compared.
//!
//! A stack keeps the value it has where the repository has none at hand; one that is given with `--set-secret`
//! is set whatever there is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::document;
use super::stack::{Desired, Existing, ParameterValue, StackAction, StackPlan};
use crate::model::deployed::{DeployedStack, Phase};
use crate::model::name::StackName;
use crate::model::parameter::Given;
use crate::model::secret::Secret;
use crate::model::setting::Unset;
use crate::model::stack::{ParameterValue as Value, Piece, RenderedStack};
use crate::source::suggest;

/// A parameter whose value was not compared with what is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncompared {
    /// Its name.
    pub parameter: String,
    /// What apply does with it.
    pub apply: Handling,
}

/// What apply does with a value that was not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handling {
    /// The stack keeps the value it has.
    Keeps,
    /// The update sends the value that the repository has.
    Sends,
    /// The update sets it to the template's default.
    Defaults,
}

/// A value that a person gives for a `NoEcho` parameter.
#[derive(Debug, Clone)]
pub struct GivenSecret {
    /// The stack, by its name in the repository.
    pub stack: String,
    /// The parameter.
    pub parameter: String,
    /// The value.
    pub value: Secret<String>,
}

/// Why a value that a person gave can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no such stack.
    #[error("there is no stack `{stack}` to set a secret of")]
    NoStack {
        /// The stack.
        stack: String,
        /// What may have been meant, or what there is.
        next: String,
    },
    /// The stack's template has no such parameter.
    #[error("the template of stack `{stack}` has no parameter `{parameter}`")]
    NoParameter {
        /// The stack.
        stack: String,
        /// The parameter.
        parameter: String,
        /// What may have been meant, or what there is.
        next: String,
    },
    /// The parameter's value is no secret.
    #[error("the parameter `{parameter}` of stack `{stack}` is not declared with `NoEcho: true`")]
    NotHidden {
        /// The stack.
        stack: String,
        /// The parameter.
        parameter: String,
    },
    /// The parameter does not accept it.
    #[error("the parameter `{parameter}` of stack `{stack}` does not accept the value that was given: {why}")]
    Refused {
        /// The stack.
        stack: String,
        /// The parameter.
        parameter: String,
        /// Why, without the value.
        why: String,
    },
}

impl SecretError {
    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::NoStack { next, .. } | Self::NoParameter { next, .. } => next.clone(),
            Self::NotHidden { stack, .. } => {
                format!(
                    "write its value into `parameters` of `{stack}` under stacks/, or declare it with `NoEcho: true`"
                )
            }
            Self::Refused { .. } => "give a value that its declaration allows".to_owned(),
        }
    }
}

/// Puts values that a person gave into the stacks that they are for.
///
/// # Errors
/// When one of them is for nothing, or is not accepted.
pub fn set(stacks: &mut [RenderedStack], region: &str, given: &[GivenSecret]) -> Result<(), SecretError> {
    for secret in given {
        let (stack, parameter) = (secret.stack.clone(), secret.parameter.clone());
        let names: Vec<String> = stacks.iter().map(|stack| stack.name.to_string()).collect();
        let found = stacks.iter_mut().find(|s| s.name.as_str() == stack || s.cloud_name == stack);
        let Some(found) = found else {
            let next = near(&stack, &names, "the repository");
            return Err(SecretError::NoStack { stack, next });
        };
        let Some(rules) = found.rules.get(&parameter) else {
            let hidden: Vec<String> = found.hidden.clone();
            let next = near(&parameter, &hidden, "with `NoEcho`, it");
            return Err(SecretError::NoParameter { stack, parameter, next });
        };
        if !rules.hidden {
            return Err(SecretError::NotHidden { stack, parameter });
        }
        let text = secret.value.expose();
        if let Some(refusal) = rules.refusals(&Given::Text(text.clone()), Some(region)).into_iter().next() {
            return Err(SecretError::Refused { stack, parameter, why: refusal.why });
        }
        let value = Value { pieces: vec![Piece::Text(text.clone())] };
        found.parameters.retain(|(name, _)| *name != parameter);
        found.parameters.push((parameter.clone(), value));
        found.kept.remove(&parameter);
        found.forced.push(parameter);
    }
    Ok(())
}

fn near(name: &str, known: &[String], whose: &str) -> String {
    match suggest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("{whose} has none"),
        None => format!("{whose} has `{}`", known.join("`, `")),
    }
}

/// A value that is needed and not there: the stack has none yet that it could keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The stack.
    pub stack: StackName,
    /// The parameter.
    pub parameter: String,
    /// The variables that are not set.
    pub unset: Vec<Unset>,
}

/// The values that stacks can't keep, since they have none.
pub fn missing<'a>(
    stacks: impl Iterator<Item = &'a RenderedStack>,
    deployed: &BTreeMap<StackName, DeployedStack>,
) -> Vec<Missing> {
    let mut missing = Vec::new();
    for stack in stacks {
        let existing = deployed.get(&stack.name).filter(|deployed| deployed.phase() != Phase::InReview);
        for (parameter, unset) in &stack.kept {
            if existing.is_none_or(|existing| !existing.parameters.contains_key(parameter)) {
                let (stack, parameter) = (stack.name.clone(), parameter.clone());
                missing.push(Missing { stack, parameter, unset: unset.clone() });
            }
        }
    }
    missing
}

/// What of a deployed stack's parameters was not compared.
pub(super) fn uncompared(
    plan: &StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
) -> Vec<Uncompared> {
    let Some(existing) = existing else { return Vec::new() };
    let updates = match plan.action {
        StackAction::Create | StackAction::Blocked(_) => return Vec::new(),
        StackAction::Update => plan.needs_change_set(),
        StackAction::Unchanged => false,
    };
    let stack = desired.stack;
    let hidden = existing.stack.parameters.keys();
    let hidden = hidden.filter(|name| document::is_hidden(desired.document, name));
    let open = hidden.filter(|name| !stack.forced.contains(name));
    let told = open.map(|name| {
        let given = stack.parameters.iter().any(|(given, _)| given == name);
        let apply = match (updates, given) {
            _ if stack.kept.contains_key(name) => Handling::Keeps,
            (false, _) => Handling::Keeps,
            (true, true) => Handling::Sends,
            (true, false) => Handling::Defaults,
        };
        Uncompared { parameter: name.clone(), apply }
    });
    told.collect()
}

/// The secrets that a plan sets, by stack and parameter.
pub fn planned(plans: &[StackPlan]) -> Vec<(String, String)> {
    let forced = |plan: &StackPlan| {
        let changes = plan.parameters.iter();
        let changes = changes.filter(|c| c.before.is_some() && c.after == ParameterValue::Hidden);
        changes.map(|change| (plan.stack.to_string(), change.name.clone())).collect::<Vec<_>>()
    };
    plans.iter().flat_map(forced).collect()
}
