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

/// How large a tree may be that images are built from. A git repository of a few kilobytes can
/// hold a tree of any size: folders that hold the same folder many times, many levels deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// The most files and folders.
    pub entries: usize,
    /// The most folders within each other.
    pub depth: usize,
    /// The longest path, in bytes.
    pub path: usize,
    /// The most bytes of all paths together.
    pub paths: usize,
    /// The most bytes of one file.
    pub file: u64,
    /// The most bytes of all files of a build context.
    pub bytes: u64,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { entries: 200_000, depth: 100, path: 1024, paths: 32 << 20, file: 1 << 30, bytes: 8 << 30 }
    }
}

/// What is left of the limits while a tree is walked.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: TreeLimits,
    entries: usize,
    paths: usize,
    bytes: u64,
}

impl Budget {
    /// All of `limits`.
    pub fn new(limits: TreeLimits) -> Self {
        Self { limits, entries: 0, paths: 0, bytes: 0 }
    }

    /// Counts a file or folder before it is read.
    ///
    /// # Errors
    /// When it is one too many, too deep, or its path too long.
    pub fn enter(&mut self, path: &str) -> Result<(), String> {
        let TreeLimits { entries, depth, path: longest, paths, .. } = self.limits;
        self.entries += 1;
        self.paths += path.len();
        if self.entries > entries {
            return Err(format!(
                "the tree has more than {entries} files and folders; choose a smaller `context`"
            ));
        }
        if path.len() > longest {
            return Err(format!("the path has {} bytes; {longest} are allowed", path.len()));
        }
        if path.matches('/').count() >= depth {
            return Err(format!("it lies more than {depth} folders deep"));
        }
        if self.paths > paths {
            return Err(format!(
                "the paths of the tree have more than {paths} bytes; choose a smaller `context`"
            ));
        }
        Ok(())
    }

    /// Counts the content of a file before it is read.
    ///
    /// # Errors
    /// When the file, or all together, are too large.
    pub fn weigh(&mut self, size: u64) -> Result<(), String> {
        let TreeLimits { file, bytes, .. } = self.limits;
        self.bytes = self.bytes.saturating_add(size);
        if size > file {
            return Err(format!("it has {size} bytes; {file} are allowed: exclude it in .dockerignore"));
        }
        if self.bytes > bytes {
            return Err(format!(
                "the build context has more than {bytes} bytes: exclude files in .dockerignore"
            ));
        }
        Ok(())
    }
}
