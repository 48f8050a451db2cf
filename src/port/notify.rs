//! Sending messages to people's other programs.

use std::time::Duration;

use async_trait::async_trait;

use crate::model::secret::Secret;

/// Why a message did not arrive. It never holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// What the secret holds is no URL that can be used.
    #[error("the secret holds no URL that begins with `https://` or `http://`")]
    BadUrl,
    /// Nothing answered in time, or the connection failed.
    #[error("no answer: {0}")]
    Unanswered(&'static str),
    /// The receiver did not accept it.
    #[error("it was answered with status {0}")]
    Status(u16),
}

/// Sends messages.
#[async_trait]
pub trait SendMessage: Send + Sync {
    /// Sends `body`, which is JSON, to `url` within `limit`.
    ///
    /// # Errors
    /// When it did not arrive.
    async fn send(&self, url: &Secret<String>, body: &str, limit: Duration) -> Result<(), SendError>;
}
