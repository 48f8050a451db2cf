//! The journal of runs in SQLite.
//!
//! Write-ahead log with full synchronisation: what a call has written survives a power
//! cut. Several processes may have it open; each writes in short immediate transactions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::de::DeserializeOwned;

use super::private_file;
use crate::model::git_ref::GitRef;
use crate::model::name::{CommitId, ImageKey, PipelineName, RepositoryName};
use crate::model::run::{
    Answer, Run, RunConfig, RunId, RunState, RunStep, SameAs, StepAction, StepState, Trigger,
};
use crate::model::step_log::{LineKind, LogLine, StepLog};
use crate::port::journal::{
    Cause, Entry, Journal, JournalError, KnownImage, LinesEntry, Logged, NewRun, Observed, Printed, Record,
    Which,
};

pub mod copy;
mod retention;

/// The schema that this version writes.
const SCHEMA: i64 = 4;

/// Schema 1. Times are RFC 3339 in UTC; `config`, `step.state` and `entry.event` are JSON.
const SCHEMA_1: &str = "
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline TEXT NOT NULL,
    repository TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    started_by TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    queued TEXT NOT NULL,
    started TEXT,
    ended TEXT,
    config TEXT
) STRICT;
CREATE INDEX run_open ON run (pipeline, id) WHERE state IN ('queued', 'running');
CREATE INDEX run_commit ON run (pipeline, commit_id);
CREATE TABLE step (
    run INTEGER NOT NULL REFERENCES run (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    started TEXT,
    ended TEXT,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    run INTEGER NOT NULL REFERENCES run (id),
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen (
    repository TEXT PRIMARY KEY,
    commit_id TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE image (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES run (id),
    at TEXT NOT NULL,
    PRIMARY KEY (key, name)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// Schema 2 counts attempts. Versions that know schema 1 only must not read it: they would begin
/// a run that is quarantined.
const SCHEMA_2: &str = "
ALTER TABLE run ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
";

/// Schema 3 knows more than one reference of a repository, parameters, who asked for a run, and what was kept of steps.
/// What schema 2 has seen of a repository has an empty reference: that of the branch that was watched then.
const SCHEMA_3: &str = "
ALTER TABLE run ADD COLUMN reference TEXT;
ALTER TABLE run ADD COLUMN parameters TEXT;
ALTER TABLE run ADD COLUMN asked_by TEXT;
ALTER TABLE step ADD COLUMN files TEXT;
ALTER TABLE step ADD COLUMN tests TEXT;
CREATE TABLE seen_reference (
    repository TEXT NOT NULL,
    reference TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (repository, reference)
) STRICT, WITHOUT ROWID;
INSERT INTO seen_reference (repository, reference, commit_id, at) SELECT repository, '', commit_id, at FROM seen;
DROP TABLE seen;
CREATE TABLE cause (
    pipeline TEXT NOT NULL,
    words TEXT NOT NULL,
    mark TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (pipeline, words)
) STRICT, WITHOUT ROWID;
CREATE TABLE answer (
    run INTEGER NOT NULL REFERENCES run (id),
    position INTEGER NOT NULL,
    approved INTEGER NOT NULL,
    shown TEXT NOT NULL,
    answered_by TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
";

/// Schema 4 has lines of steps in files beside the journal, and here how many: `lines` are those from `first` on, which
/// have the numbers from `seq` on in their run's stream. What schema 3 has recorded of steps stays where it is.
const SCHEMA_4: &str = "
CREATE TABLE lines (
    run INTEGER NOT NULL REFERENCES run (id),
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_step ON lines (run, position, first);
ALTER TABLE step ADD COLUMN fault INTEGER;
PRAGMA user_version = 4;
";

const RUN_COLUMNS: &str = "id, pipeline, repository, commit_id, subject, started_by, state, reason, queued, \
                           started, ended, config, reference, parameters, asked_by";

/// A journal in one SQLite file.
#[derive(Debug)]
pub struct SqliteJournal {
    connection: Mutex<Connection>,
}

impl SqliteJournal {
    /// Opens the journal at `path`, making it where there is none.
    ///
    /// # Errors
    /// When the file can't be opened, or a later version wrote it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |reason: String| JournalError::Open { path: path.display().to_string(), reason };
        if let Some(folder) = path.parent() {
            private_file::make_folder(folder).map_err(|error| failed(error.to_string()))?;
        }
        // SQLite gives its other files the mode of this one.
        private_file::ensure(path).map_err(|error| failed(error.to_string()))?;
        let connection = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        Self::prepare(connection, path)
    }

    fn prepare(mut connection: Connection, path: &Path) -> Result<Self, JournalError> {
        let failed = |error: rusqlite::Error| JournalError::Open {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let found: i64 =
            transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if found > SCHEMA {
            return Err(JournalError::Newer { path: path.display().to_string(), found, known: SCHEMA });
        }
        if found == 0 {
            transaction.execute_batch(SCHEMA_1).map_err(failed)?;
        }
        if found < 2 {
            transaction.execute_batch(SCHEMA_2).map_err(failed)?;
        }
        if found < 3 {
            transaction.execute_batch(SCHEMA_3).map_err(failed)?;
        }
        if found < 4 {
            transaction.execute_batch(SCHEMA_4).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere has rolled its transaction back when it unwound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let mut connection = self.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(writing)?;
        let result = work(&transaction)?;
        transaction.commit().map_err(writing)?;
        Ok(result)
    }
}

impl Journal for SqliteJournal {
    fn observe(
        &self,
        at: DateTime<Utc>,
        repository: &RepositoryName,
        moved: &BTreeMap<GitRef, CommitId>,
        runs: &[NewRun],
    ) -> Result<Observed, JournalError> {
        self.write(|t| {
            let before = seen(t, repository)?;
            let first = before.is_empty();
            let mut observed = Observed::default();
            for (reference, commit) in moved {
                // Another process has just seen the same.
                if before.get(reference.as_str()) == Some(commit) {
                    continue;
                }
                t.execute(
                    "INSERT INTO seen_reference (repository, reference, commit_id, at) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (repository, reference) DO UPDATE SET commit_id = ?3, at = ?4",
                    params![repository.as_str(), reference.as_str(), commit.as_str(), time(at)],
                )
                .map_err(writing)?;
                for run in runs.iter().filter(|run| run.reference.as_ref() == Some(reference)) {
                    if first && was_run(t, run)? {
                        continue;
                    }
                    let id = insert(t, at, run)?;
                    let mut statement = t
                        .prepare(
                            "UPDATE run SET state = 'superseded', reason = ?3, ended = ?4
                             WHERE pipeline = ?1 AND id < ?2 AND state = 'queued'
                                AND started_by IN ('poll', 'pull-request', 'own-pull-request')
                                AND (reference = ?5 OR reference IS NULL)
                             RETURNING id",
                        )
                        .map_err(writing)?;
                    let reason = format!("run {id} has a newer commit");
                    let values = params![run.pipeline.as_str(), id.0, reason, time(at), reference.as_str()];
                    let superseded = statement.query_map(values, |row| row.get(0)).map_err(writing)?;
                    for run in superseded {
                        observed.superseded.push(RunId(run.map_err(writing)?));
                    }
                    observed.queued.push(id);
                }
            }
            Ok(observed)
        })
    }

    fn seen(
        &self,
        repository: &RepositoryName,
        watched: &GitRef,
    ) -> Result<BTreeMap<GitRef, CommitId>, JournalError> {
        let mut found = seen(&self.lock(), repository)?;
        if let Some(commit) = found.remove("") {
            found.entry(watched.as_str().to_owned()).or_insert(commit);
            self.write(|t| {
                t.execute(
                    "UPDATE OR REPLACE seen_reference SET reference = ?2 WHERE repository = ?1 AND reference = ''",
                    params![repository.as_str(), watched.as_str()],
                )
                .map(drop)
                .map_err(writing)
            })?;
        }
        let entries = found.into_iter().map(|(name, commit)| {
            let reference = GitRef::try_from(name).map_err(|error| corrupt("reference", &error))?;
            Ok((reference, commit))
        });
        entries.collect()
    }

    fn mark(&self, cause: Cause<'_>) -> Result<Option<String>, JournalError> {
        mark(&self.lock(), cause)
    }

    fn start(
        &self,
        at: DateTime<Utc>,
        cause: Cause<'_>,
        from: Option<&str>,
        to: &str,
        run: Option<&NewRun>,
    ) -> Result<Option<RunId>, JournalError> {
        self.write(|t| {
            if mark(t, cause)?.as_deref() != from {
                return Ok(None);
            }
            t.execute(
                "INSERT INTO cause (pipeline, words, mark, at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (pipeline, words) DO UPDATE SET mark = ?3, at = ?4",
                params![cause.pipeline.as_str(), cause.words, to, time(at)],
            )
            .map_err(writing)?;
            run.map(|run| insert(t, at, run)).transpose()
        })
    }

    fn succeeded(&self, pipeline: &PipelineName) -> Result<Option<Run>, JournalError> {
        let connection = self.lock();
        let sql = format!(
            "SELECT {RUN_COLUMNS} FROM run WHERE pipeline = ?1 AND state = 'succeeded' ORDER BY id DESC LIMIT 1"
        );
        let raw =
            connection.query_row(&sql, [pipeline.as_str()], RawRun::read).optional().map_err(reading)?;
        raw.map(|raw| raw.finish(&connection)).transpose()
    }

    fn enqueue(&self, at: DateTime<Utc>, run: &NewRun) -> Result<RunId, JournalError> {
        self.write(|t| insert(t, at, run))
    }

    fn enqueue_as(&self, at: DateTime<Utc>, run: &NewRun, config: &RunConfig) -> Result<RunId, JournalError> {
        self.write(|t| {
            let id = insert(t, at, run)?;
            t.execute("UPDATE run SET config = ?2 WHERE id = ?1", params![id.0, json(config)?])
                .map_err(writing)?;
            Ok(id)
        })
    }

    fn record(&self, at: DateTime<Utc>, run: RunId, records: &[Record]) -> Result<(), JournalError> {
        self.write(|t| {
            let mut next: Option<i64> = None;
            for record in records {
                match record {
                    Record::Begun(config) => begin(t, at, run, config)?,
                    Record::Step { index, state } => set_step(t, at, run, *index, state)?,
                    Record::Files { index, files, tests } => {
                        let tests = tests.as_ref().map(json).transpose()?;
                        t.execute(
                            "UPDATE step SET files = ?3, tests = ?4 WHERE run = ?1 AND position = ?2",
                            params![run.0, position(*index), json(files)?, tests],
                        )
                        .map_err(writing)?;
                    }
                    Record::Image { key, name, digest } => {
                        t.execute(
                            "INSERT INTO image (key, name, digest, run, at) VALUES (?1, ?2, ?3, ?4, ?5)
                             ON CONFLICT (key, name) DO UPDATE SET digest = ?3, run = ?4, at = ?5",
                            params![key.as_str(), name, digest.as_str(), run.0, time(at)],
                        )
                        .map_err(writing)?;
                    }
                    Record::Run { state, reason } => {
                        let ended = state.is_ended().then(|| time(at));
                        let changed = t
                            .execute(
                                "UPDATE run SET state = ?2, reason = ?3, ended = ?4
                                 WHERE id = ?1 AND state IN ('queued', 'running')",
                                params![run.0, state.word(), reason, ended],
                            )
                            .map_err(writing)?;
                        if changed == 0 {
                            return Err(JournalError::Ended { what: format!("run {run}") });
                        }
                    }
                    Record::Lines { index, known, now, fault } => {
                        let seq = match next {
                            Some(seq) => seq,
                            None => last_seq(t, run)? + 1,
                        };
                        next = Some(add_lines(t, run, *index, (*known, *now), seq)?);
                        if let Some(fault) = fault {
                            t.prepare_cached(
                                "UPDATE step SET fault = coalesce(fault, ?3) WHERE run = ?1 AND position = ?2",
                            )
                            .and_then(|mut set| set.execute(params![run.0, position(*index), signed(*fault)]))
                            .map_err(writing)?;
                        }
                    }
                    Record::Event(event) => {
                        let seq = match next {
                            Some(seq) => seq,
                            None => last_seq(t, run)? + 1,
                        };
                        t.prepare_cached("INSERT INTO entry (run, seq, at, event) VALUES (?1, ?2, ?3, ?4)")
                            .and_then(|mut insert| insert.execute(params![run.0, seq, time(at), event]))
                            .map_err(writing)?;
                        next = Some(seq + 1);
                    }
                }
            }
            Ok(())
        })
    }

    fn answer(&self, run: RunId, index: usize, answer: &Answer) -> Result<bool, JournalError> {
        self.write(|t| {
            let changed = t.execute(
                "INSERT INTO answer (run, position, approved, shown, answered_by, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (run, position) DO NOTHING",
                params![run.0, position(index), answer.approved, answer.shown, answer.by, time(answer.at)],
            );
            Ok(changed.map_err(writing)? == 1)
        })
    }

    fn answered(&self, run: RunId, index: usize) -> Result<Option<Answer>, JournalError> {
        let sql = "SELECT approved, shown, answered_by, at FROM answer WHERE run = ?1 AND position = ?2";
        let connection = self.lock();
        let row = connection.query_row(sql, params![run.0, position(index)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?))
        });
        let found = row.optional().map_err(reading)?;
        found
            .map(|(approved, shown, by, at)| Ok(Answer { approved, shown, by, at: parse_time(&at)? }))
            .transpose()
    }

    fn attempt(&self, run: RunId) -> Result<u32, JournalError> {
        self.write(|t| {
            let sql = "UPDATE run SET attempts = attempts + 1 WHERE id = ?1 RETURNING attempts";
            t.query_row(sql, [run.0], |row| row.get(0)).map_err(writing)
        })
    }

    fn leave(&self, run: RunId) -> Result<(), JournalError> {
        self.write(|t| {
            t.execute("UPDATE run SET attempts = 0 WHERE id = ?1", [run.0]).map(drop).map_err(writing)
        })
    }

    fn retry(&self, run: RunId) -> Result<bool, JournalError> {
        self.write(|t| {
            let changed = t.execute(
                "UPDATE run SET state = iif(config IS NULL, 'queued', 'running'), reason = NULL, ended = NULL,
                     attempts = 0
                 WHERE id = ?1 AND state = 'quarantined'",
                [run.0],
            );
            Ok(changed.map_err(writing)? == 1)
        })
    }

    fn run(&self, id: RunId) -> Result<Option<Run>, JournalError> {
        let connection = self.lock();
        let sql = format!("SELECT {RUN_COLUMNS} FROM run WHERE id = ?1");
        let raw = connection.query_row(&sql, [id.0], RawRun::read).optional().map_err(reading)?;
        raw.map(|raw| raw.finish(&connection)).transpose()
    }

    fn runs(&self, which: &Which) -> Result<Vec<Run>, JournalError> {
        let connection = self.lock();
        let (clause, parameters): (&str, Vec<rusqlite::types::Value>) = match which {
            Which::Newest(limit) => ("ORDER BY id DESC LIMIT ?1", vec![(*limit).into()]),
            Which::Open(pipeline) => (
                "WHERE pipeline = ?1 AND state IN ('queued', 'running') ORDER BY id",
                vec![pipeline.as_str().to_owned().into()],
            ),
            Which::Fitting { pipeline, state, commit, before, limit } => (
                "WHERE id < ?1 AND (?2 IS NULL OR pipeline = ?2) AND (?3 IS NULL OR state = ?3)
                 AND (?5 IS NULL OR substr(commit_id, 1, length(?5)) = ?5)
                 ORDER BY id DESC LIMIT ?4",
                vec![
                    before.map_or(i64::MAX, |before| before.0).into(),
                    pipeline.as_ref().map(|pipeline| pipeline.as_str().to_owned()).into(),
                    state.map(|state| state.word().to_owned()).into(),
                    (*limit).into(),
                    commit.clone().into(),
                ],
            ),
        };
        let mut statement =
            connection.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM run {clause}")).map_err(reading)?;
        let raw: Vec<RawRun> = statement
            .query_map(rusqlite::params_from_iter(parameters), RawRun::read)
            .and_then(Iterator::collect)
            .map_err(reading)?;
        raw.into_iter().map(|raw| raw.finish(&connection)).collect()
    }

    fn rows(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Logged>, JournalError> {
        // Numbers begin at 1, and callers may ask from any.
        let after = after.max(0);
        let connection = self.lock();
        let mut rows: Vec<Logged> =
            events(&connection, run, after, limit, "true")?.into_iter().map(Logged::Event).collect();
        // The lines that begin at `after` or before may reach beyond it.
        let sql = "SELECT seq, position, name, first, count FROM lines JOIN step USING (run, position)
                   WHERE run = ?1 AND seq >= coalesce((SELECT max(seq) FROM lines WHERE run = ?1 AND seq <= ?2), ?2)
                     AND seq + count - 1 > ?2
                   ORDER BY seq LIMIT ?3";
        let mut statement = connection.prepare_cached(sql).map_err(reading)?;
        let found = statement.query_map(params![run.0, after, limit], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, i64>(4)?,
            ))
        });
        for row in found.map_err(reading)? {
            let (seq, position, step, first, count) = row.map_err(reading)?;
            let passed = (after.saturating_add(1) - seq).max(0);
            rows.push(Logged::Lines(LinesEntry {
                seq: seq + passed,
                index: usize::try_from(position).unwrap_or_default(),
                step,
                first: unsigned(first + passed),
                count: u32::try_from(count - passed).unwrap_or(u32::MAX),
            }));
        }
        rows.sort_by_key(|row| match row {
            Logged::Event(entry) => entry.seq,
            Logged::Lines(lines) => lines.seq,
        });
        let mut left = limit;
        rows.retain_mut(|row| {
            if left == 0 {
                return false;
            }
            let count = match row {
                Logged::Event(_) => 1,
                Logged::Lines(lines) => {
                    lines.count = lines.count.min(left);
                    lines.count
                }
            };
            left -= count;
            true
        });
        Ok(rows)
    }

    fn events(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Entry>, JournalError> {
        // What a version before schema 4 has recorded of steps is among the events.
        events(&self.lock(), run, after, limit, "json_extract(event, '$.what') IS NOT 'log'")
    }

    fn printed(&self, log: StepLog) -> Result<Printed, JournalError> {
        let connection = self.lock();
        let values = params![log.run.0, position(log.step)];
        let old = connection
            .prepare_cached(&format!("SELECT count(*) FROM entry WHERE {OLD_LINE}"))
            .and_then(|mut query| query.query_row(values, |row| row.get::<_, i64>(0)))
            .map_err(reading)?;
        let fault = connection
            .prepare_cached("SELECT fault FROM step WHERE run = ?1 AND position = ?2")
            .and_then(|mut query| query.query_row(values, |row| row.get::<_, Option<i64>>(0)).optional())
            .map_err(reading)?;
        let lines = last_line(&connection, log)?.unwrap_or(old);
        Ok(Printed { lines: unsigned(lines), old: unsigned(old), fault: fault.flatten().map(unsigned) })
    }

    fn old_lines(&self, log: StepLog, from: u64, count: u32) -> Result<Vec<LogLine>, JournalError> {
        let connection = self.lock();
        let sql = format!(
            "SELECT at, json_extract(event, '$.text') FROM entry WHERE {OLD_LINE} ORDER BY seq LIMIT ?3 OFFSET ?4"
        );
        let mut statement = connection.prepare_cached(&sql).map_err(reading)?;
        let skipped = signed(from.max(1) - 1);
        let rows = statement
            .query_map(params![log.run.0, position(log.step), count, skipped], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(reading)?;
        let lines = rows.zip(from.max(1)..).map(|(row, number)| {
            let (at, text) = row.map_err(reading)?;
            Ok(LogLine { number, at: parse_time(&at)?, kind: LineKind::Whole, text })
        });
        lines.collect()
    }

    fn log_sizes(&self) -> Result<BTreeMap<RunId, u64>, JournalError> {
        retention::log_sizes(&self.lock())
    }

    fn forget(&self, run: RunId) -> Result<bool, JournalError> {
        self.write(|t| retention::forget(t, run))
    }

    fn image(&self, key: &ImageKey, name: &str) -> Result<Option<KnownImage>, JournalError> {
        let row = self
            .lock()
            .query_row(
                "SELECT image.digest, image.run, run.commit_id FROM image JOIN run ON run.id = image.run
                 WHERE image.key = ?1 AND image.name = ?2",
                params![key.as_str(), name],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)),
            )
            .optional()
            .map_err(reading)?;
        row.map(|(digest, run, commit)| {
            Ok(KnownImage {
                digest: digest.parse().map_err(|error| corrupt("digest", &error))?,
                built_by: SameAs {
                    run: RunId(run),
                    commit: commit.parse().map_err(|error| corrupt("commit", &error))?,
                },
            })
        })
        .transpose()
    }
}

/// The rows of what a version before schema 4 has recorded of the step at `?2` of the run `?1`.
const OLD_LINE: &str =
    "run = ?1 AND json_extract(event, '$.what') = 'log' AND json_extract(event, '$.step') =
                        (SELECT name FROM step WHERE run = ?1 AND position = ?2)";

/// The events of a run after a number for which a condition holds.
fn events(
    connection: &Connection,
    run: RunId,
    after: i64,
    limit: u32,
    condition: &'static str,
) -> Result<Vec<Entry>, JournalError> {
    let sql = format!(
        "SELECT seq, at, event FROM entry WHERE run = ?1 AND seq > ?2 AND {condition} ORDER BY seq LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(reading)?;
    let rows = statement
        .query_map(params![run.0, after, limit], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .map_err(reading)?;
    rows.map(|row| {
        let (seq, at, event) = row.map_err(reading)?;
        Ok(Entry { seq, at: parse_time(&at)?, event })
    })
    .collect()
}

/// How many lines the log of a step has, if it has any.
fn last_line(connection: &Connection, log: StepLog) -> Result<Option<i64>, JournalError> {
    connection
        .prepare_cached(
            "SELECT first + count - 1 FROM lines WHERE run = ?1 AND position = ?2 ORDER BY first DESC LIMIT 1",
        )
        .and_then(|mut query| query.query_row(params![log.run.0, position(log.step)], |row| row.get(0)).optional())
        .map_err(reading)
}

/// Records the lines after `known` up to `now` at `seq` of the run, and returns what is next there.
fn add_lines(
    t: &Transaction<'_>,
    run: RunId,
    index: usize,
    (known, now): (u64, u64),
    seq: i64,
) -> Result<i64, JournalError> {
    let count = signed(now.saturating_sub(known));
    let before = last_line(t, StepLog { run, step: index })?;
    if before.is_some_and(|before| before != signed(known)) {
        let reason = format!("step {index} of run {run} has {before:?} lines, and {known} were expected");
        return Err(JournalError::Corrupt { what: "lines".to_owned(), reason });
    }
    if count == 0 {
        return Ok(seq);
    }
    // Where nothing came between, these continue those before them.
    let longer = t
        .prepare_cached(
            "UPDATE lines SET count = count + ?3
             WHERE run = ?1 AND seq = (SELECT max(seq) FROM lines WHERE run = ?1) AND position = ?2
                 AND seq + count = ?4 AND first + count = ?5",
        )
        .and_then(|mut update| update.execute(params![run.0, position(index), count, seq, signed(known) + 1]))
        .map_err(writing)?;
    if longer == 0 {
        t.prepare_cached("INSERT INTO lines (run, seq, position, first, count) VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut insert| {
                insert.execute(params![run.0, seq, position(index), signed(known) + 1, count])
            })
            .map_err(writing)?;
    }
    Ok(seq + count)
}

/// A number as SQLite has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// Where references were last seen, by their full names.
fn seen(
    connection: &Connection,
    repository: &RepositoryName,
) -> Result<BTreeMap<String, CommitId>, JournalError> {
    let mut statement = connection
        .prepare_cached("SELECT reference, commit_id FROM seen_reference WHERE repository = ?1")
        .map_err(reading)?;
    let rows = statement
        .query_map([repository.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .map_err(reading)?;
    rows.map(|row| {
        let (reference, commit) = row.map_err(reading)?;
        Ok((reference, commit.parse().map_err(|error| corrupt("commit", &error))?))
    })
    .collect()
}

fn mark(connection: &Connection, cause: Cause<'_>) -> Result<Option<String>, JournalError> {
    let sql = "SELECT mark FROM cause WHERE pipeline = ?1 AND words = ?2";
    let values = params![cause.pipeline.as_str(), cause.words];
    connection.query_row(sql, values, |row| row.get(0)).optional().map_err(reading)
}

fn was_run(t: &Transaction<'_>, run: &NewRun) -> Result<bool, JournalError> {
    t.query_row(
        "SELECT EXISTS (SELECT 1 FROM run WHERE pipeline = ?1 AND commit_id = ?2)",
        params![run.pipeline.as_str(), run.commit.as_str()],
        |row| row.get(0),
    )
    .map_err(reading)
}

fn insert(t: &Transaction<'_>, at: DateTime<Utc>, run: &NewRun) -> Result<RunId, JournalError> {
    t.execute(
        "INSERT INTO run (pipeline, repository, commit_id, subject, started_by, state, queued, reference, parameters,
             asked_by)
         VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7, ?8, ?9)",
        params![
            run.pipeline.as_str(),
            run.repository.as_str(),
            run.commit.as_str(),
            run.subject,
            run.trigger.word(),
            time(at),
            run.reference.as_ref().map(GitRef::as_str),
            (!run.parameters.is_empty()).then(|| json(&run.parameters)).transpose()?,
            run.asked_by,
        ],
    )
    .map_err(writing)?;
    Ok(RunId(t.last_insert_rowid()))
}

fn begin(t: &Transaction<'_>, at: DateTime<Utc>, run: RunId, config: &RunConfig) -> Result<(), JournalError> {
    let changed = t
        .execute(
            "UPDATE run SET state = 'running', started = ?2, config = ?3 WHERE id = ?1 AND state = 'queued'",
            params![run.0, time(at), json(config)?],
        )
        .map_err(writing)?;
    if changed == 0 {
        return Err(JournalError::Ended { what: format!("run {run} or its queueing") });
    }
    for (index, action) in config.steps.iter().enumerate() {
        let state = json(&StepState::Waiting)?;
        t.execute(
            "INSERT INTO step (run, position, name, state) VALUES (?1, ?2, ?3, ?4)",
            params![run.0, position(index), StepAction::name(action), state],
        )
        .map_err(writing)?;
    }
    Ok(())
}

fn set_step(
    t: &Transaction<'_>,
    at: DateTime<Utc>,
    run: RunId,
    index: usize,
    state: &StepState,
) -> Result<(), JournalError> {
    let ended = state.is_ended().then(|| time(at));
    let started = (*state != StepState::Skipped).then(|| time(at));
    let changed = t
        .execute(
            "UPDATE step SET state = ?3, started = coalesce(started, ?4), ended = ?5
             WHERE run = ?1 AND position = ?2 AND ended IS NULL",
            params![run.0, position(index), json(state)?, started, ended],
        )
        .map_err(writing)?;
    if changed == 0 {
        return Err(JournalError::Ended { what: format!("step {index} of run {run}") });
    }
    if matches!(state, StepState::Succeeded { .. } | StepState::Executing { .. }) {
        // The run got on: attempts are counted from here. A command runs outside of the process, which may be killed
        // any number of times meanwhile.
        t.execute("UPDATE run SET attempts = min(attempts, 1) WHERE id = ?1", [run.0]).map_err(writing)?;
    }
    Ok(())
}

fn last_seq(t: &Transaction<'_>, run: RunId) -> Result<i64, JournalError> {
    let sql = "SELECT max(coalesce((SELECT max(seq) FROM entry WHERE run = ?1), 0),
                   coalesce((SELECT seq + count - 1 FROM lines WHERE run = ?1 ORDER BY seq DESC LIMIT 1), 0))";
    t.prepare_cached(sql).and_then(|mut query| query.query_row([run.0], |row| row.get(0))).map_err(reading)
}

/// A row of `run`, before its texts are parsed.
struct RawRun {
    id: i64,
    texts: [String; 7],
    reason: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    config: Option<String>,
    reference: Option<String>,
    parameters: Option<String>,
    asked_by: Option<String>,
}

impl RawRun {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            texts: [
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(8)?,
            ],
            reason: row.get(7)?,
            started: row.get(9)?,
            ended: row.get(10)?,
            config: row.get(11)?,
            reference: row.get(12)?,
            parameters: row.get(13)?,
            asked_by: row.get(14)?,
        })
    }

    fn finish(self, connection: &Connection) -> Result<Run, JournalError> {
        let [pipeline, repository, commit, subject, trigger, state, queued] = self.texts;
        let mut statement = connection
            .prepare_cached(
                "SELECT name, state, started, ended, files, tests FROM step WHERE run = ?1 ORDER BY position",
            )
            .map_err(reading)?;
        let rows = statement
            .query_map([self.id], |row| {
                let texts: [Option<String>; 4] = [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, texts))
            })
            .map_err(reading)?;
        let mut steps = Vec::new();
        for row in rows {
            let (name, state, [started, ended, files, tests]) = row.map_err(reading)?;
            steps.push(RunStep {
                name,
                state: parse(&state, "step")?,
                started: optional_time(started)?,
                ended: optional_time(ended)?,
                files: files.map_or(Ok(Vec::new()), |text| parse(&text, "files"))?,
                tests: tests.map(|text| parse(&text, "tests")).transpose()?,
            });
        }
        Ok(Run {
            id: RunId(self.id),
            pipeline: pipeline.parse().map_err(|error| corrupt("pipeline", &error))?,
            repository: repository.parse().map_err(|error| corrupt("repository", &error))?,
            commit: commit.parse().map_err(|error| corrupt("commit", &error))?,
            subject,
            trigger: Trigger::from_word(&trigger).ok_or_else(|| corrupt("trigger", &trigger))?,
            reference: self
                .reference
                .map(GitRef::try_from)
                .transpose()
                .map_err(|error| corrupt("reference", &error))?,
            parameters: self.parameters.map_or(Ok(BTreeMap::new()), |text| parse(&text, "parameters"))?,
            asked_by: self.asked_by,
            state: RunState::from_word(&state).ok_or_else(|| corrupt("state", &state))?,
            reason: self.reason,
            queued: parse_time(&queued)?,
            started: optional_time(self.started)?,
            ended: optional_time(self.ended)?,
            config: self.config.map(|config| parse(&config, "config")).transpose()?,
            steps,
        })
    }
}

