//! Who is believed, and what they may do: the API over real TLS, proofs signed by the SDK's own
//! signer and judged by the local cloud's STS, and a hostile worker at every endpoint. Only the
//! engine is played, so that whatever gets through to it is seen.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum_server::Handle;
use fleetwright::adapter::authority::{Authority, MACHINE_URI};
use fleetwright::adapter::aws::{Signer, Sts};
use fleetwright::adapter::cluster_api::{Access, ClusterApi, Credential, MachineKey, Source};
use fleetwright::adapter::issuer::{ClusterIssuer, cluster_id};
use fleetwright::driver::members::Members;
use fleetwright::driver::rendezvous::Rendezvous;
use fleetwright::driver::standing::Standings;
use fleetwright::local::home::Home;
use fleetwright::local::instance::{Instance, InstanceLife, Instances};
use fleetwright::local::keys::{AccessKey, CloudKeys};
use fleetwright::local::sts;
use fleetwright::model::address::AddressPool;
use fleetwright::model::feature::Features;
use fleetwright::model::group::{Capacity, Group, GroupInstance, Lifecycle};
use fleetwright::model::host_file_state::HostFileStates;
use fleetwright::model::identity::{Exchange, Issued, Proof, VERSION, hash};
use fleetwright::model::job::{JobDeployment, Jobs, OccurrenceId};
use fleetwright::model::member::{JoinTokens, Manager, Membership as State, Node, Report};
use fleetwright::model::mount::{SecretRef, SecretVersion};
use fleetwright::model::name::{JobName, MachineId, ServiceName, VolumeName};
use fleetwright::model::pressure::Pressure;
use fleetwright::model::principal::Operation;
use fleetwright::model::reboot::{Leave, Mark};
use fleetwright::model::role::{RoleCredentials, TokenHash};
use fleetwright::model::secret::Secret;
use fleetwright::model::service::{Deployed, Deployment, PublishedPorts, ScaleTo, Symptoms};
use fleetwright::model::unit::PlacedTasks;
use fleetwright::port::cloud::CloudError;
use fleetwright::port::cluster::{Cluster, ClusterError, Snapshot};
use fleetwright::port::cluster_routes::route;
use fleetwright::port::cluster_wire::{CommandRequest, EtcdClient, Registration};
use fleetwright::port::etcd::EtcdAccess;
use fleetwright::port::groups::Groups;
use fleetwright::port::identity::{Issuer as _, Prove};
use fleetwright::port::jobs::{AskPermit, JobCluster, Output};
use fleetwright::port::membership::{Control, Membership};
use fleetwright::port::parameters::{Parameters, Protection};
use fleetwright::port::reboot::{Held, Leaves};
use fleetwright::port::roles::{IssueCredentials, IssuedRole};
use fleetwright::server::cluster_api::{self, Api, Identities, TlsIdentity};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use reqwest::{Certificate, Client, Identity, Method, Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;

use crate::support::etcd::until;
use crate::support::host_files;
use crate::support::registry::free_port;
use crate::support::rights;

const REGION: &str = "eu-west-1";
/// The local cloud's account.
pub const ACCOUNT: &str = "000000000000";
const BREAK_GLASS: &str = "break-glass";
const FORMER: &str = "the workers' token of the version before";

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

/// The engine and the groups, as far as they are asked, and everything that they were told to do.
pub struct World {
    /// The machines of the control group.
    control: Vec<&'static str>,
    done: Mutex<Vec<String>>,
    nodes: Mutex<Vec<Node>>,
    /// The workers' group; `None` while AWS does not answer.
    workers: Mutex<Option<Vec<&'static str>>>,
    /// How often AWS was asked while it did not answer.
    unanswered: AtomicUsize,
}

impl World {
    /// Groups with these machines.
    pub fn new(control: &[&'static str], workers: &[&'static str], nodes: Vec<Node>) -> Self {
        Self {
            control: control.to_vec(),
            done: Mutex::default(),
            nodes: Mutex::new(nodes),
            workers: Mutex::new(Some(workers.to_vec())),
            unanswered: AtomicUsize::new(0),
        }
    }

    fn did(&self, what: String) {
        self.done.lock().expect("done").push(what);
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut *self.done.lock().expect("done"))
    }
}

fn node(name: &str, address: &str, instance: Option<&str>) -> Node {
    Node {
        id: name.to_owned(),
        instance: instance.map(id),
        address: address.parse().ok(),
        manager: (name == "n1").then_some(Manager { leader: true, reachable: true }),
        up: true,
        labels: BTreeMap::new(),
        unchanged_s: 0,
    }
}

fn group(name: &str, role: &str, instances: &[&str]) -> Group {
    Group {
        name: name.to_owned(),
        capacity: Capacity { min: 1, max: 9, desired: 2 },
        launch_template: None,
        instances: instances
            .iter()
            .map(|instance| GroupInstance {
                id: id(instance),
                lifecycle: Lifecycle::InService,
                healthy: true,
                zone: "eu-west-1a".to_owned(),
                launch_template: None,
            })
            .collect(),
        tags: BTreeMap::from([
            ("fleetwright:role".to_owned(), role.to_owned()),
            ("fleetwright:iam-role".to_owned(), format!("demo-{role}")),
            ("fleetwright:metadata:disk".to_owned(), "ssd".to_owned()),
        ]),
    }
}

