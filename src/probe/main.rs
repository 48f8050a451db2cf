//! The helper inside containers: probes their health, and sets variables from secrets.
//!
//! It is mounted into containers whose images hold nothing else that could do this, so it is
//! static and knows only the standard library. `probe http HOST:PORT PATH` succeeds when
//! the answer's status is 200 to 399, `probe tcp HOST:PORT` when the port accepts a
//! connection. What it prints is what people read as the reason.
//!
//! `probe exec NAME=FILE... -- PROGRAM ARGUMENT...` becomes PROGRAM, with each variable set to what its file
//! holds. So the value of a secret stands in no specification of a container. With `@PORT` among them it first waits,
//! for a while, until that port of the loopback accepts connections: there the machine's agent serves the credentials
//! of the container's role. `probe permit SOCKET -- PROGRAM ARGUMENT...` becomes PROGRAM after the machine's agent has
//! permitted it. `probe attend SOCKET -- ...` waits until the agent has executed a program in this container, and ends
//! with its status.
//!
//! `probe unit SOCKET` stands for systemd units that the machine's agent runs, and `probe unit-health SOCKET` waits for
//! their health to change.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

mod permit;
mod unit;

/// The engine ends a probe that takes longer than its check allows; this only makes sure
/// that none stays behind when the engine does not.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a program waits for the credentials of its role to be served.
const SERVED: Duration = Duration::from_secs(10);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The exit status of shells and Docker for a program that can't be executed, and for one that is not there.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    // Arguments of programs need not be UTF-8.
    let raw: Vec<OsString> = std::env::args_os().skip(1).collect();
    if raw.first().is_some_and(|word| word == "exec") {
        let (status, problem) = execute(&raw[1..]);
        eprintln!("fleetwright: {problem}");
        return ExitCode::from(status);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["permit", socket, "--", ..] = words.as_slice() {
        return permit::run(socket, &arguments[3..]);
    }
    if let ["attend", socket, "--", ..] = words.as_slice() {
        return permit::attend(socket);
    }
    match words.as_slice() {
        ["unit", socket] => return unit::stand(socket),
        ["unit-health", socket] => return unit::health(socket),
        _ => {}
    }
    let asked = match words.as_slice() {
        ["http", address, path] => http(address, path),
        ["tcp", address] => connect(address).map(|_| format!("{address} accepts connections")),
        _ => Err("usage: probe http HOST:PORT PATH | probe tcp HOST:PORT | probe exec NAME=FILE... -- PROGRAM | \
                  probe permit SOCKET -- PROGRAM | probe attend SOCKET -- PROGRAM | probe unit SOCKET | \
                  probe unit-health SOCKET"
            .to_owned()),
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

/// Becomes the program behind `--`; returns only where that failed, with the exit status and why.
fn execute(words: &[OsString]) -> (u8, String) {
    let Some(end) = words.iter().position(|word| word == "--") else {
        return (NOT_EXECUTABLE, "`--` is missing before the program".to_owned());
    };
    let Some((program, arguments)) = words[end + 1..].split_first() else {
        return (NOT_FOUND, "there is no program to start".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments);
    for word in &words[..end] {
        if let Some(port) = word.to_str().and_then(|word| word.strip_prefix('@')) {
            match port.parse() {
                Ok(port) => wait_for(port),
                Err(_) => return (NOT_EXECUTABLE, format!("`{port}` is not a port")),
            }
            continue;
        }
        match variable(word) {
            Ok((name, value)) => command.env(name, value),
            Err(problem) => return (NOT_EXECUTABLE, problem),
        };
    }
    let error = command.exec();
    let status = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    (status, format!("starting `{}`: {}", program.to_string_lossy(), plain(&error)))
}

/// Waits until a port of the loopback accepts connections. The program starts anyhow: it may do without, and asks again
/// when it needs them.
fn wait_for(port: u16) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let start = Instant::now();
    while TcpStream::connect_timeout(&address, SERVED).is_err() {
        if start.elapsed() > SERVED {
            eprintln!("fleetwright: the agent of this machine does not serve the credentials of the role yet");
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The variable of `NAME=FILE`. A line end at the end of the file is not part of the value, as in a shell.
fn variable(word: &OsStr) -> Result<(OsString, OsString), String> {
    let bytes = word.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let name = OsString::from_vec(bytes[..at].to_vec());
    let file = OsStr::from_bytes(bytes.get(at + 1..).unwrap_or_default());
    let shown = name.to_string_lossy().into_owned();
    let mut value = std::fs::read(file)
        .map_err(|error| format!("variable {shown}: reading {}: {}", file.to_string_lossy(), plain(&error)))?;
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    if value.contains(&0) {
        return Err(format!("variable {shown}: the secret holds a NUL character, which no variable can"));
    }
    Ok((name, OsString::from_vec(value)))
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
