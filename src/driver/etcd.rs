//! The part of the agent that keeps etcd on control machines: this machine a member of it,
//! and while it leads the managers, the members those whose machines live.
//!
//! What to do is decided in [`crate::plan::agent::etcd`]; this asks and does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::agent::AgentError;
use super::rendezvous::{Rendezvous, Which};
use crate::model::etcd::{Begin, ClusterState, Observed, Service, client_url, peer_url};
use crate::model::founding::{Entry, Log};
use crate::model::group::Group;
use crate::model::machine::Role;
use crate::model::member::{Identity, Membership as State};
use crate::model::name::MachineId;
use crate::model::secret::Secret;
use crate::plan::agent::etcd::{self as plan, Action, Leave, Seen};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::Endpoint;
use crate::port::etcd::{EtcdError, EtcdMachine, EtcdMembers};
use crate::port::groups::Groups;
use crate::port::membership::Membership;
use crate::port::parameters::{Parameters, Protection};
use crate::port::recovery::EtcdSurvivor;

/// How long etcd may take to answer as its only member.
const ALONE: Duration = Duration::from_secs(60);
/// Time between two questions meanwhile.
const RETRY_ALONE: Duration = Duration::from_millis(500);

mod client;

pub use client::keep_client;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// The same after [`OFTEN`] looks at which there was nothing but to wait.
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// How many looks that is: what takes minutes is not waited for with many calls to the cloud.
const OFTEN: u32 = 100;
/// Time until what was done is looked at.
const SOON: Duration = Duration::from_millis(500);
/// Time between two looks at groups and parameters while all is as it should be.
const ALL: Duration = Duration::from_secs(30);
/// The same of the leader while a member does not answer.
const ALL_URGENT: Duration = Duration::from_secs(4);
/// How long a member waits for the others to be able to go on without it.
const SUCCESSION: Duration = Duration::from_secs(240);

/// Everything that keeping etcd goes through.
pub struct Etcd {
    /// What this machine is.
    pub me: Identity,
    /// The tags that all groups of the cluster carry.
    pub tags: Vec<(String, String)>,
    /// The cluster's prefix in the parameter store.
    pub prefix: String,
    /// The engine of this machine.
    pub engine: Arc<dyn Membership>,
    /// The groups.
    pub groups: Arc<dyn Groups>,
    /// The rendezvous.
    pub parameters: Arc<dyn Parameters>,
    /// The members, over the network.
    pub members: Arc<dyn EtcdMembers>,
    /// etcd on this machine.
    pub machine: Arc<dyn EtcdMachine>,
    /// Where the client URLs of the members are told; empty until they are known.
    pub endpoints: watch::Sender<Vec<String>>,
    /// The length of the founding log, and since when it has been that; `None` at first.
    pub seen_log: Mutex<Option<(u64, Instant)>>,
}

/// The members, and who told of them.
#[derive(Debug, Clone)]
struct View {
    via: String,
    members: Vec<Observed>,
}

/// What is known besides the members.
struct Surroundings {
    control_groups: Vec<Group>,
    log: Log,
    initialiser: Option<MachineId>,
    recorded: Vec<MachineId>,
    registered: Vec<(MachineId, std::net::IpAddr)>,
}

impl Etcd {
    /// Keeps etcd as it should be, for as long as this machine is a manager.
    pub async fn keep(&self) {
        let start = Instant::now();
        let mut all: Option<Instant> = None;
        let (mut said, mut waits) = (None, 0);
        loop {
            let pause = match self.step(start.elapsed(), &mut all).await {
                Ok(Action::Settled) => {
                    (said, waits) = (None, 0);
                    LOOK
                }
                Ok(Action::Wait(why)) => {
                    // Once, not every two seconds.
                    if said.replace(why) != Some(why) {
                        tracing::info!("etcd: waiting for {}", why.words());
                    }
                    waits += 1;
                    if waits > OFTEN { LOOK_SELDOM } else { LOOK }
                }
                Ok(_) => {
                    waits = 0;
                    SOON
                }
                Err(error) => {
                    tracing::warn!(%error, "looking after etcd");
                    LOOK
                }
            };
            sleep(pause).await;
        }
    }

