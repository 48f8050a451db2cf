//! The fleet that the end-to-end tests share: a local cloud of their own with the project's
//! root applied to it. It is brought to that state by the commands under test, which
//! all converge, so any test can run first, alone, or after one that broke something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fleetwright::local::image::Release;
use fleetwright::model::machine::{Machine, MachineState, Role};
use fleetwright::model::service::{InstanceState, ServiceStatus};
use fleetwright::port::cluster::Snapshot;

use super::releases;

/// The name of the tests' local cloud, so that a demo beside it is left alone.
pub const NAME: &str = "test";
/// The project's name in them, and so that of its stacks and of the pipelines' journal.
pub const PROJECT: &str = "tests";
/// The first two numbers of its addresses, for the same reason.
pub const NETWORK: &str = "10.78";

/// Where the checkout is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where local clouds and journals are; the tests' own are told apart by their names.
pub fn home() -> PathBuf {
    std::env::var_os("FLEETWRIGHT_HOME").map_or_else(|| root().join(".fleetwright"), PathBuf::from)
}

/// Copies the project's infra repository, with the tests' own name and addresses.
pub fn copy_infra(to: &Path) {
    copy_infra_of(root(), to);
}

/// The same of another checkout.
fn copy_infra_of(root: &Path, to: &Path) {
    for part in ["fleetwright.yaml", "stacks", "templates", "services", "pipelines"] {
        copy_tree(&root.join(part), &to.join(part));
    }
    edit(&to.join("stacks/cluster.yaml"), "10.77.", &format!("{NETWORK}."));
    edit(&to.join("fleetwright.yaml"), "project: demo", &format!("project: {PROJECT}"));
    let stacks = to.join("stacks/cluster.yaml");
    let text = std::fs::read_to_string(&stacks).expect("the stacks");
    std::fs::write(&stacks, releases::stacks(&text)).expect("written");
}

/// A `fleetwright` command with nothing in its environment that a user may have set.
pub fn fleetwright() -> Command {
    at(Path::new(env!("CARGO_BIN_EXE_fleetwright")))
}

