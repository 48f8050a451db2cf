//! What machines pull images with, kept up to date in the engine.
//!
//! The engine keeps the credentials that came with the last change of a service and gives them to
//! each machine that pulls for it. They are replaced when they have changed, by an update with the same
//! specification: the engine then replaces no instance (seen with 20.10.24), and the next machine that
//! pulls uses the new ones. That holds for a leader that knows its machines: one that had just begun to
//! lead after a long loss of the majority replaced every instance.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{Node, NodeState, Service, ServiceUpdateStatusStateEnum as Update};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::engine::{Change, Engine};
use super::observe::{self, Observed};
use super::{Credentials, Swarm, history};
use crate::port::cluster::ClusterError;

/// How long a leader must have led. Its machines report to it within seconds.
const SETTLED: Duration = Duration::from_secs(20);

/// What was last given to the engine for a service, by its id; hashed, since nobody needs it.
#[derive(Clone, Default)]
pub(super) struct Given(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    hashes: HashMap<String, [u8; 32]>,
    leads_since: Option<Instant>,
}

impl Given {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, service: &str, hash: [u8; 32]) -> bool {
        self.known().hashes.get(service) == Some(&hash)
    }

    fn note(&self, service: &str, hash: [u8; 32]) {
        self.known().hashes.insert(service.to_owned(), hash);
    }

    /// For how long this machine has led without a break, as far as it was asked.
    fn leads_for(&self, leads: bool, now: Instant) -> Option<Duration> {
        let mut known = self.known();
        let since = known.leads_since.filter(|_| leads).or(leads.then_some(now));
        known.leads_since = since;
        since.map(|since| now - since)
    }
}

/// Whether the leader has heard from every machine, or knows that it is down. Before that, a change
/// of a service that must move nothing may move it.
pub(super) fn all_heard(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| {
        let state = node.status.as_ref().and_then(|status| status.state);
        !matches!(state, None | Some(NodeState::UNKNOWN))
    })
}

/// The credentials for `registry`, as the engine takes them.
///
/// # Errors
/// When they can't be read.
pub(super) async fn of(
    source: &dyn Credentials,
    registry: &str,
) -> Result<Option<DockerCredentials>, ClusterError> {
    Ok(source.of(registry).await?.map(|user| DockerCredentials {
        username: Some(user.username),
        password: Some(user.password.expose().clone()),
        serveraddress: Some(registry.to_owned()),
        ..Default::default()
    }))
}

/// The credentials for the image of a service. When they can't be read now, those that the engine
/// has are as good as any: `None` keeps them.
pub(super) async fn for_service(source: &dyn Credentials, service: &Service) -> Option<DockerCredentials> {
    let registry = registry(service)?;
    match of(source, registry).await {
        Ok(credentials) => credentials,
        Err(error) => {
            tracing::warn!(%error, registry, "going on with the credentials that the engine has");
            None
        }
    }
}

/// The host of the registry that a service's image comes from.
fn registry(service: &Service) -> Option<&str> {
    let task = service.spec.as_ref()?.task_template.as_ref()?;
    let image = task.container_spec.as_ref()?.image.as_deref()?;
    image
        .split_once('/')
        .map(|(host, _)| host)
        .filter(|host| host.contains(['.', ':']) || *host == "localhost")
}

