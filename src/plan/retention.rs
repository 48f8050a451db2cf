//! What the pipeline server removes: of each kind what is too old, and then the oldest until the rest fits.
//!
//! Never removed are: runs that have not ended, and what they need; the newest run of a pipeline, and the last
//! successful one of a pipeline and reference, with their files; a run that has built an image which a run that is kept
//! says it reuses; images of revisions that the cluster has a record of, since a rollback may need them; and what a
//! container has. What is not ours is not in [`Held`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::duration::human;
use crate::model::git_ref::GitRef;
use crate::model::keep::{Bounds, HeldBuildCache, HeldCache, HeldImage, Keep, Kind, human_size};
use crate::model::name::{Digest, ImageKey, PipelineName};
use crate::model::run::{Run, RunId, RunState, StepResult, StepState};

/// How many caches of one group are kept: a cache whose key has changed is rarely used again.
pub const CACHES_OF_GROUP: usize = 5;

/// Everything of the server that takes room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The runs of the journal.
    pub runs: Vec<HeldRun>,
    /// How many bytes of files of runs there are.
    pub files: BTreeMap<RunId, u64>,
    /// The caches of steps.
    pub caches: Vec<HeldCache>,
    /// The images that our builds have left on the engine.
    pub images: Vec<HeldImage>,
    /// The images of the revisions that the cluster has a record of; `None` while that is unknown.
    pub needed: Option<BTreeSet<Digest>>,
    /// The engine's build cache; `None` while that is unknown.
    pub build_cache: Option<HeldBuildCache>,
}

/// A run in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRun {
    /// The run.
    pub id: RunId,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The branch, tag or pull request.
    pub reference: Option<GitRef>,
    /// How far it is.
    pub state: RunState,
    /// When it ended.
    pub ended: Option<DateTime<Utc>>,
    /// How many bytes its log has.
    pub bytes: u64,
    /// The runs that have built images which this one reuses.
    pub reuses: BTreeSet<RunId>,
    /// The images that it has built or found, or is building.
    pub images: BTreeSet<ImageKey>,
}

impl HeldRun {
    /// What is needed of a run, whose log has so many bytes.
    pub fn new(run: &Run, bytes: u64) -> Self {
        let (mut reuses, mut images) = (BTreeSet::new(), BTreeSet::new());
        for step in &run.steps {
            match &step.state {
                StepState::Building { key } | StepState::Pushing { key } => drop(images.insert(key.clone())),
                StepState::Succeeded { result: StepResult::Image(built) } => {
                    images.insert(built.key.clone());
                    reuses.extend(built.same_as.as_ref().map(|same| same.run));
                }
                _ => {}
            }
        }
        Self {
            id: run.id,
            pipeline: run.pipeline.clone(),
            reference: run.reference.clone(),
            state: run.state,
            ended: run.ended,
            bytes,
            reuses,
            images,
        }
    }

    /// Whether somebody may still work on it: a quarantined run waits until it is tried again.
    fn is_open(&self) -> bool {
        !self.state.is_ended() || self.state == RunState::Quarantined
    }
}

/// Something that is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// What.
    pub what: Thing,
    /// How many bytes it has.
    pub bytes: u64,
    /// Why, as the end of a sentence.
    pub reason: String,
}

/// What is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A run with its log and its files.
    Run(RunId),
    /// The files of a run.
    Files(RunId),
    /// A cache, by its name on the engine.
    Cache(String),
    /// An image on the engine, by its name and tag.
    Image(String),
    /// What has not been used for so long of the engine's build cache, and the oldest of the rest until so many bytes remain.
    BuildCache {
        /// How long.
        unused: Duration,
        /// How many bytes.
        keep: u64,
    },
}

impl Thing {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Run(_) => Kind::Run,
            Self::Files(_) => Kind::Files,
            Self::Cache(_) => Kind::Cache,
            Self::Image(_) => Kind::Image,
            Self::BuildCache { .. } => Kind::BuildCache,
        }
    }

    /// What it is, in words.
    pub fn words(&self) -> String {
        match self {
            Self::Run(id) => format!("run {id} and its log"),
            Self::Files(id) => format!("the files of run {id}"),
            Self::Cache(name) => format!("the cache `{name}`"),
            Self::Image(reference) => format!("the image `{reference}` from the engine"),
            Self::BuildCache { .. } => "old parts of the engine's build cache".to_owned(),
        }
    }
}

/// What is to be removed, in order. `low` says that a disk is nearly full: then what can be made again goes, whatever its
/// limits are.
pub fn removals(keep: &Keep, now: DateTime<Utc>, held: &Held, low: Option<&str>) -> Vec<Removal> {
    let kept = Kept::of(&held.runs);
    let mut out = runs(keep.runs, now, held, &kept);
    let gone: BTreeSet<RunId> = out
        .iter()
        .filter_map(|removal| match removal.what {
            Thing::Run(id) => Some(id),
            _ => None,
        })
        .collect();
    out.extend(files(keep.files, now, held, &kept, &gone));
    out.extend(caches(keep.caches, now, held, low));
    out.extend(images(keep.images, now, held, low));
    out.extend(build_cache(keep.build_cache, now, held, low));
    out
}

