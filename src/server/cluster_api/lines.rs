//! Streams of JSON lines.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};

use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{Line, WireError};

/// Time between two signs of life on a stream.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// A stream of JSON lines, with an empty one now and then so that both ends notice when
/// the other is gone.
pub(super) fn lines(items: BoxStream<'static, Result<Line, ClusterError>>) -> Response {
    let bytes = alive(items).map(|line| {
        let mut text = line.map_or_else(String::new, |line| serde_json::to_string(&line).unwrap_or_default());
        text.push('\n');
        Ok::<_, std::convert::Infallible>(Bytes::from(text))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(bytes)).into_response()
}

fn alive(items: BoxStream<'static, Result<Line, ClusterError>>) -> impl Stream<Item = Option<Line>> + Send {
    stream::unfold(Some(items), |state| async move {
        let mut items = state?;
        match tokio::time::timeout(SIGN_OF_LIFE, items.next()).await {
            Err(_) => Some((None, Some(items))),
            Ok(None) => None,
            Ok(Some(Ok(line))) => Some((Some(line), Some(items))),
            Ok(Some(Err(error))) => Some((Some(Line::Error(WireError::from(&error))), None)),
        }
    })
}
