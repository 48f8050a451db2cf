//! Copies of the journal that are whole while runs are under way, and what is made of one that is restored.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::writing;
use crate::adapter::private_file;
use crate::port::journal::JournalError;

/// How many numbers of runs are left out after a restore. Runs that came after the backup had some of them, and what they
/// have left on the engine bears those.
const NUMBERS: i64 = 1000;

fn open(path: &Path) -> Result<Connection, JournalError> {
    let failed = |reason: String| JournalError::Open { path: path.display().to_string(), reason };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| failed(error.to_string()))?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(|error| failed(error.to_string()))?;
    Ok(connection)
}

/// Copies the journal at `from` to `to`, as it is at one moment. Others may write to it meanwhile.
///
/// # Errors
/// When one of them can't be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), JournalError> {
    // SQLite fills a file that is there and empty, and leaves its mode as it is.
    private_file::create(to)
        .map_err(|error| JournalError::Open { path: to.display().to_string(), reason: error.to_string() })?;
    let connection = open(from)?;
    connection.execute("VACUUM INTO ?1", [to.display().to_string()]).map(drop).map_err(writing)
}

/// Checks a journal that was restored, and has it number new runs as no run after the backup was.
///
/// # Errors
/// When it is damaged.
pub fn restored(path: &Path) -> Result<(), JournalError> {
    let corrupt = |reason: String| JournalError::Corrupt { what: "restored file".to_owned(), reason };
    let connection = open(path)?;
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| corrupt(error.to_string()))?;
    if verdict != "ok" {
        return Err(corrupt(verdict));
    }
    let strays: i64 = connection
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .map_err(|error| corrupt(error.to_string()))?;
    if strays > 0 {
        return Err(corrupt(format!("{strays} rows refer to runs that are not there")));
    }
    connection
        .execute_batch(&format!(
            "BEGIN IMMEDIATE;
             INSERT INTO sqlite_sequence (name, seq)
                 SELECT 'run', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'run');
             UPDATE sqlite_sequence SET seq = seq + {NUMBERS} WHERE name = 'run';
             COMMIT;"
        ))
        .map_err(writing)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::SqliteJournal;
    use super::*;
    use crate::model::run::{RunId, Trigger};
    use crate::port::journal::{Journal as _, NewRun, Which};

    fn new_run() -> NewRun {
        NewRun {
            pipeline: "web".parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: "a".repeat(40).parse().expect("a commit"),
            subject: "one".into(),
            trigger: Trigger::Hand,
            reference: None,
            parameters: [].into(),
            asked_by: None,
        }
    }

    #[test]
    fn a_copy_is_whole_while_others_write_and_numbers_no_run_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, to) = (folder.path().join("journal.sqlite"), folder.path().join("copy.sqlite"));
        let journal = SqliteJournal::open(&path).expect("a journal");
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        journal.enqueue(at, &new_run()).expect("queued");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    journal.enqueue(at, &new_run()).expect("queued");
                }
            });
            copy(&path, &to).expect("copied");
        });
        restored(&to).expect("it is whole");
        let copied = SqliteJournal::open(&to).expect("a journal");
        let last = copied.runs(&Which::Newest(1)).expect("read").pop().expect("a run").id;
        assert!((1..=51).contains(&last.0));
        assert_eq!(copied.enqueue(at, &new_run()).expect("queued"), RunId(last.0 + NUMBERS + 1));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.sqlite");
        std::fs::write(&path, "not a database, but long enough to be read as one").expect("written");
        assert!(matches!(restored(&path), Err(JournalError::Corrupt { .. } | JournalError::Access { .. })));
        assert!(matches!(restored(&folder.path().join("none")), Err(JournalError::Open { .. })));
    }

    #[test]
    fn an_empty_journal_leaves_numbers_out_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.sqlite");
        drop(SqliteJournal::open(&path).expect("a journal"));
        restored(&path).expect("it is whole");
        let journal = SqliteJournal::open(&path).expect("a journal");
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        assert_eq!(journal.enqueue(at, &new_run()).expect("queued"), RunId(NUMBERS + 1));
    }
}
