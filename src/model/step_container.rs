//! Containers in which steps of pipelines run their commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::run::Companion;
use super::service::Limits;

/// What is run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRequest {
    /// The image, with its registry's host and digest.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// The parameters that hold secrets, by the variables that the command finds their values in.
    pub secrets: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// What runs beside it; the images have their registries' hosts and digests.
    pub companions: Vec<Companion>,
    /// The caches that it has.
    pub caches: Vec<CacheMount>,
}

/// A cache in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// What it is a cache of. Of those that differ only by `key` the newest few are kept.
    pub group: String,
    /// Which of them.
    pub key: String,
    /// The folder in the container.
    pub path: String,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerEnd {
    /// Its command has ended.
    Exited {
        /// The exit status; 128 and the signal's number when a signal ended it.
        status: i64,
        /// Whether it used more memory than it may.
        out_of_memory: bool,
    },
    /// The engine has no such container.
    Gone,
}
