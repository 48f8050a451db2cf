//! What callers of the pipeline server's API may ask of single steps: answers to questions, and files.

use std::io::Read as _;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::callers::Who;
use super::pipeline::{Pipelines, refused};
use super::pipeline_api::{Refused, document, found, step_called};
use super::strict::{Strict, StrictPath, StrictQuery};
use crate::driver::pipeline::request::{self, Reply};
use crate::model::run::RunId;
use crate::port::pipeline_wire::{AnswerRequest, AnsweredAnswer, VERSION};

/// How much of a file is read at a time, in bytes.
const PIECE: usize = 64 << 10;

/// `POST /v1/runs/{id}/answer`.
pub async fn answer(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(id): StrictPath<i64>,
    Strict(body): Strict<AnswerRequest>,
) -> Result<Response, Refused> {
    let AnswerRequest { step, approved, shown } = body;
    let run = RunId(id);
    let step =
        request::answer(&server.parts, run, &Reply { step, approved, shown }, (&who.caller, who.level))?;
    Ok(document(&server, StatusCode::OK, &AnsweredAnswer { version: VERSION, run, step, approved }))
}

/// Which file is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileQuery {
    /// The step.
    step: String,
    /// The file's path in the workspace.
    path: String,
}

/// `GET /v1/runs/{id}/file`: a file that a step has kept.
pub async fn file(
    State(server): State<Pipelines>,
    StrictPath(id): StrictPath<i64>,
    StrictQuery(FileQuery { step: name, path }): StrictQuery<FileQuery>,
) -> Result<Response, Refused> {
    let run = found(&server, RunId(id))?;
    let not_found =
        |message: &str, next: &str| refused(StatusCode::NOT_FOUND, "not-found", message, Some(next));
    let step = match step_called(&run, &name) {
        Ok(step) => step,
        Err(next) => return Ok(not_found(&format!("run {id} has no step `{name}`"), &next)),
    };
    let index = run.steps.iter().position(|other| std::ptr::eq(other, step)).unwrap_or(usize::MAX);
    let missing = || {
        let next = format!("`fleetwright pipeline files {id}` lists what there is");
        not_found(&format!("`{}` of run {id} has kept no `{path}`", step.name), &next)
    };
    let Some(kept) = step.files.iter().find(|file| file.path == path) else { return Ok(missing()) };
    let size = kept.size;
    let artifacts = std::sync::Arc::clone(&server.parts.artifacts);
    let (run_id, wanted) = (run.id, path.clone());
    let opened = tokio::task::spawn_blocking(move || artifacts.open(run_id, index, &wanted)).await;
    let mut file = match opened {
        Ok(Ok(Some(file))) => file,
        Ok(Ok(None)) => return Ok(missing()),
        Ok(Err(error)) => {
            tracing::error!(%error, "a kept file can't be read");
            let message = "the file can't be read";
            return Ok(refused(StatusCode::INTERNAL_SERVER_ERROR, "file", message, None));
        }
        Err(error) => {
            tracing::error!(%error, "reading a kept file");
            return Ok(refused(StatusCode::INTERNAL_SERVER_ERROR, "file", "the file can't be read", None));
        }
    };
    let (sender, pieces) = mpsc::channel::<std::io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).map(|read| Bytes::copy_from_slice(&piece[..read]));
            let end = read.as_ref().map_or(true, Bytes::is_empty);
            if !read.as_ref().is_ok_and(Bytes::is_empty) && sender.blocking_send(read).is_err() || end {
                return;
            }
        }
    });
    let mut response = Body::from_stream(ReceiverStream::new(pieces)).into_response();
    let headers = response.headers_mut();
    // What a command has made is nobody's page: browsers save it.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}
