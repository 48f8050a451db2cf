//! An infra repository as a pipeline: planned, approved, applied, shown in pull requests. git, CloudFormation and the
//! server are real, the forge is played.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::stacks::{Stacks, has};
use crate::support::git::Origin;
use crate::support::lab::poll;

const TEMPLATE: &str = "templates/cloudformation/network.yaml";
const PIPELINES: &str = "\
infra:
  repository: infra
  on: {branches: [main], pull_requests: true}
  steps:
    - plan: all
    - approve: Apply this?
    - apply: plan
    - drift: {stacks: [network], when: {branches: [nightly]}}
nightly:
  repository: infra
  on: {branches: [nightly]}
  steps:
    - drift: all
";

/// The comments that a forge has, by their ids.
type Comments = Arc<Mutex<BTreeMap<u64, (String, String)>>>;

/// A forge that keeps comments. Everything else is taken, and forgotten.
async fn forge(State(comments): State<Comments>, method: Method, uri: Uri, body: String) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = body["body"].as_str().unwrap_or_default().to_owned();
    let mut comments = comments.lock().expect("no panic");
    if let Some(id) = path.strip_prefix("/api/v1/repos/team/infra/issues/comments/") {
        let id: u64 = id.parse().expect("an id");
        assert_eq!(method, Method::PATCH);
        comments.get_mut(&id).expect("it is there").1 = text;
        return StatusCode::OK.into_response();
    }
    if !path.ends_with("/comments") {
        return StatusCode::CREATED.into_response();
    }
    if method == Method::GET {
        let of = comments.iter().filter(|(_, (at, _))| *at == path);
        let found = of.map(|(id, (_, body))| json!({ "id": id, "body": body }));
        return Json(found.collect::<Vec<_>>()).into_response();
    }
    let id = comments.len() as u64 + 1;
    comments.insert(id, (path, text));
    StatusCode::CREATED.into_response()
}

/// A server, killed when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Site {
    stacks: Stacks,
    origin: Origin,
    home: tempfile::TempDir,
}

impl Site {
    fn serve(&self) -> Server {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.stacks.path("serve.log"));
        let log = log.expect("a log");
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.stdout(Stdio::null()).stderr(log);
        Server(command.spawn().expect("it starts"))
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.stacks.command(arguments);
        command.env("INFRA", self.origin.url());
        // Journals of earlier tests are none of its.
        command.env("FLEETWRIGHT_HOME", self.home.path());
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let log = || std::fs::read_to_string(self.stacks.path("serve.log")).unwrap_or_default();
        assert!(output.status.success(), "`{}` printed:\n{text}\n{}", arguments.join(" "), log());
        text
    }

    /// Commits the files as they are now.
    fn push(&self, message: &str) -> String {
        let mut entries = Vec::new();
        files(self.stacks.path("").as_path(), Path::new(""), &mut entries);
        self.origin.commit_modes(message, &entries)
    }

    /// Waits until a run is as wanted.
    fn wait(&self, run: u64, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let number = run.to_string();
        let mut last = String::new();
        let found = poll(Duration::from_secs(120), || {
            let shown = self.command(&["pipeline", "show", &number, "-o", "json"]).output().expect("it runs");
            last = String::from_utf8_lossy(&shown.stdout).into_owned();
            let document: Option<Value> = serde_json::from_str(&last).ok();
            document
                .map(|document| document["run"].clone())
                .filter(|run| run["steps"].is_array())
                .filter(&wanted)
        });
        let log = || std::fs::read_to_string(self.stacks.path("serve.log")).unwrap_or_default();
        found.unwrap_or_else(|| panic!("run {run} is never {what}: {last}\n{}", log()))
    }
}

fn files(root: &Path, at: &Path, entries: &mut Vec<(Vec<u8>, u32, Vec<u8>)>) {
    for entry in std::fs::read_dir(root.join(at)).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = at.join(entry.file_name());
        if entry.path().is_dir() {
            files(root, &path, entries);
        } else if path.extension().is_none_or(|extension| extension != "log") {
            let content = std::fs::read(entry.path()).expect("read");
            entries.push((path.to_str().expect("UTF-8").as_bytes().to_vec(), 0o100_644, content));
        }
    }
}

