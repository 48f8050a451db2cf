//! What a request brings: its body and its query, with a refusal in our own words.
//!
//! A field that is not known is refused, not left out: a caller of a later version means
//! something by it. The types say so themselves (`deny_unknown_fields`); `tests/formats.rs`
//! checks that each of them does.

use axum::Json;
use axum::body::HttpBody as _;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::port::cluster_wire::{ErrorBody, WireError};

/// A JSON body.
#[derive(Debug, Clone, Copy)]
pub struct Strict<T>(pub T);

/// A JSON body, or none at all.
#[derive(Debug, Clone, Copy)]
pub struct StrictOrDefault<T>(pub T);

/// A part of the path.
#[derive(Debug, Clone, Copy)]
pub struct StrictPath<T>(pub T);

/// A query.
#[derive(Debug, Clone, Copy)]
pub struct StrictQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Strict<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => {
                let too_new = matches!(&rejection, JsonRejection::JsonDataError(_));
                Err(refusal(rejection.status(), &rejection.body_text(), too_new))
            }
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for StrictOrDefault<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Strict::from_request(request, state).await.map(|Strict(body)| Self(body))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for StrictPath<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(path)) => Ok(Self(path)),
            // What can't be a name or a number is the name of nothing.
            Err(_) => Err((
                StatusCode::NOT_FOUND,
                Json(ErrorBody { error: WireError::new("not-found", "there is no such path") }),
            )
                .into_response()),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                let too_new = matches!(&rejection, QueryRejection::FailedToDeserializeQueryString(_));
                Err(refusal(rejection.status(), &rejection.body_text(), too_new))
            }
        }
    }
}

fn refusal(status: StatusCode, text: &str, too_new: bool) -> Response {
    let mut message = format!("the request can't be accepted: {text}");
    if too_new && text.contains("unknown") {
        message.push_str(
            ". Nothing was changed. If the caller is a later version than this server, upgrade the server \
             first (control machines with `fleetwright roll`)",
        );
    }
    (status, Json(ErrorBody { error: WireError::new("invalid", message) })).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        known: u32,
    }

    async fn send(text: &str) -> Result<Sent, (StatusCode, String)> {
        let request = Request::builder().header("content-type", "application/json");
        let request = request.body(Body::from(text.to_owned())).expect("a request");
        match Strict::<Sent>::from_request(request, &()).await {
            Ok(Strict(sent)) => Ok(sent),
            Err(response) => {
                let status = response.status();
                let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
                let body: ErrorBody = serde_json::from_slice(&bytes).expect("an error as every other");
                assert_eq!(body.error.code, "invalid");
                Err((status, body.error.message))
            }
        }
    }

    #[tokio::test]
    async fn an_unknown_field_is_refused_by_name() {
        assert_eq!(send(r#"{"known": 1}"#).await, Ok(Sent { known: 1 }));
        let (status, message) =
            send(r#"{"known": 1, "secrets": []}"#).await.expect_err("it would be dropped");
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(message.contains("secrets") && message.contains("fleetwright roll"), "{message}");
        let (status, message) = send("{").await.expect_err("no JSON");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(!message.contains("roll"), "{message}");
    }
}
