//! Where backups are kept.

use std::path::Path;

use async_trait::async_trait;

use super::cloud::CloudError;
use super::store::{Condition, Object};

/// Objects by key, those that are large from and to files. Every method may be called again after any failure.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Where an object is, for people.
    async fn place(&self, key: &str) -> Result<String, CloudError>;

    /// A small object; `None` when there is none.
    async fn read(&self, key: &str) -> Result<Option<Object>, CloudError>;

    /// Writes a small object if `condition` holds; `false` when it does not.
    async fn write(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<bool, CloudError>;

    /// Writes an object that holds what `file` does, whose SHA-256 is `sum`.
    async fn upload(&self, key: &str, file: &Path, sum: &[u8; 32]) -> Result<(), CloudError>;

    /// Writes what an object holds to `file`; `false` when there is no such object.
    async fn download(&self, key: &str, file: &Path) -> Result<bool, CloudError>;

    /// Removes an object; one that is not there is removed.
    async fn remove(&self, key: &str) -> Result<(), CloudError>;
}
