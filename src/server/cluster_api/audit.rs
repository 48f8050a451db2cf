//! The record of changes: written before a change is carried out and after it, and read.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::super::strict::StrictQuery;
use super::{Api, Authorised, Problem, events};
use crate::model::audit::{AUDIT_VERSION, Class, Draft, Filter, Outcome};
use crate::model::principal::{Level, Operation, Principal, Target};
use crate::plan::audit as plan;
use crate::port::cluster_wire::{AuditPage, WireError};
use crate::port::kept::{Kept, KeptError};

/// The most that is read of a request or an answer; larger requests are rejected.
const BODY: usize = 4 << 20;
/// How many changes are given when the caller doesn't say.
const LIMIT: u32 = 1_000;
/// How many are given at most.
const MOST: u32 = 10_000;

/// What a handler found out that belongs into the record. It goes with the answer, and is not sent.
#[derive(Debug, Clone)]
pub(super) struct Found(BTreeMap<String, String>);

impl Found {
    pub(super) fn of(details: &[(&str, &str)]) -> Self {
        Self(details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

/// Carries out a request that may be, with a record of it if it changes something.
pub(super) async fn carry_out(api: &Api, request: Request, next: Next) -> Response {
    let authorised = request.extensions().get::<Authorised>().cloned();
    let Some(authorised) = authorised.filter(|authorised| plan::is_change(authorised.operation)) else {
        return next.run(request).await;
    };
    let (request, body) = match whole(request).await {
        Ok(read) => read,
        Err(problem) => return problem.into_response(),
    };
    let operation = authorised.operation;
    let mut draft = draft(&authorised.principal, authorised.level, operation, &authorised.target);
    draft.from = Some(authorised.peer.ip().to_canonical());
    draft.details = plan::details(operation, &body);
    let id = match begin(api, draft.clone()).await {
        Ok(id) => Some(id),
        // A machine that has to leave is not kept from that.
        Err(error) if draft.class == Class::Machine => {
            tracing::error!(%error, "a machine's change goes unrecorded");
            None
        }
        Err(error) => return unrecorded(&error).into_response(),
    };
    let (parts, body) = next.run(request).await.into_parts();
    let body = match to_bytes(body, BODY).await {
        Ok(body) => body,
        Err(error) => {
            return Problem::invalid(format!("the answer can't be sent: {error}")).into_response();
        }
    };
    let mut end = plan::end(operation, parts.status.as_u16(), &body);
    if let Some(Found(found)) = parts.extensions.get::<Found>() {
        end.details.extend(found.clone());
    }
    if matches!(end.outcome, Outcome::Done | Outcome::Waiting) {
        let details = draft.details.iter().chain(&end.details);
        let details = details.map(|(name, value)| (name.clone(), value.clone())).collect();
        events::requested(api, &authorised, draft.at, &details).await;
    }
    if let Some(id) = id {
        let auditor = api.audit.clone();
        let stored = blocking(move || auditor.end(&draft, &id, end, Utc::now())).await;
        if let Err(error) = stored {
            tracing::error!(%error, "the outcome of a change goes unrecorded");
        }
    }
    Response::from_parts(parts, Body::from(body))
}

/// Records a request that was denied. It stays denied when that fails.
pub(super) async fn denied(
    api: &Api,
    principal: &Principal,
    level: Option<Level>,
    operation: Operation,
    target: &Target,
    peer: std::net::SocketAddr,
    reason: &str,
) {
    let mut draft = draft(principal, level, operation, target);
    draft.from = Some(peer.ip().to_canonical());
    draft.class = Class::Denied;
    let (auditor, reason) = (api.audit.clone(), reason.to_owned());
    if let Err(error) = blocking(move || auditor.denied(&draft, &reason)).await {
        tracing::error!(%error, "a denied request goes unrecorded");
    }
}

/// Records that somebody became known, or got a certificate. That is no change of the cluster, so it is not held up
/// when it can't be recorded.
pub(super) async fn issued(
    api: &Api,
    principal: &Principal,
    operation: Operation,
    peer: std::net::SocketAddr,
) {
    let mut draft = draft(principal, None, operation, &Target::Cluster);
    draft.from = Some(peer.ip().to_canonical());
    record_issued(api, draft).await;
}

/// The same of the credentials of a task's role.
pub(super) async fn credentials(api: &Api, authorised: &Authorised, details: &[(&str, &str)]) {
    let mut draft = draft(&authorised.principal, None, authorised.operation, &authorised.target);
    draft.from = Some(authorised.peer.ip().to_canonical());
    draft.details = Found::of(details).0;
    record_issued(api, draft).await;
}

async fn record_issued(api: &Api, draft: Draft) {
    let auditor = api.audit.clone();
    if let Err(error) = blocking(move || auditor.issued(&draft)).await {
        tracing::error!(%error, "an identity goes unrecorded");
    }
}

fn draft(principal: &Principal, level: Option<Level>, operation: Operation, target: &Target) -> Draft {
    Draft {
        at: Utc::now(),
        by: plan::who(principal),
        level,
        from: None,
        operation: plan::name(operation),
        target: plan::target(target),
        details: Default::default(),
        class: plan::class(principal),
    }
}

async fn begin(api: &Api, draft: Draft) -> Result<String, KeptError> {
    let auditor = api.audit.clone();
    blocking(move || auditor.begin(&draft)).await
}

/// The log waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeptError> + Send + 'static,
) -> Result<T, KeptError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(KeptError::Access { what: Kept::AuditLog, doing: "writing", reason: error.to_string() })
    })
}

fn unrecorded(error: &KeptError) -> Problem {
    let message = format!(
        "nothing was changed, since it can't be recorded: {error}. See that the control machine's disk has space"
    );
    Problem(StatusCode::SERVICE_UNAVAILABLE, WireError::new("engine", message))
}

async fn whole(request: Request) -> Result<(Request, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY)
        .await
        .map_err(|error| Problem::invalid(format!("reading the request: {error}")))?;
    Ok((Request::from_parts(parts, Body::from(body.clone())), body))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    since: Option<DateTime<Utc>>,
    by: Option<String>,
    target: Option<String>,
    limit: Option<u32>,
}

/// What this control machine has recorded; callers ask all of them.
pub(super) async fn read(
    State(api): State<Api>,
    StrictQuery(query): StrictQuery<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let filter = Filter { since: query.since, by: query.by, target: query.target };
    let limit = query.limit.unwrap_or(LIMIT).min(MOST);
    let auditor = api.audit.clone();
    let events = blocking(move || auditor.newest(&filter, limit)).await;
    let events = events.map_err(|error| {
        Problem(StatusCode::INTERNAL_SERVER_ERROR, WireError::new("engine", error.to_string()))
    })?;
    Ok(Json(AuditPage { version: AUDIT_VERSION, events }))
}
