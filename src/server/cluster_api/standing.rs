//! Machines in doubt: what their node is to the cluster, and their turn to join again.

use axum::Json;
use axum::extract::{Path, State};

use super::{Api, Problem};
use crate::model::name::MachineId;
use crate::model::standing::{Standing, Turn};

/// Any bearer of a token may ask: the answer says no more than whether a node is a member.
pub(super) async fn standing(
    State(api): State<Api>,
    Path(node): Path<String>,
) -> Result<Json<Standing>, Problem> {
    Ok(Json(api.standings.standing(&node).await?))
}

/// The machine is no member yet, so that nothing here says which machine asks; all that it gets is a
/// turn, which ends by itself.
pub(super) async fn turn(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Turn>, Problem> {
    let id: MachineId = id.parse()?;
    Ok(Json(api.standings.turn(&id).await?))
}
