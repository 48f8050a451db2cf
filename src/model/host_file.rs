//! Watched files: files on machines that are rendered from what the cluster knows, checked, replaced, and
//! their programs reloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, MachineState, Role};
use super::name::{HostFileName, MachineId, ServiceName};
use super::service::{Instance, InstanceState};

/// The version of [`FeedLine`], and of definitions that are stored.
pub const HOST_FILE_VERSION: u32 = 1;
/// The permission bits of a watched file, unless given.
pub const MODE: u32 = 0o644;
/// The most bytes of a template: it is kept in an object of the engine, with the rest of its definition.
pub const TEMPLATE_MOST: usize = 256 << 10;
/// The most bytes of a rendered file.
pub const RENDERED_MOST: usize = 16 << 20;
/// What stands for the path of the new file in a check.
pub const CANDIDATE: &str = "{candidate}";
/// A watched file as it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFileSpec {
    /// Its name.
    pub name: HostFileName,
    /// Where it is on the machine, an absolute path.
    pub path: String,
    /// The template's path in the repository, for messages.
    pub source: String,
    /// The template's text.
    pub template: String,
    /// Permission bits.
    pub mode: u32,
    /// Who it belongs to; root, where nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Prefixes of the keys in etcd that the template may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// The services whose instances it may use.
    #[serde(default, skip_serializing_if = "Selection::is_none")]
    pub services: Selection,
    /// Whether it may use the cluster's machines. Its own it always may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub machines: bool,
    /// The command that judges a new file before it replaces the old one; [`CANDIDATE`] is its path. None
    /// where it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<String>,
    /// How its program gets to know of a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// The machines that have it: those with this metadata; all, where nothing is given.
    #[serde(default, rename = "where", skip_serializing_if = "BTreeMap::is_empty")]
    pub placement: BTreeMap<String, String>,
}

impl HostFileSpec {
    /// Whether a machine has the file.
    pub fn is_on(&self, machine: &Machine) -> bool {
        self.placement.iter().all(|(key, value)| machine.metadata.get(key) == Some(value))
    }
}

/// The owner of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The user, by name or number.
    pub user: String,
    /// The group; the user's own, where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

/// Services by name, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Every service of the cluster.
    All,
    /// These.
    Named(BTreeSet<ServiceName>),
}

impl Default for Selection {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Selection {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Named(names) if names.is_empty())
    }

    /// Whether `service` is one of them.
    pub fn has(&self, service: &ServiceName) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(service),
        }
    }
}

/// How a program gets to know that a file of its was replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reload {
    /// A command, executed without a shell.
    Command(Vec<String>),
    /// A signal to the main process of a systemd unit.
    Signal {
        /// The signal, such as `HUP`.
        signal: String,
        /// The unit.
        unit: String,
    },
}

impl std::fmt::Display for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(words) => f.write_str(&words.join(" ")),
            Self::Signal { signal, unit } => write!(f, "signal {signal} to {unit}"),
        }
    }
}

/// A definition with its number, which every change of it raises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its number.
    pub number: u64,
    /// What it says.
    pub spec: HostFileSpec,
}

/// A machine, as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its instance id.
    pub id: MachineId,
    /// Its private address.
    pub address: IpAddr,
    /// Its role.
    pub role: Role,
    /// The autoscaling group it belongs to.
    pub group: String,
    /// Whether it is up and takes work.
    pub ready: bool,
    /// Its metadata, that placement can ask for.
    pub metadata: BTreeMap<String, String>,
}

impl From<&Machine> for Host {
    fn from(machine: &Machine) -> Self {
        Self {
            id: machine.id.clone(),
            address: machine.address,
            role: machine.role,
            group: machine.group.clone(),
            ready: machine.state == MachineState::Ready,
            metadata: machine.metadata.clone(),
        }
    }
}

/// An instance of a service, as templates see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its name, `web@1`.
    pub name: String,
    /// The engine's id of it, which no other instance ever has.
    pub id: String,
    /// Its machine.
    pub machine: MachineId,
    /// The address of its machine.
    pub address: IpAddr,
    /// The port of the machine that its first port is published at; `None` where none is published yet.
    pub port: Option<u16>,
    /// The ports of the machine, by the ports of the container.
    pub ports: BTreeMap<String, u16>,
    /// Whether it is healthy, so that it may get requests.
    pub healthy: bool,
    /// Its state.
    pub state: InstanceState,
}

impl Endpoint {
    /// An instance that has a place; `None` for one that waits for a machine.
    pub fn of(instance: &Instance, machines: &[Machine]) -> Option<Self> {
        let id = instance.machine.as_ref()?;
        let machine = machines.iter().find(|one| one.id == *id)?;
        let ports: BTreeMap<String, u16> =
            instance.ports.iter().map(|port| (port.container.to_string(), port.host)).collect();
        Some(Self {
            name: instance.name.clone(),
            id: instance.id.clone(),
            machine: id.clone(),
            address: machine.address,
            port: instance.ports.first().map(|port| port.host),
            ports,
            healthy: instance.state == InstanceState::Healthy,
            state: instance.state,
        })
    }
}

/// What files are rendered from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The machine that has the files; `None` before anything is known.
    pub machine: Option<Host>,
    /// The cluster's machines, sorted by role, then id.
    pub machines: Arc<Vec<Host>>,
    /// The instances of services, sorted by name.
    pub services: BTreeMap<ServiceName, Arc<Vec<Endpoint>>>,
    /// Keys in etcd, with their values.
    pub keys: BTreeMap<String, String>,
}

/// What has changed of a machine's files and of what they are rendered from: one line of its feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedLine {
    /// [`HOST_FILE_VERSION`].
    pub version: u32,
    /// Whether nothing of what was sent before counts any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// The machine's files, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<Definition>>,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Host>,
    /// The cluster's machines, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machines: Option<Vec<Host>>,
    /// The instances of services that have changed; `None` for one that counts no more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, Option<Vec<Endpoint>>>,
    /// The keys that have changed; `None` for one that is gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Option<String>>,
}

/// The files of one machine, and what they are rendered from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feed {
    /// The files, sorted by name.
    pub files: Vec<Arc<Definition>>,
    /// What they are rendered from.
    pub facts: Facts,
}