/// The runs that stay, whatever the limits are.
struct Kept(BTreeSet<RunId>);

impl Kept {
    fn of(runs: &[HeldRun]) -> Self {
        let mut kept = BTreeSet::new();
        let mut newest: BTreeMap<&PipelineName, RunId> = BTreeMap::new();
        let mut succeeded: BTreeMap<(&PipelineName, &Option<GitRef>), RunId> = BTreeMap::new();
        for run in runs {
            if run.is_open() {
                kept.insert(run.id);
            }
            let last = newest.entry(&run.pipeline).or_insert(run.id);
            *last = run.id.max(*last);
            if run.state == RunState::Succeeded {
                let last = succeeded.entry((&run.pipeline, &run.reference)).or_insert(run.id);
                *last = run.id.max(*last);
            }
        }
        kept.extend(newest.into_values());
        kept.extend(succeeded.into_values());
        Self(kept)
    }
}

fn runs(bounds: Bounds, now: DateTime<Utc>, held: &Held, kept: &Kept) -> Vec<Removal> {
    let mut newest_first: Vec<&HeldRun> = held.runs.iter().collect();
    newest_first.sort_by_key(|run| std::cmp::Reverse(run.id));
    let reserved = held.runs.iter().filter(|run| kept.0.contains(&run.id)).map(|run| run.bytes);
    let mut room = Room::new(bounds, now, reserved);
    // A run reuses what an older one has built.
    let mut reused: BTreeSet<RunId> = BTreeSet::new();
    let mut out = Vec::new();
    for run in newest_first {
        let goes = if kept.0.contains(&run.id) {
            None
        } else if reused.contains(&run.id) {
            room.take(run.bytes);
            None
        } else {
            room.goes(run.ended.unwrap_or(now), run.bytes)
        };
        match goes {
            None => reused.extend(&run.reuses),
            Some(reason) => out.push(Removal { what: Thing::Run(run.id), bytes: run.bytes, reason }),
        }
    }
    out.reverse();
    out
}

fn files(
    bounds: Bounds,
    now: DateTime<Utc>,
    held: &Held,
    kept: &Kept,
    gone: &BTreeSet<RunId>,
) -> Vec<Removal> {
    let known: BTreeMap<RunId, &HeldRun> = held.runs.iter().map(|run| (run.id, run)).collect();
    let mut out = Vec::new();
    let mut items = Vec::new();
    for (id, bytes) in held.files.iter().filter(|(id, _)| !gone.contains(id)) {
        match known.get(id) {
            None => out.push(Removal {
                what: Thing::Files(*id),
                bytes: *bytes,
                reason: "the journal has no such run".to_owned(),
            }),
            Some(run) => items.push(Item {
                what: *id,
                since: run.ended.unwrap_or(now),
                bytes: *bytes,
                stays: kept.0.contains(id),
            }),
        }
    }
    let chosen = chosen(bounds, now, items).into_iter();
    out.extend(chosen.map(|(id, bytes, reason)| Removal { what: Thing::Files(id), bytes, reason }));
    out
}

fn caches(bounds: Bounds, now: DateTime<Utc>, held: &Held, low: Option<&str>) -> Vec<Removal> {
    // Between two attempts at a step, no container has its caches.
    let open: BTreeSet<&PipelineName> =
        held.runs.iter().filter(|run| run.is_open()).map(|run| &run.pipeline).collect();
    let needed = |cache: &HeldCache| {
        let group = cache.group.strip_prefix(STRANGERS).unwrap_or(&cache.group);
        cache.used
            || group.split(' ').next().is_some_and(|name| open.iter().any(|open| open.as_str() == name))
    };
    let mut out = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&HeldCache>> = BTreeMap::new();
    for cache in &held.caches {
        groups.entry(&cache.group).or_default().push(cache);
    }
    let mut items = Vec::new();
    for mut group in groups.into_values() {
        group.sort_by(|a, b| (b.made, &b.name).cmp(&(a.made, &a.name)));
        for (at, cache) in group.into_iter().enumerate() {
            let stays = needed(cache);
            if at >= CACHES_OF_GROUP && !stays {
                out.push(Removal {
                    what: Thing::Cache(cache.name.clone()),
                    bytes: cache.bytes,
                    reason: format!("there are {CACHES_OF_GROUP} newer ones of `{}`", cache.group),
                });
            } else {
                items.push(Item { what: cache.name.clone(), since: cache.made, bytes: cache.bytes, stays });
            }
        }
    }
    let again = again(bounds, now, items, low);
    out.extend(again.map(|(name, bytes, reason)| Removal { what: Thing::Cache(name), bytes, reason }));
    out
}

