//! The registries that an environment's images are in.

use super::context::Context;
use super::failure::Failure;
use super::pipelines;
use crate::adapter::docker_build::{CredentialSource, DockerImages};
use crate::driver::deploy::Images;
use crate::model::project::{Environment, Repository};

/// Where images of an environment are looked up.
pub struct Registries {
    store: DockerImages,
    /// The hosts of the environment's registry: where it is pushed to, and where machines pull from.
    hosts: Option<(String, String)>,
}

impl Registries {
    /// Those of `environment`. Nothing is asked of them yet.
    ///
    /// # Errors
    /// When a variable that this needs is not set.
    pub async fn of(
        context: &Context,
        repository: &Repository,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let Some(registry) = &environment.registry else {
            let store = pipelines::images(context, "docker.io", CredentialSource::None)?;
            return Ok(Self { store, hosts: None });
        };
        let store = pipelines::registry_images(context, repository, environment, registry).await?;
        let hosts = Some((registry.push.get()?.to_owned(), registry.pull.get()?.to_owned()));
        Ok(Self { store, hosts })
    }

    /// As the driver takes them.
    pub fn images(&self) -> Images<'_> {
        let registry = self.hosts.as_ref().map(|(push, pull)| (push.as_str(), pull.as_str()));
        Images { store: &self.store, registry }
    }
}
