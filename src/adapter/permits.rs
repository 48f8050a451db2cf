//! The socket of a machine's agent on which helpers in containers ask for their permit, and on which those of
//! attended commands wait for their caller and the end.
//! Who asks is found out by `adapter::peer`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::peer::{Unknown, listen, one_line, peer};
use super::swarm::TASK;
use crate::port::cluster::ClusterError;
use crate::port::jobs::AskPermit;
use crate::port::streams::Attended;

/// How long one question may take, with its answer.
const ANSWER: Duration = Duration::from_secs(50);
/// How many are answered at a time.
const MOST: usize = 64;
/// How long the caller of an attended command may take to connect.
const CALLER: Duration = Duration::from_secs(30);
/// How long a caller is kept waiting whose container has its permit, and does not hold its connection yet.
const HELPER: Duration = Duration::from_secs(5);
/// Time between two checks for it.
const CHECK: Duration = Duration::from_millis(50);
/// The longest question.
const QUESTION: u64 = 256;
/// The containers of this machine that wait for the callers of their commands, by the engine's task.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<HashMap<String, oneshot::Sender<u8>>>>);

#[async_trait]
impl Attended for Waiting {
    async fn take(&self, task: &str) -> Option<oneshot::Sender<u8>> {
        let begun = Instant::now();
        loop {
            let found = self.remove(task);
            if found.is_some() || begun.elapsed() > HELPER {
                return found;
            }
            sleep(CHECK).await;
        }
    }
}

impl Waiting {
    fn remove(&self, task: &str) -> Option<oneshot::Sender<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task)
    }

    /// The end that a caller will report; `None` where another helper of the same task waits.
    fn put(&self, task: &str) -> Option<oneshot::Receiver<u8>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(task.to_owned()) {
            Entry::Vacant(place) => {
                let (sender, end) = oneshot::channel();
                place.insert(sender);
                Some(end)
            }
            Entry::Occupied(_) => None,
        }
    }

    /// Holds the connection of a helper until the command has ended, or the helper has. It reports how the
    /// command ended; a helper that gets no status ends everything in its container.
    async fn hold(&self, mut stream: UnixStream, task: &str, caller: Duration) {
        let Some(mut end) = self.put(task) else {
            let _ = stream.write_all(b"refused another helper of this container waits already\n").await;
            return;
        };
        let mut byte = [0];
        let mut status = tokio::select! {
            status = &mut end => Some(status),
            // A helper writes nothing more.
            _ = stream.read(&mut byte) => {
                drop(self.remove(task));
                return;
            }
            () = sleep(caller) => None,
        };
        if status.is_none() {
            if self.remove(task).is_some() {
                let words = format!("refused its caller did not connect within {} s\n", caller.as_secs());
                let _ = stream.write_all(words.as_bytes()).await;
                return;
            }
            status = tokio::select! {
                status = end => Some(status),
                _ = stream.read(&mut byte) => None,
            };
        }
        if let Some(Ok(status)) = status {
            let _ = stream.write_all(format!("ended {status}\n").as_bytes()).await;
        }
    }
}

/// Answers helpers on the socket `name` in `folder`, until dropped.
///
/// # Errors
/// When the socket can't be made.
pub async fn serve(
    folder: &Path,
    name: &str,
    docker: Docker,
    permits: Arc<dyn AskPermit>,
    waiting: &Waiting,
) -> io::Result<Infallible> {
    // Containers have users of their own, and who asks is found out for each question.
    let listener = listen(folder, name, 0o666)?;
    let mut open = JoinSet::new();
    let turns = Arc::new(Semaphore::new(MOST));
    loop {
        let turn = Arc::clone(&turns).acquire_owned().await.map_err(io::Error::other)?;
        let (mut stream, _) = listener.accept().await?;
        let (docker, permits, waiting) = (docker.clone(), Arc::clone(&permits), waiting.clone());
        open.spawn(async move {
            let answered = timeout(ANSWER, answer(&mut stream, &docker, permits.as_ref())).await;
            // Helpers that wait for a caller do not count towards the limit.
            drop(turn);
            match answered {
                Ok(None) => {}
                Ok(Some(task)) => waiting.hold(stream, &task, CALLER).await,
                Err(_) => tracing::warn!("a question for a permit took too long"),
            }
        });
        while open.try_join_next().is_some() {}
    }
}

