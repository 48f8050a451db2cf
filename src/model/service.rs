//! Services: what the user wants (never changed by us) and what the cluster observes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::container::ContainerSettings;
use super::mount::{SecretRef, SecretVersion};
use super::name::{Digest, MachineId, ServiceName};
use super::unit::UnitSet;

/// How many instances run, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Scale {
    /// This many, wherever they fit.
    Replicas(u32),
    /// One on every machine that fits.
    EveryMachine,
}

/// A change of the number of a service's instances, which makes no revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleTo {
    /// This many.
    Replicas(u32),
    /// None, until it is started again.
    Stop,
    /// What it had before it was stopped.
    Start,
}

/// What is spoken at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The word in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_tcp(&self) -> bool {
        *self == Self::Tcp
    }
}

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port inside the container.
    pub container: u16,
    /// The port on the machine; `None` lets the engine pick a free one.
    pub host: Option<u16>,
    /// What is spoken there.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
}

/// What is asked of an instance to find out whether it is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum HealthProbe {
    /// `GET path` answers 200 to 399.
    Http {
        /// The container's port.
        port: u16,
        /// The path, starting with `/`.
        path: String,
    },
    /// The port accepts a connection.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// A program inside the container exits with 0.
    Command {
        /// The program and its arguments; no shell reads them.
        command: Vec<String>,
    },
}

/// A health check; unless it is a command, it needs nothing inside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: HealthProbe,
    /// Time between two checks.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// How many failures in a row make an instance unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    pub start_period: Duration,
}

/// The most an instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU in thousandths of a core.
    pub cpu_millis: Option<u64>,
}

/// How an update goes round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdatePolicy {
    /// How many instances are replaced at a time.
    pub parallel: u32,
    /// How long a new instance is watched after it became healthy.
    pub monitor: Duration,
    /// How long a rollout may take; `None` derives it from the other settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
}

/// A command that runs once for a revision, before its first instance starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreDeploy {
    /// The program and its arguments. The image's entry point is not used, and no shell reads them.
    pub command: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
}

/// A service as its file in the repository describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// The image's repository without registry host or tag, such as `team/web`.
    pub image: String,
    /// Arguments in place of the image's own command.
    pub command: Vec<String>,
    /// How many, and where.
    pub scale: Scale,
    /// Environment variables; not for secrets.
    pub environment: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// The health check that gates updates; `None` means running is healthy.
    pub health: Option<HealthCheck>,
    /// Limits of one instance.
    pub limits: Limits,
    /// Metadata that a machine must have.
    pub placement: BTreeMap<String, String>,
    /// How an update goes round.
    pub update: UpdatePolicy,
    /// How long an instance goes on serving after it was told to stop.
    pub drain: Duration,
    /// What else its containers are given.
    #[serde(default, skip_serializing_if = "ContainerSettings::is_empty")]
    pub container: ContainerSettings,
    /// What runs once before a new revision is rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_deploy: Option<PreDeploy>,
    /// The units that run in place of containers. `image` is empty then, and the deployment's digest is theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitSet>,
}

/// What shall run: the spec with everything a pipeline decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The user's spec.
    pub spec: ServiceSpec,
    /// The registry that machines pull from, `host[:port]`.
    pub registry: String,
    /// The image's digest.
    pub digest: Digest,
    /// Where it came from.
    pub origin: Origin,
    /// When the last restart was requested; it is part of the instances' template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<DateTime<Utc>>,
    /// Which value of each of its secrets it gets. A secret that is not in it gets the newest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretRef, SecretVersion>,
    /// Whether it is on the network that services share. Services that an earlier version deployed are not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
}

/// A port of a machine that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedPort {
    /// The container's port.
    pub container: u16,
    /// What is spoken there.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// The machine's port.
    pub host: u16,
}

/// The published ports of a machine's tasks, by the tasks' ids.
pub type PublishedPorts = BTreeMap<String, Vec<PublishedPort>>;

