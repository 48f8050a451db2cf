//! Files that may hold secrets: plans, and machines' user data.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
#[error("writing {path}: {source}")]
pub struct Unwritten {
    /// The file.
    pub path: PathBuf,
    /// What happened.
    pub source: std::io::Error,
}

/// Writes `bytes` to `path`, whole or not at all, readable by its owner alone.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Unwritten> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| Unwritten { path: path.to_owned(), source })
}

/// Makes `folder` and its parents where they are missing; `folder` is its owner's alone.
///
/// # Errors
/// When it can't be made.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // An earlier version has left it open to others.
    if std::fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Makes the file at `path` anew and empty, for its owner alone.
///
/// # Errors
/// When it can't be made.
pub fn create(path: &Path) -> std::io::Result<std::fs::File> {
    ensure(path)?;
    std::fs::File::options().write(true).truncate(true).open(path)
}

/// Makes the file at `path` where there is none, readable by its owner alone, and takes from
/// others what an earlier version gave them. What is in it stays.
///
/// # Errors
/// When it can't be made.
pub fn ensure(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::options().create(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("user-data");
        std::fs::write(&path, "what everybody reads").expect("written");
        write(&path, b"secret").expect("written");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read(&path).expect("read"), b"secret");
    }

    #[test]
    fn what_was_open_to_others_is_closed_and_what_is_made_never_is() {
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (folder.path().join("old"), folder.path().join("new/inner"));
        std::fs::create_dir(&old).expect("made");
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("set");
        make_folder(&old).expect("made");
        make_folder(&new).expect("made");
        assert_eq!((mode(&old), mode(&new), mode(&folder.path().join("new"))), (0o700, 0o700, 0o700));
        let file = old.join("journal");
        std::fs::write(&file, "kept").expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
        ensure(&file).expect("made");
        assert_eq!((mode(&file), std::fs::read(&file).expect("read")), (0o600, b"kept".to_vec()));
        create(&old.join("log")).expect("made");
        assert_eq!(mode(&old.join("log")), 0o600);
    }
}
