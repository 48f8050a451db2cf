//! Images: built by the Docker Engine on this machine, kept in the environment's registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::{CreateImageOptionsBuilder, PushImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::sync::OnceCell;

use super::buildkit::{self, Address};
use super::metadata_rule;
pub use super::registry::CredentialSource;
use super::registry::Registry;
use crate::model::image::has_host;
use crate::model::name::Digest;
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;
use crate::port::images::{BuildRequest, ImageError, ImageStore, Lines};
use crate::port::parameters::Parameters;

/// The Docker Engine and one registry.
pub struct DockerImages {
    docker: Docker,
    address: Address,
    registry: Registry,
    /// The platform and the engine's version.
    engine: OnceCell<(String, String)>,
    mask: Mask,
    /// Where the secrets of builds are.
    parameters: Option<Arc<dyn Parameters>>,
}

impl DockerImages {
    /// Takes the Docker Engine where DOCKER_HOST or the default socket says; nothing is asked yet.
    ///
    /// # Errors
    /// When DOCKER_HOST makes no sense.
    pub fn new(
        host: impl Into<String>,
        credentials: CredentialSource,
        mask: Mask,
    ) -> Result<Self, ImageError> {
        let docker = Docker::connect_with_defaults()
            .map_err(|error| ImageError::Builder { reason: error.to_string() })?
            // A build can be silent for long; it is ended by dropping it.
            .with_timeout(std::time::Duration::from_secs(3600));
        Ok(Self {
            docker,
            address: Address::from_environment()?,
            registry: Registry::new(host.into(), credentials),
            engine: OnceCell::new(),
            mask,
            parameters: None,
        })
    }

    /// The same, with the secrets of builds in `parameters`.
    pub fn with_secrets(mut self, parameters: Arc<dyn Parameters>) -> Self {
        self.parameters = Some(parameters);
        self
    }

    /// The engine.
    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The host of the environment's registry.
    pub(super) fn registry_host(&self) -> &str {
        self.registry.host()
    }

    /// Where the engine listens, as an address.
    pub(super) fn endpoint(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix://{path}"),
            Address::Tcp(address) => format!("tcp://{address}"),
        }
    }

    /// Opens the stream that a request to `path` of the engine begins.
    pub(super) async fn hijack(
        &self,
        path: &str,
    ) -> Result<hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>, ImageError> {
        self.address.hijack(path).await
    }

    /// Masks these values from now on.
    pub(super) fn hide(&self, values: &[Secret<String>]) {
        self.mask.learn_all(values);
    }

    /// Whether the engine is on this computer.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Has the engine pull an image, unless it is there: with the environment's credentials from its registry, and
    /// without any from others.
    pub(super) async fn pull(&self, reference: &str, lines: Lines<'_>) -> Result<(), ImageError> {
        let credentials = match self.holds(reference) {
            true => self.registry.credentials().await?,
            false => None,
        };
        self.fetch(reference, credentials.as_ref(), lines).await
    }

    /// The secrets of a build, read again for each, and masked from now on.
    pub(super) async fn read_secrets(
        &self,
        names: &BTreeMap<String, String>,
    ) -> Result<HashMap<String, Secret<String>>, ImageError> {
        let mut secrets = HashMap::new();
        for (id, name) in names {
            let failed = |reason: String| ImageError::Build {
                reason: format!("secret `{id}`, parameter `{name}`: {reason}"),
                step: None,
            };
            let parameters =
                self.parameters.as_ref().ok_or_else(|| failed("there is no store of parameters".into()))?;
            let value = match parameters.get(name).await {
                Ok(Some(value)) => value,
                Ok(None) => return Err(failed("there is no such SSM parameter".into())),
                Err(CloudError::Unreachable { .. }) => {
                    return Err(ImageError::Credentials {
                        parameter: name.clone(),
                        reason: "SSM can't be reached".into(),
                        transient: true,
                    });
                }
                Err(error) => return Err(failed(error.to_string())),
            };
            self.mask.learn_all(std::slice::from_ref(&value));
            secrets.insert(id.clone(), value);
        }
        Ok(secrets)
    }

    async fn push_once(&self, image: &str, tag: &str, lines: Lines<'_>) -> Result<Digest, ImageError> {
        let name = self.qualified(image);
        let host = self.registry.host();
        let credentials = self.registry.credentials().await?;
        let credentials = credentials.as_ref().filter(|credentials| credentials.are_for(host));
        let options = PushImageOptionsBuilder::default().tag(tag).build();
        let credentials = credentials.map(|credentials| docker_credentials(credentials, host));
        let mut progress = Box::pin(self.docker.push_image(&name, Some(options), credentials));
        while let Some(info) = progress.next().await {
            let info = match info {
                Ok(info) => info,
                Err(error) => return Err(failed(error, Some((host, "the push of", &name)))),
            };
            let quiet = info.progress_detail.as_ref().is_none_or(|detail| detail.current.is_none());
            if let (Some(status), true) = (info.status, quiet)
                && status != "Preparing"
                && status != "Waiting"
            {
                lines(&status);
            }
        }
        drop(progress);
        let reference = format!("{name}:{tag}");
        self.registry.digest(&reference).await?.ok_or_else(|| ImageError::Refused {
            host: host.to_owned(),
            doing: format!("`{reference}`"),
            reason: "it was pushed, and the registry does not have it".into(),
        })
    }

    /// Whether an image is of the environment's registry.
    fn holds(&self, reference: &str) -> bool {
        reference.split_once('/').is_some_and(|(host, _)| host == self.registry.host())
    }

    /// Has the engine pull an image of the environment's registry, unless it is there. BuildKit takes
    /// what the engine has. By itself it knows no authority that was put into `/etc/docker/certs.d`
    /// after the engine started, and no TLS at a registry on this computer (seen with 20.10.24).
    async fn fetch(
        &self,
        reference: &str,
        credentials: Option<&super::registry::Credentials>,
        lines: Lines<'_>,
    ) -> Result<(), ImageError> {
        match self.docker.inspect_image(reference).await {
            Ok(_) => return Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed(error, None)),
        }
        let host = reference.split_once('/').map_or(reference, |(host, _)| host);
        let credentials = credentials.filter(|credentials| credentials.are_for(host));
        let credentials = credentials.map(|credentials| docker_credentials(credentials, host));
        lines(&format!("pulling {reference}"));
        let options = CreateImageOptionsBuilder::default().from_image(reference).build();
        let mut progress = Box::pin(self.docker.create_image(Some(options), None, credentials));
        while let Some(info) = progress.next().await {
            info.map_err(|error| failed(error, Some((host, "the pull of", reference))))?;
        }
        Ok(())
    }

    /// The platform and the version of the engine.
    async fn asked(&self) -> Result<&(String, String), ImageError> {
        let asked = self.engine.get_or_try_init(|| async {
            let version = self.docker.version().await.map_err(|error| failed(error, None))?;
            let os = version.os.unwrap_or_else(|| "linux".into());
            let platform = format!("{os}/{}", version.arch.unwrap_or_default());
            Ok((platform, version.version.unwrap_or_default()))
        });
        asked.await
    }

    fn qualified(&self, image: &str) -> String {
        format!("{}/{image}", self.registry.host())
    }
}

