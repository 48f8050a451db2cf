//! `fleetwright render`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

/// Prints what the templates render to
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(_context: &Context, _args: Args) -> Result<Done, Failure> {
    Err(Failure::failed("this command is not built yet", "use a later version"))
}
