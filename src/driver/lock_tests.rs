//! A lock against an in-memory store, between holders that live, die and lose it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::model::lock::LOCK_VERSION;
use crate::port::store::Object;

#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, (Vec<u8>, u32)>>,
    /// How many answers to writes that were done are lost.
    lose: Mutex<u32>,
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<Option<Object>, CloudError> {
        let objects = self.objects.lock().expect("no test panics with it");
        Ok(objects.get(key).map(|(bytes, tag)| Object { bytes: bytes.clone(), tag: tag.to_string() }))
    }

    async fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Option<String>, CloudError> {
        let mut objects = self.objects.lock().expect("no test panics with it");
        let there = objects.get(key).map(|(_, tag)| *tag);
        let holds = match condition {
            Condition::Absent => there.is_none(),
            Condition::Is(tag) => there.is_some_and(|there| there.to_string() == tag),
        };
        let next = there.unwrap_or_default() + 1;
        if holds {
            objects.insert(key.to_owned(), (bytes.to_vec(), next));
            let mut lose = self.lose.lock().expect("no test panics with it");
            if *lose > 0 {
                *lose -= 1;
                let (doing, reason) = ("writing".to_owned(), "the answer was lost".to_owned());
                return Err(CloudError::Unreachable { doing, reason });
            }
        }
        Ok(holds.then(|| next.to_string()))
    }

    async fn publish(&self, _: &str, _: &[u8]) -> Result<String, CloudError> {
        unreachable!("locks publish nothing")
    }

    async fn address(&self, _: &str) -> Result<String, CloudError> {
        unreachable!("locks publish nothing")
    }
}

const KEY: &str = "locks/local.json";
const SHORT: Duration = Duration::from_millis(600);

fn record(id: &str, host: &str) -> LockRecord {
    let now = Utc::now();
    LockRecord {
        version: LOCK_VERSION,
        id: id.to_owned(),
        holder: format!("{id}@{host}"),
        host: host.to_owned(),
        process: 7,
        started: 1,
        command: "apply".to_owned(),
        since: now,
        expires: now,
        released: false,
        write: 0,
    }
}

/// A boot clock for tests: the time since some moment, and what a suspension has added.
fn boot() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    Duration::from_secs(1000) + START.elapsed() + SUSPENDED.with(|time| time.get())
}

