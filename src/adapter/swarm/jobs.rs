//! Jobs, kept in the swarm: see [`objects`] for what in, and [`task`] for what runs.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::models::{ConfigSpec, Service};
use bollard::query_parameters::LogsOptions;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};

use super::engine::Change;
use super::history::Record;
use super::observe::{self, INSTANCE, Observed};
use super::{Swarm, before, busy, mounted, scaled, symptoms};
use crate::model::before::Waits;
use crate::model::feature::{Feature, all_have};
use crate::model::job::{JobDeployment, Jobs, Kind, OccurrenceId, Outcome, Overlap, Runs, Work, one_off};
use crate::model::name::{JobName, MachineId, ServiceName};
use crate::model::occurrence::{Action, Attempt, Claimed, Exit, Job, Permit, Rules};
use crate::model::service::{Deployment, Scale, Symptoms};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::CommandRequest;
use crate::port::jobs::{JobCluster, JobStore, JobView, Output};

mod held;
pub(super) mod objects;
mod status;
mod task;

pub use held::JobHolder;
pub(super) use task::OCCURRENCE;
pub use task::{PERMITS_ON_MACHINE, SOCKET};

use objects::{
    Claim, Definition, Object, Objects, PermitObject, Recorded, Settled, StoredClaim, StoredEnd, StoredPermit,
};

/// How often a change is tried again because somebody else made one.
const ATTEMPTS: u32 = 5;
/// How old the service of an attempt is whose claim should be known.
const STRAY: chrono::TimeDelta = chrono::TimeDelta::seconds(60);
/// How many lines of output are kept of an occurrence whose machine did not report it.
const LINES: u32 = 20;
/// How long reading them may take.
const READING: Duration = Duration::from_secs(3);

/// The jobs of a swarm at one moment.
struct View {
    swarm: Swarm,
    observed: Observed,
    objects: Objects,
    jobs: Vec<Job>,
    claimed: Vec<Claimed>,
    waiting: Vec<(ServiceName, Waits)>,
}

impl View {
    /// Of the engine's secrets, `outdated` have a newer version.
    fn new(swarm: Swarm, observed: Observed, outdated: &HashSet<String>) -> Self {
        let objects = Objects::read(&observed.configs);
        let jobs = jobs(&objects);
        let claims = objects.claims.iter().map(|claim| claimed(&observed, &objects, claim, outdated));
        let claimed = claims.chain(strays(&observed, &objects)).collect();
        let waiting = before::all(&observed, &objects);
        Self { swarm, observed, objects, jobs, claimed, waiting }
    }

    /// What there is now. A swarm without jobs is asked for its config objects only.
    async fn now(swarm: &Swarm) -> Result<Self, ClusterError> {
        let configs = swarm.engine.configs().await?;
        let waits = || configs.iter().filter_map(Record::read).any(|record| record.waits());
        let observed = if Objects::read(&configs).is_empty() && !waits() {
            Observed { at: Utc::now(), ..Observed::default() }
        } else {
            swarm.engine.observe().await?
        };
        let held = observed.services.iter().filter(|service| task::attempt_of(service).is_some());
        let held: Vec<Service> = held.cloned().collect();
        let outdated =
            if mounted::used(&held).is_empty() { HashSet::new() } else { swarm.outdated_secrets().await? };
        Ok(Self::new(swarm.clone(), observed, &outdated))
    }

    fn service(&self, id: &OccurrenceId, attempt: u32) -> Option<&Service> {
        self.observed.services.iter().find(|service| {
            task::attempt_of(service).is_some_and(|(of, number)| of == *id && number == attempt)
        })
    }

    /// Writes the labels of an object, if it is still as it was seen; whether it was.
    async fn write(&self, object: &Object, spec: ConfigSpec) -> Result<bool, ClusterError> {
        match self.swarm.engine.update_config(&object.id, object.version, spec).await {
            Ok(()) => Ok(true),
            Err(Change::Outdated) => Ok(false),
            Err(Change::Failed(error)) => Err(error),
        }
    }

