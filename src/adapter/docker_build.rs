//! Images: built by the Docker Engine on this machine, kept in the environment's registry.

use std::collections::HashMap;

use async_trait::async_trait;
use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::{BuildImageOptions, PushImageOptionsBuilder};
use futures_util::StreamExt;
use tokio::sync::OnceCell;

use super::output;
pub use super::registry::CredentialSource;
use super::registry::Registry;
use crate::model::name::Digest;
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::images::{BuildRequest, ImageError, ImageStore, Lines};

/// The Docker Engine and one registry.
pub struct DockerImages {
    docker: Docker,
    registry: Registry,
    platform: OnceCell<String>,
    mask: Mask,
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
            registry: Registry::new(host.into(), credentials),
            platform: OnceCell::new(),
            mask,
        })
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
                Err(error) => return Err(failed(error, Some((host, &name)))),
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
        let platform = self.platform.get_or_try_init(|| async {
            let version = self.docker.version().await.map_err(|error| failed(error, None))?;
            let os = version.os.unwrap_or_else(|| "linux".into());
            Ok(format!("{os}/{}", version.arch.unwrap_or_default()))
        });
        platform.await.cloned()
    }

    async fn digest(&self, reference: &str) -> Result<Option<Digest>, ImageError> {
        if has_host(reference) {
            self.registry.digest(reference).await
        } else {
            self.registry.digest(&self.qualified(reference)).await
        }
    }

    async fn build(&self, request: BuildRequest, lines: Lines<'_>) -> Result<(), ImageError> {
        let options = BuildImageOptions {
            dockerfile: request.dockerfile,
            t: Some(format!("{}:{}", self.qualified(&request.image), request.tag)),
            buildargs: (!request.args.is_empty()).then(|| request.args.into_iter().collect()),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let credentials = self.registry.credentials().await?.map(|credentials| {
            let one = |host: &String| (host.clone(), docker_credentials(&credentials, host));
            credentials.hosts.iter().map(one).collect::<HashMap<_, _>>()
        });
        let context = bollard::body_try_stream(request.context);
        let mut progress = Box::pin(self.docker.build_image(options, credentials, Some(context)));
        // A step's output may hold a secret, cut anywhere; the builder's own words come whole.
        let mut output = output::Lines::new(&self.mask);
        let mut take = |line: &str| {
            if !line.is_empty() {
                lines(line);
            }
        };
        while let Some(info) = progress.next().await {
            let info = info.map_err(|error| failed(error, None))?;
            if let Some(words) = info.stream {
                output.push(words.as_bytes(), &mut take);
            }
            // The progress of a layer comes many times a second; its end is enough.
            if let (Some(status), None) = (info.status, info.progress_detail) {
                match info.id {
                    Some(id) => lines(&format!("{id}: {status}")),
                    None => lines(&status),
                }
            }
        }
        output.end(&mut take);
        Ok(())
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

/// Whether the name of an image begins with a registry's host, by Docker's rule.
fn has_host(reference: &str) -> bool {
    reference.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

/// What an error of the engine means. `push` names the registry and image of a push,
/// whose failures come as text only.
fn failed(error: Error, push: Option<(&str, &str)>) -> ImageError {
    match (error, push) {
        (Error::DockerStreamError { error }, Some((host, image))) => {
            let away =
                ["dial tcp", "connection re", "timeout", "EOF", "no such host", "TLS handshake", "status: 5"];
            if away.iter().any(|sign| error.contains(sign)) {
                ImageError::Registry { host: host.to_owned(), reason: error }
            } else {
                ImageError::Refused {
                    host: host.to_owned(),
                    doing: format!("the push of `{image}`"),
                    reason: error,
                }
            }
        }
        (Error::DockerStreamError { error }, None) => ImageError::Build { reason: error },
        (Error::DockerResponseServerError { message, .. }, _) => ImageError::Build { reason: message },
        (other, _) => ImageError::Builder { reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_folders() {
        for host in ["localhost/a", "127.0.0.1:5000/a/b", "registry.internal/a"] {
            assert!(has_host(host), "{host}");
        }
        for name in ["a", "demo/base", "a:5"] {
            assert!(!has_host(name), "{name}");
        }
    }

    #[test]
    fn failures_of_a_push_tell_an_absent_registry_from_one_that_refuses() {
        let failure = |text: &str| {
            let error = Error::DockerStreamError { error: text.into() };
            failed(error, Some(("r:1", "r:1/demo/web"))).is_transient()
        };
        assert!(failure("Get \"https://r:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"));
        assert!(failure("received unexpected HTTP status: 503 Service Unavailable"));
        assert!(!failure("unauthorized: authentication required"));
    }
}
