//! `fleetwright agent settled`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::adapter::host_files::SETTLED;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::span::span;
use crate::model::duration::written;
use crate::view;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Waits until the watched files of this machine have been dealt with since it started
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The unit fleetwright-host-files.service runs it: a program that reads a watched file has
`Wants=fleetwright-host-files.service` and `After=fleetwright-host-files.service`, and so starts with a
file that is up to date. Where no control machine answers in time, it ends with status 1, and the program
starts with the file as it was.

Examples:
  fleetwright agent settled --within 90s")]
pub struct Args {
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = span)]
    within: Duration,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let end = Instant::now() + args.within;
    while !Path::new(SETTLED).exists() {
        if Instant::now() >= end {
            return Err(Failure::failed(
                format!(
                    "the watched files of this machine have not been dealt with within {}",
                    written(args.within)
                ),
                "see `journalctl -u fleetwright-agent`: no control machine may have answered",
            ));
        }
        sleep(LOOK).await;
    }
    if context.json() {
        view::json::document(&json!({ "version": 1, "settled": true }));
    }
    Ok(Done::Ok)
}
