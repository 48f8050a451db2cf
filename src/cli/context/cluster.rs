//! Reaching the cluster of an environment.

use std::path::Path;
use std::sync::Arc;

use super::Context;
use crate::adapter::aws::Aws;
use crate::adapter::cluster_api::{Access, ClusterApi, Credential, Source};
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::read::plain;
use crate::model::name::ClusterName;
use crate::model::project::{Environment, Repository};
use crate::model::secret::Secret;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::desired::Records;

/// The API's address; wins over the repository, and needs none.
const ENDPOINT: &str = "FLEETWRIGHT_CLUSTER_ENDPOINT";
/// A token; wins over the identity that the AWS credentials have.
const TOKEN: &str = "FLEETWRIGHT_CLUSTER_TOKEN";
/// The authority: a PEM file, or PEM itself.
const AUTHORITY: &str = "FLEETWRIGHT_CLUSTER_CA";

/// What is kept of a cluster in the project's bucket.
pub struct KeptRecords {
    /// Of its services.
    pub services: Arc<dyn Records>,
    /// Of its jobs.
    pub jobs: Arc<dyn Records>,
}

impl Context {
    /// The cluster of the environment that was asked for. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When fleetwright.yaml is not right, or a variable that this needs is not set.
    pub async fn cluster(&self) -> Result<Arc<dyn Cluster>, Failure> {
        Ok(self.cluster_api().await?)
    }

    /// Like [`Context::cluster`], for `command`, which changes something of it: a protected environment must be
    /// named.
    ///
    /// # Errors
    /// Also when it was not.
    pub async fn cluster_to_change(&self, command: &str) -> Result<Arc<dyn Cluster>, Failure> {
        Ok(self.cluster_api_to_change(command).await?)
    }

    /// Like [`Context::cluster_api`], for `command`, which changes something of it.
    ///
    /// # Errors
    /// Also when the environment is protected and was not named.
    pub async fn cluster_api_to_change(&self, command: &str) -> Result<Arc<ClusterApi>, Failure> {
        // With an address of its own a command needs no repository, and then there is none to ask.
        if variable(ENDPOINT).is_none() || self.root().is_ok() {
            self.may_change(command)?;
        }
        self.cluster_api().await
    }

    /// Refuses `command` where the environment is protected and was not named.
    ///
    /// # Errors
    /// When it is, or fleetwright.yaml is not right.
    pub fn may_change(&self, command: &str) -> Result<(), Failure> {
        let repository = self.project()?;
        may_change(self, self.environment(&repository)?, command)
    }

    /// The API of the cluster of the environment that was asked for. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When fleetwright.yaml is not right, or a variable that this needs is not set.
    pub async fn cluster_api(&self) -> Result<Arc<ClusterApi>, Failure> {
        if let Some(endpoint) = variable(ENDPOINT) {
            let credential = match token() {
                Some(token) => token,
                None => Credential::Person(Aws::connect(None, None).await.prove()),
            };
            return Ok(Arc::new(ClusterApi::new(Source::Fixed(access(&endpoint, credential)?))));
        }
        let repository = self.project()?;
        let environment = self.environment(&repository)?;
        self.cluster_api_of(&repository, environment).await
    }

    /// The cluster of `environment`.
    ///
    /// # Errors
    /// When a variable that this needs is not set.
    pub async fn cluster_of(
        &self,
        repository: &Repository,
        environment: &Environment,
    ) -> Result<Arc<dyn Cluster>, Failure> {
        Ok(self.cluster_api_of(repository, environment).await?)
    }

    /// Refuses `command`, which is about two environments, where a variable names the cluster of one.
    ///
    /// # Errors
    /// When it does.
    pub fn two_clusters(&self, command: &str) -> Result<(), Failure> {
        if variable(ENDPOINT).is_none() {
            return Ok(());
        }
        Err(Failure::usage(
            format!("{ENDPOINT} names one cluster, and `{command}` needs two"),
            format!("run it without that variable: `env -u {ENDPOINT} {command}`"),
        ))
    }

    /// The name of the cluster of the environment that was asked for.
    ///
    /// # Errors
    /// When fleetwright.yaml is not right.
    pub fn cluster_name(&self) -> Result<ClusterName, Failure> {
        let repository = self.project()?;
        Ok(self.environment(&repository)?.cluster.clone())
    }

