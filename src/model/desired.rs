//! What is kept of a cluster's services outside the cluster: enough to deploy all of them again
//! when every control machine is lost. One document for each service.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::name::ServiceName;
use super::service::RevisionState;

/// The version of [`Document`] that is written.
pub const DOCUMENT_VERSION: u32 = 1;
/// How many revisions of a service a document keeps, besides the one that is restored.
pub const KEPT: usize = 10;

/// One settled revision of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// Its outcome.
    pub state: RevisionState,
    /// Whether all of its instances were healthy at one time.
    pub ran: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// When its rollout began.
    pub since: DateTime<Utc>,
    /// The version of what `deployment` holds.
    pub format: u32,
    /// The deployment as it was recorded. It may be of a later version, so it is carried as it is:
    /// the service's specification, image, registry and origin. Secrets are in it by name only.
    pub deployment: Value,
}

/// What is kept of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`DOCUMENT_VERSION`].
    pub version: u32,
    /// The service.
    pub service: ServiceName,
    /// Which founding or recovery of the cluster wrote it.
    pub generation: u64,
    /// The highest number that was given to a revision, or to the removal.
    pub number: u64,
    /// The engine's count of changes when the last of this changed.
    pub index: u64,
    /// Whether the service was removed.
    pub removed: bool,
    /// The revisions, newest first.
    pub revisions: Vec<Kept>,
}

/// Which of two documents of a service is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    generation: u64,
    number: u64,
    index: u64,
}

impl Document {
    /// Where the document stands among all of its service.
    pub fn rank(&self) -> Rank {
        Rank { generation: self.generation, number: self.number, index: self.index }
    }

    /// The revision that is restored: the newest that ran whole, or the newest if none did. `None`
    /// for a service that was removed.
    pub fn to_restore(&self) -> Option<&Kept> {
        if self.removed {
            return None;
        }
        let failed = |one: &&Kept| matches!(one.state, RevisionState::RolledBack | RevisionState::Failed);
        let good = self.revisions.iter().filter(|one| one.ran && !failed(one));
        good.max_by_key(|one| one.number).or_else(|| self.revisions.iter().max_by_key(|one| one.number))
    }

    /// Whether `other` says the same about the service, whoever wrote it and when.
    pub fn says_the_same(&self, other: &Self) -> bool {
        (self.number, self.removed, &self.revisions) == (other.number, other.removed, &other.revisions)
    }

    /// The document as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Every key is a string and every number is finite, so there is nothing that JSON can't hold.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads what was stored for `service`.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn read(service: &ServiceName, bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match value.get("version").and_then(Value::as_u64) {
            Some(version) if version == u64::from(DOCUMENT_VERSION) => {}
            Some(version) => {
                return Err(format!("it has version {version}, and version {DOCUMENT_VERSION} is known"));
            }
            None => return Err("it has no version".to_owned()),
        }
        let document: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if document.service != *service {
            return Err(format!("it is about service `{}`", document.service));
        }
        Ok(document)
    }
}

/// What the bucket holds of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Distinguishes this write of the object from any other.
    pub tag: String,
    /// The document, or why it can't be read.
    pub document: Result<Document, String>,
}

/// Everything that the bucket holds of a cluster.
pub type Bucket = BTreeMap<ServiceName, Stored>;

/// What the engine holds of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The service.
    pub service: ServiceName,
    /// The highest number that was given to a revision, or to the removal.
    pub number: u64,
    /// The engine's count of changes when the last of this changed.
    pub index: u64,
    /// Its state.
    pub state: HeldState,
}

/// The state of a service in the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldState {
    /// A rollout is under way.
    Moving,
    /// Its revisions have their outcome.
    Settled(Vec<Kept>),
    /// It was removed.
    Removed,
}
