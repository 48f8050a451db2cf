//! A file of records on a control machine, in SQLite: readable by root only, of one schema, and set aside when it
//! can't be used.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::port::kept::{Kept, KeptError};

/// The files that SQLite keeps for one database, by what their names end with.
const FILES: [&str; 3] = ["", "-wal", "-shm"];
/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(10);

/// What a file holds, and how much of it a power cut may lose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema {
    /// What it holds.
    pub what: Kept,
    /// The version that this program writes.
    pub version: i64,
    /// What makes it in an empty file; it sets `user_version`.
    pub text: &'static str,
    /// SQLite's `synchronous`.
    pub synchronous: &'static str,
}

/// An open file.
#[derive(Debug)]
pub(super) struct RecordFile {
    connection: Mutex<Connection>,
    what: Kept,
}

impl RecordFile {
    /// Opens the file at `path`, creating it where there is none.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn open(path: &Path, schema: Schema) -> Result<Self, KeptError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unopened(schema.what, path, &error))?;
        }
        // SQLite gives its other files the mode of this one.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .map_err(|error| unopened(schema.what, path, &error))?;
        let failed = |error: rusqlite::Error| unopened(schema.what, path, &error);
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", schema.synchronous).map_err(failed)?;
        let t = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let found: i64 = t.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if found > schema.version {
            let path = path.display().to_string();
            return Err(KeptError::Newer { what: schema.what, path, found, known: schema.version });
        }
        if found == 0 {
            t.execute_batch(schema.text).map_err(failed)?;
        }
        t.commit().map_err(failed)?;
        Ok(Self { connection: Mutex::new(connection), what: schema.what })
    }

    /// The connection, for reading.
    pub fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere has rolled its transaction back when it unwound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` in one transaction.
    ///
    /// # Errors
    /// When it can't be done; nothing of it is then.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<T, KeptError> {
        let writing = |error: rusqlite::Error| self.failed("writing", &error);
        let mut connection = self.lock();
        let t = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(writing)?;
        let result = work(&t).map_err(writing)?;
        t.commit().map_err(writing)?;
        Ok(result)
    }

    /// What a failure to read means.
    pub fn unread(&self, error: &rusqlite::Error) -> KeptError {
        self.failed("reading", error)
    }

    fn failed(&self, doing: &'static str, error: &rusqlite::Error) -> KeptError {
        KeptError::Access { what: self.what, doing, reason: error.to_string() }
    }
}

/// Moves a file to `aside`, in place of what is there.
///
/// # Errors
/// When it can't be moved.
pub(super) fn set_aside(what: Kept, path: &Path, aside: &Path) -> Result<(), KeptError> {
    for end in FILES {
        let from = with_end(path, end);
        if from.exists() {
            std::fs::rename(&from, with_end(aside, end)).map_err(|error| unopened(what, path, &error))?;
        }
    }
    Ok(())
}

/// A time as it is written: such texts sort as the times do.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The path with something after its end.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn unopened(what: Kept, path: &Path, error: &dyn std::fmt::Display) -> KeptError {
    KeptError::Open { what, path: path.display().to_string(), reason: error.to_string() }
}
