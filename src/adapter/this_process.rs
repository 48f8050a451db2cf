//! Which process this is, told so that another one of the same computer can see whether it lives.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{User, getuid};

/// A process, as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThisProcess {
    /// `user@host`, for people.
    pub holder: String,
    /// The running kernel and the process namespace, within which process numbers mean the same:
    /// two containers of one image share their names and even their machine ids.
    pub host: String,
    /// Its number.
    pub process: u32,
    /// When it began, in clock ticks since the kernel's start.
    pub started: u64,
}

impl ThisProcess {
    /// This process.
    pub fn read() -> Self {
        let user = User::from_uid(getuid()).ok().flatten().map_or("somebody".to_owned(), |user| user.name);
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let process = std::process::id();
        Self {
            holder: format!("{user}@{}", name.trim()),
            host: format!("{} {}", boot.trim(), namespace.display()),
            process,
            started: started(process).unwrap_or_default(),
        }
    }
}

/// Whether the process of that number that began then still runs.
pub fn lives(process: u32, began: u64) -> bool {
    started(process) == Some(began)
}

/// When a process began: the 22nd field of its `stat`, counted behind the name, which may hold anything.
fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    // A zombie has ended, whoever has not asked for its status yet.
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok()).flatten()
}

/// The time since this machine was started, suspensions included.
pub fn boot_clock() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).expect("CLOCK_BOOTTIME is in every Linux that runs this program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_ended_does_not() {
        let this = ThisProcess::read();
        assert!(this.started > 0 && lives(this.process, this.started));
        assert!(!lives(this.process, this.started + 1), "another process of that number");
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let began = started(child.id()).unwrap_or_default();
        child.wait().expect("it ends");
        assert!(!lives(child.id(), began));
    }
}
