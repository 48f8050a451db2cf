//! The agent of one machine: into the cluster, a member of it, and out again.
//!
//! What to do is decided in [`crate::plan::agent`]; this asks and does. Every step looks at
//! what there is, so that the agent can be killed and started again at any point.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::audit::Auditor;
use super::etcd::Etcd;
use super::jobs::advance;
use super::notify::Notifier;
use super::rendezvous::{Rendezvous, RendezvousError};
use super::timeline::Events;
use crate::model::address::AddressPool;
use crate::model::group::Group;
use crate::model::machine::Role;
use crate::model::member::{Identity, Membership as State};
use crate::model::name::MachineId;
use crate::model::secret::Secret;
use crate::plan::agent::{self as plan, Action, Inside, Leave};
use crate::port::cloud::CloudError;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::engine_host::EngineHost;
use crate::port::groups::Groups;
use crate::port::jobs::{JobCluster, JobStore};
use crate::port::membership::{ClusterSecrets, Control, Membership, Metadata, Notice};
use crate::port::parameters::{Parameters, Protection};
use crate::port::standing::{AskStanding, Restore};

pub mod desired;
mod engine_watch;
pub mod host_files;
mod identity;
mod membership;
mod ports;
mod pressure;
mod reboot;
mod record;
mod reports;
pub mod units;
mod upkeep;

pub use reboot::Reboots;

use membership::Doubt;
pub use membership::Reviver;

/// Time between two attempts to get in.
const RETRY: Duration = Duration::from_secs(2);
/// How long stopping what is left on a machine may take.
const STOPPING: Duration = Duration::from_secs(90);
/// Time between two looks for the notice that this machine is to go.
const NOTICE: Duration = Duration::from_secs(1);
/// Time between two looks of the leader at the members.
const MEMBERS: Duration = Duration::from_secs(2);
/// Time between two looks of the leader at jobs.
const JOBS: Duration = Duration::from_secs(1);
/// Time between two checks of the leader whether people are to be notified.
const NOTIFY: Duration = Duration::from_secs(5);
/// For how long it counts as known that this machine leads the managers, and that it does not.
const LEADS: Duration = Duration::from_secs(1);
const FOLLOWS: Duration = Duration::from_secs(2);
/// Time between two looks of the leader at the groups while all members answer.
const GROUPS: Duration = Duration::from_secs(30);
/// The same while one does not.
const GROUPS_URGENT: Duration = Duration::from_secs(4);
/// How long draining may be refused before the machine goes all the same.
const DRAIN: Duration = Duration::from_secs(240);
/// How long a manager waits for the others to be able to go on without it.
const SUCCESSION: Duration = Duration::from_secs(240);
/// Time between two words to the hook that this machine needs more time.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Why a step of the agent did not come about; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The engine or the API.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The cloud provider.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The metadata service.
    #[error(transparent)]
    Metadata(#[from] crate::port::membership::MetadataError),
    /// No secrets could be made.
    #[error("making the cluster's secrets: {0}")]
    Secrets(String),
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] crate::port::etcd::EtcdError),
    /// A document in the bucket, of a service that must be restored.
    #[error(
        "the document of service `{service}` in the bucket can't be read: {reason}. A later version may \
         have written it: replace the control machines by that version; or delete the object to give \
         the service up"
    )]
    Document {
        /// The service.
        service: crate::model::name::ServiceName,
        /// Why.
        reason: String,
    },
    /// The rendezvous.
    #[error(transparent)]
    Rendezvous(#[from] RendezvousError),
    /// The engine's unit on this machine.
    #[error("restarting Docker on this machine: {0}. See `journalctl -u docker`")]
    Host(#[source] std::io::Error),
    /// Part of what the initialiser publishes is not there.
    #[error("the rendezvous has no `{0}`")]
    Missing(String),
}

/// Everything an agent works through.
pub struct Agent {
    /// What this machine is.
    pub me: Identity,
    /// The tags that all groups of the cluster carry.
    pub tags: Vec<(String, String)>,
    /// The cluster's prefix in the parameter store.
    pub prefix: String,
    /// Where the overlay networks lie, if this machine founds the cluster.
    pub addresses: AddressPool,
    /// The engine of this machine.
    pub engine: Arc<dyn Membership>,
    /// The engine as a program on this machine.
    pub host: Arc<dyn EngineHost>,
    /// The API of the control machines.
    pub control: Arc<dyn Control>,
    /// The same, for a machine in doubt about its membership.
    pub standing: Arc<dyn AskStanding>,
    /// Brings back what ran before in a cluster that was lost; without it there is nothing to bring
    /// back.
    pub restore: Option<Arc<dyn Restore>>,
    /// Keeps what the cluster runs in the project's bucket; control machines only.
    pub desired: Option<Arc<desired::Desired>>,
    /// The same of its jobs.
    pub desired_jobs: Option<Arc<desired::Desired>>,
    /// The jobs that this machine advances while it leads and holds the lock.
    pub jobs: Arc<Mutex<Arc<dyn JobStore>>>,
    /// The groups.
    pub groups: Arc<dyn Groups>,
    /// The rendezvous.
    pub parameters: Arc<dyn Parameters>,
    /// The metadata service.
    pub metadata: Arc<dyn Metadata>,
    /// Reboots of this machine.
    pub reboots: Reboots,
    /// The audit log of a control machine, once it is open.
    pub audit: OnceLock<Arc<Auditor>>,
    /// The events that this control machine records; `None` on workers.
    pub events: Option<Events>,
    /// What it observes for them.
    pub observed: Arc<dyn Cluster>,
    /// The jobs that it observes for them.
    pub observed_jobs: Arc<dyn JobCluster>,
    /// Notifies people while this machine leads; `None` on workers.
    pub notifier: Option<Notifier>,
    /// Whether this machine led the managers when it was asked last.
    pub leadership: Mutex<Option<(Instant, bool)>>,
    /// Makes the secrets of a new cluster.
    pub secrets: Box<dyn Fn() -> Result<ClusterSecrets, String> + Send + Sync>,
}

/// How membership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The machine is to go.
    Notice(Notice),
    /// It is no longer a member as it should be: it must get in again.
    Outside,
}

