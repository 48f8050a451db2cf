//! Steps that run commands: on a real engine, by `serve` and `pipeline run` as processes that are killed.

use std::time::{Duration, Instant};

use fleetwright::port::step_containers::StepContainers as _;
use serde_json::Value;

use crate::pipeline_serve::{Site, assert_no_secret, busybox};
use crate::support::registry::PASSWORD;

/// An image with a shell.
pub const DOCKERFILE: &str = "\
FROM scratch
COPY busybox /bin/busybox
RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]
";

/// A site whose pipeline builds an image, and then has these steps, with 8 blanks before each line.
pub fn site(steps: &str) -> Site {
    let site = Site::new();
    let text = format!(
        "web:\n  repository: web\n  steps:\n    - build: {{image: demo/web}}\n{steps}    - rollout: {{service: web}}\n"
    );
    std::fs::write(site.folder.path().join("pipelines/web.yaml"), text).expect("written");
    site
}

pub fn commit(site: &Site, subject: &str, files: &[(&str, &[u8])]) -> String {
    let unique = format!("{}\n# {}\n", DOCKERFILE, crate::support::git::unique());
    let busybox = busybox();
    let all = [&[("Dockerfile", unique.as_bytes()), ("busybox*", &busybox[..])], files].concat();
    site.origin.commit(subject, &all)
}

