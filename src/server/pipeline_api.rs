//! The pipeline server's API under /v1: what pipelines and runs there are, and what callers may ask for. What it means
//! is decided in `driver/pipeline/request`; here are only its HTTP forms.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::callers::Who;
use super::pipeline::{Pipelines, refusal, refused};
use super::strict::{StrictOrDefault, StrictPath, StrictQuery};
use crate::driver::pipeline::logs::{self, Selected};
use crate::driver::pipeline::request::{self, RequestError, Wanted};
use crate::model::name::PipelineName;
use crate::model::run::{Run, RunId, RunState, RunStep};
use crate::port::git::GitError;
use crate::port::journal::{JournalError, Which};
use crate::port::pipeline_wire::{
    CancelRequest, CancelledAnswer, PipelineAnswer, PipelinesAnswer, QueuedAnswer, RetryRequest, RunAnswer,
    RunRequest, RunsAnswer, VERSION,
};

/// How many runs a list has, unless its `limit` says otherwise.
pub const RUNS: u32 = 50;
/// How many it may have.
const RUNS_MAX: u32 = 1000;
/// The largest body of a request, in bytes.
pub const BODY_MAX: usize = 64 << 10;
/// How many entries of a log are sent at a time.
const BATCH: u32 = 500;
/// How often the journal is read for what other processes have written.
const LOOK: Duration = Duration::from_millis(300);
/// How often a stream without news shows that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

/// A request that was not carried out.
#[derive(Debug)]
pub struct Refused(RequestError);

impl<E: Into<RequestError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Refused {
    /// The HTTP status and the code.
    pub fn kind(&self) -> (StatusCode, &'static str) {
        match &self.0 {
            RequestError::NoPipeline { .. } | RequestError::NoRun(_) | RequestError::NoStep { .. } => {
                (StatusCode::NOT_FOUND, "not-found")
            }
            RequestError::NotFrom(_) => (StatusCode::CONFLICT, "changed"),
            RequestError::NoWorkspace { .. } => (StatusCode::CONFLICT, "no-workspace"),
            RequestError::NoShell { .. } => (StatusCode::CONFLICT, "no-shell"),
            RequestError::Config(_) => (StatusCode::CONFLICT, "config"),
            RequestError::Engine(_) => (StatusCode::BAD_GATEWAY, "engine"),
            RequestError::Unfit { .. } | RequestError::Parameters(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid")
            }
            RequestError::WhichStep { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "ambiguous"),
            RequestError::NothingAsked(_) => (StatusCode::CONFLICT, "nothing-asked"),
            RequestError::Moved { .. } => (StatusCode::CONFLICT, "moved"),
            RequestError::Answered { .. } => (StatusCode::CONFLICT, "answered"),
            RequestError::Level { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            RequestError::NotEnded { .. } => (StatusCode::CONFLICT, "not-ended"),
            RequestError::Ended { .. } => (StatusCode::CONFLICT, "ended"),
            RequestError::Git(GitError::NotFound { .. } | GitError::NoBranch { .. }) => {
                (StatusCode::NOT_FOUND, "no-commit")
            }
            RequestError::Git(GitError::Remote { .. }) => (StatusCode::BAD_GATEWAY, "git"),
            RequestError::Git(_) => (StatusCode::INTERNAL_SERVER_ERROR, "git"),
            RequestError::Secrets(_) => (StatusCode::BAD_GATEWAY, "secrets"),
            RequestError::Journal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "journal"),
        }
    }

    /// What happened, and what to do.
    pub fn words(&self) -> (String, String) {
        (self.0.to_string(), self.0.next())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.kind();
        if status.is_server_error() {
            tracing::error!(error = %self.0, "a request was not carried out");
        }
        let (message, next) = self.words();
        refused(status, code, &message, Some(&next))
    }
}

pub(super) fn document(server: &Pipelines, status: StatusCode, answer: &impl Serialize) -> Response {
    let answer = serde_json::to_value(answer).unwrap_or_default();
    (status, Json(server.parts.mask.json(answer))).into_response()
}

/// `GET /v1/pipelines`.
pub async fn pipelines(State(server): State<Pipelines>) -> Result<Response, Refused> {
    let mut answer = PipelinesAnswer { version: VERSION, pipelines: Vec::new() };
    for offered in server.offered().iter() {
        answer.pipelines.push(PipelineAnswer {
            name: offered.name.clone(),
            repository: offered.source.name.clone(),
            branch: offered.source.branch.clone(),
            steps: offered.steps.clone(),
            last: newest(&server, &offered.name)?,
        });
    }
    Ok(document(&server, StatusCode::OK, &answer))
}

/// The newest run of a pipeline.
pub fn newest(server: &Pipelines, pipeline: &PipelineName) -> Result<Option<Run>, JournalError> {
    let which = Which::Fitting {
        pipeline: Some(pipeline.clone()),
        state: None,
        commit: None,
        before: None,
        limit: 1,
    };
    Ok(server.parts.journal.runs(&which)?.pop())
}

