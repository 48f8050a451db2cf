//! `pipeline retry --from`: what a failed run has done is taken over, its workspace included.

use fleetwright::model::run::RunId;
use fleetwright::port::step_containers::StepContainers as _;
use serde_json::Value;

use crate::pipeline_serve::Site;
use crate::pipeline_steps::{commit, lines, site};

const STEPS: &str = r#"    - run:
        name: prepare
        image: demo/web
        artifacts: [out]
        command: "echo prepared $FLEETWRIGHT_RUN > out; ln -s out link; chown 7:7 out; chmod 640 out; chmod 755 ."
    - run:
        name: test
        image: demo/web
        secrets: {TOKEN: /team/step-token}
        command: "cat out link; stat -c '%u %g %a' out; stat -c %a .; cat greeting; exit 3"
    - run: {name: after, image: demo/web, command: "echo after $FLEETWRIGHT_RUN"}
"#;

fn names(run: &Value, state: &str) -> Vec<String> {
    let steps = run["steps"].as_array().expect("a list").iter();
    let steps = steps.filter(|step| step["state"]["is"] == state);
    steps.map(|step| step["name"].as_str().expect("a name").to_owned()).collect()
}

fn edit(site: &Site, from: &str, to: &str) {
    let path = site.folder.path().join("pipelines/web.yaml");
    let text = std::fs::read_to_string(&path).expect("the pipeline");
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_from_a_step_takes_over_what_is_done_and_the_workspace() {
    let site = site(STEPS);
    commit(&site, "one", &[("greeting", b"hello\n")]);
    let serve = site.serve();
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    assert_eq!(names(&run, "skipped"), ["run after", "rollout web"]);
    assert!(site.steps().has_workspace(RunId(1)).await.expect("the engine"), "it is kept");

    // What makes no sense is refused with what to do.
    let refused = |arguments: &[&str], said: &str| {
        let (good, _, stderr) = site.run(arguments);
        assert!(!good && stderr.contains(said), "{arguments:?}: {stderr}");
    };
    refused(&["pipeline", "retry", "1", "--from", "tset"], "did you mean `test`?");
    refused(&["pipeline", "retry", "9", "--from", "test"], "there is no run 9");
    edit(&site, "name: after,", "name: later,");
    refused(&["pipeline", "retry", "1", "--from", "test"], "`run after` is not there any more");
    refused(&["pipeline", "retry", "1", "--from", "test"], "`fleetwright pipeline retry 1` runs every step");
    edit(&site, "name: later,", "name: after,");
    edit(&site, "> out; ln", "> out ; ln");
    refused(&["pipeline", "retry", "1", "--from", "test"], "`run prepare`, which would not be run again");
    edit(&site, "> out ; ln", "> out; ln");

    // The step that failed is corrected, and runs again with the rest.
    edit(&site, "; exit 3", "");
    let (good, _, stderr) = site.run(&["pipeline", "retry", "1", "--from", "test"]);
    assert!(good, "{stderr}");
    for step in ["source", "build demo/web", "run prepare"] {
        assert!(stderr.contains(&format!("{step}   ✓ taken over from run 1")), "{step}: {stderr}");
    }
    let printed = lines(&site, &serve.page, 2).await;
    assert_eq!(printed, ["prepared 1", "prepared 1", "7 7 640", "755", "hello", "after 2"]);
    let run = &site.runs()[0];
    assert_eq!((&run["id"], &run["state"]), (&2.into(), &"succeeded".into()));
    assert_eq!(run["config"]["taken"]["run"], 1);
    assert_eq!(site.cluster.deployments().len(), 1);
    // Files that were kept belong to the new run, too.
    let (good, _, stderr) = site.run(&["pipeline", "files", "2", "--into", "fetched"]);
    assert!(good, "{stderr}");
    let fetched = site.folder.path().join("fetched/run-prepare/out");
    assert_eq!(std::fs::read_to_string(fetched).expect("it is there"), "prepared 1\n");

    // Of a run that succeeded no workspace is kept; what needs none is possible.
    assert!(!site.steps().has_workspace(RunId(2)).await.expect("the engine"));
    refused(
        &["pipeline", "retry", "2", "--from", "after"],
        "the workspace of run 2, which `run after` needs, is gone",
    );
    refused(&["pipeline", "retry", "2", "--from", "after"], "only that of a failed run is kept");
    let (good, _, stderr) = site.run(&["pipeline", "retry", "2", "--from", "rollout web"]);
    assert!(good, "{stderr}");
    assert_eq!(site.runs()[0]["state"], "succeeded");
    assert_eq!(lines(&site, &serve.page, 3).await, Vec::<String>::new());
    // All commands again: no workspace is needed either.
    let (good, _, stderr) = site.run(&["pipeline", "retry", "2", "--from", "prepare"]);
    assert!(good, "{stderr}");
    assert_eq!(lines(&site, &serve.page, 4).await[0], "prepared 4");

    // One that was removed meanwhile.
    site.steps().clear(RunId(1)).await.expect("cleared");
    refused(&["pipeline", "retry", "1", "--from", "test"], "is gone from this engine");

    // The page has a button by each step of a run that has ended.
    let page = site.client().get(format!("{}runs/1", serve.page)).send().await.expect("an answer");
    let page = page.text().await.expect("text");
    assert!(!page.contains("Retry from here"), "a token is no session");
}

/// The server is killed while the workspace is copied, and wherever else.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_from_a_step_survives_the_server() {
    let site = site(STEPS);
    let large = vec![b'x'; 48 << 20];
    commit(&site, "one", &[("greeting", b"hello\n"), ("large", &large)]);
    let serve = site.serve();
    site.wait_for("failed", |run| run["state"] == "failed");
    edit(&site, "; exit 3", "; wc -c < large");
    let client = site.client();
    let asked =
        client.post(format!("{}v1/runs/1/retry", serve.page)).json(&serde_json::json!({"from": "run test"}));
    assert_eq!(asked.send().await.expect("an answer").status(), 201);
    site.wait_for("begun", |run| run["id"] == 2 && run["state"] != "queued");
    serve.kill();
    let serve = site.serve();
    let run = site.wait_for("ended", |run| run["id"] == 2 && run["ended"] != Value::Null);
    let printed = lines(&site, &serve.page, 2).await;
    assert_eq!(run["state"], "succeeded", "{run:#?} {printed:#?}");
    assert!(printed.contains(&large.len().to_string()), "{printed:?}");
}
