//! The project: what `fleetwright.yaml` and the files beside it say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::Policy;
use super::address::AddressPool;
use super::commit_status::StatusTarget;
use super::host_file::HostFileSpec;
use super::job::JobSpec;
use super::keep::Keep;
use super::later::LaterVariable;
use super::mount::Owned;
use super::name::{
    ClusterName, Digest, EnvironmentName, HostFileName, JobName, PipelineName, ProjectName, RepositoryName,
    ServiceName, StackName,
};
use super::notify::Receivers;
use super::pipeline::Pipeline;
use super::published::PublishedAgent;
use super::service::ServiceSpec;
use super::setting::{Place, Setting};
use super::stack::Stack;
use super::unit::OnDisconnect;
use crate::source::SourceFile;

/// An infra repository, read completely and found to be right.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The folder that holds `fleetwright.yaml`.
    pub root: PathBuf,
    /// The project's name.
    pub project: ProjectName,
    /// The environments, at least one; the first is the default.
    pub environments: Vec<Environment>,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The git repositories that pipelines watch.
    pub repositories: Vec<GitRepository>,
    /// What the pipeline server keeps.
    pub keep: Keep,
    /// The stacks, as they stand in the files (sorted by file name).
    pub stacks: Vec<Stack>,
    /// The services.
    pub services: Vec<Service>,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The watched files.
    pub host_files: Vec<HostFile>,
    /// The pipelines.
    pub pipelines: Vec<Pipeline>,
    /// Everything under `templates/`, named relative to the root.
    pub templates: Vec<Arc<SourceFile>>,
    /// How many files were read.
    pub files: usize,
}

impl Repository {
    /// The environment of that name.
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|environment| environment.name.as_str() == name)
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == *name)
    }

    /// The git repository of that name.
    pub fn repository(&self, name: &RepositoryName) -> Option<&GitRepository> {
        self.repositories.iter().find(|repository| repository.name == *name)
    }

    /// The stack of that name.
    pub fn stack(&self, name: &StackName) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.name == *name)
    }

    /// The service of that name, with the settings of `environment`.
    pub fn service(&self, name: &ServiceName, environment: &EnvironmentName) -> Option<&Wanted> {
        let service = self.services.iter().find(|service| service.name() == name)?;
        Some(service.in_environment(environment))
    }

    /// The job of that name, with the settings of `environment`.
    pub fn job(&self, name: &JobName, environment: &EnvironmentName) -> Option<&WantedJob> {
        let job = self.jobs.iter().find(|job| job.name() == name)?;
        Some(job.in_environment(environment))
    }

    /// The pipeline of that name.
    pub fn pipeline(&self, name: &PipelineName) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| pipeline.name == *name)
    }

    /// The name by which CloudFormation knows `stack` of `environment`; its group and
    /// launch template are called the same.
    pub fn cloud_name(&self, environment: &EnvironmentName, stack: &StackName) -> String {
        format!("{}-{environment}-{stack}", self.project)
    }
}

/// One place that the project runs in.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// The AWS region.
    pub region: Setting,
    /// The account it must be, 12 digits; any, where none is given.
    pub account: Option<Setting>,
    /// The role to be taken on first, by its ARN; the caller's own, where none is given.
    pub role: Option<Setting>,
    /// The cluster that runs services there.
    pub cluster: ClusterName,
    /// Where images are kept; needed by pipelines only.
    pub registry: Option<Registry>,
    /// Who may do what on its cluster: its own `access`, or else the project's.
    pub access: Option<Policy>,
    /// Whom its cluster notifies of what: its own `notify`, or else the project's.
    pub notify: Option<Receivers>,
    /// The pipeline server's address, `https://...`; the one on this machine, where none is given.
    pub server: Option<Setting>,
    /// The agent that its machines run: its own `agent`, or else the project's; `None` before one is published.
    pub agent: Option<PublishedAgent>,
    /// Which secrets steps of pipelines may have, and where; any that they name, where nothing is given.
    pub pipeline_secrets: Option<Vec<SecretScope>>,
    /// Whether it is changed only where it is named, and nothing of it is destroyed by `-y` alone.
    pub protect: bool,
    /// Where it stands.
    pub place: Place,
}

/// Which runs of pipelines may have a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretScope {
    /// The SSM parameter; `*` at the end stands for anything.
    pub parameter: String,
    /// The pipelines; all where there are none.
    pub pipelines: Vec<PipelineName>,
    /// Patterns of branches. Without any, and without tags, whatever a run is of.
    pub branches: Vec<String>,
    /// Patterns of tags.
    pub tags: Vec<String>,
}

/// Where an environment keeps its images.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Where builds push to, `host[:port]`.
    pub push: Setting,
    /// Where machines pull from, `host[:port]`; the same as `push` unless given.
    pub pull: Setting,
    /// Who may push.
    pub push_access: RegistryKind,
}

/// How a push identifies itself to a registry.
#[derive(Debug, Clone)]
pub enum RegistryKind {
    /// It wants nobody.
    Open,
    /// A user and password in an SSM parameter (SecureString) of this name.
    Parameter(Setting),
    /// ECR: the caller's own identity is exchanged for a token.
    Ecr,
}

