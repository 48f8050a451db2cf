//! A cluster through the API that its control machines serve.
//!
//! Any of them will do: when one does not answer, the next is asked, and when none does,
//! they are looked up again, since control machines are replaced like any others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::model::feature::{self, Feature, Needs};
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::{MachineId, ServiceName, VolumeName};
use crate::model::pressure::Pressure;
use crate::model::service::{Deployed, Deployment, PublishedPorts, ScaleTo, Symptoms};
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::cluster_wire::{
    Changed, DrainRequest, Drained, Endpoint, ErrorBody, EtcdClient, EtcdClientRequest, Line, PortsReport,
    PressureReport, Registration, ScaleRequest, SecretVersions, Unhealthy, WireError,
};
use crate::port::etcd::EtcdAccess;
use crate::port::membership::Control;
use crate::port::parameters::Parameters;

mod audit;
mod events;
mod exec;
mod host_files;
mod identity;
mod jobs;
mod logs;
mod reboot;
mod recovery;
mod standing;
mod tasks;
mod tokens;

use identity::{Connected, Known, Ready};
pub use identity::{Credential, MachineIdentity, MachineKey};

/// How long a connection may take to come about; they are close by.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an unused connection is kept: less than the servers keep it.
const IDLE: Duration = Duration::from_secs(15);
/// How long the answer to one request may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a stream may be silent: three of the server's signs of life.
const SILENCE: Duration = Duration::from_secs(6);
/// How long control machines are tried before the cluster counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two rounds of trying all of them.
const PAUSE: Duration = Duration::from_millis(300);

/// Where control machines are found.
pub enum Source {
    /// At addresses that were configured.
    Fixed(Access),
    /// Where their agents wrote themselves down.
    Rendezvous {
        /// The parameter store.
        parameters: Arc<dyn Parameters>,
        /// The cluster's prefix in it, such as `/fleetwright/demo/local/main`.
        prefix: String,
        /// How this caller is known.
        credential: Credential,
    },
}

/// All that is needed to be let in.
#[derive(Debug, Clone)]
pub struct Access {
    /// Base URLs of control machines.
    pub endpoints: Vec<String>,
    /// How the caller is known.
    pub credential: Credential,
    /// The cluster's own authority, as PEM; `None` trusts the system's authorities.
    pub authority: Option<String>,
}

/// A cluster through its API.
pub struct ClusterApi(Arc<Inner>);

struct Inner {
    source: Source,
    /// What was found last; the first endpoint is the one that answered last.
    found: Mutex<Option<Arc<Connected>>>,
    /// What this caller is known by.
    known: Mutex<Option<Known>>,
}

/// Whether a request may be sent again when it is not known whether the first was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Always,
    OnlyUnsent,
}

/// What went wrong with one endpoint.
enum Trouble {
    /// It never got the request.
    Unsent(String),
    /// It may have got it.
    Unanswered(String),
    /// It does not know this caller (any more).
    Unknown(ClusterError),
    /// It answered.
    Answered(ClusterError),
}

impl ClusterApi {
    /// A client; nothing is asked yet.
    pub fn new(source: Source) -> Self {
        Self(Arc::new(Inner { source, found: Mutex::new(None), known: Mutex::new(None) }))
    }
}

#[async_trait]
impl Control for ClusterApi {
    async fn register(&self, machine: &MachineId, registration: &Registration) -> Result<(), ClusterError> {
        let path = format!("machines/{machine}");
        self.0.call(Method::PUT, &path, Some(registration), Again::Always).await.map(|_: Option<()>| ())
    }

    async fn report_unhealthy(&self, task: &str, seen: &Symptoms, age: Duration) -> Result<(), ClusterError> {
        // Not in the body, where a control machine of an earlier version would refuse it.
        let path = format!("tasks/{task}/unhealthy?age_s={}", age.as_secs());
        let body = Unhealthy { output: seen.probe.clone().unwrap_or_default(), ended: seen.ended.clone() };
        self.0.call(Method::POST, &path, Some(&body), Again::Always).await.map(|_: Option<()>| ())
    }

