//! What brings a stack back to rest, for every status that CloudFormation has.
//!
//! One step at a time: after each the stack is looked at anew. Nothing that holds resources is
//! deleted without their names having been said.

use serde::Serialize;

use super::stack::is_ours;
use crate::model::deployed::{DeployedStack, StackResource};

/// What a person has allowed beyond the ordinary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Resources that a rollback may pass over, and leave as they are.
    pub skip: Vec<String>,
    /// Resources that a deletion may leave behind.
    pub retain: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Recovery {
    /// Nothing: the stack is at rest and can be updated, or is gone.
    Nothing,
    /// Wait: CloudFormation is at work on it.
    Wait,
    /// Delete an empty stack that a change set was made for and never executed.
    Discard {
        /// Whether the change set is somebody else's.
        foreign: bool,
    },
    /// Undo the update that failed.
    RollBack,
    /// Go on undoing an update.
    ContinueRollback {
        /// Resources to pass over.
        skip: Vec<String>,
        /// Resources that could not be undone.
        failed: Vec<String>,
    },
    /// Delete the stack.
    Delete {
        /// What goes with it; empty when it holds nothing any more.
        lost: Vec<StackResource>,
        /// What is left behind.
        retain: Vec<String>,
    },
    /// Nothing that a program should do.
    Person {
        /// Why.
        why: String,
        /// What a person can do.
        next: String,
    },
}

/// What brings `stack` back to rest, which holds `resources`.
pub fn recovery(stack: &DeployedStack, resources: &[StackResource], allowed: &Allowed) -> Recovery {
    let name = &stack.name;
    match stack.status.as_str() {
        "CREATE_COMPLETE"
        | "UPDATE_COMPLETE"
        | "UPDATE_ROLLBACK_COMPLETE"
        | "IMPORT_COMPLETE"
        | "IMPORT_ROLLBACK_COMPLETE"
        | "DELETE_COMPLETE" => Recovery::Nothing,
        "REVIEW_IN_PROGRESS" => {
            Recovery::Discard { foreign: !stack.waiting.iter().all(|name| is_ours(name)) }
        }
        status if status.ends_with("_IN_PROGRESS") => Recovery::Wait,
        // What was created is left there: undoing it deletes it, as the stack's deletion does.
        "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => {
            Recovery::Delete { lost: held(resources, &[]), retain: Vec::new() }
        }
        "UPDATE_FAILED" => Recovery::RollBack,
        "UPDATE_ROLLBACK_FAILED" => {
            let failed: Vec<String> = resources
                .iter()
                .filter(|r| r.status.ends_with("_FAILED"))
                .map(|r| r.resource.clone())
                .collect();
            let skip = allowed.skip.iter().filter(|name| failed.contains(name)).cloned().collect();
            Recovery::ContinueRollback { skip, failed }
        }
        "DELETE_FAILED" => {
            // CloudFormation only lets go of what it failed to delete.
            let failed = |name: &&String| {
                resources.iter().any(|r| r.resource == **name && r.status == "DELETE_FAILED")
            };
            let retain: Vec<String> = allowed.retain.iter().filter(failed).cloned().collect();
            Recovery::Delete { lost: held(resources, &retain), retain }
        }
        "IMPORT_ROLLBACK_FAILED" => Recovery::Person {
            why: "an import could not be undone, and CloudFormation offers no way on from there".to_owned(),
            next: format!(
                "see what it complains of (`aws cloudformation describe-stack-events --stack-name {name}`), \
                 mend that by hand, and ask AWS's support to reset the stack"
            ),
        },
        status => Recovery::Person {
            why: format!("its status {status} is not known to this version of fleetwright"),
            next: "look at it in the console, or update fleetwright".to_owned(),
        },
    }
}

/// What the stack still holds and would lose, other than `retain`.
fn held(resources: &[StackResource], retain: &[String]) -> Vec<StackResource> {
    let is_held = |resource: &&StackResource| {
        // What was never made has no id.
        !matches!(resource.status.as_str(), "DELETE_COMPLETE" | "DELETE_SKIPPED")
            && !resource.physical_id.is_empty()
            && !retain.contains(&resource.resource)
    };
    resources.iter().filter(is_held).cloned().collect()
}

