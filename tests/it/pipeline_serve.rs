//! `fleetwright serve` and `pipeline run` as processes: killed and started again, read
//! through their page. git, Docker and the registry are real, the cluster and SSM are played.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::step_containers::EngineSteps;
use fleetwright::model::redact::Mask;
use fleetwright::port::step_containers::StepContainers as _;
use serde_json::Value;

use crate::support::cluster::{FakeCluster, Mood};
use crate::support::endpoints::{TOKEN, cluster_api, parameters};
use crate::support::git::Origin;
use crate::support::registry::{PASSWORD, Registry};

/// An infra repository with one pipeline, and everything around it.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub registry: Registry,
    pub origin: Origin,
    pub cluster: FakeCluster,
    variables: Vec<(&'static str, String)>,
}

impl Site {
    pub fn new() -> Self {
        Self::with_aws(|registry| parameters(registry.credentials()))
    }

    /// One whose AWS answers at the URL that `aws` returns; its parameter `/fleetwright/registry` holds the
    /// credentials of the registry.
    pub fn with_aws(aws: impl FnOnce(&Registry) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = Registry::start();
        let origin = Origin::new();
        let cluster = FakeCluster::new(Mood::Healthy);
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("written");
        };
        write(
            "fleetwright.yaml",
            "project: shop\nenvironments:\n  test:\n    region: eu-west-1\n    cluster: main\n    registry:\n      \
             push: ${env.PUSH}\n      pull: registry.internal:5000\n      credentials: /fleetwright/registry\n\
             clusters:\n  main:\n    engine: swarm\nrepositories:\n  web:\n    url: ${env.WEB}\n    poll: 1s\n",
        );
        write("services/web.yaml", "web:\n  image: demo/web\n  replicas: 2\n");
        write(
            "pipelines/web.yaml",
            "web:\n  repository: web\n  steps:\n    - build: {image: demo/web}\n    - rollout: {service: web}\n",
        );
        let api = folder.path().join("api");
        let variables = vec![
            ("PATH", std::env::var("PATH").expect("a PATH")),
            ("HOME", folder.path().display().to_string()),
            ("FLEETWRIGHT_HOME", folder.path().join("home").display().to_string()),
            ("PUSH", registry.host()),
            ("WEB", origin.url()),
            ("AWS_ENDPOINT_URL", aws(&registry)),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("AWS_EC2_METADATA_DISABLED", "true".into()),
            ("FLEETWRIGHT_CLUSTER_ENDPOINT", cluster_api(cluster.clone(), &api)),
            ("FLEETWRIGHT_CLUSTER_TOKEN", TOKEN.into()),
            ("FLEETWRIGHT_CLUSTER_CA", api.join("ca.pem").display().to_string()),
        ];
        Self { folder, registry, origin, cluster, variables }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(self.folder.path(), arguments)
    }

    /// A command in another folder than that of the repository.
    pub fn command_in(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetwright"));
        command.args(arguments).current_dir(folder).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    /// Sets a variable of the commands that are run from now on.
    pub fn set(&mut self, name: &'static str, value: String) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value));
    }

    /// What runs have on the engine.
    pub fn steps(&self) -> EngineSteps {
        let images = DockerImages::new(self.registry.host(), CredentialSource::None, Mask::default());
        let journal = self.folder.path().join("home/serve/shop/environments/test/journal.sqlite");
        EngineSteps::new(Arc::new(images.expect("Docker")), &journal.display().to_string())
    }

    /// Starts `serve` and waits until it says where its page is.
    pub fn serve(&self) -> Serve {
        Serve::start(self.command(&["serve", "--listen", "127.0.0.1:0"]))
    }

    /// Starts `serve` before there is a commit; it does not look for one again.
    pub fn serve_quietly(&self) -> Serve {
        let path = self.folder.path().join("fleetwright.yaml");
        let text = std::fs::read_to_string(&path).expect("the project").replace("poll: 1s", "poll: 1h");
        std::fs::write(&path, text).expect("written");
        let serve = self.serve();
        while !serve
            .said
            .recv_timeout(Duration::from_secs(30))
            .expect("it says more")
            .contains("has no branch")
        {}
        serve
    }

    /// Starts a command that is waited for elsewhere.
    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be started")
    }

    pub fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let output = self.command(arguments).output().expect("fleetwright can be run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// A client that bears the token that `serve` made.
    pub fn client(&self) -> reqwest::Client {
        let file = self.folder.path().join("home/serve/shop/page-token");
        let token = std::fs::read_to_string(file).expect("a token");
        let bearer = format!("Bearer {token}").parse().expect("a header");
        let headers = reqwest::header::HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, bearer)]);
        reqwest::Client::builder().default_headers(headers).build().expect("a client")
    }

    /// What `pipeline list` says.
    pub fn runs(&self) -> Vec<Value> {
        let (good, stdout, stderr) = self.run(&["pipeline", "list", "-o", "json"]);
        assert!(good, "{stderr}");
        let document: Value = serde_json::from_str(&stdout).expect("JSON");
        document["runs"].as_array().expect("a list").clone()
    }

    /// Waits until the newest run is as wanted.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + Duration::from_secs(90);
        loop {
            let runs = self.runs();
            if let Some(run) = runs.first().filter(|run| wanted(run)) {
                return run.clone();
            }
            assert!(Instant::now() < limit, "it never came to this: {what}; runs: {runs:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The server is killed at once, and nobody else looks for what its runs have.
        let steps = self.steps();
        let cleared = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for run in steps.left().await.unwrap_or_default() {
                    let _ = steps.clear(run).await;
                }
            });
        });
        let _ = cleared.join();
        crate::support::registry::forget_images(&self.registry.host());
    }
}

