//! What the steps of runs have printed: pages of lines, searches, and all of it as it was printed.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;

use super::callers::Who;
use super::page_routes::frame;
use super::pages;
use super::pipeline::{Pipelines, refusal, refused};
use super::pipeline_api::{Refused, document, found, step_called};
use super::strict::{StrictPath, StrictQuery};
use crate::driver::pipeline::logs;
use crate::driver::pipeline::run::Parts;
use crate::model::run::{Run, RunId};
use crate::model::step_log::{Found, LogLine, Search, StepLog};
use crate::port::journal::JournalError;
use crate::port::pipeline_wire::{LinesAnswer, VERSION};

/// How many lines a page has, unless its `count` says otherwise.
const LINES: usize = 1000;
/// How many it may have.
const LINES_MOST: usize = 5000;
/// How many lines a search finds, unless its `limit` says otherwise.
const FOUND: usize = 100;
/// How many it may find.
const FOUND_MOST: usize = 1000;
/// The longest text that is searched for, in bytes.
pub const TEXT_MOST: usize = 1024;

/// Does what reads files where it holds up nothing else.
pub(super) async fn reading<T: Send + 'static>(
    parts: &Parts,
    read: impl FnOnce(&Parts) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    let parts = parts.clone();
    tokio::task::spawn_blocking(move || read(&parts))
        .await
        .unwrap_or_else(|error| Err(JournalError::Access { doing: "reading", reason: error.to_string() }))
}

/// The log of the step of that name.
fn log_of(run: &Run, name: &str) -> Result<(StepLog, String), Box<Response>> {
    let refused = |next: &str| {
        let message = format!("run {} has no step `{name}`", run.id);
        Box::new(refused(StatusCode::NOT_FOUND, "not-found", &message, Some(next)))
    };
    let step = step_called(run, name).map_err(|next| refused(&next))?;
    let position = run.steps.iter().position(|other| std::ptr::eq(other, step));
    let step_log = StepLog { run: run.id, step: position.unwrap_or(usize::MAX) };
    Ok((step_log, step.name.clone()))
}

fn invalid(message: &str) -> Response {
    refusal(StatusCode::BAD_REQUEST, "invalid", message)
}

/// Which lines are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinesQuery {
    /// The step.
    step: String,
    /// The first line, from 1.
    from: Option<u64>,
    /// At most so many.
    count: Option<usize>,
}

/// `GET /v1/runs/{id}/log/lines`.
pub async fn lines(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
    StrictQuery(query): StrictQuery<LinesQuery>,
) -> Result<Response, Refused> {
    let count = query.count.unwrap_or(LINES);
    if !(1..=LINES_MOST).contains(&count) {
        return Ok(invalid(&format!("`count` must be from 1 to {LINES_MOST}")));
    }
    let from = query.from.unwrap_or(1);
    if from == 0 {
        return Ok(invalid("`from` must be the number of a line, from 1"));
    }
    let run = found(&server, RunId(id))?;
    let (log, step) = match log_of(&run, &query.step) {
        Ok(log) => log,
        Err(refused) => return Ok(*refused),
    };
    let (total, lines) = reading(&server.parts, move |parts| {
        Ok((logs::printed(parts, log)?.lines, logs::page(parts, log, from, count)?))
    })
    .await?;
    let next = lines.last().map(|last: &LogLine| last.number + 1).filter(|next| *next <= total);
    let lines = lines.iter().map(Into::into).collect();
    let answer = LinesAnswer { version: VERSION, run: run.id, step, total, lines, next };
    Ok(document(&server, StatusCode::OK, &answer))
}

/// What is searched for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchQuery {
    /// The step.
    step: String,
    /// The text.
    text: String,
    /// Whether in any case; not, unless given.
    any_case: Option<bool>,
    /// The first line that is searched, from 1.
    from: Option<u64>,
    /// At most so many lines are found.
    limit: Option<usize>,
}

/// `GET /v1/runs/{id}/log/search`.
pub async fn search(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
    StrictQuery(query): StrictQuery<SearchQuery>,
) -> Result<Response, Refused> {
    let limit = query.limit.unwrap_or(FOUND);
    if !(1..=FOUND_MOST).contains(&limit) {
        return Ok(invalid(&format!("`limit` must be from 1 to {FOUND_MOST}")));
    }
    if !(1..=TEXT_MOST).contains(&query.text.len()) {
        return Ok(invalid(&format!("`text` must have from 1 to {TEXT_MOST} bytes")));
    }
    let from = query.from.unwrap_or(1);
    if from == 0 {
        return Ok(invalid("`from` must be the number of a line, from 1"));
    }
    let run = found(&server, RunId(id))?;
    let (log, step) = match log_of(&run, &query.step) {
        Ok(log) => log,
        Err(refused) => return Ok(*refused),
    };
    let search = Search { text: query.text, any_case: query.any_case == Some(true), from, limit };
    let (total, Found { lines, next }) = reading(&server.parts, move |parts| {
        Ok((logs::printed(parts, log)?.lines, logs::search(parts, log, &search)?))
    })
    .await?;
    let lines = lines.iter().map(Into::into).collect();
    let answer = LinesAnswer { version: VERSION, run: run.id, step, total, lines, next };
    Ok(document(&server, StatusCode::OK, &answer))
}

/// Which log is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawQuery {
    /// The step.
    step: String,
}

/// `GET /v1/runs/{id}/log/raw`.
pub async fn raw(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
    StrictQuery(query): StrictQuery<RawQuery>,
) -> Result<Response, Refused> {
    let run = found(&server, RunId(id))?;
    Ok(match log_of(&run, &query.step) {
        Ok((log, _)) => copied(&server, log),
        Err(refused) => *refused,
    })
}

/// `GET /runs/{id}/steps/{step}/log`: as [`raw`], for the page; `step` is its number, from 1.
pub async fn raw_of_page(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath((id, number)): StrictPath<(i64, usize)>,
) -> Result<Response, Refused> {
    let run = server.parts.journal.run(RunId(id))?;
    let step = number.checked_sub(1).filter(|step| run.as_ref().is_some_and(|run| *step < run.steps.len()));
    let Some(step) = step else {
        let message = format!("there is no step {number} of a run {id}");
        return Ok(pages::refused(&frame(&server, Some(&who)), StatusCode::NOT_FOUND, &message, None));
    };
    Ok(copied(&server, StepLog { run: RunId(id), step }))
}

/// A log as it was printed. A piece is read when the one before it was sent.
fn copied(server: &Pipelines, log: StepLog) -> Response {
    let parts = server.parts.clone();
    let pieces = futures_util::stream::unfold(Some(1), move |from| {
        let parts = parts.clone();
        async move {
            match reading(&parts, move |parts| from.map(|from| logs::copy(parts, log, from)).transpose())
                .await
            {
                Ok(read) => read.flatten().map(|(piece, next)| (Ok(Bytes::from(piece)), Some(next))),
                Err(error) => {
                    tracing::error!(%error, "the log of a step can't be read");
                    Some((Err(std::io::Error::other(error)), None))
                }
            }
        }
    });
    let name = format!("attachment; filename=\"run-{}-step-{}.log\"", log.run, log.step + 1);
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    (headers, Body::from_stream(pieces)).into_response()
}
