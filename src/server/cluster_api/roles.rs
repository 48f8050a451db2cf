//! Credentials of the roles of containers.

use axum::extract::State;
use axum::{Extension, Json};

use super::super::strict::Strict;
use super::{Api, Authorised, Problem, audit};
use crate::model::principal::{Principal, Target};
use crate::model::role::TokenHash;
use crate::port::cluster_wire::{CredentialsRequest, TaskCredentials};

/// The task was found to run on the machine that asks; what its role is follows from the managers' record alone.
pub(super) async fn credentials(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(request): Strict<CredentialsRequest>,
) -> Result<Json<TaskCredentials>, Problem> {
    let (Target::Task { id, .. }, Principal::Machine { instance, .. }) =
        (&authorised.target, &authorised.principal)
    else {
        return Err(Problem::invalid("this is about a task of a machine"));
    };
    let node = authorised.nodes.iter().find(|node| node.instance.as_ref() == Some(instance));
    let node = node.map(|node| node.id.as_str());
    let issued = api.roles.issue(id, &TokenHash(request.token_sha256), instance, node).await;
    let issued =
        issued.inspect_err(|error| tracing::warn!(task = id, %instance, %error, "no credentials"))?;
    let details = [
        ("task", issued.task.as_str()),
        ("role", issued.credentials.role.as_str()),
        ("session", issued.session.as_str()),
    ];
    tracing::info!(
        task = id,
        name = issued.task,
        role = issued.credentials.role,
        session = issued.session,
        "credentials"
    );
    audit::credentials(&api, &authorised, &details).await;
    Ok(Json((&issued.credentials).into()))
}
