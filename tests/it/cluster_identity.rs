//! Identities on a real cluster: machines joined with proofs that the local cloud's STS judged,
//! people are who their credentials say, and what runs on a machine is nobody.

use std::process::Command;

use fleetwright::model::machine::Role;
use serde_json::Value;

use crate::support::lab::Lab;

/// Runs a line on a machine as its root, with what every unit there finds in its environment.
fn on(container: &str, line: &str) -> (bool, String) {
    let line = format!("export $(systemctl show-environment | grep '^AWS_' | xargs); {line}");
    let output = Command::new("docker").args(["exec", container, "sh", "-c", &line]).output();
    let output = output.expect("docker runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_machine_is_what_its_group_says_and_its_root_is_no_person() {
    // Lab::up waits for machines that are registered, which takes a certificate each.
    let lab = Lab::up();
    let snapshot = lab.snapshot().expect("the status");
    for machine in &snapshot.machines {
        assert_eq!(machine.group.ends_with("-control"), machine.role == Role::Control, "{machine:?}");
        assert_eq!(machine.metadata["role"], machine.role.word());
    }
    let control = snapshot.machines.iter().find(|one| one.role == Role::Control).expect("a control machine");
    let worker = snapshot.machines.iter().find(|one| one.role == Role::Worker).expect("a worker");

    // Whoever is root on a worker has the credentials of its role. They make no person of him.
    let authority = "/run/fleetwright/etcd/ca.crt";
    let asked = format!(
        "FLEETWRIGHT_CLUSTER_ENDPOINT=https://{}:7443 FLEETWRIGHT_CLUSTER_CA={authority} \
         /usr/local/bin/fleetwright",
        control.address
    );
    let container = lab.container(worker);
    for verb in ["status", "logs web", "drain i-0123456789abcdef0", "rollback web"] {
        let (worked, said) = on(&container, &format!("{asked} {verb}"));
        assert!(!worked && said.contains("is a machine of this cluster"), "{verb}: {said}");
    }
    // The rendezvous gives a worker no token that would.
    let (_, said) = on(&container, "cat /etc/fleetwright/agent.yaml /run/fleetwright/*.env");
    assert!(!said.contains("token"), "{said}");
}

#[test]
fn the_command_line_is_the_user_whose_credentials_it_has() {
    let lab = Lab::up();
    let as_user = |user: &str, arguments: &[&str]| {
        let variables = lab.ok(&["local", "env", "--user", user]);
        let variables = variables
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()));
        lab.command(arguments).envs(variables).output().expect("the binary runs")
    };
    let snapshot = lab.snapshot().expect("the status");
    let worker = snapshot.machines.iter().find(|one| one.role == Role::Worker).expect("a worker");
    assert!(as_user("deployer", &["status"]).status.success());
    assert!(as_user("deployer", &["drain", worker.id.as_str()]).status.success());
    let audit = as_user("deployer", &["audit", "--output", "json"]);
    let audit: Value = serde_json::from_slice(&audit.stdout).expect("a document");
    let text = audit.to_string();
    assert!(text.contains("user/deployer") && text.contains(worker.id.as_str()), "{text}");
    // Her keys do not open what another signed: the secret is the user's own.
    let forged = lab
        .command(&["status"])
        .env("AWS_SECRET_ACCESS_KEY", "0".repeat(64))
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&forged.stderr).into_owned();
    assert!(!forged.status.success() && said.contains("SignatureDoesNotMatch"), "{said}");
    // The next test finds the worker in use again.
    lab.undrain(worker);
}
