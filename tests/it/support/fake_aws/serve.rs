//! Requests over HTTP: told apart by service, counted, held up where the test wants that.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;

use super::wire::{self, Form};
use super::{Shared, bucket};

/// Answers one request, of whichever service.
pub async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = to_bytes(body, 10 << 20).await.expect("a request of some bytes");
    let parameters = super::ssm::action(&head.headers);
    let form = (path == "/").then(|| Form::read(&String::from_utf8_lossy(&body)));
    let action = match &form {
        _ if parameters.is_some() => parameters.clone().unwrap_or_default(),
        Some(form) => form.get("Action").unwrap_or("no action").to_owned(),
        None => bucket::action(&head.method, &path, head.uri.query().unwrap_or_default()),
    };
    gated(&shared, &action, true).await;
    let response = {
        let mut world = shared.world.lock().expect("the server does not panic");
        world.advance();
        *world.calls.entry(action.clone()).or_default() += 1;
        match form {
            _ if parameters.is_some() => {
                let (status, document) = world.parameters.ask(&action, &body);
                let response = Response::builder().status(status);
                let response = response.header("content-type", "application/x-amz-json-1.1");
                response.body(Body::from(document)).expect("a response")
            }
            Some(form) => match world.answer_or_refuse(&action, &form) {
                Ok(result) => {
                    let answer = wire::answer(&action, &result);
                    document(200, world.spoiled(&action, answer))
                }
                Err(refusal) => document(refusal.status, refusal.document()),
            },
            None => {
                let answer = world.buckets.ask(&action, &path, &head.headers, &body);
                let mut response = Response::builder().status(answer.status);
                if let Some(tag) = answer.tag {
                    response = response.header("etag", tag);
                }
                response.body(Body::from(answer.body)).expect("a response")
            }
        }
    };
    shared.news.notify_all();
    gated(&shared, &action, false).await;
    response
}

fn document(status: u16, xml: String) -> Response {
    let response = Response::builder().status(status).header("content-type", "text/xml");
    response.body(Body::from(xml)).expect("a response")
}

/// Waits at the test's gate, if one stands there.
async fn gated(shared: &Shared, action: &str, before: bool) {
    let gate = {
        let world = shared.world.lock().expect("the server does not panic");
        world.gates.iter().find(|gate| gate.action == action && gate.before == before).cloned()
    };
    if let Some(gate) = gate {
        *gate.reached.lock().expect("a flag") = true;
        shared.news.notify_all();
        // Nothing ever opens it: who waits here is given up.
        std::future::pending::<()>().await;
    }
}