/// What the groups of caches of pull requests begin with.
pub const STRANGERS: &str = "pull requests of ";

fn images(bounds: Bounds, now: DateTime<Utc>, held: &Held, low: Option<&str>) -> Vec<Removal> {
    // Without the cluster's word, any of them may be what a service needs.
    let Some(needed) = &held.needed else { return Vec::new() };
    let open: BTreeSet<&ImageKey> =
        held.runs.iter().filter(|run| run.is_open()).flat_map(|run| &run.images).collect();
    let items = held.images.iter().map(|image| Item {
        what: image.reference.clone(),
        since: image.made,
        bytes: image.bytes,
        stays: image.used || open.contains(&image.key) || !image.digests.is_disjoint(needed),
    });
    let again = again(bounds, now, items.collect(), low);
    again.map(|(reference, bytes, reason)| Removal { what: Thing::Image(reference), bytes, reason }).collect()
}

fn build_cache(bounds: Bounds, now: DateTime<Utc>, held: &Held, low: Option<&str>) -> Option<Removal> {
    let HeldBuildCache { bytes, oldest } = held.build_cache?;
    let removal = |keep, bytes, reason| {
        let unused = if keep == 0 { Duration::ZERO } else { bounds.age };
        Some(Removal { what: Thing::BuildCache { unused, keep }, bytes, reason })
    };
    // Without a part that is not used now, the engine could remove nothing.
    let oldest = oldest?;
    if let Some(low) = low {
        return removal(0, bytes, low.to_owned());
    }
    if bytes > bounds.size {
        return removal(bounds.size, bytes - bounds.size, too_much(bounds.size));
    }
    is_old(bounds, now, oldest).then(|| removal(bounds.size, 0, too_old(bounds.age))).flatten()
}

/// Something that may go.
struct Item<T> {
    what: T,
    /// From when its age is counted.
    since: DateTime<Utc>,
    bytes: u64,
    /// Whether it stays, whatever the limits are.
    stays: bool,
}

/// What can be made again goes at once where a disk is nearly full.
fn again<T: Ord>(
    bounds: Bounds,
    now: DateTime<Utc>,
    items: Vec<Item<T>>,
    low: Option<&str>,
) -> impl Iterator<Item = (T, u64, String)> {
    let chosen = match low {
        None => chosen(bounds, now, items),
        Some(low) => {
            let free = items.into_iter().filter(|item| !item.stays);
            free.map(|item| (item.what, item.bytes, low.to_owned())).collect()
        }
    };
    chosen.into_iter()
}

/// What is too old, and then the oldest until the rest fits, as far as it may go; the oldest first.
fn chosen<T: Ord>(bounds: Bounds, now: DateTime<Utc>, mut items: Vec<Item<T>>) -> Vec<(T, u64, String)> {
    items.sort_by(|a, b| (b.since, &b.what).cmp(&(a.since, &a.what)));
    let mut room = Room::new(bounds, now, items.iter().filter(|item| item.stays).map(|item| item.bytes));
    let free = items.into_iter().filter(|item| !item.stays);
    let mut out: Vec<_> = free
        .filter_map(|item| {
            let reason = room.goes(item.since, item.bytes)?;
            Some((item.what, item.bytes, reason))
        })
        .collect();
    out.reverse();
    out
}

/// The room of one kind, given away from the newest to the oldest.
struct Room {
    bounds: Bounds,
    now: DateTime<Utc>,
    used: u64,
    full: bool,
}

impl Room {
    /// `reserved` is what stays in any case.
    fn new(bounds: Bounds, now: DateTime<Utc>, reserved: impl Iterator<Item = u64>) -> Self {
        Self { bounds, now, used: reserved.fold(0, u64::saturating_add), full: false }
    }

    fn take(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Why the next one goes, which has existed since then and has so many bytes.
    fn goes(&mut self, since: DateTime<Utc>, bytes: u64) -> Option<String> {
        if is_old(self.bounds, self.now, since) {
            return Some(too_old(self.bounds.age));
        }
        // Removing what takes no room frees nothing.
        if bytes == 0 {
            return None;
        }
        // What is older than one that does not fit goes as well.
        self.full |= self.used.saturating_add(bytes) > self.bounds.size;
        if self.full {
            return Some(too_much(self.bounds.size));
        }
        self.take(bytes);
        None
    }
}

fn is_old(bounds: Bounds, now: DateTime<Utc>, since: DateTime<Utc>) -> bool {
    // A clock that was set back makes nothing old.
    now - since > TimeDelta::from_std(bounds.age).unwrap_or(TimeDelta::MAX)
}

fn too_old(age: Duration) -> String {
    format!("older than {}", human(age))
}

fn too_much(size: u64) -> String {
    format!("together they have more than {}", human_size(size))
}

#[cfg(test)]
mod tests;
