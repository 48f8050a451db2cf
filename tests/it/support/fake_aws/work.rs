//! What CloudFormation does to a stack, step by step, written out when it begins.

use serde_json::Value;

use super::changes::{Act, KNOWN_AFTER_APPLY, Recreation, changes};
use super::policy::{Deed, denial};
use super::stack::{Resource, Stack, Step, Undo};
use super::template::{Asked, Wanted};
use super::wire::Refusal;
use super::{Failing, When};

/// What decides how work goes: failures to come, and fresh ids.
pub struct Fate<'f> {
    /// Failures, of any stack.
    pub failing: &'f [Failing],
    /// The last number given out.
    pub serial: &'f mut u32,
    /// Whether what fails is left as it is.
    pub keep_failed: bool,
}

impl Fate<'_> {
    fn reason(&self, stack: &Stack, resource: &str, at: &[When]) -> Option<String> {
        let fits = |f: &&Failing| f.stack == stack.name && f.resource == resource && at.contains(&f.when);
        self.failing.iter().find(fits).map(|failing| failing.reason.clone())
    }

    fn fresh(&mut self, stack: &Stack, resource: &str) -> String {
        *self.serial += 1;
        format!("{}-{resource}-{:08X}", stack.name, self.serial.wrapping_mul(0x9e37_79b1))
    }
}

const USER: &str = "User Initiated";

/// Makes the stack that `wanted` describes.
pub fn create(stack: &Stack, wanted: &Wanted, fate: &mut Fate<'_>) -> Result<Vec<Step>, Refusal> {
    let mut steps = vec![Step::Stack("CREATE_IN_PROGRESS", USER.to_owned())];
    let mut made: Vec<Resource> = Vec::new();
    let mut failed = Vec::new();
    for level in wanted.levels() {
        let begun = level.into_iter().map(|name| Resource {
            kind: wanted.kind(&name).to_owned(),
            retained: wanted.retains(&name),
            name,
            ..Resource::default()
        });
        let begun: Vec<Resource> = begun.collect();
        steps.extend(begun.iter().map(|r| Step::Resource(r.clone(), "CREATE_IN_PROGRESS", String::new())));
        for resource in begun {
            if !failed.is_empty() {
                let words = "Resource creation cancelled".to_owned();
                steps.push(Step::Resource(resource.clone(), "CREATE_FAILED", words));
                made.push(resource);
            } else if let Some(reason) = fate.reason(stack, &resource.name, &[When::Create]) {
                failed.push(resource.name.clone());
                steps.push(Step::Resource(resource.clone(), "CREATE_FAILED", reason));
                made.push(resource);
            } else {
                let properties = wanted.properties(&resource.name, &|asked| among(&made, asked))?;
                let id = fate.fresh(stack, &resource.name);
                let resource = Resource { id, properties, ..resource };
                let words = "Resource creation Initiated".to_owned();
                steps.push(Step::Resource(resource.clone(), "CREATE_IN_PROGRESS", words));
                steps.push(Step::Resource(resource.clone(), "CREATE_COMPLETE", String::new()));
                made.push(resource);
            }
        }
        if !failed.is_empty() {
            break;
        }
    }
    if failed.is_empty() {
        let outputs = wanted.outputs(&|asked| among(&made, asked))?;
        steps.push(Step::Commit(Box::new(wanted.clone()), outputs));
        steps.push(Step::Stack("CREATE_COMPLETE", String::new()));
        return Ok(steps);
    }
    let failed = format!("The following resource(s) failed to create: [{}]. ", failed.join(", "));
    if fate.keep_failed {
        steps.push(Step::Stack("CREATE_FAILED", failed));
        return Ok(steps);
    }
    let words = format!("{failed}Rollback requested by user.");
    steps.extend(take_back(stack, &made, words, fate));
    Ok(steps)
}

/// Undoes a creation.
pub fn take_back(stack: &Stack, made: &[Resource], words: String, fate: &Fate<'_>) -> Vec<Step> {
    let mut steps = vec![Step::Stack("ROLLBACK_IN_PROGRESS", words)];
    let failed = remove(stack, made, &[], &[When::Delete, When::Rollback], fate, &mut steps);
    steps.push(match failed.is_empty() {
        true => Step::Stack("ROLLBACK_COMPLETE", String::new()),
        false => Step::Stack("ROLLBACK_FAILED", not_deleted(&failed)),
    });
    steps
}

/// Deletes a stack, leaving `retain` behind.
pub fn delete(stack: &Stack, retain: &[String], fate: &Fate<'_>) -> Vec<Step> {
    let mut steps = vec![Step::Stack("DELETE_IN_PROGRESS", USER.to_owned())];
    let failed = remove(stack, &stack.resources, retain, &[When::Delete], fate, &mut steps);
    steps.push(match failed.is_empty() {
        true => Step::Stack("DELETE_COMPLETE", String::new()),
        false => Step::Stack("DELETE_FAILED", not_deleted(&failed)),
    });
    steps
}

