//! `fleetwright rollback`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::driver::rollout::{Outcome, follow};
use crate::model::name::ServiceName;

/// Goes back to the revision before
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Makes a new revision that runs what ran before the present one, health-gated like any rollout,
and follows it to its end. Going back is not rolled back itself: if the earlier revision does
not become healthy either, it stops where it is.")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// Return as soon as it has begun
    #[arg(long)]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster_to_change(&format!("fleetwright rollback {}", args.service)).await?;
    let revision = cluster.rollback(&args.service).await.map_err(|error| failure(&error))?;
    eprintln!("{}   revision {revision}   rolling out", args.service);
    if args.no_wait {
        return Ok(Done::Ok);
    }
    let outcome = tokio::select! {
        outcome = follow(cluster.as_ref(), &args.service, revision) => outcome.map_err(|error| failure(&error))?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::Interrupted {
                left: format!("the cluster goes on by itself; `fleetwright status {}` shows it", args.service),
            });
        }
    };
    match outcome {
        Outcome::Running => {
            eprintln!("{}   revision {revision}   running", args.service);
            Ok(Done::Ok)
        }
        Outcome::Undone { reason } => Err(Failure::failed(
            format!("revision {revision} of `{}` did not become healthy: {reason}", args.service),
            format!("see `fleetwright logs {}`", args.service),
        )),
        Outcome::Superseded { by } => Err(Failure::failed(
            format!("revision {revision} of `{}` was superseded by revision {by}", args.service),
            format!("see `fleetwright status {}`", args.service),
        )),
    }
}
