//! LocalStack: starting it, and the routes that our plugin adds.

use std::path::Path;
use std::time::Duration;

use aws_sdk_ssm::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ssm::types::ParameterType;
use tokio::process::Command;

use crate::model::secret::Secret;

use super::REGION;
use super::error::LocalError;
use super::home::{CloudFiles, make_dir};
use super::image;
use super::instance::Instances;
use super::process::Running;

/// What runs in LocalStack's Python.
const LAUNCHER: &str = include_str!("loopback.py");

/// Starts it on `port` of 127.0.0.1.
///
/// # Errors
/// When its Python can't be started.
pub fn start(files: &CloudFiles, python: &Path, port: u16) -> Result<Running, LocalError> {
    let dir = files.emulator();
    make_dir(&dir)?;
    let mut command = Command::new(python);
    command.args(["-c", LAUNCHER]).current_dir(&dir).env_clear();
    // Only what it needs: a user's own LocalStack and AWS settings must not change this one.
    for name in ["PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        // Its plugin cache is below $HOME; one of its own is never stale.
        .env("HOME", &dir)
        .env("FILESYSTEM_ROOT", dir.join("files"))
        // In a container LocalStack ignores FILESYSTEM_ROOT otherwise: all instances share a folder, and
        // each deletes it when it ends.
        .env("OVERRIDE_IN_DOCKER", "0")
        .env("GATEWAY_LISTEN", format!("127.0.0.1:{port}"))
        // No name server on port 53, no certificate from outside, no usage statistics.
        .env("DNS_ADDRESS", "0")
        .env("SKIP_SSL_CERT_DOWNLOAD", "1")
        .env("DISABLE_EVENTS", "1")
        // Nothing of it may use this machine's Docker.
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("PYTHONUNBUFFERED", "1")
        .env("AWS_DEFAULT_REGION", REGION)
        // Images are named as on AWS.
        .env("FLEETWRIGHT_PUBLIC_PARAMETERS", image::public_parameters())
        // One line a request is more than anybody reads.
        .env("LS_LOG", "warn");
    Running::start(command, &files.log("emulator"))
}

/// A client of one emulator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Emulator {
    client: reqwest::Client,
    endpoint: String,
}

impl Emulator {
    /// A client of the one on `port`; it is not asked anything yet.
    pub fn new(port: u16) -> Self {
        // Proxies of the environment are for the world outside.
        let client = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        Self { client, endpoint: format!("http://127.0.0.1:{port}") }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether it answers.
    pub async fn answers(&self) -> bool {
        let url = format!("{}/_localstack/health", self.endpoint);
        let answer = self.client.get(url).timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Whether nobody listens where it was: one that has closed its port is ending, or hangs while it ends. One
    /// that is only busy still listens.
    pub async fn is_closed(&self) -> bool {
        let Some(address) = self.endpoint.strip_prefix("http://") else { return false };
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    /// The instances; with `since`, waits up to `wait` for another revision.
    ///
    /// # Errors
    /// When it does not answer, or with something else.
    pub async fn instances(&self, since: Option<u64>, wait: Duration) -> Result<Instances, LocalError> {
        let failed = |error: reqwest::Error| LocalError::Emulator {
            doing: "asking the emulator for its instances",
            reason: with_causes(&error),
        };
        let mut request = self
            .client
            .get(format!("{}/_fleetwright/instances", self.endpoint))
            .timeout(wait + Duration::from_secs(10));
        if let Some(since) = since {
            request = request.query(&[("since", since), ("wait", wait.as_secs())]);
        }
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        answer.json().await.map_err(failed)
    }

    /// Tells it that the instance's machine is gone.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn vanished(&self, instance: &str) -> Result<(), LocalError> {
        let url = format!("{}/_fleetwright/instances/{instance}/vanished", self.endpoint);
        let answer = self.client.post(url).timeout(Duration::from_secs(10)).send().await;
        answer.and_then(reqwest::Response::error_for_status).map(drop).map_err(|error| LocalError::Emulator {
            doing: "telling the emulator that a machine vanished",
            reason: with_causes(&error),
        })
    }

    /// Writes an encrypted parameter.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn put_secret(&self, name: &str, value: &Secret<String>) -> Result<(), LocalError> {
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("test", "test", None, None, "local cloud"))
            .build();
        let client = aws_sdk_ssm::Client::from_conf(config);
        let put = client
            .put_parameter()
            .name(name)
            .value(value.expose())
            .r#type(ParameterType::SecureString)
            .overwrite(true);
        put.send().await.map(drop).map_err(|error| LocalError::Emulator {
            doing: "writing the registry's credentials to the emulator",
            reason: error.into_service_error().to_string(),
        })
    }
}

/// An error and what caused it, since reqwest keeps the cause to itself.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
