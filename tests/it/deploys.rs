//! What a team does every day with what runs, as it types it, on a real fleet.

use std::time::Instant;

use crate::faults::{deploy, unique};
use crate::support::lab::{Lab, edit};

/// A command's exit status, and all that it printed.
fn run(lab: &Lab, arguments: &[&str]) -> (Option<i32>, String) {
    let output = lab.run(arguments);
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("$ fleetwright {}   -> {:?}\n{text}", arguments.join(" "), output.status.code());
    (output.status.code(), text)
}

#[test]
fn what_runs_becomes_what_the_files_say() {
    let lab = Lab::up();
    let file = lab.infra.path().join("services/web.yaml");
    deploy(&lab, &unique("deploys"));
    let plan = || run(&lab, &["deploy", "--plan"]);
    assert_eq!(plan().0, Some(0), "what a pipeline deployed is what the file says");
    let begun = Instant::now();
    let (code, text) = run(&lab, &["deploy", "-y"]);
    println!("deploying what runs already: {:?}", begun.elapsed());
    assert!(code == Some(0) && text.contains("`web` matches its file."), "{text}");

    // A change of the file is shown by its field, rolled out, and gone from the plan.
    edit(&file, "  replicas: 2\n", "  replicas: 2\n  env: {GREETING: hello}\n");
    let (code, text) = plan();
    assert!(code == Some(3) && text.contains("env.GREETING   hello"), "{text}");
    let (code, text) = run(&lab, &["deploy"]);
    assert!(code == Some(2) && text.contains("no terminal to ask on"), "{text}");
    let (code, text) = run(&lab, &["deploy", "web", "-y"]);
    assert!(code == Some(0) && text.contains("running"), "{text}");
    assert_eq!(plan().0, Some(0));

    // What an environment has of its own is merged in, and `render` shows it.
    edit(
        &file,
        "  env: {GREETING: hello}\n",
        "  env: {GREETING: hello}\n  environments: {local: {env: {MORE: x}}}\n",
    );
    let (_, text) = run(&lab, &["render", "--services"]);
    assert!(text.contains("env.GREETING") && text.contains("env.MORE"), "{text}");
    assert_eq!(run(&lab, &["deploy", "-y"]).0, Some(0));

    // A number set by hand is kept, and told of.
    assert_eq!(run(&lab, &["scale", "web=3"]).0, Some(0));
    let (_, text) = run(&lab, &["status", "web"]);
    assert!(text.contains("3/3 healthy (scaled manually, its file says 2)"), "{text}");
    let (code, text) = run(&lab, &["restart", "web"]);
    assert!(code == Some(0) && text.contains("3 of 3 new instances"), "{text}");
    let (code, text) = plan();
    assert!(code == Some(0) && text.contains("web keeps 3 instances, set with `scale`"), "{text}");
    assert_eq!(run(&lab, &["stop", "web"]).0, Some(0));
    let (_, text) = run(&lab, &["status"]);
    assert!(text.contains("0/0") && text.contains("stopped"), "{text}");
    assert_eq!(run(&lab, &["start", "web"]).0, Some(0));
    assert_eq!(run(&lab, &["scale", "web=2"]).0, Some(0));

    // One that can't work ends with its cause and its last lines, and what ran goes on.
    edit(
        &file,
        "  replicas: 2\n",
        "  replicas: 2\n  entrypoint: [/bin/sh, -c, 'echo no database; exit 7']\n",
    );
    let (code, text) = run(&lab, &["deploy", "-y"]);
    assert_eq!(code, Some(1), "{text}");
    for told in
        ["did not become healthy", "status 7", "| no database", "the previous revision is running again"]
    {
        assert!(text.contains(told), "`{told}` is missing in:\n{text}");
    }
    let (_, text) = run(&lab, &["status", "web"]);
    assert!(text.contains("2/2 healthy") && text.contains("no database"), "{text}");

    // An image that is not there, a service that is not there, a revision that is not there.
    for (arguments, told) in [
        (vec!["deploy", "web", "--image", "demo/web:none", "-y"], "there is no image"),
        (vec!["deploy", "web", "--image", "other/web:1", "-y"], "is not an image of service `web`"),
        (vec!["deploy", "wbe", "-y"], "did you mean `web`?"),
        (vec!["rollback", "web", "--to", "999"], "there is no revision"),
    ] {
        let (code, text) = run(&lab, &arguments);
        assert!(matches!(code, Some(1 | 2)) && text.contains(told), "{text}");
    }
}