/// Answers a helper, unless it waits for the caller of its command: then this is its task.
async fn answer(stream: &mut UnixStream, docker: &Docker, permits: &dyn AskPermit) -> Option<String> {
    let line = match decide(stream, docker, permits).await {
        Ok(Asked::Permit) => "granted\n".to_owned(),
        Ok(Asked::Caller(task)) => return Some(task),
        Err(No::Refused(reason)) => format!("refused {}\n", one_line(&reason)),
        Err(No::Later(reason)) => format!("later {}\n", one_line(&reason)),
    };
    // A helper that has gone asks again, or never runs.
    let _ = stream.write_all(line.as_bytes()).await;
    let _ = stream.shutdown().await;
    None
}

/// What a helper asked for, and gets.
enum Asked {
    /// Its permit.
    Permit,
    /// The caller of the command of this task.
    Caller(String),
}

/// Why an attempt was not permitted.
enum No {
    /// It never will be.
    Refused(String),
    /// The answer is unknown.
    Later(String),
}

async fn decide(stream: &mut UnixStream, docker: &Docker, permits: &dyn AskPermit) -> Result<Asked, No> {
    let later = |error: io::Error| No::Later(error.to_string());
    let mut line = String::new();
    BufReader::new((&mut *stream).take(QUESTION)).read_line(&mut line).await.map_err(later)?;
    let question = line.trim_end().split_once(' ').filter(|(_, nonce)| is_nonce(nonce));
    let Some((word @ ("permit" | "attend"), nonce)) = question else {
        return Err(No::Refused("the question is not understood".to_owned()));
    };
    let asked = peer(stream, docker).await.map_err(|unknown| match unknown {
        Unknown::Nobody(reason) => No::Refused(reason.to_owned()),
        Unknown::Later(reason) => No::Later(reason),
    })?;
    let Some(task) = asked.label(TASK) else {
        return Err(No::Refused("who asks is in no container of the cluster".to_owned()));
    };
    if word == "attend" {
        return Ok(Asked::Caller(task.to_owned()));
    }
    let permitted = permits.permit(task, nonce).await;
    permitted.map(|()| Asked::Permit).map_err(|error| match error {
        ClusterError::Refused { reason } | ClusterError::Denied { reason } => No::Refused(reason),
        error @ (ClusterError::Unreachable { .. }
        | ClusterError::NotFound { .. }
        | ClusterError::Engine { .. }) => No::Later(error.to_string()),
    })
}

