//! Jobs: commands that run on a schedule or on request, and the outcome of each occurrence.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::container::ContainerSettings;
use super::name::{Digest, JobName, MachineId, ServiceName};
use super::schedule::Schedule;
use super::service::{Deployment, Limits, Origin, PreDeploy, Scale, ServiceSpec, UpdatePolicy};

/// What a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Runs {
    /// An image, by its repository without registry host or tag.
    Image(String),
    /// The image, variables and settings of the revision that this service runs at the time.
    Service(ServiceName),
}

/// What happens to an occurrence that is due while an earlier one has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It does not run, and is recorded as skipped.
    #[default]
    Skip,
    /// It waits for its turn.
    Queue,
    /// The earlier one is stopped, and then it runs.
    Replace,
}

impl Overlap {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Replace => "replace",
        }
    }
}

/// A job as its file in the repository describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Its name.
    pub name: JobName,
    /// What it runs.
    pub runs: Runs,
    /// The program and its arguments. The image's entry point is not used, and no shell reads them.
    pub command: Vec<String>,
    /// Environment variables; not for secrets.
    pub environment: BTreeMap<String, String>,
    /// Limits of one occurrence.
    pub limits: Limits,
    /// Metadata that a machine must have.
    pub placement: BTreeMap<String, String>,
    /// How long it may take to end after the stop signal; `None` for the default.
    pub stop_grace_period: Option<Duration>,
    /// What else its container is given.
    pub container: ContainerSettings,
    /// When it is due; `None` runs it only when somebody asks.
    pub schedule: Option<Schedule>,
    /// What happens when it is due while it runs.
    pub overlap: Overlap,
    /// How late a missed occurrence is still started; `None` for not at all.
    pub catch_up: Option<Duration>,
    /// How long it may run; `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// How often it is tried again after it failed.
    pub retries: u32,
}

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobImage {
    /// The registry that machines pull from, `host[:port]`.
    pub registry: String,
    /// The image's digest.
    pub digest: Digest,
}

/// A job as it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobDeployment {
    /// The user's specification.
    pub spec: JobSpec,
    /// Its image; `None` for one that runs a service's.
    pub image: Option<JobImage>,
    /// Where it came from.
    pub origin: Origin,
}

/// Time to end after the stop signal, unless given.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl JobDeployment {
    /// What an occurrence runs; `service` is what the job's service runs at the time.
    ///
    /// # Errors
    /// What is missing.
    pub fn work(&self, service: Option<&Deployment>) -> Result<Work, String> {
        let spec = &self.spec;
        let base = match (&spec.runs, &self.image, service) {
            (Runs::Image(image), Some(at), _) => Deployment {
                spec: bare(spec, image),
                registry: at.registry.clone(),
                digest: at.digest.clone(),
                origin: self.origin.clone(),
                restarted: None,
                secrets: BTreeMap::new(),
                network: false,
            },
            (Runs::Image(image), None, _) => return Err(format!("the digest of `{image}` is not known")),
            (Runs::Service(_), _, Some(deployment)) => deployment.clone(),
            (Runs::Service(name), _, None) => {
                return Err(format!("service `{name}` runs nothing whose image it could use"));
            }
        };
        let mut deployment = one_off(base, spec.command.clone());
        let wanted = &mut deployment.spec;
        wanted.environment.extend(spec.environment.clone());
        wanted.limits = Limits {
            memory_bytes: spec.limits.memory_bytes.or(wanted.limits.memory_bytes),
            cpu_millis: spec.limits.cpu_millis.or(wanted.limits.cpu_millis),
        };
        if !spec.placement.is_empty() {
            wanted.placement = spec.placement.clone();
        }
        if let Some(grace) = spec.stop_grace_period {
            wanted.drain = grace;
        }
        wanted.container = over(&wanted.container, &spec.container);
        Ok(Work {
            deployment,
            overlap: spec.overlap,
            timeout: spec.timeout,
            retries: spec.retries,
            attended: false,
        })
    }
}

/// A service of that image and nothing else, for what a job adds to it.
fn bare(job: &JobSpec, image: &str) -> ServiceSpec {
    ServiceSpec {
        // Both kinds of names have the same rule.
        name: job.name.as_str().parse().expect("the name of a job is also one for a service"),
        image: image.to_owned(),
        command: Vec::new(),
        scale: Scale::Replicas(1),
        environment: BTreeMap::new(),
        ports: Vec::new(),
        health: None,
        limits: Limits::default(),
        placement: BTreeMap::new(),
        update: UpdatePolicy { parallel: 1, monitor: Duration::ZERO, deadline: None },
        drain: STOP_GRACE,
        container: ContainerSettings::default(),
        pre_deploy: None,
        units: None,
    }
}

