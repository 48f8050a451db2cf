//! A service's revisions: kept in the swarm as one config object each, whose data is the
//! deployment and whose labels hold its outcome.
//!
//! The outcome of the newest revisions is derived from what the engine reports, so that it
//! is right at once, and recorded in the labels afterwards, because the engine forgets.
//!
//! A control machine of another version may have written a record. Its data is therefore never
//! serialised again: what is written back is what was read, with our labels changed. A record
//! that cannot be read is kept, shown, and never deployed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec, ServiceUpdateStatusStateEnum as Update};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::observe::short;
use super::spec::{self, REVISION, SERVICE, TEMPLATE};
use super::verdict::Verdict;
use crate::model::desired::Kept;
use crate::model::duration::human;
use crate::model::name::Digest;
use crate::model::service::{Deployment, FailedInstance, Origin, PreDeployState, Revision, RevisionState};
use crate::port::cluster::ClusterError;

/// The label that holds what became of a revision.
const OUTCOME: &str = "fleetwright.outcome";
/// The label that is there once all instances of a revision were healthy.
const RAN: &str = "fleetwright.ran";
/// The label that holds why it failed.
const REASON: &str = "fleetwright.reason";
/// The label that holds the first failure a machine reported of it.
const FAILURE: &str = "fleetwright.failure";

/// The label that holds the first instance that failed, as JSON: a [`StoredFailure`].
const FAILED: &str = "fleetwright.failed";
/// The label that holds when a restored revision's rollout began, in RFC 3339. The object itself
/// is as old as the cluster that it was restored to.
const SINCE: &str = "fleetwright.since";
/// The label of a record with how far its `pre_deploy` command is: a word of [`Before`].
const BEFORE: &str = "fleetwright.before";
/// The label of a record that says that the service was removed.
const REMOVED: &str = "fleetwright.removed";

/// The version of [`Stored`] that is written.
const STORED_VERSION: u32 = 1;
/// How many revisions of a service are shown.
const SHOWN: usize = 10;
/// How many are kept; more than shown, so that a rollback finds its target behind failures.
pub const KEPT: usize = 15;

/// The data of a config object.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    deployment: Deployment,
}

/// The data of the label [`FAILED`].
#[derive(Debug, Serialize, Deserialize)]
struct StoredFailure {
    version: u32,
    instance: FailedInstance,
}

/// What a record deploys.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A deployment.
    Deployment(Box<Deployment>),
    /// Nothing: the service was removed.
    Removed,
    /// A deployment that this program can't read.
    Unreadable(Unreadable),
}

/// What is known of a deployment that can't be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// Why it can't be read.
    pub reason: String,
    /// Its image, where that can be found.
    pub digest: Option<Digest>,
    /// Where it came from, as far as that can be found.
    pub origin: Origin,
}

/// How far a revision is that runs a command before it is rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It waits for the command.
    Waits,
    /// The command has succeeded, and the service was updated.
    Begun,
    /// The command failed.
    Failed,
    /// The command's machine was lost.
    Unknown,
}

impl Before {
    fn word(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Begun => "begun",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// A word of another version is read as the end of the wait: nothing is begun because of it.
    fn read(word: &str) -> Self {
        let all = [Self::Waits, Self::Begun, Self::Failed, Self::Unknown];
        all.into_iter().find(|one| one.word() == word).unwrap_or(Self::Unknown)
    }
}

/// One revision as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The config object's id.
    pub id: String,
    /// The config object's version, for updates that must not overwrite another's.
    pub version: u64,
    /// The service's name.
    pub service: String,
    /// The revision's number.
    pub number: u64,
    /// The id of its instances' template; `None` where an earlier version recorded it.
    pub template: Option<String>,
    /// The object's specification as it was read. Its data is never written anew.
    pub spec: ConfigSpec,
    /// What it deploys.
    pub content: Content,
    /// Its outcome, once that is settled.
    pub outcome: Option<RevisionState>,
    /// Whether its outcome is a word of another version of this program, which is left alone.
    pub foreign: bool,
    /// Whether it once ran whole.
    pub ran: bool,
    /// How far its `pre_deploy` command is; `None` for a revision that runs none.
    pub before: Option<Before>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The first failure that a machine reported.
    pub failure: Option<String>,
    /// The first of its instances that ended.
    pub failed: Option<FailedInstance>,
    /// When its rollout began.
    pub since: DateTime<Utc>,
}

