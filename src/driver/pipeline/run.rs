//! The shell around one run: performs what the machine wants, writes down before it does.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::work::{self, At, Prepared};
use super::{Action, Change, Effect, Ending, Input, Machine, Outcome, Problem};
use crate::event::pipeline::PipelineEvent;
use crate::event::{EventKind, Events};
use crate::model::line::{LINE_MAX, plain};
use crate::model::redact::Mask;
use crate::model::run::{Run, RunConfig, RunId, StepAction};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::git::GitRemote;
use crate::port::images::ImageStore;
use crate::port::journal::{Journal, JournalError, Record, Which};
use crate::port::locks::{Guard, Locks};

/// How often what a builder says is written down.
const FLUSH: Duration = Duration::from_millis(100);
/// How often the journal is read for whether somebody has cancelled the run.
const LOOK: Duration = Duration::from_millis(500);
/// The most lines of one run that are kept.
const LINES_MAX: usize = 200_000;

/// Finds the cluster; asked again for every action, since control machines come and go.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The environment's cluster.
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError>;
}

/// All that runs need.
#[derive(Clone)]
pub struct Parts {
    /// The repositories.
    pub git: Arc<dyn GitRemote>,
    /// The builder and the registry.
    pub images: Arc<dyn ImageStore>,
    /// The cluster.
    pub connect: Arc<dyn Connect>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Locks between processes.
    pub locks: Arc<dyn Locks>,
    /// The mask of secrets.
    pub mask: Mask,
    /// Where events go, after they are in the journal.
    pub events: Events,
    /// Raised whenever the journal has changed.
    pub changed: Arc<watch::Sender<u64>>,
}

impl Parts {
    /// Writes changes of a run, and tells those who listen.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn record(&self, run: RunId, changes: Vec<Change>) -> Result<(), JournalError> {
        let mut records = Vec::with_capacity(changes.len());
        let mut events = Vec::new();
        for change in changes {
            match change {
                Change::Record(record) => records.push(record),
                Change::Event(event) => {
                    // Reasons may quote what a builder or registry said.
                    let event = self.mask.masked(&event).unwrap_or_else(|| event.withheld());
                    let json = serde_json::to_string(&event).map_err(|error| JournalError::Access {
                        doing: "writing",
                        reason: error.to_string(),
                    })?;
                    records.push(Record::Event(json));
                    events.push(event);
                }
            }
        }
        self.journal.record(Utc::now(), run, &records)?;
        for event in events {
            self.events.emit(EventKind::Pipeline(event));
        }
        self.ring();
        Ok(())
    }

    /// Tells those who wait for it that the journal has changed.
    pub fn ring(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Learns what must not be shown, before anything is written that may hold it.
    ///
    /// # Errors
    /// When the registry's credentials can't be read.
    pub async fn learn(&self) -> Result<(), Problem> {
        self.mask.learn_all(&self.images.secrets().await?);
        Ok(())
    }
}

/// What the process wants of the run that it works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    GoOn,
    /// Leave it where it is, for another process.
    Stop,
    /// End this run, and leave any other where it is.
    Cancel {
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
}

