//! Long-running programs of the local cloud: each in its own process group, stopped with
//! TERM, a grace and KILL, and recognised again by a later supervisor.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::error::LocalError;
use super::home::open_log;

/// A process that can be told from a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number, also that of its group.
    pub pid: i32,
    /// When the kernel started it, in ticks since boot.
    pub ticks: u64,
    /// When that was.
    pub since: DateTime<Utc>,
}

impl ProcessId {
    /// The process with this number, if there is one.
    pub fn of(pid: i32, since: DateTime<Utc>) -> Option<Self> {
        Some(Self { pid, ticks: start_ticks(pid)?, since })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.ticks)
    }

    /// Stops its group: TERM, up to `grace`, KILL.
    pub async fn stop(&self, grace: Duration) {
        if !self.is_alive() {
            return;
        }
        let group = Pid::from_raw(self.pid);
        let _ = killpg(group, Signal::SIGTERM);
        let end = tokio::time::Instant::now() + grace;
        while self.is_alive() {
            if tokio::time::Instant::now() >= end {
                let _ = killpg(group, Signal::SIGKILL);
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whatever the leader left behind in its group.
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// The 22nd field of /proc/PID/stat; `None` for no process and for a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let rest = &stat[stat.rfind(')')? + 2..];
    let mut fields = rest.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// A running part: started here, or left running by an earlier supervisor.
#[derive(Debug)]
pub struct Running {
    /// Which process it is.
    pub id: ProcessId,
    child: Option<Child>,
}

impl Running {
    /// Starts `command` in its own group, its output appended to `log`.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn start(mut command: Command, log: &std::path::Path) -> Result<Self, LocalError> {
        let out = open_log(log)?;
        let err = out.try_clone().map_err(LocalError::file("opening", log))?;
        let program = command.as_std().get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(LocalError::file("starting", std::path::Path::new(&program)))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let since = Utc::now();
        let id = ProcessId::of(pid, since).unwrap_or(ProcessId { pid, ticks: 0, since });
        Ok(Self { id, child: Some(child) })
    }

    /// Takes over a process that an earlier supervisor started, if it still runs.
    pub fn adopt(id: &ProcessId) -> Option<Self> {
        id.is_alive().then(|| Self { id: id.clone(), child: None })
    }

    /// Waits until it ends and says how.
    pub async fn ended(&mut self) -> String {
        match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => how(status),
                Err(error) => format!("waiting for it failed: {error}"),
            },
            None => {
                while self.id.is_alive() {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                "it ended".into()
            }
        }
    }

    /// Stops it.
    pub async fn stop(&mut self, grace: Duration) {
        // A child that nobody waits for stays as a zombie, which counts as ended here.
        self.id.stop(grace).await;
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
    }
}

/// How a process ended, in words.
fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it ended".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_process_and_its_children_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; sleep 1000 & echo $!; wait"]);
        let mut running = Running::start(command, &log).unwrap();
        let inner = loop {
            if let Ok(pid) = std::fs::read_to_string(&log).unwrap().trim().parse::<i32>() {
                break ProcessId::of(pid, Utc::now()).unwrap();
            }
            tokio::task::yield_now().await;
        };
        assert!(running.id.is_alive() && inner.is_alive());
        running.stop(Duration::from_millis(50)).await;
        assert!(running.ended().await.contains("signal"));
        while inner.is_alive() {
            tokio::task::yield_now().await;
        }
        assert!(Running::adopt(&inner).is_none());
    }

    #[test]
    fn another_process_with_the_same_number_is_not_it() {
        let me = i32::try_from(std::process::id()).unwrap();
        let id = ProcessId::of(me, Utc::now()).unwrap();
        assert!(id.is_alive());
        assert!(!ProcessId { ticks: id.ticks + 1, ..id }.is_alive());
    }
}
