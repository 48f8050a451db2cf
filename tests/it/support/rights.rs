//! A control machine's API over TLS on this computer, with the real policy, tokens and audit
//! log. The cluster and the parameter store behind it are in memory.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum_server::Handle;
use fleetwright::adapter::audit_log::SqliteAuditLog;
use fleetwright::adapter::authority::{Authority, random};
use fleetwright::adapter::cluster_api::{Access, ClusterApi, Credential, Source};
use fleetwright::adapter::timeline::SqliteTimeline;
use fleetwright::driver::access::Keeper;
use fleetwright::driver::audit::Auditor;
use fleetwright::driver::rendezvous::Rendezvous;
use fleetwright::driver::standing::Standings;
use fleetwright::driver::timeline::Events;
use fleetwright::model::access::Home;
use fleetwright::model::address::AddressPool;
use fleetwright::model::cluster::{Durability, EngineState, LogEnd, View};
use fleetwright::model::feature::Features;
use fleetwright::model::host_file_state::HostFileStates;
use fleetwright::model::member::{JoinTokens, Manager, Membership as State, Node, Report};
use fleetwright::model::name::{BootId, MachineId};
use fleetwright::model::pressure::Pressure;
use fleetwright::model::reboot::{Leave, Mark};
use fleetwright::model::secret::Secret;
use fleetwright::model::service::{PublishedPorts, Symptoms};
use fleetwright::model::standing::HeldTurn;
use fleetwright::model::timeline::{EventPage, EventQuery};
use fleetwright::model::unit::PlacedTasks;
use fleetwright::port::cloud::CloudError;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::cluster_wire::RestoredServices;
use fleetwright::port::membership::Membership;
use fleetwright::port::parameters::{Parameter, Parameters, Protection, Readable};
use fleetwright::port::reboot::{Held, Leaves};
use fleetwright::port::recovery;
use fleetwright::port::standing::Turns;
use fleetwright::port::streams::{Agents, Connection, ExecRequest, LogItems, LogRequest};
use fleetwright::server::cluster_api::{self, Api, TlsIdentity};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use crate::identity::{ACCOUNT, Account, World};

use super::cluster::{FakeCluster, Mood};
use super::host_files;
use super::registry::free_port;

/// The cluster's prefix in the parameter store.
pub const PREFIX: &str = "/fleetwright/shop/production/main";
/// The break-glass token.
pub const BREAK_GLASS: &str = "break the glass";
/// The token of workers of the version before machines had certificates.
pub const WORKER: &str = "worker";

/// Parameters in memory.
#[derive(Default)]
pub struct Store(Mutex<BTreeMap<String, String>>);

impl Store {
    /// Every value.
    pub fn values(&self) -> Vec<String> {
        self.0.lock().expect("the store").values().cloned().collect()
    }
}

#[async_trait]
impl Parameters for Store {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        Ok(self.0.lock().expect("the store").get(name).cloned().map(Secret::new))
    }

    async fn readable(&self, _: &str) -> Result<Option<Readable>, CloudError> {
        unreachable!("no plain parameter is read")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        let values = self.0.lock().expect("the store");
        let below = values.iter().filter(|(name, _)| name.starts_with(&prefix));
        Ok(below
            .map(|(name, value)| Parameter { name: name.clone(), value: Secret::new(value.clone()) })
            .collect())
    }

    async fn create_if_absent(
        &self,
        name: &str,
        value: &Secret<String>,
        _: Protection,
    ) -> Result<bool, CloudError> {
        let mut values = self.0.lock().expect("the store");
        let new = !values.contains_key(name);
        values.entry(name.to_owned()).or_insert_with(|| value.expose().clone());
        Ok(new)
    }

    async fn put(&self, name: &str, value: &Secret<String>, _: Protection) -> Result<(), CloudError> {
        self.0.lock().expect("the store").insert(name.to_owned(), value.expose().clone());
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<bool, CloudError> {
        Ok(self.0.lock().expect("the store").remove(name).is_some())
    }
}

/// Who may do what, as `store` has it.
pub fn keeper(store: Arc<Store>) -> Arc<Keeper> {
    keeper_in(ACCOUNT, store)
}

/// The same, for a cluster in that account.
pub fn keeper_in(account: &str, store: Arc<Store>) -> Arc<Keeper> {
    let home = Home { partition: "aws".to_owned(), account: account.to_owned() };
    let random = Box::new(|| random().map_err(|error| error.to_string()));
    Arc::new(Keeper::new(store, PREFIX.to_owned(), home, random))
}

/// The audit log of the control machine `name`, in a folder that must be kept.
pub fn auditor(name: &str) -> (Arc<Auditor>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let machine: MachineId = name.parse().expect("an id");
    let log = SqliteAuditLog::open(&folder.path().join("audit.db"), &machine).expect("an audit log");
    (Arc::new(Auditor::new(Arc::new(log))), folder)
}

/// The engine: one control machine, and one worker at this computer's address.
pub struct Engine;

