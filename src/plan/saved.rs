//! A plan in a file: a promise about what apply does, and what must not have moved for it to hold.
//!
//! The promise is kept by hashes: of what the repository wants of each stack, and of what was
//! deployed when the plan was made. Values of `NoEcho` parameters go into neither, since a
//! hash of a short secret tells it to who tries; a change of nothing but such a value is not seen.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::document;
use super::stack::{Desired, Existing, Plan, StackAction};
use crate::model::deployed::DeployedStack;
use crate::model::name::StackName;

/// Version of the file, raised when a field changes its meaning.
pub const SAVED_VERSION: u32 = 1;

/// What tells the file from any other JSON.
const KIND: &str = "fleetwright-plan";

/// A plan in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// [`SAVED_VERSION`].
    pub version: u32,
    /// What kind of file it is.
    pub kind: String,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// What each stack was wanted to be, and what it was.
    pub basis: Vec<Basis>,
    /// The plan.
    pub plan: Plan,
}

/// What the plan of one stack rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The stack.
    pub stack: StackName,
    /// As CloudFormation names it.
    pub cloud_name: String,
    /// What was wanted.
    pub wanted: Content,
    /// What was deployed; `None` for a stack that did not exist.
    pub deployed: Option<Deployed>,
}

/// What a stack is made of, as hashes (SHA-256, hexadecimal).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Of the template's text.
    pub template: String,
    /// Of the parameters without those that are never shown.
    pub parameters: String,
    /// Of the tags.
    pub tags: String,
    /// Whether it is protected from deletion; `None` where nothing is said.
    #[serde(default)]
    pub protect: Option<bool>,
    /// Of its policy; `None` where there is none.
    #[serde(default)]
    pub policy: Option<String>,
    /// Of the programs that are run before and after; `None` where there are none, or where it is about
    /// what was deployed.
    #[serde(default)]
    pub hooks: Option<String>,
}

/// A stack as it was deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Its id (ARN).
    pub id: String,
    /// Its status.
    pub status: String,
    /// When it was last changed, where that was told.
    pub updated: Option<DateTime<Utc>>,
    /// What it was made of.
    pub content: Content,
}

/// Why a saved plan does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The stack; one that the repository no longer has by its name in CloudFormation.
    pub stack: String,
    /// What moved.
    pub what: What,
}

/// What moved since a plan was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The repository has the stack now, and had not then.
    Wanted,
    /// The repository no longer has the stack.
    Dropped,
    /// The repository wants something else of it.
    Repository(Vec<&'static str>),
    /// It exists now.
    Created,
    /// It is gone.
    Deleted,
    /// It was deleted and created anew.
    Recreated,
    /// It has another status.
    Status(String, String),
    /// It was changed: what of it, and when.
    Changed(Vec<&'static str>, Option<DateTime<Utc>>),
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stack, what } = self;
        let list = |parts: &[&str]| parts.join(" and ");
        match what {
            What::Wanted => write!(f, "stack `{stack}` is new in the repository"),
            What::Dropped => write!(f, "stack `{stack}` is no longer in the repository"),
            What::Repository(parts) => write!(f, "the repository has other {} of `{stack}`", list(parts)),
            What::Created => write!(f, "stack `{stack}` exists now"),
            What::Deleted => write!(f, "stack `{stack}` is gone"),
            What::Recreated => write!(f, "stack `{stack}` was deleted and created anew"),
            What::Status(before, now) => write!(f, "stack `{stack}` is {now}, and was {before}"),
            What::Changed(parts, at) => {
                write!(f, "stack `{stack}` was changed")?;
                if !parts.is_empty() {
                    write!(f, " ({})", list(parts))?;
                }
                at.map_or(Ok(()), |at| write!(f, " at {}", at.format("%Y-%m-%d %H:%M:%S UTC")))
            }
        }
    }
}

