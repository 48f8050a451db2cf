//! Objects that are written once and never changed, in the project's bucket.

use async_trait::async_trait;

use super::cloud::CloudError;

/// Objects by key. Every method may be called again after any failure.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Creates an object; `false` when there is one of that key, whatever it holds.
    async fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, CloudError>;

    /// The keys that start with `prefix`, sorted.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, CloudError>;

    /// An object; `None` when there is none.
    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CloudError>;
}
