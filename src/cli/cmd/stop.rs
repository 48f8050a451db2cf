//! `fleetwright stop`.

use super::scale::Services;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::service::ScaleTo;

/// Stops all instances of services
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The service and its revisions are kept. It stays stopped, also when it is deployed again, until
`fleetwright start`. Requests to it fail in the meantime.

Examples:
  fleetwright stop worker
  fleetwright stop web worker --no-wait")]
pub struct Args {
    #[command(flatten)]
    services: Services,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    args.services.change(context, "stop", ScaleTo::Stop).await
}