/// What the steps of a run have printed, in order.
pub async fn lines(site: &Site, page: &str, run: i64) -> Vec<String> {
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

/// Waits until nothing is left of any run but those that have failed, which keep their workspaces.
pub async fn nothing_left(site: &Site) {
    let limit = Instant::now() + Duration::from_secs(30);
    let failed: Vec<i64> = site
        .runs()
        .iter()
        .filter(|run| run["state"] == "failed")
        .filter_map(|run| run["id"].as_i64())
        .collect();
    loop {
        let mut left = site.steps().left().await.expect("the engine answers");
        left.retain(|run| !failed.contains(&run.0));
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

/// The steps of the tests below: each value of the matrix has a server beside it that only it reaches by that name.
const WITH_EVERYTHING: &str = r#"    - run:
        name: test
        image: demo/web
        matrix: {part: [one, two]}
        services:
          peer:
            image: demo/web
            command: [sh, -c, "mkdir /srv; echo served for ${matrix.part} > /srv/part; exec httpd -f -p 8000 -h /srv"]
            health: {http: /part, port: 8000}
        caches: [{path: /cache, key: greeting}, /var/lib/tools/]
        artifacts: ["out/**", nothing/here]
        reports: ["report/*.xml"]
        command: |
          wget -q -O - http://peer:8000/part
          echo "key: $(cat /cache/${matrix.part} 2>/dev/null), all: $(cat /var/lib/tools/${matrix.part} 2>/dev/null)"
          echo "of $FLEETWRIGHT_RUN" | tee /cache/${matrix.part} > /var/lib/tools/${matrix.part}
          echo "mode: $(stat -c %a /cache)"
          mkdir -p out/deep report
          echo "by ${matrix.part}" > out/deep/${matrix.part}
          ln -sf /etc/passwd out/link
          cp ${matrix.part}.xml report/${matrix.part}.xml
          test ! -e broken
    - run: {name: tell, image: demo/web, when: failure, command: "echo it has $FLEETWRIGHT_RESULT"}
    - run: {name: tidy, image: demo/web, when: always, command: "echo tidied after $FLEETWRIGHT_RESULT"}
    - run: {name: release, image: demo/web, when: {tags: [v*]}, command: "exit 1"}
"#;

const GOOD_REPORT: &[u8] =
    b"<testsuite><testcase classname='cart' name='adds'/><testcase name='x'/></testsuite>";
const BAD_REPORT: &[u8] = b"<testsuite><testcase classname='cart' name='adds'>\
    <failure message='expected 1, got 2'/></testcase><testcase name='x'><skipped/></testcase></testsuite>";

#[tokio::test(flavor = "multi_thread")]
async fn steps_have_companions_caches_reports_and_files_that_are_kept() {
    let site = site(WITH_EVERYTHING);
    let files: [(&str, &[u8]); 3] =
        [("greeting", b"hello"), ("one.xml", GOOD_REPORT), ("two.xml", GOOD_REPORT)];
    commit(&site, "good", &files);
    let serve = site.serve();
    let ended = |id: i64| move |run: &Value| run["id"] == id && run["ended"] != Value::Null;
    let run = site.wait_for("ended", ended(1));
    let mut printed = lines(&site, &serve.page, 1).await;
    printed.sort();
    assert_eq!(run["state"], "succeeded", "{run:#?} {printed:#?}");
    let first = [
        "key: , all: ",
        "key: , all: ",
        "mode: 777",
        "mode: 777",
        "no file of the workspace fits `nothing/here`",
        "no file of the workspace fits `nothing/here`",
        "served for one",
        "served for two",
        "tidied after succeeded",
    ];
    assert_eq!(printed, first);
    let step = |run: &Value, name: &str| {
        let steps = run["steps"].as_array().expect("a list");
        steps
            .iter()
            .find(|step| step["name"] == name)
            .unwrap_or_else(|| panic!("{name} in {steps:#?}"))
            .clone()
    };
    assert_eq!(
        step(&run, "run test (part one)")["tests"]["tests"],
        4,
        "both reports are in the workspace by then"
    );
    for name in ["run tell", "run release"] {
        assert_eq!(step(&run, name)["state"]["is"], "skipped", "{name}");
    }

    // What is kept outlives the run, links are not followed, and nothing outside is given out.
    let (good, listed, stderr) = site.run(&["pipeline", "files", "1", "test (part two)", "-o", "json"]);
    assert!(good, "{stderr}");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let paths: Vec<&str> =
        listed["files"].as_array().expect("a list").iter().filter_map(|file| file["path"].as_str()).collect();
    assert!(paths.contains(&"out/deep/two") && paths.contains(&"report/two.xml"), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("link")), "{paths:?}");
    let (good, said, stderr) = site.run(&["pipeline", "files", "1", "--into", "fetched"]);
    assert!(good, "{said}{stderr}");
    let fetched = site.folder.path().join("fetched/run-test-(part-two)/out/deep/two");
    assert_eq!(std::fs::read_to_string(fetched).expect("it is there"), "by two\n");
    let outside =
        format!("{}v1/runs/1/file?step=run%20test%20(part%20two)&path=../../journal.sqlite", serve.page);
    assert_eq!(site.client().get(outside).send().await.expect("an answer").status(), 404);

    // The same key has the same cache; tests that fail are named; what is for failures runs.
    commit(
        &site,
        "bad",
        &[("greeting", b"hello"), ("one.xml", BAD_REPORT), ("two.xml", BAD_REPORT), ("broken", b"x")],
    );
    let run = site.wait_for("failed", ended(2));
    let printed = lines(&site, &serve.page, 2).await;
    assert_eq!(run["state"], "failed", "{run:#?} {printed:#?}");
    assert_eq!(printed.iter().filter(|line| *line == "key: of 1, all: of 1").count(), 2, "{printed:?}");
    assert!(
        printed.ends_with(&["it has failed".to_owned(), "tidied after failed".to_owned()]),
        "{printed:?}"
    );
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.contains("tests failed: cart.adds"), "{reason}");
    let (_, shown, _) = site.run(&["pipeline", "show", "2"]);
    assert!(shown.contains("✗ cart.adds") && shown.contains("expected 1, got 2"), "{shown}");

    // Another key is another cache, and the one without a key is still the same.
    commit(&site, "new key", &[&files[1..], &[("greeting", b"good day" as &[u8])]].concat());
    site.wait_for("succeeded", ended(3));
    let printed = lines(&site, &serve.page, 3).await;
    assert_eq!(printed.iter().filter(|line| *line == "key: , all: of 2").count(), 2, "{printed:?}");
    nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_begin_at_the_same_moment_share_the_network_of_their_run() {
    let each = |name: &str| {
        format!("    - run: {{name: {name}, image: demo/web, needs: [demo/web], command: echo {name}}}\n")
    };
    let site = site(&["one", "two", "three", "four", "five"].map(each).concat());
    commit(&site, "one", &[]);
    let serve = site.serve();
    let run = site.wait_for("ended", |run| run["ended"] != Value::Null);
    let mut printed = lines(&site, &serve.page, 1).await;
    printed.sort();
    assert_eq!(run["state"], "succeeded", "{run:#?} {printed:#?}");
    assert_eq!(printed, ["five", "four", "one", "three", "two"]);
    nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_there_fails_the_run_before_its_first_step() {
    let site = site(
        "    - run: {name: test, image: demo/web, secrets: {KEY: /team/nothing}, command: echo never}\n",
    );
    commit(&site, "one", &[]);
    let _serve = site.serve();
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(
        reason.starts_with("there is no parameter `/team/nothing`, in which `run test` has a secret"),
        "{reason}"
    );
    assert_eq!(run["steps"].as_array().map(Vec::len), Some(0), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companion_that_ends_or_stays_unhealthy_fails_the_step_with_its_last_words() {
    let site = site(
        r#"    - run:
        name: test
        image: demo/web
        services:
          db: {image: demo/web, command: [sh, -c, "echo no space left; exit 3"], health: {tcp: 8000}}
        command: echo never
"#,
    );
    commit(&site, "one", &[]);
    let serve = site.serve();
    let run = site.wait_for("failed", |run| run["state"] == "failed");
    assert_eq!(run["reason"], "run test: `db`, which runs beside it, has ended with exit status 3");
    assert_eq!(lines(&site, &serve.page, 1).await, ["db: no space left"]);
    nothing_left(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_an_answer_whoever_works_on_it_and_no_means_no() {
    let site = site("    - approve: {name: production, message: Ship it?, role: admin}\n");
    let commit_id = commit(&site, "one", &[]);
    let asks = |run: &Value| run["steps"][1]["state"]["is"] == "asking";
    let serve = site.serve();
    site.wait_for("asked", asks);
    assert_eq!(site.cluster.deployments().len(), 0);
    serve.kill();
    let serve = site.serve();
    let run = site.wait_for("still asked", asks);
    let (good, shown, stderr) = site.run(&["pipeline", "show", "1"]);
    assert!(good, "{stderr}");
    for part in ["Ship it?", &commit_id[..7], "demo/web", "then         rollout web", "pipeline approve 1"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    // What was shown must be what is asked.
    let post = async |body: Value| {
        let url = format!("{}v1/runs/1/answer", serve.page);
        let answer = site.client().post(url).json(&body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let (status, refusal) = post(serde_json::json!({ "approved": true, "shown": "something else" })).await;
    assert_eq!((status, &refusal["error"]["code"]), (409, &Value::from("moved")));
    let shown = &run["steps"][1]["state"]["shown"];
    let (status, answer) = post(serde_json::json!({ "approved": true, "shown": shown })).await;
    assert_eq!((status, &answer["step"]), (200, &Value::from("approve production")), "{answer}");
    let run = site.wait_for("succeeded", |run| run["state"] == "succeeded");
    assert!(run["steps"][1]["state"]["result"]["approved"]["by"].is_string(), "{run:#?}");
    assert_eq!(site.cluster.deployments().len(), 1);

    // A newer commit takes over from a run whose question is not answered.
    commit(&site, "older", &[]);
    site.wait_for("asked again", |run| run["id"] == 2 && asks(run));
    commit(&site, "newer", &[]);
    site.wait_for("asked for the newer one", |run| run["id"] == 3 && asks(run));
    assert_eq!(
        (&site.runs()[1]["state"], &site.runs()[1]["id"]),
        (&Value::from("superseded"), &Value::from(2))
    );
    let (good, said, stderr) = site.run(&["pipeline", "reject", "3"]);
    assert!(good, "{said}{stderr}");
    let run = site.wait_for("failed", |run| run["id"] == 3 && run["state"] == "failed");
    assert!(run["reason"].as_str().is_some_and(|reason| reason.contains("rejected by ")), "{run:#?}");
    assert_eq!(site.cluster.deployments().len(), 1);
    let (good, _, stderr) = site.run(&["pipeline", "approve", "3", "-y"]);
    assert!(!good && stderr.contains("no step of run 3 waits for an answer"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_given_parameters_and_refuses_those_that_do_not_fit() {
    let site = site(
        "    - run: {name: say, image: demo/web, command: 'echo \"$VERSION for $TARGET at $FLEETWRIGHT_BRANCH\"'}\n",
    );
    let path = site.folder.path().join("pipelines/web.yaml");
    let text = std::fs::read_to_string(&path).expect("read");
    let parameters = "  on: {}\n  parameters:\n    VERSION: {type: number}\n    TARGET: {choices: [staging, production], default: staging}\n";
    std::fs::write(&path, text.replace("  steps:", &format!("{parameters}  steps:"))).expect("written");
    commit(&site, "one", &[]);
    let serve = site.serve();
    for (given, reason) in [
        (vec![], "parameter `VERSION` has no default, and must be given"),
        (vec!["--set", "VERSION=x"], "parameter `VERSION`: `x` is not a whole number"),
        (vec!["--set", "VERSION=2", "--set", "TARGET=x"], "is not one of `staging`, `production`"),
        (vec!["--set", "VERSION=2", "--set", "OTHER=x"], "there is no parameter `OTHER`"),
        (vec!["--set", "VERSION"], "`--set VERSION` has no `=`"),
    ] {
        let (good, _, stderr) = site.run(&[&["pipeline", "run", "web"], &given[..]].concat());
        assert!(!good && stderr.contains(reason), "{given:?}: {stderr}");
    }
    assert_eq!(site.runs().len(), 0, "a push starts nothing here");
    let (good, _, stderr) = site.run(&["pipeline", "run", "web", "--set", "VERSION=2"]);
    assert!(good, "{stderr}");
    assert_eq!(lines(&site, &serve.page, 1).await, ["2 for staging at main"]);
    assert_eq!(site.runs()[0]["parameters"]["VERSION"], "2");
}
