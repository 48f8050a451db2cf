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
    /// A folder of which no file is in the context. git has none; one can be left over when
    /// everything in it is ignored.
    Folder,
}

/// What an image starts, by its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryPoint {
    /// The program, with arguments that are always there.
    pub entrypoint: Vec<String>,
    /// The arguments behind it, unless a service gives others; the program itself without `entrypoint`.
    pub command: Vec<String>,
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
    /// The bytes of the path where they are not UTF-8; `path` has U+FFFD in their place.
    pub raw: Option<Vec<u8>>,
}

impl TreeEntry {
    /// The bytes of the path.
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.path.as_bytes())
    }
}

/// A file of a build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextFile {
    /// Its path in the context.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// The id of its blob; empty for a folder.
    pub blob: String,
    /// How many bytes it has.
    pub size: u64,
    /// Where a link points; empty for everything else.
    pub target: String,
}

/// Whether the name of an image begins with a registry's host, by Docker's rule.
pub fn has_host(image: &str) -> bool {
    image.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost")
}

/// Whether this is an image's repository, without a registry's host, a tag or a digest.
pub fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
    };
    text.len() <= 200 && text.split('/').all(part)
}

/// Whether this is an image's tag.
pub fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The name that an image without a host has at Docker Hub.
pub fn at_docker_hub(image: &str) -> String {
    let folder = if image.contains('/') { "" } else { "library/" };
    format!("docker.io/{folder}{image}")
}

/// The largest file that can be a Git LFS pointer.
pub const LFS_POINTER_MAX: u64 = 1024;

/// Whether a file is a Git LFS pointer: the text that stands in git for content kept elsewhere.
pub fn is_lfs_pointer(content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else { return false };
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix("version https://"));
    let known = version.is_some_and(|version| {
        version.starts_with("git-lfs.github.com/spec/") || version.starts_with("hawser.github.com/spec/")
    });
    known
        && content.len() as u64 <= LFS_POINTER_MAX
        && lines.any(|line| {
            line.strip_prefix("oid sha256:").is_some_and(|id| {
                id.trim_end().len() == 64 && id.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_folders_and_short_names_are_docker_hubs() {
        for host in ["localhost/a", "127.0.0.1:5000/a/b", "registry.internal/a"] {
            assert!(has_host(host), "{host}");
        }
        for name in ["a", "demo/base", "a:5"] {
            assert!(!has_host(name), "{name}");
        }
        assert_eq!(at_docker_hub("alpine:3.19"), "docker.io/library/alpine:3.19");
        assert_eq!(at_docker_hub("grafana/grafana"), "docker.io/grafana/grafana");
    }
}
