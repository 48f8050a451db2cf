//! What the machines are sent of their watched files, by a control machine: each only what its own files name,
//! whenever that changes.
//!
//! The cluster is observed once for all machines that listen here, and only while there are watched files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::model::host_file::Definition;
use crate::model::host_file_state::HostFileStates;
use crate::model::name::MachineId;
use crate::plan::host_file::{World, difference, feed, is_empty, prefixes, whole};
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::host_files::{Feeds, HostFileCluster, Keys, Lines};
use crate::port::membership::Membership;

/// How often definitions are read: another control machine may have taken a new one.
const DEFINITIONS: Duration = Duration::from_secs(2);
/// Time before what was lost is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything that machines are sent is taken from here.
#[derive(Clone)]
pub struct FeedSource {
    cluster: Arc<dyn Cluster>,
    files: Arc<dyn HostFileCluster>,
    membership: Arc<dyn Membership>,
    keys: Option<Arc<dyn Keys>>,
    world: watch::Sender<Option<Arc<World>>>,
    wake: Arc<Notify>,
}

/// What was read so far, since somebody listens.
#[derive(Default)]
struct Reading {
    world: World,
    /// Whether the definitions were read. That there are none is not to be taken for granted.
    has_files: bool,
    /// Whether the keys that they name were.
    has_keys: bool,
}

impl Reading {
    /// What machines may be sent: all that is known, and nothing that only looks as if it were. A file whose keys are
    /// not known is left out, so that it stays as it is; etcd may be away, and the others do not need it.
    fn shown(&self) -> Option<World> {
        let world = &self.world;
        if !self.has_files || (!world.files.is_empty() && world.machines.is_empty()) {
            return None;
        }
        let mut world = world.clone();
        if !self.has_keys {
            world.files.retain(|file| file.spec.keys.is_empty());
        }
        Some(world)
    }
}

type Snapshots = BoxStream<'static, Result<Snapshot, ClusterError>>;
type KeySets = BoxStream<'static, Result<std::collections::BTreeMap<String, String>, ClusterError>>;

impl FeedSource {
    /// A source that observes nothing until [`keep`](Self::keep) runs and somebody listens. Without `keys`, there is
    /// no etcd.
    pub fn new(
        cluster: Arc<dyn Cluster>,
        files: Arc<dyn HostFileCluster>,
        membership: Arc<dyn Membership>,
        keys: Option<Arc<dyn Keys>>,
    ) -> Self {
        Self { cluster, files, membership, keys, world: watch::Sender::new(None), wake: Arc::default() }
    }

    /// Says that a definition has changed just now.
    pub fn look_now(&self) {
        self.wake.notify_one();
    }

    /// Whether there is an etcd.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// The keys below the prefixes.
    ///
    /// # Errors
    /// When there is no etcd, or it does not answer.
    pub async fn keys(
        &self,
        prefixes: &[String],
    ) -> Result<std::collections::BTreeMap<String, String>, ClusterError> {
        let Some(keys) = &self.keys else { return Err(no_etcd()) };
        let first = keys.watch(prefixes).await?.next().await;
        first.unwrap_or_else(|| Ok(std::collections::BTreeMap::new()))
    }