    /// Changes the state of a permit.
    async fn note(
        &self,
        id: &OccurrenceId,
        attempt: u32,
        change: impl FnOnce(&mut StoredPermit),
    ) -> Result<bool, ClusterError> {
        match self.objects.permit(id, attempt) {
            Some(permit) => self.write(&permit.object, permit.noting(change)).await,
            None => Ok(false),
        }
    }

    async fn start(&self, id: &OccurrenceId, attempt: u32) -> Result<(), ClusterError> {
        let work = self.objects.claim(id).and_then(|claim| claim.content.as_ref().ok()?.work.as_ref());
        let Some(work) = work else { return Ok(()) };
        match self.begin(id, attempt, work).await {
            // A secret that is not set, or a volume that is lost: waiting would not help.
            Err(ClusterError::Refused { reason }) => self.settle(id, Outcome::Failed, Some(reason)).await,
            begun => begun,
        }
    }

    /// Creates the service of an attempt, with what its container mounts.
    async fn begin(&self, id: &OccurrenceId, attempt: u32, work: &Work) -> Result<(), ClusterError> {
        let swarm = &self.swarm;
        let mut deployment = swarm.restorable(&work.deployment).await?;
        let machines = self.observed.machines(self.observed.at);
        deployment.network |= all_have(&machines, Feature::Names);
        let pull = swarm.pull(&deployment.registry).await?;
        swarm.mark_nodes(&self.observed).await?;
        swarm.settle_volumes(&self.observed, &deployment).await?;
        if deployment.network {
            swarm.engine.ensure_network().await?;
        }
        let attached = swarm.mounted(&self.observed, &deployment).await?;
        let mut spec = task::service(id, attempt, &deployment, work.attended);
        attached.complete(&mut spec)?;
        match swarm.create(spec, pull).await {
            // Another leader was faster.
            Ok(()) | Err(Change::Outdated) => Ok(()),
            Err(Change::Failed(error)) => Err(error),
        }
    }

    async fn claim(&self, job: &JobName, at: DateTime<Utc>, missed: bool) -> Result<(), ClusterError> {
        let Some(Definition { content: Some(Ok(stored)), .. }) = self.objects.definition(job) else {
            return Ok(());
        };
        let id = OccurrenceId::due(job, at);
        let work = work(&self.observed, &stored.job);
        let settled = missed.then(|| {
            let reason = "it could not be started when it was due".to_owned();
            Settled::new(Outcome::Missed, self.observed.at, Some(reason))
        });
        let claim = Claim::create(&id, &StoredClaim::new(at, None, work), settled.as_ref());
        // One that exists already was claimed by another leader.
        self.swarm.engine.create_config(claim).await.map(drop)
    }

    /// The last lines of an attempt's output, as far as they can be had.
    async fn lines(&self, id: &OccurrenceId, attempt: u32) -> Vec<String> {
        let Some(service) = self.service(id, attempt) else { return Vec::new() };
        let lines = output(&self.swarm, service, LINES, false).filter_map(|line| async {
            match line.ok()? {
                Output::Out(text) | Output::Err(text) => Some(text),
            }
        });
        tokio::time::timeout(READING, symptoms::collected(lines)).await.unwrap_or_default()
    }

    async fn settle(
        &self,
        id: &OccurrenceId,
        outcome: Outcome,
        reason: Option<String>,
    ) -> Result<(), ClusterError> {
        let Some(claim) = self.objects.claim(id).filter(|claim| claim.settled.is_none()) else {
            return Ok(());
        };
        let mut settled = Settled::new(outcome, self.observed.at, reason);
        let mut permits: Vec<&PermitObject> = self
            .objects
            .permits
            .iter()
            .filter(|permit| permit.id == *id && permit.state.void.is_none())
            .collect();
        permits.sort_by_key(|permit| permit.attempt);
        settled.attempts = u32::try_from(permits.len()).unwrap_or(u32::MAX);
        if let Some(last) = permits.last() {
            let state = &last.state;
            settled.started = Some(state.at);
            settled.machine.clone_from(&state.machine);
            settled.lines.clone_from(&state.lines);
            if let Some(end) = &state.end {
                settled.ended = Some(end.at);
                settled.exit = end.exit;
                settled.reason = settled.reason.or_else(|| reason_of(end));
            }
        }
        tracing::info!(%id, outcome = outcome.label(), reason = settled.reason, exit = settled.exit, "recorded");
        self.write(&claim.object, claim.settled_as(&settled)).await.map(drop)
    }

