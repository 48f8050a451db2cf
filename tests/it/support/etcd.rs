//! Control machines with a real etcd each, as processes on addresses of this computer's
//! loopback network. Their agents' part that keeps etcd is the real one; the group, the
//! parameter store and the managers around it are in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fleetwright::adapter::authority::{self, Authority};
use fleetwright::adapter::etcd::Gateway;
use fleetwright::adapter::etcd_files::{ClientFiles, Signer};
use fleetwright::adapter::etcd_machine::EtcdOnMachine;
use fleetwright::driver::etcd::{Etcd, keep_client};
use fleetwright::model::address::AddressPool;
use fleetwright::model::etcd::{Service, client_url};
use fleetwright::model::group::{Capacity, Group, GroupInstance, Lifecycle};
use fleetwright::model::host_file_state::HostFileStates;
use fleetwright::model::machine::Role;
use fleetwright::model::member::{Identity, JoinTokens, Manager, Membership as State, Node, Report};
use fleetwright::model::name::MachineId;
use fleetwright::model::pressure::Pressure;
use fleetwright::model::secret::Secret;
use fleetwright::model::service::{PublishedPorts, Symptoms};
use fleetwright::model::unit::PlacedTasks;
use fleetwright::port::cloud::CloudError;
use fleetwright::port::cluster::ClusterError;
use fleetwright::port::cluster_wire::Endpoint;
use fleetwright::port::etcd::{EtcdError, EtcdUnit};
use fleetwright::port::groups::Groups;
use fleetwright::port::membership::Membership;
use fleetwright::port::parameters::{Parameter, Parameters, Protection, Readable};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The cluster's prefix in the parameter store.
pub const PREFIX: &str = "/fleetwright/test/local/main";

/// What machines share.
#[derive(Default)]
struct Shared {
    parameters: BTreeMap<String, Secret<String>>,
    instances: BTreeMap<MachineId, Lifecycle>,
    leader: Option<MachineId>,
}

/// A control group, its rendezvous and its authority.
pub struct Control {
    shared: Arc<Mutex<Shared>>,
    /// The cluster's authority.
    pub authority: Authority,
    /// The first three numbers of the machines' addresses, this test's own.
    network: [u8; 3],
}

impl Control {
    /// An empty group.
    pub fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pid = std::process::id();
        let byte = |shift: u32| u8::try_from((pid >> shift) & 0xff).expect("a byte");
        Self {
            shared: Arc::default(),
            authority: Authority::create("main").expect("an authority"),
            network: [127, 16 + byte(8) % 200, byte(0)],
        }
    }

    /// The address of a machine.
    pub fn address(&self, number: u8) -> IpAddr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, number).into()
    }

    /// Calls members as an agent does.
    pub fn gateway(&self) -> Gateway {
        let key = authority::new_key().expect("a key");
        let address = self.address(250);
        let certificate = self.authority.sign_etcd_member(address, &key).expect("a certificate");
        Gateway::new(&self.authority.certificate, &certificate, &key).expect("a client")
    }

    /// Launches a machine whose agent is about to keep etcd.
    pub fn launch(&self, number: u8) -> Machine {
        let me = id(number);
        let address = self.address(number);
        let mut shared = self.shared.lock().expect("shared");
        shared.instances.insert(me.clone(), Lifecycle::InService);
        let endpoint = serde_json::to_string(&Endpoint::new(address)).expect("JSON");
        shared.parameters.insert(format!("{PREFIX}/control/{me}"), Secret::new(endpoint));
        shared.leader.get_or_insert(me);
        let folder = tempfile::tempdir().expect("a folder");
        let unit =
            Arc::new(Process { environment: folder.path().join("run/etcd.env"), child: Mutex::default() });
        Machine { number, address, folder, unit, shared: Arc::clone(&self.shared), agent: None }
    }

    /// Starts a machine's agent, as at its boot and after it was killed.
    pub fn start(&self, machine: &mut Machine) {
        let (keeper, told) = self.keeper(machine);
        let signer = Signer { authority: self.authority.clone(), endpoints: told };
        let files = Arc::new(ClientFiles::new(&machine.run()));
        let keeper = Arc::new(keeper);
        let kept = Arc::clone(&keeper);
        let tasks = [
            tokio::spawn(async move { kept.keep().await }),
            tokio::spawn(keep_client(Arc::new(signer), id(machine.number), files)),
        ];
        machine.agent = Some(Agent { keeper, tasks });
    }

    fn keeper(&self, machine: &Machine) -> (Etcd, watch::Receiver<Vec<String>>) {
        let (endpoints, told) = watch::channel(Vec::new());
        let me = id(machine.number);
        let around = Arc::new(Around { me: me.clone(), shared: Arc::clone(&self.shared) });
        let on_machine = EtcdOnMachine {
            run: machine.run(),
            data: machine.data(),
            authority: self.authority.clone(),
            unit: machine.unit.clone(),
            loopback: false,
        };
        let identity = Identity {
            instance: me,
            address: machine.address,
            region: "us-east-1".to_owned(),
            zone: "us-east-1a".to_owned(),
            group: "control".to_owned(),
            role: Role::Control,
        };
        let keeper = Etcd {
            me: identity,
            tags: vec![],
            prefix: PREFIX.to_owned(),
            engine: around.clone(),
            groups: around.clone(),
            parameters: around,
            members: Arc::new(self.gateway()),
            machine: Arc::new(on_machine),
            endpoints,
            seen_log: Mutex::default(),
        };
        (keeper, told)
    }

    /// Marks a machine as one that is told to go.
    pub fn terminate(&self, number: u8) {
        let mut shared = self.shared.lock().expect("shared");
        shared.instances.insert(id(number), Lifecycle::TerminatingWait);
    }

    /// Takes a machine's instance out of the group; another leads the managers if it did.
    pub fn forget(&self, number: u8) {
        let mut shared = self.shared.lock().expect("shared");
        let gone = id(number);
        shared.instances.remove(&gone);
        if shared.leader.as_ref() == Some(&gone) {
            shared.leader = shared.instances.keys().next().cloned();
        }
    }

    /// The names of the parameters below the prefix.
    pub fn parameters(&self) -> BTreeSet<String> {
        let shared = self.shared.lock().expect("shared");
        shared.parameters.keys().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect()
    }
}

