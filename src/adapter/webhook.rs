//! Messages by HTTP.
//!
//! The URL is a secret, so nothing of it is in an error: neither the client's own words nor the address.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::model::secret::Secret;
use crate::port::notify::{SendError, SendMessage};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Sends messages with `POST`. Redirects are not followed: only who knows the secret says where a message goes.
#[derive(Debug)]
pub struct Webhooks {
    client: Client,
}

impl Webhooks {
    /// A sender.
    ///
    /// # Errors
    /// When the system's certificates can't be read.
    pub fn new() -> Result<Self, String> {
        let builder = Client::builder().connect_timeout(CONNECT).redirect(Policy::none());
        Ok(Self { client: builder.build().map_err(|error| error.to_string())? })
    }
}

#[async_trait]
impl SendMessage for Webhooks {
    async fn send(&self, url: &Secret<String>, body: &str, limit: Duration) -> Result<(), SendError> {
        let url = Url::parse(url.expose().trim()).map_err(|_| SendError::BadUrl)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(SendError::BadUrl);
        }
        let request = self
            .client
            .post(url)
            .timeout(limit)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("fleetwright/", env!("CARGO_PKG_VERSION")))
            .body(body.to_owned());
        let response = request.send().await.map_err(|error| {
            SendError::Unanswered(if error.is_timeout() {
                "it took too long"
            } else if error.is_connect() {
                "the connection was not established"
            } else {
                "the connection broke off"
            })
        })?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(SendError::Status(response.status().as_u16()))
        }
    }
}
