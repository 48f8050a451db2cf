//! Steps that work on the cluster, on a real fleet: a job with the image that the run has built, and the services of an
//! infra repository. The server is killed in each of them.

use std::time::Duration;

use serde_json::Value;

use crate::faults::unique;
use crate::support::lab::{Lab, Running, edit, poll};

const DOCKERFILE: &str = "FROM demo/base:1\nCOPY www /www\n";

/// The job prints what was built, and takes long enough for a server to be killed meanwhile.
const JOB: &str = "\
migrate:
  image: demo/web
  command: [/bin/sh, -c, 'echo begins; cat /www/index.html; for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done; test ! -e /www/broken']
";

const WEB: &str = "\
web:
  repository: web
  steps:
    - build: {image: demo/web}
    - job: migrate
    - rollout: {service: web}
";

const INFRA: &str = "\
infra:
  repository: infra
  steps:
    - plan: {services: true}
    - approve: Deploy this?
    - deploy: all
";

struct Site<'l> {
    lab: &'l Lab,
}

impl Site<'_> {
    fn serve(&self) -> Running {
        self.lab.spawn(&["serve", "--listen", "127.0.0.1:0"], &self.lab.infra.path().join("serve.log"))
    }

    /// The run of a pipeline for a commit, once it is as wanted.
    fn wait(&self, pipeline: &str, commit: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(Duration::from_secs(180), || {
            let output = self.lab.run(&["pipeline", "list", "-o", "json"]);
            let list: Value = serde_json::from_slice(&output.stdout).ok()?;
            let of = |run: &&Value| run["pipeline"] == pipeline && run["commit"] == commit;
            let run = list["runs"].as_array()?.iter().find(of)?["id"].as_u64()?.to_string();
            let output = self.lab.run(&["pipeline", "show", &run, "-o", "json"]);
            let shown: Value = serde_json::from_slice(&output.stdout).ok()?;
            last = shown["run"].clone();
            wanted(&last).then(|| last.clone())
        });
        let log = || std::fs::read_to_string(self.lab.infra.path().join("serve.log")).unwrap_or_default();
        found.unwrap_or_else(|| panic!("no run of {pipeline} is {what}: {last:#}\n{}", log()))
    }

    fn log(&self, run: &Value, step: &str) -> String {
        self.lab.ok(&["pipeline", "logs", &run["id"].to_string(), step])
    }
}

fn is(run: &Value, step: usize, state: &str) -> bool {
    run["steps"][step]["state"]["is"] == state
}

fn commit_web(lab: &Lab, text: &str, more: &[(&str, &str)]) -> String {
    let index = format!("{text}\n");
    let files = [("Dockerfile", DOCKERFILE), ("www/index.html", index.as_str()), ("www/health", "ok\n")];
    lab.commit(text, &[&files[..], more].concat())
}

/// Commits the infra repository as it is.
fn commit_infra(lab: &Lab, subject: &str) -> String {
    fleetwright::cli::demo::application::commit_all(lab.infra.path(), subject).expect("a commit")
}

#[test]
fn jobs_and_deployments_of_pipelines_happen_once_whatever_becomes_of_the_server() {
    let lab = Lab::up();
    let infra = lab.infra.path();
    let file = |path: &str, text: &str| {
        let path = infra.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    file("jobs/migrate.yaml", JOB);
    file("pipelines/web.yaml", WEB);
    let lab = &lab;
    let site = Site { lab };

    // Occurrences of earlier tests in this cloud are among them.
    let occurrences = || {
        let output = lab.run(&["job", "history", "migrate", "-o", "json"]);
        let document: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        document.and_then(|document| Some(document["occurrences"].as_array()?.len())).unwrap_or(0)
    };
    let earlier = occurrences();

    // The job runs with the image that the run has built, before the rollout.
    let text = unique("migrated");
    let commit = commit_web(lab, &text, &[]);
    let server = site.serve();
    let run = site.wait("web", &commit, "working on its job", |run| is(run, 1, "working"));
    poll(Duration::from_secs(90), || site.log(&run, "migrate").contains("line 1").then_some(()))
        .expect("it prints");
    drop(server);
    let server = site.serve();
    let run = site.wait("web", &commit, "ended", |run| run["state"] != "running");
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let expected: String = (1..=6).map(|line| format!("line {line}\n")).collect();
    assert_eq!(site.log(&run, "migrate"), format!("begins\n{text}\n{expected}"));
    assert_eq!(occurrences() - earlier, 1);

    // A job that fails ends the run before the rollout.
    let broken = commit_web(lab, &unique("broken"), &[("www/broken", "")]);
    let run = site.wait("web", &broken, "ended", |run| run["state"] == "failed");
    assert!(is(&run, 2, "skipped") || is(&run, 2, "waiting"), "{run:#}");
    let shown = lab.ok(&["pipeline", "show", &run["id"].to_string()]);
    assert!(shown.contains("the job failed: it exited with status 1"), "{shown}");
    assert_eq!(occurrences() - earlier, 2);
    drop(server);

    // The infra repository deploys what its commit says: planned, asked, and done once.
    file(".gitignore", "application\n*.log\n");
    edit(
        &infra.join("fleetwright.yaml"),
        "repositories:\n",
        &format!("repositories:\n  infra: {{url: \"{}\", poll: 1s}}\n", infra.display()),
    );
    file("pipelines/infra.yaml", INFRA);
    git2::Repository::init_opts(infra, git2::RepositoryInitOptions::new().initial_head("main"))
        .expect("a repository");
    edit(&infra.join("services/web.yaml"), "  replicas: 2\n", "  replicas: 2\n  env: {GREETING: hello}\n");
    let commit = commit_infra(lab, "greet");
    let server = site.serve();
    let run = site.wait("infra", &commit, "asking", |run| is(run, 1, "asking"));
    let plan = site.log(&run, "plan");
    assert!(plan.contains("GREETING"), "{plan}");
    lab.ok(&["pipeline", "approve", &run["id"].to_string(), "--yes"]);
    site.wait("infra", &commit, "deploying", |run| is(run, 2, "working"));
    poll(Duration::from_secs(60), || site.log(&run, "deploy").contains("web").then_some(()))
        .expect("it began");
    drop(server);
    let _server = site.serve();
    let run = site.wait("infra", &commit, "ended", |run| run["state"] != "running");
    assert_eq!(run["state"], "succeeded", "{run:#}\n{}", site.log(&run, "deploy"));
    assert_eq!(lab.ok(&["exec", "web", "--", "sh", "-c", "echo $GREETING"]), "hello\n");
    let revisions = || {
        let text = lab.ok(&["status", "web", "-o", "json"]);
        let document: Value = serde_json::from_str(&text).expect("JSON");
        document["services"][0]["history"].as_array().expect("a list").len()
    };
    let before = revisions();

    // What runs as the files say is not asked about, and nothing is rolled out.
    file("README.md", "nothing that runs\n");
    let commit = commit_infra(lab, "documented");
    let run =
        site.wait("infra", &commit, "ended", |run| run["state"] != "running" && run["state"] != "queued");
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(revisions(), before);
    assert_eq!(occurrences() - earlier, 2, "`deploy` runs no job");
    lab.ok(&["job", "rm", "migrate"]);
}
