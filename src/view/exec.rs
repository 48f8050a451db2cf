//! What a program in an instance writes.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde_json::json;
use tokio::fs::File;
use tokio::io::AsyncWrite;

use super::out;

/// The version of each object; raised when a field changes its meaning.
const VERSION: u32 = 1;
/// The longest line, in bytes; what is longer becomes several.
const LINE: usize = 64 * 1024;

/// Where a program's standard output and standard error go.
type Writers = (Box<dyn AsyncWrite + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// Passed on byte by byte. Nothing is masked: it may be a file, and it is what was asked for.
///
/// # Errors
/// When there are no such streams.
pub fn as_it_is() -> io::Result<Writers> {
    let (out, err) = (io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?);
    let writer = |stream| Box::new(File::from_std(std::fs::File::from(stream)));
    Ok((writer(out), writer(err)))
}

/// As JSON, an object for each line.
pub fn lines() -> Writers {
    let lines = |channel| Box::new(Lines { channel, rest: Vec::new() });
    (lines("stdout"), lines("stderr"))
}

/// The first object: where the program runs.
pub fn started(instance: &str, machine: &str) {
    let value = json!({"version": VERSION, "event": "started", "instance": instance, "machine": machine});
    out::json(&value, true);
}

/// The last object: how it ended.
pub fn ended(status: i32) {
    out::json(&json!({"version": VERSION, "event": "exit", "status": status}), true);
}

/// Prints an object for each line.
struct Lines {
    channel: &'static str,
    rest: Vec<u8>,
}

impl Lines {
    fn print(&self, line: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(line);
        let value = json!({"version": VERSION, "event": "output", "channel": self.channel, "text": text});
        out::try_stdout(&format!("{}\n", out::masked(value)))
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        loop {
            let end = self.rest.iter().position(|byte| *byte == b'\n');
            let size = end.unwrap_or(self.rest.len()).min(LINE);
            if end.is_none() && size < LINE {
                return Ok(());
            }
            let line: Vec<u8> = self.rest.drain(..size).collect();
            if end == Some(size) {
                self.rest.remove(0);
            }
            self.print(&line)?;
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            let _ = self.print(&self.rest);
        }
    }
}

impl AsyncWrite for Lines {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
