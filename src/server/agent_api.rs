//! What every machine's agent serves, for control machines only: programs and logs of the containers of
//! that machine, and a control machine's events.
//!
//! A caller shows a certificate of the cluster's authority that names it as a control machine. A
//! worker has no such certificate, so root on a worker gets nowhere on another machine.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use axum_server::Handle;
use chrono::Utc;
use futures_util::StreamExt as _;

use super::cluster_api::lines;
use super::limits::{self, Caps};
use super::strict::Strict;
use super::tls::{self, PeerCertificate, TlsIdentity};
use super::upgrade::{Promised, switching};
use crate::driver::logs::merged;
use crate::driver::stream;
use crate::driver::timeline::Events;
use crate::model::logs::LogItem;
use crate::model::timeline::{EventPage, EventQuery, TIMELINE_VERSION};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{ErrorBody, NO_SUCH_PATH, WireError};
use crate::port::identity::KnowControl;
use crate::port::streams::{
    Attended, Containers, EVENTS_PATH, ExecRequest, LOGS_PATH, LogRequest, LogSources,
};

/// What an agent serves with.
#[derive(Clone)]
pub struct AgentApi {
    /// The containers of this machine.
    pub containers: Arc<dyn Containers>,
    /// Those of them that wait for the callers of their commands.
    pub attended: Arc<dyn Attended>,
    /// Who is a control machine.
    pub control: Arc<dyn KnowControl>,
    /// The events that this machine keeps; `None` on workers, which keep none.
    pub events: Option<Events>,
}

/// Serves until `handle` stops it. Streams that are open then continue.
///
/// # Errors
/// When the certificate is unusable, or the address can't be listened on.
pub async fn serve(
    api: AgentApi,
    address: SocketAddr,
    tls: &TlsIdentity,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let server = axum_server::bind(address).acceptor(tls::Acceptor::new(tls)?);
    let routes = limits::answered_within(router(api), limits::ANSWER);
    limits::limited(server, Caps::AGENT, limits::HEADER)
        .handle(handle)
        .serve(routes.into_make_service())
        .await
}

fn router(api: AgentApi) -> Router {
    Router::new()
        .route("/v1/tasks/{task}/exec", post(exec))
        .route(LOGS_PATH, post(logs))
        .route(EVENTS_PATH, post(events))
        .fallback(async || problem(StatusCode::NOT_FOUND, WireError::new("invalid", NO_SUCH_PATH)))
        .layer(middleware::from_fn_with_state(api.clone(), control_only))
        .with_state(api)
}

fn problem(status: StatusCode, error: WireError) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}

async fn control_only(
    State(api): State<AgentApi>,
    Extension(shown): Extension<PeerCertificate>,
    request: Request,
    next: Next,
) -> Response {
    let known = match &shown.0 {
        Some(certificate) => api.control.control(certificate, Utc::now().timestamp()),
        None => {
            let text = "this needs the certificate of a control machine";
            return problem(StatusCode::UNAUTHORIZED, WireError::new("unauthorized", text));
        }
    };
    match known {
        Ok(_) => next.run(request).await,
        Err(error) => {
            tracing::warn!(%error, "a caller is not a control machine");
            problem(StatusCode::FORBIDDEN, WireError::new("denied", error.to_string()))
        }
    }
}

/// The exit status of a container whose caller has gone: that of a program which was hung up on.
const HUNG_UP: u8 = 128 + 1;

async fn exec(State(api): State<AgentApi>, Path(task): Path<String>, mut request: Request) -> Response {
    let promised = match Promised::of(&mut request) {
        Ok(promised) => promised,
        Err(error) => return problem(StatusCode::UPGRADE_REQUIRED, error),
    };
    let request = match Strict::<ExecRequest>::from_request(request, &()).await {
        Ok(Strict(request)) => request,
        Err(refusal) => return refusal,
    };
    let mut end = None;
    if let Some(occurrence) = &request.occurrence {
        end = api.attended.take(&task).await;
        if end.is_none() {
            let reason = format!("the container of {occurrence} does not wait for a caller any more");
            let refused = ClusterError::Refused { reason };
            return problem(StatusCode::CONFLICT, WireError::from(&refused));
        }
    }
    let process = match api.containers.exec(&task, &request).await {
        Ok(process) => process,
        Err(error) => {
            let status = match &error {
                ClusterError::Refused { .. } | ClusterError::NotFound { .. } => StatusCode::CONFLICT,
                _ => StatusCode::BAD_GATEWAY,
            };
            return problem(status, WireError::from(&error));
        }
    };
    promised.then(|connection| async move {
        let served = stream::serve(Box::new(connection), process).await;
        if let Some(end) = end {
            // A helper that has gone took its container along.
            let _ = end.send(served.as_ref().map_or(HUNG_UP, |status| u8::try_from(*status).unwrap_or(1)));
        }
        match served {
            Ok(status) => tracing::debug!(task, status, "a program in an instance has ended"),
            Err(error) => tracing::info!(task, %error, "a program in an instance was ended"),
        }
    });
    switching(&[])
}

async fn logs(State(api): State<AgentApi>, Strict(request): Strict<LogRequest>) -> Response {
    let LogSources { past, live } = match api.containers.logs(&request).await {
        Ok(sources) => sources,
        Err(error) => return problem(StatusCode::BAD_GATEWAY, WireError::from(&error)),
    };
    let items = match live {
        None => merged(past, None),
        // In the order in which they come: there is one clock.
        Some(live) => {
            let begins = futures_util::stream::iter([Ok(LogItem::Live)]);
            merged(past, None).chain(begins).chain(live).boxed()
        }
    };
    lines::items(items)
}

async fn events(State(api): State<AgentApi>, Strict(query): Strict<EventQuery>) -> Response {
    let Some(events) = &api.events else {
        let text = "this is no control machine: it keeps no events";
        return problem(StatusCode::NOT_FOUND, WireError::new("invalid", text));
    };
    match events.own(query).await {
        Ok(events) => {
            Json(EventPage { version: TIMELINE_VERSION, events, missing: Vec::new() }).into_response()
        }
        Err(error) => problem(StatusCode::BAD_GATEWAY, WireError::new("engine", error.to_string())),
    }
}
