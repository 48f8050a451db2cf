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
    /// The role of a machine, whose policies decide which roles it may assume; `None` for people, who may assume
    /// any.
    machine: Option<String>,
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
const DENIED: Refusal =
    Refusal("AccessDenied", "Neither GetCallerIdentity nor a role that this machine may assume.");

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
                machine: None,
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
                machine: Some(role.to_owned()),
            };
            return Some((self.keys.machine(instance), owner));
        }
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Whether the request is a machine's for a role that its policies, and that role's, let it assume.
    async fn may_assume(&self, machine: &str, body: &[u8]) -> bool {
        let asked = form(body);
        let value = |name: &str| {
            let mut values = asked.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
            values.next().filter(|_| values.next().is_none())
        };
        let (Some("AssumeRole"), Some(role), Some(session)) =
            (value("Action"), value("RoleArn"), value("RoleSessionName"))
        else {
            return false;
        };
        // What narrows a session, or names somebody else, is not judged here.
        let known = ["Action", "Version", "RoleArn", "RoleSessionName", "DurationSeconds"];
        if asked.iter().any(|(key, _)| !known.contains(&key.as_str())) {
            return false;
        }
        let name = role.rsplit('/').next().unwrap_or_default();
        let (Some(own), Some(other)) = (self.role(machine).await, self.role(name).await) else {
            return false;
        };
        let listed = self.iam(&[("Action", "ListRolePolicies"), ("RoleName", machine)]).await;
        let names = listed.as_deref().map(|text| words(text, "member")).unwrap_or_default();
        let mut policies = Vec::new();
        for name in &names {
            let asked = [("Action", "GetRolePolicy"), ("RoleName", machine), ("PolicyName", name)];
            let found = self.iam(&asked).await;
            policies.extend(found.as_deref().and_then(|text| document(text, "PolicyDocument")));
        }
        let ask = policy::Ask { caller: &own.0, role, session };
        other.0 == role && policy::allows(&ask, &policies, &other.1)
    }

    /// The ARN of a role, and its trust policy.
    async fn role(&self, name: &str) -> Option<(String, serde_json::Value)> {
        let text = self.iam(&[("Action", "GetRole"), ("RoleName", name)]).await?;
        Some((words(&text, "Arn").into_iter().next()?, document(&text, "AssumeRolePolicyDocument")?))
    }

    /// Asks the emulator's IAM.
    async fn iam(&self, fields: &[(&str, &str)]) -> Option<String> {
        let mut body = "Version=2010-05-08".to_owned();
        for (name, value) in fields {
            body.push_str(&format!("&{name}={value}"));
        }
        // The emulator reads no more of it than the service.
        let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
        let request = self.client.post(format!("{}/", self.emulator)).timeout(EMULATOR).body(body);
        let request = request.header(header::AUTHORIZATION.as_str(), scope);
        let request = request.header(header::CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded");
        let answer = request.send().await.ok()?;
        if answer.status().is_success() { answer.text().await.ok() } else { None }
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

/// The fields of a form.
fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(&value.replace('+', " ")))
        })
        .collect()
}

/// A text without its percent encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The texts of the elements of that name.
fn words(text: &str, name: &str) -> Vec<String> {
    let Ok(document) = Document::parse(text) else { return Vec::new() };
    let nodes = document.descendants().filter(|node| node.tag_name().name() == name);
    nodes.filter_map(|node| node.text().map(str::to_owned)).collect()
}

/// A policy in an answer of IAM.
fn document(text: &str, name: &str) -> Option<serde_json::Value> {
    let text = words(text, name).into_iter().next()?;
    serde_json::from_str(&text).or_else(|_| serde_json::from_str(&decoded(&text))).ok()
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
    Some((key, Owner { account, arn, user_id: word("AssumedRoleId")?, machine: None }))
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
    if let Some(machine) = &owner.machine
        && !sts.may_assume(machine, &body).await
    {
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

mod policy;
#[cfg(test)]
mod tests;
