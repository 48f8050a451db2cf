//! Webhooks: a forge, or whoever knows a repository's secret, says that something was pushed. What a webhook says is not
//! believed: its repository is looked at, a moment earlier than it would have been.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde_json::json;
use tokio::sync::Notify;

use super::pipeline::{Pipelines, refusal};
use crate::model::secret::Secret;
use crate::plan::webhook::{Signature, check};
use crate::port::parameters::Parameters;

/// The largest body, in bytes. Nothing is read from it.
pub const BODY_MOST: usize = 5 << 20;
/// How many signatures are remembered, so that a repeated webhook is refused.
const REMEMBERED: usize = 10_000;
/// How long secrets are kept. A new one counts after that.
const FRESH: Duration = Duration::from_secs(60);

/// A repository that webhooks are taken for.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The SSM parameters with the secrets that are valid.
    pub secrets: Vec<String>,
    /// Wakes whoever looks at the repository.
    pub hint: Arc<Notify>,
}

/// Secrets, and when they were read.
struct Known {
    at: Instant,
    secrets: Vec<Secret<String>>,
}

/// The repositories that webhooks are taken for.
pub struct Hooks {
    repositories: RwLock<BTreeMap<String, Hook>>,
    /// Where secrets are; `None` where there is no AWS.
    parameters: Option<Arc<dyn Parameters>>,
    known: Mutex<HashMap<String, Known>>,
    seen: Mutex<VecDeque<Signature>>,
}

impl Hooks {
    /// For those repositories, by their names.
    pub fn new(repositories: BTreeMap<String, Hook>, parameters: Option<Arc<dyn Parameters>>) -> Self {
        Self {
            repositories: RwLock::new(repositories),
            parameters,
            known: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Takes webhooks for those repositories from now on.
    pub fn replace(&self, repositories: BTreeMap<String, Hook>) {
        *self.repositories.write().unwrap_or_else(PoisonError::into_inner) = repositories;
        lock(&self.known).clear();
    }

    /// What is known of a repository that webhooks are taken for.
    fn of(&self, name: &str) -> Option<Hook> {
        self.repositories.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The secrets that are valid now.
    async fn secrets(&self, name: &str, hook: &Hook) -> Result<Vec<Secret<String>>, String> {
        if let Some(known) = lock(&self.known).get(name).filter(|known| known.at.elapsed() < FRESH) {
            return Ok(known.secrets.clone());
        }
        let parameters = self.parameters.as_ref().ok_or("AWS can't be used")?;
        let mut secrets = Vec::new();
        for parameter in &hook.secrets {
            // One of two may not be set yet, or not any more.
            secrets.extend(parameters.get(parameter).await.map_err(|error| error.to_string())?);
        }
        let known = Known { at: Instant::now(), secrets: secrets.clone() };
        lock(&self.known).insert(name.to_owned(), known);
        Ok(secrets)
    }

    /// Whether this signature is seen for the first time.
    fn is_new(&self, signature: Signature) -> bool {
        let mut seen = lock(&self.seen);
        if seen.contains(&signature) {
            return false;
        }
        seen.push_back(signature);
        if seen.len() > REMEMBERED {
            seen.pop_front();
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a webhook.
pub async fn hook(
    State(server): State<Pipelines>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let hooks = &server.hooks;
    let Some(hook) = hooks.of(&name) else {
        return refusal(StatusCode::NOT_FOUND, "not-found", "no webhooks are taken for such a repository");
    };
    let secrets = match hooks.secrets(&name, &hook).await {
        Ok(secrets) => secrets,
        Err(reason) => {
            tracing::warn!(repository = name, reason, "reading the secret of webhooks");
            let message = "the secret of the repository's webhooks can't be read";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "unreadable", message);
        }
    };
    secrets.iter().for_each(|secret| server.parts.mask.learn(secret.expose()));
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match check(header, &body, &secrets, Utc::now()) {
        Err(refused) => refusal(StatusCode::UNAUTHORIZED, "unsigned", &refused.to_string()),
        Ok(signature) if !hooks.is_new(signature) => {
            refusal(StatusCode::CONFLICT, "repeated", "this webhook has come before")
        }
        Ok(_) => {
            hook.hint.notify_one();
            (StatusCode::ACCEPTED, Json(json!({ "version": 1, "repository": name }))).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_before_is_recognised_for_a_while() {
        let hooks = Hooks::new(BTreeMap::new(), None);
        let signature = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        assert!(hooks.is_new(signature(0)));
        assert!(!hooks.is_new(signature(0)));
        let most = u32::try_from(REMEMBERED).expect("small");
        assert!((1..=most).all(|number| hooks.is_new(signature(number))));
        assert!(hooks.is_new(signature(0)), "the oldest is forgotten first");
    }
}
