//! Watched files as machines would render them, from what the cluster knows now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::Utc;

use super::context::cluster::failure;
use super::failure::Failure;
use crate::host_file::{Surroundings, reason, render};
use crate::model::host_file::{Definition, Feed, HostFileSpec};
use crate::model::machine::Machine;
use crate::model::project::{Environment, Repository};
use crate::plan::host_file::{HostFilePlan, World, compare, feed};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::host_files::{HostFileCluster, ReadKeys};

/// What files are rendered from.
pub struct Known {
    world: World,
    /// What is deployed, sorted by name.
    pub deployed: Vec<Definition>,
    surroundings: Surroundings,
}

impl Known {
    /// Asks the cluster for everything that `wanted` and what is deployed of them may use.
    ///
    /// # Errors
    /// When the cluster does not answer, or the caller may not read it.
    pub async fn ask(
        cluster: &(impl Cluster + HostFileCluster + ReadKeys),
        repository: &Repository,
        environment: &Environment,
        wanted: &[&HostFileSpec],
    ) -> Result<Self, Failure> {
        let deployed = cluster.host_files().await.map_err(|error| failure(&error))?;
        let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
        let of_names = deployed.iter().map(|file| &file.spec);
        let all = of_names
            .filter(|spec| wanted.iter().any(|one| one.name == spec.name))
            .chain(wanted.iter().copied());
        let prefixes: BTreeSet<&String> = all.flat_map(|spec| &spec.keys).collect();
        let prefixes: Vec<String> = prefixes.into_iter().cloned().collect();
        let keys = if prefixes.is_empty() {
            BTreeMap::new()
        } else {
            cluster.read_keys(&prefixes).await.map_err(|error| failure(&error))?
        };
        let world = World { keys, ..World::default() }.observed(&snapshot.machines, &snapshot.services);
        let mut surroundings = Surroundings::still(
            repository.project.as_str(),
            environment.name.as_str(),
            environment.cluster.as_str(),
            Utc::now(),
        );
        // Each machine asks its own resolver: nothing is compared by what this computer's would say.
        surroundings.lookup = Arc::new(|name| Err(format!("`{name}` is only looked up on the machine")));
        Ok(Self { world, deployed, surroundings })
    }

    /// The machines.
    pub fn machines(&self) -> &[Machine] {
        &self.world.machines
    }

    /// What is deployed under that name.
    pub fn deployed(&self, spec: &HostFileSpec) -> Option<&HostFileSpec> {
        self.deployed.iter().map(|file| &file.spec).find(|one| one.name == spec.name)
    }

    /// The file as `machine` would render it.
    ///
    /// # Errors
    /// Why it can't be rendered, in one line.
    pub fn render(&self, spec: &HostFileSpec, machine: &Machine) -> Result<String, String> {
        let files = vec![Arc::new(Definition { number: 0, spec: spec.clone() })];
        let world = World { files, ..self.world.clone() };
        let Feed { facts, .. } = feed(&world, &machine.id);
        render(spec, &facts, &self.surroundings).map_err(|error| reason(&error, &spec.source))
    }

    /// What deploying `wanted` would change.
    pub fn plan(&self, wanted: &HostFileSpec) -> HostFilePlan {
        compare(self.deployed(wanted), wanted, self.machines(), |spec, machine| self.render(spec, machine))
    }
}

/// What deploying the watched files `wanted` would change. A cluster whose agents do not know them yet is refused when
/// they are deployed, and has none before.
///
/// # Errors
/// When the cluster does not answer, or the caller may not read it.
pub async fn plans(
    cluster: &(impl Cluster + HostFileCluster + ReadKeys),
    repository: &Repository,
    environment: &Environment,
    wanted: &[&HostFileSpec],
) -> Result<Vec<HostFilePlan>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known = Known::ask(cluster, repository, environment, wanted).await?;
    Ok(wanted.iter().map(|spec| known.plan(spec)).collect())
}

/// A watched file that the cluster does not have.
pub fn not_deployed(name: &str) -> Failure {
    failure(&ClusterError::NotFound { what: "watched file", name: name.to_owned() })
}
