//! The audit log of a control machine in SQLite.
//!
//! Events are only ever added; the oldest go when a class of changes has more than its bound.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::record_file::{RecordFile, Schema, set_aside, time, with_end};
use crate::model::audit::{AuditEvent, Change, Class, Draft, Ended, Filter, surplus};
use crate::model::name::MachineId;
use crate::port::audit::{AuditLog, Unshipped};
use crate::port::kept::{Kept, KeptError};

/// Where a control machine keeps its log.
pub const ON_MACHINE: &str = "/var/lib/fleetwright/audit.db";

/// The schema that this version writes.
const SCHEMA: i64 = 1;

/// Schema 1. `change` is the number of the event with which the change began; times are
/// RFC 3339 in UTC with milliseconds, so that they sort as texts; `body` is an event's JSON.
const SCHEMA_1: &str = "
CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL,
    shipped INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    change INTEGER NOT NULL,
    begins INTEGER NOT NULL CHECK (begins IN (0, 1)),
    class TEXT NOT NULL CHECK (class IN ('person', 'machine', 'denied')),
    at TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX event_change ON event (change, number);
CREATE INDEX event_begin ON event (class, number) WHERE begins = 1;
PRAGMA user_version = 1;
";

/// After how many new changes the bounds are enforced.
const PRUNE_EVERY: u32 = 100;

/// A log in one file.
#[derive(Debug)]
pub struct SqliteAuditLog {
    file: RecordFile,
    machine: String,
    name: String,
    bound: fn(Class) -> i64,
    /// Changes begun since the bounds were enforced.
    begun: AtomicU32,
}

impl SqliteAuditLog {
    /// Opens the log at `path`, creating it where there is none. One that can't be used is
    /// moved aside, so that it can be examined and changes can be made again.
    ///
    /// # Errors
    /// When no log can be created there.
    pub fn open(path: &Path, machine: &MachineId) -> Result<Self, KeptError> {
        match Self::open_as_it_is(path, machine) {
            Ok(log) => Ok(log),
            Err(error) if path.exists() => {
                let aside = aside(path, Utc::now());
                tracing::error!(%error, aside = %aside.display(), "the audit log can't be used: a new one is begun");
                set_aside(Kept::AuditLog, path, &aside)?;
                Self::open_as_it_is(path, machine)
            }
            Err(error) => Err(error),
        }
    }

    fn open_as_it_is(path: &Path, machine: &MachineId) -> Result<Self, KeptError> {
        let file = RecordFile::open(
            path,
            Schema { what: Kept::AuditLog, version: SCHEMA, text: SCHEMA_1, synchronous: "FULL" },
        )?;
        // The random part tells this log from one that the machine had before.
        let name = file.write(|t| {
            t.execute(
                "INSERT OR IGNORE INTO log (one, name, shipped) VALUES (1, ?1 || '-' || lower(hex(randomblob(4))), 0)",
                [machine.as_str()],
            )?;
            t.query_row("SELECT name FROM log", [], |row| row.get(0))
        })?;
        let machine = machine.to_string();
        // A log that was opened often is bounded as well.
        let begun = AtomicU32::new(PRUNE_EVERY);
        Ok(Self { file, machine, name, bound: Class::bound, begun })
    }

    /// The number of a change of this log.
    fn number(&self, id: &str) -> Option<i64> {
        id.strip_prefix(&self.name)?.strip_prefix('-')?.parse().ok()
    }
}

