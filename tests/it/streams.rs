//! Who reaches a machine's agent: the agent's listener and a control machine's calls over real TLS,
//! with processes of this computer in place of a container's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum_server::Handle;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use fleetwright::adapter::agents::AgentCalls;
use fleetwright::adapter::authority::{Authority, new_key, public_key};
use fleetwright::adapter::issuer::ControlMachines;
use fleetwright::adapter::permits::Waiting;
use fleetwright::driver::stream::{End, Local, attach};
use fleetwright::driver::timeline::Events;
use fleetwright::model::feature::Features;
use fleetwright::model::frame::{PROTOCOL, Signal, Size};
use fleetwright::model::logs::{LogEntry, LogItem, LogQuery};
use fleetwright::model::machine::{Machine, MachineState, Role};
use fleetwright::model::name::MachineId;
use fleetwright::model::timeline::{EventKind, EventQuery, TimelineEvent};
use fleetwright::port::cluster::ClusterError;
use fleetwright::port::streams::{
    Agents as _, Channel, Containers, ExecRequest, LogRequest, LogSources, Process, ProcessHandle, exec_path,
};
use fleetwright::server::agent_api::{self, AgentApi};
use fleetwright::server::cluster_api::TlsIdentity;
use futures_util::{StreamExt as _, stream};
use reqwest::{Certificate, Client, Identity, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};

use crate::support::registry::free_port;
use crate::support::rights;

/// Executes programs on this computer.
struct Here;

struct Running(Mutex<Child>);

#[async_trait]
impl ProcessHandle for Running {
    async fn resize(&self, _: Size) {}
    async fn signal(&self, _: Signal) {}
    async fn exit(&self) -> Result<i32, ClusterError> {
        Ok(self.0.lock().await.wait().await.expect("it ends").code().unwrap_or(-1))
    }
    async fn end(&self) {
        self.0.lock().await.kill().await.expect("killed");
    }
}

