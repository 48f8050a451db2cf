//! Programs that are run for their output: in a process group of their own, for a limited time,
//! with a limited amount of what they write kept.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use super::output;

/// The most that is kept of each of a program's two outputs, in bytes.
const OUTPUT_MAX: usize = 4 << 20;

/// How a program ended and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program has no result.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It was not started, or not waited for.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It was ended after this time.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
}

/// A process group that is killed when this is dropped before its leader was waited for.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that has ended meanwhile is no error.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs `command` until it has ended. After `limit`, and when this future is dropped, the
/// program and all that it started are killed.
///
/// # Errors
/// When it can't be run or takes too long.
pub async fn run(mut command: Command, limit: Duration) -> Result<Ended, ChildError> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.map(Pid::from_raw));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        tokio::join!(output::bounded(out, OUTPUT_MAX), output::bounded(err, OUTPUT_MAX), child.wait())
    };
    let (stdout, stderr, status) =
        tokio::time::timeout(limit, ended).await.map_err(|_| ChildError::Slow(limit))?;
    group.0 = None;
    Ok(Ended { status: status?, stdout, stderr })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[tokio::test]
    async fn of_endless_output_the_beginning_is_kept() {
        let ended =
            run(shell("head -c 9000000 /dev/zero; echo no >&2; exit 3"), Duration::from_secs(60)).await;
        let ended = ended.expect("it ends");
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(3), OUTPUT_MAX));
        assert_eq!(ended.stderr, b"no\n");
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > '{0}.new'; mv '{0}.new' '{0}'; wait", file.display());
        let error = run(shell(&script), Duration::from_secs(2)).await.expect_err("it does not end");
        assert!(matches!(error, ChildError::Slow(_)), "{error}");
        let pid = std::fs::read_to_string(&file).expect("the child's id");
        // A zombie that waits for its reaper has an empty command line.
        let alive = || {
            let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            !line.is_empty()
        };
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while alive() && std::time::Instant::now() < end {
            tokio::task::yield_now().await;
        }
        assert!(!alive(), "`sleep` lives on");
    }
}