fn not_deleted(failed: &[String]) -> String {
    format!("The following resource(s) failed to delete: [{}]. ", failed.join(", "))
}

/// Deletes `resources`, the last first; those that could not be.
fn remove(
    stack: &Stack,
    resources: &[Resource],
    retain: &[String],
    at: &[When],
    fate: &Fate<'_>,
    steps: &mut Vec<Step>,
) -> Vec<String> {
    let mut failed = Vec::new();
    for resource in resources.iter().rev() {
        let mut step = |status, reason| steps.push(Step::Resource(resource.clone(), status, reason));
        if matches!(resource.status.as_str(), "DELETE_COMPLETE" | "DELETE_SKIPPED") {
            continue;
        }
        if resource.retained || retain.contains(&resource.name) {
            step("DELETE_SKIPPED", String::new());
        } else if resource.id.is_empty() {
            step("DELETE_COMPLETE", String::new());
        } else {
            step("DELETE_IN_PROGRESS", String::new());
            match fate.reason(stack, &resource.name, at) {
                Some(reason) => {
                    step("DELETE_FAILED", reason);
                    failed.push(resource.name.clone());
                }
                None => step("DELETE_COMPLETE", String::new()),
            }
        }
    }
    failed
}

/// Makes of the stack what `wanted` describes; also what would have to be undone.
pub fn update(
    stack: &Stack,
    wanted: &Wanted,
    fate: &mut Fate<'_>,
) -> Result<(Vec<Step>, Vec<Undo>), Refusal> {
    let policy: Option<Value> = stack.policy.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let changes = changes(stack, wanted)?;
    let mut steps = vec![Step::Stack("UPDATE_IN_PROGRESS", USER.to_owned())];
    let mut now = stack.resources.clone();
    let (mut undo, mut failed): (Vec<Undo>, Vec<String>) = (Vec::new(), Vec::new());
    let mut created = false;
    // What is to go is asked for first: nothing is done when the policy keeps it.
    for change in changes.iter().filter(|change| change.act == Act::Remove) {
        let denied = denial(policy.as_ref(), Deed::Delete, &change.name, &change.kind);
        if let (Some(reason), Some(resource)) = (denied, stack.resource(&change.name)) {
            steps.push(Step::Resource(resource.clone(), "UPDATE_FAILED", reason));
            undo.push(Undo { before: Some(resource.clone()), after: resource.clone() });
            failed.push(change.name.clone());
        }
    }
    for level in wanted.levels() {
        if !failed.is_empty() {
            break;
        }
        let of_level =
            changes.iter().filter(|change| change.act != Act::Remove && level.contains(&change.name));
        let mut begun = Vec::new();
        for change in of_level {
            let before = stack.resource(&change.name).cloned();
            let mut replaces = change.recreation == Recreation::Always;
            let properties = wanted.properties(&change.name, &|asked| among(&now, asked))?;
            if change.recreation == Recreation::Conditionally {
                replaces = before.as_ref().is_some_and(|before| before.properties != properties);
            }
            let resource = Resource {
                name: change.name.clone(),
                kind: change.kind.clone(),
                retained: wanted.retains(&change.name),
                id: before.as_ref().map(|before| before.id.clone()).unwrap_or_default(),
                properties,
                ..Resource::default()
            };
            let deed = if replaces { Deed::Replace } else { Deed::Modify };
            let denied =
                before.as_ref().and_then(|_| denial(policy.as_ref(), deed, &change.name, &change.kind));
            let (status, words) = match (&before, replaces) {
                (None, _) => ("CREATE_IN_PROGRESS", ""),
                (Some(_), true) => (
                    "UPDATE_IN_PROGRESS",
                    "Requested update requires the creation of a new physical resource; hence creating one.",
                ),
                (Some(_), false) => ("UPDATE_IN_PROGRESS", ""),
            };
            if denied.is_none() {
                steps.push(Step::Resource(resource.clone(), status, words.to_owned()));
            }
            begun.push((before, resource, replaces, denied));
        }
        for (before, mut resource, replaces, denied) in begun {
            let is_new = before.is_none();
            let (complete, fails) = match is_new {
                true => ("CREATE_COMPLETE", "CREATE_FAILED"),
                false => ("UPDATE_COMPLETE", "UPDATE_FAILED"),
            };
            let at = if is_new { When::Create } else { When::Update };
            let reason = denied.or_else(|| fate.reason(stack, &resource.name, &[at]));
            if !failed.is_empty() {
                let words = if is_new { "Resource creation cancelled" } else { "Resource update cancelled" };
                steps.push(Step::Resource(resource.clone(), fails, words.to_owned()));
            } else if let Some(reason) = reason {
                created |= is_new;
                failed.push(resource.name.clone());
                steps.push(Step::Resource(resource.clone(), fails, reason));
            } else {
                if is_new || replaces {
                    resource.id = fate.fresh(stack, &resource.name);
                    let under_way = if is_new { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" };
                    let words = "Resource creation Initiated".to_owned();
                    steps.push(Step::Resource(resource.clone(), under_way, words));
                }
                steps.push(Step::Resource(resource.clone(), complete, String::new()));
                now.retain(|known| known.name != resource.name);
                now.push(resource.clone());
            }
            undo.push(Undo { before, after: resource });
        }
    }
    if failed.is_empty() {
        let outputs = wanted.outputs(&|asked| among(&now, asked))?;
        steps.push(Step::Commit(Box::new(wanted.clone()), outputs));
        steps.push(Step::Stack("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", String::new()));
        let replaced = undo.iter().filter_map(|u| u.before.clone().filter(|before| before.id != u.after.id));
        replaced.for_each(|former| clean(stack, &former, fate, &mut steps));
        for change in changes.iter().filter(|change| change.act == Act::Remove) {
            if let Some(former) = stack.resource(&change.name) {
                clean(stack, former, fate, &mut steps);
                steps.push(Step::Forget(change.name.clone()));
            }
        }
        steps.push(Step::Stack("UPDATE_COMPLETE", String::new()));
        return Ok((steps, undo));
    }
    let verb = if created { "create" } else { "update" };
    let words = format!("The following resource(s) failed to {verb}: [{}]. ", failed.join(", "));
    if fate.keep_failed {
        steps.push(Step::Stack("UPDATE_FAILED", words));
    } else {
        steps.extend(roll_back(stack, &undo, words, &[], fate));
    }
    Ok((steps, undo))
}

/// Undoes an update, passing over `skip`.
pub fn roll_back(stack: &Stack, undo: &[Undo], words: String, skip: &[String], fate: &Fate<'_>) -> Vec<Step> {
    let mut steps = vec![Step::Stack("UPDATE_ROLLBACK_IN_PROGRESS", words)];
    let mut failed = Vec::new();
    for Undo { before, after } in undo.iter().rev() {
        let Some(before) = before else { continue };
        if skip.contains(&after.name) {
            // It stays as it is, and counts as undone.
            steps.push(Step::Resource(after.clone(), "UPDATE_COMPLETE", String::new()));
            continue;
        }
        steps.push(Step::Resource(after.clone(), "UPDATE_IN_PROGRESS", String::new()));
        match fate.reason(stack, &after.name, &[When::Rollback]) {
            Some(reason) => {
                failed.push(after.name.clone());
                steps.push(Step::Resource(after.clone(), "UPDATE_FAILED", reason));
            }
            None => steps.push(Step::Resource(before.clone(), "UPDATE_COMPLETE", String::new())),
        }
    }
    if !failed.is_empty() {
        let words = format!("The following resource(s) failed to update: [{}]. ", failed.join(", "));
        steps.push(Step::Stack("UPDATE_ROLLBACK_FAILED", words));
        return steps;
    }
    steps.push(Step::Stack("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", String::new()));
    for Undo { before, after } in undo.iter().rev() {
        match before {
            Some(before) if before.id != after.id && !skip.contains(&after.name) => {
                clean(stack, after, fate, &mut steps);
            }
            Some(_) => {}
            None => {
                clean(stack, after, fate, &mut steps);
                steps.push(Step::Forget(after.name.clone()));
            }
        }
    }
    steps.push(Step::Undone);
    steps.push(Step::Stack("UPDATE_ROLLBACK_COMPLETE", String::new()));
    steps
}

/// Deletes what an update left; that this fails keeps nothing from completing.
fn clean(stack: &Stack, former: &Resource, fate: &Fate<'_>, steps: &mut Vec<Step>) {
    let mut step = |status, reason| steps.push(Step::Former(former.clone(), status, reason));
    if former.retained {
        return step("DELETE_SKIPPED", String::new());
    }
    if !former.id.is_empty() {
        step("DELETE_IN_PROGRESS", String::new());
    }
    match fate.reason(stack, &former.name, &[When::Delete]) {
        Some(reason) => step("DELETE_FAILED", reason),
        None => step("DELETE_COMPLETE", String::new()),
    }
}

fn among(resources: &[Resource], asked: Asked<'_>) -> Option<String> {
    let (name, attribute) = match asked {
        Asked::Id(name) => (name, None),
        Asked::Attribute(name, attribute) => (name, Some(attribute)),
    };
    let id = &resources.iter().find(|resource| resource.name == name)?.id;
    let value = attribute.map_or_else(|| id.clone(), |attribute| format!("{attribute}-of-{id}"));
    assert!(!value.contains(KNOWN_AFTER_APPLY), "what stands there is known");
    Some(value)
}
