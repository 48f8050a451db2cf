//! The objects of the engine that jobs are kept in. All are config objects, whose names decide who
//! creates them, whose data never changes, and whose labels change only as they were seen.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::job::{JobDeployment, OccurrenceId, Outcome, Work};
use crate::model::name::{JobName, MachineId};
use crate::model::occurrence::{End, Exit, Permit, Stop, Void};

/// The version of everything that is written here.
pub const VERSION: u32 = 1;

/// The label of a job's definition.
const JOB: &str = "fleetwright.job";
/// The label with the number of a definition.
const NUMBER: &str = "fleetwright.job-number";
/// The label of a definition that says that the job was removed.
const REMOVED: &str = "fleetwright.job-removed";
/// The label of the object that says how far a job is recorded.
const RECORD: &str = "fleetwright.job-record";
/// The label with the time up to which everything is recorded or forgotten, in seconds.
const RECORDED: &str = "fleetwright.job-recorded";
/// The label of a claim.
const CLAIM: &str = "fleetwright.claim";
/// The label of a claim with its outcome: a [`Settled`].
const SETTLED: &str = "fleetwright.settled";
/// The label of a permit: its occurrence.
const PERMIT: &str = "fleetwright.permit";
/// The label of a permit with its state: a [`StoredPermit`].
const STATE: &str = "fleetwright.permit-state";
/// The label of permits, services and containers with the number of the attempt.
pub const ATTEMPT: &str = "fleetwright.attempt";

/// A config object with what its labels are changed by.
#[derive(Debug, Clone)]
pub struct Object {
    /// The engine's id.
    pub id: String,
    /// Its version, for changes that must not overwrite another's.
    pub version: u64,
    /// When it was created, in the engine's count of changes: it never changes.
    pub created: DateTime<Utc>,
    spec: ConfigSpec,
}

impl Object {
    fn read(config: &Config) -> Option<Self> {
        Some(Self {
            id: config.id.clone()?,
            version: config.version.as_ref().and_then(|version| version.index)?,
            created: config.created_at?,
            spec: config.spec.clone()?,
        })
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.spec.labels.as_ref()?.get(name).map(String::as_str)
    }

    fn data<T: DeserializeOwned>(&self) -> Result<T, String> {
        let data = self.spec.data.as_ref().and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default();
        versioned(&data)
    }

    /// Its specification with another value of a label.
    fn with(&self, label: &str, value: String) -> ConfigSpec {
        let mut spec = self.spec.clone();
        spec.labels.get_or_insert_default().insert(label.to_owned(), value);
        spec
    }
}

/// Reads what this version wrote. A field that is not known is an error: to leave it out would run
/// something else than what was recorded.
pub fn versioned<T: DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    let value: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => return Err(format!("it has version {version}, and version {VERSION} is known")),
        None => return Err("it has no version".to_owned()),
    }
    serde_json::from_slice(data).map_err(|error| error.to_string())
}

