//! The exchange of a proof of identity for a certificate or a token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use chrono::Utc;
use tokio::sync::Semaphore;

use super::super::strict::Strict;
use super::{Api, Problem, audit};
use crate::driver::members::Members;
use crate::model::identity::{Exchange, Issued, VERSION};
use crate::model::principal::{Operation, Principal};
use crate::plan::identity::{Expected, NotKnown, check, known_person, machine};
use crate::port::cluster::ClusterError;
use crate::port::identity::{AskError, CallerIdentity, IssueError, Issuer};

/// How many proofs are asked about at the same time. Anybody can send one.
const AT_ONCE: usize = 8;

/// What turns proofs into identities, and knows them again.
pub struct Identities {
    issuer: Arc<dyn Issuer>,
    sts: Arc<dyn CallerIdentity>,
    members: Members,
    account: String,
    turns: Semaphore,
}

impl Identities {
    /// With the authority of the cluster, the STS that is asked, and the cluster's machines,
    /// which are in `account`.
    pub fn new(
        issuer: Arc<dyn Issuer>,
        sts: Arc<dyn CallerIdentity>,
        members: Members,
        account: String,
    ) -> Self {
        Self { issuer, sts, members, account, turns: Semaphore::new(AT_ONCE) }
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<(Principal, Issued), Problem> {
        let now = Utc::now().timestamp();
        let expected = Expected { cluster: self.issuer.cluster(), region: self.sts.region(), now };
        let ask = check(exchange, &expected).map_err(|error| Problem::unknown(&error.to_string()))?;
        let Ok(_turn) = self.turns.try_acquire() else {
            return Err(ClusterError::Unreachable {
                endpoint: "this control machine".to_owned(),
                reason: format!("it is asking AWS about {AT_ONCE} other proofs of identity"),
            }
            .into());
        };
        let caller = self.sts.ask(&ask).await?;
        let groups = self.members.groups().await?;
        let Some(public_key) = &exchange.public_key else {
            let person = known_person(&caller, &self.account, &groups)?;
            let (token, valid_s) = self.issuer.token(&person, now)?;
            tracing::info!(%person, "a token for a person");
            let token = Some(token.expose().clone());
            return Ok((person, Issued { version: VERSION, valid_s, certificate: None, token }));
        };
        let member = machine(&caller, &self.account, &groups)?;
        let (certificate, valid_s) = self.issuer.certify(&member.instance, public_key)?;
        tracing::info!(machine = %member.instance, group = member.group, "a certificate for a machine");
        let principal = Principal::Machine { instance: member.instance, role: member.role };
        Ok((principal, Issued { version: VERSION, valid_s, certificate: Some(certificate), token: None }))
    }

    /// The machine with that certificate (DER), if it is one of the cluster's still.
    pub(super) async fn machine(&self, certificate: &[u8]) -> Result<Principal, Problem> {
        let instance = self.issuer.recognise(certificate, Utc::now().timestamp())?;
        let member = self.members.member(&instance).await?;
        Ok(Principal::Machine { instance, role: member.role })
    }

    /// The person with that token; `None` when it is not a token of a person.
    pub(super) fn person(&self, token: &str) -> Result<Option<Principal>, Problem> {
        Ok(self.issuer.read_token(token, Utc::now().timestamp())?)
    }

    /// The cluster's machines.
    pub(super) fn members(&self) -> &Members {
        &self.members
    }
}

pub(super) async fn identify(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Strict(exchange): Strict<Exchange>,
) -> Result<Json<Issued>, Problem> {
    let (principal, issued) = api.identities.exchange(&exchange).await?;
    audit::issued(&api, &principal, Operation::Identify, peer).await;
    Ok(Json(issued))
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Rejected { .. } => Self::unknown(&error.to_string()),
            AskError::Unreachable { endpoint, reason } => {
                ClusterError::Unreachable { endpoint, reason }.into()
            }
        }
    }
}

impl From<NotKnown> for Problem {
    fn from(error: NotKnown) -> Self {
        ClusterError::Denied { reason: error.to_string() }.into()
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Certificate(reason) => ClusterError::Refused { reason }.into(),
            IssueError::BadCertificate(_) | IssueError::BadToken(_) => Self::unknown(&error.to_string()),
        }
    }
}
