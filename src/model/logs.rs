//! Lines of the logs of instances.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Which lines of a service's logs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Only of this instance: what follows the `@` in its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Only from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Only until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Only those that contain this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// At most so many of each instance, the newest; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Whether those to come are wanted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

impl LogQuery {
    /// Whether a line that was written at `at` is wanted.
    pub fn takes(&self, at: DateTime<Utc>, text: &str) -> bool {
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
            && self.grep.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When it was written, by the clock of its machine.
    pub at: DateTime<Utc>,
    /// The instance.
    pub instance: String,
    /// Its machine.
    pub machine: String,
    /// The line, without its end.
    pub text: String,
}

/// What comes when logs are read, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A line.
    Entry(LogEntry),
    /// Everything that was written before the question has come; what follows is new.
    Live,
    /// A machine whose lines are missing, and why.
    Missing {
        /// The machine.
        machine: String,
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_wanted_within_its_time_and_with_its_text() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let query = LogQuery {
            since: Some(at("2026-11-29T10:00:00Z")),
            until: Some(at("2026-11-29T11:00:00Z")),
            grep: Some("a.b".to_owned()),
            ..LogQuery::default()
        };
        assert!(query.takes(at("2026-11-29T10:00:00Z"), "x a.b y"));
        assert!(!query.takes(at("2026-11-29T10:00:00Z"), "x aXb y"), "it is no pattern");
        assert!(!query.takes(at("2026-11-29T09:59:59.999Z"), "a.b"));
        assert!(!query.takes(at("2026-11-29T11:00:00.000000001Z"), "a.b"));
        assert!(LogQuery::default().takes(at("1970-01-01T00:00:00Z"), ""));
    }
}
