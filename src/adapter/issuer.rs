//! The cluster's authority as it issues identities, and recognises what it issued.
//!
//! Machines get certificates, people get tokens. Both are checked without any state: by the
//! authority's certificate, and by a key that is derived from the authority's own.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::authority::{Authority, CONTROL_URI, MACHINE_URI, MACHINE_VALID};
use crate::model::name::MachineId;
use crate::model::principal::Principal;
use crate::model::secret::Secret;
use crate::port::identity::{IssueError, Issuer, KnowControl};

/// How long a person's token is valid, in seconds.
const TOKEN_S: u64 = 3600;
/// How far clocks of control machines may be apart, in seconds.
const SKEW_S: i64 = 60;
/// What tokens of this version begin with.
const PREFIX: &str = "fwp1.";
/// What the key of tokens is derived for; another version of them has another key.
const PURPOSE: &[u8] = b"fleetwright/person-token/1";
/// How long a token may be.
const LONGEST: usize = 4096;

/// Issues with an [`Authority`].
pub struct ClusterIssuer {
    authority: Authority,
    cluster: String,
    key: Secret<Vec<u8>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// Its version, 1.
    version: u32,
    /// The cluster that issued it.
    cluster: String,
    /// Who bears it.
    arn: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// When it was issued, in seconds since 1970.
    issued: i64,
    /// When it ends, in seconds since 1970.
    expires: i64,
}

