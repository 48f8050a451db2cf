//! What a run does, taken from the infra repository when the run begins.

use std::collections::BTreeMap;

use crate::model::git_ref::RefKind;
use crate::model::later::{Known, LaterVariable};
use crate::model::name::{CommitId, EnvironmentName, PipelineName, RepositoryName, ServiceName};
use crate::model::pipeline::{Action, Pipeline, Supersede, values};
use crate::model::project::{Environment, Repository};
use crate::model::run::{
    After, BuildSpec, Question, Run, RunConfig, ScriptSpec, StepAction, Trigger, secret_file,
};
use crate::model::setting::Unset;
use crate::model::stack::Piece;
use crate::plan::conditions::Begun;
use crate::plan::release::{DependsOn, groups};
use crate::plan::scope;
use crate::port::git::{GitError, GitRemote, GitSource, Located};
use crate::repo::{OwnProblems, own_steps};

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
    /// A pipeline names a job that is not there.
    #[error("pipeline `{pipeline}` runs job `{job}`, which jobs/ does not have")]
    NoJob {
        /// The pipeline.
        pipeline: PipelineName,
        /// The job.
        job: String,
    },
    /// The environment has no registry.
    #[error("environment `{0}` has no `registry`, which pipelines need")]
    NoRegistry(EnvironmentName),
    /// The value of a service's variable was not looked up.
    #[error("the value of `{0}` is not known")]
    NotKnown(Piece),
    /// A secret that is not for this run.
    #[error("{0}")]
    Secret(String),
    /// A parameter has no value, or one that it can't have.
    #[error("{0}")]
    Parameters(String),
    /// An environment variable is not set.
    #[error(transparent)]
    Unset(#[from] Unset),
}

/// The pipeline of that name.
///
/// # Errors
/// When there is none.
pub fn named<'r>(repository: &'r Repository, name: &PipelineName) -> Result<&'r Pipeline, ConfigError> {
    repository.pipeline(name).ok_or_else(|| ConfigError::NoPipeline(name.clone()))
}

/// The pipeline with the steps that its git repository has at `commit`, where it has them itself.
///
/// # Errors
/// When the mirror, the file or a step in it can't be read.
pub async fn with_own_steps(
    git: &dyn GitRemote,
    repository: &Repository,
    pipeline: &Pipeline,
    commit: &CommitId,
) -> Result<Pipeline, OwnError> {
    let Some(own) = &pipeline.own else { return Ok(pipeline.clone()) };
    let name = &pipeline.repository;
    match git.locate(name, commit, &own.file).await? {
        Located::File { blob, .. } => {
            let text = git.blob(name, &blob).await?;
            let (pipeline, odd) = own_steps(repository, pipeline, own, &text)?;
            odd.iter().for_each(|warning| tracing::warn!(file = own.file, "{}", warning.message));
            Ok(pipeline)
        }
        _ => Err(OwnError::NoFile { file: own.file.clone(), pipeline: pipeline.name.clone() }),
    }
}

/// Why the steps of a commit can't be had.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The commit can't be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It has no such file.
    #[error("the commit has no file `{file}`, in which pipeline `{pipeline}` has its steps")]
    NoFile {
        /// The file's path.
        file: String,
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// The file has faults.
    #[error(transparent)]
    Steps(#[from] OwnProblems),
}

/// The variables of the services and jobs that `pipeline` rolls out or runs, as far as their values have to be looked up.
pub fn later<'r>(
    repository: &'r Repository,
    environment: &Environment,
    pipeline: &Pipeline,
) -> Vec<&'r LaterVariable> {
    let services = pipeline.steps.iter().flat_map(|step| match &step.action {
        Action::Rollout(rollout) => rollout.services.as_slice(),
        Action::Build(_) | Action::Run(_) | Action::Approve(_) | Action::Job(_) | Action::Infra(_) => &[],
    });
    let services = services.filter_map(|service| repository.service(service, &environment.name));
    let jobs = pipeline.steps.iter().filter_map(|step| match &step.action {
        Action::Job(run) => repository.job(&run.job, &environment.name),
        _ => None,
    });
    services.flat_map(|wanted| &wanted.later).chain(jobs.flat_map(|wanted| &wanted.later)).collect()
}

/// Freezes what a run of `pipeline` does now in `environment`.
///
/// # Errors
/// When something that it names is not there, or it was given a parameter that the pipeline does not have.
pub fn freeze(
    repository: &Repository,
    environment: &Environment,
    (pipeline, run): (&Pipeline, &Run),
    known: &Known,
) -> Result<RunConfig, ConfigError> {
    let registry =
        environment.registry.as_ref().ok_or_else(|| ConfigError::NoRegistry(environment.name.clone()))?;
    let registries = (registry.push.get()?, registry.pull.get()?);
    let config = frozen(repository, environment, (pipeline, run), Some(known), registries)?;
    match scope::refusal(environment, run, &config) {
        Some(reason) => Err(ConfigError::Secret(reason)),
        None => Ok(config),
    }
}

/// What a run of `pipeline` does on somebody's own computer, where nothing is rolled out and no value is looked up.
///
/// # Errors
/// When something that it names is not there, or it was given a parameter that the pipeline does not have.
pub fn freeze_locally(
    repository: &Repository,
    environment: &Environment,
    (pipeline, run): (&Pipeline, &Run),
    registry: &str,
) -> Result<RunConfig, ConfigError> {
    frozen(repository, environment, (pipeline, run), None, (registry, registry))
}

