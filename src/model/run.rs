//! Runs of pipelines: what one was told to do, how far it is, what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::access::Level;
use super::git_ref::GitRef;
use super::infra_step::{InfraSpec, Planned};
use super::job::JobSpec;
use super::name::{CommitId, Digest, ImageKey, JobName, PipelineName, RepositoryName, ServiceName};
use super::service::{HealthCheck, Limits, ServiceSpec};
use super::step_container::ContainerEnd;
use super::step_files::{StepFile, TestReport};

/// The number of a run, from 1, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A watched branch moved.
    Poll,
    /// Someone asked for it.
    Hand,
    /// A tag was made or moved.
    Tag,
    /// A pull request was opened or changed.
    PullRequest,
    /// A pull request was opened or changed whose commit is the head of a branch of the same repository: somebody has
    /// pushed it who may push there.
    OwnPullRequest,
    /// It was due.
    Schedule,
    /// A run of another pipeline has succeeded.
    Pipeline,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Poll,
        Self::Hand,
        Self::Tag,
        Self::PullRequest,
        Self::OwnPullRequest,
        Self::Schedule,
        Self::Pipeline,
    ];

    /// Whether it is a pull request.
    pub fn is_pull_request(self) -> bool {
        matches!(self, Self::PullRequest | Self::OwnPullRequest)
    }

    /// The words after a run's number.
    pub fn words(self) -> &'static str {
        match self {
            Self::Poll => "by a change",
            Self::Hand => "by hand",
            Self::Tag => "by a tag",
            Self::PullRequest => "by a pull request",
            Self::OwnPullRequest => "by a pull request of a branch",
            Self::Schedule => "on schedule",
            Self::Pipeline => "after another pipeline",
        }
    }

    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Hand => "hand",
            Self::Tag => "tag",
            Self::PullRequest => "pull-request",
            Self::OwnPullRequest => "own-pull-request",
            Self::Schedule => "schedule",
            Self::Pipeline => "pipeline",
        }
    }

    /// The trigger of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trigger| trigger.word() == word)
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Waits for the pipeline to be free.
    Queued,
    /// Begun and not ended, whether or not a process works on it now.
    Running,
    /// Every step did what it should.
    Succeeded,
    /// A step did not.
    Failed,
    /// Someone stopped it.
    Cancelled,
    /// Something newer took its place.
    Superseded,
    /// It took the server down more than once, and waits until someone tries it again.
    Quarantined,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
        Self::Quarantined,
    ];

    /// The word in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether nothing will happen to it any more, unless someone asks for it.
    pub fn is_ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The state of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// What a step does, frozen when its run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepAction {
    /// Puts the files of the commit into the workspace of the run.
    Source,
    /// Builds an image and pushes it, unless the registry holds it already.
    Build(BuildSpec),
    /// Runs a command in a container.
    Run(Box<ScriptSpec>),
    /// Rolls a service out with the image that a step before has built.
    Rollout(Box<ServiceSpec>),
    /// Rolls services out one after the other, and takes all of them back if one fails.
    Release(Vec<ServiceSpec>),
    /// Waits until somebody approves.
    Approve(Question),
    /// Runs a job on the cluster.
    Job(Box<JobSpec>),
    /// Works with the infra repository that the commit holds.
    Infra(InfraSpec),
}

/// What a step that waits for people is called in lists: `approve production`.
pub fn approve_name(name: &str) -> String {
    if name == "approve" { name.to_owned() } else { format!("approve {name}") }
}

/// What a step that runs a job is called in lists: `job migrate`.
pub fn job_name(job: &JobName) -> String {
    format!("job {job}")
}

/// What people are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// What the step is called.
    pub name: String,
    /// What is asked.
    pub message: String,
    /// The least that somebody must be to answer.
    pub level: Level,
}

