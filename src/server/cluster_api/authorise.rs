//! From a request to a principal, and from there to a decision. Nothing else in the API
//! judges who may do what: the table is [`crate::plan::authorise`].

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::super::tls::PeerCertificate;
use super::{Api, Problem, audit};
use crate::model::member::Node;
use crate::model::name::MachineId;
use crate::model::principal::{Level, Operation, Principal, Target};
use crate::model::secret::Secret;
use crate::plan::authorise::{Asked, authorise as decide};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::DrainRequest;
use crate::port::tokens::NewToken;

/// The most that is read of a body that names what is acted on.
const BODY: usize = 64 * 1024;

/// A request that may be carried out. Handlers find it among the request's extensions and act
/// on this target, and on these nodes, so that what is done is what was judged.
#[derive(Debug, Clone)]
pub struct Authorised {
    /// Who asks.
    pub principal: Principal,
    /// The level of a person, a token or the break-glass token.
    pub level: Option<Level>,
    /// What for.
    pub operation: Operation,
    /// On what.
    pub target: Target,
    /// Where the request comes from.
    pub peer: SocketAddr,
    /// The nodes as they were when this was judged; empty where the target is no machine.
    pub nodes: Vec<Node>,
}

/// Lets a request through to its handler, or answers it.
pub(super) async fn authorise(
    State((api, operation)): State<(Api, Operation)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(shown): Extension<PeerCertificate>,
    Path(parameters): Path<HashMap<String, String>>,
    request: Request,
    next: Next,
) -> Response {
    match api.admit(operation, peer, shown, &parameters, request).await {
        Ok(request) => audit::carry_out(&api, request, next).await,
        Err(problem) => problem.into_response(),
    }
}

impl Api {
    async fn admit(
        &self,
        operation: Operation,
        peer: SocketAddr,
        shown: PeerCertificate,
        parameters: &HashMap<String, String>,
        request: Request,
    ) -> Result<Request, Problem> {
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default()
            .to_owned();
        let found = self.principal(&bearer, shown, peer).await?;
        let (target, mut request) = read_target(operation, parameters, request).await?;
        let mut nodes = found.nodes;
        let by_node = matches!(target, Target::Machines(_) | Target::Task { .. });
        if by_node && nodes.is_empty() {
            nodes = self.membership.nodes().await?;
        }
        let target = self.locate(target, &nodes).await?;
        let principal = found.principal;
        let level = match &principal {
            Principal::Person { .. } | Principal::Token { .. } => self.access.level(&principal).await?,
            Principal::BreakGlass => Some(Level::Admin),
            Principal::Machine { .. } | Principal::FormerWorker { .. } => None,
        };
        let asked = Asked { principal: &principal, level, operation, target: &target };
        if let Err(denied) = decide(&asked) {
            tracing::warn!(%principal, ?operation, %target, %peer, "denied");
            let reason = denied.to_string();
            audit::denied(self, &principal, level, operation, &target, peer, &reason).await;
            return Err(ClusterError::Denied { reason }.into());
        }
        request.extensions_mut().insert(Authorised { principal, level, operation, target, peer, nodes });
        Ok(request)
    }

    /// Who sends a request.
    async fn principal(
        &self,
        given: &str,
        shown: PeerCertificate,
        peer: SocketAddr,
    ) -> Result<Found, Problem> {
        // Whoever bears a token is judged by it, whatever else he shows.
        if given.is_empty() {
            return match shown.0 {
                Some(certificate) => Ok(self.identities.machine(&certificate).await?.into()),
                None => Err(Problem::unknown("this needs a certificate or a token of the cluster")),
            };
        }
        if let Some(person) = self.identities.person(given)? {
            return Ok(person.into());
        }
        // Takes the same time wherever the first difference is, so that it can't be found byte by byte.
        let bears = |token: &Secret<String>| bool::from(given.as_bytes().ct_eq(token.expose().as_bytes()));
        if bears(&self.token) {
            return Ok(Principal::BreakGlass.into());
        }
        if self.worker_token.as_ref().is_some_and(bears) {
            let nodes = self.membership.nodes().await?;
            let address = peer.ip().to_canonical();
            let mut here = nodes.iter().filter(|node| node.up && node.address == Some(address));
            let instance = match (here.next(), here.next()) {
                (Some(node), None) => node.instance.clone(),
                _ => None,
            };
            return Ok(Found { principal: Principal::FormerWorker { instance, address }, nodes });
        }
        match self.access.token(&Secret::new(given.to_owned())).await? {
            Some(principal) => Ok(principal.into()),
            None if given.starts_with("fwt_") => Err(Problem::unknown(
                "this token is not known: it has expired or was revoked. An admin can create another with \
                 `fleetwright cluster token create`",
            )),
            None => Err(Problem::unknown(
                "this needs a certificate or a token of the cluster, and the token that was sent is not one",
            )),
        }
    }

