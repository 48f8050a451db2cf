//! What keeps a caller that is slow, or opens many connections, from shutting out others: a time
//! for each request's header, a time for its answer to begin, and caps on connections.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum_server::accept::Accept;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a connection may take to send a header: its first, and the next after an answer.
pub const HEADER: Duration = Duration::from_secs(20);
/// How long a request may take, its body included, until its answer begins. A stream may then
/// be as long as it likes.
pub const ANSWER: Duration = Duration::from_secs(120);

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// From everywhere.
    pub all: usize,
    /// From one address.
    pub each: usize,
}

impl Caps {
    /// Of a cluster's API: some thousand machines, and people.
    pub const CLUSTER: Self = Self { all: 4096, each: 128 };
    /// Of a machine's agent, whose callers are control machines.
    pub const AGENT: Self = Self { all: 1024, each: 256 };
    /// Of a container, for the credentials of its role.
    pub const ROLE: Self = Self { all: 64, each: 64 };
    /// Of the pipeline server, which may stand behind a proxy that is its only caller.
    pub const PIPELINES: Self = Self { all: 512, each: 512 };
}

/// A server with its limits set: `header` is [`HEADER`], but in tests.
pub fn limited<A>(
    server: axum_server::Server<SocketAddr, A>,
    caps: Caps,
    header: Duration,
) -> axum_server::Server<SocketAddr, Capped<A>> {
    // The server's own switch for HTTP/1 alone would take the right to upgrade from connections:
    // `Opening` closes those that speak another version, or say nothing.
    let mut server = server.map(|inner| Capped { inner, caps, header, open: Open::default() });
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header);
    server
}

/// Ends requests whose answer has not begun within `limit`.
pub fn answered_within(router: Router, limit: Duration) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| async move {
        let answered = tokio::time::timeout(limit, next.run(request)).await;
        let mut response = answered.unwrap_or_else(|_| too_slow());
        // The rest of such a request is not read, so the connection ends: without this header, a client
        // may send its next request on it.
        if matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }))
}

fn too_slow() -> Response {
    let error = serde_json::json!({ "error": {
        "code": "unreachable",
        "message": "the request did not arrive, or had no answer, in time",
    } });
    (StatusCode::REQUEST_TIMEOUT, axum::Json(error)).into_response()
}

/// How many connections are open, by address.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Open {
    /// Counts a connection; `None` when it is one too many.
    fn enter(&self, from: IpAddr, caps: Caps) -> Option<Slot> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= caps.all
            || open.get(&from).is_some_and(|count| *count >= caps.each)
        {
            return None;
        }
        *open.entry(from).or_default() += 1;
        Some(Slot { open: self.clone(), from })
    }
}

/// The place of one open connection.
#[derive(Debug)]
struct Slot {
    open: Open,
    from: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.from);
            }
        }
    }
}

/// Accepts connections up to the caps; those past them are closed at once.
#[derive(Debug, Clone)]
pub struct Capped<A> {
    inner: A,
    caps: Caps,
    header: Duration,
    open: Open,
}

