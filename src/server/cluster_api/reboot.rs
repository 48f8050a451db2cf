//! Leave to reboot: asked for, and given back, by the agents of machines.

use axum::extract::{Path, State};
use axum::{Extension, Json};

use super::super::strict::Strict;
use super::{Api, Caller, Problem};
use crate::driver::leave::Through;
use crate::model::name::MachineId;
use crate::model::reboot::{Answer, Returned};
use crate::port::cluster_wire::{RebootRequest, RebootState};

impl Api {
    fn through(&self) -> Through<'_> {
        Through {
            leaves: self.leaves.as_ref(),
            membership: self.membership.as_ref(),
            cluster: self.cluster.as_ref(),
        }
    }

    async fn own_machine(&self, caller: Caller, id: &str) -> Result<MachineId, Problem> {
        let id: MachineId = id.parse()?;
        self.own(caller, id.as_str(), |node| node.instance.as_ref() == Some(&id)).await?;
        Ok(id)
    }
}

pub(super) async fn state(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<RebootState>, Problem> {
    let id = api.own_machine(caller, &id).await?;
    Ok(Json(RebootState { mark: api.through().mark(&id).await? }))
}

pub(super) async fn ask(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Strict(request): Strict<RebootRequest>,
) -> Result<Json<Answer>, Problem> {
    let id = api.own_machine(caller, &id).await?;
    Ok(Json(api.through().ask(&id, &request.boot).await?))
}

pub(super) async fn give_back(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Returned>, Problem> {
    let id = api.own_machine(caller, &id).await?;
    Ok(Json(api.through().give_back(&id).await?))
}
