//! Reading files that a person wrote or named: the only place that opens them.
//!
//! A [`Folder`] reads what lies within it and nothing else, however its links point. [`named`] reads a
//! path from the command line. Neither ever waits for a file to have something to read, and neither
//! reads more than its limit. What is read must be a regular file.

#![allow(clippy::disallowed_methods, reason = "this is the reader that stands in for them")]

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat, readlinkat};
use nix::sys::stat::Mode;

/// The most links that the path to one file may lead through, as in Linux.
const LINKS_MOST: usize = 40;

/// The most names that one folder may hold.
const NAMES_MOST: usize = 10_000;

/// A file is read without following a link, without waiting for a writer, and without becoming our terminal.
const OPEN: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY)
    .union(OFlag::O_CLOEXEC);

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else than a file.
    #[error("it is {0}, not a regular file")]
    Kind(&'static str),
    /// It is a file where a folder is needed.
    #[error("it is not a folder")]
    NoFolder,
    /// It has more bytes than are read.
    #[error("it is larger than {}", size(*most))]
    Large {
        /// The limit, in bytes.
        most: u64,
    },
    /// The path, or a link on it, leaves the folder.
    #[error("`{link}` is a link to `{target}`, which is outside of the repository")]
    Outside {
        /// The link, relative to the folder.
        link: String,
        /// What it points to.
        target: String,
    },
    /// Links lead to links without end.
    #[error("the links on its path form a circle")]
    Circle,
    /// A folder holds more names than are read.
    #[error("it holds more than {NAMES_MOST} files")]
    Crowded,
    /// The text is not UTF-8.
    #[error("it is not UTF-8 text (line {line})")]
    Encoding {
        /// The first line that is not, from 1.
        line: usize,
    },
}

impl ReadError {
    /// Whether there is no such file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            // The only other cause is a device without a driver.
            Errno::ENXIO => Self::Kind("a socket"),
            _ => Self::Io(errno.into()),
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}

/// A folder whose files are read, and nothing outside of it.
///
/// Paths are resolved one name at a time, each relative to the open folder before it, so that nobody can put
/// a link in the way between a check and its use. Links that stay within the folder are followed.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// What a path within a [`Folder`] leads to.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(Regular),
    /// A folder.
    Folder {
        /// How many links the path leads through.
        links: usize,
    },
}

/// An open regular file.
#[derive(Debug)]
pub struct Regular {
    file: File,
    /// How large it was when it was opened, in bytes.
    size: u64,
}

impl Folder {
    /// Opens the folder at `path`, which may itself be a link.
    ///
    /// # Errors
    /// When it can't be opened, or is not a folder.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        Ok(Self { fd: file.into() })
    }

    /// What `name`, a path relative to the folder, leads to.
    ///
    /// # Errors
    /// When it leads to nothing, to something that is neither a file nor a folder, or out of the folder.
    pub fn find(&self, name: &str) -> Result<Found, ReadError> {
        let (fd, links) = self.resolve(Path::new(name))?;
        let file = File::from(fd);
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Found::Folder { links });
        }
        Ok(Found::File(Regular::check(file, &metadata)?))
    }

    /// The bytes of the file `name`, at most `most` of them.
    ///
    /// # Errors
    /// When it can't be read, is not a regular file within the folder, or is larger.
    pub fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, ReadError> {
        match self.find(name)? {
            Found::File(file) => file.read(most),
            Found::Folder { .. } => Err(ReadError::Kind("a folder")),
        }
    }

    /// The names in the folder `name`, sorted; names that start with a dot are left out.
    ///
    /// # Errors
    /// When it can't be read, is not a folder within this one, or holds too many names.
    pub fn names(&self, name: &str) -> Result<Vec<OsString>, ReadError> {
        let (fd, _) = self.resolve(Path::new(name))?;
        let file = File::from(fd);
        if !file.metadata()?.is_dir() {
            return Err(ReadError::NoFolder);
        }
        let mut names = Vec::new();
        for entry in Dir::from_fd(file.into())?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(b".") {
                continue;
            }
            if names.len() == NAMES_MOST {
                return Err(ReadError::Crowded);
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        names.sort();
        Ok(names)
    }

    /// Opens what `path` leads to, and counts the links on the way.
    fn resolve(&self, path: &Path) -> Result<(OwnedFd, usize), ReadError> {
        let mut left: VecDeque<OsString> = VecDeque::new();
        if !prepend(&mut left, path) {
            let shown = path.to_string_lossy().into_owned();
            return Err(ReadError::Outside { link: shown.clone(), target: shown });
        }
        // The folders that are entered, with their names.
        let mut inside: Vec<(OwnedFd, OsString)> = Vec::new();
        let (mut links, mut last_link) = (0, None);
        while let Some(name) = left.pop_front() {
            if name == ".." {
                if inside.pop().is_none() {
                    let shown = || path.to_string_lossy().into_owned();
                    let (link, target) = last_link.unwrap_or_else(|| (shown(), shown()));
                    return Err(ReadError::Outside { link, target });
                }
                continue;
            }
            let at = inside.last().map_or(self.fd.as_fd(), |(fd, _)| fd.as_fd());
            let flags = if left.is_empty() { OPEN } else { OPEN.union(OFlag::O_DIRECTORY) };
            let errno = match openat(at, name.as_os_str(), flags, Mode::empty()) {
                Ok(fd) if left.is_empty() => return Ok((fd, links)),
                Ok(fd) => {
                    inside.push((fd, name));
                    continue;
                }
                Err(errno) => errno,
            };
            // A link gives the first alone, and the second when a folder was asked for.
            if !matches!(errno, Errno::ELOOP | Errno::ENOTDIR) {
                return Err(errno.into());
            }
            let Ok(target) = readlinkat(at, name.as_os_str()) else { return Err(errno.into()) };
            links += 1;
            if links > LINKS_MOST {
                return Err(ReadError::Circle);
            }
            let names = inside.iter().map(|(_, name)| name.as_os_str()).chain([name.as_os_str()]);
            let link = names.map(OsStr::to_string_lossy).collect::<Vec<_>>().join("/");
            let shown = target.to_string_lossy().into_owned();
            if !prepend(&mut left, Path::new(&target)) {
                return Err(ReadError::Outside { link, target: shown });
            }
            last_link = Some((link, shown));
        }
        let fd = inside.last().map_or(self.fd.as_fd(), |(fd, _)| fd.as_fd());
        Ok((fd.try_clone_to_owned()?, links))
    }
}

