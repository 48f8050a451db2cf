//! Images and containers of a run on somebody's own computer: what it builds stays on the engine, and is removed with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::query_parameters::RemoveImageOptions;

use super::docker_build::{DockerImages, failed};
use super::step_containers::EngineSteps;
use crate::model::name::Digest;
use crate::model::run::RunId;
use crate::model::secret::Secret;
use crate::model::step_container::{ContainerEnd, ContainerRequest};
use crate::model::step_files::StepFile;
use crate::port::cloud::CloudError;
use crate::port::images::{BuildRequest, ImageError, ImageStore, Lines};
use crate::port::parameters::{Parameter, Parameters, Protection, Readable};
use crate::port::step_containers::{Attempt, Printed, Program, StepContainers, Wanted, WorkspaceFiles};
use crate::port::streams::Process;

/// What a run has built.
#[derive(Debug, Default)]
struct Built {
    /// The ids of the images.
    ids: BTreeSet<String>,
    /// Names that were not there before.
    names: BTreeSet<String>,
}

/// Builds images and pushes none.
pub struct LocalImages {
    images: Arc<DockerImages>,
    built: Mutex<Built>,
}

impl LocalImages {
    /// Builds with `images`.
    pub fn new(images: Arc<DockerImages>) -> Self {
        Self { images, built: Mutex::default() }
    }

    /// The id of an image of the engine.
    async fn id(&self, name: &str) -> Result<Option<String>, ImageError> {
        match self.images.docker().inspect_image(name).await {
            Ok(found) => Ok(found.id),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(failed(error, None)),
        }
    }

    /// The id of an image that was built here, by the name and digest that steps give it.
    fn here(&self, reference: &str) -> Option<String> {
        let (_, digest) = reference.split_once('@')?;
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.ids.get(digest).cloned()
    }

