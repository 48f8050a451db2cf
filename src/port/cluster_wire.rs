//! The JSON of the cluster's API under /v1, which both of its ends share.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::cluster::{ClusterError, Snapshot};
use crate::model::audit::AuditEvent;
use crate::model::cluster::LogEnd;
use crate::model::feature::Features;
use crate::model::host_file::{Definition, FeedLine};
use crate::model::host_file_state::{
    FileProblem, FileStep, HostFileState, HostFileStates, PROBLEMS_MOST, REASON_MOST,
};
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::{BootId, HostFileName, JobName, MachineId, ServiceName, VolumeName};
use crate::model::pressure::Pressure;
use crate::model::reboot::Mark;
use crate::model::role::RoleCredentials;
use crate::model::secret::Secret;
use crate::model::service::{Ended, PublishedPort, ScaleTo};
use crate::model::unit::{UnitTask, UnitTaskAsked};

/// The port on which control machines serve the API.
pub const PORT: u16 = 7443;

/// What a control machine writes down of itself in the rendezvous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its private address.
    pub address: IpAddr,
    /// The API's port.
    pub port: u16,
    /// What its agent can do. Agents that publish nothing are of the first version.
    #[serde(default)]
    pub features: Features,
}

impl Endpoint {
    /// The endpoint of the machine with that address.
    pub fn new(address: IpAddr) -> Self {
        Self { address, port: PORT, features: Features::own() }
    }

    /// Reads what a control machine wrote.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://{}", SocketAddr::new(self.address, self.port))
    }
}

/// What a change of a service made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The number of the revision that runs or rolls out now.
    pub revision: u64,
}

/// The version of [`SecretVersions`].
pub const SECRETS_VERSION: u32 = 1;

/// The newest versions of secrets, in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersions {
    /// [`SECRETS_VERSION`].
    pub version: u32,
    /// The version of each that is set.
    pub secrets: BTreeMap<SecretRef, SecretVersion>,
}

/// A change of the number of a service's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The number, or to stop or start it.
    pub to: ScaleTo,
}

/// What a machine reports of the ports of its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortsReport {
    /// The ports, by task.
    pub tasks: BTreeMap<String, Vec<PublishedPort>>,
}

/// The tasks that a machine runs units for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitTasksRequest {
    /// The tasks.
    pub tasks: Vec<UnitTaskAsked>,
}

/// The version of [`UnitTasks`].
pub const UNIT_TASKS_VERSION: u32 = 1;

/// What is to become of the units of a machine, in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitTasks {
    /// [`UNIT_TASKS_VERSION`].
    pub version: u32,
    /// Each of the tasks that were asked about.
    pub tasks: Vec<UnitTask>,
}

/// What a machine reports of how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PressureReport {
    /// How much of the fullest disk is used, in percent.
    pub disk: u8,
    /// How many of the inodes are used, in percent.
    pub inodes: u8,
    /// How much of the memory is available, in percent.
    pub memory_available: u8,
}

impl From<Pressure> for PressureReport {
    fn from(pressure: Pressure) -> Self {
        let Pressure { disk, inodes, memory_available } = pressure;
        Self { disk, inodes, memory_available }
    }
}

impl PressureReport {
    /// The figures; none is more than the whole.
    pub fn pressure(self) -> Pressure {
        let Self { disk, inodes, memory_available } = self;
        Pressure { disk: disk.min(100), inodes: inodes.min(100), memory_available: memory_available.min(100) }
    }
}

/// A command to run with a service's image and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// The program and its arguments; the program alone where it is attended.
    pub command: Vec<String>,
    /// Whether its container waits for its caller, who is connected with the program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attended: bool,
}

/// A helper's question, through its machine's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitRequest {
    /// What the helper calls itself.
    pub nonce: String,
}

/// A container's question for the credentials of its role, through its machine's agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsRequest {
    /// The SHA-256 of the token that the container has shown, in hexadecimal.
    pub token_sha256: String,
}

/// The credentials of a task's role.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCredentials {
    /// The ARN of the role.
    pub role: String,
    /// The id of the key.
    pub key: String,
    /// The key.
    secret: String,
    /// The session's token.
    token: String,
    /// When they expire.
    pub expires: DateTime<Utc>,
}

