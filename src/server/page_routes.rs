//! The pages' routes: what is shown, and the forms of the pages, which work without a script.

use std::net::SocketAddr;

use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, Utc};
use tera::Context;

use super::callers::{NoSession, Who};
use super::form::{Fields, local_path};
use super::log_api::reading;
use super::pages::cluster::ClusterView;
use super::pages::home::{HomeView, PipelineRuns};
use super::pages::log_pages::{self, ChosenLines, StepLogView};
use super::pages::views::{RunView, columns, questions, steps};
use super::pages::{self, Frame};
use super::pipeline::{Pipelines, Seen};
use super::pipeline_api::{self as api, Listed, Refused, begins_a_commit, newest};
use super::service_pages::shown;
use super::strict::{StrictPath, StrictQuery};
use crate::driver::pipeline::request::{self, Reply, RequestError, Wanted};
use crate::model::access::Level;
use crate::model::run::{Run, RunId, RunState};
use crate::model::service::{Revision, RevisionState};
use crate::port::journal::Which;

/// How many runs the first page shows.
const RUNS: u32 = 20;

/// What a page has around it, for `who`.
pub(super) fn frame(server: &Pipelines, who: Option<&Who>) -> Frame {
    let csrf = who.and_then(|who| who.csrf.clone());
    Frame {
        project: server.project.clone(),
        environment: server.environment.clone(),
        nav: who.is_some(),
        who: who.and_then(|who| who.caller.name.clone()),
        may_change: csrf.is_some() && who.is_some_and(|who| who.level >= Level::Deployer),
        may_read: who.is_some_and(|who| who.level >= Level::Deployer),
        csrf,
        notices: match who {
            Some(_) => {
                let all = server.parts.troubles.all();
                all.iter().map(|notice| server.parts.mask.mask(&notice.text)).collect()
            }
            None => Vec::new(),
        },
    }
}

/// A page instead of JSON where something was not carried out.
fn page_of(refused: &Refused, server: &Pipelines, who: &Who) -> Response {
    let (status, _) = refused.kind();
    let (message, next) = refused.words();
    let mask = &server.parts.mask;
    pages::refused(&frame(server, Some(who)), status, &mask.mask(&message), Some(&mask.mask(&next)))
}

/// `GET /`.
pub async fn home(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
) -> Result<Html<String>, Refused> {
    let journal = &server.parts.journal;
    let runs = journal.runs(&Which::Newest(RUNS))?;
    let seen = server.seen.borrow().masked(&server.parts.mask);
    let now = Utc::now();
    let all = server.offered();
    let mut pipelines = Vec::new();
    for offered in all.iter() {
        let last = newest(&server, &offered.name)?;
        let open = journal.runs(&Which::Open(offered.name.clone()))?;
        pipelines.push(PipelineRuns { offered, last, open });
    }
    let view = HomeView::new(&pipelines, &seen, &server.stacks.seen(), now);
    Ok(Html(home_page(&frame(&server, Some(&who)), &shown(&server, &view), &runs, &seen, now)))
}

pub(super) fn home_page(
    frame: &Frame,
    view: &serde_json::Value,
    runs: &[Run],
    seen: &Seen,
    now: DateTime<Utc>,
) -> String {
    let mut more = Context::new();
    more.insert("view", view);
    more.insert("runs", &rows(runs, now));
    more.insert("cluster", &ClusterView::new(seen, now));
    pages::render("home.html", frame, &frame.environment, "home", more)
}

fn rows(runs: &[Run], now: DateTime<Utc>) -> Vec<RunView> {
    runs.iter().map(|run| RunView::new(run, now)).collect()
}

/// What the history is filtered by, as a form sends it: what is not chosen is empty.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    commit: String,
    #[serde(default)]
    before: Option<i64>,
}

impl Chosen {
    /// The same page, from `before` on.
    fn link(&self, before: Option<i64>) -> String {
        let mut parts = Vec::new();
        if !self.pipeline.is_empty() {
            parts.push(format!("pipeline={}", self.pipeline));
        }
        if !self.state.is_empty() {
            parts.push(format!("state={}", self.state));
        }
        if !self.commit.is_empty() {
            parts.push(format!("commit={}", self.commit));
        }
        parts.extend(before.map(|before| format!("before={before}")));
        if parts.is_empty() { "/runs".to_owned() } else { format!("/runs?{}", parts.join("&")) }
    }
}

