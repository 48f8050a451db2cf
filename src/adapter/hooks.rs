//! Hooks as child processes. No shell is between: a command is a list of words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::output;
use crate::model::redact::Mask;
use crate::port::hooks::{HookError, Hooks, Lines};

/// How long a hook may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// How long a hook that was told to stop may take, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Runs hooks at the root of a repository.
#[derive(Debug)]
pub struct ChildProcesses {
    root: PathBuf,
    mask: Mask,
    limit: Duration,
}

impl ChildProcesses {
    /// Those of the repository at `root`, whose output `mask` masks.
    pub fn new(root: PathBuf, mask: Mask) -> Self {
        Self { root, mask, limit: LIMIT }
    }

    /// A name with a `/` in it is a file of the repository, any other one is searched for.
    fn program(&self, name: &str) -> PathBuf {
        if name.contains('/') { self.root.join(name) } else { PathBuf::from(name) }
    }
}

#[async_trait]
impl Hooks for ChildProcesses {
    async fn run(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        line: Lines<'_>,
        stop: &CancellationToken,
    ) -> Result<(), HookError> {
        let not_run = |reason: String| HookError::NotRun { reason };
        let Some((name, arguments)) = command.split_first() else {
            return Err(not_run("there is no command".to_owned()));
        };
        let mut child = Command::new(self.program(name))
            .args(arguments)
            .current_dir(&self.root)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C at the terminal reaches it through us alone, and all of it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_run(error.to_string()))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let (mut said, mut complained) = (|text: &str| line(text), |text: &str| line(text));
            let ((), (), status) = tokio::join!(
                output::read(out, &self.mask, &mut said),
                output::read(err, &self.mask, &mut complained),
                child.wait()
            );
            status
        };
        tokio::pin!(ended);
        let why = tokio::select! {
            status = &mut ended => Ok(status),
            () = stop.cancelled() => Err(HookError::Stopped),
            () = tokio::time::sleep(self.limit) => Err(HookError::TimedOut { limit: self.limit }),
        };
        let status = match why {
            Ok(status) => status,
            Err(why) => {
                if let Some(group) = group {
                    // One that has ended meanwhile is no error.
                    let _ = killpg(group, Signal::SIGTERM);
                    if tokio::time::timeout(GRACE, &mut ended).await.is_err() {
                        let _ = killpg(group, Signal::SIGKILL);
                        let _ = ended.await;
                    }
                }
                return Err(why);
            }
        };
        match status.map_err(|error| not_run(error.to_string()))?.code() {
            Some(0) => Ok(()),
            Some(status) => Err(HookError::Status { status }),
            None => Err(HookError::Killed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    async fn run(command: &[&str], stop: &CancellationToken) -> (Result<(), HookError>, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let said = Mutex::new(Vec::new());
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let environment = [("STACK".to_owned(), "web".to_owned())].into();
        let hooks = ChildProcesses::new(folder.path().to_owned(), Mask::default());
        let line =
            |text: &str| said.lock().expect("no test panics while it holds this").push(text.to_owned());
        let result = hooks.run(&command, &environment, &line, stop).await;
        let said = said.lock().expect("no test panics while it holds this").clone();
        (result, said)
    }

    #[tokio::test]
    async fn words_are_passed_as_they_are_and_output_comes_line_by_line() {
        let stop = CancellationToken::new();
        let (result, said) = run(&["sh", "-c", "echo \"$STACK $1\"", "sh", "$(id) ; x"], &stop).await;
        assert_eq!((result, said), (Ok(()), vec!["web $(id) ; x".to_owned()]));
    }

    #[tokio::test]
    async fn failures_are_told() {
        let stop = CancellationToken::new();
        assert_eq!(run(&["sh", "-c", "exit 3"], &stop).await.0, Err(HookError::Status { status: 3 }));
        assert_eq!(run(&["sh", "-c", "kill -9 $$"], &stop).await.0, Err(HookError::Killed));
        let missing = run(&["scripts/none"], &stop).await.0;
        assert!(
            matches!(&missing, Err(HookError::NotRun { reason }) if reason.contains("No such file")),
            "{missing:?}"
        );
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_all_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let limit = Duration::from_millis(300);
        let hooks =
            ChildProcesses { limit, ..ChildProcesses::new(folder.path().to_owned(), Mask::default()) };
        let command = ["sh", "-c", "sleep 600 & wait"].map(str::to_owned);
        let result = hooks.run(&command, &BTreeMap::new(), &|_| (), &CancellationToken::new()).await;
        assert_eq!(result, Err(HookError::TimedOut { limit }));
    }

    #[tokio::test]
    async fn one_that_runs_is_ended_with_all_its_children() {
        let stop = CancellationToken::new();
        let cancel = stop.clone();
        let folder = tempfile::tempdir().expect("a folder");
        let hooks = ChildProcesses::new(folder.path().to_owned(), Mask::default());
        let command = ["sh", "-c", "sleep 600 & echo begun; wait"].map(str::to_owned);
        let begun = move |_: &str| cancel.cancel();
        let result = hooks.run(&command, &BTreeMap::new(), &begun, &stop).await;
        // The pipe to `sleep` would be open for ten minutes.
        assert_eq!(result, Err(HookError::Stopped));
    }
}
