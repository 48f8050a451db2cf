//! The demo's infra repository: a copy of the one it is run in, so that a changed line
//! of cloud-config never touches the user's checkout.

use std::path::{Path, PathBuf};

use super::super::failure::Failure;
use super::application::commit_all;

/// What makes up an infra repository.
const PARTS: [&str; 5] = ["fleetwright.yaml", "stacks", "templates", "services", "pipelines"];

/// Copies the infra repository at `from` to `to` and commits it; an older copy is removed.
///
/// # Errors
/// When a file can't be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let run = || -> Result<(), Box<dyn std::error::Error>> {
        if to.exists() {
            std::fs::remove_dir_all(to)?;
        }
        std::fs::create_dir_all(to)?;
        for part in PARTS {
            copy_tree(&from.join(part), &to.join(part))?;
        }
        git2::Repository::init(to)?;
        commit_all(to, "The fleet, as the project ships it")?;
        Ok(())
    };
    run().map_err(|error| {
        Failure::failed(
            format!("copying the infra repository to {}: {error}", to.display()),
            "see that the folder can be written, or set FLEETWRIGHT_HOME to another",
        )
    })
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else {
        std::fs::copy(from, to).map(drop)
    }
}

/// Replaces `old` by `new` in the first file under `templates` and `stacks` that holds it; gives that file.
///
/// # Errors
/// When no file holds it.
pub fn edit(repository: &Path, old: &str, new: &str) -> Result<PathBuf, Failure> {
    let mut folders = vec![repository.join("stacks"), repository.join("templates")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            if text.contains(old) && std::fs::write(&path, text.replacen(old, new, 1)).is_ok() {
                return Ok(path.strip_prefix(repository).unwrap_or(&path).to_owned());
            }
        }
    }
    Err(Failure::failed(
        format!("no file of {} holds `{old}`, which the demo changes", repository.display()),
        "run the demo in the project's own root",
    ))
}
