//! `fleetwright promote`.

use super::deploy::show;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::registries::Registries;
use crate::cli::rollouts::{Begun, Voice, confirm, deploy_failure, follow_all, not_there};
use crate::cli::{Done, later};
use crate::driver::deploy::promoted;
use crate::model::name::ServiceName;

/// Deploys the image that runs in one environment to another
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Rolls out the digest that runs in the source environment, with the service's settings for the
target environment. Nothing is built; the target's registry must hold the image.

Examples:
  fleetwright promote web --from staging --to production
  fleetwright promote web --from staging --to production --plan
  fleetwright promote web --from staging --to production -y")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// The source environment
    #[arg(long, value_name = "ENVIRONMENT")]
    from: String,

    /// The target environment
    #[arg(long, value_name = "ENVIRONMENT")]
    to: String,

    /// Show what would change, and change nothing; exit status 0 no change, 3 changes
    #[arg(long)]
    plan: bool,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,

    /// Return as soon as the rollout has begun
    #[arg(long, conflicts_with = "plan")]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let (there, here) = (context.of_environment(&args.from), context.of_environment(&args.to));
    let repository = context.repository()?;
    let (from, to) = (there.environment(&repository)?, here.environment(&repository)?);
    if from.name == to.name {
        return Err(Failure::usage(
            format!("`{}` is both the source and the target", from.name),
            "name two environments",
        ));
    }
    let command = format!("fleetwright promote {} --from {} --to {}", args.service, from.name, to.name);
    context.two_clusters(&command)?;
    if !args.plan {
        may_change(&here, to, &command)?;
    }
    let known: Vec<&str> = repository.services.iter().map(|service| service.name().as_str()).collect();
    let wanted =
        repository.service(&args.service, &to.name).ok_or_else(|| not_there(&args.service, &known))?;
    let variables: Vec<_> = wanted.later.iter().collect();
    let known = later::known(&here, &repository, to, &variables).await?;
    let wanted = wanted.ready(&known).map_err(later::unknown)?;
    let source = there.cluster_of(&repository, from).await?;
    let deployed = source.deployed(&args.service, None).await.map_err(|error| failure(&error))?;
    let cluster = here.cluster_of(&repository, to).await?;
    let registries = Registries::of(&here, &repository, to).await?;
    let prepared = promoted(cluster.as_ref(), &registries.images(), &wanted, &deployed.deployment)
        .await
        .map_err(|error| deploy_failure(&error))?;
    let changes = show(context, to, std::iter::once(prepared.plan.clone()), args.plan);
    let begun = match (args.plan, changes, Begun::under_way(&prepared)) {
        (true, true, _) => return Ok(Done::Changes),
        (true, false, _) | (false, false, None) => return Ok(Done::Ok),
        (false, false, Some(begun)) => begun,
        (false, true, _) => {
            confirm(&format!("Roll this out in {}?", to.name), args.yes, &command).await?;
            let deployment = prepared.deployment;
            let revision = cluster.deploy(&deployment).await.map_err(|error| failure(&error))?;
            Begun { service: args.service, revision, digest: Some(deployment.digest) }
        }
    };
    Voice::new(context).began(&begun);
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, vec![begun]).await }
}
