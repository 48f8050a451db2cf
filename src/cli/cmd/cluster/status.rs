//! `fleetwright cluster status`.

use chrono::Utc;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::plan::cluster as plan;
use crate::port::recovery::ControlMachines as _;
use crate::view;

/// Shows the control machines, their majority, and what is kept outside the cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Asks each control machine by itself, so it answers without a majority, too. Exit status 1 when no
control machine answers. Needs the level viewer.

Examples:
  fleetwright cluster status
  fleetwright cluster status -o json")]
pub struct Args {}

/// Runs the command.
pub async fn run(context: &Context, _args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    let asked = cluster.ask_all().await.map_err(|error| failure(&error))?;
    let health = plan::health(&asked);
    if context.json() {
        view::json::document(&view::cluster::document(&asked));
    } else {
        let text = view::cluster::status(&asked, Utc::now());
        crate::view::out::stdout(&text);
    }
    match health {
        plan::Health::Whole | plan::Health::Fragile | plan::Health::NoMajority => Ok(Done::Ok),
        plan::Health::Silent => Err(Failure::failed(
            "no control machine answers",
            "what runs goes on running. If the control machines are lost for good, the group's new ones \
             restore the services from the project's bucket: see `fleetwright cluster rebuild`",
        )),
    }
}