/// What runs `command` once in place of a service's instances: without their ports, health check and
/// restarts.
pub fn one_off(mut deployment: Deployment, command: Vec<String>) -> Deployment {
    let spec = &mut deployment.spec;
    spec.command = command;
    spec.scale = Scale::Replicas(1);
    spec.ports = Vec::new();
    spec.health = None;
    let container = &mut spec.container;
    (container.entrypoint, container.restart) = (Vec::new(), None);
    (container.spread, container.max_per_machine, container.hostname) = (None, None, None);
    spec.pre_deploy = None;
    deployment.restarted = None;
    deployment
}

/// What runs a revision's `pre_deploy` command; `None` for a revision without one.
pub fn before(deployment: &Deployment) -> Option<Work> {
    let PreDeploy { command, timeout } = deployment.spec.pre_deploy.clone()?;
    let deployment = one_off(deployment.clone(), command);
    Some(Work { deployment, overlap: Overlap::Queue, timeout: Some(timeout), retries: 0, attended: false })
}

/// `base` with what `own` sets in its place. A field that says nothing is left out of JSON.
fn over(base: &ContainerSettings, own: &ContainerSettings) -> ContainerSettings {
    let fields = |of: &ContainerSettings| match serde_json::to_value(of) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let mut merged = fields(base);
    merged.extend(fields(own));
    serde_json::from_value(serde_json::Value::Object(merged)).unwrap_or_else(|_| own.clone())
}

/// What one occurrence runs, and by which rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The image and its settings; the arguments are the whole command.
    pub deployment: Deployment,
    /// What happens while an earlier one has not ended.
    pub overlap: Overlap,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How often it is tried again after it failed.
    pub retries: u32,
    /// Whether its container waits for its caller, who is connected with the program and ends it by going
    /// away. The command is the program alone: the caller says what it is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attended: bool,
}

/// Why something runs once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An occurrence of a job.
    Job,
    /// A command with a service's image, that somebody asked for.
    Command,
    /// What a revision of a service runs before it is rolled out.
    Before,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Command => "run",
            Self::Before => "before",
        }
    }
}

/// One occurrence of something that runs once: `job.nightly.202611290200`, `run.web.x1a2b3c4`,
/// `before.web.r7`.
///
/// It is the name of the objects that decide who starts it, so it follows from what it is: a job's
/// time in UTC, what the caller chose, or the number of a revision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OccurrenceId {
    /// Why it runs.
    pub kind: Kind,
    /// The name of the job or service.
    pub of: String,
    /// Distinguishes it from the others of the same job or service.
    pub key: String,
}

/// Why a text is no id of an occurrence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of an occurrence, such as `job.nightly.202611290200`")]
pub struct BadOccurrence(pub String);

/// What the key of a revision's occurrence begins with.
const REVISION: char = 'r';

/// The longest key: a minute of the year 9999.
const KEY_MOST: usize = 12;

fn is_key(text: &str) -> bool {
    (1..=KEY_MOST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

impl OccurrenceId {
    /// The occurrence of a job that is due at that time.
    pub fn due(job: &JobName, at: DateTime<Utc>) -> Self {
        Self { kind: Kind::Job, of: job.to_string(), key: at.format("%Y%m%d%H%M").to_string() }
    }

    /// What that revision of a service runs before it is rolled out.
    pub fn before(service: &str, revision: u64) -> Self {
        Self { kind: Kind::Before, of: service.to_owned(), key: format!("{REVISION}{revision}") }
    }

    /// The revision that it belongs to, if it is one that a revision runs before it is rolled out.
    pub fn revision(&self) -> Option<u64> {
        if self.kind == Kind::Before { self.key.strip_prefix(REVISION)?.parse().ok() } else { None }
    }

    /// One that somebody asked for.
    ///
    /// # Errors
    /// When `key` is not 1 to 12 letters and digits that begin with a letter.
    pub fn asked(kind: Kind, of: &str, key: &str) -> Result<Self, BadOccurrence> {
        let id = Self { kind, of: of.to_owned(), key: key.to_owned() };
        if is_key(key) && key.starts_with(|c: char| c.is_ascii_lowercase()) {
            Ok(id)
        } else {
            Err(BadOccurrence(id.to_string()))
        }
    }
}

impl OccurrenceId {
    /// Whether it is one of a schedule, not one that somebody asked for.
    pub fn is_due(&self) -> bool {
        self.kind == Kind::Job && self.key.starts_with(|c: char| c.is_ascii_digit())
    }
}

impl fmt::Display for OccurrenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.kind.word(), self.of, self.key)
    }
}