impl fmt::Debug for TaskCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskCredentials").field("role", &self.role).finish_non_exhaustive()
    }
}

impl From<&RoleCredentials> for TaskCredentials {
    fn from(given: &RoleCredentials) -> Self {
        Self {
            role: given.role.clone(),
            key: given.key.clone(),
            secret: given.secret.expose().clone(),
            token: given.token.expose().clone(),
            expires: given.expires,
        }
    }
}

impl From<TaskCredentials> for RoleCredentials {
    fn from(sent: TaskCredentials) -> Self {
        let TaskCredentials { role, key, secret, token, expires } = sent;
        Self { role, key, secret: Secret::new(secret), token: Secret::new(token), expires }
    }
}

/// Machines to empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Their ids.
    pub machines: Vec<MachineId>,
    /// Whether to stop also what nothing can replace.
    #[serde(default)]
    pub force: bool,
    /// The volumes whose data may be lost with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lose_volumes: Vec<VolumeName>,
}

/// How far emptying machines came. The caller asks again until it is done: that way it
/// goes on when the manager that worked on it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Whether they run nothing.
    pub done: bool,
}

/// Which machine a node is, from its own agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The engine's id of the node.
    pub node: String,
    /// What the machine says of itself. Control machines derive its labels and ignore this.
    pub labels: BTreeMap<String, String>,
    /// What its agent can do. Agents that send nothing are of the first version.
    #[serde(default)]
    pub features: Features,
}

/// How an instance failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unhealthy {
    /// What its health check answered; empty when it has none.
    pub output: String,
    /// How it ended, if it has. Agents of the version before send only the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// A machine's wish to reboot, from its own agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebootRequest {
    /// The boot that is to end.
    pub boot: BootId,
}

/// What the cluster knows of a machine's reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootState {
    /// The leave that it had last, until it has given that back.
    pub mark: Option<Mark>,
}

/// A machine's key for etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdClientRequest {
    /// Its public part: a `PUBLIC KEY` in PEM, of the curve P-256.
    pub public_key: String,
}

/// What a machine speaks to etcd with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdClient {
    /// The authority of the members' certificates, as PEM.
    pub authority: String,
    /// The machine's certificate, as PEM.
    pub certificate: String,
    /// How long the certificate is valid from now on, in seconds.
    pub valid_s: u64,
    /// The client URLs of the members.
    pub endpoints: Vec<String>,
}

/// That a machine is to go on as the only control machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverRequest {
    /// Where its log ended when it was chosen.
    pub log: LogEnd,
    /// Whether this is about its etcd.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub etcd: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredServices {
    /// The services.
    pub services: Vec<ServiceName>,
    /// The jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobName>,
}

impl RestoredServices {
    /// Their names, services first.
    pub fn names(&self) -> Vec<String> {
        let jobs = self.jobs.iter().map(|name| format!("job {name}"));
        self.services.iter().map(ToString::to_string).chain(jobs).collect()
    }
}

/// What one control machine has recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// [`AUDIT_VERSION`](crate::model::audit::AUDIT_VERSION).
    pub version: u32,
    /// The events of the newest changes, oldest first.
    pub events: Vec<AuditEvent>,
}

/// One line of a stream; empty lines between them are signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// What there is.
    Snapshot(Snapshot),
    /// A log line.
    Log(String),
    /// The stream's end, and why.
    Error(WireError),
}

/// One line of the output of an occurrence; empty lines between them are signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputLine {
    /// Of the standard output.
    Out(String),
    /// Of the standard error.
    Err(String),
    /// The stream's end, and why.
    Error(WireError),
}

impl From<WireError> for OutputLine {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// One line of what a machine is sent of its watched files; empty lines between them are signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedItem {
    /// What has changed.
    Line(Box<FeedLine>),
    /// The stream's end, and why.
    Error(WireError),
}

