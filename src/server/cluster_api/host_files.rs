//! Watched files: their definitions, and what machines are sent and report of them.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use futures_util::StreamExt as _;

use super::super::strict::Strict;
use super::lines::lines;
use super::{Api, Authorised, Problem};
use crate::model::host_file::{HOST_FILE_VERSION, HostFileSpec};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{Changed, FeedItem, HostFileList, HostFileReport, KeyList, KeysRequest};
use crate::port::host_files::Feeds as _;

pub(super) async fn list(State(api): State<Api>) -> Result<Json<HostFileList>, Problem> {
    Ok(Json(HostFileList { version: HOST_FILE_VERSION, files: api.host_files.host_files().await? }))
}

pub(super) async fn deploy(
    State(api): State<Api>,
    Path(name): Path<String>,
    Strict(spec): Strict<HostFileSpec>,
) -> Result<Json<Changed>, Problem> {
    if spec.name.as_str() != name {
        return Err(Problem::invalid(format!("the definition is of `{}`, not `{name}`", spec.name)));
    }
    if !spec.keys.is_empty() && !api.feeds.has_keys() {
        let reason = format!(
            "`{name}` names keys, and this cluster keeps no etcd: set `etcd: true` for its control machines, or \
             remove `keys`"
        );
        return Err(ClusterError::Refused { reason }.into());
    }
    let revision = api.host_files.deploy_host_file(&spec).await?;
    api.feeds.look_now();
    tracing::info!(file = %name, number = revision, "deployed");
    Ok(Json(Changed { revision }))
}

pub(super) async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    api.host_files.remove_host_file(&name.parse()?).await?;
    api.feeds.look_now();
    tracing::info!(file = %name, "removed");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn keys(
    State(api): State<Api>,
    Strict(request): Strict<KeysRequest>,
) -> Result<Json<KeyList>, Problem> {
    let keys: BTreeMap<String, String> = api.feeds.keys(&request.prefixes).await?;
    Ok(Json(KeyList { version: HOST_FILE_VERSION, keys }))
}

pub(super) async fn feed(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<Response, Problem> {
    let items = api.feeds.feed(authorised.machine()?).await?;
    Ok(lines(items.map(|item| item.map(|line| FeedItem::Line(Box::new(line)))).boxed()))
}

pub(super) async fn report(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(report): Strict<HostFileReport>,
) -> Result<StatusCode, Problem> {
    api.feeds.report(authorised.machine()?, &report.states()).await?;
    Ok(StatusCode::NO_CONTENT)
}