/// The cluster, as proofs name it: the hash of its authority's certificate (PEM).
///
/// # Errors
/// When that is no certificate.
pub fn cluster_id(authority: &str) -> Result<String, IssueError> {
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes())
        .map_err(|error| IssueError::Certificate(format!("reading the authority's certificate: {error}")))?;
    Ok(hex(&Sha256::digest(certificate.as_ref())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What verifies that a client's certificate is of this authority (PEM), and valid now.
///
/// # Errors
/// When that is no certificate.
pub fn verifier(authority: &str) -> Result<Arc<dyn ClientCertVerifier>, IssueError> {
    let failed =
        |error: String| IssueError::Certificate(format!("preparing to verify certificates: {error}"));
    let certificate =
        CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.allow_unauthenticated().build().map_err(|error| failed(error.to_string()))
}

impl ClusterIssuer {
    /// Issues with that authority.
    ///
    /// # Errors
    /// When its certificate can't be read.
    pub fn new(authority: Authority) -> Result<Self, IssueError> {
        let cluster = cluster_id(&authority.certificate)?;
        let verifier = verifier(&authority.certificate)?;
        let mut derive = keyed(authority.key.expose().trim().as_bytes());
        derive.update(PURPOSE);
        derive.update(cluster.as_bytes());
        let key = Secret::new(derive.finalize().into_bytes().to_vec());
        Ok(Self { authority, cluster, key, verifier })
    }
}

/// The machine that a certificate (DER) names in the way that begins with `uri`, if it is of the
/// authority that `verifier` knows, and valid at `now`, in seconds since 1970.
///
/// # Errors
/// When it is not.
pub(super) fn named(
    verifier: &dyn ClientCertVerifier,
    certificate: &[u8],
    now: i64,
    uri: &str,
) -> Result<MachineId, IssueError> {
    let bad = |reason: String| IssueError::BadCertificate(reason);
    let certificate = CertificateDer::from(certificate);
    let now = Duration::from_secs(u64::try_from(now).unwrap_or(0));
    // Again for each request: a connection, or a session that is resumed, outlives a certificate.
    verifier
        .verify_client_cert(&certificate, &[], UnixTime::since_unix_epoch(now))
        .map_err(|error| bad(error.to_string()))?;
    let parsed = webpki::EndEntityCert::try_from(&certificate).map_err(|error| bad(error.to_string()))?;
    let mut names = parsed.valid_uri_names();
    let machine = match (names.next(), names.next()) {
        (Some(name), None) => name.strip_prefix(uri),
        _ => None,
    };
    // Certificates for etcd, which other programs can read, have no such name.
    let machine = machine.ok_or_else(|| bad(format!("it names no machine as {uri}...")))?;
    machine.parse().map_err(|error| bad(format!("{error}")))
}

/// Recognises control machines by the certificate that they show to agents.
pub struct ControlMachines(Arc<dyn ClientCertVerifier>);

impl ControlMachines {
    /// Of the cluster with that authority (PEM).
    ///
    /// # Errors
    /// When that is no certificate.
    pub fn of(authority: &str) -> Result<Self, IssueError> {
        Ok(Self(verifier(authority)?))
    }
}

impl KnowControl for ControlMachines {
    fn control(&self, certificate: &[u8], now: i64) -> Result<MachineId, IssueError> {
        named(self.0.as_ref(), certificate, now, CONTROL_URI)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

impl Issuer for ClusterIssuer {
    fn cluster(&self) -> &str {
        &self.cluster
    }

    fn certify(&self, machine: &MachineId, public_key: &str) -> Result<(String, u64), IssueError> {
        let certificate = self
            .authority
            .sign_machine(machine, public_key)
            .map_err(|error| IssueError::Certificate(error.to_string()))?;
        Ok((certificate, MACHINE_VALID.as_secs()))
    }

    fn recognise(&self, certificate: &[u8], now: i64) -> Result<MachineId, IssueError> {
        named(self.verifier.as_ref(), certificate, now, MACHINE_URI)
    }

    fn token(&self, person: &Principal, now: i64) -> Result<(Secret<String>, u64), IssueError> {
        let Principal::Person { arn, session } = person else {
            return Err(IssueError::BadToken("is for people only"));
        };
        let claims = Claims {
            version: 1,
            cluster: self.cluster.clone(),
            arn: arn.clone(),
            session: session.clone(),
            issued: now,
            expires: now + i64::try_from(TOKEN_S).unwrap_or(0),
        };
        let text = serde_json::to_vec(&claims).map_err(|_| IssueError::BadToken("can't be written"))?;
        let signed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(text));
        let mut mac = keyed(self.key.expose());
        mac.update(signed.as_bytes());
        let mac = hex(&mac.finalize().into_bytes());
        Ok((Secret::new(format!("{signed}.{mac}")), TOKEN_S))
    }

    fn read_token(&self, token: &str, now: i64) -> Result<Option<Principal>, IssueError> {
        let Some(rest) = token.strip_prefix(PREFIX) else { return Ok(None) };
        let bad = IssueError::BadToken;
        let wrong = || bad("was not issued by this cluster");
        if token.len() > LONGEST {
            return Err(wrong());
        }
        let (text, mac) = rest.split_once('.').ok_or_else(wrong)?;
        let mut wanted = keyed(self.key.expose());
        wanted.update(PREFIX.as_bytes());
        wanted.update(text.as_bytes());
        // Compared in constant time, before anything of the text is read.
        wanted.verify_slice(&unhex(mac).ok_or_else(wrong)?).map_err(|_| wrong())?;
        let text = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let claims: Claims = serde_json::from_slice(&text).map_err(|_| wrong())?;
        if claims.version != 1 || claims.cluster != self.cluster {
            return Err(wrong());
        }
        if now >= claims.expires || claims.issued > now + SKEW_S {
            return Err(bad("has expired"));
        }
        Ok(Some(Principal::Person { arn: claims.arn, session: claims.session }))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::authority::{new_key, public_key};
    use super::*;

    fn issuer() -> ClusterIssuer {
        ClusterIssuer::new(Authority::create("main").expect("an authority")).expect("an issuer")
    }

    fn ann() -> Principal {
        Principal::Person { arn: "arn:aws:iam::1:role/ops".into(), session: Some("ann".into()) }
    }

    fn der(pem: &str) -> Vec<u8> {
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec()
    }

    #[test]
    fn a_token_is_recognised_by_every_control_machine_for_an_hour() {
        let one = issuer();
        let other = ClusterIssuer::new(one.authority.clone()).expect("another control machine");
        let (token, valid_s) = one.token(&ann(), 1_000_000).expect("a token");
        assert_eq!(valid_s, 3600);
        let read = |now| other.read_token(token.expose(), now);
        assert_eq!(read(1_000_000), Ok(Some(ann())));
        assert_eq!(read(1_003_599), Ok(Some(ann())));
        assert_eq!(read(1_003_600), Err(IssueError::BadToken("has expired")));
        assert_eq!(read(999_000), Err(IssueError::BadToken("has expired")), "not from the future either");
        assert_eq!(other.read_token("operator", 1_000_000), Ok(None));
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let one = issuer();
        let (token, _) = one.token(&ann(), 1_000_000).expect("a token");
        let text = token.expose();
        for at in PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).expect("text");
            assert!(one.read_token(&changed, 1_000_000).is_err(), "byte {at}");
        }
        assert!(one.read_token(&text[..text.len() - 2], 1_000_000).is_err());
        assert!(one.read_token(PREFIX, 1_000_000).is_err());
        assert!(one.read_token(&format!("{PREFIX}."), 1_000_000).is_err());
        assert!(one.read_token(&format!("{text}é"), 1_000_000).is_err());
        assert!(issuer().read_token(text, 1_000_000).is_err(), "another cluster's");
        one.token(&Principal::BreakGlass, 0).expect_err("not for people");
    }

    #[test]
    fn a_certificate_is_a_machine_s_for_a_day() {
        let issuer = issuer();
        let machine: MachineId = "i-0abc".parse().expect("an id");
        let public = public_key(&new_key().expect("a key")).expect("its public part");
        let (certificate, valid_s) = issuer.certify(&machine, &public).expect("a certificate");
        assert_eq!(valid_s, 24 * 3600);
        let now = chrono::Utc::now().timestamp();
        let certificate = der(&certificate);
        assert_eq!(issuer.recognise(&certificate, now), Ok(machine.clone()));
        assert_eq!(issuer.recognise(&certificate, now + 24 * 3600 - 60), Ok(machine.clone()));
        for at in [now + 24 * 3600 + 60, now - 3600] {
            let refused = issuer.recognise(&certificate, at);
            assert!(matches!(refused, Err(IssueError::BadCertificate(_))), "{refused:?}");
        }
    }

    #[test]
    fn no_other_certificate_is_a_machine_s() {
        let (issuer, other) = (issuer(), issuer());
        let machine: MachineId = "i-0abc".parse().expect("an id");
        let key = new_key().expect("a key");
        let public = public_key(&key).expect("its public part");
        let now = chrono::Utc::now().timestamp();
        let (foreign, _) = other.certify(&machine, &public).expect("a certificate");
        let etcd = issuer.authority.sign_etcd_client(&machine, &public).expect("a certificate");
        let address = "10.0.0.1".parse().expect("an address");
        let member = issuer.authority.sign_etcd_member(address, &key).expect("a certificate");
        let server = issuer.authority.sign(address).expect("a certificate").certificate;
        let authority = issuer.authority.certificate.clone();
        let control = issuer.authority.sign_control(&machine).expect("a certificate").certificate;
        let others = [
            ("foreign", foreign),
            ("etcd", etcd),
            ("member", member),
            ("server", server),
            ("ca", authority),
            ("control", control.clone()),
        ];
        for (what, certificate) in &others {
            let refused = issuer.recognise(&der(certificate), now);
            assert!(matches!(refused, Err(IssueError::BadCertificate(_))), "{what}: {refused:?}");
        }
        // Agents take the last one only, and a machine's own certificate neither.
        let known = ControlMachines::of(&issuer.authority.certificate).expect("an authority");
        assert_eq!(known.control(&der(&control), now), Ok(machine.clone()));
        let (own, _) = issuer.certify(&machine, &public).expect("a certificate");
        let elsewhere = other.authority.sign_control(&machine).expect("a certificate").certificate;
        let others = others.iter().filter(|(what, _)| *what != "control").map(|(_, one)| one.clone());
        for certificate in others.chain([own, elsewhere]) {
            known.control(&der(&certificate), now).expect_err("it is not a control machine's");
        }
        known.control(&der(&control), now + 25 * 3600).expect_err("it has ended");
        issuer.recognise(b"no certificate", now).expect_err("not a certificate");
    }
}
