//! `fleetwright stop`.

use super::scale::carry_out;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::name::ServiceName;
use crate::model::service::ScaleTo;

/// Stops every instance of a service, until it is started again
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Its revisions stay, and it stays stopped through deployments, which tell so. Its requests fail
from then on: nothing takes their place.

Examples:
  fleetwright stop worker
  fleetwright stop web worker --no-wait")]
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
    let cluster = context.cluster_to_change(&format!("fleetwright stop {}", names.join(" "))).await?;
    let changes = args.services.into_iter().map(|service| (service, ScaleTo::Stop)).collect();
    carry_out(context, &cluster, changes, !args.no_wait).await
}
