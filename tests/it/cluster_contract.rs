//! What every cluster must do, asked of a real swarm: of the engine itself, and through the
//! API of a control machine. Every address that is given out as healthy is asked all the
//! time, and must always answer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum_server::Handle;
use fleetwright::adapter::authority::{Authority, new_key, public_key};
use fleetwright::adapter::cluster_api::{Access, ClusterApi, Credential, Source};
use fleetwright::adapter::etcd_files::Signer;
use fleetwright::adapter::raft_log::LogFiles;
use fleetwright::adapter::swarm::Swarm;
use fleetwright::driver::cluster::{Own, Published};
use fleetwright::driver::jobs::Permits;
use fleetwright::driver::rendezvous::{Rendezvous, Which};
use fleetwright::driver::rollout::{Outcome, follow};
use fleetwright::driver::standing::Standings;
use fleetwright::model::address::{self, AddressPool};
use fleetwright::model::founding::{Entry, Log};
use fleetwright::model::machine::MachineState;
use fleetwright::model::name::{Digest, MachineId, ServiceName};
use fleetwright::model::secret::Secret;
use fleetwright::model::service::{
    Deployment, HealthCheck, HealthProbe, InstanceState, Limits, Origin, Port, Protocol, RevisionState,
    Scale, ServiceSpec, ServiceStatus, UpdatePolicy,
};
use fleetwright::model::standing::{Place, Turn};
use fleetwright::plan::cluster as plan;
use fleetwright::port::cluster::{Cluster, ClusterError, Snapshot};
use fleetwright::port::etcd::EtcdAccess;
use fleetwright::port::membership::Membership;
use fleetwright::port::recovery::ControlMachines;
use fleetwright::port::standing::AskStanding;
use fleetwright::server::cluster_api::{self, Api, TlsIdentity};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::identity::{Account, World};
use crate::support::host_files;
use crate::support::registry::free_port;
use crate::support::rendezvous::Memory;
use crate::support::rights;
use crate::support::swarm::{IMAGE, Lab};
use crate::support::visitor::ask;

/// How long any one thing may take on two busy cores.
const LIMIT: Duration = Duration::from_secs(90);

