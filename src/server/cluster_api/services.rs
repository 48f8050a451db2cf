//! Services: what runs, and changes of it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use serde::Deserialize;

use super::super::strict::{Strict, StrictQuery};
use super::lines::lines;
use super::{Api, Problem};
use crate::model::name::ServiceName;
use crate::model::service::Deployment;
use crate::port::cluster::Snapshot;
use crate::port::cluster_wire::{Changed, Line};

/// How many log lines are given when the caller doesn't say.
const TAIL: u32 = 100;

pub(super) async fn snapshot(State(api): State<Api>) -> Result<Json<Snapshot>, Problem> {
    Ok(Json(api.cluster.snapshot().await?))
}

pub(super) async fn watch(State(api): State<Api>) -> Result<Response, Problem> {
    Ok(lines(api.cluster.watch().await?.map(|item| item.map(Line::Snapshot)).boxed()))
}

pub(super) async fn deploy(
    State(api): State<Api>,
    Path(name): Path<String>,
    Strict(deployment): Strict<Deployment>,
) -> Result<Json<Changed>, Problem> {
    if deployment.spec.name.as_str() != name {
        let text = format!("the deployment is of service `{}`, not `{name}`", deployment.spec.name);
        return Err(Problem::invalid(text));
    }
    let revision = api.cluster.deploy(&deployment).await?;
    tracing::info!(service = %name, revision, digest = %deployment.digest, "deployed");
    Ok(Json(Changed { revision }))
}

pub(super) async fn rollback(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Changed>, Problem> {
    let name: ServiceName = name.parse()?;
    let revision = api.cluster.rollback(&name).await?;
    tracing::info!(service = %name, revision, "rolled back on request");
    Ok(Json(Changed { revision }))
}

pub(super) async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    api.cluster.remove(&name.parse()?).await?;
    tracing::info!(service = %name, "removed");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Path(name): Path<String>,
    StrictQuery(query): StrictQuery<LogsQuery>,
) -> Result<Response, Problem> {
    let name: ServiceName = name.parse()?;
    let stream = api.cluster.logs(&name, query.tail.unwrap_or(TAIL), query.follow).await?;
    Ok(lines(stream.map(|item| item.map(Line::Log)).boxed()))
}
