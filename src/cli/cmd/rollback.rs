//! `fleetwright rollback`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::rollouts::{Begun, Voice, digest, follow_all};
use crate::model::name::ServiceName;

/// Goes back to an earlier revision
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Makes a new revision that runs what ran before the present one, health-gated like any rollout,
and follows it to its end. Going back is not rolled back itself: if the earlier revision does
not become healthy either, it stops where it is. The number of instances stays what it is now.

Examples:
  fleetwright rollback web
  fleetwright rollback web --to 7        to that revision; `fleetwright status web` lists them
  fleetwright rollback web --no-wait
  fleetwright rollback web -o json       one event a line, described in docs/json.md")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// The number of the revision to go back to; by default the last earlier one whose instances were all healthy
    #[arg(long, value_name = "N")]
    to: Option<u64>,

    /// Return as soon as it has begun
    #[arg(long)]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let to = args.to.map_or_else(String::new, |number| format!(" --to {number}"));
    let cluster = context.cluster_to_change(&format!("fleetwright rollback {}{to}", args.service)).await?;
    let revision = cluster.rollback(&args.service, args.to).await.map_err(|error| failure(&error))?;
    let digest = digest(cluster.as_ref(), &args.service, revision).await;
    let begun = Begun { service: args.service, revision, digest };
    Voice::new(context).began(&begun);
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, vec![begun]).await }
}
