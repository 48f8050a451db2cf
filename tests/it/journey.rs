//! The whole journey, as a newcomer sees it: `fleetwright demo` from a cold start, with real parts.
//!
//! `BREAK=localstack`, `docker`, `registry` or `machine` stops that part in the middle; the
//! test must then fail, and does not pass by looking away.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::lab::{copy_infra, fleetwright, tool};

#[test]
fn a_newcomer_sees_the_whole_journey() {
    let infra = tempfile::tempdir().expect("a folder");
    copy_infra(infra.path());
    let mut child = fleetwright()
        .args(["demo", "--output", "json"])
        .current_dir(infra.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut result = None;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("UTF-8");
        println!("{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("a JSON object a line");
        assert_eq!(value["version"], 1);
        if value["step"] == 7 {
            break_a_part();
        }
        if !value["result"].is_null() {
            result = Some(value["result"].clone());
        }
    }
    let status = child.wait().expect("the demo ends");
    assert!(status.success(), "the demo ended with {status}");

    let result = result.expect("the last line is the result");
    assert_eq!(result["probe"]["failures"], 0, "{}", result["probe"]);
    assert!(result["probe"]["requests"].as_u64() > Some(200), "{}", result["probe"]);
    for answer in ["v1", "v2"] {
        assert!(result["probe"]["answers"][answer].as_u64() > Some(0), "{}", result["probe"]);
    }
    assert!(result["probe"]["answers"]["v3"].is_null(), "a broken version answered: {}", result["probe"]);
    assert_eq!(result["rolled"].as_array().map(Vec::len), Some(2));
    assert_eq!(result["failed"], "run test: exit status 1");
    let instances = result["unit"]["instances"].as_array().expect("a list");
    let healthy = instances.iter().filter(|instance| instance["state"] == "healthy").count();
    assert_eq!(healthy, 2, "the unit runs on both new workers: {}", result["unit"]);
    let states: Vec<_> =
        result["service"]["history"].as_array().expect("a list").iter().map(|r| &r["state"]).collect();
    assert_eq!(states, ["rolled-back", "running", "replaced"]);
}

/// Stops the part named by BREAK, once.
fn break_a_part() {
    let home = crate::support::lab::home();
    let status = || {
        let output =
            fleetwright().args(["local", "status", "--output", "json"]).output().expect("the binary runs");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("a document")
    };
    let pid_of = |part: &str| {
        let status = status();
        let parts = status["parts"].as_array().expect("a list of parts");
        let pid = parts.iter().find(|p| p["name"] == part).and_then(|p| p["pid"].as_i64());
        pid.unwrap_or_else(|| panic!("no pid of {part} in {status}")).to_string()
    };
    match std::env::var("BREAK").as_deref() {
        Ok("localstack") => drop(tool("kill", &["-9", &pid_of("emulator")])),
        Ok("registry") => drop(tool("kill", &["-STOP", &pid_of("registry")])),
        Ok("docker") => drop(tool("pkill", &["-9", "-x", "dockerd"])),
        Ok("machine") => {
            let names =
                tool("docker", &["ps", "--format", "{{.Names}}", "--filter", "name=fleetwright-test-i-"]);
            // Two of three managers: the cluster has lost its quorum.
            for name in names.lines().filter(|name| is_manager(name)).take(2) {
                tool("docker", &["pause", name]);
            }
        }
        Ok(other) if !other.is_empty() => {
            panic!("BREAK is localstack, docker, registry or machine, not {other}")
        }
        _ => return,
    }
    eprintln!("broke a part on purpose; the state is under {}", home.display());
}

fn is_manager(container: &str) -> bool {
    tool("docker", &["exec", container, "docker", "info", "--format", "{{.Swarm.ControlAvailable}}"]).trim()
        == "true"
}
