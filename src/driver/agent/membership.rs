//! Into the cluster, and back into it: what is known of the engine and of the cluster is collected,
//! and what [`crate::plan::agent::membership`] and [`crate::plan::agent::founding`] decide is done.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Agent, AgentError, RETRY};
use crate::driver::rendezvous::Which;
use crate::model::founding::{Entry, Holder, Log};
use crate::model::group::Group;
use crate::model::machine::Role;
use crate::model::member::{Membership as State, Report, Stored};
use crate::model::name::{MachineId, SwarmId};
use crate::model::secret::Secret;
use crate::model::standing::{Place, Standing, Turn};
use crate::plan::agent::founding::{self, Own, Step};
use crate::plan::agent::membership::{self as plan, Action, Engine, Published, Rejoin, Seen};
use crate::port::engine_host::{EngineHost, EngineUnit};
use crate::port::membership::Notice;

/// How long the engine may take to answer. A manager that is restarted without a majority is silent
/// for 20 s.
const ENGINE: Duration = Duration::from_secs(25);
/// How long the cluster may take to say what a node is to it.
const STANDING: Duration = Duration::from_secs(25);
/// Time between two questions to the cluster of a machine that has no reason to doubt.
const SURE: Duration = Duration::from_secs(60);
/// Time between two checks whether this machine is what it should be.
const SELF_CHECK: Duration = Duration::from_secs(10);

/// What an agent remembers of its machine's state from one look to the next.
pub(super) struct Doubt {
    start: Instant,
    /// The engine's state, and since when it has been that.
    state: Option<(String, Instant)>,
    restarts: u32,
    restarted: Option<Instant>,
    /// What the cluster said of this machine's node, and since when it has said so without a break.
    said: Option<(Place, SwarmId, Instant)>,
    /// When the cluster was asked, though there was no reason to doubt.
    asked: Option<Instant>,
    /// The log when it was read last, and when that was.
    log: Option<(Log, Instant)>,
    /// The length of the log, and since when it has been that.
    length: Option<(u64, Instant)>,
    /// What was logged last, so that the journal gets everything once.
    said_last: String,
}

impl Doubt {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            state: None,
            restarts: 0,
            restarted: None,
            said: None,
            asked: None,
            log: None,
            length: None,
            said_last: String::new(),
        }
    }

    fn tell(&mut self, text: String) {
        if self.said_last != text {
            tracing::warn!("{text}");
            self.said_last = text;
        }
    }

    /// The same for what is part of every beginning.
    fn mention(&mut self, text: String) {
        if self.said_last != text {
            tracing::info!("{text}");
            self.said_last = text;
        }
    }

    /// How long the engine has been in the state of that label, in seconds.
    fn state_for_s(&mut self, label: &str) -> u64 {
        match &self.state {
            Some((known, since)) if known == label => since.elapsed().as_secs(),
            _ => {
                self.state = Some((label.to_owned(), Instant::now()));
                0
            }
        }
    }

    fn read(&mut self, log: &Log) {
        let length = log.next_number();
        if self.length.is_none_or(|(known, _)| known != length) {
            self.length = Some((length, Instant::now()));
        }
        self.log = Some((log.clone(), Instant::now()));
    }

    /// The machine that published the cluster.
    pub(super) fn founder(&self) -> Option<&MachineId> {
        self.log.as_ref().and_then(|(log, _)| log.published()).map(|published| published.machine)
    }

    fn last_for_s(&self) -> u64 {
        self.length.map_or(0, |(_, since)| since.elapsed().as_secs())
    }
}

/// Restarts an engine whose unit failed before the agent could speak to it even once.
pub struct Reviver {
    start: Instant,
    restarts: u32,
    restarted: Option<Instant>,
}

impl Default for Reviver {
    fn default() -> Self {
        Self { start: Instant::now(), restarts: 0, restarted: None }
    }
}