    /// Removes the names of what was built, and what has no other name.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn remove(&self) -> Result<(), ImageError> {
        let names = std::mem::take(&mut self.built.lock().unwrap_or_else(PoisonError::into_inner).names);
        for name in names {
            match self.images.docker().remove_image(&name, None::<RemoveImageOptions>, None).await {
                Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => return Err(failed(error, None)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ImageStore for LocalImages {
    fn host(&self) -> &str {
        self.images.host()
    }

    async fn platform(&self) -> Result<String, ImageError> {
        self.images.platform().await
    }

    async fn engine(&self) -> Result<String, ImageError> {
        self.images.engine().await
    }

    async fn digest(&self, reference: &str) -> Result<Option<Digest>, ImageError> {
        self.images.digest(reference).await
    }

    async fn build(&self, request: BuildRequest, lines: Lines<'_>) -> Result<(), ImageError> {
        let name = format!("{}/{}:{}", self.host(), request.image, request.tag);
        if self.id(&name).await?.is_none() {
            self.built.lock().unwrap_or_else(PoisonError::into_inner).names.insert(name);
        }
        self.images.build(request, lines).await
    }

    async fn push(&self, image: &str, tag: &str, _lines: Lines<'_>) -> Result<Digest, ImageError> {
        let name = format!("{}/{image}:{tag}", self.host());
        let gone = |reason: String| ImageError::Build { reason, step: None };
        let id = self.id(&name).await?.ok_or_else(|| gone(format!("the engine has no `{name}` any more")))?;
        let digest = id.parse().map_err(|error| gone(format!("`{id}`, the id of `{name}`: {error}")))?;
        self.built.lock().unwrap_or_else(PoisonError::into_inner).ids.insert(id);
        Ok(digest)
    }

    async fn secrets(&self) -> Result<Vec<Secret<String>>, ImageError> {
        self.images.secrets().await
    }
}

/// Runs steps with what was built here, and keeps nothing.
pub struct LocalSteps {
    steps: EngineSteps,
    images: Arc<LocalImages>,
}

impl LocalSteps {
    /// Runs `steps` with the images that `images` has built.
    pub fn new(steps: EngineSteps, images: Arc<LocalImages>) -> Self {
        Self { steps, images }
    }

    /// Removes all that the run has left, images excepted.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn remove(&self, run: RunId) -> Result<(), ImageError> {
        self.steps.clear(run).await?;
        self.steps.remove_caches().await
    }
}

#[async_trait]
impl StepContainers for LocalSteps {
    async fn pull(&self, image: &str, lines: Lines<'_>) -> Result<(), ImageError> {
        match self.images.here(image) {
            Some(_) => Ok(()),
            None => self.steps.pull(image, lines).await,
        }
    }

    async fn prepare(&self, run: RunId, files: WorkspaceFiles) -> Result<(), ImageError> {
        self.steps.prepare(run, files).await
    }

    async fn create(
        &self,
        attempt: Attempt,
        request: &ContainerRequest,
        lines: Lines<'_>,
    ) -> Result<(), ImageError> {
        let mut request = request.clone();
        for image in std::iter::once(&mut request.image)
            .chain(request.companions.iter_mut().map(|companion| &mut companion.image))
        {
            if let Some(id) = self.images.here(image) {
                *image = id;
            }
        }
        self.steps.create(attempt, &request, lines).await
    }

    async fn follow(
        &self,
        attempt: Attempt,
        known: u64,
        printed: Printed<'_>,
    ) -> Result<ContainerEnd, ImageError> {
        self.steps.follow(attempt, known, printed).await
    }

    async fn collect(
        &self,
        attempt: Attempt,
        wanted: Wanted<'_>,
        folder: &Path,
    ) -> Result<Vec<StepFile>, ImageError> {
        self.steps.collect(attempt, wanted, folder).await
    }

    async fn dismiss(&self, attempt: Attempt) -> Result<(), ImageError> {
        self.steps.dismiss(attempt).await
    }

    async fn has_workspace(&self, run: RunId) -> Result<bool, ImageError> {
        self.steps.has_workspace(run).await
    }

    async fn copy_workspace(&self, from: RunId, to: RunId) -> Result<bool, ImageError> {
        self.steps.copy_workspace(from, to).await
    }

    async fn keep(&self, run: RunId, _steps: &[usize]) -> Result<(), ImageError> {
        self.steps.clear(run).await
    }

    async fn shell(
        &self,
        run: RunId,
        step: usize,
        secrets: &BTreeMap<String, String>,
        program: &Program,
    ) -> Result<Option<Process>, ImageError> {
        self.steps.shell(run, step, secrets, program).await
    }

    async fn clear(&self, run: RunId) -> Result<(), ImageError> {
        self.steps.clear(run).await
    }

    async fn left(&self) -> Result<Vec<RunId>, ImageError> {
        self.steps.left().await
    }
}

/// Secrets that were given with the command, by the parameters that hold them elsewhere.
pub struct GivenSecrets(pub BTreeMap<String, Secret<String>>);

impl GivenSecrets {
    fn fixed<T>(&self) -> Result<T, CloudError> {
        Err(CloudError::Denied {
            doing: "changing a parameter".to_owned(),
            reason: "a local run has the secrets that it was given".to_owned(),
        })
    }
}

#[async_trait]
impl Parameters for GivenSecrets {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        Ok(self.0.get(name).cloned())
    }

    async fn readable(&self, name: &str) -> Result<Option<Readable>, CloudError> {
        Ok(self.0.contains_key(name).then_some(Readable::Encrypted))
    }

    async fn list(&self, _prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        Ok(Vec::new())
    }

    async fn create_if_absent(
        &self,
        _name: &str,
        _value: &Secret<String>,
        _protection: Protection,
    ) -> Result<bool, CloudError> {
        self.fixed()
    }

    async fn put(
        &self,
        _name: &str,
        _value: &Secret<String>,
        _protection: Protection,
    ) -> Result<(), CloudError> {
        self.fixed()
    }

    async fn delete(&self, _name: &str) -> Result<bool, CloudError> {
        self.fixed()
    }
}
