//! The pipeline server: its routes, and who may use them.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::hooks::{BODY_MOST, Hooks, hook};
use super::pages;
use super::pipeline_api::{self as api, RUNS, Refused};
use super::step_api;
use super::strict::StrictPath;
use crate::model::access::Level;
use crate::driver::pipeline::request::{Caller, Offered, RequestError};
use crate::driver::pipeline::run::Parts;
use crate::model::redact::{Mask, WITHHELD};
use crate::model::run::RunId;
use crate::model::secret::Secret;
use crate::port::cluster::Snapshot;
use crate::port::journal::Which;
use crate::port::pipeline_wire::{Refusal, RefusalError};

/// What is known of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last snapshot, and when it came.
    pub snapshot: Option<(Arc<Snapshot>, DateTime<Utc>)>,
    /// Why there is no newer one.
    pub lost: Option<String>,
}

impl Seen {
    /// The same without what must not be shown.
    pub(super) fn masked(&self, mask: &Mask) -> Self {
        let snapshot = self.snapshot.as_ref().map(|(snapshot, at)| (mask.masked(&**snapshot), *at));
        let withheld = matches!(snapshot, Some((None, _))).then(|| format!("the snapshot is {WITHHELD}"));
        Self {
            snapshot: snapshot.and_then(|(snapshot, at)| Some((Arc::new(snapshot?), at))),
            lost: self.lost.as_deref().map(|lost| mask.mask(lost)).or(withheld),
        }
    }
}

/// What the server needs.
#[derive(Clone)]
pub struct Pipelines {
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// What runs need; its journal is what the pages show.
    pub parts: Parts,
    /// The pipelines that this server works on, by their names.
    pub offered: Arc<[Offered]>,
    /// What is known of the cluster.
    pub seen: watch::Receiver<Seen>,
    /// What a caller must bear. Other users of this machine reach the loopback, too.
    pub token: Secret<String>,
    /// The repositories that webhooks are taken for.
    pub hooks: Arc<Hooks>,
    /// Whether only this machine can reach it: then requests must name this machine.
    pub loopback: bool,
}

/// The routes.
pub fn router(server: Pipelines) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/runs/{id}", get(run_page))
        .route("/v1/pipelines", get(api::pipelines))
        .route("/v1/pipelines/{name}/runs", post(api::start))
        .route("/v1/runs", get(api::runs))
        .route("/v1/runs/{id}", get(api::run))
        .route("/v1/runs/{id}/cancel", post(api::cancel))
        .route("/v1/runs/{id}/retry", post(api::retry))
        .route("/v1/runs/{id}/log", get(api::log))
        .route("/v1/runs/{id}/answer", post(step_api::answer))
        .route("/v1/runs/{id}/files/{step}/{*path}", get(step_api::file))
        .route("/v1/snapshot", get(api::snapshot))
        .layer(DefaultBodyLimit::max(api::BODY_MAX))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not-found", "there is no such path") })
        .method_not_allowed_fallback(|| async {
            let message = "there is no such method for this path";
            refusal(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
        })
        .layer(middleware::from_fn_with_state(server.clone(), guard))
        // Whoever sends one shows that it knows the repository's secret.
        .route("/v1/hooks/{repository}", post(hook).layer(DefaultBodyLimit::max(BODY_MOST)))
        .with_state(server)
}

/// Lets in who may, and tells browsers to be careful with what they get.
async fn guard(State(server): State<Pipelines>, mut request: Request, next: Next) -> Response {
    let mut response = if server.loopback && !names_this_machine(request.headers()) {
        // A page elsewhere may have given its own name this machine's address.
        refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "this server answers as localhost and 127.0.0.1 only",
        )
    } else if !bears(request.headers(), &server.token) {
        let mut response = refusal(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the token is needed: as a bearer token, or as the password of any user",
        );
        let challenge = HeaderValue::from_static("Basic realm=\"fleetwright\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        response
    } else {
        request.extensions_mut().insert(Caller { name: None, level: Level::Admin });
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_str(pages::content_security_policy());
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        policy.unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
    );
    response
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bears(headers: &HeaderMap, token: &Secret<String>) -> bool {
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let given = match value.split_once(' ') {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => given.trim().as_bytes().to_vec(),
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("basic") => {
            let Ok(pair) = STANDARD.decode(given.trim()) else { return false };
            match pair.iter().position(|&byte| byte == b':') {
                Some(at) => pair[at + 1..].to_vec(),
                None => return false,
            }
        }
        _ => return false,
    };
    given.ct_eq(token.expose().as_bytes()).into()
}

/// An error, as every other of the API.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    refused(status, code, message, None)
}

/// An error with what to do.
pub(super) fn refused(status: StatusCode, code: &str, message: &str, next: Option<&str>) -> Response {
    let error =
        RefusalError { code: code.to_owned(), message: message.to_owned(), next: next.map(str::to_owned) };
    (status, Json(Refusal { error })).into_response()
}

async fn home(State(server): State<Pipelines>) -> Result<Html<String>, Refused> {
    let runs = server.parts.journal.runs(&Which::Newest(RUNS))?;
    let seen = server.seen.borrow().masked(&server.parts.mask);
    Ok(Html(pages::home(&server.project, &server.environment, &runs, &seen, Utc::now())))
}

async fn run_page(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
) -> Result<Response, Refused> {
    let run = server.parts.journal.run(RunId(id))?.ok_or(RequestError::NoRun(RunId(id)))?;
    Ok(Html(pages::run(&server.project, &server.environment, &run, Utc::now())).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("a value"))])
    }

    #[test]
    fn only_names_of_this_machine_are_answered_on_loopback() {
        for host in
            ["localhost", "localhost:7070", "127.0.0.1:7070", "[::1]:7070", "x.localhost:1", "LOCALHOST."]
        {
            assert!(names_this_machine(&headers(header::HOST, host)), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:7070", "10.0.0.1", "", "localhost.evil.example"]
        {
            assert!(!names_this_machine(&headers(header::HOST, host)), "{host}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn the_token_is_taken_as_bearer_or_as_password() {
        let token = Secret::new("s3cret:x".to_owned());
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for good in ["Bearer s3cret:x".to_owned(), "bearer s3cret:x".into(), basic("me:s3cret:x")] {
            assert!(bears(&headers(header::AUTHORIZATION, &good), &token), "{good}");
        }
        for bad in [
            "Bearer s3cret".to_owned(),
            "s3cret:x".into(),
            basic("s3cret:x"),
            "Basic %".into(),
            "Bearer ".into(),
        ] {
            assert!(!bears(&headers(header::AUTHORIZATION, &bad), &token), "{bad}");
        }
        assert!(!bears(&HeaderMap::new(), &token));
    }
}
