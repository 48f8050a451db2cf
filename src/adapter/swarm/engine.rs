//! The calls to the Docker Engine, with its errors in our words.

use std::collections::HashSet;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{Config, ConfigSpec, Node, NodeSpec, Service, ServiceSpec};
use bollard::query_parameters::{UpdateConfigOptions, UpdateNodeOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use chrono::Utc;
use serde_json::Value;

use super::access::{self, Pull};
use super::observe::Observed;
use super::raw::{self, Raw};
use super::spec::NETWORK;
use crate::port::cluster::ClusterError;

/// How long one call may take. Calls that change the swarm's state wait for a majority of managers.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long reading the swarm's state may take. A manager passes that on to the leader, and waits
/// for one that has stopped until another leads.
const READING: Duration = Duration::from_secs(6);
const UPDATING: &str = "updating a service";

/// A connection to the Docker Engine of one machine.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    raw: Raw,
    endpoint: String,
}

impl Engine {
    /// Connects to `endpoint`: `unix:///path` or `tcp://host:port`, and agrees on the version of the API.
    ///
    /// # Errors
    /// [`ClusterError::Unreachable`] when nothing answers.
    pub async fn connect(endpoint: &str) -> Result<Self, ClusterError> {
        let unreachable = |error: Error| ClusterError::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: error.to_string(),
        };
        let docker = if endpoint.starts_with("unix://") {
            Docker::connect_with_unix(endpoint, TIMEOUT.as_secs(), API_DEFAULT_VERSION)
        } else {
            Docker::connect_with_http(endpoint, TIMEOUT.as_secs(), API_DEFAULT_VERSION)
        };
        let docker = docker.map_err(unreachable)?.negotiate_version().await.map_err(unreachable)?;
        let raw = Raw::new(endpoint, &docker.client_version().to_string(), TIMEOUT).map_err(unreachable)?;
        Ok(Self { docker, raw, endpoint: endpoint.to_owned() })
    }

    /// The connection itself, for calls that only one place makes.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The calls without types.
    pub(super) fn raw(&self) -> &Raw {
        &self.raw
    }

    /// An error of the engine in our words. `doing` says what was tried, on what.
    pub fn error(&self, doing: impl Into<String>, error: Error) -> ClusterError {
        match error {
            // 503: this manager has no leader, or is not a manager. DeadlineExceeded: its leader has
            // stopped. Another manager may have one that answers.
            Error::DockerResponseServerError { status_code, message }
                if status_code == 503 || message.contains("code = DeadlineExceeded") =>
            {
                ClusterError::Unreachable { endpoint: self.endpoint.clone(), reason: last_words(&message) }
            }
            Error::DockerResponseServerError { message, .. } => {
                ClusterError::Engine { doing: doing.into(), reason: last_words(&message) }
            }
            Error::RequestTimeoutError => ClusterError::Unreachable {
                endpoint: self.endpoint.clone(),
                reason: format!("no answer in {} s", TIMEOUT.as_secs()),
            },
            Error::HyperResponseError { .. } | Error::HyperLegacyError { .. } | Error::IOError { .. } => {
                ClusterError::Unreachable { endpoint: self.endpoint.clone(), reason: error.to_string() }
            }
            other => ClusterError::Engine { doing: doing.into(), reason: other.to_string() },
        }
    }

    /// Reads everything at once.
    ///
    /// # Errors
    /// When any part could not be read: there is no partial picture.
    pub async fn observe(&self) -> Result<Observed, ClusterError> {
        let services = async { raw::services(self.raw.get("services").await?) };
        let tasks = self.docker.list_tasks(None::<bollard::query_parameters::ListTasksOptions>);
        let nodes = self.docker.list_nodes(None::<bollard::query_parameters::ListNodesOptions>);
        let configs = self.docker.list_configs(None::<bollard::query_parameters::ListConfigsOptions>);
        let all = async { tokio::try_join!(services, tasks, nodes, configs) };
        let all = tokio::time::timeout(READING, all).await.unwrap_or(Err(Error::RequestTimeoutError));
        let (services, tasks, nodes, configs) = all.map_err(|error| match error {
            Error::RequestTimeoutError => ClusterError::Unreachable {
                endpoint: self.endpoint.clone(),
                reason: format!("no answer about the swarm's state in {} s", READING.as_secs()),
            },
            error => self.error("reading the swarm's state", error),
        })?;
        Ok(Observed { at: Utc::now(), nodes, services, tasks, configs })
    }

    /// Creates the network that services share, unless it is there. Its addresses are of the pool that
    /// the swarm was founded with.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub async fn ensure_network(&self) -> Result<(), ClusterError> {
        let doing = "creating the services' network";
        match self.raw.get(&format!("networks/{NETWORK}")).await {
            Ok(found) if found["Scope"] == "swarm" && found["Driver"] == "overlay" => return Ok(()),
            // A network of this machine alone hides that of the swarm.
            Ok(_) => {
                return Err(ClusterError::Refused {
                    reason: format!(
                        "a control machine has a network `{NETWORK}` that is not the cluster's; remove it with \
                         `docker network rm {NETWORK}`"
                    ),
                });
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(self.error(doing, error)),
        }
        let network = serde_json::json!({ "Name": NETWORK, "Driver": "overlay", "CheckDuplicate": true });
        match self.raw.post("networks/create", &network, None).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            Err(error) => Err(self.error(doing, error)),
        }
    }

    /// The names of secrets and configs that services mounted before the rollout that they are in. The types
    /// of the API don't have the specification before it.
    ///
    /// # Errors
    /// When the services can't be read.
    pub async fn mounted_before(&self) -> Result<HashSet<String>, ClusterError> {
        let services = self.raw.get("services").await;
        let services = services.map_err(|error| self.error("reading the services", error))?;
        Ok(raw::mounted_before(&services))
    }

    /// Gives a service another specification, if it is still as `seen`. Without credentials it keeps
    /// those it has.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn update_service(
        &self,
        seen: &Service,
        spec: ServiceSpec,
        pull: Option<Pull>,
    ) -> Result<(), Change> {
        let spec = access::keep_mark(spec, seen.spec.as_ref());
        let spec = serde_json::to_value(spec).map_err(|error| self.change(UPDATING, error.into()))?;
        self.write_service(seen, spec, pull).await
    }

    /// Edits the specification of a service, if it is still as `seen`. What is not edited stays as it is.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn amend_service(
        &self,
        seen: &Service,
        edit: impl FnOnce(&mut Value),
        pull: Option<Pull>,
    ) -> Result<(), Change> {
        let mut spec = self.spec_of(seen).await?;
        edit(&mut spec);
        self.write_service(seen, spec, pull).await
    }

    async fn write_service(&self, seen: &Service, mut spec: Value, pull: Option<Pull>) -> Result<(), Change> {
        let (Some(id), Some(version)) = (&seen.id, index(&seen.version)) else {
            return Err(Change::Outdated);
        };
        let credentials = pull.map(|pull| pull.marking(&mut spec));
        let path = format!("services/{id}/update?version={version}&registryAuthFrom=spec");
        let updated = self.raw.post(&path, &spec, credentials.as_ref()).await;
        updated.map_err(|error| self.change(UPDATING, error))
    }

    /// Takes a service back to its specification before the last update, if it is still as `seen`.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn roll_back(&self, seen: &Service) -> Result<(), Change> {
        let (Some(id), Some(version)) = (&seen.id, index(&seen.version)) else {
            return Err(Change::Outdated);
        };
        let spec = self.spec_of(seen).await?;
        let from = "registryAuthFrom=previous-spec&rollback=previous";
        let path = format!("services/{id}/update?version={version}&{from}");
        let updated = self.raw.post(&path, &spec, None).await;
        updated.map_err(|error| self.change("rolling a service back", error))
    }

    /// A service's specification as the engine has it, if it is still as `seen`.
    async fn spec_of(&self, seen: &Service) -> Result<Value, Change> {
        let id = seen.id.as_deref().unwrap_or_default();
        let now = self.raw.get(&format!("services/{id}")).await;
        let mut now = now.map_err(|error| self.change("reading a service", error))?;
        let version = now.pointer("/Version/Index").and_then(Value::as_u64);
        if version.is_none() || version != index(&seen.version) {
            return Err(Change::Outdated);
        }
        Ok(now["Spec"].take())
    }

    /// Edits the settings of the swarm; `edit` says whether it changed anything.
    ///
    /// # Errors
    /// When the engine refuses it, also because somebody else changed them first.
    pub async fn amend_swarm(&self, edit: impl FnOnce(&mut Value) -> bool) -> Result<(), ClusterError> {
        let now = self.raw.get("swarm").await;
        let mut now = now.map_err(|error| self.error("reading the swarm's settings", error))?;
        let version = now.pointer("/Version/Index").and_then(Value::as_u64).unwrap_or(0);
        let mut spec = now["Spec"].take();
        if !edit(&mut spec) {
            return Ok(());
        }
        let updated = self.raw.post(&format!("swarm/update?version={version}"), &spec, None).await;
        updated.map_err(|error| self.error("changing the swarm's settings", error))
    }

    /// Changes a node, if it is still as `seen`.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn update_node(&self, seen: &Node, spec: NodeSpec) -> Result<(), Change> {
        let (Some(id), Some(version)) = (&seen.id, index(&seen.version)) else {
            return Err(Change::Outdated);
        };
        let options = UpdateNodeOptions { version: i64::try_from(version).unwrap_or(i64::MAX) };
        self.docker
            .update_node(id, spec, options)
            .await
            .map_err(|error| self.change(format!("updating node {id}"), error))
    }

    /// Changes the labels of a config object, if it is still at `version`.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn update_config(&self, id: &str, version: u64, spec: ConfigSpec) -> Result<(), Change> {
        let options = UpdateConfigOptions { version: i64::try_from(version).unwrap_or(i64::MAX) };
        self.docker
            .update_config(id, spec, options)
            .await
            .map_err(|error| self.change("recording a revision", error))
    }

    /// The token that workers join with: a secret that every manager has, and only they and workers.
    ///
    /// # Errors
    /// When the engine does not return it.
    pub async fn join_token(&self) -> Result<String, ClusterError> {
        let swarm = self.docker.inspect_swarm().await;
        let swarm = swarm.map_err(|error| self.error("reading the swarm's join token", error))?;
        Ok(swarm.join_tokens.and_then(|tokens| tokens.worker).unwrap_or_default())
    }

    /// Creates a config object; `None` when there is one of that name.
    ///
    /// # Errors
    /// When the engine refuses it for another reason.
    pub async fn create_config(&self, spec: ConfigSpec) -> Result<Option<String>, ClusterError> {
        match self.docker.create_config(spec).await {
            Ok(created) => Ok(Some(created.id)),
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(None),
            Err(error) => Err(self.error("recording a revision", error)),
        }
    }

    /// Deletes a config object; one that is gone already is fine.
    ///
    /// # Errors
    /// When the engine refuses it.
    pub async fn delete_config(&self, id: &str) -> Result<(), ClusterError> {
        match self.docker.delete_config(id).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.error("deleting a revision's record", error)),
        }
    }

    /// All config objects.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn configs(&self) -> Result<Vec<Config>, ClusterError> {
        self.docker
            .list_configs(None::<bollard::query_parameters::ListConfigsOptions>)
            .await
            .map_err(|error| self.error("reading the revisions", error))
    }

    fn change(&self, doing: impl Into<String>, error: Error) -> Change {
        match &error {
            Error::DockerResponseServerError { message, .. } if message.contains("out of sequence") => {
                Change::Outdated
            }
            _ => Change::Failed(self.error(doing, error)),
        }
    }
}

/// Why a change was not made.
#[derive(Debug)]
pub enum Change {
    /// What was to be changed has changed meanwhile: look again.
    Outdated,
    /// The engine did not do it.
    Failed(ClusterError),
}

/// The engine wraps its errors in gRPC's; only what follows is for people.
fn last_words(message: &str) -> String {
    message.rsplit_once("desc = ").map_or(message, |(_, words)| words).trim().to_owned()
}

fn index(version: &Option<bollard::models::ObjectVersion>) -> Option<u64> {
    version.as_ref().and_then(|version| version.index)
}
