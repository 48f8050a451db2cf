//! One server for an environment: on this machine by a lock on a file, everywhere else by one in the project's bucket.

use std::sync::Arc;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::adapter::this_process::{ThisProcess, boot_clock, lives};
use crate::cli::failure::Failure;
use crate::cli::pipelines::Workshop;
use crate::driver::lock::{Lock, LockError, Machine, TERM};
use crate::driver::pipeline::run::Parts;
use crate::driver::pipeline::troubles::Concern;
use crate::model::lock::{LOCK_VERSION, LockRecord};
use crate::port::store::Store;
use crate::view::time::human;

/// The time between two tries to take a lock again that was lost.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether a process runs that may hold the lock. This one takes the lock only while it does not hold it, so a record of its
/// own is left from a holding that is over: otherwise the server would refuse itself.
fn holds(process: u32, started: u64) -> bool {
    process != std::process::id() && lives(process, started)
}

/// The lock of an environment's pipeline server, in the project's bucket.
pub struct Alone {
    store: Arc<dyn Store>,
    key: String,
    lock: Option<Lock>,
    lost: CancellationToken,
    parts: Parts,
    environment: String,
}

impl Alone {
    /// Takes the lock. Where the bucket can't be used there is none, and the text says so. Where that may pass,
    /// [`Alone::keep`] takes it later.
    ///
    /// # Errors
    /// When another server has it.
    pub async fn begin(shop: &Workshop) -> Result<(Option<Self>, Option<String>), Failure> {
        let Some(store) = shop.store.clone() else { return Ok((None, None)) };
        let environment = shop.environment.name.to_string();
        let key = format!("locks/serve/{environment}.json");
        let lost = CancellationToken::new();
        let mut alone = Self { store, key, lock: None, lost, parts: shop.parts.clone(), environment };
        match alone.take().await {
            Ok(()) => Ok((Some(alone), None)),
            Err(LockError::Cloud(error)) => {
                let text = format!(
                    "whether another machine serves `{}` is unknown: {error}; see that only one does",
                    alone.environment
                );
                Ok((error.is_passing().then_some(alone), Some(text)))
            }
            Err(error) => Err(alone.failure(&error)),
        }
    }

    async fn take(&mut self) -> Result<(), LockError> {
        let this = ThisProcess::read();
        let now = Utc::now();
        let record = LockRecord {
            version: LOCK_VERSION,
            id: format!("{}-{}-{}", this.process, this.started, now.timestamp_micros()),
            holder: this.holder,
            host: this.host,
            process: this.process,
            started: this.started,
            command: "serve".to_owned(),
            since: now,
            expires: now,
            released: false,
            write: 0,
        };
        let watching = |held: &LockRecord, time: std::time::Duration| {
            // Events are not printed yet when a server starts.
            eprintln!(
                "the server of {} seems to be gone; its lock is watched for {} before it is taken over",
                held.holder,
                human(time)
            );
        };
        self.lost = CancellationToken::new();
        let machine = Machine { lives: holds, boot: boot_clock };
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let lock = Lock::take(store, key, record, TERM, machine, &watching, self.lost.clone()).await?;
        self.lock = Some(lock);
        Ok(())
    }

    fn failure(&self, error: &LockError) -> Failure {
        match error {
            LockError::Held(held) => {
                let since = human((Utc::now() - held.since).to_std().unwrap_or_default());
                Failure::failed(
                    format!(
                        "{} (process {}) has served `{}` for {since}",
                        held.holder, held.process, self.environment
                    ),
                    "stop that server first; if its machine is gone, try again after a minute: the lock is then taken over",
                )
            }
            LockError::Unknown { .. } => Failure::failed(
                error.to_string(),
                "use the version of fleetwright that wrote it, or delete it if no server runs",
            ),
            LockError::Cloud(cloud) => Failure::failed(format!("taking the lock: {cloud}"), cloud.next()),
        }
    }

    /// Watches over the lock until `stop`. While it is lost no run is begun, and it is taken again as soon as it can be.
    ///
    /// # Errors
    /// When another server has taken it.
    pub async fn keep(mut self, stop: CancellationToken) -> Result<(), Failure> {
        loop {
            if self.lock.is_some() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.lost.cancelled() => {}
                }
                self.lock = None;
                let text = format!(
                    "the lock in the bucket could not be renewed, so another machine may serve `{}` by now; queued runs wait",
                    self.environment
                );
                if self.parts.troubles.set(Concern::Lock, Some(text.clone())) {
                    self.parts.events.note(text);
                }
            }
            // The lock of a holder that seems to be gone is watched for a minute. Whoever stops the server does not wait for that.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                taken = self.take_when_it_can_be() => taken?,
            }
            let again = if self.parts.troubles.set(Concern::Lock, None) { " again" } else { "" };
            self.parts.events.note(format!("the lock in the bucket is held{again}"));
            self.parts.ring();
        }
        if let Some(lock) = self.lock.take()
            && let Err(error) = lock.release().await
        {
            self.parts.events.note(format!(
                "the lock in the bucket was not released, and expires in about a minute: {error}"
            ));
        }
        Ok(())
    }

    /// Takes the lock, as soon as the bucket can be used.
    async fn take_when_it_can_be(&mut self) -> Result<(), Failure> {
        loop {
            match self.take().await {
                Ok(()) => return Ok(()),
                Err(LockError::Cloud(error)) => tracing::debug!(%error, "taking the lock again"),
                Err(error) => return Err(self.failure(&error)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
