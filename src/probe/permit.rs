//! The start permit: a command that must run once is executed only after the cluster has permitted it.
//!
//! The machine's agent listens on a socket that is mounted into the container. It finds out itself which
//! container asks. Whether the permit was given is known to nobody when an answer gets lost, so the same
//! helper asks again under the same name, and another one is refused.
//!
//! A command that its caller attends is executed by the engine, at the agent's request, once the caller is
//! connected. The helper then holds a connection to the agent, and ends with the status that it is sent there:
//! with it ends everything in the container. So nothing is left behind, whichever of them is killed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The exit status of a command that was not permitted to run.
const REFUSED: u8 = 75;
/// The exit statuses of a shell for a program that is not there, and for one that can't be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// How long the agent is asked.
const LIMIT: Duration = Duration::from_secs(300);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// What the agent says.
enum Answer {
    Granted,
    Refused(String),
    /// It does not know yet, or did not answer.
    Later(String),
}

/// Executes `command` once it is permitted. Returns only when it was not executed.
pub fn run(socket: &str, command: &[String]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return refuse("no command was given");
    };
    if let Err(reason) = permitted(socket, &nonce()) {
        return refuse(&reason);
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("fleetwright: {program}: {}", super::plain(&error));
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Waits for the caller and the end of a command, once that is permitted.
pub fn attend(socket: &str) -> ExitCode {
    let nonce = nonce();
    if let Err(reason) = permitted(socket, &nonce) {
        return refuse(&reason);
    }
    let line = match held(socket, &nonce) {
        Ok(line) => line,
        Err(error) => format!("lost {}", super::plain(&error)),
    };
    match line.split_once(' ') {
        Some(("ended", status)) => ExitCode::from(status.parse().unwrap_or(1)),
        Some(("refused", reason)) => refuse(reason),
        _ => {
            eprintln!("fleetwright: the agent of this machine has gone, and the command ends with it");
            ExitCode::FAILURE
        }
    }
}

/// Waits until the command is permitted.
fn permitted(socket: &str, nonce: &str) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let reason = match ask(socket, nonce) {
            Answer::Granted => return Ok(()),
            Answer::Refused(reason) => return Err(reason),
            Answer::Later(reason) => reason,
        };
        if start.elapsed() > LIMIT {
            return Err(format!("no permit after {} s: {reason}", LIMIT.as_secs()));
        }
        std::thread::sleep(PAUSE);
    }
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("fleetwright: this was not run: {reason}");
    ExitCode::from(REFUSED)
}

fn ask(socket: &str, nonce: &str) -> Answer {
    match try_ask(socket, nonce) {
        Ok(line) => match line.split_once(' ').unwrap_or((&line, "")) {
            ("granted", _) => Answer::Granted,
            ("refused", reason) => Answer::Refused(reason.to_owned()),
            ("later", reason) => Answer::Later(reason.to_owned()),
            _ => Answer::Later("the agent of this machine gave no answer".to_owned()),
        },
        Err(error) => Answer::Later(format!("the agent of this machine: {}", super::plain(&error))),
    }
}

fn try_ask(socket: &str, nonce: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(format!("permit {nonce}\n").as_bytes())?;
    line(stream)
}

/// What the agent says at the end, however long that takes.
fn held(socket: &str, nonce: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("attend {nonce}\n").as_bytes())?;
    line(stream)
}

fn line(stream: UnixStream) -> std::io::Result<String> {
    let mut answer = Vec::new();
    stream.take(1024).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    // A line that was cut off is none.
    Ok(text.split_once('\n').map_or("", |(line, _)| line).to_owned())
}

/// A name that no other helper has.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if random.is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = now.as_nanos().to_be_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