/// What a service runs, with all that its revision says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Version of this document, 1.
    pub version: u32,
    /// The revision.
    pub revision: u64,
    /// Its deployment, with as many instances as its file asked for last.
    pub deployment: Deployment,
    /// How many instances there should be now, by the file or set manually.
    pub live: Scale,
    /// Whether it is stopped.
    pub stopped: bool,
}

/// The change that made a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The repository's name, or `-` when deployed by hand.
    pub repository: String,
    /// The commit, 40 hexadecimal digits, or empty when deployed by hand.
    pub commit: String,
    /// The first line of the commit's message.
    pub subject: String,
}

impl Origin {
    /// Nothing is known but that it was deployed by hand.
    pub fn by_hand() -> Self {
        Self { repository: "-".to_owned(), commit: String::new(), subject: String::new() }
    }
}

/// [`Origin`] in an answer, where what a later version adds is passed over.
#[derive(Deserialize)]
#[serde(remote = "Origin")]
struct AnyOrigin {
    repository: String,
    commit: String,
    subject: String,
}

/// What a machine saw of an instance that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Symptoms {
    /// What its health check answered last.
    pub probe: Option<String>,
    /// How it ended; `None` while it still runs.
    pub ended: Option<Ended>,
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// Its exit status.
    pub exit: i64,
    /// Why the engine could not start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the kernel killed it because it used more memory than it may.
    pub out_of_memory: bool,
    /// The last lines of its log, oldest first.
    pub lines: Vec<String>,
}

/// The first instance of a revision that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedInstance {
    /// Its name, `web@1`.
    pub name: String,
    /// Where it ran.
    pub machine: Option<MachineId>,
    /// When this was reported.
    pub at: DateTime<Utc>,
    /// Its exit status.
    pub exit: i64,
    /// Why the engine could not start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the kernel killed it because it used more memory than it may.
    pub out_of_memory: bool,
    /// What its health check answered last.
    pub probe: Option<String>,
    /// The last lines of its log, oldest first; none for those who may not read logs.
    pub lines: Vec<String>,
}

impl FailedInstance {
    /// How it ended, in a few words.
    pub fn cause(&self) -> String {
        match (&self.error, &self.probe, self.out_of_memory) {
            (Some(error), _, _) => format!("could not start: {error}"),
            (None, _, true) => "was killed because it used more memory than `limits.memory`".to_owned(),
            (None, Some(probe), false) => format!("failed its health check: {probe}"),
            (None, None, false) => format!("exited with status {}", self.exit),
        }
    }

    /// How it ended and what it printed last, a line each.
    pub fn report(&self) -> impl Iterator<Item = String> {
        let place = self.machine.as_ref().map_or_else(String::new, |machine| format!(" on {machine}"));
        let more = if self.lines.is_empty() { "" } else { "; it printed last:" };
        let head = format!("{}{place} {}{more}", self.name, self.cause());
        std::iter::once(head).chain(self.lines.iter().map(|line| format!("  | {line}")))
    }
}

/// A revision of a service, numbered from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// Its image; `None` when the revision's record can't be read.
    pub digest: Option<Digest>,
    /// Where it came from.
    #[serde(deserialize_with = "AnyOrigin::deserialize")]
    pub origin: Origin,
    /// What became of it.
    pub state: RevisionState,
    /// Why, when there is something to say.
    pub reason: Option<String>,
    /// The first of its instances that failed, unless it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedInstance>,
    /// The state of its `pre_deploy` command, if it has run one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_deploy: Option<PreDeployState>,
    /// When its rollout began.
    pub since: DateTime<Utc>,
}

/// The state of a revision's `pre_deploy` command. Until it has succeeded the revision counts as rolling
/// out, and replaces no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreDeployState {
    /// It waits for a machine, its image, or the command of an earlier revision.
    Waiting,
    /// It runs.
    Running,
    /// It exited with 0.
    Succeeded,
    /// It failed, or could not be started: no instance was replaced.
    Failed,
    /// Its machine was lost while it ran. Whether it did its work is not known, and no instance was replaced.
    Unknown,
}