fn hash(credentials: &DockerCredentials) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&credentials.username, &credentials.password] {
        let part = part.as_deref().unwrap_or_default();
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Whether a change of a service would disturb its rollout, which the engine then forgets.
pub(super) fn at_work(observed: &Observed, service: &Service) -> bool {
    let update = service.update_status.as_ref().and_then(|update| update.state);
    let moves = matches!(
        update,
        Some(Update::UPDATING | Update::PAUSED | Update::ROLLBACK_STARTED | Update::ROLLBACK_PAUSED)
    );
    let records = observed.records(observe::name_of(service).unwrap_or_default());
    moves || !history::to_settle(&records, &observed.now(service)).is_empty()
}

impl Swarm {
    /// Gives the engine the registry's present credentials for every service whose last ones were
    /// others. Only the leading manager does, once it has led for a while; otherwise nothing is done, and
    /// `false` is returned. A service that is being
    /// rolled out is left for the next time: its rollout brought credentials of its own.
    ///
    /// # Errors
    /// When the engine does not answer, or the credentials of a registry can't be read; services of
    /// other registries have got theirs.
    pub async fn refresh_credentials(&self) -> Result<bool, ClusterError> {
        let refreshed = self.refresh().await;
        if refreshed.is_err() {
            // Without an answer it may have led no longer: a leader that comes back has just begun.
            self.given.leads_for(false, Instant::now());
        }
        refreshed
    }

    async fn refresh(&self) -> Result<bool, ClusterError> {
        let info = self.engine.docker().info().await;
        let info = info.map_err(|error| self.engine.error("asking which node this is", error))?;
        let me = info.swarm.and_then(|swarm| swarm.node_id);
        let observed = self.engine.observe().await?;
        let leads = observed.nodes.iter().any(|node| {
            node.id == me && node.manager_status.as_ref().is_some_and(|status| status.leader == Some(true))
        });
        let leads_for = self.given.leads_for(leads, Instant::now());
        if leads_for.is_none_or(|time| time < SETTLED) || !all_heard(&observed.nodes) {
            return Ok(false);
        }
        let mut known: HashMap<String, Option<DockerCredentials>> = HashMap::new();
        let mut failed = None;
        for service in &observed.services {
            let Some(registry) = observe::name_of(service).and_then(|_| registry(service)) else { continue };
            if !known.contains_key(registry) {
                match of(&*self.credentials, registry).await {
                    Ok(credentials) => drop(known.insert(registry.to_owned(), credentials)),
                    Err(error) => {
                        failed = Some(error);
                        known.insert(registry.to_owned(), None);
                    }
                }
            }
            let Some(Some(credentials)) = known.get(registry) else { continue };
            if !at_work(&observed, service) {
                self.give(&self.engine, service, credentials).await?;
            }
        }
        failed.map_or(Ok(true), Err)
    }

    /// Gives the engine these credentials for a service, unless it has them.
    pub(super) async fn give(
        &self,
        engine: &Engine,
        service: &Service,
        credentials: &DockerCredentials,
    ) -> Result<(), ClusterError> {
        let (Some(id), Some(spec), hash) = (&service.id, &service.spec, hash(credentials)) else {
            return Ok(());
        };
        if self.given.is(id, hash) {
            return Ok(());
        }
        match engine.update_service(service, spec.clone(), Some(credentials.clone())).await {
            Ok(()) => {
                tracing::info!(
                    service = observe::name_of(service),
                    "the engine has the registry's new credentials"
                );
                self.given.note(id, hash);
                Ok(())
            }
            // Whoever changed it meanwhile gave it credentials; the next time will tell.
            Err(Change::Outdated) => Ok(()),
            Err(Change::Failed(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ServiceSpec, TaskSpec, TaskSpecContainerSpec};

    use super::*;

    #[test]
    fn the_registry_is_the_host_of_the_image() {
        let service = |image: &str| Service {
            spec: Some(ServiceSpec {
                task_template: Some(TaskSpec {
                    container_spec: Some(TaskSpecContainerSpec {
                        image: Some(image.to_owned()),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(registry(&service("r.internal:5000/a/b@sha256:1")), Some("r.internal:5000"));
        assert_eq!(registry(&service("a/b@sha256:1")), None);
    }

    #[test]
    fn a_leader_that_has_just_begun_changes_no_service() {
        let node = |state| Node {
            status: Some(bollard::models::NodeStatus { state: Some(state), ..Default::default() }),
            ..Default::default()
        };
        let (ready, down, unknown) =
            (node(NodeState::READY), node(NodeState::DOWN), node(NodeState::UNKNOWN));
        assert!(all_heard(&[ready.clone(), down]));
        assert!(!all_heard(&[ready.clone(), unknown]));
        assert!(!all_heard(&[ready, Node::default()]));
        let (given, start) = (Given::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(given.leads_for(true, at(0)), Some(Duration::ZERO));
        assert_eq!(given.leads_for(true, at(90)), Some(Duration::from_secs(90)));
        assert_eq!(given.leads_for(false, at(91)), None);
        assert_eq!(given.leads_for(true, at(95)), Some(Duration::ZERO), "it begins again");
    }

    #[test]
    fn what_was_given_is_known_by_user_and_password() {
        let user = |name: &str, password: &str| {
            hash(&DockerCredentials {
                username: Some(name.to_owned()),
                password: Some(password.to_owned()),
                ..Default::default()
            })
        };
        assert_ne!(user("ab", "c"), user("a", "bc"));
        let given = Given::default();
        given.note("s", user("a", "b"));
        assert!(given.is("s", user("a", "b")) && !given.is("s", user("a", "c")));
    }
}
