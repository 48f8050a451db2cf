//! The cluster's own certificate authority: control machines show certificates that it
//! signed for their address, and callers trust nothing else. etcd's members and clients
//! know each other by certificates of the same authority.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chrono::Utc;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use crate::model::name::MachineId;
use crate::model::secret::Secret;
use crate::port::membership::ClusterSecrets;

/// The common name in the certificates of etcd's members. No machine's id has a dot in it, so
/// no client can pass for a member.
pub const ETCD_MEMBER: &str = "fleetwright.etcd.member";
/// How long a client's certificate for etcd is valid; it is renewed much sooner.
pub const CLIENT_VALID: Duration = Duration::from_secs(24 * 3600);
/// How long a machine's certificate for the API is valid; it is renewed much sooner.
pub const MACHINE_VALID: Duration = Duration::from_secs(24 * 3600);
/// What the name of a machine in its certificate for the API begins with. No other certificate
/// of the authority has such a name, so none of them opens the API.
pub const MACHINE_URI: &str = "fleetwright://machine/";
/// What the name of a control machine begins with in the certificate that it shows to agents. Only
/// who has the authority's key can make one.
pub const CONTROL_URI: &str = "fleetwright://control/";
/// How long such a certificate is valid; another one is used much sooner.
pub const CONTROL_VALID: Duration = Duration::from_secs(24 * 3600);
/// How far the clocks of machines may be apart.
const SKEW: Duration = Duration::from_secs(300);

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library refused.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes could be had")]
    Random,
    /// The key to sign for is not of the one kind that is signed for.
    #[error("making a certificate: the public key is no `PUBLIC KEY` in PEM of the curve P-256")]
    PublicKey,
}

/// An authority, as PEM.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The cluster's name.
    pub cluster: String,
    /// Its certificate, which callers trust.
    pub certificate: String,
    /// Its key.
    pub key: Secret<String>,
}

/// A certificate that an authority signed, as PEM.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: Secret<String>,
}

