//! `fleetwright promote`.

use super::deploy::store;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::rollouts::{Begun, Voice, confirm, deploy_failure, follow_all, not_there};
use crate::driver::deploy::{Images, promoted};
use crate::model::name::ServiceName;
use crate::view;
use crate::view::paint::Paint;

/// Deploys in one environment what runs in another
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The digest that runs there is rolled out here, with what the service's file says for this
environment. Nothing is built, and the registry of this environment must hold the image.

Examples:
  fleetwright promote web --from staging --to production
  fleetwright promote web --from staging --to production --plan
  fleetwright promote web --from staging --to production -y")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// The environment that it runs in
    #[arg(long, value_name = "ENVIRONMENT")]
    from: String,

    /// The environment that it is deployed in
    #[arg(long, value_name = "ENVIRONMENT")]
    to: String,

    /// Only show what would change; exit status 0 no change, 3 changes
    #[arg(long)]
    plan: bool,

    /// Do not ask
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
            format!("`{}` is both where it runs and where it is to run", from.name),
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
    let source = there.cluster_of(&repository, from).await?;
    let deployed = source.deployed(&args.service, None).await.map_err(|error| failure(&error))?;
    let cluster = here.cluster_of(&repository, to).await?;
    let store = store(&here, &repository, to).await?;
    let hosts = match &to.registry {
        Some(registry) => Some((registry.push.get()?, registry.pull.get()?)),
        None => None,
    };
    let images = Images { store: store.as_ref(), registry: hosts };
    let prepared = promoted(cluster.as_ref(), &images, wanted, &deployed.deployment)
        .await
        .map_err(|error| deploy_failure(&error))?;
    let plans = [prepared.plan.clone()];
    let human = || view::deploy::human(&plans, Paint(context.colour_out));
    match (args.plan, context.json()) {
        (true, true) => view::json::document(&view::deploy::json(to.name.as_str(), &plans)),
        (true, false) => view::out::stdout(&human()),
        (false, true) => {}
        (false, false) => eprint!("{}", human()),
    }
    match (args.plan, prepared.plan.has_changes()) {
        (true, true) => return Ok(Done::Changes),
        (_, false) => return Ok(Done::Ok),
        (false, true) => {}
    }
    confirm(&format!("Roll this out in {}?", to.name), args.yes, &command).await?;
    let deployment = prepared.deployment;
    let revision = cluster.deploy(&deployment).await.map_err(|error| failure(&error))?;
    let begun = Begun { service: args.service, revision, digest: Some(deployment.digest) };
    Voice::new(context).began(&begun);
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, vec![begun]).await }
}