    async fn forget(&self, id: &OccurrenceId, at: DateTime<Utc>) -> Result<(), ClusterError> {
        let name: Option<JobName> = id.of.parse().ok().filter(|_| id.kind == Kind::Job);
        if let Some(recorded) = name.and_then(|name| self.objects.recorded.get(&name))
            && recorded.until < at
        {
            // First, so that one that is claimed again counts for nothing.
            let (object, raised) = recorded.raised(at);
            self.write(object, raised).await?;
            return Ok(());
        }
        self.delete_permits(id).await?;
        match self.objects.claim(id) {
            Some(claim) => self.swarm.engine.delete_config(&claim.object.id).await,
            None => Ok(()),
        }
    }

    async fn delete_permits(&self, id: &OccurrenceId) -> Result<(), ClusterError> {
        for permit in self.objects.permits.iter().filter(|permit| permit.id == *id) {
            self.swarm.engine.delete_config(&permit.object.id).await?;
        }
        Ok(())
    }

    async fn remove(&self, service: &Service) -> Result<(), ClusterError> {
        match self.swarm.engine.docker().delete_service(service.id.as_deref().unwrap_or_default()).await {
            Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                Ok(())
            }
            Err(error) => Err(self.swarm.engine.error("removing the service of an occurrence", error)),
        }
    }

    /// Stops the task of an attempt. Its service stays: without it nobody would know what ran.
    async fn halt(&self, service: &Service) -> Result<(), ClusterError> {
        if observe::replicas(service) == Some(0) {
            return Ok(());
        }
        let edit = |spec: &mut serde_json::Value| scaled::edit(spec, Scale::Replicas(0), None);
        match self.swarm.engine.amend_service(service, edit, None).await {
            Ok(()) | Err(Change::Outdated) => Ok(()),
            Err(Change::Failed(error)) => Err(error),
        }
    }
}

/// How an attempt ended, where its exit status does not say it.
fn reason_of(end: &StoredEnd) -> Option<String> {
    match end.exit {
        _ if end.out_of_memory => {
            Some("it was killed because it used more memory than `limits.memory`".to_owned())
        }
        Some(0) => None,
        Some(exit) => Some(format!("it exited with status {exit}")),
        None if end.unknown => None,
        None => Some("its end was not observed".to_owned()),
    }
}

/// The jobs that are deployed.
fn jobs(objects: &Objects) -> Vec<Job> {
    let mut names: Vec<&JobName> = objects.definitions.iter().map(|one| &one.name).collect();
    names.sort();
    names.dedup();
    let of = |name: &JobName| {
        let content = objects.definition(name)?.content.as_ref()?;
        let recorded = objects.recorded.get(name).map(|recorded| recorded.until);
        // One that can't be read starts nothing, and what it has claimed continues.
        let (times, from, catch_up) = match content {
            Ok(stored) => {
                let spec = &stored.job.spec;
                let times = spec.schedule.as_ref().and_then(|schedule| schedule.times().ok());
                (times.filter(|_| recorded.is_some()), stored.since, spec.catch_up)
            }
            Err(_) => (None, DateTime::UNIX_EPOCH, None),
        };
        let recorded = recorded.unwrap_or(DateTime::UNIX_EPOCH);
        Some(Job { name: name.clone(), times, from, recorded, catch_up })
    };
    names.into_iter().filter_map(of).collect()
}

