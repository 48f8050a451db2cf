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
const SHORT: Duration = Duration::from_millis(60);

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
    }
}

async fn take(store: &Arc<Memory>, record: LockRecord, lives: Lives) -> Result<Lock, LockError> {
    let store = Arc::clone(store) as Arc<dyn Store>;
    Lock::take(store, KEY.to_owned(), record, SHORT, lives, CancellationToken::new()).await
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
async fn a_lock_that_has_expired_is_taken_over_and_its_holder_is_told() {
    let store = Arc::new(Memory::default());
    let lost = CancellationToken::new();
    let stale = LockRecord { expires: Utc::now() - TERM, ..record("ann", "a") };
    let tag = store.put(KEY, &bytes(&stale), Condition::Absent).await.expect("a store").expect("written");
    let second = take(&store, record("bob", "b"), |_, _| true).await.expect("it has expired");
    assert_eq!(held(&store).id, "bob");
    // The first wakes up, and finds another's tag.
    let done = CancellationToken::new();
    let end = renew(
        Arc::clone(&store) as _,
        KEY.to_owned(),
        Held { record: stale, tag },
        SHORT,
        done,
        lost.clone(),
    )
    .await;
    assert!(end.is_none() && lost.is_cancelled());
    assert_eq!(held(&store).id, "bob", "it does not write over the other's");
    drop(second);
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
