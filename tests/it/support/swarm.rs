//! A real swarm of two machines for one test: a control machine and a worker, each a
//! container with systemd and Docker, and a registry that both pull from.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleetwright::adapter::probe;
use fleetwright::adapter::swarm::{
    Anonymous, Credentials, Engine, PERMITS_ON_MACHINE, PROBE_ON_MACHINE, Swarm,
};
use fleetwright::event::Events;
use fleetwright::local::image::{self, Release};
use fleetwright::local::{home::Home, machines};
use fleetwright::model::address::AddressPool;
use fleetwright::model::machine::Role;
use fleetwright::model::name::{Digest, MachineId};
use fleetwright::port::membership::Membership;

use super::registry::free_port;
use super::releases;

/// The image's repository.
pub const IMAGE: &str = "demo/web";

const CAPABILITIES: &str = "SYS_ADMIN NET_ADMIN SYS_PTRACE SYS_NICE NET_RAW MKNOD SYS_CHROOT \
     DAC_READ_SEARCH SYSLOG LINUX_IMMUTABLE IPC_LOCK AUDIT_CONTROL";

/// Serves for 3 seconds more after SIGTERM. A server without a handler ignores the signal as the first
/// process of its container, and is killed after 8 seconds.
const SERVE: &str = "\
/bin/busybox httpd -f -v -p 8080 -h /www &
server=$!
trap '/bin/busybox sleep 3; kill $server; exit 0' TERM
wait $server
";

/// The two machines and the registry; all gone when dropped.
pub struct Lab {
    name: String,
    folder: tempfile::TempDir,
    registry: Child,
    registry_port: u16,
    gateway: IpAddr,
    machines: Vec<IpAddr>,
    guarded: Mutex<Option<Child>>,
}