fn states(run: &Value) -> Vec<&str> {
    let steps = run["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["state"]["is"].as_str().unwrap_or_default()).collect()
}

fn is_ended(state: &'static str) -> impl Fn(&Value) -> bool {
    move |run| run["state"] == state
}

fn asks(run: &Value) -> bool {
    states(run).contains(&"asking")
}

#[test]
fn a_change_is_planned_approved_and_applied_and_shown_in_pull_requests() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let comments = Comments::default();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(forge).with_state(Arc::clone(&comments));
    runtime.spawn(async move { axum::serve(listener, router).await });

    let stacks = Stacks::up("gitops", "10.74.");
    stacks.edit("stacks/cluster.yaml", "machines: 1", "machines: 0");
    stacks.ends(&["destroy", "-y"], 0);
    stacks.parameter("/gitops/forge", "a-token-of-the-forge-0123456789");
    stacks.edit(
        "fleetwright.yaml",
        "    poll: 2s\n",
        "    poll: 2s\n  infra:\n    url: ${env.INFRA}\n    poll: 1s\n    status: {forge: gitea, server: \"SERVER\", \
         project: team/infra, token: /gitops/forge}\n",
    );
    stacks.edit("fleetwright.yaml", "SERVER", &address);
    std::fs::remove_file(stacks.path("pipelines/web.yaml")).expect("removed");
    std::fs::write(stacks.path("pipelines/infra.yaml"), PIPELINES).expect("written");
    let home = tempfile::tempdir().expect("a folder");
    let site = Site { stacks, origin: Origin::new(), home };
    site.ok(&["validate"]);
    let first = site.push("first");
    let server = site.serve();

    // People see the plan, and are asked.
    let run = site.wait(1, "asking", asks);
    assert!(states(&run).starts_with(&["succeeded", "asking"]), "{run}");
    let log = site.ok(&["pipeline", "logs", "1", "plan"]);
    has(&log, &["Plan: 3 stacks to create", "network"]);
    has(&site.ok(&["pipeline", "show", "1"]), &["3 stacks to create", "Apply this?"]);

    // The server is killed while the first stack is created; what was begun continues, and the next one finishes it.
    site.ok(&["pipeline", "approve", "1", "--yes"]);
    site.wait(1, "applying", |run| states(run).contains(&"working"));
    poll(Duration::from_secs(30), || {
        site.ok(&["pipeline", "logs", "1", "apply"]).contains("network").then_some(())
    })
    .expect("it has begun");
    drop(server);
    let server = site.serve();
    let run = site.wait(1, "applied", is_ended("succeeded"));
    assert_eq!(states(&run), ["succeeded", "succeeded", "succeeded", "skipped"], "{run}");
    has(&site.stacks.ends(&["plan"], 0), &["no change"]);

    // A pull request of a branch is planned, and shows its plan; the next push changes what it shows.
    for label in ["another text", "one more text"] {
        let before = std::fs::read_to_string(site.stacks.path(TEMPLATE)).expect("the template");
        site.stacks.edit(TEMPLATE, "Everything within the network", label);
        let commit = site.push(label);
        // The branch `main` is where it was.
        site.origin.point("refs/heads/feature", &commit);
        site.origin.point("refs/heads/main", &first);
        site.origin.point("refs/pull/1/head", &commit);
        std::fs::write(site.stacks.path(TEMPLATE), before).expect("written");
        let id = if label.starts_with("another") { 2 } else { 3 };
        let run = site.wait(id, "planned", is_ended("succeeded"));
        assert_eq!(states(&run), ["succeeded", "skipped", "skipped", "skipped"], "{run}");
        assert_eq!(run["trigger"], "own-pull-request");
    }
    let shown = comments.lock().expect("no panic").clone();
    assert_eq!(shown.len(), 1, "{shown:?}");
    let (path, text) = &shown[&1];
    assert_eq!(path, "/api/v1/repos/team/infra/issues/1/comments");
    has(
        text,
        &[
            "<!-- fleetwright infra/plan/local -->",
            "`plan` of `infra` for local",
            "network",
            "1 stack to update",
        ],
    );

    // One of a stranger is not.
    let text = std::fs::read_to_string(site.stacks.path(TEMPLATE)).expect("the template");
    std::fs::write(site.stacks.path(TEMPLATE), format!("{text}# of a stranger\n")).expect("written");
    let commit = site.push("of a stranger");
    site.origin.point("refs/heads/main", &first);
    site.origin.point("refs/pull/2/head", &commit);
    std::fs::write(site.stacks.path(TEMPLATE), text).expect("written");
    let run = site.wait(4, "ended", is_ended("succeeded"));
    assert_eq!(states(&run), ["skipped"; 4], "{run}");
    has(&site.ok(&["pipeline", "show", "4"]), &["a pull request whose commit is the head of no branch here"]);

    // What changes nothing needs nobody.
    std::fs::write(site.stacks.path("notes.txt"), "Nothing that is deployed.\n").expect("written");
    site.push("notes");
    site.wait(5, "done", is_ended("succeeded"));
    has(&site.ok(&["pipeline", "show", "5"]), &["nothing to approve", "nothing to change"]);

    // What has moved since people saw the plan is not applied.
    site.stacks.edit(TEMPLATE, "Everything within the network", "A third text");
    site.push("third");
    site.wait(6, "asking", asks);
    site.stacks.edit(TEMPLATE, "A third text", "By somebody else");
    site.stacks.ends(&["apply", "-y"], 0);
    site.ok(&["pipeline", "approve", "6", "--yes"]);
    let run = site.wait(6, "refused", is_ended("failed"));
    has(run["reason"].as_str().expect("a reason"), &["does not hold any more"]);
    has(&site.stacks.ends(&["plan"], 0), &["no change"]);

    // The plans of runs that have ended are gone, and no token is where it does not belong.
    drop(server);
    site.stacks.ends(&["destroy", "-y"], 0);
}
