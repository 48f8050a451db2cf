//! Builds with the engine's BuildKit: its API, and a session of ours that it asks for files and
//! credentials while it builds. Nothing is written to disk here.

mod files;
mod progress;
mod services;

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Server;

use self::files::Files;
use self::progress::Progress;
use self::services::{Credentials, Health, Secrets, SessionIo};
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::images::{BuildRequest, ImageError, Lines};

/// How long the engine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest message of the engine, in bytes.
const MESSAGE_MAX: usize = 64 << 20;
/// What the session answers; the engine asks for nothing else.
const METHODS: [&str; 3] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
];

/// What a session answers besides files.
pub(super) struct Answers {
    pub(super) credentials: Option<super::registry::Credentials>,
    /// By their ids.
    pub(super) secrets: HashMap<String, Secret<String>>,
}

/// Where the engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(String),
    Tcp(String),
}

impl Address {
    /// What DOCKER_HOST says, or the default.
    ///
    /// # Errors
    /// When it is an address of another kind.
    pub(super) fn from_environment() -> Result<Self, ImageError> {
        match std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
            None => Ok(Self::Unix("/var/run/docker.sock".into())),
            Some(host) => host.parse(),
        }
    }

    /// Opens the stream that a request to `path` begins.
    pub(super) async fn hijack(&self, path: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>, ImageError> {
        let post = Request::post(path)
            .header("Host", "docker")
            .header("Connection", "Upgrade")
            .header("Upgrade", "tcp")
            .body(Empty::new())
            .map_err(|error| away(error.to_string()))?;
        let mut sender = self.connect().await?;
        let response = sender.send_request(post).await.map_err(|error| away(error.to_string()))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(|error| away(error.to_string()))?))
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, ImageError> {
        let connecting = async {
            match self {
                Self::Unix(path) => handshake(UnixStream::connect(path).await?).await,
                Self::Tcp(address) => handshake(TcpStream::connect(address).await?).await,
            }
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(error)) => Err(away(error.to_string())),
            Err(_) => Err(away(format!("it does not answer within {} s", CONNECT.as_secs()))),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = ImageError;

    fn from_str(host: &str) -> Result<Self, ImageError> {
        if let Some(path) = host.strip_prefix("unix://") {
            Ok(Self::Unix(path.to_owned()))
        } else if let Some(address) = host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) {
            Ok(Self::Tcp(address.trim_end_matches('/').to_owned()))
        } else {
            Err(away(format!("DOCKER_HOST is `{host}`; `unix://PATH` and `tcp://HOST:PORT` are supported")))
        }
    }
}

async fn handshake(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> std::io::Result<SendRequest<Empty<Bytes>>> {
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // Ends when the sender and what it was upgraded to are dropped.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn away(reason: String) -> ImageError {
    ImageError::Builder { reason }
}

/// A session, which ends when the build that it is for has ended or was dropped.
struct Session {
    id: String,
    _end: tokio::sync::oneshot::Sender<()>,
}

/// Builds `request` under the name `name`.
///
/// # Errors
/// When the engine can't be reached, or the build fails.
pub(super) async fn build(
    address: &Address,
    request: BuildRequest,
    name: &str,
    answers: Answers,
    mask: &Mask,
    lines: Lines<'_>,
) -> Result<(), ImageError> {
    let mut query = vec![
        ("version", "2".to_owned()),
        ("remote", "client-session".to_owned()),
        ("dockerfile", files::DOCKERFILE.to_owned()),
        ("t", name.to_owned()),
        ("rm", "1".to_owned()),
        ("forcerm", "1".to_owned()),
    ];
    let mut args = request.args.clone();
    if !request.cache_namespace.is_empty() {
        // BuildKit's own argument. It replaces one that the step sets to get at the caches of others.
        args.insert("BUILDKIT_CACHE_MOUNT_NS".to_owned(), request.cache_namespace.clone());
    }
    if !args.is_empty() {
        query.push(("buildargs", serde_json::json!(args).to_string()));
    }
    query.extend(request.target.clone().map(|target| ("target", target)));
    let session = open(address, Files::new(request), answers).await?;
    query.push(("session", session.id.clone()));
    let query: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();

    let mut sender = address.connect().await?;
    let post = Request::post(format!("/build?{}", query.join("&")))
        .header("Host", "docker")
        .header("Content-Type", "application/x-tar")
        .body(Empty::new())
        .map_err(|error| away(error.to_string()))?;
    let response = sender.send_request(post).await.map_err(|error| away(error.to_string()))?;
    if response.status() != StatusCode::OK {
        return Err(refused(response).await);
    }
    follow(response.into_body(), mask, lines).await
}

/// Opens a session that serves `files` and `answers`.
async fn open(address: &Address, files: Files, answers: Answers) -> Result<Session, ImageError> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| away(error.to_string()))?;
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut post = Request::post("/session")
        .header("Host", "docker")
        .header("Connection", "Upgrade")
        .header("Upgrade", "h2c")
        .header("X-Docker-Expose-Session-Uuid", &id)
        .header("X-Docker-Expose-Session-Name", "fleetwright")
        // The engine keeps what it received under this key, and takes a file of the same time and
        // size for the same file. No two builds may share it.
        .header("X-Docker-Expose-Session-Sharedkey", &id);
    for method in METHODS {
        post = post.header("X-Docker-Expose-Session-Grpc-Method", method);
    }
    let post = post.body(Empty::new()).map_err(|error| away(error.to_string()))?;
    let mut sender = address.connect().await?;
    let response = sender.send_request(post).await.map_err(|error| away(error.to_string()))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| away(error.to_string()))?;
    let io = SessionIo(TokioIo::new(upgraded));
    // One connection; a server whose connections have ended would end with them.
    let incoming = stream::iter([Ok::<_, std::io::Error>(io)]).chain(stream::pending());
    let (end, ended) = tokio::sync::oneshot::channel();
    let served = Server::builder()
        .add_service(HealthServer::new(Health))
        .add_service(AuthServer::new(Credentials::new(answers.credentials)))
        .add_service(SecretsServer::new(Secrets::new(answers.secrets)))
        .add_service(FileSyncServer::new(files))
        .serve_with_incoming_shutdown(incoming, async move {
            // Resolves when the other half is dropped.
            let _ = ended.await;
        });
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::debug!(%error, "the session of a build ended");
        }
    });
    Ok(Session { id, _end: end })
}