/// `GET /runs`.
pub async fn history(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictQuery(chosen): StrictQuery<Chosen>,
) -> Result<Response, Refused> {
    let around = frame(&server, Some(&who));
    let bad =
        |message: &str| Ok(pages::refused(&around, StatusCode::BAD_REQUEST, message, Some("choose again")));
    let pipeline = match chosen.pipeline.as_str() {
        "" => None,
        name => match name.parse() {
            Ok(name) => Some(name),
            Err(error) => return bad(&format!("{error}")),
        },
    };
    let state = match chosen.state.as_str() {
        "" => None,
        word => match RunState::from_word(word) {
            Some(state) => Some(state),
            None => return bad(&format!("`{word}` is not a state of a run")),
        },
    };
    let commit = Some(chosen.commit.trim().to_ascii_lowercase()).filter(|commit| !commit.is_empty());
    if let Some(text) = commit.as_deref().filter(|text| !begins_a_commit(text)) {
        return bad(&format!("`{text}` is not how a commit's id begins: 4 to 40 of 0-9 and a-f"));
    }
    let listed = Listed { pipeline, state, commit: commit.clone(), limit: None, before: chosen.before };
    let (runs, next) = listed.read(&server)?;
    let seen = server.seen.borrow().masked(&server.parts.mask);
    let deployed = commit.map(|commit| deployed(&seen, &commit)).unwrap_or_default();
    let names: Vec<String> = server.offered().iter().map(|offered| offered.name.to_string()).collect();
    let html = list_page(&around, &names, (&runs, &deployed), &chosen, next, Utc::now());
    Ok(Html(html).into_response())
}

/// The services that run a commit whose id begins so, with the revisions' numbers.
fn deployed(seen: &Seen, commit: &str) -> Vec<(String, u64)> {
    let services = seen.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
    let running = services.filter_map(|service| {
        let is_running = |revision: &&Revision| revision.state == RevisionState::Running;
        Some((service.name.to_string(), service.history.iter().find(is_running)?))
    });
    let of_commit = running.filter(|(_, revision)| revision.origin.commit.starts_with(commit));
    of_commit.map(|(name, revision)| (name, revision.number)).collect()
}

pub(super) fn list_page(
    frame: &Frame,
    names: &[String],
    (runs, deployed): (&[Run], &[(String, u64)]),
    chosen: &Chosen,
    next: Option<RunId>,
    now: DateTime<Utc>,
) -> String {
    let mut more = Context::new();
    let states: Vec<&str> = RunState::ALL.iter().map(|state| state.word()).collect();
    more.insert("names", names);
    more.insert("states", &states);
    more.insert("pipeline", &chosen.pipeline);
    more.insert("state", &chosen.state);
    more.insert("commit", &chosen.commit);
    more.insert("deployed", deployed);
    more.insert("before", &chosen.before);
    more.insert("newest", &chosen.link(None));
    more.insert("older", &next.map(|next| chosen.link(Some(next.0))));
    more.insert("runs", &rows(runs, now));
    pages::render("runs.html", frame, "Runs", "runs", more)
}

/// `GET /runs/{id}`.
pub async fn run(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(id): StrictPath<i64>,
    StrictQuery(chosen): StrictQuery<ChosenLines>,
) -> Result<Response, Refused> {
    let Some(run) = server.parts.journal.run(RunId(id))? else {
        return Ok(page_of(&RequestError::NoRun(RunId(id)).into(), &server, &who));
    };
    let (run, logs) = reading(&server.parts, move |parts| {
        let logs = log_pages::read(parts, &run, &chosen)?;
        Ok((run, logs))
    })
    .await?;
    Ok(Html(run_page_of(&frame(&server, Some(&who)), &run, &logs, Utc::now())).into_response())
}

pub(super) fn run_page_of(frame: &Frame, run: &Run, logs: &[StepLogView], now: DateTime<Utc>) -> String {
    let mut more = Context::new();
    let steps = steps(run, now);
    more.insert("columns", &columns(run, &steps));
    more.insert("steps", &steps);
    more.insert("logs", &logs);
    more.insert("questions", &questions(run));
    more.insert("run", &RunView::new(run, now));
    pages::render("run.html", frame, &format!("{} #{}", run.pipeline, run.id), "runs", more)
}

