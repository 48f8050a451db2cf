//! What `apply` publishes of an environment for its cluster, beside the stacks: who has access, and who is
//! notified.

use std::sync::Arc;

use super::failure::Failure;
use crate::model::access::Policy;
use crate::model::notify::Receivers;
use crate::model::secret::Secret;
use crate::plan::access::{self, AccessChange};
use crate::plan::notify::{self, NotifyChange};
use crate::port::cloud::CloudError;
use crate::port::parameters::{Parameters, Protection};

/// Something that is published in a parameter. It is no secret: every control machine reads it.
pub trait Publishable {
    /// A planned change of it.
    type Change;
    /// The parameter below the cluster's prefix.
    const PARAMETER: &'static str;
    /// What it is, in messages.
    const WHAT: &'static str;

    /// What has to change so that `wanted` is published at `parameter`, where `found` is now.
    fn change(parameter: &str, wanted: Option<&Self>, found: Option<&str>) -> Option<Self::Change>;
    /// What was published when the change was planned, and what is to be.
    fn texts(change: &Self::Change) -> (&Option<String>, &Option<String>);
}

impl Publishable for Policy {
    type Change = AccessChange;
    const PARAMETER: &'static str = access::PARAMETER;
    const WHAT: &'static str = "the access policy";

    fn change(parameter: &str, wanted: Option<&Self>, found: Option<&str>) -> Option<AccessChange> {
        access::change(parameter, wanted, found)
    }

    fn texts(change: &AccessChange) -> (&Option<String>, &Option<String>) {
        (&change.before, &change.after)
    }
}

impl Publishable for Receivers {
    type Change = NotifyChange;
    const PARAMETER: &'static str = notify::PARAMETER;
    const WHAT: &'static str = "who is notified";

    fn change(parameter: &str, wanted: Option<&Self>, found: Option<&str>) -> Option<NotifyChange> {
        notify::change(parameter, wanted, found)
    }

    fn texts(change: &NotifyChange) -> (&Option<String>, &Option<String>) {
        (&change.before, &change.after)
    }
}

/// Where something is published, and what is wanted there.
pub struct Published<T> {
    parameters: Arc<dyn Parameters>,
    parameter: String,
    wanted: Option<T>,
}

impl<T: Publishable> Published<T> {
    /// What is wanted below the cluster's `prefix`.
    pub fn new(parameters: Arc<dyn Parameters>, prefix: &str, wanted: Option<T>) -> Self {
        Self { parameters, parameter: format!("{prefix}/{}", T::PARAMETER), wanted }
    }

    /// What has to change, as if nothing were published.
    pub fn offline(&self) -> Option<T::Change> {
        T::change(&self.parameter, self.wanted.as_ref(), None)
    }

    /// What has to change.
    ///
    /// # Errors
    /// When the parameter can't be read.
    pub async fn look(&self) -> Result<Option<T::Change>, Failure> {
        let found = match self.found().await {
            Ok(found) => found,
            // Who manages stacks alone may not be allowed to read parameters.
            Err(error) if self.wanted.is_none() => {
                tracing::warn!(%error, what = T::WHAT, "what is published can't be read");
                None
            }
            Err(error) => return Err(failure::<T>(&error)),
        };
        Ok(T::change(&self.parameter, self.wanted.as_ref(), found.as_deref()))
    }

    async fn found(&self) -> Result<Option<String>, CloudError> {
        let found = self.parameters.get(&self.parameter).await?;
        Ok(found.map(|text| text.expose().clone()))
    }

    /// Publishes what was planned.
    ///
    /// # Errors
    /// When something else is published than when the plan was made, or it can't be written.
    pub async fn publish(&self, planned: &T::Change) -> Result<(), Failure> {
        let (before, after) = T::texts(planned);
        let found = self.found().await.map_err(|error| failure::<T>(&error))?;
        if found != *before {
            return Err(Failure::failed(
                format!("{} has changed since the plan was made; nothing was changed", self.parameter),
                "`fleetwright plan` shows what apply would do now",
            ));
        }
        let written = match after {
            Some(text) => {
                self.parameters.put(&self.parameter, &Secret::new(text.clone()), Protection::Plain).await
            }
            None => self.parameters.delete(&self.parameter).await.map(drop),
        };
        written.map_err(|error| failure::<T>(&error))
    }
}

fn failure<T: Publishable>(error: &CloudError) -> Failure {
    Failure::failed(format!("{}: {error}", T::WHAT), error.next())
}