impl From<WireError> for FeedItem {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// The definitions of watched files, in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFileList {
    /// [`HOST_FILE_VERSION`](crate::model::host_file::HOST_FILE_VERSION).
    pub version: u32,
    /// The definitions, sorted by name.
    pub files: Vec<Definition>,
}

/// What a machine reports of its watched files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFileReport {
    /// Their states, by name.
    pub files: BTreeMap<HostFileName, ReportedFile>,
}

/// What a machine reports of one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedFile {
    /// The number of the definition that it has applied last.
    pub number: u64,
    /// What keeps it from being applied as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ReportedProblem>,
}

/// Why a file is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportedProblem {
    /// At which step.
    pub at: FileStep,
    /// Why.
    pub reason: String,
}

impl From<&HostFileStates> for HostFileReport {
    fn from(states: &HostFileStates) -> Self {
        let problem =
            |problem: &FileProblem| ReportedProblem { at: problem.at, reason: problem.reason.clone() };
        let state = |(name, state): (&HostFileName, &HostFileState)| {
            (
                name.clone(),
                ReportedFile { number: state.number, problem: state.problem.as_ref().map(problem) },
            )
        };
        Self { files: states.iter().map(state).collect() }
    }
}

impl HostFileReport {
    /// No more of it than is kept: it becomes a label of the machine's node.
    pub fn states(self) -> HostFileStates {
        let mut left = PROBLEMS_MOST;
        let mut kept = |problem: ReportedProblem| {
            left = left.checked_sub(1)?;
            let reason = problem.reason.chars().filter(|c| !c.is_control()).take(REASON_MOST).collect();
            Some(FileProblem { at: problem.at, reason })
        };
        self.files
            .into_iter()
            .map(|(name, ReportedFile { number, problem })| {
                (name, HostFileState { number, problem: problem.and_then(&mut kept) })
            })
            .collect()
    }
}

/// Prefixes of keys in etcd, in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRequest {
    /// The prefixes.
    pub prefixes: Vec<String>,
}

/// Keys in etcd, in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// [`HOST_FILE_VERSION`](crate::model::host_file::HOST_FILE_VERSION).
    pub version: u32,
    /// The keys, with their values.
    pub keys: BTreeMap<String, String>,
}

impl From<WireError> for Line {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// An error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: WireError,
}

/// An error as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// Which kind: `unreachable`, `not-found`, `refused`, `denied`, `engine`, `unauthorized` or `invalid`.
    pub code: String,
    /// The words for people.
    pub message: String,
    /// What it is about: the missing thing's kind, or what was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The missing thing's name, or the reason by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a control machine answers that does not know a route.
pub const NO_SUCH_PATH: &str = "there is no such path";

impl WireError {
    /// An error that is not the cluster's.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), about: None, detail: None }
    }

    /// The cluster's error again; `endpoint` is where it came from.
    pub fn into_error(self, endpoint: &str) -> ClusterError {
        match (self.code.as_str(), self.about, self.detail) {
            ("not-found", Some(what), Some(name)) if what == "revision" => {
                ClusterError::NotFound { what: "revision", name }
            }
            ("not-found", Some(what), Some(name)) if what == "service" => {
                ClusterError::NotFound { what: "service", name }
            }
            ("not-found", Some(what), Some(name)) if what == "machine" => {
                ClusterError::NotFound { what: "machine", name }
            }
            ("not-found", Some(what), Some(name)) if what == "etcd" => {
                ClusterError::NotFound { what: "etcd", name }
            }
            ("not-found", Some(what), Some(name)) if what == "job" => {
                ClusterError::NotFound { what: "job", name }
            }
            ("not-found", Some(what), Some(name)) if what == "container of occurrence" => {
                ClusterError::NotFound { what: "container of occurrence", name }
            }
            ("not-found", Some(what), Some(name)) if what == "token" => {
                ClusterError::NotFound { what: "token", name }
            }
            ("invalid", _, _) if self.message == NO_SUCH_PATH => ClusterError::Refused {
                reason: "the agents of the cluster's control machines are too old for it. Upgrade them: give \
                         their group's cloud-config this version, then `fleetwright apply` and `fleetwright roll`"
                    .to_owned(),
            },
            ("refused", _, _) => ClusterError::Refused { reason: self.message },
            ("denied" | "unauthorized", _, _) => ClusterError::Denied { reason: self.message },
            ("engine", Some(doing), Some(reason)) => ClusterError::Engine { doing, reason },
            ("unreachable", _, detail) => ClusterError::Unreachable {
                endpoint: endpoint.to_owned(),
                reason: detail.unwrap_or(self.message),
            },
            (code, _, _) => ClusterError::Engine {
                doing: format!("asking {endpoint}"),
                reason: format!("{} ({code})", self.message),
            },
        }
    }
}