/// A config object with that name, those labels and that data.
pub fn new<const N: usize>(name: String, labels: [(&str, String); N], data: &impl Serialize) -> ConfigSpec {
    // Every key is a string and every number is finite, so there is nothing that JSON can't hold.
    let data = serde_json::to_vec(data).unwrap_or_default();
    ConfigSpec {
        name: Some(name),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        data: Some(STANDARD.encode(data)),
        templating: None,
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The data of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredJob {
    version: u32,
    /// What is deployed.
    pub job: JobDeployment,
    /// Its schedule counts from then on.
    pub since: DateTime<Utc>,
}

/// A job's definition.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The object.
    pub object: Object,
    /// The job.
    pub name: JobName,
    /// The definition's number; the highest counts.
    pub number: u64,
    /// What it says; `None` for a removal, and why it can't be read.
    pub content: Option<Result<StoredJob, String>>,
}

impl Definition {
    /// Reads a config object; `None` for one that is no definition.
    pub fn read(config: &Config) -> Option<Self> {
        let object = Object::read(config)?;
        let removed = object.label(REMOVED).is_some();
        Some(Self {
            name: object.label(JOB)?.parse().ok()?,
            number: object.label(NUMBER)?.parse().ok()?,
            content: (!removed).then(|| object.data()),
            object,
        })
    }

    /// The object of a definition.
    pub fn create(job: &JobDeployment, number: u64, since: DateTime<Utc>) -> ConfigSpec {
        let name = &job.spec.name;
        let labels = [(JOB, name.to_string()), (NUMBER, number.to_string())];
        new(format!("jobs.{name}.{number}"), labels, &StoredJob { version: VERSION, job: job.clone(), since })
    }

    /// The object that says that a job was removed.
    pub fn removal(name: &JobName, number: u64) -> ConfigSpec {
        let labels = [(JOB, name.to_string()), (NUMBER, number.to_string()), (REMOVED, "yes".to_owned())];
        new(
            format!("jobs.{name}.{number}"),
            labels,
            &serde_json::json!({"version": VERSION, "removed": true}),
        )
    }
}

/// How far a job is recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    object: Object,
    /// The job.
    pub name: JobName,
    /// Everything up to then is recorded or forgotten.
    pub until: DateTime<Utc>,
}

impl Recorded {
    /// Reads a config object; `None` for another one.
    pub fn read(config: &Config) -> Option<Self> {
        let object = Object::read(config)?;
        Some(Self {
            name: object.label(RECORD)?.parse().ok()?,
            until: DateTime::from_timestamp(object.label(RECORDED)?.parse().ok()?, 0)?,
            object,
        })
    }

    /// The object of a new job.
    pub fn create(name: &JobName, until: DateTime<Utc>) -> ConfigSpec {
        let labels = [(RECORD, name.to_string()), (RECORDED, until.timestamp().to_string())];
        new(format!("jobs.{name}"), labels, &serde_json::json!({ "version": VERSION }))
    }

    /// The object's id and version, and what it says when it is raised to `until`.
    pub fn raised(&self, until: DateTime<Utc>) -> (&Object, ConfigSpec) {
        (&self.object, self.object.with(RECORDED, until.max(self.until).timestamp().to_string()))
    }
}

/// The data of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredClaim {
    version: u32,
    /// When it was due, or asked for.
    pub at: DateTime<Utc>,
    /// Who asked for it.
    pub by: Option<String>,
    /// What it runs.
    pub work: Option<Work>,
    /// Why it can't run.
    pub problem: Option<String>,
}

impl StoredClaim {
    /// A claim.
    pub fn new(at: DateTime<Utc>, by: Option<String>, work: Result<Work, String>) -> Self {
        let (work, problem) = match work {
            Ok(work) => (Some(work), None),
            Err(problem) => (None, Some(problem)),
        };
        Self { version: VERSION, at, by, work, problem }
    }
}

/// The outcome of an occurrence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    version: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// When that was recorded.
    pub at: DateTime<Utc>,
    /// Why.
    pub reason: Option<String>,
    /// How often it was started.
    pub attempts: u32,
    /// When its command began, the last time.
    pub started: Option<DateTime<Utc>>,
    /// When that ended.
    pub ended: Option<DateTime<Utc>>,
    /// The exit status.
    pub exit: Option<i64>,
    /// Where it ran.
    pub machine: Option<MachineId>,
    /// The last lines of its output.
    pub lines: Vec<String>,
}

impl Settled {
    /// An outcome without a command that ran.
    pub fn new(outcome: Outcome, at: DateTime<Utc>, reason: Option<String>) -> Self {
        Self {
            version: VERSION,
            outcome,
            at,
            reason,
            attempts: 0,
            started: None,
            ended: None,
            exit: None,
            machine: None,
            lines: Vec::new(),
        }
    }
}

