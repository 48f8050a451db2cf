//! A service's revisions: kept in the swarm as one config object each, whose data is the
//! deployment and whose labels say what became of it.
//!
//! What became of the newest revisions is derived from what the engine reports, so that it
//! is right at once, and recorded in the labels afterwards, because the engine forgets.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec, ServiceUpdateStatusStateEnum as Update};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::spec::{REVISION, SERVICE};
use crate::model::service::{Deployment, Revision, RevisionState};

/// The label that holds what became of a revision.
const OUTCOME: &str = "fleetwright.outcome";
/// The label that is there once all instances of a revision were healthy.
const RAN: &str = "fleetwright.ran";
/// The label that holds why it failed.
const REASON: &str = "fleetwright.reason";
/// The label that holds the first failure a machine reported of it.
const FAILURE: &str = "fleetwright.failure";

/// The version of [`Stored`] that is written.
const STORED_VERSION: u32 = 1;
/// How many revisions of a service are shown.
const SHOWN: usize = 10;
/// How many are kept; more than shown, so that a rollback finds its target behind failures.
pub const KEPT: usize = 15;

/// The data of a config object.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    deployment: Deployment,
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
    /// What it deploys.
    pub deployment: Deployment,
    /// What became of it, once that is settled.
    pub outcome: Option<RevisionState>,
    /// Whether it once ran whole.
    pub ran: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// The first failure that a machine reported.
    pub failure: Option<String>,
    /// When its rollout began.
    pub since: DateTime<Utc>,
}

impl Record {
    /// Reads a config object; `None` for one that is not ours or that a later version wrote.
    pub fn read(config: &Config) -> Option<Self> {
        let spec = config.spec.as_ref()?;
        let labels = spec.labels.as_ref()?;
        let data = STANDARD.decode(spec.data.as_ref()?).ok()?;
        let stored: Stored = serde_json::from_slice(&data).ok()?;
        Some(Self {
            id: config.id.clone()?,
            version: config.version.as_ref().and_then(|version| version.index)?,
            service: labels.get(SERVICE)?.clone(),
            number: labels.get(REVISION)?.parse().ok()?,
            deployment: stored.deployment,
            outcome: labels.get(OUTCOME).and_then(|word| outcome(word)),
            ran: labels.contains_key(RAN),
            reason: labels.get(REASON).cloned(),
            failure: labels.get(FAILURE).cloned(),
            since: config.created_at?,
        })
    }

    /// The config object that keeps a new revision.
    ///
    /// # Errors
    /// When the deployment can't be written as JSON.
    pub fn create(deployment: &Deployment, number: u64) -> Result<ConfigSpec, serde_json::Error> {
        let stored = Stored { version: STORED_VERSION, deployment: deployment.clone() };
        Ok(ConfigSpec {
            name: Some(format!("fleetwright.{}.{number}", deployment.spec.name)),
            labels: Some(HashMap::from([
                (SERVICE.to_owned(), deployment.spec.name.to_string()),
                (REVISION.to_owned(), number.to_string()),
            ])),
            data: Some(STANDARD.encode(serde_json::to_vec(&stored)?)),
            templating: None,
        })
    }

    /// The object's specification with everything the record says by now; only labels can change.
    ///
    /// # Errors
    /// When the deployment can't be written as JSON.
    pub fn updated(&self) -> Result<ConfigSpec, serde_json::Error> {
        let mut spec = Self::create(&self.deployment, self.number)?;
        if let Some(labels) = &mut spec.labels {
            if let Some(state) = self.outcome {
                labels.insert(OUTCOME.to_owned(), word(state).to_owned());
            }
            if self.ran {
                labels.insert(RAN.to_owned(), "yes".to_owned());
            }
            if let Some(reason) = &self.reason {
                labels.insert(REASON.to_owned(), reason.clone());
            }
            if let Some(failure) = &self.failure {
                labels.insert(FAILURE.to_owned(), failure.clone());
            }
        }
        Ok(spec)
    }

    fn revision(&self, state: RevisionState, reason: Option<String>) -> Revision {
        Revision {
            number: self.number,
            digest: self.deployment.digest.clone(),
            origin: self.deployment.origin.clone(),
            state,
            reason,
            since: self.since,
        }
    }
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
}

