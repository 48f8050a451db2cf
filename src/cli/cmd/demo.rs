//! `fleetwright demo`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::demo;
use crate::cli::failure::Failure;
use crate::model::name::LocalName;

/// Shows the whole journey on this machine: an emulated AWS, real systemd machines, commits that
/// become running services, a broken one that rolls back, and a rolled group
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  fleetwright demo               in the project's root, or any repository made by `fleetwright init`
  fleetwright demo -o json       one JSON object a line; the last one is the result
  fleetwright demo --stop        stop the pipeline server that a demo left running

Everything stays up when it ends, to be looked at. `fleetwright local down` removes it.")]
pub struct Args {
    /// Stop the pipeline server that an earlier demo left running, and do nothing else
    #[arg(long)]
    stop: bool,

    /// The local cloud's name
    #[arg(long, value_name = "NAME", env = "FLEETWRIGHT_LOCAL_NAME", default_value = "local")]
    name: LocalName,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    if args.stop {
        demo::server::stop(&demo::folder(args.name.as_str())?);
        return Ok(Done::Ok);
    }
    tokio::select! {
        result = demo::journey::run(context, &args.name) => result.map(|()| Done::Ok),
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted {
            left: "what was started is still there; run the demo again to begin anew, \
                   or `fleetwright local down` to remove it".to_owned(),
        }),
    }
}
