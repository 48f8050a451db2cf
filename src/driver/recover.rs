//! Bringing a stack back to rest: one step after the other, each decided anew.

use std::sync::Arc;
use std::time::Instant;

use super::apply::{Shell, never_began};
use super::follow::{Ask, Followed, Still};
use crate::event::stack::{Failure, Outcome, Work};
use crate::model::deployed::{DeployedStack, StackResource};
use crate::model::name::StackName;
use crate::model::stack::RenderedStack;
use crate::plan::cause::first_cause;
use crate::plan::owner::{Purpose, refusal};
use crate::plan::recover::{Allowed, Recovery, recovery};
use crate::plan::stack::Blocked;
use crate::port::cloud::CloudError;
use crate::port::repair::Repair;

/// A stack, and what brings it back to rest.
#[derive(Debug, Clone)]
pub struct Look {
    /// The stack; `None` when there is none of that name.
    pub stack: Option<DeployedStack>,
    /// What is to be done.
    pub recovery: Recovery,
}

impl Look {
    /// Whether the stack is still the one of `other`, in the same state, and needs the same step.
    /// One that is at work may have gone on.
    pub fn is_like(&self, other: &Self) -> bool {
        let state = |look: &Self| look.stack.as_ref().map(|s| (s.id.clone(), s.status.clone(), s.updated));
        other.recovery == Recovery::Wait || (state(self) == state(other) && self.recovery == other.recovery)
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// The stack has another status now, or is gone: look again.
    Moved,
    /// It failed, and its first cause was told.
    Failed,
    /// A signal came; CloudFormation goes on by itself.
    Stopped,
}

/// Recovers one stack.
pub struct Recover {
    /// What every piece of work needs.
    pub shell: Shell,
    /// CloudFormation's means of repair.
    pub repair: Arc<dyn Repair>,
    /// The stack, as the repository wants it.
    pub wanted: RenderedStack,
}

impl Recover {
    /// The stack, as the repository names it.
    pub fn name(&self) -> &StackName {
        &self.wanted.name
    }

    /// Looks at the stack.
    ///
    /// # Errors
    /// When the cloud can't be asked.
    pub async fn look(&self, allowed: &Allowed) -> Result<Look, CloudError> {
        let Some(stack) = self.shell.cloud.stack(&self.wanted.cloud_name).await? else {
            return Ok(Look { stack: None, recovery: Recovery::Nothing });
        };
        let foreign = |purpose| refusal(&self.wanted, &stack, purpose);
        let left_alone = |blocked: Blocked| Recovery::Person { why: blocked.why, next: blocked.next };
        if let Some(blocked) = foreign(Purpose::Change) {
            return Ok(Look { recovery: left_alone(blocked), stack: Some(stack) });
        }
        let resources: Vec<StackResource> = self.repair.resources(&stack.id).await?;
        let recovery = match recovery(&stack, &resources, allowed) {
            // `cloud_name` allows to mend it, but not to delete what others may still need.
            Recovery::Delete { .. } => match foreign(Purpose::Delete) {
                Some(blocked) => left_alone(blocked),
                None => recovery(&stack, &resources, allowed),
            },
            recovery => recovery,
        };
        Ok(Look { stack: Some(stack), recovery })
    }

    /// Takes the step that `look` found, and follows it to its end.
    ///
    /// # Errors
    /// When the cloud can't be asked, or refuses the step.
    pub async fn step(&self, look: &Look) -> Result<Stepped, CloudError> {
        let Some(stack) = &look.stack else { return Ok(Stepped::Moved) };
        let since = Instant::now();
        let (work, ask) = match &look.recovery {
            Recovery::Nothing | Recovery::Person { .. } => return Ok(Stepped::Moved),
            Recovery::Wait => (Work::Wait, Ask::Nothing),
            Recovery::Delete { retain, .. } if !retain.is_empty() => (Work::Delete, Ask::Once),
            Recovery::Discard { .. } | Recovery::Delete { .. } => (Work::Delete, Ask::Delete),
            Recovery::RollBack | Recovery::ContinueRollback { .. } => (Work::Update, Ask::Once),
        };
        let follower =
            self.shell.follower(self.name().as_str(), &self.wanted.cloud_name, Some(stack.clone())).await?;
        self.shell.started(self.name(), work, None);
        let asked = match &look.recovery {
            Recovery::RollBack => self.repair.roll_back(&stack.id).await,
            Recovery::ContinueRollback { skip, .. } => self.repair.continue_rollback(&stack.id, skip).await,
            Recovery::Delete { retain, .. } if !retain.is_empty() => {
                self.repair.delete_retaining(&stack.id, retain).await
            }
            Recovery::Discard { .. } | Recovery::Delete { .. } => {
                self.shell.cloud.delete_stack(&stack.id).await
            }
            Recovery::Nothing | Recovery::Wait | Recovery::Person { .. } => Ok(()),
        };
        let Still { stack: now, events, .. } = match follower.follow(ask, asked, &self.shell.watch).await {
            Followed::Still(still) => *still,
            Followed::NeverBegan { why } => {
                let failure = never_began("take this step", why.as_ref(), "recover");
                self.shell.finished(self.name(), Outcome::Failed, since, Some(failure));
                return Ok(Stepped::Failed);
            }
            Followed::LeftRunning(left) => {
                self.shell.finished(self.name(), Outcome::LeftRunning, since, left.failure("recover"));
                return Ok(Stepped::Stopped);
            }
        };
        let deleting = matches!(look.recovery, Recovery::Delete { .. });
        let moved = now
            .as_ref()
            .is_none_or(|now| now.status != stack.status && !(deleting && now.status == "DELETE_FAILED"));
        let outcome = match (&now, moved) {
            (None, _) => Outcome::Deleted,
            (Some(_), true) => Outcome::Settled,
            (Some(_), false) => Outcome::Failed,
        };
        let failure = (outcome == Outcome::Failed).then(|| Failure {
            cause: first_cause(&self.wanted.cloud_name, &events).map_or_else(
                || format!("it is {} now, and CloudFormation gives no reason", status(now.as_ref())),
                |cause| match cause.resource {
                    Some(resource) => format!("{resource}: {}", cause.reason),
                    None => cause.reason,
                },
            ),
            at: None,
            next: next(&look.recovery),
        });
        self.shell.finished(self.name(), outcome, since, failure);
        Ok(if outcome == Outcome::Failed { Stepped::Failed } else { Stepped::Moved })
    }
}

fn status(stack: Option<&DeployedStack>) -> &str {
    stack.map_or("gone", |stack| stack.status.as_str())
}

/// What to do when a step did not help.
fn next(recovery: &Recovery) -> String {
    let again = "remove the cause, then `fleetwright recover` again".to_owned();
    match recovery {
        Recovery::ContinueRollback { failed, .. } if !failed.is_empty() => {
            format!("{again}; what can't be undone is passed over with `--skip {}`", failed.join(" --skip "))
        }
        Recovery::Delete { .. } => {
            format!("{again}; what can't be deleted is left behind with `--retain RESOURCE`")
        }
        _ => again,
    }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
