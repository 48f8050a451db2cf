//! The registry: what it holds, asked with the environment's credentials.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use rustls::CertificateError;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::aws::ecr::EcrTokens;
use crate::model::name::Digest;
use crate::model::secret::Secret;
use crate::port::images::ImageError;
use crate::port::parameters::Parameters;

/// How often the source of ECR's tokens is asked.
const ECR_AGAIN: Duration = Duration::from_secs(600);

/// Where the registry's credentials come from.
#[derive(Clone)]
pub enum CredentialSource {
    /// The registry wants none.
    None,
    /// A parameter, read when they are first needed and again when the registry refuses them.
    Parameter {
        /// The parameters.
        parameters: Arc<dyn Parameters>,
        /// The parameter's name.
        name: String,
    },
    /// The caller's own identity, exchanged for a token of ECR.
    Ecr(Arc<EcrTokens>),
}

/// The credentials, as the parameter holds them: one JSON document.
#[derive(Clone, Default, Deserialize)]
struct Document {
    username: String,
    password: String,
    /// The hosts that they are for.
    #[serde(default)]
    hosts: Vec<String>,
    /// The authority that signed the registry's certificate, where the system doesn't know it.
    #[serde(default)]
    ca_pem: Option<String>,
}

/// The credentials, ready for use.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: Secret<String>,
    pub(super) hosts: Vec<String>,
}

impl Credentials {
    /// Whether they are for `host`.
    pub(super) fn are_for(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| known == host)
    }
}

struct Session {
    /// Until when the credentials are used, where they expire.
    until: Option<Instant>,
    client: Client,
    credentials: Option<Credentials>,
}

/// A client of the environment's registry, and of those that base images come from.
pub(super) struct Registry {
    host: String,
    source: CredentialSource,
    session: Mutex<Option<Arc<Session>>>,
}

impl Registry {
    pub(super) fn new(host: String, source: CredentialSource) -> Self {
        Self { host, source, session: Mutex::new(None) }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The credentials, `None` where the registry wants none.
    pub(super) async fn credentials(&self) -> Result<Option<Credentials>, ImageError> {
        Ok(self.session().await?.credentials.clone())
    }

    /// Whether other credentials may be had where some were refused.
    pub(super) fn can_change(&self) -> bool {
        !matches!(self.source, CredentialSource::None)
    }

    /// Forgets the credentials, since the registry refused them: they may have been changed.
    pub(super) async fn forget(&self) {
        if let CredentialSource::Ecr(tokens) = &self.source {
            tokens.forget(&self.host).await;
        }
        *self.session.lock().await = None;
    }

    async fn session(&self) -> Result<Arc<Session>, ImageError> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session
            && session.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(Arc::clone(session));
        }
        let document = match &self.source {
            CredentialSource::None => None,
            CredentialSource::Parameter { parameters, name } => Some(read(&**parameters, name).await?),
            CredentialSource::Ecr(tokens) => Some(token(tokens, &self.host).await?),
        };
        // The source knows when its token is due; asking it often costs nothing.
        let until = matches!(self.source, CredentialSource::Ecr(_)).then(|| Instant::now() + ECR_AGAIN);
        let mut config = ClientConfig {
            connect_timeout: Some(Duration::from_secs(5)),
            read_timeout: Some(Duration::from_secs(30)),
            ..ClientConfig::default()
        };
        if let Some(pem) = document.as_ref().and_then(|document| document.ca_pem.as_ref()) {
            config
                .extra_root_certificates
                .push(Certificate { encoding: CertificateEncoding::Pem, data: pem.clone().into_bytes() });
        }
        let client = Client::try_from(config).map_err(|error| ImageError::Registry {
            host: self.host.clone(),
            reason: format!("its authority's certificate is of no use: {error}"),
        })?;
        let credentials = document.map(|document| {
            let mut hosts = document.hosts;
            if hosts.is_empty() {
                hosts.push(self.host.clone());
            }
            Credentials { username: document.username, password: Secret::new(document.password), hosts }
        });
        let fresh = Arc::new(Session { until, client, credentials });
        *session = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// The digest behind `reference`, which must name a host; `None` when there is no such image.
    pub(super) async fn digest(&self, reference: &str) -> Result<Option<Digest>, ImageError> {
        let parsed: Reference = reference.parse().map_err(|error: oci_client::ParseError| {
            ImageError::Name { name: reference.to_owned(), reason: error.to_string() }
        })?;
        match self.ask(&parsed).await {
            // The password may have been changed since it was read.
            Err(ImageError::Refused { .. }) if self.can_change() => {
                self.forget().await;
                self.ask(&parsed).await
            }
            answer => answer,
        }
    }

    async fn ask(&self, reference: &Reference) -> Result<Option<Digest>, ImageError> {
        let session = self.session().await?;
        let host = reference.registry();
        let auth = match &session.credentials {
            Some(credentials) if credentials.are_for(host) => {
                RegistryAuth::Basic(credentials.username.clone(), credentials.password.expose().clone())
            }
            _ => RegistryAuth::Anonymous,
        };
        match session.client.fetch_manifest_digest(reference, &auth).await {
            Ok(digest) => digest.parse().map(Some).map_err(|error| ImageError::Refused {
                host: host.to_owned(),
                doing: format!("the digest of `{reference}`"),
                reason: format!("its answer makes no sense: {error}"),
            }),
            Err(error) => explain(error, host, &reference.to_string()),
        }
    }
}

