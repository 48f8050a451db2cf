//! Reading the repository's files.

use std::path::Path;
use std::sync::Arc;

use super::PROJECT_FILE;
use crate::source::read::{self, Folder, Found, ReadError};
use crate::source::{Diagnostic, SourceFile};

/// The largest file that is read; CloudFormation itself takes templates up to 1 MB.
const FILE_MOST: u64 = 4 << 20;

/// The most files that are read.
const FILES_MOST: usize = 10_000;

/// The most bytes that all files together may have.
const BYTES_MOST: u64 = 64 << 20;

/// How deep folders may be within each other.
const DEPTH_MOST: usize = 32;

/// The repository's files, each folder sorted by name.
#[derive(Debug, Default)]
pub struct Files {
    /// `fleetwright.yaml`.
    pub project: Option<Arc<SourceFile>>,
    /// `stacks/*.yaml`.
    pub stacks: Vec<Arc<SourceFile>>,
    /// `services/*.yaml`.
    pub services: Vec<Arc<SourceFile>>,
    /// `jobs/*.yaml`.
    pub jobs: Vec<Arc<SourceFile>>,
    /// `host_files/*.yaml`.
    pub host_files: Vec<Arc<SourceFile>>,
    /// `pipelines/*.yaml`.
    pub pipelines: Vec<Arc<SourceFile>>,
    /// `templates/**`.
    pub templates: Vec<Arc<SourceFile>>,
    /// Folders of which a file could not be read; that was reported.
    pub unread: Vec<&'static str>,
}

impl Files {
    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.project.is_some())
            + [&self.stacks, &self.services, &self.jobs, &self.host_files, &self.pipelines, &self.templates]
                .map(Vec::len)
                .iter()
                .sum::<usize>()
    }
}

/// Reads the files of the repository at `root`.
pub fn read(root: &Path, problems: &mut Vec<Diagnostic>) -> Files {
    let mut files = Files::default();
    let Some(folder) = open(root, problems) else { return files };
    let mut reader = Reader { root: &folder, files: 0, bytes: 0, full: false, problems };
    files.project = reader.project(root);
    files.stacks = reader.folder("stacks", &mut files.unread);
    files.services = reader.folder("services", &mut files.unread);
    files.jobs = reader.folder("jobs", &mut files.unread);
    files.host_files = reader.folder("host_files", &mut files.unread);
    files.pipelines = reader.folder("pipelines", &mut files.unread);
    // `templates` may itself be a link within the repository.
    if let Ok(Found::Folder { links }) = folder.find("templates") {
        reader.tree("templates", 1, links, &mut files.templates);
    } else {
        // A problem is reported once, by the folder's own reading.
        reader.names("templates");
    }
    files
}

/// Reads [`PROJECT_FILE`] of the repository at `root` and nothing else.
pub fn read_project(root: &Path, problems: &mut Vec<Diagnostic>) -> Files {
    let unread = vec!["stacks", "services", "jobs", "host_files", "pipelines", "templates"];
    let mut files = Files { unread, ..Files::default() };
    if let Some(folder) = open(root, problems) {
        let mut reader = Reader { root: &folder, files: 0, bytes: 0, full: false, problems };
        files.project = reader.project(root);
    }
    files
}

fn open(root: &Path, problems: &mut Vec<Diagnostic>) -> Option<Folder> {
    Folder::open(root).map_err(|error| problems.push(unreadable(&root.display().to_string(), &error))).ok()
}

