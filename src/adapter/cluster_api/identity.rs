//! What a caller is known by, and how it becomes known: a proof of identity is exchanged for a
//! certificate or a token, which is renewed before it ends.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity as ClientIdentity, Method};
use tokio::time::Instant;

use super::{ANSWER, Access, CONNECT, ClusterApi, IDLE, SILENCE, Trouble, attempt, words};
use crate::adapter::authority::{self, AuthorityError};
use crate::adapter::issuer::cluster_id;
use crate::model::identity::{Exchange, Issued, VERSION, hash};
use crate::model::secret::Secret;
use crate::port::cluster::ClusterError;
use crate::port::identity::Prove;

/// What a control machine answers that does not know a path.
pub(super) const NO_PATH: &str = "there is no such path";
/// What one of the version before identities answers to a caller without its token, whatever the path.
const NO_TOKEN: &str = "this needs the cluster's token";
/// What that means.
pub(super) const TOO_OLD: &str = "it is of a version that does not know identities";

/// How a caller is known.
#[derive(Clone)]
pub enum Credential {
    /// By a token that it was given.
    Token(Secret<String>),
    /// By its identity with AWS, as a person or a program that acts for people.
    Person(Arc<dyn Prove>),
    /// By its identity with AWS, as a machine of the cluster with that key.
    Machine(Arc<dyn Prove>, Arc<MachineKey>),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Person(_) => "Person",
            Self::Machine(..) => "Machine",
        })
    }
}

/// The key of a machine's agent. It is made at each start and never leaves the process.
#[derive(Debug)]
pub struct MachineKey {
    private: Secret<String>,
    public: String,
}

impl MachineKey {
    /// A new one.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn new() -> Result<Self, AuthorityError> {
        let private = authority::new_key()?;
        let public = authority::public_key(&private)?;
        Ok(Self { private, public })
    }

    /// Its public part, as PEM.
    pub fn public(&self) -> &str {
        &self.public
    }
}

/// What a machine of the cluster shows of itself, as PEM, until the certificate is renewed.
#[derive(Debug, Clone)]
pub struct MachineIdentity {
    /// Its certificate.
    pub certificate: String,
    /// Its key.
    pub key: Secret<String>,
    /// The authority of the cluster.
    pub authority: String,
}

/// Control machines that can be called, and what for.
pub(super) struct Connected {
    pub(super) endpoints: Vec<String>,
    credential: Credential,
    /// The cluster's authority, as PEM.
    pem: Option<String>,
    /// The cluster, as proofs name it; `None` where the system's authorities are trusted.
    cluster: Option<String>,
    authority: Option<Certificate>,
}

/// What requests are sent with.
pub(super) struct Ready {
    pub(super) calls: Client,
    pub(super) streams: Client,
    pub(super) bearer: Option<Secret<String>>,
}

/// What was got for a proof.
#[derive(Clone)]
pub(super) struct Known {
    cluster: Option<String>,
    ready: Arc<Ready>,
    /// What a machine got.
    machine: Option<Arc<MachineIdentity>>,
    /// When it is renewed; `None` when it lasts.
    renew: Option<Instant>,
    /// When it ends.
    end: Option<Instant>,
}

impl Known {
    fn is_due(&self) -> bool {
        self.renew.is_some_and(|at| at <= Instant::now())
    }

    fn has_ended(&self) -> bool {
        self.end.is_some_and(|at| at <= Instant::now())
    }
}

impl Connected {
    pub(super) fn new(access: Access) -> Result<Self, ClusterError> {
        let reading = |reason: String| ClusterError::Engine {
            doing: "reading the cluster's certificate authority".to_owned(),
            reason,
        };
        let (mut cluster, mut authority) = (None, None);
        if let Some(pem) = &access.authority {
            cluster = Some(cluster_id(pem).map_err(|error| reading(error.to_string()))?);
            authority = Some(Certificate::from_pem(pem.as_bytes()).map_err(|error| reading(words(&error)))?);
        }
        let pem = access.authority;
        Ok(Self { endpoints: access.endpoints, credential: access.credential, pem, cluster, authority })
    }