/// Works on `run` until it ends or `wish` says otherwise.
///
/// # Errors
/// When the journal can't be read or written: then nothing more is begun.
pub async fn drive(
    parts: &Parts,
    run: &Run,
    config: RunConfig,
    mut wish: watch::Receiver<Wish>,
) -> Result<Ending, JournalError> {
    let frozen = Run { config: Some(config.clone()), ..run.clone() };
    let mut machine = Machine::new(run, config);
    let lines = Lines::new(run.id);
    let mut prepared: HashMap<usize, Arc<Prepared>> = HashMap::new();
    let mut lock: Option<(usize, Vec<Guard>)> = None;
    let mut flush = tokio::time::interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut input = Input::Begin;
    let mut activity = Activity::Nothing;
    let mut wished = false;
    // The step at work, and until when it may be.
    let mut deadline: Option<(usize, Instant)> = None;
    loop {
        lines.flush(parts)?;
        for effect in machine.handle(Utc::now(), input) {
            match effect {
                Effect::Record(changes) => parts.record(run.id, changes)?,
                Effect::Perform { index, action } => {
                    if lock.as_ref().is_some_and(|(held_for, _)| *held_for != index) {
                        lock = None;
                    }
                    if deadline.is_none_or(|(limited, _)| limited != index) {
                        deadline = Some((index, Instant::now() + machine.timeout(index)));
                    }
                    let step = machine.step_name(index).to_owned();
                    let ready = prepared.get(&index).cloned();
                    let held = lock.take();
                    activity = Activity::Action(Box::pin(perform(
                        parts.clone(),
                        frozen.clone(),
                        Doing { index, step, action, prepared: ready, lock: held },
                        lines.clone(),
                    )));
                }
                Effect::Wait(time) => activity = Activity::Wait(Instant::now() + time),
                Effect::Drop => activity = Activity::Nothing,
                Effect::End(ending) => {
                    drop(activity);
                    lines.flush(parts)?;
                    return Ok(ending);
                }
            }
        }
        input = loop {
            tokio::select! {
                biased;
                changed = wish.changed(), if !wished => {
                    // A process that has forgotten its wish wants the run left.
                    let now = if changed.is_ok() { wish.borrow_and_update().clone() } else { Wish::Stop };
                    match now {
                        Wish::GoOn => {}
                        Wish::Stop => { wished = true; break Input::Stop; }
                        Wish::Cancel { run: meant, reason } => {
                            wished = true;
                            break if meant == run.id { Input::Cancel { reason } } else { Input::Stop };
                        }
                    }
                }
                done = activity.end() => {
                    activity = Activity::Nothing;
                    break match done {
                        None => Input::Due,
                        Some(Finished { index, result, prepared: ready, lock: held }) => {
                            if let Some(ready) = ready {
                                prepared.insert(index, Arc::new(ready));
                            }
                            lock = held;
                            Input::Done(result)
                        }
                    };
                }
                () = until(deadline) => {
                    deadline = None;
                    break Input::Expired;
                }
                _ = look.tick() => {
                    let now = parts.journal.run(run.id)?.map(|now| now.state);
                    if let Some(state) = now.filter(|state| state.is_ended()) {
                        // Somebody cancelled it; what the action says from here on has no place.
                        return Ok(Ending::Ended(state));
                    }
                }
                _ = flush.tick() => lines.flush(parts)?,
            }
        };
    }
}