/// A cluster as the repository describes it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// What schedules its services.
    pub engine: Engine,
    /// Its API's address; `None` finds control machines through the rendezvous.
    pub endpoint: Option<Setting>,
    /// Where its overlay networks lie.
    pub addresses: Addresses,
    /// Where it stands.
    pub place: Place,
}

/// The pool of a cluster, and the place to point at when it can't be used.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The pool; the default unless given.
    pub pool: AddressPool,
    /// Where it is set, or the name of the cluster.
    pub place: Place,
}

/// What schedules a cluster's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Docker's Swarm mode.
    Swarm,
}

/// A git repository that pipelines watch.
#[derive(Debug, Clone)]
pub struct GitRepository {
    /// Its name.
    pub name: RepositoryName,
    /// Where it is cloned from.
    pub url: Setting,
    /// The branch that is watched; `main` unless given.
    pub branch: Setting,
    /// The time between two looks; 30 s unless given.
    pub poll: Duration,
    /// The SSM parameters with the secrets that webhooks are signed with; none where no webhooks are taken.
    pub webhook: Vec<String>,
    /// Where the state of runs is reported.
    pub status: Option<StatusTarget>,
    /// Where it stands.
    pub place: Place,
}

/// A service and where it stands.
#[derive(Debug, Clone)]
pub struct Service {
    /// What is wanted where no environment says otherwise.
    pub wanted: Wanted,
    /// What is wanted in environments that have something of their own.
    pub environments: BTreeMap<EnvironmentName, Wanted>,
    /// Where its name stands.
    pub place: Place,
}

impl Service {
    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.wanted.spec.name
    }

    /// What is wanted in `environment`.
    pub fn in_environment(&self, environment: &EnvironmentName) -> &Wanted {
        self.environments.get(environment).unwrap_or(&self.wanted)
    }
}

/// The wanted state of a service in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is to run.
    pub spec: ServiceSpec,
    /// Where its image is kept, if it is a third-party image; otherwise pipelines build it, and the
    /// environment's registry keeps it.
    pub elsewhere: Option<Elsewhere>,
    /// The files that its containers get, before they are rendered.
    pub files: Vec<FileSource>,
    /// The units that it is made of, before they are rendered; `None` where it runs an image.
    pub units: Option<UnitSource>,
    /// Variables whose values are looked up when it is deployed.
    pub later: Vec<LaterVariable>,
    /// The services that are rolled out before it, and where they are named.
    pub depends_on: Vec<(ServiceName, Place)>,
}

/// The units of a service, as its file names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSource {
    /// The units that are started, and where they are named.
    pub start: Vec<(String, Place)>,
    /// Whether a copy is never started before the one that it replaces has stopped.
    pub exclusive: bool,
    /// What becomes of them where no control machine can be reached.
    pub on_disconnect: OnDisconnect,
    /// Whether the file says how many instances there are.
    pub counted: bool,
}

/// A template that is rendered to a file of a service's or job's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSource {
    /// The template's name, relative to `templates/`.
    pub template: String,
    /// The file's path in the container.
    pub target: String,
    /// Its owner and permission bits.
    pub owned: Owned,
    /// Where the template is named.
    pub place: Place,
}

/// A job and where it stands.
#[derive(Debug, Clone)]
pub struct Job {
    /// What is wanted where no environment says otherwise.
    pub wanted: WantedJob,
    /// What is wanted in environments that have something of their own.
    pub environments: BTreeMap<EnvironmentName, WantedJob>,
    /// Where its name stands.
    pub place: Place,
    /// Where its service is named, if it runs a service's image.
    pub service: Option<Place>,
}

impl Job {
    /// Its name.
    pub fn name(&self) -> &JobName {
        &self.wanted.spec.name
    }

    /// What is wanted in `environment`.
    pub fn in_environment(&self, environment: &EnvironmentName) -> &WantedJob {
        self.environments.get(environment).unwrap_or(&self.wanted)
    }
}

/// A watched file and where it stands.
#[derive(Debug, Clone)]
pub struct HostFile {
    /// What is wanted where no environment says otherwise.
    pub wanted: HostFileSpec,
    /// What is wanted in environments that have something of their own.
    pub environments: BTreeMap<EnvironmentName, HostFileSpec>,
    /// Where its name stands.
    pub place: Place,
}

impl HostFile {
    /// Its name.
    pub fn name(&self) -> &HostFileName {
        &self.wanted.name
    }

    /// What is wanted in `environment`.
    pub fn in_environment(&self, environment: &EnvironmentName) -> &HostFileSpec {
        self.environments.get(environment).unwrap_or(&self.wanted)
    }
}

/// The wanted state of a job in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedJob {
    /// What is to run, and when.
    pub spec: JobSpec,
    /// Where its image is kept, if it is a third-party image.
    pub elsewhere: Option<Elsewhere>,
    /// The files that its containers get, before they are rendered.
    pub files: Vec<FileSource>,
    /// Variables whose values are looked up when it is deployed.
    pub later: Vec<LaterVariable>,
}

/// A third-party image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The host of its registry.
    pub host: String,
    /// Its tag, where the file names one.
    pub tag: Option<String>,
    /// Its digest, where the file names one.
    pub digest: Option<Digest>,
    /// Its name as it stands in the file.
    pub shown: String,
}
