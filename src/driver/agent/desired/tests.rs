use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::model::desired::{Bucket, DOCUMENT_VERSION, Document, HeldState, Kept as Revision, Stored};
use crate::model::service::RevisionState;
use crate::port::cloud::CloudError;
use crate::port::cluster::ClusterError;

/// An engine and a bucket in memory.
#[derive(Default)]
struct Memory {
    held: Mutex<Vec<Held>>,
    bucket: Mutex<Bucket>,
    reads: AtomicUsize,
    unreachable: Mutex<bool>,
    /// A service that the engine can't be made to hold.
    refused: Option<&'static str>,
}

fn revision(number: u64) -> Revision {
    Revision {
        number,
        state: RevisionState::Running,
        ran: true,
        reason: None,
        since: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
        format: 1,
        deployment: json!({}),
    }
}

fn held(service: &str, number: u64) -> Held {
    let state = HeldState::Settled(vec![revision(number)]);
    Held { service: service.parse().expect("a name"), number, index: number, state }
}

fn document(service: &str, number: u64) -> Document {
    Document {
        version: DOCUMENT_VERSION,
        service: service.parse().expect("a name"),
        generation: 1,
        number,
        index: number,
        removed: false,
        revisions: vec![revision(number)],
    }
}

#[async_trait]
impl Holder for Memory {
    async fn held(&self) -> Result<Vec<Held>, ClusterError> {
        Ok(self.held.lock().expect("a lock").clone())
    }

    async fn restore(&self, document: &Document) -> Result<(), ClusterError> {
        if self.refused == Some(document.service.as_str()) {
            return Err(ClusterError::Refused { reason: "not that one".into() });
        }
        self.held.lock().expect("a lock").push(held(document.service.as_str(), document.number));
        Ok(())
    }
}

#[async_trait]
impl Records for Memory {
    async fn read(&self) -> Result<Bucket, CloudError> {
        if *self.unreachable.lock().expect("a lock") {
            return Err(CloudError::Unreachable { doing: "listing".into(), reason: "no route".into() });
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.bucket.lock().expect("a lock").clone())
    }

    async fn write(
        &self,
        service: &ServiceName,
        document: &Document,
        replaces: Option<&str>,
    ) -> Result<bool, CloudError> {
        let mut bucket = self.bucket.lock().expect("a lock");
        if bucket.get(service).map(|stored| stored.tag.as_str()) != replaces {
            return Ok(false);
        }
        let tag = format!("{}-{}", document.number, document.index);
        bucket.insert(service.clone(), Stored { tag, document: Ok(document.clone()) });
        Ok(true)
    }
}

fn desired(memory: &Arc<Memory>) -> Desired {
    Desired::new(memory.clone(), memory.clone())
}

fn stored(document: Document) -> (ServiceName, Stored) {
    (document.service.clone(), Stored { tag: "t".into(), document: Ok(document) })
}

#[tokio::test]
async fn the_bucket_is_asked_only_when_something_changed() {
    let memory = Arc::new(Memory::default());
    memory.held.lock().expect("a lock").push(held("web", 1));
    let (desired, now) = (desired(&memory), Instant::now());
    for _ in 0..50 {
        desired.keep(1, now).await;
    }
    assert_eq!(memory.reads.load(Ordering::Relaxed), 1);
    memory.held.lock().expect("a lock")[0] = held("web", 2);
    desired.keep(1, now).await;
    let numbers: Vec<u64> = memory
        .bucket
        .lock()
        .expect("a lock")
        .values()
        .filter_map(|one| Some(one.document.as_ref().ok()?.number))
        .collect();
    assert_eq!(numbers, [2]);
    assert!(desired.known().written.is_some());
}

#[tokio::test]
async fn a_bucket_that_is_away_is_asked_again_and_reported() {
    let memory = Arc::new(Memory::default());
    memory.held.lock().expect("a lock").push(held("web", 1));
    *memory.unreachable.lock().expect("a lock") = true;
    let (desired, now) = (desired(&memory), Instant::now());
    desired.keep(1, now).await;
    assert!(desired.known().error.is_some_and(|error| error.contains("no route")));
    *memory.unreachable.lock().expect("a lock") = false;
    desired.keep(1, now).await;
    assert_eq!(memory.reads.load(Ordering::Relaxed), 0, "not at once");
    desired.keep(1, now + RETRY.0).await;
    assert_eq!((memory.reads.load(Ordering::Relaxed), desired.known().error), (1, None));
}

#[tokio::test]
async fn a_founder_that_can_t_read_the_bucket_is_not_done() {
    let memory = Arc::new(Memory::default());
    *memory.unreachable.lock().expect("a lock") = true;
    desired(&memory).restore().await.expect_err("it can't know what there was");
    *memory.unreachable.lock().expect("a lock") = false;
    let restored = desired(&memory).restore().await.expect("a project without a bucket is empty");
    assert_eq!(restored.services, []);
}

#[tokio::test]
async fn what_can_be_read_is_restored_and_what_can_t_is_named() {
    let memory = Arc::new(Memory::default());
    let unreadable = Stored { tag: "t".into(), document: Err("it has version 2".into()) };
    let later: ServiceName = "later".parse().expect("a name");
    *memory.bucket.lock().expect("a lock") =
        BTreeMap::from([(later, unreadable), stored(document("shop", 3)), stored(document("web", 7))]);
    let error = desired(&memory).restore().await.expect_err("one can't be read").to_string();
    assert!(error.contains("later") && error.contains("version 2"), "{error}");
    let names: Vec<String> = memory
        .held
        .lock()
        .expect("a lock")
        .iter()
        .map(|one| format!("{} {}", one.service, one.number))
        .collect();
    assert_eq!(names, ["shop 3", "web 7"]);
}

#[tokio::test]
async fn a_restore_that_was_cut_short_goes_on_where_it_ended() {
    let bucket = BTreeMap::from([stored(document("shop", 3)), stored(document("web", 7))]);
    let first =
        Arc::new(Memory { refused: Some("web"), bucket: Mutex::new(bucket.clone()), ..Memory::default() });
    desired(&first).restore().await.expect_err("the engine refuses one");
    let held = first.held.lock().expect("a lock").clone();
    assert_eq!(held.len(), 1);
    let again = Arc::new(Memory { held: Mutex::new(held), bucket: Mutex::new(bucket), ..Memory::default() });
    let restored = desired(&again).restore().await.expect("the rest");
    assert_eq!(restored.services, ["web".parse().expect("a name")]);
}
