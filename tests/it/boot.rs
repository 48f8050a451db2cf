//! User data booted for real, in a machine of the local cloud's image.

use std::os::unix::fs::PermissionsExt;

use crate::stacks::has;
use crate::support::lab::{fleetwright, root};
use crate::support::shipped;

const WORKER: &str = "\
#cloud-config
write_files:
  - path: /etc/docker/daemon.json
    permissions: \"0644\"
    content: |
      {\"log-driver\": \"json-file\", \"log-opts\": {\"max-size\": \"10m\"}}
users:
  - {name: ops, groups: docker}
runcmd:
  - [systemctl, restart, docker]
  - [sh, -c, 'echo $((40 + 2)) > /root/answer']
";

const EXPECTED: &str = "\
files:
  /etc/docker/daemon.json: {mode: \"0644\", owner: \"root:root\", contains: max-size}
  /root/answer: {contains: \"42\"}
  /etc/absent: {absent: true}
units: {docker.service: active}
commands:
  - {run: [id, ops], contains: docker}
  - {run: [\"false\"], status: 1}
";

fn booted(document: &str, expected: &str, status: i32, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.yaml"), document).expect("written");
    std::fs::write(folder.path().join("a.boot.yaml"), expected).expect("written");
    let mut command = fleetwright();
    command.args(["cloud-config", "boot", "a.yaml", "--expect", "a.boot.yaml"]).args(arguments);
    let output = command.current_dir(folder.path()).output().expect("the binary runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

#[test]
fn a_document_is_held_against_the_machine_it_makes() {
    let said = booted(WORKER, EXPECTED, 0, &[]);
    has(&said, &["✓ docker.service is active", "✓ `id ops` says `docker`", "all 13 expectations hold"]);
    let json = booted(WORKER, EXPECTED, 0, &["-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&json).expect("one document");
    assert_eq!((&document["passed"], &document["machine"]["done"]), (&true.into(), &true.into()));
}

#[test]
fn what_does_not_hold_is_said_with_what_there_is() {
    let broken = WORKER.replace("/root/answer']", "/root/answer; exit 3']").replace("docker}", "nobody-s}");
    let said = booted(&broken, EXPECTED, 1, &[]);
    has(&said, &["✗ cloud-init is done without errors", "✗ `id ops` says `docker`", "do not hold"]);
    let refused = booted(WORKER, "fils: {}", 2, &[]);
    has(&refused, &["a.boot.yaml holds no expectations", "fils"]);
}

#[test]
fn files_are_brought_along_read_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let tool = folder.path().join("tool");
    std::fs::write(&tool, "#!/bin/sh\necho brought\n").expect("written");
    std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).expect("set");
    let document = "#cloud-config\nruncmd:\n  - [sh, -c, '/opt/bin/tool > /root/said']\n";
    let expected = "\
files:
  /root/said: {contains: brought}
commands:
  - {run: [sh, -c, 'echo mine > /opt/bin/tool'], status: 2, contains: Read-only}
";
    let brought = format!("{}:/opt/bin/tool", tool.display());
    has(&booted(document, expected, 0, &["--file", &brought]), &["all 6 expectations hold"]);
}

#[test]
fn what_can_t_be_booted_or_brought_is_refused() {
    let said = booted(WORKER, "{}", 2, &["--target", "flatcar"]);
    has(&said, &["`flatcar` can't be booted", "cloud-config check --target flatcar"]);
    has(&booted(WORKER, "{}", 2, &["--file", "/etc/hostname"]), &["write `HOST:MACHINE`"]);
    has(&booted(WORKER, "{}", 2, &["--file", "/no/such:/x"]), &["`/no/such`: No such file"]);
    has(&booted(WORKER, "{}", 2, &["--file", "/etc/hostname:x"]), &["the machine's path is absolute"]);
}

/// Boots a shipped document, which must be without findings, and holds it against what is expected of it.
fn shipped_boots(stack: &str, document: &str, release: &str) {
    let text = shipped::user_data(stack, document);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(document), &text).expect("written");
    let check = fleetwright()
        .args(["cloud-config", "check", "--strict", document])
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let expected = format!("tests/it/boot/{}.boot.yaml", document.trim_end_matches(".yaml"));
    let expected = std::fs::read_to_string(root().join(expected)).expect("what is expected");
    let expected = expected.replace("codename=bookworm", &format!("codename={release}"));
    let agent = format!("{}:/usr/local/bin/fleetwright", shipped::AGENT);
    let said = booted(&text, &expected, 0, &["--file", &agent, "--release", release]);
    has(&said, &["cloud-init is done without errors", "no unit has failed"]);
}

#[test]
fn the_shipped_control_machine_boots() {
    shipped_boots("control", "control.yaml", "bookworm");
}

#[test]
fn the_shipped_worker_boots() {
    shipped_boots("workers", "worker.yaml", "bookworm");
}

#[test]
fn the_shipped_control_machine_boots_on_debian_13() {
    shipped_boots("control", "control.yaml", "trixie");
}

#[test]
fn the_shipped_worker_boots_on_debian_13() {
    shipped_boots("workers", "worker.yaml", "trixie");
}

/// The versions are those of docs/engines.md.
#[test]
fn debian_13_is_booted_on_request() {
    let expected = "\
commands:
  - {run: [docker, version, --format, '{{.Server.Version}} {{.Client.Version}}'], contains: 26.1.5}
  - {run: [systemctl, --version], contains: systemd 257}
  - {run: [cloud-init, --version], contains: 25.1}
  - {run: [etcd, --version], contains: 3.5.16}
";
    let document = "#cloud-config\nruncmd:\n  - [sh, -c, 'echo 42 > /root/answer']\n";
    has(&booted(document, expected, 0, &["--target", "cloud-init-23.4"]), &["all 10 expectations hold"]);
    let said = booted(document, "{}", 2, &["--target", "cloud-init-22.4", "--release", "trixie"]);
    has(
        &said,
        &["`cloud-init-22.4` can't be booted on trixie, which has cloud-init 25.1", "--release bookworm"],
    );
}