#[async_trait]
impl Containers for Here {
    async fn exec(&self, task: &str, request: &ExecRequest) -> Result<Process, ClusterError> {
        if task != "t1" {
            return Err(ClusterError::Refused { reason: format!("task {task} does not run here") });
        }
        let mut command = Command::new(&request.command[0]);
        command.args(&request.command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
        let input = child.stdin.take().map(|input| Box::new(input) as _);
        let output = child.stdout.take().expect("a pipe");
        let output = stream::unfold(output, |mut output| async move {
            let mut chunk = vec![0; 8192];
            let read = output.read(&mut chunk).await.expect("readable");
            (read > 0).then(|| (Ok((Channel::Output, Bytes::copy_from_slice(&chunk[..read]))), output))
        });
        Ok(Process { input, output: output.boxed(), handle: Arc::new(Running(Mutex::new(child))) })
    }

    /// Two instances, one of which begins to write when it is followed.
    async fn logs(&self, request: &LogRequest) -> Result<LogSources, ClusterError> {
        let entry = |slot: u32, at_s: i64| {
            let at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(at_s);
            let (instance, machine) = (format!("{}@{slot}", request.service), request.machine.to_string());
            Ok(LogItem::Entry(LogEntry { at, instance, machine, text: format!("line {at_s}") }))
        };
        let past = vec![
            stream::iter([entry(1, 1), entry(1, 4)]).boxed(),
            stream::iter([entry(2, 2), entry(2, 3)]).boxed(),
        ];
        let live = request.query.follow.then(|| stream::iter([entry(1, 5)]).boxed());
        Ok(LogSources { past, live })
    }
}

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

/// The agent of machine `i-9`; gives its port.
async fn agent(authority: &Authority) -> u16 {
    agent_with(authority, None).await
}

/// The same, of a control machine with events.
async fn agent_with(authority: &Authority, events: Option<Events>) -> u16 {
    let key = new_key().expect("a key");
    let public = public_key(&key).expect("its public part");
    let tls = TlsIdentity {
        certificate: authority.sign_machine(&id("i-9"), &public).expect("a certificate"),
        key,
        authority: authority.certificate.clone(),
    };
    let control = Arc::new(ControlMachines::of(&authority.certificate).expect("an authority"));
    let api =
        AgentApi { containers: Arc::new(Here), attended: Arc::new(Waiting::default()), control, events };
    let port = free_port();
    let (handle, address) = (Handle::new(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let serving = handle.clone();
    tokio::spawn(async move { agent_api::serve(api, address, &tls, serving).await });
    handle.listening().await.expect("it listens");
    port
}

fn request(command: &[&str]) -> ExecRequest {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    ExecRequest { instance: None, occurrence: None, command, input: true, terminal: None }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_through_an_agent_arrive_and_the_exit_status_with_them() {
    let authority = Authority::create("main").expect("an authority");
    let port = agent(&authority).await;
    let calls = AgentCalls::new(authority, id("i-1")).expect("calls").with_port(port);
    let mut program = request(&["sh", "-c", "cat; exit 42"]);
    program.instance = Some("web@1".to_owned());
    let begun = Instant::now();
    let connection = calls.exec(&id("i-9"), LOCALHOST, "t1", &program).await.expect("executed");
    let opened = begun.elapsed();
    let sent: Vec<u8> = (0..20_000_000_u32).map(|number| (number % 253) as u8).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out");
    let file = std::fs::File::create(&path).expect("a file");
    let (_events, events) = mpsc::unbounded_channel();
    let local = Local {
        input: Some(Box::new(std::io::Cursor::new(sent.clone()))),
        output: Box::new(tokio::fs::File::from_std(file)),
        errors: Box::new(tokio::io::sink()),
        events,
    };
    assert_eq!(attach(connection, local).await, Ok(End::Exit(42)));
    println!("opened in {opened:?}, 20 MB there and back in {:?}", begun.elapsed());
    assert!(std::fs::read(&path).expect("the file") == sent, "what came back differs");
    let refused = calls.exec(&id("i-9"), LOCALHOST, "t2", &program).await.map(drop).expect_err("no task");
    assert_eq!(refused.to_string(), "task t2 does not run here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gives_the_lines_of_its_instances_in_the_order_of_time() {
    let authority = Authority::create("main").expect("an authority");
    let port = agent(&authority).await;
    let calls = AgentCalls::new(authority, id("i-1")).expect("calls").with_port(port);
    for follow in [false, true] {
        let query = LogQuery { follow, ..LogQuery::default() };
        let request = LogRequest { service: "web".parse().expect("a name"), machine: id("i-9"), query };
        let items = calls.logs(LOCALHOST, &request).await.expect("lines");
        let seen: Vec<String> = items
            .map(|item| match item.expect("a line") {
                LogItem::Entry(entry) => format!("{} {} {}", entry.instance, entry.machine, entry.text),
                other => format!("{other:?}"),
            })
            .collect()
            .await;
        let past = ["web@1 i-9 line 1", "web@2 i-9 line 2", "web@2 i-9 line 3", "web@1 i-9 line 4"];
        assert_eq!(seen[..4], past);
        let live: &[&str] = if follow { &["Live", "web@1 i-9 line 5"] } else { &[] };
        assert_eq!(seen[4..], *live);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_takes_control_machines_only_and_they_speak_to_the_machine_they_mean() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = Authority::create("main").expect("an authority");
    let other = Authority::create("main").expect("an authority");
    let port = agent(&authority).await;
    let program = request(&["true"]);
    let failed = async |calls: AgentCalls, machine: &str| {
        let calls = calls.with_port(port);
        let result = calls.exec(&id(machine), LOCALHOST, "t1", &program).await.map(drop);
        result.expect_err("it is refused").to_string()
    };
    let calls = |authority: &Authority| AgentCalls::new(authority.clone(), id("i-1")).expect("calls");
    let text = failed(calls(&authority), "i-8").await;
    assert!(text.contains("another machine answers there: i-9"), "{text}");
    let text = failed(calls(&other), "i-9").await;
    assert!(text.contains("reaching the agent of machine i-9"), "{text}");

    // What root on a worker has, and on other members.
    let key = new_key().expect("a key");
    let public = public_key(&key).expect("its public part");
    let machine = id("i-7");
    let shown = [
        ("machine", authority.sign_machine(&machine, &public).expect("a certificate")),
        ("etcd client", authority.sign_etcd_client(&machine, &public).expect("a certificate")),
        ("etcd member", authority.sign_etcd_member(LOCALHOST, &key).expect("a certificate")),
    ];
    let client = |identity: Option<Identity>| {
        let mut client = Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        client.build().expect("a client")
    };
    let ask = async |client: Client| {
        let url = format!("https://127.0.0.1:{port}{}", exec_path("t1"));
        let request = client.post(url).header("Connection", "Upgrade").header("Upgrade", PROTOCOL);
        request.json(&program).send().await.map(|answer| answer.status())
    };
    for (what, certificate) in shown {
        let pem = format!("{certificate}\n{}", key.expose());
        let identity = Identity::from_pem(pem.as_bytes()).expect("an identity");
        assert_eq!(ask(client(Some(identity))).await.expect("an answer"), StatusCode::FORBIDDEN, "{what}");
    }
    assert_eq!(ask(client(None)).await.expect("an answer"), StatusCode::UNAUTHORIZED);
    let foreign = other.sign_control(&machine).expect("a certificate");
    let pem = format!("{}\n{}", foreign.certificate, foreign.key.expose());
    let identity = Identity::from_pem(pem.as_bytes()).expect("an identity");
    ask(client(Some(identity))).await.expect_err("the handshake fails");
    // With its certificate a control machine gets in, and must ask for a stream of a known version.
    let own = authority.sign_control(&machine).expect("a certificate");
    let identity = format!("{}\n{}", own.certificate, own.key.expose());
    let control = client(Some(Identity::from_pem(identity.as_bytes()).expect("an identity")));
    let url = format!("https://127.0.0.1:{port}{}", exec_path("t1"));
    let answer = control.post(&url).json(&program).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    let text = answer.text().await.expect("a body");
    assert!(text.contains(PROTOCOL), "{text}");
    // It poses as no server of the API either: its certificate has no address.
    let trusting = Client::builder()
        .tls_certs_only([Certificate::from_pem(authority.certificate.as_bytes()).expect("a certificate")])
        .timeout(Duration::from_secs(5))
        .no_proxy()
        .build()
        .expect("a client");
    trusting.get(format!("https://127.0.0.1:{port}/v1/snapshot")).send().await.expect_err("not trusted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_all_control_machines_are_merged_and_silent_ones_are_named() {
    let authority = Authority::create("main").expect("an authority");
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let (own, other) = (rights::events("i-1", folders[0].path()), rights::events("i-9", folders[1].path()));
    let now = Utc::now();
    let web = "web".parse().expect("a name");
    let event = |id: &str, seconds: i64| {
        let at = now - TimeDelta::seconds(seconds);
        TimelineEvent::new(id.to_owned(), at, EventKind::Healthy, id).of(&web)
    };
    own.record(vec![event("both", 3), event("own", 1)]).await;
    other.record(vec![event("both", 3), event("other", 2)]).await;
    let port = agent_with(&authority, Some(other)).await;
    let calls = AgentCalls::new(authority.clone(), id("i-1")).expect("calls").with_port(port);
    let machine = |name: &str, role, state, features| Machine {
        id: id(name),
        address: LOCALHOST,
        role,
        state,
        leader: false,
        group: String::new(),
        metadata: BTreeMap::new(),
        features,
        pressure: None,
        host_files: Default::default(),
    };
    let machines = [
        machine("i-1", Role::Control, MachineState::Ready, Features::own()),
        machine("i-9", Role::Control, MachineState::Ready, Features::own()),
        machine("i-7", Role::Control, MachineState::Ready, Features::default()),
        machine("i-8", Role::Control, MachineState::Down, Features::own()),
        machine("i-5", Role::Worker, MachineState::Down, Features::own()),
    ];
    let query = EventQuery { limit: 100, ..EventQuery::default() };
    let page = own.of_all(&query, &machines, &calls).await;
    let ids: Vec<&str> = page.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["both", "other", "own"]);
    let missing: Vec<(&str, &str)> =
        page.missing.iter().map(|one| (one.machine.as_str(), one.reason.as_str())).collect();
    let old = "its agent is too old for it (it lacks events); roll its group";
    assert_eq!(missing, [("i-7", old), ("i-8", "it does not answer")]);
    let page = own.of_all(&EventQuery { limit: 1, ..query.clone() }, &machines, &calls).await;
    assert_eq!(page.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["own"]);

    // A worker keeps none, and a machine that is not what it is taken for gives none.
    let worker = agent(&authority).await;
    let calls = AgentCalls::new(authority, id("i-1")).expect("calls").with_port(worker);
    let refused = calls.events(&id("i-9"), LOCALHOST, &query).await.expect_err("a worker").to_string();
    assert!(refused.contains("this is no control machine"), "{refused}");
    calls.events(&id("i-8"), LOCALHOST, &query).await.expect_err("another machine");
}
