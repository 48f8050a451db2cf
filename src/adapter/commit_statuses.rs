//! Statuses of commits at GitHub, Gitea and Forgejo.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::commit_status::{CommitStatus, Forge, StatusTarget};
use crate::model::name::RepositoryName;
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::commit_statuses::{Comments, CommitStatuses, StatusError};
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

    /// Sends a request, and gives the answer.
    async fn ask(
        &self,
        target: &StatusTarget,
        method: Method,
        url: &str,
        body: Option<Value>,
    ) -> Result<String, StatusError> {
        let token = self.token(&target.token).await?;
        let scheme = match target.forge {
            Forge::GitHub => "Bearer",
            Forge::Gitea => "token",
        };
        let mut request =
            self.client.request(method, url).header("authorization", format!("{scheme} {}", token.expose()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let failed = |error: reqwest::Error| StatusError(format!("{url}: {}", error.without_url()));
        let response = request.send().await.map_err(failed)?;
        let code = response.status();
        let answer = response.text().await.map_err(failed)?;
        if code.is_success() {
            return Ok(answer);
        }
        let said: String = answer.chars().take(QUOTED).collect();
        Err(StatusError(format!("{url} answers {code}: {}", self.mask.mask(said.trim()))))
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
        let url = target.url(&status.commit);
        let body = json!({
            "state": status.state,
            "context": status.context,
            "description": self.mask.mask(&status.description),
            "target_url": status.link,
        });
        self.ask(target, Method::POST, &url, Some(body)).await.map(drop)
    }
}

/// The most pages of comments that are read in search of one.
const PAGES: u32 = 20;
/// How many comments a page has.
const PAGE: usize = 50;
/// The longest comment, in bytes: GitHub takes 65,536 characters.
const COMMENT_MOST: usize = 60_000;

/// A comment, as forges send it.
#[derive(Debug, Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: String,
}

/// Comments in the pull requests of the repositories whose forge is known.
pub struct ForgeComments {
    forges: Option<ForgeStatuses>,
    targets: BTreeMap<RepositoryName, StatusTarget>,
}

impl ForgeComments {
    /// For these repositories; without `forges` for none.
    pub fn new(forges: Option<ForgeStatuses>, targets: BTreeMap<RepositoryName, StatusTarget>) -> Self {
        Self { forges, targets }
    }
}

#[async_trait]
impl Comments for ForgeComments {
    async fn comment(
        &self,
        repository: &RepositoryName,
        number: u64,
        key: &str,
        text: &str,
    ) -> Result<bool, StatusError> {
        let (Some(forges), Some(target)) = (&self.forges, self.targets.get(repository)) else {
            return Ok(false);
        };
        // Invisible in what is shown, and found again in what is read.
        let mark = format!("<!-- fleetwright {} -->", key.replace("--", "-"));
        let mut body = format!("{mark}\n{text}");
        if body.len() > COMMENT_MOST {
            body.truncate(body.floor_char_boundary(COMMENT_MOST));
            body.push_str("\n\n(The rest stands in the log of the run.)");
        }
        let all = target.comments(number);
        let mut known = None;
        for page in 1..=PAGES {
            let url = format!("{all}?page={page}&per_page={PAGE}&limit={PAGE}");
            let answer = forges.ask(target, Method::GET, &url, None).await?;
            let found: Vec<Comment> = serde_json::from_str(&answer)
                .map_err(|error| StatusError(format!("{all} answers with something else: {error}")))?;
            known = found.iter().find(|comment| comment.body.starts_with(&mark)).map(|comment| comment.id);
            if known.is_some() || found.len() < PAGE {
                break;
            }
        }
        let body = Some(json!({ "body": body }));
        match known {
            Some(id) => forges.ask(target, Method::PATCH, &target.comment(id), body).await?,
            None => forges.ask(target, Method::POST, &all, body).await?,
        };
        Ok(true)
    }
}
