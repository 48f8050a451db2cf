//! A placeholder: a container that the cluster places, and in whose place the machine's agent runs systemd units.
//!
//! It prints what the units log, and ends when the agent says so. It waits for an agent that restarts: the units keep
//! running meanwhile, and so does the placeholder. It handles no signal: the agent sees that the engine asks it to
//! stop, stops the units, and then has it end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time between two attempts to reach the agent.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one question for health may take; the engine gives up a little later.
const LIMIT: Duration = Duration::from_secs(540);
/// The file that says that the units have been healthy once.
const HEALTHY: &str = "/healthy";

/// Stands for units until the agent says that they have ended.
pub fn stand(socket: &str) -> ExitCode {
    loop {
        if let Some(status) = attached(socket) {
            return ExitCode::from(status);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Prints what comes from the agent; the status to end with, unless the agent has gone.
fn attached(socket: &str) -> Option<u8> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"unit\n").ok()?;
    let mut lines = BufReader::new(stream);
    let (mut out, mut errors) = (std::io::stdout().lock(), std::io::stderr().lock());
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).ok()? == 0 || line.pop() != Some(b'\n') {
            return None;
        }
        let at = line.iter().position(|byte| *byte == b' ')?;
        let (word, rest) = (&line[..at], &line[at + 1..]);
        // What is printed goes to the engine; if that is gone, there is nowhere to report it.
        match word {
            b"out" => {
                let _ = out.write_all(rest).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
            }
            b"end" => {
                let text = String::from_utf8_lossy(rest);
                let (status, reason) = text.split_once(' ').unwrap_or((&text, ""));
                if !reason.is_empty() {
                    let _ = writeln!(errors, "fleetwright: {reason}");
                }
                return Some(status.parse().unwrap_or(1));
            }
            _ => {}
        }
    }
}

/// Waits until the agent has something new to say of the units' health. Units that were healthy stay so while the agent
/// can't be asked.
pub fn health(socket: &str) -> ExitCode {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        if let Some((healthy, words)) = asked(socket, LIMIT.saturating_sub(begun.elapsed())) {
            println!("{words}");
            if !healthy {
                return ExitCode::FAILURE;
            }
            let _ = std::fs::write(HEALTHY, "");
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(PAUSE);
    }
    println!("the agent of this machine does not answer");
    if Path::new(HEALTHY).exists() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn asked(socket: &str, limit: Duration) -> Option<(bool, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(limit.max(PAUSE))).ok()?;
    stream.write_all(b"health\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let (word, words) = line.strip_suffix('\n')?.split_once(' ')?;
    match word {
        "ok" => Some((true, words.to_owned())),
        "bad" => Some((false, words.to_owned())),
        _ => None,
    }
}