/// The id of a machine.
pub fn id(number: u8) -> MachineId {
    format!("i-{number}").parse().expect("an id")
}

/// A machine; its etcd ends with it.
pub struct Machine {
    /// Its number.
    pub number: u8,
    /// Its address.
    pub address: IpAddr,
    folder: tempfile::TempDir,
    /// Its unit of etcd.
    pub unit: Arc<Process>,
    shared: Arc<Mutex<Shared>>,
    agent: Option<Agent>,
}

struct Agent {
    keeper: Arc<Etcd>,
    tasks: [JoinHandle<()>; 2],
}

impl Machine {
    /// Where certificates and environments are.
    pub fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Where data is.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("etcd")
    }

    /// Its client URL.
    pub fn url(&self) -> String {
        client_url(self.address)
    }

    /// What keeps its etcd, as its agent's API reaches it.
    pub fn keeper(&self) -> Arc<Etcd> {
        Arc::clone(&self.agent.as_ref().expect("an agent").keeper)
    }

    /// Kills its agent; etcd goes on.
    pub fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.tasks.iter().for_each(JoinHandle::abort);
        }
    }

    /// Has its agent take it out of etcd, as when its group terminates it.
    pub async fn leave(&mut self) {
        let agent = self.agent.take().expect("an agent");
        agent.tasks.iter().for_each(JoinHandle::abort);
        agent.keeper.leave().await;
    }

    /// Runs etcdctl as a program on the machine would.
    pub fn etcdctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        let output = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables(&self.run().join("etcd-client.env")))
            .args(arguments)
            .output()
            .expect("etcdctl can be run: scripts/setup test installs it");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "etcdctl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The last lines of etcd's log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.run().join("etcd.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill_agent();
        self.unit.kill();
        if std::thread::panicking() {
            let known: Vec<_> = self
                .shared
                .lock()
                .map(|shared| shared.parameters.keys().cloned().collect())
                .unwrap_or_default();
            println!("i-{}, with {known:?}:\n{}", self.number, self.log());
        }
    }
}

