//! TLS of the servers that machines call: they show a certificate of the cluster's authority.

use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures_util::future::BoxFuture;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_layer::Layer as _;

use crate::model::secret::Secret;

/// What a server shows of itself, and whom it knows, as PEM.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: Secret<String>,
    /// The authority of the callers' certificates.
    pub authority: String,
}

/// The certificate that the caller showed, as DER; `None` for callers without one.
#[derive(Debug, Clone)]
pub(super) struct PeerCertificate(pub(super) Option<Arc<[u8]>>);

/// Accepts TLS connections, and hands the caller's certificate to the handlers. Only
/// certificates of the cluster's authority get through the handshake.
#[derive(Clone)]
pub(super) struct Acceptor(RustlsAcceptor);

impl Acceptor {
    /// With that identity.
    pub(super) fn new(identity: &TlsIdentity) -> io::Result<Self> {
        let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("preparing TLS: {error}"));
        let certificate =
            |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| failed(&error));
        let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes());
        let key = key.map_err(|error| failed(&error))?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&identity.authority)?).map_err(|error| failed(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate(&identity.certificate)?], key)
            .map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(config)))))
    }
}

impl<I, S> Accept<I, S> for Acceptor
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Send + 'static,
{
    type Stream = <RustlsAcceptor as Accept<I, S>>::Stream;
    type Service = AddExtension<S, PeerCertificate>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let accepted = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let shown = PeerCertificate(shown.map(|certificate| Arc::from(certificate.as_ref())));
            Ok((stream, Extension(shown).layer(service)))
        })
    }
}
