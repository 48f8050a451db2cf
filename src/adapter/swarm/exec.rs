//! Programs in the containers of this machine, through the engine's own exec.
//!
//! The engine lets a program run on when its caller hangs up, and can neither signal nor end it, so
//! both are done to the process itself: this agent is root on the machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::query_parameters::ListContainersOptions;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, split};
use tokio::time::{Instant, sleep};

use super::Swarm;
use super::engine::Engine;
use super::jobs::OCCURRENCE;
use super::placeholder::UNITS;
use super::spec::{PROBE_IN_CONTAINER, SERVICE, TASK};
use super::terminal_input::TerminalInput;
use crate::adapter::process_tree;
use crate::model::frame::{CHUNK, Signal, Size};
use crate::port::cluster::ClusterError;
use crate::port::streams::{
    Channel, Containers, ExecRequest, LogRequest, LogSources, Output, Process, ProcessHandle,
};

/// How long the engine may take to start a program, or to report its end.
const REPORT: Duration = Duration::from_secs(10);
/// Time between two questions about it.
const ASK: Duration = Duration::from_millis(10);
/// What the engine writes instead of the program's output when it can't start the program.
const NOT_STARTED: &[u8] = b"OCI runtime exec failed: ";

#[async_trait]
impl Containers for Swarm {
    async fn logs(&self, request: &LogRequest) -> Result<LogSources, ClusterError> {
        self.read_logs(request).await
    }

    async fn exec(&self, task: &str, request: &ExecRequest) -> Result<Process, ClusterError> {
        // A container of an instance has one label of ours, one of a command that runs once another.
        let kind = if request.occurrence.is_some() { OCCURRENCE } else { SERVICE };
        let container = self.engine.container_of(task, kind).await?;
        let command = self.engine.with_variables(&container, &request.command).await?;
        let terminal = request.terminal.as_ref();
        let variables: Vec<String> =
            terminal.iter().map(|terminal| format!("TERM={}", terminal.kind)).collect();
        let asked = json!({
            "AttachStdin": request.input,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": terminal.is_some(),
            "Env": variables,
            "Cmd": command,
        });
        let doing = "executing a program in an instance";
        let created = self.engine.raw().create(&format!("containers/{container}/exec"), &asked).await;
        let created = created.map_err(|error| gone_or(error, |error| self.engine.error(doing, error)))?;
        let id = created["Id"].as_str().unwrap_or_default().to_owned();
        let handle = Arc::new(Executed {
            engine: self.engine.clone(),
            id: id.clone(),
            terminal: terminal.is_some(),
            missing: Arc::default(),
        });
        let start = json!({ "Detach": false, "Tty": terminal.is_some() });
        let connection = self.engine.raw().hijack(&format!("exec/{id}/start"), &start).await;
        let connection = connection.map_err(|error| self.engine.error(doing, error))?;
        // The engine takes a size only when the program runs.
        if let Some(size) = terminal.and_then(|terminal| terminal.size) {
            handle.started().await;
            handle.resize(size).await;
        }
        let (reader, writer) = split(connection);
        let output = if terminal.is_some() { plain(reader).boxed() } else { separate(reader).boxed() };
        let program = request.command.first().cloned().unwrap_or_default();
        let output = understandable(output, program, Arc::clone(&handle.missing));
        let engine = self.engine.clone();
        let output: Output =
            output.map(move |item| item.map_err(|error| engine.error(doing, error.into()))).boxed();
        let input: Option<Box<dyn AsyncWrite + Send + Unpin>> = match (request.input, terminal) {
            (false, _) => None,
            (true, None) => Some(Box::new(writer)),
            (true, Some(_)) => Some(Box::new(TerminalInput::new(writer))),
        };
        Ok(Process { input, output, handle })
    }
}

/// There is nothing in the container of an instance that is made of units.
fn of_units() -> ClusterError {
    ClusterError::Refused {
        reason: "the instance is made of units, which run on the machine itself and in no container; \
                 sign in to the machine, where `systemctl list-units '*-*' --state=running` lists them"
            .to_owned(),
    }
}

fn gone() -> ClusterError {
    ClusterError::Refused {
        reason: "the instance does not run on its machine any more; `fleetwright status` shows where \
                 instances run"
            .to_owned(),
    }
}

/// What the engine's error means for somebody who executes something in a container.
fn gone_or(error: Error, other: impl FnOnce(Error) -> ClusterError) -> ClusterError {
    match error {
        Error::DockerResponseServerError { status_code: 404 | 409, .. } => gone(),
        error => other(error),
    }
}

/// `command` as it is executed in a container that was started with `started`: where the helper sets variables
/// from secrets there, it sets them for this command too. Their values stand in no configuration.
fn with_variables(started: &[String], command: &[String]) -> Vec<String> {
    // It stands behind another helper where a permit is asked for first.
    let at = started.windows(2).position(|pair| pair == [PROBE_IN_CONTAINER, "exec"]);
    let helper = at.map_or(&started[..0], |at| &started[at..]);
    let end = helper.iter().position(|word| word == "--").map_or(0, |end| end + 1);
    helper[..end].iter().chain(command).cloned().collect()
}