/// The claim of an occurrence.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The object.
    pub object: Object,
    /// The occurrence.
    pub id: OccurrenceId,
    /// What it says, or why that can't be read.
    pub content: Result<StoredClaim, String>,
    /// Its outcome.
    pub settled: Option<Settled>,
}

impl Claim {
    /// Reads a config object; `None` for one that is no claim.
    pub fn read(config: &Config) -> Option<Self> {
        let object = Object::read(config)?;
        let id = object.label(CLAIM)?.parse().ok()?;
        let settled = object.label(SETTLED).map(|text| {
            // What another version recorded is an outcome as well.
            serde_json::from_str(text).unwrap_or_else(|_| {
                Settled::new(Outcome::Unknown, object.created, Some("its record can't be read".to_owned()))
            })
        });
        Some(Self { id, content: object.data(), settled, object })
    }

    /// The object of a claim, with its outcome if that is known.
    pub fn create(id: &OccurrenceId, claim: &StoredClaim, settled: Option<&Settled>) -> ConfigSpec {
        let mut spec = new(id.to_string(), [(CLAIM, id.to_string())], claim);
        if let Some(settled) = settled {
            spec.labels.get_or_insert_default().insert(SETTLED.to_owned(), json(settled));
        }
        spec
    }

    /// What the object says with its outcome.
    pub fn settled_as(&self, settled: &Settled) -> ConfigSpec {
        self.object.with(SETTLED, json(settled))
    }
}

/// The state of a permit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredPermit {
    version: u32,
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// The task that took it; `None` where a leader did.
    pub task: Option<String>,
    /// What its helper calls itself: it may ask again.
    pub nonce: Option<String>,
    /// The machine of the task.
    pub machine: Option<MachineId>,
    /// Why the attempt never runs.
    pub void: Option<StoredVoid>,
    /// Why it was stopped.
    pub stop: Option<StoredStop>,
    /// Since when its machine does not answer.
    pub lost: Option<DateTime<Utc>>,
    /// How it ended.
    pub end: Option<StoredEnd>,
    /// The last lines of its output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// [`Void`] as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredVoid {
    /// Another attempt follows.
    Moved,
    /// It could not be started.
    Failed(String),
    /// It is not to run any more.
    Withdrawn(Outcome, String),
}

/// [`Stop`] as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredStop {
    /// It took too long.
    TimedOut,
    /// A later occurrence takes its place.
    Replaced,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEnd {
    /// When.
    pub at: DateTime<Utc>,
    /// Its exit status.
    pub exit: Option<i64>,
    /// Whether it is unknown if it ended.
    #[serde(default)]
    pub unknown: bool,
    /// Whether the kernel killed it because it used more memory than it may.
    #[serde(default)]
    pub out_of_memory: bool,
}

impl StoredPermit {
    /// One that a task takes.
    pub fn held(at: DateTime<Utc>, task: &str, nonce: &str, machine: Option<MachineId>) -> Self {
        let (task, nonce) = (Some(task.to_owned()), Some(nonce.to_owned()));
        Self { task, nonce, machine, ..Self::empty(at) }
    }

    /// One that a leader takes.
    pub fn void(at: DateTime<Utc>, why: &Void) -> Self {
        Self { void: Some(stored_void(why)), ..Self::empty(at) }
    }

    fn empty(at: DateTime<Utc>) -> Self {
        Self {
            version: VERSION,
            at,
            task: None,
            nonce: None,
            machine: None,
            void: None,
            stop: None,
            lost: None,
            end: None,
            lines: Vec::new(),
        }
    }

    /// As the decision sees it.
    pub fn permit(&self) -> Permit {
        if let Some(void) = &self.void {
            let why = match void.clone() {
                StoredVoid::Moved => Void::Moved,
                StoredVoid::Failed(reason) => Void::Failed(reason),
                StoredVoid::Withdrawn(outcome, reason) => Void::Withdrawn(outcome, reason),
            };
            return Permit::Void { why, at: self.at };
        }
        let end = self.end.as_ref().map(|end| End {
            at: end.at,
            exit: if end.unknown { Exit::Unknown } else { Exit::Status(end.exit) },
        });
        let stop = self.stop.map(|stop| match stop {
            StoredStop::TimedOut => Stop::TimedOut,
            StoredStop::Replaced => Stop::Replaced,
        });
        Permit::Held { since: self.at, stop, lost: self.lost, end }
    }
}

