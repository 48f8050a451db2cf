//! What machines pull images with, kept up to date in the engine.
//!
//! The engine keeps the credentials that came with the last change of a service and gives them to
//! each machine that pulls for it. They are replaced when they have changed, by an update with the same
//! specification: the engine then replaces no instance, and the next machine that pulls uses the new
//! ones. A service carries a mark of the credentials it was given, so that a new leader changes nothing
//! while they are the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::{Node, NodeState, Service, ServiceSpec, ServiceUpdateStatusStateEnum as Update};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::engine::Change;
use super::observe::{self, Observed};
use super::{RegistryCredentials, Swarm, history};
use crate::port::cluster::ClusterError;

/// How long a leader must have led. Its machines report to it within seconds.
const SETTLED: Duration = Duration::from_secs(20);

/// The label of a service that identifies the credentials it was given: the mark of a [`Pull`].
const GIVEN: &str = "fleetwright.pulls-with";

/// What the engine is given to pull a service's image with. It can't be printed: it holds a password.
#[derive(Clone)]
pub struct Pull {
    credentials: DockerCredentials,
    mark: String,
}

impl Pull {
    /// What the engine is given, after the specification says so.
    pub(super) fn marking(self, spec: &mut Value) -> DockerCredentials {
        if let Some(spec) = spec.as_object_mut() {
            let labels = spec.entry("Labels").or_insert_with(|| Value::Object(Map::new()));
            labels[GIVEN] = self.mark.into();
        }
        self.credentials
    }
}

/// The specification of a new service that says what it is pulled with, and the credentials.
pub(super) fn marked(mut spec: ServiceSpec, pull: Option<Pull>) -> (ServiceSpec, Option<DockerCredentials>) {
    let Some(pull) = pull else { return (spec, None) };
    spec.labels.get_or_insert_default().insert(GIVEN.to_owned(), pull.mark);
    (spec, Some(pull.credentials))
}

/// Keeps what `before` says of its credentials: the engine keeps them as well.
pub(super) fn keep_mark(mut spec: ServiceSpec, before: Option<&ServiceSpec>) -> ServiceSpec {
    let mark = before.and_then(|before| before.labels.as_ref()?.get(GIVEN));
    if let Some(mark) = mark {
        spec.labels.get_or_insert_default().entry(GIVEN.to_owned()).or_insert_with(|| mark.clone());
    }
    spec
}

/// Whether a service needs no other credentials than it was given.
fn has(service: &Service, pull: &Pull, now: DateTime<Utc>) -> bool {
    let labels = service.spec.as_ref().and_then(|spec| spec.labels.as_ref());
    let Some(given) = labels.and_then(|labels| labels.get(GIVEN)) else { return false };
    // Credentials that expire differ with each request, so their time of expiry is compared instead.
    let lasts = |mark: &str| mark.strip_prefix(UNTIL).and_then(|text| text.parse::<DateTime<Utc>>().ok());
    match (lasts(given), lasts(&pull.mark)) {
        (Some(until), Some(_)) => now < until,
        _ => *given == pull.mark,
    }
}

/// What the mark of credentials that expire begins with.
const UNTIL: &str = "until ";

/// For how long this machine has led without a break, as far as it was asked.
#[derive(Clone, Default)]
pub struct Leading(Arc<Mutex<Option<Instant>>>);

