//! What happens to stacks.

use serde::{Deserialize, Serialize};

/// What is being done to a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// It is created.
    Create,
    /// It is updated.
    Update,
    /// It is deleted.
    Delete,
    /// Resources that exist become part of it.
    Import,
    /// Somebody else's work on it is waited for.
    Wait,
}

/// How work on a stack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was created.
    Created,
    /// It was updated.
    Updated,
    /// It was deleted.
    Deleted,
    /// Resources became part of it.
    Imported,
    /// There was nothing to do.
    Unchanged,
    /// What was waited for is done.
    Settled,
    /// It failed.
    Failed,
    /// Nothing was done: the plan says that a person has to do something first.
    Blocked,
    /// Nothing was done, since a stack it depends on failed.
    Skipped,
    /// Nothing was done, since a signal came first.
    NotBegun,
    /// A signal came; CloudFormation goes on with it.
    LeftRunning,
}

/// Why work on a stack failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The first cause.
    pub cause: String,
    /// The file and line it stands at, where that can be told.
    pub at: Option<String>,
    /// What to do.
    pub next: String,
}

/// Something that happened to a stack. The stack is named as the repository names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum StackEvent {
    /// Work on it began.
    Started {
        /// The stack.
        stack: String,
        /// What is done.
        work: Work,
        /// How many resources will change, where that is known.
        resources: Option<u32>,
    },
    /// CloudFormation reported on one of its resources.
    Resource {
        /// The stack.
        stack: String,
        /// The resource's logical id.
        resource: String,
        /// Its type, such as `AWS::EC2::VPC`.
        resource_type: String,
        /// CloudFormation's status, such as `CREATE_COMPLETE`.
        status: String,
        /// CloudFormation's reason, empty when it gives none.
        reason: String,
    },
    /// A program that is run for it said something.
    Said {
        /// The stack.
        stack: String,
        /// A line of its output, or the command itself.
        text: String,
    },
    /// Work on it ended.
    Finished {
        /// The stack.
        stack: String,
        /// How.
        outcome: Outcome,
        /// How long it took, in seconds.
        seconds: f64,
        /// Why it failed.
        failure: Option<Failure>,
    },
}
