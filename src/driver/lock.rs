//! Holding an environment's lock: taken by a conditional write, renewed while it is held, given
//! back at the end, and free by itself when its holder is gone.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::lock::LockRecord;
use crate::plan::lock::lease::{Claim, ClaimStep, Found, Lease, LeaseStep, Now, Pace, Written};
use crate::port::cloud::CloudError;
use crate::port::store::{Condition, Store};

/// For how long a lock is taken, and renewed, at a time.
pub const TERM: Duration = Duration::from_secs(60);
/// The most steps of a claim; one that watches takes fourteen, for nothing if others are faster.
const TRIES: usize = 60;
/// How long is slept at a time.
const PIECE: Duration = Duration::from_millis(500);

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

/// What this process knows of its machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Whether a process still runs.
    pub lives: Lives,
    /// The time since the machine was started, suspensions included.
    pub boot: fn() -> Duration,
}

impl Machine {
    fn now(self) -> Now {
        Now { boot: (self.boot)(), date: Utc::now() }
    }
}

/// A lock that is held. Dropped without [`Lock::release`], it is free when its term is over.
pub struct Lock {
    store: Arc<dyn Store>,
    key: String,
    renewing: JoinHandle<Option<Lease>>,
    done: CancellationToken,
}

/// The key of an environment's lock.
pub fn key(environment: &str) -> String {
    format!("locks/{environment}.json")
}

impl Lock {
    /// Takes the lock at `key`, and renews it until it is released. `lost` is cancelled when it
    /// is no longer certain that nobody else has it. A lock whose holder is gone for all that is known
    /// is watched for a while first: `watching` gets its record and how long that takes at most.
    ///
    /// # Errors
    /// When somebody holds it, or the store can't be asked.
    pub async fn take(
        store: Arc<dyn Store>,
        key: String,
        record: LockRecord,
        term: Duration,
        machine: Machine,
        watching: &(dyn Fn(&LockRecord, Duration) + Sync),
        lost: CancellationToken,
    ) -> Result<Self, LockError> {
        let pace = Pace::of(term);
        let mut claim = Claim::new(record, pace);
        let mut step = claim.begin(machine.now());
        let mut seen: Option<LockRecord> = None;
        let mut told = false;
        for _ in 0..TRIES {
            step = match step {
                ClaimStep::Write(record, only) => {
                    let condition = only.map_or(Condition::Absent, Condition::Is);
                    // One without an answer may have been done: what is there says.
                    let outcome = match store.put(&key, &bytes(&record), condition).await {
                        Ok(Some(tag)) => Written::Done(tag),
                        Ok(None) => Written::Refused,
                        Err(error @ CloudError::Denied { .. }) => return Err(error.into()),
                        Err(_) => Written::Unknown,
                    };
                    claim.written(outcome)
                }
                ClaimStep::Read => {
                    let found = read(&*store, &key).await?;
                    seen = found.as_ref().map(|(record, _)| record.clone());
                    claim.read(machine.now(), found, machine.lives)
                }
                ClaimStep::Watch(time) => {
                    if let Some(record) = seen.as_ref().filter(|_| !told) {
                        watching(record, pace.watch);
                        told = true;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        () = lost.cancelled() => break,
                    }
                    ClaimStep::Read
                }
                ClaimStep::Held(record) => return Err(LockError::Held(record)),
                ClaimStep::Taken(lease) => {
                    let done = CancellationToken::new();
                    let renewing =
                        renew(Arc::clone(&store), key.clone(), *lease, machine, done.clone(), lost);
                    return Ok(Self { store, key, renewing: tokio::spawn(renewing), done });
                }
            };
        }
        Err(seen.map_or(LockError::Unknown { key }, |held| LockError::Held(Box::new(held))))
    }

    /// Gives the lock back; `false` when it was lost before.
    ///
    /// # Errors
    /// When the store can't be asked: then it is free when its term is over.
    pub async fn release(self) -> Result<bool, CloudError> {
        self.done.cancel();
        let Ok(Some(lease)) = self.renewing.await else { return Ok(false) };
        let (record, tag) = lease.release();
        let mut next = Some((record, tag.to_owned()));
        let mut last = None;
        for _ in 0..3 {
            let Some((record, tag)) = next else { return Ok(last.is_some()) };
            match self.store.put(&self.key, &bytes(&record), Condition::Is(tag)).await {
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
            // A write whose answer was lost may be what refuses this one.
            next = match read(&*self.store, &self.key).await {
                Ok(found)
                    if found.as_ref().is_some_and(|(found, _)| found.id == record.id && found.released) =>
                {
                    return Ok(true);
                }
                Ok(found) => lease.release_again(&found),
                Err(LockError::Cloud(error)) => return Err(error),
                Err(LockError::Held(_) | LockError::Unknown { .. }) => None,
            };
        }
        last.map_or(Ok(false), Err)
    }
}

/// The lock and its tag.
async fn read(store: &dyn Store, key: &str) -> Result<Found, LockError> {
    let Some(found) = store.get(key).await? else { return Ok(None) };
    let record =
        serde_json::from_slice(&found.bytes).map_err(|_| LockError::Unknown { key: key.to_owned() })?;
    Ok(Some((record, found.tag)))
}

/// Renews a lock until `done`; the lease, or `None` when it was lost.
async fn renew(
    store: Arc<dyn Store>,
    key: String,
    mut lease: Lease,
    machine: Machine,
    done: CancellationToken,
    lost: CancellationToken,
) -> Option<Lease> {
    let mut step = lease.next(machine.now());
    loop {
        let until = lease.good_until();
        // Sleeping is measured by a clock that stands still while the machine is suspended, so it
        // is done in short pieces. What would act on a lock that has run out is stopped within one.
        let over = async {
            while (machine.boot)() < until {
                tokio::time::sleep(PIECE.min(until.saturating_sub((machine.boot)()))).await;
            }
        };
        step = match step {
            LeaseStep::Lost => {
                lost.cancel();
                return None;
            }
            LeaseStep::Wait(at) => {
                let wait = async {
                    while (machine.boot)() < at {
                        tokio::time::sleep(PIECE.min(at.saturating_sub((machine.boot)()))).await;
                    }
                };
                tokio::select! {
                    () = done.cancelled() => return Some(lease),
                    () = wait => lease.next(machine.now()),
                }
            }
            LeaseStep::Write(record, tag) => {
                let written = bytes(&record);
                tokio::select! {
                    () = over => lease.next(machine.now()),
                    outcome = store.put(&key, &written, Condition::Is(tag)) => {
                        let outcome = match outcome {
                            Ok(Some(tag)) => Written::Done(tag),
                            Ok(None) => Written::Refused,
                            Err(error) => {
                                tracing::warn!(%error, "the lock could not be renewed");
                                Written::Unknown
                            }
                        };
                        lease.written(machine.now(), outcome)
                    }
                }
            }
            LeaseStep::Read => tokio::select! {
                () = over => lease.next(machine.now()),
                found = read(&*store, &key) => match found {
                    Err(LockError::Cloud(_)) => lease.read(machine.now(), Err(())),
                    Err(LockError::Held(_) | LockError::Unknown { .. }) => lease.read(machine.now(), Ok(None)),
                    Ok(found) => lease.read(machine.now(), Ok(found)),
                },
            },
        };
    }
}

fn bytes(record: &LockRecord) -> Vec<u8> {
    serde_json::to_vec_pretty(record).unwrap_or_default()
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
