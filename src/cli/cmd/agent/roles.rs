//! Serves the credentials of roles to the containers of this machine, and keeps containers away from the machine's own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bollard::Docker;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::Background;
use crate::adapter::metadata_rule;
use crate::adapter::role_listeners::{self, ListenError, RoleContainer};
use crate::driver::role::TaskRole;
use crate::model::role::TokenHash;
use crate::port::roles::AskCredentials;
use crate::server::role_api::{self, Roles};

/// How often containers are looked for, whatever the engine reports.
const LOOK: Duration = Duration::from_secs(10);
/// The same while one of them can't be served, or the engine does not answer.
const SOON: Duration = Duration::from_secs(2);
/// How often the rules are checked.
const RULES: Duration = Duration::from_secs(15);

/// Serves them, until this is dropped.
pub(super) fn serve(docker: Docker, control: Arc<dyn AskCredentials>) -> Background {
    Background::spawn(async move {
        let (mut served, mut shared) = (HashMap::new(), Shared::default());
        loop {
            let mut changes = role_listeners::changes(&docker);
            loop {
                let all = look(&docker, &control, &mut served, &mut shared).await;
                match timeout(if all { LOOK } else { SOON }, changes.next()).await {
                    Ok(Some(())) | Err(_) => {}
                    // The engine has gone, and its containers may have.
                    Ok(None) => break,
                }
            }
            sleep(SOON).await;
        }
    })
}

/// What is served to a container, and what was last reported where nothing is.
enum Served {
    Open(#[expect(dead_code, reason = "it serves until it is dropped")] Background),
    /// With others that share the machine's network, by its token.
    Shared(TokenHash),
    Failed(String),
}

impl Served {
    fn token(&self) -> Option<&TokenHash> {
        match self {
            Self::Shared(token) => Some(token),
            Self::Open(_) | Self::Failed(_) => None,
        }
    }
}

/// The placeholders of units, which share the machine's network.
#[derive(Default)]
struct Shared {
    roles: Arc<RwLock<HashMap<TokenHash, Arc<TaskRole>>>>,
    open: Option<Background>,
}

impl Shared {
    /// Serves whoever shows the token of that container.
    async fn add(
        &mut self,
        docker: &Docker,
        container: &RoleContainer,
        control: &Arc<dyn AskCredentials>,
    ) -> Result<TokenHash, ListenError> {
        let token = role_listeners::token(docker, container).await?;
        if self.open.is_none() {
            let (listener, roles) =
                (role_listeners::listen_shared()?, Roles::ByToken(Arc::clone(&self.roles)));
            self.open = Some(Background::spawn(async move {
                if let Err(error) = role_api::serve(listener, roles).await {
                    tracing::warn!(%error, "serving the credentials of units' roles");
                }
            }));
        }
        let role = Arc::new(TaskRole::new(container.task.clone(), Arc::clone(control)));
        self.roles.write().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), role);
        Ok(token)
    }

    /// Keeps those alone whose containers run. Another instance of a service has the same token: it is added again.
    fn keep(&mut self, tokens: &HashSet<TokenHash>) {
        self.roles.write().unwrap_or_else(PoisonError::into_inner).retain(|token, _| tokens.contains(token));
        if tokens.is_empty() {
            self.open = None;
        }
    }
}

/// Begins to serve containers that are new, and ends with those that have ended; whether all are served.
async fn look(
    docker: &Docker,
    control: &Arc<dyn AskCredentials>,
    served: &mut HashMap<RoleContainer, Served>,
    shared: &mut Shared,
) -> bool {
    let found = match role_listeners::containers(docker).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "looking for containers with a role");
            return false;
        }
    };
    let ended: HashSet<TokenHash> = served
        .iter()
        .filter(|(container, _)| !found.contains(container))
        .filter_map(|(_, one)| one.token().cloned())
        .collect();
    // What served the token of an ended one asks for its task, which is gone: others of that token begin again.
    served.retain(|container, one| {
        found.contains(container) && one.token().is_none_or(|token| !ended.contains(token))
    });
    shared.keep(&served.values().filter_map(|one| one.token().cloned()).collect());
    for container in found {
        if matches!(served.get(&container), Some(Served::Open(_) | Served::Shared(_))) {
            continue;
        }
        let listener = match role_listeners::listen(docker, &container).await {
            Err(ListenError::Shared) => match shared.add(docker, &container, control).await {
                Ok(token) => {
                    tracing::debug!(task = container.task, "serving the credentials of a role");
                    served.insert(container, Served::Shared(token));
                    continue;
                }
                Err(error) => Err(error),
            },
            listener => listener,
        };
        match listener {
            Ok(listener) => {
                let role = Arc::new(TaskRole::new(container.task.clone(), Arc::clone(control)));
                let task = container.task.clone();
                tracing::debug!(task, "serving the credentials of a role");
                let open = Background::spawn(async move {
                    if let Err(error) = role_api::serve(listener, Roles::One(role)).await {
                        tracing::warn!(task, %error, "serving the credentials of a role");
                    }
                });
                served.insert(container, Served::Open(open));
            }
            Err(error) => {
                let reason = error.to_string();
                let reported =
                    matches!(served.get(&container), Some(Served::Failed(last)) if *last == reason);
                if !reported {
                    tracing::warn!(task = container.task, %error, "the credentials of a role can't be served");
                }
                served.insert(container, Served::Failed(reason));
            }
        }
    }
    served.values().all(|one| !matches!(one, Served::Failed(_)))
}

/// Keeps the rules, until this is dropped.
pub(super) fn guard() -> Background {
    Background::spawn(async move {
        let mut reported = String::new();
        loop {
            match metadata_rule::ensure_for_containers().await {
                Ok(()) => reported.clear(),
                Err(reason) => {
                    if reason != reported {
                        tracing::warn!(
                            reason,
                            "containers can't be kept from the machine's metadata service by a rule; only its hop limit does"
                        );
                    }
                    reported = reason;
                }
            }
            // A chain that is not there yet will be, once the engine runs.
            sleep(if reported.is_empty() { RULES } else { SOON }).await;
        }
    })
}
