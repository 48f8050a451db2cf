//! ECR's tokens: a user and password for a registry, valid for some hours, in exchange for
//! the caller's own identity. The one call is made by hand, signed by the SDK's signer, because
//! the SDK's crate for ECR is large.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::failure;
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
/// How long a token is taken to be valid that comes without a time; ECR's own documents say 12 hours.
const UNTOLD: Duration = Duration::from_secs(3600);
/// How long a token is used at most: half of what ECR gives it.
const USED: Duration = Duration::from_secs(6 * 3600);

/// A registry of ECR, as its host names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrHost {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// What follows it, such as `amazonaws.com`.
    pub domain: String,
}

impl EcrHost {
    /// Reads `ACCOUNT.dkr.ecr.REGION.amazonaws.com`; `None` for any other host.
    pub fn parse(host: &str) -> Option<Self> {
        let (account, rest) = host.split_once(".dkr.ecr.")?;
        let (region, domain) = rest.split_once('.')?;
        let numbers = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let named =
            !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let known = matches!(domain, "amazonaws.com" | "amazonaws.com.cn");
        (numbers && named && known).then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            domain: domain.to_owned(),
        })
    }
}

/// A user and password.
#[derive(Debug, Clone)]
pub struct EcrToken {
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
    /// When it is to be replaced.
    pub until: DateTime<Utc>,
}

/// Tokens of ECR, by registry; one is used for half of its life, and then replaced.
pub struct EcrTokens {
    config: SdkConfig,
    http: reqwest::Client,
    known: Mutex<HashMap<String, EcrToken>>,
}

impl EcrTokens {
    /// With the credentials and endpoint of `config`.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, http: reqwest::Client::new(), known: Mutex::default() }
    }

    /// The token for the registry at `host`.
    ///
    /// # Errors
    /// When it is not one of ECR, or ECR gives none.
    pub async fn token(&self, host: &str) -> Result<EcrToken, CloudError> {
        let doing = format!("getting a token for the registry `{host}`");
        let registry = EcrHost::parse(host).ok_or_else(|| CloudError::Refused {
            doing: doing.clone(),
            code: "InvalidHost".to_owned(),
            reason: "a registry of ECR is at `ACCOUNT.dkr.ecr.REGION.amazonaws.com`".to_owned(),
        })?;
        let mut known = self.known.lock().await;
        if let Some(token) = known.get(host).filter(|token| Utc::now() < token.until) {
            return Ok(token.clone());
        }
        let answer = self.ask(&registry, &doing).await?;
        let token = read(&answer, SystemTime::now()).ok_or_else(|| CloudError::Refused {
            doing,
            code: "MalformedResponse".to_owned(),
            reason: "its answer holds no token".to_owned(),
        })?;
        known.insert(host.to_owned(), token.clone());
        Ok(token)
    }

    /// Asks for another token the next time: this one was refused.
    pub async fn forget(&self, host: &str) {
        self.known.lock().await.remove(host);
    }

    async fn ask(&self, registry: &EcrHost, doing: &str) -> Result<Value, CloudError> {
        let denied = |reason: String| CloudError::Denied { doing: doing.to_owned(), reason };
        let url = match self.config.endpoint_url() {
            Some(url) => url.to_owned(),
            None => format!("https://api.ecr.{}.{}/", registry.region, registry.domain),
        };
        let body = json!({ "registryIds": [registry.account] }).to_string();
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| denied("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| failure::uncredentialed(doing.to_owned(), &error))?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&registry.region)
            .name("ecr")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| denied(error.to_string()))?
            .into();
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", TARGET)];
        let signable =
            SignableRequest::new("POST", &url, headers.into_iter(), SignableBody::Bytes(body.as_bytes()));
        let (instructions, _) = signable
            .and_then(|request| sign(request, &parameters))
            .map_err(|error| denied(error.to_string()))?
            .into_parts();
        let mut request = self.http.post(&url).timeout(Duration::from_secs(30)).body(body);
        for (name, value) in headers.into_iter().chain(instructions.headers()) {
            request = request.header(name, value);
        }
        let unanswered = |error: reqwest::Error| failure::unanswered(doing.to_owned(), &url, &error);
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (date, media) = (header("date"), header("content-type"));
        let text = answer.text().await.map_err(unanswered)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let kind = answer["__type"].as_str().unwrap_or_default();
        let code = kind.rsplit('#').next().unwrap_or_default();
        let (doing, status) = (doing.to_owned(), status.as_u16());
        if code.is_empty() {
            return Err(failure::page(doing, url, status, text.as_bytes(), media.as_deref()));
        }
        let reason = ["message", "Message"].iter().find_map(|key| answer[key].as_str());
        Err(failure::answered(doing, code, reason, status, date.as_deref()))
    }
}

