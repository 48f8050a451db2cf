//! Requests that become streams of frames.

use std::future::Future;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::model::frame::PROTOCOL;
use crate::port::cluster_wire::WireError;

/// A connection that is about to become a stream.
pub(super) struct Promised(OnUpgrade);

impl Promised {
    /// Of a request that asks for it.
    ///
    /// # Errors
    /// When it asks for no stream, or for one of a version that is not known here.
    pub(super) fn of(request: &mut Request) -> Result<Self, WireError> {
        let asked = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
        if asked != Some(PROTOCOL) {
            let text = format!("this is a stream: send `Connection: Upgrade` and `Upgrade: {PROTOCOL}`");
            return Err(WireError::new("invalid", text));
        }
        Ok(Self(hyper::upgrade::on(request)))
    }

    /// Does `work` with the stream, as soon as the answer is sent.
    pub(super) fn then<F: Future<Output = ()> + Send + 'static>(
        self,
        work: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) {
        // It outlives its request, and ends with its connection.
        tokio::spawn(async move {
            match self.0.await {
                Ok(upgraded) => work(TokioIo::new(upgraded)).await,
                Err(error) => tracing::debug!(%error, "a stream did not begin"),
            }
        });
    }
}

/// The answer that begins a stream, with further headers; those that can't be sent are left out.
pub(super) fn switching(headers: &[(&'static str, &str)]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let sent = response.headers_mut();
    sent.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    sent.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            sent.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
