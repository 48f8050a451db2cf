//! The pipeline server that the demo starts, and leaves running for its visitor.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use super::super::failure::Failure;

const PID_FILE: &str = "serve.pid";

/// Starts `command` in a process group of its own, with its output in `folder`/serve.log.
///
/// # Errors
/// When it can't be started.
pub fn start(folder: &Path, mut command: Command) -> Result<(), Failure> {
    let mut run = || -> std::io::Result<()> {
        let log = crate::adapter::private_file::create(&folder.join("serve.log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()?;
        let pid = child.id().ok_or_else(|| std::io::Error::other("it ended at once"))?;
        std::fs::write(folder.join(PID_FILE), pid.to_string())
    };
    run().map_err(|error| {
        Failure::failed(
            format!("starting `fleetwright serve`: {error}"),
            "see that the folder can be written",
        )
    })
}

/// Stops the server that an earlier demo left in `folder`, if it still runs.
pub fn stop(folder: &Path) {
    let Ok(text) = std::fs::read_to_string(folder.join(PID_FILE)) else { return };
    let _ = std::fs::remove_file(folder.join(PID_FILE));
    let Ok(pid) = text.trim().parse::<i32>() else { return };
    // The number may belong to another process by now: only a `serve` is ours.
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if arguments.split(|&byte| byte == 0).any(|argument| argument == b"serve") {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// A port of the loopback that nothing listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16, Failure> {
    std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map_or_else(
        |error| {
            Err(Failure::failed(
                format!("finding a free port: {error}"),
                "see that the loopback interface is up",
            ))
        },
        |address| Ok(address.port()),
    )
}
