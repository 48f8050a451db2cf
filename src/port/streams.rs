//! Programs that are executed in running instances, and the streams that lead to them: from a
//! command line to a control machine, from there to the agent of the instance's machine, and from
//! the agent to the engine.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::cluster::ClusterError;
use super::cluster_wire::WireError;
use crate::model::frame::{Signal, Size};
use crate::model::job::OccurrenceId;
use crate::model::logs::{LogEntry, LogItem, LogQuery};
use crate::model::name::{MachineId, ServiceName};
use crate::model::timeline::{EventPage, EventQuery};

/// The port on which every machine's agent listens. It accepts control machines only.
pub const AGENT_PORT: u16 = 7444;
/// The header of an answer that says which instance it is about.
pub const INSTANCE_HEADER: &str = "fleetwright-instance";
/// The header of an answer that says which machine that instance runs on.
pub const MACHINE_HEADER: &str = "fleetwright-machine";

/// The path on an agent that executes a program in a task's container.
pub fn exec_path(task: &str) -> String {
    format!("/v1/tasks/{task}/exec")
}

/// The path on an agent that reads the logs of a service's instances on that machine.
pub const LOGS_PATH: &str = "/v1/logs";

/// The path on the agent of a control machine that reads the events which that machine keeps.
pub const EVENTS_PATH: &str = "/v1/events";

/// What comes when logs are read.
pub type LogItems = BoxStream<'static, Result<LogItem, ClusterError>>;

/// The logs of a service's instances on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// The service.
    pub service: ServiceName,
    /// The machine, as its lines name it.
    pub machine: MachineId,
    /// Which lines.
    pub query: LogQuery,
}

/// One line of the answer when logs are read; empty lines between them are signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLine {
    /// A line of a log.
    Entry(LogEntry),
    /// What follows is new.
    Live,
    /// A machine whose lines are missing.
    Missing(MissingLogs),
    /// The end, and why.
    Error(WireError),
}

/// A machine whose lines are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingLogs {
    /// The machine.
    pub machine: String,
    /// Why.
    pub reason: String,
}

impl LogLine {
    /// What it says; `endpoint` is where it came from.
    ///
    /// # Errors
    /// What ended the answer.
    pub fn item(self, endpoint: &str) -> Result<LogItem, ClusterError> {
        match self {
            Self::Entry(entry) => Ok(LogItem::Entry(entry)),
            Self::Live => Ok(LogItem::Live),
            Self::Missing(MissingLogs { machine, reason }) => Ok(LogItem::Missing { machine, reason }),
            Self::Error(error) => Err(error.into_error(endpoint)),
        }
    }
}

impl From<Result<LogItem, ClusterError>> for LogLine {
    fn from(item: Result<LogItem, ClusterError>) -> Self {
        match item {
            Ok(LogItem::Entry(entry)) => Self::Entry(entry),
            Ok(LogItem::Live) => Self::Live,
            Ok(LogItem::Missing { machine, reason }) => Self::Missing(MissingLogs { machine, reason }),
            Err(error) => Self::Error(WireError::from(&error)),
        }
    }
}

/// The logs of a service's instances on this machine, one source for each container.
pub struct LogSources {
    /// What was written until now, each in the order of time.
    pub past: Vec<LogItems>,
    /// What is written from now on; begins where the past ends, once that is read.
    pub live: Option<LogItems>,
}

/// A program to execute in an instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The instance, such as `web@1`; `None` for any healthy one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The one-off command of the service whose container it is executed in, instead of an instance's. That
    /// container waits for it, and ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<OccurrenceId>,
    /// The program and its arguments. Arguments may hold secrets: they are recorded nowhere.
    pub command: Vec<String>,
    /// Whether it gets a standard input.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input: bool,
    /// Its terminal, if it gets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// The terminal of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// What kind it is: the caller's `TERM`.
    pub kind: String,
    /// Its size; `None` where the caller has no terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// Both directions of an open stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open stream, on which [frames](crate::model::frame) travel.
pub type Connection = Box<dyn Duplex>;

/// A program that is being executed in an instance.
pub struct Attached {
    /// The instance.
    pub instance: String,
    /// Its machine.
    pub machine: String,
    /// The stream to it.
    pub connection: Connection,
}

/// The cluster, for those who execute programs in its instances.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Executes a program in an instance of `service`.
    ///
    /// # Errors
    /// When there is no such instance, or the caller may not do it.
    async fn exec(&self, service: &ServiceName, request: &ExecRequest) -> Result<Attached, ClusterError>;
}

