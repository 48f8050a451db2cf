//! The list of a pipeline server's backups.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of the list, raised when a field changes its meaning.
pub const BACKUP_VERSION: u32 = 1;

/// The document that lists what is there; whatever it does not name belongs to no backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupList {
    /// [`BACKUP_VERSION`].
    pub version: u32,
    /// The backups, oldest first.
    pub backups: Vec<Backup>,
}

impl Default for BackupList {
    fn default() -> Self {
        Self { version: BACKUP_VERSION, backups: Vec::new() }
    }
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The journal, compressed.
    pub journal: Part,
    /// The files that steps have kept, packed, by the numbers of their runs. Backups that follow share them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<i64, Part>,
    /// What steps have printed, packed, by the numbers of their runs. Backups that follow share those of runs that had ended.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub logs: BTreeMap<i64, Part>,
}

/// An object of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its key, below that of the list.
    pub key: String,
    /// The SHA-256 of what it holds, in hexadecimal.
    pub sha256: String,
    /// How many bytes it has.
    pub bytes: u64,
}

impl BackupList {
    /// The keys of everything that it names.
    pub fn keys(&self) -> std::collections::BTreeSet<&str> {
        let parts = self
            .backups
            .iter()
            .flat_map(|one| std::iter::once(&one.journal).chain(one.files.values()).chain(one.logs.values()));
        parts.map(|part| part.key.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_every_version_are_read_for_ever() {
        for (name, text) in crate::source::samples::of("backup") {
            let list: BackupList = serde_json::from_str(&text).expect(&name);
            assert_eq!(list.backups.len(), 2, "{name}");
            let logs = list.backups.iter().flat_map(|one| one.logs.values()).count();
            assert_eq!(list.keys().len(), 3 + logs, "{name}");
            let again: BackupList =
                serde_json::from_str(&serde_json::to_string(&list).expect("JSON")).expect(&name);
            assert_eq!(again, list, "{name}");
        }
    }
}
