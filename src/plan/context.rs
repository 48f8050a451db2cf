//! Which files of a tree are in a build context.

use std::collections::BTreeSet;

use super::dockerignore::Dockerignore;
use crate::model::image::{EntryKind, TreeEntry};

/// Why a file can't be part of a build context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// A submodule is not part of the repository.
    #[error(
        "`{path}` is a git submodule, whose files are not in this repository: exclude it in .dockerignore (`{path}`), or commit the files it needs"
    )]
    Submodule {
        /// Its path.
        path: String,
    },
    /// A name is not text.
    #[error(
        "`{path}`: the file's name is not UTF-8 (`{escaped}`): rename it (`git mv`), or exclude it in .dockerignore"
    )]
    Name {
        /// The path, with U+FFFD for what is not UTF-8.
        path: String,
        /// The path, with escapes for it.
        escaped: String,
    },
}

/// The files, links and empty folders of the context, sorted by path. A folder is named only
/// when nothing else shows that it exists.
///
/// # Errors
/// When what remains holds a submodule, or a name that is not UTF-8.
pub fn context(entries: &[TreeEntry], ignore: &Dockerignore) -> Result<Vec<TreeEntry>, ContextError> {
    let mut walk = ignore.walk();
    let mut kept: Vec<TreeEntry> = Vec::new();
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for entry in entries {
        let ignored = walk.ignores(entry.bytes());
        match entry.kind {
            // A `!` pattern may keep files in it, which nobody can know here.
            EntryKind::Submodule if !ignored || ignore.keeps_within(entry.bytes()) => {
                return Err(ContextError::Submodule { path: entry.path.clone() });
            }
            _ if ignored => {}
            _ => match &entry.raw {
                None => kept.push(entry.clone()),
                Some(raw) => {
                    return Err(ContextError::Name {
                        path: entry.path.clone(),
                        escaped: raw.escape_ascii().to_string(),
                    });
                }
            },
        }
        if entry.raw.is_none() {
            folders.extend(entry.path.match_indices('/').map(|(at, _)| &entry.path[..at]));
        }
    }
    kept.sort();
    // Deeper folders come after those that they lie in, so they are looked at first.
    let mut within: BTreeSet<&str> = kept
        .iter()
        .flat_map(|entry| entry.path.match_indices('/').map(|(at, _)| &entry.path[..at]))
        .collect();
    let mut empty = Vec::new();
    for &folder in folders.iter().rev() {
        if !within.contains(folder) && !walk.ignores(folder.as_bytes()) {
            within.extend(folder.match_indices('/').map(|(at, _)| &folder[..at]));
            let entry = TreeEntry {
                path: folder.to_owned(),
                kind: EntryKind::Folder,
                blob: String::new(),
                raw: None,
            };
            empty.push(entry);
        }
    }
    drop(within);
    kept.extend(empty);
    kept.sort();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(rules: &str, paths: &[(&str, EntryKind)]) -> Result<Vec<String>, ContextError> {
        let entry = |&(path, kind): &(&str, EntryKind)| TreeEntry {
            path: path.to_owned(),
            kind,
            blob: "0".repeat(40),
            raw: None,
        };
        let entries: Vec<_> = paths.iter().map(entry).collect();
        let ignore = Dockerignore::parse(rules.as_bytes()).expect("patterns");
        Ok(context(&entries, &ignore)?
            .into_iter()
            .map(|entry| match entry.kind {
                EntryKind::Folder => format!("{}/", entry.path),
                _ => entry.path,
            })
            .collect())
    }

    #[test]
    fn folders_stay_when_all_within_is_ignored_but_they_are_not() {
        let files = [("a", EntryKind::File), ("s/t/x", EntryKind::File), ("s/u/y", EntryKind::File)];
        assert_eq!(kept("s/*/*\n", &files).as_deref(), Ok(&["a".into(), "s/t/".into(), "s/u/".into()][..]));
        assert_eq!(kept("s/*\n", &files).as_deref(), Ok(&["a".into(), "s/".into()][..]));
        assert_eq!(kept("s\n", &files).as_deref(), Ok(&["a".into()][..]));
        assert_eq!(kept("s/t\n", &files).as_deref(), Ok(&["a".into(), "s/u/y".into()][..]));
    }

    #[test]
    fn submodules_must_be_ignored_with_all_that_is_in_them() {
        let module = [("lib/m", EntryKind::Submodule)];
        assert!(kept("", &module).is_err());
        assert!(kept("lib/m/**\n", &module).is_err());
        assert!(kept("lib\n!lib/m/x\n", &module).is_err());
        assert!(kept("lib\n!other\n", &module).is_ok());
    }
}