    /// Observes the cluster for those who listen, until dropped.
    pub async fn keep(&self) -> std::convert::Infallible {
        let mut reading = Reading::default();
        let mut snapshots: Option<Snapshots> = None;
        let mut keys: Option<KeySets> = None;
        let mut watched: BTreeSet<String> = BTreeSet::new();
        let mut due = tokio::time::interval(DEFINITIONS);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.world.receiver_count() == 0 {
                // Nobody listens, and what was seen is out of date when somebody does.
                (snapshots, keys, reading) = (None, None, Reading::default());
                watched.clear();
                self.world.send_replace(None);
                tokio::select! {
                    () = self.wake.notified() => {}
                    _ = due.tick() => {}
                }
                if self.world.receiver_count() == 0 {
                    continue;
                }
                self.definitions(&mut reading).await;
            } else {
                tokio::select! {
                    _ = due.tick() => self.definitions(&mut reading).await,
                    () = self.wake.notified() => self.definitions(&mut reading).await,
                    seen = next(&mut snapshots), if snapshots.is_some() => match seen {
                        Some(Ok(seen)) => {
                            reading.world = reading.world.observed(&seen.machines, &seen.services);
                        }
                        Some(Err(_)) | None => snapshots = None,
                    },
                    found = next(&mut keys), if keys.is_some() => match found {
                        Some(Ok(found)) => (reading.world.keys, reading.has_keys) = (found, true),
                        Some(Err(error)) => {
                            tracing::debug!(%error, "watching keys in etcd");
                            keys = None;
                        }
                        None => keys = None,
                    },
                }
            }
            if reading.world.files.is_empty() {
                (snapshots, keys) = (None, None);
                reading.world = World::default();
            } else if snapshots.is_none() {
                snapshots = self.observe().await;
            }
            let wanted = prefixes(&reading.world.files);
            if wanted != watched {
                // What is known of the keys does not have those of a new prefix.
                (keys, reading.has_keys) = (None, wanted.is_empty() || self.keys.is_none());
                watched = wanted;
            }
            if keys.is_none() && !watched.is_empty() {
                keys = self.watch_keys(&watched).await;
            }
            self.publish(&reading);
        }
    }

    async fn definitions(&self, reading: &mut Reading) {
        match self.files.host_files().await {
            Ok(files) => {
                // What has not changed is shared, which makes it cheap to compare.
                let known = std::mem::take(&mut reading.world.files);
                let held = |file: &Definition| known.iter().find(|held| held.as_ref() == file).cloned();
                reading.world.files =
                    files.into_iter().map(|file| held(&file).unwrap_or_else(|| Arc::new(file))).collect();
                reading.has_files = true;
            }
            Err(error) => tracing::debug!(%error, "reading the watched files"),
        }
    }

    async fn observe(&self) -> Option<Snapshots> {
        match self.cluster.watch().await {
            Ok(snapshots) => Some(snapshots),
            Err(error) => {
                tracing::debug!(%error, "observing the cluster for watched files");
                sleep(AGAIN).await;
                None
            }
        }
    }

    async fn watch_keys(&self, prefixes: &BTreeSet<String>) -> Option<KeySets> {
        let source = self.keys.as_ref().filter(|_| !prefixes.is_empty())?;
        let prefixes: Vec<String> = prefixes.iter().cloned().collect();
        match source.watch(&prefixes).await {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::debug!(%error, "watching keys in etcd");
                sleep(AGAIN).await;
                None
            }
        }
    }

    /// Shows what is known to those who listen.
    fn publish(&self, reading: &Reading) {
        let Some(world) = reading.shown() else { return };
        self.world.send_if_modified(|shown| {
            if shown.as_deref() == Some(&world) {
                return false;
            }
            *shown = Some(Arc::new(world));
            true
        });
    }
}

fn no_etcd() -> ClusterError {
    let reason = "this cluster keeps no etcd, so there are no keys: set `etcd: true` for its control machines, or \
                  remove `keys` from the watched file";
    ClusterError::Refused { reason: reason.to_owned() }
}

async fn next<T>(items: &mut Option<BoxStream<'static, T>>) -> Option<T> {
    match items {
        Some(items) => items.next().await,
        None => None,
    }
}

#[async_trait]
impl Feeds for FeedSource {
    async fn feed(&self, machine: &MachineId) -> Result<Lines, ClusterError> {
        let mut receiver = self.world.subscribe();
        receiver.mark_changed();
        self.wake.notify_one();
        let machine = machine.clone();
        Ok(stream::unfold((receiver, None), move |(mut receiver, mut sent)| {
            let machine = machine.clone();
            async move {
                loop {
                    receiver.changed().await.ok()?;
                    let Some(world) = receiver.borrow_and_update().clone() else { continue };
                    let is_known = world.machines.iter().any(|one| one.id == machine);
                    // A machine that has just joined is not seen yet; its files are not to be taken for none.
                    if !world.files.is_empty() && !is_known {
                        continue;
                    }
                    let now = feed(&world, &machine);
                    let line = match &sent {
                        None => whole(&now),
                        Some(before) => difference(before, &now),
                    };
                    if is_empty(&line) {
                        continue;
                    }
                    sent = Some(now);
                    return Some((Ok(line), (receiver, sent)));
                }
            }
        })
        .boxed())
    }

    async fn report(&self, machine: &MachineId, states: &HostFileStates) -> Result<(), ClusterError> {
        self.membership.host_files(machine, states).await
    }
}

#[cfg(test)]
mod tests;
