//! Pipelines: what a change of a git repository sets off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::access::Level;
use super::infra_step::InfraSpec;
use super::name::{JobName, PipelineName, RepositoryName, ServiceName};
use super::notify::Form;
use super::run::{After, CacheSpec, Companion, Trigger};
use super::schedule::Schedule;
use super::service::Limits;
use super::setting::Place;

/// A pipeline as its file describes it.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name.
    pub name: PipelineName,
    /// The git repository whose changes it runs for.
    pub repository: RepositoryName,
    /// What sets it off.
    pub triggers: Triggers,
    /// Which changed files set it off, as patterns; all where there are none.
    pub paths: Vec<String>,
    /// What it can be given.
    pub parameters: Vec<Parameter>,
    /// Which of its runs a newer commit of the same reference takes the place of.
    pub supersede: Supersede,
    /// Who is notified of its runs.
    pub notices: Vec<Notice>,
    /// What it does, in order; nothing, where the git repository says it itself.
    pub steps: Vec<Step>,
    /// Where the git repository says what it does, and what it may use.
    pub own: Option<OwnSteps>,
    /// Where it stands.
    pub place: Place,
}

/// Steps that a git repository has in a file of its own, at each commit. Whoever may push there writes them, so they may use
/// only what the pipeline gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSteps {
    /// The file's path from the root of the git repository.
    pub file: String,
    /// The services that they may roll out.
    pub services: Vec<ServiceName>,
    /// The jobs that they may run.
    pub jobs: Vec<JobName>,
    /// Patterns of the SSM parameters that they may have secrets from.
    pub secrets: Vec<String>,
}

/// Whether the name of an SSM parameter fits a pattern, in which `*` at the end stands for anything.
pub fn fits_parameter(pattern: &str, parameter: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => parameter.starts_with(start),
        None => pattern == parameter,
    }
}

/// Which runs a run of a newer commit of the same reference takes the place of. Both were set off by a change: what
/// people have asked for is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Supersede {
    /// Those that wait in the queue.
    #[default]
    Queued,
    /// Those that are under way as well, except while they deploy: a rollout that has begun is finished first.
    Running,
}

/// What sets a pipeline off besides people, who always can.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Triggers {
    /// Patterns of branches; `None` for the branch that its repository watches.
    pub branches: Option<Vec<String>>,
    /// Patterns of tags.
    pub tags: Vec<String>,
    /// Whether pull requests do.
    pub pull_requests: bool,
    /// When it is due.
    pub schedule: Option<Schedule>,
    /// The pipelines after whose success it runs, with the places where they are named.
    pub after: Vec<(PipelineName, Place)>,
}

impl Triggers {
    /// Whether nothing but people sets it off.
    pub fn is_by_hand(&self) -> bool {
        self.branches.as_ref().is_some_and(Vec::is_empty)
            && self.tags.is_empty()
            && !self.pull_requests
            && self.schedule.is_none()
            && self.after.is_empty()
    }
}

/// Something that a run can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, which is that of the variable that commands find its value in.
    pub name: String,
    /// What it may be.
    pub kind: ParameterKind,
    /// What it is unless something else is given.
    pub default: Option<String>,
    /// What it is for.
    pub description: String,
}

/// What a parameter may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterKind {
    /// Any text on one line.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// One of these.
    Choice(Vec<String>),
}

impl ParameterKind {
    /// Whether it may be `value`.
    ///
    /// # Errors
    /// Why not, as the end of a sentence.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match self {
            Self::Text if value.len() > VALUE_MOST => Err(format!("is longer than {VALUE_MOST} bytes")),
            Self::Text if value.contains(|c: char| c.is_control()) => {
                Err("has a line break or another control character".to_owned())
            }
            Self::Text => Ok(()),
            Self::Number => value.parse::<i64>().map(drop).map_err(|_| "is not a whole number".to_owned()),
            Self::Boolean if matches!(value, "true" | "false") => Ok(()),
            Self::Boolean => Err("is neither `true` nor `false`".to_owned()),
            Self::Choice(choices) if choices.iter().any(|choice| choice == value) => Ok(()),
            Self::Choice(choices) => Err(format!("is not one of `{}`", choices.join("`, `"))),
        }
    }
}