impl SavedPlan {
    /// Saves `plan`, made of these stacks.
    pub fn new<'a>(
        plan: Plan,
        made: DateTime<Utc>,
        stacks: impl IntoIterator<Item = (Desired<'a>, Option<Existing<'a>>)>,
    ) -> Self {
        let basis = stacks.into_iter().map(|(desired, existing)| Basis {
            stack: desired.stack.name.clone(),
            cloud_name: desired.stack.cloud_name.clone(),
            wanted: wanted(desired),
            deployed: existing.map(deployed),
        });
        Self { version: SAVED_VERSION, kind: KIND.to_owned(), made, basis: basis.collect(), plan }
    }

    /// Whether it is a file of this kind.
    pub fn is_one(&self) -> bool {
        self.kind == KIND
    }

    /// The stacks with which this plan, made after a part of `first` was applied, does more than the rest of it: those that
    /// change now and did not then, and those that somebody else has changed meanwhile.
    pub fn beyond(&self, first: &Self) -> Vec<String> {
        let changes = |plan: &Plan, name: &StackName| {
            plan.stack(name).is_some_and(|stack| stack.action != StackAction::Unchanged)
        };
        // A stack that only waits for its first change set is empty: whoever was to create it was killed before.
        let exists = |deployed: &Deployed| deployed.status != "REVIEW_IN_PROGRESS";
        let basis = |saved: &Self, name: &StackName| {
            let found = saved.basis.iter().find(|basis| basis.stack == *name);
            found.and_then(|basis| basis.deployed.clone()).filter(exists)
        };
        let open = self.plan.stacks.iter().filter(|stack| changes(&self.plan, &stack.stack));
        let open = open.filter(|stack| {
            !changes(&first.plan, &stack.stack) || basis(self, &stack.stack) != basis(first, &stack.stack)
        });
        let deleted =
            self.plan.deleted().filter(|left| first.plan.deleted().all(|known| known.id != left.id));
        open.map(|stack| stack.stack.to_string()).chain(deleted.map(|left| left.cloud_name.clone())).collect()
    }

    /// The hash of what it does and of what it rests on, the same whenever it is made.
    pub fn content_hash(&self) -> String {
        let text = serde_json::to_vec(&(&self.basis, &self.plan)).unwrap_or_default();
        Sha256::digest(text).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What has moved since, given the stacks as they are wanted and deployed now, and those that
    /// the repository no longer has.
    pub fn moved<'a>(
        &self,
        stacks: impl IntoIterator<Item = (Desired<'a>, Option<Existing<'a>>)>,
        left: &[DeployedStack],
    ) -> Vec<Moved> {
        let mut moved = Vec::new();
        let mut seen = Vec::new();
        for (desired, existing) in stacks {
            let name = &desired.stack.name;
            seen.push(name.clone());
            let mut tell = |what| moved.push(Moved { stack: name.to_string(), what });
            let Some(basis) = self.basis.iter().find(|basis| basis.stack == *name) else {
                tell(What::Wanted);
                continue;
            };
            let parts = differing(&basis.wanted, &wanted(desired));
            if !parts.is_empty() || basis.cloud_name != desired.stack.cloud_name {
                tell(What::Repository(parts));
            }
            match (&basis.deployed, existing.map(deployed)) {
                (None, None) => {}
                (None, Some(_)) => tell(What::Created),
                (Some(_), None) => tell(What::Deleted),
                (Some(before), Some(now)) if before.id != now.id => tell(What::Recreated),
                (Some(before), Some(now)) => {
                    let parts = differing(&before.content, &now.content);
                    if !parts.is_empty() || before.updated != now.updated {
                        tell(What::Changed(parts, now.updated));
                    } else if before.status != now.status {
                        tell(What::Status(before.status.clone(), now.status));
                    }
                }
            }
        }
        for planned in self.plan.deleted() {
            let what = match left.iter().find(|stack| stack.id == planned.id) {
                Some(stack) if stack.status == planned.status => continue,
                Some(stack) => What::Status(planned.status.clone(), stack.status.clone()),
                None => What::Deleted,
            };
            moved.push(Moved { stack: planned.cloud_name.clone(), what });
        }
        let dropped = self.basis.iter().filter(|basis| !seen.contains(&basis.stack));
        moved.extend(dropped.map(|basis| Moved { stack: basis.stack.to_string(), what: What::Dropped }));
        moved
    }
}

fn wanted(desired: Desired<'_>) -> Content {
    let shown =
        desired.stack.parameters.iter().filter(|(name, _)| !document::is_hidden(desired.document, name));
    let mut parameters: Vec<(String, String)> =
        shown.map(|(name, value)| (name.clone(), value.to_string())).collect();
    parameters.sort();
    Content {
        template: hash([desired.stack.template.trim_end()]),
        parameters: pairs(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        tags: pairs(desired.stack.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        protect: desired.stack.protect,
        policy: desired.stack.policy.as_ref().map(|policy| hash([policy.document().to_string().as_str()])),
        hooks: hooks(desired),
    }
}

fn deployed(existing: Existing<'_>) -> Deployed {
    let stack = existing.stack;
    let hidden = |name: &str| existing.document.is_some_and(|document| document::is_hidden(document, name));
    let parameters = stack.parameters.iter().filter(|(name, _)| !hidden(name));
    Deployed {
        id: stack.id.clone(),
        status: stack.status.clone(),
        updated: stack.updated,
        content: Content {
            template: hash([existing.template.trim_end()]),
            parameters: pairs(parameters.map(|(name, value)| (name.as_str(), value.as_str()))),
            tags: pairs(stack.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            protect: Some(stack.protected),
            policy: stack.policy.as_deref().map(|document| hash([document])),
            hooks: None,
        },
    }
}

fn hooks(desired: Desired<'_>) -> Option<String> {
    let hooks = &desired.stack.hooks;
    let words = hooks.iter().flat_map(|hook| {
        // The moment stands before the words, so that no word can be taken for one.
        std::iter::once(hook.when.name()).chain(hook.command.iter().map(String::as_str)).chain([""])
    });
    (!hooks.is_empty()).then(|| hash(words))
}

fn differing(before: &Content, now: &Content) -> Vec<&'static str> {
    let parts = [
        ("template", before.template != now.template),
        ("parameters", before.parameters != now.parameters),
        ("tags", before.tags != now.tags),
        ("protection", before.protect != now.protect),
        ("policy", before.policy != now.policy),
        ("hooks", before.hooks != now.hooks),
    ];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    hash(pairs.flat_map(|(name, value)| [name, value]))
}

/// The hash of texts in their order; their lengths go in, so that no two lists have one text.
fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
