//! What brings a stack back to rest, in words.

use std::fmt::{Display, Write as _};

use super::words::{count, list};
use crate::model::deployed::{DeployedStack, StackResource};
use crate::plan::recover::Recovery;

/// The stack's status and what is to be done, in lines.
pub fn sentence(name: &dyn Display, stack: Option<&DeployedStack>, recovery: &Recovery) -> String {
    let Some(stack) = stack else {
        return format!("{name} does not exist: nothing to recover. `fleetwright apply` creates it.");
    };
    let text = step(name, stack, recovery);
    match stack.status_reason.trim() {
        "" | "User Initiated" => text,
        said => format!("{text}\n  CloudFormation says: {said}"),
    }
}

fn step(name: &dyn Display, stack: &DeployedStack, recovery: &Recovery) -> String {
    let status = &stack.status;
    let quoted = |names: &[String]| list(&names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>());
    match recovery {
        Recovery::Nothing => format!("{name} is {status}: at rest. `fleetwright apply` can go on."),
        Recovery::Wait => format!("{name} is {status}: waiting for CloudFormation."),
        Recovery::Discard { foreign: false } => {
            format!(
                "{name} is {status}: an apply stopped before it created anything. It will be deleted; it holds nothing."
            )
        }
        Recovery::Discard { foreign: true } => format!(
            "{name} is {status}: somebody else made a change set to create it. Deleting it discards their change \
             set; it holds no resources."
        ),
        Recovery::RollBack => format!("{name} is {status}: the update that failed will be undone."),
        Recovery::ContinueRollback { skip, failed } => {
            let mut text = format!("{name} is {status}: its rollback will be tried again");
            if !failed.is_empty() {
                let _ = write!(text, "; {} could not be undone", quoted(failed));
            }
            if skip.is_empty() {
                text.push('.');
            } else {
                let _ = write!(
                    text,
                    ".\n  ! It will pass over {}, which may then differ from what CloudFormation believes.",
                    quoted(skip)
                );
            }
            text
        }
        Recovery::Delete { lost, retain } => {
            let mut text = format!("{name} is {status}: it will be deleted");
            match lost.len() {
                0 => text.push_str("; it holds nothing any more."),
                number => {
                    let _ = write!(text, ", and {} with it:", count(number, "resource"));
                    lost.iter().for_each(|resource| line(&mut text, "-", resource, lost));
                }
            }
            if !retain.is_empty() {
                let _ = write!(text, "\n  Left behind: {}.", quoted(retain));
            }
            text
        }
        Recovery::Person { why, next } => format!("{name} is {status}: {why}\n  next: {next}"),
    }
}

/// What goes with a stack that is deleted.
pub fn deleted(name: &str, held: &[StackResource]) -> String {
    let held: Vec<StackResource> =
        held.iter().filter(|resource| !resource.status.starts_with("DELETE_")).cloned().collect();
    let mut text = format!("{name} goes with {}:", count(held.len(), "resource"));
    held.iter().for_each(|resource| line(&mut text, "-", resource, &held));
    text
}

fn line(text: &mut String, sign: &str, resource: &StackResource, all: &[StackResource]) {
    let width = |of: fn(&StackResource) -> &str| all.iter().map(|r| of(r).len()).max().unwrap_or(0);
    let (names, types) = (width(|r| &r.resource), width(|r| &r.resource_type));
    let _ = write!(
        text,
        "\n  {sign} {:names$}   {:types$}   {}",
        resource.resource, resource.resource_type, resource.physical_id
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_says_what_it_does_and_what_is_lost() {
        let stack = |status: &str| DeployedStack {
            name: "demo-local-db".to_owned(),
            id: "arn:1".to_owned(),
            status: status.to_owned(),
            ..DeployedStack::default()
        };
        let resource = |name: &str, kind: &str, id: &str| StackResource {
            resource: name.to_owned(),
            resource_type: kind.to_owned(),
            physical_id: id.to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
        };
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let lost = vec![
            resource("Bucket", "AWS::S3::Bucket", "demo-bucket"),
            resource("Q", "AWS::SQS::Queue", "https://sqs/1/q"),
        ];
        let steps = [
            ("UPDATE_COMPLETE", Recovery::Nothing),
            ("UPDATE_IN_PROGRESS", Recovery::Wait),
            ("REVIEW_IN_PROGRESS", Recovery::Discard { foreign: false }),
            ("REVIEW_IN_PROGRESS", Recovery::Discard { foreign: true }),
            ("UPDATE_FAILED", Recovery::RollBack),
            ("UPDATE_ROLLBACK_FAILED", Recovery::ContinueRollback { skip: vec![], failed: own(&["Q"]) }),
            ("UPDATE_ROLLBACK_FAILED", Recovery::ContinueRollback { skip: own(&["Q"]), failed: own(&["Q"]) }),
            ("ROLLBACK_COMPLETE", Recovery::Delete { lost: vec![], retain: vec![] }),
            ("DELETE_FAILED", Recovery::Delete { lost, retain: own(&["Subnet"]) }),
            ("IMPORT_ROLLBACK_FAILED", Recovery::Person { why: "why".to_owned(), next: "next".to_owned() }),
        ];
        let mut text = sentence(&"db", None, &Recovery::Nothing);
        for (status, recovery) in steps {
            let _ = write!(text, "\n\n{}", sentence(&"db", Some(&stack(status)), &recovery));
        }
        insta::assert_snapshot!(text);
    }
}