/// As it is stored.
pub fn stored_void(why: &Void) -> StoredVoid {
    match why.clone() {
        Void::Moved => StoredVoid::Moved,
        Void::Failed(reason) => StoredVoid::Failed(reason),
        Void::Withdrawn(outcome, reason) => StoredVoid::Withdrawn(outcome, reason),
    }
}

/// As it is stored.
pub fn stored_stop(why: Stop) -> StoredStop {
    match why {
        Stop::TimedOut => StoredStop::TimedOut,
        Stop::Replaced => StoredStop::Replaced,
    }
}

/// The permit of an attempt.
#[derive(Debug, Clone)]
pub struct PermitObject {
    /// The object.
    pub object: Object,
    /// The occurrence.
    pub id: OccurrenceId,
    /// The attempt.
    pub attempt: u32,
    /// Its state.
    pub state: StoredPermit,
}

impl PermitObject {
    /// Reads a config object; `None` for one that is no permit.
    pub fn read(config: &Config) -> Option<Self> {
        let object = Object::read(config)?;
        let id = object.label(PERMIT)?.parse().ok()?;
        let attempt = object.label(ATTEMPT)?.parse().ok()?;
        // One that can't be read is taken: nothing runs because of it, and nothing is tried again.
        let taken = || StoredPermit::empty(object.created);
        let state =
            object.label(STATE).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(taken);
        Some(Self { id, attempt, state, object })
    }

    /// The object of a permit.
    pub fn create(id: &OccurrenceId, attempt: u32, state: &StoredPermit) -> ConfigSpec {
        let labels = [(PERMIT, id.to_string()), (ATTEMPT, attempt.to_string()), (STATE, json(state))];
        new(format!("{id}.{attempt}"), labels, &serde_json::json!({ "version": VERSION }))
    }

    /// What the object says in another state.
    pub fn noting(&self, change: impl FnOnce(&mut StoredPermit)) -> ConfigSpec {
        let mut state = self.state.clone();
        change(&mut state);
        self.object.with(STATE, json(&state))
    }
}

/// All objects of jobs.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// The definitions.
    pub definitions: Vec<Definition>,
    /// How far jobs are recorded.
    pub recorded: HashMap<JobName, Recorded>,
    /// The claims.
    pub claims: Vec<Claim>,
    /// The permits.
    pub permits: Vec<PermitObject>,
}

impl Objects {
    /// Those among the swarm's config objects.
    pub fn read(configs: &[Config]) -> Self {
        let recorded = configs.iter().filter_map(Recorded::read);
        Self {
            definitions: configs.iter().filter_map(Definition::read).collect(),
            recorded: recorded.map(|one| (one.name.clone(), one)).collect(),
            claims: configs.iter().filter_map(Claim::read).collect(),
            permits: configs.iter().filter_map(PermitObject::read).collect(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.claims.is_empty() && self.permits.is_empty()
    }

    /// The definition of a job that counts; a removal is one.
    pub fn definition(&self, name: &JobName) -> Option<&Definition> {
        self.definitions.iter().filter(|one| one.name == *name).max_by_key(|one| one.number)
    }

    /// The claim of an occurrence.
    pub fn claim(&self, id: &OccurrenceId) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == *id)
    }