impl Authority {
    /// A new authority for the cluster of that name.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn create(cluster: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = authority(cluster).self_signed(&key)?.pem();
        Ok(Self { cluster: cluster.to_owned(), certificate, key: Secret::new(key.serialize_pem()) })
    }

    /// A certificate for the control machine with that address.
    ///
    /// # Errors
    /// When the authority's own parts are unreadable.
    pub fn sign(&self, address: IpAddr) -> Result<Signed, AuthorityError> {
        let issuer = Issuer::new(authority(&self.cluster), KeyPair::from_pem(self.key.expose())?);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "fleetwright control machine");
        params.subject_alt_names =
            vec![SanType::IpAddress(address), SanType::DnsName(Ia5String::try_from("fleetwright-control")?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_after = rcgen::date_time_ymd(2126, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Signed { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
    }

    /// A certificate for `key` (PEM), with which etcd on the control machine with that address
    /// serves and calls the other members. Programs on the machine itself find it at 127.0.0.1.
    ///
    /// # Errors
    /// When the authority's own parts or the key are unreadable.
    pub fn sign_etcd_member(&self, address: IpAddr, key: &Secret<String>) -> Result<String, AuthorityError> {
        let issuer = Issuer::new(authority(&self.cluster), KeyPair::from_pem(self.key.expose())?);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, ETCD_MEMBER);
        params.subject_alt_names = vec![
            SanType::IpAddress(address),
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::DnsName(Ia5String::try_from("localhost")?),
        ];
        // Its own HTTP gateway and its peers are clients with the same certificate.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(2126, 1, 1);
        Ok(params.signed_by(&KeyPair::from_pem(key.expose())?, &issuer)?.pem())
    }

    /// A certificate for the public key (PEM) of a machine whose programs are clients of etcd,
    /// good for nothing else, and for [`CLIENT_VALID`].
    ///
    /// # Errors
    /// When the authority's own parts are unreadable, or the key is none that is signed for.
    pub fn sign_etcd_client(&self, machine: &MachineId, public_key: &str) -> Result<String, AuthorityError> {
        let issuer = Issuer::new(authority(&self.cluster), KeyPair::from_pem(self.key.expose())?);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, machine.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid_for(&mut params, CLIENT_VALID);
        Ok(params.signed_by(&PublicKey::read(public_key)?, &issuer)?.pem())
    }

    /// A certificate for the public key (PEM) of a machine's agent, with which it calls the API,
    /// good for nothing else, and for [`MACHINE_VALID`].
    ///
    /// # Errors
    /// When the authority's own parts are unreadable, or the key is none that is signed for.
    pub fn sign_machine(&self, machine: &MachineId, public_key: &str) -> Result<String, AuthorityError> {
        let issuer = Issuer::new(authority(&self.cluster), KeyPair::from_pem(self.key.expose())?);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, machine.as_str());
        params.subject_alt_names =
            vec![SanType::URI(Ia5String::try_from(format!("{MACHINE_URI}{machine}"))?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid_for(&mut params, MACHINE_VALID);
        Ok(params.signed_by(&PublicKey::read(public_key)?, &issuer)?.pem())
    }
}

impl Authority {
    /// A certificate with a new key, with which the control machine `machine` calls agents, good for
    /// nothing else, and for [`CONTROL_VALID`].
    ///
    /// # Errors
    /// When the authority's own parts are unreadable.
    pub fn sign_control(&self, machine: &MachineId) -> Result<Signed, AuthorityError> {
        let issuer = Issuer::new(authority(&self.cluster), KeyPair::from_pem(self.key.expose())?);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, machine.as_str());
        params.subject_alt_names =
            vec![SanType::URI(Ia5String::try_from(format!("{CONTROL_URI}{machine}"))?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid_for(&mut params, CONTROL_VALID);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Signed { certificate: certificate.pem(), key: Secret::new(key.serialize_pem()) })
    }
}

/// Makes a certificate valid from now on, and a little before for clocks that are behind.
fn valid_for(params: &mut CertificateParams, valid: Duration) {
    let now = Duration::from_secs(u64::try_from(Utc::now().timestamp()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SKEW);
    params.not_after = epoch + now + valid;
}

/// A point on the curve P-256, uncompressed.
struct PublicKey(Vec<u8>);

impl PublicKey {
    /// What stands before the point in a SubjectPublicKeyInfo of such a key (RFC 5480).
    const PREFIX: &[u8] = &[
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];

    fn read(pem: &str) -> Result<Self, AuthorityError> {
        let info =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::PublicKey)?;
        match info.as_ref().strip_prefix(Self::PREFIX) {
            // 4 stands for a point that is not compressed, of two numbers of 32 bytes.
            Some(point) if point.len() == 65 && point[0] == 4 => Ok(Self(point.to_vec())),
            _ => Err(AuthorityError::PublicKey),
        }
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A new key, as PEM.
///
/// # Errors
/// When the library refuses.
pub fn new_key() -> Result<Secret<String>, AuthorityError> {
    Ok(Secret::new(KeyPair::generate()?.serialize_pem()))
}

/// The public part of a key, both as PEM.
///
/// # Errors
/// When it is no key.
pub fn public_key(key: &Secret<String>) -> Result<String, AuthorityError> {
    Ok(KeyPair::from_pem(key.expose())?.public_key_pem())
}

/// The secrets of a new cluster.
///
/// # Errors
/// When the library refuses, or there are no random bytes.
pub fn secrets(cluster: &str) -> Result<ClusterSecrets, AuthorityError> {
    let authority = Authority::create(cluster)?;
    Ok(ClusterSecrets {
        authority: authority.certificate,
        authority_key: authority.key,
        api_token: token()?,
        worker_token: None,
    })
}

/// What the authority of that cluster is, but for its key.
fn authority(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("fleetwright cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = rcgen::date_time_ymd(2126, 1, 1);
    params
}

/// A token that nobody can guess: 32 random bytes as hexadecimal digits.
///
/// # Errors
/// When the operating system gives no random bytes.
pub fn token() -> Result<Secret<String>, AuthorityError> {
    let bytes = random()?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// 32 random bytes.
///
/// # Errors
/// When the operating system gives none.
pub fn random() -> Result<[u8; 32], AuthorityError> {
    let mut bytes = [0_u8; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| AuthorityError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_signs_after_a_round_trip_through_pem() {
        let authority = Authority::create("main").expect("an authority");
        let signed = authority.sign("10.0.0.1".parse().expect("an address")).expect("a certificate");
        assert!(signed.certificate.contains("BEGIN CERTIFICATE"));
        assert!(!format!("{signed:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn a_client_s_key_is_signed_for_without_being_seen() {
        let authority = Authority::create("main").expect("an authority");
        let machine = "i-1".parse().expect("an id");
        let public = public_key(&new_key().expect("a key")).expect("its public part");
        let certificate = authority.sign_etcd_client(&machine, &public).expect("a certificate");
        assert!(certificate.contains("BEGIN CERTIFICATE"));
        let other_curve = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let private = new_key().expect("a key");
        for bad in ["", "no PEM", private.expose(), &other_curve.public_key_pem(), &public.replace('E', "F")]
        {
            let refused = authority.sign_etcd_client(&machine, bad);
            assert!(matches!(refused, Err(AuthorityError::PublicKey)), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn tokens_differ() {
        let (one, two) = (token().expect("a token"), token().expect("a token"));
        assert_eq!(one.expose().len(), 64);
        assert!(one != two);
    }
}