#[async_trait]
impl Groups for World {
    async fn groups(&self, _tags: &[(&str, &str)]) -> Result<Vec<Group>, CloudError> {
        match &*self.workers.lock().expect("workers") {
            Some(workers) => {
                Ok(vec![group("control", "control", &self.control), group("workers", "worker", workers)])
            }
            None => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                Err(CloudError::Unreachable { doing: "listing".to_owned(), reason: "away".to_owned() })
            }
        }
    }

    async fn group(&self, _name: &str) -> Result<Option<Group>, CloudError> {
        Ok(None)
    }

    async fn set_capacity(&self, _: &str, _: Capacity) -> Result<(), CloudError> {
        Ok(())
    }

    async fn terminate(&self, _: &MachineId, _: bool) -> Result<(), CloudError> {
        Ok(())
    }

    async fn termination_hooks(&self, _: &str) -> Result<Vec<String>, CloudError> {
        Ok(vec![])
    }

    async fn complete_lifecycle(&self, _: &str, _: &str, _: &MachineId) -> Result<(), CloudError> {
        Ok(())
    }

    async fn heartbeat(&self, _: &str, _: &str, _: &MachineId) -> Result<(), CloudError> {
        Ok(())
    }

    async fn put_tag(&self, _: &str, _: &str, _: &str) -> Result<(), CloudError> {
        Ok(())
    }

    async fn delete_tag(&self, _: &str, _: &str) -> Result<(), CloudError> {
        Ok(())
    }
}

#[async_trait]
impl Cluster for World {
    async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        Ok(Snapshot { version: 1, revision: 1, machines: vec![], services: vec![] })
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        self.did("watch".to_owned());
        Ok(stream::empty().boxed())
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<u64, ClusterError> {
        self.did(format!("deploy {}", deployment.spec.name));
        Ok(1)
    }

    async fn deployed(&self, service: &ServiceName, _: Option<u64>) -> Result<Deployed, ClusterError> {
        self.did(format!("deployed {service}"));
        Err(ClusterError::NotFound { what: "service", name: service.to_string() })
    }

    async fn rollback(&self, service: &ServiceName, to: Option<u64>) -> Result<u64, ClusterError> {
        self.did(
            to.map_or_else(|| format!("rollback {service}"), |to| format!("rollback {service} to {to}")),
        );
        Ok(1)
    }

    async fn secret_versions(
        &self,
        _: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
        Ok(BTreeMap::new())
    }

    async fn scale(&self, service: &ServiceName, to: ScaleTo) -> Result<(), ClusterError> {
        self.did(format!("scale {service} {to:?}"));
        Ok(())
    }

    async fn remove(&self, service: &ServiceName) -> Result<(), ClusterError> {
        self.did(format!("remove {service}"));
        Ok(())
    }

    async fn logs(
        &self,
        service: &ServiceName,
        _tail: u32,
        _follow: bool,
    ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError> {
        self.did(format!("logs {service}"));
        Ok(stream::empty().boxed())
    }

    async fn drain(&self, machines: &[MachineId], _: &[VolumeName]) -> Result<(), ClusterError> {
        self.did(format!("drain {machines:?}"));
        Ok(())
    }
}

#[async_trait]
impl JobCluster for World {
    async fn jobs(&self) -> Result<Jobs, ClusterError> {
        Ok(Jobs { version: 1, jobs: vec![], commands: vec![] })
    }

    async fn deploy_job(&self, job: &JobDeployment) -> Result<u64, ClusterError> {
        self.did(format!("deploy job {}", job.spec.name));
        Ok(1)
    }

    async fn deployed_job(&self, name: &JobName) -> Result<JobDeployment, ClusterError> {
        self.did(format!("deployed job {name}"));
        Err(ClusterError::NotFound { what: "job", name: name.to_string() })
    }

    async fn remove_job(&self, name: &JobName) -> Result<(), ClusterError> {
        self.did(format!("remove job {name}"));
        Ok(())
    }

    async fn run_job(&self, id: &OccurrenceId, by: Option<&str>) -> Result<(), ClusterError> {
        self.did(format!("run {id} for {by:?}"));
        Ok(())
    }

    async fn run_command(
        &self,
        id: &OccurrenceId,
        request: &CommandRequest,
        by: Option<&str>,
    ) -> Result<(), ClusterError> {
        self.did(format!("run {:?} as {id} for {by:?}", request.command));
        Ok(())
    }

    async fn occurrence_logs(
        &self,
        id: &OccurrenceId,
        _: u32,
        _: bool,
    ) -> Result<BoxStream<'static, Result<Output, ClusterError>>, ClusterError> {
        self.did(format!("logs of {id}"));
        Ok(stream::empty().boxed())
    }
}

#[async_trait]
impl AskPermit for World {
    async fn permit(&self, task: &str, nonce: &str) -> Result<(), ClusterError> {
        self.did(format!("permit {task} {nonce}"));
        Ok(())
    }
}

#[async_trait]
impl IssueCredentials for World {
    async fn issue(
        &self,
        task: &str,
        shown: &TokenHash,
        machine: &MachineId,
        node: Option<&str>,
    ) -> Result<IssuedRole, ClusterError> {
        self.did(format!("credentials of {task} for {machine} {node:?} {}", shown.0));
        let credentials = RoleCredentials {
            role: "arn:aws:iam::123456789012:role/r".to_owned(),
            key: "ASIA1".to_owned(),
            secret: Secret::new("secret".to_owned()),
            token: Secret::new("token".to_owned()),
            expires: chrono::DateTime::UNIX_EPOCH,
        };
        Ok(IssuedRole { credentials, session: "s".to_owned(), task: "web.1".to_owned() })
    }
}