/// What became of each revision, newest first.
pub fn derive(records: &[Record], now: &Now) -> Vec<(Record, RevisionState)> {
    let mut derived: Vec<_> = records
        .iter()
        .filter_map(|record| {
            let mut record = record.clone();
            let state = state_of(&record, now)?;
            if state == RevisionState::Running {
                record.ran = true;
            }
            let gone_wrong = matches!(state, RevisionState::RolledBack | RevisionState::Failed);
            let going_back = state == RevisionState::RollingOut && record.number > now.current;
            if (gone_wrong || going_back) && record.reason.is_none() {
                record.reason = record
                    .failure
                    .clone()
                    .or_else(|| now.failures.get(&record.number).cloned())
                    .or_else(|| now.update_message.clone());
            }
            Some((record, state))
        })
        .collect();
    derived.sort_by_key(|(record, _)| std::cmp::Reverse(record.number));
    derived
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
    if record.number > now.current {
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
        Some(Update::UPDATING | Update::ROLLBACK_STARTED) => RevisionState::RollingOut,
        Some(Update::PAUSED | Update::ROLLBACK_PAUSED) => RevisionState::Failed,
        Some(Update::COMPLETED | Update::ROLLBACK_COMPLETED | Update::EMPTY) | None if now.whole => {
            RevisionState::Running
        }
        Some(Update::COMPLETED | Update::ROLLBACK_COMPLETED | Update::EMPTY) | None => {
            RevisionState::RollingOut
        }
    })
}

/// The derived history as people see it.
pub fn shown(derived: Vec<(Record, RevisionState)>) -> Vec<Revision> {
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
            record.revision(state, reason)
        })
        .collect()
}

/// The records whose labels must be written, because what became of them is settled now.
pub fn to_settle(records: &[Record], now: &Now) -> Vec<Record> {
    derive(records, now)
        .into_iter()
        .filter(|(_, state)| *state != RevisionState::RollingOut)
        .map(|(mut record, state)| {
            record.outcome = Some(state);
            record
        })
        .filter(|record| !records.contains(record))
        .collect()
}

/// The revision to go back to: the last one before the present that ran whole.
pub fn rollback_target<'a>(records: &'a [Record], now: &Now) -> Option<&'a Record> {
    records
        .iter()
        .filter(|record| record.number < now.current && record.ran)
        .max_by_key(|record| record.number)
}

/// The records that are no longer worth keeping.
pub fn to_prune(records: &[Record], current: u64) -> Vec<&Record> {
    let mut newest: Vec<_> = records.iter().collect();
    newest.sort_by_key(|record| std::cmp::Reverse(record.number));
    newest.into_iter().skip(KEPT).filter(|record| record.number != current).collect()
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
        Record {
            id: format!("c{number}"),
            version: number,
            service: "web".into(),
            number,
            deployment: deployment("web", 'a'),
            outcome: None,
            ran: false,
            reason: None,
            failure: None,
            since: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
        }
    }

    fn states(records: &[Record], now: &Now) -> Vec<(u64, RevisionState)> {
        derive(records, now).into_iter().map(|(record, state)| (record.number, state)).collect()
    }

    #[test]
    fn a_record_survives_its_config_object() {
        let mut before = record(3);
        before.outcome = Some(RevisionState::RolledBack);
        before.reason = Some("web@1 never became healthy: 500 from /health".into());
        let config = Config {
            id: Some(before.id.clone()),
            version: Some(ObjectVersion { index: Some(3) }),
            created_at: Some(before.since),
            spec: Some(before.updated().expect("JSON")),
            ..Default::default()
        };
        assert_eq!(Record::read(&config), Some(before));
    }

    /// What version 1 wrote must be readable for ever.
    #[test]
    fn a_record_of_version_1_loads() {
        let config: Config =
            serde_json::from_str(include_str!("samples/revision-v1.json")).expect("the sample");
        let record = Record::read(&config).expect("a record");
        assert_eq!((record.number, record.deployment.spec.ports[0].container), (2, 8080));
    }

    #[test]
    fn a_first_revision_rolls_out_until_it_is_whole() {
        let mut now = Now { current: 1, ..Now::default() };
        assert_eq!(states(&[record(1)], &now), [(1, RevisionState::RollingOut)]);
        now.whole = true;
        assert_eq!(states(&[record(1)], &now), [(1, RevisionState::Running)]);
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
        let shown = shown(derive(&[record(1), second], &now));
        assert_eq!(shown[0].reason.as_deref(), Some("web@1 never became healthy: 500 from /health"));
    }

    #[test]
    fn a_revision_that_is_not_begun_is_not_there() {
        let now = Now { current: 1, update: Some(Update::COMPLETED), whole: true, ..Now::default() };
        assert_eq!(states(&[record(1), record(2)], &now), [(1, RevisionState::Running)]);
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
