//! Why a service is in the state it is in.

use serde_json::{Value, json};

use super::timeline;
use super::words::count;
use crate::model::name::ServiceName;
use crate::plan::why::Why;

/// The version of the document.
const VERSION: u32 = 1;

/// The answer for people.
pub fn human(why: &Why) -> String {
    let mut text = format!("{}\n", why.state);
    if !why.problems.is_empty() {
        text.push('\n');
        for problem in &why.problems {
            text.push_str(&format!("  {:<12}  {}\n", problem.instance, problem.text));
        }
    }
    if !why.story.is_empty() {
        text.push_str("\nWHAT HAPPENED (UTC), newest first\n");
        for entry in &why.story {
            let lines = timeline::human(&entry.event);
            let mut lines = lines.lines();
            text.push_str(lines.next().unwrap_or_default());
            if entry.times > 1 {
                let since = entry.since.format("%Y-%m-%d %H:%M:%S");
                text.push_str(&format!(" ({} since {since})", count(entry.times, "time")));
            }
            text.push('\n');
            for line in lines {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    if !why.next.is_empty() {
        text.push('\n');
        for next in &why.next {
            text.push_str(&format!(" next: {next}\n"));
        }
    }
    text
}

/// The answer as JSON.
pub fn json(service: &ServiceName, why: &Why) -> Value {
    let problems: Vec<Value> =
        why.problems.iter().map(|one| json!({ "instance": one.instance, "text": one.text })).collect();
    let story: Vec<Value> = why
        .story
        .iter()
        .map(|entry| {
            let mut event = timeline::json(&entry.event);
            event["times"] = entry.times.into();
            event["since"] = json!(entry.since);
            event
        })
        .collect();
    json!({
        "version": VERSION,
        "service": service,
        "situation": why.situation,
        "state": why.state,
        "problems": problems,
        "story": story,
        "next": why.next,
    })
}
