//! The shipped documents, as machines get them.

use std::sync::OnceLock;

use super::lab::{copy_infra, fleetwright, tool};

/// The agent that they run: the program under test.
pub const AGENT: &str = env!("CARGO_BIN_EXE_fleetwright");

/// The user data of a stack of the project's own repository, with one of `templates/cloud-config/` in place of its own.
pub fn user_data(stack: &str, document: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    copy_infra(folder.path());
    let stacks = folder.path().join("stacks/cluster.yaml");
    let text = std::fs::read_to_string(&stacks).expect("the stacks");
    let own = format!("cloud_config: {}", if stack == "control" { "control.yaml" } else { "worker.yaml" });
    assert!(text.contains(&own), "the stacks name no `{own}`");
    std::fs::write(&stacks, text.replace(&own, &format!("cloud_config: {document}"))).expect("written");
    let project = folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&project).expect("the project");
    let agent = format!("\nagent: {{version: 1.4.0, sha256: \"{}\"}}\n", checksum());
    assert!(text.contains("\nagent:\n"), "the project has a place for the agent");
    std::fs::write(&project, text.replace("\nagent:\n", &agent)).expect("written");
    let output = fleetwright()
        .args(["render", stack, "--user-data"])
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The agent's checksum, as the documents are given it.
fn checksum() -> &'static str {
    static SUM: OnceLock<String> = OnceLock::new();
    SUM.get_or_init(|| {
        let said = tool("sha256sum", &[AGENT]);
        said.split_whitespace().next().expect("a checksum").to_owned()
    })
}
