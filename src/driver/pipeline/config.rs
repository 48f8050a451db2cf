//! What a run does, taken from the infra repository when the run begins.

use crate::model::name::{EnvironmentName, PipelineName, RepositoryName};
use crate::model::pipeline::Action;
use crate::model::project::{Environment, Repository};
use crate::model::run::{BuildSpec, RunConfig, StepAction};
use crate::model::setting::Unset;
use crate::port::git::GitSource;

/// Why a run can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The repository has no such pipeline.
    #[error("there is no pipeline `{0}`")]
    NoPipeline(PipelineName),
    /// The repository has no such environment.
    #[error("there is no environment `{0}`")]
    NoEnvironment(EnvironmentName),
    /// A pipeline names a git repository that is not there.
    #[error("pipeline `{pipeline}` is for repository `{repository}`, which fleetwright.yaml does not have")]
    NoRepository {
        /// The pipeline.
        pipeline: PipelineName,
        /// The git repository.
        repository: RepositoryName,
    },
    /// A pipeline names a service that is not there.
    #[error("pipeline `{pipeline}` rolls out service `{service}`, which services/ does not have")]
    NoService {
        /// The pipeline.
        pipeline: PipelineName,
        /// The service.
        service: String,
    },
    /// The environment has no registry.
    #[error("environment `{0}` has no `registry`, which pipelines need")]
    NoRegistry(EnvironmentName),
    /// An environment variable is not set.
    #[error(transparent)]
    Unset(#[from] Unset),
}

/// Freezes what `pipeline` does now in `environment`.
///
/// # Errors
/// When something that it names is not there.
pub fn freeze(
    repository: &Repository,
    environment: &Environment,
    pipeline: &PipelineName,
) -> Result<RunConfig, ConfigError> {
    let found = repository.pipeline(pipeline).ok_or_else(|| ConfigError::NoPipeline(pipeline.clone()))?;
    let registry =
        environment.registry.as_ref().ok_or_else(|| ConfigError::NoRegistry(environment.name.clone()))?;
    let steps = found.steps.iter().map(|step| match &step.action {
        Action::Build(build) => Ok(StepAction::Build(BuildSpec {
            image: build.image.clone(),
            context: build.context.clone(),
            dockerfile: build.dockerfile.clone(),
            args: build.args.clone(),
            target: build.target.clone(),
            secrets: build.secrets.clone(),
        })),
        Action::Rollout(rollout) => repository
            .service(&rollout.service, &environment.name)
            .map(|wanted| StepAction::Rollout(Box::new(wanted.spec.clone())))
            .ok_or_else(|| ConfigError::NoService {
                pipeline: pipeline.clone(),
                service: rollout.service.to_string(),
            }),
    });
    Ok(RunConfig {
        environment: environment.name.to_string(),
        push: registry.push.get()?.to_owned(),
        pull: registry.pull.get()?.to_owned(),
        steps: steps.collect::<Result<_, _>>()?,
        timeouts: found.steps.iter().map(|step| step.timeout.map(|timeout| timeout.as_secs())).collect(),
    })
}

/// Where the git repository called `name` is.
///
/// # Errors
/// When an environment variable is not set, or there is no such repository.
pub fn source(
    repository: &Repository,
    pipeline: &PipelineName,
    name: &RepositoryName,
) -> Result<GitSource, ConfigError> {
    let found = repository
        .repository(name)
        .ok_or_else(|| ConfigError::NoRepository { pipeline: pipeline.clone(), repository: name.clone() })?;
    Ok(GitSource {
        name: found.name.clone(),
        url: found.url.get()?.to_owned(),
        branch: found.branch.get()?.to_owned(),
    })
}