/// Whether a commit's id can begin so.
pub fn begins_a_commit(text: &str) -> bool {
    (4..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Which runs are listed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Those of a pipeline.
    pub pipeline: Option<PipelineName>,
    /// Those in a state.
    pub state: Option<RunState>,
    /// Those of a commit whose id begins so.
    pub commit: Option<String>,
    /// How many.
    pub limit: Option<u32>,
    /// Those with a lower number.
    pub before: Option<i64>,
}

impl Listed {
    /// The runs, newest first, and what `before` is for those that follow.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn read(&self, server: &Pipelines) -> Result<(Vec<Run>, Option<RunId>), JournalError> {
        let limit = self.limit.unwrap_or(RUNS);
        let which = Which::Fitting {
            pipeline: self.pipeline.clone(),
            state: self.state,
            commit: self.commit.clone(),
            before: self.before.map(RunId),
            // One more shows whether others follow.
            limit: limit + 1,
        };
        let mut runs = server.parts.journal.runs(&which)?;
        let more = runs.len() > limit as usize;
        runs.truncate(limit as usize);
        let next = runs.last().filter(|_| more).map(|run| run.id);
        Ok((runs, next))
    }
}

/// `GET /v1/runs`.
pub async fn runs(
    State(server): State<Pipelines>,
    StrictQuery(query): StrictQuery<Listed>,
) -> Result<Response, Refused> {
    if query.limit.is_some_and(|limit| !(1..=RUNS_MAX).contains(&limit)) {
        let message = format!("`limit` must be from 1 to {RUNS_MAX}");
        return Ok(refusal(StatusCode::BAD_REQUEST, "invalid", &message));
    }
    if query.commit.as_deref().is_some_and(|commit| !begins_a_commit(commit)) {
        let message = "`commit` must be 4 to 40 of 0-9 and a-f";
        return Ok(refusal(StatusCode::BAD_REQUEST, "invalid", message));
    }
    if query.before.is_some_and(|before| before < 1) {
        return Ok(refusal(
            StatusCode::BAD_REQUEST,
            "invalid",
            "`before` must be the number of a run, from 1",
        ));
    }
    let (runs, next) = query.read(&server)?;
    Ok(document(&server, StatusCode::OK, &RunsAnswer { version: VERSION, runs, next }))
}

/// `GET /v1/runs/{id}`.
pub async fn run(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
) -> Result<Response, Refused> {
    let run = found(&server, RunId(id))?;
    Ok(document(&server, StatusCode::OK, &RunAnswer { version: VERSION, run }))
}

pub(super) fn found(server: &Pipelines, id: RunId) -> Result<Run, RequestError> {
    server.parts.journal.run(id)?.ok_or(RequestError::NoRun(id))
}

/// `POST /v1/pipelines/{name}/runs`.
pub async fn start(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(name): StrictPath<String>,
    StrictOrDefault(body): StrictOrDefault<RunRequest>,
) -> Result<Response, Refused> {
    let wanted = Wanted { commit: body.commit, parameters: body.parameters };
    let run = request::start(&server.parts, &server.offered(), &name, wanted, &who.caller).await?;
    Ok(document(&server, StatusCode::CREATED, &QueuedAnswer { version: VERSION, run }))
}

/// `POST /v1/runs/{id}/retry`.
pub async fn retry(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(id): StrictPath<i64>,
    StrictOrDefault(body): StrictOrDefault<RetryRequest>,
) -> Result<Response, Refused> {
    let run = retried(&server, RunId(id), body.from.as_deref(), &who).await?;
    Ok(document(&server, StatusCode::CREATED, &QueuedAnswer { version: VERSION, run }))
}

/// Tries a run again: all of it, or from a step on.
pub(super) async fn retried(
    server: &Pipelines,
    id: RunId,
    from: Option<&str>,
    who: &Who,
) -> Result<RunId, RequestError> {
    match from {
        None => request::retry(&server.parts, &server.offered(), id, &who.caller).await,
        Some(from) => {
            let configure = &*server.configure;
            request::retry_from(&server.parts, &server.offered(), configure, (id, from), &who.caller).await
        }
    }
}

/// `POST /v1/runs/{id}/cancel`.
pub async fn cancel(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(id): StrictPath<i64>,
    StrictOrDefault(body): StrictOrDefault<CancelRequest>,
) -> Result<Response, Refused> {
    let run = RunId(id);
    let rollout_continues = request::cancel(&server.parts, run, body.reason.as_deref(), &who.caller).await?;
    let answer = CancelledAnswer { version: VERSION, run, state: RunState::Cancelled, rollout_continues };
    Ok(document(&server, StatusCode::OK, &answer))
}

