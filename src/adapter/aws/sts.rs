//! STS, for identities: proofs signed with our own credentials, and the proofs of others asked about.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use chrono::DateTime;
use reqwest::redirect::Policy;
use roxmltree::Document;

use super::answers;
use super::failure::failure;
use crate::model::identity::{
    BODY, CLUSTER_HEADER, CONTENT_TYPE, Caller, KEY_HEADER, Proof, SignedAsk, sts_host,
};
use crate::model::role::RoleCredentials;
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;
use crate::port::identity::{AskError, CallerIdentity, Prove};
use crate::port::roles::AssumeRole;

/// Where STS is, when it is not AWS's own; the same variable moves it for the SDKs.
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_STS";
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an answer may be.
const LONGEST: usize = 64 * 1024;

/// Signs with the credentials of `config`. Nothing is sent: whoever wants to know who this is
/// sends the request.
pub struct Signer {
    config: SdkConfig,
}

impl Signer {
    /// With the credentials and the region of `config`.
    pub fn new(config: SdkConfig) -> Self {
        Self { config }
    }
}

#[async_trait]
impl Prove for Signer {
    async fn prove(&self, cluster: &str, key: Option<&str>) -> Result<Proof, CloudError> {
        let denied = |reason: String| CloudError::Denied {
            doing: "signing a proof of identity for the cluster".to_owned(),
            reason,
        };
        let region = self.config.region().map_or("us-east-1", |region| region.as_ref()).to_owned();
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| denied("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| denied(aws_error(&error)))?;
        let session_token = credentials.session_token().map(str::to_owned);
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name("sts")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| denied(error.to_string()))?
            .into();
        let url = format!("https://{}/", sts_host(&region));
        let mut headers = vec![("content-type", CONTENT_TYPE), (CLUSTER_HEADER, cluster)];
        headers.extend(key.map(|key| (KEY_HEADER, key)));
        let body = SignableBody::Bytes(BODY.as_bytes());
        let signable = SignableRequest::new("POST", &url, headers.into_iter(), body)
            .map_err(|error| denied(error.to_string()))?;
        let signed = sign(signable, &parameters).map_err(|error| denied(error.to_string()))?;
        let (instructions, _) = signed.into_parts();
        let made = |name: &str| {
            let found = instructions.headers().find(|(have, _)| have.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned())
        };
        match (made("authorization"), made("x-amz-date")) {
            (Some(authorization), Some(date)) => Ok(Proof {
                region,
                cluster: cluster.to_owned(),
                key: key.map(str::to_owned),
                date,
                session_token,
                authorization,
            }),
            _ => Err(denied("the signer made no signature".to_owned())),
        }
    }
}

/// An error of the SDK with its cause, which it keeps to itself.
fn aws_error(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", aws_error(cause)),
        None => error.to_string(),
    }
}

/// Asks the STS of one region.
pub struct Sts {
    region: String,
    endpoint: String,
    http: reqwest::Client,
}

impl Sts {
    /// The STS of `region`: AWS's own, or the one that the environment names.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(region: &str) -> Result<Self, AskError> {
        let named = std::env::var(ENDPOINT_VARIABLE).ok().filter(|url| !url.is_empty());
        let endpoint = named.unwrap_or_else(|| format!("https://{}", sts_host(region)));
        Self::at(region, &endpoint)
    }

    /// The STS of `region` at `endpoint`.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn at(region: &str, endpoint: &str) -> Result<Self, AskError> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        // Nobody that it might refer to is asked instead.
        let http = reqwest::Client::builder().redirect(Policy::none()).timeout(ANSWER).build();
        let http = http.map_err(|error| AskError::Unreachable {
            endpoint: endpoint.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self { region: region.to_owned(), endpoint, http })
    }
}

#[async_trait]
impl CallerIdentity for Sts {
    fn region(&self) -> &str {
        &self.region
    }

    async fn ask(&self, ask: &SignedAsk) -> Result<Caller, AskError> {
        let unreachable = |reason: String| AskError::Unreachable { endpoint: self.endpoint.clone(), reason };
        let mut request = self
            .http
            .post(format!("{}/", self.endpoint))
            // What was signed, wherever the request goes.
            .header(reqwest::header::HOST, sts_host(&self.region))
            .body(ask.body);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let mut answer =
            request.send().await.map_err(|error| unreachable(aws_error(&error.without_url())))?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| unreachable(aws_error(&error.without_url())))?
        {
            text.extend_from_slice(&chunk);
            if text.len() > LONGEST {
                return Err(unreachable("its answer is too long".to_owned()));
            }
        }
        read(status.as_u16(), &String::from_utf8_lossy(&text)).map_err(|wrong| match wrong {
            Wrong::Rejected(reason) => AskError::Rejected { reason },
            Wrong::Other(reason) => unreachable(reason),
        })
    }
}

