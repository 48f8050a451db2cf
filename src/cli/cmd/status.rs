//! `fleetwright status`.

use std::io::IsTerminal;

use chrono::Utc;
use futures_util::StreamExt;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::model::name::ServiceName;
use crate::port::cluster::{ClusterError, Snapshot};
use crate::view;

/// Shows where services run, which version, how healthy
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  fleetwright status              all services, one line each
  fleetwright status web          one in full: instances and history
  fleetwright status web --watch  the same, again after every change
  fleetwright status -w -o json   one JSON document a line, for scripts; addresses are healthy ones'")]
pub struct Args {
    /// The service; all by default
    service: Option<ServiceName>,

    /// Show it again after every change, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster().await?;
    if !args.watch {
        let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
        if context.json() {
            view::json::document(&json(&chosen(snapshot, &args)?));
        } else {
            print(&text(&chosen(snapshot, &args)?, &args));
        }
        return Ok(Done::Ok);
    }
    let mut snapshots = cluster.watch().await.map_err(|error| failure(&error))?;
    loop {
        let snapshot = tokio::select! {
            next = snapshots.next() => match next {
                Some(Ok(snapshot)) => snapshot,
                Some(Err(error)) => return Err(failure(&error)),
                None => return Ok(Done::Ok),
            },
            _ = tokio::signal::ctrl_c() => return Ok(Done::Ok),
        };
        // A service that does not exist yet is worth waiting for.
        let shown = filtered(snapshot, &args);
        let written = if context.json() {
            print(&format!("{}\n", json(&shown)))
        } else {
            let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            print(&format!("{clear}{}\n", text(&shown, &args)))
        };
        if !written {
            return Ok(Done::Ok);
        }
    }
}

fn filtered(mut snapshot: Snapshot, args: &Args) -> Snapshot {
    if let Some(name) = &args.service {
        snapshot.services.retain(|service| service.name == *name);
    }
    snapshot
}

fn chosen(snapshot: Snapshot, args: &Args) -> Result<Snapshot, Failure> {
    let shown = filtered(snapshot, args);
    match &args.service {
        Some(name) if shown.services.is_empty() => {
            Err(failure(&ClusterError::NotFound { what: "service", name: name.to_string() }))
        }
        _ => Ok(shown),
    }
}

fn text(snapshot: &Snapshot, args: &Args) -> String {
    match (&args.service, snapshot.services.first()) {
        (Some(_), Some(service)) => view::status::service(service, Utc::now()),
        (Some(name), None) => format!("{name} does not run yet\n"),
        (None, _) => view::status::services(&snapshot.services, Utc::now()),
    }
}

fn json(snapshot: &Snapshot) -> serde_json::Value {
    serde_json::to_value(snapshot).unwrap_or_default()
}

/// Prints at once, and tells whether somebody still reads.
fn print(text: &str) -> bool {
    view::out::try_stdout(text).is_ok()
}
