//! Revisions that run a command before they are rolled out.
//!
//! The record of such a revision says that it waits, and survives whoever created it. The command is an
//! occurrence with a claim and permits of its own, so it runs at most once. Whoever leads updates the
//! service once the outcome is recorded: `plan/before` decides.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::Service;

use super::engine::Change;
use super::history::{Before, Record};
use super::jobs::objects::{Claim, Objects, Settled, StoredClaim};
use super::observe::Observed;
use super::spec::OnFailure;
use super::{Swarm, scaled};
use crate::model::before::{Action, Command, Waiting, Waits};
use crate::model::job::{OccurrenceId, Outcome, before};
use crate::model::name::ServiceName;
use crate::model::occurrence::Permit;
use crate::model::service::{FailedInstance, PreDeployState, RevisionState};
use crate::port::cluster::ClusterError;

/// How long a rollout is tried again that can't begin, after its command has succeeded.
const BEGINNING: Duration = Duration::from_secs(300);
/// The exit status of a program that SIGTERM ended, for one that was stopped without anybody seeing its end.
const TERMINATED: i64 = 143;

/// How far the commands of the revisions among `records` are that wait for them.
pub fn commands(observed: &Observed, records: &[Record]) -> HashMap<u64, PreDeployState> {
    if !records.iter().any(Record::waits) {
        return HashMap::new();
    }
    let objects = Objects::read(&observed.configs);
    let state = |record: &Record| {
        let id = id(record);
        // Until its outcome is recorded, one that has ended runs for whoever waits for it.
        let runs = |permit: &Permit| matches!(permit, Permit::Held { .. });
        let outcome = objects.claim(&id).and_then(|claim| claim.settled.as_ref()).map(|one| one.outcome);
        match outcome {
            Some(Outcome::Succeeded) => PreDeployState::Succeeded,
            Some(_) => PreDeployState::Failed,
            None if objects.permits.iter().any(|one| one.id == id && runs(&one.state.permit())) => {
                PreDeployState::Running
            }
            None => PreDeployState::Waiting,
        }
    };
    records.iter().filter(|record| record.waits()).map(|record| (record.number, state(record))).collect()
}

fn id(record: &Record) -> OccurrenceId {
    OccurrenceId::before(&record.service, record.number)
}

/// The services with revisions that wait for their commands.
pub fn all(observed: &Observed, objects: &Objects) -> Vec<(ServiceName, Waits)> {
    let waiting = observed.configs.iter().filter_map(Record::read).filter(Record::waits);
    let names: BTreeSet<ServiceName> = waiting.filter_map(|record| record.service.parse().ok()).collect();
    let waits = |name: ServiceName| {
        let waits = waits(observed, objects, name.as_str());
        (name, waits)
    };
    names.into_iter().map(waits).collect()
}

/// The revisions of a service that wait for their commands.
pub fn waits(observed: &Observed, objects: &Objects, service: &str) -> Waits {
    let records = observed.records(service);
    let command = |record: &Record| match objects.claim(&id(record)) {
        None => Command::Unclaimed,
        Some(Claim { settled: None, .. }) => Command::Open,
        Some(Claim { settled: Some(settled), .. }) => Command::Ended(settled.outcome),
    };
    let waiting = records
        .iter()
        .filter(|record| record.waits())
        .map(|record| Waiting { revision: record.number, command: command(record) });
    Waits {
        current: observed.service(service).and_then(|one| observed.lineage(one).current).unwrap_or(0),
        newest: newest(&records),
        waiting: waiting.collect(),
    }
}

/// The highest number of a revision or removal.
pub fn newest(records: &[Record]) -> u64 {
    records.iter().map(|record| record.number).max().unwrap_or(0)
}

/// The claim of a revision's command; `None` where its record can't be read.
fn claim(record: &Record) -> Option<StoredClaim> {
    let work = before(record.deployment().ok()?)?;
    Some(StoredClaim::new(record.since, None, Ok(work)))
}

/// Why a revision was not rolled out.
fn reason(outcome: Outcome, settled: Option<&Settled>) -> String {
    let why = settled.and_then(|settled| settled.reason.clone());
    match (outcome, why) {
        (Outcome::Unknown, _) => {
            "the machine of its `pre_deploy` was lost while that ran: whether it did its work is not known"
                .to_owned()
        }
        (_, Some(why)) => format!("its `pre_deploy` {}: {why}", outcome.label()),
        (_, None) => format!("its `pre_deploy` {}", outcome.label()),
    }
}

