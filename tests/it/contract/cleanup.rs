//! Deleting what a scenario left, however it ended: stacks, those that use something first,
//! parameters made beside them, and the project's bucket.

use std::time::{Duration, Instant};

use aws_sdk_cloudformation::types::Stack;
use fleetwright::model::stack::PROJECT_TAG;

use super::lab::{Kind, Lab};

/// Deletes all that carries the scenario's project. What can't be deleted is named, never hidden;
/// it does not panic, since it also runs while a failed test is unwound.
pub fn all(lab: &Lab) {
    let limit = Instant::now() + Duration::from_secs(if lab.kind == Kind::Aws { 900 } else { 30 });
    loop {
        let left = stacks(lab);
        if left.is_empty() {
            break;
        }
        if Instant::now() > limit {
            for stack in left {
                eprintln!("LEFT BEHIND: stack {}", stack.stack_id.unwrap_or_default());
            }
            break;
        }
        for stack in &left {
            delete(lab, stack);
        }
        std::thread::sleep(Duration::from_millis(if lab.kind == Kind::Aws { 3000 } else { 100 }));
    }
    parameters(lab);
    bucket(lab);
}

/// The stacks of the project, nested ones left to their parents.
fn stacks(lab: &Lab) -> Vec<Stack> {
    let mut pages = lab.cloudformation().describe_stacks().into_paginator().items().send();
    let mut found = Vec::new();
    while let Some(next) = lab.wait(pages.next()) {
        match next {
            Ok(stack) => found.push(stack),
            Err(error) => {
                eprintln!("LEFT BEHIND, perhaps: stacks of {} ({error:?})", lab.project);
                break;
            }
        }
    }
    let is_ours = |stack: &Stack| {
        stack.stack_name().is_some_and(|name| name.starts_with(&lab.project))
            || stack
                .tags()
                .iter()
                .any(|tag| tag.key() == Some(PROJECT_TAG) && tag.value() == Some(lab.project.as_str()))
    };
    let is_gone = |stack: &Stack| stack.stack_status().is_some_and(|s| s.as_str() == "DELETE_COMPLETE");
    found.retain(|stack| stack.parent_id.is_none() && is_ours(stack) && !is_gone(stack));
    found
}

/// Asks for a stack's deletion; one that is refused, because something still uses the stack or it is
/// at work, is asked for again in the next round.
fn delete(lab: &Lab, stack: &Stack) {
    let id = stack.stack_id().unwrap_or_default();
    let status = stack.stack_status().map(|status| status.as_str()).unwrap_or_default();
    if status == "DELETE_IN_PROGRESS" {
        return;
    }
    let cloud = lab.cloudformation();
    if stack.enable_termination_protection == Some(true) {
        let off = cloud.update_termination_protection().stack_name(id).enable_termination_protection(false);
        let _ = lab.wait(off.send());
    }
    let _ = lab.wait(cloud.delete_stack().stack_name(id).send());
}

/// Deletes the parameters below `/PROJECT/` that scenarios made themselves.
fn parameters(lab: &Lab) {
    let ssm = lab.ssm();
    let path = format!("/{}/", lab.project);
    let mut pages = ssm.get_parameters_by_path().path(&path).recursive(true).into_paginator().send();
    let mut names = Vec::new();
    while let Some(Ok(page)) = lab.wait(pages.next()) {
        names.extend(page.parameters.unwrap_or_default().into_iter().filter_map(|parameter| parameter.name));
    }
    for name in names {
        if let Err(error) = lab.wait(ssm.delete_parameter().name(&name).send()) {
            eprintln!("LEFT BEHIND: parameter {name} ({error:?})");
        }
    }
}

/// Empties and deletes the project's bucket, if there is one.
fn bucket(lab: &Lab) {
    let (s3, bucket) = (lab.s3(), lab.bucket());
    let mut pages = s3.list_objects_v2().bucket(&bucket).into_paginator().send();
    while let Some(page) = lab.wait(pages.next()) {
        // There is none.
        let Ok(page) = page else { return };
        for key in page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key) {
            let _ = lab.wait(s3.delete_object().bucket(&bucket).key(key).send());
        }
    }
    if let Err(error) = lab.wait(s3.delete_bucket().bucket(&bucket).send()) {
        eprintln!("LEFT BEHIND: bucket {bucket} ({error:?})");
    }
}
