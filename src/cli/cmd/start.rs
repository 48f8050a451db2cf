//! `fleetwright start`.

use super::scale::carry_out;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::name::ServiceName;
use crate::model::service::ScaleTo;

/// Starts a service that was stopped
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It gets as many instances as it had.

Examples:
  fleetwright start worker
  fleetwright start web worker --no-wait")]
pub struct Args {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<ServiceName>,

    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let names: Vec<&str> = args.services.iter().map(ServiceName::as_str).collect();
    let cluster = context.cluster_to_change(&format!("fleetwright start {}", names.join(" "))).await?;
    let changes = args.services.into_iter().map(|service| (service, ScaleTo::Start)).collect();
    carry_out(context, &cluster, changes, !args.no_wait).await
}
