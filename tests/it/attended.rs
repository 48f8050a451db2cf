//! Commands with a terminal or an input, in a container of their own: the helper, the agent's sockets and the
//! engine are real, and the control machine's permit is always given.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum_server::Handle;
use fleetwright::adapter::agents::AgentCalls;
use fleetwright::adapter::authority::{Authority, new_key, public_key};
use fleetwright::adapter::issuer::ControlMachines;
use fleetwright::adapter::permits::{self, Waiting};
use fleetwright::adapter::probe;
use fleetwright::adapter::swarm::{Anonymous, Engine, Swarm};
use fleetwright::driver::stream::{End, Event, Local, attach};
use fleetwright::model::frame::{Signal, Size};
use fleetwright::model::name::MachineId;
use fleetwright::port::cluster::ClusterError;
use fleetwright::port::jobs::AskPermit;
use fleetwright::port::streams::{Agents as _, Connection, ExecRequest, Terminal};
use fleetwright::server::agent_api::{self, AgentApi};
use fleetwright::server::cluster_api::TlsIdentity;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::lab::{poll, tool};
use crate::support::registry::free_port;

const ENGINE: &str = "unix:///var/run/docker.sock";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Every attempt may run.
struct Always;

#[async_trait]
impl AskPermit for Always {
    async fn permit(&self, _: &str, _: &str) -> Result<(), ClusterError> {
        Ok(())
    }
}

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

/// A machine: its agent, and the engine of this computer.
struct Machine {
    folder: tempfile::TempDir,
    image: String,
    calls: AgentCalls,
    permits: JoinHandle<()>,
}

impl Machine {
    async fn up() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("readable");
        probe::install(&folder.path().join("probe")).expect("installed");
        std::fs::write(folder.path().join("secret"), "hunter2\n").expect("written");
        let image = format!("fleetwright-attended:{}", std::process::id());
        import(&image, folder.path());
        let engine = Engine::connect(ENGINE).await.expect("the engine of this computer");
        let (docker, waiting) = (engine.docker().clone(), Waiting::default());
        let (at, held) = (folder.path().join("permits"), waiting.clone());
        let permits = tokio::spawn(async move {
            let _ = permits::serve(&at, "agent.sock", docker, Arc::new(Always), &held).await;
        });
        let authority = Authority::create("main").expect("an authority");
        let key = new_key().expect("a key");
        let public = public_key(&key).expect("its public part");
        let tls = TlsIdentity {
            certificate: authority.sign_machine(&id("i-9"), &public).expect("a certificate"),
            key,
            authority: authority.certificate.clone(),
        };
        let control = Arc::new(ControlMachines::of(&authority.certificate).expect("an authority"));
        let containers = Arc::new(Swarm::new(engine, Arc::new(Anonymous)));
        let api = AgentApi { containers, attended: Arc::new(waiting), control, events: None };
        let port = free_port();
        let (handle, address) = (Handle::new(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let serving = handle.clone();
        tokio::spawn(async move { agent_api::serve(api, address, &tls, serving).await });
        handle.listening().await.expect("it listens");
        let calls = AgentCalls::new(authority, id("i-1")).expect("calls").with_port(port);
        Self { folder, image, calls, permits }
    }

    /// The container of a task, as the engine would start it for an attended command.
    fn start(&self, task: &str) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mount = |from: &str, to: &str| format!("{}:{to}:ro", path(from));
        let (probe, permits) =
            (mount("probe", "/.fleetwright/probe"), mount("permits", "/.fleetwright/permits"));
        let secret = mount("secret", "/run/secrets/token");
        let task = format!("com.docker.swarm.task.id={task}");
        let first = [
            "run",
            "-d",
            "--network",
            "none",
            "--label",
            "fleetwright.occurrence=run.web.x1",
            "--label",
            &task,
        ];
        let mounts =
            ["-v", &probe, "-v", &permits, "-v", &secret, "--entrypoint", "/.fleetwright/probe", &self.image];
        let helper = ["attend", "/.fleetwright/permits/agent.sock", "--"];
        let variables = ["/.fleetwright/probe", "exec", "TOKEN=/run/secrets/token", "--", "sh"];
        tool("docker", &[&first[..], &mounts, &helper, &variables].concat()).trim().to_owned()
    }

    async fn open(&self, task: &str, command: &[&str], terminal: bool) -> Connection {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let size = Some(Size { rows: 41, columns: 123 });
        let terminal = terminal.then(|| Terminal { kind: "xterm-256color".to_owned(), size });
        let occurrence = Some("run.web.x1".parse().expect("an id"));
        let request = ExecRequest { instance: None, occurrence, command, input: true, terminal };
        self.calls.exec(&id("i-9"), LOCALHOST, task, &request).await.expect("executed")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let filter = format!("ancestor={}", self.image);
        let left = tool("docker", &["ps", "-aq", "--filter", &filter]);
        for container in left.split_whitespace() {
            tool("docker", &["rm", "-f", container]);
        }
        tool("docker", &["rmi", "-f", &self.image]);
    }
}

