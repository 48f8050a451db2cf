//! The health probe: asks one question of a container from inside it.
//!
//! It is mounted into containers whose images hold nothing else that could ask, so it is
//! static and knows only the standard library. `probe http HOST:PORT PATH` succeeds when
//! the answer's status is 200 to 399, `probe tcp HOST:PORT` when the port accepts a
//! connection. What it prints is what people read as the reason.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The engine ends a probe that takes longer than its check allows; this only makes sure
/// that none stays behind when the engine does not.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let asked = match words.as_slice() {
        ["http", address, path] => http(address, path),
        ["tcp", address] => connect(address).map(|_| format!("{address} accepts connections")),
        _ => Err("usage: probe http HOST:PORT PATH | probe tcp HOST:PORT".to_owned()),
    };
    match asked {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let address: SocketAddr = address.parse().map_err(|_| format!("{address} is not an address"))?;
    TcpStream::connect_timeout(&address, LIMIT)
        .map_err(|error| format!("no connection to port {}: {}", address.port(), plain(&error)))
}

fn http(address: &str, path: &str) -> Result<String, String> {
    let start = Instant::now();
    let mut stream = connect(address)?;
    let failed = |error: std::io::Error| format!("no answer from {path}: {}", plain(&error));
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: fleetwright-probe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    // The status line fits by far; the rest of the answer is nobody's business here.
    let mut head = [0_u8; 256];
    let mut length = 0;
    while length < head.len() && !head[..length].contains(&b'\n') {
        match stream.read(&mut head[length..]).map_err(failed)? {
            0 => break,
            read => length += read,
        }
    }
    let line = String::from_utf8_lossy(&head[..length]);
    let status: u16 = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_ascii_whitespace().nth(1))
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{path} gave no HTTP answer"))?;
    if (200..400).contains(&status) {
        Ok(format!("{status} in {} ms", start.elapsed().as_millis()))
    } else {
        Err(format!("{status} from {path}"))
    }
}

/// The operating system's words without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
