//! What tells how things are, apart from how CloudFormation left them.

use async_trait::async_trait;

use super::cloud::CloudError;
use crate::model::deployed::DeployedStack;
use crate::model::drift::{Detection, ResourceDrift, TemplateVersion};

/// CloudFormation's drift detection, and what it can't see. Every method may be called again after
/// any failure.
#[async_trait]
pub trait Drift: Send + Sync {
    /// Begins to look at the resources of a stack, and returns the detection's id; `None` where
    /// the endpoint has no drift detection.
    async fn detect(&self, stack: &str) -> Result<Option<String>, CloudError>;

    /// How far a detection is.
    async fn detection(&self, id: &str) -> Result<Detection, CloudError>;

    /// What the last detection found, for every resource that it looked at.
    async fn drifts(&self, stack: &str) -> Result<Vec<ResourceDrift>, CloudError>;

    /// The document of a stack's policy, as it is now; `None` when it has none.
    async fn policy(&self, stack: &DeployedStack) -> Result<Option<String>, CloudError>;

    /// The newest version of a launch template; `None` when there is no such template.
    async fn launch_template(&self, id: &str) -> Result<Option<TemplateVersion>, CloudError>;
}
