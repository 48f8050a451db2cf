//! Services: what runs, and changes of it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::StreamExt;
use serde::Deserialize;

use super::super::metrics;
use super::super::strict::{Strict, StrictQuery};
use super::lines::lines;
use super::{Api, Authorised, Problem, audit};
use crate::model::mount::SecretRef;
use crate::model::name::ServiceName;
use crate::model::principal::Operation;
use crate::model::service::{Deployed, Deployment};
use crate::plan::authorise::right;
use crate::port::cluster::Snapshot;
use crate::port::cluster_wire::{Changed, Line, SECRETS_VERSION, ScaleRequest, SecretVersions};

pub(super) async fn snapshot(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<Json<Snapshot>, Problem> {
    let snapshot = api.cluster.snapshot().await?;
    Ok(Json(visible(snapshot, &authorised)))
}

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let text = metrics::text(&api.cluster.snapshot().await?);
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

pub(super) async fn watch(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<Response, Problem> {
    let items = api.cluster.watch().await?;
    Ok(lines(items.map(move |item| item.map(|one| Line::Snapshot(visible(one, &authorised)))).boxed()))
}

/// A snapshot without what its reader may not see: the lines of logs.
fn visible(mut snapshot: Snapshot, reader: &Authorised) -> Snapshot {
    let needed = right(Operation::Logs).and_then(|right| right.people);
    let logs = needed.is_some_and(|needed| reader.level.is_some_and(|level| level >= needed));
    if !logs {
        let revisions = snapshot.services.iter_mut().flat_map(|service| &mut service.history);
        for failed in revisions.filter_map(|revision| revision.failed.as_mut()) {
            failed.lines.clear();
        }
    }
    snapshot
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
    let revision = api.cluster.rollback(&name, None).await?;
    tracing::info!(service = %name, revision, "rolled back on request");
    Ok(Json(Changed { revision }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackQuery {
    /// Whether that is because a release failed.
    #[serde(default)]
    release: bool,
}

pub(super) async fn rollback_to(
    State(api): State<Api>,
    Path((name, to)): Path<(String, u64)>,
    StrictQuery(query): StrictQuery<RollbackQuery>,
) -> Result<Response, Problem> {
    let name: ServiceName = name.parse()?;
    let revision = api.cluster.rollback(&name, Some(to)).await?;
    tracing::info!(service = %name, to, revision, release = query.release, "rolled back on request");
    let mut response = Json(Changed { revision }).into_response();
    if query.release {
        response.extensions_mut().insert(audit::Found::of(&[("release", "taken back")]));
    }
    Ok(response)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeployedQuery {
    revision: Option<u64>,
}

pub(super) async fn deployed(
    State(api): State<Api>,
    Path(name): Path<String>,
    StrictQuery(query): StrictQuery<DeployedQuery>,
) -> Result<Json<Deployed>, Problem> {
    Ok(Json(api.cluster.deployed(&name.parse()?, query.revision).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretsQuery {
    /// Separated by commas, which are in no name.
    names: String,
}

pub(super) async fn secrets(
    State(api): State<Api>,
    StrictQuery(query): StrictQuery<SecretsQuery>,
) -> Result<Json<SecretVersions>, Problem> {
    let names = query.names.split(',').map(str::parse::<SecretRef>);
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let secrets = api.cluster.secret_versions(&names).await?;
    Ok(Json(SecretVersions { version: SECRETS_VERSION, secrets }))
}

pub(super) async fn scale(
    State(api): State<Api>,
    Path(name): Path<String>,
    Strict(request): Strict<ScaleRequest>,
) -> Result<StatusCode, Problem> {
    let name: ServiceName = name.parse()?;
    api.cluster.scale(&name, request.to).await?;
    tracing::info!(service = %name, to = ?request.to, "scaled");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    api.cluster.remove(&name.parse()?).await?;
    tracing::info!(service = %name, "removed");
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::principal::{Level, Principal, Target};
    use crate::source::samples;

    #[test]
    fn lines_of_logs_are_for_those_who_may_read_logs() {
        let (name, text) = samples::of("answers").pop().expect("a sample");
        let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let snapshot: Snapshot = serde_json::from_value(document["snapshot"].clone()).expect("a snapshot");
        let lines = |level: Option<Level>| {
            let address = "10.0.0.1".parse().expect("an address");
            let reader = Authorised {
                principal: Principal::FormerWorker { instance: None, address },
                level,
                operation: Operation::Snapshot,
                target: Target::Cluster,
                peer: (address, 4711).into(),
                nodes: Vec::new(),
            };
            let seen = visible(snapshot.clone(), &reader);
            let failed = seen.services[0].history[0].failed.clone();
            failed.unwrap_or_else(|| panic!("{name} has a failed instance")).lines.len()
        };
        assert_eq!([None, Some(Level::Viewer)].map(&lines), [0, 0]);
        assert_eq!([Level::Deployer, Level::Admin].map(Some).map(&lines), [1, 1]);
    }
}
