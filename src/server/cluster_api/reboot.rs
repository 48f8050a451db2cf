//! Leave to reboot: asked for, and given back, by the agents of machines.

use axum::extract::State;
use axum::{Extension, Json};

use super::super::strict::Strict;
use super::{Api, Authorised, Problem};
use crate::driver::leave::Through;
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
}

pub(super) async fn state(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<Json<RebootState>, Problem> {
    Ok(Json(RebootState { mark: api.through().mark(authorised.machine()?).await? }))
}

pub(super) async fn ask(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(request): Strict<RebootRequest>,
) -> Result<Json<Answer>, Problem> {
    Ok(Json(api.through().ask(authorised.machine()?, &request.boot).await?))
}

pub(super) async fn give_back(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<Json<Returned>, Problem> {
    Ok(Json(api.through().give_back(authorised.machine()?).await?))
}