    /// Looks once, and does what is next; `all` is when groups and parameters were last looked at.
    ///
    /// # Errors
    /// When something did not come about; the next look tells what is left to do.
    pub async fn step(&self, waited: Duration, all: &mut Option<Instant>) -> Result<Action, AgentError> {
        let State::In { node, manager: true } = self.engine.state().await? else {
            return Ok(Action::Settled);
        };
        let data = self.machine.has_data()?;
        let service = self.machine.service().await?;
        let mut view = self.view(data).await;
        let leads = self.leads(&node).await?;
        if let Some(view) = &view {
            let settled = data && service == Service::Running && self.is_voter(view);
            let every = if leads && view.members.iter().any(|one| !one.healthy) { ALL_URGENT } else { ALL };
            if settled && all.is_some_and(|at| at.elapsed() < every) {
                return Ok(Action::Settled);
            }
        }
        let mut around = self.surroundings(view.as_ref()).await?;
        if view.is_none() && !around.registered.is_empty() {
            // Groups and parameters must be the later look, so they are read again.
            view =
                self.look(around.registered.iter().map(|(_, address)| client_url(*address)).collect()).await;
            if view.is_some() {
                around = self.surroundings(view.as_ref()).await?;
            }
        }
        *all = Some(Instant::now());
        let seen = self.seen(&around, view.as_ref(), data, service, leads, waited);
        let action = plan::next(&seen);
        match &action {
            Action::Settled | Action::Wait(_) => {}
            action => tracing::info!(?action, "etcd"),
        }
        self.perform(&action, view.as_ref(), &around).await?;
        if !matches!(action, Action::Settled) {
            // What was done must show before less is looked at.
            *all = None;
        }
        Ok(action)
    }

    async fn perform(
        &self,
        action: &Action,
        view: Option<&View>,
        around: &Surroundings,
    ) -> Result<(), AgentError> {
        let via = view.map_or("", |view| view.via.as_str());
        match action {
            Action::Wait(_) => {}
            Action::Settled => self.record(around).await?,
            Action::Claim { .. } => {
                let entry = Entry::Claim { machine: self.me.instance.clone() };
                if !self.rendezvous().append(Which::Etcd, &around.log, &entry).await? {
                    tracing::info!("another machine was first to claim etcd");
                }
            }
            Action::Found => self.found(around).await?,
            Action::Add => self.members.add_learner(via, &peer_url(self.me.address)).await?,
            Action::Join => {
                let members = view.map_or(&[][..], |view| &view.members).iter().map(|one| {
                    let own = one.member.peer_urls.contains(&peer_url(self.me.address));
                    let name = match &one.member.name {
                        _ if own => self.me.instance.to_string(),
                        Some(name) => name.clone(),
                        None => format!("{:x}", one.member.id),
                    };
                    (name, one.member.peer_urls.clone())
                });
                let members =
                    members.flat_map(|(name, urls)| urls.into_iter().map(move |url| (name.clone(), url)));
                let members = members.collect();
                self.machine.start(&self.begin(ClusterState::Existing, members)).await?;
            }
            Action::Start => {
                self.machine.start(&self.begin(ClusterState::Existing, self.alone())).await?;
            }
            Action::Promote(member) => {
                self.record(around).await?;
                self.members.promote(via, *member).await?;
            }
            Action::Remove { member, .. } => self.members.remove(via, *member).await?,
            Action::SetAside => {
                tracing::warn!("nobody talks to this machine's member any more; its data is put aside");
                self.machine.set_aside().await?;
            }
            Action::Withdraw => self.withdraw(&self.me.instance).await?,
            Action::Forget(machine) => self.withdraw(machine).await?,
        }
        Ok(())
    }

    async fn found(&self, around: &Surroundings) -> Result<(), AgentError> {
        self.record(around).await?;
        let (log, recorded) = (self.rendezvous().log(Which::Etcd).await?, self.recorded().await?);
        if !plan::may_found(&self.me.instance, &around.control_groups, &log, &recorded) {
            tracing::info!("another machine founds etcd");
            return self.withdraw(&self.me.instance).await;
        }
        self.machine.start(&self.begin(ClusterState::New, self.alone())).await?;
        Ok(())
    }

