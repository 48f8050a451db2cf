//! Machines: registered, emptied, let into etcd.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;

use super::super::strict::{Strict, StrictQuery};
use super::{Api, Authorised, Problem, audit, events};
use crate::model::feature::feature_labels;
use crate::model::principal::{Level, Operation, Target};
use crate::model::service::Symptoms;
use crate::plan::identity::{self, NotRegistered};
use crate::plan::units::standing::standings;
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{
    DrainRequest, Drained, EtcdClient, EtcdClientRequest, PortsReport, PressureReport, Registration,
    UNIT_TASKS_VERSION, Unhealthy, UnitTasks, UnitTasksRequest,
};

/// How long one request empties machines before it reports how far it came.
const DRAIN_WINDOW: Duration = Duration::from_secs(3);

pub(super) async fn drain(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(request): Strict<DrainRequest>,
) -> Result<Json<Drained>, Problem> {
    let machines = authorised.machines();
    let person = authorised.level.is_some_and(|level| level < Level::Admin);
    if request.force && person {
        let reason = format!(
            "{} may not drain machines by force, which also stops what nothing can replace: this needs the level admin",
            authorised.principal
        );
        return Err(ClusterError::Denied { reason }.into());
    }
    let work = async {
        if request.force {
            api.membership.evacuate(machines).await
        } else if authorised.level.is_none() {
            // Its own agent asks: it ends or reboots, whether it keeps a volume or not.
            api.membership.vacate(machines).await
        } else {
            api.cluster.drain(machines, &request.lose_volumes).await
        }
    };
    // Giving up in the middle is safe: the next request goes on from what is there.
    match tokio::time::timeout(DRAIN_WINDOW, work).await {
        Ok(result) => result.map(|()| Json(Drained { done: true })).map_err(Problem::from),
        Err(_) => Ok(Json(Drained { done: false })),
    }
}

pub(super) async fn register(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(registration): Strict<Registration>,
) -> Result<StatusCode, Problem> {
    let id = authorised.machine()?;
    let node = identity::register(&authorised.nodes, &registration.node, id, authorised.peer.ip());
    let node = node.map_err(|error| match error {
        NotRegistered::NoNode { node } => ClusterError::NotFound { what: "machine", name: node },
        other => ClusterError::Denied { reason: other.to_string() },
    })?;
    let member = api.identities.members().member(id).await?;
    let mut labels = identity::labels(&member, authorised.peer.ip());
    // The control machine writes what the agent can do; what a tag calls a feature is none.
    labels.retain(|key, _| !key.starts_with("feature."));
    labels.extend(feature_labels(registration.features));
    api.membership.register(&node.id, &labels).await?;
    tracing::info!(machine = %id, node = node.id, group = member.group, "registered");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn etcd_client(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(request): Strict<EtcdClientRequest>,
) -> Result<Json<EtcdClient>, Problem> {
    let id = authorised.machine()?;
    let Some(etcd) = &api.etcd else {
        return Err(ClusterError::NotFound { what: "etcd", name: id.to_string() }.into());
    };
    let client = etcd.client(id, &request.public_key).await?;
    audit::issued(&api, &authorised.principal, Operation::EtcdClient, authorised.peer).await;
    Ok(Json(client))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnhealthyQuery {
    /// How long ago it happened.
    #[serde(default)]
    age_s: u64,
}

pub(super) async fn unhealthy(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    StrictQuery(query): StrictQuery<UnhealthyQuery>,
    Strict(report): Strict<Unhealthy>,
) -> Result<StatusCode, Problem> {
    if let Target::Task { id, .. } = &authorised.target {
        let probe = Some(report.output).filter(|output| !output.trim().is_empty());
        let seen = Symptoms { probe, ended: report.ended };
        api.membership.report_unhealthy(id, &seen).await?;
        events::reported(&api, id, &seen, Duration::from_secs(query.age_s)).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn ports(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(report): Strict<PortsReport>,
) -> Result<StatusCode, Problem> {
    api.membership.ports(authorised.machine()?, &report.tasks).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn units(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(request): Strict<UnitTasksRequest>,
) -> Result<Json<UnitTasks>, Problem> {
    let machine = authorised.machine()?;
    let node = authorised.nodes.iter().find(|node| node.instance.as_ref() == Some(machine));
    let node = node.map(|node| node.id.as_str()).unwrap_or_default();
    let placed = api.membership.placed_units(node).await?;
    let tasks = standings(&request.tasks, node, &placed);
    Ok(Json(UnitTasks { version: UNIT_TASKS_VERSION, tasks }))
}

pub(super) async fn pressure(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(report): Strict<PressureReport>,
) -> Result<StatusCode, Problem> {
    api.membership.pressure(authorised.machine()?, report.pressure()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn engine_gone(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<StatusCode, Problem> {
    api.membership.engine_gone(authorised.machine()?, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn engine_back(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
) -> Result<StatusCode, Problem> {
    api.membership.engine_gone(authorised.machine()?, false).await?;
    Ok(StatusCode::NO_CONTENT)
}