    async fn engine_gone(&self, machine: &MachineId, gone: bool) -> Result<(), ClusterError> {
        let method = if gone { Method::PUT } else { Method::DELETE };
        let path = format!("machines/{machine}/engine-gone");
        self.0.call(method, &path, None::<&()>, Again::Always).await.map(|_: Option<()>| ())
    }

    async fn ports(&self, machine: &MachineId, ports: &PublishedPorts) -> Result<(), ClusterError> {
        let path = format!("machines/{machine}/ports");
        let report = PortsReport { tasks: ports.clone() };
        self.0.call(Method::PUT, &path, Some(&report), Again::Always).await.map(|_: Option<()>| ())
    }

    async fn pressure(&self, machine: &MachineId, pressure: Pressure) -> Result<(), ClusterError> {
        let path = format!("machines/{machine}/pressure");
        let report = PressureReport::from(pressure);
        self.0.call(Method::PUT, &path, Some(&report), Again::Always).await.map(|_: Option<()>| ())
    }

    async fn empty(&self, machines: &[MachineId], force: bool) -> Result<(), ClusterError> {
        self.emptied(DrainRequest { machines: machines.to_vec(), force, lose_volumes: Vec::new() }).await
    }
}

#[async_trait]
impl EtcdAccess for ClusterApi {
    async fn client(&self, machine: &MachineId, public_key: &str) -> Result<EtcdClient, ClusterError> {
        let path = format!("machines/{machine}/etcd-client");
        let body = EtcdClientRequest { public_key: public_key.to_owned() };
        self.0.answer(Method::POST, &path, Some(&body), Again::Always).await
    }
}