/// An occurrence with its attempts: those with a permit, and those with a service.
fn claimed(observed: &Observed, objects: &Objects, claim: &Claim, outdated: &HashSet<String>) -> Claimed {
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut has_outdated = false;
    for permit in objects.permits.iter().filter(|permit| permit.id == claim.id) {
        let (number, since) = (permit.attempt, permit.object.created);
        attempts.push(Attempt { number, since, permit: permit.state.permit(), service: None });
    }
    for service in &observed.services {
        let Some((id, number)) = task::attempt_of(service) else { continue };
        if id != claim.id {
            continue;
        }
        has_outdated |= !mounted::used(std::slice::from_ref(service)).is_disjoint(outdated);
        let task = Some(task::task(observed, service));
        match attempts.iter_mut().find(|attempt| attempt.number == number) {
            Some(attempt) => attempt.service = task,
            None => attempts.push(Attempt {
                number,
                since: service.created_at.unwrap_or(observed.at),
                permit: Permit::Free,
                service: task,
            }),
        }
    }
    attempts.sort_by_key(|attempt| attempt.number);
    let stored = claim.content.as_ref().ok();
    let rules = stored.map(|stored| match &stored.work {
        Some(work) => Rules { overlap: work.overlap, timeout: work.timeout, retries: work.retries },
        None => Rules { overlap: Overlap::Skip, timeout: None, retries: 0 },
    });
    Claimed {
        id: claim.id.clone(),
        at: stored.map_or(claim.object.created, |stored| stored.at),
        rules,
        problem: stored.and_then(|stored| stored.problem.clone()),
        attempts,
        outdated: has_outdated,
        wanted: wanted(observed, &claim.id),
        outcome: claim.settled.as_ref().map(|settled| (settled.outcome, settled.at)),
    }
}

/// Whether an occurrence may still begin: one of a revision may while that waits for it.
fn wanted(observed: &Observed, id: &OccurrenceId) -> bool {
    let Some(revision) = id.revision() else { return true };
    let waits = before::waits(observed, &Objects::default(), &id.of);
    waits.waiting.iter().any(|one| one.revision == revision) && waits.is_wanted(revision)
}

/// Services of attempts whose occurrence was forgotten before they were created: a leader may be late.
/// None of them gets a permit. They count as over, so that they are removed.
fn strays<'o>(observed: &'o Observed, objects: &'o Objects) -> impl Iterator<Item = Claimed> + use<'o> {
    observed.services.iter().filter_map(|service| {
        let (id, number) = task::attempt_of(service)?;
        let since = service.created_at?;
        // A claim may be newer than this view of the claims.
        if objects.claim(&id).is_some() || observed.at - since < STRAY {
            return None;
        }
        let task = Some(task::task(observed, service));
        let attempts = vec![Attempt { number, since, permit: Permit::Free, service: task }];
        let outcome = Some((Outcome::Unknown, since));
        Some(Claimed {
            id,
            at: since,
            rules: None,
            problem: None,
            wanted: false,
            outdated: false,
            attempts,
            outcome,
        })
    })
}

/// What a service runs at present.
fn present(observed: &Observed, name: &ServiceName) -> Option<Deployment> {
    let service = observed.service(name.as_str())?;
    let current = observed.now(service).current;
    let record = observed.records(name.as_str()).into_iter().find(|record| record.number == current)?;
    record.deployment().ok().cloned()
}

/// What an occurrence of a job runs that is claimed now.
fn work(observed: &Observed, job: &JobDeployment) -> Result<Work, String> {
    let service = match &job.spec.runs {
        Runs::Image(_) => None,
        Runs::Service(name) => present(observed, name),
    };
    job.work(service.as_ref())
}

/// The output of an attempt's service.
fn output(
    swarm: &Swarm,
    service: &Service,
    tail: u32,
    follow: bool,
) -> BoxStream<'static, Result<Output, ClusterError>> {
    let options =
        LogsOptions { follow, stdout: true, stderr: true, tail: tail.to_string(), ..Default::default() };
    let id = service.id.clone().unwrap_or_default();
    let engine = swarm.engine.clone();
    let docker = engine.docker().clone();
    stream::once(async move { docker.service_logs(&id, Some(options)).boxed() })
        .flatten()
        .map(move |line| {
            let line = line.map_err(|error| engine.error("reading the output of an occurrence", error))?;
            let errors = matches!(line, LogOutput::StdErr { .. });
            let text = String::from_utf8_lossy(&line.into_bytes()).trim_end_matches(['\n', '\r']).to_owned();
            Ok(if errors { Output::Err(text) } else { Output::Out(text) })
        })
        .boxed()
}

