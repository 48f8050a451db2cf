//! The tools of tests/pages: a browser that is driven, and the judges of pages and of the API.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::lab::{home, root};

/// A program of the tools.
///
/// # Panics
/// Where they are not installed.
pub fn tool(name: &str) -> PathBuf {
    let path = home().join("pages/bin").join(name);
    assert!(path.exists(), "there is no {}: run `scripts/setup test`, which installs it", path.display());
    path
}

/// Runs a script of tests/pages with `task`, and gives what it prints.
///
/// # Panics
/// When it fails, with what it said.
pub fn play(script: &str, task: &Value) -> Value {
    assert!(
        std::path::Path::new("/usr/bin/chromium").exists(),
        "there is no /usr/bin/chromium: run `scripts/setup test`, which installs it"
    );
    let mut child = Command::new(tool("python"))
        .arg(root().join("tests/pages").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python runs");
    let mut input = child.stdin.take().expect("its input");
    input.write_all(task.to_string().as_bytes()).expect("it reads its task");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed:\n{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}
