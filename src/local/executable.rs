//! The executable that machines fetch: this program itself, without what only debuggers need.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::error::LocalError;
use super::home::{CloudFiles, Home, make_dir, write_file};
use super::image::on_path;
use super::venv::{exclusive, hex};

/// This program. The link that the kernel gives works even when the file was replaced by a new build.
const OWN: &str = "/proc/self/exe";

/// The copy that is served, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executable {
    /// SHA-256 of the copy, hexadecimal.
    pub sha256: String,
    /// Length of the copy.
    pub bytes: u64,
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

impl Executable {
    /// The copy that a cloud serves, if there is one.
    pub fn read(files: &CloudFiles) -> Option<Self> {
        Self::beside(&files.executable())
    }

    fn beside(copy: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(copy.with_extension("json")).ok()?).ok()
    }
}

/// Makes a cloud serve a copy of this program. The copy is made once per build and kept in
/// the home; each cloud links to it, and so keeps its own when another build makes the next.
///
/// # Errors
/// When the program can't be read or the copy not written.
pub async fn ensure(home: &Home, files: &CloudFiles) -> Result<(), LocalError> {
    let copy = home.executable();
    let made = ensure_copy(OWN.as_ref(), &copy).await?;
    if Executable::read(files).as_ref() == Some(&made) {
        return Ok(());
    }
    let served = files.executable();
    if let Some(parent) = served.parent() {
        make_dir(parent)?;
    }
    let new = served.with_extension("new");
    let _ = fs::remove_file(&new);
    fs::hard_link(&copy, &new)
        .and_then(|()| fs::rename(&new, &served))
        .map_err(LocalError::file("writing", &served))?;
    write_file(&served.with_extension("json"), serde_json::to_vec(&made).unwrap_or_default())
}

/// The copy of this program that machines can be given, made where it is not there yet.
///
/// # Errors
/// When the program can't be read or the copy not written.
pub async fn prepared(home: &Home) -> Result<PathBuf, LocalError> {
    let copy = home.executable();
    ensure_copy(OWN.as_ref(), &copy).await?;
    Ok(copy)
}

/// Copies a program, unless the copy there was made from the same file.
async fn ensure_copy(own: &Path, copy: &Path) -> Result<Executable, LocalError> {
    let meta = fs::metadata(own).map_err(LocalError::file("reading", own))?;
    let (size, modified, inode) = (meta.size(), (meta.mtime(), meta.mtime_nsec()), meta.ino());
    let known = || {
        Executable::beside(copy).filter(|have| {
            (have.size, have.modified, have.inode) == (size, modified, inode) && copy.is_file()
        })
    };
    if let Some(have) = known() {
        return Ok(have);
    }
    if let Some(parent) = copy.parent() {
        make_dir(parent)?;
    }
    // Two clouds that start at the same time would write the same file.
    let _lock = exclusive(&copy.with_extension("lock")).await?;
    if let Some(have) = known() {
        return Ok(have);
    }
    let new = copy.with_extension("new");
    tokio::fs::copy(own, &new).await.map_err(LocalError::file("copying", own))?;
    if on_path("strip") {
        // A failure leaves the copy as it was, which serves as well.
        let mut strip = Command::new("strip");
        strip.arg("--strip-all").arg(&new).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = strip.status().await;
    }
    let reading = new.clone();
    let hashed = tokio::task::spawn_blocking(move || -> std::io::Result<(String, u64)> {
        let mut hasher = Sha256::new();
        let mut file = fs::File::open(&reading)?;
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let count = std::io::Read::read(&mut file, &mut buffer)?;
            if count == 0 {
                return Ok((hex(&hasher.finalize()), bytes));
            }
            bytes += count as u64;
            hasher.update(&buffer[..count]);
        }
    });
    let (sha256, bytes) = match hashed.await {
        Ok(result) => result.map_err(LocalError::file("reading", &new))?,
        Err(error) => {
            return Err(LocalError::Emulator { doing: "hashing the program", reason: error.to_string() });
        }
    };
    fs::rename(&new, copy).map_err(LocalError::file("writing", copy))?;
    let made = Executable { sha256, bytes, size, modified, inode };
    let text = serde_json::to_vec(&made).unwrap_or_default();
    write_file(&copy.with_extension("json"), text)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clouds_that_start_at_the_same_time_make_one_copy() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, copy) = (folder.path().join("own"), folder.path().join("agent/fleetwright"));
        fs::write(&own, "a program").expect("written");
        let made = tokio::join!(ensure_copy(&own, &copy), ensure_copy(&own, &copy));
        assert_eq!(made.0.expect("a copy"), made.1.expect("the same copy"));
        assert_eq!(fs::read(&copy).expect("a copy"), b"a program");
    }

    #[test]
    fn every_recorded_copy_loads() {
        for (name, text) in crate::source::samples::of("local-executable") {
            let copy: Executable =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((copy.bytes, copy.sha256.len()), (5, 64), "{name}");
        }
    }
}
