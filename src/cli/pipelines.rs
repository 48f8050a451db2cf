//! What `serve` works with: the infra repository, the parts that runs need, and where it keeps its state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::sys::stat::{Mode, umask};
use tokio::sync::{mpsc, watch};

use super::context::Context;
use super::failure::Failure;
use super::infra_steps::OwnCommands;
use super::later::{in_place, look_up_in};
use super::protect::may_change;
use crate::adapter::artifacts::ArtifactFolder;
use crate::adapter::aws::Aws;
use crate::adapter::cluster_api::ClusterApi;
use crate::adapter::commit_statuses::{ForgeComments, ForgeStatuses};
use crate::adapter::disk_space::DiskSpace;
use crate::adapter::docker_build::{CredentialSource, DockerImages};
use crate::adapter::git::Mirrors;
use crate::adapter::journal::{SqliteJournal, journal_path};
use crate::adapter::locks::FileLocks;
use crate::adapter::step_containers::EngineSteps;
use crate::adapter::step_logs::StepLogFolder;
use crate::driver::pipeline::config::{OwnError, freeze, later, named, with_own_steps};
use crate::driver::pipeline::masked::{MaskedJournal, MaskedLogs};
use crate::driver::pipeline::queue::Configure;
use crate::driver::pipeline::run::{Connect, Parts, SHOWN_MOST};
use crate::event::{Event, Events};
use crate::local::home::Home;
use crate::model::later::Known;
use crate::model::name::{CommitId, EnvironmentName};
use crate::model::pipeline::Pipeline;
use crate::model::project::{Environment, Registry, RegistryKind, Repository};
use crate::model::redact::Mask;
use crate::model::run::{Run, RunConfig};
use crate::model::setting::Unset;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::git::GitRemote;
use crate::port::jobs::JobCluster;
use crate::port::journal::JournalError;
use crate::port::parameters::Parameters;
use crate::port::store::Store;
use crate::repo;

/// Everything that pipelines of one environment need.
pub struct Workshop {
    /// The infra repository, as it was when the command began.
    pub repository: Repository,
    /// The environment.
    pub environment: Environment,
    /// The cluster.
    pub cluster: Arc<ClusterApi>,
    /// What runs need.
    pub parts: Parts,
    /// Where secrets are; `None` where AWS can't be used.
    pub parameters: Option<Arc<dyn Parameters>>,
    /// The project's bucket; `None` where AWS can't be used.
    pub store: Option<Arc<dyn Store>>,
    /// What happens.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Says what a run does, from the infra repository as it is then.
    pub configure: Arc<FromRepository>,
    /// The folder that holds the environment's journal.
    pub journal_folder: PathBuf,
}

impl Workshop {
    /// Puts it together for `command`; neither Docker nor registry nor cluster is asked anything yet.
    ///
    /// # Errors
    /// When the repository is not right, has no registry, or needs a variable that is not set.
    pub async fn open(context: &Context, command: &str) -> Result<Self, Failure> {
        let root = context.root()?;
        let repository = context.repository()?;
        let environment = context.environment(&repository)?.clone();
        may_change(context, &environment, command)?;
        let Some(registry) = &environment.registry else {
            return Err(Failure::usage(
                format!("environment `{}` has no registry, which pipelines need", environment.name),
                "add `registry` to it in fleetwright.yaml: `push`, `pull` and `push_credentials`",
            ));
        };
        for known in &repository.repositories {
            known.url.get().into_iter().for_each(|url| context.mask().learn_url(url));
        }
        let mut images = registry_images(context, &repository, &environment, registry).await?;
        // A pipeline may get secrets while this runs.
        let aws = context.aws(&environment).await.ok();
        if let Some(aws) = &aws {
            images = images.with_secrets(aws.parameters());
        }
        let mask = context.mask();
        let cluster = context.cluster_api_of(&repository, &environment).await?;
        let folder = state_folder(repository.project.as_str())?;
        // What git and SQLite write here is their user's alone as well.
        umask(Mode::S_IRWXG | Mode::S_IRWXO);
        let journal_folder = journal_folder(&folder, &repository, &environment);
        let place = journal_path(&journal_folder);
        let journal = SqliteJournal::open(&place).map_err(|error| journal_failure(&error))?;
        let images = Arc::new(images);
        // Two journals number their runs each for itself.
        let steps = Arc::new(EngineSteps::new(Arc::clone(&images), &place.display().to_string()));
        let (events, receiver) = Events::channel();
        let parts = Parts {
            git: Arc::new(Mirrors::new(folder.join("repos"))),
            images,
            storage: Arc::clone(&steps) as _,
            steps,
            // The engine keeps what it builds and runs beside most systems' data.
            space: Arc::new(DiskSpace::new(vec![folder.clone(), PathBuf::from("/var/lib/docker")])),
            artifacts: Arc::new(ArtifactFolder::new(place.with_file_name("artifacts"))),
            connect: Arc::new(Connected(Arc::clone(&cluster))),
            infra: Arc::new(OwnCommands::new(place.with_file_name("plans"), mask.clone())),
            comments: Arc::new(comments(&repository, aws.as_ref(), &mask)?),
            journal: Arc::new(MaskedJournal::new(journal, mask.clone())),
            logs: Arc::new(MaskedLogs::new(StepLogFolder::new(place.with_file_name("logs")), mask.clone())),
            locks: Arc::new(FileLocks::new(folder.join("locks"))),
            mask,
            events,
            changed: Arc::new(watch::Sender::new(0)),
            shown_most: SHOWN_MOST,
            troubles: Arc::default(),
            removed: Arc::default(),
        };
        let parameters = aws.as_ref().map(Aws::parameters);
        let store = aws.as_ref().map(|aws| aws.store(&repository.project));
        let valid = Mutex::new(Arc::new(repository.clone()));
        let git = Arc::clone(&parts.git);
        let configure =
            Arc::new(FromRepository { root, environment: environment.name.clone(), aws, git, valid });
        Ok(Self {
            repository,
            environment,
            cluster,
            parts,
            parameters,
            store,
            events: receiver,
            configure,
            journal_folder,
        })
    }
}