fn node(id: &str, instance: &str, address: Ipv4Addr, manager: bool) -> Node {
    Node {
        id: id.to_owned(),
        instance: Some(instance.parse().expect("an id")),
        address: Some(IpAddr::V4(address)),
        manager: manager.then_some(Manager { leader: true, reachable: true }),
        up: true,
        labels: BTreeMap::new(),
        unchanged_s: 60,
    }
}

#[async_trait]
impl Membership for Engine {
    async fn report(&self) -> Result<Report, ClusterError> {
        let state = State::In { node: "n1".to_owned(), manager: true };
        Ok(Report { state, cluster: Some("swarm".parse().expect("an id")) })
    }
    async fn init(&self, _: IpAddr, _: &AddressPool) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn join(&self, _: IpAddr, _: &[IpAddr], _: &Secret<String>) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn leave(&self, _: bool) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn join_tokens(&self) -> Result<JoinTokens, ClusterError> {
        let token = Secret::new("x".to_owned());
        Ok(JoinTokens { manager: token.clone(), worker: token })
    }
    async fn nodes(&self) -> Result<Vec<Node>, ClusterError> {
        let worker = node("n2", "i-9", Ipv4Addr::LOCALHOST, false);
        Ok(vec![node("n1", "i-1", Ipv4Addr::new(10, 0, 0, 1), true), worker])
    }
    async fn register(&self, _: &str, _: &BTreeMap<String, String>) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn demote(&self, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn remove_node(&self, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn vacate(&self, _: &[MachineId]) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn evacuate(&self, _: &[MachineId]) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn settle(&self) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn node_of_task(&self, _: &str) -> Result<Option<String>, ClusterError> {
        Ok(None)
    }
    async fn report_unhealthy(&self, _: &str, _: &Symptoms) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn engine_gone(&self, _: &MachineId, _: bool) -> Result<(), ClusterError> {
        Ok(())
    }
    fn port_changes(&self) -> BoxStream<'static, ()> {
        futures_util::stream::pending().boxed()
    }

    async fn placed_units(&self, _: &str) -> Result<PlacedTasks, ClusterError> {
        Ok(PlacedTasks::default())
    }

    async fn own_ports(&self) -> Result<PublishedPorts, ClusterError> {
        Ok(PublishedPorts::new())
    }

    async fn ports(&self, _: &MachineId, _: &PublishedPorts) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn pressure(&self, _: &MachineId, _: Pressure) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn host_files(&self, _: &MachineId, _: &HostFileStates) -> Result<(), ClusterError> {
        Ok(())
    }

    fn unhealthy(&self) -> BoxStream<'static, (String, Symptoms)> {
        stream::empty().boxed()
    }
}

#[async_trait]
impl Leaves for Engine {
    async fn held(&self) -> Result<Option<Held>, ClusterError> {
        Ok(None)
    }
    async fn take(&self, _: &Leave) -> Result<bool, ClusterError> {
        Ok(true)
    }
    async fn end(&self, _: &Held) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn mark(&self, _: &MachineId) -> Result<Option<Mark>, ClusterError> {
        Ok(None)
    }
    async fn set_mark(&self, _: &MachineId, _: &Mark) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn resume(&self, _: &MachineId) -> Result<(), ClusterError> {
        Ok(())
    }
}

#[async_trait]
impl Turns for Engine {
    async fn held_turn(&self) -> Result<Option<HeldTurn>, ClusterError> {
        Ok(None)
    }
    async fn take_turn(&self, _: &MachineId, _: i64) -> Result<bool, ClusterError> {
        Ok(true)
    }
    async fn end_turn(&self, _: &HeldTurn) -> Result<(), ClusterError> {
        Ok(())
    }
}

#[async_trait]
impl recovery::ControlMachine for Engine {
    async fn view(&self) -> View {
        View {
            version: 1,
            machine: "i-1".parse().expect("an id"),
            address: Ipv4Addr::new(10, 0, 0, 1).into(),
            features: Features::default(),
            engine: EngineState::Manager,
            message: None,
            id: Some("swarm".to_owned()),
            node: Some("n1".to_owned()),
            generation: 1,
            restored: true,
            log: None,
            managers: Vec::new(),
            durability: Durability::default(),
            etcd: None,
        }
    }
    async fn recover(&self, _: LogEnd) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn recover_etcd(&self, _: LogEnd) -> Result<(), ClusterError> {
        Ok(())
    }
    async fn restore(&self) -> Result<RestoredServices, ClusterError> {
        Ok(RestoredServices { services: Vec::new(), jobs: Vec::new() })
    }
}

/// Agents that nobody reaches.
pub struct NoAgents;

#[async_trait]
impl Agents for NoAgents {
    async fn exec(
        &self,
        _: &MachineId,
        _: IpAddr,
        _: &str,
        _: &ExecRequest,
    ) -> Result<Connection, ClusterError> {
        Err(ClusterError::Refused { reason: "nobody is reached here".to_owned() })
    }

