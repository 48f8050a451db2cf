//! The machine this program runs on: which boot it is in, and whether it wants another.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use crate::model::name::BootId;
use crate::port::reboot::Host;

mod engine;
mod pressure;

pub use engine::stored;

/// Where Linux tells the boot; a UUID that is made at each (`random(4)`).
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
/// What asks for a reboot: Debian's packages, through `/usr/share/update-notifier` or
/// unattended-upgrades, in the first two; in the last whatever a machine's own units put there.
const FLAGS: [&str; 3] =
    ["/run/reboot-required", "/var/run/reboot-required", "/run/fleetwright/reboot-required"];
/// Is there while work is taken off the machine; the announcer looks at it.
const DRAINING: &str = "/run/fleetwright/draining";
/// How long `systemctl` may take to say that it has begun.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with systemd.
#[derive(Debug, Clone)]
pub struct SystemdHost {
    root: PathBuf,
}

impl SystemdHost {
    /// The machine this runs on.
    pub fn new() -> Self {
        Self { root: PathBuf::from("/") }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path.trim_start_matches('/')))
    }
}

impl Default for SystemdHost {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Host for SystemdHost {
    fn boot(&self) -> io::Result<BootId> {
        let text = std::fs::read_to_string(self.path(BOOT_ID))?;
        text.trim().parse().map_err(io::Error::other)
    }

    fn wants_reboot(&self) -> Option<&'static str> {
        FLAGS.into_iter().find(|flag| self.path(flag).exists())
    }

    fn set_draining(&self, draining: bool) -> io::Result<()> {
        let path = self.path(DRAINING);
        if draining {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            return std::fs::write(path, "");
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn reboot(&self) -> io::Result<()> {
        let mut command = Command::new("systemctl");
        command.arg("reboot").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output())
            .await
            .map_err(|_| io::Error::other(format!("systemctl did not end in {} s", PATIENCE.as_secs())))??;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("systemctl ended with {}: {}", output.status, said.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_asks_for_a_reboot() {
        for flag in FLAGS {
            let root = tempfile::tempdir().expect("a folder");
            let host = SystemdHost { root: root.path().to_owned() };
            assert_eq!(host.wants_reboot(), None);
            let file = host.path(flag);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, "").expect("written");
            assert_eq!(host.wants_reboot(), Some(flag));
        }
    }

    #[test]
    fn that_the_machine_is_drained_is_there_for_as_long_as_it_is_so() {
        let root = tempfile::tempdir().expect("a folder");
        let host = SystemdHost { root: root.path().to_owned() };
        host.set_draining(false).expect("nothing to take away");
        for draining in [true, true, false, false] {
            host.set_draining(draining).expect("written");
            assert_eq!(host.path(DRAINING).exists(), draining);
        }
    }

    #[test]
    fn this_computer_is_in_some_boot_and_stays_in_it() {
        let host = SystemdHost::new();
        let boot = host.boot().expect("Linux tells");
        assert_eq!(host.boot().expect("Linux tells"), boot);
        assert_eq!(boot.as_str().len(), 36, "{boot}");
    }
}
