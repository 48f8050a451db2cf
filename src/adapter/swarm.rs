//! Docker Swarm behind the [`Cluster`] trait, spoken to through the engine of a manager.
//!
//! Swarm does the scheduling, the health-gated rolling update and its rollback; this
//! module translates, keeps the history of revisions, and empties machines without taking
//! anything away before its replacement is healthy. It must not know where credentials
//! come from, nor that machines are instances of a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::models::{Service, ServiceSpec};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::model::before::is_needed;
use crate::model::image::EntryPoint;
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::{Digest, MachineId, ServiceName, VolumeName};
use crate::model::secret::Secret;
use crate::model::service::{Deployed, Deployment, RevisionState, Scale, ScaleTo, Symptoms};
use crate::port::cloud::CloudError;
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::secrets::SecretValues;

mod access;
mod before;
mod container_logs;
mod desired;
mod drain;
mod engine;
pub(super) mod exec;
mod history;
mod host_files;
mod jobs;
mod lineage;
mod logs;
mod member;
mod mounted;
mod observe;
mod placeholder;
mod ports;
mod raw;
mod reboot;
mod roles;
mod scaled;
mod spec;
mod survivor;
mod symptoms;
pub(super) mod terminal_input;
mod turn;
mod units;
mod verdict;
mod watch;

pub use engine::Engine;
pub use jobs::{JobHolder, PERMITS_ON_MACHINE, SOCKET};
pub use placeholder::{
    DOOR, DOOR_ON_MACHINE, ORDER_FILE, UNITS, archive as placeholder_archive, image as placeholder_image,
};
pub(super) use raw::Raw;
pub use spec::{PROBE_ON_MACHINE, ROLE, SERVICE, TASK, TEMPLATE, health_config};

use engine::Change;
use history::Record;
use spec::OnFailure;
use watch::Pace;

/// How often a change is tried again because somebody else changed the same thing.
const ATTEMPTS: u32 = 5;

/// A user of a registry.
#[derive(Debug, Clone)]
pub struct RegistryCredentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
    /// Until when they are to be used; `None` for those that do not expire.
    pub until: Option<DateTime<Utc>>,
}

/// Where credentials for pulling come from, asked anew for every deployment.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The user of `registry`; `None` when it wants none.
    ///
    /// # Errors
    /// When they can't be read.
    async fn of(&self, registry: &str) -> Result<Option<RegistryCredentials>, ClusterError>;
}

/// Registries that ask for nobody.
#[derive(Debug)]
pub struct Anonymous;

#[async_trait]
impl Credentials for Anonymous {
    async fn of(&self, _registry: &str) -> Result<Option<RegistryCredentials>, ClusterError> {
        Ok(None)
    }
}

/// What images start, for services whose containers start something else first.
#[async_trait]
pub trait Entries: Send + Sync {
    /// What the image of that digest starts.
    ///
    /// # Errors
    /// When its configuration can't be read.
    async fn entry(&self, registry: &str, image: &str, digest: &Digest) -> Result<EntryPoint, ClusterError>;
}

/// Nothing is known of images and secrets.
struct Unknown;

#[async_trait]
impl Entries for Unknown {
    async fn entry(&self, registry: &str, image: &str, _: &Digest) -> Result<EntryPoint, ClusterError> {
        Err(ClusterError::Refused {
            reason: format!(
                "the configuration of {registry}/{image} can't be read; give the service an `entrypoint`"
            ),
        })
    }
}

#[async_trait]
impl SecretValues for Unknown {
    async fn newest(&self, _: &SecretRef) -> Result<Option<SecretVersion>, CloudError> {
        Ok(None)
    }

    async fn value(&self, _: &SecretRef, _: &SecretVersion) -> Result<Option<Secret<Vec<u8>>>, CloudError> {
        Ok(None)
    }
}