async fn token(tokens: &EcrTokens, host: &str) -> Result<Document, ImageError> {
    let token = tokens.token(host).await.map_err(|error| ImageError::Credentials {
        parameter: format!("token of ECR for {host}"),
        transient: error.is_passing(),
        reason: error.to_string(),
    })?;
    Ok(Document {
        username: token.username,
        password: token.password.expose().clone(),
        hosts: vec![host.to_owned()],
        ca_pem: None,
    })
}

async fn read(parameters: &dyn Parameters, name: &str) -> Result<Document, ImageError> {
    let failed =
        |reason: String, transient| ImageError::Credentials { parameter: name.to_owned(), reason, transient };
    let value = parameters
        .get(name)
        .await
        .map_err(|error| failed(error.to_string(), error.is_passing()))?
        .ok_or_else(|| failed("there is no such SSM parameter".into(), false))?;
    // serde's own message may quote the value.
    serde_json::from_str(value.expose())
        .map_err(|_| failed("it is not JSON with `username`, `password`, `hosts` and `ca_pem`".into(), false))
}

/// What an error of the client means; an image that is not there is no error.
fn explain(error: OciDistributionError, host: &str, reference: &str) -> Result<Option<Digest>, ImageError> {
    let away = |reason: String| ImageError::Registry { host: host.to_owned(), reason };
    let refused = |reason: String| ImageError::Refused {
        host: host.to_owned(),
        doing: format!("the digest of `{reference}`"),
        reason,
    };
    match error {
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => Ok(None),
        OciDistributionError::RegistryError { envelope, .. } => {
            let missing = envelope.errors.iter().any(|error| {
                matches!(
                    error.code,
                    OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
                )
            });
            if missing { Ok(None) } else { Err(refused(envelope.to_string())) }
        }
        // Docker Hub answers the same for an image that does not exist and for one that is not public.
        OciDistributionError::UnauthorizedError { .. } if host == "docker.io" => Ok(None),
        OciDistributionError::UnauthorizedError { .. } => {
            Err(refused("it does not accept these credentials".into()))
        }
        OciDistributionError::AuthenticationFailure(reason) => Err(refused(reason)),
        OciDistributionError::ServerError { code, message, .. } if code == 429 || code >= 500 => {
            Err(away(format!("it answers {code} {message}").trim_end().to_owned()))
        }
        OciDistributionError::ServerError { code, message, .. } => {
            Err(refused(format!("{code} {message}").trim_end().to_owned()))
        }
        OciDistributionError::RequestError(error) => Err(match distrust(&error) {
            Some(reason) => ImageError::Untrusted { host: host.to_owned(), reason },
            None => away(innermost(&error)),
        }),
        OciDistributionError::IoError(error) => Err(away(error.to_string())),
        other => Err(refused(other.to_string())),
    }
}

/// Why the other side's TLS is not accepted, if that is the cause: no later attempt changes it.
fn distrust(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidMessage(_)) => {
                return Some(
                    "it does not speak TLS. Registries are only used over HTTPS: give it a certificate"
                        .to_owned(),
                );
            }
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return Some(
                    "its certificate is from an unknown authority. Put that authority's certificate into \
                     `ca_pem` of the registry's credentials"
                        .to_owned(),
                );
            }
            Some(rustls::Error::InvalidCertificate(reason)) => {
                return Some(format!("its certificate is not valid: {reason}"));
            }
            _ => {}
        }
        // An I/O error is not the source of what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        next = match wrapped {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// The cause at the bottom; the layers above it only say that a request failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use axum_server::tls_rustls::RustlsConfig;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn refusal(port: u16) -> ImageError {
        let registry = Registry::new(format!("127.0.0.1:{port}"), CredentialSource::None);
        registry.digest(&format!("127.0.0.1:{port}/demo/web:1")).await.expect_err("it is not used")
    }

    #[tokio::test]
    async fn a_registry_without_tls_is_named_and_not_tried_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        let error = refusal(port).await;
        assert!(!error.is_transient());
        assert_eq!(
            error.to_string(),
            format!(
                "the registry at 127.0.0.1:{port} is not used: it does not speak TLS. Registries are only used over \
                 HTTPS: give it a certificate"
            )
        );
    }

    #[tokio::test]
    async fn a_certificate_of_an_unknown_authority_is_named_with_its_remedy() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let (chain, key) = (certificate.pem().into_bytes(), key.serialize_pem().into_bytes());
        let config = RustlsConfig::from_pem(chain, key).await.expect("a configuration");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        listener.set_nonblocking(true).expect("set");
        let server = axum_server::from_tcp_rustls(listener, config).expect("a server");
        tokio::spawn(server.serve(axum::Router::new().into_make_service()));
        let error = refusal(port).await;
        assert!(!error.is_transient());
        assert!(error.to_string().contains("from an unknown authority. Put"), "{error}");
    }
}
