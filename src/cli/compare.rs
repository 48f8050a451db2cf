//! Services, jobs and watched files compared with what is deployed, beside a plan of the stacks.

use std::sync::Arc;

use super::context::Context;
use super::failure::Failure;
use super::host_files;
use super::later::{self, look_up_in};
use super::registries::Registries;
use super::rollouts::deploy_failure;
use crate::driver::deploy::{DeployError, Version, prepare, prepare_job};
use crate::driver::later::LaterError;
use crate::model::later::{Known, LaterVariable};
use crate::model::project::{Environment, Repository, Wanted};
use crate::model::stack::Reference;
use crate::plan::comparison::Comparison;
use crate::plan::stack::{Plan, StackAction};
use crate::port::cluster::Cluster;

/// Compares all services, jobs and watched files of `environment`. `plan` is that of its stacks: outputs of stacks that it changes
/// may have other values afterwards.
///
/// # Errors
/// When the cluster, the registry or AWS can't be asked.
pub async fn compare(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
    plan: &Plan,
) -> Result<Comparison, Failure> {
    let aws = context.aws(environment).await?;
    let (cloud, parameters) = (aws.cloud(aws.store(&repository.project), None), aws.parameters());
    let api = context.cluster_api_of(repository, environment).await?;
    let cluster: Arc<dyn Cluster> = api.clone();
    let registries = Registries::of(context, repository, environment).await?;
    let images = registries.images();
    let services: Vec<&Wanted> =
        repository.services.iter().map(|service| service.in_environment(&environment.name)).collect();
    let mut compared = Comparison::default();
    for wanted in &services {
        let name = wanted.spec.name.as_str();
        compared.notes.extend(changing(name, &wanted.later, plan));
        let variables: Vec<_> = wanted.later.iter().collect();
        let found =
            look_up_in(repository, environment, &variables, cloud.as_ref(), parameters.as_ref()).await;
        let Some(known) = known(&mut compared, name, found)? else { continue };
        let ready = wanted.ready(&known).map_err(later::unknown)?;
        match prepare(cluster.as_ref(), &images, &ready, &Version::Kept).await {
            Ok(prepared) => compared.services.push(prepared.plan),
            Err(error) => not_prepared(&mut compared, name, &error)?,
        }
    }
    for job in repository.jobs.iter().map(|job| job.in_environment(&environment.name)) {
        let name = job.spec.name.as_str();
        compared.notes.extend(changing(name, &job.later, plan));
        let variables: Vec<_> = job.later.iter().collect();
        let found =
            look_up_in(repository, environment, &variables, cloud.as_ref(), parameters.as_ref()).await;
        let Some(known) = known(&mut compared, name, found)? else { continue };
        let ready = job.ready(&known).map_err(later::unknown)?;
        match prepare_job(api.as_ref(), cluster.as_ref(), &images, &ready, &services).await {
            Ok(prepared) => compared.jobs.push(prepared.plan),
            Err(error) => not_prepared(&mut compared, name, &error)?,
        }
    }
    let files: Vec<_> =
        repository.host_files.iter().map(|file| file.in_environment(&environment.name)).collect();
    compared.host_files = host_files::plans(api.as_ref(), repository, environment, &files).await?;
    let mask = context.mask();
    compared.map_values(|value| mask.mask(value));
    Ok(compared)
}

/// Says which variables may get another value, because the plan changes the stacks they come from.
fn changing(name: &str, variables: &[LaterVariable], plan: &Plan) -> Vec<String> {
    let changes = |reference: &&Reference| {
        let stack = plan.stacks.iter().find(|stack| stack.stack == reference.stack);
        stack.is_some_and(|stack| stack.action == StackAction::Update)
    };
    let of = |variable: &LaterVariable| {
        let reference = variable.value.references().find(changes)?;
        Some(format!(
            "{name}: {} comes from stack `{}`, which this plan changes: its value is known after apply",
            variable.of, reference.stack
        ))
    };
    variables.iter().filter_map(of).collect()
}

/// The values that were found. That an output does not exist yet is a note, and everything else a failure.
fn known(
    compared: &mut Comparison,
    name: &str,
    found: Result<Known, LaterError>,
) -> Result<Option<Known>, Failure> {
    match found {
        Ok(known) => Ok(Some(known)),
        Err(error @ LaterError::Output { .. }) => {
            compared.notes.push(format!("{name}: not compared: {error}"));
            Ok(None)
        }
        Err(error) => Err(later::failure(&error)),
    }
}

/// What can't be deployed yet is a note, and everything else a failure.
fn not_prepared(compared: &mut Comparison, name: &str, error: &DeployError) -> Result<(), Failure> {
    match error {
        DeployError::NoVersion(..) | DeployError::NoJobVersion(..) | DeployError::Unset { .. } => {
            compared.notes.push(format!("{name}: not compared: {error}"));
            Ok(())
        }
        error => Err(deploy_failure(error)),
    }
}