/// A running `serve`.
pub struct Serve {
    process: Child,
    pub page: String,
    said: mpsc::Receiver<String>,
}

impl Serve {
    pub fn start(command: Command) -> Self {
        Self::start_within(command, Duration::from_secs(30))
    }

    /// Starts one that may wait for so long before it serves.
    pub fn start_within(mut command: Command, limit: Duration) -> Self {
        let mut process =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be started");
        let (sender, said) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().expect("its stderr"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut serve = Self { process, page: String::new(), said };
        // Warnings about the repository come before it.
        while serve.page.is_empty() {
            let line = serve.said.recv_timeout(limit).expect("it says where its page is");
            let page = line.split_whitespace().find(|word| word.starts_with("http://"));
            serve.page = page.map(str::to_owned).unwrap_or_default();
        }
        serve
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        Command::new("kill").args([&format!("-{name}"), pid.as_str()]).status().expect("kill can be run");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it says something; gives the line.
    pub fn says(&self, text: &str) -> String {
        let limit = Instant::now() + Duration::from_secs(100);
        let mut before = Vec::new();
        loop {
            let left = limit.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("it never says `{text}`: {before:#?}"),
            }
        }
    }

    /// Waits until it ends on its own; gives whether that was a success, and what it said.
    pub fn ended(mut self) -> (bool, Vec<String>) {
        let limit = Instant::now() + Duration::from_secs(100);
        let status = loop {
            match self.process.try_wait().expect("its status") {
                Some(status) => break status,
                None => assert!(
                    Instant::now() < limit,
                    "it does not end: {:#?}",
                    self.said.try_iter().collect::<Vec<_>>()
                ),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        (status.success(), self.said.iter().collect())
    }

    /// As a power cut would.
    pub fn kill(mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// As Ctrl-C would; gives what it said until its end.
    pub fn interrupt(mut self) -> (bool, Vec<String>) {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().expect("kill can be run");
        let status = self.process.wait().expect("it ends");
        (status.success(), self.said.iter().collect())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox (package busybox-static) is installed")
}

/// A Dockerfile whose build takes so many seconds.
fn slow(seconds: u32) -> String {
    let unique = crate::support::git::unique();
    format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nENV UNIQUE={unique}\n\
         RUN [\"/bin/busybox\", \"sleep\", \"{seconds}\"]\n"
    )
}

fn step(run: &Value, index: usize) -> &str {
    run["steps"][index]["state"]["is"].as_str().unwrap_or("")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_during_a_build_is_followed_by_another_and_the_run_ends_once() {
    let site = Site::new();
    let dockerfile = slow(3);
    site.origin.commit("slow one", &[("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox())]);
    let serve = site.serve();
    site.wait_for("building", |run| step(run, 0) == "building");
    // While one works on a pipeline, another server is refused.
    let (good, _, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!good && stderr.contains("another `fleetwright serve` works for project `shop`"), "{stderr}");
    serve.kill();
    let (good, _, stderr) = site.run(&["pipeline", "list"]);
    assert!(
        !good && stderr.contains("does not answer") && stderr.contains("`fleetwright serve`"),
        "{stderr}"
    );

    let serve = site.serve();
    let run = site.wait_for("succeeded", |run| run["state"] == "succeeded");
    assert_eq!(run["id"], 1);
    assert_eq!(site.runs().len(), 1, "the commit is run once");
    assert_eq!(site.cluster.deployments().len(), 1);

    // The page shows it, to this machine only.
    for path in ["", "runs/1", "v1/runs", "v1/runs/1/log", "v1/snapshot", "nothing"] {
        let url = format!("{}{path}", serve.page);
        let closed = reqwest::Client::new().get(&url).send().await.expect("an answer");
        assert_eq!(closed.status(), 401, "{path} is open");
        let wrong = reqwest::Client::new().get(&url).bearer_auth("guessed").send().await.expect("an answer");
        assert_eq!(wrong.status(), 401, "{path} is open");
    }
    let client = site.client();
    let home = client.get(&serve.page).send().await.expect("an answer");
    assert!(home.headers()["content-security-policy"].to_str().expect("text").contains("default-src 'none'"));
    let home = home.text().await.expect("text");
    assert!(home.contains("slow one") && home.contains("2/2 healthy"), "{home}");
    let page = client.get(format!("{}runs/1", serve.page)).send().await.expect("an answer");
    assert!(page.text().await.expect("text").contains("built and pushed"));
    let rebound = client.get(&serve.page).header("host", "evil.example").send().await.expect("an answer");
    assert_eq!(rebound.status(), 421);
    let missing = client.get(format!("{}v1/runs/99", serve.page)).send().await.expect("an answer");
    assert_eq!(missing.status(), 404);

    // The log is replayed from the journal, whole or from where a reader left off.
    let url = format!("{}v1/runs/1/log", serve.page);
    let log = client.get(&url).send().await.expect("an answer").text().await.expect("text");
    assert!(log.starts_with("id: 1\n") && log.ends_with("event: end\ndata: {}\n\n"), "{log}");
    assert!(log.contains("\"resumed\"") && !log.contains(PASSWORD));
    let last = log.matches("\nid: ").count() + 1;
    let rest =
        client.get(&url).header("last-event-id", (last - 1).to_string()).send().await.expect("an answer");
    let rest = rest.text().await.expect("text");
    assert!(rest.starts_with(&format!("id: {last}\n")), "{rest}");

    // Ctrl-C in the middle of a build leaves it for the next.
    let dockerfile = slow(4);
    site.origin.commit("slower", &[("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox())]);
    site.wait_for("building", |run| step(run, 0) == "building");
    let asked = Instant::now();
    let (good, said) = serve.interrupt();
    assert!(asked.elapsed() < Duration::from_secs(3), "it does not wait for the build");
    assert!(good, "{said:?}");
    assert!(said.iter().any(|line| line == "run 2 of `web` is left at build demo/web"), "{said:?}");
    let _serve = site.serve();
    site.wait_for("succeeded", |run| run["state"] == "succeeded" && run["id"] == 2);
    assert_eq!(site.cluster.deployments().len(), 2);
    assert_no_secret(site.folder.path());
    assert_private(&site.folder.path().join("home"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_shows_what_happens_and_ends_with_its_status() {
    let site = Site::new();
    let (good, _, stderr) = site.run(&["pipeline", "run", "web"]);
    assert!(!good && stderr.contains("no pipeline server runs on this machine"), "{stderr}");
    let serve = site.serve_quietly();
    site.origin.commit("first", &[("Dockerfile", b"FROM scratch\nCOPY . /srv\n"), ("a", b"1")]);
    let (good, stdout, stderr) = site.run(&["pipeline", "run", "web"]);
    assert!(good, "{stderr}");
    assert_eq!(stdout, "");
    assert!(stderr.contains("web #1  queued by hand: ") && stderr.contains("\"first\""), "{stderr}");
    assert!(stderr.contains("[1/1] COPY . /srv") && stderr.contains("revision 1: 2/2 healthy"), "{stderr}");

    let (good, stdout, _) = site.run(&["pipeline", "run", "web", "-o", "json"]);
    assert!(good);
    let events: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect();
    let whats: Vec<_> =
        events.iter().filter_map(|event| event["kind"]["pipeline"]["what"].as_str()).collect();
    assert!(whats.contains(&"nothing-to-build") && whats.last() == Some(&"finished"), "{whats:?}");

    site.origin.commit("broken", &[("Dockerfile", b"FROM scratch\nRUN [\"/nothing\"]\n")]);
    let (good, _, stderr) = site.run(&["pipeline", "run", "web"]);
    assert!(!good && stderr.contains("✗ failed: Dockerfile:2: `RUN [\"/nothing\"]`: "), "{stderr}");
    let (good, _, stderr) = site.run(&["pipeline", "run", "wep"]);
    assert!(!good && stderr.contains("did you mean `web`?"), "{stderr}");
    let (good, _, stderr) = site.run(&["pipeline", "run", "web", "--commit", "v9"]);
    assert!(!good && stderr.contains("there is no") && stderr.contains("`v9`"), "{stderr}");
    let (good, _, said) = site.run(&["pipeline", "list", "--state", "failed", "-o", "json"]);
    assert!(good, "{said}");
    serve.interrupt();
    let (good, _, stderr) = site.run(&["pipeline", "list"]);
    assert!(!good && stderr.contains("no pipeline server runs on this machine"), "{stderr}");
    let (good, _, stderr) = site.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(!good && stderr.contains("FLEETWRIGHT_SERVE_TOKEN is not set"), "{stderr}");
    assert_eq!(site.cluster.deployments().len(), 1);
    assert_no_secret(site.folder.path());
}

/// A Dockerfile whose step takes so long that its container can be found by `mark` meanwhile.
fn endless(mark: &str) -> String {
    let run = format!("[\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox sleep 100000000; : {mark}\"]");
    format!("FROM scratch\nCOPY busybox /bin/busybox\nRUN {run}\n")
}

/// The processes of build steps with `mark` in their command; BuildKit's steps are no containers
/// of Docker.
fn steps_with(mark: &str) -> usize {
    let output = Command::new("ps").args(["-eo", "args"]).output().expect("ps can be run");
    let told = String::from_utf8_lossy(&output.stdout);
    told.lines().filter(|line| line.starts_with("/bin/busybox") && line.contains(mark)).count()
}

const GOOD: &[u8] = b"FROM scratch\nCOPY . /srv\n";

/// At e1e3c77 all paths of the tree were collected, and every restart began with that again.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_ten_billion_files_fails_its_run_and_the_server_goes_on() {
    let site = Site::new();
    site.origin.bomb(10, 10, &[("Dockerfile", GOOD)]);
    let serve = site.serve();
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.contains("more than 200000 files and folders"), "{reason}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.process.id())).expect("it lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak memory");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kilobytes < 500_000, "it took {kilobytes} kB");
    site.origin.commit("good", &[("Dockerfile", GOOD)]);
    site.wait_for("succeeded", |run| run["state"] == "succeeded");
}

/// At e1e3c77 such a step held up its pipeline for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_never_ends_is_ended_at_its_timeout() {
    let site = Site::new();
    let pipeline = "web:\n  repository: web\n  steps:\n    - build: {image: demo/web, timeout: 8s}\n    - rollout: {service: web}\n";
    std::fs::write(site.folder.path().join("pipelines/web.yaml"), pipeline).expect("written");
    let mark = format!("endless-{}", site.registry.port);
    site.origin.commit("endless", &[("Dockerfile", endless(&mark).as_bytes()), ("busybox*", &busybox())]);
    let _serve = site.serve();
    let limit = Instant::now() + Duration::from_secs(60);
    while steps_with(&mark) == 0 {
        assert!(Instant::now() < limit, "the step never began");
        std::thread::sleep(Duration::from_millis(50));
    }
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.contains("did not end within its timeout of 8 s"), "{reason}");
    while steps_with(&mark) > 0 {
        assert!(Instant::now() < limit, "the step's container runs on");
        std::thread::sleep(Duration::from_millis(50));
    }
    site.origin.commit("good", &[("Dockerfile", GOOD)]);
    site.wait_for("succeeded", |run| run["state"] == "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_the_server_twice_is_quarantined_and_others_go_on() {
    let site = Site::new();
    let dockerfile = slow(20);
    site.origin.commit("poison", &[("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox())]);
    for _ in 0..2 {
        let serve = site.serve();
        site.wait_for("building", |run| step(run, 0) == "building");
        // What it has written comes before what it begins; a second server must have begun, too.
        let began = Instant::now() + Duration::from_secs(30);
        while !serve.said.recv_timeout(Duration::from_secs(30)).expect("it says more").contains("[2/2] RUN") {
            assert!(Instant::now() < began);
        }
        serve.kill();
    }
    let serve = site.serve();
    let run = site.wait_for("quarantined", |run| run["state"] == "quarantined");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("`fleetwright pipeline retry 1`") && reason.contains("build demo/web"),
        "{reason}"
    );
    let page = site.client().get(format!("{}runs/1", serve.page)).send().await.expect("an answer");
    let page = page.text().await.expect("text");
    assert!(page.contains("quarantined") && page.contains("pipeline retry 1"), "{page}");
    let (_, listed, _) = site.run(&["pipeline", "list"]);
    assert!(listed.contains("quarantined"), "{listed}");

    site.origin.commit("good", &[("Dockerfile", GOOD)]);
    site.wait_for("succeeded", |run| run["state"] == "succeeded" && run["id"] == 2);
    let (good, _, stderr) = site.run(&["pipeline", "retry", "2"]);
    assert!(good, "{stderr}");
    assert_eq!(site.runs()[0]["id"], 3, "one that has ended is a new run");
    let (good, _, stderr) = site.run(&["pipeline", "retry", "1"]);
    assert!(good, "{stderr}");
    let states: Vec<_> = site.runs().iter().map(|run| run["state"].clone()).collect();
    assert_eq!(states, ["succeeded", "succeeded", "succeeded"]);
}

/// What a process printed on stderr, and whether it ended well.
fn ended(process: Child) -> (bool, String) {
    let output = process.wait_with_output().expect("it ends");
    (output.status.success(), String::from_utf8(output.stderr).expect("it prints UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_follows_its_run_through_a_restart_and_ctrl_c_cancels_the_run() {
    let site = Site::new();
    let serve = site.serve_quietly();
    let dockerfile = slow(5);
    site.origin.commit("slow", &[("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox())]);
    let followed = site.start(&["pipeline", "run", "web"]);
    site.wait_for("building", |run| step(run, 0) == "building");
    serve.kill();
    let serve = site.serve();
    let (good, said) = ended(followed);
    assert!(good, "{said}");
    assert_eq!(said.matches("#1  queued by hand").count(), 1, "each line is printed once: {said}");
    assert!(said.contains("went away; waiting for it (run 1 is not lost)"), "{said}");
    assert!(said.contains("answers again") && said.contains("✓ succeeded"), "{said}");

    let mark = format!("endless-{}", site.registry.port);
    site.origin.commit("endless", &[("Dockerfile", endless(&mark).as_bytes()), ("busybox*", &busybox())]);
    let followed = site.start(&["pipeline", "run", "web"]);
    site.wait_for("building", |run| run["id"] == 2 && step(run, 0) == "building");
    Command::new("kill").args(["-INT", &followed.id().to_string()]).status().expect("kill can be run");
    let (good, said) = ended(followed);
    assert!(!good && said.contains("cancelled by hand: stopped at the terminal"), "{said}");
    assert_eq!(site.runs()[0]["state"], "cancelled");
    let (good, _, stderr) = site.run(&["pipeline", "cancel", "2"]);
    assert!(!good && stderr.contains("run 2 has ended: it is cancelled"), "{stderr}");
    let limit = Instant::now() + Duration::from_secs(60);
    while steps_with(&mark) > 0 {
        assert!(Instant::now() < limit, "the step's container runs on");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(serve);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_refuses_what_it_does_not_know() {
    let site = Site::new();
    let serve = site.serve_quietly();
    let client = site.client();
    let post = async |path: &str, body: &str| {
        let request = client.post(format!("{}v1/{path}", serve.page)).body(body.to_owned());
        let request = request.header("content-type", "application/json");
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.expect("JSON")["error"].clone())
    };
    for (path, body, status, word) in [
        ("pipelines/web/runs", r#"{"commit": "a b"}"#, 422, "`commit` must be"),
        ("pipelines/web/runs", r#"{"ref": "main"}"#, 422, "unknown field `ref`"),
        (
            "pipelines/web/runs",
            r#"{"parameters": {"level": "full"}}"#,
            422,
            "there is no parameter `level`; the pipeline has none",
        ),
        ("pipelines/web/runs", "{", 400, "can't be accepted"),
        ("pipelines/web/runs", "", 404, "there is no"),
        ("pipelines/wep/runs", "{}", 404, "there is no pipeline `wep`"),
        ("runs/1/cancel", r#"{"reason": "a\nb"}"#, 422, "`reason` must be one line"),
        ("runs/1/cancel", r#"{"force": true}"#, 422, "unknown field `force`"),
        ("runs/1/retry", "{}", 404, "there is no run 1"),
        ("runs/x/retry", "{}", 404, "there is no such path"),
        ("pipelines", "{}", 405, "no such method"),
    ] {
        let (got, error) = post(path, body).await;
        let message = error["message"].as_str().expect("a message");
        assert!(got == status && message.contains(word), "{path} {body}: {got} {message}");
    }
    let large = format!(r#"{{"commit": "{}"}}"#, "x".repeat(100_000));
    assert_eq!(post("pipelines/web/runs", &large).await.0, 413);
    let get = async |path: &str| {
        let response = client.get(format!("{}v1/{path}", serve.page)).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    for path in [
        "runs?limit=0",
        "runs?limit=-1",
        "runs?limit=1001",
        "runs?state=odd",
        "runs?pipeline=A%20B",
        "runs?x=1",
        "runs?before=0",
    ] {
        assert_eq!(get(path).await.0, 400, "{path}");
    }
    let (status, pipelines) = get("pipelines").await;
    assert_eq!(status, 200);
    assert_eq!(pipelines["pipelines"][0]["steps"], serde_json::json!(["build demo/web", "rollout web"]));
    assert_eq!(pipelines["pipelines"][0]["branch"], "main");
    assert_eq!(get("runs?pipeline=web&state=failed&limit=5").await.1["runs"], serde_json::json!([]));
}

/// Lists every file and folder that was left behind: they are their owner's alone.
fn assert_private(path: &Path) {
    let metadata = std::fs::symlink_metadata(path).expect("it is there");
    let mode = metadata.permissions().mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            assert_private(&entry.expect("an entry").path());
        }
    }
}

/// Looks into every file that was left behind.
pub fn assert_no_secret(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_no_secret(&path);
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            let found = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
            assert!(!found, "{} holds the registry's password", path.display());
        }
    }
}