/// The longest value of a parameter, in bytes.
const VALUE_MOST: usize = 1024;

/// The values of a run: those given, and the defaults of the others.
///
/// # Errors
/// What is wrong with those given, in one sentence.
pub fn values(
    parameters: &[Parameter],
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    if let Some(unknown) = given.keys().find(|name| parameters.iter().all(|known| known.name != **name)) {
        let names: Vec<&str> = parameters.iter().map(|known| known.name.as_str()).collect();
        let known = match names.as_slice() {
            [] => "the pipeline has none".to_owned(),
            names => format!("the pipeline has `{}`", names.join("`, `")),
        };
        return Err(format!("there is no parameter `{unknown}`; {known}"));
    }
    let mut values = BTreeMap::new();
    for parameter in parameters {
        let name = &parameter.name;
        let value = given.get(name).or(parameter.default.as_ref());
        let value = value.ok_or_else(|| format!("parameter `{name}` has no default, and must be given"))?;
        parameter.kind.check(value).map_err(|reason| format!("parameter `{name}`: `{value}` {reason}"))?;
        values.insert(name.clone(), value.clone());
    }
    Ok(values)
}

/// When a step is part of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct When {
    /// After which outcome of the steps before it it is begun.
    pub after: After,
    /// Patterns of the branches; all where there are none.
    pub branches: Vec<String>,
    /// Patterns of the tags; all where there are none.
    pub tags: Vec<String>,
    /// What has started the run; anything where there is nothing.
    pub triggers: Vec<Trigger>,
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
    /// When it is part of a run.
    pub when: When,
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
    /// Waits until somebody approves what the steps after it do.
    Approve(Approve),
    /// Runs a job on the cluster, and waits for its end.
    Job(JobRun),
    /// Works with the infra repository that the commit holds.
    Infra(InfraSpec),
}

/// A job that a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// The job, as `jobs/` has it at the moment of the run.
    pub job: JobName,
    /// What the step is called.
    pub name: String,
}

/// A question to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approve {
    /// What the step is called.
    pub name: String,
    /// What is asked.
    pub message: String,
    /// The least that somebody must be to answer.
    pub level: Level,
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
    /// Those of them whose variables hold the path of a file with the value.
    pub secret_files: BTreeSet<String>,
    /// How often it is tried again when it fails.
    pub retries: u32,
    /// What it may use.
    pub limits: Limits,
    /// Containers that run beside it.
    pub companions: Vec<Companion>,
    /// Folders that outlive the run.
    pub caches: Vec<CacheSpec>,
    /// Patterns of the files in the workspace that are kept.
    pub artifacts: Vec<String>,
    /// Patterns of the files in the workspace that are JUnit reports.
    pub reports: Vec<String>,
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

/// Somebody who is notified of a pipeline's runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How messages are written.
    pub form: Form,
    /// The SSM parameter with the URL, which is what lets somebody in.
    pub parameter: String,
    /// What they are notified of.
    pub on: Vec<RunNews>,
}

/// Something about a run that somebody can be notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunNews {
    /// It waits for somebody's approval.
    Asking,
    /// It has failed.
    Failed,
    /// It has succeeded, and the last one of the same branch had failed.
    Fixed,
    /// It has succeeded.
    Succeeded,
    /// Somebody has cancelled it.
    Cancelled,
}

impl RunNews {
    /// All of them, by their words in files.
    pub const ALL: [(&str, Self); 5] = [
        ("asking", Self::Asking),
        ("failed", Self::Failed),
        ("fixed", Self::Fixed),
        ("succeeded", Self::Succeeded),
        ("cancelled", Self::Cancelled),
    ];

    /// What somebody is notified of who does not say it.
    pub const USUAL: [Self; 3] = [Self::Asking, Self::Failed, Self::Fixed];
}