impl AuditLog for SqliteAuditLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self, draft: &Draft) -> Result<String, KeptError> {
        self.file.write(|t| {
            let number: i64 = t.query_row(
                "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0) + 1",
                [],
                |row| row.get(0),
            )?;
            let id = format!("{}-{number}", self.name);
            let event = AuditEvent::Begun(draft.begun(id.clone(), self.machine.clone()));
            t.prepare_cached(
                "INSERT INTO event (number, change, begins, class, at, body) VALUES (?1, ?1, 1, ?2, ?3, ?4)",
            )?
            .execute(params![number, draft.class.word(), time(draft.at), body(&event)])?;
            if self.begun.fetch_add(1, Ordering::Relaxed) >= PRUNE_EVERY {
                prune(t, self.bound)?;
                self.begun.store(0, Ordering::Relaxed);
            }
            Ok(id)
        })
    }

    fn end(&self, ended: &Ended) -> Result<(), KeptError> {
        let Some(change) = self.number(&ended.id) else {
            return Err(KeptError::Access {
                what: Kept::AuditLog,
                doing: "writing",
                reason: format!("`{}` is not a change of this log", ended.id),
            });
        };
        let event = AuditEvent::Ended(ended.clone());
        self.file.write(|t| {
            // The beginning may have been dropped meanwhile; then the end is of no use either.
            t.prepare_cached(
                "INSERT INTO event (change, begins, class, at, body)
                 SELECT number, 0, class, ?2, ?3 FROM event WHERE number = ?1 AND begins = 1",
            )?
            .execute(params![change, time(ended.at), body(&event)])
            .map(drop)
        })
    }

    fn newest(&self, filter: &Filter, limit: u32) -> Result<Vec<AuditEvent>, KeptError> {
        let reading = |error: rusqlite::Error| self.file.unread(&error);
        let connection = self.file.lock();
        let mut begun = connection
            .prepare_cached(
                "SELECT number, body FROM event WHERE begins = 1 AND at >= ?1 ORDER BY number DESC",
            )
            .map_err(reading)?;
        let mut ended = connection
            .prepare_cached("SELECT body FROM event WHERE change = ?1 AND begins = 0 ORDER BY number DESC")
            .map_err(reading)?;
        let since = filter.since.map(time).unwrap_or_default();
        let mut rows = begun.query([since]).map_err(reading)?;
        let mut found = Vec::new();
        let mut changes = 0;
        while changes < limit
            && let Some(row) = rows.next().map_err(reading)?
        {
            let (number, text): (i64, String) = (row.get(0).map_err(reading)?, row.get(1).map_err(reading)?);
            let Ok(AuditEvent::Begun(begun)) = serde_json::from_str(&text) else { continue };
            let change = Change { begun, ended: None };
            if !filter.takes(&change) {
                continue;
            }
            changes += 1;
            let ends = ended.query_map([number], |row| row.get::<_, String>(0)).map_err(reading)?;
            for end in ends {
                found.extend(serde_json::from_str::<AuditEvent>(&end.map_err(reading)?).ok());
            }
            found.push(AuditEvent::Begun(change.begun));
        }
        found.reverse();
        Ok(found)
    }

    fn unshipped(&self, limit: u32) -> Result<Option<Unshipped>, KeptError> {
        let reading = |error: rusqlite::Error| self.file.unread(&error);
        let connection = self.file.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT number, body FROM event WHERE number > (SELECT shipped FROM log)
                 ORDER BY number LIMIT ?1",
            )
            .map_err(reading)?;
        let rows: Vec<(i64, String)> = statement
            .query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(reading)?;
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return Ok(None) };
        let (first, last) = (*first, *last);
        let events = rows.iter().filter_map(|(_, text)| serde_json::from_str(text).ok()).collect();
        Ok(Some(Unshipped { first, last, events }))
    }

    fn shipped(&self, last: i64) -> Result<(), KeptError> {
        self.file.write(|t| t.execute("UPDATE log SET shipped = max(shipped, ?1)", [last]).map(drop))
    }
}

/// Drops the oldest changes of each class that has too many.
fn prune(t: &Transaction<'_>, bound: fn(Class) -> i64) -> Result<(), rusqlite::Error> {
    for class in Class::ALL {
        let count: i64 = t.query_row(
            "SELECT count(*) FROM event WHERE class = ?1 AND begins = 1",
            [class.word()],
            |row| row.get(0),
        )?;
        let gone = surplus(count, bound(class));
        if gone == 0 {
            continue;
        }
        let last: Option<i64> = t
            .query_row(
                "SELECT number FROM event WHERE class = ?1 AND begins = 1 ORDER BY number LIMIT 1 OFFSET ?2",
                params![class.word(), gone - 1],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(last) = last {
            t.execute("DELETE FROM event WHERE class = ?1 AND change <= ?2", params![class.word(), last])?;
        }
    }
    Ok(())
}

fn body(event: &AuditEvent) -> String {
    serde_json::to_string(event).expect("an event is made of texts, numbers and maps from texts to texts")
}

fn aside(path: &Path, now: DateTime<Utc>) -> PathBuf {
    with_end(path, &format!(".aside-{}", now.format("%Y%m%dT%H%M%SZ")))
}

#[cfg(test)]
#[path = "audit_log_tests.rs"]
mod tests;