/// Reads files until there are too many.
struct Reader<'r> {
    root: &'r Folder,
    /// How many files and folders were read.
    files: usize,
    /// How many bytes they have.
    bytes: u64,
    /// Whether a limit was reached, which is reported once.
    full: bool,
    problems: &'r mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn project(&mut self, root: &Path) -> Option<Arc<SourceFile>> {
        match self.root.find(PROJECT_FILE) {
            Err(error) if error.is_absent() => {
                self.problems.push(
                    Diagnostic::error(
                        "missing-file",
                        format!("there is no {PROJECT_FILE} in {}", root.display()),
                    )
                    .help("`fleetwright init DIR` makes a new infra repository"),
                );
                None
            }
            found => self.file(PROJECT_FILE.to_owned(), found),
        }
    }

    /// The names in a folder, sorted; none when there is no such folder.
    fn names(&mut self, folder: &str) -> Vec<String> {
        let names = match self.root.names(folder) {
            Ok(names) => names,
            Err(error) if error.is_absent() => return Vec::new(),
            Err(error) => {
                self.problems.push(unreadable(folder, &error));
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for name in names {
            match name.into_string() {
                Ok(name) => texts.push(name),
                Err(name) => {
                    let shown = name.to_string_lossy();
                    let message = format!("the name of the file {folder}/{shown} is not UTF-8");
                    self.problems.push(Diagnostic::error("unreadable-file", message).help("rename it"));
                }
            }
        }
        texts
    }

    fn folder(&mut self, folder: &'static str, unread: &mut Vec<&'static str>) -> Vec<Arc<SourceFile>> {
        let mut files = Vec::new();
        for name in self.names(folder) {
            if name.ends_with(".yaml") || name.ends_with(".yml") {
                let path = format!("{folder}/{name}");
                let found = self.root.find(&path);
                match self.file(path, found) {
                    Some(file) => files.push(file),
                    None => unread.push(folder),
                }
            }
        }
        files
    }

    /// Reads everything below `folder`, which lies `depth` folders deep behind that many `links`.
    fn tree(&mut self, folder: &str, depth: usize, links: usize, files: &mut Vec<Arc<SourceFile>>) {
        if depth > DEPTH_MOST {
            let message = format!("{folder} is more than {DEPTH_MOST} folders deep");
            self.problems.push(Diagnostic::error("unreadable-file", message));
            return;
        }
        for name in self.names(folder) {
            if self.full {
                return;
            }
            let path = format!("{folder}/{name}");
            match self.root.find(&path) {
                // A link to a folder above would never end.
                Ok(Found::Folder { links: own }) if own > links => self.problems.push(
                    Diagnostic::error("unreadable-file", format!("{path} is a link to a folder"))
                        .help("link to the files in it instead"),
                ),
                Ok(Found::Folder { .. }) => {
                    if self.has_room(&path, 0) {
                        self.tree(&path, depth + 1, links, files);
                    }
                }
                _ if name.ends_with('~') => {}
                found => files.extend(self.file(path, found)),
            }
        }
    }

    fn file(&mut self, name: String, found: Result<Found, ReadError>) -> Option<Arc<SourceFile>> {
        let read = match found {
            Ok(Found::File(file)) => file.read(FILE_MOST),
            Ok(Found::Folder { .. }) => Err(ReadError::Kind("a folder")),
            Err(error) => Err(error),
        };
        let text = match read.and_then(read::text) {
            Ok(text) => text,
            Err(error) => {
                self.problems.push(unreadable(&name, &error));
                return None;
            }
        };
        self.has_room(&name, text.len() as u64).then(|| SourceFile::new(name, text))
    }

    /// Counts one more file, or folder, of `bytes`; reports the first that is too many.
    fn has_room(&mut self, name: &str, bytes: u64) -> bool {
        self.files += 1;
        self.bytes += bytes;
        let fits = self.files <= FILES_MOST && self.bytes <= BYTES_MOST;
        if !fits && !std::mem::replace(&mut self.full, true) {
            let limits = format!("{FILES_MOST} files or {} MiB", BYTES_MOST >> 20);
            let message = format!("the repository is too large: up to {name} it has more than {limits}");
            let help = "keep only fleetwright's own files in its folders";
            self.problems.push(Diagnostic::error("repository-too-large", message).help(help));
        }
        fits
    }
}

fn unreadable(name: &str, error: &ReadError) -> Diagnostic {
    match error {
        ReadError::Outside { link, target } => {
            let which = if link == name { String::new() } else { format!(" through {link}") };
            let message = format!("{name} leads out of the repository{which}, to `{target}`");
            Diagnostic::error("link-outside", message)
                .help("put a copy of the file into the repository; links must be relative and stay within it")
        }
        ReadError::Encoding { line } => {
            Diagnostic::error("unreadable-file", format!("{name} is not UTF-8 text (line {line})"))
        }
        error => Diagnostic::error("unreadable-file", format!("reading {name}: {error}")),
    }
}
