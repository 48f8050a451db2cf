//! Removing what runs leave behind: [`crate::plan::retention`] decides, this measures and removes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::run::Parts;
use super::troubles::Concern;
use super::{infra, kept};
use crate::model::keep::{Keep, Kind, human_size};
use crate::model::name::Digest;
use crate::plan::retention::{Held, HeldRun, Removal, Thing, removals};
use crate::plan::run::Problem;
use crate::port::images::ImageError;
use crate::port::journal::{JournalError, Which};

/// The time between two sweeps.
const SWEEP: Duration = Duration::from_secs(3600);
/// The time between two looks at the disks.
const LOOK: Duration = Duration::from_secs(10);
/// The time between two sweeps while a disk is nearly full: what is removed may become free later.
const LOW: Duration = Duration::from_secs(300);
/// The time between two checks of what failed runs have left on the engine, which stays for an hour.
const TIDY: Duration = Duration::from_secs(300);
/// How many runs are read at a time.
const PAGE: u32 = 200;
/// How long the cluster may take to answer which revisions there are.
const ASKED: Duration = Duration::from_secs(30);

/// How much was removed since the server began, of each kind: how many, and how many bytes.
#[derive(Debug, Default)]
pub struct Removed(Mutex<BTreeMap<Kind, (u64, u64)>>);

impl Removed {
    /// Counts one.
    fn count(&self, kind: Kind, bytes: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, size) = all.entry(kind).or_default();
        *number += 1;
        *size = size.saturating_add(bytes);
    }

    /// The numbers of a kind.
    pub fn of(&self, kind: Kind) -> (u64, u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&kind).copied().unwrap_or_default()
    }
}

/// Sweeps once an hour, and soon after a disk is nearly full. `keep` is read again for each sweep.
pub async fn watch(parts: &Parts, keep: watch::Receiver<Keep>) {
    let (mut swept, mut tidied): (Option<tokio::time::Instant>, Option<tokio::time::Instant>) = (None, None);
    loop {
        let low = parts.space.lack();
        let text = low.as_ref().map(|low| format!("{low}; runs that are queued wait until there is room"));
        let filled = parts.troubles.set(Concern::Disk, text) && low.is_some();
        let every = if low.is_some() { LOW } else { SWEEP };
        if filled || swept.is_none_or(|at| at.elapsed() >= every) {
            let now = *keep.borrow();
            sweep(parts, &now, Utc::now(), low.as_deref()).await;
            swept = Some(tokio::time::Instant::now());
            tidied = swept;
        } else if tidied.is_none_or(|at| at.elapsed() >= TIDY) {
            kept::sweep_runs(parts).await;
            tidied = Some(tokio::time::Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Removes what killed processes have left on the engine, and what is kept no longer. `low` says that a disk is nearly
/// full, as the end of a sentence.
pub async fn sweep(parts: &Parts, keep: &Keep, now: DateTime<Utc>, low: Option<&str>) {
    infra::sweep(parts);
    kept::sweep_runs(parts).await;
    if let Err(error) = clear_logs(parts) {
        tracing::warn!(%error, "removing logs of runs that are gone");
    }
    let held = match held(parts).await {
        Ok(held) => held,
        Err(problem) => {
            tracing::warn!(problem.reason, "measuring what is kept");
            return;
        }
    };
    for removal in removals(keep, now, &held, low) {
        match remove(parts, &removal).await {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                let size = if bytes > 0 { format!(" ({})", human_size(bytes)) } else { String::new() };
                parts.events.note(format!("removed {}{size}: {}", removal.what.words(), removal.reason));
                parts.removed.count(removal.what.kind(), bytes);
            }
            Err(problem) => {
                let what = removal.what.words();
                parts.events.note(format!("could not remove {what}: {}; trying again later", problem.reason));
            }
        }
    }
}

/// Removes what steps of runs have printed that the journal no longer has.
fn clear_logs(parts: &Parts) -> Result<(), JournalError> {
    for id in parts.logs.runs()? {
        if parts.journal.run(id)?.is_none() {
            parts.logs.remove(id)?;
        }
    }
    Ok(())
}

/// Everything that takes room. What the engine or the cluster does not answer is left alone.
async fn held(parts: &Parts) -> Result<Held, Problem> {
    let mut sizes = parts.journal.log_sizes()?;
    for id in parts.logs.runs().map_err(JournalError::from)? {
        *sizes.entry(id).or_default() += parts.logs.size(id).map_err(JournalError::from)?;
    }
    let mut held = Held::default();
    let mut before = None;
    loop {
        let page = Which::Fitting { pipeline: None, state: None, commit: None, before, limit: PAGE };
        let runs = parts.journal.runs(&page)?;
        let Some(last) = runs.last() else { break };
        before = Some(last.id);
        held.runs.extend(
            runs.iter().map(|run| HeldRun::new(run, sizes.get(&run.id).copied().unwrap_or_default())),
        );
    }
    let lasting = |error: crate::port::artifacts::ArtifactError| Problem::lasting(error.to_string());
    for id in parts.artifacts.runs().map_err(lasting)? {
        held.files.insert(id, parts.artifacts.size(id).map_err(lasting)?);
    }
    match parts.storage.held().await {
        Ok(engine) => {
            held.caches = engine.caches;
            held.images = engine.images;
            held.build_cache = engine.build_cache;
        }
        Err(error) => tracing::debug!(%error, "measuring what is on the engine"),
    }
    if !held.images.is_empty() {
        held.needed = needed(parts).await;
    }
    Ok(held)
}

/// The images of all revisions that the cluster has a record of.
async fn needed(parts: &Parts) -> Option<BTreeSet<Digest>> {
    let asked = async { parts.connect.cluster().await?.snapshot().await };
    let snapshot = match tokio::time::timeout(ASKED, asked).await {
        Ok(Ok(snapshot)) => snapshot,
        Ok(Err(error)) => {
            tracing::debug!(%error, "asking which images services need");
            return None;
        }
        Err(_) => return None,
    };
    let revisions = snapshot.services.iter().flat_map(|service| &service.history);
    Some(revisions.filter_map(|revision| revision.digest.clone()).collect())
}

/// Removes one thing; gives how many bytes that has freed, or `None` where it is in use now.
async fn remove(parts: &Parts, removal: &Removal) -> Result<Option<u64>, Problem> {
    let bytes = Some(removal.bytes);
    let engine = |done: Result<bool, ImageError>| match done {
        Ok(done) => Ok(if done { bytes } else { None }),
        Err(error) => Err(Problem::from(error)),
    };
    match &removal.what {
        Thing::Run(id) => {
            // Its files first: without the run, nothing would show whose they are.
            parts.artifacts.remove(*id).map_err(|error| Problem::lasting(error.to_string()))?;
            let gone = parts.journal.forget(*id).map_err(|error: JournalError| Problem::from(error))?;
            if gone {
                parts.logs.remove(*id).map_err(|error| Problem::lasting(error.to_string()))?;
            }
            Ok(if gone { bytes } else { None })
        }
        Thing::Files(id) => {
            parts.artifacts.remove(*id).map_err(|error| Problem::lasting(error.to_string()))?;
            Ok(bytes)
        }
        Thing::Cache(name) => engine(parts.storage.remove_cache(name).await),
        Thing::Image(reference) => engine(parts.storage.remove_image(reference).await),
        Thing::BuildCache { unused, keep } => {
            let freed = parts.storage.prune_build_cache(*unused, *keep).await.map_err(Problem::from)?;
            Ok((freed > 0).then_some(freed))
        }
    }
}
