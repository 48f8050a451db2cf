//! The secrets of an environment: values that services get, and that nothing prints.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::cloud::CloudError;
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::SecretName;
use crate::model::secret::Secret;

/// Values of secrets, for control machines.
#[async_trait]
pub trait SecretValues: Send + Sync {
    /// The newest version; `None` when there is no such secret. The value is not read.
    async fn newest(&self, secret: &SecretRef) -> Result<Option<SecretVersion>, CloudError>;

    /// The value of that version; `None` when it is not kept any more.
    async fn value(
        &self,
        secret: &SecretRef,
        version: &SecretVersion,
    ) -> Result<Option<Secret<Vec<u8>>>, CloudError>;
}

/// A secret that is kept for an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSecret {
    /// Its name.
    pub name: SecretName,
    /// Its newest version.
    pub version: SecretVersion,
    /// When that was set.
    pub set: DateTime<Utc>,
}

/// The secrets that `fleetwright secret` manages, with the caller's own rights.
#[async_trait]
pub trait SecretKeeper: Send + Sync {
    /// Sets a value, and returns its version.
    async fn set(&self, name: &SecretName, value: &Secret<String>) -> Result<SecretVersion, CloudError>;

    /// All of them, sorted by name. No value is read.
    async fn list(&self) -> Result<Vec<KeptSecret>, CloudError>;

    /// Deletes a secret with all of its versions; `false` when there was none.
    async fn remove(&self, name: &SecretName) -> Result<bool, CloudError>;
}
