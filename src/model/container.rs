//! What a container of a service is given beside its image, arguments, variables and ports.
//!
//! Every field was added after the first version, so each is left out where it says nothing, and
//! [`super::feature`] names what a control machine must be able to do where one is set.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mount::{FileMount, SecretMount, VolumeMount, VolumeSource};
use super::name::VolumeName;

/// The settings of a service's containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSettings {
    /// What is executed in place of the image's own entry point. The image's own command is dropped
    /// with it, as Docker does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Whom it runs as: `USER[:GROUP]`, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The folder it starts in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Labels of the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Entries of its hosts file: names with their addresses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, String>,
    /// Capabilities that it gets beside Docker's default ones, without `CAP_`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities that it loses, or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Whether its root file system can't be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Folders in memory, by where they are mounted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, Tmpfs>,
    /// Limits of its processes, by their names, such as `nofile`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of its own namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// The signal that stops it, such as `SIGINT`; the image's own unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Whether a small init is its first process, which reaps orphans and passes signals on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// How much of its output its machine keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<LogLimits>,
    /// What happens when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// What is kept free for it on its machine; its memory limit unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Reservations>,
    /// The metadata of machines over whose values instances are spread evenly, such as `zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// The most instances on one machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_machine: Option<u32>,
    /// The secrets it gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretMount>,
    /// The files of the repository it gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileMount>,
    /// The volumes it gets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// The role of IAM whose credentials it gets, by ARN or name. Where the file names an output of a stack,
    /// the reference until it is deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws_role: Option<String>,
}

impl ContainerSettings {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The volumes that are kept on one machine.
    pub fn named_volumes(&self) -> impl Iterator<Item = &VolumeName> {
        self.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Named(name) => Some(name),
            VolumeSource::Nfs { .. } | VolumeSource::Host(_) => None,
        })
    }
}

/// A folder in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tmpfs {
    /// The most it holds, in bytes; half of the machine's memory unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Its permission bits; 1777 octal unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// A limit of a container's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    /// What a process begins with.
    pub soft: i64,
    /// What it may raise it to; -1 for no limit.
    pub hard: i64,
}

/// How much of a container's output is kept, until the container is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLimits {
    /// The size at which a file is closed and another begun, in bytes.
    pub max_size_bytes: u64,
    /// How many files are kept.
    pub max_files: u32,
}

/// When an instance that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Whatever its exit status.
    Any,
    /// When it failed.
    OnFailure,
    /// Never.
    None,
}

impl RestartCondition {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::OnFailure => "on-failure",
            Self::None => "none",
        }
    }
}

/// What happens when an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartPolicy {
    /// When it is started again.
    pub condition: RestartCondition,
    /// How long after its end; a second unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// How often within `window`; `None` for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The time in which attempts are counted; `None` for all time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
}

/// What is kept free for an instance. The scheduler counts it; it limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reservations {
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// CPU in thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
}
