//! The events of a control machine in SQLite.
//!
//! They explain what happened and nothing depends on them: a file that can't be used is set aside, and the
//! disk is not waited for.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::record_file::{RecordFile, Schema, set_aside, time, with_end};
use crate::model::timeline::{EventQuery, KEPT, MOST, MOST_OF_ONE, TimelineEvent};
use crate::port::cluster::Snapshot;
use crate::port::kept::{Kept, KeptError};
use crate::port::timeline::Timeline;

/// Where a control machine keeps its events.
pub const ON_MACHINE: &str = "/var/lib/fleetwright/events.db";

/// The schema that this version writes.
const SCHEMA: i64 = 1;

/// Schema 1. Times are RFC 3339 in UTC with milliseconds, so that they sort as texts; `owner` is the service,
/// job or machine that the event counts for; `body` is an event's JSON. `seen` is the last observation, a
/// snapshot's JSON.
const SCHEMA_1: &str = "
CREATE TABLE event (
    id TEXT PRIMARY KEY,
    at TEXT NOT NULL,
    owner TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX event_at ON event (at);
CREATE INDEX event_owner ON event (owner, at);
CREATE TABLE seen (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
PRAGMA user_version = 1;
";

/// After how many new events the limits are enforced.
const PRUNE_EVERY: u32 = 100;

/// Limits on what is kept.
#[derive(Debug, Clone, Copy)]
struct Limits {
    of_one: u32,
    all: u32,
}

/// Events in one file.
#[derive(Debug)]
pub struct SqliteTimeline {
    file: RecordFile,
    limits: Limits,
    /// Events since the limits were enforced.
    added: AtomicU32,
}

impl SqliteTimeline {
    /// Opens the file at `path`, creating it where there is none. One that can't be used is set
    /// aside, in place of one that was set aside before.
    ///
    /// # Errors
    /// When no file can be created there.
    pub fn open(path: &Path) -> Result<Self, KeptError> {
        match Self::open_as_it_is(path) {
            Ok(timeline) => Ok(timeline),
            Err(error) if path.exists() => {
                tracing::error!(%error, "the events can't be used: new ones are begun");
                set_aside(Kept::Events, path, &with_end(path, ".aside"))?;
                Self::open_as_it_is(path)
            }
            Err(error) => Err(error),
        }
    }

    fn open_as_it_is(path: &Path) -> Result<Self, KeptError> {
        // A power cut may lose the newest events, which other control machines have as well.
        let file = RecordFile::open(
            path,
            Schema { what: Kept::Events, version: SCHEMA, text: SCHEMA_1, synchronous: "NORMAL" },
        )?;
        let limits = Limits { of_one: MOST_OF_ONE, all: MOST };
        // A file that was opened often is bounded as well.
        Ok(Self { file, limits, added: AtomicU32::new(PRUNE_EVERY) })
    }
}

impl Timeline for SqliteTimeline {
    fn record(&self, events: &[TimelineEvent]) -> Result<(), KeptError> {
        if events.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let prunes = self.added.fetch_add(count, Ordering::Relaxed) >= PRUNE_EVERY;
        self.file.write(|t| {
            for event in events {
                let known: Option<String> = t
                    .prepare_cached("SELECT body FROM event WHERE id = ?1")?
                    .query_row([&event.id], |row| row.get(0))
                    .optional()?;
                let known = known.and_then(|text| serde_json::from_str::<TimelineEvent>(&text).ok());
                let event = match known {
                    Some(known) => {
                        let joined = known.clone().joined(event.clone());
                        if joined == known {
                            continue;
                        }
                        joined
                    }
                    None => event.clone(),
                };
                t.prepare_cached(
                    "INSERT OR REPLACE INTO event (id, at, owner, body) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![event.id, time(event.at), event.owner(), body(&event)])?;
            }
            if prunes {
                prune(t, self.limits, Utc::now())?;
            }
            Ok(())
        })?;
        if prunes {
            self.added.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read(&self, query: &EventQuery) -> Result<Vec<TimelineEvent>, KeptError> {
        let reading = |error: rusqlite::Error| self.file.unread(&error);
        let connection = self.file.lock();
        let mut statement = connection
            .prepare_cached("SELECT body FROM event WHERE at >= ?1 ORDER BY at DESC, id DESC")
            .map_err(reading)?;
        let mut rows = statement.query([query.since.map(time).unwrap_or_default()]).map_err(reading)?;
        let mut found = Vec::new();
        while found.len() < query.limit as usize
            && let Some(row) = rows.next().map_err(reading)?
        {
            let text: String = row.get(0).map_err(reading)?;
            let event = serde_json::from_str::<TimelineEvent>(&text).ok();
            found.extend(event.filter(|event| query.takes(event)));
        }
        found.reverse();
        Ok(found)
    }

    fn keep(&self, seen: &Snapshot, at: DateTime<Utc>) -> Result<(), KeptError> {
        let text = serde_json::to_string(seen).map_err(|error| KeptError::Access {
            what: Kept::Events,
            doing: "writing",
            reason: error.to_string(),
        })?;
        let row = params![time(at), text];
        self.file
            .write(|t| t.execute("INSERT OR REPLACE INTO seen (one, at, body) VALUES (1, ?1, ?2)", row))
            .map(drop)
    }

    fn kept(&self) -> Result<Option<(Snapshot, DateTime<Utc>)>, KeptError> {
        let reading = |error: rusqlite::Error| self.file.unread(&error);
        let row: Option<(String, String)> = self
            .file
            .lock()
            .query_row("SELECT body, at FROM seen", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(reading)?;
        // What another version kept and this one can't read is as good as nothing.
        Ok(row.and_then(|(text, at)| Some((serde_json::from_str(&text).ok()?, at.parse().ok()?))))
    }
}

/// Deletes what is past its time, and the oldest of what there is too much of.
fn prune(t: &Transaction<'_>, limits: Limits, now: DateTime<Utc>) -> Result<(), rusqlite::Error> {
    t.execute("DELETE FROM event WHERE at < ?1", [time(now - KEPT)])?;
    t.execute(
        "DELETE FROM event WHERE id IN (
            SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY owner ORDER BY at DESC, id DESC) AS place
                            FROM event)
            WHERE place > ?1)",
        [limits.of_one],
    )?;
    t.execute(
        "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY at DESC, id DESC LIMIT -1 OFFSET ?1)",
        [limits.all],
    )?;
    Ok(())
}

fn body(event: &TimelineEvent) -> String {
    serde_json::to_string(event).expect("an event is made of texts, numbers and lists of texts")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use chrono::TimeDelta;

    use super::*;
    use crate::model::timeline::EventKind;

    fn event(id: &str, service: &str, at: DateTime<Utc>) -> TimelineEvent {
        TimelineEvent::new(id.to_owned(), at, EventKind::Healthy, "healthy")
            .of(&service.parse().expect("a name"))
    }

    fn all() -> EventQuery {
        EventQuery { limit: 10_000, ..EventQuery::default() }
    }

    fn ids(timeline: &SqliteTimeline, query: &EventQuery) -> Vec<String> {
        timeline.read(query).expect("read").into_iter().map(|event| event.id).collect()
    }

    #[test]
    fn what_was_recorded_is_read_after_the_file_was_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state/events.db");
        let now = Utc::now();
        let events = [event("b", "web", now), event("a", "db", now - TimeDelta::seconds(1))];
        SqliteTimeline::open(&path).expect("opened").record(&events).expect("recorded");
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let timeline = SqliteTimeline::open(&path).expect("opened");
        assert_eq!(ids(&timeline, &all()), ["a", "b"]);
        assert_eq!(ids(&timeline, &EventQuery { of: vec!["web".into()], ..all() }), ["b"]);
        assert_eq!(ids(&timeline, &EventQuery { limit: 1, ..all() }), ["b"]);
        assert_eq!(
            ids(&timeline, &EventQuery { since: Some(now - TimeDelta::milliseconds(1)), ..all() }),
            ["b"]
        );

        // The same again says who it was; nothing is there twice.
        timeline.record(&[event("b", "web", now + TimeDelta::seconds(3)).by("token/ci")]).expect("recorded");
        timeline.record(&[event("b", "web", now)]).expect("recorded");
        let found = timeline.read(&all()).expect("read");
        assert_eq!((found.len(), found[1].by.as_deref()), (2, Some("token/ci")));
        assert!((found[1].at - now).abs() < TimeDelta::milliseconds(1));
    }

    #[test]
    fn a_service_that_fails_all_the_time_pushes_out_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut timeline = SqliteTimeline::open(&folder.path().join("events.db")).expect("opened");
        timeline.limits = Limits { of_one: 10, all: 15 };
        let now = Utc::now();
        let early = event("early", "db", now - TimeDelta::hours(23));
        let past = event("past", "db", now - TimeDelta::hours(25));
        timeline.record(&[early, past]).expect("recorded");
        for number in 0..3 * i64::from(PRUNE_EVERY) {
            let at = now - TimeDelta::minutes(30) + TimeDelta::seconds(number);
            timeline.record(&[event(&format!("flaps-{number:04}"), "web", at)]).expect("recorded");
        }
        let db = ids(&timeline, &EventQuery { of: vec!["db".into()], ..all() });
        assert_eq!(db, ["early"], "what is older than 24 h is gone");
        let web = ids(&timeline, &EventQuery { of: vec!["web".into()], ..all() });
        assert!((10..10 + PRUNE_EVERY as usize + 2).contains(&web.len()), "{}", web.len());
        assert_eq!(web.last().map(String::as_str), Some("flaps-0299"));

        let others: Vec<_> = (0..200).map(|one| event(&format!("o{one}"), &format!("s{one}"), now)).collect();
        timeline.record(&others).expect("recorded");
        timeline.record(&others[..1]).expect("recorded");
        assert_eq!(ids(&timeline, &all()).len(), 15);
    }

    #[test]
    fn what_can_t_be_used_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.db");
        std::fs::write(&path, "this is no database, and long enough to look like one").expect("written");
        let timeline = SqliteTimeline::open(&path).expect("opened");
        assert_eq!(ids(&timeline, &all()), [""; 0]);
        assert!(folder.path().join("events.db.aside").exists());
        drop(timeline);
        rusqlite::Connection::open(&path)
            .expect("opened")
            .pragma_update(None, "user_version", SCHEMA + 1)
            .expect("set");
        let error = SqliteTimeline::open_as_it_is(&path).expect_err("of a later version");
        assert!(matches!(error, KeptError::Newer { .. }), "{error}");
    }

    #[test]
    fn the_last_observation_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let timeline = SqliteTimeline::open(&folder.path().join("events.db")).expect("opened");
        assert!(timeline.kept().expect("read").is_none());
        let at: DateTime<Utc> = "2026-11-29T10:00:00.123Z".parse().expect("a time");
        let seen = Snapshot { version: 1, revision: 7, machines: Vec::new(), services: Vec::new() };
        timeline.keep(&seen, at).expect("kept");
        assert_eq!(timeline.kept().expect("read"), Some((seen, at)));
        timeline.file.lock().execute("UPDATE seen SET body = 'of a later version'", []).expect("changed");
        assert!(timeline.kept().expect("read").is_none());
    }
}