fn frozen(
    repository: &Repository,
    environment: &Environment,
    (found, run): (&Pipeline, &Run),
    known: Option<&Known>,
    (push, pull): (&str, &str),
) -> Result<RunConfig, ConfigError> {
    let pipeline = &run.pipeline;
    let begun = Begun { trigger: run.trigger, reference: run.reference.as_ref() };
    let parameters = values(&found.parameters, &run.parameters).map_err(ConfigError::Parameters)?;
    // Whose pull request it is makes no difference to a command.
    let trigger = if run.trigger.is_pull_request() { Trigger::PullRequest } else { run.trigger };
    let mut context = BTreeMap::from([("FLEETWRIGHT_TRIGGER".to_owned(), trigger.word().to_owned())]);
    if let Some(reference) = &run.reference {
        context.insert("FLEETWRIGHT_REF".to_owned(), reference.as_str().to_owned());
        match reference.kind() {
            RefKind::Branch(branch) => context.insert("FLEETWRIGHT_BRANCH".to_owned(), branch.to_owned()),
            RefKind::Tag(tag) => context.insert("FLEETWRIGHT_TAG".to_owned(), tag.to_owned()),
            RefKind::PullRequest(number) => {
                context.insert("FLEETWRIGHT_PULL_REQUEST".to_owned(), number.to_string())
            }
        };
    }
    context.extend(parameters);
    let frozen = found.steps.iter().map(|step| match &step.action {
        Action::Approve(approve) => Ok(StepAction::Approve(Question {
            name: approve.name.clone(),
            message: approve.message.clone(),
            level: approve.level,
        })),
        Action::Build(build) => Ok::<_, ConfigError>(StepAction::Build(BuildSpec {
            image: build.image.clone(),
            context: build.context.clone(),
            dockerfile: build.dockerfile.clone(),
            args: build.args.clone(),
            target: build.target.clone(),
            secrets: build.secrets.clone(),
        })),
        Action::Run(script) => Ok(StepAction::Run(Box::new(ScriptSpec {
            name: script.name.clone(),
            image: script.image.clone(),
            command: script.command.clone(),
            env: context
                .clone()
                .into_iter()
                .chain(script.env.clone())
                .chain(script.secret_files.iter().map(|name| (name.clone(), secret_file(name))))
                .collect(),
            secrets: script.secrets.clone(),
            retries: script.retries,
            limits: script.limits,
            companions: script.companions.clone(),
            caches: script.caches.clone(),
            artifacts: script.artifacts.clone(),
            reports: script.reports.clone(),
        }))),
        Action::Job(run) => {
            let wanted = repository.job(&run.job, &environment.name);
            let wanted = wanted
                .ok_or_else(|| ConfigError::NoJob { pipeline: pipeline.clone(), job: run.job.to_string() })?;
            let Some(known) = known else { return Ok(StepAction::Job(Box::new(wanted.spec.clone()))) };
            let ready = wanted.ready(known).map_err(|piece| ConfigError::NotKnown(piece.clone()))?;
            Ok(StepAction::Job(Box::new(ready.spec)))
        }
        Action::Infra(spec) => Ok(StepAction::Infra(spec.clone())),
        Action::Rollout(rollout) => {
            let mut specs = ordered(repository, environment, &rollout.services)
                .into_iter()
                .map(|service| {
                    let wanted = repository.service(&service, &environment.name);
                    let wanted = wanted.ok_or_else(|| ConfigError::NoService {
                        pipeline: pipeline.clone(),
                        service: service.to_string(),
                    })?;
                    let Some(known) = known else { return Ok(wanted.spec.clone()) };
                    let ready = wanted.ready(known).map_err(|piece| ConfigError::NotKnown(piece.clone()))?;
                    Ok::<_, ConfigError>(ready.spec)
                })
                .collect::<Result<Vec<_>, _>>()?;
            Ok(match (specs.pop(), specs.is_empty()) {
                (Some(only), true) => StepAction::Rollout(Box::new(only)),
                (last, _) => StepAction::Release(specs.into_iter().chain(last).collect()),
            })
        }
    });
    // The files of the commit are put into the workspace before the first command, and beside everything else.
    let first = usize::from(found.steps.iter().any(|step| matches!(step.action, Action::Run(_))));
    let mut steps = vec![StepAction::Source; first];
    for step in frozen {
        steps.push(step?);
    }
    let mut needs = vec![Vec::new(); first];
    let mut timeouts = vec![None; first];
    let mut after = vec![After::default(); first];
    let mut left_out = BTreeMap::new();
    for (index, step) in found.steps.iter().enumerate() {
        after.push(step.when.after);
        left_out.extend(begun.left_out(step).map(|reason| (index + first, reason)));
        let source = matches!(step.action, Action::Run(_)).then_some(0);
        needs.push(source.into_iter().chain(step.needs.iter().map(|need| need + first)).collect());
        timeouts.push(step.timeout.map(|timeout| timeout.as_secs()));
    }
    Ok(RunConfig {
        environment: environment.name.to_string(),
        push: push.to_owned(),
        pull: pull.to_owned(),
        steps,
        needs,
        timeouts,
        after: if after.iter().all(|after| *after == After::Success) { Vec::new() } else { after },
        left_out,
        supersede: found.supersede == Supersede::Running,
        taken: None,
    })
}

/// The services, each after those that it depends on.
fn ordered(repository: &Repository, environment: &Environment, services: &[ServiceName]) -> Vec<ServiceName> {
    let all = repository.services.iter().map(|service| service.in_environment(&environment.name));
    let depends_on: DependsOn = all
        .map(|wanted| {
            let names = wanted.depends_on.iter().map(|(name, _)| name.clone()).collect();
            (wanted.spec.name.clone(), names)
        })
        .collect();
    groups(services, &depends_on).concat()
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
