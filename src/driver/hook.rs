//! Running the hooks of a stack.

use std::collections::BTreeMap;

use super::apply::Shell;
use super::plan::Wanted;
use crate::event::stack::{Failure, StackEvent, Work};
use crate::model::stack::{Moment, RenderedStack};
use crate::plan::stack::Outputs;
use crate::port::hooks::HookError;

/// Whose hooks are run, and what they are told.
pub struct Of<'a> {
    /// Runs them.
    pub shell: &'a Shell,
    /// What is wanted of the environment.
    pub wanted: &'a Wanted,
    /// The stack.
    pub stack: &'a RenderedStack,
    /// What is done to it.
    pub work: Work,
    /// Its outputs, as far as there are any yet.
    pub outputs: &'a Outputs,
}

/// Runs those of `moment`, one after the other, until one fails; the error is `None` when a signal came
/// before anything was done to the stack.
pub async fn run(of: &Of<'_>, moment: Moment) -> Result<(), Option<Failure>> {
    let Of { shell, stack, .. } = of;
    let environment = environment(of, moment);
    for hook in stack.hooks(moment) {
        let name = &stack.name;
        let command = hook.command.join(" ");
        let line =
            |text: &str| shell.emit(StackEvent::Said { stack: name.to_string(), text: text.to_owned() });
        let ended = if shell.stop.is_cancelled() {
            Err(HookError::Stopped)
        } else {
            line(&format!("{} {command}", moment.name()));
            shell.hooks.run(&hook.command, &environment, &line, &shell.stop).await
        };
        match ended {
            Ok(()) => {}
            // Nothing was done yet, so nothing failed.
            Err(HookError::Stopped) if matches!(moment, Moment::BeforeApply | Moment::BeforeDestroy) => {
                return Err(None);
            }
            Err(error) => {
                return Err(Some(Failure {
                    cause: format!("the hook `{command}` failed: {error}"),
                    at: Some(hook.place.to_string()),
                    next: next(moment),
                }));
            }
        }
    }
    Ok(())
}

fn next(moment: Moment) -> String {
    match moment {
        Moment::BeforeApply => "nothing of the stack was changed; remove the cause, then `fleetwright apply` again",
        Moment::AfterApply => {
            "the stack itself is as it shall be, so `fleetwright apply` will not run it again: remove the cause, \
             then run it by hand"
        }
        Moment::BeforeDestroy => {
            "the stack was not deleted; remove the cause, then `fleetwright destroy` again"
        }
        Moment::AfterDestroy => "the stack is gone: remove the cause, then run it by hand",
    }
    .to_owned()
}

/// What a hook is told, beside what fleetwright itself was.
fn environment(of: &Of<'_>, moment: Moment) -> BTreeMap<String, String> {
    let Of { wanted, stack, work, outputs, .. } = of;
    let action = match work {
        Work::Create => "create",
        Work::Delete => "delete",
        Work::Update | Work::Import | Work::Wait => "update",
    };
    let given = [
        ("FLEETWRIGHT_PROJECT", wanted.project.to_string()),
        ("FLEETWRIGHT_ENVIRONMENT", wanted.environment.to_string()),
        ("FLEETWRIGHT_REGION", wanted.region.clone()),
        ("FLEETWRIGHT_STACK", stack.name.to_string()),
        ("FLEETWRIGHT_STACK_NAME", stack.cloud_name.clone()),
        ("FLEETWRIGHT_ACTION", action.to_owned()),
        ("FLEETWRIGHT_HOOK", moment.name().to_owned()),
        ("AWS_REGION", wanted.region.clone()),
    ];
    let outputs = outputs.iter().map(|(name, value)| (format!("FLEETWRIGHT_OUTPUT_{name}"), value.clone()));
    given.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(outputs).collect()
}
