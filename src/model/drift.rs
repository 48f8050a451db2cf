//! What was changed behind CloudFormation's back, as it and the other services tell it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deployed::PropertyChange;

/// What CloudFormation found of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftState {
    /// It is as the template says.
    InSync,
    /// Properties differ.
    Modified,
    /// It is gone.
    Deleted,
}

/// A resource that CloudFormation has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceDrift {
    /// The logical id.
    pub resource: String,
    /// The type, such as `AWS::SNS::Topic`.
    pub resource_type: String,
    /// The id by which its service knows it.
    pub physical_id: String,
    /// What was found.
    pub state: DriftState,
    /// The properties that differ: `before` is what the template says, `after` what there is.
    pub differences: Vec<PropertyChange>,
}

/// How far CloudFormation's detection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detection {
    /// Under way.
    Running,
    /// Done.
    Done,
    /// Ended before everything was looked at.
    Failed {
        /// CloudFormation's words.
        reason: String,
    },
}

/// The newest version of a launch template, as EC2 has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateVersion {
    /// Its number.
    pub version: u64,
    /// Who made it: an ARN, empty where that is not told.
    pub made_by: String,
    /// Its data, in the names of CloudFormation's `LaunchTemplateData`; every value is a text.
    pub data: Value,
}