fn at(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", std::env::var_os("HOME").unwrap_or_default())
        .env("FLEETWRIGHT_HOME", home())
        .env("FLEETWRIGHT_LOCAL_NAME", NAME)
        .stdin(Stdio::null());
    for name in ["PIP_CERT", "PIP_FIND_LINKS", "SSL_CERT_FILE", "http_proxy", "https_proxy"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// How the local cloud is started: with the releases that the tests run on.
fn up_line() -> Vec<&'static str> {
    let mut up = vec!["local", "up", "--release", Release::default().name()];
    for role in [Role::Control, Role::Worker] {
        up.extend(["--release", releases::of(role).name()]);
    }
    up
}

/// The shared fleet.
pub struct Lab {
    /// A copy of the project's infra repository that a test may change.
    pub infra: tempfile::TempDir,
    /// The application's git repository.
    pub application: PathBuf,
    env: Vec<(String, String)>,
    program: PathBuf,
}

impl Lab {
    /// Brings the local cloud up, applies the stacks, and waits for the whole cluster.
    pub fn up() -> Self {
        let infra = tempfile::tempdir().expect("a folder");
        copy_infra(infra.path());
        // Many rollouts end sooner. The journey uses the value that users start with.
        edit(&infra.path().join("services/web.yaml"), "monitor: 3s", "monitor: 1s");
        // The tests have services of their own beside `web`; the journey has this one.
        std::fs::remove_file(infra.path().join("services/load.yaml")).expect("removed");
        let application = infra.path().join("application");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_fleetwright"));
        let mut lab = Self { infra, application, env: Vec::new(), program };
        lab.bring_up(&up_line());
        lab
    }

    /// The same with the program and the infra repository of another checkout, from nothing.
    pub fn of(checkout: &Path) -> Self {
        let infra = tempfile::tempdir().expect("a folder");
        copy_infra_of(checkout, infra.path());
        let application = infra.path().join("application");
        let program = checkout.join("target/debug/fleetwright");
        let mut lab = Self { infra, application, env: Vec::new(), program };
        lab.ok(&["local", "down"]);
        lab.bring_up(&["local", "up"]);
        lab
    }

    /// Continues with this checkout's program and infra repository. The machines stay, and know no
    /// identities yet: they are reached with the break-glass token.
    pub fn become_this_version(&mut self) {
        for part in ["stacks", "templates", "services", "pipelines"] {
            std::fs::remove_dir_all(self.infra.path().join(part)).expect("removed");
        }
        copy_infra(self.infra.path());
        self.program = PathBuf::from(env!("CARGO_BIN_EXE_fleetwright"));
        self.apply(&up_line());
        let token = self.parameter(&format!("/fleetwright/{PROJECT}/local/main/api-token"));
        self.env.push(("FLEETWRIGHT_CLUSTER_TOKEN".to_owned(), token));
        self.whole();
    }

    /// Uses the caller's identity from now on.
    pub fn forget_token(&mut self) {
        self.env.retain(|(name, _)| name != "FLEETWRIGHT_CLUSTER_TOKEN");
    }

    /// A parameter of the emulated parameter store.
    fn parameter(&self, name: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let credentials = aws_sdk_ssm::config::Credentials::new(
            self.var("AWS_ACCESS_KEY_ID"),
            self.var("AWS_SECRET_ACCESS_KEY"),
            None,
            None,
            "test",
        );
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
            .endpoint_url(self.var("AWS_ENDPOINT_URL"))
            .region(aws_sdk_ssm::config::Region::new(self.var("AWS_REGION").to_owned()))
            .credentials_provider(credentials);
        let client = aws_sdk_ssm::Client::from_conf(config.build());
        let answer = runtime.block_on(client.get_parameter().name(name).with_decryption(true).send());
        answer.expect("the parameter").parameter.and_then(|one| one.value).expect("a value")
    }

    fn bring_up(&mut self, up: &[&str]) {
        self.apply(up);
        self.whole();
    }

    fn apply(&mut self, up: &[&str]) {
        // The journey's server would write to the same journal.
        self.ok(&["demo", "--stop"]);
        self.ok(up);
        self.env = self
            .ok(&["local", "env"])
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        let published = self.program != Path::new(env!("CARGO_BIN_EXE_fleetwright")) || self.publish();
        // A fleet of this program that is whole is as the last test left it, and no test leaves other stacks.
        if published || !self.snapshot().is_some_and(|snapshot| is_whole(&snapshot)) {
            self.ok(&["apply", "--yes"]);
        }
    }

    /// Publishes this program as the machines' agent. That sends 100 MB to the emulator and back, so only
    /// the first test in a cloud does it. The others reuse its result, which is kept in the cloud's folder
    /// and removed with it, for the same program and project. Returns whether it did.
    fn publish(&self) -> bool {
        let project = self.infra.path().join("fleetwright.yaml");
        let read = || std::fs::read_to_string(&project).expect("the project's file");
        let note = home().join("local").join(NAME).join("published.json");
        let (agent, before) = (self.var("FLEETWRIGHT_AGENT_SHA256"), read());
        let noted = std::fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let same = |(of, from, _): &(String, String, String)| *of == agent && *from == before;
        if let Some((.., published)) = noted.filter(same) {
            std::fs::write(&project, published).expect("written");
            return false;
        }
        self.ok(&["agent", "publish"]);
        let text = serde_json::to_string(&(agent, before, read())).expect("JSON");
        std::fs::write(&note, text).expect("written");
        true
    }

    fn whole(&self) {
        // A test that failed may have left a drained machine, which would keep every other one waiting, and
        // services that the next one does not expect.
        let found = self.snapshot();
        for left in found.iter().flat_map(|found| &found.services).filter(|one| one.name.as_str() != "web") {
            self.ok(&["remove", left.name.as_str(), "--yes"]);
        }
        let drained = found.into_iter().flat_map(|snapshot| snapshot.machines);
        for machine in drained.filter(|one| one.role == Role::Worker && one.state == MachineState::Draining) {
            self.accept_work(&machine);
        }
        self.until("the cluster is whole", Duration::from_secs(240), |snapshot| {
            is_whole(snapshot).then_some(())
        });
    }

    /// A command in the infra repository, with the local cloud's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = at(&self.program);
        command
            .args(arguments)
            .current_dir(self.infra.path())
            .env("DEMO_WEB_REPOSITORY", &self.application)
            .envs(self.env.iter().cloned());
        command
    }

    /// A variable of the local cloud's environment.
    pub fn var(&self, name: &str) -> &str {
        self.env.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Runs a command whatever its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs a command that must end with status 0; gives its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "`fleetwright {}` ended with {}\n{}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What the cluster says of itself now, when it can be reached.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let output = self.run(&["status", "--output", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("a snapshot"))
    }

    /// Asks the cluster until `condition` gives a value.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Snapshot) -> Option<T>,
    ) -> T {
        let mut last = None;
        let found = poll(limit, || {
            last = self.snapshot();
            last.as_ref().and_then(&mut condition)
        });
        found.unwrap_or_else(|| {
            // What the cluster's machines could not even begin.
            let cloud = at(&self.program).args(["local", "status"]).output().expect("the binary runs");
            let cloud = String::from_utf8_lossy(&cloud.stdout);
            panic!("waited {limit:?} until {what}; last seen: {last:#?}\n{cloud}")
        })
    }

    /// The names of the two instances of `web`, once it is whole. After a change of their number, the scheduler numbers
    /// those that remain as they were.
    pub fn instances(&self) -> [String; 2] {
        self.until("web has two healthy instances", Duration::from_secs(120), |snapshot| {
            let web = service(snapshot, "web").filter(|web| web.is_whole())?;
            let healthy = web.instances.iter().filter(|one| one.state == InstanceState::Healthy);
            let names: BTreeSet<String> = healthy.map(|one| one.name.clone()).collect();
            names.into_iter().collect::<Vec<_>>().try_into().ok()
        })
    }

    /// Starts a command that runs until it is dropped.
    pub fn spawn(&self, arguments: &[&str], log: &Path) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let child = self
            .command(arguments)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        Running(child)
    }

    /// Runs a command of pipelines by a server that is there until nothing is left to do.
    pub fn pipeline(&self, arguments: &[&str]) -> Output {
        let log = self.infra.path().join("serve.log");
        let _serve = self.spawn(&["serve", "--listen", "127.0.0.1:0"], &log);
        let runs = || -> Option<Vec<serde_json::Value>> {
            let output = self.run(&["pipeline", "list", "--output", "json"]);
            let list: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            Some(list["runs"].as_array()?.clone())
        };
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        poll(Duration::from_secs(30), runs).unwrap_or_else(|| panic!("no server answers:\n{}", said()));
        let output = self.run(arguments);
        // The commit that it runs for has also set the pipeline off.
        let open = |run: &serde_json::Value| run["state"] == "queued" || run["state"] == "running";
        poll(Duration::from_secs(120), || runs().filter(|runs| !runs.iter().any(open)))
            .unwrap_or_else(|| panic!("runs are left:\n{}", said()));
        output
    }

    /// Commits to the application what `files` gives, on top of what is there; gives the commit's id.
    pub fn commit(&self, subject: &str, files: &[(&str, &str)]) -> String {
        let path = &self.application;
        if !path.exists() {
            let mut options = git2::RepositoryInitOptions::new();
            options.initial_head("main");
            git2::Repository::init_opts(path, &options).expect("a repository");
        }
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("written");
        }
        fleetwright::cli::demo::application::commit_all(path, subject).expect("a commit")
    }

    /// The process id of a part of the local cloud, `emulator` or `registry`.
    pub fn pid(&self, part: &str) -> String {
        let status: serde_json::Value =
            serde_json::from_str(&self.ok(&["local", "status", "--output", "json"])).expect("a document");
        let parts = status["parts"].as_array().expect("a list of parts");
        let pid = parts.iter().find(|p| p["name"] == part).and_then(|p| p["pid"].as_i64());
        pid.unwrap_or_else(|| panic!("no pid of {part} in {status}")).to_string()
    }

    /// Terminates a machine's instance through its group, which puts another in its place.
    pub fn terminate(&self, machine: &Machine) {
        // The emulator routes by the credential's scope and does not check the signature.
        let scope = format!("test/20260101/{}/autoscaling/aws4_request", self.var("AWS_REGION"));
        tool(
            "curl",
            &[
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--header",
                &format!(
                    "Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
                ),
                "--data",
                &format!(
                    "Action=TerminateInstanceInAutoScalingGroup&Version=2011-01-01\
                     &InstanceId={}&ShouldDecrementDesiredCapacity=false",
                    machine.id
                ),
                self.var("AWS_ENDPOINT_URL"),
            ],
        );
    }

    /// Makes a drained machine take work again. Only the engine's own client can do this; users replace
    /// such a machine.
    pub fn undrain(&self, machine: &Machine) {
        assert!(self.accept_work(machine).is_some(), "{}", self.moves());
        self.until("the machine takes work", Duration::from_secs(60), |snapshot| {
            let state = snapshot.machines.iter().find(|one| one.id == machine.id)?.state;
            (state == MachineState::Ready).then_some(())
        });
    }

    fn accept_work(&self, machine: &Machine) -> Option<String> {
        let script = format!(
            "docker node ls -q --filter node.label=fleetwright.instance={} | xargs docker node update \
             --availability active --label-rm fleetwright.drain",
            machine.id
        );
        self.on_manager(&script)
    }

    /// What the engine did with the service's instances and when, from a manager that answers: for
    /// the message of a failure.
    pub fn moves(&self) -> String {
        let script = "docker service inspect web --format '{{.UpdatedAt}} {{json .UpdateStatus}} {{json .Spec.Labels}}'; \
                      docker service ps web --no-trunc; docker node ls; \
                      docker service ps web -q --no-trunc | xargs docker inspect --format \
                      '{{.ID}} {{.CreatedAt}} {{.UpdatedAt}} {{.DesiredState}} {{.Status.State}} {{.Status.Timestamp}}'";
        self.on_manager(script).unwrap_or_else(|| "no manager answers\n".to_owned())
    }

    /// What a shell line prints on the first control machine where it succeeds.
    pub fn on_manager(&self, script: &str) -> Option<String> {
        let machines = self.snapshot()?.machines;
        machines.iter().filter(|machine| machine.role == Role::Control).find_map(|manager| {
            let arguments = ["exec", &self.container(manager), "sh", "-c", script];
            let output = Command::new("docker").args(arguments).output().expect("docker runs");
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    }

    /// The container of a machine.
    pub fn container(&self, machine: &Machine) -> String {
        format!("fleetwright-{NAME}-{}", machine.id)
    }
}

/// A child that is killed when the test ends, however it ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How many machines of a role are ready.
pub fn ready(snapshot: &Snapshot, role: Role) -> usize {
    snapshot.machines.iter().filter(|m| m.role == role && m.state == MachineState::Ready).count()
}

fn is_whole(snapshot: &Snapshot) -> bool {
    ready(snapshot, Role::Control) >= 3 && ready(snapshot, Role::Worker) >= 2
}

/// The service by its name.
pub fn service<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a ServiceStatus> {
    snapshot.services.iter().find(|service| service.name.as_str() == name)
}

/// Asks every quarter of a second until there is an answer or the time is up.
pub fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if begun.elapsed() > limit {
            return None;
        }
        // Every question costs this computer as much as a machine's work of a second: what takes long is
        // not made longer by asking.
        let pause = if begun.elapsed() < Duration::from_secs(4) { 250 } else { 1000 };
        std::thread::sleep(Duration::from_millis(pause));
    }
}

/// Runs a program that must succeed; gives its output.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program runs");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn edit(file: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(file).expect("a file of the repository");
    assert!(text.contains(old), "{} has no `{old}`", file.display());
    std::fs::write(file, text.replace(old, new)).expect("written");
}

pub fn copy_tree(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("readable") {
            let entry = entry.expect("readable");
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).expect("copied");
    }
}
