//! Events: the one record of what happens.
//!
//! Drivers emit them, views turn them into terminal lines, JSON, log files or web
//! pages, and the journal keeps them. They are for users; `tracing` is for maintainers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::model::redact::{Mask, WITHHELD};

pub mod local;
pub mod pipeline;
pub mod roll;
pub mod rollout;
pub mod stack;

/// The version that every event carries; raised when a field changes its meaning.
pub const EVENT_VERSION: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`EVENT_VERSION`] of the writer.
    pub version: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub kind: EventKind,
}

/// What happened, by what it happened to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// To a stack.
    Stack(stack::StackEvent),
    /// To a run of a pipeline.
    Pipeline(pipeline::PipelineEvent),
    /// To a rollout outside of a run.
    Rollout(rollout::RolloutEvent),
    /// To a group that is being rolled.
    Roll(roll::RollEvent),
    /// To the local cloud.
    Local(local::LocalEvent),
    /// Free words of progress, such as what is being waited for.
    Note {
        /// One line.
        text: String,
    },
}

impl EventKind {
    /// What stands in place of an event that cannot be shown without a secret.
    fn withheld(&self) -> Self {
        match self {
            Self::Pipeline(event) => Self::Pipeline(event.withheld()),
            _ => Self::Note { text: format!("an event is {WITHHELD}") },
        }
    }
}

/// The sending end of an event stream. Cheap to clone; sending never waits and never
/// fails, since nobody listening is no reason to stop working.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::UnboundedSender<Event>,
    mask: Mask,
}

impl Events {
    /// A stream and the end to read it from. What the process must not show is masked.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        Self::masked(Mask::process())
    }

    /// A stream whose events `mask` masks, and the end to read it from.
    pub fn masked(mask: Mask) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, mask }, receiver)
    }

    /// Emits `kind`, stamped with the time and masked. One that cannot be shown without a secret
    /// is replaced by a note that says so.
    pub fn emit(&self, kind: EventKind) {
        let kind = self.mask.masked(&kind).unwrap_or_else(|| kind.withheld());
        let _ = self.sender.send(Event { version: EVENT_VERSION, at: Utc::now(), kind });
    }

    /// Emits a line of progress.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(EventKind::Note { text: text.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_event_loads() {
        for (name, text) in crate::source::samples::of("events") {
            for line in text.lines() {
                let event: Event =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {line}: {error}"));
                assert!(event.version <= EVENT_VERSION, "{name}");
            }
        }
    }
}