    /// Finds out which machine runs a task.
    async fn locate(&self, target: Target, nodes: &[Node]) -> Result<Target, Problem> {
        let Target::Task { id, .. } = target else { return Ok(target) };
        let node = self.membership.node_of_task(&id).await?;
        let node = nodes.iter().find(|one| Some(&one.id) == node.as_ref());
        Ok(Target::Task { id, machine: node.and_then(|node| node.instance.clone()) })
    }
}

/// A principal, and the nodes if they were read to find it.
struct Found {
    principal: Principal,
    nodes: Vec<Node>,
}

impl From<Principal> for Found {
    fn from(principal: Principal) -> Self {
        Self { principal, nodes: Vec::new() }
    }
}

/// What a request acts on, as it says itself.
async fn read_target(
    operation: Operation,
    parameters: &HashMap<String, String>,
    request: Request,
) -> Result<(Target, Request), Problem> {
    let parameter = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    let target = match operation {
        Operation::Identify
        | Operation::Snapshot
        | Operation::Watch
        | Operation::Metrics
        | Operation::Standing
        | Operation::ClusterStatus
        | Operation::ClusterRecover
        | Operation::ClusterRestore
        | Operation::Audit
        | Operation::Events
        | Operation::Secrets
        | Operation::Jobs
        | Operation::OccurrenceLogs
        | Operation::HostFiles
        | Operation::Keys
        | Operation::TokenList => Target::Cluster,
        Operation::TokenRevoke => Target::Token(parameter("name").parse()?),
        Operation::TokenCreate => {
            let (new, request) = body::<NewToken>(request).await?;
            return Ok((Target::Token(new.name), request));
        }
        Operation::Logs
        | Operation::Exec
        | Operation::Deployed
        | Operation::Deploy
        | Operation::Rollback
        | Operation::RollbackTo
        | Operation::Scale
        | Operation::RunCommand
        | Operation::Remove => Target::Service(parameter("name").parse()?),
        Operation::Register
        | Operation::EngineGone
        | Operation::Ports
        | Operation::UnitTasks
        | Operation::HostFileFeed
        | Operation::HostFileReport
        | Operation::Pressure
        | Operation::EngineBack
        | Operation::RebootState
        | Operation::RebootAsk
        | Operation::RebootReturn
        | Operation::EtcdClient
        | Operation::Turn => Target::Machines(vec![parameter("id").parse()?]),
        Operation::DeployJob | Operation::DeployedJob | Operation::RemoveJob | Operation::RunJob => {
            Target::Job(parameter("name").parse()?)
        }
        Operation::DeployHostFile | Operation::RemoveHostFile => Target::HostFile(parameter("name").parse()?),
        Operation::ReportUnhealthy | Operation::Permit | Operation::TaskCredentials => {
            Target::Task { id: parameter("id").to_owned(), machine: None }
        }
        Operation::Drain => {
            let (asked, request) = body::<DrainRequest>(request).await?;
            return Ok((Target::Machines(asked.machines), request));
        }
    };
    Ok((target, request))
}

/// The body of a request, and the request as it was.
async fn body<T: serde::de::DeserializeOwned>(request: Request) -> Result<(T, Request), Problem> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, BODY)
        .await
        .map_err(|error| Problem::invalid(format!("reading the request: {error}")))?;
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::invalid(format!("the request is not understood: {error}")))?;
    Ok((value, Request::from_parts(parts, Body::from(bytes))))
}

impl Authorised {
    /// The machines that are acted on.
    pub(super) fn machines(&self) -> &[MachineId] {
        match &self.target {
            Target::Machines(machines) => machines,
            Target::Cluster
            | Target::Service(_)
            | Target::Job(_)
            | Target::HostFile(_)
            | Target::Token(_)
            | Target::Task { .. } => &[],
        }
    }

    /// The one machine that is acted on.
    pub(super) fn machine(&self) -> Result<&MachineId, Problem> {
        match self.machines() {
            [machine] => Ok(machine),
            _ => Err(Problem::invalid("this is about one machine")),
        }
    }
}
