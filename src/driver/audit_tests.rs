use async_trait::async_trait;

use super::*;
use crate::model::audit::{Change, Class, merge, read_batch};
use crate::port::audit::Unshipped;

/// A log in memory.
#[derive(Default)]
struct Memory(Mutex<(Vec<AuditEvent>, i64)>);

impl AuditLog for Memory {
    fn name(&self) -> &str {
        "i-1-ab"
    }

    fn begin(&self, draft: &Draft) -> Result<String, KeptError> {
        let mut state = self.0.lock().expect("no test panics here");
        let id = format!("i-1-ab-{}", state.0.len() + 1);
        state.0.push(AuditEvent::Begun(draft.begun(id.clone(), "i-1".into())));
        Ok(id)
    }

    fn end(&self, ended: &Ended) -> Result<(), KeptError> {
        self.0.lock().expect("no test panics here").0.push(AuditEvent::Ended(ended.clone()));
        Ok(())
    }

    fn newest(&self, _filter: &Filter, _limit: u32) -> Result<Vec<AuditEvent>, KeptError> {
        Ok(self.0.lock().expect("no test panics here").0.clone())
    }

    fn unshipped(&self, limit: u32) -> Result<Option<Unshipped>, KeptError> {
        let state = self.0.lock().expect("no test panics here");
        let from = usize::try_from(state.1).expect("small");
        let events: Vec<_> = state.0[from..].iter().take(limit as usize).cloned().collect();
        let count = i64::try_from(events.len()).expect("small");
        Ok((count > 0).then(|| Unshipped { first: state.1 + 1, last: state.1 + count, events }))
    }

    fn shipped(&self, last: i64) -> Result<(), KeptError> {
        self.0.lock().expect("no test panics here").1 = last;
        Ok(())
    }
}

/// A bucket whose next answers are lost.
#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    lost: Mutex<u32>,
}

#[async_trait]
impl Archive for Bucket {
    async fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, CloudError> {
        let mut objects = self.objects.lock().expect("no test panics here");
        let new = !objects.contains_key(key);
        objects.entry(key.to_owned()).or_insert_with(|| bytes.to_vec());
        let mut lost = self.lost.lock().expect("no test panics here");
        if *lost > 0 {
            *lost -= 1;
            return Err(CloudError::Unreachable {
                doing: "writing".into(),
                reason: "the answer was lost".into(),
            });
        }
        Ok(new)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, CloudError> {
        let objects = self.objects.lock().expect("no test panics here");
        Ok(objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CloudError> {
        Ok(self.objects.lock().expect("no test panics here").get(key).cloned())
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
}

fn drain(seconds: i64, by: &str) -> Draft {
    Draft {
        at: at(seconds),
        by: by.into(),
        level: None,
        from: None,
        operation: "drain".into(),
        target: "machine/i-9".into(),
        details: BTreeMap::new(),
        class: Class::Machine,
    }
}

fn end(outcome: Outcome) -> End {
    End { outcome, reason: None, details: BTreeMap::new() }
}

fn changes(log: &Memory) -> Vec<Change> {
    merge(log.newest(&Filter::default(), 100).expect("read"))
}

#[test]
fn a_request_that_is_repeated_until_it_is_done_is_one_change() {
    let log = Arc::new(Memory::default());
    let auditor = Auditor::new(log.clone());
    for seconds in [0, 3, 6, 9] {
        let draft = drain(seconds, "machine/i-9");
        let id = auditor.begin(&draft).expect("recorded");
        let outcome = if seconds == 9 { Outcome::Done } else { Outcome::Waiting };
        auditor.end(&draft, &id, end(outcome), at(seconds + 1)).expect("recorded");
        if seconds == 3 {
            assert_eq!(changes(&log)[0].outcome(), "waiting");
        }
    }
    assert_eq!(changes(&log).len(), 1);
    assert_eq!(changes(&log)[0].outcome(), "done");
    assert_eq!(log.newest(&Filter::default(), 9).expect("read").len(), 3, "begun, waiting, done");
    // What comes after the end is another change.
    auditor.begin(&drain(12, "machine/i-9")).expect("recorded");
    assert_eq!(changes(&log).len(), 2);
}

#[test]
fn another_caller_and_a_long_pause_begin_another_change() {
    let log = Arc::new(Memory::default());
    let auditor = Auditor::new(log.clone());
    let waits = |draft: &Draft| {
        let id = auditor.begin(draft).expect("recorded");
        auditor.end(draft, &id, end(Outcome::Waiting), draft.at).expect("recorded");
        id
    };
    let first = waits(&drain(0, "machine/i-9"));
    assert_ne!(waits(&drain(1, "token/ci")), first);
    assert_eq!(waits(&drain(120, "machine/i-9")), first);
    assert_ne!(waits(&drain(241, "machine/i-9")), first);
}

#[test]
fn a_denied_request_is_recorded_with_its_reason() {
    let log = Arc::new(Memory::default());
    Auditor::new(log.clone()).denied(&drain(0, "token/ci"), "it is a viewer").expect("recorded");
    let change = &changes(&log)[0];
    assert_eq!(change.outcome(), "refused");
    assert_eq!(change.ended.as_ref().and_then(|ended| ended.reason.as_deref()), Some("it is a viewer"));
}

#[test]
fn an_identity_is_recorded_once_an_hour_for_each_address() {
    let log = Arc::new(Memory::default());
    let auditor = Auditor::new(log.clone());
    let issued = |seconds, from: &str| {
        let draft = Draft { from: Some(from.parse().expect("an address")), ..drain(seconds, "ada") };
        auditor.issued(&draft).expect("recorded");
        changes(&log).len()
    };
    assert_eq!(issued(0, "10.0.0.1"), 1);
    assert_eq!(issued(3_599, "10.0.0.1"), 1);
    assert_eq!(issued(3_599, "10.0.0.2"), 2);
    assert_eq!(issued(3_600, "10.0.0.1"), 3);
    assert!(changes(&log).iter().all(|change| change.outcome() == "done"));
}

#[tokio::test]
async fn every_event_reaches_the_bucket_though_answers_are_lost() {
    let log = Memory::default();
    let bucket = Bucket::default();
    for (round, lost) in [(0, 0), (1, 2), (2, 1)] {
        let draft = drain(round * 10, "machine/i-9");
        let id = log.begin(&draft).expect("recorded");
        *bucket.lost.lock().expect("no test panics here") = lost;
        let mut tries = 0;
        while !matches!(ship_once(&log, &bucket, "audit/a/b/c/").await, Ok(false)) {
            tries += 1;
            if tries == 1 {
                // More is recorded while the first answer is lost.
                let done = Ended {
                    version: AUDIT_VERSION,
                    id: id.clone(),
                    at: at(round * 10 + 1),
                    outcome: Outcome::Done,
                    reason: None,
                    details: BTreeMap::new(),
                };
                log.end(&done).expect("recorded");
            }
            assert!(tries < 10, "it does not end");
        }
    }
    let mut events = Vec::new();
    for key in bucket.keys("audit/a/b/c/").await.expect("listed") {
        let (found, unread) = read_batch(&bucket.read(&key).await.expect("read").expect("an object"));
        assert_eq!(unread, 0);
        events.extend(found);
    }
    assert_eq!(merge(events), changes(&log));
    assert_eq!(changes(&log).len(), 3);
    assert!(changes(&log).iter().all(|change| change.outcome() == "done"));
}
