//! `fleetwright logs`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::span::since;
use crate::cli::target::Target;
use crate::driver::logs::merged;
use crate::model::logs::{LogItem, LogQuery};
use crate::port::cluster::{Cluster as _, Snapshot};
use crate::port::streams::ReadLogs as _;
use crate::view;

/// How many lines of each instance are shown when nothing else is asked for.
const TAIL: u32 = 100;

/// Prints the logs of services, or of single instances
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Lines of all instances in the order of time, each with its instance and machine: `web@1 i-0d3c | text`.
Instances that have ended are included for as long as their machine has them. Machines whose lines are
missing are named on standard error.

Examples:
  fleetwright logs web
  fleetwright logs web --follow --tail 10
  fleetwright logs web worker --since 10m
  fleetwright logs web@1 -t --since 2026-11-28T17:00:00Z --until 2026-11-28T17:05:00Z
  fleetwright logs web --grep 'status=500'
  fleetwright logs web -o json           one object a line, described in docs/json.md")]
pub struct Args {
    /// The services, or instances of them, such as `web@1`
    #[arg(value_name = "SERVICE", required = true)]
    targets: Vec<Target>,

    /// Print new lines as they are written, until Ctrl-C
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,

    /// How many lines of each instance to begin with: 100 by default, all with `--since` or `--until`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    tail: Option<u32>,

    /// Only lines since then: `10m`, `2d`, `2026-11-28` or `2026-11-28T17:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = |text: &str| since(text, Utc::now()))]
    since: Option<DateTime<Utc>>,

    /// Only lines until then, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = |text: &str| since(text, Utc::now()))]
    until: Option<DateTime<Utc>>,

    /// Only lines that contain this text, exactly as written here; it is not a pattern
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,

    /// Show when each line was written (UTC)
    #[arg(short, long)]
    timestamps: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
    report_failure(&snapshot, &args.targets);
    let all = args.since.is_some() || args.until.is_some();
    let mut sources = Vec::new();
    for target in &args.targets {
        let slot = target.instance.as_ref().and_then(|name| name.split_once('@'));
        let query = LogQuery {
            slot: slot.map(|(_, slot)| slot.to_owned()),
            since: args.since,
            until: args.until,
            grep: args.grep.clone(),
            tail: args.tail.or((!all).then_some(TAIL)),
            follow: args.follow,
        };
        let items = cluster.read_logs(&target.service, &query).await.map_err(|error| failure(&error))?;
        sources.push(items);
    }
    let mut lines = merged(sources, None);
    let (mut missing, mut any) = (BTreeSet::new(), false);
    loop {
        let item = tokio::select! {
            item = lines.next() => match item {
                Some(item) => item.map_err(|error| failure(&error))?,
                None => break,
            },
            _ = tokio::signal::ctrl_c() => return Ok(Done::Ok),
        };
        match item {
            LogItem::Entry(entry) => {
                any = true;
                let text = match context.json() {
                    true => view::out::masked(view::logs::json(&entry)).to_string(),
                    false => view::logs::human(&entry, args.timestamps),
                };
                // A reader that has gone away is no reason to fail.
                if view::out::try_stdout(&format!("{text}\n")).is_err() {
                    return Ok(Done::Ok);
                }
            }
            LogItem::Live => {}
            LogItem::Missing { machine, reason } => {
                if missing.insert(machine.clone()) || args.follow {
                    eprintln!("warning: lines of machine {machine} are missing: {reason}");
                }
            }
        }
    }
    if !any {
        absent(&snapshot, &args.targets)?;
    }
    Ok(Done::Ok)
}

/// Shows how the newest revision of a service failed: its instances and their logs may be gone.
fn report_failure(snapshot: &Snapshot, targets: &[Target]) {
    let [target] = targets else { return };
    let service = snapshot.services.iter().find(|service| service.name == target.service);
    if let Some((revision, failed)) = service.and_then(view::status::newest_failure) {
        eprintln!("revision {} failed:", revision.number);
        for line in failed.report() {
            eprintln!("{line}");
        }
    }
}

/// Whether an instance was asked for that does not exist, when nothing was found of it.
fn absent(snapshot: &Snapshot, targets: &[Target]) -> Result<(), Failure> {
    for target in targets {
        let Some(wanted) = &target.instance else { continue };
        let service = snapshot.services.iter().find(|service| service.name == target.service);
        let instances = service.map(|service| service.instances.as_slice()).unwrap_or_default();
        if instances.iter().all(|one| one.name != *wanted) {
            let names: BTreeSet<&str> = instances.iter().map(|one| one.name.as_str()).collect();
            let names: Vec<&str> = names.into_iter().collect();
            return Err(Failure::failed(
                format!("there is no log of an instance `{wanted}`"),
                if names.is_empty() {
                    format!("service `{}` has no instances; see `fleetwright status`", target.service)
                } else {
                    format!("name one that there is: {}", names.join(", "))
                },
            ));
        }
    }
    Ok(())
}
