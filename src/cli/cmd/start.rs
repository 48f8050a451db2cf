//! `fleetwright start`.

use super::scale::Services;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::service::ScaleTo;

/// Starts services that were stopped
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each gets the number of instances that it had when it was stopped.

Examples:
  fleetwright start worker
  fleetwright start web worker --no-wait")]
pub struct Args {
    #[command(flatten)]
    services: Services,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    args.services.change(context, "start", ScaleTo::Start).await
}
