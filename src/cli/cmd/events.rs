//! `fleetwright events`.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::adapter::cluster_api::ClusterApi;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::span::since;
use crate::model::timeline::{EventPage, EventQuery, Shown, TIMELINE_VERSION, TimelineEvent};
use crate::view;

/// Time between two questions for new events.
const POLL: Duration = Duration::from_secs(1);
/// How long after an event another control machine may still send an earlier one.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// Shows what happened to services, machines and jobs
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
One timeline of what happened and why: what was deployed and by whom, where instances were started, how they
ended, which machine was lost or emptied, which job failed. Events are kept for 24 hours, at most 1000 of
each service, job or machine. The events of all control machines are merged; one that does not answer is
named on standard error. `fleetwright why SERVICE` explains the present state of a service.

Examples:
  fleetwright events                      the newest 200, oldest first
  fleetwright events web i-0d3c --since 1h
  fleetwright events web@1
  fleetwright events --follow
  fleetwright events -f -o json           one object a line, described in docs/json.md")]
pub struct Args {
    /// Services, instances (`web@1`), jobs or machines; all by default
    #[arg(value_name = "NAME", value_parser = name)]
    names: Vec<String>,

    /// Print new events as they happen, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Only events since then: `10m`, `2d`, `2026-11-28` or `2026-11-28T17:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = |text: &str| since(text, Utc::now()))]
    since: Option<DateTime<Utc>>,

    /// How many events to show, the newest: 200 by default, 10,000 with `--since`
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: Option<u32>,
}

/// A name that an event can have.
fn name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    if !text.is_empty() && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("name a service, an instance such as `web@1`, a job or a machine".to_owned())
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    cluster.keeps_events().await.map_err(|error| failure(&error))?;
    let limit = args.limit.unwrap_or(if args.since.is_some() { 10_000 } else { 200 });
    let query = EventQuery { since: args.since, of: args.names, limit };
    let page = cluster.events(&query).await.map_err(|error| failure(&error))?;
    report_missing(&page, &mut BTreeSet::new());
    if args.follow {
        return follow(context, &cluster, query, page).await;
    }
    if context.json() {
        let events: Vec<_> = page.events.iter().map(view::timeline::json).collect();
        view::json::document(
            &json!({ "version": TIMELINE_VERSION, "events": events, "missing": page.missing }),
        );
    } else if page.events.is_empty() {
        view::out::stdout("No event is recorded that fits.\n");
    } else {
        let text: String = page.events.iter().map(view::timeline::human).collect();
        // A reader that has gone away is no reason to fail.
        view::out::stdout(&text);
    }
    Ok(Done::Ok)
}

/// Prints events as they come. Asking again needs no stream that can break off, whichever control machine
/// goes away.
async fn follow(
    context: &Context,
    cluster: &ClusterApi,
    query: EventQuery,
    page: EventPage,
) -> Result<Done, Failure> {
    let mut shown = Shown::default();
    let mut silent = BTreeSet::new();
    let mut page = page;
    // Times are those of the machines: this computer's clock has no say in it.
    let mut newest: Option<DateTime<Utc>> = None;
    // What `--limit` left out at first is not shown later.
    let first = page.events.first().map(|event| event.at);
    loop {
        report_missing(&page, &mut silent);
        for event in &page.events {
            newest = newest.max(Some(event.at));
            if shown.is_new(event) && !print(context, event) {
                return Ok(Done::Ok);
            }
        }
        let from = newest.map(|newest| newest - LATE).max(query.since).max(first);
        let next = async {
            tokio::time::sleep(POLL).await;
            cluster.events(&EventQuery { since: from, limit: 10_000, ..query.clone() }).await
        };
        page = tokio::select! {
            answer = next => answer.map_err(|error| failure(&error))?,
            _ = tokio::signal::ctrl_c() => return Ok(Done::Ok),
        };
    }
}

/// Prints an event, and returns whether somebody still reads.
fn print(context: &Context, event: &TimelineEvent) -> bool {
    let text = match context.json() {
        true => format!("{}\n", view::out::masked(view::timeline::json(event))),
        false => view::timeline::human(event),
    };
    view::out::try_stdout(&text).is_ok()
}

/// Names the control machines whose events are missing, each once.
fn report_missing(page: &EventPage, reported: &mut BTreeSet<String>) {
    for missing in &page.missing {
        if reported.insert(missing.machine.clone()) {
            eprintln!("warning: the events recorded by {} are missing: {}", missing.machine, missing.reason);
        }
    }
    reported.retain(|machine| page.missing.iter().any(|missing| missing.machine == *machine));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_events() {
        for good in ["web", "web@1", "web@i-0d3c", "i-0123456789abcdef0", "nightly"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", "a,b", "a b", "a&b", "é"] {
            name(bad).expect_err(bad);
        }
    }
}
