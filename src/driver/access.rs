//! Who has access to a cluster, as a control machine knows it: the published policy and the
//! tokens, read again and again from the parameter store. It fails closed.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::model::access::{Home, Level, Policy, level_of};
use crate::model::name::TokenName;
use crate::model::principal::Principal;
use crate::model::secret::Secret;
use crate::model::token::{StoredToken, TOKEN_VERSION, TokenText};
use crate::plan::access::{BELIEVED_FOR, PARAMETER, READ_EVERY, Reading, Verdict, verdict};
use crate::port::access::Access;
use crate::port::cloud::CloudError;
use crate::port::cluster::ClusterError;
use crate::port::parameters::{Parameters, Protection};
use crate::port::tokens::{CreatedToken, LONGEST, NewToken, TokenInfo, TokenStore};

/// How old the list of tokens may be when one is checked: a revoked token is accepted no longer.
const TOKENS_READ_EVERY: Duration = Duration::from_secs(5);
/// How many tokens a cluster can have.
const TOKENS: usize = 100;
/// Where tokens are, below the cluster's prefix.
const FOLDER: &str = "tokens";

/// Gives 32 bytes that nobody can guess, or says why not.
pub type Random = Box<dyn Fn() -> Result<[u8; 32], String> + Send + Sync>;

/// What a control machine knows of access to its cluster.
pub struct Keeper {
    parameters: Arc<dyn Parameters>,
    prefix: String,
    home: Home,
    random: Random,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    policy: RwLock<Known<Reading>>,
    tokens: Mutex<Known<Vec<StoredToken>>>,
}

/// Something that was read, and when.
#[derive(Debug, Default)]
struct Known<T> {
    value: T,
    read: Option<Instant>,
}

impl<T> Known<T> {
    fn age(&self, now: Instant) -> Duration {
        self.read.map_or(Duration::MAX, |read| now.saturating_duration_since(read))
    }
}

impl Keeper {
    /// Access to the cluster below `prefix` in the parameter store, which runs in `home`.
    pub fn new(parameters: Arc<dyn Parameters>, prefix: String, home: Home, random: Random) -> Self {
        let clock = Box::new(Instant::now);
        Self { parameters, prefix, home, random, clock, policy: RwLock::default(), tokens: Mutex::default() }
    }

    /// Reads the policy again and again, for as long as it runs.
    pub async fn keep(&self) {
        loop {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "reading the access policy");
            }
            sleep(READ_EVERY).await;
        }
    }

    /// Reads the policy.
    ///
    /// # Errors
    /// When it can't be read. What was read last then counts for a while longer.
    pub async fn refresh(&self) -> Result<(), CloudError> {
        let found = self.parameters.get(&format!("{}/{PARAMETER}", self.prefix)).await?;
        let value = match found.map(|text| Policy::read(text.expose())) {
            None => Reading::Absent,
            Some(Ok(policy)) => Reading::Policy(policy),
            Some(Err(error)) => {
                tracing::warn!(%error, "nobody has access through the policy");
                Reading::Unreadable(error)
            }
        };
        let mut policy = self.policy.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if policy.value != value {
            tracing::info!("the access policy has changed");
        }
        *policy = Known { value, read: Some((self.clock)()) };
        Ok(())
    }

    /// The tokens as they are now, or were a few seconds ago.
    async fn tokens(&self, at_most: Duration) -> Result<Vec<StoredToken>, ClusterError> {
        let mut known = self.tokens.lock().await;
        if at_most > Duration::ZERO && known.age((self.clock)()) <= at_most {
            return Ok(known.value.clone());
        }
        match self.parameters.list(&format!("{}/{FOLDER}", self.prefix)).await {
            Ok(found) => {
                let value = found
                    .iter()
                    .filter_map(|parameter| StoredToken::read(parameter.value.expose()))
                    .collect();
                *known = Known { value, read: Some((self.clock)()) };
                Ok(known.value.clone())
            }
            Err(error) if at_most > Duration::ZERO && known.age((self.clock)()) <= BELIEVED_FOR => {
                tracing::warn!(%error, "reading the cluster's tokens");
                Ok(known.value.clone())
            }
            Err(error) => Err(unread(&error)),
        }
    }

    fn name(&self, token: &TokenName) -> String {
        format!("{}/{FOLDER}/{token}", self.prefix)
    }

    /// The level that the policy gives to the principal with that ARN.
    fn level_by_policy(&self, arn: &str) -> Result<Option<Level>, ClusterError> {
        let policy = self.policy.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match verdict(&policy.value, policy.age((self.clock)())) {
            Verdict::Policy(policy) => Ok(level_of(policy, &self.home, arn)),
            Verdict::Nobody(why) => Err(ClusterError::Denied { reason: why.to_owned() }),
        }
    }
}

fn unread(error: &CloudError) -> ClusterError {
    ClusterError::Engine { doing: "reading the cluster's tokens".to_owned(), reason: error.to_string() }
}