fn is_nonce(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Nobody gets a permit here.
    struct Nobody;

    #[async_trait]
    impl AskPermit for Nobody {
        async fn permit(&self, _: &str, _: &str) -> Result<(), ClusterError> {
            unreachable!("nobody who is in no container gets so far")
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_permitted_is_not_executed() {
        let folder = tempfile::tempdir().expect("a folder");
        let helper = folder.path().join("probe");
        crate::adapter::probe::install(&helper).expect("installed");
        let docker =
            Docker::connect_with_http("127.0.0.1:1", 1, bollard::API_DEFAULT_VERSION).expect("a client");
        let at = folder.path().to_owned();
        let serving =
            tokio::spawn(async move { serve(&at, "s", docker, Arc::new(Nobody), &Waiting::default()).await });
        let socket = folder.path().join("s");
        let ran = folder.path().join("ran");
        let output = tokio::process::Command::new(&helper)
            .arg("permit")
            .arg(&socket)
            .args(["--", "touch"])
            .arg(&ran)
            .output()
            .await
            .expect("it ends");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(75) && words.contains("in no container"), "{output:?}");
        assert!(!ran.exists());
        serving.abort();
    }

    #[tokio::test]
    async fn a_permitted_command_takes_the_helper_s_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let helper = folder.path().join("probe");
        crate::adapter::probe::install(&helper).expect("installed");
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let run = tokio::process::Command::new(&helper)
            .arg("permit")
            .arg(&socket)
            .args(["--", "sh", "-c", "echo it ran; exit 3"])
            .output();
        let answer = async {
            // The first answer gets lost: the helper asks again, and calls itself the same.
            let mut asked = Vec::new();
            for answer in ["", "granted\n"] {
                let (stream, _) = listener.accept().await.expect("a helper");
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.expect("a question");
                asked.push(line);
                stream.into_inner().write_all(answer.as_bytes()).await.expect("answered");
            }
            assert_eq!(asked[0], asked[1]);
            assert!(is_nonce(asked[0].trim_start_matches("permit ").trim_end()), "{asked:?}");
        };
        let (output, ()) = tokio::join!(run, answer);
        let output = output.expect("it ends");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"it ran\n".as_slice()));
    }

    #[tokio::test]
    async fn a_helper_ends_as_the_command_of_its_caller_did() {
        let folder = tempfile::tempdir().expect("a folder");
        let helper = folder.path().join("probe");
        crate::adapter::probe::install(&helper).expect("installed");
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let waiting = Waiting::default();
        // One that gets the command's status, and one that does not.
        for (task, end, expected) in [("one", Some(7), 7), ("two", None, 1)] {
            let mut run = tokio::process::Command::new(&helper);
            run.arg("attend").arg(&socket).args(["--", "unused"]);
            let run = tokio::spawn(async move { run.output().await });
            for word in ["permit", "attend"] {
                let (mut stream, _) = listener.accept().await.expect("a helper");
                let mut line = String::new();
                BufReader::new((&mut stream).take(QUESTION)).read_line(&mut line).await.expect("a question");
                assert!(line.starts_with(word), "{line}");
                if word == "permit" {
                    stream.write_all(b"granted\n").await.expect("answered");
                    continue;
                }
                let (holder, name) = (waiting.clone(), task.to_owned());
                tokio::spawn(async move { holder.hold(stream, &name, CALLER).await });
            }
            let sender = waiting.take(task).await.expect("it waits");
            match end {
                Some(status) => sender.send(status).expect("it is held"),
                None => drop(sender),
            }
            let output = run.await.expect("it runs").expect("it ends");
            assert_eq!(output.status.code(), Some(expected), "{output:?}");
        }
    }

    #[tokio::test]
    async fn a_container_waits_for_one_caller_and_not_for_long() {
        let waiting = Waiting::default();
        let pair = || UnixStream::pair().expect("a pair");
        let (mut helper, held) = pair();
        let holder = waiting.clone();
        let holding = tokio::spawn(async move { holder.hold(held, "t", Duration::from_millis(300)).await });
        tokio::task::yield_now().await;
        let (mut second, other) = pair();
        waiting.hold(other, "t", CALLER).await;
        let mut text = String::new();
        second.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with("refused another helper"), "{text}");
        holding.await.expect("it ends");
        text.clear();
        helper.read_to_string(&mut text).await.expect("an answer");
        assert_eq!(text, "refused its caller did not connect within 0 s\n");
        // It is not there for a caller who is late, nor when the helper has gone.
        let (helper, held) = pair();
        let holder = waiting.clone();
        let holding = tokio::spawn(async move { holder.hold(held, "t", Duration::from_millis(300)).await });
        tokio::task::yield_now().await;
        drop(helper);
        holding.await.expect("it ends");
        assert!(waiting.remove("t").is_none());
    }
}
