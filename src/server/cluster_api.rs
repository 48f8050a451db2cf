//! The cluster's API, served by the agents of control machines: JSON over TLS, for bearers
//! of the cluster's token. It must not know which engine is behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::limits::{self, Caps};
use crate::model::member::Node;
use crate::model::name::{BadName, MachineId, ServiceName};
use crate::model::secret::Secret;
use crate::model::service::Deployment;
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::cluster_wire::{
    Changed, DrainRequest, Drained, ErrorBody, EtcdClient, EtcdClientRequest, Line, Registration, Unhealthy,
    WireError,
};
use crate::port::etcd::EtcdAccess;
use crate::port::membership::Membership;
use crate::port::reboot::Leaves;

mod reboot;

/// Time between two signs of life on a stream.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long one request empties machines before it tells how far it came.
const DRAIN_WINDOW: Duration = Duration::from_secs(3);
/// How many log lines are given when the caller doesn't say.
const TAIL: u32 = 100;

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// The engine of this machine.
    pub membership: Arc<dyn Membership>,
    /// Who may reboot.
    pub leaves: Arc<dyn Leaves>,
    /// What a caller must bear to do everything.
    pub token: Secret<String>,
    /// What a worker bears, who may register, empty, reboot and report on its own machine, and speak to etcd.
    pub worker_token: Secret<String>,
    /// Lets machines speak to etcd; `None` when this machine has none.
    pub etcd: Option<Arc<dyn EtcdAccess>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// One who may do everything.
    Operator,
    /// The worker with that address.
    Worker(IpAddr),
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: Secret<String>,
}

/// Serves the API until `handle` is told to stop.
///
/// # Errors
/// When the certificate is unusable, or the address can't be listened on.
pub async fn serve(
    api: Api,
    address: SocketAddr,
    tls: &TlsIdentity,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let certificate = tls.certificate.clone().into_bytes();
    let tls = RustlsConfig::from_pem(certificate, tls.key.expose().clone().into_bytes()).await?;
    limits::limited(axum_server::bind_rustls(address, tls), Caps::CLUSTER, limits::HEADER)
        .handle(handle)
        .serve(
            limits::answered_within(router(api), limits::ANSWER)
                .into_make_service_with_connect_info::<SocketAddr>(),
        )
        .await
}

/// The routes.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/watch", get(watch))
        .route("/v1/services/{name}", put(deploy).delete(remove))
        .route("/v1/services/{name}/rollback", post(rollback))
        .route("/v1/services/{name}/logs", get(logs))
        .route_layer(middleware::from_fn(operators))
        .route("/v1/drain", post(drain))
        .route("/v1/machines/{id}", put(register))
        .route("/v1/machines/{id}/reboot", get(reboot::state).put(reboot::ask).delete(reboot::give_back))
        .route("/v1/machines/{id}/etcd-client", post(etcd_client))
        .route("/v1/tasks/{id}/unhealthy", post(unhealthy))
        .fallback(|| async {
            Problem(StatusCode::NOT_FOUND, WireError::new("invalid", "there is no such path"))
        })
        .layer(middleware::from_fn_with_state(api.clone(), authorise))
        .with_state(api)
}

