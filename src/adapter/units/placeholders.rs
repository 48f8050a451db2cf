//! The placeholders of units: containers that the engine runs, and that are connected to the agent.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::Docker;
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;

use crate::adapter::container_events::of_containers;
use crate::adapter::peer::{Peer, listen, one_line, peer};
use crate::adapter::swarm::{ORDER_FILE, SERVICE, TASK, TEMPLATE, UNITS};
use crate::model::unit::{ORDER_VERSION, UnitOrder, Which};
use crate::port::units::{Arrived, Door, Health, Present, PrivateFile};

/// The label of the engine with a task's name, `SERVICE.SLOT.TASK`.
const TASK_NAME: &str = "com.docker.swarm.task.name";
/// The longest question of a helper.
const QUESTION: u64 = 64;
/// How many lines wait for a placeholder to print them; more are dropped, and remain in the journal.
const LINES: usize = 4_096;
/// How long an answer about health is held back while nothing changes.
const HOLD: Duration = Duration::from_secs(300);
/// Time between two attempts to watch the engine.
const RETRY: Duration = Duration::from_secs(1);
/// The largest file that is taken from a placeholder: the engine's limit for configs is 1,000 KiB.
const FILE_MOST: u64 = 1 << 20;

/// The placeholders of this machine.
#[derive(Clone, Default)]
pub struct Placeholders {
    held: Arc<Mutex<HashMap<String, Held>>>,
    /// Containers that the engine stops, and since when. They may connect only afterwards.
    told: Arc<Mutex<HashMap<String, Instant>>>,
    changed: Arc<Notify>,
}

