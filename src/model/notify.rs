//! Whom a cluster notifies of what: the section `notify` of `fleetwright.yaml`, and what is published of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::mount::SecretRef;

/// The version of what is published, of what is kept, and of the messages.
pub const NOTIFY_VERSION: u32 = 1;
/// How long a service must not be whole before somebody is notified, unless given.
pub const AFTER: Duration = Duration::from_secs(60);

/// What somebody can be notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alert {
    /// A service has had fewer healthy instances than it should for a while.
    ServiceNotWhole,
    /// A machine does not answer.
    MachineLost,
    /// The rollout of a revision failed.
    RolloutFailed,
    /// An occurrence of a job failed, or its outcome is unknown.
    JobFailed,
    /// A machine runs short of disk, inodes or memory.
    MachineShort,
}

impl Alert {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ServiceNotWhole, Self::MachineLost, Self::RolloutFailed, Self::JobFailed, Self::MachineShort];

    /// The word in files and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::ServiceNotWhole => "service-not-whole",
            Self::MachineLost => "machine-lost",
            Self::RolloutFailed => "rollout-failed",
            Self::JobFailed => "job-failed",
            Self::MachineShort => "machine-short",
        }
    }

    /// Whether it passes, so that a second message says when it has.
    pub fn passes(self) -> bool {
        matches!(self, Self::ServiceNotWhole | Self::MachineLost | Self::MachineShort)
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Alert {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|alert| alert.word() == text).ok_or(())
    }
}

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As fleetwright's own document.
    Json,
    /// As Slack's incoming webhooks take it.
    Slack,
}

impl Form {
    /// The key in files.
    pub fn key(self) -> &'static str {
        match self {
            Self::Json => "url",
            Self::Slack => "slack",
        }
    }
}

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// How messages are written.
    pub form: Form,
    /// The secret that holds its URL. The URL itself is what lets somebody in, and stands nowhere.
    pub secret: SecretRef,
    /// What it is notified of.
    pub events: Vec<Alert>,
    /// How long a service must not be whole before that.
    pub after: Duration,
}

/// Everybody who is notified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receivers {
    /// [`NOTIFY_VERSION`].
    pub version: u32,
    /// The receivers.
    pub receivers: Vec<Receiver>,
}

impl Receivers {
    /// The document as it is published.
    pub fn publish(&self) -> String {
        serde_json::to_string(self).expect("it is made of texts and numbers")
    }

    /// Reads what was published.
    ///
    /// # Errors
    /// When it is damaged, or a later version published it.
    pub fn read(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.version == NOTIFY_VERSION {
            Ok(read)
        } else {
            Err(format!("it has version {}, this program knows {NOTIFY_VERSION}", read.version))
        }
    }
}

/// Something that is wrong now, or that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What it is.
    pub alert: Alert,
    /// What it is about: `service/web`, `machine/i-1`, `job/nightly`.
    pub subject: String,
    /// What is wrong, for people.
    pub text: String,
    /// Since when, as far as that is known.
    pub since: DateTime<Utc>,
}

/// What a leader remembers of notifications, by receiver and condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notified {
    /// What is wrong, and whether it was sent.
    pub known: BTreeMap<String, Remembered>,
    /// The receivers for which the cluster was observed before. It is not kept for the next leader.
    pub watched: BTreeSet<SecretRef>,
}

/// One condition for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The condition.
    pub condition: Condition,
    /// When the message was sent; `None` while it is not due, or could not be sent.
    pub sent: Option<DateTime<Utc>>,
}

/// What was sent, as it is kept for the next leader: by receiver and condition, its time and when it was sent, in
/// seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNotified {
    /// [`NOTIFY_VERSION`].
    pub version: u32,
    /// What was sent.
    pub sent: BTreeMap<String, (i64, i64)>,
}

/// The most that the parameter store takes in one parameter.
const STORED_MOST: usize = 4096;

impl Notified {
    /// What the next leader must know of it. When that is too much, it is the newest of it.
    pub fn store(&self) -> String {
        let sent = |one: &Remembered| Some((one.condition.since.timestamp(), one.sent?.timestamp()));
        let sent = self.known.iter().filter_map(|(key, one)| Some((key.clone(), sent(one)?))).collect();
        let mut stored = StoredNotified { version: NOTIFY_VERSION, sent };
        loop {
            let text = serde_json::to_string(&stored).expect("it is made of texts and numbers");
            let oldest = stored.sent.iter().min_by_key(|(_, (_, sent))| *sent).map(|(key, _)| key.clone());
            match oldest {
                Some(oldest) if text.len() > STORED_MOST => stored.sent.remove(&oldest),
                Some(_) | None => return text,
            };
        }
    }

    /// What an earlier leader kept. What is damaged is nothing: then messages are sent again.
    pub fn restore(text: &str) -> Self {
        let stored = serde_json::from_str::<StoredNotified>(text).ok();
        let sent = stored.filter(|one| one.version == NOTIFY_VERSION).map(|one| one.sent).unwrap_or_default();
        let known = sent.into_iter().filter_map(|(key, (since, sent))| {
            let mut words = key.split(' ').skip(1);
            let alert: Alert = words.next()?.parse().ok()?;
            let subject = words.next()?.to_owned();
            let text = format!("{alert}, {subject}");
            let since = DateTime::from_timestamp(since, 0)?;
            let condition = Condition { alert, subject, text, since };
            Some((key, Remembered { condition, sent: DateTime::from_timestamp(sent, 0) }))
        });
        Self { known: known.collect(), watched: BTreeSet::new() }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same when it is sent again.
    pub id: String,
    /// What it is about.
    pub condition: Condition,
    /// Whether it says that the condition has passed.
    pub passed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_and_kept_document_is_read() {
        for (name, text) in crate::source::samples::of("notify") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let receivers = Receivers::read(&sample["receivers"].to_string()).expect(&name);
            assert_eq!(receivers.receivers.len(), 2);
            assert_eq!(Receivers::read(&receivers.publish()), Ok(receivers));
            let notified = Notified::restore(&sample["notified"].to_string());
            assert_eq!(notified.known.len(), 2);
            assert_eq!(Notified::restore(&notified.store()), notified);
        }
        let later = r#"{"version":2,"receivers":[]}"#;
        assert!(Receivers::read(later).expect_err("a later version").contains("version 2"));
    }

    #[test]
    fn what_is_kept_fits_into_a_parameter() {
        let since = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let one = |number: i64| {
            let subject = format!("job/nightly-{number}");
            let key = format!("slack-hook {} {subject} {number}", Alert::JobFailed);
            let condition = Condition { alert: Alert::JobFailed, subject, text: "x".repeat(300), since };
            (key, Remembered { condition, sent: DateTime::from_timestamp(1_800_000_000 + number, 0) })
        };
        let all = Notified { known: (0..500).map(one).collect(), ..Notified::default() };
        let stored = all.store();
        assert!(stored.len() <= STORED_MOST && stored.len() > STORED_MOST - 100, "{}", stored.len());
        let kept = Notified::restore(&stored).known;
        assert!(kept.keys().any(|key| key.ends_with(" 499")) && !kept.keys().any(|key| key.ends_with(" 1")));
        assert_eq!(Notified::restore("damaged"), Notified::default());
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for alert in Alert::ALL {
            assert_eq!(alert.word().parse(), Ok(alert));
            assert_eq!(serde_json::to_value(alert).expect("JSON"), alert.word());
        }
    }
}