#[async_trait]
impl ImageStore for DockerImages {
    fn host(&self) -> &str {
        self.registry.host()
    }

    async fn platform(&self) -> Result<String, ImageError> {
        Ok(self.asked().await?.0.clone())
    }

    async fn engine(&self) -> Result<String, ImageError> {
        Ok(self.asked().await?.1.clone())
    }

    async fn digest(&self, reference: &str) -> Result<Option<Digest>, ImageError> {
        if has_host(reference) {
            self.registry.digest(reference).await
        } else {
            self.registry.digest(&self.qualified(reference)).await
        }
    }

    async fn build(&self, request: BuildRequest, lines: Lines<'_>) -> Result<(), ImageError> {
        // An engine elsewhere has a metadata service of its own, which is its owner's to guard.
        if self.is_here() {
            metadata_rule::ensure(&self.docker).await?;
        }
        let name = format!("{}:{}", self.qualified(&request.image), request.tag);
        let credentials = self.registry.credentials().await?;
        let secrets = self.read_secrets(&request.secrets).await?;
        for base in request.bases.iter().filter(|base| self.holds(base)) {
            self.fetch(base, credentials.as_ref(), lines).await?;
        }
        let answers = buildkit::Answers { credentials, secrets };
        buildkit::build(&self.address, request, &name, answers, &self.mask, lines).await
    }

    async fn push(&self, image: &str, tag: &str, lines: Lines<'_>) -> Result<Digest, ImageError> {
        match self.push_once(image, tag, lines).await {
            // The password may have been changed since it was read.
            Err(ImageError::Refused { .. }) if self.registry.can_change() => {
                self.registry.forget().await;
                self.mask.learn_all(&self.secrets().await?);
                self.push_once(image, tag, lines).await
            }
            result => result,
        }
    }

    async fn secrets(&self) -> Result<Vec<Secret<String>>, ImageError> {
        Ok(match self.registry.credentials().await? {
            Some(credentials) => {
                let pair = format!("{}:{}", credentials.username, credentials.password.expose());
                vec![credentials.password, Secret::new(pair)]
            }
            None => Vec::new(),
        })
    }
}

fn docker_credentials(credentials: &super::registry::Credentials, host: &str) -> DockerCredentials {
    DockerCredentials {
        username: Some(credentials.username.clone()),
        password: Some(credentials.password.expose().clone()),
        serveraddress: Some(host.to_owned()),
        ..DockerCredentials::default()
    }
}

/// What an error of the engine means. `transfer` names the registry, what was done and the image of
/// a push or pull, whose failures come as text only.
pub(super) fn failed(error: Error, transfer: Option<(&str, &str, &str)>) -> ImageError {
    match (error, transfer) {
        (Error::DockerStreamError { error }, Some((host, doing, image))) => {
            let away =
                ["dial tcp", "connection re", "timeout", "EOF", "no such host", "TLS handshake", "status: 5"];
            if away.iter().any(|sign| error.contains(sign)) {
                ImageError::Registry { host: host.to_owned(), reason: error }
            } else {
                ImageError::Refused {
                    host: host.to_owned(),
                    doing: format!("{doing} `{image}`"),
                    reason: error,
                }
            }
        }
        (Error::DockerStreamError { error }, None) => ImageError::Build { reason: error, step: None },
        (Error::DockerResponseServerError { message, .. }, _) => {
            ImageError::Build { reason: message, step: None }
        }
        (other, _) => ImageError::Builder { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_a_push_tell_an_absent_registry_from_one_that_refuses() {
        let failure = |text: &str| {
            let error = Error::DockerStreamError { error: text.into() };
            failed(error, Some(("r:1", "the push of", "r:1/demo/web"))).is_transient()
        };
        assert!(failure("Get \"https://r:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"));
        assert!(failure("received unexpected HTTP status: 503 Service Unavailable"));
        assert!(!failure("unauthorized: authentication required"));
    }
}
