//! Where a control machine keeps what happened.

use chrono::{DateTime, Utc};

use super::cluster::Snapshot;
use super::kept::KeptError;
use crate::model::timeline::{EventQuery, TimelineEvent};

/// The events that one control machine keeps. Calls block.
pub trait Timeline: Send + Sync {
    /// Records events. One that is recorded already is joined with what is known of it.
    ///
    /// # Errors
    /// When they can't be written.
    fn record(&self, events: &[TimelineEvent]) -> Result<(), KeptError>;

    /// The events that `query` takes, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    fn read(&self, query: &EventQuery) -> Result<Vec<TimelineEvent>, KeptError>;

    /// Keeps the observation from which the next events are derived.
    ///
    /// # Errors
    /// When it can't be written.
    fn keep(&self, seen: &Snapshot, at: DateTime<Utc>) -> Result<(), KeptError>;

    /// The observation that was kept last, and when; `None` when there is none that can be read.
    ///
    /// # Errors
    /// When it can't be read.
    fn kept(&self) -> Result<Option<(Snapshot, DateTime<Utc>)>, KeptError>;
}
