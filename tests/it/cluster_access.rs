//! People on a real cluster: what an identity does is in the audit log of the control machines
//! and in the bucket, and what its level does not allow is refused.

use std::time::Duration;

use fleetwright::model::machine::Role;
use serde_json::Value;

use crate::support::lab::{Lab, poll};

/// The changes that `audit` shows.
fn audit(lab: &Lab, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "-o", "json"], arguments].concat();
    // A control machine that takes too long is named, and the rest is shown.
    let whole = poll(Duration::from_secs(60), || {
        let document: Value = serde_json::from_str(&lab.ok(&arguments)).expect("a document");
        assert_eq!(document["version"], 1);
        let changes = document["changes"].as_array().expect("a list").clone();
        document["missing"].as_array().is_none_or(Vec::is_empty).then_some(changes)
    });
    whole.expect("every control machine answers")
}

/// The operations on `target` by principals that `by` names, with their outcome.
fn seen(changes: &[Value], by: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    changes
        .iter()
        .filter(|change| change["by"].as_str().is_some_and(|who| who.contains(by)))
        .map(|change| (text(&change["operation"]), text(&change["target"]), text(&change["outcome"])))
        .collect()
}

#[test]
fn what_people_do_is_recorded_and_what_they_may_not_do_is_refused() {
    let lab = Lab::up();
    // In whole seconds, as `--since` takes it.
    let since = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let began: chrono::DateTime<chrono::Utc> = since.parse().expect("a time");
    lab.commit(
        "A service to be changed",
        &[
            ("Dockerfile", "FROM demo/base:1\nCOPY www /www\n"),
            ("www/index.html", "one\n"),
            ("www/health", "ok\n"),
        ],
    );
    assert!(lab.pipeline(&["pipeline", "run", "web"]).status.success());
    lab.commit("A second version", &[("www/index.html", "two\n")]);
    assert!(lab.pipeline(&["pipeline", "run", "web"]).status.success());
    lab.ok(&["rollback", "web"]);
    let snapshot = lab.snapshot().expect("a cluster");
    let worker = snapshot.machines.iter().find(|machine| machine.role == Role::Worker).expect("a worker");
    lab.ok(&["drain", worker.id.as_str()]);

    let changes = audit(&lab, &["--since", &since]);
    let deploys: Vec<&Value> = changes.iter().filter(|change| change["operation"] == "deploy").collect();
    assert!(deploys.len() >= 2, "{changes:#?}");
    let me = deploys[0]["by"].as_str().expect("a principal").to_owned();
    assert!(me.contains(":user/"), "the caller's own identity, not a shared token: {me}");
    let mine = seen(&changes, &me);
    let done = |what: &str, on: &str| (what.to_owned(), on.to_owned(), "done".to_owned());
    for wanted in [
        done("deploy", "service/web"),
        done("rollback", "service/web"),
        done("drain", &format!("machine/{}", worker.id)),
    ] {
        assert!(mine.contains(&wanted), "{wanted:?} is not in {mine:#?}");
    }
    for change in &changes {
        let at: chrono::DateTime<chrono::Utc> =
            change["at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
        assert!(at >= began, "{change}");
        if change["by"] == me.as_str() {
            assert!(change["from"].is_string(), "from where is not known: {change}");
        }
    }
    assert!(deploys[0]["details"]["digest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));

    // Every control machine recorded its part; the merged list has nothing twice.
    let mut ids: Vec<&str> = changes.iter().filter_map(|change| change["id"].as_str()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);

    a_viewer_is_refused(&lab);
    the_bucket_has_it_when_the_cluster_is_lost(&lab, &since);
    // The next test finds the worker in use again.
    lab.undrain(worker);
}

/// Runs a command as another user of the local cloud: whether it worked, and what it said.
fn as_user(lab: &Lab, user: &str, arguments: &[&str]) -> (bool, String) {
    let env = lab.ok(&["local", "env", "--user", user]);
    let env = env.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let env = env.map(|(name, value)| (name, value.trim_matches('\'')));
    let output = lab.command(arguments).envs(env).output().expect("the binary runs");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A token of its own, for callers outside AWS.
fn token(lab: &Lab, name: &str, level: &str) -> String {
    let _ = lab.run(&["cluster", "token", "revoke", name]);
    let arguments = ["cluster", "token", "create", "--name", name, "--level", level, "--expires", "1h"];
    lab.ok(&arguments).trim().to_owned()
}

fn a_viewer_is_refused(lab: &Lab) {
    // The starter gives every user but `local` the level viewer.
    let (good, said) = as_user(lab, "eve", &["status"]);
    assert!(good, "{said}");
    let (good, said) = as_user(lab, "eve", &["rollback", "web"]);
    assert!(!good && said.contains("user/eve may not roll a service back"), "{said}");
    assert!(said.contains("needs the level deployer, and it is a viewer"), "{said}");
    assert!(said.contains("to `deployer` of `access:` in fleetwright.yaml"), "{said}");
    let refused = seen(&audit(lab, &["--by", "user/eve"]), "user/eve");
    let last = refused.iter().rfind(|(operation, ..)| operation == "rollback").expect("it is recorded");
    assert_eq!(last.2, "refused");

    let eye = token(lab, "eye", "viewer");
    assert!(eye.starts_with("fwt_eye_"));
    let viewer = |arguments: &[&str]| {
        let output = lab.command(arguments).env("FLEETWRIGHT_CLUSTER_TOKEN", &eye).output();
        let output = output.expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    assert_eq!(viewer(&["status"]).0, Some(0));
    let (status, said) = viewer(&["rollback", "web"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("needs the level deployer, and it is a viewer"), "{said}");
    assert!(said.contains("cluster token create"), "{said}");
    let refused = seen(&audit(lab, &["--by", "token/eye"]), "token/eye");
    let last = refused.last().expect("it is recorded");
    assert_eq!(*last, ("rollback".to_owned(), "service/web".to_owned(), "refused".to_owned()));
    let listed = lab.ok(&["cluster", "token", "list"]);
    assert!(listed.contains("eye") && !listed.contains(&eye), "{listed}");

    lab.ok(&["cluster", "token", "revoke", "eye"]);
    let rejected = poll(Duration::from_secs(15), || {
        let (status, said) = viewer(&["status"]);
        (status != Some(0)).then_some(said)
    });
    let said = rejected.expect("a revoked token is rejected within 5 seconds");
    assert!(said.contains("expired or was revoked"), "{said}");
}

fn the_bucket_has_it_when_the_cluster_is_lost(lab: &Lab, began: &str) {
    let found = poll(Duration::from_secs(90), || {
        let changes = audit(lab, &["--from", "bucket", "--since", began]);
        let all = seen(&changes, "");
        let has =
            |what: &str| all.iter().any(|(operation, _, outcome)| operation == what && outcome == "done");
        (has("deploy") && has("rollback") && has("drain") && has("token-revoke")).then_some(changes)
    });
    let changes = found.expect("records reach the bucket");
    let text = serde_json::to_string(&changes).expect("JSON");
    assert!(!text.contains("fwt_"), "a token is in the record");
}
