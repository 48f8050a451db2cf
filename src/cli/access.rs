//! The access policy of an environment's cluster, as `plan` and `apply` deal with it.

use std::sync::Arc;

use super::failure::Failure;
use crate::model::access::Policy;
use crate::model::secret::Secret;
use crate::plan::access::{AccessChange, PARAMETER, change};
use crate::port::cloud::CloudError;
use crate::port::parameters::{Parameters, Protection};

/// Where the policy is published, and what is wanted there.
pub struct PublishedAccess {
    parameters: Arc<dyn Parameters>,
    parameter: String,
    wanted: Option<Policy>,
}

impl PublishedAccess {
    /// The policy below the cluster's `prefix`.
    pub fn new(parameters: Arc<dyn Parameters>, prefix: &str, wanted: Option<Policy>) -> Self {
        Self { parameters, parameter: format!("{prefix}/{PARAMETER}"), wanted }
    }

    /// What has to change, as if nothing were published.
    pub fn offline(&self) -> Option<AccessChange> {
        change(&self.parameter, self.wanted.as_ref(), None)
    }

    /// What has to change.
    ///
    /// # Errors
    /// When the parameter can't be read.
    pub async fn look(&self) -> Result<Option<AccessChange>, Failure> {
        let found = match self.found().await {
            Ok(found) => found,
            // Who manages stacks alone may not be allowed to read parameters.
            Err(error) if self.wanted.is_none() => {
                tracing::warn!(%error, "whether an access policy is published is not known");
                None
            }
            Err(error) => return Err(failure(&error)),
        };
        Ok(change(&self.parameter, self.wanted.as_ref(), found.as_deref()))
    }

    async fn found(&self) -> Result<Option<String>, CloudError> {
        let found = self.parameters.get(&self.parameter).await?;
        Ok(found.map(|text| text.expose().clone()))
    }

    /// Publishes what was planned.
    ///
    /// # Errors
    /// When something else is published than when the plan was made, or it can't be written.
    pub async fn publish(&self, planned: &AccessChange) -> Result<(), Failure> {
        let found = self.found().await.map_err(|error| failure(&error))?;
        if found != planned.before {
            return Err(Failure::failed(
                format!("{} has changed since the plan was made; nothing was changed", self.parameter),
                "`fleetwright plan` shows what apply would do now",
            ));
        }
        let written = match &planned.after {
            // Who has access is no secret; every control machine reads it.
            Some(text) => {
                self.parameters.put(&self.parameter, &Secret::new(text.clone()), Protection::Plain).await
            }
            None => self.parameters.delete(&self.parameter).await.map(drop),
        };
        written.map_err(|error| failure(&error))
    }
}

fn failure(error: &CloudError) -> Failure {
    Failure::failed(format!("the access policy: {error}"), error.next())
}
