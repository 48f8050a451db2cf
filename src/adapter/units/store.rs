//! Where units and what belongs to them lie: systemd's folder for what is gone after a restart, and one of our own.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::failed;
use crate::model::unit::Installed;
use crate::port::units::{PrivateFile, UnitError, UnitRecord, UnitStore};

/// What the names of our drop-ins are, by which what is ours is known.
const DROP_IN: &str = "90-fleetwright.conf";
/// The record in the folder of a task.
const RECORD: &str = "record.json";

/// The folders of a machine.
#[derive(Debug, Clone)]
pub struct RunFolder {
    systemd: PathBuf,
    own: PathBuf,
}

impl Default for RunFolder {
    fn default() -> Self {
        Self { systemd: "/run/systemd/system".into(), own: "/run/fleetwright/units".into() }
    }
}

impl RunFolder {
    /// Other folders than a machine's.
    #[cfg(test)]
    fn at(root: &Path) -> Self {
        Self { systemd: root.join("systemd"), own: root.join("units") }
    }

    fn of(&self, task: &str) -> PathBuf {
        // An id of the engine is made of letters and digits.
        self.own.join(task.chars().filter(char::is_ascii_alphanumeric).collect::<String>())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, UnitError> {
        let own = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        done.map_err(|error| failed(doing, error))?.map_err(|error| failed(doing, error))
    }

    fn save(&self, record: &UnitRecord) -> io::Result<()> {
        let folder = self.of(&record.installed_for);
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        // Renamed into its place, so that it is there whole or not at all.
        let new = folder.join("record.new");
        write(&new, &text, 0o600)?;
        fs::rename(new, folder.join(RECORD))
    }

    fn load_all(&self) -> io::Result<(Vec<UnitRecord>, Vec<String>)> {
        let mut records: Vec<UnitRecord> = Vec::new();
        let mut stray = Vec::new();
        for entry in listed(&self.own)? {
            match record(&entry.join(RECORD)) {
                Some(record) => records.push(record),
                // It was being installed.
                None => fs::remove_dir_all(&entry)?,
            }
        }
        let known = |name: &str| {
            records.iter().any(|record| record.target == name || record.units.iter().any(|unit| unit == name))
        };
        for entry in listed(&self.systemd)? {
            let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
            let unit = match name.strip_suffix(".d") {
                Some(unit) if entry.join(DROP_IN).exists() => unit,
                None if name.starts_with("fleetwright-") && name.ends_with(".target") => name,
                Some(_) | None => continue,
            };
            if !known(unit) {
                stray.push(unit.to_owned());
            }
        }
        for unit in &stray {
            self.remove_unit(unit)?;
        }
        Ok((records, stray))
    }

    fn remove_unit(&self, name: &str) -> io::Result<()> {
        gone(fs::remove_dir_all(self.systemd.join(format!("{name}.d"))))?;
        gone(fs::remove_file(self.systemd.join(name)))
    }
}

/// What a folder holds; nothing where there is none.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "a file that only the agent writes, in a folder of its own")]
fn record(path: &Path) -> Option<UnitRecord> {
    let record: UnitRecord = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (record.version == 1).then_some(record)
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    gone(fs::remove_file(path))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)
}

#[async_trait]
impl UnitStore for RunFolder {
    async fn load(&self) -> Result<(Vec<UnitRecord>, Vec<String>), UnitError> {
        self.blocking("reading the units of this machine", Self::load_all).await
    }

    fn folder(&self, task: &str) -> String {
        self.of(task).display().to_string()
    }

    async fn install(
        &self,
        record: &UnitRecord,
        installed: &Installed,
        private: &[PrivateFile],
    ) -> Result<(), UnitError> {
        let (record, installed, private) = (record.clone(), installed.clone(), private.to_vec());
        self.blocking("writing units", move |own| {
            let home = own.of(&record.installed_for);
            // Programs of any user can read their own files in it, and only root can list it.
            folder(&home, 0o711)?;
            // Before anything of it is in systemd's folder, so that what is there is always known.
            own.save(&record)?;
            for file in &private {
                let path = home.join(file.path.trim_start_matches('/'));
                if let Some(parent) = path.parent() {
                    folder(parent, 0o711)?;
                }
                write(&path, &file.content, file.mode)?;
                chown(&path, Some(file.owner.0), Some(file.owner.1))?;
            }
            for (path, text) in &installed.files {
                let path = own.systemd.join(path);
                if let Some(parent) = path.parent() {
                    folder(parent, 0o755)?;
                }
                write(&path, text.as_bytes(), 0o644)?;
            }
            Ok(())
        })
        .await
    }

    async fn update(&self, record: &UnitRecord) -> Result<(), UnitError> {
        let record = record.clone();
        self.blocking("writing the record of units", move |own| own.save(&record)).await
    }

    async fn remove(&self, record: &UnitRecord) -> Result<(), UnitError> {
        let record = record.clone();
        self.blocking("removing units", move |own| {
            for name in record.units.iter().chain([&record.target]) {
                own.remove_unit(name)?;
            }
            gone(fs::remove_dir_all(own.of(&record.installed_for)))
        })
        .await
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
