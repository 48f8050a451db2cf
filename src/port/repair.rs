//! What brings stacks back to rest: the part of CloudFormation that only recovery uses.

use async_trait::async_trait;

use super::cloud::CloudError;
use crate::model::deployed::StackResource;

/// CloudFormation's means of repair. Every method may be called again after any failure.
#[async_trait]
pub trait Repair: Send + Sync {
    /// The resources of a stack, also those it has had.
    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, CloudError>;

    /// Begins to undo an update that failed.
    async fn roll_back(&self, stack: &str) -> Result<(), CloudError>;

    /// Goes on undoing an update, passing over `skip`.
    async fn continue_rollback(&self, stack: &str, skip: &[String]) -> Result<(), CloudError>;

    /// Begins to delete a stack, leaving `retain` behind, which it must have failed to delete before.
    async fn delete_retaining(&self, stack: &str, retain: &[String]) -> Result<(), CloudError>;
}
