//! Somebody who asks a service all the time: 20 times a second, the instances that are given out as
//! healthy, one after the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fleetwright::model::service::InstanceState;
use fleetwright::port::cluster::Snapshot;

use super::lab::Lab;

/// Time between two requests.
const EVERY: Duration = Duration::from_millis(50);

/// How many requests there were, and what was wrong with those that failed.
type Answers = (usize, Vec<String>);

/// The visitor of one service.
pub struct Visitor {
    status: Child,
    over: Arc<AtomicBool>,
    asking: Option<JoinHandle<Answers>>,
}

impl Visitor {
    /// Begins to ask.
    pub fn start(lab: &Lab, service: &str) -> Self {
        let mut status = lab
            .command(&["status", service, "--watch", "--output", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let addresses = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(status.stdout.take().expect("piped")).lines();
        std::thread::spawn({
            let addresses = Arc::clone(&addresses);
            move || {
                for line in lines.map_while(Result::ok) {
                    let snapshot: Snapshot = serde_json::from_str(&line).expect("a snapshot a line");
                    *addresses.lock().expect("addresses") = healthy(&snapshot);
                }
            }
        });
        let over = Arc::new(AtomicBool::new(false));
        let asking = std::thread::spawn({
            let over = Arc::clone(&over);
            move || ask_on(&addresses, &over)
        });
        Self { status, over, asking: Some(asking) }
    }

    /// Stops asking: how many requests there were, and what was wrong with those that failed.
    pub fn end(mut self) -> Answers {
        self.over.store(true, Ordering::Relaxed);
        self.asking.take().expect("it is ended once").join().expect("it asks")
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.status.kill();
        let _ = self.status.wait();
    }
}

fn ask_on(addresses: &Mutex<Vec<SocketAddr>>, over: &AtomicBool) -> Answers {
    let (mut asked, mut failed) = (0, Vec::new());
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let now = addresses.lock().expect("addresses").clone();
        if !now.is_empty() {
            let address = now[asked % now.len()];
            asked += 1;
            if let Err(error) = ask(address) {
                failed.push(format!("{address}: {error}"));
            }
        }
        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    (asked, failed)
}

fn healthy(snapshot: &Snapshot) -> Vec<SocketAddr> {
    let instances = snapshot.services.iter().flat_map(|service| &service.instances);
    let healthy = instances.filter(|instance| instance.state == InstanceState::Healthy);
    healthy.flat_map(|instance| instance.addresses.clone()).collect()
}

/// Asks an instance for its page.
///
/// # Errors
/// When it does not answer within 2 s, or otherwise than with 200.
pub fn ask(address: SocketAddr) -> std::io::Result<()> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains(" 200 ") { Ok(()) } else { Err(std::io::Error::other(answer)) }
}