/// The token in an answer that came `now`.
fn read(answer: &Value, now: SystemTime) -> Option<EcrToken> {
    let data = answer["authorizationData"].as_array()?.first()?;
    let pair = STANDARD.decode(data["authorizationToken"].as_str()?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (username, password) = pair.split_once(':')?;
    let expires = data["expiresAt"].as_f64().and_then(|at| Duration::try_from_secs_f64(at).ok());
    let lives = match expires {
        Some(expires) => (SystemTime::UNIX_EPOCH + expires).duration_since(now).unwrap_or_default(),
        None => UNTOLD,
    };
    Some(EcrToken {
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
        until: (now + (lives / 2).min(USED)).into(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use axum::{Json, Router};

    use super::*;

    const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    /// An endpoint that gives a new token each time to whoever signs for ECR.
    async fn ecr(lives: f64) -> (EcrTokens, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move |State(asked): State<Arc<AtomicUsize>>, headers: HeaderMap, body: String| async move {
            let signed = headers["authorization"].to_str().expect("text");
            let right = signed.contains("/eu-west-1/ecr/aws4_request")
                && signed.contains("x-amz-target")
                && headers["x-amz-target"] == TARGET
                && body == r#"{"registryIds":["123456789012"]}"#;
            if !right {
                return (StatusCode::BAD_REQUEST, Json(json!({ "__type": "x#AccessDeniedException" })));
            }
            let count = asked.fetch_add(1, Ordering::SeqCst) + 1;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
            let data = json!({
                "authorizationToken": STANDARD.encode(format!("AWS:token-{count}")),
                "expiresAt": now.as_secs_f64() + lives,
                "proxyEndpoint": format!("https://{HOST}"),
            });
            (StatusCode::OK, Json(json!({ "authorizationData": [data] })))
        };
        let routes = Router::new().route("/", post(answer)).with_state(Arc::clone(&asked));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let credentials = SharedCredentialsProvider::new(Credentials::new("id", "key", None, None, "test"));
        let config = SdkConfig::builder().endpoint_url(url).credentials_provider(credentials).build();
        (EcrTokens::new(config), asked)
    }

    #[test]
    fn hosts_of_ecr_are_told_from_others() {
        let host = EcrHost::parse(HOST).expect("it is one");
        assert_eq!((host.account.as_str(), host.region.as_str()), ("123456789012", "eu-west-1"));
        assert!(EcrHost::parse("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn").is_some());
        for other in [
            "registry.internal:5000",
            "1.dkr.ecr.eu-west-1.amazonaws.com",
            "a/b",
            "123456789012.dkr.ecr.eu-west-1.evil.example",
            "123456789012.dkr.ecr./.amazonaws.com",
        ] {
            assert_eq!(EcrHost::parse(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_token_is_used_for_half_of_its_life() {
        let (tokens, asked) = ecr(12.0 * 3600.0).await;
        let first = tokens.token(HOST).await.expect("a token");
        assert_eq!((first.username.as_str(), first.password.expose().as_str()), ("AWS", "token-1"));
        tokens.token(HOST).await.expect("a token");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        tokens.forget(HOST).await;
        assert_eq!(tokens.token(HOST).await.expect("a token").password.expose(), "token-2");
        assert!(tokens.token("registry.internal:5000").await.is_err());

        let (tokens, asked) = ecr(0.0).await;
        tokens.token(HOST).await.expect("a token");
        tokens.token(HOST).await.expect("a token");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "one that is about to expire is replaced");
    }
}
