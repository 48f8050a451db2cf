//! The first cause of a failure, also where it lies in a nested stack.

use super::apply::{explain, place};
use super::plan::WantedStack;
use crate::event::stack::Failure;
use crate::model::deployed::{ChangeSetId, DeployedStack, EventMark, ResourceEvent};
use crate::model::name::StackName;
use crate::plan::cause::first_cause;
use crate::port::cloud::Cloud;

/// How deep stacks are followed into each other.
const DEEPEST: usize = 5;

/// What went wrong first. A nested stack's failure says only that it failed, so its own events are asked for.
pub(super) async fn explained(
    cloud: &dyn Cloud,
    wanted: &WantedStack,
    stack: Option<&DeployedStack>,
    events: &[ResourceEvent],
) -> Failure {
    let mut failure = explain(wanted, stack, events);
    let Some(mut cause) = first_cause(&wanted.stack.cloud_name, events) else { return failure };
    let id = stack.map_or(wanted.stack.cloud_name.as_str(), |stack| stack.id.as_str());
    if let Some(found) = validations(cloud, &cause.reason, id, None).await {
        failure.cause = found.words();
        failure.at = found.first.and_then(|resource| place(wanted, &resource));
        take_over(&mut failure, &wanted.stack.name);
        return failure;
    }
    let mut path: Vec<String> = cause.resource.iter().cloned().collect();
    for _ in 0..DEEPEST {
        let Some(id) = nested(&cause.reason).map(str::to_owned) else { break };
        // Where its events can't be read any more, what is known already has to do.
        let Ok(events) = cloud.events(&id, &EventMark::default()).await else { break };
        let name = id.split('/').nth(1).unwrap_or_default();
        let Some(inner) = first_cause(name, &events) else { break };
        path.extend(inner.resource.clone());
        cause = inner;
        failure.cause = format!("{}: {}", path.join("."), cause.reason);
    }
    take_over(&mut failure, &wanted.stack.name);
    failure
}

/// Why a change set can't be made.
pub(super) async fn refused(cloud: &dyn Cloud, stack: &str, id: &ChangeSetId, reason: &str) -> String {
    let found = validations(cloud, reason, stack, Some(id)).await;
    found.map_or_else(|| reason.to_owned(), |found| found.words())
}

/// What CloudFormation found before it began.
struct Found {
    /// The first resource that it names.
    first: Option<String>,
    all: Vec<String>,
}

impl Found {
    fn words(&self) -> String {
        self.all.join("; ")
    }
}

/// What stands behind a reason that only says where the reasons are; `None` for any other, and where
/// they can't be read.
async fn validations(
    cloud: &dyn Cloud,
    reason: &str,
    stack: &str,
    change_set: Option<&ChangeSetId>,
) -> Option<Found> {
    if !reason.contains("DescribeEvents") {
        return None;
    }
    let found = cloud.validations(stack, change_set).await.ok().filter(|found| !found.is_empty())?;
    let named = |event: &ResourceEvent| !event.resource.is_empty();
    let first = found.iter().find(|event| named(event)).map(|event| event.resource.clone());
    let words = |event: &ResourceEvent| match named(event) {
        true => format!("{}: {}", event.resource, event.reason),
        false => event.reason.clone(),
    };
    Some(Found { first, all: found.iter().map(words).collect() })
}

/// What exists already need not go: it can be imported.
fn take_over(failure: &mut Failure, stack: &StackName) {
    if failure.cause.contains("already exists") {
        failure.next = format!(
            "{}; what exists already becomes part of the stack with `fleetwright import {stack} RESOURCE=ID`",
            failure.next
        );
    }
}

/// The id of the nested stack that a reason speaks of.
fn nested(reason: &str) -> Option<&str> {
    let at = reason.find("arn:")?;
    let id = reason[at..].split([' ', ',', '\'', '"', ')']).next()?.trim_end_matches('.');
    (id.contains(":cloudformation:") && id.contains(":stack/")).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_stack_is_found_in_the_words_for_its_failure() {
        let id = "arn:aws:cloudformation:eu-west-1:1:stack/shop-a-web-Child-1X/aa-bb";
        let words =
            format!("Embedded stack {id} was not successfully created: The following resource(s) failed");
        assert_eq!(nested(&words), Some(id));
        assert_eq!(nested("User: arn:aws:iam::1:user/ops is not authorized"), None);
        assert_eq!(nested("no id at all"), None);
    }
}
