//! The logs of the instances on this machine, running or not, as its own engine keeps them.
//!
//! The swarm's own log of a service is in no order, knows no end of the time that is wanted, and loses the
//! lines of tasks that the managers have forgotten; the engine of the machine has none of these limits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptions, LogsOptions};
use chrono::{DateTime, Utc};
use futures_util::stream::{self, SelectAll};
use futures_util::{Stream, StreamExt};
use tokio::time::{MissedTickBehavior, interval};

use super::Swarm;
use super::engine::Engine;
use super::spec::SERVICE;
use crate::model::logs::{LogEntry, LogItem};
use crate::port::cluster::ClusterError;
use crate::port::streams::{LogItems, LogRequest, LogSources};

/// What was tried when reading fails.
const READING: &str = "reading the log of an instance";
/// Time between two checks for new instances while lines are followed.
const CHECK: Duration = Duration::from_secs(1);
/// The most of one line that is kept, in bytes: the engine stores long ones in parts.
const LINE: usize = 1 << 20;

/// An instance's container.
#[derive(Debug, Clone)]
struct Container {
    id: String,
    instance: String,
}

/// Up to where the log of each container was read.
type Read = Arc<Mutex<HashMap<String, DateTime<Utc>>>>;

impl Swarm {
    pub(super) async fn read_logs(&self, request: &LogRequest) -> Result<LogSources, ClusterError> {
        let begun = Utc::now();
        let read = Read::default();
        let containers = self.engine.containers(request).await?;
        let past = containers.iter().map(|container| past(&self.engine, container, request, &read)).collect();
        let live = request.query.follow.then(|| live(self.engine.clone(), request.clone(), read, begun));
        Ok(LogSources { past, live })
    }
}

impl Engine {
    /// The containers of a service's instances.
    async fn containers(&self, request: &LogRequest) -> Result<Vec<Container>, ClusterError> {
        let label = format!("{SERVICE}={}", request.service);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..Default::default()
        };
        let found = self.docker().list_containers(Some(options)).await;
        let found = found.map_err(|error| self.error("looking for the instances of a service", error))?;
        Ok(found.into_iter().filter_map(|one| container(one, request)).collect())
    }
}

fn container(found: ContainerSummary, request: &LogRequest) -> Option<Container> {
    let task = found.labels?.remove("com.docker.swarm.task.name")?;
    let slot = slot(&task, request.machine.as_str())?;
    let wanted = request.query.slot.as_ref().is_none_or(|wanted| *wanted == slot);
    wanted.then_some(Container { id: found.id?, instance: format!("{}@{slot}", request.service) })
}

/// What an instance's name ends with, from its task's name: `web.2.TASK`, or `web.NODE.TASK` where
/// there is one on every machine.
fn slot(task: &str, machine: &str) -> Option<String> {
    let slot = task.rsplit('.').nth(1)?;
    let number = slot.bytes().all(|byte| byte.is_ascii_digit());
    Some(if number { slot.to_owned() } else { machine.to_owned() })
}

/// The lines that a container has written until now.
fn past(engine: &Engine, container: &Container, request: &LogRequest, read: &Read) -> LogItems {
    let query = request.query.clone();
    // The engine counts lines before it applies the end of the time, and it does not know the text.
    let own_tail = query.tail.filter(|_| query.grep.is_some() || query.until.is_some());
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        timestamps: true,
        since: query.since.map_or(0, whole_seconds),
        tail: query.tail.filter(|_| own_tail.is_none()).map_or_else(|| "all".to_owned(), |n| n.to_string()),
        ..Default::default()
    };
    let (id, read) = (container.id.clone(), Arc::clone(read));
    let lines = lines(engine, container, request, options).map(move |entry| {
        if let Ok(entry) = &entry {
            let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
            let last = read.entry(id.clone()).or_insert(entry.at);
            *last = entry.at.max(*last);
        }
        entry
    });
    let wanted = lines.filter(move |entry| {
        std::future::ready(entry.as_ref().map_or(true, |entry| query.takes(entry.at, &entry.text)))
    });
    match own_tail {
        None => wanted.map(|entry| entry.map(LogItem::Entry)).boxed(),
        Some(count) => stream::once(async move {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let mut last = VecDeque::new();
            let mut wanted = std::pin::pin!(wanted);
            while let Some(entry) = wanted.next().await {
                last.push_back(entry.map(LogItem::Entry));
                if last.len() > count {
                    last.pop_front();
                }
            }
            stream::iter(last)
        })
        .flatten()
        .boxed(),
    }
}