impl PreDeployState {
    /// The label in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Revision {
    /// Its image as tables show it.
    pub fn image(&self) -> String {
        self.digest.as_ref().map_or_else(|| "-".to_owned(), Digest::short)
    }

    /// How it failed, after its name in a sentence; `None` where it did not fail.
    pub fn failure(&self) -> Option<&'static str> {
        match (self.state, self.pre_deploy) {
            (RevisionState::RolledBack, _) => Some("failed and was rolled back"),
            // No instance of it was ever started.
            (RevisionState::Failed, Some(PreDeployState::Failed | PreDeployState::Unknown)) => {
                Some("was not rolled out")
            }
            (RevisionState::Failed, _) => Some("failed and was not rolled back"),
            (RevisionState::RollingOut | RevisionState::Running | RevisionState::Replaced, _) => None,
        }
    }

    /// Its state as tables show it: the state of its command until that has succeeded.
    pub fn words(&self) -> String {
        match (self.state, self.pre_deploy) {
            (RevisionState::RollingOut, Some(state)) if state != PreDeployState::Succeeded => {
                format!("pre_deploy {}", state.label())
            }
            (state, _) => state.words().to_owned(),
        }
    }
}

/// What became of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionState {
    /// Being rolled out.
    RollingOut,
    /// What runs.
    Running,
    /// Something newer took its place.
    Replaced,
    /// Its rollout failed and the one before was restored.
    RolledBack,
    /// Its rollout failed and could not be undone.
    Failed,
}

impl RevisionState {
    /// The words in tables.
    pub fn words(self) -> &'static str {
        match self {
            Self::RollingOut => "rolling out",
            Self::Running => "running",
            Self::Replaced => "replaced",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
        }
    }
}

/// The state of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    /// Not placed yet; the instance's message says why.
    Pending,
    /// Placed, not healthy yet.
    Starting,
    /// Running, and healthy where there is a check: its address is given out.
    Healthy,
    /// Told to stop, or about to be: its address is no longer given out.
    Stopping,
    /// Ended in failure; another takes its place.
    Failed,
}

impl InstanceState {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }
}

/// A port of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePort {
    /// The container's port.
    pub container: u16,
    /// What is spoken there.
    #[serde(default, skip_serializing_if = "Protocol::is_tcp")]
    pub protocol: Protocol,
    /// The machine's port.
    pub host: u16,
}

impl From<PublishedPort> for InstancePort {
    fn from(port: PublishedPort) -> Self {
        let PublishedPort { container, protocol, host } = port;
        Self { container, protocol, host }
    }
}

/// One running copy of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Stable as long as it lives: the engine's own task id.
    pub id: String,
    /// `web@1`; the number is the engine's slot.
    pub name: String,
    /// Where it runs; `None` while it is pending.
    pub machine: Option<MachineId>,
    /// Where it can be reached, one entry a published port.
    pub addresses: Vec<SocketAddr>,
    /// The ports of its machine that its own are published at, in the order of the service's file. Of units, the
    /// ports that they listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<InstancePort>,
    /// Its state.
    pub state: InstanceState,
    /// How often this instance of the present revision has failed, as far as the engine remembers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Its image.
    pub digest: Option<Digest>,
    /// Why it waits or failed.
    pub message: Option<String>,
    /// Since when it is in that state.
    pub since: DateTime<Utc>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A service as observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// How many instances there should be.
    pub desired: u32,
    /// What its file said about that, where `scale` has set another number since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_from: Option<u32>,
    /// Whether it is stopped, until it is started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The instances, sorted by name, then id.
    pub instances: Vec<Instance>,
    /// The last revisions, newest first, at most ten.
    pub history: Vec<Revision>,
}

impl ServiceStatus {
    /// How many instances are healthy.
    pub fn healthy(&self) -> u32 {
        let healthy = self.instances.iter().filter(|i| i.state == InstanceState::Healthy).count();
        u32::try_from(healthy).unwrap_or(u32::MAX)
    }

    /// Whether as many are healthy as there should be.
    pub fn is_whole(&self) -> bool {
        self.healthy() >= self.desired
    }
}