#[async_trait]
impl JobView for View {
    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn claimed(&self) -> &[Claimed] {
        &self.claimed
    }

    async fn perform(&self, action: &Action) -> Result<(), ClusterError> {
        let now = self.observed.at;
        match action {
            Action::Claim { job, at, missed } => self.claim(job, *at, *missed).await,
            Action::Start { id, attempt } => self.start(id, *attempt).await,
            Action::Void { id, attempt, why } => {
                let void = PermitObject::create(id, *attempt, &StoredPermit::void(now, why));
                self.swarm.engine.create_config(void).await.map(drop)
            }
            Action::Stop { id, attempt, why } => {
                let Some(service) = self.service(id, *attempt) else { return Ok(()) };
                let noted =
                    self.objects.permit(id, *attempt).is_some_and(|permit| permit.state.stop.is_some());
                if !noted {
                    // Its log goes with its container.
                    let lines = self.lines(id, *attempt).await;
                    let note = |state: &mut StoredPermit| {
                        state.stop = Some(objects::stored_stop(*why));
                        state.lines = lines;
                    };
                    if !self.note(id, *attempt, note).await? {
                        return Ok(());
                    }
                }
                self.halt(service).await
            }
            Action::Lost { id, attempt, lost } => {
                self.note(id, *attempt, |state| state.lost = lost.then_some(now)).await.map(drop)
            }
            Action::End { id, attempt, end } => {
                let (exit, unknown) = match end.exit {
                    Exit::Status(exit) => (exit, false),
                    Exit::Unknown => (None, true),
                };
                let known =
                    self.objects.permit(id, *attempt).is_some_and(|permit| !permit.state.lines.is_empty());
                let lines = if known || unknown { Vec::new() } else { self.lines(id, *attempt).await };
                let note = |state: &mut StoredPermit| {
                    state.end = Some(StoredEnd { at: end.at, exit, unknown, out_of_memory: false });
                    if !lines.is_empty() {
                        state.lines = lines;
                    }
                };
                self.note(id, *attempt, note).await.map(drop)
            }
            Action::Settle { id, outcome, reason } => self.settle(id, *outcome, reason.clone()).await,
            Action::Remove { id, attempt } => match self.service(id, *attempt) {
                Some(service) => self.remove(service).await,
                None => Ok(()),
            },
            Action::Record { job, until } => match self.objects.recorded.get(job) {
                Some(recorded) => {
                    let (object, raised) = recorded.raised(*until);
                    self.write(object, raised).await.map(drop)
                }
                None => Ok(()),
            },
            Action::Tidy { id } => self.delete_permits(id).await,
            Action::Forget { id, at } => self.forget(id, *at).await,
        }
    }

    fn waiting(&self) -> &[(ServiceName, Waits)] {
        &self.waiting
    }

    async fn perform_before(
        &self,
        service: &ServiceName,
        action: crate::model::before::Action,
    ) -> Result<(), ClusterError> {
        self.swarm.begin_rollouts(&self.observed, &self.objects, service, action).await
    }

    fn attempt_of(&self, task: &str) -> Option<(OccurrenceId, u32)> {
        let task = self.observed.tasks.iter().find(|known| known.id.as_deref() == Some(task))?;
        let service =
            self.observed.services.iter().find(|one| one.id.is_some() && one.id == task.service_id)?;
        if observe::is_alive(task) && super::drain::wanted(task) { task::attempt_of(service) } else { None }
    }

    fn holder(&self, id: &OccurrenceId, attempt: u32) -> Option<&str> {
        self.objects.permit(id, attempt)?.state.nonce.as_deref()
    }

    fn rivals(&self, id: &OccurrenceId) -> Vec<Permit> {
        let same =
            |other: &&PermitObject| other.id.kind == id.kind && other.id.of == id.of && other.id != *id;
        self.objects.permits.iter().filter(same).map(|permit| permit.state.permit()).collect()
    }

