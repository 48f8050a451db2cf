//! Deleting an environment's stacks: what uses something goes before it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::apply::{Report, Shell, explain, never_began};
use super::follow::{Ask, Followed};
use super::graph::Graph;
use super::hook;
use super::plan::{Found, Wanted};
use crate::event::stack::{Failure, Outcome, Work};
use crate::model::deployed::DeployedStack;
use crate::model::name::StackName;
use crate::model::stack::Moment;
use crate::port::cloud::CloudError;

/// Deletes every stack of `found`, independent ones at the same time.
pub async fn destroy(shell: &Shell, wanted: Arc<Wanted>, found: &Found) -> Report {
    let present =
        wanted.stacks.iter().map(|w| &w.stack).filter(|stack| found.stacks.contains_key(&stack.name));
    let edges: Vec<_> = present.map(|stack| (stack.name.clone(), stack.depends_on.clone())).collect();
    let order: Vec<StackName> = edges.iter().rev().map(|(name, _)| name.clone()).collect();
    let mut graph = Graph::reversed(edges);
    let mut work = JoinSet::new();
    let mut outcomes: BTreeMap<StackName, Outcome> = BTreeMap::new();
    loop {
        if shell.stop.is_cancelled() {
            for name in graph.abandon() {
                shell.finished(&name, Outcome::NotBegun, Instant::now(), None);
                outcomes.insert(name, Outcome::NotBegun);
            }
        }
        for name in graph.ready() {
            let Some(stack) = found.stacks.get(&name).cloned() else { continue };
            let (shell, wanted) = (shell.clone(), Arc::clone(&wanted));
            work.spawn(async move {
                let _slot = shell.slot().await;
                let since = Instant::now();
                // A signal may have come while others were at work.
                if shell.stop.is_cancelled() {
                    shell.finished(&name, Outcome::NotBegun, since, None);
                    return (name, Outcome::NotBegun);
                }
                shell.started(&name, Work::Delete, None);
                let (outcome, failure) = one(&shell, &wanted, &name, &stack).await;
                shell.finished(&name, outcome, since, failure);
                (name, outcome)
            });
        }
        let ended = tokio::select! {
            ended = work.join_next() => ended,
            () = shell.stop.cancelled(), if !graph.is_done() && !shell.stop.is_cancelled() => continue,
        };
        match ended {
            None => break,
            Some(Ok((name, outcome))) => {
                for behind in graph.finished(&name, outcome == Outcome::Deleted) {
                    let stopped = matches!(outcome, Outcome::LeftRunning | Outcome::NotBegun);
                    let skipped = if stopped { Outcome::NotBegun } else { Outcome::Skipped };
                    shell.finished(&behind, skipped, Instant::now(), None);
                    outcomes.insert(behind, skipped);
                }
                outcomes.insert(name, outcome);
            }
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let stacks = order.into_iter().filter_map(|name| outcomes.remove(&name).map(|outcome| (name, outcome)));
    Report { stacks: stacks.collect() }
}

/// Deletes a stack between its hooks.
async fn one(
    shell: &Shell,
    wanted: &Wanted,
    name: &StackName,
    stack: &DeployedStack,
) -> (Outcome, Option<Failure>) {
    let hooks = async |moment| match wanted.stack(name) {
        Some(known) => {
            let (work, outputs) = (Work::Delete, &stack.outputs);
            hook::run(&hook::Of { shell, wanted, stack: &known.stack, work, outputs }, moment).await
        }
        None => Ok(()),
    };
    match hooks(Moment::BeforeDestroy).await {
        Ok(()) => {}
        Err(None) => return (Outcome::NotBegun, None),
        Err(failure) => return (Outcome::Failed, failure),
    }
    let (outcome, failure) = match delete(shell, wanted, name, stack).await {
        Ok(ended) => ended,
        Err(error) => {
            let next = format!("{}: `fleetwright destroy` resumes from here", error.next());
            (Outcome::Failed, Some(Failure { cause: error.to_string(), at: None, next }))
        }
    };
    if outcome == Outcome::Deleted
        && let Err(Some(failure)) = hooks(Moment::AfterDestroy).await
    {
        return (Outcome::Failed, Some(failure));
    }
    (outcome, failure)
}

async fn delete(
    shell: &Shell,
    wanted: &Wanted,
    name: &StackName,
    stack: &DeployedStack,
) -> Result<(Outcome, Option<Failure>), CloudError> {
    let follower = shell.follower(name.as_str(), &stack.name, Some(stack.clone())).await?;
    match follower.work(Ask::Delete, &shell.watch).await {
        Followed::LeftRunning(left) => Ok((Outcome::LeftRunning, left.failure("destroy"))),
        Followed::NeverBegan { why } => {
            Ok((Outcome::Failed, Some(never_began("delete the stack", why.as_ref(), "destroy"))))
        }
        Followed::Still(still) if still.stack.is_none() => Ok((Outcome::Deleted, None)),
        Followed::Still(still) => {
            let failure = wanted.stack(name).map(|wanted| Failure {
                next: format!(
                    "remove the cause, then `fleetwright destroy` again; what can't be deleted is left behind \
                     with `fleetwright recover {name} --retain RESOURCE`"
                ),
                ..explain(wanted, still.stack.as_ref(), &still.events)
            });
            Ok((Outcome::Failed, failure))
        }
    }
}