/// `GET /v1/snapshot`.
pub async fn snapshot(State(server): State<Pipelines>) -> Response {
    let seen = server.seen.borrow().masked(&server.parts.mask);
    match (seen.snapshot, seen.lost) {
        (Some((snapshot, _)), _) => Json(&*snapshot).into_response(),
        (None, lost) => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "unreachable",
            &lost.unwrap_or_else(|| "the cluster has not answered yet".to_owned()),
        ),
    }
}

/// Which part of a log is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// After this message.
    after: Option<i64>,
    /// Of this step.
    step: Option<String>,
    /// Whether to wait for what comes until the run ends; so it is unless given.
    follow: Option<bool>,
    /// Whether lines that steps print are among the events; so they are unless given.
    lines: Option<bool>,
}

/// `GET /v1/runs/{id}/log`: the run's entries, from the beginning or after the last one that the reader has, and those
/// to come; `end` when the run has ended. Entries are read as fast as they are taken, so a slow reader delays no other.
pub async fn log(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
    StrictQuery(query): StrictQuery<LogQuery>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let run = found(&server, RunId(id))?;
    let step = match &query.step {
        None => None,
        Some(name) => match step_called(&run, name) {
            Ok(step) => Some(step.name.clone()),
            Err(next) => {
                let message = format!("run {id} has no step `{name}`");
                return Ok(refused(StatusCode::NOT_FOUND, "not-found", &message, Some(&next)));
            }
        },
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = last.or(query.after).unwrap_or(0);
    let keep_alive = KeepAlive::new().interval(ALIVE);
    let reading = Reading {
        changed: server.parts.changed.subscribe(),
        server,
        run: run.id,
        step,
        after,
        follow: query.follow != Some(false),
        lines: query.lines != Some(false),
        waiting: VecDeque::new(),
        ended: false,
    };
    Ok(Sse::new(reading.entries()).keep_alive(keep_alive).into_response())
}

/// The step of that name; `test` is `run test`, where no step is called `test`.
///
/// # Errors
/// What to do, when there is none.
pub fn step_called<'r>(run: &'r Run, name: &str) -> Result<&'r RunStep, String> {
    match request::step_called(run, name) {
        Ok((index, _)) => Ok(&run.steps[index]),
        Err(error) => Err(error.next()),
    }
}

struct Reading {
    server: Pipelines,
    run: RunId,
    step: Option<String>,
    after: i64,
    follow: bool,
    lines: bool,
    waiting: VecDeque<Sent>,
    changed: watch::Receiver<u64>,
    ended: bool,
}

/// The step of an entry.
#[derive(Deserialize)]
struct OfStep {
    #[serde(default)]
    step: Option<String>,
}

impl Reading {
    fn entries(self) -> impl Stream<Item = Result<Sent, Infallible>> {
        futures_util::stream::unfold(self, |mut reading| async move {
            loop {
                if let Some(sent) = reading.waiting.pop_front() {
                    return Some((Ok(sent), reading));
                }
                if reading.ended {
                    return None;
                }
                match reading.read() {
                    Ok(true) => {}
                    Ok(false) if !reading.follow => return None,
                    Ok(false) => {
                        tokio::select! {
                            _ = reading.changed.changed() => {}
                            () = tokio::time::sleep(LOOK) => {}
                        }
                    }
                    Err(error) => {
                        // The reader comes again, with the id of what it got last.
                        tracing::error!(%error, "the journal can't be read");
                        return None;
                    }
                }
            }
        })
    }

    /// Reads what is next; whether there was anything.
    fn read(&mut self) -> Result<bool, JournalError> {
        // Asked before the entries are read: an ended run gets no more of them.
        let journal = &self.server.parts.journal;
        let ended = journal.run(self.run)?.is_none_or(|run: Run| run.state.is_ended());
        let before = self.after;
        let entries = match self.lines {
            true => {
                let selected = Selected { after: before, limit: BATCH, step: self.step.as_deref() };
                let (entries, read_to) = logs::entries(&self.server.parts, self.run, selected)?;
                self.after = read_to;
                entries
            }
            false => {
                let entries = journal.events(self.run, before, BATCH)?;
                self.after = entries.last().map_or(before, |last| last.seq);
                entries
            }
        };
        if self.after == before && ended {
            self.waiting.push_back(Sent::default().event("end").data("{}"));
            self.ended = true;
            return Ok(true);
        }
        for entry in entries {
            if let Some(step) = &self.step {
                let of: Option<OfStep> = serde_json::from_str(&entry.event).ok();
                if of.and_then(|of| of.step).as_ref() != Some(step) {
                    continue;
                }
            }
            // An event is one JSON document on one line; what is inside it is escaped there.
            let data = format!("{{\"at\":\"{}\",\"event\":{}}}", entry.at.to_rfc3339(), entry.event);
            self.waiting.push_back(Sent::default().id(entry.seq.to_string()).data(data));
        }
        Ok(self.after != before)
    }
}
