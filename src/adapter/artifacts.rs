//! Files of runs in a folder: `RUN/STEP/PATH`, all of them for their user alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::libc::O_NOFOLLOW;

use super::private_file;
use crate::model::run::RunId;
use crate::port::artifacts::{ArtifactError, Artifacts};

/// Files of runs in one folder.
#[derive(Debug)]
pub struct ArtifactFolder {
    root: PathBuf,
}

impl ArtifactFolder {
    /// The files in `root`, which is made with the first of them.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of a run's files.
    pub fn folder(&self, run: RunId) -> PathBuf {
        self.root.join(run.to_string())
    }

    fn step(&self, run: RunId, step: usize) -> PathBuf {
        self.root.join(run.to_string()).join(step.to_string())
    }

    fn staged(&self, run: RunId, step: usize) -> PathBuf {
        self.root.join(run.to_string()).join(format!("{step}.new"))
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> ArtifactError {
        let path = self.root.display().to_string();
        move |error| ArtifactError { doing, path: path.clone(), reason: error.to_string() }
    }
}

impl Artifacts for ArtifactFolder {
    fn stage(&self, run: RunId, step: usize) -> Result<PathBuf, ArtifactError> {
        let folder = self.staged(run, step);
        gone(fs::remove_dir_all(&folder)).map_err(self.failed("preparing"))?;
        private_file::make_folder(&folder)
            .map_err(|error| self.failed("preparing")(io::Error::other(error.to_string())))?;
        Ok(folder)
    }

    fn keep(&self, run: RunId, step: usize) -> Result<(), ArtifactError> {
        let (staged, kept) = (self.staged(run, step), self.step(run, step));
        gone(fs::remove_dir_all(&kept)).map_err(self.failed("keeping"))?;
        fs::rename(staged, kept).map_err(self.failed("keeping"))
    }

    fn copy(&self, from: RunId, to: RunId, step: usize) -> Result<(), ArtifactError> {
        let staged = self.stage(to, step)?;
        gone(link_all(&self.step(from, step), &staged)).map_err(self.failed("copying"))?;
        self.keep(to, step)
    }

    fn open(&self, run: RunId, step: usize, path: &str) -> Result<Option<File>, ArtifactError> {
        let inside = Path::new(path);
        // Whoever asks chooses the path.
        if path.is_empty() || !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            return Ok(None);
        }
        let full = self.step(run, step).join(inside);
        match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(full) {
            Ok(file) => {
                let is_file = file.metadata().map_err(self.failed("reading"))?.is_file();
                Ok(is_file.then_some(file))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(self.failed("reading")(error)),
        }
    }

    fn remove(&self, run: RunId) -> Result<(), ArtifactError> {
        gone(fs::remove_dir_all(self.root.join(run.to_string()))).map_err(self.failed("removing"))
    }

    fn size(&self, run: RunId) -> Result<u64, ArtifactError> {
        gone(size(&self.root.join(run.to_string()))).map_err(self.failed("measuring"))
    }

    fn runs(&self) -> Result<Vec<RunId>, ArtifactError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(self.failed("listing"))?,
        };
        let mut runs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(self.failed("listing"))?;
            runs.extend(entry.file_name().to_str().and_then(|name| name.parse().ok()).map(RunId));
        }
        runs.sort();
        Ok(runs)
    }
}

/// The bytes of all files in a folder; links are not followed.
pub(super) fn size(folder: &Path) -> io::Result<u64> {
    let mut all = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        all += if about.is_dir() { size(&entry.path())? } else { about.len() };
    }
    Ok(all)
}

/// Links all files below `from` into `to`, which is there: files that are kept are never written to again.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            link_all(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// What is not there was to be removed, and takes no room.
pub(super) fn gone<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_is_staged_replaces_what_was_kept_and_nothing_else_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ArtifactFolder::new(folder.path().join("artifacts"));
        let put = |name: &str, text: &str| {
            let staged = files.stage(RunId(7), 2).expect("staged");
            fs::create_dir(staged.join("report")).expect("a folder");
            fs::write(staged.join("report").join(name), text).expect("written");
            files.keep(RunId(7), 2).expect("kept");
        };
        let read = |path: &str| {
            let mut text = String::new();
            let file = files.open(RunId(7), 2, path).expect("asked");
            file.map(|mut file| file.read_to_string(&mut text).expect("read"))?;
            Some(text)
        };
        assert_eq!(files.runs().expect("none"), []);
        put("one.txt", "1");
        // Another process was killed before it kept this.
        fs::write(files.stage(RunId(7), 2).expect("staged").join("half"), "x").expect("written");
        assert_eq!(read("report/one.txt").as_deref(), Some("1"));
        put("two.txt", "2");
        assert_eq!(read("report/two.txt").as_deref(), Some("2"));
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("artifacts/7/2/link")).expect("linked");
        for other in
            ["report/one.txt", "report", "", "/etc/passwd", "../2/report/two.txt", "report/../x", "half"]
        {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(files.open(RunId(7), 2, "link").is_err(), "links are not followed");
        assert_eq!(files.runs().expect("listed"), [RunId(7)]);
        // The file, and the link's own length.
        assert_eq!(files.size(RunId(7)).expect("measured"), 1 + "/etc/passwd".len() as u64);
        assert_eq!(files.size(RunId(8)).expect("measured"), 0);

        // A copy outlives the run that it was made of; one of nothing is nothing.
        files.copy(RunId(7), RunId(8), 2).expect("copied");
        files.copy(RunId(7), RunId(8), 2).expect("copied again");
        files.copy(RunId(7), RunId(8), 3).expect("nothing to copy");
        assert_eq!(files.runs().expect("listed"), [RunId(7), RunId(8)]);
        files.remove(RunId(7)).expect("removed");
        assert!(files.open(RunId(8), 2, "report/two.txt").expect("asked").is_some());
        files.remove(RunId(8)).expect("removed");
        files.remove(RunId(7)).expect("removed again");
        assert_eq!(files.runs().expect("listed"), []);
    }
}
