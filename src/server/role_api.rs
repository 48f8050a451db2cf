//! What a container finds on its own loopback: the credentials of its role, as the SDKs of AWS ask for them.
//!
//! Whoever connects is in the container. It must show the token of its service all the same: so a program in the
//! container that can be made to fetch an address, but not to send a header, gives nothing away.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{SecondsFormat, Utc};
use serde_json::json;
use tokio::time::sleep;

use super::limits::{self, Caps};
use crate::driver::role::{AFTER_REFUSAL, NoCredentials, TaskRole};
use crate::model::role::{ROLE_PATH, ROLE_PORT, RoleToken, TokenHash};

/// The longest header, in bytes.
const HEADER: usize = 16 * 1024;
/// The longest token.
const TOKEN: usize = 256;

/// Whose credentials are served.
#[derive(Clone)]
pub enum Roles {
    /// Those of the container whose own loopback it is.
    One(Arc<TaskRole>),
    /// Those of tasks that share the machine's loopback: whoever asks is known by the token alone.
    ByToken(Arc<RwLock<HashMap<TokenHash, Arc<TaskRole>>>>),
}

impl Roles {
    fn find(&self, shown: &TokenHash) -> Option<Arc<TaskRole>> {
        match self {
            Self::One(role) => Some(Arc::clone(role)),
            Self::ByToken(roles) => roles.read().unwrap_or_else(PoisonError::into_inner).get(shown).cloned(),
        }
    }
}

/// Serves credentials, until dropped.
///
/// # Errors
/// When the socket can't be used.
pub async fn serve(listener: TcpListener, role: Roles) -> io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?;
    server.http_builder().http1().max_buf_size(HEADER);
    let routes = limits::answered_within(router(role), limits::ANSWER);
    limits::limited(server, Caps::ROLE, limits::HEADER).serve(routes.into_make_service()).await
}

fn router(role: Roles) -> Router {
    let nothing =
        async || problem(StatusCode::NOT_FOUND, "NotFound", "there are credentials at another path");
    Router::new().route(ROLE_PATH, get(credentials)).fallback(nothing).with_state(role)
}

/// An error in the form that SDKs read.
fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "code": code, "message": message }))).into_response()
}

async fn credentials(State(roles): State<Roles>, headers: HeaderMap) -> Response {
    let denied = |message: &str| problem(StatusCode::FORBIDDEN, "AccessDenied", message);
    if !is_direct(&headers) {
        return denied("only the container itself may ask, not through a proxy or under another name");
    }
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(shown) = shown.filter(|shown| !shown.is_empty() && shown.len() <= TOKEN) else {
        return denied(
            "send the contents of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE as the header Authorization",
        );
    };
    let shown = RoleToken::new(shown.to_owned()).hash();
    let Some(role) = roles.find(&shown) else {
        sleep(AFTER_REFUSAL).await;
        return denied(&NoCredentials::Token.to_string());
    };
    match role.get(&shown, Utc::now()).await {
        Ok(given) => {
            let body = json!({
                "AccessKeyId": given.key,
                "SecretAccessKey": given.secret.expose(),
                "Token": given.token.expose(),
                "Expiration": given.expires.to_rfc3339_opts(SecondsFormat::Secs, true),
                "RoleArn": given.role,
            });
            ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
        }
        Err(error @ (NoCredentials::Token | NoCredentials::Refused(_))) => denied(&error.to_string()),
        Err(error @ NoCredentials::Later(_)) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &error.to_string())
        }
    }
}

