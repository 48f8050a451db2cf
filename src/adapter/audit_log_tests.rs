use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::model::access::Level;
use crate::model::audit::{AUDIT_VERSION, Outcome, merge};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
}

fn machine() -> MachineId {
    "i-1".parse().expect("an id")
}

fn draft(seconds: i64, target: &str, class: Class) -> Draft {
    Draft {
        at: at(seconds),
        by: "arn:aws:iam::123456789012:user/ada".into(),
        level: Some(Level::Deployer),
        from: Some("10.0.0.9".parse().expect("an address")),
        operation: "deploy".into(),
        target: target.into(),
        details: BTreeMap::new(),
        class,
    }
}

fn ended(id: &str, seconds: i64, outcome: Outcome) -> Ended {
    Ended {
        version: AUDIT_VERSION,
        id: id.into(),
        at: at(seconds),
        outcome,
        reason: None,
        details: BTreeMap::new(),
    }
}

fn open(folder: &tempfile::TempDir) -> SqliteAuditLog {
    SqliteAuditLog::open(&folder.path().join("state/audit.db"), &machine()).expect("a log")
}

#[test]
fn a_crash_between_beginning_and_end_leaves_an_unknown_outcome() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    let first = log.begin(&draft(1, "service/web", Class::Person)).expect("recorded");
    log.end(&ended(&first, 2, Outcome::Done)).expect("recorded");
    log.begin(&draft(3, "service/db", Class::Person)).expect("recorded");
    let name = log.name().to_owned();
    drop(log);
    let log = open(&folder);
    assert_eq!(log.name(), name, "a log keeps its name");
    let changes = merge(log.newest(&Filter::default(), 10).expect("read"));
    let seen: Vec<_> =
        changes.iter().map(|change| (change.begun.target.as_str(), change.outcome())).collect();
    assert_eq!(seen, [("service/web", "done"), ("service/db", "unknown")]);
    assert_eq!(changes[0].begun.recorded_by, "i-1");
}

#[test]
fn only_its_owner_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state/audit.db");
    std::fs::create_dir_all(folder.path().join("state")).expect("a folder");
    std::fs::write(&path, "").expect("written with the default mode");
    let log = open(&folder);
    log.begin(&draft(1, "service/web", Class::Person)).expect("recorded");
    for end in ["", "-wal", "-shm"] {
        let mode = std::fs::metadata(with_end(&path, end)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "audit.db{end}");
    }
}

#[test]
fn the_newest_that_are_wanted_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    for second in 0..10 {
        let target = if second % 2 == 0 { "service/web" } else { "service/db" };
        log.begin(&draft(second, target, Class::Person)).expect("recorded");
    }
    let seconds = |filter: &Filter, limit| -> Vec<i64> {
        let changes = merge(log.newest(filter, limit).expect("read"));
        changes.iter().map(|change| change.begun.at.timestamp() - 1_800_000_000).collect()
    };
    let web = Filter { target: Some("web".into()), ..Filter::default() };
    assert_eq!(seconds(&web, 2), [6, 8]);
    assert_eq!(seconds(&Filter { since: Some(at(7)), ..Filter::default() }, 100), [7, 8, 9]);
    assert_eq!(seconds(&Filter { since: Some(at(7)), ..web }, 100), [8]);
}

#[test]
fn each_event_is_shipped_once_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder);
    assert_eq!(log.unshipped(10).expect("read"), None);
    let id = log.begin(&draft(1, "service/web", Class::Person)).expect("recorded");
    log.begin(&draft(2, "service/db", Class::Person)).expect("recorded");
    let one = log.unshipped(1).expect("read").expect("an event");
    assert_eq!((one.first, one.last, one.events.len()), (1, 1, 1));
    log.shipped(one.last).expect("marked");
    log.end(&ended(&id, 3, Outcome::Done)).expect("recorded");
    let rest = log.unshipped(10).expect("read").expect("events");
    assert_eq!((rest.first, rest.last), (2, 3));
    assert_eq!(rest.events[1], AuditEvent::Ended(ended(&id, 3, Outcome::Done)));
    log.shipped(rest.last).expect("marked");
    // A call that was delayed takes nothing back.
    log.shipped(1).expect("marked");
    assert_eq!(log.unshipped(10).expect("read"), None);
}

#[test]
fn neither_machines_nor_denied_requests_push_the_changes_of_people_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(&folder);
    log.bound = |class| if class == Class::Person { 20 } else { 5 };
    let person = log.begin(&draft(0, "service/web", Class::Person)).expect("recorded");
    log.end(&ended(&person, 0, Outcome::Done)).expect("recorded");
    for second in 1..=500 {
        let class = if second % 2 == 0 { Class::Machine } else { Class::Denied };
        let id = log.begin(&draft(second, "machine/i-9", class)).expect("recorded");
        log.end(&ended(&id, second, Outcome::Done)).expect("recorded");
    }
    let changes = merge(log.newest(&Filter::default(), 1_000).expect("read"));
    assert_eq!((changes[0].begun.target.as_str(), changes[0].outcome()), ("service/web", "done"));
    assert!(changes.len() <= 1 + 2 * 5 + 1 + PRUNE_EVERY as usize, "{} are left", changes.len());
    // An end that comes after its beginning was dropped is no error, and no orphan.
    log.end(&ended(&format!("{}-3", log.name()), 9, Outcome::Done)).expect("ignored");
    assert!(
        log.newest(&Filter::default(), 1_000).expect("read").iter().all(|event| !event.id().ends_with("-3"))
    );
    log.end(&ended("elsewhere-1", 9, Outcome::Done)).expect_err("another log's");
}

#[test]
fn a_log_that_can_t_be_used_is_moved_aside_and_kept() {
    for broken in ["newer", "damaged"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state/audit.db");
        let name = {
            let log = open(&folder);
            log.begin(&draft(1, "service/web", Class::Person)).expect("recorded");
            if broken == "newer" {
                log.file.lock().pragma_update(None, "user_version", 9).expect("set");
            }
            log.name().to_owned()
        };
        if broken == "damaged" {
            std::fs::write(&path, "this is not a database, and long enough to be read as one".repeat(20))
                .expect("written");
        }
        let log = open(&folder);
        assert_ne!(log.name(), name, "{broken}");
        assert_eq!(log.newest(&Filter::default(), 10).expect("read"), []);
        let aside = std::fs::read_dir(folder.path().join("state")).expect("a folder").flatten();
        let mut names = aside.map(|entry| entry.file_name().to_string_lossy().into_owned());
        assert!(names.any(|name| name.contains(".aside-")), "{broken}");
    }
}

/// A database as version 1 wrote it; it must open for ever.
const SAMPLE_1: &str = include_str!("samples/audit-1.sql");

#[test]
fn a_log_of_schema_1_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state/audit.db");
    std::fs::create_dir_all(folder.path().join("state")).expect("a folder");
    rusqlite::Connection::open(&path).expect("made").execute_batch(SAMPLE_1).expect("the sample is SQL");
    let log = open(&folder);
    assert_eq!(log.name(), "i-1-0badcafe");
    let changes = merge(log.newest(&Filter::default(), 10).expect("read"));
    let seen: Vec<_> =
        changes.iter().map(|change| (change.begun.operation.as_str(), change.outcome())).collect();
    assert_eq!(seen, [("deploy", "done"), ("drain", "unknown")]);
    assert_eq!(log.unshipped(10).expect("read").map(|found| (found.first, found.last)), Some((3, 3)));
    let next = log.begin(&draft(9, "service/web", Class::Person)).expect("recorded");
    assert_eq!(next, "i-1-0badcafe-4", "numbers go on");
}
