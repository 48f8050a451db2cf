//! What the systemd of this machine says of unit files (`systemd-analyze verify`), and a unit
//! of it that is started and stopped (`systemctl`).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use super::child::{self, ChildError};
use crate::model::etcd::Service;
use crate::port::etcd::{EtcdError, EtcdUnit};

/// It loads the units of the whole machine, which takes a while on a slow one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line that systemd wrote about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The file, if the line names one.
    pub file: Option<PathBuf>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The name of the unit, if the line names one and no file.
    pub unit: Option<String>,
    /// What it says.
    pub text: String,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed, or can't be run.
    #[error("running systemd-analyze: {0}")]
    Run(#[from] std::io::Error),
    /// It took too long.
    #[error("systemd-analyze did not end within {} s", PATIENCE.as_secs())]
    Slow,
}

/// Runs `systemd-analyze verify` on `files`, which must be units and no drop-ins.
///
/// # Errors
/// When it can't be run, or does not end.
pub async fn verify(files: &[PathBuf]) -> Result<Vec<Message>, Error> {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--"]).args(files);
    // Nothing but messages, without colours and without the journal's prefixes.
    command.envs([
        ("SYSTEMD_LOG_TARGET", "console"),
        ("SYSTEMD_LOG_LEVEL", "warning"),
        ("SYSTEMD_COLORS", "0"),
    ]);
    command.stdin(Stdio::null());
    let output = child::run(command, PATIENCE).await.map_err(|error| match error {
        ChildError::Slow(_) => Error::Slow,
        ChildError::Io(error) => error.into(),
    })?;
    Ok(String::from_utf8_lossy(&output.stderr).lines().filter_map(message).collect())
}

/// Reads `/a/b.service:3: text`, `b.service: text`, or a text alone.
fn message(line: &str) -> Option<Message> {
    let line = line.trim();
    // This follows what was said before, and says nothing more.
    if line.is_empty() || line.ends_with("has a bad unit file setting.") {
        return None;
    }
    let alone = Message { file: None, line: None, unit: None, text: line.to_owned() };
    let Some((place, text)) = line.split_once(": ") else { return Some(alone) };
    if place.contains(' ') {
        return Some(alone);
    }
    let (path, number) =
        place.rsplit_once(':').map_or((place, None), |(path, number)| (path, number.parse().ok()));
    Some(if Path::new(path).is_absolute() {
        Message { file: Some(path.into()), line: number, unit: None, text: text.to_owned() }
    } else {
        Message { file: None, line: None, unit: Some(path.to_owned()), text: text.to_owned() }
    })
}

/// A unit by its name.
#[derive(Debug, Clone)]
pub struct Unit {
    name: String,
}

impl Unit {
    /// The unit of that name, such as `etcd.service`; whether there is one shows when it is asked for.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    async fn systemctl(&self, doing: &'static str, arguments: &[&str]) -> Result<String, EtcdError> {
        let failed = |reason: String| EtcdError::Unit { doing, unit: self.name.clone(), reason };
        let mut command = Command::new("systemctl");
        command.args(arguments).arg("--").arg(&self.name).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output())
            .await
            .map_err(|_| failed(format!("systemctl did not end within {} s", PATIENCE.as_secs())))?
            .map_err(|error| failed(format!("running systemctl: {error}")))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[async_trait]
impl EtcdUnit for Unit {
    async fn service(&self) -> Result<Service, EtcdError> {
        let properties = ["show", "--property=LoadState,ActiveState"];
        Ok(state(&self.systemctl("asking for", &properties).await?))
    }

    async fn start(&self) -> Result<(), EtcdError> {
        // One that failed too often in a row is not started before that is forgotten. A unit
        // that never ran has nothing to forget, which systemctl calls a failure.
        let _ = self.systemctl("resetting", &["reset-failed"]).await;
        self.systemctl("starting", &["start", "--no-block"]).await.map(|_| ())
    }

    async fn stop(&self) -> Result<(), EtcdError> {
        self.systemctl("stopping", &["stop"]).await.map(|_| ())
    }
}

/// Reads `LoadState=loaded` and `ActiveState=active` in any order.
fn state(properties: &str) -> Service {
    let has = |line: &str| properties.lines().any(|one| one == line);
    if !has("LoadState=loaded") {
        Service::Missing
    // `activating` is also one that systemd starts again after a failure.
    } else if ["active", "activating", "reloading"].iter().any(|word| has(&format!("ActiveState={word}"))) {
        Service::Running
    } else {
        Service::Stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        assert_eq!(state("LoadState=not-found\nActiveState=inactive\n"), Service::Missing);
        assert_eq!(state("LoadState=masked\nActiveState=inactive\n"), Service::Missing);
        assert_eq!(state("ActiveState=failed\nLoadState=loaded\n"), Service::Stopped);
        assert_eq!(state("LoadState=loaded\nActiveState=deactivating\n"), Service::Stopped);
        assert_eq!(state("LoadState=loaded\nActiveState=activating\n"), Service::Running);
        assert_eq!(state("LoadState=loaded\nActiveState=active\n"), Service::Running);
    }

    #[test]
    fn places_are_read() {
        let read =
            message("/a/b.service:7: Unknown key 'Typ' in section [Service], ignoring.").expect("a message");
        assert_eq!((read.file, read.line), (Some("/a/b.service".into()), Some(7)));
        assert_eq!(read.text, "Unknown key 'Typ' in section [Service], ignoring.");
        let read = message("b.service: Command /bin/no is not executable: No such file").expect("a message");
        assert_eq!(read.unit.as_deref(), Some("b.service"));
        assert_eq!(read.text, "Command /bin/no is not executable: No such file");
        assert_eq!(message("Unit b.service has a bad unit file setting."), None);
        assert_eq!(
            message("Failed to load: no").map(|message| message.text),
            Some("Failed to load: no".into())
        );
    }
}
