//! The pipeline server: its routes, and who may use them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::callers::{Callers, Shown, is_cross_site, needed, same};
use super::form::{Fields, local_path};
use super::hooks::{BODY_MOST, Hooks, hook};
use super::pipeline_api as api;
use super::service_pages::Reach;
use super::{
    log_api, openapi, page_routes, pages, pipeline_metrics, service_pages, shell_api, stack_pages, step_api,
};
use crate::driver::pipeline::queue::Configure;
use crate::driver::pipeline::request::Offered;
use crate::driver::pipeline::run::Parts;
use crate::driver::stack_board::StackBoard;
use crate::model::redact::{Mask, WITHHELD};
use crate::port::cluster::Snapshot;
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
    /// Says what a run does.
    pub configure: Arc<dyn Configure>,
    /// The pipelines that this server works on, by their names.
    pub offered: watch::Receiver<Arc<[Offered]>>,
    /// What is known of the cluster.
    pub seen: watch::Receiver<Seen>,
    /// The cluster, for what is read or asked for when a page needs it.
    pub reach: Arc<Reach>,
    /// The stacks of the environment.
    pub stacks: Arc<StackBoard>,
    /// Who may call. Other users of this machine reach the loopback, too.
    pub callers: Arc<Callers>,
    /// The repositories that webhooks are taken for.
    pub hooks: Arc<Hooks>,
    /// Whether only this machine can reach it: then requests must name this machine.
    pub loopback: bool,
}

impl Pipelines {
    /// The pipelines that this server works on now.
    pub(super) fn offered(&self) -> Arc<[Offered]> {
        Arc::clone(&self.offered.borrow())
    }
}

/// A route of the API. Each is in openapi.json.
pub(super) struct ApiRoute {
    /// Its path.
    pub path: &'static str,
    /// Its method, in lower case.
    pub method: &'static str,
    handler: MethodRouter<Pipelines>,
    /// Whether callers must show a token.
    guarded: bool,
}

/// The routes under /v1.
pub(super) fn api_routes() -> Vec<ApiRoute> {
    let route = |path, method, handler| ApiRoute { path, method, handler, guarded: true };
    vec![
        route("/v1/openapi.json", "get", get(openapi::document)),
        route("/v1/pipelines", "get", get(api::pipelines)),
        route("/v1/pipelines/{name}/runs", "post", post(api::start)),
        route("/v1/runs", "get", get(api::runs)),
        route("/v1/runs/{id}", "get", get(api::run)),
        route("/v1/runs/{id}/cancel", "post", post(api::cancel)),
        route("/v1/runs/{id}/retry", "post", post(api::retry)),
        route("/v1/runs/{id}/shell", "post", post(shell_api::shell)),
        route("/v1/runs/{id}/answer", "post", post(step_api::answer)),
        route("/v1/runs/{id}/file", "get", get(step_api::file)),
        route("/v1/runs/{id}/log", "get", get(api::log)),
        route("/v1/metrics", "get", get(pipeline_metrics::metrics)),
        route("/v1/runs/{id}/log/lines", "get", get(log_api::lines)),
        route("/v1/runs/{id}/log/search", "get", get(log_api::search)),
        route("/v1/runs/{id}/log/raw", "get", get(log_api::raw)),
        route("/v1/snapshot", "get", get(api::snapshot)),
        // Whoever sends one shows that it knows the repository's secret.
        ApiRoute {
            guarded: false,
            ..route("/v1/hooks/{repository}", "post", post(hook).layer(DefaultBodyLimit::max(BODY_MOST)))
        },
    ]
}

