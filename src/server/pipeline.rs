//! The pipeline server: its pages, its API under /v1, and who may see them.
//!
//! It only reads: the journal, and the last snapshot of the cluster.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::hooks::{BODY_MOST, Hooks, hook};
use super::pages;
use super::strict::StrictQuery;
use crate::model::redact::{Mask, WITHHELD};
use crate::model::run::{Run, RunId};
use crate::model::secret::Secret;
use crate::port::cluster::Snapshot;
use crate::port::journal::{Journal, JournalError, Which};

/// How many runs the first page shows.
const RUNS: u32 = 50;
/// How many entries of a log are sent at a time.
const BATCH: u32 = 500;
/// How often the journal is looked at for what other processes have written.
const LOOK: Duration = Duration::from_millis(300);

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
    fn masked(&self, mask: &Mask) -> Self {
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
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Raised whenever this process has changed the journal.
    pub changed: Arc<watch::Sender<u64>>,
    /// What is known of the cluster.
    pub seen: watch::Receiver<Seen>,
    /// Masks what is sent.
    pub mask: Mask,
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
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{id}", get(run))
        .route("/v1/runs/{id}/log", get(log))
        .route("/v1/snapshot", get(snapshot))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not-found", "there is nothing here") })
        .layer(middleware::from_fn_with_state(server.clone(), guard))
        // Whoever sends one shows that it knows the repository's secret.
        .route("/v1/hooks/{repository}", post(hook).layer(DefaultBodyLimit::max(BODY_MOST)))
        .with_state(server)
}

/// Lets in who may, and tells browsers to be careful with what they get.
async fn guard(State(server): State<Pipelines>, request: Request, next: Next) -> Response {
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

pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

/// The journal could not be read: whoever asks can do nothing about it but wait.
struct Unreadable(JournalError);

impl From<JournalError> for Unreadable {
    fn from(error: JournalError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Unreadable {
    fn into_response(self) -> Response {
        tracing::error!(error = %self.0, "the journal can't be read");
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "journal", &self.0.to_string())
    }
}

fn no_run(id: i64) -> Response {
    refusal(StatusCode::NOT_FOUND, "not-found", &format!("there is no run {id}"))
}

async fn home(State(server): State<Pipelines>) -> Result<Html<String>, Unreadable> {
    let runs = server.journal.runs(&Which::Newest(RUNS))?;
    let seen = server.seen.borrow().masked(&server.mask);
    Ok(Html(pages::home(&server.project, &server.environment, &runs, &seen, Utc::now())))
}

async fn run_page(State(server): State<Pipelines>, Path(id): Path<i64>) -> Result<Response, Unreadable> {
    let Some(run) = server.journal.run(RunId(id))? else { return Ok(no_run(id)) };
    Ok(Html(pages::run(&server.project, &server.environment, &run, Utc::now())).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: Option<u32>,
}

async fn runs(
    State(server): State<Pipelines>,
    StrictQuery(query): StrictQuery<Limit>,
) -> Result<Json<serde_json::Value>, Unreadable> {
    let runs = server.journal.runs(&Which::Newest(query.limit.unwrap_or(RUNS).min(1000)))?;
    Ok(Json(server.mask.json(json!({ "version": 1, "runs": runs }))))
}

async fn run(State(server): State<Pipelines>, Path(id): Path<i64>) -> Result<Response, Unreadable> {
    Ok(match server.journal.run(RunId(id))? {
        Some(run) => Json(server.mask.json(json!({ "version": 1, "run": run }))).into_response(),
        None => no_run(id),
    })
}

async fn snapshot(State(server): State<Pipelines>) -> Response {
    let seen = server.seen.borrow().masked(&server.mask);
    match (seen.snapshot, seen.lost) {
        (Some((snapshot, _)), _) => Json(&*snapshot).into_response(),
        (None, lost) => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "unreachable",
            &lost.unwrap_or_else(|| "the cluster has not answered yet".to_owned()),
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    after: Option<i64>,
}

/// The run's entries, from the beginning or after the last one that the reader has, and
/// those to come; `end` when the run has ended. Entries are read as fast as they are
/// taken, so a slow reader holds nobody up.
async fn log(
    State(server): State<Pipelines>,
    Path(id): Path<i64>,
    StrictQuery(query): StrictQuery<After>,
    headers: HeaderMap,
) -> Result<Response, Unreadable> {
    let id = RunId(id);
    if server.journal.run(id)?.is_none() {
        return Ok(no_run(id.0));
    }
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = last.or(query.after).unwrap_or(0);
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(entries(server, id, after)).keep_alive(keep_alive).into_response())
}

struct Reading {
    server: Pipelines,
    run: RunId,
    after: i64,
    waiting: std::collections::VecDeque<Sent>,
    changed: watch::Receiver<u64>,
    ended: bool,
}

fn entries(server: Pipelines, run: RunId, after: i64) -> impl Stream<Item = Result<Sent, Infallible>> {
    let changed = server.changed.subscribe();
    let reading = Reading { server, run, after, waiting: Default::default(), changed, ended: false };
    futures_util::stream::unfold(reading, |mut reading| async move {
        loop {
            if let Some(sent) = reading.waiting.pop_front() {
                return Some((Ok(sent), reading));
            }
            if reading.ended {
                return None;
            }
            if let Err(error) = reading.read() {
                // The reader comes again, with the id of what it got last.
                tracing::error!(%error, "the journal can't be read");
                return None;
            }
            if reading.waiting.is_empty() {
                tokio::select! {
                    _ = reading.changed.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    })
}

impl Reading {
    fn read(&mut self) -> Result<(), JournalError> {
        // Asked before the entries are read: an ended run gets no more of them.
        let ended = self.server.journal.run(self.run)?.is_none_or(|run: Run| run.state.is_ended());
        let entries = self.server.journal.entries(self.run, self.after, BATCH)?;
        if entries.is_empty() && ended {
            self.waiting.push_back(Sent::default().event("end").data("{}"));
            self.ended = true;
        }
        for entry in entries {
            self.after = entry.seq;
            // An event is one JSON document on one line; what is inside it is escaped there.
            let data = format!("{{\"at\":\"{}\",\"event\":{}}}", entry.at.to_rfc3339(), entry.event);
            self.waiting.push_back(Sent::default().id(entry.seq.to_string()).data(data));
        }
        Ok(())
    }
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