/// Pull requests at the forges of the repositories.
fn comments(repository: &Repository, aws: Option<&Aws>, mask: &Mask) -> Result<ForgeComments, Failure> {
    let targets: BTreeMap<_, _> = repository
        .repositories
        .iter()
        .filter_map(|found| Some((found.name.clone(), found.status.clone()?)))
        .collect();
    let forges = match aws {
        Some(aws) if !targets.is_empty() => Some(
            ForgeStatuses::new(aws.parameters(), mask.clone())
                .map_err(|error| Failure::failed(error.to_string(), "start it again"))?,
        ),
        _ => None,
    };
    Ok(ForgeComments::new(forges, targets))
}

/// Where an environment's images are built and kept; nobody is asked anything yet.
///
/// # Errors
/// When a variable that this needs is not set.
pub async fn registry_images(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
    registry: &Registry,
) -> Result<DockerImages, Failure> {
    let unset =
        |unset: Unset| Failure::Invalid { diagnostics: vec![unset.diagnostic()], files: repository.files };
    let credentials = match &registry.push_access {
        RegistryKind::Open => CredentialSource::None,
        RegistryKind::Ecr => CredentialSource::Ecr(context.aws(environment).await?.ecr()),
        RegistryKind::Parameter(name) => {
            let parameters = context.aws(environment).await?.parameters();
            let name = name.get().map_err(unset)?.to_owned();
            CredentialSource::Parameter { parameters, name }
        }
    };
    images(context, registry.push.get().map_err(unset)?, credentials)
}

/// Images of a registry.
///
/// # Errors
/// When DOCKER_HOST can't be used.
pub fn images(context: &Context, host: &str, credentials: CredentialSource) -> Result<DockerImages, Failure> {
    DockerImages::new(host, credentials, context.mask()).map_err(|error| {
        Failure::failed(error.to_string(), "see that DOCKER_HOST names a Docker daemon, or is not set")
    })
}

/// What a command says when the journal can't be used.
pub fn journal_failure(error: &JournalError) -> Failure {
    let next = match error {
        JournalError::Newer { .. } => "use the version of fleetwright that wrote it, or a later one",
        JournalError::Open { .. }
        | JournalError::Access { .. }
        | JournalError::Log(_)
        | JournalError::Ended { .. }
        | JournalError::Corrupt { .. } => {
            "see that the folder can be written and has space, or set FLEETWRIGHT_HOME to another"
        }
    };
    Failure::failed(error.to_string(), next)
}

/// `serve/PROJECT` in fleetwright's data folder.
pub(crate) fn state_folder(project: &str) -> Result<PathBuf, Failure> {
    let home = Home::from_env()
        .map_err(|error| Failure::usage(error.to_string(), "set FLEETWRIGHT_HOME to a folder"))?;
    Ok(home.root().join("serve").join(project))
}

/// Where the journal of an environment is: a run of one is no run of another. The one that lies beside those of
/// the environments was written by a version that had one for all of them; it stays the default environment's.
pub(crate) fn journal_folder(folder: &Path, repository: &Repository, environment: &Environment) -> PathBuf {
    let own = folder.join("environments").join(environment.name.as_str());
    let is_default = repository.environments.first().is_some_and(|first| first.name == environment.name);
    if is_default && journal_path(folder).exists() && !journal_path(&own).exists() {
        return folder.to_owned();
    }
    own
}

