//! Locks between processes: advisory locks on files, which end with the process.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::private_file;
use crate::port::locks::{Guard, Locks};

/// One file a lock in one folder.
#[derive(Debug, Clone)]
pub struct FileLocks {
    folder: PathBuf,
}

impl FileLocks {
    /// Locks in `folder`, which is made when the first is taken.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Locks for FileLocks {
    fn try_lock(&self, name: &str) -> std::io::Result<Option<Guard>> {
        private_file::make_folder(&self.folder)?;
        let path = self.folder.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let locks = FileLocks::new(folder.path().join("locks"));
        let held = locks.try_lock("a").expect("locked").expect("free");
        assert!(locks.try_lock("a").expect("asked").is_none());
        assert!(locks.try_lock("b").expect("asked").is_some());
        drop(held);
        assert!(locks.try_lock("a").expect("asked").is_some());
    }
}