/// A swarm, through one of its managers.
#[derive(Clone)]
pub struct Swarm {
    engine: Engine,
    credentials: Arc<dyn Credentials>,
    entries: Arc<dyn Entries>,
    secrets: Arc<dyn SecretValues>,
    watcher: Arc<watch::Watcher>,
    drains: Arc<tokio::sync::Mutex<()>>,
    leading: access::Leading,
}

impl Swarm {
    /// A swarm through `engine`, which must be a manager's by the time it is asked.
    pub fn new(engine: Engine, credentials: Arc<dyn Credentials>) -> Self {
        let watcher = Arc::new(watch::Watcher::new(engine.clone()));
        Self {
            engine,
            credentials,
            entries: Arc::new(Unknown),
            secrets: Arc::new(Unknown),
            watcher,
            drains: Arc::default(),
            leading: access::Leading::default(),
        }
    }

    /// The same, with `secrets` for services, and `entries` to know what their images start.
    pub fn with_secrets(self, secrets: Arc<dyn SecretValues>, entries: Arc<dyn Entries>) -> Self {
        Self { secrets, entries, ..self }
    }

    /// Records the outcome of revisions, deletes the oldest, and finishes removals. The leading
    /// manager's agent calls it now and then, because the engine only remembers its last update.
    /// What fails for one service does not keep the others from being settled.
    ///
    /// # Errors
    /// When the state can't be read, or the first thing that could not be written.
    pub async fn settle(&self) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let mut failed = None;
        for name in observed.service_names() {
            if let Err(error) = self.settle_one(&observed, &name).await {
                tracing::warn!(service = name, %error, "recording outcomes");
                failed.get_or_insert(error);
            }
        }
        if let Err(error) = self.sweep(&observed).await {
            failed.get_or_insert(error);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn settle_one(&self, observed: &observe::Observed, name: &str) -> Result<(), ClusterError> {
        let records = observed.records(name);
        let service = observed.service(name);
        if let Some(removal) = history::removal(&records) {
            return self.finish_removal(service, &records, removal.number).await;
        }
        // Without a service there may be revisions whose command failed before the first rollout.
        let now = service.map_or_else(history::Now::default, |service| observed.now(service));
        let mut failed = None;
        if let Some(service) = service.filter(|_| now.is_overdue())
            && let Some(record) =
                records.iter().find(|one| one.number == now.current && !one.ran && !one.waits())
        {
            self.give_up(service, record, &now).await?;
            return Ok(());
        }
        for record in history::to_settle(&records, &now).into_iter().filter(|_| service.is_some()) {
            if let Err(error) = self.write(&record).await {
                failed.get_or_insert(error);
            }
        }
        for record in history::to_prune(&records, now.current) {
            if let Err(error) = self.engine.delete_config(&record.id).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Goes back from an update that has taken too long. The reason is recorded first, because the
    /// engine's own would only say that somebody asked for it.
    async fn give_up(
        &self,
        service: &Service,
        record: &Record,
        now: &history::Now,
    ) -> Result<(), ClusterError> {
        let reason = history::reason(record, now);
        tracing::info!(service = record.service, revision = record.number, ?reason, "rolling back");
        self.write(&Record { reason, ..record.clone() }).await?;
        match self.engine.roll_back(service).await {
            Ok(()) | Err(Change::Outdated) => Ok(()),
            Err(Change::Failed(error)) => Err(error),
        }
    }

    /// Takes a service away whose removal is recorded.
    async fn finish_removal(
        &self,
        service: Option<&Service>,
        records: &[Record],
        removal: u64,
    ) -> Result<(), ClusterError> {
        if let Some(service) = service {
            let id = service.id.as_deref().unwrap_or_default();
            match self.engine.docker().delete_service(id).await {
                Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => return Err(self.engine.error("removing a service", error)),
            }
        }
        for record in records.iter().filter(|record| record.number < removal) {
            self.engine.delete_config(&record.id).await?;
        }
        Ok(())
    }

    /// Records the first failure that a machine saw of a revision, as the reason if it fails.
    ///
    /// # Errors
    /// When the state can't be read or written.
    pub async fn report_unhealthy(&self, task: &str, seen: &Symptoms) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let Some(task) = observed.tasks.iter().find(|known| known.id.as_deref() == Some(task)) else {
            return Ok(());
        };
        let service = observed.services.iter().find(|service| service.id == task.service_id);
        let Some(service) = service else { return Ok(()) };
        let Some(name) = observe::name_of(service) else { return Ok(()) };
        let revision = observed.lineage(service).of(task);
        let record = observed.records(name).into_iter().find(|record| Some(record.number) == revision);
        let failed = observed.failed(task, name, seen);
        let instance = observe::task_name(task, name);
        match record.and_then(|record| record.noting(&instance, seen.probe.as_deref(), failed)) {
            Some(record) => self.write(&record).await,
            None => Ok(()),
        }
    }

    async fn write(&self, record: &Record) -> Result<(), ClusterError> {
        match self.engine.update_config(&record.id, record.version, record.updated()).await {
            // Whoever was first has recorded the same observation.
            Ok(()) | Err(Change::Outdated) => Ok(()),
            Err(Change::Failed(error)) => Err(error),
        }
    }

    /// Rolls `deployment` out. A number that was set manually is kept unless the number in the file has
    /// changed since; a rollback keeps it in any case.
    async fn roll_out(&self, deployment: &Deployment, on_failure: OnFailure) -> Result<u64, ClusterError> {
        let name = deployment.spec.name.as_str();
        let pull = self.pull(&deployment.registry).await?;
        let versioned = self.versioned(deployment).await?;
        for _ in 0..ATTEMPTS {
            // The engine is about to forget how the last update went. That it can't be recorded is
            // no reason to keep a deployment back.
            let observed = self.engine.observe().await?;
            if let Err(error) = self.settle_one(&observed, name).await {
                tracing::warn!(service = name, %error, "recording outcomes");
            }
            let observed = self.engine.observe().await?;
            let records = observed.records(name);
            let service = observed.service(name);
            let held = service
                .and_then(scaled::of)
                .filter(|held| on_failure == OnFailure::Stop || held.from == deployment.spec.scale);
            let mut deployment = versioned.clone();
            if let Some(service) = service.filter(|_| held.is_some()) {
                deployment.spec.scale = scaled::live(service);
            }
            let deployment = &deployment;
            let current = service.map_or(0, |service| observed.now(service).current);
            let present = records.iter().find(|record| record.number == current);
            // One that waits for its command is what was deployed last, and gives way to another one only.
            let newest = before::newest(&records);
            let waiting = records.iter().find(|one| one.waits() && one.number == newest && newest > current);
            if let Some(waiting) = waiting
                && on_failure == OnFailure::RollBack
                && waiting.deployment().is_ok_and(|deployment| same(deployment, &versioned))
            {
                return Ok(waiting.number);
            }
            if let Some(service) = service {
                refuse_other_mode(service, deployment)?;
            }
            if let Some(service) = service.filter(|_| waiting.is_none()) {
                let now = observed.now(service);
                match step(service, present, &now, deployment, held) {
                    Step::Nothing => {
                        let quiet =
                            access::all_heard(&observed.nodes) && !access::at_work(&observed, service);
                        if let Some(pull) = pull.as_ref().filter(|_| quiet) {
                            self.give(service, pull).await?;
                        }
                        return Ok(now.current);
                    }
                    Step::Scale(number) => {
                        let edit = |spec: &mut Value| scaled::edit(spec, number, None);
                        match self.engine.amend_service(service, edit, pull.clone()).await {
                            Ok(()) => {
                                self.watcher.look_now();
                                return Ok(now.current);
                            }
                            Err(Change::Outdated) => continue,
                            Err(Change::Failed(error)) => return Err(error),
                        }
                    }
                    Step::Revise => {}
                }
            }
            let number = newest + 1;
            // Also before a command: what is missing is an error before anything starts.
            let spec = self.specified(&observed, deployment, number, on_failure, held).await?;
            let present = present.and_then(|present| present.deployment().ok());
            if on_failure == OnFailure::RollBack && is_needed(present, &versioned) {
                let config = Record::create(&versioned, number, true).map_err(|error| broken(&error))?;
                if self.engine.create_config(config).await?.is_none() {
                    continue;
                }
                self.watcher.look_now();
                self.claim_command_of(name, number).await;
                return Ok(number);
            }
            let config = Record::create(deployment, number, false).map_err(|error| broken(&error))?;
            let Some(config) = self.engine.create_config(config).await? else { continue };
            let changed = match service {
                Some(service) => self.engine.update_service(service, spec, pull.clone()).await,
                None => self.create(spec, pull.clone()).await,
            };
            match changed {
                Ok(()) => {
                    self.watcher.look_now();
                    return Ok(number);
                }
                Err(Change::Outdated) => self.engine.delete_config(&config).await?,
                Err(Change::Failed(error)) => {
                    // The first error is what people must see, not that cleaning up failed as well.
                    let _ = self.engine.delete_config(&config).await;
                    return Err(error);
                }
            }
        }
        Err(busy(name))
    }

    /// The specification of a revision, after everything that it mounts was created.
    async fn specified(
        &self,
        observed: &observe::Observed,
        deployment: &Deployment,
        number: u64,
        on_failure: OnFailure,
        held: Option<scaled::Manual>,
    ) -> Result<ServiceSpec, ClusterError> {
        self.mark_nodes(observed).await?;
        self.settle_volumes(observed, deployment).await?;
        if deployment.network {
            self.engine.ensure_network().await?;
        }
        let attached = self.attach(observed, deployment).await?;
        let mut spec = spec::service_spec(deployment, number, on_failure);
        attached.complete(&mut spec)?;
        if let Some(held) = held {
            scaled::keep(&mut spec, held);
        }
        if !observe::has_room(&observed.nodes, &spec) {
            // The one that is to replace another could not start beside it.
            spec::stop_first(&mut spec);
        }
        Ok(spec)
    }

    /// Claims the command of a revision that was just recorded. The leader does it otherwise, a second later.
    async fn claim_command_of(&self, service: &str, number: u64) {
        let claimed = async {
            let records = self.engine.configs().await?;
            let found = records.iter().filter_map(Record::read);
            match found.into_iter().find(|one| one.service == service && one.number == number) {
                Some(record) => self.claim_command(&record).await,
                None => Ok(()),
            }
        };
        if let Err(error) = claimed.await {
            tracing::warn!(service, number, %error, "claiming the command of a revision");
        }
    }

    async fn create(&self, spec: ServiceSpec, pull: Option<access::Pull>) -> Result<(), Change> {
        let (spec, credentials) = access::marked(spec, pull);
        let doing = format!("creating service {}", spec.name.clone().unwrap_or_default());
        match self.engine.docker().create_service(spec, credentials).await {
            Ok(_) => Ok(()),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, message })
                if message.contains("name conflicts") =>
            {
                Err(Change::Outdated)
            }
            Err(error) => Err(Change::Failed(self.engine.error(doing, error))),
        }
    }