impl Record {
    /// Reads a config object; `None` for one that is not a revision of ours.
    pub fn read(config: &Config) -> Option<Self> {
        let spec = config.spec.as_ref()?;
        let labels = spec.labels.as_ref()?;
        let recorded = labels.get(OUTCOME);
        let known = recorded.and_then(|word| outcome(word));
        let restored = labels.get(SINCE).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        Some(Self {
            id: config.id.clone()?,
            version: config.version.as_ref().and_then(|version| version.index)?,
            service: labels.get(SERVICE)?.clone(),
            number: labels.get(REVISION)?.parse().ok()?,
            content: if labels.contains_key(REMOVED) { Content::Removed } else { content(spec) },
            template: labels.get(TEMPLATE).cloned(),
            outcome: known,
            foreign: recorded.is_some() && known.is_none(),
            ran: labels.contains_key(RAN),
            before: labels.get(BEFORE).map(|word| Before::read(word)),
            reason: labels.get(REASON).cloned(),
            failure: labels.get(FAILURE).cloned(),
            // One of another version is not shown, and carried.
            failed: labels
                .get(FAILED)
                .and_then(|text| serde_json::from_str::<StoredFailure>(text).ok())
                .filter(|stored| stored.version == STORED_VERSION)
                .map(|stored| stored.instance),
            since: restored.map(|at| at.with_timezone(&Utc)).or(config.created_at)?,
            spec: spec.clone(),
        })
    }

    /// The config object that keeps a new revision, which first waits for its command if it `waits`.
    ///
    /// # Errors
    /// When the deployment can't be written as JSON.
    pub fn create(
        deployment: &Deployment,
        number: u64,
        waits: bool,
    ) -> Result<ConfigSpec, serde_json::Error> {
        let stored = Stored { version: STORED_VERSION, deployment: deployment.clone() };
        let mut spec = object(deployment.spec.name.as_str(), number, &serde_json::to_vec(&stored)?);
        let labels = spec.labels.get_or_insert_default();
        labels.insert(TEMPLATE.to_owned(), spec::template_id(deployment));
        if waits {
            labels.insert(BEFORE.to_owned(), Before::Waits.word().to_owned());
        }
        Ok(spec)
    }

    /// The config object that says that a service was removed. The removal takes a number, so that
    /// the next revision has a higher one than any before.
    pub fn removal(service: &str, number: u64) -> ConfigSpec {
        let data = format!("{{\"version\":{STORED_VERSION},\"removed\":true}}");
        let mut spec = object(service, number, data.as_bytes());
        spec.labels.get_or_insert_default().insert(REMOVED.to_owned(), "yes".to_owned());
        spec
    }

    /// The config object of a revision that is restored.
    pub fn restored(service: &str, kept: &Kept) -> ConfigSpec {
        let stored = serde_json::json!({ "version": kept.format, "deployment": kept.deployment });
        let mut spec = object(service, kept.number, stored.to_string().as_bytes());
        let labels = spec.labels.get_or_insert_default();
        labels.insert(OUTCOME.to_owned(), word(kept.state).to_owned());
        labels.insert(SINCE.to_owned(), kept.since.to_rfc3339());
        if let Ok(deployment) = deployment(kept) {
            labels.insert(TEMPLATE.to_owned(), spec::template_id(&deployment));
        }
        if kept.ran {
            labels.insert(RAN.to_owned(), "yes".to_owned());
        }
        if let Some(reason) = &kept.reason {
            labels.insert(REASON.to_owned(), reason.clone());
        }
        spec
    }

    /// The revision as it is kept outside the swarm, with `replicas` instances where a change of
    /// nothing else has set another number; `None` for a removal, and for data that is not even JSON.
    pub fn kept(&self, state: RevisionState, replicas: Option<u32>) -> Option<Kept> {
        if self.is_removal() {
            return None;
        }
        let data = STANDARD.decode(self.spec.data.as_ref()?).ok()?;
        let mut stored: serde_json::Value = serde_json::from_slice(&data).ok()?;
        let written = stored.pointer_mut("/deployment/spec/scale/replicas");
        if let (Some(written), Some(replicas)) = (written, replicas) {
            *written = replicas.into();
        }
        Some(Kept {
            number: self.number,
            state,
            ran: self.ran,
            reason: self.reason.clone(),
            since: self.since,
            format: u32::try_from(stored.get("version")?.as_u64()?).ok()?,
            deployment: stored.get_mut("deployment")?.take(),
        })
    }

    /// The record with what a machine saw of an instance, if that is the first failure: what fails
    /// later may only be what the first caused. A revision that ran once keeps no failures.
    pub fn noting(
        mut self,
        instance: &str,
        probe: Option<&str>,
        failed: Option<FailedInstance>,
    ) -> Option<Self> {
        if self.ran {
            return None;
        }
        let before = (self.failure.clone(), self.failed.clone());
        if self.failure.is_none() {
            self.failure = match (&failed, probe) {
                (Some(failed), _) if failed.out_of_memory || failed.error.is_some() => {
                    Some(format!("{instance} {}", failed.cause()))
                }
                (_, Some(probe)) => Some(format!("{instance} never became healthy: {}", short(probe))),
                (Some(failed), None) => Some(format!("{instance} {}", failed.cause())),
                (None, None) => None,
            };
        }
        self.failed = self.failed.or(failed);
        (before != (self.failure.clone(), self.failed.clone())).then_some(self)
    }

    /// The record once its rollout has begun, at that time.
    pub fn begun(self, at: DateTime<Utc>) -> Self {
        Self { before: Some(Before::Begun), since: at, ..self }
    }

    /// Whether its rollout waits for its `pre_deploy` command.
    pub fn waits(&self) -> bool {
        self.before == Some(Before::Waits) && self.outcome.is_none() && !self.foreign
    }