/// What somebody has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it may go on.
    pub approved: bool,
    /// The hash of what was shown, see [`StepState::Asking`].
    pub shown: String,
    /// Who.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl StepAction {
    /// The step's name in lists: `build demo/web`, `rollout web`.
    pub fn name(&self) -> String {
        match self {
            Self::Source => "source".to_owned(),
            Self::Build(build) => format!("build {}", build.image),
            Self::Run(script) => format!("run {}", script.name),
            Self::Rollout(spec) => format!("rollout {}", spec.name),
            Self::Release(specs) => {
                let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
                format!("release {}", names.join(", "))
            }
            Self::Approve(question) => approve_name(&question.name),
            Self::Job(spec) => job_name(&spec.name),
            Self::Infra(spec) => spec.shown(),
        }
    }

    /// The SSM parameters of its secrets, by variables or ids; `None` of a kind that has none.
    fn secrets(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Run(script) => Some(&script.secrets),
            Self::Build(build) => Some(&build.secrets),
            Self::Source
            | Self::Rollout(_)
            | Self::Release(_)
            | Self::Approve(_)
            | Self::Job(_)
            | Self::Infra(_) => None,
        }
    }

    /// The services that it rolls out.
    pub fn services(&self) -> Vec<&ServiceName> {
        match self {
            Self::Source
            | Self::Build(_)
            | Self::Run(_)
            | Self::Approve(_)
            | Self::Job(_)
            | Self::Infra(_) => Vec::new(),
            Self::Rollout(spec) => vec![&spec.name],
            Self::Release(specs) => specs.iter().map(|spec| &spec.name).collect(),
        }
    }
}

/// The build of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// The image's repository without registry host or tag, such as `demo/web`.
    pub image: String,
    /// The build context, a folder of the git repository; `.` is its root.
    pub context: String,
    /// The Dockerfile, relative to the context.
    pub dockerfile: String,
    /// Build arguments; not for secrets.
    pub args: BTreeMap<String, String>,
    /// The stage that is built; `None` for the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The SSM parameters of the secrets that `RUN --mount=type=secret` may read, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

/// A command that runs in a container, with the files of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptSpec {
    /// What the step is called.
    pub name: String,
    /// The image: one that a step before builds, one of the environment's registry, or one with its registry's host.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables; not for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The SSM parameters of secrets, by the variables that the command finds their values in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// How often it is tried again when it fails.
    #[serde(default)]
    pub retries: u32,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Containers that run beside it: a database, for example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
    /// Folders that outlive the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<CacheSpec>,
    /// Patterns of the files in the workspace that are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<String>,
    /// Patterns of the files in the workspace that are JUnit reports; they are kept as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
}

/// The folder of a container that its secrets are files in, by their variables. A variable in `env` that holds the path of
/// its own file there stays as it is: the command wants the file.
pub const SECRET_FILES: &str = "/run/secrets";

/// The path of a secret's file in a container.
pub fn secret_file(variable: &str) -> String {
    format!("{SECRET_FILES}/{variable}")
}

impl ScriptSpec {
    /// Whether files of the workspace are kept when it has ended.
    pub fn keeps_files(&self) -> bool {
        !self.artifacts.is_empty() || !self.reports.is_empty()
    }
}

/// A container that runs beside a command for as long as that takes. The command reaches it by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// The host name that the command reaches it by.
    pub name: String,
    /// The image, as that of the command.
    pub image: String,
    /// Arguments for the image's entry point; none for those of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Variables; not for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// When it is healthy; `None` for what the image says, and without that it need only run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
}

/// A folder that outlives the run, for what takes long to download or to compile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSpec {
    /// The folder in the command's container.
    pub path: String,
    /// Files of the commit whose content decides which cache it is; without any there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
}

/// After which outcome of the steps before it a step is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// When the steps that it needs have succeeded.
    #[default]
    Success,
    /// When a step has failed.
    Failure,
    /// In either case.
    Always,
}

/// How long a step that runs a command may take, unless its `timeout` says otherwise.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a build step may take, its push included, unless its `timeout` says otherwise.
pub const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a rollout step may take, unless its `timeout` says otherwise.
pub const ROLLOUT_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// How long people have to answer, unless the step's `timeout` says otherwise.
pub const APPROVE_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a run was told to do, frozen when it begins: later edits of the infra
/// repository don't reach into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// The environment it deploys to.
    pub environment: String,
    /// The registry that builds push to, `host[:port]`.
    pub push: String,
    /// The registry that machines pull from, `host[:port]`; the same one under another address, or not.
    pub pull: String,
    /// The steps, in order.
    pub steps: Vec<StepAction>,
    /// The positions of the steps that each of them needs, in the same order; a step that is missing here needs the one
    /// before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Vec<usize>>,
    /// How long each of them may take, in seconds, in the same order; what is missing has the
    /// default of its kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeouts: Vec<Option<u64>>,
    /// After which outcome each of them is begun, in the same order; what is missing is begun after success.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<After>,
    /// The positions of the steps that are left out of this run, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<usize, String>,
    /// Whether a newer commit of the same reference ends it while it is under way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub supersede: bool,
    /// What it takes over from an earlier run; `None` where it does everything itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
}

