//! What is kept of a cluster's services outside the cluster, and the engine that it is kept for.

use async_trait::async_trait;

use super::cloud::CloudError;
use super::cluster::ClusterError;
use crate::model::desired::{Bucket, Document, Held};
use crate::model::name::ServiceName;

/// The documents of one cluster. Every method may be called again after any failure.
#[async_trait]
pub trait Records: Send + Sync {
    /// All documents. A project that has no bucket yet has none.
    ///
    /// # Errors
    /// When any of them could not be fetched: there is no partial answer.
    async fn read(&self) -> Result<Bucket, CloudError>;

    /// Writes a document in place of the object with the tag `replaces`, or where there must be none.
    /// Whether that condition held.
    async fn write(
        &self,
        service: &ServiceName,
        document: &Document,
        replaces: Option<&str>,
    ) -> Result<bool, CloudError>;
}

/// The engine of a manager.
#[async_trait]
pub trait Holder: Send + Sync {
    /// What the engine holds of every service, removed ones included.
    async fn held(&self) -> Result<Vec<Held>, ClusterError>;

    /// Makes the engine hold what `document` says, with the numbers of its revisions. It may be
    /// called again after any failure, and changes nothing where that is done.
    async fn restore(&self, document: &Document) -> Result<(), ClusterError>;
}
