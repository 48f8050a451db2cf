//! Streams of JSON lines.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::WireError;
use crate::port::streams::{LogItems, LogLine};

/// Time between two signs of life on a stream.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// A stream of JSON lines, with an empty one now and then so that both ends notice when
/// the other is gone.
pub(super) fn lines<T: Serialize + From<WireError> + Send + 'static>(
    items: BoxStream<'static, Result<T, ClusterError>>,
) -> Response {
    // An error is the end.
    let lines = stream::unfold(Some(items), |items| async move {
        let mut items = items?;
        Some(match items.next().await? {
            Ok(line) => (line, Some(items)),
            Err(error) => (T::from(WireError::from(&error)), None),
        })
    });
    written(lines.boxed())
}

/// The same for lines of logs with their time.
pub(in super::super) fn items(items: LogItems) -> Response {
    written(items.map(LogLine::from).boxed())
}

/// The answer that consists of these lines.
fn written<T: Serialize + Send + 'static>(lines: BoxStream<'static, T>) -> Response {
    let bytes = alive(lines).map(|line| {
        let mut text = line.map_or_else(String::new, |line| serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
        Ok::<_, std::convert::Infallible>(Bytes::from(text))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(bytes)).into_response()
}

fn alive<T: Send + 'static>(lines: BoxStream<'static, T>) -> impl Stream<Item = Option<T>> + Send {
    stream::unfold(lines, |mut lines| async move {
        match tokio::time::timeout(SIGN_OF_LIFE, lines.next()).await {
            Err(_) => Some((None, lines)),
            Ok(line) => line.map(|line| (Some(line), lines)),
        }
    })
}
