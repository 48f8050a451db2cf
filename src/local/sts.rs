//! STS of the local cloud: it verifies signatures for real, with the keys of [`CloudKeys`], so
//! that identities are as hard to claim as on AWS. What is not about identity is the emulator's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chrono::{DateTime, NaiveDateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use roxmltree::Document;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use crate::model::identity::sts_host;
use crate::model::secret::Secret;

use super::instance::Instances;
use super::keys::{AccessKey, CloudKeys, machine_id, user_of};

/// How far a request's date may be from now, in seconds, as on AWS.
const AGE_S: i64 = 900;
/// How long a request may be.
const LONGEST: usize = 64 * 1024;
/// How long the emulator may take.
const EMULATOR: Duration = Duration::from_secs(20);
/// The account of users.
const ACCOUNT: &str = "000000000000";

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    account: String,
    arn: String,
    user_id: String,
    /// Whether it may take on a role: the roles of machines trust nobody but EC2.
    machine: bool,
}

/// STS of one cloud. Cheap to clone.
#[derive(Clone)]
pub struct Sts {
    keys: CloudKeys,
    instances: watch::Receiver<Arc<Instances>>,
    emulator: String,
    client: reqwest::Client,
    /// Keys that the emulator gave for roles.
    given: Arc<Mutex<HashMap<String, (AccessKey, Owner)>>>,
}

/// Why a request is refused, as AWS says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal(&'static str, &'static str);

const MALFORMED: Refusal = Refusal("IncompleteSignature", "The signature is not complete.");
const UNKNOWN: Refusal = Refusal("InvalidClientTokenId", "The security token in the request is invalid.");
const MISMATCH: Refusal = Refusal("SignatureDoesNotMatch", "The signature does not match the one computed.");
const EXPIRED: Refusal = Refusal("SignatureDoesNotMatch", "Signature expired, or not yet current.");
const DENIED: Refusal = Refusal("AccessDenied", "Only GetCallerIdentity is for machines.");

impl Sts {
    /// With the keys and the instances of a cloud, and its emulator's address.
    pub fn new(keys: CloudKeys, instances: watch::Receiver<Arc<Instances>>, emulator: &str) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        Self { keys, instances, emulator: emulator.to_owned(), client, given: Arc::default() }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        Router::new().route("/", post(answer)).with_state(self)
    }

    /// The key with that id, and its owner. A machine's key ends with its instance.
    fn key(&self, id: &str) -> Option<(AccessKey, Owner)> {
        if let Some(name) = user_of(id) {
            let owner = Owner {
                account: ACCOUNT.to_owned(),
                arn: format!("arn:aws:iam::{ACCOUNT}:user/{name}"),
                user_id: id.to_owned(),
                machine: false,
            };
            return Some((self.keys.user(&name), owner));
        }
        let instances = self.instances.borrow();
        let machine =
            instances.instances.iter().find(|one| !one.is_terminated() && machine_id(&one.id) == id);
        if let Some(machine) = machine {
            let (account, instance) = (&machine.account, &machine.id);
            let role = machine.role.as_deref()?;
            let owner = Owner {
                account: account.clone(),
                arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{instance}"),
                user_id: format!("{role}:{instance}"),
                machine: true,
            };
            return Some((self.keys.machine(instance), owner));
        }
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn emulate(&self, headers: HeaderMap, body: Bytes) -> Response {
        let mut request = self.client.post(format!("{}/", self.emulator)).timeout(EMULATOR).body(body);
        for (name, value) in &headers {
            if ![header::HOST, header::CONTENT_LENGTH, header::CONNECTION].contains(name) {
                request = request.header(name.as_str(), value.as_bytes());
            }
        }
        let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
        let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
        let text = answer.text().await.unwrap_or_default();
        if let Some((key, owner)) = given(&text) {
            let mut known = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key.id.clone(), (key, owner));
        }
        (status, [(header::CONTENT_TYPE, "text/xml")], text).into_response()
    }
}

