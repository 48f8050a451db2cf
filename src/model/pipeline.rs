//! Pipelines: what a change of a git repository sets off.

use std::collections::BTreeMap;
use std::time::Duration;

use super::name::{PipelineName, RepositoryName, ServiceName};
use super::service::Limits;
use super::setting::Place;

/// A pipeline as its file describes it.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name.
    pub name: PipelineName,
    /// The git repository whose changes it runs for.
    pub repository: RepositoryName,
    /// Which changed files set it off, as patterns; all where there are none.
    pub paths: Vec<String>,
    /// What it does, in order; at least one.
    pub steps: Vec<Step>,
    /// Where it stands.
    pub place: Place,
}

/// One step of a pipeline.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// The positions of the steps that it needs, among those of the pipeline.
    pub needs: Vec<usize>,
    /// How long it may take; `None` for the default of its kind.
    pub timeout: Option<Duration>,
    /// Where it stands.
    pub place: Place,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Builds an image and pushes it.
    Build(Build),
    /// Runs a command in a container, with the files of the commit.
    Run(Script),
    /// Rolls services out with the images that steps before have built.
    Rollout(Rollout),
}

/// A command that runs in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What the step is called.
    pub name: String,
    /// The image: one that a step before builds, one of the environment's registry, or one with its registry's host.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables; not for secrets.
    pub env: BTreeMap<String, String>,
    /// The SSM parameters of secrets, by the variables that the command finds their values in.
    pub secrets: BTreeMap<String, String>,
    /// How often it is tried again when it fails.
    pub retries: u32,
    /// What it may use.
    pub limits: Limits,
}

/// The build of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The image's repository without registry host or tag, such as `demo/web`.
    pub image: String,
    /// The build context, a folder of the git repository; `.` unless given.
    pub context: String,
    /// The Dockerfile, relative to the context; `Dockerfile` unless given.
    pub dockerfile: String,
    /// Build arguments; not for secrets.
    pub args: BTreeMap<String, String>,
    /// The stage that is built; `None` for the last.
    pub target: Option<String>,
    /// The SSM parameters of the secrets that `RUN --mount=type=secret` may read, by their ids.
    pub secrets: BTreeMap<String, String>,
}

/// The rollout of a service, or of several that are rolled out together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The services, as `services/` has them at the moment of the run.
    pub services: Vec<ServiceName>,
}
