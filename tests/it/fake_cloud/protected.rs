//! Environments with `protect: true`, and what differs in one of them.

use super::{Lab, has};

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write(
        "fleetwright.yaml",
        "project: shop\nenvironments:\n  local:\n    region: eu-west-1\n    cluster: main\n    protect: true\n    registry:\n      \
         push: localhost:5000\n  dev:\n    region: eu-west-1\n    cluster: main\nclusters:\n  main:\n    engine: swarm\n    endpoint: \
         https://127.0.0.1:9\n",
    );
    lab
}

#[test]
fn a_protected_environment_is_changed_only_where_it_is_named() {
    let lab = lab();
    let commands: [&[&str]; 18] = [
        &["apply", "-y"],
        &["apply", "-y", "db"],
        &["apply", "-y", "--prune"],
        &["destroy", "-y"],
        &["recover", "db", "-y"],
        &["import", "db", "Queue=queue-1", "-y"],
        &["roll", "db", "-y"],
        &["rollback", "web"],
        &["remove", "web", "-y"],
        &["drain", "i-1"],
        &["serve", "--listen", "127.0.0.1:0"],
        &["pipeline", "run", "web"],
        &["pipeline", "retry", "1"],
        &["pipeline", "cancel", "1"],
        &["cluster", "recover", "--yes", "main"],
        &["cluster", "rebuild", "--yes", "main"],
        &["cluster", "token", "create", "--name", "ci", "--level", "viewer", "--expires", "1h"],
        &["cluster", "token", "revoke", "ci"],
    ];
    for command in commands {
        has(
            &lab.ends(command, 2),
            &[
                "environment `local` is protected",
                "it is only the default",
                "nothing was changed",
                "-e local",
            ],
        );
    }
    assert!(lab.aws.take_calls().is_empty(), "nothing is asked either");
    // A shell that still holds the name is no decision.
    let run = lab.run_with(&["apply", "-y"], &[("FLEETWRIGHT_ENVIRONMENT", "local")]);
    assert_eq!(run.status, Some(2), "{run}");
    has(&run.stderr, &["it was not named with `-e`"]);
    // What reads needs no name, and the other environment needs none either.
    has(&lab.ends(&["plan"], 3), &["1 stack to create"]);
    has(&lab.ends(&["apply", "-y", "-e", "dev"], 0), &["✓ created"]);
    has(&lab.ends(&["destroy", "-y", "-e", "dev"], 0), &["✓ deleted"]);
    has(&lab.ends(&["apply", "-y", "-e", "local"], 0), &["✓ created"]);
    has(&lab.ends(&["recover", "db", "--dry-run"], 0), &["at rest"]);
}

#[test]
fn a_saved_plan_names_no_environment_for_its_reader() {
    let lab = lab();
    lab.ends(&["plan", "--out", "plan.json"], 3);
    has(
        &lab.ends(&["apply", "-y", "plan.json"], 2),
        &["is protected", "fleetwright apply plan.json -e local"],
    );
    has(&lab.ends(&["apply", "-y", "plan.json", "-e", "local"], 0), &["✓ created"]);
}