/// A role's session as STS writes it, which says more than the role: whether it is an instance's.
fn as_sts_reports(arn: &str, session: Option<&str>) -> String {
    let session = session.and_then(|session| {
        let (account, role) = arn.split_once(":role/")?;
        let account = account.replacen(":iam:", ":sts:", 1);
        Some(format!("{account}:assumed-role/{role}/{session}"))
    });
    session.unwrap_or_else(|| arn.to_owned())
}

#[async_trait]
impl Access for Keeper {
    async fn token(&self, bearer: &Secret<String>) -> Result<Option<Principal>, ClusterError> {
        let Ok(given) = bearer.expose().parse::<TokenText>() else { return Ok(None) };
        let hash = given.hash();
        let tokens = self.tokens(TOKENS_READ_EVERY).await?;
        let found = tokens.iter().find(|known| known.name == *given.name());
        let valid = found.is_some_and(|known| {
            bool::from(known.sha256.as_bytes().ct_eq(hash.as_bytes())) && known.is_valid(Utc::now())
        });
        Ok(valid.then(|| Principal::Token { name: given.name().to_string() }))
    }

    async fn level(&self, principal: &Principal) -> Result<Option<Level>, ClusterError> {
        match principal {
            Principal::Person { arn, session } => {
                self.level_by_policy(&as_sts_reports(arn, session.as_deref()))
            }
            Principal::Token { name } => {
                let tokens = self.tokens(TOKENS_READ_EVERY).await?;
                let found = tokens.iter().find(|known| known.name.as_str() == name);
                Ok(found.filter(|known| known.is_valid(Utc::now())).map(|known| known.level))
            }
            Principal::Machine { .. } | Principal::FormerWorker { .. } | Principal::BreakGlass => Ok(None),
        }
    }
}

#[async_trait]
impl TokenStore for Keeper {
    async fn create(
        &self,
        new: &NewToken,
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<CreatedToken, ClusterError> {
        let refused = |reason: String| ClusterError::Refused { reason };
        let valid = Duration::from_secs(new.valid_s);
        if valid.is_zero() || valid > LONGEST {
            return Err(refused(
                "a token can be valid for at most 366 days, and for at least a second".into(),
            ));
        }
        let tokens = self.tokens(Duration::ZERO).await?;
        let known = tokens.iter().find(|known| known.name == new.name);
        if known.is_some_and(|known| known.is_valid(now)) {
            let name = &new.name;
            return Err(refused(format!(
                "there is a token `{name}` already: choose another name, or revoke it with `fleetwright cluster token revoke {name}`"
            )));
        }
        if known.is_none() && tokens.len() >= TOKENS {
            return Err(refused(format!(
                "the cluster has {TOKENS} tokens already: revoke those that have expired with `fleetwright cluster token revoke NAME`"
            )));
        }
        let failed =
            |reason: String| ClusterError::Engine { doing: format!("creating token `{}`", new.name), reason };
        let text = TokenText::new(new.name.clone(), (self.random)().map_err(failed)?);
        let stored = StoredToken {
            version: TOKEN_VERSION,
            name: new.name.clone(),
            level: new.level,
            sha256: text.hash(),
            created: now,
            created_by: by.to_owned(),
            expires: now + valid,
        };
        let json = serde_json::to_string(&stored).map_err(|error| failed(error.to_string()))?;
        let name = self.name(&new.name);
        if known.is_some() {
            self.parameters.delete(&name).await.map_err(|error| failed(error.to_string()))?;
        }
        let created = self.parameters.create_if_absent(&name, &Secret::new(json), Protection::Plain).await;
        if !created.map_err(|error| failed(error.to_string()))? {
            return Err(refused(format!(
                "somebody else is creating a token `{}`: choose another name",
                new.name
            )));
        }
        *self.tokens.lock().await = Known::default();
        Ok(CreatedToken { info: info(&stored), text: text.text().clone() })
    }

    async fn list(&self) -> Result<Vec<TokenInfo>, ClusterError> {
        Ok(self.tokens(Duration::ZERO).await?.iter().map(info).collect())
    }

    async fn revoke(&self, name: &TokenName) -> Result<(), ClusterError> {
        let deleted = self.parameters.delete(&self.name(name)).await;
        let deleted = deleted.map_err(|error| ClusterError::Engine {
            doing: format!("revoking token `{name}`"),
            reason: error.to_string(),
        })?;
        *self.tokens.lock().await = Known::default();
        if deleted { Ok(()) } else { Err(ClusterError::NotFound { what: "token", name: name.to_string() }) }
    }
}

fn info(stored: &StoredToken) -> TokenInfo {
    TokenInfo {
        name: stored.name.clone(),
        level: stored.level,
        created: stored.created,
        created_by: stored.created_by.clone(),
        expires: stored.expires,
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