impl From<&ClusterError> for WireError {
    fn from(error: &ClusterError) -> Self {
        let (code, about, detail) = match error {
            ClusterError::Unreachable { endpoint, reason } => {
                ("unreachable", Some(endpoint.clone()), Some(reason))
            }
            ClusterError::NotFound { what, name } => ("not-found", Some((*what).to_owned()), Some(name)),
            ClusterError::Refused { .. } => ("refused", None, None),
            ClusterError::Denied { .. } => ("denied", None, None),
            ClusterError::Engine { doing, reason } => ("engine", Some(doing.clone()), Some(reason)),
        };
        Self { code: code.to_owned(), message: error.to_string(), about, detail: detail.cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Deployed;

    #[test]
    fn errors_survive_the_wire() {
        let errors = [
            ClusterError::NotFound { what: "service", name: "web".into() },
            ClusterError::NotFound { what: "machine", name: "i-1".into() },
            ClusterError::NotFound { what: "etcd", name: "main".into() },
            ClusterError::Refused { reason: "no other machine".into() },
            ClusterError::Denied { reason: "i-1 may not deploy".into() },
            ClusterError::Engine { doing: "updating a service".into(), reason: "no such image".into() },
            ClusterError::Unreachable { endpoint: "there".into(), reason: "no leader".into() },
        ];
        for error in errors {
            let text = serde_json::to_string(&WireError::from(&error)).expect("JSON");
            let back: WireError = serde_json::from_str(&text).expect("JSON");
            assert_eq!(back.into_error("there").to_string(), error.to_string());
        }
    }

    #[test]
    fn a_control_machine_of_an_earlier_version_is_reported_as_such() {
        let error = WireError::new("invalid", NO_SUCH_PATH).into_error("there").to_string();
        assert!(error.contains("too old") && error.contains("fleetwright roll"), "{error}");
    }

    #[test]
    fn every_recorded_endpoint_loads() {
        for (name, text) in crate::source::samples::of("endpoint") {
            let endpoint = Endpoint::read(&text).expect(&name);
            assert_eq!(endpoint.url(), "https://10.0.1.4:7443", "{name}");
        }
    }

    /// Reads a part of a sample.
    fn part<T: serde::de::DeserializeOwned>(name: &str, text: &str, key: &str) -> T {
        let sample: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let part = sample.get(key).unwrap_or_else(|| panic!("{name} has no `{key}`"));
        serde_json::from_value(part.clone()).unwrap_or_else(|error| panic!("{name}: {key}: {error}"))
    }

    /// Whether a sample has that part: later ones have more.
    fn holds(text: &str, key: &str) -> bool {
        serde_json::from_str::<serde_json::Value>(text).expect("JSON").get(key).is_some()
    }

    #[test]
    fn every_recorded_request_is_accepted() {
        for (name, text) in crate::source::samples::of("requests") {
            let deployment: crate::model::service::Deployment = part(&name, &text, "deployment");
            assert_eq!(deployment.spec.name.as_str(), "web");
            assert_eq!(part::<DrainRequest>(&name, &text, "drain").machines.len(), 2);
            assert_eq!(part::<Registration>(&name, &text, "registration").node, "n1");
            part::<Unhealthy>(&name, &text, "unhealthy");
            part::<RebootRequest>(&name, &text, "reboot");
            part::<EtcdClientRequest>(&name, &text, "etcd_client");
            if holds(&text, "scale") {
                assert_eq!(part::<Vec<ScaleRequest>>(&name, &text, "scale").len(), 3);
            }
            if holds(&text, "ports") {
                assert_eq!(part::<PortsReport>(&name, &text, "ports").tasks.len(), 1);
            }
            if holds(&text, "pressure") {
                assert_eq!(part::<PressureReport>(&name, &text, "pressure").pressure().disk, 87);
            }
            if holds(&text, "recover") {
                assert_eq!(part::<RecoverRequest>(&name, &text, "recover").log.index, 900);
            }
        }
    }

    #[test]
    fn every_recorded_answer_is_understood() {
        for (name, text) in crate::source::samples::of("answers") {
            assert_eq!(part::<Snapshot>(&name, &text, "snapshot").services.len(), 1);
            part::<Changed>(&name, &text, "changed");
            part::<Drained>(&name, &text, "drained");
            part::<EtcdClient>(&name, &text, "etcd_client");
            assert_eq!(part::<Vec<Line>>(&name, &text, "lines").len(), 3);
            part::<ErrorBody>(&name, &text, "error");
            part::<RebootState>(&name, &text, "reboot");
            part::<RebootState>(&name, &text, "no_reboot");
            if holds(&text, "cluster") {
                assert!(part::<crate::model::cluster::View>(&name, &text, "cluster").leads());
                part::<RestoredServices>(&name, &text, "restored");
                assert_eq!(part::<AuditPage>(&name, &text, "audit").events.len(), 2);
                part::<crate::model::standing::Standing>(&name, &text, "standing");
                part::<Vec<crate::model::standing::Turn>>(&name, &text, "turns");
            }
            if holds(&text, "secrets") {
                assert_eq!(part::<SecretVersions>(&name, &text, "secrets").secrets.len(), 1);
            }
            part::<Vec<crate::model::reboot::Answer>>(&name, &text, "leave");
            part::<Vec<crate::model::reboot::Returned>>(&name, &text, "returned");
        }
    }

    #[test]
    fn every_recorded_request_about_jobs_is_accepted() {
        for (name, text) in crate::source::samples::of("job-requests") {
            assert_eq!(part::<Vec<crate::model::job::JobDeployment>>(&name, &text, "jobs").len(), 2);
            part::<CommandRequest>(&name, &text, "command");
            part::<PermitRequest>(&name, &text, "permit");
        }
    }

    #[test]
    fn every_recorded_question_for_credentials_and_answer_is_understood() {
        for (name, text) in crate::source::samples::of("credentials") {
            part::<CredentialsRequest>(&name, &text, "request");
            let given = part::<TaskCredentials>(&name, &text, "answer");
            assert!(!format!("{given:?}").contains("EXAMPLE"), "{given:?}");
            let given = RoleCredentials::from(given);
            assert!(given.secret.expose().ends_with("KEY") && !format!("{given:?}").contains("EXAMPLEKEY"));
        }
    }

    #[test]
    fn every_recorded_answer_about_jobs_is_understood() {
        for (name, text) in crate::source::samples::of("job-answers") {
            let jobs: crate::model::job::Jobs = part(&name, &text, "jobs");
            assert_eq!((jobs.jobs[0].occurrences.len(), jobs.commands.len()), (1, 1), "{name}");
            assert_eq!(part::<Vec<OutputLine>>(&name, &text, "lines").len(), 3);
        }
    }

    /// Callers deploy this again, so an unknown field must be refused, not dropped.
    #[test]
    fn every_recorded_answer_about_a_deployment_is_understood() {
        for (name, text) in crate::source::samples::of("deployed") {
            let deployed: Deployed = serde_json::from_str(&text).expect(&name);
            assert!(deployed.stopped);
        }
    }

    /// What a later version adds to an answer is passed over.
    #[test]
    fn an_answer_may_have_more_in_it() {
        let (name, text) = crate::source::samples::of("answers").remove(0);
        let mut sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        add_everywhere(&mut sample["snapshot"]);
        assert_eq!(part::<Snapshot>(&name, &sample.to_string(), "snapshot").services.len(), 1);
    }

    fn add_everywhere(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                fields.values_mut().for_each(add_everywhere);
                fields.insert("later".into(), "more".into());
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(add_everywhere),
            _ => {}
        }
    }
}
