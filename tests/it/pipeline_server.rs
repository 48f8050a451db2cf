//! The server itself: changes of the infra repository while it runs, a second server, wrong tokens, and runs that make way
//! for newer ones.

use std::time::{Duration, Instant};

use crate::pipeline_serve::{Site, busybox};
use crate::support::fake_aws::{Dialect, FakeAws};

const DOCKERFILE: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /srv\n");

async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(40);
    while !is().await {
        assert!(Instant::now() < limit, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_infra_repository_counts_without_a_restart_and_a_broken_one_is_shown() {
    let site = Site::new();
    let write =
        |path: &str, text: &str| std::fs::write(site.folder.path().join(path), text).expect("written");
    site.origin.commit("first", &[DOCKERFILE, ("a", b"1")]);
    let serve = site.serve();
    site.wait_for("the first run", |run| run["state"] == "succeeded");
    let client = site.client();
    let get = async |path: &str| {
        let answer = client.get(format!("{}{path}", serve.page)).send().await.expect("an answer");
        answer.text().await.expect("text")
    };
    let names = async || -> Vec<String> {
        let all: serde_json::Value = serde_json::from_str(&get("v1/pipelines").await).expect("JSON");
        let all = all["pipelines"].as_array().expect("a list");
        all.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names().await, ["web"]);
    let quiet = "fleetwright_pipeline_trouble{concern=\"configuration\"} 0";
    assert!(get("v1/metrics").await.contains(quiet));

    let api = "api:\n  repository: web\n  on: {}\n  steps:\n    - build: {image: demo/web}\n";
    write("pipelines/api.yaml", api);
    eventually("a new pipeline", async || names().await == ["api", "web"]).await;
    let (good, _, stderr) = site.run(&["pipeline", "run", "api"]);
    assert!(good, "{stderr}");

    // A broken change is shown, and what was valid before goes on.
    write("pipelines/api.yaml", "api:\n  repositori: web\n");
    let loud = "fleetwright_pipeline_trouble{concern=\"configuration\"} 1";
    eventually("a notice", async || get("v1/metrics").await.contains(loud)).await;
    let home = get("").await;
    assert!(home.contains("the infra repository is not valid: pipelines"), "{home}");
    assert!(home.contains("the server works with what was valid before"), "{home}");
    assert_eq!(names().await, ["api", "web"]);
    site.origin.commit("second", &[DOCKERFILE, ("a", b"2")]);
    site.wait_for("the second commit", |run| {
        run["pipeline"] == "web" && run["id"] == 3 && run["state"] == "succeeded"
    });

    // SIGHUP asks for a reading at once.
    write("pipelines/api.yaml", &api.replace("api:", "apis:"));
    serve.signal("HUP");
    eventually("the pipeline's new name", async || names().await == ["apis", "web"]).await;
    eventually("no notice", async || get("v1/metrics").await.contains(quiet)).await;
    assert!(!get("").await.contains("is not valid"));
}

#[test]
fn an_environment_has_one_server_on_whichever_machine() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut site = Site::new();
    let aws = FakeAws::start(Dialect::Details);
    let credentials = site.registry.credentials();
    aws.world().parameters.0.insert("/fleetwright/registry".to_owned(), credentials);
    for (name, value) in aws.environment() {
        site.set(name, value);
    }
    site.origin.commit("first", &[DOCKERFILE, ("a", b"1")]);
    let serve = site.serve();
    site.wait_for("the first run", |run| run["state"] == "succeeded");

    // A server with a journal of its own, as on another machine.
    let elsewhere = site.folder.path().join("elsewhere").display().to_string();
    let there = |site: &Site| {
        let mut command = site.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("FLEETWRIGHT_HOME", &elsewhere);
        command
    };
    let refused = there(&site).output().expect("it can be run");
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{stderr}");
    assert!(stderr.contains(&format!("(process {}) has served `test` for", serve.id())), "{stderr}");
    assert!(stderr.contains("stop that server first"), "{stderr}");

    // A server that is stopped gives the lock back; one that was killed leaves it to the next.
    let (good, said) = serve.interrupt();
    assert!(good, "{said:?}");
    let other = crate::pipeline_serve::Serve::start(there(&site));
    let (good, _, stderr) = site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!good && stderr.contains("has served `test` for"), "{stderr}");
    other.kill();
    let _serve = site.serve();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_refused_for_a_while_and_right_ones_are_not() {
    let site = Site::new();
    let serve = site.serve_quietly();
    let (known, stranger) = (site.client(), reqwest::Client::new());
    let url = format!("{}v1/runs", serve.page);
    assert_eq!(known.get(&url).send().await.expect("an answer").status(), 200);
    let guess = async || stranger.get(&url).bearer_auth("guessed").send().await.expect("an answer");
    for _ in 0..10 {
        assert_eq!(guess().await.status(), 401);
    }
    let refused = guess().await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    let error: serde_json::Value = refused.json().await.expect("JSON");
    assert_eq!(error["error"]["code"], "too-many");
    assert_eq!(known.get(&url).send().await.expect("an answer").status(), 200);
    assert_eq!(stranger.get(&url).send().await.expect("an answer").status(), 401, "nothing was guessed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_under_way_makes_way_for_a_newer_commit_where_its_pipeline_says_so() {
    let site = Site::new();
    let path = site.folder.path().join("pipelines/web.yaml");
    let text = std::fs::read_to_string(&path).expect("the pipeline");
    std::fs::write(&path, text.replace("  steps:", "  supersede: running\n  steps:")).expect("written");
    let slow = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nENV UNIQUE={}\nRUN [\"/bin/busybox\", \"sleep\", \"60\"]\n",
        crate::support::git::unique()
    );
    site.origin.commit("slow", &[("Dockerfile", slow.as_bytes()), ("busybox*", &busybox())]);
    let _serve = site.serve();
    site.wait_for("building", |run| run["steps"][0]["state"]["is"] == "building");
    let begun = Instant::now();
    site.origin.commit("newer", &[DOCKERFILE, ("a", b"2")]);
    site.wait_for("the newer commit", |run| run["id"] == 2 && run["state"] == "succeeded");
    assert!(begun.elapsed() < Duration::from_secs(50), "it did not wait for the slow build");
    let runs = site.runs();
    assert_eq!(
        (&runs[1]["state"], &runs[1]["reason"]),
        (&"superseded".into(), &"superseded by run 2".into())
    );
    let (_, shown, _) = site.run(&["pipeline", "show", "1"]);
    assert!(shown.contains("superseded by run 2"), "{shown}");
    assert_eq!(site.cluster.deployments().len(), 1);
}
