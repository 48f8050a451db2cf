//! `fleetwright why`.

use std::collections::{BTreeMap, BTreeSet};

use crate::adapter::cluster_api::ClusterApi;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::model::name::ServiceName;
use crate::model::service::ServiceStatus;
use crate::model::timeline::{EventPage, EventQuery, merged};
use crate::plan::why::{Known, why};
use crate::port::cluster::{Cluster as _, ClusterError};
use crate::view;

/// How many events are read.
const LIMIT: u32 = 2_000;
/// How many machines' events are read at most.
const MACHINES: usize = 50;

/// Explains why a service is in the state it is in
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Says what state the service is in, what is wrong with which instance, what led to it, and what to do next. It
is derived from `fleetwright status` and from the events of the last 24 hours, which `fleetwright events`
lists. Exit status 0 means that the question was answered, whatever the answer is.

Examples:
  fleetwright why web
  fleetwright why web -o json     one document, described in docs/json.md")]
pub struct Args {
    /// The service
    service: ServiceName,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
    let Some(service) = snapshot.services.iter().find(|one| one.name == args.service) else {
        let name = args.service.to_string();
        return Err(failure(&ClusterError::NotFound { what: "service", name }));
    };
    // Without events the state is explained even so.
    let page = match events(&cluster, service).await {
        Ok(page) => page,
        Err(error @ ClusterError::Denied { .. }) => return Err(failure(&error)),
        Err(error) => {
            eprintln!("warning: what happened is not known: {error}");
            EventPage { version: 1, events: Vec::new(), missing: Vec::new() }
        }
    };
    for missing in &page.missing {
        eprintln!("warning: the events recorded by {} are missing: {}", missing.machine, missing.reason);
    }
    // Viewers may not read it; the engine's own words have to do then.
    let placement: Option<BTreeMap<String, String>> =
        cluster.deployed(&args.service, None).await.ok().map(|deployed| deployed.deployment.spec.placement);
    let answer = why(&Known {
        service,
        machines: &snapshot.machines,
        events: &page.events,
        placement: placement.as_ref(),
    });
    if context.json() {
        view::json::document(&view::why::json(&args.service, &answer));
    } else {
        view::out::stdout(&view::why::human(&answer));
    }
    Ok(Done::Ok)
}

/// The events of a service, and of the machines on which it runs or ran.
async fn events(cluster: &ClusterApi, service: &ServiceStatus) -> Result<EventPage, ClusterError> {
    cluster.keeps_events().await?;
    let query = EventQuery { since: None, of: vec![service.name.to_string()], limit: LIMIT };
    let mut page = cluster.events(&query).await?;
    let ran_on = page.events.iter().rev().filter_map(|event| event.machine.as_ref());
    let runs_on = service.instances.iter().filter_map(|instance| instance.machine.as_ref());
    let machines: BTreeSet<String> = runs_on.chain(ran_on).map(ToString::to_string).collect();
    if !machines.is_empty() {
        let of = machines.into_iter().take(MACHINES).collect();
        let others = cluster.events(&EventQuery { of, ..query }).await?;
        let of_machines = others.events.into_iter().filter(|event| event.service.is_none());
        page.events = merged(page.events.into_iter().chain(of_machines));
        for missing in others.missing {
            if !page.missing.contains(&missing) {
                page.missing.push(missing);
            }
        }
    }
    Ok(page)
}