impl Leading {
    fn time(&self, leads: bool, now: Instant) -> Option<Duration> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.filter(|_| leads).or(leads.then_some(now));
        *known = since;
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

/// The host of the registry that a service's image comes from.
fn registry(service: &Service) -> Option<&str> {
    let task = service.spec.as_ref()?.task_template.as_ref()?;
    let image = task.container_spec.as_ref()?.image.as_deref()?;
    image
        .split_once('/')
        .map(|(host, _)| host)
        .filter(|host| host.contains(['.', ':']) || *host == "localhost")
}

/// Identifies a user and password to whoever knows `key`. Everybody who may list services can read the
/// label that holds it, and could guess a weak password from a hash without a key.
fn hash(key: &str, user: &RegistryCredentials) -> String {
    let mut hash = Sha256::new();
    for part in [key, &user.username, user.password.expose()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
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
    /// What the image of a registry is pulled with; `None` where that takes nobody.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) async fn pull(&self, registry: &str) -> Result<Option<Pull>, ClusterError> {
        let Some(user) = self.credentials.of(registry).await? else { return Ok(None) };
        let mark = match user.until {
            Some(until) => format!("{UNTIL}{}", until.to_rfc3339()),
            None => hash(&self.engine.join_token().await?, &user),
        };
        let credentials = DockerCredentials {
            username: Some(user.username),
            password: Some(user.password.expose().clone()),
            serveraddress: Some(registry.to_owned()),
            ..Default::default()
        };
        Ok(Some(Pull { credentials, mark }))
    }

    /// What the image of a service is pulled with. When it can't be read now, what the engine has is
    /// as good as any: `None` keeps it.
    pub(super) async fn pull_again(&self, service: &Service) -> Option<Pull> {
        let registry = registry(service)?;
        match self.pull(registry).await {
            Ok(pull) => pull,
            Err(error) => {
                tracing::warn!(%error, registry, "going on with the credentials that the engine has");
                None
            }
        }
    }

    /// Gives the engine the registry's present credentials for every service whose last ones were
    /// others. Only the leading manager does, once it has led for a while; otherwise nothing is done, and
    /// `false` is returned. A service that is being rolled out is left for the next time: its rollout
    /// brought credentials of its own.
    ///
    /// # Errors
    /// When the engine does not answer, or the credentials of a registry can't be read; services of
    /// other registries have got theirs.
    pub async fn refresh_credentials(&self) -> Result<bool, ClusterError> {
        let refreshed = self.refresh().await;
        if refreshed.is_err() {
            // Without an answer it may have led no longer: a leader that comes back has just begun.
            self.leading.time(false, Instant::now());
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
        let leads_for = self.leading.time(leads, Instant::now());
        if leads_for.is_none_or(|time| time < SETTLED) || !all_heard(&observed.nodes) {
            return Ok(false);
        }
        let mut known: HashMap<String, Option<Pull>> = HashMap::new();
        let mut failed = None;
        for service in &observed.services {
            let Some(registry) = observe::name_of(service).and_then(|_| registry(service)) else { continue };
            if !known.contains_key(registry) {
                let pull = self.pull(registry).await.unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                });
                known.insert(registry.to_owned(), pull);
            }
            let Some(Some(pull)) = known.get(registry) else { continue };
            if !at_work(&observed, service) {
                self.give(service, pull).await?;
            }
        }
        failed.map_or(Ok(true), Err)
    }

    /// Gives the engine these credentials for a service, unless it has them.
    pub(super) async fn give(&self, service: &Service, pull: &Pull) -> Result<(), ClusterError> {
        if has(service, pull, Utc::now()) {
            return Ok(());
        }
        match self.engine.amend_service(service, |_| (), Some(pull.clone())).await {
            Ok(()) => {
                tracing::info!(
                    service = observe::name_of(service),
                    "the engine has the registry's new credentials"
                );
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
    use bollard::models::{TaskSpec, TaskSpecContainerSpec};

    use super::*;
    use crate::model::secret::Secret;

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
        let (leading, start) = (Leading::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(leading.time(true, at(0)), Some(Duration::ZERO));
        assert_eq!(leading.time(true, at(90)), Some(Duration::from_secs(90)));
        assert_eq!(leading.time(false, at(91)), None);
        assert_eq!(leading.time(true, at(95)), Some(Duration::ZERO), "it begins again");
    }

    fn user(name: &str, password: &str) -> RegistryCredentials {
        let password = Secret::new(password.to_owned());
        RegistryCredentials { username: name.to_owned(), password, until: None }
    }

    fn pull(mark: &str) -> Pull {
        Pull { credentials: DockerCredentials::default(), mark: mark.to_owned() }
    }

    fn given(mark: &str) -> Service {
        let mut spec = serde_json::json!({ "Name": "web" });
        pull(mark).marking(&mut spec);
        Service { spec: Some(serde_json::from_value(spec).expect("a specification")), ..Default::default() }
    }

    #[test]
    fn what_was_given_is_known_by_user_and_password() {
        assert_ne!(hash("k", &user("ab", "c")), hash("k", &user("a", "bc")));
        assert_ne!(hash("k", &user("a", "b")), hash("l", &user("a", "b")));
        let mark = hash("k", &user("a", "b"));
        let now = Utc::now();
        assert!(has(&given(&mark), &pull(&mark), now), "whichever machine leads");
        assert!(!has(&given(&mark), &pull(&hash("k", &user("a", "c"))), now));
        assert!(!has(&Service::default(), &pull(&mark), now));
    }

    #[test]
    fn credentials_that_expire_are_replaced_in_time_and_not_before() {
        let now = Utc::now();
        let until = |minutes| format!("{UNTIL}{}", (now + chrono::TimeDelta::minutes(minutes)).to_rfc3339());
        assert!(has(&given(&until(1)), &pull(&until(360)), now), "another token, and the old one lasts");
        assert!(!has(&given(&until(-1)), &pull(&until(360)), now));
        assert!(!has(&given("abc"), &pull(&until(360)), now) && !has(&given(&until(1)), &pull("abc"), now));
    }

    #[test]
    fn a_change_without_credentials_keeps_the_mark() {
        let kept = keep_mark(ServiceSpec::default(), given("abc").spec.as_ref());
        assert!(has(&Service { spec: Some(kept), ..Default::default() }, &pull("abc"), Utc::now()));
        assert_eq!(keep_mark(ServiceSpec::default(), None), ServiceSpec::default());
    }
}
