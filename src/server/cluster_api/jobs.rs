//! Jobs: their definitions, their outcomes, and which attempts may begin.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use futures_util::StreamExt;
use serde::Deserialize;

use super::super::strict::{Strict, StrictQuery};
use super::lines::lines;
use super::{Api, Authorised, Problem};
use crate::model::job::{JobDeployment, Jobs, Kind, OccurrenceId};
use crate::model::principal::{Operation, Principal, Target};
use crate::plan::audit::who;
use crate::plan::authorise::right;
use crate::port::cluster_wire::{Changed, CommandRequest, OutputLine, PermitRequest};
use crate::port::jobs::Output;

/// How many lines are given when the caller doesn't say.
const TAIL: u32 = 1000;

/// A list without what its reader may not see: the lines of output.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(reader): Extension<Authorised>,
) -> Result<Json<Jobs>, Problem> {
    let mut jobs = api.jobs.jobs().await?;
    let needed = right(Operation::OccurrenceLogs).and_then(|right| right.people);
    let reads = needed.is_some_and(|needed| reader.level.is_some_and(|level| level >= needed));
    if !reads {
        let all = jobs.jobs.iter_mut().flat_map(|job| &mut job.occurrences).chain(&mut jobs.commands);
        all.for_each(|one| one.lines.clear());
    }
    Ok(Json(jobs))
}

pub(super) async fn deploy(
    State(api): State<Api>,
    Path(name): Path<String>,
    Strict(job): Strict<JobDeployment>,
) -> Result<Json<Changed>, Problem> {
    if job.spec.name.as_str() != name {
        return Err(Problem::invalid(format!("the deployment is of job `{}`, not `{name}`", job.spec.name)));
    }
    let revision = api.jobs.deploy_job(&job).await?;
    tracing::info!(job = %name, number = revision, "deployed");
    Ok(Json(Changed { revision }))
}

pub(super) async fn deployed(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<JobDeployment>, Problem> {
    Ok(Json(api.jobs.deployed_job(&name.parse()?).await?))
}

pub(super) async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    api.jobs.remove_job(&name.parse()?).await?;
    tracing::info!(job = %name, "removed");
    Ok(StatusCode::NO_CONTENT)
}

fn asked(kind: Kind, name: &str, key: &str) -> Result<OccurrenceId, Problem> {
    OccurrenceId::asked(kind, name, key).map_err(|error| Problem::invalid(error.to_string()))
}

fn by(principal: &Principal) -> String {
    who(principal)
}

pub(super) async fn run(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Path((name, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = asked(Kind::Job, &name, &key)?;
    api.jobs.run_job(&id, Some(&by(&authorised.principal))).await?;
    tracing::info!(%id, "asked for");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn command(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Path((name, key)): Path<(String, String)>,
    Strict(request): Strict<CommandRequest>,
) -> Result<StatusCode, Problem> {
    let id = asked(Kind::Command, &name, &key)?;
    if request.command.first().is_none_or(String::is_empty) {
        return Err(Problem::invalid("the command names no program"));
    }
    api.jobs.run_command(&id, &request, Some(&by(&authorised.principal))).await?;
    tracing::info!(%id, "asked for");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputQuery {
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn logs(
    State(api): State<Api>,
    Path(id): Path<String>,
    StrictQuery(query): StrictQuery<OutputQuery>,
) -> Result<Response, Problem> {
    let id: OccurrenceId =
        id.parse().map_err(|error: crate::model::job::BadOccurrence| Problem::invalid(error.to_string()))?;
    let stream = api.jobs.occurrence_logs(&id, query.tail.unwrap_or(TAIL), query.follow).await?;
    let line = |line: Output| match line {
        Output::Out(text) => OutputLine::Out(text),
        Output::Err(text) => OutputLine::Err(text),
    };
    Ok(lines(stream.map(move |item| item.map(line)).boxed()))
}

/// The task that is acted on was found to run on the machine that asks.
pub(super) async fn permit(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Strict(request): Strict<PermitRequest>,
) -> Result<StatusCode, Problem> {
    let Target::Task { id, .. } = &authorised.target else {
        return Err(Problem::invalid("this is about a task"));
    };
    api.permits.permit(id, &request.nonce).await?;
    Ok(StatusCode::NO_CONTENT)
}
