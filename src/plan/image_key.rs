//! The image key: one hash of all that goes into an image. Equal keys mean equal
//! images, so what the registry holds under a key is never built again. Commit and time
//! stay out of it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::model::image::{EntryKind, TreeEntry};
use crate::model::name::{Digest, ImageKey};

/// Raised when the same inputs shall make another image.
const SCHEMA: &str = "fleetwright image key 2";

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
    /// The stage that is built; `None` for the last.
    pub target: Option<&'a str>,
    /// The parameters of secrets by their ids; what they hold stays out of the key.
    pub secrets: &'a BTreeMap<String, String>,
    /// The files of the context after `.dockerignore`.
    pub entries: &'a [TreeEntry],
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// Every base and the digest that the registry has for it now.
    pub bases: &'a BTreeMap<String, Digest>,
    /// Whether a stranger's commit is built. Strangers fill caches that later builds of strangers read, so what those make of
    /// equal files may not be equal: no other run takes it.
    pub of_strangers: bool,
}

/// The key of an image.
pub fn image_key(inputs: &Inputs<'_>) -> ImageKey {
    let mut hash = Hash(Sha256::new());
    hash.field(SCHEMA.as_bytes());
    hash.field(inputs.platform.as_bytes());
    hash.field(inputs.dockerfile_path.as_bytes());
    hash.field(inputs.dockerfile);
    hash.field(inputs.dockerignore);
    hash.count(usize::from(inputs.target.is_some()));
    hash.field(inputs.target.unwrap_or_default().as_bytes());
    if !inputs.secrets.is_empty() {
        hash.count(inputs.secrets.len());
        for (id, parameter) in inputs.secrets {
            hash.field(id.as_bytes());
            hash.field(parameter.as_bytes());
        }
        hash.field(b"secrets");
    }
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
        hash.field(entry.bytes());
        hash.field(mode(entry.kind).as_bytes());
        hash.field(entry.blob.as_bytes());
    }
    if inputs.of_strangers {
        hash.field(b"strangers");
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
        EntryKind::Folder => "040000",
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, kind: EntryKind, blob: u8) -> TreeEntry {
        TreeEntry { path: path.to_owned(), kind, blob: format!("{blob:040x}"), raw: None }
    }

    struct Owned {
        platform: String,
        dockerfile: String,
        target: Option<String>,
        secrets: BTreeMap<String, String>,
        entries: Vec<TreeEntry>,
        args: BTreeMap<String, String>,
        bases: BTreeMap<String, Digest>,
        of_strangers: bool,
    }

    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("a digest")
    }

    fn key(change: impl FnOnce(&mut Owned)) -> ImageKey {
        let mut owned = Owned {
            platform: "linux/amd64".into(),
            dockerfile: "FROM demo/base\n".into(),
            target: None,
            secrets: BTreeMap::new(),
            entries: vec![entry("a", EntryKind::File, 1), entry("b", EntryKind::File, 2)],
            args: BTreeMap::from([("A".into(), "1".into())]),
            bases: BTreeMap::from([("demo/base".into(), digest('0'))]),
            of_strangers: false,
        };
        change(&mut owned);
        image_key(&Inputs {
            platform: &owned.platform,
            dockerfile_path: "Dockerfile",
            dockerfile: owned.dockerfile.as_bytes(),
            dockerignore: b"",
            target: owned.target.as_deref(),
            secrets: &owned.secrets,
            entries: &owned.entries,
            args: &owned.args,
            bases: &owned.bases,
            of_strangers: owned.of_strangers,
        })
    }

    #[test]
    fn the_key_never_changes_by_itself() {
        insta::assert_snapshot!(key(|_| {}), @"k-377c46ad175f0be907b24e30edb54a45fac2cbe4040bb549ca70bd601fe38274");
    }

    #[test]
    fn everything_that_goes_in_changes_the_key() {
        let keys = [
            key(|_| {}),
            key(|o| o.platform = "linux/arm64".into()),
            key(|o| o.dockerfile.push('\n')),
            key(|o| o.target = Some("build".into())),
            key(|o| drop(o.secrets.insert("npm".into(), "/npm".into()))),
            key(|o| o.target = Some(String::new())),
            key(|o| o.entries[0].kind = EntryKind::Executable),
            key(|o| o.entries[0].blob = format!("{:040x}", 9)),
            key(|o| o.entries[0].path = "c".into()),
            key(|o| drop(o.entries.pop())),
            key(|o| drop(o.args.insert("A".into(), "2".into()))),
            key(|o| drop(o.bases.insert("demo/base".into(), digest('1')))),
            key(|o| o.of_strangers = true),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(key(|o| o.entries.reverse()), keys[0], "order is not content");
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
