//! Tokens of a cluster for callers that have no AWS identity. Only a hash of one is kept.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::access::Level;
use super::name::TokenName;
use super::secret::Secret;

/// The version of a stored token; raised when a field changes its meaning.
pub const TOKEN_VERSION: u32 = 1;

/// What every token starts with, so that scanners for leaked secrets can find one.
const PREFIX: &str = "fwt_";

/// A token as its owner has it: `fwt_NAME_` and 64 hexadecimal digits, which stand for 32 random bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenText {
    name: TokenName,
    text: Secret<String>,
}

/// A text that is not a cluster token. It is not quoted: it may be another secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cluster token, which looks like `fwt_NAME_` and 64 hexadecimal digits")]
pub struct NotAToken;

impl TokenText {
    /// The token of that name, with `random` as its secret part.
    pub fn new(name: TokenName, random: [u8; 32]) -> Self {
        let text = Secret::new(format!("{PREFIX}{name}_{}", hex(&random)));
        Self { name, text }
    }

    /// Its name.
    pub fn name(&self) -> &TokenName {
        &self.name
    }

    /// The whole text, which its owner sends.
    pub fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// The hash that is stored. The secret part is random, so that a slow hash would add nothing.
    pub fn hash(&self) -> TokenHash {
        TokenHash(hex(&Sha256::digest(self.text.expose().as_bytes())))
    }
}

impl FromStr for TokenText {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (name, secret) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(NotAToken)?;
        let is_hex = secret.len() == 64 && secret.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match name.parse() {
            Ok(name) if is_hex => Ok(Self { name, text: Secret::new(text.to_owned()) }),
            _ => Err(NotAToken),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a token, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHash(String);

impl TokenHash {
    /// The hexadecimal digits, to be compared in constant time.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// [`TOKEN_VERSION`].
    pub version: u32,
    /// Its name.
    pub name: TokenName,
    /// What its bearer may do.
    pub level: Level,
    /// The hash of its text.
    pub sha256: TokenHash,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Who created it.
    pub created_by: String,
    /// When it stops being accepted.
    pub expires: DateTime<Utc>,
}

impl StoredToken {
    /// Reads what was stored. A token that is not understood completely is not accepted.
    pub fn read(text: &str) -> Option<Self> {
        let token: Self = serde_json::from_str(text).ok()?;
        (token.version == TOKEN_VERSION).then_some(token)
    }

    /// Whether it is accepted at `now`.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        now < self.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ci() -> TokenText {
        TokenText::new("ci".parse().expect("a name"), [0xab; 32])
    }

    #[test]
    fn a_token_carries_its_name_and_is_read_again() {
        let token = ci();
        assert!(token.text().expose().starts_with("fwt_ci_abab"));
        let read: TokenText = token.text().expose().parse().expect("a token");
        assert_eq!(read, token);
        assert_eq!(read.hash(), token.hash());
        assert_ne!(TokenText::new("ci".parse().expect("a name"), [0xac; 32]).hash(), token.hash());
        assert!(!format!("{token:?}").contains("abab"));
        for bad in ["", "fwt_", "fwt_ci", "fwt_ci_", "fwt_CI_ab", &token.text().expose()[1..], "operator"] {
            assert_eq!(bad.parse::<TokenText>(), Err(NotAToken), "{bad}");
        }
        assert_eq!(format!("{}0", token.text().expose()).parse::<TokenText>(), Err(NotAToken));
    }

    /// What version 1 stored; it must be readable for ever.
    const SAMPLE_1: &str = r#"{"version":1,"name":"ci","level":"deployer","sha256":"d63a5d27c1d8d3cd58a2bd5ce4d4d31b6a4c6a3cf56f6ed9a1d3e0d4f5c6b7a8","created":"2026-11-28T12:00:00Z","created_by":"arn:aws:iam::123456789012:user/ada","expires":"2026-12-28T12:00:00Z"}"#;

    #[test]
    fn a_stored_token_is_valid_until_it_expires_and_never_half_understood() {
        let token = StoredToken::read(SAMPLE_1).expect("version 1");
        assert_eq!((token.name.as_str(), token.level), ("ci", Level::Deployer));
        assert_eq!(serde_json::to_string(&token).expect("JSON"), SAMPLE_1);
        assert!(token.is_valid(token.created) && !token.is_valid(token.expires));
        let changed =
            [("\"version\":1", "\"version\":2"), ("\"level\"", "\"only_service\":\"web\",\"level\"")];
        for (old, new) in changed {
            assert_eq!(StoredToken::read(&SAMPLE_1.replace(old, new)), None, "{new}");
        }
    }
}
