//! Where the local cloud keeps its files.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::model::name::LocalName;

use super::error::LocalError;

/// The file in a cloud's folder that its supervisor keeps locked.
pub(super) const LOCK: &str = "supervisor.lock";

/// The folder of everything: `$FLEETWRIGHT_HOME`, or `fleetwright` in the user's data folder.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Finds the folder from the environment. It need not exist.
    ///
    /// # Errors
    /// When neither FLEETWRIGHT_HOME, XDG_DATA_HOME nor HOME is set.
    pub fn from_env() -> Result<Self, LocalError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("FLEETWRIGHT_HOME")
            .or_else(|| set("XDG_DATA_HOME").map(|data| data.join("fleetwright")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/fleetwright")))
            .ok_or(LocalError::Setting {
                setting: "FLEETWRIGHT_HOME",
                value: String::new(),
                rule: "it is needed when HOME is not set",
            })?;
        // Docker takes absolute paths only.
        let root = std::path::absolute(&root).map_err(LocalError::file("finding", &root))?;
        Ok(Self { root })
    }

    /// The given folder, which must be an absolute path.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// LocalStack's Python environment.
    pub fn venv(&self) -> PathBuf {
        self.root.join("venv")
    }

    /// Logs of what was prepared, by step.
    pub fn log(&self, step: &str) -> PathBuf {
        self.root.join("logs").join(format!("{step}.log"))
    }

    /// A scratch folder for preparing, removed afterwards.
    pub fn scratch(&self, step: &str) -> PathBuf {
        self.root.join("tmp").join(step)
    }

    /// The copy of this program from which every cloud's is linked.
    pub fn executable(&self) -> PathBuf {
        self.root.join("agent/fleetwright")
    }

    /// The files of one local cloud.
    pub fn cloud(&self, name: &LocalName) -> CloudFiles {
        CloudFiles { dir: self.root.join("local").join(name.as_str()) }
    }
}

/// The files of one local cloud.
#[derive(Debug, Clone)]
pub struct CloudFiles {
    dir: PathBuf,
}

impl CloudFiles {
    /// The folder of this cloud, removed by `local down`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the supervisor says of itself and its parts.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Locked by the supervisor as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.dir.join(LOCK)
    }

    /// A log by the name of its writer: `supervisor`, `emulator` or `registry`.
    pub fn log(&self, part: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{part}.log"))
    }

    /// The emulator's own folder, its home included.
    pub fn emulator(&self) -> PathBuf {
        self.dir.join("emulator")
    }

    /// The registry's configuration, certificate, password file and storage.
    pub fn registry(&self) -> PathBuf {
        self.dir.join("registry")
    }

    /// The folder of all machines' files.
    pub fn machines(&self) -> PathBuf {
        self.dir.join("machines")
    }

    /// What is mounted into one machine, and the note that it was started.
    pub fn machine(&self, instance: &str) -> PathBuf {
        self.machines().join(instance)
    }

    /// The order to cut a machine's power, as long as it is not carried out.
    pub fn power_cut(&self, instance: &str) -> PathBuf {
        self.machine(instance).join("power.json")
    }

    /// The executable that machines fetch.
    pub fn executable(&self) -> PathBuf {
        self.dir.join("agent/fleetwright")
    }
}

/// Makes a folder and its parents, readable by their owner only.
pub(super) fn make_dir(path: &Path) -> Result<(), LocalError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(LocalError::file("making", path))
}

/// Writes a file so that a reader sees the old text or the new one, readable by its owner only.
pub(super) fn write_file(path: &Path, text: impl AsRef<[u8]>) -> Result<(), LocalError> {
    use std::io::Write;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(text.as_ref())?;
        fs::rename(&new, path)
    };
    write().map_err(LocalError::file("writing", path))
}

/// Removes a folder and all in it; one that is not there is no error.
pub(super) fn remove_dir(path: &Path) -> Result<(), LocalError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LocalError::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), LocalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LocalError::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Opens a log for appending, with its folder.
pub(super) fn open_log(path: &Path) -> Result<fs::File, LocalError> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(LocalError::file("opening", path))
}

/// The last lines of a log, for a message.
pub(super) fn last_words(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if all.is_empty() {
        return "it said nothing".into();
    }
    all[all.len().saturating_sub(lines)..].join("\n       ")
}
