//! `fleetwright drain`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::model::name::{MachineId, VolumeName};
use crate::view;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);

/// Moves everything off machines
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Starts a replacement of every instance elsewhere, waits until it is healthy, and only then stops
the one on the machine. Machines that are drained take no new work. Refused, with the reason,
when there is nowhere else to go. May be called again after any failure.

A volume is kept on one machine. A machine that keeps one is drained only where the volume is named,
and its service begins elsewhere with an empty one.

Examples:
  fleetwright drain i-0d3c1f2a9b8e7d6c5
  fleetwright drain i-0d3c1f2a9b8e7d6c5 --lose-volume data")]
pub struct Args {
    /// The machines' ids
    #[arg(required = true, value_name = "MACHINE")]
    machines: Vec<MachineId>,

    /// A volume on these machines whose data may be lost; may be given several times
    #[arg(long, value_name = "VOLUME")]
    lose_volume: Vec<VolumeName>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let names: Vec<_> = args.machines.iter().map(MachineId::as_str).collect();
    let cluster = context.cluster_to_change(&format!("fleetwright drain {}", names.join(" "))).await?;
    let names = names.join(", ");
    let start = Instant::now();
    let mut tell = tokio::time::interval_at(tokio::time::Instant::now() + TELL, TELL);
    let work = cluster.drain(&args.machines, &args.lose_volume);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => {
                result.map_err(|error| failure(&error))?;
                if context.json() {
                    let seconds = start.elapsed().as_secs_f64();
                    view::json::document(&json!({"version": 1, "drained": args.machines, "seconds": seconds}));
                } else {
                    eprintln!("{names}   drained in {}", view::time::human(start.elapsed()));
                }
                return Ok(Done::Ok);
            }
            _ = tell.tick() => eprintln!("{names}   draining for {}", view::time::human(start.elapsed())),
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::Interrupted {
                    left: format!("{names} takes no new work; `fleetwright drain {}` goes on", names.replace(", ", " ")),
                });
            }
        }
    }
}