impl Reviver {
    /// Restarts the engine if its unit failed and the time for that has come.
    pub async fn revive(&mut self, host: &dyn EngineHost) {
        if !matches!(host.unit().await, Ok(EngineUnit::Failed)) {
            return;
        }
        let action = plan::decide(&Seen {
            role: Role::Worker,
            engine: Engine::Failed,
            leader: false,
            stored: None,
            published: Published::Unknown,
            standing: None,
            said_for_s: 0,
            for_s: self.start.elapsed().as_secs(),
            restarts: self.restarts,
            restarted_s: self.restarted.map(|at| at.elapsed().as_secs()),
        });
        if let Action::Restart(_) = action {
            self.restarts += 1;
            self.restarted = Some(Instant::now());
            tracing::warn!(attempt = self.restarts, "Docker's unit failed; it is restarted");
            if let Err(error) = host.restart().await {
                tracing::warn!(%error, "restarting Docker");
            }
        }
    }
}

/// The engine and the cluster, as far as they could be asked.
struct Looked {
    report: Option<Report>,
    stored: Option<Stored>,
    /// This machine's swarm: as the engine reports it, or as its certificate names it.
    own: Option<SwarmId>,
    action: Action,
}

/// A part of the rendezvous that decides about founding; read in the order of the fields.
struct Rendezvous {
    log: Log,
    control_groups: Vec<Group>,
    holders: Vec<Holder>,
    registered: Vec<(MachineId, IpAddr)>,
    legacy: Option<MachineId>,
    token: Option<Secret<String>>,
}

