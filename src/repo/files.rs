//! Reading the repository's files.

use std::path::Path;
use std::sync::Arc;

use super::PROJECT_FILE;
use crate::source::{Diagnostic, SourceFile};

/// The largest file that is read; CloudFormation itself takes templates up to 1 MB.
const FILE_MOST: u64 = 4 << 20;

/// The repository's files, each folder sorted by name.
#[derive(Debug, Default)]
pub struct Files {
    /// `fleetwright.yaml`.
    pub project: Option<Arc<SourceFile>>,
    /// `stacks/*.yaml`.
    pub stacks: Vec<Arc<SourceFile>>,
    /// `services/*.yaml`.
    pub services: Vec<Arc<SourceFile>>,
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
            + [&self.stacks, &self.services, &self.pipelines, &self.templates]
                .map(Vec::len)
                .iter()
                .sum::<usize>()
    }
}

/// Reads the files of the repository at `root`.
pub fn read(root: &Path, problems: &mut Vec<Diagnostic>) -> Files {
    let mut files = Files::default();
    if root.join(PROJECT_FILE).is_file() {
        files.project = file(root, PROJECT_FILE.to_owned(), problems);
    } else {
        problems.push(
            Diagnostic::error("missing-file", format!("there is no {PROJECT_FILE} in {}", root.display()))
                .help("`fleetwright init DIR` makes a new infra repository"),
        );
    }
    files.stacks = folder(root, "stacks", &mut files.unread, problems);
    files.services = folder(root, "services", &mut files.unread, problems);
    files.pipelines = folder(root, "pipelines", &mut files.unread, problems);
    tree(root, "templates", &mut files.templates, problems);
    files
}

/// The names in a folder, sorted; none when there is no such folder.
fn names(path: &Path, shown: &str, problems: &mut Vec<Diagnostic>) -> Vec<String> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems
                .push(Diagnostic::error("unreadable-file", format!("reading the folder {shown}: {error}")));
            return Vec::new();
        }
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|n| !n.starts_with('.'))
        .collect();
    names.sort();
    names
}

fn folder(
    root: &Path,
    folder: &'static str,
    unread: &mut Vec<&'static str>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Arc<SourceFile>> {
    let mut files = Vec::new();
    for name in names(&root.join(folder), folder, problems) {
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            match file(root, format!("{folder}/{name}"), problems) {
                Some(file) => files.push(file),
                None => unread.push(folder),
            }
        }
    }
    files
}

fn tree(root: &Path, folder: &str, files: &mut Vec<Arc<SourceFile>>, problems: &mut Vec<Diagnostic>) {
    for name in names(&root.join(folder), folder, problems) {
        let path = format!("{folder}/{name}");
        // A link to a folder above would never end.
        let is_folder = std::fs::symlink_metadata(root.join(&path)).is_ok_and(|meta| meta.is_dir());
        if is_folder {
            tree(root, &path, files, problems);
        } else if !name.ends_with('~') {
            files.extend(file(root, path, problems));
        }
    }
}

fn file(root: &Path, name: String, problems: &mut Vec<Diagnostic>) -> Option<Arc<SourceFile>> {
    let path = root.join(&name);
    let read = || {
        if std::fs::metadata(&path)?.len() > FILE_MOST {
            return Err(std::io::Error::other("it is larger than 4 MiB"));
        }
        std::fs::read(&path)
    };
    let problem = match read() {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return Some(SourceFile::new(name, text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                format!("{name} is not UTF-8 text (line {line})")
            }
        },
        Err(error) => format!("reading {name}: {error}"),
    };
    problems.push(Diagnostic::error("unreadable-file", problem));
    None
}
