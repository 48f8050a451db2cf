//! Lines of logs, as JSON.

use serde_json::{Value, json};

/// The version of a line's object; raised when a field changes its meaning.
const VERSION: u32 = 1;

/// A line as the cluster gives it, `web@1 i-0d3c | text`; without the part before the bar there is neither instance
/// nor machine.
pub fn json(service: &str, line: &str) -> Value {
    let (head, text) = match line.split_once(" | ") {
        Some((head, text)) => (head, text),
        None => match line.strip_suffix(" |") {
            Some(head) => (head, ""),
            None => ("", line),
        },
    };
    let mut words = head.split_whitespace();
    let (instance, machine) = match (words.next(), words.next(), words.next()) {
        (Some(instance), Some(machine), None) if instance.contains('@') => (Some(instance), Some(machine)),
        _ => (None, None),
    };
    let text = if instance.is_some() { text } else { line };
    json!({"version": VERSION, "service": service, "instance": instance, "machine": machine, "text": text})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = json("web", "web@1 i-0d3c | a | b");
        assert_eq!(
            (&line["instance"], &line["machine"], &line["text"]),
            (&json!("web@1"), &json!("i-0d3c"), &json!("a | b"))
        );
        let empty = json("web", "web@2 i-0d3c |");
        assert_eq!((&empty["instance"], &empty["text"]), (&json!("web@2"), &json!("")));
        let bare = json("web", "no head | at all");
        assert_eq!((&bare["instance"], &bare["text"]), (&Value::Null, &json!("no head | at all")));
    }
}
