//! A visitor that never stops asking, and counts what went wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::model::service::InstanceState;
use crate::port::cluster::Snapshot;

/// Time between two requests: 20 a second.
const EVERY: Duration = Duration::from_millis(50);
/// How long one request may take, connection included.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many failures are described; all are counted.
const DESCRIBED: usize = 10;

/// What the visitor saw.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Requests made.
    pub requests: u64,
    /// Requests not answered with status 200 in time.
    pub failures: u64,
    /// The first failures, described.
    pub failed: Vec<String>,
    /// How often each answer was given.
    pub answers: BTreeMap<String, u64>,
    /// The slowest answer, in milliseconds.
    pub slowest_ms: u64,
}

/// A running visitor.
#[derive(Debug)]
pub struct Probe {
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
    work: JoinSet<()>,
}

impl Probe {
    /// Starts asking the addresses that `watch`, a `status --watch --output json`, gives as healthy
    /// at each moment: each request on a new connection, with a time limit, never repeated.
    pub fn start(watch: impl Fn() -> Command + Send + 'static) -> Self {
        let report = Arc::new(Mutex::new(Report::default()));
        let stop = CancellationToken::new();
        let (sender, receiver) = watch::channel(Vec::new());
        let mut work = JoinSet::new();
        work.spawn(follow(watch, sender, stop.clone()));
        work.spawn(ask(receiver, Arc::clone(&report), stop.clone()));
        Self { report, stop, work }
    }

    /// What it saw so far.
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops asking, waits for the answers still open, and gives what it saw.
    pub async fn finish(mut self) -> Report {
        self.stop.cancel();
        while self.work.join_next().await.is_some() {}
        self.report()
    }
}

/// Keeps the healthy addresses up to date. A watch that ends is begun again, and until it
/// speaks the last addresses stand, as they would for any client.
async fn follow(
    watch: impl Fn() -> Command,
    addresses: watch::Sender<Vec<SocketAddr>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let child = watch().stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn();
        let Ok(mut child) = child else { return };
        let Some(stdout) = child.stdout.take() else { return };
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let line = tokio::select! {
                () = stop.cancelled() => return,
                line = lines.next_line() => line,
            };
            let Ok(Some(line)) = line else { break };
            if let Ok(snapshot) = serde_json::from_str::<Snapshot>(&line) {
                addresses.send_replace(healthy(&snapshot));
            }
        }
    }
}

fn healthy(snapshot: &Snapshot) -> Vec<SocketAddr> {
    snapshot
        .services
        .iter()
        .flat_map(|service| &service.instances)
        .filter(|instance| instance.state == InstanceState::Healthy)
        .filter_map(|instance| instance.addresses.first().copied())
        .collect()
}

async fn ask(
    mut addresses: watch::Receiver<Vec<SocketAddr>>,
    report: Arc<Mutex<Report>>,
    stop: CancellationToken,
) {
    // Counting begins with the first address; before it there is no service to ask.
    tokio::select! {
        () = stop.cancelled() => return,
        _ = addresses.wait_for(|addresses| !addresses.is_empty()) => {}
    }
    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(EVERY);
    let mut turn = 0;
    while !stop.is_cancelled() {
        tick.tick().await;
        let address = {
            let now = addresses.borrow_and_update();
            turn += 1;
            now.get(turn % now.len().max(1)).copied()
        };
        let report = Arc::clone(&report);
        requests.spawn(async move {
            let begun = Instant::now();
            let answer = match address {
                Some(address) => match tokio::time::timeout(TIMEOUT, request(address)).await {
                    Ok(Ok(answer)) => Ok(answer),
                    Ok(Err(error)) => Err(format!("{address}: {error}")),
                    Err(_) => Err(format!("{address}: no answer in {} s", TIMEOUT.as_secs())),
                },
                None => Err("no address is healthy".to_owned()),
            };
            note(&report, answer, begun.elapsed());
        });
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

fn note(report: &Mutex<Report>, answer: Result<String, String>, took: Duration) {
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    report.requests += 1;
    match answer {
        Ok(answer) => {
            *report.answers.entry(answer).or_default() += 1;
            report.slowest_ms = report.slowest_ms.max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        Err(why) => {
            report.failures += 1;
            if report.failed.len() < DESCRIBED {
                let at = chrono::Utc::now().format("%H:%M:%S%.3f");
                report.failed.push(format!("{at} {why}"));
            }
        }
    }
}

/// One `GET /` on a connection of its own; gives the body's first line.
async fn request(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut response = String::new();
    stream.take(64 * 1024).read_to_string(&mut response).await?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .ok_or_else(|| std::io::Error::other("the connection closed before an answer"))?;
    let status = head.split(' ').nth(1).unwrap_or("");
    if status != "200" {
        return Err(std::io::Error::other(format!("status {status}")));
    }
    Ok(body.lines().next().unwrap_or("").chars().take(40).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_and_a_wrong_status_are_failures() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            for answer in ["HTTP/1.1 200 OK\r\n\r\nv1\n", "HTTP/1.1 503 No\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut buffer = [0; 512];
                let _ = stream.read(&mut buffer).await;
                stream.write_all(answer.as_bytes()).await.expect("written");
            }
        });
        assert_eq!(request(address).await.expect("an answer"), "v1");
        assert_eq!(request(address).await.expect_err("a failure").to_string(), "status 503");
        server.await.expect("the server ended");
        assert!(request(address).await.is_err());

        let report = Mutex::new(Report::default());
        note(&report, Ok("v1".into()), Duration::from_millis(7));
        note(&report, Err("away".into()), Duration::ZERO);
        let report = report.into_inner().expect("not poisoned");
        assert_eq!((report.requests, report.failures, report.slowest_ms), (2, 1, 7));
    }
}
