//! The cluster as one control machine sees it. These answer without a majority.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::super::strict::Strict;
use super::{Api, Problem};
use crate::model::cluster::View;
use crate::port::cluster_wire::{RecoverRequest, RestoredServices};

pub(super) async fn status(State(api): State<Api>) -> Json<View> {
    Json(api.own.view().await)
}

pub(super) async fn recover(
    State(api): State<Api>,
    Strict(request): Strict<RecoverRequest>,
) -> Result<StatusCode, Problem> {
    if request.etcd {
        api.own.recover_etcd(request.log).await?;
    } else {
        api.own.recover(request.log).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn restore(State(api): State<Api>) -> Result<Json<RestoredServices>, Problem> {
    Ok(Json(api.own.restore().await?))
}