impl Engine {
    /// `command` with what sets the variables of this container.
    async fn with_variables(&self, container: &str, command: &[String]) -> Result<Vec<String>, ClusterError> {
        let seen = self.docker().inspect_container(container, None).await;
        let seen = seen.map_err(|error| {
            gone_or(error, |error| self.error("asking about an instance's container", error))
        })?;
        let config = seen.config.unwrap_or_default();
        if config.labels.as_ref().is_some_and(|labels| labels.contains_key(UNITS)) {
            return Err(of_units());
        }
        let started = [config.entrypoint.unwrap_or_default(), config.cmd.unwrap_or_default()].concat();
        Ok(with_variables(&started, command))
    }

    /// The container of a task that runs on this machine, if it has the label `kind`.
    pub(super) async fn container_of(&self, task: &str, kind: &str) -> Result<String, ClusterError> {
        let labels = vec![format!("{TASK}={task}"), kind.to_owned()];
        let options = ListContainersOptions {
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..Default::default()
        };
        let found = self.docker().list_containers(Some(options)).await;
        let found = found.map_err(|error| self.error("looking for an instance's container", error))?;
        found.into_iter().find_map(|container| container.id).ok_or_else(gone)
    }
}

/// A program that was executed.
struct Executed {
    engine: Engine,
    id: String,
    terminal: bool,
    /// Whether the program does not exist.
    missing: Arc<AtomicBool>,
}

impl Executed {
    async fn inspect(&self) -> Result<Value, ClusterError> {
        let seen = self.engine.raw().get(&format!("exec/{}/json", self.id)).await;
        seen.map_err(|error| self.engine.error("asking about a program in an instance", error))
    }

    /// Its process, as soon as it has one; `None` when it could not be started, or has ended.
    async fn started(&self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < REPORT {
            let seen = self.inspect().await.ok()?;
            let pid = seen["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1);
            if seen["Running"].as_bool() == Some(true) && pid.is_some() {
                return pid;
            }
            if seen["ExitCode"].is_i64() {
                return None;
            }
            sleep(ASK).await;
        }
        None
    }
}

#[async_trait]
impl ProcessHandle for Executed {
    async fn resize(&self, size: Size) {
        let path = format!("exec/{}/resize?h={}&w={}", self.id, size.rows, size.columns);
        if let Err(error) = self.engine.raw().post(&path, &Value::Null, None).await {
            tracing::debug!(%error, "resizing a terminal");
        }
    }

    async fn signal(&self, signal: Signal) {
        if let Some(pid) = self.started().await {
            process_tree::signal(&process_tree::of(pid), kernel(signal));
        }
    }

    async fn exit(&self) -> Result<i32, ClusterError> {
        let begun = Instant::now();
        loop {
            let seen = self.inspect().await?;
            let status = seen["ExitCode"].as_i64().and_then(|status| i32::try_from(status).ok());
            if let (Some(false), Some(status)) = (seen["Running"].as_bool(), status) {
                // Engines of this time report 126 for a program that does not exist, too.
                let missing = status == 126 && self.missing.load(Ordering::Relaxed);
                return Ok(if missing { 127 } else { status });
            }
            if begun.elapsed() > REPORT {
                return Err(ClusterError::Engine {
                    doing: "asking how a program in an instance ended".to_owned(),
                    reason: "its output has ended, and the engine says that it still runs".to_owned(),
                });
            }
            sleep(ASK).await;
        }
    }

