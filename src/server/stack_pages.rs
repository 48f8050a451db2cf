//! The routes of the page of stacks: how they are, and whether they drifted. It only reads.

use axum::Extension;
use axum::extract::State;
use axum::response::{Html, Response};
use chrono::Utc;
use tera::Context;

use super::callers::Who;
use super::page_routes::{frame, see};
use super::pages::stacks::StacksView;
use super::pages::{self, Frame};
use super::pipeline::Pipelines;
use super::service_pages::shown;

/// `GET /stacks`.
pub async fn stacks(State(server): State<Pipelines>, Extension(who): Extension<Who>) -> Html<String> {
    let board = server.stacks.viewed().await;
    let seen = server.seen.borrow().masked(&server.parts.mask);
    let around = frame(&server, Some(&who));
    let view = StacksView::new(&board, &seen, around.may_read, Utc::now());
    Html(render(&around, &shown(&server, &view)))
}

pub(super) fn render(frame: &Frame, view: &serde_json::Value) -> String {
    let mut more = Context::new();
    more.insert("view", view);
    pages::render("stacks.html", frame, "Stacks", "stacks", more)
}

/// `POST /stacks/drift`: asks for a check; while one is under way, for nothing.
pub async fn check(State(server): State<Pipelines>, Extension(who): Extension<Who>) -> Response {
    server.stacks.check(&who.caller.words());
    see("/stacks")
}
