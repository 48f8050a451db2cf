//! Shells in steps that have failed: a request that becomes a stream of frames.

use axum::Extension;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::callers::Who;
use super::pipeline::{Pipelines, refused};
use super::pipeline_api::Refused;
use super::strict::{Strict, StrictPath};
use super::upgrade::{Promised, switching};
use crate::driver::pipeline::shell::open;
use crate::model::run::RunId;
use crate::port::pipeline_wire::ShellRequest;
use crate::port::step_containers::Program;
use crate::port::streams::INSTANCE_HEADER;

/// `POST /v1/runs/{id}/shell`.
pub async fn shell(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(id): StrictPath<i64>,
    mut request: Request,
) -> Response {
    let promised = match Promised::of(&mut request) {
        Ok(promised) => promised,
        Err(error) => {
            let next = "`fleetwright pipeline shell` does";
            return refused(StatusCode::UPGRADE_REQUIRED, "invalid", &error.message, Some(next));
        }
    };
    let ShellRequest { step, command, input, terminal } = match Strict::from_request(request, &()).await {
        Ok(Strict(request)) => request,
        Err(response) => return response,
    };
    let program = Program { command, input, terminal };
    let opened = match open(&server.parts, RunId(id), &step, program, &who.caller).await {
        Ok(opened) => opened,
        Err(error) => return Refused::from(error).into_response(),
    };
    let step = opened.step.clone();
    promised.then(move |caller| async move {
        if let Err(error) = opened.serve(Box::new(caller)).await {
            tracing::debug!(run = id, %error, "a shell broke off");
        }
    });
    switching(&[(INSTANCE_HEADER, &step)])
}
