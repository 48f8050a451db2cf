//! Values of variables of services and jobs, looked up before something is deployed.

use super::context::Context;
use super::failure::Failure;
use crate::driver::later::{LaterError, Sources, look_up};
use crate::model::later::{Known, LaterVariable};
use crate::model::name::StackName;
use crate::model::project::{Environment, Repository};
use crate::model::stack::Piece;
use crate::port::cloud::Cloud;
use crate::port::parameters::Parameters;
use crate::repo;

/// The values that `variables` need. Without variables, AWS is not asked.
///
/// # Errors
/// When one does not exist or is encrypted, or AWS can't be asked.
pub async fn known(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
    variables: &[&LaterVariable],
) -> Result<Known, Failure> {
    if variables.is_empty() {
        return Ok(Known::default());
    }
    let aws = context.aws(environment).await?;
    context.check_account(&aws, environment).await?;
    let (cloud, parameters) = (aws.cloud(aws.store(&repository.project), None), aws.parameters());
    let found = look_up_in(repository, environment, variables, cloud.as_ref(), parameters.as_ref()).await;
    found.map_err(|error| failure(&error))
}

/// Looks values up in an environment of the repository.
///
/// # Errors
/// When one does not exist or is encrypted, or AWS can't be asked.
pub async fn look_up_in(
    repository: &Repository,
    environment: &Environment,
    variables: &[&LaterVariable],
    cloud: &dyn Cloud,
    parameters: &dyn Parameters,
) -> Result<Known, LaterError> {
    let cloud_name = |stack: &StackName| match repository.stack(stack) {
        Some(stack) => repo::cloud_name(repository, environment, stack),
        None => repository.cloud_name(&environment.name, stack),
    };
    let region = environment.region.shown();
    look_up(variables, &Sources { cloud, parameters, cloud_name: &cloud_name, region }).await
}

/// What a command says of a value that was not looked up.
pub fn unknown(piece: &Piece) -> Failure {
    Failure::failed(format!("the value of `{piece}` is not known"), "run the command again")
}

/// The error as a command reports it.
pub fn failure(error: &LaterError) -> Failure {
    Failure::failed(in_place(error), error.next())
}

/// The error after its place in the repository's files.
pub fn in_place(error: &LaterError) -> String {
    match error.place() {
        Some(place) => {
            format!("{}:{}: {error}", place.file.name(), place.file.position(place.span.start))
        }
        None => error.to_string(),
    }
}
