//! JSON on stdout.

use super::out;

/// Prints one document.
pub fn document(value: &serde_json::Value) {
    out::json(value, false);
}

/// Prints one value on one line, at once.
pub fn line(value: &serde_json::Value) {
    out::json(value, true);
}
