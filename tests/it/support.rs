//! What tests of several capabilities need.

pub mod cluster;
pub mod endpoints;
pub mod etcd;
pub mod fake_aws;
pub mod git;
pub mod git_http;
pub mod git_ssh;
pub mod host_files;
pub mod lab;
pub mod ministack;
pub mod oracles;
pub mod page_tools;
pub mod parameters;
pub mod proxy;
pub mod registry;
pub mod releases;
pub mod rendezvous;
pub mod rights;
pub mod shipped;
pub mod swarm;
pub mod units;
pub mod visitor;
pub mod walkthrough;

use std::fmt;
use std::path::Path;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Run {
    /// Its data.
    pub stdout: String,
    /// Its progress and diagnostics, with times replaced by `N ms`.
    pub stderr: String,
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stdout, self.stderr)?;
        match self.status {
            Some(status) => writeln!(f, "status {status}"),
            None => writeln!(f, "ended by a signal"),
        }
    }
}

/// Runs fleetwright in `folder`, with nothing of this process's environment.
pub fn fleetwright(folder: &Path, arguments: &[&str]) -> Run {
    fleetwright_with(folder, arguments, &[])
}

/// Runs fleetwright in `folder`, with only `environment`.
pub fn fleetwright_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_fleetwright"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("fleetwright can be run");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    // The only thing that differs from run to run, and from folder to folder.
    let stderr = text(output.stderr).replace(&*folder.to_string_lossy(), "FOLDER");
    Run { stdout: text(output.stdout), stderr: without_times(&stderr), status: output.status.code() }
}

fn without_times(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once(" (") else { return text.to_owned() };
    match after.split_once(" ms)") {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{before} (N ms){rest}")
        }
        _ => text.to_owned(),
    }
}