/// Assumes roles with the credentials of a client.
pub struct Roles {
    client: aws_sdk_sts::Client,
}

impl Roles {
    /// Through that client.
    pub fn new(client: aws_sdk_sts::Client) -> Self {
        Self { client }
    }
}

/// How long the credentials of a role are valid, in seconds: no longer can be had with the credentials of another
/// role, which those of a machine are.
const VALID_S: i32 = 3600;

#[async_trait]
impl AssumeRole for Roles {
    async fn assume(&self, role: &str, session: &str) -> Result<RoleCredentials, CloudError> {
        let doing = format!("assuming {role}");
        let asked = self.client.assume_role().role_arn(role).role_session_name(session);
        let answer = asked.duration_seconds(VALID_S).send().await;
        let answer = answer.map_err(|error| failure(doing.clone(), error))?;
        let missing = || answers::missing(doing.clone(), "Credentials");
        let given = answer.credentials.ok_or_else(missing)?;
        let expires = DateTime::from_timestamp(given.expiration.secs(), 0).ok_or_else(missing)?;
        Ok(RoleCredentials {
            role: role.to_owned(),
            key: given.access_key_id,
            secret: Secret::new(given.secret_access_key),
            token: Secret::new(given.session_token),
            expires,
        })
    }
}

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Rejected(String),
    Other(String),
}

fn read(status: u16, text: &str) -> Result<Caller, Wrong> {
    let document = Document::parse(text).ok();
    let word = |name: &str| {
        let root = document.as_ref()?.root();
        let mut found = root.descendants().filter(|node| node.tag_name().name() == name);
        // Two would leave it open whose answer this is.
        let text = found.next()?.text()?.to_owned();
        found.next().is_none().then_some(text)
    };
    if status == 200 {
        let (Some(arn), Some(account)) = (word("Arn"), word("Account")) else {
            return Err(Wrong::Other("its answer names no caller".to_owned()));
        };
        let caller = Caller::read(&arn).map_err(|error| Wrong::Rejected(error.to_string()))?;
        if caller.account != account {
            return Err(Wrong::Other("its answer names two accounts".to_owned()));
        }
        return Ok(caller);
    }
    let (code, message) = (word("Code").unwrap_or_default(), word("Message").unwrap_or_default());
    let reason = match (code.as_str(), message.as_str()) {
        ("", _) => format!("status {status}"),
        (code, "") => code.to_owned(),
        (code, message) => format!("{message} ({code})"),
    };
    let throttled = code.contains("Throttl") || code == "RequestLimitExceeded";
    Err(if (400..500).contains(&status) && status != 429 && !throttled {
        Wrong::Rejected(reason)
    } else {
        Wrong::Other(reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>arn:aws:sts::123456789012:assumed-role/demo-worker/i-0abc</Arn>
    <UserId>AROA:i-0abc</UserId>
    <Account>123456789012</Account>
  </GetCallerIdentityResult>
</GetCallerIdentityResponse>"#;

    #[test]
    fn an_answer_names_one_caller_or_nobody() {
        assert_eq!(read(200, ANSWER).expect("a caller").account, "123456789012");
        let other = ANSWER.replace("<Account>123456789012", "<Account>999999999999");
        assert_eq!(read(200, &other), Err(Wrong::Other("its answer names two accounts".into())));
        let two = ANSWER.replace("<UserId>", "<Arn>arn:aws:iam::123456789012:user/x</Arn><UserId>");
        assert_eq!(read(200, &two), Err(Wrong::Other("its answer names no caller".into())));
        assert!(matches!(read(200, "<a/>"), Err(Wrong::Other(_))));
        assert!(matches!(read(302, ANSWER), Err(Wrong::Other(_))), "a redirection is no answer");
        let refused = "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code>\
                       <Message>no</Message></Error></ErrorResponse>";
        assert_eq!(read(403, refused), Err(Wrong::Rejected("no (SignatureDoesNotMatch)".into())));
        let throttled = refused.replace("SignatureDoesNotMatch", "Throttling");
        assert!(matches!(read(400, &throttled), Err(Wrong::Other(_))));
        assert!(matches!(read(503, refused), Err(Wrong::Other(_))));
        let root = ANSWER.replace("assumed-role/demo-worker/i-0abc", "federated-user/ann");
        assert!(matches!(read(200, &root), Err(Wrong::Rejected(_))));
    }
}
