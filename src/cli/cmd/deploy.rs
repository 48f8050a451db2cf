//! `fleetwright deploy`.

use std::sync::Arc;

use crate::adapter::docker_build::CredentialSource;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::rollouts::{Begun, Voice, confirm, deploy_failure, follow_all, not_there};
use crate::cli::{Done, pipelines};
use crate::driver::deploy::{Images, Prepared, Version, prepare};
use crate::model::name::ServiceName;
use crate::model::project::{Environment, Repository, Wanted};
use crate::plan::deploy::ServicePlan;
use crate::port::cluster::Cluster;
use crate::port::images::ImageStore;
use crate::view;
use crate::view::paint::Paint;

/// Makes what runs equal to the services' files
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Compares services/*.yaml with what runs, shows what differs by field, asks, rolls it out, and
follows it to its end. What a pipeline has built keeps the digest that runs; an image of somebody
else's is looked up by the tag in the file. A number of instances that was set by `scale` stays
until the file's own number changes.

  + new   ± its instances are replaced   ~ changed without replacing any

Exit status: 0 done, 1 failed, 2 invalid input; with --plan 0 no change, 3 changes.

Examples:
  fleetwright deploy                          every service
  fleetwright deploy web cache
  fleetwright deploy --plan                   only shows what would change
  fleetwright deploy web --image team/web:1.4 an image that is in the registry
  fleetwright deploy web --revision 7         the image of revision 7, with today's file
  fleetwright deploy -y -o json               one event a line, described in docs/json.md")]
pub struct Args {
    /// The services; by default all
    #[arg(value_name = "SERVICE")]
    services: Vec<ServiceName>,

    /// The image to deploy: NAME:TAG, NAME@DIGEST, or a digest of the service's own image
    #[arg(long, value_name = "REF", conflicts_with = "revision")]
    image: Option<String>,

    /// Deploy the image that this revision runs
    #[arg(long, value_name = "N")]
    revision: Option<u64>,

    /// Only show what would change
    #[arg(long)]
    plan: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Return as soon as the rollouts have begun
    #[arg(long, conflicts_with = "plan")]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    let wanted = choose(&repository, environment, &args.services)?;
    let version = match (&args.image, args.revision) {
        (None, None) => Version::Kept,
        (Some(image), _) => Version::Image(image.clone()),
        (None, Some(number)) => Version::Revision(number),
    };
    if version != Version::Kept && wanted.len() != 1 {
        return Err(Failure::usage(
            "`--image` and `--revision` are about one service",
            "name it: `fleetwright deploy SERVICE --image REF`",
        ));
    }
    let command = command_line(&args);
    if !args.plan {
        may_change(context, environment, &command)?;
    }
    let cluster = context.cluster_of(&repository, environment).await?;
    let prepared = prepare_all(context, &repository, environment, &cluster, &wanted, &version).await?;
    let plans: Vec<ServicePlan> = prepared.iter().map(|one| masked(context, &one.plan)).collect();
    let changes = plans.iter().any(ServicePlan::has_changes);
    show(context, environment, &plans, args.plan);
    match (args.plan, changes) {
        (true, true) => return Ok(Done::Changes),
        (_, false) => return Ok(Done::Ok),
        (false, true) => {}
    }
    confirm("Roll this out?", args.yes, &command).await?;
    let voice = Voice::new(context);
    let mut begun = Vec::new();
    for one in prepared.iter().filter(|one| one.plan.has_changes()) {
        let deployment = &one.deployment;
        let revision = cluster.deploy(deployment).await.map_err(|error| {
            let told: Vec<&str> = begun.iter().map(|begun: &Begun| begun.service.as_str()).collect();
            match (failure(&error), told.is_empty()) {
                (Failure::Failed { message, next }, false) => Failure::failed(
                    format!(
                        "service `{}`: {message}; {} was begun before",
                        deployment.spec.name,
                        told.join(", ")
                    ),
                    next,
                ),
                (other, _) => other,
            }
        })?;
        let one = Begun {
            service: deployment.spec.name.clone(),
            revision,
            digest: Some(deployment.digest.clone()),
        };
        voice.began(&one);
        begun.push(one);
    }
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, begun).await }
}

/// The command as it would be typed again.
fn command_line(args: &Args) -> String {
    let mut words = vec!["fleetwright deploy".to_owned()];
    words.extend(args.services.iter().map(ToString::to_string));
    words.extend(args.image.iter().map(|image| format!("--image {image}")));
    words.extend(args.revision.iter().map(|number| format!("--revision {number}")));
    words.join(" ")
}

/// The services of those names, as they are to be in the environment; all when there are no names.
fn choose<'r>(
    repository: &'r Repository,
    environment: &Environment,
    names: &[ServiceName],
) -> Result<Vec<&'r Wanted>, Failure> {
    let known: Vec<&str> = repository.services.iter().map(|service| service.name().as_str()).collect();
    if names.is_empty() {
        if known.is_empty() {
            return Err(Failure::usage(
                "this repository has no services",
                "describe one in services/, as docs/infra-repository.md shows",
            ));
        }
        let all = repository.services.iter();
        return Ok(all.map(|service| service.in_environment(&environment.name)).collect());
    }
    names
        .iter()
        .map(|name| repository.service(name, &environment.name).ok_or_else(|| not_there(name, &known)))
        .collect()
}

/// What would be deployed of each service.
async fn prepare_all(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
    cluster: &Arc<dyn Cluster>,
    wanted: &[&Wanted],
    version: &Version,
) -> Result<Vec<Prepared>, Failure> {
    let store = store(context, repository, environment).await?;
    let hosts = match &environment.registry {
        Some(registry) => Some((registry.push.get()?, registry.pull.get()?)),
        None => None,
    };
    let images = Images { store: store.as_ref(), registry: hosts };
    let each = wanted.iter().map(|wanted| prepare(cluster.as_ref(), &images, wanted, version));
    let prepared = futures_util::future::join_all(each).await;
    prepared.into_iter().map(|one| one.map_err(|error| deploy_failure(&error))).collect()
}

/// Looks images of the environment's registry up, and those of others.
///
/// # Errors
/// When a variable that this needs is not set.
pub(super) async fn store(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
) -> Result<Box<dyn ImageStore>, Failure> {
    Ok(Box::new(match &environment.registry {
        Some(registry) => pipelines::registry_images(context, repository, environment, registry).await?,
        None => pipelines::images(context, "docker.io", CredentialSource::None)?,
    }))
}

/// A plan without what must not be shown.
fn masked(context: &Context, plan: &ServicePlan) -> ServicePlan {
    let mask = context.mask();
    let mut plan = plan.clone();
    for change in &mut plan.changes {
        for value in [&mut change.before, &mut change.after].into_iter().flatten() {
            *value = mask.mask(value);
        }
    }
    plan
}

/// Shows the plan: as the command's result if it is only asked for that, and else beside it.
fn show(context: &Context, environment: &Environment, plans: &[ServicePlan], only: bool) {
    match (context.json(), only) {
        (true, true) => view::json::document(&view::deploy::json(environment.name.as_str(), plans)),
        // The events say what is rolled out.
        (true, false) => {}
        (false, true) => view::out::stdout(&view::deploy::human(plans, Paint(context.colour_out))),
        (false, false) => eprint!("{}", view::deploy::human(plans, Paint(context.colour_err))),
    }
}