impl ClusterApi {
    /// Asks until the machines are empty.
    async fn emptied(&self, request: DrainRequest) -> Result<(), ClusterError> {
        loop {
            let drained: Drained =
                self.0.answer(Method::POST, "drain", Some(&request), Again::Always).await?;
            if drained.done {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Cluster for ClusterApi {
    async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        self.0.answer(Method::GET, "snapshot", None::<&()>, Again::Always).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        let inner = Arc::clone(&self.0);
        let first = inner.open("watch").await?;
        Ok(stream::unfold(Some((inner, Some(first))), |state| async move {
            let (inner, mut open) = state?;
            let mut failing = None;
            loop {
                let reason = match &mut open {
                    Some(lines) => match lines.next().await {
                        Some(Ok(Line::Snapshot(snapshot))) => {
                            return Some((Ok(snapshot), Some((inner, open))));
                        }
                        Some(Ok(Line::Log(_))) => continue,
                        Some(Ok(Line::Error(error))) => error.message,
                        Some(Err(reason)) => reason,
                        None => "it closed the stream".to_owned(),
                    },
                    None => "it could not be opened again".to_owned(),
                };
                tracing::debug!(reason, "the watch broke off");
                let since = *failing.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    let endpoint = inner.described().await;
                    return Some((Err(ClusterError::Unreachable { endpoint, reason }), None));
                }
                // Another control machine carries on where this one ended.
                inner.demote_first().await;
                tokio::time::sleep(PAUSE).await;
                open = inner.open("watch").await.ok();
            }
        })
        .boxed())
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<u64, ClusterError> {
        let needs = Needs::of(deployment);
        if !needs.control.is_empty() {
            let machines = self.snapshot().await?.machines;
            feature::check(needs, &machines).map_err(|old| ClusterError::Refused {
                reason: format!("service `{}` was not deployed: {old}", deployment.spec.name),
            })?;
        }
        let path = format!("services/{}", deployment.spec.name);
        let changed: Changed = self.0.answer(Method::PUT, &path, Some(deployment), Again::Always).await?;
        Ok(changed.revision)
    }

    async fn deployed(&self, service: &ServiceName, revision: Option<u64>) -> Result<Deployed, ClusterError> {
        let query = revision.map_or_else(String::new, |number| format!("?revision={number}"));
        let path = format!("services/{service}/deployment{query}");
        self.0.answer(Method::GET, &path, None::<&()>, Again::Always).await
    }

    async fn rollback(&self, service: &ServiceName, to: Option<u64>) -> Result<u64, ClusterError> {
        let (path, again) = match to {
            Some(number) => (format!("services/{service}/rollback/{number}"), Again::Always),
            // Going back twice would go back to where it was.
            None => (format!("services/{service}/rollback"), Again::OnlyUnsent),
        };
        let changed: Changed = self.0.answer(Method::POST, &path, None::<&()>, again).await?;
        Ok(changed.revision)
    }

    async fn take_back(&self, service: &ServiceName, to: u64) -> Result<u64, ClusterError> {
        // A control machine of an earlier version goes back as well, and does not say why.
        let path = format!("services/{service}/rollback/{to}?release=true");
        let changed: Changed = self.0.answer(Method::POST, &path, None::<&()>, Again::Always).await?;
        Ok(changed.revision)
    }

    async fn secret_versions(
        &self,
        secrets: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
        // A control machine that is too old does not have the path.
        let needs = Needs { control: [Feature::Mounts].into_iter().collect(), ..Needs::default() };
        feature::check(needs, &self.snapshot().await?.machines).map_err(|old| ClusterError::Refused {
            reason: format!("the secrets of services can't be read: {old}"),
        })?;
        // Of what names may hold, only a plus would be read as something else.
        let names: Vec<String> =
            secrets.iter().map(|secret| secret.to_string().replace('+', "%2B")).collect();
        let path = format!("secrets?names={}", names.join(","));
        let answer: SecretVersions = self.0.answer(Method::GET, &path, None::<&()>, Again::Always).await?;
        Ok(answer.secrets)
    }

    async fn scale(&self, service: &ServiceName, to: ScaleTo) -> Result<(), ClusterError> {
        let path = format!("services/{service}/scale");
        let request = ScaleRequest { to };
        self.0.call(Method::PUT, &path, Some(&request), Again::Always).await.map(|_: Option<()>| ())
    }

    async fn remove(&self, service: &ServiceName) -> Result<(), ClusterError> {
        let path = format!("services/{service}");
        self.0.call(Method::DELETE, &path, None::<&()>, Again::Always).await.map(|_: Option<()>| ())
    }

    async fn logs(
        &self,
        service: &ServiceName,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError> {
        let path = format!("services/{service}/logs?tail={tail}&follow={follow}");
        let lines = self.0.open(&path).await?;
        let endpoint = self.0.described().await;
        Ok(lines
            .filter_map(move |line| {
                let endpoint = endpoint.clone();
                std::future::ready(match line {
                    Ok(Line::Log(text)) => Some(Ok(text)),
                    Ok(Line::Snapshot(_)) => None,
                    Ok(Line::Error(error)) => Some(Err(error.into_error(&endpoint))),
                    Err(reason) => Some(Err(ClusterError::Unreachable { endpoint, reason })),
                })
            })
            .boxed())
    }

    async fn drain(&self, machines: &[MachineId], lose: &[VolumeName]) -> Result<(), ClusterError> {
        let machines = machines.to_vec();
        self.emptied(DrainRequest { machines, force: false, lose_volumes: lose.to_vec() }).await
    }
}

impl Inner {
    /// Sends a request that has an answer.
    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        again: Again,
    ) -> Result<T, ClusterError> {
        self.call(method, path, body, again).await?.ok_or_else(|| ClusterError::Engine {
            doing: format!("asking for /v1/{path}"),
            reason: "the answer is empty".to_owned(),
        })
    }

    /// Sends a request to one control machine after the other until one answers.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        again: Again,
    ) -> Result<Option<T>, ClusterError> {
        let response = self
            .send(path, again, |ready, url| {
                let request = ready.calls.request(method.clone(), url).timeout(ANSWER);
                match body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        response.json().await.map(Some).map_err(|error| ClusterError::Engine {
            doing: format!("reading the answer of /v1/{path}"),
            reason: words(&error),
        })
    }

    /// Opens a stream of lines.
    async fn open<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
    ) -> Result<BoxStream<'static, Result<T, String>>, ClusterError> {
        let response = self.send(path, Again::Always, |ready, url| ready.streams.get(url)).await?;
        Ok(lines(response).boxed())
    }

    async fn send(
        &self,
        path: &str,
        again: Again,
        build: impl Fn(&Ready, String) -> RequestBuilder + Sync,
    ) -> Result<Response, ClusterError> {
        let start = Instant::now();
        loop {
            let connected = self.connected().await;
            let mut reason = match &connected {
                Ok(connected) if connected.endpoints.is_empty() => {
                    "no control machine has written itself down".to_owned()
                }
                Ok(_) => String::new(),
                Err(ClusterError::Unreachable { reason, .. }) => reason.clone(),
                Err(_) => String::new(),
            };
            let connected = match connected {
                Ok(connected) => Some(connected),
                Err(ClusterError::Unreachable { .. }) => None,
                Err(error) => return Err(error),
            };
            for endpoint in connected.iter().flat_map(|connected| connected.endpoints.clone()) {
                let Some(connected) = &connected else { break };
                let url = format!("{endpoint}/v1/{path}");
                match self.try_one(connected, &endpoint, &url, &build).await {
                    Ok(response) => {
                        self.promote(&endpoint).await;
                        return Ok(response);
                    }
                    Err(Trouble::Answered(error) | Trouble::Unknown(error)) => return Err(error),
                    Err(Trouble::Unanswered(why)) if again == Again::OnlyUnsent => {
                        let reason = format!(
                            "{why}; whether it was carried out is not known: see `fleetwright status`"
                        );
                        return Err(ClusterError::Unreachable { endpoint, reason });
                    }
                    Err(Trouble::Unsent(why) | Trouble::Unanswered(why)) => {
                        tracing::debug!(endpoint, why, "a control machine did not answer");
                        reason = why;
                    }
                }
            }
            if start.elapsed() > PATIENCE {
                return Err(ClusterError::Unreachable { endpoint: self.described().await, reason });
            }
            self.forget().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends a request to one control machine, as somebody whom it knows.
    async fn try_one(
        &self,
        connected: &Connected,
        endpoint: &str,
        url: &str,
        build: &(impl Fn(&Ready, String) -> RequestBuilder + Sync),
    ) -> Result<Response, Trouble> {
        let mut renewed = false;
        loop {
            let ready = {
                let mut known = self.known.lock().await;
                let now = connected.identify(known.clone(), endpoint).await?;
                known.insert(now).ready()
            };
            let mut request = build(&ready, url.to_owned());
            if let Some(bearer) = &ready.bearer {
                request = request.bearer_auth(bearer.expose());
            }
            match attempt(request, endpoint).await {
                // It may have ended while this computer slept.
                Err(Trouble::Unknown(_)) if connected.can_renew() && !renewed => {
                    renewed = true;
                    *self.known.lock().await = None;
                }
                other => return other,
            }
        }
    }

    async fn connected(&self) -> Result<Arc<Connected>, ClusterError> {
        let mut found = self.found.lock().await;
        if let Some(connected) = found.as_ref() {
            return Ok(Arc::clone(connected));
        }
        let access = self.source.look().await?;
        let connected = Arc::new(Connected::new(access)?);
        *found = Some(Arc::clone(&connected));
        Ok(connected)
    }

    /// Looks control machines up again the next time; fixed ones stay in their order.
    async fn forget(&self) {
        if let Source::Rendezvous { .. } = self.source {
            *self.found.lock().await = None;
        }
    }

    async fn promote(&self, endpoint: &str) {
        self.reorder(|endpoints| {
            if let Some(at) = endpoints.iter().position(|known| known == endpoint) {
                endpoints[..=at].rotate_right(1);
            }
        })
        .await;
    }

    async fn demote_first(&self) {
        self.reorder(|endpoints| {
            if !endpoints.is_empty() {
                endpoints.rotate_left(1);
            }
        })
        .await;
    }

    async fn reorder(&self, edit: impl FnOnce(&mut Vec<String>)) {
        let mut found = self.found.lock().await;
        if let Some(connected) = found.as_ref() {
            let mut endpoints = connected.endpoints.clone();
            edit(&mut endpoints);
            *found = Some(Arc::new(connected.with_endpoints(endpoints)));
        }
    }

    async fn described(&self) -> String {
        match (&self.source, self.found.lock().await.as_ref()) {
            (_, Some(connected)) if !connected.endpoints.is_empty() => connected.endpoints.join(", "),
            (Source::Rendezvous { prefix, .. }, _) => format!("any address under {prefix}/control"),
            (Source::Fixed(access), _) => access.endpoints.join(", "),
        }
    }
}

impl Source {
    async fn look(&self) -> Result<Access, ClusterError> {
        let (parameters, prefix, credential) = match self {
            Self::Fixed(access) => return Ok(access.clone()),
            Self::Rendezvous { parameters, prefix, credential } => (parameters, prefix, credential),
        };
        let failed = |error: crate::port::cloud::CloudError| ClusterError::Engine {
            doing: format!("looking control machines up under {prefix}"),
            reason: error.to_string(),
        };
        let (authority_name, control_prefix) = (format!("{prefix}/ca-cert"), format!("{prefix}/control"));
        let (authority, control) =
            tokio::try_join!(parameters.get(&authority_name), parameters.list(&control_prefix))
                .map_err(failed)?;
        let Some(authority) = authority else {
            return Err(ClusterError::Unreachable {
                endpoint: format!("{prefix}/control"),
                reason: "no cluster has been initialised there yet".to_owned(),
            });
        };
        let endpoints = control
            .iter()
            .filter_map(|parameter| Endpoint::read(parameter.value.expose()))
            .map(|endpoint| endpoint.url())
            .collect();
        let authority = Some(authority.expose().clone());
        Ok(Access { endpoints, credential: credential.clone(), authority })
    }
}

async fn attempt(request: RequestBuilder, endpoint: &str) -> Result<Response, Trouble> {
    let response = request.send().await.map_err(|error| {
        if error.is_connect() { Trouble::Unsent(words(&error)) } else { Trouble::Unanswered(words(&error)) }
    })?;
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let error = match response.json::<ErrorBody>().await {
        Ok(body) => body.error,
        Err(_) => WireError::new("engine", format!("status {}", status.as_u16())),
    };
    // A manager without a leader may be one that was cut off: the next may know better.
    if error.code == "unreachable" {
        return Err(Trouble::Unanswered(error.detail.unwrap_or(error.message)));
    }
    let unknown = error.code == "unauthorized";
    let error = error.into_error(endpoint);
    Err(if unknown { Trouble::Unknown(error) } else { Trouble::Answered(error) })
}

/// The longest line of an answer, in bytes: a snapshot of a large cluster has some megabytes.
const LINE_MAX: usize = 64 << 20;

/// The JSON lines of an answer; empty ones are signs of life.
pub(super) fn lines<T: DeserializeOwned + Send + 'static>(
    response: Response,
) -> impl Stream<Item = Result<T, String>> + Send {
    let bytes = response.bytes_stream().boxed();
    stream::unfold((bytes, Vec::new(), false), |(mut bytes, mut rest, ended)| async move {
        if ended {
            return None;
        }
        // What was searched is not searched again when more comes.
        let mut searched = 0;
        loop {
            if let Some(end) = rest.iter().skip(searched).position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=searched + end).collect();
                searched = 0;
                let text = line.trim_ascii();
                if text.is_empty() {
                    continue;
                }
                let item = serde_json::from_slice(text)
                    .map_err(|error| format!("its line is not understood: {error}"));
                return Some((item, (bytes, rest, false)));
            }
            searched = rest.len();
            if searched > LINE_MAX {
                let error = format!("its line has more than {LINE_MAX} bytes");
                return Some((Err(error), (bytes, Vec::new(), true)));
            }
            match bytes.next().await {
                Some(Ok(chunk)) => rest.extend_from_slice(&chunk),
                Some(Err(error)) => return Some((Err(words(&error)), (bytes, rest, true))),
                None => return None,
            }
        }
    })
}

/// The innermost cause, which is the one that says something.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