    async fn end(&self) {
        if let Some(pid) = self.started().await {
            let first = if self.terminal { Signal::HangUp } else { Signal::Terminate };
            process_tree::end(pid, kernel(first)).await;
        }
    }
}

fn kernel(signal: Signal) -> nix::sys::signal::Signal {
    use nix::sys::signal::Signal as Kernel;
    match signal {
        Signal::HangUp => Kernel::SIGHUP,
        Signal::Interrupt => Kernel::SIGINT,
        Signal::Quit => Kernel::SIGQUIT,
        Signal::Terminate => Kernel::SIGTERM,
    }
}

/// One piece of what a program wrote.
pub(in crate::adapter) type Piece = std::io::Result<(Channel, Bytes)>;

/// What a terminal shows.
pub(in crate::adapter) fn plain(from: impl AsyncRead + Send + Unpin) -> impl Stream<Item = Piece> + Send {
    stream::unfold(Some(from), |from| async move {
        let mut from = from?;
        let mut chunk = vec![0; CHUNK];
        match from.read(&mut chunk).await {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok((Channel::Output, Bytes::from(chunk))), Some(from)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// What a program without a terminal wrote, by channel.
pub(in crate::adapter) fn separate(from: impl AsyncRead + Send + Unpin) -> impl Stream<Item = Piece> + Send {
    stream::unfold(Some((from, Channels::default())), |state| async move {
        let (mut from, mut channels) = state?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match channels.next_piece() {
                Ok(Some(piece)) => return Some((Ok(piece), Some((from, channels)))),
                Ok(None) => {}
                Err(error) => return Some((Err(error), None)),
            }
            match from.read(&mut chunk).await {
                Ok(0) => return None,
                Ok(read) => channels.feed(&chunk[..read]),
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}

/// Takes the engine's stream of two channels apart: 8 bytes before each piece say which channel it
/// is of (the first byte) and how long it is (the last four). Long pieces are passed on in parts.
#[derive(Debug, Default)]
struct Channels {
    bytes: BytesMut,
    /// What is still to come of the present piece.
    present: Option<(Channel, usize)>,
}

impl Channels {
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn next_piece(&mut self) -> std::io::Result<Option<(Channel, Bytes)>> {
        loop {
            match self.present {
                Some((_, 0)) => self.present = None,
                Some((channel, left)) => {
                    let size = left.min(self.bytes.len());
                    if size == 0 {
                        return Ok(None);
                    }
                    self.present = Some((channel, left - size));
                    return Ok(Some((channel, self.bytes.split_to(size).freeze())));
                }
                None => {
                    let [channel, _, _, _, a, b, c, d, ..] = self.bytes[..] else { return Ok(None) };
                    let channel = match channel {
                        0 | 1 => Channel::Output,
                        2 | 3 => Channel::Errors,
                        other => {
                            let text = format!("the engine sends something of channel {other}");
                            return Err(std::io::Error::other(text));
                        }
                    };
                    self.bytes.advance(8);
                    let size = u32::from_be_bytes([a, b, c, d]);
                    self.present = Some((channel, usize::try_from(size).unwrap_or(usize::MAX)));
                }
            }
        }
    }
}

/// Says in our words that a program could not be started, and on the right channel. `missing` says
/// afterwards whether that is because it does not exist.
fn understandable(
    pieces: impl Stream<Item = Piece> + Send + Unpin,
    program: String,
    missing: Arc<AtomicBool>,
) -> impl Stream<Item = Piece> + Send {
    let mut first = true;
    pieces.map(move |piece| match piece {
        Ok((Channel::Output, data)) if std::mem::take(&mut first) && data.starts_with(NOT_STARTED) => {
            let text = not_started(&program, &data);
            let absent = ["not found", "no such file or directory"].iter().any(|words| text.contains(words));
            missing.store(absent, Ordering::Relaxed);
            Ok((Channel::Errors, Bytes::from(text)))
        }
        piece => piece,
    })
}

fn not_started(program: &str, engine: &[u8]) -> String {
    let text = String::from_utf8_lossy(engine);
    let reason = text.trim().trim_end_matches(": unknown");
    let reason = reason.rsplit(": ").next().unwrap_or(reason);
    format!("error: `{program}` could not be started: {reason}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The engine's spelling of pieces.
    fn spell(pieces: &[(bool, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (errors, data) in pieces {
            bytes.extend([if *errors { 2 } else { 1 }, 0, 0, 0]);
            bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    proptest! {
        #[test]
        fn channels_are_taken_apart_however_the_bytes_are_cut(
            pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            cuts in proptest::collection::vec(1_usize..50, 1..30),
        ) {
            let bytes = spell(&pieces);
            let (mut channels, mut got) = (Channels::default(), [Vec::new(), Vec::new()]);
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                channels.feed(now);
                while let Some((channel, data)) = channels.next_piece().expect("pieces") {
                    got[usize::from(channel == Channel::Errors)].extend_from_slice(&data);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let of = |wanted: bool| -> Vec<u8> {
                pieces.iter().filter(|(errors, _)| *errors == wanted).flat_map(|(_, data)| data.clone()).collect()
            };
            prop_assert_eq!(got, [of(false), of(true)]);
        }
    }

    #[test]
    fn a_program_that_can_t_be_started_is_named() {
        let text = "OCI runtime exec failed: exec failed: container_linux.go:380: starting container process \
                    caused: exec: \"nosuch\": executable file not found in $PATH: unknown\r\n";
        assert_eq!(
            not_started("nosuch", text.as_bytes()),
            "error: `nosuch` could not be started: executable file not found in $PATH\n"
        );
    }

    #[test]
    fn a_command_gets_the_variables_that_its_container_was_started_with() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let command = words("psql shop");
        let with = |started: &str| with_variables(&words(started), &command).join(" ");
        assert_eq!(with("docker-entrypoint.sh postgres"), "psql shop");
        assert_eq!(with_variables(&[], &command), command);
        let set = "/.fleetwright/probe exec A=/run/secrets/a B=/run/secrets/b --";
        let expected = format!("{set} psql shop");
        assert_eq!(with(&format!("{set} docker-entrypoint.sh -- exec")), expected);
        assert_eq!(with(&format!("/.fleetwright/probe attend /s -- {set} psql")), expected);
        assert_eq!(with("/.fleetwright/probe permit /s -- bin/report"), "psql shop");
    }
}
