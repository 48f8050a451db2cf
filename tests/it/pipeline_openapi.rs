//! schemathesis against a real `serve` and its own description: generated requests never fail inside of it, and every
//! answer is one that the description has.

use std::process::Command;

use crate::pipeline_serve::Site;
use crate::support::page_tools::tool;

const GOOD: &[u8] = b"FROM scratch\nCOPY . /srv\n";
/// How many requests are generated for each operation and phase.
const EXAMPLES: &str = "25";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_and_every_answer_is_documented() {
    let site = Site::new();
    let (good, token, stderr) = site.run(&["serve", "token", "create", "anna", "--role", "admin"]);
    assert!(good, "{stderr}");
    let serve = site.serve_quietly();
    site.origin.commit("first", &[("Dockerfile", GOOD)]);
    let (good, _, stderr) = site.run(&["pipeline", "run", "web"]);
    assert!(good, "{stderr}");
    let output = Command::new(tool("schemathesis"))
        .args(["run", &format!("{}v1/openapi.json", serve.page)])
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        // Of several threads, Python 3.11's parser confuses the depths (gh-106905).
        .args(["--max-examples", EXAMPLES, "--generation-deterministic", "--workers", "1"])
        // A log that is followed has no end, unless its run has one.
        .args(["--request-timeout", "20", "--continue-on-failure", "--max-time", "35"])
        .arg("--no-color")
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--phases", "examples,coverage,fuzzing"])
        // What it writes for itself belongs to the test.
        .current_dir(site.folder.path())
        .env("HOME", site.folder.path())
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
