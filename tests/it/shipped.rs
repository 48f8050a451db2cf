//! The shipped documents, held against the model: those for Flatcar can't be booted.

use std::path::Path;

use crate::support::fleetwright;
use crate::support::shipped::user_data;

/// The stacks and the documents that they could name.
const DEBIAN: [(&str, &str); 2] = [("control", "control.yaml"), ("workers", "worker.yaml")];
const FLATCAR: [(&str, &str); 2] = [("control", "flatcar/control.yaml"), ("workers", "flatcar/worker.yaml")];

/// Half of what EC2 takes, and a quarter more: what users add must have room.
const MOST: usize = 12_288;

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("written");
}

/// Checks each of the documents for the targets, with no finding at all, and shows what it does.
fn check_and_show(documents: &[(&str, &str)], targets: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    for (stack, document) in documents {
        let text = user_data(stack, document);
        assert!(text.len() <= MOST, "{document} has {} bytes", text.len());
        write(folder.path(), document, &text);
        let targets = targets.iter().flat_map(|target| ["--target", target]);
        let arguments: Vec<&str> = ["cloud-config", "check", document].into_iter().chain(targets).collect();
        let run = fleetwright(folder.path(), &arguments);
        assert_eq!(run.to_string(), "0 errors in 1 file (N ms).\nstatus 0\n", "{document}");
        let name = document.replace('/', "-").replace(".yaml", "");
        insta::assert_snapshot!(
            format!("shipped-{name}"),
            fleetwright(folder.path(), &["cloud-config", "show", document])
        );
        units(folder.path(), document, &text);
    }
}

/// Checks the document's units as a set, with no finding at all.
fn units(folder: &Path, document: &str, text: &str) {
    let value: serde_json::Value = serde_yaml::from_str(text).expect("it is YAML");
    let word = |value: &serde_json::Value, key: &str| value[key].as_str().map(str::to_owned);
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut names = Vec::new();
    let mut add = |name: String, text: &str| {
        let name = format!("units/{document}/{name}");
        write(folder, &name, text);
        names.push(name);
    };
    for file in list(&value["write_files"]) {
        let path = word(&file, "path").expect("a path");
        if let Some(name) = path.strip_prefix("/etc/systemd/system/") {
            add(name.to_owned(), &word(&file, "content").expect("a text"));
        }
    }
    for unit in list(&value["coreos"]["units"]) {
        let name = word(&unit, "name").expect("a name");
        if let Some(text) = word(&unit, "content") {
            add(name.clone(), &text);
        }
        for drop_in in list(&unit["drop_ins"]) {
            let own = word(&drop_in, "name").expect("a name");
            add(format!("{name}.d/{own}"), &word(&drop_in, "content").expect("a text"));
        }
    }
    assert!(names.len() >= 4, "{document} has few units: {names:?}");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let run = fleetwright(folder, &[&["unit", "check", "--strict"], names.as_slice()].concat());
    assert_eq!(run.status, Some(0), "{document}: {run}");
}

#[test]
fn documents_for_debian_are_without_findings() {
    check_and_show(&DEBIAN, &["cloud-init-22.4", "cloud-init-23.4"]);
}

#[test]
fn documents_for_flatcar_are_without_findings() {
    check_and_show(&FLATCAR, &["flatcar", "coreos-legacy", "ignition-3.3"]);
}

#[test]
fn scripts_are_what_a_shell_reads() {
    for (stack, document) in DEBIAN.into_iter().chain(FLATCAR) {
        let value: serde_json::Value = serde_yaml::from_str(&user_data(stack, document)).expect("it is YAML");
        let mut scripts = 0;
        for file in value["write_files"].as_array().expect("files") {
            let text = file["content"].as_str().expect("a text");
            if text.starts_with("#!/bin/sh\n") {
                let output = std::process::Command::new("sh").args(["-n", "-c", text]).output().expect("sh");
                assert!(output.status.success(), "{document}: {}", String::from_utf8_lossy(&output.stderr));
                scripts += 1;
            }
        }
        assert_eq!(scripts, 2, "{document} has an installer and an announcer");
    }
}
