//! Pipelines whose steps stand in the git repository itself, and what they and others may have of secrets.

use serde_json::Value;

use crate::pipeline_serve::{Site, assert_no_secret};
use crate::pipeline_steps::{commit, lines};
use crate::support::endpoints::STEP_TOKEN;

const PIPELINE: &str = "\
web:
  repository: web
  on: {branches: [main, other]}
  steps: {file: .fleetwright.yaml}
  allow: {services: [web], secrets: [/team/step-*]}
";

fn write(site: &Site, path: &str, text: &str) {
    std::fs::write(site.folder.path().join(path), text).expect("written");
}

fn ended(site: &Site, commit: &str) -> Value {
    site.wait_for("ended", |run| {
        run["commit"] == commit && run["state"] != "queued" && run["state"] != "running"
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_are_those_of_the_commit_within_what_the_pipeline_gives_them() {
    let site = Site::new();
    write(&site, "pipelines/web.yaml", PIPELINE);
    let steps = "\
steps:
  - build: {image: demo/web}
  - run:
      name: test
      image: demo/web
      secrets: {TOKEN: {file: /team/step-token}, VALUE: /team/step-token}
      command: |
        [ \"$TOKEN\" = /run/secrets/TOKEN ] && [ \"$(cat $TOKEN)\" = \"$VALUE\" ] && echo the same
        cat $TOKEN
  - rollout: {service: web}
";
    let first = commit(&site, "steps", &[(".fleetwright.yaml", steps.as_bytes())]);
    let serve = site.serve();
    let run = ended(&site, &first);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let printed = lines(&site, &serve.page, 1).await;
    assert_eq!(printed, ["the same", "[redacted]"]);
    assert_eq!(site.cluster.deployments().len(), 1);

    // The next commit has other steps; what they may not use fails the run before its first step.
    let other = steps.replace("/team/step-token}, V", "/other/step-token}, V");
    let second = commit(&site, "other secret", &[(".fleetwright.yaml", other.as_bytes())]);
    let run = ended(&site, &second);
    assert_eq!(run["state"], "failed", "{run:#}");
    let reason = run["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains(".fleetwright.yaml:3:")
            && reason.contains("may not have the secret `/other/step-token`"),
        "{run:#}"
    );
    let third = commit(&site, "none", &[]);
    let run = ended(&site, &third);
    assert!(
        run["reason"].as_str().is_some_and(|reason| reason.contains("no file `.fleetwright.yaml`")),
        "{run:#}"
    );
    // Nothing was built or rolled out for them.
    assert_eq!(site.cluster.deployments().len(), 1);
    let shorter = "steps:\n  - build: {image: demo/web}\n";
    let fourth = commit(&site, "shorter", &[(".fleetwright.yaml", shorter.as_bytes())]);
    let run = ended(&site, &fourth);
    assert_eq!(
        (&run["state"], run["steps"].as_array().map(Vec::len)),
        (&"succeeded".into(), Some(1)),
        "{run:#}"
    );
    assert_no_secret(site.folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_for_the_pipelines_and_branches_that_the_environment_names() {
    let site = Site::new();
    let project = std::fs::read_to_string(site.folder.path().join("fleetwright.yaml")).expect("the project");
    let scopes =
        "    pipeline_secrets:\n      /team/step-token: {pipelines: [web], branches: [main]}\nclusters:";
    write(&site, "fleetwright.yaml", &project.replacen("clusters:", scopes, 1));
    write(
        &site,
        "pipelines/web.yaml",
        "web:\n  repository: web\n  on: {branches: [main, other]}\n  steps:\n    - build: {image: demo/web}\n    - run: {name: \
         publish, image: demo/web, secrets: {TOKEN: /team/step-token}, command: test -n \"$TOKEN\"}\n",
    );
    let main = commit(&site, "on main", &[]);
    let _serve = site.serve();
    let run = ended(&site, &main);
    assert_eq!(run["state"], "succeeded", "{run:#}");
    site.origin.point("refs/heads/other", &main);
    let run = site.wait_for("of the other branch", |run| run["id"] == 2 && run["state"] == "failed");
    let reason = run["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("the secret `/team/step-token` of `run publish` is not available to pipeline `web`"),
        "{run:#}"
    );
    assert!(!reason.contains(STEP_TOKEN));
}
