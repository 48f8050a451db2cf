//! The audit log of a control machine, as its API uses it: requests that are repeated until
//! they are done are one change, and what is stored is copied to the project's bucket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::audit::{AUDIT_VERSION, AuditEvent, Draft, Ended, Filter, Outcome, batch, bounded};
use crate::plan::audit::End;
use crate::port::archive::Archive;
use crate::port::audit::AuditLog;
use crate::port::cloud::CloudError;
use crate::port::kept::KeptError;

/// How long after the last of them a repeated request still belongs to the same change.
const SERIES: TimeDelta = TimeDelta::minutes(2);
/// How long a principal that got an identity is known, for the record.
const KNOWN: TimeDelta = TimeDelta::hours(1);
/// How often new events are copied to the bucket.
const SHIP_EVERY: Duration = Duration::from_secs(15);
/// How long after a failure it is tried again.
const SHIP_AGAIN: Duration = Duration::from_secs(60);
/// How many events one object holds at most.
const BATCH: u32 = 500;

/// Records changes.
pub struct Auditor {
    log: Arc<dyn AuditLog>,
    /// Changes whose callers ask until they are done.
    waiting: Mutex<BTreeMap<Series, (String, DateTime<Utc>)>>,
    /// Who got an identity from which address, and when that was recorded.
    known: Mutex<BTreeMap<Known, DateTime<Utc>>>,
}

/// Who got what, for what, and from which address.
type Known = (String, String, String, Option<IpAddr>);

/// Who asks for what, on what.
type Series = (String, String, String);

fn series(draft: &Draft) -> Series {
    (draft.by.clone(), draft.operation.clone(), draft.target.clone())
}

impl Auditor {
    /// Records in `log`.
    pub fn new(log: Arc<dyn AuditLog>) -> Self {
        Self { log, waiting: Mutex::default(), known: Mutex::default() }
    }

    /// Records that a change is about to be carried out; gives its id.
    ///
    /// # Errors
    /// When it can't be stored.
    pub fn begin(&self, draft: &Draft) -> Result<String, KeptError> {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|_, (_, last)| draft.at - *last <= SERIES);
            if let Some((id, _)) = waiting.get(&series(draft)) {
                return Ok(id.clone());
            }
        }
        self.log.begin(draft)
    }

    /// Records how the change `id` ended. One that waits is recorded as such once.
    ///
    /// # Errors
    /// When it can't be stored.
    pub fn end(&self, draft: &Draft, id: &str, end: End, at: DateTime<Utc>) -> Result<(), KeptError> {
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if end.outcome == Outcome::Waiting {
                let before = waiting.insert(series(draft), (id.to_owned(), at));
                if before.is_some_and(|(known, _)| known == id) {
                    return Ok(());
                }
            } else {
                waiting.remove(&series(draft));
            }
        }
        self.log.end(&Ended {
            version: AUDIT_VERSION,
            id: id.to_owned(),
            at,
            outcome: end.outcome,
            reason: end.reason.as_deref().map(bounded),
            details: end.details.into_iter().map(|(name, value)| (name, bounded(&value))).collect(),
        })
    }

    /// Records a request that was denied.
    ///
    /// # Errors
    /// When it can't be stored.
    pub fn denied(&self, draft: &Draft, reason: &str) -> Result<(), KeptError> {
        let id = self.log.begin(draft)?;
        let end =
            End { outcome: Outcome::Refused, reason: Some(reason.to_owned()), details: BTreeMap::new() };
        self.end(draft, &id, end, draft.at)
    }

    /// Records that the principal of `draft` got an identity, a certificate, or the credentials of a task: every
    /// command of a person asks for one, and machines renew theirs, so it is recorded once an hour for each
    /// principal, target and address.
    ///
    /// # Errors
    /// When it can't be stored.
    pub fn issued(&self, draft: &Draft) -> Result<(), KeptError> {
        {
            let key = (draft.by.clone(), draft.operation.clone(), draft.target.clone(), draft.from);
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, last| draft.at - *last < KNOWN);
            if known.contains_key(&key) {
                return Ok(());
            }
            known.insert(key, draft.at);
        }
        let id = self.log.begin(draft)?;
        let end = End { outcome: Outcome::Done, reason: None, details: BTreeMap::new() };
        self.end(draft, &id, end, draft.at)
    }

    /// The events of the newest `limit` changes that `filter` takes.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn newest(&self, filter: &Filter, limit: u32) -> Result<Vec<AuditEvent>, KeptError> {
        self.log.newest(filter, limit)
    }
}

/// Why events were not copied to the bucket.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The log.
    #[error(transparent)]
    Log(#[from] KeptError),
    /// The bucket.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// Copies events to `folder` of the bucket, for as long as it runs.
pub async fn ship(log: Arc<dyn AuditLog>, archive: Arc<dyn Archive>, folder: String) {
    loop {
        let pause = match ship_once(log.as_ref(), archive.as_ref(), &folder).await {
            Ok(true) => continue,
            Ok(false) => SHIP_EVERY,
            Err(error) => {
                tracing::warn!(%error, "copying the audit log to the bucket");
                SHIP_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Copies one batch; `false` when there is nothing to copy.
///
/// # Errors
/// When the log or the bucket does not answer. Trying again copies nothing twice: a batch whose
/// key exists was created by a call whose answer was lost.
pub async fn ship_once(log: &dyn AuditLog, archive: &dyn Archive, folder: &str) -> Result<bool, ShipError> {
    let Some(found) = log.unshipped(BATCH)? else { return Ok(false) };
    if let Some(batch) = batch(folder, log.name(), found.first, found.last, &found.events) {
        archive.create(&batch.key, &batch.bytes).await?;
    }
    log.shipped(found.last)?;
    Ok(true)
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
