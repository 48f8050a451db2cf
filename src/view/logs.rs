//! Lines of logs.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::model::logs::LogEntry;

/// The version of a line's object; raised when a field changes its meaning.
const VERSION: u32 = 1;

/// A line for people: `web@1 i-0d3c | text`, with its time before it where that is wanted.
pub fn human(entry: &LogEntry, timestamps: bool) -> String {
    let LogEntry { at, instance, machine, text } = entry;
    let time = if timestamps { at.to_rfc3339_opts(SecondsFormat::Millis, true) + " " } else { String::new() };
    format!("{time}{instance} {machine} | {text}")
}

/// A line as JSON.
pub fn json(entry: &LogEntry) -> Value {
    let service = entry.instance.split('@').next().unwrap_or_default();
    json!({
        "version": VERSION,
        "timestamp": entry.at.to_rfc3339_opts(SecondsFormat::Nanos, true),
        "service": service,
        "instance": entry.instance,
        "machine": entry.machine,
        "text": entry.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_where_and_when() {
        let entry = LogEntry {
            at: "2026-11-29T10:00:00.123456789Z".parse().expect("a time"),
            instance: "web@1".to_owned(),
            machine: "i-0d3c".to_owned(),
            text: "a | b".to_owned(),
        };
        assert_eq!(human(&entry, false), "web@1 i-0d3c | a | b");
        assert_eq!(human(&entry, true), "2026-11-29T10:00:00.123Z web@1 i-0d3c | a | b");
        let line = json(&entry);
        assert_eq!((&line["service"], &line["text"]), (&json!("web"), &json!("a | b")));
        assert_eq!(line["timestamp"], "2026-11-29T10:00:00.123456789Z");
    }
}