    /// Whether the record says that the service was removed.
    pub fn is_removal(&self) -> bool {
        self.content == Content::Removed
    }

    /// What it deploys.
    ///
    /// # Errors
    /// Why that can't be read.
    pub fn deployment(&self) -> Result<&Deployment, String> {
        match &self.content {
            Content::Deployment(deployment) => Ok(deployment),
            Content::Removed => Err(format!("revision {} is a removal", self.number)),
            Content::Unreadable(unreadable) => Err(unreadable.reason.clone()),
        }
    }

    /// The object's specification as it was read, with everything the record says by now in its
    /// labels. The engine accepts changes of labels only.
    pub fn updated(&self) -> ConfigSpec {
        let mut spec = self.spec.clone();
        let labels = spec.labels.get_or_insert_default();
        if let Some(state) = self.outcome {
            labels.insert(OUTCOME.to_owned(), word(state).to_owned());
        }
        if self.ran {
            labels.insert(RAN.to_owned(), "yes".to_owned());
        }
        if let Some(reason) = &self.reason {
            labels.insert(REASON.to_owned(), reason.clone());
        }
        if let Some(before) = self.before {
            labels.insert(BEFORE.to_owned(), before.word().to_owned());
        }
        if self.before == Some(Before::Begun) {
            labels.insert(SINCE.to_owned(), self.since.to_rfc3339());
        }
        if let Some(failure) = &self.failure {
            labels.insert(FAILURE.to_owned(), failure.clone());
        }
        let stored = self.failed.clone().map(|instance| StoredFailure { version: STORED_VERSION, instance });
        if let Some(text) = stored.and_then(|stored| serde_json::to_string(&stored).ok()) {
            labels.insert(FAILED.to_owned(), text);
        }
        spec
    }

    fn revision(&self, state: RevisionState, reason: Option<String>, now: &Now) -> Revision {
        let (digest, origin, unread) = match &self.content {
            Content::Deployment(deployment) => {
                (Some(deployment.digest.clone()), deployment.origin.clone(), None)
            }
            Content::Unreadable(one) => (one.digest.clone(), one.origin.clone(), Some(one.reason.clone())),
            Content::Removed => (None, Origin::by_hand(), None),
        };
        let failed = self.failed.clone().filter(|_| state != RevisionState::Running && !self.ran);
        let pre_deploy = self.before.and_then(|before| match before {
            // The service is at it already, and only its record is behind.
            Before::Waits if self.number == now.current => Some(PreDeployState::Succeeded),
            Before::Waits if self.waits() => {
                Some(now.commands.get(&self.number).copied().unwrap_or(PreDeployState::Waiting))
            }
            Before::Waits => None,
            Before::Begun => Some(PreDeployState::Succeeded),
            Before::Failed => Some(PreDeployState::Failed),
            Before::Unknown => Some(PreDeployState::Unknown),
        });
        Revision {
            number: self.number,
            digest,
            origin,
            state,
            reason: reason.or(unread),
            pre_deploy,
            failed,
            since: self.since,
        }
    }
}

fn object(service: &str, number: u64, data: &[u8]) -> ConfigSpec {
    ConfigSpec {
        name: Some(format!("fleetwright.{service}.{number}")),
        labels: Some(HashMap::from([
            (SERVICE.to_owned(), service.to_owned()),
            (REVISION.to_owned(), number.to_string()),
        ])),
        data: Some(STANDARD.encode(data)),
        templating: None,
    }
}

/// What a config object deploys.
fn content(spec: &ConfigSpec) -> Content {
    let data = spec.data.as_ref().and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default();
    read(&data).map_or_else(Content::Unreadable, |deployment| Content::Deployment(Box::new(deployment)))
}

/// Reads a revision's deployment. A field that is not known is an error: to leave it out would
/// deploy something else than what was recorded.
fn read(data: &[u8]) -> Result<Deployment, Unreadable> {
    let value: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let bad = |reason: String| Unreadable {
        reason: format!("this control machine can't read its record: {reason}"),
        digest: value.pointer("/deployment/digest").and_then(|text| text.as_str()?.parse().ok()),
        origin: value
            .pointer("/deployment/origin")
            .map(|origin| {
                let text =
                    |key: &str| origin.get(key).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
                Origin { repository: text("repository"), commit: text("commit"), subject: text("subject") }
            })
            .unwrap_or_else(Origin::by_hand),
    };
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(STORED_VERSION) => {}
        Some(version) => {
            return Err(bad(format!("it has version {version}, and version {STORED_VERSION} is known")));
        }
        None => return Err(bad("it has no version".to_owned())),
    }
    serde_json::from_slice::<Stored>(data)
        .map(|stored| stored.deployment)
        .map_err(|error| bad(error.to_string()))
}

/// Reads the deployment of a revision that is kept outside the swarm.
///
/// # Errors
/// Why it can't be read.
pub fn deployment(kept: &Kept) -> Result<Deployment, String> {
    let stored = serde_json::json!({ "version": kept.format, "deployment": kept.deployment });
    read(stored.to_string().as_bytes()).map_err(|unreadable| unreadable.reason)
}