impl Agent {
    /// Publishes what others need to join, unless that is done. The token of managers comes last.
    async fn publish_if_founder(&self, doubt: &Doubt) -> Result<(), AgentError> {
        if doubt.founder() != Some(&self.me.instance) {
            return Ok(());
        }
        self.rendezvous().set_legacy(&self.me.instance).await?;
        let tokens = self.engine.join_tokens().await?;
        let published = self.parameters.get(&self.name("join-token/manager")).await?;
        if published.is_some_and(|published| published == tokens.manager) {
            return Ok(());
        }
        // Others may serve with the secrets already: they are kept where they are complete.
        let secrets = match self.published().await {
            Ok(secrets) => secrets,
            Err(AgentError::Missing(_)) => (self.secrets)().map_err(AgentError::Secrets)?,
            Err(error) => return Err(error),
        };
        let values = [
            ("ca-cert", &Secret::new(secrets.authority), Protection::Plain),
            ("ca-key", &secrets.authority_key, Protection::Encrypted),
            ("api-token", &secrets.api_token, Protection::Encrypted),
            ("join-token/worker", &tokens.worker, Protection::Encrypted),
            ("join-token/manager", &tokens.manager, Protection::Encrypted),
        ];
        for (name, value, protection) in values {
            self.parameters.put(&self.name(name), value, protection).await?;
        }
        tracing::info!("the cluster is initialised");
        Ok(())
    }

