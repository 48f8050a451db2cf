//! Where a project keeps what belongs to an account and region: locks, large templates.

use async_trait::async_trait;

use super::cloud::CloudError;

/// What must hold for an object to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is none of that key.
    Absent,
    /// The one there has this tag.
    Is(String),
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// What tells this writing of it from any other.
    pub tag: String,
}

/// Objects by key, written under conditions. Every method may be called again after any failure.
#[async_trait]
pub trait Store: Send + Sync {
    /// An object; `None` when there is none.
    async fn get(&self, key: &str) -> Result<Option<Object>, CloudError>;

    /// Writes an object if `condition` holds; its tag, or `None` when it does not hold.
    async fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Option<String>, CloudError>;

    /// Writes an object whose key tells its content, if it is not there yet, and gives the
    /// address at which CloudFormation finds it.
    async fn publish(&self, key: &str, bytes: &[u8]) -> Result<String, CloudError>;

    /// The address at which CloudFormation finds an object; nothing is asked of the object.
    async fn address(&self, key: &str) -> Result<String, CloudError>;
}