/// What the engine says about a service at this moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Now {
    /// The revision that its specification belongs to.
    pub current: u64,
    /// How the last update goes or went; `None` when the service was only created.
    pub update: Option<Update>,
    /// The engine's words for that.
    pub update_message: Option<String>,
    /// Whether as many instances of the current revision are healthy as there should be.
    pub whole: bool,
    /// Why instances of a revision failed, by its number.
    pub failures: HashMap<u64, String>,
    /// What the instances of the current revision say about its rollout.
    pub verdict: Verdict,
    /// An instance of it that is not healthy, and why.
    pub waiting: Option<String>,
    /// Whether the engine goes back when the update fails.
    pub rolls_back: bool,
    /// How far the commands of revisions are that wait for them.
    pub commands: HashMap<u64, PreDeployState>,
}

impl Now {
    /// Whether the engine still works on an update whose deadline has passed, and can go back.
    pub fn is_overdue(&self) -> bool {
        self.update == Some(Update::UPDATING)
            && matches!(self.verdict, Verdict::Expired { .. })
            && self.rolls_back
    }

    /// Why the rollout of the current revision failed.
    fn verdict_reason(&self, failure: Option<String>) -> Option<String> {
        match self.verdict {
            Verdict::Open | Verdict::Succeeded => failure,
            Verdict::KeepsFailing { times } => Some(format!(
                "{} ({times} times)",
                failure.unwrap_or_else(|| "an instance failed".to_owned())
            )),
            Verdict::Expired { deadline } => {
                let detail = self.waiting.clone().or(failure);
                let detail = detail.map_or_else(String::new, |detail| format!(": {detail}"));
                Some(format!("it was not healthy within {}{detail}", human(deadline)))
            }
        }
    }
}

/// What became of each revision, newest first.
pub fn derive(records: &[Record], now: &Now) -> Vec<(Record, RevisionState)> {
    let mut derived: Vec<_> = records
        .iter()
        .filter(|record| !record.is_removal())
        .filter_map(|record| {
            let mut record = record.clone();
            let state = state_of(&record, now)?;
            if state == RevisionState::Running {
                record.ran = true;
            }
            let gone_wrong = matches!(state, RevisionState::RolledBack | RevisionState::Failed);
            let going_back =
                state == RevisionState::RollingOut && record.number > now.current && !record.waits();
            if (gone_wrong || going_back) && record.reason.is_none() {
                record.reason = reason(&record, now);
            }
            Some((record, state))
        })
        .collect();
    derived.sort_by_key(|(record, _)| std::cmp::Reverse(record.number));
    derived
}

/// Why the rollout of a revision failed.
pub fn reason(record: &Record, now: &Now) -> Option<String> {
    let failure = record.failure.clone().or_else(|| now.failures.get(&record.number).cloned());
    let judged = if record.number == now.current { now.verdict_reason(failure) } else { failure };
    judged.or_else(|| now.update_message.clone())
}

fn state_of(record: &Record, now: &Now) -> Option<RevisionState> {
    if let Some(settled @ (RevisionState::RolledBack | RevisionState::Failed)) = record.outcome {
        // A revision whose first rollout failed may still have become whole in the end.
        if !(record.number == now.current && now.whole) {
            return Some(settled);
        }
    }
    if record.number < now.current {
        return Some(RevisionState::Replaced);
    }
    // The time that its command took does not count, and its record is about to say so.
    if record.waits() {
        return Some(RevisionState::RollingOut);
    }
    if record.number > now.current {
        if let (Some(Before::Waits), Some(RevisionState::Replaced)) = (record.before, record.outcome) {
            return Some(RevisionState::Replaced);
        }
        return match now.update {
            Some(Update::ROLLBACK_COMPLETED) => Some(RevisionState::RolledBack),
            Some(Update::ROLLBACK_PAUSED) => Some(RevisionState::Failed),
            Some(Update::ROLLBACK_STARTED) => Some(RevisionState::RollingOut),
            // Written, and the service not yet updated to it: it is not there yet.
            Some(Update::UPDATING | Update::PAUSED | Update::COMPLETED | Update::EMPTY) | None => None,
        };
    }
    // Moves and rescheduling of a revision that ran don't make it a rollout again.
    if record.ran {
        return Some(RevisionState::Running);
    }
    Some(match now.update {
        Some(Update::UPDATING) if matches!(now.verdict, Verdict::Expired { .. }) && !now.rolls_back => {
            RevisionState::Failed
        }
        Some(Update::UPDATING | Update::ROLLBACK_STARTED) => RevisionState::RollingOut,
        Some(Update::PAUSED | Update::ROLLBACK_PAUSED) => RevisionState::Failed,
        // The engine has watched every instance for `monitor` already.
        Some(Update::COMPLETED | Update::ROLLBACK_COMPLETED) if now.whole => RevisionState::Running,
        Some(Update::COMPLETED | Update::ROLLBACK_COMPLETED | Update::EMPTY) | None => match now.verdict {
            Verdict::Open => RevisionState::RollingOut,
            Verdict::Succeeded => RevisionState::Running,
            Verdict::KeepsFailing { .. } | Verdict::Expired { .. } => RevisionState::Failed,
        },
    })
}

