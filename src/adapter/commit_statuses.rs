//! Statuses of commits at GitHub, Gitea and Forgejo.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::json;

use crate::model::commit_status::{CommitStatus, Forge, StatusTarget};
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::commit_statuses::{CommitStatuses, StatusError};
use crate::port::parameters::Parameters;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a token is kept. A new one counts after that.
const FRESH: Duration = Duration::from_secs(60);
/// How much of a refusal is quoted, in characters.
const QUOTED: usize = 200;

/// Forges, asked with tokens that are kept as parameters.
pub struct ForgeStatuses {
    client: Client,
    parameters: Arc<dyn Parameters>,
    mask: Mask,
    known: Mutex<HashMap<String, (Instant, Secret<String>)>>,
}

impl ForgeStatuses {
    /// Reads tokens from `parameters`, which `mask` hides.
    ///
    /// # Errors
    /// When the TLS library can't be used.
    pub fn new(parameters: Arc<dyn Parameters>, mask: Mask) -> Result<Self, StatusError> {
        // The token must not follow a redirect to somebody else.
        let client =
            Client::builder().redirect(Policy::none()).timeout(ANSWER).user_agent("fleetwright").build();
        let client = client.map_err(|error| StatusError(error.to_string()))?;
        Ok(Self { client, parameters, mask, known: Mutex::default() })
    }

    async fn token(&self, name: &str) -> Result<Secret<String>, StatusError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some((_, token)) = known.filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(token);
        }
        let found = self.parameters.get(name).await.map_err(|error| StatusError(error.to_string()))?;
        let token = found.ok_or_else(|| StatusError(format!("there is no parameter `{name}`")))?;
        self.mask.learn(token.expose());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (Instant::now(), token.clone()));
        Ok(token)
    }
}

#[async_trait]
impl CommitStatuses for ForgeStatuses {
    async fn report(&self, target: &StatusTarget, status: &CommitStatus) -> Result<(), StatusError> {
        let token = self.token(&target.token).await?;
        let scheme = match target.forge {
            Forge::GitHub => "Bearer",
            Forge::Gitea => "token",
        };
        let url = target.url(&status.commit);
        let body = json!({
            "state": status.state,
            "context": status.context,
            "description": self.mask.mask(&status.description),
            "target_url": status.link,
        });
        let request = self.client.post(&url).header("authorization", format!("{scheme} {}", token.expose()));
        let failed = |error: reqwest::Error| StatusError(format!("{url}: {}", error.without_url()));
        let response = request.json(&body).send().await.map_err(failed)?;
        let code = response.status();
        if code.is_success() {
            return Ok(());
        }
        let said: String = response.text().await.unwrap_or_default().chars().take(QUOTED).collect();
        Err(StatusError(format!("{url} answers {code}: {}", self.mask.mask(said.trim()))))
    }
}
