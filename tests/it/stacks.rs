//! Stacks from nothing to nothing: plan, apply, a change, a failure and destroy, through
//! CloudFormation for real.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::lab::{PROJECT, copy_infra, fleetwright, tool};

/// The local cloud of the tests of stacks, apart from the fleet's: they run beside each other.
const CLOUD: &str = "stacks";

/// A `fleetwright` command in that cloud.
fn in_cloud() -> Command {
    let mut command = fleetwright();
    command.env("FLEETWRIGHT_LOCAL_NAME", CLOUD);
    command
}

/// An infra repository of its own in that cloud.
pub struct Stacks {
    infra: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Stacks {
    /// The cloud, and a repository for it under names and addresses of its own.
    pub fn up(project: &str, network: &str) -> Self {
        let infra = tempfile::tempdir().expect("a folder");
        copy_infra(infra.path());
        let up = in_cloud().args(["local", "up"]).output().expect("the binary runs");
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        let env = in_cloud().args(["local", "env"]).output().expect("the binary runs");
        let env = String::from_utf8(env.stdout).expect("UTF-8");
        let env = env
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
        let stacks = Self { infra, env };
        // Apart from everything else in the same cloud: other names, other addresses, one machine.
        stacks.edit("fleetwright.yaml", &format!("project: {PROJECT}"), &format!("project: {project}"));
        stacks.edit("stacks/cluster.yaml", "10.78.", network);
        stacks.edit("stacks/cluster.yaml", "machines: 2", "machines: 1");
        stacks.edit("stacks/cluster.yaml", "machines: 3", "machines: 0");
        stacks.ends(&["agent", "publish"], 0);
        stacks
    }

    pub fn path(&self, file: &str) -> std::path::PathBuf {
        self.infra.path().join(Path::new(file))
    }

    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).expect("the file");
        assert!(text.contains(from), "{file} has no `{from}`");
        std::fs::write(self.path(file), text.replace(from, to)).expect("written");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = in_cloud();
        command
            .args(arguments)
            .current_dir(self.infra.path())
            .env("DEMO_WEB_REPOSITORY", "unused")
            .envs(self.env.iter().cloned());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs a command that must end with `status`; gives all it printed.
    pub fn ends(&self, arguments: &[&str], status: i32) -> String {
        let output = self.run(arguments);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "`{}` printed:\n{text}", arguments.join(" "));
        text
    }

    fn plan_json(&self, status: i32) -> serde_json::Value {
        let output = self.run(&["plan", "-o", "json"]);
        assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one document")
    }
}

