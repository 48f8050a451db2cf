//! The pipeline server through its API.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::model::frame::PROTOCOL;
use crate::model::run::RunId;
use crate::model::secret::Secret;
use crate::port::pipeline_wire::{Refusal, RefusalError, ShellRequest};
use crate::port::streams::{Attached, INSTANCE_HEADER};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the answer to one request may take: the server may have to fetch a repository first.
const ANSWER: Duration = Duration::from_secs(130);
/// How long a stream may be silent: more than two of the server's signs of life.
const SILENCE: Duration = Duration::from_secs(40);
/// The longest line of a stream, in bytes.
const LINE_MAX: usize = 16 << 20;

/// Why the pipeline server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It can't be reached, or it went away.
    #[error("{address} does not answer: {reason}")]
    Unreachable {
        /// Its address.
        address: String,
        /// What happened.
        reason: String,
    },
    /// It answered that it does not do it.
    #[error("{}", .error.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        error: RefusalError,
    },
    /// Its answer is not understood.
    #[error("the answer of {address} is not understood: {reason}")]
    Unreadable {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
}

/// A message of a run's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its number in the run's stream; `None` for the end.
    pub id: Option<i64>,
    /// Whether the run has ended and nothing more comes.
    pub end: bool,
    /// JSON.
    pub data: String,
}

/// The bytes of a file, as they come.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>> + Send>>;

/// The messages of a log, as they come.
pub type Messages = Pin<Box<dyn Stream<Item = Result<Message, ApiError>> + Send>>;

/// A client of one pipeline server.
#[derive(Debug, Clone)]
pub struct PipelineApi {
    base: String,
    token: Secret<String>,
    calls: Client,
    streams: Client,
}

impl PipelineApi {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the TLS library can't be used.
    pub fn new(base: &str, token: Secret<String>) -> Result<Self, ApiError> {
        let base = base.trim_end_matches('/').to_owned();
        let failed =
            |error: reqwest::Error| ApiError::Unreachable { address: base.clone(), reason: words(&error) };
        // The token must not follow a redirect to another server.
        let builder = || Client::builder().redirect(Policy::none()).connect_timeout(CONNECT);
        let calls = builder().timeout(ANSWER).build().map_err(failed)?;
        let streams = builder().read_timeout(SILENCE).build().map_err(failed)?;
        Ok(Self { base, token, calls, streams })
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ApiError> {
        self.document(self.calls.get(self.url(path)).query(query)).await
    }

    /// Asks for the bytes of a file, as they come.
    ///
    /// # Errors
    /// When there is no answer, or it is an error; each piece may bring one as well.
    pub async fn bytes(&self, path: &str, query: &[(&str, &str)]) -> Result<Pieces, ApiError> {
        let response = self.send(self.streams.get(self.url(path)).query(query)).await?;
        let address = self.base.clone();
        let pieces = response.bytes_stream().map(move |piece| {
            piece.map_err(|error| ApiError::Unreachable { address: address.clone(), reason: words(&error) })
        });
        Ok(pieces.boxed())
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// When there is no answer, or it is an error. Without an answer it is unknown whether it was carried out.
    pub async fn post(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<Value, ApiError> {
        self.document(self.calls.post(self.url(path)).json(body)).await
    }

    /// The log of a run after the message `after`, and what is added to it until the run ends.
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub async fn log(&self, run: RunId, step: Option<&str>, after: i64) -> Result<Messages, ApiError> {
        self.messages(run, step, after, true).await
    }

    /// The log of a run as it is now.
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub async fn log_so_far(&self, run: RunId, step: Option<&str>) -> Result<Messages, ApiError> {
        self.messages(run, step, 0, false).await
    }

    async fn messages(
        &self,
        run: RunId,
        step: Option<&str>,
        after: i64,
        follow: bool,
    ) -> Result<Messages, ApiError> {
        let mut request = self.streams.get(self.url(&format!("runs/{run}/log")));
        if let Some(step) = step {
            request = request.query(&[("step", step)]);
        }
        if !follow {
            request = request.query(&[("follow", "false")]);
        }
        let response = self.send(request.header("last-event-id", after.to_string())).await?;
        let address = self.base.clone();
        let bytes = response.bytes_stream().boxed();
        let state = (bytes, Parser::default(), VecDeque::new(), address);
        Ok(Box::pin(futures_util::stream::unfold(Some(state), |state| async move {
            let (mut bytes, mut parser, mut ready, address) = state?;
            loop {
                if let Some(message) = ready.pop_front() {
                    return Some((Ok(message), Some((bytes, parser, ready, address))));
                }
                let reason = match bytes.next().await {
                    Some(Ok(chunk)) => match parser.push(&chunk, &mut ready) {
                        Ok(()) => continue,
                        Err(reason) => return Some((Err(ApiError::Unreadable { address, reason }), None)),
                    },
                    Some(Err(error)) => words(&error),
                    None => return None,
                };
                return Some((Err(ApiError::Unreachable { address, reason }), None));
            }
        })))
    }

    /// Runs a program in a container like that of a step that has failed.
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub async fn shell(&self, run: RunId, request: &ShellRequest) -> Result<Attached, ApiError> {
        let failed = |error: reqwest::Error| ApiError::Unreachable {
            address: self.base.clone(),
            reason: words(&error),
        };
        // A connection of its own, without a limit of time; HTTP/2 has no streams of this kind.
        let client = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT).http1_only();
        let client = client.build().map_err(failed)?;
        let call = client.post(self.url(&format!("runs/{run}/shell"))).json(request);
        let response = self.send(call.header(CONNECTION, "Upgrade").header(UPGRADE, PROTOCOL)).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.unreadable(format!("status {}, and no stream", response.status().as_u16())));
        }
        let step = response.headers().get(INSTANCE_HEADER).and_then(|value| value.to_str().ok());
        let instance = format!("`{}` of run {run}", step.unwrap_or(&request.step));
        let connection = response.upgrade().await.map_err(failed)?;
        Ok(Attached { instance, machine: self.base.clone(), connection: Box::new(connection) })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.base)
    }

    async fn document(&self, request: RequestBuilder) -> Result<Value, ApiError> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| match error.is_decode() {
            true => self.unreadable(words(&error)),
            false => ApiError::Unreachable { address: self.base.clone(), reason: words(&error) },
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let sent = request.bearer_auth(self.token.expose()).send().await;
        let response = sent
            .map_err(|error| ApiError::Unreachable { address: self.base.clone(), reason: words(&error) })?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        // A proxy before it answers so while it is away.
        if matches!(
            status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        ) && response.headers().get("content-type").is_none_or(|kind| kind != "application/json")
        {
            let reason = format!("status {}", status.as_u16());
            return Err(ApiError::Unreachable { address: self.base.clone(), reason });
        }
        match response.json::<Refusal>().await {
            Ok(Refusal { error }) => Err(ApiError::Refused { status: status.as_u16(), error }),
            Err(_) => Err(self.unreadable(format!("status {}, and no JSON of ours", status.as_u16()))),
        }
    }

    /// An answer that can't be read.
    pub fn unreadable(&self, reason: impl Into<String>) -> ApiError {
        ApiError::Unreadable { address: self.base.clone(), reason: reason.into() }
    }
}

