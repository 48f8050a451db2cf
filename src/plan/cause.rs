//! Why a stack failed: the first cause, not the last symptom.

use crate::model::deployed::ResourceEvent;

/// What went wrong first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The resource's logical id; `None` when the stack as a whole was refused.
    pub resource: Option<String>,
    /// CloudFormation's words.
    pub reason: String,
}

/// The first failure among `events` (oldest first) that is not itself the consequence of
/// another: CloudFormation cancels what is under way when something fails, and reports
/// that as failures too.
pub fn first_cause(stack: &str, events: &[ResourceEvent]) -> Option<Cause> {
    let failures = || events.iter().filter(|event| event.is_failure() && !event.reason.is_empty());
    let own = |event: &&ResourceEvent| event.is_of_stack(stack);
    let cancelled = |event: &&ResourceEvent| event.reason.to_lowercase().contains("cancelled");
    let found = failures()
        .find(|event| !own(event) && !cancelled(event))
        .or_else(|| failures().find(own))
        .or_else(|| failures().next())
        .or_else(|| {
            // Some failures are told only in the stack's own rollback.
            events.iter().find(|e| own(e) && e.status.contains("ROLLBACK") && !e.reason.is_empty())
        })?;
    Some(Cause { resource: (!own(&found)).then(|| found.resource.clone()), reason: found.reason.clone() })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn event(resource: &str, status: &str, reason: &str) -> ResourceEvent {
        ResourceEvent {
            id: String::new(),
            at: DateTime::UNIX_EPOCH,
            resource: resource.to_owned(),
            resource_type: String::new(),
            status: status.to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn cancellations_are_not_causes() {
        let events = [
            event("demo", "UPDATE_IN_PROGRESS", "User Initiated"),
            event("Other", "UPDATE_FAILED", "Resource update cancelled"),
            event("Group", "UPDATE_FAILED", "MaxSize 6 is above the limit of 5"),
            event(
                "demo",
                "UPDATE_ROLLBACK_IN_PROGRESS",
                "The following resource(s) failed to update: [Group].",
            ),
        ];
        let cause = first_cause("demo", &events).expect("a cause");
        assert_eq!(cause.resource.as_deref(), Some("Group"));
        assert_eq!(cause.reason, "MaxSize 6 is above the limit of 5");
    }

    #[test]
    fn a_stack_that_fails_as_a_whole_is_its_own_cause() {
        let events = [event("demo", "CREATE_FAILED", "Template format error")];
        let cause = first_cause("demo", &events).expect("a cause");
        assert_eq!(cause, Cause { resource: None, reason: "Template format error".to_owned() });
        assert_eq!(first_cause("demo", &[event("A", "CREATE_COMPLETE", "")]), None);
    }
}