struct Held {
    arrived: Arc<Arrived>,
    container: String,
    /// Which connection it is: a helper may connect again before the end of the last one is seen.
    connection: u64,
    lines: mpsc::Sender<Vec<u8>>,
    end: Option<mpsc::Sender<Vec<u8>>>,
    health: watch::Sender<Health>,
    /// When it printed its last line.
    printed: Option<Instant>,
    /// Whether a probe has said that it is healthy. The first answer is given at once, the others only when
    /// something has changed.
    answered: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Door for Placeholders {
    fn present(&self) -> Vec<Present> {
        let held = lock(&self.held);
        let told = lock(&self.told);
        let mut present: Vec<Present> = held
            .values()
            .filter(|held| held.end.is_some())
            .map(|held| Present {
                arrived: Arc::clone(&held.arrived),
                told: told.get(&held.container).copied(),
                connection: held.connection,
            })
            .collect();
        present.sort_by(|one, other| one.arrived.which.task.cmp(&other.arrived.which.task));
        present
    }

    fn end(&self, task: &str, status: u8, reason: &str) {
        if let Some(held) = lock(&self.held).get_mut(task)
            && let Some(end) = held.end.take()
        {
            // The queue has a place for it and nothing else.
            let _ = end.try_send(format!("end {status} {}\n", one_line(reason)).into_bytes());
        }
    }

    fn health(&self, task: &str, health: Health) {
        if let Some(held) = lock(&self.held).get(task) {
            held.health.send_if_modified(|now| {
                let changed = *now != health;
                *now = health;
                changed
            });
        }
    }

    fn print(&self, task: &str, line: &[u8]) {
        if let Some(held) = lock(&self.held).get_mut(task) {
            held.printed = Some(Instant::now());
            let _ = held.lines.try_send([b"out ", line, b"\n"].concat());
        }
    }

    fn printed(&self, task: &str) -> Option<Instant> {
        lock(&self.held).get(task)?.printed
    }

    async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Placeholders {
    /// Holds the connection of a placeholder until one of both ends it.
    async fn hold(&self, mut stream: UnixStream, asked: &Peer, arrived: Arrived) {
        let (lines, mut to_print) = mpsc::channel(LINES);
        let (end, mut to_end) = mpsc::channel(1);
        let task = arrived.which.task.clone();
        let container = asked.container.id.clone().unwrap_or_default();
        let connection = {
            let mut held = lock(&self.held);
            let connection = held.get(&task).map_or(1, |before| before.connection + 1);
            let (health, _) = watch::channel(Health::Unknown);
            held.insert(
                task.clone(),
                Held {
                    arrived: Arc::new(arrived),
                    container: container.clone(),
                    connection,
                    lines,
                    end: Some(end),
                    health,
                    printed: None,
                    answered: false,
                },
            );
            connection
        };
        self.changed.notify_one();
        let mut byte = [0];
        loop {
            let line = tokio::select! {
                biased;
                line = to_print.recv() => line,
                // What is to be printed goes before the end.
                line = to_end.recv() => {
                    if let Some(line) = line {
                        let _ = stream.write_all(&line).await;
                        let _ = stream.shutdown().await;
                    }
                    break;
                }
                // It writes nothing more.
                _ = stream.read(&mut byte) => break,
            };
            let Some(line) = line else { break };
            if stream.write_all(&line).await.is_err() {
                break;
            }
        }
        let mut held = lock(&self.held);
        if held.get(&task).is_some_and(|held| held.connection == connection) {
            held.remove(&task);
            lock(&self.told).remove(&container);
        }
        drop(held);
        self.changed.notify_one();
    }

    /// Answers a probe once there is something to say.
    async fn answer(&self, stream: &mut UnixStream, task: &str) -> io::Result<()> {
        let found = {
            let held = lock(&self.held);
            held.get(task).map(|held| (held.health.subscribe(), held.answered))
        };
        // Its placeholder has not connected yet, or not again: the probe asks once more.
        let Some((mut health, answered)) = found else { return Ok(()) };
        let hold = sleep(HOLD);
        tokio::pin!(hold);
        let mut byte = [0];
        loop {
            let now = health.borrow_and_update().clone();
            let line = match (&now, answered && !hold.is_elapsed()) {
                (Health::Unhealthy(words), _) => Some(format!("bad {}\n", one_line(words))),
                (Health::Healthy(words), false) => Some(format!("ok {}\n", one_line(words))),
                (Health::Healthy(_) | Health::Unknown, _) => None,
            };
            if let Some(line) = line {
                if let Some(held) = lock(&self.held).get_mut(task) {
                    held.answered = true;
                }
                return stream.write_all(line.as_bytes()).await;
            }
            tokio::select! {
                changed = health.changed() => if changed.is_err() { return Ok(()) },
                () = &mut hold, if !hold.is_elapsed() => {}
                _ = stream.read(&mut byte) => return Ok(()),
            }
        }
    }
}

/// Serves placeholders at `name` in `folder`, until dropped.
///
/// # Errors
/// When the socket can't be made.
pub async fn serve(
    folder: &Path,
    name: &str,
    docker: Docker,
    placeholders: Placeholders,
) -> io::Result<std::convert::Infallible> {
    // Helpers run as root, and only containers of units have the folder mounted.
    let listener = listen(folder, name, 0o600)?;
    let watching = watch_stops(docker.clone(), placeholders.clone());
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let (docker, placeholders) = (docker.clone(), placeholders.clone());
            tokio::spawn(async move { connected(stream, &docker, &placeholders).await });
        }
    };
    tokio::select! {
        served = accepting => served,
        never = watching => match never {},
    }
}

/// Notes which placeholders the engine stops.
async fn watch_stops(docker: Docker, placeholders: Placeholders) -> std::convert::Infallible {
    loop {
        let mut events = of_containers(&docker, &["kill", "die"], Some(UNITS));
        while let Some(event) = events.next().await {
            let Some(id) = event.actor.and_then(|actor| actor.id) else { continue };
            if event.action.as_deref() == Some("die") {
                lock(&placeholders.told).remove(&id);
            } else {
                lock(&placeholders.told).entry(id).or_insert_with(Instant::now);
            }
            placeholders.changed.notify_one();
        }
        sleep(RETRY).await;
    }
}