struct Connected(Arc<ClusterApi>);

#[async_trait]
impl Connect for Connected {
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Cluster>)
    }

    async fn jobs(&self) -> Result<Arc<dyn JobCluster>, ClusterError> {
        Ok(Arc::clone(&self.0) as Arc<dyn JobCluster>)
    }
}

/// How long a run waits for its repository's mirror, and the time between two tries.
const MIRRORED: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);

/// Reads the infra repository again for every run: its services and pipelines are those
/// of the moment when the run begins.
pub struct FromRepository {
    root: PathBuf,
    environment: EnvironmentName,
    /// The environment's account, for values of stacks and parameters.
    aws: Option<Aws>,
    /// The mirrors, for steps that git repositories have themselves.
    git: Arc<dyn GitRemote>,
    /// The repository as it was when it was valid last: a change that breaks it stops no run.
    valid: Mutex<Arc<Repository>>,
}

impl FromRepository {
    fn read(&self) -> Arc<Repository> {
        let mut valid = self.valid.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.root) {
            Ok(repository) => *valid = Arc::new(repository),
            Err(reason) => tracing::warn!(reason, "the run begins with what was valid before"),
        }
        Arc::clone(&valid)
    }

    /// The pipeline with the steps of the commit. After a restore, the mirror is fetched meanwhile.
    async fn with_own_steps(
        &self,
        repository: &Repository,
        pipeline: &Pipeline,
        commit: &CommitId,
    ) -> Result<Pipeline, String> {
        let until = Instant::now() + MIRRORED;
        loop {
            match with_own_steps(self.git.as_ref(), repository, pipeline, commit).await {
                Err(OwnError::Git(error)) if error.is_transient() && Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                found => return found.map_err(|error| error.to_string()),
            }
        }
    }
}

#[async_trait]
impl Configure for FromRepository {
    async fn config(&self, run: &Run) -> Result<RunConfig, String> {
        let repository = self.read();
        let environment = repository
            .environment(self.environment.as_str())
            .ok_or_else(|| format!("fleetwright.yaml has no environment `{}` any more", self.environment))?;
        let pipeline = named(&repository, &run.pipeline).map_err(|error| error.to_string())?;
        // A run that has begun keeps its steps.
        let pipeline = match &run.config {
            None => self.with_own_steps(&repository, pipeline, &run.commit).await?,
            Some(_) => pipeline.clone(),
        };
        let variables = later(&repository, environment, &pipeline);
        let known = match (&self.aws, variables.is_empty()) {
            (_, true) => Known::default(),
            (None, false) => return Err("values of stacks and parameters need AWS; `fleetwright deploy --plan` shows why it can't be used".into()),
            (Some(aws), false) => {
                let cloud = aws.cloud(aws.store(&repository.project), None);
                let parameters = aws.parameters();
                let found =
                    look_up_in(&repository, environment, &variables, cloud.as_ref(), parameters.as_ref());
                found.await.map_err(|error| in_place(&error))?
            }
        };
        let config = freeze(&repository, environment, (&pipeline, run), &known);
        let config = config.map_err(|error| error.to_string())?;
        // A run that has begun has what it needs, or its steps say what is gone.
        if let (None, Some(aws)) = (&run.config, &self.aws) {
            secrets_are_there(&config, &*aws.parameters()).await?;
        }
        Ok(config)
    }
}

/// Looks whether the parameters exist that steps have secrets in: before the first step, and not after the last hour. One
/// that can't be read now is left to its step, which tries again.
async fn secrets_are_there(config: &RunConfig, parameters: &dyn Parameters) -> Result<(), String> {
    for (step, _, name) in config.secrets() {
        if let Ok(None) = parameters.get(name).await {
            return Err(format!(
                "there is no parameter `{name}`, in which `{}` has a secret; store it with \
                 `aws ssm put-parameter --type SecureString --name {name}`",
                step.name()
            ));
        }
    }
    Ok(())
}

/// The repository, or its first error in one line.
///
/// # Errors
/// The first error of a repository that is not valid.
pub fn read(root: &Path) -> Result<Repository, String> {
    let diagnostics = match repo::load(root).finish() {
        Ok((repository, _)) => return Ok(repository),
        Err(diagnostics) => diagnostics,
    };
    let errors: Vec<_> = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    let Some(first) = errors.first() else { return Err("the infra repository is not valid".into()) };
    let more = match errors.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more; see `fleetwright validate`)"),
    };
    Err(format!("the infra repository is not valid: {}{more}", first.in_one_line()))
}
