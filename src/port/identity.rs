//! Identities: proved to others, asked of AWS, and certified by the cluster.

use async_trait::async_trait;

use super::cloud::CloudError;
use crate::model::identity::{Caller, Proof, SignedAsk};
use crate::model::name::MachineId;
use crate::model::principal::Principal;
use crate::model::secret::Secret;

/// Signs proofs with the credentials of this process.
#[async_trait]
pub trait Prove: Send + Sync {
    /// A proof for `cluster`, bound to the key with that hash if there is one.
    ///
    /// # Errors
    /// When there are no credentials.
    async fn prove(&self, cluster: &str, key: Option<&str>) -> Result<Proof, CloudError>;
}

/// Why AWS did not say who signed a request.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not accept the signature.
    #[error("AWS does not accept the proof of identity: {reason}")]
    Rejected {
        /// What STS said.
        reason: String,
    },
    /// It could not be asked, or its answer is not understood.
    #[error("asking STS at {endpoint} whose identity this is: {reason}")]
    Unreachable {
        /// Who was asked.
        endpoint: String,
        /// What happened.
        reason: String,
    },
}

/// STS, asked with requests that others signed.
#[async_trait]
pub trait CallerIdentity: Send + Sync {
    /// The region whose STS is asked.
    fn region(&self) -> &str;

    /// Whose signature it is.
    ///
    /// # Errors
    /// When it is nobody's, or that can't be found out.
    async fn ask(&self, ask: &SignedAsk) -> Result<Caller, AskError>;
}

/// Why the cluster's authority does not certify or recognise somebody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// No certificate could be made for that key.
    #[error("{0}")]
    Certificate(String),
    /// The certificate is not one of a machine of this cluster, or has expired.
    #[error("the certificate is not one of a machine of this cluster, or has expired: {0}")]
    BadCertificate(String),
    /// The token was not issued by this cluster, or has expired.
    #[error("the token {0}")]
    BadToken(&'static str),
}

/// The cluster's authority. All control machines have the same one, so each recognises what
/// another issued.
pub trait Issuer: Send + Sync {
    /// The cluster, as proofs name it: the hash of the authority's certificate.
    fn cluster(&self) -> &str;

    /// A certificate for a machine's public key (PEM), and how long it is valid in seconds.
    ///
    /// # Errors
    /// When the key is not one that is signed for.
    fn certify(&self, machine: &MachineId, public_key: &str) -> Result<(String, u64), IssueError>;

    /// The machine with that certificate (DER). `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When it is not a machine's, not this authority's, or not valid now.
    fn recognise(&self, certificate: &[u8], now: i64) -> Result<MachineId, IssueError>;

    /// A token for a person, and how long it is valid in seconds. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When it is no person.
    fn token(&self, person: &Principal, now: i64) -> Result<(Secret<String>, u64), IssueError>;

    /// Whose token it is; `None` when it does not look like one that [`Issuer::token`] makes.
    ///
    /// # Errors
    /// When it looks like one and is not, or is not valid now.
    fn read_token(&self, token: &str, now: i64) -> Result<Option<Principal>, IssueError>;
}

/// Recognises the control machines of the cluster, as the agents of its machines do.
pub trait KnowControl: Send + Sync {
    /// The control machine with that certificate (DER). `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When it is not a control machine's, not of this cluster, or not valid now.
    fn control(&self, certificate: &[u8], now: i64) -> Result<MachineId, IssueError>;
}
