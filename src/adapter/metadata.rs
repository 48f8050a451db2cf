//! The instance metadata service, version 2 of its protocol.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::{Client, StatusCode};
use tokio::sync::Mutex;

use crate::model::machine::Role;
use crate::model::member::Identity;
use crate::model::secret::Secret;
use crate::port::membership::{Metadata, MetadataError, Notice};

/// Where it is; the same variable moves it for the AWS SDKs.
const ENDPOINT: &str = "http://169.254.169.254";
const ENDPOINT_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
/// How long a session lasts.
const SESSION_SECONDS: u64 = 21_600;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// The tag by which an instance knows its group.
const GROUP_TAG: &str = "aws:autoscaling:groupName";

/// A client of the metadata service.
pub struct InstanceMetadata {
    client: Client,
    endpoint: String,
    session: Mutex<Option<(Secret<String>, Instant)>>,
}

impl InstanceMetadata {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new() -> Result<Self, MetadataError> {
        let endpoint = std::env::var(ENDPOINT_VARIABLE)
            .map_or_else(|_| ENDPOINT.to_owned(), |url| url.trim_end_matches('/').to_owned());
        let client = Client::builder()
            .timeout(ANSWER)
            .no_proxy()
            .build()
            .map_err(|error| MetadataError { path: endpoint.clone(), reason: error.to_string() })?;
        Ok(Self { client, endpoint, session: Mutex::new(None) })
    }

    /// The value at `path`; `None` when there is none.
    async fn get(&self, path: &str) -> Result<Option<String>, MetadataError> {
        let failed = |reason: String| MetadataError { path: path.to_owned(), reason };
        let token = self.token().await?;
        let response = self
            .client
            .get(format!("{}/latest/{path}", self.endpoint))
            .header("X-aws-ec2-metadata-token", token.expose())
            .send()
            .await
            .map_err(|error| failed(error.without_url().to_string()))?;
        match response.status() {
            StatusCode::OK => {
                response.text().await.map(Some).map_err(|error| failed(error.without_url().to_string()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => {
                // The session may have been forgotten by a service that was started again.
                *self.session.lock().await = None;
                Err(failed(format!("status {}", status.as_u16())))
            }
        }
    }

    async fn need(&self, path: &str) -> Result<String, MetadataError> {
        self.get(path).await?.ok_or_else(|| MetadataError {
            path: path.to_owned(),
            reason: "there is no such value".to_owned(),
        })
    }

    async fn token(&self) -> Result<Secret<String>, MetadataError> {
        let mut session = self.session.lock().await;
        if let Some((token, until)) = session.as_ref()
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let failed = |reason: String| MetadataError { path: "api/token".to_owned(), reason };
        let response = self
            .client
            .put(format!("{}/latest/api/token", self.endpoint))
            .header("X-aws-ec2-metadata-token-ttl-seconds", SESSION_SECONDS)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| failed(error.without_url().to_string()))?;
        let token =
            Secret::new(response.text().await.map_err(|error| failed(error.without_url().to_string()))?);
        *session = Some((token.clone(), Instant::now() + Duration::from_secs(SESSION_SECONDS / 2)));
        Ok(token)
    }
}

#[async_trait]
impl Metadata for InstanceMetadata {
    async fn identity(&self) -> Result<Identity, MetadataError> {
        let bad = |path: &str, reason: String| MetadataError { path: path.to_owned(), reason };
        let instance = self.need("meta-data/instance-id").await?;
        let address = self.need("meta-data/local-ipv4").await?;
        Ok(Identity {
            instance: instance.trim().parse().map_err(|error| bad("instance-id", format!("{error}")))?,
            address: address.trim().parse().map_err(|error| bad("local-ipv4", format!("{error}")))?,
            region: self.need("meta-data/placement/region").await?.trim().to_owned(),
            zone: self.need("meta-data/placement/availability-zone").await?.trim().to_owned(),
            // Tags are there only where the launch template allows it; the group is looked up otherwise.
            group: self
                .get(&format!("meta-data/tags/instance/{GROUP_TAG}"))
                .await?
                .unwrap_or_default()
                .trim()
                .to_owned(),
            role: Role::Worker,
        })
    }

    async fn notice(&self) -> Result<Option<Notice>, MetadataError> {
        let state = self.get("meta-data/autoscaling/target-lifecycle-state").await?;
        if state.is_some_and(|state| state.trim() == "Terminated") {
            return Ok(Some(Notice::Terminated));
        }
        let action = self.get("meta-data/spot/instance-action").await?;
        Ok(action.map(|_| Notice::Reclaimed))
    }
}
