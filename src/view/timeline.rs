//! What happened, a line each.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::model::timeline::{TIMELINE_VERSION, TimelineEvent, short};

/// How many of the last lines of output are shown to people; JSON has all that are kept.
const LINES: usize = 3;
/// How wide the subject's column is at least.
const SUBJECT: usize = 12;

/// An event for people: `2026-11-29 02:58:11  web@2  unhealthy on i-0d3c: 500 from /health`.
pub fn human(event: &TimelineEvent) -> String {
    let at = event.at.format("%Y-%m-%d %H:%M:%S");
    let by = event.by.as_ref().map_or_else(String::new, |by| format!(", by {}", short(by)));
    let mut text = format!("{at}  {:<SUBJECT$}  {}{by}\n", event.subject(), event.text);
    let first = event.lines.len().saturating_sub(LINES);
    for line in &event.lines[first..] {
        text.push_str(&format!("{:21}{:<SUBJECT$}  | {line}\n", "", ""));
    }
    text
}

/// An event as JSON.
pub fn json(event: &TimelineEvent) -> Value {
    json!({
        "version": TIMELINE_VERSION,
        "id": event.id,
        "timestamp": event.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "kind": event.kind,
        "service": event.service,
        "job": event.job,
        "instance": event.instance,
        "machine": event.machine,
        "by": event.by,
        "text": event.text,
        "lines": event.lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timeline::EventKind;

    #[test]
    fn a_line_says_when_what_and_who() {
        let at = "2026-11-29T02:58:11.123Z".parse().expect("a time");
        let web = "web".parse().expect("a name");
        let ended = TimelineEvent::new("x".into(), at, EventKind::Ended, "exited on i-0d3c with status 3");
        let lines: Vec<String> = (1..=5).map(|number| format!("line {number}")).collect();
        let ended = ended.of(&web).instance("web@2").printed(&lines);
        let deployed =
            TimelineEvent::new("y".into(), at, EventKind::Deployed, "revision 3 begins to roll out");
        let deployed = deployed.of(&web).by("arn:aws:iam::123456789012:role/deploy/ada");
        insta::assert_snapshot!(human(&ended) + &human(&deployed), @r"
        2026-11-29 02:58:11  web@2         exited on i-0d3c with status 3
                                           | line 3
                                           | line 4
                                           | line 5
        2026-11-29 02:58:11  web           revision 3 begins to roll out, by role/deploy/ada
        ");
        assert_eq!(json(&ended)["lines"].as_array().map(Vec::len), Some(5));
        assert_eq!(json(&deployed)["by"], "arn:aws:iam::123456789012:role/deploy/ada");
        assert_eq!((&json(&ended)["kind"], &json(&ended)["machine"]), (&json!("ended"), &Value::Null));
    }
}
