//! Where a scenario takes place: a repository, a cloud, and the means to look into it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ssm::config::{Credentials, SharedCredentialsProvider};

use super::cleanup;
use crate::support::ministack::Ministack;

/// The kinds of clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The emulator.
    Ministack,
    /// Amazon's own, with the caller's credentials.
    Aws,
}

/// Plays a scenario on the cloud that is chosen.
pub fn scenario(play: impl FnOnce(&Lab)) {
    scenario_except(&[], play);
}

/// Plays a scenario on the cloud that is chosen, unless it is one of those that can't do it; each
/// of them with the reason.
pub fn scenario_except(cannot: &[(Kind, &str)], play: impl FnOnce(&Lab)) {
    let region = std::env::var("FLEETWRIGHT_TEST_AWS").ok().filter(|region| !region.is_empty());
    let kind = if region.is_some() { Kind::Aws } else { Kind::Ministack };
    if let Some((_, why)) = cannot.iter().find(|(cannot, _)| *cannot == kind) {
        println!("not on {kind:?}: {why}");
        return;
    }
    play(&Lab::open(region));
}

/// A repository in a folder of its own, and a cloud.
pub struct Lab {
    /// The kind of cloud.
    pub kind: Kind,
    /// The project's name, used by nothing else in this cloud.
    pub project: String,
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
    pub(super) region: String,
    pub(super) config: SdkConfig,
    pub(super) runtime: tokio::runtime::Runtime,
    printed: RefCell<String>,
    variables: RefCell<BTreeMap<String, String>>,
    server: Option<Ministack>,
}

impl Lab {
    fn open(region: Option<String>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("tokio");
        let kind = if region.is_some() { Kind::Aws } else { Kind::Ministack };
        assert!(
            kind == Kind::Ministack || std::env::var_os("CI").is_none(),
            "FLEETWRIGHT_TEST_AWS is set in CI: tests on AWS are started by a person"
        );
        assert!(
            kind == Kind::Ministack || std::env::var_os("AWS_ENDPOINT_URL").is_none(),
            "AWS_ENDPOINT_URL is set: what answers there is not AWS"
        );
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let mut config = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.clone()));
        let server = (kind == Kind::Ministack).then(Ministack::start);
        if let Some(server) = &server {
            let anybody = Credentials::new("test", "test", None, None, "test");
            config = config
                .endpoint_url(server.endpoint())
                .credentials_provider(SharedCredentialsProvider::new(anybody));
        }
        let config = runtime.block_on(config.load());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
        let project = format!("fwt-{:x}-{:x}", std::process::id(), now);
        let lab = Self {
            kind,
            project,
            folder: tempfile::tempdir().expect("a folder"),
            home: tempfile::tempdir().expect("a folder"),
            region,
            config,
            runtime,
            printed: RefCell::default(),
            variables: RefCell::default(),
            server,
        };
        let main = format!(
            "project: {}\nenvironments:\n  test:\n    region: {}\n    cluster: main\n\
             clusters:\n  main:\n    engine: swarm\n",
            lab.project, lab.region
        );
        lab.write("fleetwright.yaml", &main);
        lab
    }

    // --- The repository -----------------------------------------------------------------------

    /// A file of the repository.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes a file of the repository.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    /// Writes the file that lists the stacks.
    pub fn stacks(&self, text: &str) {
        self.write("stacks/all.yaml", text);
    }

    /// Writes a template.
    pub fn template(&self, name: &str, text: &str) {
        self.write(&format!("templates/cloudformation/{name}.yaml"), text);
    }

    /// Replaces a part of a file that is in it.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(file)).expect("the file");
        assert!(text.contains(from), "{file} has no `{from}`");
        self.write(file, &text.replace(from, to));
    }

    // --- The program --------------------------------------------------------------------------

    /// A command in the repository, with what it needs to reach the cloud.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetwright"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        match &self.server {
            Some(server) => {
                command
                    .env_clear()
                    .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                    .env("HOME", self.home.path())
                    .env("AWS_ENDPOINT_URL", server.endpoint())
                    .env("AWS_ACCESS_KEY_ID", "test")
                    .env("AWS_SECRET_ACCESS_KEY", "test")
                    .env("AWS_REGION", &self.region);
            }
            // The caller's credentials may be anywhere.
            None => {
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("FLEETWRIGHT_") {
                        command.env_remove(name);
                    }
                }
            }
        }
        command.env("FLEETWRIGHT_HOME", self.home.path()).envs(self.variables.borrow().iter());
        command
    }

    /// Sets a variable of every command from now on.
    pub fn set(&self, name: &str, value: &str) {
        self.variables.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    /// Starts a command that goes on while the scenario does something else.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
    }

    /// Waits for a command that was started, and that must end with `status`; gives all it printed.
    pub fn ended(&self, started: Child, status: i32) -> String {
        let output = started.wait_with_output().expect("it ended");
        self.note(&output);
        ended(&output, &["a command that was started"], status)
    }

    /// Runs a command whatever its end.
    pub fn run(&self, command: &mut Command) -> Output {
        let output = command.output().expect("the binary runs");
        self.note(&output);
        output
    }

    fn note(&self, output: &Output) {
        let mut printed = self.printed.borrow_mut();
        printed.push_str(&String::from_utf8_lossy(&output.stdout));
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
    }

    /// Runs a command that must end with `status`; gives all it printed.
    pub fn ends(&self, arguments: &[&str], status: i32) -> String {
        ended(&self.run(&mut self.command(arguments)), arguments, status)
    }

    /// All that commands have printed so far.
    pub fn printed(&self) -> String {
        self.printed.borrow().clone()
    }

    /// All that commands have written to disk for themselves.
    pub fn kept(&self) -> String {
        let mut text = String::new();
        let mut folders = vec![self.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("readable").flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => text.push_str(&String::from_utf8_lossy(&std::fs::read(path).expect("readable"))),
                }
            }
        }
        text
    }

    /// The plan as a document; the command must end with `status`.
    pub fn plan_json(&self, status: i32) -> serde_json::Value {
        let arguments = ["plan", "-o", "json"];
        let output = self.run(&mut self.command(&arguments));
        ended(&output, &arguments, status);
        serde_json::from_slice(&output.stdout).expect("one document")
    }

    /// Deletes all that the scenario may have left in the cloud.
    pub fn clean(&self) {
        cleanup::all(self);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The server takes everything with it.
        if self.kind == Kind::Aws {
            self.clean();
        }
    }
}

/// What a command printed, whose status must be this.
fn ended(output: &Output, arguments: &[&str], status: i32) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "`{}` printed:\n{text}", arguments.join(" "));
    text
}
