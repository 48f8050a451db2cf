//! `when` of a stage.

use super::groovy::Statement;
use super::{Reader, References};
use crate::foreign_pipeline::emit::Value;

/// When steps are part of a run; what is missing always fits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct When {
    /// Patterns of branches and of tags, one of which must fit.
    references: Option<(Vec<String>, Vec<String>)>,
    /// Names of ours for what starts a run.
    triggers: Option<Vec<&'static str>>,
}

impl When {
    /// Both of them.
    ///
    /// # Errors
    /// What can't be said together.
    fn and(self, other: Self) -> Result<Self, String> {
        fn both<T: PartialEq>(one: Option<T>, two: Option<T>, what: &str) -> Result<Option<T>, String> {
            match (one, two) {
                (Some(one), Some(two)) if one == two => Ok(Some(one)),
                (Some(_), Some(_)) => Err(what.to_owned()),
                (one, two) => Ok(one.or(two)),
            }
        }
        Ok(Self {
            references: both(self.references, other.references, "two conditions for branches or tags")?,
            triggers: both(self.triggers, other.triggers, "two conditions for what starts the run")?,
        })
    }

    /// One of them.
    fn or(self, other: Self) -> Result<Self, String> {
        match (self, other) {
            (
                Self { references: Some((mut branches, mut tags)), triggers: None },
                Self { references: Some(other), triggers: None },
            ) => {
                branches.extend(other.0);
                tags.extend(other.1);
                Ok(Self { references: Some((branches, tags)), triggers: None })
            }
            (
                Self { references: None, triggers: Some(mut triggers) },
                Self { references: None, triggers: Some(other) },
            ) => {
                triggers.extend(other);
                Ok(Self { references: None, triggers: Some(triggers) })
            }
            _ => Err("`anyOf` with conditions of different kinds".to_owned()),
        }
    }

    /// The value of `when`, for steps that run after `result`.
    pub fn value(&self, result: Option<&str>) -> Option<Value> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        if let Some((branches, tags)) = &self.references {
            for (key, names) in [("branches", branches), ("tags", tags)] {
                if !names.is_empty() {
                    entries.push((key.to_owned(), Value::texts(names.clone())));
                }
            }
        }
        if let Some(triggers) = &self.triggers {
            entries.push(("triggers".to_owned(), Value::texts(triggers.clone())));
        }
        match (result, entries.is_empty()) {
            (None, true) => None,
            (Some(result), true) => Some(Value::text(result)),
            (result, false) => {
                let result = result.map(|result| ("result".to_owned(), Value::text(result)));
                Some(Value::Map(result.into_iter().chain(entries).collect()))
            }
        }
    }
}

impl Reader<'_, '_> {
    /// What a stage says, together with what holds around it.
    ///
    /// # Errors
    /// What has no equivalent; it is noted.
    pub(super) fn when(&mut self, when: &Statement, around: &When) -> Result<When, String> {
        let mut all = around.clone();
        for one in when.inside() {
            let both = condition(one, self.kinds).and_then(|condition| all.clone().and(condition));
            match both {
                Ok(both) => all = both,
                Err(what) => {
                    let next = match one.name.as_str() {
                        "expression" | "environment" => {
                            "write it as a test in the command: `[ ... ] || exit 0`"
                        }
                        "changeset" | "changelog" => "make a pipeline of its own of it, with `paths`",
                        _ => "write a step for each case, with `when` of its own",
                    };
                    self.notes.add(one.span, format!("the condition {what} has no equivalent"), next);
                    return Err(what);
                }
            }
        }
        Ok(all)
    }
}

fn condition(one: &Statement, kinds: References) -> Result<When, String> {
    let unknown =
        || Err(if one.name.is_empty() { "that is code".to_owned() } else { format!("`{}`", one.name) });
    let all = || vec!["**".to_owned()];
    let references = |branches, tags| Ok(When { references: Some((branches, tags)), triggers: None });
    let triggers = |trigger| Ok(When { references: None, triggers: Some(vec![trigger]) });
    match one.name.as_str() {
        "beforeAgent" | "beforeInput" | "beforeOptions" => Ok(When::default()),
        "branch" | "tag" => {
            let named = one.named("comparator").is_some();
            let pattern = one.first().or_else(|| one.named("pattern").filter(|_| !named));
            let Some(pattern) = pattern.and_then(|pattern| pattern.literal()) else { return unknown() };
            if pattern.is_empty()
                || pattern.contains(['[', ']', '{', '}', '\\', '!', ','])
                || pattern.starts_with('/')
            {
                return Err(format!("`{pattern}`"));
            }
            match one.name.as_str() {
                "branch" => references(vec![pattern], Vec::new()),
                _ => references(Vec::new(), vec![pattern]),
            }
        }
        "buildingTag" => references(Vec::new(), all()),
        "changeRequest" if one.arguments.is_empty() => triggers("pull-request"),
        "triggeredBy" => {
            let cause = one.first().or_else(|| one.named("cause")).and_then(|cause| cause.literal());
            match cause.as_deref() {
                Some("TimerTrigger" | "TimerTriggerCause") => triggers("schedule"),
                Some("SCMTrigger" | "SCMTriggerCause") => triggers("push"),
                Some("UserIdCause") => triggers("hand"),
                _ => unknown(),
            }
        }
        "allOf" => one.inside().iter().try_fold(When::default(), |all, one| all.and(condition(one, kinds)?)),
        "anyOf" => {
            let mut each = one.inside().iter().map(|one| condition(one, kinds));
            let Some(first) = each.next() else { return unknown() };
            each.try_fold(first?, |all, one| all.or(one?))
        }
        // Tags and pull requests are no branches either, and patterns would leave them out.
        "not" if !kinds.tags && !kinds.pull_requests => match one.inside() {
            [inner] if inner.name == "branch" => match condition(inner, kinds)?.references {
                Some((branches, _)) => {
                    let mut patterns = all();
                    patterns.extend(branches.into_iter().map(|branch| format!("!{branch}")));
                    references(patterns, Vec::new())
                }
                None => unknown(),
            },
            _ => unknown(),
        },
        _ => unknown(),
    }
}
