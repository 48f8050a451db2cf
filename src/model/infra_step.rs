//! Steps in which fleetwright itself works with the files of the commit: an infra repository as a pipeline.

use serde::{Deserialize, Serialize};

/// A step that works with the infra repository that the commit holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InfraSpec {
    /// What the step is called.
    pub name: String,
    /// Where fleetwright.yaml lies in the git repository; `.` is its root.
    pub folder: String,
    /// What it does.
    pub work: InfraWork,
}

/// What such a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InfraWork {
    /// Shows what `apply` would change, and keeps the plan.
    Plan {
        /// The stacks, with those that they depend on; all where there are none.
        stacks: Vec<String>,
        /// Whether services and jobs are compared with what is running as well.
        services: bool,
    },
    /// Applies what a step before has planned.
    Apply {
        /// What that step is called.
        plan: String,
    },
    /// Deploys services and jobs as the files of the commit describe them.
    Deploy {
        /// The services and jobs; all where there are none.
        services: Vec<String>,
    },
    /// Looks for what was changed behind CloudFormation's back, and fails where something was.
    Drift {
        /// The stacks; all where there are none.
        stacks: Vec<String>,
    },
}

impl InfraWork {
    /// The key of the step in files, which is also the command.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Plan { .. } => "plan",
            Self::Apply { .. } => "apply",
            Self::Deploy { .. } => "deploy",
            Self::Drift { .. } => "drift",
        }
    }

    /// Whether it changes the environment.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Apply { .. } | Self::Deploy { .. })
    }
}

impl InfraSpec {
    /// The step's name in lists: `plan`, `apply network`.
    pub fn shown(&self) -> String {
        let word = self.work.word();
        if self.name == word { self.name.clone() } else { format!("{word} {}", self.name) }
    }
}

/// What a step has planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// The hash of the plan: of what changes, and of what it rests on.
    pub hash: String,
    /// Whether stacks change.
    pub stacks: bool,
    /// Whether services or jobs change; `None` where they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<bool>,
    /// The plan in one line.
    pub summary: String,
}

impl Planned {
    /// Whether nothing is left to do for `work`.
    pub fn settles(&self, work: &InfraWork) -> bool {
        match work {
            InfraWork::Apply { .. } => !self.stacks,
            // A plan that has compared services has compared all of them.
            InfraWork::Deploy { .. } => self.services == Some(false),
            InfraWork::Plan { .. } | InfraWork::Drift { .. } => false,
        }
    }
}