#[async_trait]
impl Membership for World {
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
        Err(ClusterError::Refused { reason: "not asked".to_owned() })
    }

    async fn nodes(&self) -> Result<Vec<Node>, ClusterError> {
        Ok(self.nodes.lock().expect("nodes").clone())
    }

    async fn register(&self, node: &str, labels: &BTreeMap<String, String>) -> Result<(), ClusterError> {
        let labels = labels.iter().filter(|(key, _)| !key.starts_with("feature."));
        let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        self.did(format!("register {node} {}", labels.join(" ")));
        Ok(())
    }

    async fn demote(&self, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn remove_node(&self, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn vacate(&self, machines: &[MachineId]) -> Result<(), ClusterError> {
        self.did(format!("vacate {machines:?}"));
        Ok(())
    }

    async fn evacuate(&self, machines: &[MachineId]) -> Result<(), ClusterError> {
        self.did(format!("evacuate {machines:?}"));
        Ok(())
    }

    async fn settle(&self) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn node_of_task(&self, task: &str) -> Result<Option<String>, ClusterError> {
        // `t2` runs on node `n2`.
        Ok(task.strip_prefix('t').map(|number| format!("n{number}")))
    }

    async fn report_unhealthy(&self, task: &str, _: &Symptoms) -> Result<(), ClusterError> {
        self.did(format!("unhealthy {task}"));
        Ok(())
    }

    async fn engine_gone(&self, machine: &MachineId, gone: bool) -> Result<(), ClusterError> {
        self.did(format!("engine of {machine} {}", if gone { "gone" } else { "back" }));
        Ok(())
    }

    async fn placed_units(&self, node: &str) -> Result<PlacedTasks, ClusterError> {
        self.did(format!("units of {node}"));
        Ok(PlacedTasks::default())
    }

    fn port_changes(&self) -> BoxStream<'static, ()> {
        futures_util::stream::pending().boxed()
    }

    async fn own_ports(&self) -> Result<PublishedPorts, ClusterError> {
        Ok(PublishedPorts::new())
    }

    async fn ports(&self, machine: &MachineId, _: &PublishedPorts) -> Result<(), ClusterError> {
        self.did(format!("ports of {machine}"));
        Ok(())
    }

    async fn pressure(&self, machine: &MachineId, pressure: Pressure) -> Result<(), ClusterError> {
        self.did(format!("pressure of {machine}: {pressure}"));
        Ok(())
    }

    async fn host_files(&self, machine: &MachineId, states: &HostFileStates) -> Result<(), ClusterError> {
        self.did(format!("{} watched files of {machine}", states.len()));
        Ok(())
    }

    fn unhealthy(&self) -> BoxStream<'static, (String, Symptoms)> {
        stream::pending().boxed()
    }
}

#[async_trait]
impl Leaves for World {
    async fn held(&self) -> Result<Option<Held>, ClusterError> {
        Ok(None)
    }