/// The lines `NAME=value` of a file.
fn variables(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// etcd as systemd would run it, but that one that failed is not started again.
pub struct Process {
    environment: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Whether it runs.
    pub fn runs(&self) -> bool {
        let mut child = self.child.lock().expect("a child");
        child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends it at once.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().expect("a child").take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[async_trait]
impl EtcdUnit for Process {
    async fn service(&self) -> Result<Service, EtcdError> {
        Ok(if self.runs() { Service::Running } else { Service::Stopped })
    }

    async fn start(&self) -> Result<(), EtcdError> {
        if self.runs() {
            return Ok(());
        }
        let log = self.environment.with_extension("log");
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let child = Command::new("etcd")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables(&self.environment))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("etcd can be run: scripts/setup test installs it");
        *self.child.lock().expect("a child") = Some(child);
        Ok(())
    }

    async fn stop(&self) -> Result<(), EtcdError> {
        self.kill();
        Ok(())
    }
}

/// What is around one machine.
struct Around {
    me: MachineId,
    shared: Arc<Mutex<Shared>>,
}

impl Around {
    fn group(&self) -> Group {
        let shared = self.shared.lock().expect("shared");
        let instances = shared.instances.iter().map(|(id, lifecycle)| GroupInstance {
            id: id.clone(),
            lifecycle: *lifecycle,
            healthy: true,
            zone: "us-east-1a".to_owned(),
            launch_template: None,
        });
        Group {
            name: "control".to_owned(),
            capacity: Capacity { min: 0, max: 9, desired: 3 },
            launch_template: None,
            instances: instances.collect(),
            tags: BTreeMap::new(),
        }
    }
}

#[async_trait]
impl Parameters for Around {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        Ok(self.shared.lock().expect("shared").parameters.get(name).cloned())
    }

    async fn readable(&self, _: &str) -> Result<Option<Readable>, CloudError> {
        unreachable!("no plain parameter is read")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        let shared = self.shared.lock().expect("shared");
        let below = shared.parameters.iter().filter(|(name, _)| name.starts_with(&prefix));
        Ok(below.map(|(name, value)| Parameter { name: name.clone(), value: value.clone() }).collect())
    }

    async fn create_if_absent(
        &self,
        name: &str,
        value: &Secret<String>,
        _protection: Protection,
    ) -> Result<bool, CloudError> {
        let mut shared = self.shared.lock().expect("shared");
        let new = !shared.parameters.contains_key(name);
        shared.parameters.entry(name.to_owned()).or_insert_with(|| value.clone());
        Ok(new)
    }

    async fn put(&self, name: &str, value: &Secret<String>, _: Protection) -> Result<(), CloudError> {
        self.shared.lock().expect("shared").parameters.insert(name.to_owned(), value.clone());
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<bool, CloudError> {
        Ok(self.shared.lock().expect("shared").parameters.remove(name).is_some())
    }
}

#[async_trait]
impl Groups for Around {
    async fn groups(&self, _tags: &[(&str, &str)]) -> Result<Vec<Group>, CloudError> {
        Ok(vec![Around::group(self)])
    }

    async fn group(&self, _name: &str) -> Result<Option<Group>, CloudError> {
        Ok(Some(Around::group(self)))
    }

    async fn set_capacity(&self, _group: &str, _capacity: Capacity) -> Result<(), CloudError> {
        Ok(())
    }

    async fn terminate(&self, _instance: &MachineId, _decrement: bool) -> Result<(), CloudError> {
        Ok(())
    }

    async fn termination_hooks(&self, _group: &str) -> Result<Vec<String>, CloudError> {
        Ok(vec![])
    }

    async fn complete_lifecycle(&self, _: &str, _: &str, _: &MachineId) -> Result<(), CloudError> {
        Ok(())
    }

    async fn heartbeat(&self, _: &str, _: &str, _: &MachineId) -> Result<(), CloudError> {
        Ok(())
    }

    async fn put_tag(&self, _group: &str, _key: &str, _value: &str) -> Result<(), CloudError> {
        Ok(())
    }

    async fn delete_tag(&self, _group: &str, _key: &str) -> Result<(), CloudError> {
        Ok(())
    }
}

/// Nothing but who leads is asked of the engine.
fn not_asked() -> ClusterError {
    ClusterError::Refused { reason: "this test has no engine".to_owned() }
}

#[async_trait]
impl Membership for Around {
    async fn report(&self) -> Result<Report, ClusterError> {
        Ok(Report { state: State::In { node: self.me.to_string(), manager: true }, cluster: None })
    }

    async fn nodes(&self) -> Result<Vec<Node>, ClusterError> {
        let shared = self.shared.lock().expect("shared");
        let nodes = shared.instances.keys().map(|id| Node {
            id: id.to_string(),
            instance: Some(id.clone()),
            address: None,
            manager: Some(Manager { leader: shared.leader.as_ref() == Some(id), reachable: true }),
            up: true,
            labels: BTreeMap::new(),
            unchanged_s: 0,
        });
        Ok(nodes.collect())
    }

    async fn init(&self, _: IpAddr, _: &AddressPool) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn join(&self, _: IpAddr, _: &[IpAddr], _: &Secret<String>) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn leave(&self, _force: bool) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn join_tokens(&self) -> Result<JoinTokens, ClusterError> {
        Err(not_asked())
    }

    async fn register(&self, _: &str, _: &BTreeMap<String, String>) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn demote(&self, _node: &str) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn remove_node(&self, _node: &str) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn vacate(&self, _machines: &[MachineId]) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn evacuate(&self, _machines: &[MachineId]) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn settle(&self) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn node_of_task(&self, _task: &str) -> Result<Option<String>, ClusterError> {
        Err(not_asked())
    }

    async fn report_unhealthy(&self, _task: &str, _output: &Symptoms) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn engine_gone(&self, _machine: &MachineId, _gone: bool) -> Result<(), ClusterError> {
        Err(not_asked())
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
        Err(not_asked())
    }

    async fn pressure(&self, _: &MachineId, _: Pressure) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    async fn host_files(&self, _: &MachineId, _: &HostFileStates) -> Result<(), ClusterError> {
        Err(not_asked())
    }

    fn unhealthy(&self) -> BoxStream<'static, (String, Symptoms)> {
        stream::pending().boxed()
    }
}

/// Asks every fifth of a second until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let limit = Duration::from_secs(60);
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}