#[test]
fn yes_alone_destroys_nothing_in_it() {
    let lab = lab();
    let local = ["-e", "local"];
    let with = |command: &[&'static str]| [command, &local].concat();
    lab.ends(&with(&["apply", "-y"]), 0);
    let refused = ["`-y` alone destroys nothing in it", "--confirm shop-local"];
    has(&lab.ends(&with(&["destroy", "-y"]), 2), &refused);
    has(&lab.ends(&with(&["destroy", "-y", "--confirm", "shop-dev"]), 2), &["is not the name"]);
    // An update that replaces nothing needs no more than its environment's name.
    lab.edit("DelaySeconds: 5", "DelaySeconds: 7");
    has(&lab.ends(&with(&["apply", "-y"]), 0), &["✓ updated"]);
    // One that replaces, or deletes, does.
    lab.edit("DisplayName: !Ref Title", "DisplayName: !Ref Title\n      TopicName: named");
    let topic = || lab.aws.world().stack("shop-local-db").resource("Topic").expect("it").id.clone();
    let before = topic();
    has(&lab.ends(&with(&["apply", "-y"]), 2), &refused);
    assert_eq!(topic(), before);
    has(&lab.ends(&with(&["apply", "-y", "--confirm", "shop-local"]), 0), &["✓ updated"]);
    assert_ne!(topic(), before);
    let gone = [
        ("fleetwright:project", "shop"),
        ("fleetwright:environment", "local"),
        ("fleetwright:stack", "gone"),
    ];
    lab.stranger("shop-local-gone", &gone);
    has(&lab.ends(&with(&["apply", "-y", "--prune"]), 2), &refused);
    assert!(lab.aws.status("shop-local-gone").is_some());
    has(&lab.ends(&with(&["apply", "-y", "--prune", "--confirm", "shop-local"]), 0), &["1 deleted"]);
    has(&lab.ends(&with(&["remove", "web", "-y"]), 2), &refused);
    has(&lab.ends(&with(&["destroy", "-y", "--confirm", "shop-local"]), 0), &["✓ deleted"]);
}

const STACKS: &str = "db:\n  template: db.yaml\n  values: {size: {least: 1, most: 2}, zones: [a, b], label: plain}\n  parameters: \
                      {Title: everywhere}\n  environments:\n    dev:\n      values: {size: {most: 9}, zones: [c]}\n      \
                      parameters: {Title: for dev}\n";

#[test]
fn values_of_an_environment_go_over_the_others_by_their_keys() {
    let lab = lab();
    lab.write("stacks/all.yaml", STACKS);
    lab.edit(
        "DelaySeconds: 5",
        "DelaySeconds: 5\n      Tags:\n        - {Key: size, Value: \"<{ size.least }>-<{ size.most }>\"}\n        - {Key: zones, \
         Value: \"<{ zones | join(sep=\"+\") }>\"}\n        - {Key: label, Value: <{ label }>}",
    );
    let render = |environment: &str| {
        let run = lab.run(&["render", "-e", environment, "-o", "json"]);
        let document: serde_json::Value = serde_json::from_str(&run.stdout).expect("one document");
        document["stacks"][0].clone()
    };
    let (local, dev) = (render("local"), render("dev"));
    has(local["template"].as_str().expect("a text"), &["Value: \"1-2\"", "Value: \"a+b\"", "Value: plain"]);
    has(dev["template"].as_str().expect("a text"), &["Value: \"1-9\"", "Value: \"c\"", "Value: plain"]);
    assert_eq!(
        (local["parameters"]["Title"].as_str(), dev["parameters"]["Title"].as_str()),
        (Some("everywhere"), Some("for dev"))
    );
    assert_eq!(dev["values"]["size"], serde_json::json!({"least": 1, "most": 9}));
    assert_eq!(dev["overridden"], serde_json::json!(["values.size", "values.zones", "parameters.Title"]));
    has(&lab.ends(&["render", "-e", "dev"], 0), &["values.size of dev: {\"least\":1,\"most\":9}"]);
    lab.ends(&["apply", "-y", "-e", "dev"], 0);
    assert_eq!(lab.aws.world().stack("shop-dev-db").is.parameters["Title"], "for dev");
}

#[test]
fn what_no_environment_and_no_template_knows_is_refused() {
    let lab = lab();
    let validate = |stacks: &str| {
        lab.write("stacks/all.yaml", stacks);
        lab.ends(&["validate"], 2)
    };
    has(
        &validate(&STACKS.replace("    dev:", "    dve:")),
        &[
            "error[unknown-environment]: there is no environment `dve`",
            "did you mean `dev`?",
            "stacks/all.yaml:6:5",
        ],
    );
    has(
        &validate(&STACKS.replace("      values:", "      value:")),
        &["error[unknown-key]", "did you mean `values`?"],
    );
    has(
        &validate(&STACKS.replace("zones: [c]", "zone: [c]")),
        &["error[unknown-key]", "did you mean `zones`?"],
    );
    has(
        &validate(&STACKS.replace("      parameters: {Title", "      parameters: {Titel")),
        &["error[unknown-parameter]", "did you mean `Title`?"],
    );
    has(&validate(&STACKS.replace("zones: [c]", "stack: c")), &["error[reserved-name]"]);
    has(
        &validate(&STACKS.replace("Title: for dev", "Title: \"${nowhere.Id}\"")),
        &["refers to a stack `nowhere`"],
    );
    has(
        &validate(&STACKS.replace("Title: for dev", "Title: \"${db.Topic}\"")),
        &["in a circle: `db` -> `db`"],
    );
    lab.write("stacks/all.yaml", STACKS);
    has(&lab.ends(&["validate"], 0), &["0 errors"]);
    // A text where `true` or `false` is wanted is no protection.
    let project = std::fs::read_to_string(lab.path("fleetwright.yaml")).expect("the project");
    lab.write("fleetwright.yaml", &project.replace("protect: true", "protect: \"yes\""));
    has(&lab.ends(&["validate"], 2), &["`protect` must be `true` or `false`"]);
}
