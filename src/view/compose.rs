//! A Compose file converted to services.

use std::fmt::Write as _;

use super::table;
use crate::compose::Converted;

/// The files, one after the other.
pub fn files(converted: &Converted) -> String {
    let mut text = String::new();
    for (path, content) in &converted.files {
        let _ = writeln!(text, "# {path}\n{}", content.trim_end());
    }
    text
}

/// Whatever has no counterpart or needs a decision, with its line in `file`.
pub fn notes(converted: &Converted, file: &str) -> String {
    if converted.notes.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = converted
        .notes
        .iter()
        .map(|note| vec![format!("{file}:{}", note.line), note.key.clone(), note.text.clone()])
        .collect();
    let count = rows.len();
    let notes = if count == 1 { "1 note".to_owned() } else { format!("{count} notes") };
    format!("{notes}:\n{}", table::table(&["LINE", "KEY", "NOTE"], &rows))
}
