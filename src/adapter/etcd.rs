//! etcd's members over the network, through the JSON gateway that every member serves beside
//! gRPC (`/v3/...`, etcd 3.4 and later; its numbers are strings where they have 64 bits).

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Certificate, Client, Identity, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::etcd::Member;
use crate::model::secret::Secret;
use crate::port::etcd::{EtcdError, EtcdMembers};

/// How long a connection may take to come about; they are close by.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a member may take to say that it is healthy.
const HEALTH: Duration = Duration::from_secs(3);
/// How long it may take to answer: etcd itself gives a change up after about 7 s.
const ANSWER: Duration = Duration::from_secs(10);

/// The gateways of all members, for one caller.
#[derive(Debug, Clone)]
pub struct Gateway {
    client: Client,
}

#[derive(Deserialize)]
struct Health {
    health: String,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Add<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: [&'a str; 1],
    #[serde(rename = "isLearner")]
    is_learner: bool,
}

#[derive(Serialize)]
struct ById {
    #[serde(rename = "ID")]
    id: String,
}

/// What is false, empty or zero is left out of answers.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    members: Vec<WireMember>,
}

#[derive(Deserialize)]
struct WireMember {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
    #[serde(default)]
    code: u32,
}

/// gRPC's code for what is not there.
const NOT_FOUND: u32 = 5;

impl Gateway {
    /// Members whose certificates `authority` signed, for a caller with that certificate and key; all PEM.
    ///
    /// # Errors
    /// When one of the three is unreadable.
    pub fn new(authority: &str, certificate: &str, key: &Secret<String>) -> Result<Self, EtcdError> {
        let unreadable = |error: reqwest::Error| {
            EtcdError::Certificate(format!("reading the certificates for etcd: {}", words(&error)))
        };
        let identity = format!("{certificate}\n{}", key.expose());
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .https_only(true)
            .tls_certs_only([Certificate::from_pem(authority.as_bytes()).map_err(unreadable)?])
            .identity(Identity::from_pem(identity.as_bytes()).map_err(unreadable)?)
            .build()
            .map_err(unreadable)?;
        Ok(Self { client })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        doing: &str,
    ) -> Result<T, Failure> {
        let unreachable = |error: reqwest::Error| {
            Failure::Other(EtcdError::Unreachable { endpoint: endpoint.to_owned(), reason: words(&error) })
        };
        let request = self.client.post(format!("{endpoint}/v3/{path}")).json(body).timeout(ANSWER);
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return response.json().await.map_err(unreachable);
        }
        Err(refused(endpoint, doing, response).await)
    }
}

impl Gateway {
    /// Asks a member something.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        endpoint: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        doing: &str,
    ) -> Result<T, EtcdError> {
        Ok(self.call(endpoint, path, body, doing).await?)
    }

    /// Opens a stream of JSON lines.
    ///
    /// # Errors
    /// When the member does not answer, or refuses.
    pub(super) async fn open(
        &self,
        endpoint: &str,
        path: &str,
        body: &(impl Serialize + Sync),
        doing: &str,
    ) -> Result<Response, EtcdError> {
        let unreachable = |error: reqwest::Error| EtcdError::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: words(&error),
        };
        let response = self.client.post(format!("{endpoint}/v3/{path}")).json(body).send();
        let response = tokio::time::timeout(ANSWER, response).await.map_err(|_| EtcdError::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: format!("no answer within {} s", ANSWER.as_secs()),
        })?;
        let response = response.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(endpoint, doing, response).await.into())
    }
}

/// Why a call did not succeed.
enum Failure {
    NotFound(EtcdError),
    Other(EtcdError),
}

impl From<Failure> for EtcdError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound(error) | Failure::Other(error) => error,
        }
    }
}

async fn refused(endpoint: &str, doing: &str, response: Response) -> Failure {
    let status = response.status();
    let problem = response.json::<Problem>().await;
    let (reason, code) = match problem {
        Ok(problem) => (problem.error, problem.code),
        Err(_) => (format!("status {}", status.as_u16()), 0),
    };
    let error = EtcdError::Refused { endpoint: endpoint.to_owned(), doing: doing.to_owned(), reason };
    if code == NOT_FOUND { Failure::NotFound(error) } else { Failure::Other(error) }
}

#[async_trait]
impl EtcdMembers for Gateway {
    async fn is_healthy(&self, endpoint: &str) -> bool {
        let asked = self.client.get(format!("{endpoint}/health")).timeout(HEALTH).send().await;
        let Ok(response) = asked else { return false };
        response.json::<Health>().await.is_ok_and(|answer| answer.health == "true")
    }

    async fn members(&self, endpoint: &str) -> Result<Vec<Member>, EtcdError> {
        let doing = "listing etcd's members";
        let answer: Members = self.call(endpoint, "cluster/member/list", &Nothing {}, doing).await?;
        answer.members.into_iter().map(|member| member.read(endpoint)).collect()
    }

    async fn add_learner(&self, endpoint: &str, peer_url: &str) -> Result<(), EtcdError> {
        let body = Add { peer_urls: [peer_url], is_learner: true };
        let doing = format!("adding the member of etcd at {peer_url}");
        let _: Members = self.call(endpoint, "cluster/member/add", &body, &doing).await?;
        Ok(())
    }

    async fn promote(&self, endpoint: &str, member: u64) -> Result<(), EtcdError> {
        let body = ById { id: member.to_string() };
        let doing = format!("giving the member {member:x} of etcd its vote");
        let _: Members = self.call(endpoint, "cluster/member/promote", &body, &doing).await?;
        Ok(())
    }

    async fn remove(&self, endpoint: &str, member: u64) -> Result<(), EtcdError> {
        let body = ById { id: member.to_string() };
        let doing = format!("removing the member {member:x} of etcd");
        match self.call::<Members>(endpoint, "cluster/member/remove", &body, &doing).await {
            Ok(_) | Err(Failure::NotFound(_)) => Ok(()),
            Err(Failure::Other(error)) => Err(error),
        }
    }
}

impl WireMember {
    fn read(self, endpoint: &str) -> Result<Member, EtcdError> {
        let id = self.id.parse().map_err(|_| EtcdError::Unreachable {
            endpoint: endpoint.to_owned(),
            reason: format!("`{}` is not the id of a member", self.id),
        })?;
        Ok(Member {
            id,
            name: (!self.name.is_empty()).then_some(self.name),
            peer_urls: self.peer_urls,
            client_urls: self.client_urls,
            learner: self.is_learner,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_etcd_3_4_writes_them() {
        // What a member of 3.4.23 answered while another was on its way in.
        let text = r#"{"header":{"cluster_id":"4205683462086199176","raft_term":"2"},"members":[
            {"ID":"11659650287487382468","name":"m1","peerURLs":["https://127.45.1.1:2380"],
             "clientURLs":["https://127.45.1.1:2379"]},
            {"ID":"13616301314830442034","peerURLs":["https://127.45.1.2:2380"],"isLearner":true}]}"#;
        let answer: Members = serde_json::from_str(text).expect("JSON");
        let read = answer.members.into_iter().map(|member| member.read("there").expect("a member"));
        let members: Vec<_> = read.collect();
        assert_eq!(members[0].name.as_deref(), Some("m1"));
        assert!(!members[0].learner);
        assert_eq!(
            members[1],
            Member {
                id: 13_616_301_314_830_442_034,
                name: None,
                peer_urls: vec!["https://127.45.1.2:2380".to_owned()],
                client_urls: vec![],
                learner: true,
            }
        );
    }
}