impl<A, S> Accept<TcpStream, S> for Capped<A>
where
    A: Accept<Counted, S> + Clone + Send + 'static,
    A::Future: Send,
    S: Send + 'static,
{
    type Stream = Opening<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Streams carry single keys and their echo, which must not wait for each other.
        let _ = stream.set_nodelay(true);
        let slot = stream.peer_addr().map(|peer| self.open.enter(peer.ip().to_canonical(), self.caps));
        match slot {
            Ok(Some(slot)) => {
                let accepted = self.inner.accept(Counted { stream, _slot: slot }, service);
                let header = self.header;
                Box::pin(async move {
                    let (stream, service) = accepted.await?;
                    Ok((Opening { stream, opening: Some((Box::pin(sleep(header)), 0)) }, service))
                })
            }
            Ok(None) => Box::pin(async { Err(io::Error::other("too many connections")) }),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

/// What a connection of HTTP/2 begins with, and no request of HTTP/1.
const OTHER_VERSION: &[u8] = b"PRI ";

/// A connection whose caller has said nothing yet. Until it is clear that it speaks HTTP/1, the server
/// has no limit of its own for how long that takes.
#[derive(Debug)]
pub struct Opening<S> {
    stream: S,
    /// Until when it must be clear, and how much of another version's beginning has come.
    opening: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Opening<S> {
    /// Takes note of what came.
    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((_, seen)) = &mut self.opening else { return Ok(()) };
        for byte in bytes {
            if OTHER_VERSION.get(*seen) != Some(byte) {
                self.opening = None;
                return Ok(());
            }
            *seen += 1;
            if *seen == OTHER_VERSION.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not HTTP/1"));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some((limit, _)) = &mut self.opening
            && limit.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready(self.heard(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A connection that is counted until it is closed.
#[derive(Debug)]
pub struct Counted {
    stream: TcpStream,
    _slot: Slot,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server with short limits on a port of its own.
    async fn start(caps: Caps) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("an address");
        let routes = Router::new().route("/", post(|body: String| async move { body }));
        let routes = answered_within(routes, Duration::from_millis(400));
        let server = axum_server::from_tcp(listener).expect("a server");
        let server = limited(server, caps, Duration::from_millis(300));
        tokio::spawn(server.serve(routes.into_make_service()));
        address
    }

    /// What the server sends until it closes the connection.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
        // A reset closes it as well.
        let _ = read.expect("the connection is closed");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn echo(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
        let _ = stream.write_all(request).await;
        rest(&mut stream).await
    }

    #[tokio::test]
    async fn a_header_that_does_not_end_closes_its_connection() {
        let address = start(Caps { all: 10, each: 10 }).await;
        for begin in ["", "PRI * HT", "POST / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
            let started = Instant::now();
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(begin.as_bytes()).await.expect("sent");
            let mut more = tokio::time::interval(Duration::from_millis(50));
            // A byte now and then keeps no connection open.
            let (mut reader, mut writer) = stream.into_split();
            let drip = async {
                loop {
                    more.tick().await;
                    if !begin.is_empty() && writer.write_all(b"a").await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let mut bytes = Vec::new();
            tokio::select! {
                _ = reader.read_to_end(&mut bytes) => {}
                () = drip => {}
            }
            assert!(started.elapsed() < Duration::from_secs(5), "{begin:?} kept it open");
        }
        assert!(echo(address).await.ends_with("hi"));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_answered_in_time() {
        let address = start(Caps { all: 10, each: 10 }).await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let header = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nhi";
        stream.write_all(header).await.expect("sent");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test]
    async fn past_the_cap_connections_are_closed_and_freed_ones_are_given_again() {
        let address = start(Caps { all: 10, each: 2 }).await;
        let first = TcpStream::connect(address).await.expect("connected");
        let second = TcpStream::connect(address).await.expect("connected");
        // One past the cap gets nothing; the two are closed by their own limit later.
        let started = Instant::now();
        let refused = echo(address).await;
        assert!(refused.is_empty() && started.elapsed() < Duration::from_millis(250), "{refused}");
        drop((first, second));
        let limit = Instant::now() + Duration::from_secs(10);
        while !echo(address).await.ends_with("hi") {
            assert!(Instant::now() < limit, "its places were not given again");
        }
    }

    #[test]
    fn connections_are_counted_by_address_and_in_all() {
        let open = Open::default();
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let caps = Caps { all: 3, each: 2 };
        let mut slots: Vec<Slot> = [a, a].into_iter().filter_map(|from| open.enter(from, caps)).collect();
        assert_eq!(slots.len(), 2);
        assert!(open.enter(a, caps).is_none(), "two from one address");
        slots.extend(open.enter(b, caps));
        assert!(open.enter(b, caps).is_none(), "three in all");
        slots.clear();
        assert!(open.0.lock().expect("not poisoned").is_empty());
    }
}