/// An image that holds busybox.
fn import(image: &str, folder: &Path) {
    let root = folder.join("root");
    for made in ["bin", "etc", "run/secrets", "dev"] {
        std::fs::create_dir_all(root.join(made)).expect("a folder");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
    for name in ["sh", "cat", "sleep", "tty", "echo"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    let at = root.display().to_string();
    let packed = Command::new("tar").args(["-C", &at, "-cf", "-", "."]).output().expect("tar");
    let mut import = Command::new("docker");
    let import = import.args(["import", "--change", "ENV PATH=/bin", "-", image]).stdin(Stdio::piped());
    let mut import = import.stdout(Stdio::null()).spawn().expect("docker");
    import.stdin.take().expect("a pipe").write_all(&packed.stdout).expect("imported");
    assert!(import.wait().expect("its end").success());
}

/// The exit status of a container that has ended.
fn ended(container: &str) -> String {
    let status = || {
        let state =
            tool("docker", &["inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", container]);
        state.trim().strip_prefix("false ").map(str::to_owned)
    };
    poll(Duration::from_secs(20), status).unwrap_or_else(|| panic!("{container} does not end"))
}

/// Runs to the end with `input`, and with `event` once the program has written its first line; how it ended, and
/// what it wrote.
async fn whole(connection: Connection, input: &'static [u8], event: Option<Event>) -> (End, String) {
    let (sender, events) = mpsc::unbounded_channel();
    let (output, written) = tokio::io::duplex(1 << 20);
    let reading = tokio::spawn(async move {
        let (mut written, mut text) = (BufReader::new(written), String::new());
        written.read_line(&mut text).await.expect("text");
        if let Some(event) = event {
            sender.send(event).expect("it is attached");
        }
        written.read_to_string(&mut text).await.expect("text");
        text
    });
    let local = Local {
        input: Some(Box::new(input)),
        output: Box::new(output),
        errors: Box::new(tokio::io::sink()),
        events,
    };
    let end = attach(connection, local).await.expect("an end");
    (end, reading.await.expect("it reads"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_s_container_ends_with_its_connection_whatever_dies() {
    let machine = Machine::up().await;

    // Input, output, variables from secrets, and the exit status, which is the container's, too.
    let container = machine.start("t1");
    let stream = machine.open("t1", &["sh", "-c", "cat; echo $TOKEN; exit 7"], false).await;
    assert_eq!(whole(stream, b"x\n", None).await, (End::Exit(7), "x\nhunter2\n".to_owned()));
    assert_eq!(ended(&container), "7");
    let inspected = tool("docker", &["inspect", &container]);
    assert!(inspected.contains("TOKEN=/run/secrets/token") && !inspected.contains("hunter2"));
    // A terminal.
    let container = machine.start("t2");
    let stream = machine.open("t2", &["sh", "-c", "echo $TERM; tty"], true).await;
    let (end, text) = whole(stream, b"", None).await;
    assert!(
        end == End::Exit(0) && text.contains("xterm-256color\r\n") && text.contains("/dev/pts/"),
        "{text}"
    );
    assert_eq!(ended(&container), "0");
    // What comes after the end of a terminal's input is shown, too.
    let container = machine.start("t2e");
    let stream = machine.open("t2e", &["sh", "-c", "echo ready; cat; sleep 1; echo late"], true).await;
    let (end, text) = whole(stream, b"half a line", None).await;
    // The terminal shows what is typed at once, maybe before the program's first line.
    let shown = text.matches("half a line").count();
    assert!(end == End::Exit(0) && shown == 2 && text.ends_with("half a linelate\r\n"), "{end:?} {text:?}");
    assert_eq!(ended(&container), "0");
    // Ctrl-C.
    let container = machine.start("t3");
    let stream = machine.open("t3", &["sh", "-c", "echo ready; sleep 4731; true"], false).await;
    let (end, _) = whole(stream, b"", Some(Event::Signal(Signal::Interrupt))).await;
    assert_eq!((end, ended(&container).as_str()), (End::Exit(130), "130"));
    // One container serves one caller.
    let request = ExecRequest {
        instance: None,
        occurrence: Some("run.web.x1".parse().expect("an id")),
        command: vec!["true".to_owned()],
        input: false,
        terminal: None,
    };
    let again = machine.calls.exec(&id("i-9"), LOCALHOST, "t3", &request).await.map(drop);
    let again = again.expect_err("it has ended").to_string();
    assert!(again.contains("does not wait for a caller any more"), "{again}");

    // The caller is gone, and its program ignores that.
    let container = machine.start("t4");
    let stubborn = ["sh", "-c", "trap '' TERM HUP; sleep 4732; sleep 4733"];
    let stream = machine.open("t4", &stubborn, false).await;
    drop(stream);
    assert_eq!(ended(&container), "129");
    // The agent is gone.
    let container = machine.start("t5");
    let stream = machine.open("t5", &stubborn, false).await;
    machine.permits.abort();
    assert_eq!(ended(&container), "1");
    drop(stream);
    let processes = tool("ps", &["-eo", "args"]);
    assert!(!processes.contains("sleep 473"), "{processes}");
}