async fn connected(mut stream: UnixStream, docker: &Docker, placeholders: &Placeholders) {
    let mut line = String::new();
    if BufReader::new((&mut stream).take(QUESTION)).read_line(&mut line).await.is_err() {
        return;
    }
    let asked = match peer(&stream, docker).await {
        Ok(asked) => asked,
        // Its helper connects again.
        Err(unknown) => return tracing::warn!(?unknown, "who asks for units is not known"),
    };
    let Some(task) = asked.label(TASK).map(str::to_owned) else {
        return tracing::warn!("a container that is no task of the cluster asks for units");
    };
    match line.trim_end() {
        "unit" => match arrived(&asked, &task).await {
            Ok(arrived) => placeholders.hold(stream, &asked, arrived).await,
            Err(reason) => {
                tracing::warn!(task, reason, "a placeholder can't be read");
                let _ = stream.write_all(format!("end 1 {}\n", one_line(&reason)).as_bytes()).await;
            }
        },
        "health" => {
            let _ = placeholders.answer(&mut stream, &task).await;
        }
        _ => {}
    }
}

/// What a placeholder stands for and holds.
async fn arrived(asked: &Peer, task: &str) -> Result<Arrived, String> {
    let label = |key: &str| {
        asked.label(key).map(str::to_owned).ok_or(format!("the placeholder has no label `{key}`"))
    };
    let (service, template, name) = (label(SERVICE)?, label(TEMPLATE)?, label(TASK_NAME)?);
    let slot =
        name.strip_suffix(&format!(".{task}")).and_then(|rest| rest.strip_prefix(&format!("{service}.")));
    let slot = slot.ok_or(format!("the engine calls the task `{name}`"))?.to_owned();
    let process = asked.process;
    let read = tokio::task::spawn_blocking(move || read_held(process)).await;
    let (order, held) = read.map_err(|error| error.to_string())??;
    let which = Which {
        task: task.to_owned(),
        service,
        slot,
        template,
        exclusive: order.units.exclusive,
        on_disconnect: order.units.on_disconnect,
    };
    Ok(Arrived { which, order, held })
}

/// Reads the order and what belongs to it in the file system of a process, which is an image of ours without anything,
/// and what the engine has mounted.
fn read_held(process: i32) -> Result<(UnitOrder, Vec<PrivateFile>), String> {
    let at = |path: &str| format!("/proc/{process}/root{path}");
    let read = |path: &str| -> Result<(Vec<u8>, fs::Metadata), String> {
        let failed = |error: io::Error| format!("reading {path} of the placeholder: {error}");
        let about = fs::symlink_metadata(at(path)).map_err(failed)?;
        if !about.is_file() || about.len() > FILE_MOST {
            return Err(format!("{path} of the placeholder is no file, or a very large one"));
        }
        Ok((read_file(&at(path)).map_err(failed)?, about))
    };
    let (text, _) = read(ORDER_FILE)?;
    let order: UnitOrder = serde_json::from_slice(&text)
        .map_err(|error| format!("reading what the placeholder orders: {error}"))?;
    if order.version != ORDER_VERSION {
        return Err(format!("the order has version {}, and this agent knows {ORDER_VERSION}", order.version));
    }
    let mut held = Vec::new();
    for target in order.files.iter().chain(order.secrets.iter().map(|secret| &secret.target)) {
        let (content, about) = read(target)?;
        let (mode, owner) = (about.mode() & 0o7777, (about.uid(), about.gid()));
        held.push(PrivateFile { path: target.clone(), content, mode, owner });
    }
    Ok((order, held))
}

#[expect(clippy::disallowed_methods, reason = "the file of a placeholder, whose size is known")]
fn read_file(path: &str) -> io::Result<Vec<u8>> {
    fs::read(path)
}
