//! Holding an environment's lock: taken by a conditional write, renewed while it is held, given
//! back at the end, and free by itself when its holder is gone.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::lock::LockRecord;
use crate::plan::lock::{Verdict, verdict};
use crate::port::cloud::CloudError;
use crate::port::store::{Condition, Store};

/// For how long a lock is taken, and renewed, at a time.
pub const TERM: Duration = Duration::from_secs(60);
/// How often others may have been faster before we give up.
const TRIES: usize = 5;

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{} holds the lock of this environment, for `{}`", .0.holder, .0.command)]
    Held(Box<LockRecord>),
    /// The document at `key` is not a lock's.
    #[error("{key} is not the document of a lock that this version of fleetwright knows")]
    Unknown {
        /// Its key.
        key: String,
    },
    /// The store can't be asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// Whether a process of this host that began then still runs.
pub type Lives = fn(process: u32, started: u64) -> bool;

/// A lock that is held. Dropped without [`Lock::release`], it is free when its term is over.
pub struct Lock {
    store: Arc<dyn Store>,
    key: String,
    renewing: JoinHandle<Option<Held>>,
    done: CancellationToken,
}

/// The key of an environment's lock.
pub fn key(environment: &str) -> String {
    format!("locks/{environment}.json")
}

impl Lock {
    /// Takes the lock at `key`, and renews it until it is released. `lost` is cancelled when
    /// somebody else has taken it over, which only happens after its term.
    ///
    /// # Errors
    /// When somebody holds it, or the store can't be asked.
    pub async fn take(
        store: Arc<dyn Store>,
        key: String,
        record: LockRecord,
        term: Duration,
        lives: Lives,
        lost: CancellationToken,
    ) -> Result<Self, LockError> {
        let mut condition = Condition::Absent;
        for _ in 0..TRIES {
            let record = renewed(&record, Utc::now() + term);
            if let Some(tag) = store.put(&key, &bytes(&record), condition).await? {
                let done = CancellationToken::new();
                let held = Held { record, tag };
                let renewing = renew(Arc::clone(&store), key.clone(), held, term, done.clone(), lost);
                let renewing = tokio::spawn(renewing);
                return Ok(Self { store, key, renewing, done });
            }
            let Some(found) = store.get(&key).await? else {
                condition = Condition::Absent;
                continue;
            };
            let held: LockRecord =
                serde_json::from_slice(&found.bytes).map_err(|_| LockError::Unknown { key: key.clone() })?;
            match verdict(&held, &record.host, Utc::now(), lives) {
                Verdict::Held => return Err(LockError::Held(Box::new(held))),
                Verdict::Free | Verdict::Expired | Verdict::Dead => condition = Condition::Is(found.tag),
            }
        }
        let held = store.get(&key).await?.and_then(|found| serde_json::from_slice(&found.bytes).ok());
        Err(held.map_or(LockError::Unknown { key }, |held| LockError::Held(Box::new(held))))
    }

    /// Gives the lock back; `false` when it was lost before.
    ///
    /// # Errors
    /// When the store can't be asked: then it is free when its term is over.
    pub async fn release(self) -> Result<bool, CloudError> {
        self.done.cancel();
        let Ok(Some(Held { record, tag })) = self.renewing.await else { return Ok(false) };
        let record = LockRecord { released: true, ..record };
        Ok(self.store.put(&self.key, &bytes(&record), Condition::Is(tag)).await?.is_some())
    }
}

/// What was written last of a lock that is held.
struct Held {
    record: LockRecord,
    tag: String,
}

/// Renews a lock until `done`; what was written last, or `None` when it was lost.
async fn renew(
    store: Arc<dyn Store>,
    key: String,
    mut held: Held,
    term: Duration,
    done: CancellationToken,
    lost: CancellationToken,
) -> Option<Held> {
    let mut wait = term / 3;
    loop {
        tokio::select! {
            () = done.cancelled() => return Some(held),
            () = tokio::time::sleep(wait) => {}
        }
        let next = renewed(&held.record, Utc::now() + term);
        match store.put(&key, &bytes(&next), Condition::Is(held.tag.clone())).await {
            Ok(Some(tag)) => (held, wait) = (Held { record: next, tag }, term / 3),
            Ok(None) => {
                // An answer that was lost on its way looks like somebody else's writing.
                let found = store.get(&key).await.ok().flatten();
                let ours = found.and_then(|found| {
                    let record: LockRecord = serde_json::from_slice(&found.bytes).ok()?;
                    (record.id == next.id && !record.released).then_some(Held { record, tag: found.tag })
                });
                match ours {
                    Some(ours) => held = ours,
                    None => {
                        lost.cancel();
                        return None;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the lock could not be renewed");
                if held.record.expires < Utc::now() {
                    lost.cancel();
                    return None;
                }
                wait = term / 20;
            }
        }
    }
}

fn renewed(record: &LockRecord, expires: DateTime<Utc>) -> LockRecord {
    LockRecord { expires, ..record.clone() }
}

fn bytes(record: &LockRecord) -> Vec<u8> {
    serde_json::to_vec_pretty(record).unwrap_or_default()
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
