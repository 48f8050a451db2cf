//! What images are built from.

/// What a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its blob is the target.
    Link,
    /// A submodule; its id is a commit of another repository.
    Submodule,
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TreeEntry {
    /// Its path relative to the folder that was listed, with forward slashes.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// The id of its blob, 40 hexadecimal digits.
    pub blob: String,
}
