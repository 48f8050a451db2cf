//! Makes what is embedded into the binary: the health probe, and the list of the files of
//! the emulator's plugin.

#![allow(clippy::disallowed_methods, reason = "this reads the project's own files")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    probe();
    plugin();
}

/// Compiles the health probe: a static program of its own, since it runs inside containers
/// that hold nothing else.
fn probe() {
    println!("cargo::rerun-if-changed=src/probe");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("probe");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    let mut command = Command::new(rustc);
    command
        .args(["--edition", "2024", "--crate-name", "probe", "--target", &target])
        .args(["-C", "target-feature=+crt-static", "-C", "relocation-model=static"])
        .args(["-C", "opt-level=s", "-C", "lto=fat", "-C", "codegen-units=1"])
        .args(["-C", "panic=abort", "-C", "strip=symbols"])
        .arg("-o")
        .arg(&out)
        .arg("src/probe/main.rs");
    let status = command.status().expect("rustc runs: it is compiling this package");
    assert!(status.success(), "compiling src/probe/main.rs as a static program failed: {command:?}");
}

/// Lists the plugin's files, so that none can be forgotten when one is added.
fn plugin() {
    println!("cargo::rerun-if-changed=src/local/localstack");
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let root = here.join("src/local/localstack");
    let mut files = Vec::new();
    walk(&root.join("fleetwright_localstack"), &mut files);
    files.sort();
    let mut text = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).expect("it was found below the folder").display().to_string();
        let _ = writeln!(text, "    ({name:?}, include_str!({:?})),", file.display().to_string());
    }
    text.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("plugin_files.rs"), text).expect("OUT_DIR can be written");
}

/// Collects the Python files below `dir`; what Python itself leaves there is no part of it.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the plugin's folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            files.push(path);
        }
    }
}