    async fn logs(&self, _: IpAddr, _: &LogRequest) -> Result<LogItems, ClusterError> {
        Err(ClusterError::Refused { reason: "nobody is reached here".to_owned() })
    }

    async fn events(&self, _: &MachineId, _: IpAddr, _: &EventQuery) -> Result<EventPage, ClusterError> {
        Err(ClusterError::Refused { reason: "nobody is reached here".to_owned() })
    }
}

/// The events of a control machine, kept in a folder.
pub fn events(name: &str, folder: &Path) -> Events {
    let kept = SqliteTimeline::open(&folder.join("events.db")).expect("a file");
    Events::new(Some(Arc::new(kept)), name.parse().expect("an id"))
}

/// A boot's id.
pub fn boot() -> BootId {
    "40dd558d-8af6-4c23-815e-4a21958fe862".parse().expect("an id")
}

/// A control machine. It stops when this is dropped.
pub struct ControlMachine {
    /// Its cluster.
    pub cluster: FakeCluster,
    /// The parameter store.
    pub store: Arc<Store>,
    /// Reads the policy and the tokens.
    pub keeper: Arc<Keeper>,
    /// Its address.
    pub endpoint: String,
    /// The authority of its certificate, as PEM.
    pub authority: String,
    /// Its AWS.
    pub account: Account,
    /// Its events.
    pub events: Events,
    handle: Handle<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Drop for ControlMachine {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl ControlMachine {
    /// Starts one; `beside` another, it shares that one's cluster and parameter store.
    pub async fn start(name: &str, authority: &Authority, beside: Option<&Self>) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = beside.map_or_else(Arc::default, |other| Arc::clone(&other.store));
        let cluster = beside.map_or_else(|| FakeCluster::new(Mood::Healthy), |other| other.cluster.clone());
        let keeper = keeper(store.clone());
        let (audit, folder) = auditor(name);
        let kept = events(name, folder.path());
        let account = Account::up(&[("i-1", "demo-control"), ("i-9", "demo-worker")]).await;
        let groups = Arc::new(World::new(&["i-1", "i-2"], &["i-9"], vec![]));
        let no_jobs = groups.clone();
        let (files, feeds) = host_files::of(Arc::new(cluster.clone()), Arc::new(Engine));
        let api = Api {
            host_files: files,
            feeds,
            cluster: Arc::new(cluster.clone()) as Arc<dyn Cluster>,
            jobs: no_jobs.clone(),
            permits: no_jobs.clone(),
            roles: no_jobs,
            membership: Arc::new(Engine),
            own: Arc::new(Engine),
            leaves: Arc::new(Engine),
            identities: account.identities(authority, groups, name),
            standings: Arc::new(Standings::new(
                Arc::new(Engine),
                Arc::new(Engine),
                Arc::new(cluster.clone()),
                Rendezvous::new(store.clone(), PREFIX),
            )),
            access: keeper.clone(),
            tokens: keeper.clone(),
            audit,
            token: Secret::new(BREAK_GLASS.to_owned()),
            worker_token: Some(Secret::new(WORKER.to_owned())),
            agents: Arc::new(NoAgents),
            events: kept.clone(),
            etcd: None,
        };
        let signed = authority.sign(Ipv4Addr::LOCALHOST.into()).expect("a certificate");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let tls = TlsIdentity {
            certificate: signed.certificate,
            key: signed.key,
            authority: authority.certificate.clone(),
        };
        let handle = Handle::new();
        let serving = handle.clone();
        tokio::spawn(async move { cluster_api::serve(api, address, &tls, serving).await });
        handle.listening().await.expect("it listens");
        Self {
            cluster,
            store,
            keeper,
            endpoint: format!("https://{address}"),
            authority: authority.certificate.clone(),
            account,
            events: kept,
            handle,
            _folder: folder,
        }
    }

    /// A caller with the AWS identity of the user `name`.
    pub fn person(&self, name: &str) -> ClusterApi {
        ClusterApi::new(Source::Fixed(Access {
            endpoints: vec![self.endpoint.clone()],
            credential: self.account.person(name),
            authority: Some(self.authority.clone()),
        }))
    }

    /// Publishes a policy, and has the machine read it.
    pub async fn publish(&self, policy: &str) {
        let policy = Secret::new(policy.to_owned());
        let name = format!("{PREFIX}/access");
        self.store.put(&name, &policy, Protection::Plain).await.expect("written");
        self.keeper.refresh().await.expect("the policy is read");
    }

    /// A caller that bears `token`, and knows this machine and `others`.
    pub fn caller(&self, token: &str, others: &[&str]) -> ClusterApi {
        let mut endpoints = vec![self.endpoint.clone()];
        endpoints.extend(others.iter().map(|other| (*other).to_owned()));
        ClusterApi::new(Source::Fixed(Access {
            endpoints,
            credential: Credential::Token(Secret::new(token.to_owned())),
            authority: Some(self.authority.clone()),
        }))
    }
}