/// What a retry from a step takes over from the earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The earlier run.
    pub run: RunId,
    /// The step that it was retried from.
    pub from: String,
    /// Whether the workspace is a copy of the earlier run's.
    pub workspace: bool,
    /// The results of the steps that are not run again, by their positions.
    pub results: BTreeMap<usize, StepResult>,
}

impl RunConfig {
    /// The secrets of the steps that are part of the run: the step, the variable or id, and the SSM parameter.
    pub fn secrets(&self) -> impl Iterator<Item = (&StepAction, &str, &str)> {
        let steps = self.steps.iter().enumerate().filter(|(index, _)| !self.left_out.contains_key(index));
        steps.flat_map(|(_, step)| {
            let secrets = step.secrets().into_iter().flatten();
            secrets.map(move |(name, parameter)| (step, name.as_str(), parameter.as_str()))
        })
    }

    /// After which outcome the step at `index` is begun.
    pub fn after(&self, index: usize) -> After {
        self.after.get(index).copied().unwrap_or_default()
    }

    /// The positions of the steps that the step at `index` needs. In place of one that is left out stand those that it
    /// needs itself.
    pub fn needs(&self, index: usize) -> Vec<usize> {
        let mut open = self.named_needs(index);
        let mut found = Vec::new();
        while let Some(need) = open.pop() {
            match self.left_out.contains_key(&need) {
                true => open.extend(self.named_needs(need)),
                false if found.contains(&need) => {}
                false => found.push(need),
            }
        }
        found.sort_unstable();
        found
    }

    /// The positions of the steps before the one at `index` that it names.
    fn named_needs(&self, index: usize) -> Vec<usize> {
        match self.needs.get(index) {
            Some(needs) => needs.iter().copied().filter(|need| *need < index).collect(),
            None => index.checked_sub(1).into_iter().collect(),
        }
    }

    /// How long the step at `index` may take.
    pub fn timeout(&self, index: usize) -> Duration {
        let given = self.timeouts.get(index).copied().flatten().map(Duration::from_secs);
        given.unwrap_or_else(|| match self.steps.get(index) {
            Some(StepAction::Rollout(_) | StepAction::Release(_)) => ROLLOUT_TIMEOUT,
            Some(StepAction::Infra(spec)) if spec.work.changes() => ROLLOUT_TIMEOUT,
            Some(StepAction::Run(_) | StepAction::Job(_) | StepAction::Infra(_)) => RUN_TIMEOUT,
            Some(StepAction::Approve(_)) => APPROVE_TIMEOUT,
            Some(StepAction::Build(_) | StepAction::Source) | None => BUILD_TIMEOUT,
        })
    }
}

/// How far a step is. Everything before the last three is written before the action it
/// names begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum StepState {
    /// Not begun.
    Waiting,
    /// Reading the tree and asking the registry; changes nothing.
    Inspecting,
    /// The builder works on it.
    Building {
        /// What it builds.
        key: ImageKey,
    },
    /// The image goes to the registry.
    Pushing {
        /// What was built.
        key: ImageKey,
    },
    /// Its image and the files of the commit are made ready.
    Preparing,
    /// Its container is created, and not started yet.
    Creating {
        /// The image, with its registry's host and digest.
        image: String,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Its command runs, or has ended and that is not recorded yet.
    Executing {
        /// The image, with its registry's host and digest.
        image: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// How many lines of what it prints are in the journal.
        lines: u64,
    },
    /// Its command has ended, and files of the workspace are kept.
    Collecting {
        /// Which attempt, from 1.
        attempt: u32,
        /// How the command ended.
        end: ContainerEnd,
    },
    /// The cluster runs its job, or fleetwright works with the files of the commit.
    Working {
        /// Which attempt at the job; 0 before the first.
        #[serde(default)]
        attempt: u32,
        /// How many lines of what that attempt prints are in the journal.
        #[serde(default)]
        lines: u64,
    },
    /// People are asked.
    Asking {
        /// Since when.
        since: DateTime<Utc>,
        /// The hash of what they are shown; an answer to something else does not count.
        shown: String,
    },
    /// The cluster is being told; whether it was is not known.
    Deploying {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The cluster was told and rolls out.
    Following {
        /// The revision it rolls out.
        revision: u64,
    },
    /// Services are rolled out one after the other.
    Releasing {
        /// The revision that each of them was at before; `None` for one that did not exist.
        before: Vec<Option<u64>>,
        /// The revisions of those that the cluster was asked for.
        revisions: Vec<u64>,
        /// How far it is.
        stage: ReleaseStage,
    },
    /// Done.
    Succeeded {
        /// What came of it.
        result: StepResult,
    },
    /// Not done.
    Failed {
        /// The first cause.
        reason: String,
    },
    /// Stopped, or never begun because something before it ended the run.
    Skipped,
}

impl StepState {
    /// The word in tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Inspecting => "inspecting",
            Self::Building { .. } => "building",
            Self::Pushing { .. } => "pushing",
            Self::Preparing => "preparing",
            Self::Creating { .. } => "starting",
            Self::Executing { .. } => "running",
            Self::Collecting { .. } => "keeping files",
            Self::Working { .. } => "at work",
            Self::Asking { .. } => "waits for approval",
            Self::Deploying { .. } => "deploying",
            Self::Following { .. } => "rolling out",
            Self::Releasing { stage: ReleaseStage::Back { .. }, .. } => "taking back",
            Self::Releasing { .. } => "releasing",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing will happen to it any more.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Succeeded { .. } | Self::Failed { .. } | Self::Skipped)
    }
}

