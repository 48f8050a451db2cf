//! `fleetwright machines`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::view;

/// Lists the cluster's machines
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Machines are listed once their agent has registered them. A machine that does not answer stays
in the list until its instance is gone from its group. A column shows what machines run short of: a disk or
its inodes more than 85 % used, or less than 10 % of the memory available.

Examples:
  fleetwright machines
  fleetwright machines --wide       with the figures of all machines
  fleetwright machines -o json")]
pub struct Args {
    /// Show how full every machine is
    #[arg(short, long)]
    wide: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster().await?;
    let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&serde_json::json!({ "version": 1, "machines": snapshot.machines }));
    } else {
        let text = view::machines::machines(&snapshot.machines, &snapshot.services, args.wide);
        view::out::stdout(&text);
    }
    Ok(Done::Ok)
}
