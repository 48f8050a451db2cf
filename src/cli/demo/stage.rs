//! How the demo shows what it does: numbered steps, the commands a person would type, and what they print.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Instant;

use tokio::process::Command;

use super::super::context::Context;
use super::super::failure::Failure;

/// The demo's screen, and where its commands run.
#[derive(Debug)]
pub struct Stage {
    json: bool,
    colour: bool,
    binary: PathBuf,
    infra: PathBuf,
    /// Set for every command: where the local cloud is, and how to get in.
    env: Vec<(String, String)>,
    step: usize,
    steps: usize,
    begun: Instant,
}

impl Stage {
    /// A screen for `steps` steps whose commands run in `infra`.
    ///
    /// # Errors
    /// When this binary's own path can't be told.
    pub fn new(context: &Context, infra: PathBuf, steps: usize) -> Result<Self, Failure> {
        let binary = std::env::current_exe().map_err(|error| {
            Failure::failed(
                format!("finding this binary's path: {error}"),
                "run the demo from an installed fleetwright",
            )
        })?;
        Ok(Self {
            json: context.json(),
            colour: context.colour_err,
            binary,
            infra,
            env: Vec::new(),
            step: 0,
            steps,
            begun: Instant::now(),
        })
    }

    /// Adds variables to the environment of every command to come.
    pub fn extend_env(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        self.env.extend(env);
    }

    /// Whether the screen is JSON, one object a line.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Prints the result.
    pub fn result(&self, value: &serde_json::Value) {
        self.line(value);
    }

    /// Where the commands run.
    pub fn infra(&self) -> &std::path::Path {
        &self.infra
    }

    /// Time since the demo began.
    pub fn elapsed(&self) -> std::time::Duration {
        self.begun.elapsed()
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &str) {
        self.step += 1;
        if self.json {
            self.line(&serde_json::json!({"version": 1, "step": self.step, "of": self.steps, "title": title,
                "elapsed_seconds": self.begun.elapsed().as_secs()}));
        } else {
            let (bold, plain) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            let elapsed = crate::view::time::human(self.begun.elapsed());
            eprintln!("\n{bold}[{}/{}] {title}{plain}   ({elapsed})", self.step, self.steps);
        }
    }

    /// Says something in between.
    pub fn say(&self, text: &str) {
        if self.json {
            self.line(&serde_json::json!({"version": 1, "note": text}));
        } else {
            eprintln!("{text}");
        }
    }

    fn line(&self, value: &serde_json::Value) {
        println!("{value}");
    }

    /// A command of this binary in the infra repository, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.infra).envs(self.env.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Shows a command as typed, runs it with its output on the screen, and fails unless its
    /// status is among `wanted`.
    ///
    /// # Errors
    /// When the command can't be run or ends otherwise.
    pub async fn run(&self, arguments: &[&str], wanted: &[i32]) -> Result<(), Failure> {
        let mut command = self.command(arguments);
        if self.json {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            self.line(&serde_json::json!({"version": 1, "command": typed(arguments)}));
        } else {
            eprintln!("$ {}", typed(arguments));
        }
        let output = self.finish(arguments, command.spawn()).await?;
        match output.status.code() {
            Some(code) if wanted.contains(&code) => Ok(()),
            code => {
                let code = code.map_or("a signal".to_owned(), |code| format!("status {code}"));
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                let said = if said.is_empty() { String::new() } else { format!("\n{said}") };
                Err(Failure::failed(
                    format!("`{}` ended with {code}{said}", typed(arguments)),
                    "see what it says above; `fleetwright local status` shows whether the local cloud is well",
                ))
            }
        }
    }

    /// Runs a command for what it prints, without showing it; `None` when it fails.
    pub async fn ask(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command(arguments).stderr(Stdio::null()).output().await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn finish(
        &self,
        arguments: &[&str],
        child: std::io::Result<tokio::process::Child>,
    ) -> Result<Output, Failure> {
        let result = match child {
            Ok(child) => child.wait_with_output().await,
            Err(error) => Err(error),
        };
        result.map_err(|error| {
            Failure::failed(
                format!("running `{}`: {error}", typed(arguments)),
                "see that the binary is still there",
            )
        })
    }
}

/// The command as a person would type it.
fn typed(arguments: &[&str]) -> String {
    format!("fleetwright {}", arguments.join(" "))
}