thread_local! {
    static SUSPENDED: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

async fn take(store: &Arc<Memory>, record: LockRecord, lives: Lives) -> Result<Lock, LockError> {
    take_or_lose(store, record, lives, CancellationToken::new()).await
}

async fn take_or_lose(
    store: &Arc<Memory>,
    record: LockRecord,
    lives: Lives,
    lost: CancellationToken,
) -> Result<Lock, LockError> {
    let store = Arc::clone(store) as Arc<dyn Store>;
    let machine = Machine { lives, boot };
    Lock::take(store, KEY.to_owned(), record, SHORT, machine, &|_, _| (), lost).await
}

fn held(store: &Memory) -> LockRecord {
    let objects = store.objects.lock().expect("no test panics with it");
    serde_json::from_slice(&objects[KEY].0).expect("a record")
}

#[tokio::test]
async fn one_holds_it_at_a_time() {
    let store = Arc::new(Memory::default());
    let first = take(&store, record("ann", "a"), |_, _| true).await.expect("it is free");
    let refused = take(&store, record("bob", "b"), |_, _| true).await.err().expect("it is held");
    assert_eq!(refused.to_string(), "ann@a holds the lock of this environment, for `apply`");
    assert!(first.release().await.expect("a store"));
    let second = take(&store, record("bob", "b"), |_, _| true).await.expect("it is free again");
    assert_eq!(held(&store).id, "bob");
    second.release().await.expect("released");
}

#[tokio::test]
async fn a_holder_that_was_killed_keeps_nobody_out_on_its_host() {
    let store = Arc::new(Memory::default());
    let killed = take(&store, record("ann", "a"), |_, _| true).await.expect("it is free");
    killed.renewing.abort();
    assert!(take(&store, record("bob", "b"), |_, _| false).await.is_err(), "another host can't tell");
    take(&store, record("cem", "a"), |_, _| false)
        .await
        .expect("this one can")
        .release()
        .await
        .expect("released");
}

#[tokio::test]
async fn a_lock_that_nobody_renews_is_taken_over_once_it_was_watched() {
    let store = Arc::new(Memory::default());
    let stale = LockRecord { expires: Utc::now() - TERM, ..record("ann", "a") };
    store.put(KEY, &bytes(&stale), Condition::Absent).await.expect("a store").expect("written");
    let began = boot();
    let second = take(&store, record("bob", "b"), |_, _| true).await.expect("nobody renews it");
    assert!(boot() - began >= Pace::of(SHORT).watch, "its date alone was believed");
    assert_eq!(held(&store).id, "bob");
    drop(second);
}

/// At e1e3c77 this holder was taken for gone, because its clock is an hour behind.
#[tokio::test]
async fn a_holder_whose_clock_is_behind_keeps_its_lock() {
    let store = Arc::new(Memory::default());
    let ann = take(&store, record("ann", "a"), |_, _| true).await.expect("it is free");
    let behind = Arc::clone(&store);
    let meddle = tokio::spawn(async move {
        // What a process with such a clock would have written.
        loop {
            {
                let mut objects = behind.objects.lock().expect("no test panics with it");
                if let Some((written, _)) = objects.get_mut(KEY) {
                    let mut record: LockRecord = serde_json::from_slice(written).expect("a record");
                    if record.id == "ann" {
                        record.expires = Utc::now() - TERM * 60;
                        *written = bytes(&record);
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let refused = take(&store, record("bob", "b"), |_, _| true).await.err();
    meddle.abort();
    assert!(matches!(refused, Some(LockError::Held(_))), "it was taken from one that lives");
    assert!(ann.release().await.expect("a store"));
}

#[tokio::test]
async fn whoever_was_suspended_for_longer_than_its_term_has_lost_the_lock() {
    let store = Arc::new(Memory::default());
    let lost = CancellationToken::new();
    let lock = take_or_lose(&store, record("ann", "a"), |_, _| true, lost.clone()).await.expect("it is free");
    SUSPENDED.with(|time| time.set(SHORT));
    tokio::time::timeout(Duration::from_secs(10), lost.cancelled()).await.expect("it is told");
    assert!(!lock.release().await.expect("a store"));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_read_back() {
    let store = Arc::new(Memory::default());
    *store.lose.lock().expect("no test panics with it") = 1;
    let lock = take(&store, record("ann", "a"), |_, _| true).await.expect("it was written");
    assert_eq!((held(&store).id, held(&store).write), ("ann".to_owned(), 1));
    *store.lose.lock().expect("no test panics with it") = 1;
    let count = held(&store).write;
    let renewed = async {
        while held(&store).write < count + 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("it goes on renewing");
    *store.lose.lock().expect("no test panics with it") = 1;
    assert!(lock.release().await.expect("a store"), "the lost answer may be of a renewal or of this");
    assert!(held(&store).released);
}

#[tokio::test]
async fn a_lock_is_renewed_while_it_is_held() {
    let store = Arc::new(Memory::default());
    let lock = take(&store, record("ann", "a"), |_, _| true).await.expect("it is free");
    let first = held(&store).expires;
    let renewed = async {
        while held(&store).expires == first {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("it is renewed");
    lock.release().await.expect("released");
    assert!(held(&store).released);
}

#[tokio::test]
async fn what_is_no_lock_is_not_written_over() {
    let store = Arc::new(Memory::default());
    store.put(KEY, b"{}", Condition::Absent).await.expect("a store");
    let refused = take(&store, record("ann", "a"), |_, _| true).await.err();
    assert!(matches!(refused, Some(LockError::Unknown { .. })));
}