async fn authorise(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    // Takes the same time wherever the first difference is, so that it can't be found byte by byte.
    let bears = |token: &Secret<String>| bool::from(given.as_bytes().ct_eq(token.expose().as_bytes()));
    let caller = match (bears(&api.token), bears(&api.worker_token)) {
        (true, _) => Caller::Operator,
        (false, true) => Caller::Worker(peer.ip().to_canonical()),
        (false, false) => return denied("this needs the cluster's token").into_response(),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn denied(message: &str) -> Problem {
    Problem(StatusCode::UNAUTHORIZED, WireError::new("unauthorized", message))
}

/// Refuses what only operators may do.
async fn operators(Extension(caller): Extension<Caller>, request: Request, next: Next) -> Response {
    match caller {
        Caller::Operator => next.run(request).await,
        Caller::Worker(_) => denied("a worker's token is not for this").into_response(),
    }
}

impl Api {
    /// Refuses a worker that speaks of another machine than the one it calls from.
    async fn own(
        &self,
        caller: Caller,
        name: &str,
        is_it: impl Fn(&Node) -> bool + Send,
    ) -> Result<(), Problem> {
        let Caller::Worker(address) = caller else { return Ok(()) };
        let nodes = self.membership.nodes().await?;
        match nodes.iter().find(|node| is_it(node)) {
            Some(node) if node.address == Some(address) => Ok(()),
            Some(_) => Err(denied("a worker speaks for its own machine only")),
            None => Err(ClusterError::NotFound { what: "machine", name: name.to_owned() }.into()),
        }
    }
}

async fn snapshot(State(api): State<Api>) -> Result<Json<Snapshot>, Problem> {
    Ok(Json(api.cluster.snapshot().await?))
}

async fn watch(State(api): State<Api>) -> Result<Response, Problem> {
    Ok(lines(api.cluster.watch().await?.map(|item| item.map(Line::Snapshot)).boxed()))
}

async fn deploy(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(deployment): Json<Deployment>,
) -> Result<Json<Changed>, Problem> {
    if deployment.spec.name.as_str() != name {
        let text = format!("the deployment is of service `{}`, not `{name}`", deployment.spec.name);
        return Err(Problem(StatusCode::BAD_REQUEST, WireError::new("invalid", text)));
    }
    let revision = api.cluster.deploy(&deployment).await?;
    tracing::info!(service = %name, revision, digest = %deployment.digest, "deployed");
    Ok(Json(Changed { revision }))
}

async fn rollback(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Changed>, Problem> {
    let name: ServiceName = name.parse()?;
    let revision = api.cluster.rollback(&name).await?;
    tracing::info!(service = %name, revision, "rolled back on request");
    Ok(Json(Changed { revision }))
}

async fn remove(State(api): State<Api>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    api.cluster.remove(&name.parse()?).await?;
    tracing::info!(service = %name, "removed");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct LogsQuery {
    tail: Option<u32>,
    #[serde(default)]
    follow: bool,
}

async fn logs(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Problem> {
    let name: ServiceName = name.parse()?;
    let stream = api.cluster.logs(&name, query.tail.unwrap_or(TAIL), query.follow).await?;
    Ok(lines(stream.map(|item| item.map(Line::Log)).boxed()))
}

async fn drain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<DrainRequest>,
) -> Result<Json<Drained>, Problem> {
    for machine in &request.machines {
        api.own(caller, machine.as_str(), |node| node.instance.as_ref() == Some(machine)).await?;
    }
    let work = async {
        if request.force {
            api.membership.evacuate(&request.machines).await
        } else {
            api.cluster.drain(&request.machines).await
        }
    };
    // Giving up in the middle is safe: the next request goes on from what is there.
    match tokio::time::timeout(DRAIN_WINDOW, work).await {
        Ok(result) => result.map(|()| Json(Drained { done: true })).map_err(Problem::from),
        Err(_) => Ok(Json(Drained { done: false })),
    }
}

async fn register(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(registration): Json<Registration>,
) -> Result<StatusCode, Problem> {
    let id: MachineId = id.parse()?;
    api.own(caller, &registration.node, |node| node.id == registration.node).await?;
    let nodes = api.membership.nodes().await?;
    let Some(node) = nodes.iter().find(|node| node.id == registration.node) else {
        return Err(ClusterError::NotFound { what: "machine", name: registration.node }.into());
    };
    // A node belongs to the machine that first said so.
    if node.instance.as_ref().is_some_and(|known| *known != id) {
        let reason = format!("node `{}` is another machine's", node.id);
        return Err(ClusterError::Refused { reason }.into());
    }
    let mut labels = registration.labels;
    labels.insert("instance".to_owned(), id.to_string());
    api.membership.register(&node.id, &labels).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn etcd_client(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(request): Json<EtcdClientRequest>,
) -> Result<Json<EtcdClient>, Problem> {
    let id: MachineId = id.parse()?;
    api.own(caller, id.as_str(), |node| node.instance.as_ref() == Some(&id)).await?;
    let Some(etcd) = &api.etcd else {
        return Err(ClusterError::NotFound { what: "etcd", name: id.to_string() }.into());
    };
    Ok(Json(etcd.client(&id, &request.public_key).await?))
}

async fn unhealthy(
    State(api): State<Api>,
    Path(task): Path<String>,
    Json(report): Json<Unhealthy>,
) -> Result<StatusCode, Problem> {
    api.membership.report_unhealthy(&task, &report.output).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A stream of JSON lines, with an empty one now and then so that both ends notice when
/// the other is gone.
fn lines(items: BoxStream<'static, Result<Line, ClusterError>>) -> Response {
    let bytes = alive(items).map(|line| {
        let mut text = line.map_or_else(String::new, |line| serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
        Ok::<_, std::convert::Infallible>(Bytes::from(text))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(bytes)).into_response()
}

fn alive(items: BoxStream<'static, Result<Line, ClusterError>>) -> impl Stream<Item = Option<Line>> + Send {
    stream::unfold(Some(items), |state| async move {
        let mut items = state?;
        match tokio::time::timeout(SIGN_OF_LIFE, items.next()).await {
            Err(_) => Some((None, Some(items))),
            Ok(None) => None,
            Ok(Some(Ok(line))) => Some((Some(line), Some(items))),
            Ok(Some(Err(error))) => Some((Some(Line::Error(WireError::from(&error))), None)),
        }
    })
}

/// An error on its way out.
struct Problem(StatusCode, WireError);

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let status = match &error {
            ClusterError::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ClusterError::NotFound { .. } => StatusCode::NOT_FOUND,
            ClusterError::Refused { .. } => StatusCode::CONFLICT,
            ClusterError::Engine { .. } => StatusCode::BAD_GATEWAY,
        };
        Self(status, WireError::from(&error))
    }
}

impl From<BadName> for Problem {
    fn from(error: BadName) -> Self {
        Self(StatusCode::BAD_REQUEST, WireError::new("invalid", error.to_string()))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}
