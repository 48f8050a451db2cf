//! Taking resources that exist into a stack.

use std::collections::BTreeMap;
use std::time::Instant;

use super::apply::{Shell, intercepted, never_began, withdraw};
use super::cause::{explained, refused};
use super::follow::{Ask, Followed, Left, RETRY_LIMIT, computed, insist};
use super::plan::{WantedStack, request};
use crate::event::stack::{Failure, Outcome, Work};
use crate::model::deployed::{
    Action, ChangeSet, ChangeSetId, ChangeSetRequest, ChangeSetState, DeployedStack, Import,
};
use crate::model::stack::ENVIRONMENT_TAG;
use crate::port::cloud::CloudError;

/// One import.
pub struct Importing<'a> {
    /// What every piece of work needs.
    pub shell: &'a Shell,
    /// The stack.
    pub wanted: &'a WantedStack,
    /// The stack as it is; `None` when the import makes it.
    pub existing: Option<&'a DeployedStack>,
    /// The template that does it.
    pub template: String,
    /// Values of parameters that the stack does not have yet.
    pub parameters: BTreeMap<String, String>,
    /// What is imported.
    pub imports: Vec<Import>,
}

impl Importing<'_> {
    /// Imports, and follows it to its end.
    ///
    /// # Errors
    /// When the cloud can't be asked, or refuses the change set.
    pub async fn run(&self) -> Result<Outcome, CloudError> {
        let (shell, name) = (self.shell, &self.wanted.stack.name);
        let since = Instant::now();
        shell.started(name, Work::Import, Some(self.imports.len()));
        let (outcome, failure) = self.import().await?;
        shell.finished(name, outcome, since, failure);
        Ok(outcome)
    }

    async fn import(&self) -> Result<(Outcome, Option<Failure>), CloudError> {
        let (shell, cloud) = (self.shell, self.shell.cloud.as_ref());
        let cloud_name = &self.wanted.stack.cloud_name;
        let new = self.existing.is_none().then_some(cloud_name.as_str());
        let request = self.request();
        let id = insist(RETRY_LIMIT, &shell.stop, || cloud.create_change_set(&request)).await?;
        let change_set = match computed(cloud, &id, shell.pace, RETRY_LIMIT, &shell.stop).await {
            Ok(Some(change_set)) if !shell.stop.is_cancelled() => change_set,
            Ok(_) => {
                withdraw(cloud, &id, new).await?;
                return Ok((Outcome::NotBegun, None));
            }
            Err(error) => {
                withdraw(cloud, &id, new).await?;
                return Err(error);
            }
        };
        if let Some(cause) = self.refusal(&change_set) {
            let cause = refused(cloud, cloud_name, &id, &cause).await;
            withdraw(cloud, &id, new).await?;
            let next = "correct the id or the template: it must say what the resource is now".to_owned();
            let at = Some(self.wanted.stack.template_file.clone());
            return Ok((Outcome::Failed, Some(Failure { cause, at, next })));
        }
        match cloud.exchanged(&id, &request).await {
            Ok(None) => {}
            Ok(Some(what)) => {
                withdraw(cloud, &id, new).await?;
                return Ok((Outcome::Failed, Some(intercepted(&what))));
            }
            Err(error) => {
                withdraw(cloud, &id, new).await?;
                return Err(error);
            }
        }
        match self.execute(&id, new).await? {
            Followed::LeftRunning(left) => Ok((Outcome::LeftRunning, left.failure("import"))),
            Followed::NeverBegan { why } => {
                Ok((Outcome::Failed, Some(never_began("execute the change set", why.as_ref(), "import"))))
            }
            Followed::Still(still) if still.stack.is_some() && still.ended_as(&["IMPORT_COMPLETE"]) => {
                if new.is_some() {
                    return self.tag().await;
                }
                Ok((Outcome::Imported, None))
            }
            Followed::Still(still) => {
                let failure = Failure {
                    next: "correct the template: it must say what the resource is now; then import again"
                        .to_owned(),
                    ..explained(cloud, self.wanted, still.stack.as_ref(), &still.events).await
                };
                Ok((Outcome::Failed, Some(failure)))
            }
        }
    }

    /// Executes a change set and follows it; one that never began is deleted, and with it the stack `new`.
    async fn execute(&self, id: &ChangeSetId, new: Option<&str>) -> Result<Followed, CloudError> {
        let (shell, cloud) = (self.shell, self.shell.cloud.as_ref());
        let cloud_name = &self.wanted.stack.cloud_name;
        // One that the change set made has an id by now.
        let before = insist(RETRY_LIMIT, &shell.stop, || cloud.stack(cloud_name)).await;
        let follower = match before {
            Ok(before) => shell.follower(self.wanted.stack.name.as_str(), cloud_name, before).await,
            Err(error) => Err(error),
        };
        let follower = match follower {
            Ok(follower) => follower,
            Err(error) => {
                withdraw(cloud, id, new).await?;
                return Err(error);
            }
        };
        let followed = follower.work(Ask::Execute(id), &shell.watch).await;
        if let Followed::NeverBegan { .. } = followed {
            withdraw(cloud, id, new).await?;
        }
        Ok(followed)
    }

    /// Gives a stack that the import made its tags, which an import itself may not. Without them it belongs to
    /// nobody, and the next apply is refused.
    async fn tag(&self) -> Result<(Outcome, Option<Failure>), CloudError> {
        let cause = match self.tagged().await {
            Ok(Ok(outcome)) => return Ok((outcome, None)),
            Ok(Err(cause)) => cause,
            Err(error) => error.to_string(),
        };
        let stack = &self.wanted.stack;
        let (name, place, cloud) = (&stack.name, &stack.place, &stack.cloud_name);
        let environment = stack.tags.get(ENVIRONMENT_TAG).map_or("ENVIRONMENT", String::as_str);
        let failure = Failure {
            cause: format!("the resources are imported, but their new stack did not get its tags: {cause}"),
            at: None,
            next: format!(
                "write `cloud_name: {{{environment}: {cloud}}}` into stack `{name}` ({place}); \
                 `fleetwright apply {name}` then gives it its tags"
            ),
        };
        Ok((Outcome::Failed, Some(failure)))
    }

    /// Updates the tags alone: how that ended, or why they are not set.
    async fn tagged(&self) -> Result<Result<Outcome, String>, CloudError> {
        let (shell, cloud) = (self.shell, self.shell.cloud.as_ref());
        let mut request = request(&self.wanted.stack, BTreeMap::new(), false);
        request.template.clone_from(&self.template);
        request.kept = self.parameters.keys().cloned().collect();
        let id = insist(RETRY_LIMIT, &shell.stop, || cloud.create_change_set(&request)).await?;
        let change_set = computed(cloud, &id, shell.pace, RETRY_LIMIT, &shell.stop).await;
        let refusal = match change_set.map(|change_set| change_set.map(|change_set| change_set.state)) {
            Ok(Some(ChangeSetState::Ready | ChangeSetState::Computing)) => {
                cloud.exchanged(&id, &request).await
            }
            Ok(Some(ChangeSetState::Failed { reason })) => Ok(Some(reason)),
            Ok(Some(ChangeSetState::Empty)) => Ok(Some("CloudFormation finds no change in them".to_owned())),
            Ok(None) => Ok(Some("interrupted".to_owned())),
            Err(error) => Err(error),
        };
        if !matches!(refusal, Ok(None)) {
            withdraw(cloud, &id, None).await?;
            return refusal.map(|why| Err(why.unwrap_or_default()));
        }
        Ok(match self.execute(&id, None).await? {
            Followed::LeftRunning(Left::Stopped) => Ok(Outcome::LeftRunning),
            Followed::LeftRunning(Left::Unanswered(error)) => Err(error.to_string()),
            Followed::NeverBegan { why: Some(why) } => Err(why.to_string()),
            Followed::NeverBegan { why: None } => Err("CloudFormation never began the update".to_owned()),
            Followed::Still(still) if still.ended_as(&["UPDATE_COMPLETE"]) => Ok(Outcome::Imported),
            Followed::Still(still) => {
                Err(explained(cloud, self.wanted, still.stack.as_ref(), &still.events).await.cause)
            }
        })
    }

    fn request(&self) -> ChangeSetRequest {
        let mut request = request(&self.wanted.stack, self.parameters.clone(), self.existing.is_none());
        request.template.clone_from(&self.template);
        request.imports.clone_from(&self.imports);
        // Nothing else may change, tags included: a new stack gets its own afterwards.
        request.tags.clear();
        if let Some(existing) = self.existing {
            // Hidden values can't be sent again.
            request.kept = existing.parameters.keys().cloned().collect();
            request.tags.extend(existing.tags.clone());
            request.tags.retain(|key, _| !key.starts_with("aws:"));
        }
        request
    }

    /// Why the change set is not executed.
    fn refusal(&self, change_set: &ChangeSet) -> Option<String> {
        match &change_set.state {
            ChangeSetState::Failed { reason } => return Some(reason.clone()),
            ChangeSetState::Empty => return Some("CloudFormation finds nothing to import".to_owned()),
            ChangeSetState::Computing | ChangeSetState::Ready => {}
        }
        let beyond = change_set.changes.iter().find(|change| {
            change.action != Action::Create || self.imports.iter().all(|i| i.resource != change.resource)
        })?;
        Some(format!("it would also change `{}` ({})", beyond.resource, beyond.resource_type))
    }
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