/// Whether a request comes straight from a program that means this address: not through a proxy, and not from a page
/// in a browser whose name leads to the loopback.
fn is_direct(headers: &HeaderMap) -> bool {
    let proxied = ["x-forwarded-for", "x-forwarded-host", "forwarded", "via"];
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return false,
    };
    let names = [format!("127.0.0.1:{ROLE_PORT}"), format!("localhost:{ROLE_PORT}")];
    names.iter().any(|name| host == name)
        && proxied.iter().all(|name| !headers.contains_key(HeaderName::from_static(name)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use async_trait::async_trait;
    use chrono::TimeDelta;
    use serde_json::Value;

    use super::*;
    use crate::model::role::{RoleCredentials, TokenHash};
    use crate::model::secret::Secret;
    use crate::port::cluster::ClusterError;
    use crate::port::roles::AskCredentials;

    struct Control;

    #[async_trait]
    impl AskCredentials for Control {
        async fn credentials(&self, task: &str, shown: &TokenHash) -> Result<RoleCredentials, ClusterError> {
            assert_eq!(task, "t1");
            if *shown != RoleToken::new("right".into()).hash() {
                return Err(ClusterError::Refused { reason: "not the token".into() });
            }
            Ok(RoleCredentials {
                role: "arn:aws:iam::111122223333:role/r".into(),
                key: "ASIA1".into(),
                secret: Secret::new("key".into()),
                token: Secret::new("session".into()),
                expires: Utc::now() + TimeDelta::hours(1),
            })
        }
    }

    #[tokio::test]
    async fn credentials_are_for_a_direct_request_with_the_token() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("its address");
        let role = Arc::new(TaskRole::new("t1".into(), Arc::new(Control)));
        let serving = tokio::spawn(serve(listener, Roles::One(role)));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let own = format!("127.0.0.1:{ROLE_PORT}");
        let ask = async |path: &str, headers: &[(&str, &str)]| {
            let mut request = client.get(format!("http://{address}{path}"));
            if headers.iter().all(|(name, _)| *name != "host") {
                request = request.header("host", own.as_str());
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await.expect("an answer");
            let status = answer.status().as_u16();
            let text = answer.text().await.expect("a text");
            (status, serde_json::from_str::<Value>(&text).unwrap_or_default())
        };
        let (status, body) = ask(ROLE_PATH, &[("authorization", "right")]).await;
        assert_eq!(
            (status, body["AccessKeyId"].as_str(), body["Token"].as_str()),
            (200, Some("ASIA1"), Some("session"))
        );
        assert!(body["Expiration"].as_str().is_some_and(|time| time.ends_with('Z')), "{body}");
        let long = "x".repeat(257);
        for (path, headers, wanted) in [
            (ROLE_PATH, vec![], 403),
            (ROLE_PATH, vec![("authorization", "wrong")], 403),
            (ROLE_PATH, vec![("authorization", long.as_str())], 403),
            (ROLE_PATH, vec![("authorization", "right"), ("x-forwarded-for", "10.0.0.1")], 403),
            (ROLE_PATH, vec![("authorization", "right"), ("via", "1.1 proxy")], 403),
            (ROLE_PATH, vec![("authorization", "right"), ("host", "evil.example:7446")], 403),
            ("/", vec![("authorization", "right")], 404),
            ("/v1/credentials/t2", vec![("authorization", "right")], 404),
            ("/v1/credentials?task=t2", vec![("authorization", "wrong")], 403),
        ] {
            let (status, body) = ask(path, &headers).await;
            assert_eq!(status, wanted, "{path} {headers:?}");
            assert!(body["code"].is_string() && body["message"].is_string(), "{body}");
        }
        let huge = "x".repeat(32 * 1024);
        let answer = client.get(format!("http://{address}{ROLE_PATH}")).header("x", huge).send().await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| !answer.status().is_success()));
        serving.abort();
    }

    #[tokio::test]
    async fn who_shares_a_loopback_is_known_by_the_token_alone() {
        let role = || Arc::new(TaskRole::new("t1".into(), Arc::new(Control)));
        let hash = |token: &str| RoleToken::new(token.into()).hash();
        let known = HashMap::from([(hash("right"), role()), (hash("another"), role())]);
        let roles = Roles::ByToken(Arc::new(RwLock::new(known)));
        assert!(roles.find(&hash("right")).is_some());
        assert!(roles.find(&hash("wrong")).is_none());
        let own = format!("127.0.0.1:{ROLE_PORT}");
        let status = async |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, own.parse().expect("a host"));
            headers.insert(header::AUTHORIZATION, token.parse().expect("a header"));
            credentials(State(roles.clone()), headers).await.status()
        };
        assert_eq!(status("right").await, StatusCode::OK);
        assert_eq!(status("wrong").await, StatusCode::FORBIDDEN);
        // Known here, and refused by the control machine.
        assert_eq!(status("another").await, StatusCode::FORBIDDEN);
    }
}
