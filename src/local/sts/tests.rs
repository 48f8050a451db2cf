//! Requests signed by the SDK's own signer, verified here, and everything that may go wrong with one.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::http::{HeaderName, HeaderValue};

use super::*;
use crate::model::identity::{BODY, CLUSTER_HEADER, CONTENT_TYPE};

const HOST: &str = "sts.eu-west-1.amazonaws.com";

fn key() -> AccessKey {
    AccessKey {
        id: "FWM0ABC".into(),
        secret: Secret::new("a secret".into()),
        token: Some(Secret::new("a token".into())),
    }
}

fn owner() -> Owner {
    Owner { account: ACCOUNT.into(), arn: "arn".into(), user_id: "id".into(), machine: Some("role".into()) }
}

/// A request as the SDK signs it.
fn signed(key: &AccessKey, host: &str, at: DateTime<Utc>) -> HeaderMap {
    let token = key.token.as_ref().map(|token| token.expose().clone());
    let identity = Credentials::new(&key.id, key.secret.expose(), token, None, "test").into();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at.timestamp().unsigned_abs());
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-1")
        .name("sts")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let headers = [("content-type", CONTENT_TYPE), (CLUSTER_HEADER, "c0ffee")];
    let url = format!("https://{host}/");
    let body = SignableBody::Bytes(BODY.as_bytes());
    let request = SignableRequest::new("POST", &url, headers.into_iter(), body).unwrap();
    let (instructions, _) = sign(request, &parameters).unwrap().into_parts();
    let mut map = HeaderMap::new();
    map.insert("host", HeaderValue::from_str(host).unwrap());
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn verified(headers: &HeaderMap, body: &str, now: DateTime<Utc>) -> Result<Owner, Refusal> {
    let known = |id: &str| (id == key().id).then(|| (key(), owner()));
    verify(headers, "", body.as_bytes(), known, now)
}

#[test]
fn what_the_sdk_signs_is_verified() {
    let now = Utc::now();
    assert_eq!(verified(&signed(&key(), HOST, now), BODY, now), Ok(owner()));
    assert_eq!(verified(&signed(&key(), "127.0.0.1:4566", now), BODY, now), Ok(owner()));
}

#[test]
fn a_changed_request_is_refused() {
    let now = Utc::now();
    let good = signed(&key(), HOST, now);
    assert_eq!(verified(&good, "Action=AssumeRole", now), Err(MISMATCH));
    for name in ["content-type", CLUSTER_HEADER, "host", "x-amz-date", "x-amz-security-token"] {
        let mut changed = good.clone();
        let value = format!("{}x", changed[name].to_str().unwrap());
        changed.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
        assert!(verified(&changed, BODY, now).is_err(), "{name} changed");
        changed.remove(name);
        assert!(verified(&changed, BODY, now).is_err(), "{name} removed");
    }
    let known = |id: &str| (id == key().id).then(|| (key(), owner()));
    assert_eq!(verify(&good, "Action=x", BODY.as_bytes(), known, now), Err(MALFORMED));
}

#[test]
fn other_keys_other_times_and_other_regions_are_refused() {
    let now = Utc::now();
    let with = |secret: &str, token: Option<&str>| AccessKey {
        secret: Secret::new(secret.into()),
        token: token.map(|token| Secret::new(token.into())),
        ..key()
    };
    assert_eq!(verified(&signed(&with("a secrez", Some("a token")), HOST, now), BODY, now), Err(MISMATCH));
    assert_eq!(verified(&signed(&with("a secret", Some("b token")), HOST, now), BODY, now), Err(UNKNOWN));
    assert_eq!(verified(&signed(&with("a secret", None), HOST, now), BODY, now), Err(UNKNOWN));
    let stranger = AccessKey { id: "FWM0DEF".into(), ..key() };
    assert_eq!(verified(&signed(&stranger, HOST, now), BODY, now), Err(UNKNOWN));
    for off in [-902, 902] {
        let then = now + chrono::TimeDelta::seconds(off);
        assert_eq!(verified(&signed(&key(), HOST, then), BODY, now), Err(EXPIRED), "{off} s");
    }
    let elsewhere = signed(&key(), "sts.us-east-1.amazonaws.com", now);
    assert_eq!(verified(&elsewhere, BODY, now), Err(MISMATCH));
}
