//! Room on disks, as the file systems report it.

use std::path::PathBuf;

use nix::sys::statvfs::statvfs;

use crate::port::space::Space;

/// Below so much room no run is begun, in bytes.
const LEAST: u64 = 1 << 30;

/// The disks of folders.
#[derive(Debug)]
pub struct DiskSpace {
    folders: Vec<PathBuf>,
    least: u64,
}

impl DiskSpace {
    /// The disks of those folders. One that is not there is passed over.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, least: LEAST }
    }
}

impl Space for DiskSpace {
    fn lack(&self) -> Option<String> {
        self.below(self.least, "and no run is begun below")
    }

    fn danger(&self) -> Option<String> {
        self.below(self.least / 4, "and steps are stopped below")
    }
}

impl DiskSpace {
    /// The first disk with less room than that.
    fn below(&self, least: u64, words: &str) -> Option<String> {
        self.folders.iter().find_map(|folder| {
            let found = statvfs(folder).ok()?;
            let free = found.blocks_available().saturating_mul(found.fragment_size());
            let (free, least) = (free >> 20, least >> 20);
            (free < least)
                .then(|| format!("the disk of {} has {free} MiB left, {words} {least} MiB", folder.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_named_and_a_folder_that_is_not_there_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = vec![PathBuf::from("/nowhere"), folder.path().to_owned()];
        assert_eq!(DiskSpace { folders: folders.clone(), least: 0 }.lack(), None);
        let reason =
            DiskSpace { folders: folders.clone(), least: u64::MAX }.lack().expect("there is never that much");
        assert!(reason.contains(&folder.path().display().to_string()), "{reason}");
        assert!(reason.contains("no run is begun below"), "{reason}");
        let reason = DiskSpace { folders, least: u64::MAX }.danger().expect("there is never that much");
        assert!(reason.contains("steps are stopped below"), "{reason}");
    }
}