/// How far a release is. It is written before the action that it names begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseStage {
    /// The cluster is asked to roll the next service out; whether it was is not known.
    Deploying {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The cluster rolls the last of `revisions` out.
    Following,
    /// What was rolled out is taken back.
    Back {
        /// Why.
        reason: String,
    },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepResult {
    /// An image is in the registry.
    Image(BuiltImage),
    /// The files of the commit are in the workspace.
    Source {
        /// How many.
        files: usize,
    },
    /// A command has ended well.
    Run {
        /// How often it was tried.
        attempts: u32,
    },
    /// A revision runs.
    Rollout {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: u64,
    },
    /// Revisions of several services run.
    Release(Vec<Released>),
    /// Somebody has approved.
    Approved {
        /// Who.
        by: String,
    },
    /// Nothing had to be approved: what follows changes nothing.
    NothingToApprove,
    /// A job has succeeded.
    Job {
        /// The job.
        job: JobName,
    },
    /// What would change is known.
    Planned(Planned),
    /// The environment is as the files of the commit describe it.
    Infra {
        /// What was done, in one line.
        summary: String,
    },
}

/// A service of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The service.
    pub service: ServiceName,
    /// Its revision.
    pub revision: u64,
}

/// An image in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Its repository without registry host.
    pub image: String,
    /// The hash of what went into it.
    pub key: ImageKey,
    /// The digest that the registry knows it by.
    pub digest: Digest,
    /// The run that built it before; `None` when this one did.
    pub same_as: Option<SameAs>,
}

/// The run that built the same tree before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameAs {
    /// The run.
    pub run: RunId,
    /// Its commit.
    pub commit: CommitId,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStep {
    /// `build demo/web`, `rollout web`.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// The files of the workspace that are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<StepFile>,
    /// What its tests have shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestReport>,
}

/// One execution of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The git repository.
    pub repository: RepositoryName,
    /// The commit.
    pub commit: CommitId,
    /// The first line of the commit's message.
    pub subject: String,
    /// What started it.
    pub trigger: Trigger,
    /// The branch, tag or pull request that the commit is of, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRef>,
    /// What it was given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Who asked for it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// How far it is.
    pub state: RunState,
    /// Why, when there is something to say.
    pub reason: Option<String>,
    /// When it was put in the queue.
    pub queued: DateTime<Utc>,
    /// When its first step began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// What it does; `None` until it begins.
    pub config: Option<RunConfig>,
    /// Its steps; empty until it begins.
    pub steps: Vec<RunStep>,
}

impl Run {
    /// What started it, and who, as the end of a sentence.
    pub fn started_by(&self) -> String {
        let mut words = match (self.trigger, &self.asked_by) {
            (Trigger::Hand, Some(by)) => format!("by {by}"),
            (trigger, Some(by)) => format!("{} ({by})", trigger.words()),
            (trigger, None) => trigger.words().to_owned(),
        };
        if let Some(taken) = self.config.as_ref().and_then(|config| config.taken.as_ref()) {
            words.push_str(&format!(", as run {} from `{}` on", taken.run, taken.from));
        }
        words
    }
}