/// Puts the names of `path` before those that are left; `false` when it is absolute.
fn prepend(left: &mut VecDeque<OsString>, path: &Path) -> bool {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

impl Regular {
    /// Takes an open file for what it is, whatever its name meant when it was opened.
    fn check(file: File, metadata: &Metadata) -> Result<Self, ReadError> {
        let kind = metadata.file_type();
        if kind.is_file() {
            return Ok(Self { file, size: metadata.len() });
        }
        Err(ReadError::Kind(match kind {
            kind if kind.is_dir() => "a folder",
            kind if kind.is_fifo() => "a named pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        }))
    }

    /// The permissions, as in `0o755`.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn mode(&self) -> Result<u32, ReadError> {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(self.file.metadata()?.permissions().mode() & 0o777)
    }

    /// All bytes, at most `most`.
    ///
    /// # Errors
    /// When they can't be read, or there are more.
    pub fn read(self, most: u64) -> Result<Vec<u8>, ReadError> {
        // Sparse files have any size, at no cost to their owner.
        if self.size > most {
            return Err(ReadError::Large { most });
        }
        // One byte more, so that the end is found without growing.
        let room = usize::try_from(self.size).map_or(0, |size| size.saturating_add(1));
        capped_into(Vec::with_capacity(room), self.file, most)
    }
}

/// Everything that `from` gives, which must not be more than `most` bytes.
///
/// # Errors
/// When it can't be read, or gives more.
pub fn capped(from: impl Read, most: u64) -> Result<Vec<u8>, ReadError> {
    capped_into(Vec::new(), from, most)
}

fn capped_into(mut bytes: Vec<u8>, from: impl Read, most: u64) -> Result<Vec<u8>, ReadError> {
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(ReadError::Large { most });
    }
    Ok(bytes)
}

/// The bytes of a file that a person named; links are followed, since the person chose them.
///
/// A pipe that this process inherited (`<(command)`, `/dev/stdin`) is read to its end.
///
/// # Errors
/// When it can't be read, is not a regular file, or has more than `most` bytes.
pub fn named(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => ReadError::from(errno),
        None => ReadError::Io(error),
    })?;
    let metadata = file.metadata()?;
    if metadata.file_type().is_fifo() && is_inherited(path) {
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
        return capped(file, most);
    }
    Regular::check(file, &metadata)?.read(most)
}

/// Whether a path names what this process has open already.
fn is_inherited(path: &Path) -> bool {
    path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd")
}

/// The bytes of standard input, at most `most`.
///
/// # Errors
/// When it can't be read, or has more.
pub fn stdin(most: u64) -> Result<Vec<u8>, ReadError> {
    capped(io::stdin().lock(), most)
}

/// The text that `bytes` are.
///
/// # Errors
/// When they are not UTF-8.
pub fn text(bytes: Vec<u8>) -> Result<String, ReadError> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        ReadError::Encoding { line }
    })
}

#[cfg(test)]
mod tests;