/// The images that the suite deploys.
struct Images {
    first: Digest,
    second: Digest,
    broken: Digest,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_keeps_the_contract() {
    let (lab, [swarm, worker]) = Lab::up().await;
    let subnet = address::range(lab.subnet("ingress").trim()).expect("a range");
    let pool = AddressPool::default();
    assert!(pool.pool().contains(&subnet) && subnet.prefix_len() == pool.subnet(), "{subnet}");
    let images = Images {
        first: lab.push("one", true),
        second: lab.push("two", true),
        broken: lab.push("three", false),
    };
    let settling = tokio::spawn(settle(swarm.clone()));
    let reporting = [swarm.clone(), worker].map(|machine| tokio::spawn(report(machine, swarm.clone())));

    println!("through the engine");
    let control: MachineId = "i-control".parse().expect("an id");
    contract(&swarm, &lab.registry(), &images, "web").await;
    lab.undrain(&control).await;

    println!("through the API");
    let served = serve(&swarm).await;
    let access = served.access.clone();
    let token = |text: &str| Credential::Token(Secret::new(text.to_owned()));
    let wrong = Access { credential: token("guessed"), ..access.clone() };
    let refused = ClusterApi::new(Source::Fixed(wrong)).snapshot().await.expect_err("a wrong token");
    assert!(refused.to_string().contains("the token that was sent is not one"), "{refused}");
    let public = public_key(&new_key().expect("a key")).expect("its public part");
    in_doubt(&served, &swarm).await;
    let operator = ClusterApi::new(Source::Fixed(access.clone()));
    let refused = operator.client(&control, &public).await.expect_err("only for machines");
    assert!(refused.to_string().contains("only a machine's own agent"), "{refused}");
    let asked = operator.ask_all().await.expect("control machines");
    assert_eq!(plan::health(&asked), plan::Health::Fragile, "{asked:?}");
    assert!(plan::best(&asked).is_some_and(|view| view.leads() && view.restored), "{asked:?}");
    let machine = served.machine("i-control");
    let refused = ControlMachines::restore(&machine).await.expect_err("not for machines");
    assert!(matches!(refused, ClusterError::Denied { .. }), "{refused}");
    unknown_fields_are_refused(&access).await;
    let none = machine.client(&control, &public).await.expect_err("no etcd yet");
    assert!(matches!(none, ClusterError::NotFound { what: "etcd", .. }), "{none}");
    served.etcd.send_replace(vec!["https://10.0.0.1:2379".to_owned()]);
    let client = machine.client(&control, &public).await.expect("access to etcd");
    assert!(client.certificate.contains("BEGIN CERTIFICATE") && client.endpoints.len() == 1, "{client:?}");
    let refused = machine.client(&control, "no key").await.expect_err("nothing to sign for");
    assert!(matches!(refused, ClusterError::Refused { .. }), "{refused}");
    // One that is not there is no reason to fail while another is.
    let mut endpoints = vec![format!("https://127.0.0.1:{}", free_port())];
    endpoints.extend(access.endpoints.clone());
    let api = ClusterApi::new(Source::Fixed(Access { endpoints, ..access }));
    contract(&api, &lab.registry(), &images, "shop").await;

    served.task.abort();
    settling.abort();
    reporting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// What is sent with a field that the control machine does not know is refused, by name.
async fn unknown_fields_are_refused(access: &Access) {
    let certificate = access.authority.as_ref().expect("an authority");
    let certificate = reqwest::Certificate::from_pem(certificate.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([certificate]).build().expect("a client");
    let (service, digest) = ("web".parse().expect("a name"), format!("sha256:{}", "a".repeat(64)));
    let mut body =
        serde_json::to_value(deployment(&service, "r:1", &digest.parse().expect("a digest"))).expect("JSON");
    body["spec"]["secrets"] = serde_json::json!(["password"]);
    let url = format!("{}/v1/services/web", access.endpoints[0]);
    let answer = client.put(url).bearer_auth("operator").json(&body).send().await.expect("an answer");
    let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
    assert_eq!(status, 422, "{text}");
    assert!(text.contains("secrets") && text.contains("fleetwright roll"), "{text}");
}

/// What a machine hears that is in doubt about its membership. The two are no members: their nodes
/// are gone.
async fn in_doubt(served: &Served, swarm: &Swarm) {
    let [first, second] = ["i-first", "i-second"].map(|id| id.parse::<MachineId>().expect("an id"));
    let (api, other) = (served.machine("i-first"), served.machine("i-second"));
    let nodes = swarm.nodes().await.expect("nodes");
    let id = swarm.report().await.expect("the engine answers").cluster.expect("a leader");
    for node in &nodes {
        let standing = api.standing(&node.id).await.expect("an answer");
        let place = if node.manager.is_some() { Place::Manager } else { Place::Worker };
        assert_eq!((standing.node, standing.restored, &standing.cluster), (place, true, &id));
    }
    let standing = api.standing("n0longerthere").await.expect("an answer");
    assert_eq!(standing.node, Place::Unknown);
    // One at a time, and the same answer to the one that has the turn.
    for _ in 0..2 {
        assert_eq!(api.turn(&first).await.expect("an answer"), Turn::Granted);
        let waits = other.turn(&second).await.expect("an answer");
        assert!(matches!(&waits, Turn::Wait { reason } if reason.contains("i-first")), "{waits:?}");
    }
}

async fn contract(cluster: &dyn Cluster, registry: &str, images: &Images, name: &str) {
    let service: ServiceName = name.parse().expect("a name");
    let deployment = |digest: &Digest| deployment(&service, registry, digest);
    let snapshot = cluster.snapshot().await.expect("a snapshot");
    let states: Vec<_> = snapshot.machines.iter().map(|one| (one.id.as_str(), one.state)).collect();
    assert_eq!(states, [("i-control", MachineState::Ready), ("i-worker", MachineState::Ready)]);
    assert_eq!(snapshot.services, []);

    let first = cluster.deploy(&deployment(&images.first)).await.expect("deployed");
    assert_eq!(first, 1);
    assert_eq!(ended(cluster, &service, first).await, Outcome::Running);
    let asking = Asking::start(cluster, &service).await;
    let again = cluster.deploy(&deployment(&images.first)).await.expect("nothing to do");
    assert_eq!(again, 1, "the same deployment is no update");

    let second = cluster.deploy(&deployment(&images.second)).await.expect("deployed");
    assert_eq!((second, ended(cluster, &service, second).await), (2, Outcome::Running));
    let status = status(cluster, &service).await;
    assert!(
        status
            .instances
            .iter()
            .filter(|i| i.state == InstanceState::Healthy)
            .all(|i| i.digest.as_ref() == Some(&images.second))
    );

    let broken = cluster.deploy(&deployment(&images.broken)).await.expect("deployed");
    match ended(cluster, &service, broken).await {
        Outcome::Undone { reason, .. } => {
            assert!(reason.contains("never became healthy: 404 from /health"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    let states: Vec<_> = history(cluster, &service).await;
    assert_eq!(
        states,
        [(3, RevisionState::RolledBack), (2, RevisionState::Running), (1, RevisionState::Replaced)]
    );

    let back = cluster.rollback(&service, None).await.expect("rolled back");
    assert_eq!((back, ended(cluster, &service, back).await), (4, Outcome::Running));
    let status = self::status(cluster, &service).await;
    assert_eq!(
        status.history[0].digest.as_ref(),
        Some(&images.first),
        "what ran before, not what was rolled back"
    );

    let control: MachineId = "i-control".parse().expect("an id");
    let worker: MachineId = "i-worker".parse().expect("an id");
    within(cluster.drain(std::slice::from_ref(&control), &[])).await.expect("drained");
    let snapshot = cluster.snapshot().await.expect("a snapshot");
    assert_eq!(snapshot.machines[0].state, MachineState::Draining);
    assert!(snapshot.services[0].instances.iter().all(|i| i.machine.as_ref() != Some(&control)));
    assert!(snapshot.services[0].is_whole());
    assert_eq!(snapshot.services[0].history[0].number, 4, "moving makes no revision");
    let refused = within(cluster.drain(&[worker], &[])).await.expect_err("there is nowhere to go");
    assert!(matches!(refused, ClusterError::Refused { .. }), "{refused}");
    assert_eq!(cluster.snapshot().await.expect("a snapshot").machines[1].state, MachineState::Ready);

    let lines: Vec<_> = cluster.logs(&service, 5, false).await.expect("logs").collect().await;
    let line = lines.first().expect("a line").as_ref().expect("a line");
    assert!(line.starts_with(&format!("{name}@")) && line.contains(" i-"), "{line}");

    asking.end(name);
    let nobody: ServiceName = "nobody".parse().expect("a name");
    assert!(matches!(
        cluster.rollback(&nobody, None).await,
        Err(ClusterError::NotFound { what: "service", .. })
    ));
    cluster.remove(&service).await.expect("removed");
    within(async {
        let mut snapshots = cluster.watch().await.expect("a watch");
        while let Some(snapshot) = snapshots.next().await {
            if snapshot.expect("a snapshot").services.is_empty() {
                return;
            }
        }
    })
    .await;
}

pub async fn ended(cluster: &dyn Cluster, service: &ServiceName, revision: u64) -> Outcome {
    let outcome = within(follow(cluster, service, revision, &|_| {})).await.expect("followed");
    println!("{service} revision {revision}: {outcome:?}");
    outcome
}

pub async fn status(cluster: &dyn Cluster, service: &ServiceName) -> ServiceStatus {
    let snapshot = cluster.snapshot().await.expect("a snapshot");
    snapshot.services.into_iter().find(|known| known.name == *service).expect("the service")
}

async fn history(cluster: &dyn Cluster, service: &ServiceName) -> Vec<(u64, RevisionState)> {
    status(cluster, service).await.history.iter().map(|one| (one.number, one.state)).collect()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it takes too long")
}

/// The agent of a leading manager does this.
pub async fn settle(swarm: Swarm) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = Membership::settle(&swarm).await;
    }
}

/// The agent of every machine does this.
pub async fn report(machine: Swarm, swarm: Swarm) {
    let mut failures = machine.unhealthy();
    while let Some((task, seen)) = failures.next().await {
        println!("{task}: {seen:?}");
        Membership::report_unhealthy(&swarm, &task, &seen).await.expect("reported");
    }
}

/// Asks every address that is given out as healthy, as long as it is.
struct Asking {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    follower: tokio::task::JoinHandle<()>,
}

impl Asking {
    async fn start(cluster: &dyn Cluster, service: &ServiceName) -> Self {
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let (asked, failures, stop) = (Arc::default(), Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let mut snapshots = cluster.watch().await.expect("a watch");
        let follower = tokio::spawn({
            let (addresses, service) = (Arc::clone(&addresses), service.clone());
            async move {
                while let Some(Ok(snapshot)) = snapshots.next().await {
                    *addresses.lock().expect("addresses") = healthy(&snapshot, &service);
                }
            }
        });
        let this = Self { addresses, asked, failures, stop, follower };
        for _ in 0..2 {
            let (addresses, asked) = (Arc::clone(&this.addresses), Arc::clone(&this.asked));
            let (failures, stop) = (Arc::clone(&this.failures), Arc::clone(&this.stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let now = addresses.lock().expect("addresses").clone();
                    for address in now {
                        asked.fetch_add(1, Ordering::Relaxed);
                        if let Err(error) = ask(address) {
                            failures.lock().expect("failures").push(format!("{address}: {error}"));
                        }
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        }
        this
    }

    fn end(self, name: &str) {
        self.stop.store(true, Ordering::Relaxed);
        self.follower.abort();
        let asked = self.asked.load(Ordering::Relaxed);
        println!("{name}: asked {asked} times");
        assert!(asked > 200, "asked {asked} times");
        assert_eq!(*self.failures.lock().expect("failures"), Vec::<String>::new());
    }
}

fn healthy(snapshot: &Snapshot, service: &ServiceName) -> Vec<SocketAddr> {
    let services = snapshot.services.iter().filter(|known| known.name == *service);
    let instances = services.flat_map(|known| &known.instances);
    instances
        .filter(|instance| instance.state == InstanceState::Healthy)
        .flat_map(|instance| instance.addresses.clone())
        .collect()
}

pub fn deployment(service: &ServiceName, registry: &str, digest: &Digest) -> Deployment {
    Deployment {
        spec: ServiceSpec {
            name: service.clone(),
            image: IMAGE.to_owned(),
            command: vec![],
            scale: Scale::Replicas(2),
            environment: BTreeMap::new(),
            ports: vec![Port { container: 8080, host: None, protocol: Protocol::Tcp }],
            health: Some(HealthCheck {
                probe: HealthProbe::Http { port: 8080, path: "/health".to_owned() },
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(2),
                retries: 2,
                start_period: Duration::from_secs(1),
            }),
            limits: Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(250) },
            placement: BTreeMap::new(),
            update: UpdatePolicy { parallel: 1, monitor: Duration::from_secs(1), deadline: None },
            drain: Duration::from_secs(3),
            container: fleetwright::model::container::ContainerSettings::default(),
            pre_deploy: None,
            units: None,
        },
        registry: registry.to_owned(),
        digest: digest.clone(),
        origin: Origin { repository: "-".to_owned(), commit: String::new(), subject: String::new() },
        restarted: None,
        secrets: BTreeMap::new(),
        network: false,
    }
}

/// The API, as tests ask it.
pub struct Served {
    /// Serves it.
    pub task: tokio::task::JoinHandle<std::io::Result<()>>,
    /// What opens it as break-glass token.
    pub access: Access,
    /// Where its part for etcd is told where etcd's members are.
    pub etcd: watch::Sender<Vec<String>>,
    account: Account,
}

impl Served {
    /// The API, as the agent of that machine asks it.
    pub fn machine(&self, name: &str) -> ClusterApi {
        let credential = self.account.machine(name);
        ClusterApi::new(Source::Fixed(Access { credential, ..self.access.clone() }))
    }
}

/// Serves the API of a swarm.
pub async fn serve(swarm: &Swarm) -> Served {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = Authority::create("test").expect("an authority");
    let signed = authority.sign(Ipv4Addr::LOCALHOST.into()).expect("a certificate");
    let (told, endpoints) = watch::channel(Vec::new());
    let signer = Arc::new(Signer { authority: authority.clone(), endpoints });
    let workers = ["i-worker", "i-first", "i-second"];
    let mut instances = vec![("i-control", "demo-control")];
    instances.extend(workers.map(|name| (name, "demo-worker")));
    let account = Account::up(&instances).await;
    let groups = Arc::new(World::new(&["i-control"], &workers, vec![]));
    let memory = Arc::new(Memory::default());
    let rendezvous = Rendezvous::new(memory, "/fleetwright/test");
    let id = swarm.report().await.expect("the engine answers").cluster.expect("a manager with a leader");
    let entry = Entry::Published { machine: "i-control".parse().expect("an id"), cluster: id.clone() };
    rendezvous.append(Which::Swarm, &Log::new(), &entry).await.expect("published");
    rendezvous.mark_restored(1, &id).await.expect("recorded");
    let control: MachineId = "i-control".parse().expect("an id");
    let published = Published {
        rendezvous: rendezvous.clone(),
        engine: Arc::new(swarm.clone()),
        machine: control.clone(),
    };
    let own = Own {
        machine: control,
        address: Ipv4Addr::LOCALHOST.into(),
        engine: Arc::new(swarm.clone()),
        logs: Arc::new(LogFiles { engine: "/nowhere".into(), etcd: "/nowhere".into() }),
        generations: Arc::new(published),
        etcd: None,
        desired: None,
        desired_jobs: None,
        jobs: Arc::new(tokio::sync::Mutex::new(Arc::new(swarm.clone()))),
    };
    let keeper = rights::keeper(Arc::default());
    let (audit, folder) = rights::auditor("i-control");
    let (files, feeds) = host_files::of(Arc::new(swarm.clone()), Arc::new(swarm.clone()));
    let api = Api {
        host_files: files,
        feeds,
        cluster: Arc::new(swarm.clone()),
        jobs: Arc::new(swarm.clone()),
        permits: Arc::new(Permits::new(Arc::new(swarm.clone()))),
        roles: Arc::new(World::new(&[], &[], vec![])),
        membership: Arc::new(swarm.clone()),
        own: Arc::new(own),
        leaves: Arc::new(swarm.clone()),
        identities: account.identities(&authority, groups, "i-control"),
        standings: Arc::new(Standings::new(
            Arc::new(swarm.clone()),
            Arc::new(swarm.clone()),
            Arc::new(swarm.clone()),
            rendezvous,
        )),
        access: keeper.clone(),
        tokens: keeper,
        audit,
        token: Secret::new("operator".to_owned()),
        worker_token: None,
        agents: Arc::new(rights::NoAgents),
        events: rights::events("i-control", folder.path()),
        etcd: Some(signer),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let tls = TlsIdentity {
        certificate: signed.certificate,
        key: signed.key,
        authority: authority.certificate.clone(),
    };
    let served = tokio::spawn(async move {
        let _kept = folder;
        cluster_api::serve(api, address, &tls, Handle::new()).await
    });
    let access = Access {
        endpoints: vec![format!("https://{address}")],
        credential: Credential::Token(Secret::new("operator".to_owned())),
        authority: Some(authority.certificate),
    };
    Served { task: served, access, etcd: told, account }
}
