//! systemd units that a service runs in place of a container.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::name::Digest;
use super::service::HealthCheck;

/// The version of [`UnitOrder`].
pub const ORDER_VERSION: u32 = 1;

/// The units of a service, as its templates rendered them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitSet {
    /// Those that are started and stopped together, by their names in the repository. Their states are the
    /// instance's.
    pub start: Vec<String>,
    /// The texts of all units, by name: of those that are started, and of those that these start.
    pub files: BTreeMap<String, String>,
    /// Whether a copy is never started before the one that it replaces has stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
    /// What becomes of them where no control machine can be reached.
    #[serde(default, skip_serializing_if = "OnDisconnect::is_keep")]
    pub on_disconnect: OnDisconnect,
    /// The numbers that it shares with the services that it is never on one machine with: one for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<u16>,
}

impl UnitSet {
    /// What identifies this version of the units: another text is another digest.
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        let texts = self.files.iter().flat_map(|(name, text)| [name, text]);
        for part in self.start.iter().chain(texts) {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Digest::of_sha256(&hash.finalize().into())
    }
}

/// What happens to units whose machine can't reach a control machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    /// They keep running.
    #[default]
    Keep,
    /// They are stopped after that time, so that a replacement elsewhere does not run beside them for long.
    StopAfter(Duration),
}

impl OnDisconnect {
    fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// What a placeholder brings to the agent of its machine: a file within its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitOrder {
    /// Version of this document, [`ORDER_VERSION`].
    pub version: u32,
    /// The units.
    pub units: UnitSet,
    /// Variables of every unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The health check; `None` where being active is being healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// The most memory that each unit may use, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most CPU that each unit may use, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// How long a unit may take to stop.
    pub stop: Duration,
    /// The secrets that the placeholder holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<UnitSecret>,
    /// The files of the repository that the placeholder holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// A secret of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitSecret {
    /// Its name in `$CREDENTIALS_DIRECTORY`.
    pub name: String,
    /// The file in the placeholder that holds it, where units find it too.
    pub target: String,
    /// The variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// The slice that all units of services are in.
pub const SLICE: &str = "fleetwright.slice";

/// Which instance of which service, and with which units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// The engine's id of the task.
    pub task: String,
    /// The service.
    pub service: String,
    /// The number of the instance, or the node where there is one on every machine.
    pub slot: String,
    /// The id of the template that the placeholder was made from: the same units have the same.
    pub template: String,
    /// Whether it is never started before the one that it replaces has stopped.
    pub exclusive: bool,
    /// What becomes of it where no control machine can be reached.
    pub on_disconnect: OnDisconnect,
}

impl Which {
    /// Whether `other` is another attempt at the same instance, with the same units.
    pub fn is_again(&self, other: &Self) -> bool {
        (&self.service, &self.slot, &self.template) == (&other.service, &other.slot, &other.template)
    }
}

impl UnitTaskAsked {
    /// A question about a task, whose placeholder runs or does not.
    pub fn new(which: &Which, placeholder: bool) -> Self {
        Self {
            task: which.task.clone(),
            service: which.service.clone(),
            slot: which.slot.clone(),
            template: which.template.clone(),
            placeholder,
        }
    }
}

/// Units ready to be installed on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The target that starts and stops all of them.
    pub target: String,
    /// The units that are started.
    pub start: Vec<String>,
    /// All units, so that they can be removed.
    pub units: Vec<String>,
    /// The files for systemd, by their paths in its folder.
    pub files: BTreeMap<String, String>,
}

/// A unit as systemd shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// Its `ActiveState`: `active`, `reloading`, `inactive`, `failed`, `activating` or `deactivating`.
    pub active: String,
    /// Whether a job of it is waiting or under way.
    pub job: bool,
    /// The `Result` of its last run, such as `exit-code`; `success` where there is nothing to say.
    pub result: String,
}

/// Why units are being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Their task is over.
    Over,
    /// No control machine has been reached for as long as they allow.
    Disconnected,
}

/// What the managers say of the task that a unit belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is to run on this machine.
    Wanted,
    /// It has ended, and this task, on the same machine, with the same units, takes its place.
    Succeeded(String),
    /// It is to run elsewhere, or nowhere.
    Over,
}

/// [`Standing`] of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTask {
    /// The engine's id of the task.
    pub task: String,
    /// What the managers say of it.
    pub standing: Standing,
    /// A number that only grows: of two copies of an instance, the later one has the higher.
    pub epoch: u64,
}

/// A task that a machine runs units for. The managers may have forgotten it, so the rest says what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTaskAsked {
    /// The engine's id of it.
    pub task: String,
    /// Its service.
    pub service: String,
    /// The number of the instance, or the node where there is one on every machine.
    pub slot: String,
    /// The id of its template.
    pub template: String,
    /// Whether its placeholder still runs.
    pub placeholder: bool,
}

/// A task of a service of units, as the managers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedTask {
    /// Its id.
    pub id: String,
    /// Its service.
    pub service: String,
    /// The number of the instance, or the node where there is one on every machine.
    pub slot: String,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// The id of its template.
    pub template: String,
    /// Whether the managers want it to run, or to wait until it may.
    pub wanted: bool,
    /// Whether it has ended.
    pub ended: bool,
    /// The managers' number of its last change, which only grows over all that they keep.
    pub version: u64,
}

/// The tasks of services of units.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlacedTasks {
    /// The tasks.
    pub tasks: Vec<PlacedTask>,
    /// The services that are to have an instance on the node that was asked about, as on every other.
    pub everywhere: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_text_is_another_version() {
        let units = |text: &str| UnitSet {
            start: vec!["web.service".to_owned()],
            files: BTreeMap::from([("web.service".to_owned(), text.to_owned())]),
            exclusive: false,
            on_disconnect: OnDisconnect::Keep,
            apart: Vec::new(),
        };
        assert_eq!(units("a").digest(), units("a").digest());
        assert_ne!(units("a").digest(), units("b").digest());
    }
}
