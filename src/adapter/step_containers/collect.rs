//! Files of a workspace, copied out of it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use bollard::errors::Error;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{EngineSteps, WORKSPACE};
use crate::model::step_files::StepFile;
use crate::port::images::ImageError;
use crate::port::step_containers::{Attempt, Wanted};

/// How many files of a step are kept.
const FILES_MOST: usize = 10_000;
/// How large they may be together, in bytes.
const BYTES_MOST: u64 = 2 << 30;

impl EngineSteps {
    /// Copies wanted files of the workspace to `folder`.
    pub(super) async fn copy_out(
        &self,
        attempt: Attempt,
        wanted: Wanted<'_>,
        folder: &Path,
    ) -> Result<Vec<StepFile>, ImageError> {
        let mut files = Vec::new();
        for inside in wanted.folders {
            // With the dot at its end a folder's own name does not stand before its files' names.
            let path = format!("{WORKSPACE}/{inside}/.").replace("//", "/");
            let options = DownloadFromContainerOptionsBuilder::default().path(&path).build();
            let mut pieces =
                Box::pin(self.docker().download_from_container(&self.container(attempt), Some(options)))
                    .peekable();
            match std::pin::Pin::new(&mut pieces).peek().await {
                Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) | None => continue,
                // What is named is a file, not a folder.
                Some(Err(Error::DockerResponseServerError { status_code: 400 | 500, message }))
                    if message.contains("not a directory") =>
                {
                    continue;
                }
                _ => {}
            }
            let pieces = pieces.map(|piece| piece.map_err(io::Error::other));
            let mut archive = tar::Archive::new(SyncIoBridge::new(StreamReader::new(pieces)));
            let found =
                tokio::task::block_in_place(|| unpack(&mut archive, inside, wanted, folder, &mut files));
            found.map_err(|error| ImageError::Build {
                reason: format!("keeping files: {error}"),
                step: None,
            })?;
        }
        files.sort();
        Ok(files)
    }
}

fn unpack(
    archive: &mut tar::Archive<impl io::Read>,
    inside: &str,
    wanted: Wanted<'_>,
    folder: &Path,
    files: &mut Vec<StepFile>,
) -> io::Result<()> {
    let mut bytes: u64 = files.iter().map(|file| file.size).sum();
    for entry in archive.entries()? {
        let mut entry = entry?;
        // A link would let the command choose what is read here.
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let Some(path) = path_of(inside, &entry.path()?) else { continue };
        if !(wanted.fits)(&path) {
            continue;
        }
        bytes += entry.size();
        if files.len() == FILES_MOST || bytes > BYTES_MOST {
            return Err(io::Error::other(format!(
                "there are more than {FILES_MOST} files or {} GiB; name fewer of them in `artifacts`",
                BYTES_MOST >> 30
            )));
        }
        let target = folder.join(&path);
        if let Some(parent) = target.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target)?;
        let size = io::copy(&mut entry, &mut file)?;
        // A file that changes while it is read would be listed twice.
        files.retain(|known| known.path != path);
        files.push(StepFile { path, size });
    }
    Ok(())
}

/// The path in the workspace of what an archive of its folder `inside` holds; `None` for one that is not below it, or is
/// no text.
fn path_of(inside: &str, path: &Path) -> Option<String> {
    let mut whole = PathBuf::from(inside);
    for part in path.components() {
        match part {
            Component::Normal(part) => whole.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    whole.to_str().filter(|path| !path.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_workspace() {
        let path = |inside: &str, path: &str| path_of(inside, Path::new(path));
        assert_eq!(path("", "./a/b.xml").as_deref(), Some("a/b.xml"));
        assert_eq!(path("report", "./b.xml").as_deref(), Some("report/b.xml"));
        assert_eq!(path("report", "."), Some("report".to_owned()));
        assert_eq!(path("", "."), None);
        assert_eq!(path("report", "../../etc/passwd"), None);
        assert_eq!(path("report", "/etc/passwd"), None);
    }
}