    async fn take(&self, _: &Leave) -> Result<bool, ClusterError> {
        self.did("leave to reboot".to_owned());
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

    async fn resume(&self, machine: &MachineId) -> Result<(), ClusterError> {
        self.did(format!("resume {machine}"));
        Ok(())
    }
}

#[async_trait]
impl EtcdAccess for World {
    async fn client(&self, machine: &MachineId, _: &str) -> Result<EtcdClient, ClusterError> {
        self.did(format!("etcd {machine}"));
        Ok(EtcdClient { authority: String::new(), certificate: String::new(), valid_s: 1, endpoints: vec![] })
    }
}

fn instance(name: &str, role: &str) -> Instance {
    Instance {
        id: name.to_owned(),
        state: InstanceLife::Running,
        private_ip: "127.0.0.1".parse().ok(),
        vpc_id: None,
        vpc_cidr: None,
        zone: "eu-west-1a".to_owned(),
        region: REGION.to_owned(),
        account: ACCOUNT.to_owned(),
        group: None,
        lifecycle: None,
        target_lifecycle: None,
        image_id: None,
        instance_type: None,
        user_data: None,
        tags: BTreeMap::new(),
        role: Some(role.to_owned()),
        launched_at: None,
    }
}

/// An account with instances, each with the keys of its role, and the STS that knows them.
pub struct Account {
    keys: CloudKeys,
    sts: String,
    serving: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
    _instances: watch::Sender<Arc<Instances>>,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Account {
    /// With these instances and their roles.
    pub async fn up(instances: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Home::at(folder.path()).cloud(&"test".parse().expect("a name"));
        std::fs::create_dir_all(files.dir()).expect("a folder");
        let keys = CloudKeys::open(&files).expect("keys");
        let instances = instances.iter().map(|(name, role)| instance(name, role)).collect();
        let (sender, instances) = watch::channel(Arc::new(Instances { revision: 1, instances }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sts = format!("http://{}", listener.local_addr().expect("an address"));
        let app = sts::Sts::new(keys.clone(), instances, "http://127.0.0.1:9").router();
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { keys, sts, serving, _folder: folder, _instances: sender }
    }

    /// How the control machine `me` knows callers.
    pub fn identities(&self, authority: &Authority, groups: Arc<dyn Groups>, me: &str) -> Arc<Identities> {
        let issuer = ClusterIssuer::new(authority.clone()).expect("an issuer");
        let members = Members::new(groups, vec![], id(me));
        let sts = Sts::at(REGION, &self.sts).expect("a client");
        Arc::new(Identities::new(Arc::new(issuer), Arc::new(sts), members, ACCOUNT.to_owned()))
    }

    /// What the user `name` is known by.
    pub fn person(&self, name: &str) -> Credential {
        Credential::Person(prover(&self.keys.user(name), REGION))
    }

    /// What a machine's agent is known by.
    pub fn machine(&self, name: &str) -> Credential {
        let key = Arc::new(MachineKey::new().expect("a key"));
        Credential::Machine(prover(&self.keys.machine(name), REGION), key)
    }
}

/// Signs with that key.
fn prover(key: &AccessKey, region: &'static str) -> Arc<dyn Prove> {
    let token = key.token.as_ref().map(|token| token.expose().clone());
    let credentials = Credentials::new(&key.id, key.secret.expose(), token, None, "test");
    let config = SdkConfig::builder()
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    Arc::new(Signer::new(config))
}

/// One control machine's API, and the STS that it asks. Machine `i-1` is the control machine,
/// `i-2` and `i-3` are workers, and `i-2` calls from 127.0.0.1. `i-9` is no machine of the cluster,
/// and has a worker's role.
struct Lab {
    world: Arc<World>,
    authority: Authority,
    keys: CloudKeys,
    aws: Account,
    endpoint: String,
    served: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Lab {
    async fn up() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let nodes = vec![
            node("n1", "10.0.0.1", Some("i-1")),
            node("n2", "127.0.0.1", Some("i-2")),
            node("n3", "10.0.0.3", Some("i-3")),
            node("n4", "10.0.0.4", None),
        ];
        let world = Arc::new(World::new(&["i-1"], &["i-2", "i-3"], nodes));
        let aws = Account::up(&[
            ("i-1", "demo-control"),
            ("i-2", "demo-worker"),
            ("i-3", "demo-worker"),
            ("i-9", "demo-worker"),
        ])
        .await;
        let authority = Authority::create("main").expect("an authority");
        let signed = authority.sign(Ipv4Addr::LOCALHOST.into()).expect("a certificate");
        let store = Arc::new(rights::Store::default());
        let policy = r#"{"version":1,"admin":["user/ann"],"deployer":["user/dan"],"viewer":["user/*"]}"#;
        let policy = Secret::new(policy.to_owned());
        let name = format!("{}/access", rights::PREFIX);
        store.put(&name, &policy, Protection::Plain).await.expect("written");
        let rendezvous = Rendezvous::new(store.clone(), rights::PREFIX);
        let keeper = rights::keeper_in(ACCOUNT, store);
        keeper.refresh().await.expect("the policy");
        let (audit, folder) = rights::auditor("i-1");
        let identities = aws.identities(&authority, world.clone(), "i-1");
        let (files, feeds) = host_files::of(world.clone(), world.clone());
        let api = Api {
            host_files: files,
            feeds,
            cluster: world.clone(),
            jobs: world.clone(),
            permits: world.clone(),
            roles: world.clone(),
            membership: world.clone(),
            leaves: world.clone(),
            identities,
            own: Arc::new(rights::Engine),
            standings: Arc::new(Standings::new(
                world.clone(),
                Arc::new(rights::Engine),
                world.clone(),
                rendezvous,
            )),
            access: keeper.clone(),
            tokens: keeper,
            audit,
            token: Secret::new(BREAK_GLASS.to_owned()),
            worker_token: Some(Secret::new(FORMER.to_owned())),
            agents: Arc::new(rights::NoAgents),
            events: rights::events("i-1", folder.path()),
            etcd: Some(world.clone()),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (certificate, key) = (signed.certificate, signed.key);
        let tls = TlsIdentity { certificate, key, authority: authority.certificate.clone() };
        let served = tokio::spawn(async move {
            cluster_api::serve(api, address, &tls, Handle::new()).await.expect("served");
        });
        let endpoint = format!("https://{address}");
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { world, authority, keys: aws.keys.clone(), aws, endpoint, served, _folder: folder }
    }

    fn prover(key: &AccessKey, region: &'static str) -> Arc<dyn Prove> {
        prover(key, region)
    }

    fn api(&self, credential: Credential) -> ClusterApi {
        ClusterApi::new(Source::Fixed(Access {
            endpoints: vec![self.endpoint.clone()],
            credential,
            authority: Some(self.authority.certificate.clone()),
        }))
    }

    fn machine(&self, name: &str) -> ClusterApi {
        self.api(self.aws.machine(name))
    }

    fn person(&self, name: &str) -> ClusterApi {
        self.api(Credential::Person(Self::prover(&self.keys.user(name), REGION)))
    }

    fn cluster(&self) -> String {
        cluster_id(&self.authority.certificate).expect("its hash")
    }

    fn client(&self, identity: Option<Identity>) -> Client {
        let authority = Certificate::from_pem(self.authority.certificate.as_bytes()).expect("a certificate");
        let builder = Client::builder().no_proxy().tls_certs_only([authority]);
        let builder = match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        };
        builder.build().expect("a client")
    }

    /// A client with a certificate that the authority signed for that machine.
    fn certified(&self, name: &str) -> Client {
        let key = rcgen::KeyPair::generate().expect("a key");
        let issuer = ClusterIssuer::new(self.authority.clone()).expect("an issuer");
        let (certificate, _) = issuer.certify(&id(name), &key.public_key_pem()).expect("a certificate");
        self.client(Some(pem(&certificate, &key)))
    }

    async fn exchange(&self, exchange: &Exchange) -> Response {
        let request = self.client(None).post(format!("{}/v1/identity", self.endpoint)).json(exchange);
        request.send().await.expect("an answer")
    }

    /// Asks for an operation on somebody, with a body that its handler understands.
    async fn ask(&self, client: &Client, operation: Operation, of: &Of, bearer: Option<&str>) -> Response {
        let route = route(operation);
        let path = if route.path.starts_with("/v1/tasks") {
            route.path.replace("{id}", of.task)
        } else if route.path.starts_with("/v1/nodes") {
            route.path.replace("{id}", of.node)
        } else if route.path.starts_with("/v1/occurrences") {
            route.path.replace("{occurrence}", "job.web.x1")
        } else {
            let path = route.path.replace("{id}", of.machine).replace("{name}", "web");
            path.replace("{revision}", "3").replace("{key}", "x1")
        };
        let path = if operation == Operation::Secrets { format!("{path}?names=db-password") } else { path };
        let method = Method::from_bytes(route.method.as_bytes()).expect("a method");
        let mut request = client.request(method, format!("{}{path}", self.endpoint));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let body = match operation {
            Operation::Identify => json!({"version": 1}),
            Operation::Deploy => deployment(),
            Operation::Scale => json!({"to": "stop"}),
            Operation::Exec => json!({"command": ["sh"]}),
            Operation::Drain => json!({"machines": [of.machine]}),
            Operation::Register => json!({"node": of.node, "labels": {"role": "control", "disk": "nvme"}}),
            Operation::ReportUnhealthy => json!({"output": "it is down"}),
            Operation::Ports => json!({"tasks": {}}),
            Operation::UnitTasks => json!({"tasks": []}),
            Operation::DeployHostFile => json!({
                "name": "web", "path": "/etc/web", "source": "templates/host_files/web", "template": "", "mode": 420,
            }),
            Operation::Keys => json!({"prefixes": ["/app"]}),
            Operation::HostFileReport => json!({"files": {}}),
            Operation::Pressure => json!({"disk": 87, "inodes": 12, "memory_available": 40}),
            Operation::RebootAsk => json!({"boot": "00000000-0000-0000-0000-000000000000"}),
            Operation::EtcdClient => json!({"public_key": "PEM"}),
            Operation::ClusterRecover => json!({"log": {"term": 1, "index": 1}}),
            Operation::TokenCreate => json!({"name": "ci", "level": "admin", "valid_s": 60}),
            Operation::DeployJob => job(),
            Operation::RunCommand => json!({"command": ["true"]}),
            Operation::Permit => json!({"nonce": "n1"}),
            Operation::TaskCredentials => json!({"token_sha256": "00"}),
            Operation::HostFiles
            | Operation::RemoveHostFile
            | Operation::HostFileFeed
            | Operation::Snapshot
            | Operation::Metrics
            | Operation::Audit
            | Operation::Events
            | Operation::ClusterStatus
            | Operation::ClusterRestore
            | Operation::Standing
            | Operation::Turn
            | Operation::TokenList
            | Operation::TokenRevoke
            | Operation::Watch
            | Operation::Rollback
            | Operation::RollbackTo
            | Operation::Deployed
            | Operation::Secrets
            | Operation::Remove
            | Operation::Logs
            | Operation::Jobs
            | Operation::DeployedJob
            | Operation::RemoveJob
            | Operation::RunJob
            | Operation::OccurrenceLogs
            | Operation::EngineGone
            | Operation::EngineBack
            | Operation::RebootState
            | Operation::RebootReturn => json!(null),
        };
        if !body.is_null() {
            request = request.json(&body);
        }
        request.send().await.expect("an answer")
    }
}

/// What is acted on.
struct Of {
    machine: &'static str,
    node: &'static str,
    task: &'static str,
}

const OWN: Of = Of { machine: "i-2", node: "n2", task: "t2" };
const OTHERS: &[Of] = &[
    Of { machine: "i-3", node: "n3", task: "t3" },
    Of { machine: "i-1", node: "n1", task: "t1" },
    Of { machine: "i-9", node: "n4", task: "nonsense" },
    Of { machine: "i-3", node: "n2", task: "t4" },
];

fn pem(certificate: &str, key: &rcgen::KeyPair) -> Identity {
    Identity::from_pem(format!("{certificate}\n{}", key.serialize_pem()).as_bytes()).expect("an identity")
}

fn job() -> serde_json::Value {
    json!({
        "spec": {
            "name": "web", "runs": {"service": "web"}, "command": ["true"], "environment": {},
            "limits": {"memory_bytes": null, "cpu_millis": null}, "placement": {}, "stop_grace_period": null,
            "container": {}, "schedule": null, "overlap": "skip", "catch_up": null, "timeout": null, "retries": 0,
        },
        "image": null,
        "origin": {"repository": "-", "commit": "", "subject": ""},
    })
}

fn deployment() -> serde_json::Value {
    json!({
        "spec": {
            "name": "web", "image": "team/web", "command": [], "scale": {"replicas": 1}, "environment": {},
            "ports": [], "health": null, "limits": {"memory_bytes": null, "cpu_millis": null},
            "placement": {}, "update": {"parallel": 1, "monitor": {"secs": 1, "nanos": 0}},
            "drain": {"secs": 1, "nanos": 0},
        },
        "registry": "r:1",
        "digest": format!("sha256:{}", "0".repeat(64)),
        "origin": {"repository": "-", "commit": "", "subject": ""},
    })
}

#[tokio::test]
async fn a_machine_proves_itself_and_gets_what_its_group_says() {
    let lab = Lab::up().await;
    let worker = lab.machine("i-2");
    let labels = BTreeMap::from([("role".to_owned(), "control".to_owned())]);
    let claimed = Registration { node: "n2".to_owned(), labels, features: Features::own() };
    worker.register(&id("i-2"), &claimed).await.expect("registered");
    let wanted =
        "register n2 address=127.0.0.1 disk=ssd group=workers instance=i-2 role=worker zone=eu-west-1a";
    assert_eq!(lab.world.done(), [wanted], "no label is taken from the machine");
    worker.empty(&[id("i-2")], false).await.expect("its own machine");
    worker.report_unhealthy("t2", &Symptoms::default(), Duration::ZERO).await.expect("its own task");
    worker.engine_gone(&id("i-2"), true).await.expect("its own engine");
    worker.engine_gone(&id("i-2"), false).await.expect("its own engine");
    worker.client(&id("i-2"), "PEM").await.expect("its own access to etcd");
    assert_eq!(
        lab.world.done(),
        [
            "vacate [MachineId(\"i-2\")]",
            "unhealthy t2",
            "engine of i-2 gone",
            "engine of i-2 back",
            "etcd i-2"
        ]
    );
}

#[tokio::test]
async fn a_person_is_known_by_the_identity_of_the_credentials() {
    let lab = Lab::up().await;
    let ann = lab.person("ann");
    ann.snapshot().await.expect("the status");
    ann.empty(&[id("i-3")], false).await.expect("an admin");
    assert_eq!(lab.world.done(), ["drain [MachineId(\"i-3\")]"]);
    // A deployer is not an admin, and somebody who is only a user of the account can look.
    let dan = lab.person("dan");
    dan.rollback(&"web".parse().expect("a name"), None).await.expect("a deployer");
    let refused = dan.remove(&"web".parse().expect("a name")).await.expect_err("no admin");
    assert!(matches!(refused, ClusterError::Denied { .. }), "{refused}");
    let eve = lab.person("eve");
    eve.snapshot().await.expect("the status");
    let refused = eve.rollback(&"web".parse().expect("a name"), None).await.expect_err("only a viewer");
    assert!(refused.to_string().contains("user/eve"), "{refused}");
    assert_eq!(lab.world.done(), ["rollback web"]);
    let break_glass = lab.api(Credential::Token(Secret::new(BREAK_GLASS.to_owned())));
    break_glass.snapshot().await.expect("the status");
    let guessed = lab.api(Credential::Token(Secret::new("guessed".to_owned())));
    let refused = guessed.snapshot().await.expect_err("a wrong token");
    assert!(refused.to_string().contains("the token that was sent is not one"), "{refused}");
    // What is no machine's agent, but runs on a machine, is nobody.
    let on_machine = lab.api(Credential::Person(Lab::prover(&lab.keys.machine("i-2"), REGION)));
    let refused = on_machine.snapshot().await.expect_err("a machine is no person");
    assert!(refused.to_string().contains("i-2 is a machine of this cluster"), "{refused}");
    // An instance of the account that is in no group of the cluster has no access either.
    let stranger = lab.api(Credential::Person(Lab::prover(&lab.keys.machine("i-9"), REGION)));
    let refused = stranger.snapshot().await.expect_err("nobody gave it access");
    assert!(matches!(refused, ClusterError::Denied { .. }), "{refused}");
}

/// The table in docs/security.md, tried by a worker that has a certificate of its own.
#[tokio::test]
async fn a_hostile_worker_gets_nowhere_at_any_endpoint() {
    let lab = Lab::up().await;
    let worker = lab.certified("i-2");
    let mut tried = 0;
    for operation in Operation::ALL {
        let about_machines = route(*operation).path.contains("{id}") || *operation == Operation::Drain;
        for of in OTHERS {
            let answer = lab.ask(&worker, *operation, of, None).await;
            let status = answer.status();
            let text = answer.text().await.expect("a body");
            if *operation == Operation::Standing {
                assert_ne!(status, StatusCode::FORBIDDEN, "what a node is, any machine may know: {text}");
                continue;
            }
            assert!(
                status.is_client_error(),
                "{operation:?} of {} is answered with {status}: {text}",
                of.machine
            );
            if *operation != Operation::Identify {
                assert_eq!(status, StatusCode::FORBIDDEN, "{operation:?} of {}: {text}", of.machine);
                assert!(text.contains("machine i-2 may not"), "{text}");
            }
            tried += 1;
        }
        // What concerns itself gets through to the handler, so the requests above were good ones.
        if about_machines {
            let answer = lab.ask(&worker, *operation, &OWN, None).await;
            let status = answer.status();
            // What a machine is sent of its files has no end.
            let is_endless = *operation == Operation::HostFileFeed;
            let text = if is_endless { String::new() } else { answer.text().await.expect("a body") };
            if matches!(operation, Operation::Standing | Operation::Turn) {
                // There is no more of a cluster here than its API.
                assert_ne!(status, StatusCode::FORBIDDEN, "{operation:?} of its own: {text}");
            } else {
                assert!(status.is_success(), "{operation:?} of its own: {status}: {text}");
            }
            assert!(
                lab.world.done().iter().all(|done| !done.contains("i-3") && !done.contains("role=control"))
            );
        }
        assert_eq!(lab.world.done(), Vec::<String>::new(), "{operation:?} had an effect");
    }
    assert!(tried >= 56, "{tried}");

    // Several machines at once, its own among them; and none at all.
    for machines in [json!(["i-2", "i-3"]), json!([])] {
        let drain = worker.post(format!("{}/v1/drain", lab.endpoint)).json(&json!({"machines": machines}));
        assert_eq!(drain.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    }
    // Registering others' nodes as itself, and a second node beside the one that answers.
    lab.world.nodes.lock().expect("nodes").push(node("n5", "127.0.0.1", None));
    for (name, wanted) in
        [("n3", "is not on the machine"), ("n4", "is not on the machine"), ("n5", "is node `n2` already")]
    {
        let of = Of { node: name, ..OWN };
        let answer = lab.ask(&worker, Operation::Register, &of, None).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}");
        let text = answer.text().await.expect("a body");
        assert!(text.contains(wanted), "{name}: {text}");
    }
    assert_eq!(lab.world.done(), Vec::<String>::new());
    lab.world.nodes.lock().expect("nodes")[1].up = false;
    let of = Of { node: "n5", ..OWN };
    let again = lab.ask(&worker, Operation::Register, &of, None).await;
    assert_eq!(again.status(), StatusCode::NO_CONTENT, "its first node is gone");
}

#[tokio::test]
async fn no_other_certificate_opens_the_api() {
    let lab = Lab::up().await;
    let status = async |client: &Client| {
        let request = client.get(format!("{}/v1/machines/i-2/reboot", lab.endpoint));
        request.send().await.map(|answer| answer.status())
    };
    assert_eq!(status(&lab.certified("i-2")).await.expect("an answer"), StatusCode::OK);
    assert_eq!(status(&lab.client(None)).await.expect("an answer"), StatusCode::UNAUTHORIZED);
    // One for etcd, which other programs of the machine can read.
    let key = rcgen::KeyPair::generate().expect("a key");
    let etcd = lab.authority.sign_etcd_client(&id("i-2"), &key.public_key_pem()).expect("a certificate");
    let client = lab.client(Some(pem(&etcd, &key)));
    assert_eq!(status(&client).await.expect("an answer"), StatusCode::UNAUTHORIZED);
    // One of another cluster's authority, and one that has expired: the handshake fails.
    let other = ClusterIssuer::new(Authority::create("main").expect("an authority")).expect("an issuer");
    let (foreign, _) = other.certify(&id("i-2"), &key.public_key_pem()).expect("a certificate");
    let outcome = status(&lab.client(Some(pem(&foreign, &key)))).await;
    assert!(outcome.is_err(), "{outcome:?}");
    let expired = signed(&lab.authority, &key, (2026, 1, 1));
    let outcome = status(&lab.client(Some(pem(&expired, &key)))).await;
    assert!(outcome.is_err(), "{outcome:?}");
    // The same, but for its end: it is not the making of it that is wrong.
    let good = signed(&lab.authority, &key, (2100, 1, 1));
    assert_eq!(status(&lab.client(Some(pem(&good, &key)))).await.expect("an answer"), StatusCode::OK);
}

/// A certificate for machine `i-2` that ends on that day.
fn signed(authority: &Authority, key: &rcgen::KeyPair, end: (i32, u8, u8)) -> String {
    let mut ca = rcgen::CertificateParams::default();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "fleetwright cluster main");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let ca_key = rcgen::KeyPair::from_pem(authority.key.expose()).expect("a key");
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let mut params = rcgen::CertificateParams::default();
    let name = format!("{MACHINE_URI}i-2");
    params.subject_alt_names =
        vec![rcgen::SanType::URI(rcgen::string::Ia5String::try_from(name).expect("a name"))];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
    params.signed_by(key, &issuer).expect("a certificate").pem()
}

#[tokio::test]
async fn a_machine_that_left_its_group_is_refused_and_an_outage_refuses_nobody() {
    let lab = Lab::up().await;
    let worker = lab.certified("i-2");
    let status = async || lab.ask(&worker, Operation::RebootState, &OWN, None).await.status();
    assert_eq!(status().await, StatusCode::OK);
    *lab.world.workers.lock().expect("workers") = None;
    until("AWS was asked and was away", async || {
        assert_eq!(status().await, StatusCode::OK, "AWS is away");
        (lab.world.unanswered.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    assert_eq!(status().await, StatusCode::OK, "AWS is away");
    *lab.world.workers.lock().expect("workers") = Some(vec!["i-3"]);
    until("it is in no group any more", async || (status().await == StatusCode::FORBIDDEN).then_some(()))
        .await;
    let refused = lab.machine("i-2").empty(&[id("i-2")], false).await.expect_err("in no group");
    assert!(refused.to_string().contains("in no group"), "{refused}");
}

/// What a hostile machine may send in place of a proof of its own.
#[tokio::test]
async fn proofs_of_others_and_for_others_are_refused() {
    let lab = Lab::up().await;
    let key = MachineKey::new().expect("a key");
    let bound = hash(key.public().as_bytes());
    let own = Lab::prover(&lab.keys.machine("i-2"), REGION);
    let cluster = lab.cluster();
    let exchange =
        |proof: Proof| Exchange { version: VERSION, proof, public_key: Some(key.public().to_owned()) };
    let good = own.prove(&cluster, Some(&bound)).await.expect("a proof");
    let answer = lab.exchange(&exchange(good.clone())).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let issued: Issued = answer.json().await.expect("an identity");
    assert!(issued.certificate.is_some() && issued.token.is_none() && issued.valid_s == 24 * 3600);

    let refused = async |what: &str, exchange: Exchange, wanted: StatusCode| {
        let answer = lab.exchange(&exchange).await;
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert_eq!(status, wanted, "{what}: {text}");
        text
    };
    // Another machine's proof, sent with a key of one's own.
    let other_key = MachineKey::new().expect("a key");
    let stolen = Exchange { public_key: Some(other_key.public().to_owned()), ..exchange(good.clone()) };
    refused("another's proof", stolen, StatusCode::UNAUTHORIZED).await;
    // The hash exchanged as well: the signature is over the other one.
    let mut forged = good.clone();
    forged.key = Some(hash(other_key.public().as_bytes()));
    let forged = Exchange { public_key: Some(other_key.public().to_owned()), ..exchange(forged) };
    let text = refused("an exchanged key", forged, StatusCode::UNAUTHORIZED).await;
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    // For another cluster, and passed on to this one.
    let elsewhere = own.prove(&"0".repeat(64), Some(&bound)).await.expect("a proof");
    refused("another cluster's", exchange(elsewhere.clone()), StatusCode::UNAUTHORIZED).await;
    let mut renamed = elsewhere;
    renamed.cluster.clone_from(&cluster);
    let text = refused("a renamed cluster", exchange(renamed), StatusCode::UNAUTHORIZED).await;
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    // For the STS of another region, whatever it says.
    let far = Lab::prover(&lab.keys.machine("i-2"), "us-east-1");
    let far = far.prove(&cluster, Some(&bound)).await.expect("a proof");
    refused("another region's", exchange(far.clone()), StatusCode::UNAUTHORIZED).await;
    let mut moved = far;
    REGION.clone_into(&mut moved.region);
    refused("a renamed region", exchange(moved), StatusCode::UNAUTHORIZED).await;
    // A person's proof for a certificate, and a machine's for a token.
    let ann = Lab::prover(&lab.keys.user("ann"), REGION);
    let ann = ann.prove(&cluster, Some(&bound)).await.expect("a proof");
    refused("a person as a machine", exchange(ann), StatusCode::FORBIDDEN).await;
    let unbound = own.prove(&cluster, None).await.expect("a proof");
    let as_person = Exchange { version: VERSION, proof: unbound, public_key: None };
    refused("a machine as a person", as_person, StatusCode::FORBIDDEN).await;
    // An instance with the same role that is in no group of the cluster.
    let stranger = Lab::prover(&lab.keys.machine("i-9"), REGION);
    let stranger = stranger.prove(&cluster, Some(&bound)).await.expect("a proof");
    refused("in no group", exchange(stranger), StatusCode::FORBIDDEN).await;
    // Made up keys.
    let mut made_up = lab.keys.machine("i-3");
    made_up.secret = lab.keys.machine("i-2").secret;
    let made_up = Lab::prover(&made_up, REGION).prove(&cluster, Some(&bound)).await.expect("a proof");
    refused("another's key id", exchange(made_up), StatusCode::UNAUTHORIZED).await;
    // Another host, in a field of its own or in the region.
    let mut text = serde_json::to_value(exchange(good.clone())).expect("JSON");
    text["proof"]["host"] = json!("sts.evil.example");
    let request = lab.client(None).post(format!("{}/v1/identity", lab.endpoint)).json(&text);
    let status = request.send().await.expect("an answer").status();
    assert!(status.is_client_error(), "{status}");
    let mut hosted = good;
    hosted.region = "evil.example/?".to_owned();
    refused("a region that is a host", exchange(hosted), StatusCode::UNAUTHORIZED).await;
}

/// A worker of the version before can leave while the cluster is upgraded, and do nothing else.
#[tokio::test]
async fn a_former_worker_can_leave() {
    let lab = Lab::up().await;
    let client = lab.client(None);
    let leaving =
        [Operation::Drain, Operation::ReportUnhealthy, Operation::RebootState, Operation::RebootReturn];
    for operation in Operation::ALL.iter().filter(|one| **one != Operation::Identify) {
        let status = lab.ask(&client, *operation, &OWN, Some(FORMER)).await.status();
        assert_eq!(status.is_success(), leaving.contains(operation), "{operation:?}: {status}");
        for of in OTHERS {
            let status = lab.ask(&client, *operation, of, Some(FORMER)).await.status();
            assert_eq!(status, StatusCode::FORBIDDEN, "{operation:?} of {}", of.machine);
        }
    }
}
