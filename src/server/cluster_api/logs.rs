//! Logs: lines of the machines' own engines, read through their agents, in the order of time.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde::Deserialize;
use tokio::time::sleep;

use super::super::strict::StrictQuery;
use super::lines::{items, lines};
use super::{Api, Problem};
use crate::driver::logs::{last_of_each, merged};
use crate::model::feature::Feature;
use crate::model::logs::{LogItem, LogQuery};
use crate::model::machine::{Machine, MachineState};
use crate::model::name::{MachineId, ServiceName};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::Line;
use crate::port::streams::{LogItems, LogRequest};

/// How many lines are given when the caller doesn't say.
const TAIL: u32 = 100;
/// Time between two checks for new machines while lines are followed.
const CHECK: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
    /// Whether lines come with their time, in its order. Callers of the version before don't ask for it.
    #[serde(default)]
    items: bool,
    slot: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    grep: Option<String>,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Path(name): Path<String>,
    StrictQuery(query): StrictQuery<Query>,
) -> Result<Response, Problem> {
    let name: ServiceName = name.parse()?;
    if !query.items {
        let stream = api.cluster.logs(&name, query.tail.unwrap_or(TAIL), query.follow).await?;
        return Ok(lines(stream.map(|item| item.map(Line::Log)).boxed()));
    }
    let Query { tail, follow, slot, since, until, grep, .. } = query;
    let query = LogQuery { slot, since, until, grep, tail, follow };
    let snapshot = api.cluster.snapshot().await?;
    if !snapshot.services.iter().any(|service| service.name == name) {
        return Err(ClusterError::NotFound { what: "service", name: name.to_string() }.into());
    }
    let begun = Utc::now();
    let sources = snapshot.machines.iter().map(|machine| of_machine(&api, machine, &name, &query)).collect();
    let known = snapshot.machines.into_iter().map(|machine| machine.id).collect();
    let more = follow.then(|| new_machines(api.clone(), name, query, begun, known));
    let all = merged(sources, more);
    Ok(items(match tail {
        Some(count) => last_of_each(all, count),
        None => all,
    }))
}

/// The lines of one machine, or that they are missing.
fn of_machine(api: &Api, machine: &Machine, service: &ServiceName, query: &LogQuery) -> LogItems {
    let (id, address) = (machine.id.clone(), machine.address);
    let missing =
        |machine: MachineId, reason: String| LogItem::Missing { machine: machine.to_string(), reason };
    let reason = if machine.state == MachineState::Down {
        Some("it does not answer".to_owned())
    } else if machine.features.has(Feature::Streams) {
        None
    } else {
        Some(format!("its agent is too old for it (it lacks {}); roll its group", Feature::Streams))
    };
    if let Some(reason) = reason {
        return stream::iter([Ok(missing(id, reason))]).boxed();
    }
    let request = LogRequest { service: service.clone(), machine: id.clone(), query: query.clone() };
    let agents = api.agents.clone();
    let opened = async move {
        match agents.logs(address, &request).await {
            Ok(items) => items,
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    };
    stream::once(opened)
        .flatten()
        .map(move |item| Ok(item.unwrap_or_else(|error| missing(id.clone(), error.to_string()))))
        .boxed()
}

/// The lines of machines that join while lines are followed.
fn new_machines(
    api: Api,
    service: ServiceName,
    query: LogQuery,
    begun: DateTime<Utc>,
    known: BTreeSet<MachineId>,
) -> BoxStream<'static, LogItems> {
    let query = LogQuery { since: Some(query.since.unwrap_or(begun)), tail: None, ..query };
    stream::unfold((api, service, query, known), |(api, service, query, mut known)| async move {
        loop {
            sleep(CHECK).await;
            let Ok(snapshot) = api.cluster.snapshot().await else { continue };
            let ready = |one: &&Machine| one.state != MachineState::Down && !known.contains(&one.id);
            if let Some(machine) = snapshot.machines.iter().find(ready) {
                known.insert(machine.id.clone());
                let items = of_machine(&api, machine, &service, &query);
                return Some((items, (api, service, query, known)));
            }
        }
    })
    .boxed()
}
