//! What happens to stacks.

use serde::{Deserialize, Serialize};

/// Something that happened to a stack. The stack is named as the repository names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum StackEvent {
    /// Work on it began.
    Started {
        /// The stack.
        stack: String,
        /// `create`, `update` or `delete`.
        action: String,
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
    /// Work on it ended.
    Finished {
        /// The stack.
        stack: String,
        /// `created`, `updated`, `deleted`, `unchanged`, `failed` or `skipped`.
        outcome: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// The first cause of a failure.
        cause: Option<String>,
    },
}