pub(super) fn see(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path.to_owned())]).into_response()
}

/// `POST /pipelines/{name}/runs`.
pub async fn start(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    Extension(fields): Extension<Fields>,
    StrictPath(name): StrictPath<String>,
) -> Response {
    let all = server.offered();
    let given = all.iter().filter(|offered| offered.name.as_str() == name);
    let given = given.flat_map(|offered| &offered.parameters).filter_map(|parameter| {
        let value = fields.filled(&format!("parameter-{}", parameter.name))?;
        Some((parameter.name.clone(), value.to_owned()))
    });
    let wanted = Wanted { commit: fields.filled("commit").map(str::to_owned), parameters: given.collect() };
    match request::start(&server.parts, &server.offered(), &name, wanted, &who.caller).await {
        Ok(id) => see(&format!("/runs/{id}")),
        Err(error) => page_of(&error.into(), &server, &who),
    }
}

/// `POST /runs/{id}/cancel`.
pub async fn cancel(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    Extension(fields): Extension<Fields>,
    StrictPath(id): StrictPath<i64>,
) -> Response {
    match request::cancel(&server.parts, RunId(id), fields.filled("reason"), &who.caller).await {
        Ok(_) => see(&format!("/runs/{id}")),
        Err(error) => page_of(&error.into(), &server, &who),
    }
}

/// `POST /runs/{id}/answer`.
pub async fn answer(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    Extension(fields): Extension<Fields>,
    StrictPath(id): StrictPath<i64>,
) -> Response {
    let reply = Reply {
        step: fields.filled("step").map(str::to_owned),
        approved: fields.filled("answer") == Some("approve"),
        shown: fields.filled("shown").map(str::to_owned),
    };
    match request::answer(&server.parts, RunId(id), &reply, (&who.caller, who.level)) {
        Ok(_) => see(&format!("/runs/{id}")),
        Err(error) => page_of(&error.into(), &server, &who),
    }
}

/// `POST /runs/{id}/retry`.
pub async fn retry(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    Extension(fields): Extension<Fields>,
    StrictPath(id): StrictPath<i64>,
) -> Response {
    match api::retried(&server, RunId(id), fields.filled("from"), &who).await {
        Ok(id) => see(&format!("/runs/{id}")),
        Err(error) => page_of(&error.into(), &server, &who),
    }
}

/// Where a log-in leads.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /login`.
pub async fn login_form(
    State(server): State<Pipelines>,
    who: Option<Extension<Who>>,
    StrictQuery(query): StrictQuery<Next>,
) -> Response {
    let next = local_path(&query.next);
    match who {
        Some(Extension(who)) if who.csrf.is_some() => see(next),
        _ => Html(login_page(&frame(&server, None), next, None)).into_response(),
    }
}

pub(super) fn login_page(frame: &Frame, next: &str, problem: Option<&str>) -> String {
    let mut more = Context::new();
    more.insert("next", next);
    more.insert("problem", &problem);
    pages::render("login.html", frame, "Log in", "", more)
}

/// `POST /login`.
pub async fn log_in(
    State(server): State<Pipelines>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let next = local_path(fields.get("next").unwrap_or("/"));
    let from = peer.map(|Extension(ConnectInfo(peer))| peer.ip().to_canonical());
    match server.callers.log_in(fields.get("token").unwrap_or(""), from, Utc::now()) {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], see(next)).into_response(),
        Err(error) => {
            let status = match &error {
                NoSession::Wrong => StatusCode::UNAUTHORIZED,
                NoSession::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
                NoSession::NoRandomness(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            tracing::warn!(?from, %error, "a log-in failed");
            let html = login_page(&frame(&server, None), next, Some(&error.to_string()));
            let wait = match &error {
                NoSession::TooMany(many) => Some([(header::RETRY_AFTER, many.wait.to_string())]),
                _ => None,
            };
            (status, wait, Html(html)).into_response()
        }
    }
}

/// `POST /logout`.
pub async fn log_out(State(server): State<Pipelines>, headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, server.callers.log_out(&headers))], see("/login")).into_response()
}
