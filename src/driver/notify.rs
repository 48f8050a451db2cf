//! Notifying people: what the leader sends, to whom, and what it keeps for the next leader.
//!
//! What is due is decided in [`crate::plan::notify`]; this reads, sends and remembers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::model::job::Jobs;
use crate::model::mount::SecretRef;
use crate::model::notify::{Notified, Receivers};
use crate::model::secret::Secret;
use crate::plan::notify::{Due, PARAMETER, SENT, Seen, body, conditions, sent, step};
use crate::port::cloud::CloudError;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::jobs::JobCluster;
use crate::port::notify::{SendError, SendMessage};
use crate::port::parameters::{Parameters, Protection};
use crate::port::secrets::SecretValues;

/// How often the published receivers are read.
const READ_EVERY: Duration = Duration::from_secs(30);
/// How long a message may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long after a failure a receiver is tried again, at first; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const PAUSE_MOST: Duration = Duration::from_secs(600);

/// Why no notification could be sent.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The parameter store.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// Notifies people while its machine leads.
pub struct Notifier {
    cluster: Arc<dyn Cluster>,
    jobs: Arc<dyn JobCluster>,
    parameters: Arc<dyn Parameters>,
    secrets: Arc<dyn SecretValues>,
    sender: Arc<dyn SendMessage>,
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    receivers: Receivers,
    read: Option<Instant>,
    /// What is known; `None` while this machine has not read what an earlier leader kept.
    notified: Option<Notified>,
    /// What is kept in the parameter store.
    kept: String,
    /// Receivers that did not answer: when they are tried again, and after which pause.
    failing: BTreeMap<SecretRef, (Instant, Duration)>,
}

impl Notifier {
    /// Notifies of the cluster below `prefix` in the parameter store.
    pub fn new(
        cluster: Arc<dyn Cluster>,
        jobs: Arc<dyn JobCluster>,
        parameters: Arc<dyn Parameters>,
        secrets: Arc<dyn SecretValues>,
        sender: Arc<dyn SendMessage>,
        prefix: String,
    ) -> Self {
        Self { cluster, jobs, parameters, secrets, sender, prefix, state: Mutex::default() }
    }

    /// Forgets what was known: another machine leads and continues, and this one begins with what that kept.
    pub async fn rest(&self) {
        let mut state = self.state.lock().await;
        state.notified = None;
        state.failing.clear();
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// When the cluster or the parameter store can't be read or written. A message that does not arrive is
    /// no error: it is sent again later.
    pub async fn once(&self) -> Result<(), NotifyError> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        if state.read.is_none_or(|read| read.elapsed() >= READ_EVERY) {
            state.receivers = self.published().await?;
            state.read = Some(Instant::now());
        }
        if state.receivers.receivers.is_empty() {
            state.notified = None;
            return Ok(());
        }
        let notified = match state.notified.take() {
            Some(notified) => notified,
            None => {
                let kept = self.parameters.get(&self.name(SENT)).await?;
                state.kept = kept.map(|text| text.expose().clone()).unwrap_or_default();
                Notified::restore(&state.kept)
            }
        };
        let snapshot = match self.cluster.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                state.notified = Some(notified);
                return Err(error.into());
            }
        };
        let jobs: Option<Jobs> = self.jobs.jobs().await.ok();
        let seen = Seen { machines: &snapshot.machines, services: &snapshot.services, jobs: jobs.as_ref() };
        let now = Utc::now();
        let (due, mut next) = step(&state.receivers, &notified, &conditions(&seen, now), now);
        for one in due {
            let rests = state.failing.get(&one.receiver.secret);
            if rests.is_some_and(|(until, _)| Instant::now() < *until) {
                continue;
            }
            match self.send(&one).await {
                Ok(()) => {
                    tracing::info!(id = one.message.id, secret = %one.receiver.secret, "notified");
                    state.failing.remove(&one.receiver.secret);
                    sent(&mut next, &one, Utc::now());
                }
                Err(reason) => {
                    tracing::warn!(id = one.message.id, secret = %one.receiver.secret, reason, "a notification did not arrive");
                    let pause = rests.map_or(PAUSE, |(_, pause)| (*pause * 2).min(PAUSE_MOST));
                    state.failing.insert(one.receiver.secret.clone(), (Instant::now() + pause, pause));
                }
            }
        }
        let text = next.store();
        state.notified = Some(next);
        if text != state.kept {
            self.parameters.put(&self.name(SENT), &Secret::new(text.clone()), Protection::Plain).await?;
            state.kept = text;
        }
        Ok(())
    }

    async fn published(&self) -> Result<Receivers, CloudError> {
        let found = self.parameters.get(&self.name(PARAMETER)).await?;
        let Some(text) = found else { return Ok(Receivers::default()) };
        Ok(Receivers::read(text.expose()).unwrap_or_else(|reason| {
            tracing::warn!(reason, "no notifications are sent: the published receivers can't be read");
            Receivers::default()
        }))
    }

    async fn send(&self, due: &Due) -> Result<(), String> {
        let url = self.url(&due.receiver.secret).await?;
        let cluster = self.prefix.trim_start_matches("/fleetwright/");
        let text = body(due.receiver.form, cluster, &due.message);
        let result = self.sender.send(&url, &text, LIMIT).await;
        result.map_err(|error: SendError| error.to_string())
    }

    /// The URL that a secret holds, as it is now.
    async fn url(&self, secret: &SecretRef) -> Result<Secret<String>, String> {
        let missing = || format!("secret `{secret}` is not set: `fleetwright secret set {secret}`");
        let version = self.secrets.newest(secret).await.map_err(|error| error.to_string())?;
        let version = version.ok_or_else(missing)?;
        let value = self.secrets.value(secret, &version).await.map_err(|error| error.to_string())?;
        let value = value.ok_or_else(missing)?;
        let text = String::from_utf8(value.expose().clone());
        text.map(Secret::new).map_err(|_| SendError::BadUrl.to_string())
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}
