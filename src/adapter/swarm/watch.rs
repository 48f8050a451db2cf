//! Watching a swarm: the engine reports changes of services and nodes, but not of tasks, so
//! this looks at everything often while something moves and now and then while nothing does.
//! One task observes for all watchers, as often as the most eager of them needs; without watchers,
//! nothing is asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::stream::{BoxStream, Stream};
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::engine::Engine;
use super::observe::{self, Observed};
use crate::port::cluster::{ClusterError, Snapshot};

/// How soon a watcher needs to know what has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A person or a rollout waits for it.
    Eager,
    /// It is only recorded.
    Patient,
}

impl Pace {
    /// Time between two looks while something moves.
    const fn busy(self) -> Duration {
        match self {
            Self::Eager => Duration::from_millis(120),
            Self::Patient => Duration::from_secs(1),
        }
    }

    /// Time between two looks while nothing does. A crash is seen this late; a change that
    /// somebody asked for is announced by an event. The engine keeps the last tasks of each
    /// instance, so what came and went between two looks is still seen.
    const fn idle(self) -> Duration {
        match self {
            Self::Eager => Duration::from_millis(500),
            Self::Patient => Duration::from_secs(3),
        }
    }
}

/// Time before the engine is asked for its events again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long after the last change looking often is still worth it.
const RESTLESS: Duration = Duration::from_secs(30);
/// How long the engine may fail to answer before watchers are told.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen last.
#[derive(Debug, Clone)]
enum Seen {
    Nothing,
    Snapshot(Arc<Snapshot>),
    Lost(String),
}

struct Shared {
    engine: Engine,
    seen: watch::Sender<Seen>,
    wake: Notify,
    /// Held while looking, so that an older picture never replaces a newer one.
    looking: tokio::sync::Mutex<()>,
    running: Mutex<bool>,
    /// How many watch eagerly.
    eager: AtomicUsize,
}

/// Counts an eager watcher for as long as there is one.
struct Eager(Arc<Shared>);

impl Eager {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.eager.fetch_add(1, Ordering::Relaxed);
        // The observing task may be in the middle of a long pause.
        shared.wake.notify_one();
        Self(Arc::clone(shared))
    }
}

impl Drop for Eager {
    fn drop(&mut self) {
        self.0.eager.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The one that looks.
pub struct Watcher(Arc<Shared>);

impl Watcher {
    /// A watcher that does nothing until it is asked.
    pub fn new(engine: Engine) -> Self {
        Self(Arc::new(Shared {
            engine,
            seen: watch::Sender::new(Seen::Nothing),
            wake: Notify::new(),
            looking: tokio::sync::Mutex::default(),
            running: Mutex::new(false),
            eager: AtomicUsize::new(0),
        }))
    }

    /// Looks once.
    pub async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        Ok(self.0.look().await?.as_ref().clone())
    }

    /// Says that something was changed just now.
    pub fn look_now(&self) {
        self.0.wake.notify_one();
    }

    /// What there is now, and again after every change.
    pub async fn watch(
        &self,
        pace: Pace,
    ) -> Result<impl Stream<Item = Result<Snapshot, ClusterError>> + Send + 'static, ClusterError> {
        self.0.look().await?;
        let mut receiver = {
            let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
            let receiver = self.0.seen.subscribe();
            if !*running {
                *running = true;
                tokio::spawn(Arc::clone(&self.0).run());
            }
            receiver
        };
        receiver.mark_changed();
        let eager = (pace == Pace::Eager).then(|| Eager::new(&self.0));
        let endpoint = "the manager's engine".to_owned();
        Ok(stream::unfold(Some((receiver, endpoint, eager)), |state| async move {
            let (mut receiver, endpoint, eager) = state?;
            loop {
                receiver.changed().await.ok()?;
                let seen = receiver.borrow_and_update().clone();
                match seen {
                    Seen::Nothing => {}
                    Seen::Snapshot(snapshot) => {
                        return Some((Ok(snapshot.as_ref().clone()), Some((receiver, endpoint, eager))));
                    }
                    Seen::Lost(reason) => {
                        return Some((Err(ClusterError::Unreachable { endpoint, reason }), None));
                    }
                }
            }
        }))
    }
}

impl Shared {
    async fn look(&self) -> Result<Arc<Snapshot>, ClusterError> {
        let _turn = self.looking.lock().await;
        let observed = self.engine.observe().await?;
        Ok(self.publish(&observed))
    }

    fn publish(&self, observed: &Observed) -> Arc<Snapshot> {
        let mut snapshot = Snapshot {
            version: 1,
            revision: observed.index(),
            machines: observed.machines(chrono::Utc::now()),
            services: observed.service_statuses(),
        };
        let mut result = None;
        self.seen.send_if_modified(|seen| {
            if let Seen::Snapshot(last) = seen {
                if last.machines == snapshot.machines && last.services == snapshot.services {
                    result = Some(Arc::clone(last));
                    return false;
                }
                // Deleting something can lower the highest version there is.
                snapshot.revision = snapshot.revision.max(last.revision + 1);
            }
            let new = Arc::new(snapshot.clone());
            result = Some(Arc::clone(&new));
            *seen = Seen::Snapshot(new);
            true
        });
        result.unwrap_or_else(|| Arc::new(snapshot))
    }

    async fn run(self: Arc<Self>) {
        let mut events = self.events();
        let mut last_answer = Instant::now();
        let mut last_change = Instant::now();
        let mut last_revision = 0;
        loop {
            {
                let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                if self.seen.receiver_count() == 0 {
                    *running = false;
                    return;
                }
            }
            let pace = if self.eager.load(Ordering::Relaxed) > 0 { Pace::Eager } else { Pace::Patient };
            let mut pause = pace.idle();
            match self.look().await {
                Ok(snapshot) => {
                    last_answer = Instant::now();
                    if snapshot.revision != last_revision {
                        last_revision = snapshot.revision;
                        last_change = Instant::now();
                    }
                    let restless = last_change.elapsed() < RESTLESS;
                    if restless && observe::is_busy(&snapshot.services, &snapshot.machines) {
                        pause = pace.busy();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "looking at the swarm");
                    if last_answer.elapsed() > PATIENCE {
                        self.seen.send_replace(Seen::Lost(error.to_string()));
                        last_answer = Instant::now();
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => last_change = Instant::now(),
                event = events.next() => match event {
                    Some(Ok(_)) => last_change = Instant::now(),
                    Some(Err(_)) | None => {
                        tokio::time::sleep(AGAIN).await;
                        events = self.events();
                    }
                },
            }
        }
    }

    fn events(&self) -> BoxStream<'static, Result<EventMessage, bollard::errors::Error>> {
        // Containers are left out: every health check is an event of one.
        let types = ["service", "node"].map(str::to_owned).to_vec();
        let filters = std::collections::HashMap::from([("type".to_owned(), types)]);
        let options = EventsOptions { filters: Some(filters), ..Default::default() };
        let docker = self.engine.docker().clone();
        stream::once(async move { docker.events(Some(options)).boxed() }).flatten().boxed()
    }
}