/// The routes.
pub fn router(server: Pipelines) -> Router {
    let pages = Router::new()
        .route("/", get(page_routes::home))
        .route("/login", get(page_routes::login_form).post(page_routes::log_in))
        .route("/logout", post(page_routes::log_out))
        .route("/machines", get(service_pages::machines))
        .route("/machines/{id}", get(service_pages::machine))
        .route("/pipelines/{name}/runs", post(page_routes::start))
        .route("/runs", get(page_routes::history))
        .route("/runs/{id}", get(page_routes::run))
        .route("/runs/{id}/answer", post(page_routes::answer))
        .route("/runs/{id}/cancel", post(page_routes::cancel))
        .route("/runs/{id}/retry", post(page_routes::retry))
        .route("/runs/{id}/steps/{step}/log", get(log_api::raw_of_page))
        .route("/services", get(service_pages::services))
        .route("/services/{name}", get(service_pages::service))
        .route("/services/{name}/logs", get(service_pages::logs))
        .route("/services/{name}/logs/raw", get(service_pages::raw_logs))
        .route("/services/{name}/rollback", get(service_pages::rollback_form).post(service_pages::roll_back))
        .route("/stacks", get(stack_pages::stacks))
        .route("/stacks/drift", post(stack_pages::check));
    let (guarded, open): (Vec<_>, Vec<_>) = api_routes().into_iter().partition(|route| route.guarded);
    let add = |router: Router<Pipelines>, ApiRoute { path, method, handler, .. }: ApiRoute| {
        tracing::trace!(method, path, "a route");
        router.route(path, handler)
    };
    let no_method = || async {
        let message = "there is no such method for this path";
        refusal(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
    };
    let guarded = guarded
        .into_iter()
        .fold(pages, add)
        .layer(DefaultBodyLimit::max(api::BODY_MAX))
        .fallback(|| async { refusal(StatusCode::NOT_FOUND, "not-found", "there is no such path") })
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(server.clone(), guard));
    let open = open.into_iter().fold(Router::new(), add).method_not_allowed_fallback(no_method);
    guarded.merge(open).with_state(server)
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
    } else {
        admitted(&server, request, next).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // With none at all, browsers would not say of a form where it comes from.
        ("referrer-policy", "same-origin"),
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

/// The path of the page that opens sessions.
const LOGIN: &str = "/login";

async fn admitted(server: &Pipelines, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (headers, path) = (&parts.headers, parts.uri.path().to_owned());
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_page = !path.starts_with("/v1/");
    let from = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let from = from.map(|ConnectInfo(peer)| peer.ip().to_canonical());
    let found = match server.callers.admit(headers, from, Utc::now()) {
        Ok(found) => found,
        Err(many) => {
            tracing::warn!(?from, "too many wrong tokens");
            let next = "wait, and see that the token is right";
            let response = refused(StatusCode::TOO_MANY_REQUESTS, "too-many", &many.to_string(), Some(next));
            return ([(header::RETRY_AFTER, many.wait.to_string())], response).into_response();
        }
    };
    let shown = found.as_ref().map(|(_, shown)| *shown);
    // What a browser adds on its own proves nothing when another site's page has sent the request.
    if changes && shown != Some(Shown::Bearer) && is_cross_site(headers) {
        return refusal(StatusCode::FORBIDDEN, "cross-site", "another site's page has sent this");
    }
    let Some((who, shown)) = found else {
        return match path == LOGIN {
            true => next.run(with_fields(parts, body, changes, None).await).await,
            false => unknown(&parts.method, headers, &parts.uri, is_page),
        };
    };
    let level = needed(&parts.method, &path);
    if who.level < level {
        let name = who.caller.name.as_deref().unwrap_or_default();
        let message = format!("token `{name}` has the role {}, and this needs the role {level}", who.level);
        let ask = "ask an admin of the server for a token with that role";
        return match is_page {
            true => {
                let frame = page_routes::frame(server, Some(&who));
                pages::refused(&frame, StatusCode::FORBIDDEN, &message, Some(ask))
            }
            false => refused(StatusCode::FORBIDDEN, "denied", &message, Some(ask)),
        };
    }
    if changes && !is_page && shown == Shown::Cookie {
        let given = headers.get("x-csrf-token").and_then(|value| value.to_str().ok()).unwrap_or("");
        if !who.csrf.as_deref().is_some_and(|csrf| same(csrf, given)) {
            return refusal(
                StatusCode::FORBIDDEN,
                "csrf",
                "the header `x-csrf-token` of the session is missing",
            );
        }
    }
    if changes && is_page && path != LOGIN && shown != Shown::Cookie {
        let message = "the forms of the pages need a session";
        return refused(
            StatusCode::FORBIDDEN,
            "session",
            message,
            Some("log in at /login, or use the API under /v1"),
        );
    }
    let csrf = who.csrf.clone().filter(|_| path != LOGIN);
    parts.extensions.insert(who);
    let request = match is_page {
        true => with_fields(parts, body, changes, csrf).await,
        false => Request::from_parts(parts, body),
    };
    match request.extensions().get::<Forged>() {
        Some(Forged) => refused(
            StatusCode::FORBIDDEN,
            "csrf",
            "the form does not belong to this session",
            Some("load the page again, and send the form from there"),
        ),
        None => next.run(request).await,
    }
}

/// Marks a form that lacks what its session's forms bear.
#[derive(Debug, Clone, Copy)]
struct Forged;

/// The request with the fields of its form; one whose form does not bear `csrf` is marked.
async fn with_fields(mut parts: Head, body: Body, changes: bool, csrf: Option<String>) -> Request {
    if !changes {
        return Request::from_parts(parts, body);
    }
    let bytes = axum::body::to_bytes(body, api::BODY_MAX).await.unwrap_or_default();
    let fields = Fields::parse(&bytes);
    if csrf.is_some_and(|csrf| !same(&csrf, fields.get("csrf").unwrap_or(""))) {
        parts.extensions.insert(Forged);
    }
    parts.extensions.insert(fields);
    Request::from_parts(parts, Body::empty())
}

/// Answers a caller that has not shown who it is: a person at a browser gets the page to log in.
fn unknown(method: &Method, headers: &HeaderMap, uri: &Uri, is_page: bool) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let asked = uri.path_and_query().map_or("/", |path| path.as_str());
    let wants_page = is_page && *method == Method::GET && text("accept").contains("text/html");
    if wants_page && !headers.contains_key(header::AUTHORIZATION) {
        // The cookie is not sent when a link on another site was followed: ask again from here.
        if matches!(text("sec-fetch-site"), "cross-site" | "same-site") {
            return pages::again(local_path(asked));
        }
        let location = format!("{LOGIN}?next={}", escaped(local_path(asked)));
        return (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response();
    }
    let mut response = refused(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "a valid token is needed: as a bearer token, or as the password of any user",
        Some("`fleetwright serve token create NAME --role viewer` on the server's machine prints one"),
    );
    // A browser's script must not make it ask for a password.
    let challenge = match headers.contains_key("sec-fetch-site") {
        true => HeaderValue::from_static("Bearer realm=\"fleetwright\""),
        false => HeaderValue::from_static("Basic realm=\"fleetwright\", charset=\"UTF-8\""),
    };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// A path as the value of a field of a query.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
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
}
