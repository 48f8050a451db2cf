//! Steps that run commands: on a real engine, by `serve` and `pipeline run` as processes that are killed.

use std::time::{Duration, Instant};

use fleetwright::port::step_containers::StepContainers as _;
use serde_json::Value;

use crate::pipeline_serve::{Site, assert_no_secret, busybox};
use crate::support::registry::PASSWORD;

/// An image with a shell.
const DOCKERFILE: &str = "\
FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
";

/// A site whose pipeline builds an image, and then has these steps, with 8 blanks before each line.
fn site(steps: &str) -> Site {
    let site = Site::new();
    let text = format!(
        "web:\n  repository: web\n  steps:\n    - build: {{image: demo/web}}\n{steps}    - rollout: {{service: web}}\n"
    );
    std::fs::write(site.folder.path().join("pipelines/web.yaml"), text).expect("written");
    site
}

fn commit(site: &Site, subject: &str, files: &[(&str, &[u8])]) -> String {
    let unique = format!("{}\n# {}\n", DOCKERFILE, crate::support::git::unique());
    let busybox = busybox();
    let all = [&[("Dockerfile", unique.as_bytes()), ("busybox*", &busybox[..])], files].concat();
    site.origin.commit(subject, &all)
}

/// What the steps of a run have printed, in order.
async fn lines(site: &Site, page: &str, run: i64) -> Vec<String> {
    let url = format!("{page}v1/runs/{run}/log");
    let text = site.client().get(&url).send().await.expect("an answer").text().await.expect("text");
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    events
        .filter(|event| event["event"]["what"] == "log")
        .filter(|event| event["event"]["step"].as_str().is_some_and(|step| step.starts_with("run ")))
        .filter_map(|event| event["event"]["text"].as_str().map(str::to_owned))
        .collect()
}

/// Waits until nothing is left of any run.
async fn nothing_left(site: &Site) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let left = site.steps().left().await.expect("the engine answers");
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < limit, "something is left of {left:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_with_the_files_of_the_commit_and_one_that_fails_ends_the_run() {
    let site = site(
        r#"    - run:
        name: first
        image: demo/web
        env: {GREETING: "good day"}
        secrets: {LOGIN: /fleetwright/registry}
        command: |
          cat greeting/text
          echo "$GREETING from $FLEETWRIGHT_PIPELINE $FLEETWRIGHT_RUN $CI"
          echo "secret: $LOGIN"
          ls -l greeting/run | cut -c1-10
          echo made > made
          grep -c . /etc/resolv.conf > /dev/null
    - run: {name: second, image: demo/web, command: [cat, made]}
    - run: {name: third, image: demo/web, command: "test ! -e broken || exit 3"}
"#,
    );
    let files: [(&str, &[u8]); 2] = [("greeting/text", b"hello\n"), ("greeting/run*", b"#!/bin/sh\n")];
    let good = commit(&site, "good", &files);
    let serve = site.serve();
    let run = site.wait_for("ended", |run| run["state"] != "running" && run["state"] != "queued");
    let printed = lines(&site, &serve.page, 1).await;
    assert_eq!(run["state"], "succeeded", "{run:#?} {printed:#?}");
    assert_eq!(run["commit"], good.as_str());
    let names: Vec<_> = run["steps"].as_array().expect("a list").iter().map(|step| &step["name"]).collect();
    assert_eq!(names, ["source", "build demo/web", "run first", "run second", "run third", "rollout web"]);
    assert_eq!(&printed[..2], ["hello", "good day from web 1 true"]);
    assert!(printed[2].starts_with("secret: ") && !printed[2].contains(PASSWORD), "{printed:?}");
    assert_eq!(&printed[3..], ["-rwxr-xr-x", "made"]);
    assert_eq!(site.cluster.deployments().len(), 1);

    commit(&site, "bad", &[&files[..], &[("broken", b"x")]].concat());
    let run = site.wait_for("failed", |run| run["id"] == 2 && run["state"] == "failed");
    assert_eq!(run["reason"], "run third: exit status 3");
    assert_eq!(site.cluster.deployments().len(), 1, "what fails its tests is not deployed");
    let page = site.client().get(format!("{}runs/2", serve.page)).send().await.expect("an answer");
    assert!(page.text().await.expect("text").contains("exit status 3"));
    nothing_left(&site).await;
    assert_no_secret(site.folder.path());
}