    async fn take(
        &self,
        id: &OccurrenceId,
        attempt: u32,
        task: &str,
        nonce: &str,
    ) -> Result<bool, ClusterError> {
        let node = self.observed.tasks.iter().find(|known| known.id.as_deref() == Some(task));
        let node = node.and_then(|task| task.node_id.clone());
        let node = self.observed.nodes.iter().find(|known| known.id.is_some() && known.id == node);
        let machine: Option<MachineId> = node.and_then(|node| observe::label(node, INSTANCE)?.parse().ok());
        let held = StoredPermit::held(Utc::now(), task, nonce, machine);
        let created = self.swarm.engine.create_config(PermitObject::create(id, attempt, &held)).await?;
        Ok(created.is_some())
    }

    async fn return_permit(&self, id: &OccurrenceId, attempt: u32) -> Result<(), ClusterError> {
        let moved = Some(objects::StoredVoid::Moved);
        self.note(id, attempt, |state| state.void = moved).await.map(drop)
    }
}

#[async_trait]
impl JobStore for Swarm {
    async fn view(&self) -> Result<Box<dyn JobView>, ClusterError> {
        Ok(Box::new(View::now(self).await?))
    }

    async fn ended(&self, task: &str, seen: &Symptoms) -> Result<(), ClusterError> {
        let Some(ended) = &seen.ended else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let permits: Vec<PermitObject> =
                self.engine.configs().await?.iter().filter_map(PermitObject::read).collect();
            let Some(permit) = permits.into_iter().find(|permit| permit.state.task.as_deref() == Some(task))
            else {
                return Ok(());
            };
            if permit.state.end.is_some() || permit.state.void.is_some() {
                return Ok(());
            }
            let spec = permit.noting(|state| {
                state.end = Some(StoredEnd {
                    at: Utc::now(),
                    exit: Some(ended.exit),
                    unknown: false,
                    out_of_memory: ended.out_of_memory,
                });
                state.lines.clone_from(&ended.lines);
            });
            match self.engine.update_config(&permit.object.id, permit.object.version, spec).await {
                Ok(()) => return Ok(()),
                Err(Change::Outdated) => {}
                Err(Change::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A job that is deployed.
fn known<'o>(objects: &'o Objects, name: &JobName) -> Result<&'o Definition, ClusterError> {
    objects
        .definition(name)
        .filter(|definition| definition.content.is_some())
        .ok_or_else(|| ClusterError::NotFound { what: "job", name: name.to_string() })
}

/// What a definition says, where this control machine can read it.
fn readable(definition: &Definition) -> Result<&JobDeployment, ClusterError> {
    let name = &definition.name;
    match &definition.content {
        Some(Ok(stored)) => Ok(&stored.job),
        Some(Err(reason)) => Err(ClusterError::Refused {
            reason: format!(
                "the definition of job `{name}` can't be used: {reason}. Replace the control machines with \
                 `fleetwright roll`, or deploy the job again"
            ),
        }),
        None => Err(ClusterError::NotFound { what: "job", name: name.to_string() }),
    }
}

#[async_trait]
impl JobCluster for Swarm {
    async fn jobs(&self) -> Result<Jobs, ClusterError> {
        Ok(status::jobs(&View::now(self).await?))
    }

    async fn deploy_job(&self, job: &JobDeployment) -> Result<u64, ClusterError> {
        let name = &job.spec.name;
        if let Some(schedule) = &job.spec.schedule
            && let Err(error) = schedule.times()
        {
            let reason = format!("job `{name}` was not deployed: its schedule can't be used: {error}");
            return Err(ClusterError::Refused { reason });
        }
        for _ in 0..ATTEMPTS {
            let objects = Objects::read(&self.engine.configs().await?);
            let before = objects.definition(name);
            let stored = before.and_then(|before| before.content.as_ref()?.as_ref().ok());
            if let (Some(before), Some(stored)) = (before, stored)
                && (&stored.job.spec, &stored.job.image) == (&job.spec, &job.image)
            {
                return Ok(before.number);
            }
            let now = Utc::now();
            // What was due under the same schedule stays due.
            let since = stored.filter(|stored| stored.job.spec.schedule == job.spec.schedule);
            let since = since.map_or(now, |stored| stored.since);
            if !objects.recorded.contains_key(name) {
                self.engine.create_config(Recorded::create(name, since)).await?;
            }
            let number = before.map_or(0, |before| before.number) + 1;
            if self.engine.create_config(Definition::create(job, number, since)).await?.is_none() {
                continue;
            }
            self.delete_definitions(&objects, name).await?;
            return Ok(number);
        }
        Err(busy(name.as_str()))
    }

    async fn deployed_job(&self, name: &JobName) -> Result<JobDeployment, ClusterError> {
        let objects = Objects::read(&self.engine.configs().await?);
        readable(known(&objects, name)?).cloned()
    }

    async fn remove_job(&self, name: &JobName) -> Result<(), ClusterError> {
        for _ in 0..ATTEMPTS {
            let objects = Objects::read(&self.engine.configs().await?);
            let number = known(&objects, name)?.number + 1;
            if self.engine.create_config(Definition::removal(name, number)).await?.is_some() {
                return self.delete_definitions(&objects, name).await;
            }
        }
        Err(busy(name.as_str()))
    }

    async fn run_job(&self, id: &OccurrenceId, by: Option<&str>) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let objects = Objects::read(&observed.configs);
        let missing = || ClusterError::NotFound { what: "job", name: id.of.clone() };
        let name: JobName = id.of.parse().map_err(|_| missing())?;
        let job = readable(known(&objects, &name)?)?;
        let claim = StoredClaim::new(observed.at, by.map(str::to_owned), work(&observed, job));
        // One that exists already was created by the same request, sent before.
        self.engine.create_config(Claim::create(id, &claim, None)).await.map(drop)
    }

    async fn run_command(
        &self,
        id: &OccurrenceId,
        request: &CommandRequest,
        by: Option<&str>,
    ) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let missing = || ClusterError::NotFound { what: "service", name: id.of.clone() };
        let name: ServiceName = id.of.parse().map_err(|_| missing())?;
        let deployment = present(&observed, &name).ok_or_else(missing)?;
        if deployment.spec.units.is_some() {
            let reason = format!("service `{name}` is made of units, and has no image to run a command with");
            return Err(ClusterError::Refused { reason });
        }
        let deployment = one_off(deployment, request.command.clone());
        let attended = request.attended;
        let work = Work { deployment, overlap: Overlap::Queue, timeout: None, retries: 0, attended };
        let claim = StoredClaim::new(observed.at, by.map(str::to_owned), Ok(work));
        self.engine.create_config(Claim::create(id, &claim, None)).await.map(drop)
    }