/// How the command ended, as an instance that failed.
fn failed(outcome: Outcome, settled: &Settled) -> Option<FailedInstance> {
    let exit = settled.exit.or((outcome == Outcome::TimedOut).then_some(TERMINATED))?;
    Some(FailedInstance {
        name: "pre_deploy".to_owned(),
        machine: settled.machine.clone(),
        at: settled.ended.unwrap_or(settled.at),
        exit,
        error: None,
        out_of_memory: false,
        probe: None,
        lines: settled.lines.clone(),
    })
}

impl Swarm {
    /// Creates the claim of a revision's command, unless it exists.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub(super) async fn claim_command(&self, record: &Record) -> Result<(), ClusterError> {
        match claim(record) {
            Some(claim) => {
                let created = Claim::create(&id(record), &claim, None);
                self.engine.create_config(created).await.map(drop)
            }
            // A control machine that can read it will.
            None => Ok(()),
        }
    }

    /// Carries out what is to be done about a revision that waits for its command.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub(super) async fn begin_rollouts(
        &self,
        observed: &Observed,
        objects: &Objects,
        name: &ServiceName,
        action: Action,
    ) -> Result<(), ClusterError> {
        let (records, service) = (observed.records(name.as_str()), observed.service(name.as_str()));
        let of = |number: u64| records.iter().find(|record| record.number == number).cloned();
        let settled = |record: &Record| objects.claim(&id(record)).and_then(|claim| claim.settled.clone());
        match action {
            Action::Claim { revision } => match of(revision) {
                Some(record) => self.claim_command(&record).await,
                None => Ok(()),
            },
            Action::Begun { revision } => match of(revision) {
                Some(record) => self.write(&record.begun(observed.at)).await,
                None => Ok(()),
            },
            Action::Replace { revision } => match of(revision) {
                Some(record) => {
                    self.write(&Record { outcome: Some(RevisionState::Replaced), ..record }).await
                }
                None => Ok(()),
            },
            Action::Fail { revision, outcome } => {
                let Some(record) = of(revision) else { return Ok(()) };
                let settled = settled(&record);
                let before = if outcome == Outcome::Unknown { Before::Unknown } else { Before::Failed };
                let failed = settled.as_ref().and_then(|settled| failed(outcome, settled));
                self.fail(record, before, reason(outcome, settled.as_ref()), failed).await
            }
            Action::RollOut { revision } => {
                let Some(record) = of(revision) else { return Ok(()) };
                let late = settled(&record).is_some_and(|settled| {
                    (observed.at - settled.at).to_std().is_ok_and(|age| age > BEGINNING)
                });
                match self.begin_rollout(observed, service, &record).await {
                    Err(ClusterError::Refused { reason }) => self.not_begun(record, &reason).await,
                    Err(error) if late => self.not_begun(record, &error.to_string()).await,
                    begun => begun,
                }
            }
        }
    }

    async fn not_begun(&self, record: Record, reason: &str) -> Result<(), ClusterError> {
        let reason = format!("its `pre_deploy` succeeded, and its rollout could not begin: {reason}");
        self.fail(record, Before::Begun, reason, None).await
    }

    async fn fail(
        &self,
        record: Record,
        before: Before,
        reason: String,
        failed: Option<FailedInstance>,
    ) -> Result<(), ClusterError> {
        let state = RevisionState::Failed;
        let record =
            Record { before: Some(before), outcome: Some(state), reason: Some(reason), failed, ..record };
        self.write(&record).await?;
        self.watcher.look_now();
        Ok(())
    }

    /// Updates a service to a revision whose command has succeeded, if the service is still as it was seen.
    async fn begin_rollout(
        &self,
        observed: &Observed,
        service: Option<&Service>,
        record: &Record,
    ) -> Result<(), ClusterError> {
        // What this control machine can't read, another one rolls out.
        let Ok(recorded) = record.deployment() else { return Ok(()) };
        let mut deployment = recorded.clone();
        let held = service.and_then(scaled::of).filter(|held| held.from == deployment.spec.scale);
        if let Some(service) = service.filter(|_| held.is_some()) {
            deployment.spec.scale = scaled::live(service);
        }
        let pull = self.pull(&deployment.registry).await?;
        let number = record.number;
        let spec = self.specified(observed, &deployment, number, OnFailure::RollBack, held).await?;
        let changed = match service {
            Some(service) => self.engine.update_service(service, spec, pull).await,
            None => self.create(spec, pull).await,
        };
        match changed {
            Ok(()) => {
                self.watcher.look_now();
                // Its deadline counts from here. If this is not written, the next round does it.
                self.write(&record.clone().begun(observed.at)).await
            }
            // The next round sees what has changed.
            Err(Change::Outdated) => Ok(()),
            Err(Change::Failed(error)) => Err(error),
        }
    }
}