/// Passes on what the engine reports until the build has ended.
async fn follow(mut body: Incoming, mask: &Mask, lines: Lines<'_>) -> Result<(), ImageError> {
    let mut progress = Progress::new(mask, lines);
    let mut buffer: Vec<u8> = Vec::new();
    let mut searched = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| away(format!("the build was cut off: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        buffer.extend_from_slice(data);
        while let Some(end) = buffer[searched..].iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=searched + end).collect();
            searched = 0;
            message(&line, &mut progress)?;
        }
        searched = buffer.len();
        if buffer.len() > MESSAGE_MAX {
            return Err(away(format!("a message of the engine has more than {MESSAGE_MAX} bytes")));
        }
    }
    message(&buffer, &mut progress)?;
    progress.end();
    Ok(())
}

/// One message of the engine.
fn message(line: &[u8], progress: &mut Progress<'_>) -> Result<(), ImageError> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let message: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| away(format!("its answer makes no sense: {error}")))?;
    if let Some(reason) = message["errorDetail"]["message"].as_str().or(message["error"].as_str()) {
        progress.end();
        return Err(ImageError::Build { reason: cause(reason).to_owned(), step: progress.failed() });
    }
    if message["id"] == "moby.buildkit.trace"
        && let Some(packed) = message["aux"].as_str()
    {
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed);
        let status = bytes.ok().and_then(|bytes| StatusResponse::decode(&bytes[..]).ok());
        // What can't be decoded is progress only.
        if let Some(status) = status {
            progress.take(&status);
        }
    }
    Ok(())
}

/// The engine's words without those that only say that a build failed.
fn cause(reason: &str) -> &str {
    let mut reason = reason;
    for prefix in ["failed to solve with frontend dockerfile.v0: ", "failed to solve: "] {
        reason = reason.strip_prefix(prefix).unwrap_or(reason);
    }
    for prefix in
        ["failed to create LLB definition: ", "failed to build LLB: ", "rpc error: code = Unknown desc = "]
    {
        reason = reason.strip_prefix(prefix).unwrap_or(reason);
    }
    reason
}

async fn refused(response: Response<Incoming>) -> ImageError {
    let status = response.status();
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let told = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let told = told.as_ref().and_then(|told| told["message"].as_str()).unwrap_or("");
    if status.is_server_error() && told.is_empty() || status == StatusCode::SERVICE_UNAVAILABLE {
        return away(format!("it answers {status}"));
    }
    ImageError::Build { reason: format!("Docker refuses the build: {told} ({status})"), step: None }
}

/// A value as it stands in a query.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unix_or_tcp() {
        assert_eq!("unix:///x/d.sock".parse::<Address>().ok(), Some(Address::Unix("/x/d.sock".into())));
        assert_eq!("tcp://h:2375/".parse::<Address>().ok(), Some(Address::Tcp("h:2375".into())));
        let refusal = "ssh://h".parse::<Address>().expect_err("no session over ssh");
        assert!(refusal.to_string().contains("`ssh://h`"), "{refusal}");
    }

    #[test]
    fn values_are_escaped_and_causes_are_short() {
        assert_eq!(escaped("a b/é&=+"), "a%20b%2F%C3%A9%26%3D%2B");
        assert_eq!(
            cause(
                "failed to solve with frontend dockerfile.v0: failed to create LLB definition: \
                 dockerfile parse error line 2: x"
            ),
            "dockerfile parse error line 2: x"
        );
    }
}