impl Stacks {
    /// Stores a secret.
    pub fn parameter(&self, name: &str, value: &str) {
        let var = |name: &str| self.var(name);
        let scope = format!("test/20260101/{}/ssm/aws4_request", var("AWS_REGION"));
        let authorization =
            format!("Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let body = json!({ "Name": name, "Value": value, "Type": "SecureString", "Overwrite": true });
        let (target, kind) =
            ("X-Amz-Target: AmazonSSM.PutParameter", "Content-Type: application/x-amz-json-1.1");
        let headers = ["--header", target, "--header", kind, "--header", &authorization];
        let (body, endpoint) = (body.to_string(), var("AWS_ENDPOINT_URL"));
        let arguments = [&["--silent", "--fail"], &headers[..], &["--data", &body, endpoint]].concat();
        tool("curl", &arguments);
    }

    /// A variable of the cloud's environment.
    pub fn var(&self, name: &str) -> &str {
        self.env.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// Asks the emulator; it routes by the credential's scope, and checks no signature.
    pub fn query(&self, service: &str, data: &str) -> String {
        let scope = format!("test/20260101/{}/{service}/aws4_request", self.var("AWS_REGION"));
        let authorization =
            format!("Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
        let arguments =
            ["--silent", "--show-error", "--fail-with-body", "--header", &authorization, "--data", data];
        tool("curl", &[&arguments[..], &[self.var("AWS_ENDPOINT_URL")]].concat())
    }

    /// Waits until somebody holds the environment's lock, asking as often as can be: it is held
    /// for less than a second.
    fn wait_for_lock(&self) {
        let var = |name: &str| self.var(name);
        let bucket = format!("fleetwright-stacks-000000000000-{}", var("AWS_REGION"));
        let address = format!("{}/{bucket}/locks/local.json", var("AWS_ENDPOINT_URL"));
        let begun = Instant::now();
        while !tool("curl", &["--silent", &address]).contains("\"released\": false") {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody takes the lock");
        }
    }
}

#[track_caller]
pub fn has(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
}

#[test]
fn stacks_go_from_nothing_through_changes_and_failures_to_nothing() {
    let stacks = Stacks::up("stacks", "10.76.");
    // What an earlier, broken run left.
    stacks.ends(&["destroy", "-y"], 0);

    let planned = stacks.ends(&["plan"], 3);
    has(&planned, &["3 stacks to create", "${network.Subnets}, known after apply", "predicted"]);
    let refused = stacks.ends(&["apply"], 2);
    has(&refused, &["there is no terminal to ask on", "`fleetwright apply -y`"]);
    has(&stacks.ends(&["apply", "-y"], 0), &["network", "✓ created", "3 stacks created"]);

    // Right after: nothing, and it says so.
    has(&stacks.ends(&["plan"], 0), &["no change"]);
    assert_eq!(stacks.plan_json(0)["changes"], false);
    has(&stacks.ends(&["apply", "-y"], 0), &["3 stacks unchanged"]);
    // LocalStack detects no drift, so what is found is our own, and the rest is named.
    let drift = stacks.ends(&["drift"], 0);
    has(&drift, &["workers", "no drift, 2 resources checked", "Vpc (this endpoint has no drift detection)"]);

    // What parts are put together as has no comments, so that one more is no change.
    let worker = stacks.path("templates/cloud-config/worker.yaml");
    let base = std::fs::read_to_string(&worker).expect("the file");
    std::fs::write(&worker, format!("{base}\n# a changed line\n")).expect("written");
    has(&stacks.ends(&["plan"], 0), &["no change"]);
    // A file is planned down to the machine that keeps the old one.
    let file = "write_files:\n  - {path: /etc/motd, content: a changed line}\n";
    std::fs::write(&worker, format!("{base}\n{file}")).expect("written");
    has(
        &stacks.ends(&["plan"], 3),
        &[
            "1 stack to update, 2 unchanged. 1 machine would be replaced by a roll.",
            "/etc/motd",
            "confirmed",
            "will be at version 2; 1 machine runs version 1 (i-",
            "`fleetwright roll workers`",
        ],
    );
    let document = stacks.plan_json(3);
    let workers = document["stacks"].as_array().expect("stacks").iter().find(|s| s["stack"] == "workers");
    let consequence = &workers.expect("the workers")["consequences"][0];
    assert_eq!((&consequence["version"], &consequence["made_by_apply"]), (&"2".into(), &true.into()));

    // A saved plan is applied as it was shown, once, and not at all when anything has moved.
    let saved = stacks.ends(&["plan", "--out", "plan.json"], 3);
    has(&saved, &["Apply exactly this with `fleetwright apply plan.json`"]);
    stacks.edit("templates/cloud-config/worker.yaml", "a changed line", "another line");
    let refused = stacks.ends(&["apply", "-y", "plan.json"], 1);
    has(
        &refused,
        &["does not hold any more; nothing was changed", "the repository has other template of `workers`"],
    );
    stacks.edit("templates/cloud-config/worker.yaml", "another line", "a changed line");
    let applied = stacks.ends(&["apply", "-y", "plan.json"], 0);
    has(&applied, &["✓ updated", "2 stacks unchanged and 1 updated"]);
    has(&stacks.ends(&["apply", "-y", "plan.json"], 1), &["stack `workers` was changed (template)"]);
    has(&stacks.ends(&["plan"], 0), &["is at version 2; 1 machine runs version 1 (i-", "no change"]);
    // The machine is not what its group would launch, whoever is to blame.
    let drift = stacks.ends(&["drift", "workers"], 3);
    has(
        &drift,
        &["~ Group", "version 2 -> version 1", "`fleetwright roll` replaces machines of another version"],
    );

    // A failure names its first cause, with its place, and leaves what was there.
    stacks.edit("stacks/cluster.yaml", "10.76.2.0/24]", "10.76.2.0/24, 192.168.0.0/24]");
    let failed = stacks.ends(&["apply", "-y"], 1);
    has(&failed, &["✗ failed", "cause: Subnet3", "at: templates/cloudformation/network.yaml", "next: "]);
    has(&failed, &["skipped: what it depends on failed"]);
    stacks.edit("stacks/cluster.yaml", "10.76.2.0/24, 192.168.0.0/24]", "10.76.2.0/24]");
    has(&stacks.ends(&["plan"], 0), &["no change"]);

    has(&stacks.ends(&["destroy"], 2), &["3 stacks and 1 machine", "there is no terminal to ask on"]);
    has(&stacks.ends(&["destroy", "-y"], 0), &["✓ deleted", "3 stacks deleted"]);
    has(&stacks.ends(&["destroy", "-y"], 0), &["nothing to delete"]);

    // A creation that failed is recovered from without a console.
    stacks.edit("stacks/cluster.yaml", "10.76.2.0/24]", "10.76.2.0/24, 192.168.0.0/24]");
    let failed = stacks.ends(&["apply", "-y"], 1);
    has(&failed, &["cause: Subnet3", "the stack is ROLLBACK_COMPLETE: `fleetwright recover network`"]);
    has(&stacks.ends(&["plan"], 1), &["blocked: ROLLBACK_COMPLETE", "`fleetwright recover network`"]);
    has(&stacks.ends(&["recover", "netwrok"], 2), &["did you mean `network`?"]);
    has(&stacks.ends(&["recover", "network", "--dry-run"], 0), &["is ROLLBACK_COMPLETE: it will be deleted"]);
    let recovered = ["recover", "network", "-y", "--confirm", "stacks-local-network"];
    has(&stacks.ends(&recovered, 0), &["✓ deleted", "network does not exist: nothing to recover"]);
    has(&stacks.ends(&["plan"], 3), &["3 stacks to create"]);

    // A template that is too large for a request goes through the project's bucket.
    stacks.edit("stacks/cluster.yaml", "10.76.2.0/24, 192.168.0.0/24]", "10.76.2.0/24]");
    let network = stacks.path("templates/cloudformation/network.yaml");
    let text = std::fs::read_to_string(&network).expect("the file");
    std::fs::write(&network, format!("{text}{}", "# much to say\n".repeat(4000))).expect("written");
    has(&stacks.ends(&["apply", "-y"], 0), &["3 stacks created"]);
    has(&stacks.ends(&["plan"], 0), &["no change"]);

    // What is protected is not deleted, and both ways show in a plan.
    stacks.edit("stacks/cluster.yaml", "network:\n  template", "network:\n  protect: true\n  template");
    has(&stacks.ends(&["plan"], 3), &["+ protection from deletion on", "1 stack to update, 2 unchanged"]);
    has(&stacks.ends(&["apply", "-y"], 0), &["network  ✓ updated"]);
    has(&stacks.ends(&["plan"], 0), &["no change"]);
    has(&stacks.ends(&["destroy", "-y"], 1), &["`network` is protected from deletion; nothing was deleted"]);
    stacks.edit("stacks/cluster.yaml", "protect: true", "protect: false");
    has(&stacks.ends(&["apply", "-y"], 0), &["- protection from deletion off", "network  ✓ updated"]);

    // With the credentials of another account nothing is asked.
    stacks.edit("fleetwright.yaml", "    cluster: main", "    account: \"123456789012\"\n    cluster: main");
    let other = stacks.ends(&["plan"], 1);
    has(&other, &["environment `local` is account 123456789012, and the credentials are of 000000000000"]);
    let role = "account: \"123456789012\"\n    role: arn:aws:iam::123456789012:role/deploy";
    stacks.edit("fleetwright.yaml", "account: \"123456789012\"", role);
    has(&stacks.ends(&["plan"], 3), &["3 stacks to create"]);
    stacks.edit("fleetwright.yaml", role, "account: \"000000000000\"");
    has(&stacks.ends(&["plan"], 0), &["no change"]);

    // A stack that leaves the repository is kept and named, until it is asked for.
    let file = stacks.path("stacks/cluster.yaml");
    let all = std::fs::read_to_string(&file).expect("the file");
    let without = all.split("\nworkers:").next().expect("the stacks before it");
    std::fs::write(&file, without).expect("written");
    let kept = stacks.ends(&["plan"], 0);
    has(&kept, &["! stacks-local-workers (", "is kept: `fleetwright apply --prune` deletes it", "no change"]);
    has(
        &stacks.ends(&["plan", "--prune"], 3),
        &["- stacks-local-workers (", "1 stack to delete, 2 unchanged", "`fleetwright apply --prune`"],
    );
    has(
        &stacks.ends(&["apply", "-y", "--prune"], 0),
        &["stacks-local-workers goes with", "AWS::AutoScaling::AutoScalingGroup", "✓ deleted"],
    );
    assert!(!stacks.ends(&["plan"], 0).contains("workers"));
    std::fs::write(&file, all).expect("written");

    // A process that changes the environment keeps others out; one that was killed does not.
    let mut holder =
        stacks.command(&["destroy", "-y"]).stderr(Stdio::null()).spawn().expect("the binary runs");
    stacks.wait_for_lock();
    tool("kill", &["-STOP", &holder.id().to_string()]);
    let refused = stacks.ends(&["destroy", "-y"], 1);
    holder.kill().expect("killed");
    holder.wait().expect("it ended");
    has(&refused, &["has changed `local` for", "with `fleetwright destroy`", "try again after a minute"]);
    stacks.ends(&["destroy", "-y"], 0);
    has(&stacks.ends(&["destroy", "-y"], 0), &["nothing to delete"]);
}
