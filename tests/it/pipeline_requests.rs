//! Pull requests that propose their own steps, noticed through a signed webhook: what a stranger's gets and does, and what
//! that of somebody who may push does. git, Docker and the registry are real.

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use serde_json::Value;
use sha2::Sha256;

use crate::pipeline_serve::{Serve, Site, assert_no_secret, busybox};
use crate::pipeline_steps::{DOCKERFILE, commit, lines};
use crate::support::endpoints::STEP_TOKEN;

const PIPELINE: &str = "\
web:
  repository: web
  on: {branches: [main], pull_requests: true}
  steps: {file: .fleetwright.yaml}
  allow: {services: [web], secrets: [/team/step-*]}
";

/// The steps on the branch.
const STEPS: &str = "\
steps:
  - build: {image: demo/web}
  - run: {name: test, image: demo/web, command: echo tested}
  - run: {name: publish, image: demo/web, secrets: {TOKEN: /team/step-token}, command: 'test -n \"$TOKEN\" && echo published'}
  - rollout: {service: web}
";

/// What a pull request makes of them.
const CHANGED: &str = "\
steps:
  - build: {image: demo/web}
  - run:
      name: test
      image: demo/web
      command: |
        echo \"of pull request $FLEETWRIGHT_PULL_REQUEST\"
        env
        cat /run/secrets/* 2>/dev/null || echo no secrets
  - run: {name: publish, image: demo/web, secrets: {TOKEN: /team/step-token}, command: 'echo \"token: $TOKEN\"'}
  - build: {image: demo/other, secrets: {token: /team/step-token}}
  - approve: Ready?
  - rollout: {service: web}
";

/// A site that checks its repository when a webhook asks it to.
fn site() -> Site {
    let site = Site::new();
    let path = site.folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&path).expect("the project");
    let text = text.replace("poll: 1s", "poll: 1h\n    webhook: /team/hook");
    std::fs::write(&path, text).expect("written");
    std::fs::write(site.folder.path().join("pipelines/web.yaml"), PIPELINE).expect("written");
    site
}

/// Sends what a forge sends when a pull request is opened or changed.
async fn announce(site: &Site, serve: &Serve, number: u32, head: &str) {
    let body = format!(r#"{{"action": "synchronize", "number": {number}, "head": "{head}"}}"#);
    // The played SSM has one value, whatever the parameter.
    let mut mac = Hmac::<Sha256>::new_from_slice(site.registry.credentials().as_bytes()).expect("any key");
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let request = reqwest::Client::new().post(format!("{}v1/hooks/web", serve.page)).body(body);
    let answer = request.header("x-hub-signature-256", format!("sha256={hex}")).send().await;
    assert_eq!(answer.expect("an answer").status(), StatusCode::ACCEPTED);
}

/// Commits these steps as what a pull request proposes. It is the head of no branch.
fn propose(site: &Site, number: u32, subject: &str, steps: &str) -> String {
    let main = site.origin.head("refs/heads/main");
    let head = commit(site, subject, &[(".fleetwright.yaml", steps.as_bytes())]);
    site.origin.point(&format!("refs/pull/{number}/head"), &head);
    site.origin.point("refs/heads/main", &main);
    head
}

fn ended(site: &Site, commit: &str) -> Value {
    site.wait_for("ended", |run| {
        run["commit"] == commit && run["state"] != "queued" && run["state"] != "running"
    })
}

/// The names of a run's steps, each with its state or with the reason why it was left out.
fn outcomes(run: &Value) -> Vec<(String, String)> {
    let steps = run["steps"].as_array().expect("a list");
    let outcome = |(index, step): (usize, &Value)| {
        let left_out = run["config"]["left_out"][index.to_string()].as_str();
        let outcome = left_out.or(step["state"]["is"].as_str()).unwrap_or_default();
        assert!(left_out.is_none() || step["state"]["is"] == "skipped", "{run:#}");
        (step["name"].as_str().expect("a name").to_owned(), outcome.to_owned())
    };
    steps.iter().enumerate().map(outcome).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
}

const OF_STRANGERS: &[(&str, &str)] = &[
    ("source", "succeeded"),
    ("build demo/web", "succeeded"),
    ("run test", "succeeded"),
    ("run publish", "a pull request gets no secrets, which this step needs"),
    ("build demo/other", "a pull request gets no secrets, which this build needs"),
    ("approve", "there is nothing to approve in a pull request"),
    ("rollout web", "a pull request rolls nothing out"),
];

fn assert_clean(printed: &[String]) {
    let text = printed.join("\n");
    for word in [STEP_TOKEN, "AWS_", "FLEETWRIGHT_SERVE_TOKEN", "FLEETWRIGHT_CLUSTER_TOKEN", "TOKEN="] {
        assert!(!text.contains(word), "a stranger's step has {word}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_steps_run_without_secrets_and_change_nothing() {
    let site = site();
    let first = commit(&site, "first", &[(".fleetwright.yaml", STEPS.as_bytes())]);
    let serve = site.serve();
    let run = ended(&site, &first);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    assert_eq!(lines(&site, &serve.page, 1).await, ["tested", "published"]);
    assert_eq!(site.cluster.deployments().len(), 1);

    let head = propose(&site, 7, "changes the steps", CHANGED);
    announce(&site, &serve, 7, &head).await;
    let run = ended(&site, &head);
    assert_eq!((&run["state"], &run["trigger"]), (&"succeeded".into(), &"pull-request".into()), "{run:#}");
    assert_eq!(outcomes(&run), pairs(OF_STRANGERS));
    let printed = lines(&site, &serve.page, 2).await;
    assert_eq!(printed.first().map(String::as_str), Some("of pull request 7"), "its own steps run");
    assert_eq!(printed.last().map(String::as_str), Some("no secrets"));
    assert_clean(&printed);

    // Whoever runs it again by hand makes it no less a stranger's.
    let again: [&[&str]; 2] =
        [&["pipeline", "retry", "2"], &["pipeline", "run", "web", "--commit", "refs/pull/7/head"]];
    for (number, arguments) in (3..).zip(again) {
        let (good, _, stderr) = site.run(arguments);
        assert!(good, "{stderr}");
        let run = site.runs()[0].clone();
        assert_eq!((&run["id"], &run["commit"]), (&number.into(), &head.as_str().into()), "{run:#}");
        assert_eq!(outcomes(&run)[3..], pairs(OF_STRANGERS)[3..], "{arguments:?}");
        assert_clean(&lines(&site, &serve.page, number).await);
    }
    let (good, _, stderr) = site.run(&["pipeline", "retry", "2", "--from", "publish"]);
    assert!(!good && stderr.contains("`run publish`"), "{stderr}");
    assert_eq!(site.cluster.deployments().len(), 1, "nothing was rolled out for it");

    // The same commit as the head of a branch is that of somebody who may push: it gets secrets, and still changes nothing.
    site.origin.point("refs/heads/feature", &head);
    site.origin.point("refs/pull/8/head", &head);
    announce(&site, &serve, 8, &head).await;
    let run = site.wait_for("the branch's pull request", |run| {
        run["trigger"] == "own-pull-request" && run["state"] == "succeeded"
    });
    let outcomes = outcomes(&run);
    assert_eq!(outcomes[3..5], pairs(&[("run publish", "succeeded"), ("build demo/other", "succeeded")]));
    assert_eq!(outcomes[5..], pairs(OF_STRANGERS)[5..]);
    let printed = lines(&site, &serve.page, run["id"].as_i64().expect("a number")).await;
    assert!(printed.contains(&"token: [redacted]".to_owned()), "{printed:?}");
    assert_eq!(site.cluster.deployments().len(), 1);
    assert_no_secret(site.folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_whose_steps_use_what_is_not_allowed_fails_before_its_first_step() {
    let site = site();
    let first = commit(
        &site,
        "first",
        &[(".fleetwright.yaml", b"steps:\n  - run: {image: a, when: {branches: [x]}, command: x}\n")],
    );
    let serve = site.serve();
    assert_eq!(ended(&site, &first)["state"], "succeeded");
    let services = "web:\n  image: demo/web\n  replicas: 2\napi:\n  image: demo/web\n";
    std::fs::write(site.folder.path().join("services/web.yaml"), services).expect("written");
    let cases = [
        (
            "run: {image: demo/web, secrets: {KEY: /other/key}, command: env}",
            "may not have the secret `/other/key`",
        ),
        (
            "run: {image: demo/web, secrets: {KEY: /team/stepping}, command: env}",
            "may not have the secret `/team/stepping`",
        ),
        (
            "build: {image: demo/web, secrets: {key: /fleetwright/registry}}",
            "may not have the secret `/fleetwright/registry`",
        ),
        ("rollout: {service: api}", "may not roll out service `api`"),
        ("plan: {services: true}\n  - apply: plan", "`plan` is a step of infra repositories only"),
        ("deploy: all", "`deploy` is a step of infra repositories only"),
        ("drift: all", "`drift` is a step of infra repositories only"),
    ];
    for (number, (step, reason)) in (1..).zip(cases) {
        let steps = format!("steps:\n  - run: {{image: demo/web, command: echo before}}\n  - {step}\n");
        let head = propose(&site, number, step, &steps);
        announce(&site, &serve, number, &head).await;
        let run = ended(&site, &head);
        let found = run["reason"].as_str().unwrap_or_default();
        assert_eq!(run["state"], "failed", "{run:#}");
        assert!(found.contains(".fleetwright.yaml:3:") && found.contains(reason), "{step}: {found}");
        assert_eq!(run["steps"].as_array().map(Vec::len), Some(0), "{run:#}");
    }
    assert_eq!(site.cluster.deployments().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_for_a_branch_are_not_for_its_pull_requests() {
    let site = site();
    let path = site.folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&path).expect("the project");
    let scopes =
        "    pipeline_secrets:\n      /team/step-token: {pipelines: [web], branches: [main]}\nclusters:";
    std::fs::write(&path, text.replacen("clusters:", scopes, 1)).expect("written");
    let quiet = b"steps:\n  - run: {image: a, when: {branches: [x]}, command: x}\n";
    let first = commit(&site, "first", &[(".fleetwright.yaml", quiet)]);
    let serve = site.serve();
    assert_eq!(ended(&site, &first)["state"], "succeeded");

    let steps =
        "steps:\n  - run: {name: publish, image: a, secrets: {TOKEN: /team/step-token}, command: env}\n";
    let head = propose(&site, 1, "a stranger's", steps);
    announce(&site, &serve, 1, &head).await;
    let run = ended(&site, &head);
    assert_eq!(run["state"], "succeeded", "what is left out needs no secret: {run:#}");
    let left_out = ("run publish", "a pull request gets no secrets, which this step needs");
    assert!(outcomes(&run).contains(&pairs(&[left_out])[0]), "{run:#}");

    site.origin.point("refs/heads/feature", &head);
    site.origin.point("refs/pull/2/head", &head);
    announce(&site, &serve, 2, &head).await;
    let run = site.wait_for("the branch's pull request", |run| {
        run["trigger"] == "own-pull-request" && run["state"] == "failed"
    });
    let reason = run["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("`/team/step-token` of `run publish` is not available"), "{run:#}");
}

/// A folder that builds share was once the same for everybody: what a stranger's build left in it went into the next image
/// of the branch. So did the stranger's image, when its files were merged as they were.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_builds_have_caches_of_their_own_and_their_images_are_not_taken_over() {
    let site = site();
    let cache = crate::support::git::unique();
    let busybox = busybox();
    let dockerfile = |mark: &str| {
        format!(
            "{DOCKERFILE}RUN --mount=type=cache,id={cache},target=/c [\"/bin/sh\", \"-c\", \"ls /c > /seen; touch /c/{mark}\"]\n"
        )
    };
    // A step that sets BuildKit's own argument chooses no other caches.
    let steps = |arguments: &str| {
        format!(
            "steps:\n  - build: {{image: demo/web{arguments}}}\n  - run: {{image: demo/web, command: \"echo seen: $(cat /seen)\"}}\n"
        )
    };
    let files = |mark: &str, arguments: &str| {
        let (dockerfile, steps) = (dockerfile(mark), steps(arguments));
        let all: [(&str, &[u8]); 3] = [
            ("Dockerfile", dockerfile.as_bytes()),
            ("busybox*", &busybox),
            (".fleetwright.yaml", steps.as_bytes()),
        ];
        site.origin.commit(mark, &all)
    };
    let first = files("main-1", "");
    let serve = site.serve();
    assert_eq!(ended(&site, &first)["state"], "succeeded");
    assert_eq!(lines(&site, &serve.page, 1).await, ["seen:"]);

    let mut strangers = Vec::new();
    for (number, arguments) in (1..).zip(["", ", args: {BUILDKIT_CACHE_MOUNT_NS: ''}"]) {
        let head = files(&format!("stranger-{number}"), arguments);
        site.origin.point("refs/heads/main", &first);
        site.origin.point(&format!("refs/pull/{number}/head"), &head);
        announce(&site, &serve, number, &head).await;
        assert_eq!(ended(&site, &head)["state"], "succeeded");
        strangers.push(head);
    }
    assert_eq!(lines(&site, &serve.page, 2).await, ["seen:"], "what the branch has left");
    assert_eq!(lines(&site, &serve.page, 3).await, ["seen: stranger-1"]);

    // The first one is merged as it is.
    site.origin.point("refs/heads/main", &strangers[0]);
    announce(&site, &serve, 3, "merged").await;
    let merged = site.wait_for("the merged commit", |run| run["id"] == 4 && run["state"] == "succeeded");
    assert_eq!(merged["commit"], strangers[0].as_str());
    assert_eq!(lines(&site, &serve.page, 4).await, ["seen: main-1"], "what strangers have left");
}
