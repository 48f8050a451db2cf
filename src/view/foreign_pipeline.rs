//! A pipeline of another system, converted.

use std::fmt::Write as _;

use super::words::count;
use crate::foreign_pipeline::Note;

/// Whatever has no exact equivalent, each with its place in `file` and what to do.
pub fn notes(notes: &[Note], file: &str) -> String {
    let mut text = String::new();
    for Note { line, column, message, next } in notes {
        let _ = writeln!(text, "warning: {file}:{line}:{column}: {message}\n next: {next}");
    }
    text
}

/// The line after all of them, which says where the pipeline `name` goes.
pub fn summary(notes: &[Note], name: &str) -> String {
    let warnings = match notes.len() {
        0 => "nothing is left to do by hand".to_owned(),
        number => count(number, "warning"),
    };
    format!("{warnings}\n next: save it as pipelines/{name}.yaml, then `fleetwright validate`")
}
