//! Deleting stacks that the repository no longer has, one after the other, newest first: what was
//! made later may use what was made before, and nothing else tells their order any more.

use std::time::Instant;

use super::apply::{Shell, never_began};
use super::follow::{Ask, Followed, RETRY_LIMIT, insist};
use crate::event::stack::{Failure, Outcome, StackEvent, Work};
use crate::plan::cause::first_cause;
use crate::plan::stack::LeftStack;
use crate::port::cloud::CloudError;

/// Deletes `left` until one fails or a signal comes; how each ended.
pub async fn prune(shell: &Shell, left: impl IntoIterator<Item = &LeftStack>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for stack in left {
        let since = Instant::now();
        let well = outcomes.iter().all(|outcome| *outcome == Outcome::Deleted);
        let (outcome, failure) = match (well, shell.stop.is_cancelled()) {
            (_, true) => (Outcome::NotBegun, None),
            (false, _) => (Outcome::Skipped, None),
            (true, false) => delete(shell, stack).await.unwrap_or_else(|error| {
                let next = format!("{}: `fleetwright apply --prune` resumes from here", error.next());
                (Outcome::Failed, Some(Failure { cause: error.to_string(), at: None, next }))
            }),
        };
        shell.emit(StackEvent::Finished {
            stack: stack.cloud_name.clone(),
            outcome,
            seconds: since.elapsed().as_secs_f64(),
            failure,
        });
        outcomes.push(outcome);
    }
    outcomes
}

async fn delete(shell: &Shell, stack: &LeftStack) -> Result<(Outcome, Option<Failure>), CloudError> {
    let name = stack.cloud_name.clone();
    shell.emit(StackEvent::Started { stack: name.clone(), work: Work::Delete, resources: None });
    let before = insist(RETRY_LIMIT, &shell.stop, || shell.cloud.stack(&stack.id)).await?;
    let Some(before) = before else { return Ok((Outcome::Deleted, None)) };
    let follower = shell.follower(&name, &name, Some(before)).await?;
    Ok(match follower.work(Ask::Delete, &shell.watch).await {
        Followed::LeftRunning(left) => (Outcome::LeftRunning, left.failure("apply --prune")),
        Followed::NeverBegan { why } => {
            (Outcome::Failed, Some(never_began("delete the stack", why.as_ref(), "apply --prune")))
        }
        Followed::Still(still) => {
            let Some(now) = &still.stack else { return Ok((Outcome::Deleted, None)) };
            let cause = first_cause(&name, &still.events).map_or_else(
                || format!("it ended as {}, and CloudFormation gives no reason", now.status),
                |cause| match cause.resource {
                    Some(resource) => format!("{resource}: {}", cause.reason),
                    None => cause.reason,
                },
            );
            let next = "remove the cause, then `fleetwright apply --prune` again".to_owned();
            (Outcome::Failed, Some(Failure { cause, at: None, next }))
        }
    })
}