/// The lines that come after those that were read, also of instances that start later.
fn live(engine: Engine, request: LogRequest, read: Read, begun: DateTime<Utc>) -> LogItems {
    let mut ticks = interval(CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let followed: SelectAll<LogItems> = SelectAll::new();
    let known: HashMap<String, ()> = HashMap::new();
    let state = (engine, request, read, ticks, followed, known);
    stream::unfold(state, move |(engine, request, read, mut ticks, mut followed, mut known)| async move {
        loop {
            tokio::select! {
                Some(item) = followed.next() => {
                    return Some((item, (engine, request, read, ticks, followed, known)));
                }
                _ = ticks.tick() => {
                    let containers = match engine.containers(&request).await {
                        Ok(containers) => containers,
                        Err(error) => return Some((Err(error), (engine, request, read, ticks, followed, known))),
                    };
                    for container in containers {
                        if known.insert(container.id.clone(), ()).is_none() {
                            let after = read.lock().unwrap_or_else(PoisonError::into_inner).get(&container.id).copied();
                            followed.push(follow(&engine, &container, &request, after, begun));
                        }
                    }
                }
            }
        }
    })
    .boxed()
}

/// The lines of one container after `after`, or from `begun` on where none was read.
fn follow(
    engine: &Engine,
    container: &Container,
    request: &LogRequest,
    after: Option<DateTime<Utc>>,
    begun: DateTime<Utc>,
) -> LogItems {
    let query = request.query.clone();
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        timestamps: true,
        follow: true,
        since: whole_seconds(after.unwrap_or(begun)),
        tail: "all".to_owned(),
        ..Default::default()
    };
    lines(engine, container, request, options)
        .filter_map(move |entry| {
            let wanted = match entry {
                Ok(entry) => {
                    let new = after.map_or(entry.at >= begun, |after| entry.at > after);
                    (new && query.takes(entry.at, &entry.text)).then_some(Ok(LogItem::Entry(entry)))
                }
                Err(error) => Some(Err(error)),
            };
            std::future::ready(wanted)
        })
        .boxed()
}

fn whole_seconds(at: DateTime<Utc>) -> i32 {
    i32::try_from(at.timestamp().max(0)).unwrap_or(i32::MAX)
}

/// The lines of a container. One that is removed meanwhile has no more of them.
fn lines(
    engine: &Engine,
    container: &Container,
    request: &LogRequest,
    options: LogsOptions,
) -> impl Stream<Item = Result<LogEntry, ClusterError>> + Send + 'static {
    let docker: Docker = engine.docker().clone();
    let (engine, container, machine) = (engine.clone(), container.clone(), request.machine.to_string());
    let id = container.id.clone();
    let pieces = stream::once(async move { docker.logs(&id, Some(options)).boxed() }).flatten();
    let mut joined = Joined::default();
    pieces.filter_map(move |piece| {
        let item = match piece {
            Ok(piece) => joined.push(&piece).map(|(at, text)| {
                let (instance, machine) = (container.instance.clone(), machine.clone());
                Ok(LogEntry { at, instance, machine, text })
            }),
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => None,
            Err(error) => Some(Err(engine.error(READING, error))),
        };
        std::future::ready(item)
    })
}

/// Joins the parts in which the engine keeps long lines. The two channels are apart.
#[derive(Debug, Default)]
struct Joined {
    open: [Option<(DateTime<Utc>, Vec<u8>)>; 2],
}

impl Joined {
    /// Takes a part; gives the line that it ends.
    fn push(&mut self, piece: &LogOutput) -> Option<(DateTime<Utc>, String)> {
        let channel = usize::from(matches!(piece, LogOutput::StdErr { .. }));
        let bytes = piece.as_ref();
        let blank = bytes.iter().position(|byte| *byte == b' ')?;
        let at = std::str::from_utf8(&bytes[..blank]).ok()?;
        let at = DateTime::parse_from_rfc3339(at).ok()?.to_utc();
        let text = &bytes[blank + 1..];
        let ends = text.ends_with(b"\n");
        let (at, mut line) = self.open[channel].take().unwrap_or((at, Vec::new()));
        line.extend_from_slice(text);
        if !ends && line.len() < LINE {
            self.open[channel] = Some((at, line));
            return None;
        }
        let text = String::from_utf8_lossy(&line);
        Some((at, text.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_instance_is_named_after_its_slot_or_its_machine() {
        assert_eq!(slot("web.2.k0ukhxvwnx1f", "i-1").as_deref(), Some("2"));
        assert_eq!(slot("agent.v1xkq2node.k0ukhxvwnx1f", "i-1").as_deref(), Some("i-1"));
        assert_eq!(slot("odd", "i-1"), None);
    }

    #[test]
    fn parts_of_a_line_become_one() {
        let out = |text: &str| LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) };
        let err = |text: &str| LogOutput::StdErr { message: Bytes::copy_from_slice(text.as_bytes()) };
        let mut joined = Joined::default();
        let mut push = |piece| joined.push(&piece).map(|(at, text)| (at.timestamp_subsec_nanos(), text));
        assert_eq!(push(out("2026-11-29T10:00:00.000000001Z first \r\n")), Some((1, "first ".to_owned())));
        assert_eq!(push(out("2026-11-29T10:00:00.000000002Z one ")), None);
        assert_eq!(push(err("2026-11-29T10:00:00.000000003Z other\n")), Some((3, "other".to_owned())));
        assert_eq!(push(out("2026-11-29T10:00:00.000000004Z two\n")), Some((2, "one two".to_owned())));
        assert_eq!(push(out("2026-11-29T10:00:00.000000005Z \n")), Some((5, String::new())));
        assert_eq!(push(out("no time\n")), None);
    }
}
