//! What people, and programs that act for them, may do in an environment.

use async_trait::async_trait;

use super::cluster::ClusterError;
use crate::model::principal::{Level, Principal};
use crate::model::secret::Secret;

/// Levels and tokens, as a control machine knows them.
#[async_trait]
pub trait Access: Send + Sync {
    /// Whose token this is, among those made with `fleetwright cluster token create`; `None`
    /// when it is not one of them, has expired or was revoked.
    ///
    /// # Errors
    /// When that can't be found out.
    async fn token(&self, bearer: &Secret<String>) -> Result<Option<Principal>, ClusterError>;

    /// The level of a person or a token; `None` for no access. Others are not asked about.
    ///
    /// # Errors
    /// When that can't be found out.
    async fn level(&self, principal: &Principal) -> Result<Option<Level>, ClusterError>;
}
