//! The JSON of the cluster's API under /v1, which both of its ends share.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::cluster::{ClusterError, Snapshot};
use crate::model::audit::AuditEvent;
use crate::model::cluster::LogEnd;
use crate::model::feature::Features;
use crate::model::name::{BootId, MachineId, ServiceName};
use crate::model::reboot::Mark;
use crate::model::service::{Ended, ScaleTo};

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

/// A change of the number of a service's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The number, or to stop or start it.
    pub to: ScaleTo,
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
            part::<Vec<crate::model::reboot::Answer>>(&name, &text, "leave");
            part::<Vec<crate::model::reboot::Returned>>(&name, &text, "returned");
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