/// The derived history as people see it.
pub fn shown(derived: Vec<(Record, RevisionState)>, now: &Now) -> Vec<Revision> {
    derived
        .into_iter()
        .take(SHOWN)
        .map(|(record, state)| {
            let reason = match state {
                RevisionState::Replaced | RevisionState::Running => None,
                RevisionState::RollingOut | RevisionState::RolledBack | RevisionState::Failed => {
                    record.reason.clone()
                }
            };
            record.revision(state, reason, now)
        })
        .collect()
}

/// The records whose labels must be written, because their outcome is settled now.
pub fn to_settle(records: &[Record], now: &Now) -> Vec<Record> {
    derive(records, now)
        .into_iter()
        .filter(|(record, state)| *state != RevisionState::RollingOut && !record.foreign)
        .map(|(mut record, state)| {
            record.outcome = Some(state);
            record
        })
        .filter(|record| !records.contains(record))
        .collect()
}

/// The revision of that number.
///
/// # Errors
/// When none is kept.
pub fn find(records: &[Record], number: u64) -> Result<&Record, ClusterError> {
    let found = records.iter().find(|record| record.number == number && !record.is_removal());
    found.ok_or_else(|| ClusterError::NotFound { what: "revision", name: number.to_string() })
}

/// The revision to go back to: the last one before the present that ran whole.
pub fn rollback_target<'a>(records: &'a [Record], now: &Now) -> Option<&'a Record> {
    records
        .iter()
        .filter(|record| record.number < now.current && record.ran && !record.is_removal())
        .max_by_key(|record| record.number)
}

/// The records that are no longer worth keeping.
pub fn to_prune(records: &[Record], current: u64) -> Vec<&Record> {
    let mut newest: Vec<_> = records.iter().collect();
    newest.sort_by_key(|record| std::cmp::Reverse(record.number));
    newest.into_iter().skip(KEPT).filter(|record| record.number != current).collect()
}

/// The removal of a service, if nothing was deployed after it.
pub fn removal(records: &[Record]) -> Option<&Record> {
    records.iter().max_by_key(|record| record.number).filter(|record| record.is_removal())
}

fn word(state: RevisionState) -> &'static str {
    match state {
        RevisionState::RollingOut => "rolling-out",
        RevisionState::Running => "running",
        RevisionState::Replaced => "replaced",
        RevisionState::RolledBack => "rolled-back",
        RevisionState::Failed => "failed",
    }
}

