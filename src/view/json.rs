//! JSON on stdout.

use std::io::Write as _;

/// Prints one document. A reader that has gone away is no reason to fail.
pub fn document(value: &serde_json::Value) {
    let _ = writeln!(std::io::stdout().lock(), "{value:#}");
}

/// Prints one value on one line, at once.
pub fn line(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}