    async fn known(&self, name: &ServiceName) -> Result<(observe::Observed, Service), ClusterError> {
        let observed = self.engine.observe().await?;
        let service = observed.service(name.as_str()).cloned();
        match service {
            Some(service) => Ok((observed, service)),
            None => Err(ClusterError::NotFound { what: "service", name: name.to_string() }),
        }
    }
}

#[async_trait]
impl Cluster for Swarm {
    async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        self.watcher.snapshot().await
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        Ok(self.watcher.watch(Pace::Eager).await?.boxed())
    }

    async fn observe(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        Ok(self.watcher.watch(Pace::Patient).await?.boxed())
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<u64, ClusterError> {
        self.roll_out(deployment, OnFailure::RollBack).await
    }

    async fn deployed(&self, service: &ServiceName, revision: Option<u64>) -> Result<Deployed, ClusterError> {
        let (observed, found) = self.known(service).await?;
        let records = observed.records(service.as_str());
        let number = revision.unwrap_or_else(|| observed.now(&found).current);
        let record = history::find(&records, number)?;
        let mut deployment = readable(record)?.clone();
        if revision.is_none() {
            deployment.spec.scale = scaled::of_file(&found);
        }
        let stopped = scaled::of(&found).is_some_and(|held| held.stopped_at.is_some());
        Ok(Deployed { version: 1, revision: number, deployment, live: scaled::live(&found), stopped })
    }

    async fn secret_versions(
        &self,
        secrets: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
        self.newest(secrets).await
    }

    async fn scale(&self, service: &ServiceName, to: ScaleTo) -> Result<(), ClusterError> {
        for _ in 0..ATTEMPTS {
            let (_, found) = self.known(service).await?;
            let (live, held) = (scaled::live(&found), scaled::of(&found));
            let (number, next) = scaled::next(live, held, to).map_err(|reason| ClusterError::Refused {
                reason: format!("service `{service}` was not scaled: {reason}"),
            })?;
            if (number, next) == (live, held) {
                return Ok(());
            }
            let edit = |spec: &mut Value| scaled::edit(spec, number, next);
            match self.engine.amend_service(&found, edit, None).await {
                Ok(()) => {
                    self.watcher.look_now();
                    return Ok(());
                }
                Err(Change::Outdated) => {}
                Err(Change::Failed(error)) => return Err(error),
            }
        }
        Err(busy(service.as_str()))
    }

    async fn rollback(&self, service: &ServiceName, to: Option<u64>) -> Result<u64, ClusterError> {
        let (observed, found) = self.known(service).await?;
        let now = observed.now(&found);
        let records = observed.records(service.as_str());
        let target = match to {
            Some(number) => {
                let record = history::find(&records, number)?;
                if !record.ran {
                    return Err(ClusterError::Refused {
                        reason: format!(
                            "revision {number} of service `{service}` never ran whole; `fleetwright status \
                             {service}` lists those that did"
                        ),
                    });
                }
                record
            }
            None => history::rollback_target(&records, &now).ok_or_else(|| ClusterError::Refused {
                reason: format!("service `{service}` has no earlier revision that ran; deploy one instead"),
            })?,
        };
        let mut deployment = readable(target)?.clone();
        // Nor is it about secrets: what they were may not be valid any more.
        deployment.secrets.clear();
        // A rollback is about what ran, not about how many instances that needed at the time.
        if let (Scale::Replicas(count), Some(replicas)) =
            (&mut deployment.spec.scale, observe::replicas(&found))
        {
            *count = replicas;
        }
        self.roll_out(&deployment, OnFailure::Stop).await
    }

    async fn remove(&self, service: &ServiceName) -> Result<(), ClusterError> {
        for _ in 0..ATTEMPTS {
            let observed = self.engine.observe().await?;
            let (found, records) = (observed.service(service.as_str()), observed.records(service.as_str()));
            if found.is_none() && history::removal(&records).is_some()
                || found.is_none() && records.is_empty()
            {
                return Err(ClusterError::NotFound { what: "service", name: service.to_string() });
            }
            // Recorded first: whoever is killed in between, the leader finishes it.
            let number = match history::removal(&records) {
                Some(removal) => removal.number,
                None => {
                    let number = records.iter().map(|record| record.number).max().unwrap_or(0) + 1;
                    let removal = Record::removal(service.as_str(), number);
                    if self.engine.create_config(removal).await?.is_none() {
                        continue;
                    }
                    number
                }
            };
            self.finish_removal(found, &records, number).await?;
            self.watcher.look_now();
            return Ok(());
        }
        Err(busy(service.as_str()))
    }

    async fn logs(
        &self,
        service: &ServiceName,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError> {
        let (observed, found) = self.known(service).await?;
        Ok(logs::stream(&self.engine, observed, &found, tail, follow))
    }

    async fn drain(&self, machines: &[MachineId], lose: &[VolumeName]) -> Result<(), ClusterError> {
        // One at a time here; drains on several managers merge, since each step looks at what is there.
        let _turn = self.drains.lock().await;
        self.leave_volumes(machines, lose).await?;
        drain::drain(self, machines, drain::Manner::Replace).await
    }
}

/// What a deployment asks of a service that is there.
enum Step {
    /// It runs already.
    Nothing,
    /// Another number of instances. No revision is made, and no instance is replaced.
    Scale(Scale),
    /// A new revision.
    Revise,
}

fn step(
    service: &Service,
    present: Option<&Record>,
    now: &history::Now,
    wanted: &Deployment,
    held: Option<scaled::Manual>,
) -> Step {
    let Some(record) = present else { return Step::Revise };
    let Ok(recorded) = record.deployment() else { return Step::Revise };
    let mut running = recorded.clone();
    // The number of instances may have been changed since the revision was recorded.
    if let (Scale::Replicas(count), Some(replicas)) = (&mut running.spec.scale, observe::replicas(service)) {
        *count = replicas;
    }
    // A number that was set manually and is not kept leaves labels to remove.
    if same(&running, wanted) && held == scaled::of(service) {
        return Step::Nothing;
    }
    let scales = matches!(
        (running.spec.scale, wanted.spec.scale),
        (Scale::Replicas(_), Scale::Replicas(_)) | (Scale::EveryMachine, Scale::EveryMachine)
    );
    running.spec.scale = wanted.spec.scale;
    // A rollout is not interrupted by it: the engine would forget what it goes back to.
    let runs = history::derive(std::slice::from_ref(record), now)
        .first()
        .is_some_and(|(_, state)| *state == RevisionState::Running);
    if scales && runs && same(&running, wanted) { Step::Scale(wanted.spec.scale) } else { Step::Revise }
}

/// Whether two deployments run the same, whatever their origin. An earlier restart is no difference
/// unless another one is requested.
fn same(running: &Deployment, wanted: &Deployment) -> bool {
    let restarts = wanted.restarted.is_some() && running.restarted != wanted.restarted;
    !restarts
        && running.spec == wanted.spec
        && running.registry == wanted.registry
        && running.digest == wanted.digest
        && running.secrets == wanted.secrets
        && running.network == wanted.network
}

/// The engine can't change between a number of instances and one on every machine.
fn refuse_other_mode(service: &Service, wanted: &Deployment) -> Result<(), ClusterError> {
    let every = |scale: Scale| scale == Scale::EveryMachine;
    let (has, wants) = (every(scaled::live(service)), every(wanted.spec.scale));
    if has == wants {
        return Ok(());
    }
    let words = |every: bool| if every { "`every_machine`" } else { "`replicas`" };
    let name = &wanted.spec.name;
    Err(ClusterError::Refused {
        reason: format!(
            "service `{name}` runs with {} and its file says {}, which the engine can't change in place: \
             `fleetwright remove {name}`, then deploy it again",
            words(has),
            words(wants)
        ),
    })
}

fn busy(service: &str) -> ClusterError {
    ClusterError::Refused {
        reason: format!("service `{service}` is being changed by somebody else; try again"),
    }
}

/// What a revision deploys, where this control machine can read it.
fn readable(record: &Record) -> Result<&Deployment, ClusterError> {
    record.deployment().map_err(|reason| ClusterError::Refused {
        reason: format!(
            "revision {} of service `{}` can't be used: {reason}. Replace the control machines with \
             `fleetwright roll`, or deploy that version again",
            record.number, record.service
        ),
    })
}

fn broken(error: &serde_json::Error) -> ClusterError {
    ClusterError::Engine { doing: "writing the deployment".to_owned(), reason: error.to_string() }
}
