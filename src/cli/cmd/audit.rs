//! `fleetwright audit`.

use chrono::{DateTime, Utc};
use clap::ValueEnum;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::span::since;
use crate::cli::stacks::cloud_failure;
use crate::model::audit::{AUDIT_VERSION, AuditEvent, Change, Filter, folder, may_hold, merge, read_batch};
use crate::model::name::ServiceName;
use crate::view;

/// How many objects of the bucket are read at once.
const READS_AT_ONCE: usize = 8;

/// Shows who changed what, when, and from where
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each control machine records the changes that were asked of it, before it carries them out, and
their outcome after. An outcome is `unknown` when the machine stopped in between. The records of
all control machines are merged; one that does not answer is named, and the rest is shown. They
are also copied to the project's bucket, where those of machines that are gone still are.

Examples:
  fleetwright audit                          the newest 1000 changes, oldest first
  fleetwright audit --since 2h
  fleetwright audit --since 2026-11-28 --by role/deploy
  fleetwright audit --service web -o json
  fleetwright audit --target i-0123456789abcdef0
  fleetwright audit --from bucket            when no control machine is left")]
pub struct Args {
    /// Only changes since then: `90m`, `2d`, `2026-11-28` or `2026-11-28T17:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = |text: &str| since(text, Utc::now()))]
    since: Option<DateTime<Utc>>,

    /// Only changes by principals with this in their name: `role/deploy`, `ada`, `token/ci`
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,

    /// Only changes of this service
    #[arg(long, value_name = "SERVICE", conflicts_with = "target")]
    service: Option<ServiceName>,

    /// Only changes of this: a machine's id, a token's name, or `service/NAME`
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,

    /// How many changes to show, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,

    /// Where to read them
    #[arg(long, value_name = "SOURCE", default_value = "cluster")]
    from: From,
}

/// Where records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// The control machines.
    Cluster,
    /// The project's bucket, which needs no control machine.
    Bucket,
}

/// What was found.
#[derive(Default)]
struct Found {
    events: Vec<AuditEvent>,
    /// What did not answer or could not be read, and why.
    missing: Vec<(String, String)>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let target = args.service.map(|name| format!("service/{name}")).or(args.target);
    let filter = Filter { since: args.since, by: args.by, target };
    let found = match args.from {
        From::Cluster => {
            let cluster = context.cluster_api().await?;
            let recorded = cluster.audit(&filter, args.limit).await.map_err(|error| failure(&error))?;
            Found { events: recorded.events, missing: recorded.silent }
        }
        From::Bucket => bucket(context, &filter).await?,
    };
    let mut changes = merge(found.events);
    changes.retain(|change| filter.takes(change));
    let surplus = changes.len().saturating_sub(args.limit as usize);
    let shown = &changes[surplus..];
    for (what, why) in &found.missing {
        eprintln!("warning: the changes recorded by {what} are missing: {why}");
    }
    if context.json() {
        view::json::document(&document(shown, &found.missing));
    } else {
        let text = view::audit::human_table(shown, Utc::now());
        // A reader that has gone away is no reason to fail.
        crate::view::out::stdout(&text);
    }
    Ok(Done::Ok)
}

fn document(changes: &[Change], missing: &[(String, String)]) -> serde_json::Value {
    let changes: Vec<_> = changes
        .iter()
        .map(|change| {
            let begun = &change.begun;
            let ended = change.ended.as_ref();
            json!({
                "id": begun.id,
                "at": begun.at,
                "by": begun.by,
                "level": begun.level,
                "from": begun.from,
                "operation": begun.operation,
                "target": begun.target,
                "details": begun.details,
                "outcome": change.outcome(),
                "ended": ended.map(|ended| ended.at),
                "reason": ended.and_then(|ended| ended.reason.as_deref()),
                "result": ended.map(|ended| &ended.details),
                "recorded_by": begun.recorded_by,
            })
        })
        .collect();
    let missing: Vec<_> =
        missing.iter().map(|(what, why)| json!({ "source": what, "reason": why })).collect();
    json!({ "version": AUDIT_VERSION, "changes": changes, "missing": missing })
}

/// What was copied to the project's bucket.
async fn bucket(context: &Context, filter: &Filter) -> Result<Found, Failure> {
    let repository = context.project()?;
    let environment = context.environment(&repository)?;
    let archive = context.aws(environment).await?.archive(&repository.project);
    let folder = folder(repository.project.as_str(), environment.name.as_str(), environment.cluster.as_str());
    let keys = archive.keys(&folder).await.map_err(cloud_failure)?;
    let wanted = keys.into_iter().filter(|key| may_hold(&folder, key, filter.since));
    let reads = wanted.map(async |key| {
        let bytes = archive.read(&key).await?;
        Ok((key, bytes.unwrap_or_default()))
    });
    let objects: Vec<(String, Vec<u8>)> =
        stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect().await.map_err(cloud_failure)?;
    let mut found = Found::default();
    for (key, bytes) in objects {
        let (events, unread) = read_batch(&bytes);
        found.events.extend(events);
        if unread > 0 {
            let lines = view::words::count(unread, "line");
            found.missing.push((key, format!("{lines} not understood; a later version may have written it")));
        }
    }
    Ok(found)
}