    /// The permit of an attempt.
    pub fn permit(&self, id: &OccurrenceId, attempt: u32) -> Option<&PermitObject> {
        self.permits.iter().find(|permit| permit.id == *id && permit.attempt == attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(spec: ConfigSpec) -> Config {
        Config {
            id: Some("c1".to_owned()),
            version: Some(bollard::models::ObjectVersion { index: Some(7) }),
            created_at: Some("2026-11-29T02:30:00Z".parse().expect("a time")),
            spec: Some(spec),
            ..Config::default()
        }
    }

    #[test]
    fn what_is_written_is_read_and_changed_by_labels_only() {
        let id: OccurrenceId = "job.report.202611290230".parse().expect("an id");
        let at = "2026-11-29T02:30:00Z".parse().expect("a time");
        let claim = StoredClaim::new(at, None, Err("no image".to_owned()));
        let read = Claim::read(&config(Claim::create(&id, &claim, None))).expect("a claim");
        assert_eq!((read.content.clone(), read.settled.clone()), (Ok(claim), None));
        let settled = Settled::new(Outcome::Failed, at, Some("no image".to_owned()));
        let spec = read.settled_as(&settled);
        assert_eq!(spec.data, read.object.spec.data);
        assert_eq!(Claim::read(&config(spec)).expect("a claim").settled, Some(settled));
        let held = PermitObject::create(&id, 2, &StoredPermit::held(at, "t1", "n1", None));
        let read = PermitObject::read(&config(held)).expect("a permit");
        assert_eq!((read.attempt, read.state.nonce.as_deref()), (2, Some("n1")));
        let void = read.noting(|state| state.void = Some(StoredVoid::Moved));
        let void = PermitObject::read(&config(void)).expect("a permit").state.permit();
        assert_eq!(void, Permit::Void { why: Void::Moved, at });
        let name: JobName = "report".parse().expect("a name");
        let recorded = Recorded::read(&config(Recorded::create(&name, at))).expect("a record");
        let (_, raised) = recorded.raised(at + chrono::TimeDelta::seconds(60));
        assert_eq!(
            Recorded::read(&config(raised)).expect("a record").until,
            at + chrono::TimeDelta::seconds(60)
        );
        // None of them is a revision of a service, and none is taken for another.
        for spec in [
            Claim::create(&id, &StoredClaim::new(at, None, Err(String::new())), None),
            Recorded::create(&name, at),
        ] {
            assert!(super::super::super::history::Record::read(&config(spec.clone())).is_none());
            assert!(PermitObject::read(&config(spec)).is_none());
        }
    }

    #[test]
    fn what_a_later_version_wrote_is_never_run() {
        let text = r#"{"version":2,"at":"2026-11-29T02:30:00Z","by":null,"work":null,"problem":null}"#;
        assert!(versioned::<StoredClaim>(text.as_bytes()).is_err());
        let more =
            r#"{"version":1,"at":"2026-11-29T02:30:00Z","by":null,"work":null,"problem":null,"more":1}"#;
        assert!(versioned::<StoredClaim>(more.as_bytes()).is_err());
        let labels = HashMap::from([
            (PERMIT.to_owned(), "job.report.202611290230".to_owned()),
            (ATTEMPT.to_owned(), "1".to_owned()),
            (STATE.to_owned(), "of a later version".to_owned()),
        ]);
        let spec = ConfigSpec { labels: Some(labels), ..ConfigSpec::default() };
        let permit = PermitObject::read(&config(spec)).expect("a permit").state.permit();
        assert!(matches!(permit, Permit::Held { end: None, .. }), "it is taken: {permit:?}");
    }

    #[test]
    fn every_recorded_object_loads() {
        for (name, text) in crate::source::samples::of("jobs") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let all = |key: &str| sample[key].as_array().expect(key).clone();
            for one in all("jobs") {
                versioned::<StoredJob>(one.to_string().as_bytes()).expect(&name);
            }
            for one in all("claims") {
                versioned::<StoredClaim>(one.to_string().as_bytes()).expect(&name);
            }
            for one in all("settled") {
                serde_json::from_value::<Settled>(one).expect(&name);
            }
            for one in all("permits") {
                serde_json::from_value::<StoredPermit>(one).expect(&name);
            }
        }
    }
}
