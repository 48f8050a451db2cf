//! What the journal has of runs, and how it forgets them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::{reading, writing};
use crate::model::run::{RunId, RunState};
use crate::port::journal::JournalError;

/// The tables whose rows refer to a run, with the column that does.
const REFERRING: &str =
    "SELECT DISTINCT m.name, f.\"from\" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f
                         WHERE m.type = 'table' AND f.\"table\" = 'run' AND m.name <> 'run'";

/// How many bytes the logs of runs have. The length of a text stands at the row's beginning, so no text is read.
pub(super) fn log_sizes(connection: &Connection) -> Result<BTreeMap<RunId, u64>, JournalError> {
    let mut statement = connection
        .prepare_cached("SELECT run, sum(octet_length(event)) FROM entry GROUP BY run")
        .map_err(reading)?;
    let rows = statement
        .query_map([], |row| Ok((RunId(row.get(0)?), row.get::<_, i64>(1)?.unsigned_abs())))
        .map_err(reading)?;
    rows.map(|row| row.map_err(reading)).collect()
}

/// Removes a run that has ended, and everything that refers to it.
pub(super) fn forget(t: &Transaction<'_>, run: RunId) -> Result<bool, JournalError> {
    let state: Option<String> = t
        .query_row("SELECT state FROM run WHERE id = ?1", [run.0], |row| row.get(0))
        .optional()
        .map_err(reading)?;
    let state = state.as_deref().and_then(RunState::from_word);
    if !state.is_some_and(|state| state.is_ended() && state != RunState::Quarantined) {
        return Ok(false);
    }
    let mut statement = t.prepare_cached(REFERRING).map_err(reading)?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .map_err(reading)?;
    for row in rows {
        let (table, column) = row.map_err(reading)?;
        t.execute(&format!("DELETE FROM \"{table}\" WHERE \"{column}\" = ?1"), [run.0]).map_err(writing)?;
    }
    t.execute("DELETE FROM run WHERE id = ?1", [run.0]).map_err(writing)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::SqliteJournal;
    use crate::model::git_ref::GitRef;
    use crate::model::journal::Record;
    use crate::model::run::{Answer, RunConfig, RunState, StepAction, Trigger};
    use crate::port::journal::{Journal as _, NewRun};

    fn config() -> RunConfig {
        RunConfig {
            environment: "local".into(),
            push: "127.0.0.1:5000".into(),
            pull: "registry.internal:5000".into(),
            steps: vec![StepAction::Source],
            needs: Vec::new(),
            timeouts: Vec::new(),
            after: Vec::new(),
            left_out: [].into(),
            supersede: false,
            taken: None,
        }
    }

    #[test]
    fn a_run_that_has_ended_is_forgotten_with_all_that_refers_to_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = SqliteJournal::open(&folder.path().join("journal.sqlite")).expect("a journal");
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let new = NewRun {
            pipeline: "web".parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: "a".repeat(40).parse().expect("a commit"),
            subject: "one".into(),
            trigger: Trigger::Hand,
            reference: Some(GitRef::branch("main")),
            parameters: [].into(),
            asked_by: None,
        };
        let (gone, stays) =
            (journal.enqueue(at, &new).expect("queued"), journal.enqueue(at, &new).expect("queued"));
        let key: crate::model::name::ImageKey = format!("k-{}", "0".repeat(64)).parse().expect("a key");
        let digest = format!("sha256:{}", "2".repeat(64)).parse().expect("a digest");
        for run in [gone, stays] {
            let image = Record::Image {
                key: key.clone(),
                name: format!("r/{run}"),
                digest: std::clone::Clone::clone(&digest),
            };
            let records = [Record::Begun(config()), Record::Event("{\"ä\": 1}".into()), image];
            journal.record(at, run, &records).expect("written");
            let answer = Answer { approved: true, shown: "x".into(), by: "anna".into(), at };
            assert!(journal.answer(run, 0, &answer).expect("written"));
        }
        assert!(!journal.forget(gone).expect("asked"), "it is under way");
        journal.record(at, gone, &[Record::Run { state: RunState::Failed, reason: None }]).expect("ended");
        let bytes = "{\"ä\": 1}".len() as u64;
        assert_eq!(journal.log_sizes().expect("measured"), [(gone, bytes), (stays, bytes)].into());
        assert!(journal.forget(gone).expect("asked"));
        assert!(!journal.forget(gone).expect("asked"), "it is gone");
        assert_eq!(journal.run(gone).expect("read"), None);
        assert_eq!(journal.rows(gone, 0, 9).expect("read"), []);
        assert_eq!(journal.answered(gone, 0).expect("read"), None);
        assert_eq!(journal.image(&key, &format!("r/{gone}")).expect("read"), None);
        assert!(journal.image(&key, &format!("r/{stays}")).expect("read").is_some());
        assert_eq!(journal.log_sizes().expect("measured"), [(stays, bytes)].into());
        // Its number is never used again.
        assert!(journal.enqueue(at, &new).expect("queued") > stays);
    }

    #[test]
    fn a_quarantined_run_waits_until_it_is_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = SqliteJournal::open(&folder.path().join("journal.sqlite")).expect("a journal");
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let new = NewRun {
            pipeline: "web".parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: "a".repeat(40).parse().expect("a commit"),
            subject: "one".into(),
            trigger: Trigger::Hand,
            reference: None,
            parameters: [].into(),
            asked_by: None,
        };
        let run = journal.enqueue(at, &new).expect("queued");
        journal
            .record(at, run, &[Record::Run { state: RunState::Quarantined, reason: None }])
            .expect("written");
        assert!(!journal.forget(run).expect("asked"));
    }
}
