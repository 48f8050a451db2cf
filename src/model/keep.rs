//! How long the pipeline server keeps what runs leave behind, and how much of it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::name::{Digest, ImageKey};

const DAY: Duration = Duration::from_secs(24 * 3600);
const GIB: u64 = 1 << 30;

/// The limits of one kind of thing. What is older goes, and then the oldest until the rest fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The greatest age.
    pub age: Duration,
    /// How many bytes all of it may have.
    pub size: u64,
}

/// What a pipeline server keeps: `pipelines.keep` of `fleetwright.yaml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Runs that have ended, with their logs. 90 days and 5 GiB unless given.
    pub runs: Bounds,
    /// Files that steps keep. 30 days and 20 GiB unless given.
    pub files: Bounds,
    /// Caches of steps. 30 days after they were made, and 10 GiB, unless given.
    pub caches: Bounds,
    /// Images that builds have left on the engine; those in the registry are not touched. 14 days and 20 GiB unless given.
    pub images: Bounds,
    /// The engine's build cache. 14 days without use, and 10 GiB, unless given.
    pub build_cache: Bounds,
}

impl Default for Keep {
    fn default() -> Self {
        let bounds = |days: u32, gib: u64| Bounds { age: DAY * days, size: gib * GIB };
        Self {
            runs: bounds(90, 5),
            files: bounds(30, 20),
            caches: bounds(30, 10),
            images: bounds(14, 20),
            build_cache: bounds(14, 10),
        }
    }
}

/// A kind of thing that is kept for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A run with its log.
    Run,
    /// The files that the steps of a run have kept.
    Files,
    /// A cache of steps.
    Cache,
    /// An image on the engine.
    Image,
    /// A part of the engine's build cache.
    BuildCache,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Run, Self::Files, Self::Cache, Self::Image, Self::BuildCache];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Files => "files",
            Self::Cache => "cache",
            Self::Image => "image",
            Self::BuildCache => "build-cache",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A cache of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCache {
    /// Its name on the engine.
    pub name: String,
    /// What it is a cache of: caches of one group differ in their keys only.
    pub group: String,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether a container has it.
    pub used: bool,
}

/// An image on the engine that a build of ours has left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldImage {
    /// Its name and tag.
    pub reference: String,
    /// What it was built from, by its tag.
    pub key: ImageKey,
    /// The digests that the registry knows it by.
    pub digests: BTreeSet<Digest>,
    /// When it was made.
    pub made: DateTime<Utc>,
    /// How many bytes no other image shares with it.
    pub bytes: u64,
    /// Whether a container has it.
    pub used: bool,
}

/// The engine's build cache, which does not record whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBuildCache {
    /// How many bytes it has.
    pub bytes: u64,
    /// When the part was last used that nothing has used for the longest time, and that nothing uses now.
    pub oldest: Option<DateTime<Utc>>,
}

/// A size for people: `714 B`, `1.4 MiB`.
pub fn human_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut found = None;
    for unit in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        found = Some(unit);
    }
    found.map_or_else(|| format!("{bytes} B"), |unit| format!("{value:.1} {unit}"))
}