/// The cluster, for those who read the logs of its instances.
#[async_trait]
pub trait ReadLogs: Send + Sync {
    /// The lines of a service's instances, also of those that have ended, for as long as their machines
    /// have them, in the order of time.
    ///
    /// # Errors
    /// When there is no such service, or the caller may not read its logs.
    async fn read_logs(&self, service: &ServiceName, query: &LogQuery) -> Result<LogItems, ClusterError>;
}

/// The cluster, for those who read what happened in it.
#[async_trait]
pub trait ReadEvents: Send + Sync {
    /// The events of all control machines, merged, oldest first.
    ///
    /// # Errors
    /// When no control machine answers, or the caller may not read them.
    async fn read_events(&self, query: &EventQuery) -> Result<EventPage, ClusterError>;
}

/// The agents of the cluster's machines, for its control machines.
#[async_trait]
pub trait Agents: Send + Sync {
    /// Executes a program in the container of `task`, which runs on `machine` at `address`.
    ///
    /// # Errors
    /// When the machine does not answer, or does not execute it.
    async fn exec(
        &self,
        machine: &MachineId,
        address: IpAddr,
        task: &str,
        request: &ExecRequest,
    ) -> Result<Connection, ClusterError>;

    /// Reads logs on the machine that the request names, at `address`.
    ///
    /// # Errors
    /// When the machine does not answer.
    async fn logs(&self, address: IpAddr, request: &LogRequest) -> Result<LogItems, ClusterError>;

    /// Reads the events that the control machine `machine` at `address` keeps.
    ///
    /// # Errors
    /// When the machine does not answer.
    async fn events(
        &self,
        machine: &MachineId,
        address: IpAddr,
        query: &EventQuery,
    ) -> Result<EventPage, ClusterError>;
}

/// Where a process wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// To its standard output, or its terminal.
    Output,
    /// To its standard error.
    Errors,
}

/// What a process writes, until it has closed both channels.
pub type Output = BoxStream<'static, Result<(Channel, Bytes), ClusterError>>;

/// A process in a container of this machine.
pub struct Process {
    /// Its standard input, if it has one.
    pub input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it writes.
    pub output: Output,
    /// What else can be done with it.
    pub handle: Arc<dyn ProcessHandle>,
}

/// The containers of this machine that wait for the callers of their commands.
#[async_trait]
pub trait Attended: Send + Sync {
    /// Takes the container of `task` for its caller; nobody else gets it then. It ends with the status that is
    /// sent, or in failure when none is. `None` when it does not wait for anybody.
    async fn take(&self, task: &str) -> Option<oneshot::Sender<u8>>;
}

/// A hold on a process.
#[async_trait]
pub trait ProcessHandle: Send + Sync {
    /// Gives its terminal another size. A process without one, or that has ended, is left alone.
    async fn resize(&self, size: Size);

    /// Sends a signal to it and to its children.
    async fn signal(&self, signal: Signal);

    /// Its exit status, when its output has ended.
    ///
    /// # Errors
    /// When the engine does not know.
    async fn exit(&self) -> Result<i32, ClusterError>;

    /// Ends it and its children: they get a signal first, and are killed soon after.
    async fn end(&self);
}

/// The containers of this machine.
#[async_trait]
pub trait Containers: Send + Sync {
    /// Executes a program in the container of `task`.
    ///
    /// # Errors
    /// When this machine does not run that task, or the engine does not execute anything in it.
    async fn exec(&self, task: &str, request: &ExecRequest) -> Result<Process, ClusterError>;

    /// The logs of a service's instances, running or not.
    ///
    /// # Errors
    /// When the engine does not list them.
    async fn logs(&self, request: &LogRequest) -> Result<LogSources, ClusterError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_request_is_accepted() {
        for (name, text) in crate::source::samples::of("streams") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let read = |key: &str| -> ExecRequest {
                serde_json::from_value(sample[key].clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
            };
            let full = read("exec");
            assert_eq!(
                full.terminal.and_then(|terminal| terminal.size),
                Some(Size { rows: 24, columns: 80 })
            );
            assert!(full.input && full.instance.as_deref() == Some("web@1"));
            let shortest = read("shortest");
            assert_eq!((shortest.command, shortest.terminal), (vec!["true".to_owned()], None));
            let logs: LogRequest = serde_json::from_value(sample["logs"].clone()).expect(&name);
            assert!(logs.query.follow && logs.query.slot.as_deref() == Some("1"));
            let lines: Vec<LogLine> = serde_json::from_value(sample["lines"].clone()).expect(&name);
            let items: Vec<_> = lines.into_iter().map(|line| line.item("there")).collect();
            assert!(matches!(
                items[..],
                [Ok(LogItem::Entry(_)), Ok(LogItem::Live), Ok(LogItem::Missing { .. }), Err(_)]
            ));
        }
    }
}
