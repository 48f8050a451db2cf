//! The agents of the cluster's machines, as a control machine calls them: over TLS, with a
//! certificate that only who has the authority's key can make, and to the machine that is meant
//! and no other.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::authority::{Authority, CONTROL_VALID, MACHINE_URI, Signed};
use super::cluster_api::lines;
use super::issuer::{named, verifier};
use crate::model::frame::PROTOCOL;
use crate::model::name::MachineId;
use crate::model::timeline::{EventPage, EventQuery};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{ErrorBody, WireError};
use crate::port::identity::IssueError;
use crate::port::streams::{
    AGENT_PORT, Agents, Connection, EVENTS_PATH, ExecRequest, LOGS_PATH, LogItems, LogLine, LogRequest,
    exec_path,
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an agent may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long an agent that reads logs may be silent: three of its signs of life.
const SILENCE: Duration = Duration::from_secs(6);

/// Calls agents as one control machine.
pub struct AgentCalls {
    authority: Authority,
    me: MachineId,
    verifier: Arc<dyn ClientCertVerifier>,
    /// What it shows, and until when it uses that.
    shown: Mutex<Option<(Arc<Signed>, Instant)>>,
    port: u16,
}

impl AgentCalls {
    /// As the control machine `me` of the cluster with that authority.
    ///
    /// # Errors
    /// When the authority's certificate can't be read.
    pub fn new(authority: Authority, me: MachineId) -> Result<Self, IssueError> {
        let verifier = verifier(&authority.certificate)?;
        Ok(Self { authority, me, verifier, shown: Mutex::default(), port: AGENT_PORT })
    }

    /// The same, for agents that listen on another port.
    pub fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    async fn shown(&self) -> Result<Arc<Signed>, String> {
        let mut shown = self.shown.lock().await;
        if let Some((signed, until)) = shown.as_ref()
            && Instant::now() < *until
        {
            return Ok(Arc::clone(signed));
        }
        let signed = Arc::new(self.authority.sign_control(&self.me).map_err(|error| error.to_string())?);
        *shown = Some((Arc::clone(&signed), Instant::now() + CONTROL_VALID / 2));
        Ok(signed)
    }

    async fn client(&self, machine: &MachineId, silence: Option<Duration>) -> Result<Client, String> {
        let signed = self.shown().await?;
        let certificate = CertificateDer::from_pem_slice(signed.certificate.as_bytes());
        let certificate = certificate.map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(signed.key.expose().as_bytes());
        let key = key.map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let expected = OneMachine { verifier: Arc::clone(&self.verifier), machine: machine.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            // A machine's certificate names its instance and no address. This compares the instance.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(expected))
            .with_client_auth_cert(vec![certificate], key)
            .map_err(|error| error.to_string())?;
        let mut client = Client::builder().connect_timeout(CONNECT).no_proxy().https_only(true);
        if let Some(silence) = silence {
            client = client.read_timeout(silence);
        }
        client.tls_backend_preconfigured(config).build().map_err(|error| words(&error))
    }

    /// Sends a request to an agent, and gives its answer if that has the status `wanted`.
    async fn call(
        &self,
        machine: &MachineId,
        silence: Option<Duration>,
        wanted: StatusCode,
        build: impl FnOnce(&Client) -> RequestBuilder,
    ) -> Result<Response, ClusterError> {
        let client = self.client(machine, silence).await.map_err(|reason| failed(machine, reason))?;
        let response = match tokio::time::timeout(ANSWER, build(&client).send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(failed(machine, words(&error))),
            Err(_) => return Err(failed(machine, format!("no answer in {} s", ANSWER.as_secs()))),
        };
        let status = response.status();
        if status == wanted {
            return Ok(response);
        }
        let error = match response.json::<ErrorBody>().await {
            Ok(body) => body.error,
            Err(_) => WireError::new("engine", format!("status {}", status.as_u16())),
        };
        Err(error.into_error(&format!("machine {machine}")))
    }

    fn url(&self, address: IpAddr, path: &str) -> String {
        format!("https://{}{path}", SocketAddr::new(address, self.port))
    }
}

fn failed(machine: &MachineId, reason: String) -> ClusterError {
    ClusterError::Engine { doing: format!("reaching the agent of machine {machine}"), reason }
}

#[async_trait]
impl Agents for AgentCalls {
    async fn exec(
        &self,
        machine: &MachineId,
        address: IpAddr,
        task: &str,
        request: &ExecRequest,
    ) -> Result<Connection, ClusterError> {
        let url = self.url(address, &exec_path(task));
        let response = self
            .call(machine, None, StatusCode::SWITCHING_PROTOCOLS, |client| {
                client.post(url).header(CONNECTION, "Upgrade").header(UPGRADE, PROTOCOL).json(request)
            })
            .await?;
        let connection = response.upgrade().await.map_err(|error| failed(machine, words(&error)))?;
        Ok(Box::new(connection))
    }

    async fn logs(&self, address: IpAddr, request: &LogRequest) -> Result<LogItems, ClusterError> {
        let url = self.url(address, LOGS_PATH);
        let machine = request.machine.clone();
        let response = self
            .call(&machine, Some(SILENCE), StatusCode::OK, |client| client.post(url).json(request))
            .await?;
        let endpoint = format!("machine {machine}");
        Ok(lines::<LogLine>(response)
            .map(move |line| match line {
                Ok(line) => line.item(&endpoint),
                Err(reason) => Err(failed(&machine, reason)),
            })
            .boxed())
    }

    async fn events(
        &self,
        machine: &MachineId,
        address: IpAddr,
        query: &EventQuery,
    ) -> Result<EventPage, ClusterError> {
        let url = self.url(address, EVENTS_PATH);
        let response =
            self.call(machine, None, StatusCode::OK, |client| client.post(url).json(query)).await?;
        response.json().await.map_err(|error| failed(machine, words(&error)))
    }
}

/// The innermost cause, which is the one that says something.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Accepts the certificate of one machine.
#[derive(Debug)]
struct OneMachine {
    verifier: Arc<dyn ClientCertVerifier>,
    machine: MachineId,
}

impl ServerCertVerifier for OneMachine {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match named(self.verifier.as_ref(), certificate, now, MACHINE_URI) {
            Ok(machine) if machine == self.machine => Ok(ServerCertVerified::assertion()),
            Ok(machine) => Err(rustls::Error::General(format!("another machine answers there: {machine}"))),
            Err(error) => Err(rustls::Error::General(error.to_string())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