    /// What is kept of its services in the project's bucket.
    ///
    /// # Errors
    /// When fleetwright.yaml is not right, or a variable that this needs is not set.
    pub async fn records(&self) -> Result<KeptRecords, Failure> {
        let repository = self.project()?;
        let environment = self.environment(&repository)?;
        let aws = self.aws(environment).await?;
        let (project, name) = (&repository.project, environment.name.as_str());
        let cluster = environment.cluster.as_str();
        Ok(KeptRecords {
            services: aws.records(project, name, cluster),
            jobs: aws.job_records(project, name, cluster),
        })
    }

    /// The API of the cluster of `environment`.
    ///
    /// # Errors
    /// When a variable that this needs is not set.
    pub async fn cluster_api_of(
        &self,
        repository: &Repository,
        environment: &Environment,
    ) -> Result<Arc<ClusterApi>, Failure> {
        let unset = |unset: crate::model::setting::Unset| Failure::Invalid {
            diagnostics: vec![unset.diagnostic()],
            files: repository.files,
        };
        let credential = match token() {
            Some(token) => token,
            None => Credential::Person(self.aws(environment).await?.prove()),
        };
        if let Some(endpoint) = variable(ENDPOINT) {
            return Ok(Arc::new(ClusterApi::new(Source::Fixed(access(&endpoint, credential)?))));
        }
        let configured =
            repository.cluster(&environment.cluster).and_then(|cluster| cluster.endpoint.as_ref());
        if let Some(endpoint) = configured {
            let endpoint = endpoint.get().map_err(unset)?;
            return Ok(Arc::new(ClusterApi::new(Source::Fixed(access(endpoint, credential)?))));
        }
        let prefix =
            prefix(repository.project.as_str(), environment.name.as_str(), environment.cluster.as_str());
        let parameters = self.aws(environment).await?.parameters();
        Ok(Arc::new(ClusterApi::new(Source::Rendezvous { parameters, prefix, credential })))
    }
}

/// Where members of a cluster find each other in the parameter store.
pub fn prefix(project: &str, environment: &str, cluster: &str) -> String {
    format!("/fleetwright/{project}/{environment}/{cluster}")
}

/// What a command says when the cluster did not do what it asked.
pub fn failure(error: &ClusterError) -> Failure {
    match error {
        ClusterError::Unreachable { .. } => Failure::failed(
            error.to_string(),
            "control machines may still be starting: see `fleetwright plan`, and the agent's journal on one of them",
        ),
        ClusterError::NotFound { what: "service", .. } => {
            Failure::usage(error.to_string(), "`fleetwright status` lists the services")
        }
        ClusterError::NotFound { what: "revision", .. } => {
            Failure::usage(error.to_string(), "`fleetwright status SERVICE` lists those that are kept")
        }
        ClusterError::NotFound { what: "job", .. } => {
            Failure::usage(error.to_string(), "`fleetwright job ls` lists the jobs")
        }
        ClusterError::NotFound { what: "watched file", .. } => {
            Failure::usage(error.to_string(), "`fleetwright host-file ls` lists the watched files")
        }
        ClusterError::NotFound { what: "token", .. } => {
            Failure::usage(error.to_string(), "`fleetwright cluster token list` lists the tokens")
        }
        ClusterError::NotFound { .. } => {
            Failure::usage(error.to_string(), "`fleetwright machines` lists the machines")
        }
        ClusterError::Refused { .. } => {
            Failure::failed(error.to_string(), "nothing was taken away; try again then")
        }
        ClusterError::Denied { .. } => {
            Failure::failed(error.to_string(), "ask an admin of the environment, or use other credentials")
        }
        ClusterError::Engine { .. } => {
            Failure::failed(error.to_string(), "see the agent's journal on a control machine")
        }
    }
}

fn token() -> Option<Credential> {
    variable(TOKEN).map(|token| {
        crate::model::redact::Mask::process().learn(&token);
        Credential::Token(Secret::new(token))
    })
}

fn access(endpoint: &str, credential: Credential) -> Result<Access, Failure> {
    let authority = match variable(AUTHORITY) {
        Some(text) if text.trim_start().starts_with("-----BEGIN") => Some(text),
        Some(path) => Some(plain(Path::new(&path)).map_err(|error| {
            Failure::usage(
                format!("reading the cluster's authority from {path}: {error}"),
                format!("set {AUTHORITY} to a PEM file, or to PEM itself"),
            )
        })?),
        None => None,
    };
    let endpoints = endpoint.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
    if authority.is_none() && !matches!(credential, Credential::Token(_)) {
        return Err(Failure::usage(
            format!(
                "the cluster's address is given, and not its authority ({AUTHORITY} is not set), so no identity can be proved to it"
            ),
            format!("set {AUTHORITY} to the cluster's `ca-cert`, or set {TOKEN}"),
        ));
    }
    Ok(Access { endpoints, credential, authority })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