    pub(super) fn with_endpoints(&self, endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            credential: self.credential.clone(),
            pem: self.pem.clone(),
            cluster: self.cluster.clone(),
            authority: self.authority.clone(),
        }
    }

    /// Whether another identity could be had for the one that is not accepted any more.
    pub(super) fn can_renew(&self) -> bool {
        !matches!(self.credential, Credential::Token(_))
    }

    /// What requests are sent with: `known` where it is good still, or else what `endpoint`
    /// gives for a proof.
    pub(super) async fn identify(&self, known: Option<Known>, endpoint: &str) -> Result<Known, Trouble> {
        let known = known.filter(|known| known.cluster == self.cluster && !known.has_ended());
        let (prove, key) = match &self.credential {
            Credential::Token(token) => {
                return match known {
                    Some(known) => Ok(known),
                    None => self.known(Some(token.clone()), None, None),
                };
            }
            Credential::Person(prove) => (prove, None),
            Credential::Machine(prove, key) => (prove, Some(key.as_ref())),
        };
        if let Some(known) = known.as_ref().filter(|known| !known.is_due()) {
            return Ok(known.clone());
        }
        match (self.exchange(prove.as_ref(), key, endpoint).await, known) {
            (Ok(renewed), _) => Ok(renewed),
            // What there is is good for a while.
            (Err(_), Some(known)) => {
                tracing::debug!(endpoint, "the identity could not be renewed yet");
                Ok(known)
            }
            (Err(trouble), None) => Err(trouble),
        }
    }

    async fn exchange(
        &self,
        prove: &dyn Prove,
        key: Option<&MachineKey>,
        endpoint: &str,
    ) -> Result<Known, Trouble> {
        let Some(cluster) = &self.cluster else {
            // Without it a proof could be passed on to another cluster.
            return Err(Trouble::Answered(ClusterError::Refused {
                reason: "the cluster's authority is not known, so no identity can be proved to it. \
                         Set FLEETWRIGHT_CLUSTER_CA, or FLEETWRIGHT_CLUSTER_TOKEN"
                    .to_owned(),
            }));
        };
        let bound = key.map(|key| hash(key.public().as_bytes()));
        let begun = Instant::now();
        let proof = prove
            .prove(cluster, bound.as_deref())
            .await
            .map_err(|error| Trouble::Answered(ClusterError::Denied { reason: error.to_string() }))?;
        let public_key = key.map(|key| key.public().to_owned());
        let exchange = Exchange { version: VERSION, proof, public_key };
        let client = self.client(None, None).map_err(Trouble::Answered)?;
        let request =
            client.request(Method::POST, format!("{endpoint}/v1/identity")).timeout(ANSWER).json(&exchange);
        let answer = match attempt(request, endpoint).await {
            Ok(answer) => answer,
            // Another control machine may be newer.
            Err(Trouble::Answered(ClusterError::Engine { reason, .. })) if reason.contains(NO_PATH) => {
                return Err(Trouble::Unsent(TOO_OLD.to_owned()));
            }
            Err(Trouble::Unknown(ClusterError::Denied { reason })) if reason == NO_TOKEN => {
                return Err(Trouble::Unsent(TOO_OLD.to_owned()));
            }
            Err(Trouble::Unknown(error)) => return Err(Trouble::Answered(error)),
            // A proof may be sent again: it changes nothing.
            Err(Trouble::Unanswered(reason)) => return Err(Trouble::Unsent(reason)),
            Err(trouble) => return Err(trouble),
        };
        let issued: Issued = answer.json().await.map_err(|error| Trouble::Unsent(words(&error)))?;
        let valid = Duration::from_secs(issued.valid_s);
        let (identity, machine) = match (key, issued.certificate, issued.token) {
            (None, _, Some(token)) => {
                return self.known(Some(Secret::new(token)), None, Some((begun, valid)));
            }
            (Some(key), Some(certificate), _) => {
                let identity = format!("{certificate}\n{}", key.private.expose());
                let authority = self.pem.clone().unwrap_or_default();
                (identity, MachineIdentity { certificate, key: key.private.clone(), authority })
            }
            _ => return Err(Trouble::Unsent("it issued another identity than was asked for".to_owned())),
        };
        let identity = ClientIdentity::from_pem(identity.as_bytes())
            .map_err(|error| Trouble::Unsent(format!("its certificate can't be used: {}", words(&error))))?;
        let known = self.known(None, Some(identity), Some((begun, valid)))?;
        Ok(Known { machine: Some(Arc::new(machine)), ..known })
    }

    fn known(
        &self,
        bearer: Option<Secret<String>>,
        identity: Option<ClientIdentity>,
        lasts: Option<(Instant, Duration)>,
    ) -> Result<Known, Trouble> {
        let calls = self.client(identity.clone(), None).map_err(Trouble::Answered)?;
        let streams = self.client(identity, Some(SILENCE)).map_err(Trouble::Answered)?;
        Ok(Known {
            cluster: self.cluster.clone(),
            ready: Arc::new(Ready { calls, streams, bearer }),
            machine: None,
            // Early enough for AWS to be away for a while.
            renew: lasts.map(|(begun, valid)| begun + valid / 2),
            end: lasts.map(|(begun, valid)| begun + valid),
        })
    }

    fn client(
        &self,
        identity: Option<ClientIdentity>,
        silence: Option<Duration>,
    ) -> Result<Client, ClusterError> {
        // Control machines are in reach or not; a proxy between would only see addresses it can't know.
        let mut builder =
            Client::builder().connect_timeout(CONNECT).pool_idle_timeout(IDLE).no_proxy().https_only(true);
        if let Some(authority) = &self.authority {
            builder = builder.tls_certs_only([authority.clone()]);
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        if let Some(silence) = silence {
            builder = builder.read_timeout(silence);
        }
        builder.build().map_err(|error| ClusterError::Engine {
            doing: "preparing to call the cluster".to_owned(),
            reason: words(&error),
        })
    }
}

impl Known {
    pub(super) fn ready(&self) -> Arc<Ready> {
        Arc::clone(&self.ready)
    }
}

impl ClusterApi {
    /// What this machine shows of itself. The certificate is another one after each renewal.
    ///
    /// # Errors
    /// When no control machine gives it one, or this caller is no machine.
    pub async fn machine_identity(&self) -> Result<Arc<MachineIdentity>, ClusterError> {
        let connected = self.0.connected().await?;
        let mut reason = "no control machine has written itself down".to_owned();
        for endpoint in &connected.endpoints {
            let mut known = self.0.known.lock().await;
            match connected.identify(known.clone(), endpoint).await {
                Ok(now) => {
                    return known.insert(now).machine.clone().ok_or_else(|| ClusterError::Refused {
                        reason: "this caller is no machine of the cluster".to_owned(),
                    });
                }
                Err(Trouble::Unsent(why) | Trouble::Unanswered(why)) => reason = why,
                Err(Trouble::Answered(error) | Trouble::Unknown(error)) => return Err(error),
            }
        }
        self.0.forget().await;
        Err(ClusterError::Unreachable { endpoint: self.0.described().await, reason })
    }
}