impl Recovery {
    /// Whether it must be confirmed by the stack's name: something would be lost, or is
    /// somebody else's.
    pub fn needs_name(&self) -> bool {
        match self {
            Self::Delete { lost, .. } => !lost.is_empty(),
            Self::Discard { foreign } => *foreign,
            // What is passed over no longer is what CloudFormation believes it to be.
            Self::ContinueRollback { skip, .. } => !skip.is_empty(),
            Self::Nothing | Self::Wait | Self::RollBack | Self::Person { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(status: &str) -> DeployedStack {
        DeployedStack {
            name: "demo-local-db".to_owned(),
            id: "arn:1".to_owned(),
            status: status.to_owned(),
            ..DeployedStack::default()
        }
    }

    fn resource(name: &str, status: &str, id: &str) -> StackResource {
        StackResource {
            resource: name.to_owned(),
            resource_type: "AWS::SQS::Queue".to_owned(),
            physical_id: id.to_owned(),
            status: status.to_owned(),
        }
    }

    fn names(resources: &[StackResource]) -> Vec<&str> {
        resources.iter().map(|resource| resource.resource.as_str()).collect()
    }

    #[test]
    fn what_stands_well_is_left_alone() {
        for status in ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"] {
            assert_eq!(recovery(&stack(status), &[], &Allowed::default()), Recovery::Nothing);
        }
        for status in ["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"] {
            assert_eq!(recovery(&stack(status), &[], &Allowed::default()), Recovery::Wait);
        }
    }

    #[test]
    fn a_failed_creation_is_deleted_and_what_it_holds_is_named() {
        let resources = [
            resource("Gone", "DELETE_COMPLETE", "q-1"),
            resource("Kept", "DELETE_SKIPPED", "q-2"),
            resource("Never", "CREATE_FAILED", ""),
        ];
        let empty = recovery(&stack("ROLLBACK_COMPLETE"), &resources, &Allowed::default());
        assert_eq!(empty, Recovery::Delete { lost: Vec::new(), retain: Vec::new() });
        assert!(!empty.needs_name());
        let resources = [resource("Queue", "CREATE_COMPLETE", "q-3"), resource("Never", "CREATE_FAILED", "")];
        let full = recovery(&stack("CREATE_FAILED"), &resources, &Allowed::default());
        assert!(
            matches!(&full, Recovery::Delete { lost, .. } if names(lost) == ["Queue"]) && full.needs_name()
        );
    }

    #[test]
    fn a_rollback_goes_on_and_passes_over_only_what_failed_and_was_named() {
        let resources = [resource("Bad", "UPDATE_FAILED", "q-1"), resource("Good", "UPDATE_COMPLETE", "q-2")];
        let allowed = Allowed { skip: vec!["Bad".to_owned(), "Good".to_owned()], ..Allowed::default() };
        let step = |allowed: &Allowed| recovery(&stack("UPDATE_ROLLBACK_FAILED"), &resources, allowed);
        let failed = vec!["Bad".to_owned()];
        assert_eq!(
            step(&Allowed::default()),
            Recovery::ContinueRollback { skip: Vec::new(), failed: failed.clone() }
        );
        assert_eq!(step(&allowed), Recovery::ContinueRollback { skip: failed.clone(), failed });
        assert!(step(&allowed).needs_name());
        assert_eq!(recovery(&stack("UPDATE_FAILED"), &[], &allowed), Recovery::RollBack);
    }

    #[test]
    fn a_failed_deletion_leaves_behind_only_what_failed_and_was_named() {
        let resources =
            [resource("Stays", "DELETE_FAILED", "q-1"), resource("Also", "CREATE_COMPLETE", "q-2")];
        let retain = vec!["Stays".to_owned(), "Also".to_owned()];
        let step = recovery(&stack("DELETE_FAILED"), &resources, &Allowed { retain, ..Allowed::default() });
        let Recovery::Delete { lost, retain } = step else { panic!("{step:?}") };
        assert_eq!((names(&lost), retain), (vec!["Also"], vec!["Stays".to_owned()]));
    }

    #[test]
    fn somebody_else_s_review_needs_its_name() {
        let ours =
            DeployedStack { waiting: vec!["fleetwright-1-2".to_owned()], ..stack("REVIEW_IN_PROGRESS") };
        assert!(!recovery(&ours, &[], &Allowed::default()).needs_name());
        let theirs = DeployedStack { waiting: vec!["review-me".to_owned()], ..ours };
        assert!(recovery(&theirs, &[], &Allowed::default()).needs_name());
    }
}
