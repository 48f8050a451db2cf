//! The cluster's API, served by the agents of control machines: JSON over TLS. It must not
//! know which engine is behind it.
//!
//! Every route is made from an [`Operation`], and every request passes `authorise` before its
//! handler: handlers act on what was authorised and decide nothing about rights.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use axum_server::Handle;

use super::limits::{self, Caps};
use super::tls;
use crate::driver::audit::Auditor;
use crate::driver::host_files::FeedSource;
use crate::driver::standing::Standings;
use crate::driver::timeline::Events;
use crate::model::name::BadName;
use crate::model::principal::Operation;
use crate::model::secret::Secret;
use crate::port::access::Access;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::cluster_routes::route;
use crate::port::cluster_wire::{ErrorBody, NO_SUCH_PATH, WireError};
use crate::port::etcd::EtcdAccess;
use crate::port::host_files::HostFileCluster;
use crate::port::jobs::{AskPermit, JobCluster};
use crate::port::membership::Membership;
use crate::port::reboot::Leaves;
use crate::port::recovery::ControlMachine;
use crate::port::roles::IssueCredentials;
use crate::port::streams::Agents;
use crate::port::tokens::TokenStore;

mod audit;
mod authorise;
mod cluster;
mod events;
mod exec;
mod host_files;
mod identity;
mod jobs;
pub(super) mod lines;
mod logs;
mod machines;
mod reboot;
mod roles;
mod services;
mod standing;
mod tokens;

pub use super::tls::TlsIdentity;
pub use authorise::Authorised;
pub use identity::Identities;

/// How long a proof of identity may be.
const PROOF: usize = 64 * 1024;

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// Its jobs.
    pub jobs: Arc<dyn JobCluster>,
    /// Its watched files.
    pub host_files: Arc<dyn HostFileCluster>,
    /// What machines are sent of them.
    pub feeds: FeedSource,
    /// Permits their attempts.
    pub permits: Arc<dyn AskPermit>,
    /// Issues the credentials of roles.
    pub roles: Arc<dyn IssueCredentials>,
    /// The engine of this machine.
    pub membership: Arc<dyn Membership>,
    /// This machine without the others.
    pub own: Arc<dyn ControlMachine>,
    /// Who may reboot.
    pub leaves: Arc<dyn Leaves>,
    /// Who callers are.
    pub identities: Arc<Identities>,
    /// What people may do.
    pub access: Arc<dyn Access>,
    /// Machines in doubt about their membership.
    pub standings: Arc<Standings>,
    /// Tokens for callers without an AWS identity.
    pub tokens: Arc<dyn TokenStore>,
    /// Records every change.
    pub audit: Arc<Auditor>,
    /// The break-glass token.
    pub token: Secret<String>,
    /// What workers of the version before machines had certificates bear; `None` where there are none.
    pub worker_token: Option<Secret<String>>,
    /// The agents of the machines.
    pub agents: Arc<dyn Agents>,
    /// What happened in the cluster.
    pub events: Events,
    /// Lets machines speak to etcd; `None` when this machine has none.
    pub etcd: Option<Arc<dyn EtcdAccess>>,
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
    limits::limited(
        axum_server::bind(address).acceptor(tls::Acceptor::new(tls)?),
        Caps::CLUSTER,
        limits::HEADER,
    )
    .handle(handle)
    .serve(
        limits::answered_within(router(api), limits::ANSWER)
            .into_make_service_with_connect_info::<SocketAddr>(),
    )
    .await
}

/// The routes: one for each operation.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for operation in Operation::ALL {
        let mut handler = handler(*operation);
        // Only there is nobody known yet: what is sent is judged as proof.
        if *operation != Operation::Identify {
            let state = (api.clone(), *operation);
            handler = handler.route_layer(middleware::from_fn_with_state(state, authorise::authorise));
        }
        router = router.route(route(*operation).path, handler);
    }
    router
        .fallback(|| async { Problem(StatusCode::NOT_FOUND, WireError::new("invalid", NO_SUCH_PATH)) })
        .with_state(api)
}

fn handler(operation: Operation) -> MethodRouter<Api> {
    match operation {
        Operation::Identify => post(identity::identify).layer(DefaultBodyLimit::max(PROOF)),
        Operation::Snapshot => get(services::snapshot),
        Operation::Metrics => get(services::metrics),
        Operation::Watch => get(services::watch),
        Operation::Deploy => put(services::deploy),
        Operation::Remove => delete(services::remove),
        Operation::Rollback => post(services::rollback),
        Operation::Deployed => get(services::deployed),
        Operation::Secrets => get(services::secrets),
        Operation::RollbackTo => post(services::rollback_to),
        Operation::Scale => put(services::scale),
        Operation::Logs => get(logs::logs),
        Operation::Exec => post(exec::exec),
        Operation::ClusterStatus => get(cluster::status),
        Operation::ClusterRecover => post(cluster::recover),
        Operation::ClusterRestore => post(cluster::restore),
        Operation::Drain => post(machines::drain),
        Operation::Register => put(machines::register),
        Operation::Standing => get(standing::standing),
        Operation::Turn => put(standing::turn),
        Operation::EtcdClient => post(machines::etcd_client),
        Operation::ReportUnhealthy => post(machines::unhealthy),
        Operation::Ports => put(machines::ports),
        Operation::HostFiles => get(host_files::list),
        Operation::DeployHostFile => put(host_files::deploy),
        Operation::RemoveHostFile => delete(host_files::remove),
        Operation::Keys => post(host_files::keys),
        Operation::HostFileFeed => get(host_files::feed),
        Operation::HostFileReport => put(host_files::report),
        Operation::UnitTasks => post(machines::units),
        Operation::Pressure => put(machines::pressure),
        Operation::Jobs => get(jobs::list),
        Operation::DeployJob => put(jobs::deploy),
        Operation::DeployedJob => get(jobs::deployed),
        Operation::RemoveJob => delete(jobs::remove),
        Operation::RunJob => put(jobs::run),
        Operation::RunCommand => put(jobs::command),
        Operation::OccurrenceLogs => get(jobs::logs),
        Operation::Permit => post(jobs::permit),
        Operation::TaskCredentials => post(roles::credentials),
        Operation::EngineGone => put(machines::engine_gone),
        Operation::EngineBack => delete(machines::engine_back),
        Operation::RebootState => get(reboot::state),
        Operation::RebootAsk => put(reboot::ask),
        Operation::RebootReturn => delete(reboot::give_back),
        Operation::Audit => get(audit::read),
        Operation::Events => get(events::events),
        Operation::TokenCreate => post(tokens::create),
        Operation::TokenList => get(tokens::list),
        Operation::TokenRevoke => delete(tokens::revoke),
    }
}

/// An error on its way out.
struct Problem(StatusCode, WireError);

impl Problem {
    /// The caller is not known.
    fn unknown(message: &str) -> Self {
        Self(StatusCode::UNAUTHORIZED, WireError::new("unauthorized", message))
    }

    /// The request makes no sense.
    fn invalid(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, WireError::new("invalid", message))
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let status = match &error {
            ClusterError::Unreachable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ClusterError::NotFound { .. } => StatusCode::NOT_FOUND,
            ClusterError::Refused { .. } => StatusCode::CONFLICT,
            ClusterError::Denied { .. } => StatusCode::FORBIDDEN,
            ClusterError::Engine { .. } => StatusCode::BAD_GATEWAY,
        };
        Self(status, WireError::from(&error))
    }
}

impl From<BadName> for Problem {
    fn from(error: BadName) -> Self {
        Self::invalid(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}
