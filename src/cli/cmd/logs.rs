//! `fleetwright logs`.

use futures_util::StreamExt;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::model::name::ServiceName;
use crate::model::redact::Mask;
use crate::view;

/// Prints a service's logs
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Lines of all instances, each with its instance and machine: `web@1 i-0d3c | text`.

Examples:
  fleetwright logs web
  fleetwright logs web --follow --tail 10
  fleetwright logs web -o json           one object a line, described in docs/json.md")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// Go on with the lines to come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// How many lines of each instance to begin with
    #[arg(long, value_name = "N", default_value_t = 100)]
    tail: u32,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster().await?;
    // The engine removes the container of a failed instance, and its log with it.
    let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
    let service = snapshot.services.iter().find(|service| service.name == args.service);
    if let Some((revision, failed)) = service.and_then(view::status::newest_failure) {
        eprintln!("revision {} failed:", revision.number);
        for line in failed.report() {
            eprintln!("{line}");
        }
    }
    let mut lines =
        cluster.logs(&args.service, args.tail, args.follow).await.map_err(|error| failure(&error))?;
    loop {
        let line = tokio::select! {
            line = lines.next() => match line {
                Some(line) => line.map_err(|error| failure(&error))?,
                None => return Ok(Done::Ok),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Done::Ok),
        };
        let text = match context.json() {
            true => Mask::process().json(view::logs::json(args.service.as_str(), &line)).to_string(),
            false => line,
        };
        // A reader that has gone away is no reason to fail.
        if view::out::try_stdout(&format!("{text}\n")).is_err() {
            return Ok(Done::Ok);
        }
    }
}
