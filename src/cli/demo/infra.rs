//! The demo's infra repository: a copy of the one it is run in, so that a changed line
//! of cloud-config never touches the user's checkout.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::failure::Failure;
use super::application::commit_all;
use crate::source::read::{Folder, Found, ReadError};

/// The largest file that is copied.
const FILE_MOST: u64 = 4 << 20;

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
        let repository = Folder::open(from)?;
        for part in PARTS {
            copy_tree(&repository, part, &to.join(part))?;
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

/// Copies `name` of the repository, with what is in it; what the repository links to becomes a file.
fn copy_tree(repository: &Folder, name: &str, to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let failed = |error: ReadError| format!("{name}: {error}");
    match repository.find(name).map_err(failed)? {
        Found::File(file) => {
            let mode = file.mode().map_err(failed)?;
            std::fs::write(to, file.read(FILE_MOST).map_err(failed)?)?;
            Ok(std::fs::set_permissions(to, Permissions::from_mode(mode))?)
        }
        Found::Folder { links: 0 } => {
            std::fs::create_dir_all(to)?;
            for entry in repository.names(name).map_err(failed)? {
                let entry =
                    entry.into_string().map_err(|_| format!("{name} has a name that is not UTF-8"))?;
                copy_tree(repository, &format!("{name}/{entry}"), &to.join(&entry))?;
            }
            Ok(())
        }
        // One to a folder above would never end.
        Found::Folder { .. } => Err(format!("{name} is a link to a folder").into()),
    }
}

/// In `file`, replaces the first `old` behind the line `section` by `new`.
///
/// # Errors
/// When the file has no such line.
pub fn edit(repository: &Path, file: &str, section: &str, old: &str, new: &str) -> Result<(), Failure> {
    let path = repository.join(file);
    let run = || -> std::io::Result<()> {
        let text = std::fs::read_to_string(&path)?;
        let edited = edited(&text, section, old, new).ok_or_else(|| {
            std::io::Error::other(format!("`{section}` has no `{old}`, which the demo changes"))
        })?;
        std::fs::write(&path, edited)
    };
    run().map_err(|error| {
        Failure::failed(
            format!("changing {file} of the demo's infra repository: {error}"),
            "run the demo in the project's own root, or in a repository as `fleetwright init` makes it",
        )
    })
}

fn edited(text: &str, section: &str, old: &str, new: &str) -> Option<String> {
    let at = text.find(&format!("\n{section}\n"))?;
    let (before, behind) = text.split_at(at);
    behind.contains(old).then(|| format!("{before}{}", behind.replacen(old, new, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_s_own_line_is_changed() {
        let text = "control:\n  log: 1\nworkers:\n  log: 1\n";
        assert_eq!(
            edited(text, "workers:", "log: 1", "log: 2").as_deref(),
            Some("control:\n  log: 1\nworkers:\n  log: 2\n")
        );
        assert_eq!(edited(text, "others:", "log: 1", "log: 2"), None);
    }
}
