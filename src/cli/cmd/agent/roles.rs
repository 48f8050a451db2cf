//! Serves the credentials of roles to the containers of this machine, and keeps containers away from the machine's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::Background;
use crate::adapter::metadata_rule;
use crate::adapter::role_listeners::{self, RoleContainer};
use crate::driver::role::TaskRole;
use crate::port::roles::AskCredentials;
use crate::server::role_api;

/// How often containers are looked for, whatever the engine reports.
const LOOK: Duration = Duration::from_secs(10);
/// The same while one of them can't be served, or the engine does not answer.
const SOON: Duration = Duration::from_secs(2);
/// How often the rules are checked.
const RULES: Duration = Duration::from_secs(15);

/// Serves them, until this is dropped.
pub(super) fn serve(docker: Docker, control: Arc<dyn AskCredentials>) -> Background {
    Background::spawn(async move {
        let mut served = HashMap::new();
        loop {
            let mut changes = role_listeners::changes(&docker);
            loop {
                let all = look(&docker, &control, &mut served).await;
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
    Failed(String),
}

/// Begins to serve containers that are new, and ends with those that have ended; whether all are served.
async fn look(
    docker: &Docker,
    control: &Arc<dyn AskCredentials>,
    served: &mut HashMap<RoleContainer, Served>,
) -> bool {
    let found = match role_listeners::containers(docker).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "looking for containers with a role");
            return false;
        }
    };
    served.retain(|container, _| found.contains(container));
    for container in found {
        if matches!(served.get(&container), Some(Served::Open(_))) {
            continue;
        }
        match role_listeners::listen(docker, &container).await {
            Ok(listener) => {
                let role = Arc::new(TaskRole::new(container.task.clone(), Arc::clone(control)));
                let task = container.task.clone();
                tracing::debug!(task, "serving the credentials of a role");
                let open = Background::spawn(async move {
                    if let Err(error) = role_api::serve(listener, role).await {
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
    served.values().all(|one| matches!(one, Served::Open(_)))
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
