//! The calls to the Docker Engine, with its errors in our words.

use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{Config, ConfigSpec, Node, NodeSpec, Service, ServiceSpec};
use bollard::query_parameters::{
    ListServicesOptions, UpdateConfigOptions, UpdateNodeOptions, UpdateServiceOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use chrono::Utc;

use super::observe::Observed;
use crate::port::cluster::ClusterError;

/// How long one call may take. Calls that change the swarm's state wait for a majority of managers.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the Docker Engine of one machine.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
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
        Ok(Self { docker, endpoint: endpoint.to_owned() })
    }

    /// The connection itself, for calls that only one place makes.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// An error of the engine in our words. `doing` says what was tried, on what.
    pub fn error(&self, doing: impl Into<String>, error: Error) -> ClusterError {
        match error {
            // Only 503 means that this manager has no leader or is none; elsewhere may be one.
            Error::DockerResponseServerError { status_code: 503, message } => {
                ClusterError::Unreachable { endpoint: self.endpoint.clone(), reason: message }
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
        let services = self.docker.list_services(None::<ListServicesOptions>);
        let tasks = self.docker.list_tasks(None::<bollard::query_parameters::ListTasksOptions>);
        let nodes = self.docker.list_nodes(None::<bollard::query_parameters::ListNodesOptions>);
        let configs = self.docker.list_configs(None::<bollard::query_parameters::ListConfigsOptions>);
        let (services, tasks, nodes, configs) = tokio::try_join!(services, tasks, nodes, configs)
            .map_err(|error| self.error("reading the swarm's state", error))?;
        Ok(Observed { at: Utc::now(), nodes, services, tasks, configs })
    }

    /// Changes a service, if it is still as `seen`.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn update_service(
        &self,
        seen: &Service,
        spec: ServiceSpec,
        credentials: Option<bollard::auth::DockerCredentials>,
    ) -> Result<(), Change> {
        let (Some(id), Some(version)) = (&seen.id, index(&seen.version)) else {
            return Err(Change::Outdated);
        };
        let options = UpdateServiceOptions {
            version: i32::try_from(version).unwrap_or(i32::MAX),
            registry_auth_from: "spec".to_owned(),
            rollback: None,
        };
        self.docker
            .update_service(id, spec, options, credentials)
            .await
            .map(|_| ())
            .map_err(|error| self.change("updating a service", error))
    }

    /// Takes a service back to its specification before the last update, if it is still as `seen`.
    ///
    /// # Errors
    /// `Change::Outdated` when somebody else changed it first.
    pub async fn roll_back(&self, seen: &Service) -> Result<(), Change> {
        let (Some(id), Some(version), Some(spec)) = (&seen.id, index(&seen.version), seen.spec.clone())
        else {
            return Err(Change::Outdated);
        };
        let options = UpdateServiceOptions {
            version: i32::try_from(version).unwrap_or(i32::MAX),
            registry_auth_from: "previous-spec".to_owned(),
            rollback: Some("previous".to_owned()),
        };
        self.docker
            .update_service(id, spec, options, None)
            .await
            .map(|_| ())
            .map_err(|error| self.change("rolling a service back", error))
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
