//! `pipeline lint`: pipelines alone, with the graph of their steps.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::fleetwright;

const GOOD: &str = "\
web:
  repository: web
  on:
    branches: [main, release/*]
    tags: [v*]
    schedule: \"0 3 * * *\"
    timezone: Europe/Berlin
  parameters:
    LEVEL: {default: full}
  steps:
    - build: {image: demo/web}
    - run: {name: unit, image: demo/web, command: [\"true\"], timeout: 5m}
    - run: {name: lint, image: demo/web, needs: [demo/web], command: [\"true\"]}
    - rollout: {service: web, needs: [unit, lint], when: {branches: [main]}}
    - run: {name: tell, image: demo/web, when: failure, command: [\"true\"]}
nightly:
  repository: web
  on: {branches: [], after: [web]}
  steps:
    - run: {name: long, image: demo/tools, command: [\"true\"]}
";

fn repository(pipelines: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    };
    write(
        "fleetwright.yaml",
        "project: shop\nenvironments:\n  test:\n    region: eu-west-1\n    cluster: main\n    registry:\n      \
         push: registry.internal:5000\n      pull: registry.internal:5000\nclusters:\n  main:\n    engine: swarm\n\
         repositories:\n  web:\n    url: https://git.example.com/web.git\n",
    );
    write("services/web.yaml", "web:\n  image: demo/web\n  replicas: 2\n");
    write("pipelines/web.yaml", pipelines);
    folder
}

#[test]
fn pipelines_that_are_fine_are_shown_with_what_starts_them_and_what_their_steps_need() {
    let folder = repository(GOOD);
    let run = fleetwright(folder.path(), &["pipeline", "lint"]);
    assert_eq!(run.status, Some(0), "{run}");
    insta::assert_snapshot!("lint_good", run.stdout);
    let run = fleetwright(folder.path(), &["pipeline", "lint", "-o", "json"]);
    let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((document["version"].as_u64(), document["errors"].as_u64()), (Some(1), Some(0)));
    let web = &document["pipelines"][0];
    assert_eq!(web["steps"][3]["name"], "rollout web");
    assert_eq!(web["steps"][3]["needs"], serde_json::json!(["run unit", "run lint"]));
    assert_eq!(web["steps"][4]["after"], "failure");
    assert_eq!(web["steps"][1]["timeout"], "5m");
    assert_eq!(web["on"]["schedule"]["cron"], "0 3 * * *");
}

#[test]
fn problems_of_pipelines_are_shown_with_their_places_and_those_of_other_files_are_counted() {
    let folder = repository(&GOOD.replace("needs: [unit, lint]", "needs: [unti]"));
    std::fs::write(folder.path().join("services/api.yaml"), "api:\n  image: demo/api\n  replica: 2\n")
        .expect("written");
    let run = fleetwright(folder.path(), &["pipeline", "lint"]);
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    assert!(run.stderr.contains("--> pipelines/web.yaml:14:"), "{run}");
    assert!(run.stderr.contains("there is no step `unti` before this one"), "{run}");
    assert!(run.stderr.contains("did you mean `unit`?"), "{run}");
    assert!(!run.stderr.contains("replica`"), "{run}");
    assert!(
        run.stderr.contains("Other files of the repository have 1 error; `fleetwright validate`"),
        "{run}"
    );
}

#[test]
fn a_file_from_elsewhere_is_checked_as_if_it_were_in_the_repository() {
    let folder = repository(GOOD);
    // Only what is named is reported.
    std::fs::write(folder.path().join("pipelines/other.yaml"), "other: {repository: wbe, steps: []}\n")
        .expect("written");
    let run = fleetwright(folder.path(), &["pipeline", "lint", "pipelines/web.yaml"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("nightly") && !run.stdout.contains("other"), "{run}");
    assert!(run.stderr.contains("Other files of the repository have 2 errors"), "{run}");
    // It takes the place of the one of its name.
    std::fs::create_dir(folder.path().join("draft")).expect("a folder");
    let draft = GOOD.replace("service: web", "service: wbe");
    std::fs::write(folder.path().join("draft/web.yaml"), draft).expect("written");
    let run = fleetwright(folder.path(), &["pipeline", "lint", "draft/web.yaml"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(
        run.stderr.contains("--> draft/web.yaml:14:") && run.stderr.contains("did you mean `web`?"),
        "{run}"
    );
    assert!(!run.stderr.contains("pipelines/web.yaml"), "{run}");
    let run = fleetwright(folder.path(), &["pipeline", "lint", "nowhere.yaml"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert!(run.stderr.contains("reading nowhere.yaml: "), "{run}");
}

/// Steps that the git repository has itself.
#[test]
fn steps_of_a_git_repository_use_what_their_pipeline_gives_them() {
    let folder = repository(
        "web:\n  repository: web\n  steps: {file: ci/steps.yaml}\n  allow: {services: [web], secrets: [/shop/web/*]}\n",
    );
    let run = fleetwright(folder.path(), &["pipeline", "lint"]);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("steps: in ci/steps.yaml of each commit"), "{run}");
    let file = |text: &str| std::fs::write(folder.path().join("steps.yaml"), text).expect("written");
    let lint = || fleetwright(folder.path(), &["pipeline", "lint", "--steps-of", "web", "steps.yaml"]);
    file(
        "timeout: 10m\nsteps:\n  - build: {image: demo/web}\n  - run: {image: demo/web, command: \"true\", secrets: {TOKEN: \
         {file: /shop/web/token}}}\n  - rollout: {service: web}\n",
    );
    let run = lint();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(run.stdout.contains("rollout web") && run.stdout.contains("at most 10 min"), "{run}");
    file(
        "steps:\n  - build: {image: demo/web, secrets: {npm: /other/npm}}\n  - run: {image: demo/web, command: \"true\", \
         secrets: {KEY: /shop/key}}\n  - job: migrate\n  - plan: all\n  - rollout: {service: api}\n",
    );
    let run = lint();
    assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
    insta::assert_snapshot!("lint_own_steps", run.stderr);
    let many =
        "  - build: {image: demo/web, matrix: {N: [1, 2, 3, 4, 5, 6, 7, 8], M: [1, 2, 3, 4, 5, 6, 7, 8]}}\n"
            .repeat(5);
    file(&format!("steps:\n{many}"));
    let run = lint();
    assert!(
        run.status == Some(2) && run.stderr.contains("these are 320 steps, and a pipeline has at most 256"),
        "{run}"
    );
    file("steps: {file: other.yaml}\n");
    let run = lint();
    assert!(run.status == Some(2) && run.stderr.contains("`steps` must be a list"), "{run}");
    let run = fleetwright(folder.path(), &["pipeline", "lint", "--steps-of", "wbe", "steps.yaml"]);
    assert!(run.status == Some(2) && run.stderr.contains("there is no pipeline `wbe`"), "{run}");
}