/// The first cause, which is the one that helps.
fn words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Server-sent events, as far as the server uses them: `id`, `event` and one line of `data`.
#[derive(Debug, Default)]
struct Parser {
    /// A line that has not ended yet.
    line: Vec<u8>,
    id: Option<i64>,
    end: bool,
    data: Option<String>,
}

impl Parser {
    /// Adds the messages that end in `bytes`.
    fn push(&mut self, bytes: &[u8], ready: &mut VecDeque<Message>) -> Result<(), String> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_MAX {
                return Err(format!("a line has more than {LINE_MAX} bytes"));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8(line).map_err(|_| "a line is not UTF-8".to_owned())?;
                self.take(line.trim_end_matches(['\n', '\r']), ready);
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &str, ready: &mut VecDeque<Message>) {
        if line.is_empty() {
            let (id, end) = (self.id.take(), std::mem::take(&mut self.end));
            if let Some(data) = self.data.take() {
                ready.push_back(Message { id, end, data });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = value.parse().ok(),
            "event" => self.end = value == "end",
            "data" => self.data = Some(value.to_owned()),
            // A comment, which shows that the server is alive.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "id: 1\ndata: {\"a\":\"ä\"}\n\n:\n\nid: 12\ndata:{}\n\nevent: end\ndata: {}\n\n";

    fn read(chunks: &[&[u8]]) -> Vec<Message> {
        let mut parser = Parser::default();
        let mut ready = VecDeque::new();
        for chunk in chunks {
            parser.push(chunk, &mut ready).expect("it is understood");
        }
        ready.into()
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_where_the_stream_is_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut rest = STREAM.as_bytes();
            let mut at = 0;
            for cut in cuts {
                let (chunk, after) = rest.split_at(cut - at);
                chunks.push(chunk);
                (rest, at) = (after, cut);
            }
            chunks.push(rest);
            let expected = [
                Message { id: Some(1), end: false, data: "{\"a\":\"ä\"}".into() },
                Message { id: Some(12), end: false, data: "{}".into() },
                Message { id: None, end: true, data: "{}".into() },
            ];
            prop_assert_eq!(read(&chunks), expected);
        }
    }

    #[test]
    fn a_message_that_was_cut_off_is_none() {
        assert_eq!(read(&[b"id: 3\ndata: {}\n"]), []);
    }
}