/// Waits for a step's deadline; never returns when there is none.
async fn until(deadline: Option<(usize, Instant)>) {
    match deadline {
        Some((_, at)) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What is going on.
enum Activity {
    Nothing,
    Wait(Instant),
    Action(Pin<Box<dyn Future<Output = Finished> + Send>>),
}

impl Activity {
    /// Waits for the end: `None` of a wait, something of an action. Never returns for nothing.
    async fn end(&mut self) -> Option<Finished> {
        match self {
            Self::Nothing => std::future::pending().await,
            Self::Wait(until) => {
                tokio::time::sleep_until(*until).await;
                None
            }
            Self::Action(action) => Some(action.await),
        }
    }
}

/// An action with all it needs.
struct Doing {
    index: usize,
    step: String,
    action: Action,
    prepared: Option<Arc<Prepared>>,
    lock: Option<(usize, Vec<Guard>)>,
}

/// What came of it, and what is kept for the next one.
struct Finished {
    index: usize,
    result: Result<Outcome, Problem>,
    prepared: Option<Prepared>,
    lock: Option<(usize, Vec<Guard>)>,
}

async fn perform(parts: Parts, run: Run, doing: Doing, lines: Lines) -> Finished {
    let Doing { index, step, action, prepared: ready, mut lock } = doing;
    let mut prepared = None;
    let at = At { repository: &run.repository, commit: &run.commit };
    let say = |line: &str| lines.add(&parts, &step, line);
    let result = match &action {
        Action::Inspect { build } => {
            let (git, images, journal) = (&*parts.git, &*parts.images, &*parts.journal);
            async {
                parts.learn().await?;
                let (outcome, found) = work::inspect(git, images, journal, at, build).await?;
                prepared = Some(found);
                Ok(outcome)
            }
            .await
        }
        Action::Build { build, .. } => match &ready {
            Some(ready) => work::build(&parts.git, &*parts.images, at, build, ready, &say).await,
            None => Err(Problem::lasting("the build was not inspected")),
        },
        Action::Push { build, key } => work::push(&*parts.images, build, key, &say).await,
        Action::Look { services } => {
            async {
                if lock.is_none() {
                    lock = Some((index, service_locks(&parts, &run, index, &say).await?));
                }
                let cluster = parts.connect.cluster().await?;
                work::look(cluster, services).await
            }
            .await
        }
        Action::TakeBack { members } => {
            let tell = |rollout| {
                lines.event(PipelineEvent::Rollout { run: run.id, step: step.clone(), rollout });
            };
            async {
                if lock.is_none() {
                    lock = Some((index, service_locks(&parts, &run, index, &say).await?));
                }
                let cluster = parts.connect.cluster().await?;
                work::take_back(cluster, members, &tell, &say).await
            }
            .await
        }
        Action::Deploy { deployment, told_since } => {
            async {
                if lock.is_none() {
                    lock = Some((index, service_locks(&parts, &run, index, &say).await?));
                }
                let cluster = parts.connect.cluster().await?;
                work::deploy(cluster, &*parts.images, deployment, *told_since).await
            }
            .await
        }
        Action::Follow { service, revision, digest } => {
            let tell = |rollout| {
                lines.event(PipelineEvent::Rollout { run: run.id, step: step.clone(), rollout });
            };
            async {
                if lock.is_none() {
                    lock = Some((index, service_locks(&parts, &run, index, &say).await?));
                }
                let cluster = parts.connect.cluster().await?;
                let newer = || newer(&parts, &run);
                let rollout = work::Following { service, revision: *revision, digest, newer: &newer };
                work::follow(cluster, rollout, &tell, &say).await
            }
            .await
        }
    };
    Finished { index, result, prepared, lock }
}

/// The run of a newer commit that waits for `run` to end.
fn newer(parts: &Parts, run: &Run) -> Option<RunId> {
    let open = parts.journal.runs(&Which::Open(run.pipeline.clone())).unwrap_or_default();
    open.iter().filter(|other| other.id > run.id && other.commit != run.commit).map(|other| other.id).max()
}

/// Waits until no other run rolls out a service of the step. All runs take the locks in the same order.
async fn service_locks(
    parts: &Parts,
    run: &Run,
    index: usize,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<Guard>, Problem> {
    let step = run.config.as_ref().and_then(|config| config.steps.get(index));
    let mut services = step.map(StepAction::services).unwrap_or_default();
    services.sort();
    let mut guards = Vec::with_capacity(services.len());
    for service in services {
        guards.push(service_lock(parts, run, service, say).await?);
    }
    Ok(guards)
}

/// Waits until no other run rolls the service out.
async fn service_lock(
    parts: &Parts,
    run: &Run,
    service: &crate::model::name::ServiceName,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Guard, Problem> {
    let environment = run.config.as_ref().map_or("", |config| config.environment.as_str());
    let name = format!("service-{environment}-{service}");
    let mut told = false;
    loop {
        match parts.locks.try_lock(&name) {
            Ok(Some(guard)) => return Ok(guard),
            Ok(None) => {
                if !told {
                    say(&format!("waiting for another rollout of `{service}` to end"));
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Err(error) => return Err(Problem::lasting(format!("the lock `{name}`: {error}"))),
        }
    }
}

/// A line of which no more than [`LINE_MAX`] bytes remain; one that was cut says so.
fn shortened(mut line: String) -> String {
    if line.len() > LINE_MAX {
        let end = line.floor_char_boundary(LINE_MAX);
        let more = line.len() - end;
        line.truncate(end);
        line.push_str(&format!(" … ({more} more bytes are not kept)"));
    }
    line
}

/// What actions say, collected until it is written down.
#[derive(Clone)]
struct Lines {
    run: RunId,
    state: Arc<Mutex<Collected>>,
}

#[derive(Default)]
struct Collected {
    waiting: Vec<Change>,
    lines: usize,
}

impl Lines {
    fn new(run: RunId) -> Self {
        Self { run, state: Arc::default() }
    }

    fn add(&self, parts: &Parts, step: &str, line: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lines += 1;
        let text = match state.lines {
            // Masked before it is cut, so that no half of a secret remains.
            n if n < LINES_MAX => shortened(parts.mask.mask(&plain(line))),
            LINES_MAX => format!("(lines past {LINES_MAX} are not kept)"),
            _ => return,
        };
        let event = PipelineEvent::Log { run: self.run, step: step.to_owned(), text };
        state.waiting.push(Change::Event(event));
    }

    fn event(&self, event: PipelineEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push(Change::Event(event));
    }

    fn flush(&self, parts: &Parts) -> Result<(), JournalError> {
        let waiting = std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting);
        if waiting.is_empty() { Ok(()) } else { parts.record(self.run, waiting) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_cut_says_so() {
        let whole = "é".repeat(LINE_MAX / 2);
        assert_eq!(shortened(whole.clone()), whole);
        let long = shortened(format!("{whole}é and more"));
        assert_eq!(long, format!("{whole} … (11 more bytes are not kept)"));
    }
}