    async fn occurrence_logs(
        &self,
        id: &OccurrenceId,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Output, ClusterError>>, ClusterError> {
        let view = View::new(self.clone(), self.engine.observe().await?, &HashSet::new());
        let attempts = view.observed.services.iter().filter_map(|service| {
            let (of, attempt) = task::attempt_of(service)?;
            (of == *id).then_some((attempt, service))
        });
        match attempts.max_by_key(|(attempt, _)| *attempt) {
            Some((_, service)) => Ok(output(self, service, tail, follow)),
            None => Err(ClusterError::NotFound { what: "container of occurrence", name: id.to_string() }),
        }
    }
}

impl Swarm {
    /// The node of an attempt, by the task that took its permit.
    pub(super) async fn node_of_attempt(&self, task: &str) -> Result<Option<String>, ClusterError> {
        let observed = self.engine.observe().await?;
        let mut permits = observed.configs.iter().filter_map(PermitObject::read);
        let permit = permits.find(|permit| permit.state.task.as_deref() == Some(task));
        let machine = permit.and_then(|permit| permit.state.machine);
        Ok(machine.and_then(|machine| observed.node(&machine)?.id.clone()))
    }

    /// Deletes definitions that another has replaced.
    async fn delete_definitions(&self, seen: &Objects, name: &JobName) -> Result<(), ClusterError> {
        for old in seen.definitions.iter().filter(|one| one.name == *name) {
            self.engine.delete_config(&old.object.id).await?;
        }
        Ok(())
    }
}