impl Lab {
    /// Starts everything and makes the swarm, which it gives as seen from each machine.
    pub async fn up() -> (Self, [Swarm; 2]) {
        let lab = Self::start(2).await;
        let control = lab.engine(0).await;
        let worker = lab.engine(1).await;
        control.init(lab.machines[0], &AddressPool::default()).await.expect("a swarm");
        let tokens = control.join_tokens().await.expect("tokens");
        worker.join(lab.machines[1], &lab.machines[..1], &tokens.worker).await.expect("joined");
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let nodes = control.nodes().await.expect("nodes");
            for node in &nodes {
                let address = node.address.expect("an address");
                let control_machine = node.manager.is_some();
                let labels = [
                    ("instance", if control_machine { "i-control" } else { "i-worker" }.to_owned()),
                    ("address", address.to_string()),
                    ("role", if control_machine { "control" } else { "worker" }.to_owned()),
                    ("group", "test".to_owned()),
                ];
                let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                control.register(&node.id, &labels).await.expect("registered");
            }
            if nodes.len() == 2 && nodes.iter().all(|node| node.up) {
                return (lab, [control, worker]);
            }
            assert!(Instant::now() < limit, "the worker does not come up: {nodes:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts `count` machines whose engines belong to no swarm, and gives each of them.
    pub async fn apart(count: u8) -> (Self, Vec<Swarm>) {
        let lab = Self::start(count).await;
        let mut engines = Vec::new();
        for number in 0..usize::from(count) {
            engines.push(lab.engine(number).await);
        }
        (lab, engines)
    }

    /// Makes a swarm of managers only, of all machines, registered as `i-0` and so on.
    pub async fn managers(count: u8) -> (Self, Vec<Swarm>) {
        let (lab, engines) = Self::apart(count).await;
        engines[0].init(lab.machines[0], &AddressPool::default()).await.expect("a swarm");
        let tokens = engines[0].join_tokens().await.expect("tokens");
        for (engine, address) in engines.iter().zip(&lab.machines).skip(1) {
            engine.join(*address, &lab.machines[..1], &tokens.manager).await.expect("joined");
        }
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let nodes = engines[0].nodes().await.unwrap_or_default();
            for node in &nodes {
                let address = node.address.expect("an address");
                let number = lab.machines.iter().position(|machine| *machine == address).unwrap_or(0);
                let labels = [
                    ("instance", format!("i-{number}")),
                    ("address", address.to_string()),
                    ("role", "control".to_owned()),
                    ("group", "test".to_owned()),
                ];
                let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                engines[0].register(&node.id, &labels).await.expect("registered");
            }
            let whole = nodes.iter().filter(|node| node.manager.is_some_and(|one| one.reachable)).count();
            if whole == usize::from(count) {
                return (lab, engines);
            }
            assert!(Instant::now() < limit, "the managers do not come up: {nodes:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The address of a machine.
    pub fn address(&self, number: usize) -> IpAddr {
        self.machines[number]
    }

    /// The folder that is [`PERMITS_ON_MACHINE`] on a machine.
    pub fn permits(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("permits-{number}"))
    }

    /// Where the engine of a machine listens.
    pub fn endpoint(&self, number: usize) -> String {
        format!("tcp://{}:2375", self.machines[number])
    }

    /// The address of this computer, as the machines reach it.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// Removes a machine and everything on it.
    pub fn destroy(&self, number: usize) {
        ok(Command::new("docker").args(["rm", "-fv", &self.machine(number)]));
    }

    /// Where the log of a machine's manager is, as this host sees it.
    pub fn log(&self, number: usize) -> PathBuf {
        let format = "{{range .Mounts}}{{if eq .Destination \"/var/lib/docker\"}}{{.Source}}{{end}}{{end}}";
        let source = ok(Command::new("docker").args(["inspect", "-f", format, &self.machine(number)]));
        Path::new(source.trim()).join("swarm/raft/wal-v3-encrypted")
    }

    /// What runs on a machine.
    pub fn containers(&self, number: usize) -> String {
        let name = self.machine(number);
        ok(Command::new("docker").args(["exec", &name, "docker", "ps", "-q", "--no-trunc"]))
    }

    /// Runs the engine's own client on a machine.
    pub fn client(&self, number: usize, line: &str) -> String {
        ok(Command::new("docker").args(["exec", &self.machine(number), "sh", "-c", line]))
    }

    async fn start(count: u8) -> Self {
        // Machine 0 is a manager in every test, so that mixed releases meet in one swarm.
        let images = [
            machine_image(releases::of(Role::Control)).await,
            machine_image(releases::of(Role::Worker)).await,
        ];
        sweep();
        let name = format!("{NAMES}{}", std::process::id());
        let folder = tempfile::tempdir().expect("a folder");
        let (subnet, prefix) = network(&name);
        println!("machines of {name} in {subnet}");
        let gateway: IpAddr = format!("{prefix}.1").parse().expect("an address");
        let registry_port = free_port();
        let machines = (0..count)
            .map(|number| format!("{prefix}.{}", 11 + number).parse().expect("an address"))
            .collect();
        let drop_in = folder.path().join("docker.service.d");
        std::fs::create_dir(&drop_in).expect("a folder");
        // The machines' engines answer the test; their registry has no certificate. Without the explicit
        // `--tls=false`, an engine that listens without TLS delays its start by 15 s.
        let unit = format!(
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375 --tls=false \
             --containerd=/run/containerd/containerd.sock --insecure-registry {gateway}/32\n"
        );
        std::fs::write(drop_in.join("test.conf"), unit).expect("written");
        let registry = registry(folder.path(), registry_port, None);
        let lab =
            Self { name, folder, registry, registry_port, gateway, machines, guarded: Mutex::default() };
        for (number, address) in lab.machines.iter().enumerate() {
            lab.start_machine(number, *address, &images[number.min(1)]);
        }
        lab
    }

    fn start_machine(&self, number: usize, address: IpAddr, tag: &str) {
        let name = self.machine(number);
        let mut run = Command::new("docker");
        run.args(["run", "-d", "--name", &name, "--hostname", &name, "--network", &self.name]);
        run.args(["--ip", &address.to_string(), "--security-opt", "seccomp=unconfined"]);
        run.args(CAPABILITIES.split_whitespace().flat_map(|one| ["--cap-add", one]));
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            run.arg("--cgroupns=private");
        } else {
            run.args(["--cgroupns=host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]);
        }
        run.args(["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-v", "/var/lib/docker"]);
        let drop_in = self.folder.path().join("docker.service.d");
        run.args(["-v", &format!("{}:/etc/systemd/system/docker.service.d:ro", drop_in.display())]);
        // The test answers helpers in the machine's containers in place of an agent.
        let permits = self.permits(number);
        std::fs::create_dir_all(&permits).expect("a folder");
        run.args(["-v", &format!("{}:{PERMITS_ON_MACHINE}", permits.display())]);
        // As the local cloud starts its machines: Docker 26 must be able to switch IPv6 off.
        let boot = "mount --bind /proc/sys/net /proc/sys/net && \
                    mount -o remount,bind,rw /proc/sys/net && exec /sbin/init";
        ok(run.args([tag, "sh", "-c", boot]));
        let file = self.folder.path().join("probe");
        probe::install(&file).expect("the probe");
        ok(Command::new("docker").args(["exec", &name, "mkdir", "-p", "/var/lib/fleetwright"]));
        let target = format!("{name}:{PROBE_ON_MACHINE}");
        ok(Command::new("docker").args(["cp", &file.display().to_string(), &target]));
    }

    async fn engine(&self, number: usize) -> Swarm {
        self.swarm(number, Arc::new(Anonymous)).await
    }

    /// The swarm as a machine sees it, pulling with `credentials`.
    pub async fn swarm(&self, number: usize, credentials: Arc<dyn Credentials>) -> Swarm {
        let endpoint = format!("tcp://{}:2375", self.machines[number]);
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            match Engine::connect(&endpoint).await {
                Ok(engine) => return Swarm::new(engine, credentials),
                Err(error) => assert!(Instant::now() < limit, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn machine(&self, number: usize) -> String {
        format!("{}-m{number}", self.name)
    }

    /// Sets the one user of [`Lab::guarded`].
    pub fn protect(&self, user: &str, password: &str) {
        let hash = bcrypt::hash(password, 5).expect("a hash");
        let file = self.folder.path().join("htpasswd");
        std::fs::write(file.with_extension("new"), format!("{user}:{hash}\n")).expect("written");
        std::fs::rename(file.with_extension("new"), file).expect("renamed");
    }

    /// A second registry with the same images, which wants the user of [`Lab::protect`], as the
    /// machines name it.
    pub fn guarded(&self) -> String {
        let port = free_port();
        let child = registry(self.folder.path(), port, Some(&self.folder.path().join("htpasswd")));
        *self.guarded.lock().expect("the registry") = Some(child);
        format!("{}:{port}", self.gateway)
    }

    /// Keeps new work away from a machine, or lets it take work again.
    pub fn pause(&self, machine: &MachineId, paused: bool) {
        let id = self.node(machine);
        let host = format!("tcp://{}:2375", self.machines[0]);
        let arguments = ["node", "update", "--availability", if paused { "pause" } else { "active" }];
        ok(Command::new("docker").args(["-H", &host]).args(arguments).arg(id));
    }

    /// Removes a machine as a fire would.
    pub fn lose(&self, number: usize) {
        ok(Command::new("docker").args(["rm", "-fv", &self.machine(number)]));
    }

    fn node(&self, machine: &MachineId) -> String {
        let host = format!("tcp://{}:2375", self.machines[0]);
        let filter = format!("node.label=fleetwright.instance={machine}");
        let id = ok(Command::new("docker").args(["-H", &host, "node", "ls", "-q", "--filter", &filter]));
        id.trim().to_owned()
    }

    /// The registry as the machines name it.
    pub fn registry(&self) -> String {
        format!("{}:{}", self.gateway, self.registry_port)
    }

    /// Builds and pushes a web server that answers `/` with `text`, and `/health` when it is `healthy`.
    pub fn push(&self, text: &str, healthy: bool) -> Digest {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy("/bin/busybox", folder.path().join("busybox")).expect("busybox-static is installed");
        let www = folder.path().join("www");
        std::fs::create_dir(&www).expect("a folder");
        std::fs::write(www.join("index.html"), format!("{text}\n")).expect("written");
        if healthy {
            std::fs::write(www.join("health"), "ok\n").expect("written");
        }
        std::fs::write(folder.path().join("serve"), SERVE).expect("written");
        let file = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY serve /serve\nCOPY www /www\n\
                    CMD [\"/bin/busybox\",\"sh\",\"/serve\"]\n";
        std::fs::write(folder.path().join("Dockerfile"), file).expect("written");
        // The local engine takes a registry on its own machine without a certificate.
        let name = format!("127.0.0.1:{}/{IMAGE}:{text}", self.registry_port);
        let path = folder.path().display().to_string();
        ok(Command::new("docker").env("DOCKER_BUILDKIT", "0").args(["build", "-q", "-t", &name, &path]));
        let pushed = ok(Command::new("docker").args(["push", &name]));
        ok(Command::new("docker").args(["rmi", &name]));
        let digest = pushed.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest.expect("a digest").parse().expect("a digest")
    }

    /// Ends a machine by its own init, as a reboot does; it can be started again.
    pub fn shut_down(&self, number: usize) {
        let name = self.machine(number);
        // The machine ends under the command, which then may or may not see its own end.
        let _ = Command::new("docker").args(["exec", &name, "systemctl", "reboot"]).output();
        ok(Command::new("docker").args(["wait", &name]));
    }

    /// Starts a machine again that was shut down.
    pub fn start_again(&self, number: usize) {
        ok(Command::new("docker").args(["start", &self.machine(number)]));
    }

    /// The addresses of one of the engine's networks.
    pub fn subnet(&self, network: &str) -> String {
        let host = format!("tcp://{}:2375", self.machines[0]);
        let format = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
        ok(Command::new("docker").args(["-H", &host, "network", "inspect", network, "--format", format]))
    }

    /// Lets a drained machine take work again, which needs the engine's own client.
    pub async fn undrain(&self, machine: &MachineId) {
        let host = format!("tcp://{}:2375", self.machines[0]);
        let arguments = ["node", "update", "--availability", "active", "--label-rm", "fleetwright.drain"];
        ok(Command::new("docker").args(["-H", &host]).args(arguments).arg(self.node(machine)));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.registry.kill();
        let _ = self.registry.wait();
        if let Some(mut guarded) = self.guarded.lock().ok().and_then(|mut guarded| guarded.take()) {
            let _ = guarded.kill();
            let _ = guarded.wait();
        }
        for number in 0..self.machines.len() {
            let _ = Command::new("docker").args(["rm", "-fv", &self.machine(number)]).output();
        }
        let _ = Command::new("docker").args(["network", "rm", &self.name]).output();
    }
}

/// What the names of the machines of tests begin with; the number of the test's process follows.
const NAMES: &str = "fleetwright-it-";

async fn machine_image(release: Release) -> String {
    let docker = machines::connect().await.expect("Docker answers");
    let home = Home::from_env().expect("a home");
    image::ensure(&docker, &home, release, &Events::channel().0).await.expect("the machines' image")
}

/// Removes what tests left that were killed.
fn sweep() {
    let alive = |name: &str| {
        let number = name.strip_prefix(NAMES).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        number.is_none_or(|number| Path::new("/proc").join(number.to_string()).exists())
    };
    let names = |words: &[&str]| {
        let filter = format!("name=^/?{NAMES}");
        let listed = Command::new("docker").args(words).args(["--filter", &filter]).output();
        let listed = String::from_utf8(listed.expect("docker can be run").stdout).expect("UTF-8");
        listed.lines().filter(|name| !alive(name)).map(str::to_owned).collect::<Vec<_>>()
    };
    for machine in names(&["ps", "--all", "--format={{.Names}}"]) {
        let _ = Command::new("docker").args(["rm", "-fv", &machine]).output();
    }
    for network in names(&["network", "ls", "--format={{.Name}}"]) {
        let _ = Command::new("docker").args(["network", "rm", &network]).output();
    }
}

/// Makes a network with the first subnet that is free, and gives its first three numbers as well.
fn network(name: &str) -> (String, String) {
    for third in 0..64 {
        let prefix = format!("10.94.{third}");
        let subnet = format!("{prefix}.0/24");
        let made = Command::new("docker").args(["network", "create", "--subnet", &subnet, name]).output();
        if made.expect("docker can be run").status.success() {
            return (subnet, prefix);
        }
    }
    panic!("no subnet of 10.94.0.0/18 is free");
}

fn registry(folder: &Path, port: u16, users: Option<&Path>) -> Child {
    let config = folder.join(format!("registry-{port}.yml"));
    let mut file = std::fs::File::create(&config).expect("a file");
    let data = folder.join("data");
    writeln!(
        file,
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '0.0.0.0:{port}'}}",
        data.display()
    )
    .expect("written");
    if let Some(users) = users {
        writeln!(file, "auth: {{htpasswd: {{realm: test, path: {}}}}}", users.display()).expect("written");
    }
    Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry (package docker-registry) can be run")
}

fn ok(command: &mut Command) -> String {
    let output = command.output().expect("docker can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