/// Each line is printed once and by one process, whatever happens to the server, and each is in the log once.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_outlives_the_server_and_its_lines_are_recorded_once() {
    let site = site(
        r#"    - run:
        name: slow
        image: demo/web
        secrets: {TOKEN: /team/step-token}
        command: |
          echo started >> starts
          i=0
          while [ $i -lt 400 ]; do i=$((i+1)); echo "line $i"; [ $((i % 5)) != 0 ] || sleep 0.2; done
          printf 'starts: '; wc -l < starts
          echo "token: $TOKEN"
"#,
    );
    commit(&site, "slow", &[]);
    let recorded = |run: &Value| run["steps"][2]["state"]["lines"].as_u64();
    let mut seen = 0;
    for _ in 0..3 {
        let serve = site.serve();
        let run = site.wait_for("further lines", |run| recorded(run) > Some(seen + 20));
        seen = recorded(&run).expect("the step runs");
        serve.kill();
    }
    let serve = site.serve();
    site.wait_for("succeeded", |run| run["state"] == "succeeded");
    let printed = lines(&site, &serve.page, 1).await;
    let mut expected: Vec<String> = (1..=400).map(|number| format!("line {number}")).collect();
    expected.push("starts: 1".to_owned());
    // Another process has read it, and this one masks it all the same.
    assert!(printed.last().is_some_and(|last| last.starts_with("token: ")), "{printed:?}");
    assert!(!printed.concat().contains(crate::support::endpoints::STEP_TOKEN), "{printed:?}");
    let printed = &printed[..printed.len() - 1];
    assert_eq!(printed, expected);
    assert_eq!(site.runs().len(), 1);
    assert_eq!(site.cluster.deployments().len(), 1);
    nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_kept_apart_from_the_machine() {
    let site = site(
        r#"    - run:
        name: inside
        image: demo/web
        resources: {limits: {memory: 64MiB, cpu: 0.5}}
        command: |
          grep -E '^(CapEff|NoNewPrivs)' /proc/self/status
          test ! -e /var/run/docker.sock && test ! -e /run/docker.sock && echo no engine
          timeout 3 wget -q -O - http://169.254.169.254/latest/meta-data/ 2>&1 | grep -o -E 'refused|unreachable|timed out|Connection' || echo no metadata
          mount -t tmpfs none /mnt 2>/dev/null || echo no mounts
    - run:
        name: hungry
        image: demo/web
        resources: {limits: {memory: 16MiB}}
        command: ["/bin/sh", "-c", "x=x; while :; do x=$x$x; done"]
"#,
    );
    commit(&site, "apart", &[]);
    let serve = site.serve();
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    let printed = lines(&site, &serve.page, 1).await.join("\n");
    assert!(printed.contains("NoNewPrivs:\t1"), "{printed}");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID and SETUID.
    assert!(printed.contains("CapEff:\t00000000000000fb"), "{printed}");
    assert!(printed.contains("no engine") && printed.contains("no mounts"), "{printed}");
    assert!(!printed.contains("meta-data"), "{printed}");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("run hungry: ") && reason.contains("`resources.limits.memory`"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_tried_again_ends_at_its_timeout_and_is_cancelled() {
    let site = site(
        r#"    - run:
        name: flaky
        image: demo/web
        retries: 2
        command: |
          echo "try $FLEETWRIGHT_ATTEMPT" >> tries
          [ "$FLEETWRIGHT_ATTEMPT" = 3 ]
          cat tries
    - run: {name: endless, image: demo/web, timeout: 3s, command: "echo waiting; exec sleep 100000"}
"#,
    );
    commit(&site, "flaky", &[]);
    let serve = site.serve();
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    let printed = lines(&site, &serve.page, 1).await;
    assert_eq!(printed, ["try 1", "try 2", "try 3", "waiting"]);
    assert_eq!(run["steps"][2]["state"]["result"]["run"]["attempts"], 3, "{run:#?}");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("run endless: it did not end within its timeout of 3 s"), "{reason}");

    // What it printed is shown, of all steps or of one, and a new run tries it again.
    let (_, all, _) = site.run(&["pipeline", "logs", "1"]);
    assert!(all.contains("run flaky | try 3\n") && all.ends_with("run endless | waiting\n"), "{all}");
    assert_eq!(site.run(&["pipeline", "logs", "1", "flaky"]).1, "try 1\ntry 2\ntry 3\n");
    let (good, _, stderr) = site.run(&["pipeline", "logs", "1", "flakey"]);
    assert!(!good && stderr.contains("did you mean `flaky`?"), "{stderr}");
    let (good, _, stderr) = site.run(&["pipeline", "logs", "9"]);
    assert!(!good && stderr.contains("there is no run 9"), "{stderr}");

    let path = site.folder.path().join("pipelines/web.yaml");
    let text = std::fs::read_to_string(&path).expect("the pipeline").replace("timeout: 3s", "timeout: 3h");
    std::fs::write(&path, text).expect("written");
    commit(&site, "endless", &[]);
    site.wait_for("endless runs", |run| run["id"] == 2 && run["steps"][3]["state"]["is"] == "executing");
    let asked = Instant::now();
    let (good, _, stderr) = site.run(&["pipeline", "cancel", "2"]);
    assert!(good, "{stderr}");
    assert_eq!(site.runs()[0]["state"], "cancelled");
    nothing_left(&site).await;
    println!("gone {:.1} s after the request", asked.elapsed().as_secs_f64());
}
