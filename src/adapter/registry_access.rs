//! Access to the registry for the engine of a machine: the user and the authority that the
//! parameter store keeps.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::Deserialize;

use super::aws::ecr::{EcrHost, EcrTokens};
use super::swarm::{Credentials, Entries, RegistryCredentials};
use crate::model::image::EntryPoint;
use crate::model::name::Digest;
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;
use crate::port::cluster::ClusterError;
use crate::port::parameters::Parameters;

/// Where the engine looks for authorities of registries.
pub const CERTIFICATES: &str = "/etc/docker/certs.d";

/// How long a registry may take to accept a connection, and to answer.
const CONNECTING: Duration = Duration::from_secs(5);
const READING: Duration = Duration::from_secs(30);

/// Why access could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The parameter can't be read.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// There is no such parameter.
    #[error("there is no parameter `{0}`")]
    Missing(String),
    /// It is not what it should be. What it holds is never shown.
    #[error("parameter `{name}` is not the JSON of a registry's user (line {line})")]
    Malformed {
        /// Its name.
        name: String,
        /// Where it is wrong.
        line: usize,
    },
    /// A host's name can't be a folder.
    #[error("`{0}` is not the name of a registry")]
    Host(String),
    /// A file could not be written.
    #[error("writing {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

#[derive(Deserialize)]
struct Document {
    username: String,
    password: String,
    #[serde(default)]
    hosts: Vec<String>,
    ca_pem: Option<String>,
}

/// A registry's user and authority, kept in one parameter; for registries of ECR, a token in
/// exchange for the machine's own identity.
pub struct RegistryAccess {
    parameters: Arc<dyn Parameters>,
    name: String,
    ecr: Option<Arc<EcrTokens>>,
}

impl RegistryAccess {
    /// Access that the parameter of that name describes; nothing is read yet.
    pub fn new(parameters: Arc<dyn Parameters>, name: String) -> Self {
        Self { parameters, name, ecr: None }
    }

    /// The same, with `tokens` for registries of ECR.
    pub fn with_ecr(self, tokens: Arc<EcrTokens>) -> Self {
        Self { ecr: Some(tokens), ..self }
    }

    async fn read(&self) -> Result<Document, AccessError> {
        let value = self.parameters.get(&self.name).await?;
        let value = value.ok_or_else(|| AccessError::Missing(self.name.clone()))?;
        // The error's own words may quote what it stumbled over.
        let document: Document = serde_json::from_str(value.expose())
            .map_err(|error| AccessError::Malformed { name: self.name.clone(), line: error.line() })?;
        Mask::process().learn(&document.password);
        Ok(document)
    }

    /// The authority that signed the certificate of `registry`, where the parameter has one for it.
    async fn authority(&self, registry: &str) -> Result<Option<String>, AccessError> {
        if self.name.is_empty() {
            return Ok(None);
        }
        match self.read().await {
            Ok(document) => {
                Ok(document.ca_pem.filter(|_| document.hosts.iter().any(|host| host == registry)))
            }
            Err(AccessError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the authority where the engine looks for it, for every host of the registry.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub async fn install_authority(&self, folder: &Path) -> Result<(), AccessError> {
        let document = self.read().await?;
        let Some(pem) = &document.ca_pem else { return Ok(()) };
        for host in &document.hosts {
            let sane = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
            if host.is_empty() || host.starts_with('.') || !host.chars().all(sane) {
                return Err(AccessError::Host(host.clone()));
            }
            let path = folder.join(host).join("ca.crt");
            if std::fs::read_to_string(&path).is_ok_and(|present| present == *pem) {
                continue;
            }
            let written =
                std::fs::create_dir_all(folder.join(host)).and_then(|()| std::fs::write(&path, pem));
            written.map_err(|source| AccessError::Write { path: path.display().to_string(), source })?;
        }
        Ok(())
    }
}

#[async_trait]
impl Credentials for RegistryAccess {
    async fn of(&self, registry: &str) -> Result<Option<RegistryCredentials>, ClusterError> {
        if let Some(tokens) = self.ecr.as_ref().filter(|_| EcrHost::parse(registry).is_some()) {
            let token = tokens.token(registry).await.map_err(|error| ClusterError::Engine {
                doing: format!("reading the credentials of registry {registry}"),
                reason: error.to_string(),
            })?;
            return Ok(Some(RegistryCredentials {
                username: token.username,
                password: token.password,
                until: Some(token.until),
            }));
        }
        if self.name.is_empty() {
            return Ok(None);
        }
        match self.read().await {
            Ok(document) => {
                Ok(document.hosts.iter().any(|host| host == registry).then(|| RegistryCredentials {
                    username: document.username,
                    password: Secret::new(document.password),
                    until: None,
                }))
            }
            Err(AccessError::Missing(_)) => Ok(None),
            Err(error) => Err(ClusterError::Engine {
                doing: format!("reading the credentials of registry {registry}"),
                reason: error.to_string(),
            }),
        }
    }
}

#[async_trait]
impl Entries for RegistryAccess {
    async fn entry(&self, registry: &str, image: &str, digest: &Digest) -> Result<EntryPoint, ClusterError> {
        let name = format!("{registry}/{image}@{digest}");
        let failed = |reason: String| ClusterError::Engine {
            doing: format!("reading the configuration of image {name}"),
            reason,
        };
        let reference: Reference =
            name.parse().map_err(|error: oci_client::ParseError| failed(error.to_string()))?;
        let auth = match self.of(registry).await? {
            Some(user) => RegistryAuth::Basic(user.username, user.password.expose().clone()),
            None => RegistryAuth::Anonymous,
        };
        let mut config = ClientConfig {
            connect_timeout: Some(CONNECTING),
            read_timeout: Some(READING),
            ..ClientConfig::default()
        };
        if let Some(pem) = self.authority(registry).await.map_err(|error| failed(error.to_string()))? {
            let certificate = Certificate { encoding: CertificateEncoding::Pem, data: pem.into_bytes() };
            config.extra_root_certificates.push(certificate);
        }
        let client = Client::try_from(config).map_err(|error| failed(error.to_string()))?;
        let (.., text) = client
            .pull_manifest_and_config(&reference, &auth)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let image: ImageDocument = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let config = image.config.unwrap_or_default();
        Ok(EntryPoint {
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
        })
    }
}

/// The configuration of an image, by the OCI image specification 1.1, "OCI Image Configuration".
#[derive(Deserialize)]
struct ImageDocument {
    config: Option<Execution>,
}

#[derive(Default, Deserialize)]
struct Execution {
    #[serde(rename = "Entrypoint")]
    entrypoint: Option<Vec<String>>,
    #[serde(rename = "Cmd")]
    cmd: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// People write the parameter themselves: what the document shows them must be taken.
    #[test]
    fn the_documented_parameter_loads() {
        let text = include_str!("../../docs/engines.md");
        let shown =
            text.lines().find(|line| line.trim_start().starts_with("{\"username\"")).expect("it is shown");
        let read: Document = serde_json::from_str(shown).expect("a document");
        assert_eq!((read.hosts.len(), read.ca_pem.is_some()), (1, true));
    }

    #[test]
    fn every_recorded_parameter_loads() {
        for (name, text) in crate::source::samples::of("registry-credentials") {
            let read: Document =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((read.username.as_str(), read.hosts.len()), ("fleetwright", 1), "{name}");
        }
    }
}