/// The key in an answer of AssumeRole.
fn given(text: &str) -> Option<(AccessKey, Owner)> {
    let document = Document::parse(text).ok()?;
    let word = |name: &str| {
        let mut nodes = document.descendants().filter(|node| node.tag_name().name() == name);
        nodes.next()?.text().map(str::to_owned)
    };
    let key = AccessKey {
        id: word("AccessKeyId")?,
        secret: Secret::new(word("SecretAccessKey")?),
        token: Some(Secret::new(word("SessionToken")?)),
    };
    let arn = word("Arn")?;
    let account = arn.split(':').nth(4)?.to_owned();
    Some((key, Owner { account, arn, user_id: word("AssumedRoleId")?, machine: false }))
}

async fn answer(State(sts): State<Sts>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let refuse = |Refusal(code, message): Refusal| {
        let text = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "text/xml")], text).into_response()
    };
    let Ok(body) = to_bytes(body, LONGEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let query = parts.uri.query().unwrap_or_default();
    let owner = match verify(&parts.headers, query, &body, |id| sts.key(id), Utc::now()) {
        Ok(owner) => owner,
        Err(refusal) => return refuse(refusal),
    };
    let action = String::from_utf8_lossy(&body);
    if action.split('&').any(|pair| pair == "Action=GetCallerIdentity") {
        let Owner { account, arn, user_id, .. } = owner;
        let text = format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>{account}</Account>\
             </GetCallerIdentityResult></GetCallerIdentityResponse>"
        );
        return (StatusCode::OK, [(header::CONTENT_TYPE, "text/xml")], text).into_response();
    }
    if owner.machine {
        return refuse(DENIED);
    }
    sts.emulate(parts.headers, body).await
}

/// Verifies the signature of a POST of `/`, version 4 of AWS's protocol.
fn verify(
    headers: &HeaderMap,
    query: &str,
    body: &[u8],
    key: impl Fn(&str) -> Option<(AccessKey, Owner)>,
    now: DateTime<Utc>,
) -> Result<Owner, Refusal> {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    };
    let authorization = one("authorization").ok_or(MALFORMED)?;
    let parts = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(MALFORMED)?;
    let part = |name: &str| {
        let found = parts.split(',').map(str::trim).find_map(|part| part.strip_prefix(name));
        found.and_then(|rest| rest.strip_prefix('=')).ok_or(MALFORMED)
    };
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [id, day, region, "sts", "aws4_request"] = scope.as_slice() else { return Err(MALFORMED) };
    let date = one("x-amz-date").ok_or(MALFORMED)?;
    let at = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").map_err(|_| MALFORMED)?.and_utc();
    if !date.starts_with(day) || (now - at).num_seconds().abs() > AGE_S {
        return Err(EXPIRED);
    }
    let names: Vec<&str> = signed.split(';').collect();
    let token = one("x-amz-security-token");
    let needs = ["host", "x-amz-date"].into_iter().chain(token.map(|_| "x-amz-security-token"));
    if !needs.into_iter().all(|name| names.contains(&name)) || !query.is_empty() {
        return Err(MALFORMED);
    }
    // AWS's own hosts answer for their own region only.
    let host = one("host").ok_or(MALFORMED)?;
    if host.starts_with("sts.") && host != sts_host(region) {
        return Err(MISMATCH);
    }
    let (key, owner) = key(id).ok_or(UNKNOWN)?;
    let wanted = key.token.as_ref().map_or("", |token| token.expose().as_str());
    if !bool::from(token.unwrap_or_default().as_bytes().ct_eq(wanted.as_bytes())) {
        return Err(UNKNOWN);
    }
    let mut canonical = "POST\n/\n\n".to_owned();
    for name in &names {
        let values: Vec<&str> =
            headers.get_all(*name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        if values.is_empty() {
            return Err(MALFORMED);
        }
        let words: Vec<String> =
            values.iter().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        canonical.push_str(&format!("{name}:{}\n", words.join(",")));
    }
    canonical.push_str(&format!("\n{signed}\n{}", hex(&Sha256::digest(body))));
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/sts/aws4_request\n{}",
        hex(&Sha256::digest(canonical.as_bytes()))
    );
    let mut secret = format!("AWS4{}", key.secret.expose()).into_bytes();
    for step in [*day, *region, "sts", "aws4_request"] {
        secret = mac(&secret, step).to_vec();
    }
    let made = hex(&mac(&secret, &to_sign));
    if !bool::from(made.as_bytes().ct_eq(signature.as_bytes())) {
        return Err(MISMATCH);
    }
    Ok(owner)
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
