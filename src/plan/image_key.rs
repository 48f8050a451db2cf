//! The image key: one hash of all that goes into an image. Equal keys mean equal
//! images, so what the registry holds under a key is never built again. Commit and time
//! stay out of it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::dockerignore::Dockerignore;
use crate::model::image::{EntryKind, TreeEntry};
use crate::model::name::{Digest, ImageKey};

/// Raised when the same inputs shall make another image.
const SCHEMA: &str = "fleetwright image key 1";

/// Why a file can't be part of a build context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// A symbolic link points out of the context.
    #[error(
        "`{path}` is a symbolic link to `{target}`, outside of the build context: exclude it in .dockerignore, or point it inside"
    )]
    LinkLeaves {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
    /// A submodule is not part of the repository.
    #[error(
        "`{path}` is a git submodule, whose files are not in this repository: exclude it in .dockerignore"
    )]
    Submodule {
        /// Its path.
        path: String,
    },
}

/// All that goes into an image.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// What it is built for, such as `linux/amd64`.
    pub platform: &'a str,
    /// The Dockerfile's path in the context.
    pub dockerfile_path: &'a str,
    /// The Dockerfile as it stands in git.
    pub dockerfile: &'a [u8],
    /// The `.dockerignore`, empty when there is none.
    pub dockerignore: &'a [u8],
    /// The files of the context after `.dockerignore`.
    pub entries: &'a [TreeEntry],
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// Every base and the digest that the registry has for it now.
    pub bases: &'a BTreeMap<String, Digest>,
}

/// The key of an image.
pub fn image_key(inputs: &Inputs<'_>) -> ImageKey {
    let mut hash = Hash(Sha256::new());
    hash.field(SCHEMA.as_bytes());
    hash.field(inputs.platform.as_bytes());
    hash.field(inputs.dockerfile_path.as_bytes());
    hash.field(inputs.dockerfile);
    hash.field(inputs.dockerignore);
    hash.count(inputs.args.len());
    for (name, value) in inputs.args {
        hash.field(name.as_bytes());
        hash.field(value.as_bytes());
    }
    hash.count(inputs.bases.len());
    for (name, digest) in inputs.bases {
        hash.field(name.as_bytes());
        hash.field(digest.as_str().as_bytes());
    }
    let mut entries: Vec<&TreeEntry> = inputs.entries.iter().collect();
    entries.sort();
    hash.count(entries.len());
    for entry in entries {
        hash.field(entry.path.as_bytes());
        hash.field(mode(entry.kind).as_bytes());
        hash.field(entry.blob.as_bytes());
    }
    let hex: String = hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("k-{hex}").parse().expect("a SHA-256 has 64 hexadecimal digits")
}

/// git's mode.
fn mode(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "100644",
        EntryKind::Executable => "100755",
        EntryKind::Link => "120000",
        EntryKind::Submodule => "160000",
    }
}

/// Fields carry their length, so that no two different inputs write the same bytes.
struct Hash(Sha256);

impl Hash {
    fn field(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }
}

/// What of a tree goes into the context, sorted by path. The Dockerfile and
/// `.dockerignore` always go: the builder reads them, and leaves them out of copies by
/// itself where they are ignored.
///
/// # Errors
/// When what remains holds a submodule. Links are left to [`check_link`], which needs their targets.
pub fn context(
    entries: &[TreeEntry],
    ignore: &Dockerignore,
    dockerfile: &str,
) -> Result<Vec<TreeEntry>, ContextError> {
    let mut kept: Vec<TreeEntry> = entries
        .iter()
        .filter(|entry| {
            entry.path == dockerfile || entry.path == ".dockerignore" || !ignore.ignores(&entry.path)
        })
        .cloned()
        .collect();
    kept.sort();
    match kept.iter().find(|entry| entry.kind == EntryKind::Submodule) {
        Some(entry) => Err(ContextError::Submodule { path: entry.path.clone() }),
        None => Ok(kept),
    }
}