    /// Writes down that this machine may have a vote, before it does.
    async fn record(&self, around: &Surroundings) -> Result<(), AgentError> {
        if !around.recorded.contains(&self.me.instance) {
            let text = serde_json::to_string(&Endpoint::new(self.me.address)).unwrap_or_default();
            let name = self.name(&format!("etcd/members/{}", self.me.instance));
            self.parameters.put(&name, &Secret::new(text), Protection::Plain).await?;
        }
        Ok(())
    }

    async fn withdraw(&self, machine: &MachineId) -> Result<(), AgentError> {
        self.parameters.delete(&self.name(&format!("etcd/members/{machine}"))).await?;
        Ok(())
    }

    fn alone(&self) -> Vec<(String, String)> {
        vec![(self.me.instance.to_string(), peer_url(self.me.address))]
    }

    fn begin(&self, state: ClusterState, members: Vec<(String, String)>) -> Begin {
        Begin {
            name: self.me.instance.to_string(),
            address: self.me.address,
            state,
            members,
            token: format!("{}-{}", self.prefix.trim_matches('/').replace('/', "-"), self.me.instance),
        }
    }

    /// Takes this machine's member out, as soon as the others can go on without it.
    pub async fn leave(&self) {
        let start = Instant::now();
        while start.elapsed() < SUCCESSION {
            match self.try_leave().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "leaving etcd"),
            }
            sleep(LOOK).await;
        }
        tracing::warn!("the others can't go on without this machine's etcd yet, and time is up");
    }

    async fn try_leave(&self) -> Result<bool, AgentError> {
        let data = self.machine.has_data()?;
        let service = self.machine.service().await?;
        let view = self.view(data).await;
        let leads = match self.engine.state().await? {
            State::In { node, manager: true } => self.leads(&node).await?,
            _ => false,
        };
        let around = self.surroundings(view.as_ref()).await?;
        let seen = self.seen(&around, view.as_ref(), data, service, leads, Duration::ZERO);
        // Nobody else does while this machine leads, and it may be what the others wait for.
        if let Some(action) = plan::tidy(&seen) {
            self.perform(&action, view.as_ref(), &around).await?;
            return Ok(false);
        }
        let leave = plan::leave(&seen);
        tracing::info!(?leave, "leaving etcd");
        match leave {
            Leave::Wait => Ok(false),
            Leave::Last => Ok(true),
            Leave::Now(member) => {
                let via = view.map_or_else(String::new, |view| view.via);
                self.members.remove(&via, member).await?;
                Ok(false)
            }
            Leave::Out => {
                self.machine.stop().await?;
                self.withdraw(&self.me.instance).await?;
                Ok(true)
            }
        }
    }

    /// The members, through those that are known to this machine.
    async fn view(&self, data: bool) -> Option<View> {
        let mut known: BTreeSet<String> = self.endpoints.borrow().iter().cloned().collect();
        if data {
            known.insert(client_url(self.me.address));
        }
        self.look(known).await
    }

    /// The members, from one of `candidates` that has a majority behind it.
    async fn look(&self, candidates: BTreeSet<String>) -> Option<View> {
        let asked = candidates.into_iter().map(async |endpoint| {
            // In this order: what it says of the members is then at least as new as its health.
            if !self.members.is_healthy(&endpoint).await {
                return None;
            }
            match self.members.members(&endpoint).await {
                Ok(members) => Some((endpoint, members)),
                Err(error) => {
                    tracing::debug!(%error, "asking for the members");
                    None
                }
            }
        });
        let (via, members) = join_all(asked).await.into_iter().flatten().next()?;
        let observed = members.into_iter().map(async |member| {
            let asked = member.client_urls.iter().map(|url| self.members.is_healthy(url));
            let healthy = join_all(asked).await.into_iter().any(|healthy| healthy);
            Observed { member, healthy }
        });
        let members = join_all(observed).await;
        let voters = members.iter().filter(|one| !one.member.learner);
        let mut urls: Vec<String> = voters.flat_map(|one| one.member.client_urls.clone()).collect();
        urls.sort();
        self.endpoints.send_if_modified(|known| {
            let changed = *known != urls && !urls.is_empty();
            if changed {
                *known = urls;
            }
            changed
        });
        Some(View { via, members })
    }

    fn is_voter(&self, view: &View) -> bool {
        let name = self.me.instance.as_str();
        view.members.iter().any(|one| one.member.name.as_deref() == Some(name) && !one.member.learner)
    }

    async fn leads(&self, node: &str) -> Result<bool, AgentError> {
        let nodes = self.engine.nodes().await?;
        Ok(nodes.iter().any(|one| one.id == node && one.manager.is_some_and(|manager| manager.leader)))
    }

    async fn surroundings(&self, view: Option<&View>) -> Result<Surroundings, AgentError> {
        let rendezvous = self.rendezvous();
        let (log, initialiser) = match view {
            Some(_) => (Log::new(), None),
            None => (rendezvous.log(Which::Etcd).await?, rendezvous.legacy(Which::Etcd).await?),
        };
        let recorded = self.recorded().await?;
        let registered = rendezvous.registered().await?;
        let mut tags: Vec<(&str, &str)> =
            self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        tags.push(("fleetwright:role", Role::Control.word()));
        let control_groups = self.groups.groups(&tags).await?;
        Ok(Surroundings { control_groups, log, initialiser, recorded, registered })
    }

    fn seen<'a>(
        &'a self,
        around: &'a Surroundings,
        view: Option<&'a View>,
        data: bool,
        service: Service,
        leads: bool,
        waited: Duration,
    ) -> Seen<'a> {
        Seen {
            me: &self.me.instance,
            address: self.me.address,
            control_groups: &around.control_groups,
            log: &around.log,
            initialiser: around.initialiser.as_ref(),
            recorded: &around.recorded,
            registered: &around.registered,
            data,
            service,
            members: view.map(|view| view.members.as_slice()),
            leads,
            waited_s: waited.as_secs(),
            last_for_s: self.last_for_s(&around.log),
        }
    }

    fn rendezvous(&self) -> Rendezvous {
        Rendezvous::new(Arc::clone(&self.parameters), &self.prefix)
    }

    /// How long this machine has seen the log's present last record, in seconds.
    fn last_for_s(&self, log: &Log) -> u64 {
        let Ok(mut seen) = self.seen_log.lock() else { return 0 };
        match *seen {
            Some((length, since)) if length == log.next_number() => since.elapsed().as_secs(),
            _ => {
                *seen = Some((log.next_number(), Instant::now()));
                0
            }
        }
    }

    async fn recorded(&self) -> Result<Vec<MachineId>, AgentError> {
        let found = self.parameters.list(&self.name("etcd/members")).await?;
        Ok(found.iter().filter_map(|one| one.name.rsplit('/').next()?.parse().ok()).collect())
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}

#[async_trait]
impl EtcdSurvivor for Etcd {
    async fn is_healthy(&self) -> bool {
        self.members.is_healthy(&client_url(self.me.address)).await
    }

    async fn go_on_alone(&self) -> Result<(), ClusterError> {
        let failed = |error: EtcdError| ClusterError::Engine {
            doing: "starting etcd as its only member".to_owned(),
            reason: error.to_string(),
        };
        let begin = self.begin(ClusterState::Existing, self.alone());
        self.machine.start_alone(&begin).await.map_err(failed)?;
        let start = Instant::now();
        let mut up = EtcdSurvivor::is_healthy(self).await;
        while !up && start.elapsed() < ALONE {
            sleep(RETRY_ALONE).await;
            up = EtcdSurvivor::is_healthy(self).await;
        }
        // Whether it is up or not, the next start of the unit must not do that again.
        self.machine.start(&begin).await.map_err(failed)?;
        if up {
            return Ok(());
        }
        Err(ClusterError::Unreachable {
            endpoint: client_url(self.me.address),
            reason: format!(
                "etcd does not answer {} s after it was started as the only member",
                ALONE.as_secs()
            ),
        })
    }
}
