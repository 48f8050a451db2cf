//! Small values kept by the cloud provider, encrypted where they are secret.

use async_trait::async_trait;

use super::cloud::CloudError;
use crate::model::secret::Secret;

/// Whether a parameter is encrypted where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Stored as it is.
    Plain,
    /// Encrypted with the account's key for parameters.
    Encrypted,
}

/// A parameter and its decrypted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its full name, such as `/fleetwright/demo/local/main/initialiser`.
    pub name: String,
    /// Its value.
    pub value: Secret<String>,
}

/// A parameter that was read without decrypting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// It is stored as plain text.
    Plain(String),
    /// It is encrypted.
    Encrypted,
}

/// Parameters of one account and region. There is no conditional update behind it, so
/// values that members agree on are created once and never changed.
#[async_trait]
pub trait Parameters: Send + Sync {
    /// One value, decrypted; `None` when there is no such parameter.
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError>;

    /// One value, if it is stored as plain text; an encrypted one is not decrypted. `None` when there is no such
    /// parameter.
    async fn readable(&self, name: &str) -> Result<Option<Readable>, CloudError>;

    /// Every parameter below `prefix` (`/a/b`, with or without a slash at its end), at
    /// any depth, sorted by name.
    async fn list(&self, prefix: &str) -> Result<Vec<Parameter>, CloudError>;

    /// Creates a parameter; `false` when it exists already, whatever its value.
    async fn create_if_absent(
        &self,
        name: &str,
        value: &Secret<String>,
        protection: Protection,
    ) -> Result<bool, CloudError>;

    /// Creates a parameter or overwrites its value.
    async fn put(&self, name: &str, value: &Secret<String>, protection: Protection)
    -> Result<(), CloudError>;

    /// Deletes a parameter; `false` when there was none.
    async fn delete(&self, name: &str) -> Result<bool, CloudError>;
}
