//! Environments with `protect: true`: a command that changes one names it, and `-y` alone destroys nothing in it.

use super::context::Context;
use super::failure::Failure;
use crate::model::name::ProjectName;
use crate::model::project::Environment;
use crate::repo::PROJECT_FILE;

/// Refuses `command`, which changes `environment`, where that is protected and was not named with `-e`: a default,
/// a variable that a shell still holds, and the environment of a saved plan are no decision.
///
/// # Errors
/// When it is protected and was not named.
pub fn may_change(context: &Context, environment: &Environment, command: &str) -> Result<(), Failure> {
    let name = environment.name.as_str();
    if !environment.protect || context.named.as_deref() == Some(name) {
        return Ok(());
    }
    let how = match &context.global.environment {
        Some(_) => "it was not named with `-e`",
        None => "it is only the default",
    };
    Err(Failure::usage(
        format!(
            "environment `{name}` is protected (`protect: true` at {}), and {how}; nothing was changed",
            environment.place
        ),
        format!("if it is the one, name it: `{command} -e {name}`"),
    ))
}

/// How a command that destroys something may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// It was given.
    Given,
    /// The name must be typed.
    Ask,
}

/// Whether `command` may destroy something of `environment`, having `-y` (`yes`) and what `--confirm` holds.
///
/// # Errors
/// When another name was given, or `-y` stands alone and the environment is protected.
pub fn may_destroy(
    (project, environment): (&ProjectName, &Environment),
    yes: bool,
    confirm: Option<&str>,
    command: &str,
) -> Result<Consent, Failure> {
    let name = format!("{project}-{}", environment.name);
    match confirm {
        Some(given) if given == name => Ok(Consent::Given),
        Some(given) => Err(Failure::usage(
            format!("`--confirm {given}` is not the name of what would be destroyed; nothing was changed"),
            format!("the project's and the environment's name is `{name}`"),
        )),
        None if yes && environment.protect => Err(Failure::usage(
            format!(
                "environment `{}` is protected in {PROJECT_FILE}, and `-y` alone destroys nothing in it; nothing was changed",
                environment.name
            ),
            format!("read what is said above, then `{command} -e {} -y --confirm {name}`", environment.name),
        )),
        None if yes => Ok(Consent::Given),
        None => Ok(Consent::Ask),
    }
}
