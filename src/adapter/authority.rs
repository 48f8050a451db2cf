//! The cluster's own certificate authority: control machines show certificates that it
//! signed for their address, and callers trust nothing else.

use std::net::IpAddr;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::model::secret::Secret;
use crate::port::membership::ClusterSecrets;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library refused.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes could be had")]
    Random,
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
        worker_token: token()?,
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
    let mut bytes = [0_u8; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| AuthorityError::Random)?;
    Ok(Secret::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
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
    fn tokens_differ() {
        let (one, two) = (token().expect("a token"), token().expect("a token"));
        assert_eq!(one.expose().len(), 64);
        assert!(one != two);
    }
}
