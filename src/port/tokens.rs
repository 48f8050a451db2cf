//! Tokens of a cluster, for callers that have no AWS identity.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::cluster::ClusterError;
use crate::model::access::Level;
use crate::model::name::TokenName;
use crate::model::secret::Secret;
use crate::model::token::StoredToken;

/// Version of the documents of this module; raised when a field changes its meaning.
pub const TOKENS_VERSION: u32 = 1;

/// The longest time that a token can be valid: a year.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A token to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name; no other token of the cluster has it.
    pub name: TokenName,
    /// What its bearer may do.
    pub level: Level,
    /// How long it is valid, in seconds.
    pub valid_s: u64,
}

/// A token that was just created. This is the only time that its text is sent.
#[derive(Debug, Clone)]
pub struct CreatedToken {
    /// What is known of it from now on.
    pub info: TokenInfo,
    /// Its text.
    pub text: Secret<String>,
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its name.
    pub name: TokenName,
    /// What its bearer may do.
    pub level: Level,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Who created it.
    pub created_by: String,
    /// When it stops being accepted.
    pub expires: DateTime<Utc>,
}

/// The tokens of a cluster.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Creates a token. Not repeated when the answer is lost: the text would be lost with it.
    async fn create(&self, token: &NewToken) -> Result<CreatedToken, ClusterError>;

    /// All tokens, expired ones too, sorted by name.
    async fn list(&self) -> Result<Vec<TokenInfo>, ClusterError>;

    /// Revokes a token.
    async fn revoke(&self, name: &TokenName) -> Result<(), ClusterError>;
}

/// Where a control machine stores the tokens of its cluster.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Creates a token for `by`. Refused when there is a valid one of that name.
    async fn create(
        &self,
        new: &NewToken,
        by: &str,
        now: DateTime<Utc>,
    ) -> Result<CreatedToken, ClusterError>;

    /// All tokens, expired ones too, sorted by name.
    async fn list(&self) -> Result<Vec<TokenInfo>, ClusterError>;

    /// Revokes a token.
    async fn revoke(&self, name: &TokenName) -> Result<(), ClusterError>;
}

/// The tokens that a pipeline server accepts.
pub trait KnownTokens: Send + Sync {
    /// The token of that name, as it is stored now; `None` when there is none, or it can't be read.
    fn token(&self, name: &TokenName) -> Option<StoredToken>;
}

/// A created token as it travels, over TLS.
#[derive(Serialize, Deserialize)]
pub struct CreatedBody {
    /// [`TOKENS_VERSION`].
    pub version: u32,
    /// What is known of it.
    pub info: TokenInfo,
    /// Its text.
    pub token: String,
}

/// A list of tokens as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokensBody {
    /// [`TOKENS_VERSION`].
    pub version: u32,
    /// The tokens, sorted by name.
    pub tokens: Vec<TokenInfo>,
}
