//! What happened: the events of all control machines, merged.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::super::strict::StrictQuery;
use super::{Api, Authorised, Problem};
use crate::model::principal::Operation;
use crate::model::service::Symptoms;
use crate::model::timeline::{EventPage, EventQuery, MissingEvents};
use crate::plan::audit::who;
use crate::plan::authorise::right;
use crate::plan::timeline as plan;

/// How many events are given when the caller doesn't say.
const LIMIT: u32 = 1_000;
/// How many are given at most.
const MOST: u32 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    since: Option<DateTime<Utc>>,
    /// Separated by commas, which are in no name.
    of: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn events(
    State(api): State<Api>,
    Extension(reader): Extension<Authorised>,
    StrictQuery(query): StrictQuery<Query>,
) -> Result<Json<EventPage>, Problem> {
    let of = query.of.unwrap_or_default();
    let query = EventQuery {
        since: query.since,
        of: of.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        limit: query.limit.unwrap_or(LIMIT).min(MOST),
    };
    let mut page = match api.cluster.snapshot().await {
        Ok(snapshot) => api.events.of_all(&query, &snapshot.machines, api.agents.as_ref()).await,
        // Without a majority nobody knows the other control machines; what this one saw is of use even so.
        Err(error) => {
            let mut page = api.events.of_all(&query, &[], api.agents.as_ref()).await;
            let machine = "the other control machines".to_owned();
            page.missing.push(MissingEvents { machine, reason: error.to_string() });
            page
        }
    };
    let needed = right(Operation::Logs).and_then(|right| right.people);
    let reads = needed.is_some_and(|needed| reader.level.is_some_and(|level| level >= needed));
    if !reads {
        page.events.iter_mut().for_each(|event| event.lines.clear());
    }
    Ok(Json(page))
}

/// Records a request that was carried out, if it is an event.
pub(super) async fn requested(
    api: &Api,
    authorised: &Authorised,
    at: DateTime<Utc>,
    details: &BTreeMap<String, String>,
) {
    let operation = authorised.operation;
    let makes_revision = matches!(operation, Operation::Deploy | Operation::Rollback | Operation::RollbackTo);
    let services = match makes_revision {
        true => match api.cluster.snapshot().await {
            Ok(snapshot) => snapshot.services,
            Err(error) => {
                tracing::warn!(%error, "recording who deployed");
                return;
            }
        },
        false => Vec::new(),
    };
    let by = who(&authorised.principal);
    let events = plan::of_request(&by, at, operation, &authorised.target, details, &services);
    api.events.record(events).await;
}

/// Records what a machine reported of a task, `age` after it happened.
pub(super) async fn reported(api: &Api, task: &str, seen: &Symptoms, age: Duration) {
    match api.cluster.snapshot().await {
        Ok(snapshot) => {
            let at = TimeDelta::from_std(age).ok().and_then(|age| Utc::now().checked_sub_signed(age));
            let known = api.events.known(task, &snapshot.services);
            let event = known.map(|(service, instance)| {
                plan::of_symptoms(&service, &instance, seen, at.unwrap_or_else(Utc::now))
            });
            api.events.record(event.flatten().into_iter().collect()).await;
        }
        Err(error) => tracing::warn!(%error, task, "recording how an instance ended"),
    }
}