fn outcome(text: &str) -> Option<RevisionState> {
    [RevisionState::Running, RevisionState::Replaced, RevisionState::RolledBack, RevisionState::Failed]
        .into_iter()
        .find(|state| word(*state) == text)
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::deployment;
    use super::*;
    use bollard::models::ObjectVersion;
    use proptest::prelude::*;

    fn record(number: u64) -> Record {
        let deployment = deployment("web", 'a');
        Record {
            id: format!("c{number}"),
            version: number,
            service: "web".into(),
            number,
            spec: Record::create(&deployment, number, false).expect("JSON"),
            content: Content::Deployment(Box::new(deployment)),
            template: Some("t".into()),
            outcome: None,
            foreign: false,
            ran: false,
            before: None,
            reason: None,
            failure: None,
            failed: None,
            since: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
        }
    }

    fn states(records: &[Record], now: &Now) -> Vec<(u64, RevisionState)> {
        derive(records, now).into_iter().map(|(record, state)| (record.number, state)).collect()
    }

    #[test]
    fn a_record_survives_its_config_object() {
        let mut before = record(3);
        before.template = Some(spec::template_id(before.deployment().expect("a deployment")));
        before.outcome = Some(RevisionState::RolledBack);
        before.reason = Some("web@1 never became healthy: 500 from /health".into());
        before.spec = before.updated();
        assert_eq!(Record::read(&config(before.updated())), Some(before));
    }

    fn config(spec: ConfigSpec) -> Config {
        Config {
            id: Some("c3".into()),
            version: Some(ObjectVersion { index: Some(3) }),
            created_at: DateTime::from_timestamp(1_700_000_000, 0),
            spec: Some(spec),
            ..Default::default()
        }
    }

    /// The sample with its data changed, as a control machine of another version may write it.
    fn written_by_another_version(edit: impl FnOnce(&mut serde_json::Value)) -> Config {
        let (_, text) = crate::source::samples::of("revision").remove(0);
        let mut config: Config = serde_json::from_str(&text).expect("the sample");
        let spec = config.spec.as_mut().expect("a specification");
        let data = STANDARD.decode(spec.data.as_ref().expect("data")).expect("base64");
        let mut value: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
        edit(&mut value);
        spec.data = Some(STANDARD.encode(format!("{value:#}")));
        config
    }

    /// Every version that was ever written must stay readable.
    #[test]
    fn every_recorded_revision_loads() {
        for (name, text) in crate::source::samples::of("revision") {
            let config: Config = serde_json::from_str(&text).expect("the sample");
            let record = Record::read(&config).expect("a record");
            let deployment = record.deployment().unwrap_or_else(|reason| panic!("{name}: {reason}"));
            assert_eq!((record.number, deployment.spec.ports[0].container), (2, 8080), "{name}");
            let exit = record.failed.map(|failed| failed.exit);
            assert_eq!(exit, (record.outcome == Some(RevisionState::Failed)).then_some(3), "{name}");
        }
    }

    #[test]
    fn an_outcome_is_recorded_without_touching_the_data() {
        for edit in [
            (|value: &mut serde_json::Value| {
                value["deployment"]["spec"]["secrets"] = serde_json::json!(["password"])
            }) as fn(&mut serde_json::Value),
            |value: &mut serde_json::Value| value["version"] = 2.into(),
            |value: &mut serde_json::Value| value["deployment"] = serde_json::json!("another shape"),
            |_| {},
        ] {
            let config = written_by_another_version(edit);
            let mut record = Record::read(&config).expect("a record");
            record.outcome = Some(RevisionState::RolledBack);
            let updated = record.updated();
            let before = config.spec.expect("a specification");
            assert_eq!(updated.data, before.data);
            assert_eq!(updated.name, before.name);
            assert_eq!(
                updated.labels.and_then(|labels| labels.get(OUTCOME).cloned()).as_deref(),
                Some("rolled-back")
            );
        }
    }

    #[test]
    fn labels_of_another_version_are_kept() {
        let mut config = written_by_another_version(|_| {});
        let labels = config.spec.as_mut().and_then(|spec| spec.labels.as_mut()).expect("labels");
        labels.insert("fleetwright.later".into(), "kept".into());
        labels.insert(OUTCOME.into(), "quarantined".into());
        let record = Record::read(&config).expect("a record");
        assert!(record.updated().labels.expect("labels").contains_key("fleetwright.later"));
        let now = Now { current: record.number, whole: true, ..Now::default() };
        assert_eq!(to_settle(&[record], &now), [], "an unknown outcome is not overwritten");
    }

    #[test]
    fn a_field_that_is_not_known_is_shown_and_never_dropped() {
        let config = written_by_another_version(|value| {
            value["deployment"]["spec"]["secrets"] = serde_json::json!(["password"]);
        });
        let record = Record::read(&config).expect("a record");
        let reason = record.deployment().expect_err("a field would be lost");
        assert!(reason.contains("secrets"), "{reason}");
        let mut ran = record.clone();
        ran.ran = true;
        let now = Now { current: 3, ..Now::default() };
        assert_eq!(
            rollback_target(std::slice::from_ref(&ran), &now).map(|one| one.number),
            Some(2),
            "it is not passed over"
        );
        let shown = shown(derive(&[record], &now), &now);
        assert!(shown[0].digest.is_some(), "{shown:?}");
        assert!(shown[0].reason.as_deref().is_some_and(|reason| reason.contains("secrets")), "{shown:?}");
    }

    #[test]
    fn a_removal_counts_and_is_no_revision() {
        let removal = Record::read(&config(Record::removal("web", 3))).expect("a record");
        assert!(removal.is_removal());
        let records = [record(2), removal];
        assert_eq!(super::removal(&records).map(|one| one.number), Some(3));
        assert_eq!(
            states(&records, &Now { current: 2, whole: true, verdict: Verdict::Succeeded, ..Now::default() }),
            [(2, RevisionState::Running)]
        );
        assert!(super::removal(&[record(4), records[1].clone()]).is_none(), "deployed again");
    }

    #[test]
    fn a_restored_revision_is_the_one_that_was_kept() {
        let mut before = record(3);
        before.template = Some(spec::template_id(before.deployment().expect("a deployment")));
        before.ran = true;
        let kept = before.kept(RevisionState::Running, None).expect("it can be kept");
        let after = Record::read(&config(Record::restored("web", &kept))).expect("a record");
        assert_eq!(
            (after.number, after.ran, after.outcome, after.since),
            (3, true, Some(RevisionState::Running), before.since)
        );
        assert_eq!(after.content, before.content);
        assert_eq!(after.kept(RevisionState::Running, None), Some(kept));
    }

    #[test]
    fn a_first_revision_rolls_out_until_it_is_whole() {
        let mut now = Now { current: 1, ..Now::default() };
        assert_eq!(states(&[record(1)], &now), [(1, RevisionState::RollingOut)]);
        now.whole = true;
        assert_eq!(states(&[record(1)], &now), [(1, RevisionState::RollingOut)], "it is watched for a while");
        now.verdict = Verdict::Succeeded;
        assert_eq!(states(&[record(1)], &now), [(1, RevisionState::Running)]);
    }

    #[test]
    fn a_first_revision_that_keeps_failing_has_failed_and_may_still_recover() {
        let failures = HashMap::from([(1, "web@1 failed: non-zero exit (1)".to_owned())]);
        let mut now =
            Now { current: 1, failures, verdict: Verdict::KeepsFailing { times: 3 }, ..Now::default() };
        let settled = to_settle(&[record(1)], &now);
        assert_eq!(settled[0].outcome, Some(RevisionState::Failed));
        assert_eq!(settled[0].reason.as_deref(), Some("web@1 failed: non-zero exit (1) (3 times)"));
        now.verdict = Verdict::Open;
        assert_eq!(states(&settled, &now), [(1, RevisionState::Failed)], "the next attempt changes nothing");
        (now.verdict, now.whole) = (Verdict::Succeeded, true);
        assert_eq!(states(&settled, &now), [(1, RevisionState::Running)]);
    }

    #[test]
    fn a_rollout_that_takes_too_long_has_failed() {
        let expired = Verdict::Expired { deadline: std::time::Duration::from_secs(300) };
        let waiting = Some("web@1 has no machine: no suitable node".to_owned());
        let mut now = Now { current: 2, verdict: expired, waiting, ..Now::default() };
        for update in [None, Some(Update::COMPLETED)] {
            now.update = update;
            let settled = to_settle(&[record(2)], &now);
            assert_eq!(settled[0].outcome, Some(RevisionState::Failed), "{update:?}");
            assert_eq!(
                settled[0].reason.as_deref(),
                Some("it was not healthy within 5 min: web@1 has no machine: no suitable node")
            );
        }
        // An update that the engine can undo is undone; one that is itself a way back is not.
        now.update = Some(Update::UPDATING);
        assert_eq!(states(&[record(2)], &now), [(2, RevisionState::Failed)]);
        now.rolls_back = true;
        assert!(now.is_overdue());
        assert_eq!(states(&[record(2)], &now), [(2, RevisionState::RollingOut)]);
    }

    #[test]
    fn the_first_failure_is_kept_with_its_last_lines() {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let failed = |exit, lines: &[&str]| FailedInstance {
            name: "web@1".into(),
            machine: "i-1".parse().ok(),
            at,
            exit,
            error: None,
            out_of_memory: false,
            probe: None,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let first =
            record(2).noting("web@1", None, Some(failed(3, &["no database"]))).expect("something new");
        assert_eq!(first.failure.as_deref(), Some("web@1 exited with status 3"));
        assert!(
            first.clone().noting("web@1", None, Some(failed(4, &[]))).is_none(),
            "it is the first that counts"
        );
        let read = Record::read(&config(first.updated())).expect("a record");
        assert_eq!(read.failed, Some(failed(3, &["no database"])));
        let now = Now { current: 2, verdict: Verdict::KeepsFailing { times: 3 }, ..Now::default() };
        let shown = shown(derive(std::slice::from_ref(&read), &now), &now);
        assert_eq!(shown[0].failed.as_ref().map(|failed| failed.exit), Some(3));
        // An unhealthy instance is reported before it ends, and its lines arrive with its end.
        let unhealthy = record(2).noting("web@1", Some("404 from /health"), None).expect("something new");
        let ended = unhealthy
            .noting("web@1", Some("404 from /health"), Some(failed(137, &["served"])))
            .expect("its end");
        assert_eq!(ended.failure.as_deref(), Some("web@1 never became healthy: 404 from /health"));
        assert_eq!(ended.failed.map(|failed| failed.lines), Some(vec!["served".to_owned()]));
        // What ran once has not failed.
        assert!(Record { ran: true, ..read }.noting("web@1", None, Some(failed(1, &[]))).is_none());
    }

    #[test]
    fn an_automatic_rollback_says_why() {
        let mut first = record(1);
        first.ran = true;
        let records = [first, record(2)];
        let mut now = Now {
            current: 1,
            update: Some(Update::ROLLBACK_STARTED),
            failures: HashMap::from([(2, "web@1 ended: non-zero exit (1)".to_owned())]),
            ..Now::default()
        };
        assert_eq!(states(&records, &now), [(2, RevisionState::RollingOut), (1, RevisionState::Running)]);
        now.update = Some(Update::ROLLBACK_COMPLETED);
        let settled = to_settle(&records, &now);
        assert_eq!(settled[0].outcome, Some(RevisionState::RolledBack));
        assert_eq!(settled[0].reason.as_deref(), Some("web@1 ended: non-zero exit (1)"));
        assert!(rollback_target(&settled, &now).is_none(), "there is nothing before revision 1");
    }

    #[test]
    fn what_a_machine_reported_wins_over_the_engines_words() {
        let mut second = record(2);
        second.failure = Some("web@1 never became healthy: 500 from /health".into());
        let now = Now {
            current: 1,
            update: Some(Update::ROLLBACK_COMPLETED),
            failures: HashMap::from([(2, "web@1 ended".to_owned())]),
            ..Now::default()
        };
        let shown = shown(derive(&[record(1), second], &now), &now);
        assert_eq!(shown[0].reason.as_deref(), Some("web@1 never became healthy: 500 from /health"));
    }

    #[test]
    fn a_revision_that_is_not_begun_is_not_there() {
        let now = Now { current: 1, update: Some(Update::COMPLETED), whole: true, ..Now::default() };
        assert_eq!(states(&[record(1), record(2)], &now), [(1, RevisionState::Running)]);
    }

    #[test]
    fn a_revision_that_waits_for_its_command_rolls_out_and_is_judged_from_its_beginning() {
        let mut first = record(1);
        first.ran = true;
        let config = Record::create(&spec::tests::deployment("web", 'b'), 2, true).expect("JSON");
        let second = Record::read(&self::config(config)).expect("a record");
        assert!(second.waits());
        // Whatever the outcome of the update before it.
        for update in [None, Some(Update::COMPLETED), Some(Update::ROLLBACK_COMPLETED)] {
            let update_message = Some("of the update before".to_owned());
            let mut now = Now { current: 1, update, update_message, whole: true, ..Now::default() };
            now.verdict = Verdict::Succeeded;
            let records = [first.clone(), second.clone()];
            assert_eq!(states(&records, &now), [(2, RevisionState::RollingOut), (1, RevisionState::Running)]);
            assert!(to_settle(&records, &now).iter().all(|record| record.number == 1), "{update:?}");
            now.commands.insert(2, PreDeployState::Running);
            let shown = shown(derive(&records, &now), &now);
            assert_eq!((shown[0].pre_deploy, &shown[0].reason), (Some(PreDeployState::Running), &None));
        }
        // The service is at it: its command has succeeded, and the time that this took does not count.
        let expired = Verdict::Expired { deadline: std::time::Duration::from_secs(300) };
        let mut now = Now { current: 2, verdict: expired, update: Some(Update::UPDATING), ..Now::default() };
        assert_eq!(states(std::slice::from_ref(&second), &now), [(2, RevisionState::RollingOut)]);
        let began = DateTime::from_timestamp(1_700_000_600, 0).expect("a time");
        let second = Record::read(&self::config(second.begun(began).updated())).expect("a record");
        assert_eq!((second.since, second.waits()), (began, false));
        now.verdict = Verdict::Open;
        let shown = shown(derive(std::slice::from_ref(&second), &now), &now);
        assert_eq!(shown[0].pre_deploy, Some(PreDeployState::Succeeded));
    }

    #[test]
    fn a_command_that_failed_is_the_revision_s_failure() {
        let mut second = record(2);
        second.before = Some(Before::Unknown);
        second.outcome = Some(RevisionState::Failed);
        second.reason = Some("its machine was lost".to_owned());
        let second = Record::read(&config(second.updated())).expect("a record");
        let now = Now { current: 1, update: Some(Update::COMPLETED), whole: true, ..Now::default() };
        let shown = shown(derive(&[record(1), second], &now), &now);
        assert_eq!((shown[0].number, shown[0].state), (2, RevisionState::Failed));
        assert_eq!(shown[0].pre_deploy, Some(PreDeployState::Unknown));
        assert_eq!(shown[0].reason.as_deref(), Some("its machine was lost"));
        // One that gave way to another is replaced, though it never ran.
        let mut third = record(3);
        (third.before, third.outcome) = (Some(Before::Waits), Some(RevisionState::Replaced));
        assert_eq!(states(&[third], &now), [(3, RevisionState::Replaced)]);
    }

    #[test]
    fn moving_a_running_revision_is_no_rollout() {
        let mut second = record(2);
        second.ran = true;
        let now = Now { current: 2, update: Some(Update::UPDATING), ..Now::default() };
        assert_eq!(states(&[second], &now), [(2, RevisionState::Running)]);
    }

    #[test]
    fn rollback_goes_to_the_last_that_ran() {
        let mut records = [record(1), record(2), record(3), record(4)];
        records[0].ran = true;
        records[1].ran = true;
        records[2].outcome = Some(RevisionState::RolledBack);
        let now = Now { current: 4, ..Now::default() };
        assert_eq!(rollback_target(&records, &now).map(|record| record.number), Some(2));
    }

    proptest! {
        #[test]
        fn settling_twice_writes_once(ran in proptest::collection::vec(any::<bool>(), 1..8), current in 1_u64..8, whole: bool, which in 0_usize..8) {
            let updates = [None, Some(Update::EMPTY), Some(Update::UPDATING), Some(Update::PAUSED), Some(Update::COMPLETED),
                Some(Update::ROLLBACK_STARTED), Some(Update::ROLLBACK_PAUSED), Some(Update::ROLLBACK_COMPLETED)];
            let mut records: Vec<_> = ran.iter().zip(1..).map(|(ran, number)| Record { ran: *ran, ..record(number) }).collect();
            let now = Now { current, update: updates[which], whole, ..Now::default() };
            for settled in to_settle(&records, &now) {
                for record in &mut records {
                    if record.number == settled.number {
                        *record = settled.clone();
                    }
                }
            }
            prop_assert_eq!(to_settle(&records, &now), vec![]);
            prop_assert!(rollback_target(&records, &now).is_none_or(|target| target.number < current && target.ran));
        }
    }
}