/// Checks that a symbolic link at `path` stays within the context.
///
/// # Errors
/// When it is absolute, or climbs above the context's root.
pub fn check_link(path: &str, target: &str) -> Result<(), ContextError> {
    let mut depth = path.matches('/').count();
    let mut leaves = target.starts_with('/');
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => leaves = true,
            },
            _ => depth += 1,
        }
    }
    if leaves {
        Err(ContextError::LinkLeaves { path: path.to_owned(), target: target.to_owned() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, kind: EntryKind, blob: u8) -> TreeEntry {
        TreeEntry { path: path.to_owned(), kind, blob: format!("{blob:040x}") }
    }

    struct Owned {
        platform: String,
        dockerfile: String,
        entries: Vec<TreeEntry>,
        args: BTreeMap<String, String>,
        bases: BTreeMap<String, Digest>,
    }

    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("a digest")
    }

    fn key(change: impl FnOnce(&mut Owned)) -> ImageKey {
        let mut owned = Owned {
            platform: "linux/amd64".into(),
            dockerfile: "FROM demo/base\n".into(),
            entries: vec![entry("a", EntryKind::File, 1), entry("b", EntryKind::File, 2)],
            args: BTreeMap::from([("A".into(), "1".into())]),
            bases: BTreeMap::from([("demo/base".into(), digest('0'))]),
        };
        change(&mut owned);
        image_key(&Inputs {
            platform: &owned.platform,
            dockerfile_path: "Dockerfile",
            dockerfile: owned.dockerfile.as_bytes(),
            dockerignore: b"",
            entries: &owned.entries,
            args: &owned.args,
            bases: &owned.bases,
        })
    }

    #[test]
    fn the_key_never_changes_by_itself() {
        insta::assert_snapshot!(key(|_| {}), @"k-5b634661f91614b7c365777b4a6654a9afdcead1d6fb44f5603cbc0607ba1178");
    }

    #[test]
    fn everything_that_goes_in_changes_the_key() {
        let keys = [
            key(|_| {}),
            key(|o| o.platform = "linux/arm64".into()),
            key(|o| o.dockerfile.push('\n')),
            key(|o| o.entries[0].kind = EntryKind::Executable),
            key(|o| o.entries[0].blob = format!("{:040x}", 9)),
            key(|o| o.entries[0].path = "c".into()),
            key(|o| drop(o.entries.pop())),
            key(|o| drop(o.args.insert("A".into(), "2".into()))),
            key(|o| drop(o.bases.insert("demo/base".into(), digest('1')))),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(key(|o| o.entries.reverse()), keys[0], "order is not content");
    }

    #[test]
    fn the_context_leaves_out_what_is_ignored_but_for_the_builders_own_files() {
        let entries: Vec<_> = ["z", ".dockerignore", "Dockerfile", "src/a"]
            .into_iter()
            .map(|path| entry(path, EntryKind::File, 1))
            .collect();
        let kept = context(&entries, &Dockerignore::parse("*\n!src\n"), "Dockerfile").expect("a context");
        let paths: Vec<_> = kept.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [".dockerignore", "Dockerfile", "src/a"]);
        let module = [entry("lib", EntryKind::Submodule, 1)];
        assert!(context(&module, &Dockerignore::default(), "Dockerfile").is_err());
        assert!(context(&module, &Dockerignore::parse("lib"), "Dockerfile").is_ok());
    }

    #[test]
    fn links_must_stay_inside() {
        for (path, target) in [("a", "b"), ("x/a", "../b"), ("x/y/a", "../../b"), ("a", "./x/../b")] {
            assert_eq!(check_link(path, target), Ok(()), "{path} -> {target}");
        }
        for (path, target) in [("a", "../b"), ("x/a", "../../b"), ("a", "/etc/passwd"), ("a", "x/../../b")] {
            assert!(check_link(path, target).is_err(), "{path} -> {target}");
        }
    }

    proptest! {
        #[test]
        fn neighbouring_fields_do_not_run_into_each_other(
            a in "[a-b]{0,3}", b in "[a-b]{0,3}", c in "[a-b]{0,3}", d in "[a-b]{0,3}"
        ) {
            let of = |name: &str, value: &str| key(|o| o.args = BTreeMap::from([(name.to_owned(), value.to_owned())]));
            prop_assert_eq!(of(&a, &b) == of(&c, &d), (&a, &b) == (&c, &d));
        }
    }
}
