//! The process's standard streams. Everything that is printed goes through here and is masked;
//! `println!` and `eprintln!` of this crate end here, too (see `lib.rs`).
//!
//! A reader that has gone away is no reason to fail, so that failures to write are ignored.

use std::fmt::Arguments;
use std::io::Write;

use serde_json::Value;

use crate::model::redact::{Mask, WITHHELD};

/// Prints `text` on stdout.
pub fn stdout(text: &str) {
    let _ = try_stdout(text);
}

/// Prints `text` on stdout at once.
///
/// # Errors
/// When the reader has gone away, for commands that end then.
pub fn try_stdout(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(Mask::process().mask(text).as_bytes())?;
    out.flush()
}

/// Prints `bytes` on stdout; what is not text is printed as it is when it holds no secret.
pub fn stdout_bytes(bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => stdout(text),
        Err(_) => {
            let text = String::from_utf8_lossy(bytes);
            if Mask::process().mask(&text) == text {
                let _ = std::io::stdout().lock().write_all(bytes);
            } else {
                stderr_line(format_args!("error: the output is {WITHHELD}"));
            }
        }
    }
}

/// Prints `text` on stderr.
pub fn stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(Mask::process().mask(text).as_bytes());
}

/// Prints a line on stdout.
pub fn stdout_line(text: Arguments<'_>) {
    stdout(&format!("{text}\n"));
}

/// Prints a line on stderr.
pub fn stderr_line(text: Arguments<'_>) {
    stderr(&format!("{text}\n"));
}

/// Prints a document on stdout: over several lines, or on one when `compact`. Its strings are
/// masked before it becomes text, so that it stays JSON whatever the secrets are.
pub fn json(value: &Value, compact: bool) {
    let masked = Mask::process().json(value.clone());
    let mut out = std::io::stdout().lock();
    let _ = if compact { writeln!(out, "{masked}") } else { writeln!(out, "{masked:#}") };
    let _ = out.flush();
}

/// A document without secrets.
pub fn masked(value: Value) -> Value {
    Mask::process().json(value)
}

/// Where `tracing` writes: stderr, masked. One call is one record.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        stderr(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Masks the messages of panics.
pub fn mask_panics() {
    std::panic::set_hook(Box::new(|panic| stderr(&format!("fleetwright {panic}\n"))));
}