impl Agent {
    /// Gets this machine into the cluster, however long that takes, and registers it.
    /// Returns its node id, or the notice that it is to go instead.
    pub async fn enter(&self) -> Result<String, Notice> {
        let mut doubt = Doubt::new();
        loop {
            if let Ok(Some(notice)) = self.metadata.notice().await {
                return Err(notice);
            }
            match self.try_enter(&mut doubt).await {
                Ok(Some(node)) => return Ok(node),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "entering the cluster"),
            }
            sleep(RETRY).await;
        }
    }

    async fn try_enter(&self, doubt: &mut Doubt) -> Result<Option<String>, AgentError> {
        let looked = self.look(doubt, true).await;
        match looked.action {
            Action::Stay => {
                let Some(Report { state: State::In { node, .. }, .. }) = &looked.report else {
                    return Ok(None);
                };
                if self.me.role == Role::Control {
                    self.publish_if_founder(doubt).await?;
                    self.write_down(looked.own.as_ref()).await?;
                }
                self.register(node).await?;
                return Ok(Some(node.clone()));
            }
            Action::Enter => self.step_in(doubt).await?,
            Action::Settle => {
                if let Some(own) = &looked.own {
                    self.settle_founding(doubt, own).await?;
                }
            }
            Action::Wait(why) => doubt.tell(format!("this machine waits for {}", why.label())),
            Action::Report(trouble) => doubt.tell(trouble.label().to_owned()),
            Action::Restart(cause) => {
                doubt.restarts += 1;
                doubt.restarted = Some(Instant::now());
                let reason = match looked.report.map(|report| report.state) {
                    Some(State::Broken { reason }) => reason,
                    _ => String::new(),
                };
                tracing::warn!(
                    ?cause,
                    reason,
                    attempt = doubt.restarts,
                    "Docker is restarted; nothing is deleted"
                );
                self.host.restart().await.map_err(AgentError::Host)?;
            }
            Action::StartOver => {
                tracing::warn!("joining took too long; it begins again");
                self.engine.leave(true).await?;
            }
            Action::Rejoin(why) => self.rejoin(doubt, why, &looked).await?,
            Action::Demote => {
                if let Some(Report { state: State::In { node, .. }, .. }) = &looked.report {
                    tracing::warn!(
                        node,
                        "this machine is a worker by its configuration; it stops being a manager"
                    );
                    self.engine.demote(node).await?;
                }
            }
        }
        Ok(None)
    }

    /// Returns when this machine is no longer a member as it should be, and something can be done.
    pub(super) async fn watch_self(&self) {
        let mut doubt = Doubt::new();
        loop {
            sleep(SELF_CHECK).await;
            let looked = self.look(&mut doubt, false).await;
            match looked.action {
                Action::Stay => {
                    doubt.said_last.clear();
                    if self.me.role == Role::Control
                        && let Err(error) = self.write_down(looked.own.as_ref()).await
                    {
                        tracing::debug!(%error, "recording this machine in the rendezvous");
                    }
                }
                // The first look already waits; there is nothing to undo.
                Action::Wait(why) => doubt.tell(format!("this machine waits for {}", why.label())),
                Action::Report(trouble) => doubt.tell(trouble.label().to_owned()),
                action => {
                    tracing::warn!(?action, stored = ?looked.stored, "this machine is not the member it should be");
                    return;
                }
            }
        }
    }

    /// Collects what is known and decides; `fresh` reads the log even if it was just read.
    async fn look(&self, doubt: &mut Doubt, fresh: bool) -> Looked {
        let report = match timeout(ENGINE, self.engine.report()).await {
            Ok(Ok(report)) => Some(report),
            Ok(Err(error)) => {
                tracing::debug!(%error, "asking the engine");
                None
            }
            Err(_) => None,
        };
        let failed = match &report {
            Some(_) => false,
            None => matches!(self.host.unit().await, Ok(EngineUnit::Failed)),
        };
        let stored = match self.host.stored().await {
            Ok(stored) => Some(stored),
            Err(error) => {
                tracing::warn!(%error, "reading what the engine keeps of its membership");
                None
            }
        };
        let certificate = stored.as_ref().and_then(|stored| stored.certificate.clone());
        let reported = report.as_ref().and_then(|report| report.cluster.clone());
        let leader = reported.is_some();
        let own = reported.or_else(|| certificate.as_ref().map(|certificate| certificate.cluster.clone()));

        let log = self.log(doubt, fresh).await;
        let is_published = log.as_ref().map(|log| log.published().map(|one| one.cluster.clone()));
        let published = match &is_published {
            Ok(published) => plan::published(own.as_ref(), Ok(published.as_ref())),
            Err(()) => plan::published(own.as_ref(), Err(())),
        };

        let node = match report.as_ref().map(|report| &report.state) {
            Some(State::In { node, .. }) if !node.is_empty() => Some(node.clone()),
            _ => certificate.map(|certificate| certificate.node),
        };
        let is_published = is_published.ok().flatten();
        let standing =
            self.ask(doubt, report.as_ref(), node.as_deref(), published, is_published.as_ref()).await;
        let said_for_s = doubt.said.as_ref().map_or(0, |(_, _, since)| since.elapsed().as_secs());

        let label = match &report {
            None if failed => "failed".to_owned(),
            None => "silent".to_owned(),
            Some(Report { state: State::Broken { .. }, .. }) => "broken".to_owned(),
            Some(report) => format!("{:?}", report.state),
        };
        let for_s = doubt.state_for_s(&label);
        let engine = match &report {
            Some(report) => Engine::Reports(&report.state),
            None if failed => Engine::Failed,
            None => Engine::Silent,
        };
        let action = plan::decide(&Seen {
            role: self.me.role,
            engine,
            leader,
            stored: stored.as_ref(),
            published,
            standing: standing.as_ref(),
            said_for_s,
            for_s,
            restarts: doubt.restarts,
            restarted_s: doubt.restarted.map(|at| at.elapsed().as_secs()),
        });
        if action == Action::Stay {
            (doubt.restarts, doubt.restarted) = (0, None);
        }
        Looked { report, stored, own, action }
    }

    /// The founding log; `Err` when it cannot be read.
    async fn log(&self, doubt: &mut Doubt, fresh: bool) -> Result<Log, ()> {
        if let Some((log, at)) = &doubt.log
            && !fresh
            && at.elapsed() < SURE
        {
            return Ok(log.clone());
        }
        match self.rendezvous().log(Which::Swarm).await {
            Ok(log) => {
                doubt.read(&log);
                Ok(log)
            }
            Err(error) => {
                // The role of a machine that an earlier version launched does not allow it.
                tracing::debug!(%error, "reading the founding log");
                Err(())
            }
        }
    }

    /// What the published cluster says of this machine's node, where that matters.
    async fn ask(
        &self,
        doubt: &mut Doubt,
        report: Option<&Report>,
        node: Option<&str>,
        published: Published,
        cluster: Option<&SwarmId>,
    ) -> Option<Standing> {
        let sure = match report {
            // A manager with a leader is part of the answer itself.
            Some(Report { state: State::In { manager: true, .. }, cluster: Some(_) }) => true,
            Some(Report { state: State::In { manager: false, .. }, .. }) => {
                self.me.role == Role::Worker
                    && published == Published::Same
                    && doubt.said.as_ref().is_none_or(|(place, ..)| *place == Place::Worker)
                    && doubt.asked.is_some_and(|at| at.elapsed() < SURE)
            }
            Some(Report { state: State::Out | State::Locked, .. }) | None => true,
            Some(_) => false,
        };
        let (false, Some(node), Some(cluster)) = (sure, node, cluster) else {
            if doubt.said.as_ref().is_some_and(|(place, ..)| *place == Place::Unknown) {
                doubt.said = None;
            }
            return None;
        };
        doubt.asked = Some(Instant::now());
        let standing = match timeout(STANDING, self.standing.standing(node)).await {
            Ok(Ok(standing)) if standing.cluster == *cluster => standing,
            Ok(Ok(standing)) => {
                tracing::debug!(cluster = %standing.cluster, "another swarm than the published one answers");
                doubt.said = None;
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "asking the cluster about this machine");
                doubt.said = None;
                return None;
            }
            Err(_) => {
                doubt.said = None;
                return None;
            }
        };
        let same = doubt
            .said
            .as_ref()
            .is_some_and(|(place, cluster, _)| *place == standing.node && *cluster == standing.cluster);
        if !same {
            doubt.said = Some((standing.node, standing.cluster.clone(), Instant::now()));
        }
        Some(standing)
    }

    async fn rejoin(&self, doubt: &mut Doubt, why: Rejoin, looked: &Looked) -> Result<(), AgentError> {
        if why == Rejoin::Replaced {
            match self.standing.turn(&self.me.instance).await? {
                Turn::Granted => {}
                Turn::Wait { reason } => {
                    doubt.tell(format!("this machine waits for its turn to join the new cluster: {reason}"));
                    return Ok(());
                }
            }
        }
        tracing::warn!(?why, own = ?looked.own, stored = ?looked.stored, "this machine leaves its swarm and joins again");
        self.engine.leave(true).await?;
        Ok(())
    }

    async fn read_rendezvous(&self, doubt: &mut Doubt) -> Result<Rendezvous, AgentError> {
        let rendezvous = self.rendezvous();
        // A worker only joins, and its role allows no more.
        let control = self.me.role == Role::Control;
        let log = match rendezvous.log(Which::Swarm).await {
            Ok(log) => {
                doubt.read(&log);
                log
            }
            Err(_) if !control => Log::new(),
            Err(error) => return Err(error.into()),
        };
        let mut tags = self.tags();
        tags.push(("fleetwright:role", Role::Control.word()));
        let control_groups = self.groups.groups(&tags).await?;
        let holders = if control { rendezvous.holders().await? } else { Vec::new() };
        let registered = rendezvous.registered().await?;
        let legacy = if control { rendezvous.legacy(Which::Swarm).await? } else { None };
        // The token is read last: whoever registered had published it before.
        let token = rendezvous.token(self.token_role()).await?;
        Ok(Rendezvous { log, control_groups, holders, registered, legacy, token })
    }

    fn founding<'a>(&'a self, doubt: &Doubt, read: &'a Rendezvous) -> founding::Seen<'a> {
        founding::Seen {
            me: &self.me.instance,
            role: self.me.role,
            control_groups: &read.control_groups,
            log: &read.log,
            legacy: read.legacy.as_ref(),
            token: read.token.is_some(),
            registered: &read.registered,
            holders: &read.holders,
            waited_s: doubt.start.elapsed().as_secs(),
            last_for_s: doubt.last_for_s(),
        }
    }

    async fn step_in(&self, doubt: &mut Doubt) -> Result<(), AgentError> {
        let mut read = self.read_rendezvous(doubt).await?;
        let mut step = founding::enter(&self.founding(doubt, &read));
        if step == Step::Found {
            // Founding is decided twice: the machine may have stood still since the first look.
            read = self.read_rendezvous(doubt).await?;
            step = founding::enter(&self.founding(doubt, &read));
        }
        match &step {
            Step::Wait(why) => doubt.mention(format!("this machine waits for {}", why.label())),
            step => tracing::info!(?step, "entering the cluster"),
        }
        let rendezvous = self.rendezvous();
        match (step, &read.token) {
            (Step::Wait(_), _) | (Step::Join(_), None) => {}
            (Step::Join(via), Some(token)) => self.engine.join(self.me.address, &via, token).await?,
            (Step::Record(cluster), _) => rendezvous.hold(&self.me.instance, cluster.as_ref()).await?,
            (Step::Withdraw(keys), _) => {
                for key in keys {
                    rendezvous.withdraw(&self.me.instance, &key).await?;
                }
            }
            (Step::Claim { .. }, _) => self.append_claim(&read.log).await?,
            (Step::Found, _) => self.engine.init(self.me.address, &self.addresses).await?,
        }
        Ok(())
    }

    async fn append_claim(&self, log: &Log) -> Result<(), AgentError> {
        let entry = Entry::Claim { machine: self.me.instance.clone() };
        if !self.rendezvous().append(Which::Swarm, log, &entry).await? {
            tracing::info!("another machine was first");
        }
        Ok(())
    }

    /// Decides whether this manager's swarm becomes the published one.
    async fn settle_founding(&self, doubt: &mut Doubt, own: &SwarmId) -> Result<(), AgentError> {
        let read = self.read_rendezvous(doubt).await?;
        let tokens = self.engine.join_tokens().await?;
        let alone = self.engine.nodes().await.ok().map(|nodes| nodes.len() == 1);
        let own_swarm = Own {
            cluster: own,
            token_is_ours: read.token.as_ref().map(|token| *token == tokens.manager),
            alone,
        };
        let standing = founding::standing(&self.founding(doubt, &read), &own_swarm);
        let rendezvous = self.rendezvous();
        match standing {
            founding::Standing::Member => {}
            founding::Standing::Wait(why) => doubt.tell(format!("this machine waits for {}", why.label())),
            founding::Standing::Report(trouble) => doubt.tell(trouble.label().to_owned()),
            founding::Standing::Record => rendezvous.hold(&self.me.instance, Some(own)).await?,
            founding::Standing::Claim { .. } => self.append_claim(&read.log).await?,
            founding::Standing::Publish => {
                let entry = Entry::Published { machine: self.me.instance.clone(), cluster: own.clone() };
                if rendezvous.append(Which::Swarm, &read.log, &entry).await? {
                    tracing::info!(cluster = %own, "this machine's swarm is the cluster");
                }
            }
            founding::Standing::GiveWay => {
                tracing::warn!(cluster = %own, "another swarm was published; this one, which nobody joined, ends");
                self.engine.leave(true).await?;
            }
        }
        Ok(())
    }
}
