//! Whether a lock may be taken, and how it is claimed and kept.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::lock::LockRecord;

pub mod lease;
#[cfg(test)]
mod simulation;

/// How far the clock of another holder's host may be behind ours.
const SKEW: TimeDelta = TimeDelta::seconds(10);

/// Whether a lock may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was given back.
    Free,
    /// Its holder has not renewed it.
    Expired,
    /// Its holder is a process of this host that has ended.
    Dead,
    /// It is held.
    Held,
}

/// Whether `found` may be taken by a process of `host`, where `lives` reports whether a process
/// that began then still runs.
pub fn verdict(
    found: &LockRecord,
    host: &str,
    now: DateTime<Utc>,
    lives: impl Fn(u32, u64) -> bool,
) -> Verdict {
    if found.released {
        Verdict::Free
    } else if found.host == host && !host.is_empty() && !lives(found.process, found.started) {
        Verdict::Dead
    } else if found.expires + SKEW < now {
        Verdict::Expired
    } else {
        Verdict::Held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lock::LOCK_VERSION;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
    }

    fn record() -> LockRecord {
        LockRecord {
            version: LOCK_VERSION,
            id: "1".to_owned(),
            holder: "ann@laptop".to_owned(),
            host: "h1".to_owned(),
            process: 7,
            started: 100,
            command: "apply".to_owned(),
            since: at(0),
            expires: at(60),
            released: false,
            write: 0,
        }
    }

    #[test]
    fn a_lock_is_held_until_it_expires_is_given_back_or_its_process_is_gone() {
        let lives = |process, started| (process, started) == (7, 100);
        let gone = |_, _| false;
        assert_eq!(verdict(&record(), "h1", at(30), lives), Verdict::Held);
        assert_eq!(verdict(&record(), "h2", at(30), gone), Verdict::Held);
        assert_eq!(verdict(&record(), "h1", at(30), gone), Verdict::Dead);
        assert_eq!(verdict(&record(), "h2", at(65), gone), Verdict::Held, "clocks differ");
        assert_eq!(verdict(&record(), "h2", at(71), gone), Verdict::Expired);
        assert_eq!(verdict(&LockRecord { released: true, ..record() }, "h2", at(1), gone), Verdict::Free);
        // A lock that does not tell its host is never taken for a dead one's.
        assert_eq!(verdict(&LockRecord { host: String::new(), ..record() }, "", at(30), gone), Verdict::Held);
    }

    #[test]
    fn records_of_every_version_are_read_for_ever() {
        for (name, text) in crate::source::samples::of("lock") {
            // The first version did not count its writes.
            let write = if name.ends_with("1.json") { 0 } else { 3 };
            assert_eq!(
                serde_json::from_str::<LockRecord>(&text).expect(&name),
                LockRecord { write, ..record() },
                "{name}"
            );
        }
    }
}