    /// What the API of this control machine is served with.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn published(&self) -> Result<ClusterSecrets, AgentError> {
        let get = async |name: &str| -> Result<Secret<String>, AgentError> {
            let value = self.parameters.get(&self.name(name)).await?;
            value.ok_or_else(|| AgentError::Missing(name.to_owned()))
        };
        Ok(ClusterSecrets {
            authority: get("ca-cert").await?.expose().clone(),
            authority_key: get("ca-key").await?,
            api_token: get("api-token").await?,
            worker_token: self.parameters.get(&self.name("worker-token")).await?,
        })
    }

    /// Is a member, until that ends.
    pub async fn stay(&self) -> Ended {
        tokio::select! {
            notice = self.notice() => Ended::Notice(notice),
            () = self.watch_self() => Ended::Outside,
            () = self.lead() => Ended::Outside,
            () = self.keep_desired() => Ended::Outside,
            () = self.advance_jobs() => Ended::Outside,
            () = self.report() => Ended::Outside,
            () = self.watch_engine() => Ended::Outside,
            () = self.watch_ports() => Ended::Outside,
            () = self.watch_pressure() => Ended::Outside,
            () = self.reboot_when_wanted() => Ended::Outside,
            () = self.record_events() => Ended::Outside,
            () = self.notify() => Ended::Outside,
        }
    }

    async fn notice(&self) -> Notice {
        loop {
            match self.metadata.notice().await {
                Ok(Some(notice)) => return notice,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "asking for the notice"),
            }
            sleep(NOTICE).await;
        }
    }

    /// While this machine leads the managers: keeps the records, and takes members off that are gone.
    async fn lead(&self) {
        if self.me.role == Role::Worker {
            return std::future::pending().await;
        }
        let mut looked: Option<Instant> = None;
        loop {
            sleep(MEMBERS).await;
            if let Err(error) = self.lead_once(&mut looked).await {
                tracing::warn!(%error, "looking after the members");
            }
        }
    }

    /// While this machine leads the managers: starts what is due, and records its outcome.
    async fn advance_jobs(&self) {
        if self.me.role == Role::Worker {
            return std::future::pending().await;
        }
        loop {
            sleep(JOBS).await;
            let work = async {
                if self.leads().await? {
                    let jobs = self.jobs.lock().await;
                    advance(jobs.as_ref(), Utc::now()).await?;
                }
                Ok::<(), AgentError>(())
            };
            if let Err(error) = work.await {
                tracing::warn!(%error, "advancing jobs");
            }
        }
    }

    /// Records what happens in the cluster.
    async fn record_events(&self) {
        match &self.events {
            Some(events) => events.observe(self.observed.as_ref(), self.observed_jobs.as_ref()).await,
            None => std::future::pending().await,
        }
    }

    /// While this machine leads the managers: notifies people of what is wrong.
    async fn notify(&self) {
        let Some(notifier) = &self.notifier else { return std::future::pending().await };
        loop {
            sleep(NOTIFY).await;
            match self.leads().await {
                Ok(true) => {
                    if let Err(error) = notifier.once().await {
                        tracing::warn!(%error, "notifying people");
                    }
                }
                Ok(false) => notifier.rest().await,
                // Whoever leads is not known: what was known counts until it is.
                Err(error) => tracing::debug!(%error, "asking whether this machine leads"),
            }
        }
    }

    async fn lead_once(&self, looked: &mut Option<Instant>) -> Result<(), AgentError> {
        if !self.leads().await? {
            return Ok(());
        }
        let State::In { node, manager: true } = self.engine.state().await? else { return Ok(()) };
        let nodes = self.engine.nodes().await?;
        let leads =
            nodes.iter().any(|one| one.id == node && one.manager.is_some_and(|manager| manager.leader));
        if !leads {
            return Ok(());
        }
        // What can't be recorded must not keep members that are gone in the cluster.
        if let Err(error) = self.engine.settle().await {
            tracing::warn!(%error, "recording the outcome of revisions");
        }
        let urgent = nodes.iter().any(|one| !one.up || one.manager.is_some_and(|manager| !manager.reachable));
        let due = if urgent { GROUPS_URGENT } else { GROUPS };
        if looked.is_some_and(|at| at.elapsed() < due) {
            return Ok(());
        }
        *looked = Some(Instant::now());
        let groups = self.groups.groups(&self.tags()).await?;
        let mut deleted = BTreeSet::new();
        let named: BTreeSet<&String> =
            nodes.iter().filter_map(|one| one.labels.get("fleetwright.group")).collect();
        for name in named {
            if !groups.iter().any(|group| group.name == *name) && self.groups.group(name).await?.is_none() {
                deleted.insert(name.clone());
            }
        }
        self.upkeep(&groups).await?;
        let registered: Vec<MachineId> =
            self.rendezvous().registered().await?.into_iter().map(|(id, _)| id).collect();
        let actions = plan::reconcile(&Inside {
            me: &self.me.instance,
            nodes: &nodes,
            groups: &groups,
            deleted_groups: &deleted,
            registered: &registered,
        });
        for action in actions {
            tracing::info!(?action, "looking after the members");
            match &action {
                Action::Demote { node, .. } => {
                    let work = async { Ok(self.engine.demote(node).await?) };
                    self.recorded("demote-manager", format!("node/{node}"), work).await?;
                }
                Action::Remove { node, .. } => {
                    let work = async { Ok(self.engine.remove_node(node).await?) };
                    self.recorded("remove-node", format!("node/{node}"), work).await?;
                }
                Action::Forget { machine } => {
                    self.parameters.delete(&self.name(&format!("control/{machine}"))).await?;
                }
            }
            // What was done must show before more is decided.
            *looked = None;
        }
        Ok(())
    }

    /// Takes this machine out of the cluster and lets it go; the hook is told when it needs more time.
    pub async fn leave(&self, notice: Notice, etcd: Option<&Etcd>) {
        tracing::info!(?notice, "this machine is to go");
        let hooks = match self.groups.termination_hooks(&self.me.group).await {
            Ok(hooks) => hooks,
            Err(error) => {
                tracing::warn!(%error, "reading the group's hooks");
                Vec::new()
            }
        };
        tokio::select! {
            () = self.get_out(etcd) => {}
            () = self.ask_for_time(&hooks) => {}
        }
        tracing::info!("out of the cluster");
        for hook in &hooks {
            for _ in 0..10 {
                match self.groups.complete_lifecycle(&self.me.group, hook, &self.me.instance).await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, hook, "letting this machine go"),
                }
                sleep(RETRY).await;
            }
        }
    }

    async fn ask_for_time(&self, hooks: &[String]) {
        loop {
            sleep(HEARTBEAT).await;
            for hook in hooks {
                if let Err(error) = self.groups.heartbeat(&self.me.group, hook, &self.me.instance).await {
                    tracing::warn!(%error, hook, "asking for more time");
                }
            }
        }
    }

    async fn get_out(&self, etcd: Option<&Etcd>) {
        let state = self.engine.state().await;
        if matches!(state, Ok(State::In { .. })) {
            self.drain().await;
            // Before it hands over: only a manager can tell who is to look after etcd's members.
            if let Some(etcd) = etcd {
                etcd.leave().await;
            }
            if self.me.role == Role::Control {
                self.hand_over().await;
            }
        }
        self.leave_swarm().await;
    }

    /// Empties this machine; by force when the group goes as a whole or time is up.
    async fn drain(&self) {
        let machines = [self.me.instance.clone()];
        let start = Instant::now();
        self.reboots.set_draining(true);
        loop {
            let error = match timeout(DRAIN, self.control.empty(&machines, false)).await {
                Ok(Ok(())) => return,
                Ok(Err(ClusterError::NotFound { .. })) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes too long".to_owned(),
            };
            tracing::warn!(error, "draining this machine");
            let dissolved = match self.groups.group(&self.me.group).await {
                Ok(group) => group.is_none_or(|group| group.capacity.desired == 0),
                Err(_) => false,
            };
            if dissolved || start.elapsed() > DRAIN {
                break;
            }
            sleep(RETRY).await;
        }
        match timeout(STOPPING, self.control.empty(&machines, true)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "stopping what is left"),
            Err(_) => tracing::warn!("stopping what is left takes too long"),
        }
    }

    /// Ceases to be a manager, as soon as the others can go on.
    async fn hand_over(&self) {
        let name = self.name(&format!("control/{}", self.me.instance));
        if let Err(error) = self.parameters.delete(&name).await {
            tracing::warn!(%error, "taking this machine out of the rendezvous");
        }
        let start = Instant::now();
        while start.elapsed() < SUCCESSION {
            match self.try_hand_over().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "handing over"),
            }
            sleep(RETRY).await;
        }
        tracing::warn!("the others can't go on without this manager yet, and time is up");
    }

    async fn try_hand_over(&self) -> Result<bool, AgentError> {
        let State::In { node, manager: true } = self.engine.state().await? else { return Ok(true) };
        match plan::leave(&self.engine.nodes().await?, &node) {
            Leave::Last => Ok(true),
            Leave::Wait => Ok(false),
            Leave::Now => {
                // It shows in the engine's state a moment later, which the next look finds.
                self.engine.demote(&node).await?;
                Ok(false)
            }
        }
    }

    fn rendezvous(&self) -> Rendezvous {
        Rendezvous::new(Arc::clone(&self.parameters), &self.prefix)
    }

    fn tags(&self) -> Vec<(&str, &str)> {
        self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    fn token_role(&self) -> &'static str {
        match self.me.role {
            Role::Control => "manager",
            Role::Worker => "worker",
        }
    }
}

/// The group of an instance whose metadata does not name it.
///
/// # Errors
/// When the groups can't be read.
pub async fn group_of(
    groups: &dyn Groups,
    tags: &[(&str, &str)],
    instance: &MachineId,
) -> Result<Option<String>, CloudError> {
    let found: Vec<Group> = groups.groups(tags).await?;
    Ok(found
        .into_iter()
        .find(|group| group.instances.iter().any(|one| one.id == *instance))
        .map(|group| group.name))
}