fn position(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn parse_time(text: &str) -> Result<DateTime<Utc>, JournalError> {
    DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).map_err(|error| corrupt("time", &error))
}

fn optional_time(text: Option<String>) -> Result<Option<DateTime<Utc>>, JournalError> {
    text.map(|text| parse_time(&text)).transpose()
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, JournalError> {
    serde_json::to_string(value)
        .map_err(|error| JournalError::Access { doing: "writing", reason: error.to_string() })
}

fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|error| corrupt(what, &error))
}

fn corrupt(what: &str, reason: &dyn std::fmt::Display) -> JournalError {
    JournalError::Corrupt { what: what.to_owned(), reason: reason.to_string() }
}

fn reading(error: rusqlite::Error) -> JournalError {
    JournalError::Access { doing: "reading", reason: error.to_string() }
}

fn writing(error: rusqlite::Error) -> JournalError {
    JournalError::Access { doing: "writing", reason: error.to_string() }
}

/// A journal's path in a data folder.
pub fn journal_path(folder: &Path) -> PathBuf {
    folder.join("journal.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::{BuildSpec, StepResult};
    use crate::model::step_files::{StepFile, TestReport};

    fn main() -> GitRef {
        GitRef::branch("main")
    }

    fn moved(commit: char) -> BTreeMap<GitRef, CommitId> {
        BTreeMap::from([(main(), id(commit))])
    }

    fn new_run(pipeline: &str, commit: char, trigger: Trigger) -> NewRun {
        NewRun {
            pipeline: pipeline.parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: id(commit),
            subject: format!("commit {commit}"),
            trigger,
            reference: Some(main()),
            parameters: BTreeMap::new(),
            asked_by: None,
        }
    }

    fn id(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().expect("a commit")
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
    }

    fn memory() -> SqliteJournal {
        let connection = Connection::open_in_memory().expect("a database");
        SqliteJournal::prepare(connection, Path::new(":memory:")).expect("a journal")
    }

    fn config() -> RunConfig {
        RunConfig {
            environment: "local".into(),
            push: "127.0.0.1:5000".into(),
            pull: "registry.internal:5000".into(),
            steps: vec![StepAction::Build(BuildSpec {
                image: "demo/web".into(),
                context: ".".into(),
                dockerfile: "Dockerfile".into(),
                args: [("A".to_owned(), "1".to_owned())].into(),
                target: None,
                secrets: Default::default(),
            })],
            needs: Vec::new(),
            timeouts: vec![Some(90)],
            after: Vec::new(),
            left_out: BTreeMap::new(),
            supersede: false,
            taken: None,
        }
    }

    #[test]
    fn newer_commits_supersede_queued_ones_but_not_those_by_hand() {
        let journal = memory();
        let web = "web".parse().expect("a name");
        let see = |commit: char, second| {
            let run = new_run("web", commit, Trigger::Poll);
            journal.observe(at(second), &web, &moved(commit), &[run]).expect("observed")
        };
        assert_eq!(see('a', 0), Observed { queued: vec![RunId(1)], superseded: vec![] });
        assert_eq!(journal.enqueue(at(1), &new_run("web", 'a', Trigger::Hand)).expect("queued"), RunId(2));
        assert_eq!(see('b', 2), Observed { queued: vec![RunId(3)], superseded: vec![RunId(1)] });
        assert_eq!(journal.seen(&web, &main()).expect("seen"), moved('b'));
        let open = journal.runs(&Which::Open("web".parse().expect("a name"))).expect("runs");
        assert_eq!(open.iter().map(|run| run.id.0).collect::<Vec<_>>(), [2, 3]);
        let first = journal.run(RunId(1)).expect("read").expect("a run");
        assert_eq!(
            (first.state, first.reason.as_deref()),
            (RunState::Superseded, Some("run 3 has a newer commit"))
        );
        assert_eq!(see('b', 3), Observed::default(), "what is known starts nothing");
        assert_eq!(see('a', 4).queued, [RunId(4)], "a branch set back runs again");
    }

    #[test]
    fn references_are_apart_and_a_cause_starts_one_run() {
        let journal = memory();
        let web: RepositoryName = "web".parse().expect("a name");
        let other: GitRef = "refs/heads/other".to_owned().try_into().expect("a branch");
        let tag: GitRef = "refs/tags/v1".to_owned().try_into().expect("a tag");
        let of = |reference: &GitRef, commit, trigger| NewRun {
            reference: Some(reference.clone()),
            ..new_run("web", commit, trigger)
        };
        let first = [(main(), id('a')), (other.clone(), id('b'))].into();
        let runs = [of(&main(), 'a', Trigger::Poll), of(&other, 'b', Trigger::Poll)];
        assert_eq!(journal.observe(at(0), &web, &first, &runs).expect("observed").queued.len(), 2);
        let second = [(other.clone(), id('c')), (tag.clone(), id('a'))].into();
        let runs = [of(&other, 'c', Trigger::Poll), of(&tag, 'a', Trigger::Tag)];
        let observed = journal.observe(at(1), &web, &second, &runs).expect("observed");
        assert_eq!(observed, Observed { queued: vec![RunId(3), RunId(4)], superseded: vec![RunId(2)] });
        let seen = journal.seen(&web, &main()).expect("seen");
        assert_eq!((&seen[&main()], &seen[&other], &seen[&tag]), (&id('a'), &id('c'), &id('a')));
        let run = journal.run(RunId(4)).expect("read").expect("a run");
        assert_eq!((run.trigger, run.reference), (Trigger::Tag, Some(tag)));

        let nightly: PipelineName = "nightly".parse().expect("a name");
        let cause = Cause { pipeline: &nightly, words: "schedule" };
        let new = NewRun {
            parameters: [("VERSION".to_owned(), "2".to_owned())].into(),
            asked_by: Some("anna".to_owned()),
            ..new_run("nightly", 'a', Trigger::Schedule)
        };
        let start = |from, to| journal.start(at(2), cause, from, to, Some(&new)).expect("written");
        assert_eq!(start(None, "1"), Some(RunId(5)));
        assert_eq!(start(None, "2"), None, "another process was faster");
        assert_eq!(start(Some("1"), "2"), Some(RunId(6)));
        assert_eq!(journal.mark(cause).expect("read").as_deref(), Some("2"));
        let run = journal.run(RunId(6)).expect("read").expect("a run");
        assert_eq!((run.parameters, run.asked_by), (new.parameters.clone(), new.asked_by.clone()));
        assert_eq!(journal.succeeded(&nightly).expect("read"), None);
        journal
            .record(at(3), RunId(6), &[Record::Run { state: RunState::Succeeded, reason: None }])
            .expect("written");
        assert_eq!(journal.succeeded(&nightly).expect("read").map(|run| run.id), Some(RunId(6)));
    }

    #[test]
    fn the_first_answer_counts() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        let answer = |approved, by: &str| Answer { approved, shown: "x".into(), by: by.into(), at: at(1) };
        assert_eq!(journal.answered(run, 2).expect("read"), None);
        assert!(journal.answer(run, 2, &answer(true, "anna")).expect("written"));
        assert!(!journal.answer(run, 2, &answer(false, "bert")).expect("written"));
        assert_eq!(journal.answered(run, 2).expect("read"), Some(answer(true, "anna")));
        assert_eq!(journal.answered(run, 3).expect("read"), None);
    }

    #[test]
    fn what_is_kept_of_a_step_is_read_with_it() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        journal.record(at(1), run, &[Record::Begun(config())]).expect("begun");
        let files = vec![StepFile { path: "report/a.xml".into(), size: 7 }];
        let tests = Some(TestReport { tests: 3, failed: 1, ..TestReport::default() });
        let record = Record::Files { index: 0, files: files.clone(), tests: tests.clone() };
        journal.record(at(2), run, &[record]).expect("written");
        let step = journal.run(run).expect("read").expect("a run").steps.remove(0);
        assert_eq!((step.files, step.tests), (files, tests));
    }

    /// What schema 2 has seen is what the watched branch has, whichever that is.
    #[test]
    fn a_journal_of_schema_2_knows_where_the_watched_branch_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.sqlite");
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch(SCHEMA_1).expect("schema 1");
        connection.execute_batch(SCHEMA_2).expect("schema 2");
        let row = params!["a".repeat(40)];
        let sql = "INSERT INTO seen (repository, commit_id, at) VALUES ('web', ?1, '2023-11-14T22:13:20Z')";
        connection.execute(sql, row).expect("a row");
        drop(connection);
        let journal = SqliteJournal::open(&path).expect("opened");
        let web = "web".parse().expect("a name");
        assert_eq!(journal.seen(&web, &main()).expect("seen"), moved('a'));
        let run = new_run("web", 'a', Trigger::Poll);
        assert_eq!(journal.observe(at(1), &web, &moved('a'), &[run]).expect("observed"), Observed::default());
        assert_eq!(journal.seen(&web, &main()).expect("seen"), moved('a'));
    }

    /// A journal of schema 1, with a run that had begun, is a sample that must always load.
    #[test]
    fn a_journal_of_schema_1_is_read_and_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.sqlite");
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch(SCHEMA_1).expect("schema 1");
        let config = r#"{"environment":"local","push":"127.0.0.1:5000","pull":"registry.internal:5000","steps":[{"build":{"image":"demo/web","context":".","dockerfile":"Dockerfile","args":{}}}]}"#;
        connection
            .execute(
                "INSERT INTO run (pipeline, repository, commit_id, subject, started_by, state, queued, config)
                 VALUES ('web', 'web', ?1, 'old', 'poll', 'running', '2023-11-14T22:13:20Z', ?2)",
                params!["a".repeat(40), config],
            )
            .expect("a run");
        drop(connection);
        let journal = SqliteJournal::open(&path).expect("opened");
        let run = journal.run(RunId(1)).expect("read").expect("a run");
        assert_eq!(run.config.map(|config| config.timeout(0)), Some(crate::model::run::BUILD_TIMEOUT));
        assert_eq!(journal.attempt(RunId(1)).expect("counted"), 1);
        drop(journal);
        let again = SqliteJournal::open(&path).expect("opened");
        assert_eq!(again.attempt(RunId(1)).expect("counted"), 2, "it was on the disk");
    }

    #[test]
    fn attempts_are_counted_until_the_run_gets_on() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        assert!(!journal.retry(run).expect("asked"), "only what is quarantined is tried again");
        assert_eq!((journal.attempt(run).expect("1"), journal.attempt(run).expect("2")), (1, 2));
        journal.record(at(1), run, &[Record::Begun(config())]).expect("begun");
        let done = StepState::Succeeded {
            result: StepResult::Rollout { service: "web".parse().expect("a name"), revision: 3 },
        };
        journal.record(at(2), run, &[Record::Step { index: 0, state: done }]).expect("written");
        assert_eq!(journal.attempt(run).expect("counted"), 2, "this one, and the one that got on");
        journal.leave(run).expect("left");
        assert_eq!(journal.attempt(run).expect("counted"), 1);
        let aside = Record::Run { state: RunState::Quarantined, reason: Some("twice".into()) };
        journal.record(at(3), run, &[aside]).expect("written");
        assert_eq!(journal.runs(&Which::Open("web".parse().expect("a name"))).expect("runs"), []);
        assert!(journal.retry(run).expect("asked"));
        let again = journal.run(run).expect("read").expect("a run");
        assert_eq!((again.state, again.reason, again.ended), (RunState::Running, None, None));
        assert_eq!(journal.attempt(run).expect("counted"), 1);
    }

    #[test]
    fn runs_are_found_by_pipeline_and_state_page_by_page() {
        let journal = memory();
        for (pipeline, commit) in [("web", 'a'), ("api", 'b'), ("web", 'c'), ("web", 'd')] {
            journal.enqueue(at(0), &new_run(pipeline, commit, Trigger::Hand)).expect("queued");
        }
        let ended = Record::Run { state: RunState::Cancelled, reason: None };
        journal.record(at(1), RunId(3), &[ended]).expect("written");
        let find = |pipeline: Option<&str>, state, before: Option<i64>, limit| {
            let pipeline = pipeline.map(|name| name.parse().expect("a name"));
            let which = Which::Fitting { pipeline, state, commit: None, before: before.map(RunId), limit };
            let runs = journal.runs(&which).expect("runs");
            runs.iter().map(|run| run.id.0).collect::<Vec<_>>()
        };
        let of_commit = |start: &str| {
            let commit = Some(start.to_owned());
            let which = Which::Fitting { pipeline: None, state: None, commit, before: None, limit: 9 };
            journal.runs(&which).expect("runs").iter().map(|run| run.id.0).collect::<Vec<_>>()
        };
        assert_eq!((of_commit("bbbb"), of_commit(&"d".repeat(40))), (vec![2], vec![4]));
        assert_eq!(of_commit("b%"), Vec::<i64>::new(), "it is no pattern");
        assert_eq!(find(None, None, None, 9), [4, 3, 2, 1]);
        assert_eq!(find(None, None, Some(4), 2), [3, 2]);
        assert_eq!(find(Some("web"), None, None, 9), [4, 3, 1]);
        assert_eq!(find(Some("web"), Some(RunState::Queued), Some(4), 9), [1]);
        assert_eq!(find(None, Some(RunState::Cancelled), None, 9), [3]);
        assert!(find(Some("none"), None, None, 9).is_empty());
    }

    #[test]
    fn the_first_sight_of_a_commit_that_was_run_before_starts_nothing() {
        let journal = memory();
        journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        let run = new_run("web", 'a', Trigger::Poll);
        let seen = journal
            .observe(at(1), &run.repository, &moved('a'), std::slice::from_ref(&run))
            .expect("observed");
        assert_eq!(seen, Observed::default());
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        journal.record(at(1), run, &[Record::Begun(config())]).expect("begun");
        assert!(journal.record(at(1), run, &[Record::Begun(config())]).is_err(), "a run begins once");
        let key: ImageKey = format!("k-{}", "0".repeat(64)).parse().expect("a key");
        journal
            .record(at(2), run, &[Record::Step { index: 0, state: StepState::Building { key: key.clone() } }])
            .expect("building");
        let done = StepState::Succeeded {
            result: StepResult::Rollout { service: "web".parse().expect("a name"), revision: 3 },
        };
        let records = [
            Record::Step { index: 0, state: done.clone() },
            Record::Run { state: RunState::Succeeded, reason: None },
        ];
        journal.record(at(3), run, &records).expect("ended");
        assert!(matches!(journal.record(at(4), run, &records[..1]), Err(JournalError::Ended { .. })));
        assert!(matches!(journal.record(at(4), run, &records[1..]), Err(JournalError::Ended { .. })));
        let read = journal.run(run).expect("read").expect("a run");
        assert_eq!((read.state, read.started, read.ended), (RunState::Succeeded, Some(at(1)), Some(at(3))));
        assert_eq!(read.config, Some(config()));
        assert_eq!((&read.steps[0].state, read.steps[0].started), (&done, Some(at(2))));
    }

    #[test]
    fn a_record_is_written_whole_or_not_at_all() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        let records = [Record::Event("{}".into()), Record::Step { index: 7, state: StepState::Inspecting }];
        assert!(journal.record(at(1), run, &records).is_err());
        assert_eq!(journal.rows(run, 0, 10).expect("rows"), []);
    }

    #[test]
    fn entries_are_numbered_without_gaps() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        for batch in [2, 3] {
            let records: Vec<_> = (0..batch).map(|n| Record::Event(format!("{batch}.{n}"))).collect();
            journal.record(at(batch), run, &records).expect("written");
        }
        let entries = journal.events(run, 1, 3).expect("entries");
        let seen: Vec<_> = entries.iter().map(|e| (e.seq, e.event.as_str())).collect();
        assert_eq!(seen, [(2, "2.1"), (3, "3.0"), (4, "3.1")]);
    }

    #[test]
    fn lines_have_their_places_in_the_stream_and_continue_each_other() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        journal.record(at(1), run, &[Record::Begun(config())]).expect("begun");
        let lines = |known, now| Record::Lines { index: 0, known, now, fault: (now > 4).then_some(now) };
        let event = || Record::Event(r#"{"what":"x"}"#.into());
        journal.record(at(1), run, &[event(), lines(0, 2), lines(2, 3), event()]).expect("written");
        for known in 3..8 {
            journal.record(at(2), run, &[lines(known, known + 1)]).expect("written");
        }
        journal.record(at(2), run, &[event()]).expect("written");
        let log = StepLog { run, step: 0 };
        assert_eq!(journal.printed(log).expect("read"), Printed { lines: 8, old: 0, fault: Some(5) });
        let seen = |after, limit| -> Vec<(i64, u64, u32)> {
            let rows = journal.rows(run, after, limit).expect("read").into_iter();
            rows.map(|row| match row {
                Logged::Event(entry) => (entry.seq, 0, 0),
                Logged::Lines(lines) => (lines.seq, lines.first, lines.count),
            })
            .collect()
        };
        assert_eq!(seen(0, 100), [(1, 0, 0), (2, 1, 3), (5, 0, 0), (6, 4, 5), (11, 0, 0)]);
        // From anywhere, and in pieces of any length, it is the same stream.
        for limit in 1..12 {
            let (mut after, mut numbers) = (0, Vec::new());
            loop {
                let rows = seen(after, limit);
                let Some((seq, _, count)) = rows.last() else { break };
                after = seq + i64::from(*count).max(1) - 1;
                numbers.extend(rows.iter().flat_map(|(_, first, count)| *first..first + u64::from(*count)));
            }
            assert_eq!((after, numbers), (11, (1..=8).collect::<Vec<_>>()), "{limit}");
        }
        // A caller may ask from any number.
        for before in [i64::MIN, i64::MIN + 1, -1] {
            assert_eq!(seen(before, 100), seen(0, 100), "{before}");
            assert_eq!(journal.events(run, before, 10).expect("read").len(), 3, "{before}");
        }
        assert_eq!(seen(i64::MAX, u32::MAX), []);
        for from in [0, 1, u64::MAX - 1, u64::MAX] {
            assert!(journal.old_lines(log, from, u32::MAX).expect("read").is_empty(), "{from}");
        }
        assert_eq!(journal.events(run, 1, 10).expect("read").len(), 2);
        assert!(journal.record(at(3), run, &[lines(7, 9)]).is_err(), "these would be there twice");
        assert!(journal.record(at(3), run, &[lines(9, 10)]).is_err(), "one would be missing");
    }

    /// Lines that were events are read as those that are in files, and others follow them.
    #[test]
    fn lines_of_schema_3_are_still_there() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        journal.record(at(1), run, &[Record::Begun(config())]).expect("begun");
        let name = journal.run(run).expect("read").expect("a run").steps.remove(0).name;
        let old = |step: &str, text: &str| {
            Record::Event(
                serde_json::json!({"what": "log", "run": run, "step": step, "text": text}).to_string(),
            )
        };
        let records = [old(&name, "one"), old("another", "x"), old(&name, "two"), old(&name, "three")];
        journal.record(at(2), run, &records).expect("written");
        let log = StepLog { run, step: 0 };
        assert_eq!(journal.printed(log).expect("read"), Printed { lines: 3, old: 3, fault: None });
        let lines = journal.old_lines(log, 2, 5).expect("read");
        let seen: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!((seen, lines[0].at), (vec![(2, "two"), (3, "three")], at(2)));
        assert_eq!(journal.events(run, 0, 10).expect("read"), []);
        let further = Record::Lines { index: 0, known: 3, now: 4, fault: None };
        journal.record(at(3), run, &[further]).expect("written");
        assert_eq!(journal.printed(log).expect("read"), Printed { lines: 4, old: 3, fault: None });
        assert_eq!(journal.rows(run, 0, 10).expect("read").len(), 5);
    }

    #[test]
    fn images_are_known_by_key_and_name() {
        let journal = memory();
        let run = journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        let key: ImageKey = format!("k-{}", "1".repeat(64)).parse().expect("a key");
        let digest = format!("sha256:{}", "2".repeat(64)).parse().expect("a digest");
        let record = Record::Image { key: key.clone(), name: "r:1/demo/web".into(), digest };
        journal.record(at(1), run, &[record]).expect("written");
        let known = journal.image(&key, "r:1/demo/web").expect("read").expect("known");
        assert_eq!(known.built_by, SameAs { run, commit: id('a') });
        assert_eq!(journal.image(&key, "r:2/demo/web").expect("read"), None);
    }

    #[test]
    fn a_journal_of_a_later_version_is_refused_and_ours_opens_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = journal_path(&folder.path().join("serve"));
        let journal = SqliteJournal::open(&path).expect("made");
        journal.enqueue(at(0), &new_run("web", 'a', Trigger::Hand)).expect("queued");
        let again = SqliteJournal::open(&path).expect("opened while another has it");
        assert_eq!(again.runs(&Which::Newest(5)).expect("runs").len(), 1);
        again.lock().pragma_update(None, "user_version", 9).expect("set");
        assert!(matches!(SqliteJournal::open(&path), Err(JournalError::Newer { found: 9, .. })));
    }

    /// Journals of every version must stay readable, with everything that their rows hold.
    #[test]
    fn every_recorded_journal_opens() {
        for (name, text) in crate::source::samples::of("journal") {
            let connection = Connection::open_in_memory().expect("a database");
            connection.execute_batch(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let journal = SqliteJournal::prepare(connection, Path::new(&name)).expect("a journal");
            let run = journal.run(RunId(1)).expect("it can be read").expect("a run");
            // Releases came later, commands after them, then questions, and then shells.
            let (steps, actions, entries_there) = match () {
                () if text.contains("\"shell\"") => (23, 6, 17),
                () if text.contains("asking") => (23, 6, 16),
                () if text.contains("executing") => (19, 5, 15),
                () if text.contains("releasing") => (14, 3, 15),
                () => (10, 2, 15),
            };
            assert_eq!((run.state, run.steps.len()), (RunState::Running, steps), "{name}");
            let supersedes = run.config.as_ref().is_some_and(|config| config.supersede);
            assert_eq!(supersedes, text.contains("supersede"), "{name}");
            assert_eq!(run.config.map(|config| config.steps.len()), Some(actions), "{name}");
            let rows = journal.rows(RunId(1), 0, 100).expect("they can be read");
            let entries: Vec<&Entry> = rows
                .iter()
                .filter_map(|row| if let Logged::Event(entry) = row { Some(entry) } else { None })
                .collect();
            for entry in &entries {
                serde_json::from_str::<serde_json::Value>(&entry.event)
                    .unwrap_or_else(|error| panic!("{name}: {}: {error}", entry.event));
            }
            assert_eq!(entries.len(), entries_there, "{name}");
            let image = run_image(&journal);
            assert!(image.is_some(), "{name}");
        }
    }

    fn run_image(journal: &SqliteJournal) -> Option<KnownImage> {
        let key = format!("k-{}", "9f2c41ab".repeat(8)).parse().expect("a key");
        journal.image(&key, "demo/web").expect("it can be read")
    }
}