impl FromStr for OccurrenceId {
    type Err = BadOccurrence;

    fn from_str(text: &str) -> Result<Self, BadOccurrence> {
        let bad = || BadOccurrence(text.to_owned());
        let mut parts = text.split('.');
        let kind = match parts.next() {
            Some("job") => Kind::Job,
            Some("run") => Kind::Command,
            Some("before") => Kind::Before,
            _ => return Err(bad()),
        };
        let (Some(of), Some(key), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad());
        };
        if of.parse::<JobName>().is_err() || !is_key(key) {
            return Err(bad());
        }
        Ok(Self { kind, of: of.to_owned(), key: key.to_owned() })
    }
}

impl TryFrom<String> for OccurrenceId {
    type Error = BadOccurrence;
    fn try_from(text: String) -> Result<Self, BadOccurrence> {
        text.parse()
    }
}

impl From<OccurrenceId> for String {
    fn from(id: OccurrenceId) -> String {
        id.to_string()
    }
}

/// How an occurrence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its command exited with 0.
    Succeeded,
    /// Its command failed, or could not be started.
    Failed,
    /// It took longer than its `timeout` and was stopped.
    TimedOut,
    /// It did not run: an earlier one had not ended.
    Skipped,
    /// It did not run: it could not be started when it was due.
    Missed,
    /// It was stopped for a later one, or did not run for that reason.
    Replaced,
    /// It was started, and its machine was lost: whether it did its work is not known.
    Unknown,
}

impl Outcome {
    /// The label in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
            Self::Replaced => "replaced",
            Self::Unknown => "unknown",
        }
    }
}

/// Where an occurrence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Claimed, and not begun.
    Waiting,
    /// Being placed and prepared, or about to be tried again.
    Starting,
    /// Its command runs.
    Running,
    /// It ended.
    Ended(Outcome),
}

/// An occurrence as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// Its id.
    pub id: OccurrenceId,
    /// When it was due, or asked for.
    pub at: DateTime<Utc>,
    /// Who asked for it; `None` for one of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Where it is.
    pub progress: Progress,
    /// How often it was started, this time included.
    pub attempts: u32,
    /// When its command began, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DateTime<Utc>>,
    /// The exit status of its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i64>,
    /// Why it waits, or ended as it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// The engine's task that runs it; only while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The last lines of its output, oldest first; none for those who may not read logs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// A deployed job with its occurrences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name.
    pub name: JobName,
    /// The number of its definition.
    pub number: u64,
    /// Its schedule, a cron expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The time zone of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// When it is due next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DateTime<Utc>>,
    /// Why it can't run, where its definition can't be read or used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its occurrences, newest first.
    pub occurrences: Vec<Occurrence>,
}

/// All jobs of a cluster, and the commands that were run with services' images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    /// Version of this document, 1.
    pub version: u32,
    /// The jobs, sorted by name.
    pub jobs: Vec<JobStatus>,
    /// The commands, newest first.
    pub commands: Vec<Occurrence>,
}

impl Jobs {
    /// The occurrence with that id.
    pub fn occurrence(&self, id: &OccurrenceId) -> Option<&Occurrence> {
        self.jobs.iter().flat_map(|job| &job.occurrences).chain(&self.commands).find(|one| one.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_fits_the_engine_s_names_and_is_read_as_it_was_written() {
        let name: JobName = "n".repeat(40).parse().expect("a name");
        let at = "2026-11-29T02:00:00Z".parse().expect("a time");
        let id = OccurrenceId::due(&name, at);
        // Names of objects have 64 characters, and one more part says which attempt.
        assert!(id.to_string().len() + ".99".len() <= 64, "{id}");
        assert_eq!(id.to_string().parse(), Ok(id));
        let asked = OccurrenceId::asked(Kind::Command, "web", "x1a2b").expect("a key");
        assert_eq!(asked.to_string(), "run.web.x1a2b");
        let before = OccurrenceId::before(&"n".repeat(40), 99_999);
        assert!(before.to_string().len() + ".99".len() <= 64, "{before}");
        assert_eq!((before.to_string().parse(), before.revision()), (Ok(before.clone()), Some(99_999)));
        assert_eq!(asked.revision(), None);
        for bad in ["", "job", "job.web", "job.web.", "job.Web.1", "pod.web.1", "job.web.1.2", "job.web.a_b"]
        {
            assert!(bad.parse::<OccurrenceId>().is_err(), "{bad}");
        }
        // What somebody chooses is never the time of an occurrence.
        assert!(OccurrenceId::asked(Kind::Job, "web", "202611290200").is_err());
    }
}
