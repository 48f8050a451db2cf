//! Stacks, change sets and their events, as CloudFormation reports them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::nested::NestedTemplate;

/// What a stack can be asked for, from its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Settled, and can be updated.
    Settled,
    /// CloudFormation is at work on it.
    Busy,
    /// A first creation that left nothing to update: it has to be deleted before it can be created again.
    FailedCreate,
    /// A change set of type CREATE was made for it and never executed.
    InReview,
    /// It stands still and needs a person.
    Stuck,
    /// Deleted.
    Gone,
}

/// A stack as it is deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployedStack {
    /// Its name in CloudFormation.
    pub name: String,
    /// Its id (ARN); unlike the name, it stays apart from a later stack of the same name.
    pub id: String,
    /// CloudFormation's status, such as `UPDATE_COMPLETE`.
    pub status: String,
    /// CloudFormation's words for why it has that status; often empty.
    pub status_reason: String,
    /// When it was created; `None` where that is not told.
    pub created: Option<DateTime<Utc>>,
    /// When it was created or last changed; `None` where that is not told.
    pub updated: Option<DateTime<Utc>>,
    /// The change set it was last created or changed by, where that is told.
    pub change_set: Option<String>,
    /// The change sets that wait to be executed, by name, for a stack in `REVIEW_IN_PROGRESS`.
    pub waiting: Vec<String>,
    /// Whether CloudFormation refuses to delete it.
    pub protected: bool,
    /// Its policy's document; `None` where it has none, or was not asked for it.
    pub policy: Option<String>,
    /// Whether it is part of another stack.
    pub nested: bool,
    /// The parameters it was deployed with.
    pub parameters: BTreeMap<String, String>,
    /// Its outputs.
    pub outputs: BTreeMap<String, String>,
    /// The names under which outputs are exported, by output.
    pub exports: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl DeployedStack {
    /// What it can be asked for.
    pub fn phase(&self) -> Phase {
        match self.status.as_str() {
            "REVIEW_IN_PROGRESS" => Phase::InReview,
            "DELETE_COMPLETE" => Phase::Gone,
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" => Phase::FailedCreate,
            "UPDATE_ROLLBACK_FAILED" | "DELETE_FAILED" | "UPDATE_FAILED" => Phase::Stuck,
            status if status.ends_with("_IN_PROGRESS") => Phase::Busy,
            status if status.ends_with("_COMPLETE") => Phase::Settled,
            _ => Phase::Stuck,
        }
    }
}

/// The id (ARN) of a change set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangeSetId(pub String);

/// What a change set is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSetRequest {
    /// The stack's name in CloudFormation.
    pub stack: String,
    /// The change set's name.
    pub name: String,
    /// Whether the stack is new. UPDATE for a stack that does not exist fails with a
    /// message that never says so.
    pub create: bool,
    /// The template.
    pub template: String,
    /// Every parameter.
    pub parameters: BTreeMap<String, String>,
    /// Parameters that keep the value they have.
    pub kept: Vec<String>,
    /// Every tag.
    pub tags: BTreeMap<String, String>,
    /// Templates of the stacks nested in it.
    pub nested: Vec<NestedTemplate>,
    /// Resources to be imported; a change set with some does nothing else.
    pub imports: Vec<Import>,
}

/// A resource that exists and becomes part of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The logical id.
    pub resource: String,
    /// The type.
    pub resource_type: String,
    /// What its service knows it by: properties and their values.
    pub identifier: BTreeMap<String, String>,
}

/// How far a change set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeSetState {
    /// Being computed.
    Computing,
    /// Computed; it can be executed.
    Ready,
    /// It holds no change.
    Empty,
    /// It can't be computed.
    Failed {
        /// CloudFormation's words.
        reason: String,
    },
}

/// How far a change set's execution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// It was not executed, and can be.
    Waiting,
    /// It is being executed.
    Running,
    /// It was executed.
    Done,
    /// Executing it failed.
    Failed,
    /// It can't be executed: the stack was changed since it was made.
    Obsolete,
    /// There is no such change set.
    Missing,
    /// CloudFormation did not report it, or in words that are not known here.
    Unknown,
}

/// Which events of a stack are known, so that later ones can be distinguished from them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventMark {
    /// Ids of known events.
    pub known: BTreeSet<String>,
    /// The time of the latest one.
    pub at: Option<DateTime<Utc>>,
}

impl EventMark {
    /// Whether `event` is later than the mark. Events of the same time may come in any order.
    pub fn is_news(&self, event: &ResourceEvent) -> bool {
        self.at.is_none_or(|at| event.at >= at) && !self.known.contains(&event.id)
    }

    /// Adds events to those that are known.
    pub fn add<'e>(&mut self, events: impl IntoIterator<Item = &'e ResourceEvent>) {
        for event in events {
            self.known.insert(event.id.clone());
            self.at = self.at.max(Some(event.at));
        }
    }
}

/// A change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// Its id.
    pub id: ChangeSetId,
    /// How far it is.
    pub state: ChangeSetState,
    /// What it would change.
    pub changes: Vec<ResourceChange>,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is created.
    Create,
    /// It is changed in place.
    Update,
    /// It may be replaced by a new one; that depends on values known only during the update.
    MaybeReplace,
    /// It is replaced by a new one.
    Replace,
    /// It is deleted (or, by its policy, left behind).
    Delete,
}

/// One resource's change, as a change set tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceChange {
    /// The resource's logical id.
    pub resource: String,
    /// Its type, such as `AWS::EC2::VPC`.
    pub resource_type: String,
    /// What happens to it.
    pub action: Action,
    /// Whether the change set says so; otherwise the action is the worst that may happen.
    pub certain: bool,
    /// Its properties that change, as far as they are told; sorted by path.
    pub properties: Vec<PropertyChange>,
}

/// One property's change, as a change set tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyChange {
    /// Its path below the resource's properties, such as `MaxSize` or `Tags.0.Value`.
    pub path: String,
    /// The value before, where it is told.
    pub before: Option<String>,
    /// The value after, where it is told.
    pub after: Option<String>,
}

/// A resource of a stack, as it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackResource {
    /// The logical id.
    pub resource: String,
    /// The type, such as `AWS::EC2::VPC`.
    pub resource_type: String,
    /// The id by which its service knows it; empty for one that was never made.
    pub physical_id: String,
    /// The status, such as `CREATE_COMPLETE`.
    pub status: String,
}

/// Something that happened to a stack or to one of its resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceEvent {
    /// The event's id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The logical id; the stack's own name for events of the stack itself.
    pub resource: String,
    /// The type, such as `AWS::EC2::VPC`.
    pub resource_type: String,
    /// The status, such as `CREATE_FAILED`.
    pub status: String,
    /// CloudFormation's words, often empty.
    pub reason: String,
}

impl ResourceEvent {
    /// Whether it is about the stack called `stack` itself. A resource may have the same name.
    pub fn is_of_stack(&self, stack: &str) -> bool {
        self.resource == stack && matches!(self.resource_type.as_str(), "" | "AWS::CloudFormation::Stack")
    }

    /// Whether it tells of a failure.
    pub fn is_failure(&self) -> bool {
        self.status.ends_with("_FAILED")
    }
}
