//! Git: the network through the `git` program, whose credential helpers and ssh
//! configuration are what users have set up; objects through libgit2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::git_command::{self, Address};
use super::git_http::GitHttp;
use super::git_path;
use super::private_file;
use crate::model::git_ref::{GitRef, RefKind};
use crate::model::image::{
    Budget, ContextFile, EntryKind, LFS_POINTER_MAX, TreeEntry, TreeLimits, is_lfs_pointer,
};
use crate::model::name::{CommitId, RepositoryName};
use crate::port::git::{Commit, Content, GitError, GitRemote, GitSource, Located};

/// The file that stands in a mirror until it has been fetched for the first time.
const FIRST: &str = "fleetwright-first-fetch";
/// How long the other side may take to say where its branches stand.
const ASK: Duration = Duration::from_secs(60);
/// How long a fetch may take.
const FETCH: Duration = Duration::from_secs(1800);
/// How long another process may be fetching into a mirror before this one gives up for now.
const HELD: Duration = Duration::from_secs(120);
/// The most bytes of an object that is read whole: a commit, a folder, a Dockerfile.
const OBJECT_MAX: usize = 16 << 20;
/// The most characters of a commit's subject that are kept.
const SUBJECT_MAX: usize = 300;
/// How much of a file is handed over at a time.
const PIECE: usize = 128 * 1024;

/// Bare mirrors, one a repository, in one folder.
#[derive(Debug, Clone)]
pub struct Mirrors {
    root: PathBuf,
    http: GitHttp,
}

impl Mirrors {
    /// The mirrors in `root`, which is made when the first is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), http: GitHttp::default() }
    }

    fn path(&self, repository: &RepositoryName) -> PathBuf {
        self.root.join(format!("{repository}.git"))
    }

    /// Runs `work` with the mirror, off the async threads.
    async fn with<T: Send + 'static>(
        &self,
        repository: &RepositoryName,
        work: impl FnOnce(&git2::Repository) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let path = self.path(repository);
        if !is_fetched(&path) {
            return Err(GitError::NoMirror { repository: repository.clone() });
        }
        let shown = path.display().to_string();
        let joined = tokio::task::spawn_blocking(move || {
            let repository = git2::Repository::open_bare(&path).map_err(|error| broken(&path, &error))?;
            work(&repository)
        })
        .await;
        joined.unwrap_or_else(|error| {
            Err(GitError::Mirror { doing: "reading", path: shown, reason: error.to_string() })
        })
    }
}

#[async_trait]
impl GitRemote for Mirrors {
    async fn head(&self, source: &GitSource) -> Result<CommitId, GitError> {
        let reference = format!("refs/heads/{}", source.branch);
        // Past `--` nothing is an option, whatever the file says.
        let address = Address::new(&source.url);
        let no_branch = || GitError::NoBranch { url: address.shown(), branch: source.branch.clone() };
        if let Some(mut found) = self.http.references(&address, &[&reference]).await {
            return found.remove(&reference).ok_or_else(no_branch);
        }
        let arguments = ["ls-remote", "--", "{url}", &reference];
        let output = git_command::run(&address, "asking", None, ASK, &arguments).await?;
        output
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .find(|(_, name)| *name == reference)
            .and_then(|(id, _)| id.parse().ok())
            .ok_or_else(no_branch)
    }

    async fn references(
        &self,
        source: &GitSource,
        pull_requests: bool,
    ) -> Result<BTreeMap<GitRef, CommitId>, GitError> {
        let address = Address::new(&source.url);
        let mut prefixes = vec!["refs/heads/", "refs/tags/"];
        let mut arguments = vec!["ls-remote", "--", "{url}", "refs/heads/*", "refs/tags/*"];
        if pull_requests {
            prefixes.extend(["refs/pull/", "refs/merge-requests/"]);
            arguments.extend(["refs/pull/*/head", "refs/merge-requests/*/head"]);
        }
        if let Some(found) = self.http.references(&address, &prefixes).await {
            let known = |(name, id)| Some((GitRef::try_from(name).ok()?, id));
            return Ok(found.into_iter().filter_map(known).collect());
        }
        let output = git_command::run(&address, "asking", None, ASK, &arguments).await?;
        Ok(listed(&output))
    }

    fn is_mirrored(&self, repository: &RepositoryName) -> bool {
        is_fetched(&self.path(repository))
    }

    async fn fetch(&self, source: &GitSource, also: &[GitRef]) -> Result<(), GitError> {
        let path = self.path(&source.name);
        let held = git_command::hold(&path, HELD).await?;
        if !path.join("HEAD").exists() {
            let made = path.clone();
            let make = move || {
                private_file::make_folder(&made).map_err(|error| error.to_string())?;
                std::fs::write(made.join(FIRST), "").map_err(|error| error.to_string())?;
                git2::Repository::init_bare(&made).map(drop).map_err(|error| error.message().to_owned())
            };
            tokio::task::spawn_blocking(make).await.map_err(|error| error.to_string()).flatten().map_err(
                |reason| GitError::Mirror { doing: "making", path: path.display().to_string(), reason },
            )?;
        }
        let requests: Vec<String> = also
            .iter()
            .filter(|reference| matches!(reference.kind(), RefKind::PullRequest(_)))
            .map(|reference| format!("+{0}:{0}", reference.as_str()))
            .collect();
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--prune",
            "--no-write-fetch-head",
            "--no-tags",
            "--",
            "{url}",
            "+refs/heads/*:refs/heads/*",
            "+refs/tags/*:refs/tags/*",
        ];
        arguments.extend(requests.iter().map(String::as_str));
        let address = Address::new(&source.url);
        git_command::run(&address, "fetching", Some((&path, &held)), FETCH, &arguments).await?;
        // Where it can't be removed, the next one does it; until then nothing is read.
        let _ = std::fs::remove_file(path.join(FIRST));
        Ok(())
    }

    async fn commit(&self, repository: &RepositoryName, revision: &str) -> Result<Commit, GitError> {
        let missing = GitError::NotFound {
            what: format!("commit, branch or tag `{revision}`"),
            repository: repository.clone(),
            at: None,
        };
        let revision = revision.to_owned();
        self.with(repository, move |mirror| {
            let full = (revision.len() == 40).then(|| git2::Oid::from_str(&revision).ok()).flatten();
            let named = full.or_else(|| mirror.resolve_reference_from_short_name(&revision).ok()?.target());
            if let Some(size) = named.and_then(|id| size(mirror, id)).filter(|size| *size > OBJECT_MAX) {
                return Err(too_large(&format!("commit {revision}"), size));
            }
            let commit = mirror
                .revparse_single(&revision)
                .and_then(|object| object.peel_to_commit())
                .map_err(|_| missing)?;
            let id = commit.id().to_string().parse().map_err(|_| GitError::Mirror {
                doing: "reading",
                path: mirror.path().display().to_string(),
                reason: "its commit ids are not SHA-1".into(),
            })?;
            let message = String::from_utf8_lossy(commit.message_bytes()).trim_start().to_owned();
            let time = DateTime::from_timestamp(commit.time().seconds(), 0).unwrap_or_default();
            Ok(Commit { id, subject: subject(&message), time })
        })
        .await
    }

    async fn locate(
        &self,
        repository: &RepositoryName,
        commit: &CommitId,
        path: &str,
    ) -> Result<Located, GitError> {
        let missing = GitError::NotFound {
            what: "commit".into(),
            repository: repository.clone(),
            at: Some(commit.short().to_owned()),
        };
        let (commit, path) = (commit.clone(), path.to_owned());
        self.with(repository, move |mirror| {
            let root = git2::Oid::from_str(commit.as_str())
                .and_then(|id| mirror.find_commit(id))
                .and_then(|commit| commit.tree())
                .map_err(|_| missing)?;
            git_path::locate(mirror, root, &path).map_err(|error| broken(mirror.path(), &error))
        })
        .await
    }

    async fn tree(
        &self,
        repository: &RepositoryName,
        commit: &CommitId,
        folder: &str,
    ) -> Result<Vec<TreeEntry>, GitError> {
        let missing = |what: String| GitError::NotFound {
            what,
            repository: repository.clone(),
            at: Some(commit.short().to_owned()),
        };
        let no_commit = missing("commit".into());
        let no_folder = missing(format!("folder `{folder}`"));
        let (commit, folder) = (commit.clone(), folder.to_owned());
        self.with(repository, move |mirror| {
            let root = git2::Oid::from_str(commit.as_str())
                .and_then(|id| mirror.find_commit(id))
                .and_then(|commit| commit.tree())
                .map_err(|_| no_commit)?;
            let relative: PathBuf = Path::new(&folder)
                .components()
                .filter(|part| matches!(part, std::path::Component::Normal(_)))
                .collect();
            let tree = if relative.as_os_str().is_empty() {
                root
            } else {
                root.get_path(&relative)
                    .and_then(|entry| entry.to_object(mirror))
                    .and_then(|object| object.peel_to_tree())
                    .map_err(|_| no_folder)?
            };
            let mut entries = Vec::new();
            list(mirror, &tree, b"", &mut Budget::new(TreeLimits::default()), &mut entries)?;
            entries.sort();
            Ok(entries)
        })
        .await
    }

    async fn blob(&self, repository: &RepositoryName, id: &str) -> Result<Bytes, GitError> {
        let missing =
            GitError::NotFound { what: format!("blob {id}"), repository: repository.clone(), at: None };
        let id = id.to_owned();
        self.with(repository, move |mirror| {
            let Ok(oid) = git2::Oid::from_str(&id) else { return Err(missing) };
            match size(mirror, oid) {
                None => Err(missing),
                Some(size) if size > OBJECT_MAX => Err(too_large(&format!("blob {id}"), size)),
                Some(_) => {
                    let blob = mirror.find_blob(oid).map_err(|_| missing)?;
                    Ok(Bytes::copy_from_slice(blob.content()))
                }
            }
        })
        .await
    }

    async fn changed(
        &self,
        repository: &RepositoryName,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<Option<Vec<Vec<u8>>>, GitError> {
        let no_commit = GitError::NotFound {
            what: "commit".to_owned(),
            repository: repository.clone(),
            at: Some(to.short().to_owned()),
        };
        let (from, to) = (from.clone(), to.clone());
        self.with(repository, move |mirror| {
            let tree = |id: &CommitId| {
                let id = git2::Oid::from_str(id.as_str())?;
                mirror.find_commit(id)?.tree()
            };
            let to = tree(&to).map_err(|_| no_commit)?;
            let Ok(from) = tree(&from) else { return Ok(None) };
            let diff = mirror.diff_tree_to_tree(Some(&from), Some(&to), None);
            let diff = diff.map_err(|error| broken(mirror.path(), &error))?;
            let paths = diff.deltas().flat_map(|delta| {
                let old = delta.old_file().path_bytes().map(<[u8]>::to_vec);
                old.into_iter().chain(delta.new_file().path_bytes().map(<[u8]>::to_vec))
            });
            Ok(Some(paths.collect()))
        })
        .await
    }

    async fn measure(
        &self,
        repository: &RepositoryName,
        entries: Vec<TreeEntry>,
    ) -> Result<Vec<ContextFile>, GitError> {
        self.with(repository, move |mirror| {
            let odb = mirror.odb().map_err(|error| broken(mirror.path(), &error))?;
            let mut budget = Budget::new(TreeLimits::default());
            entries.into_iter().map(|entry| measure(mirror, &odb, &mut budget, entry)).collect()
        })
        .await
    }

    fn content(&self, repository: &RepositoryName, id: &str) -> Content {
        let (sender, receiver) = mpsc::channel(8);
        let (path, id) = (self.path(repository), id.to_owned());
        // Ends on its own when the receiver is dropped: the next piece can't be handed over.
        tokio::task::spawn_blocking(move || {
            let read = || {
                let mirror = git2::Repository::open_bare(&path)?;
                let blob = mirror.find_blob(git2::Oid::from_str(&id)?)?;
                for piece in blob.content().chunks(PIECE) {
                    if sender.blocking_send(Ok(Bytes::copy_from_slice(piece))).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let result: Result<(), git2::Error> = read();
            if let Err(error) = result {
                let _ = sender.blocking_send(Err(std::io::Error::other(error)));
            }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

/// What `git ls-remote` lists. After a tag that is an object of its own comes the commit that it names.
fn listed(output: &str) -> BTreeMap<GitRef, CommitId> {
    let mut found = BTreeMap::new();
    for (id, name) in output.lines().filter_map(|line| line.split_once('\t')) {
        let name = name.strip_suffix("^{}").unwrap_or(name);
        if let (Ok(reference), Ok(id)) = (GitRef::try_from(name.to_owned()), id.parse()) {
            found.insert(reference, id);
        }
    }
    found
}

/// The size of a file, or the target of a link.
fn measure(
    mirror: &git2::Repository,
    odb: &git2::Odb<'_>,
    budget: &mut Budget,
    entry: TreeEntry,
) -> Result<ContextFile, GitError> {
    let TreeEntry { path, kind, blob, .. } = entry;
    let mut file = ContextFile { path, kind, blob, size: 0, target: String::new() };
    let unfit = |reason: &str| GitError::Unfit { path: file.path.clone(), reason: reason.to_owned() };
    let failed = |error| broken(mirror.path(), &error);
    if matches!(kind, EntryKind::Folder | EntryKind::Submodule) {
        return Ok(file);
    }
    let id = git2::Oid::from_str(&file.blob).map_err(failed)?;
    let (size, _) = odb.read_header(id).map_err(failed)?;
    budget.weigh(size as u64).map_err(|reason| unfit(&reason))?;
    match kind {
        EntryKind::Link => {
            if size > git_path::TARGET_MAX {
                return Err(unfit("the link's target is longer than a path can be"));
            }
            let object = odb.read(id).map_err(failed)?;
            match std::str::from_utf8(object.data()) {
                Ok(target) if !target.is_empty() && !target.contains('\0') => file.target = target.to_owned(),
                _ => {
                    return Err(unfit(
                        "the link's target is no path in UTF-8: point it elsewhere, or exclude it in .dockerignore",
                    ));
                }
            }
        }
        _ => {
            if size as u64 <= LFS_POINTER_MAX && is_lfs_pointer(odb.read(id).map_err(failed)?.data()) {
                return Err(unfit(
                    "it is a Git LFS pointer, and the content it stands for is not in the repository: commit \
                     the file itself (`git lfs untrack`), let the build fetch it, or exclude it in .dockerignore",
                ));
            }
            file.size = size as u64;
        }
    }
    Ok(file)
}

/// The first line of a commit's message.
fn subject(message: &str) -> String {
    message.lines().next().unwrap_or("").trim_end().chars().take(SUBJECT_MAX).collect()
}

/// How many bytes an object has, asked before it is unpacked: one of gigabytes may take
/// kilobytes in the mirror.
fn size(mirror: &git2::Repository, id: git2::Oid) -> Option<usize> {
    mirror.odb().and_then(|odb| odb.read_header(id)).ok().map(|(size, _)| size)
}

fn too_large(what: &str, size: usize) -> GitError {
    GitError::Unfit {
        path: what.to_owned(),
        reason: format!("it has {size} bytes; {OBJECT_MAX} are allowed"),
    }
}

/// A path that may be very long, for a message.
fn shortened(path: &str) -> String {
    match path.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &path[..at]),
        None => path.to_owned(),
    }
}

fn list(
    mirror: &git2::Repository,
    tree: &git2::Tree<'_>,
    prefix: &[u8],
    budget: &mut Budget,
    entries: &mut Vec<TreeEntry>,
) -> Result<(), GitError> {
    for entry in tree {
        let bytes = [prefix, entry.name_bytes()].concat();
        let path = String::from_utf8_lossy(&bytes).into_owned();
        // Folders count as well: a tree of nothing else can be as large as one of files.
        budget.enter(&path).map_err(|reason| GitError::Unfit { path: shortened(&path), reason })?;
        let kind = match entry.filemode() {
            0o040_000 => {
                if let Some(size) = size(mirror, entry.id()).filter(|size| *size > OBJECT_MAX) {
                    return Err(too_large(&shortened(&path), size));
                }
                let inner = entry
                    .to_object(mirror)
                    .and_then(|object| object.peel_to_tree())
                    .map_err(|error| broken(mirror.path(), &error))?;
                list(mirror, &inner, &[&bytes[..], b"/"].concat(), budget, entries)?;
                continue;
            }
            0o120_000 => EntryKind::Link,
            0o160_000 => EntryKind::Submodule,
            mode if mode & 0o111 != 0 => EntryKind::Executable,
            _ => EntryKind::File,
        };
        let raw = (path.as_bytes() != bytes).then_some(bytes);
        entries.push(TreeEntry { path, kind, blob: entry.id().to_string(), raw });
    }
    Ok(())
}

/// Whether a mirror has been fetched once: an empty one would say of every commit that it is not there.
fn is_fetched(path: &Path) -> bool {
    path.join("HEAD").exists() && !path.join(FIRST).exists()
}

fn broken(path: &Path, error: &git2::Error) -> GitError {
    GitError::Mirror {
        doing: "reading",
        path: path.display().to_string(),
        reason: error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::TryStreamExt;

    use super::*;

    /// A repository in a temporary folder with one commit.
    struct Origin {
        folder: tempfile::TempDir,
        repository: git2::Repository,
    }

    impl Origin {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let mut options = git2::RepositoryInitOptions::new();
            options.initial_head("main");
            let repository = git2::Repository::init_opts(folder.path(), &options).expect("a repository");
            Self { folder, repository }
        }

        fn commit(&self, files: &[(&str, i32, &str)], message: &str) -> String {
            let mut index = git2::Index::new().expect("an index");
            for (path, mode, content) in files {
                let id = self.repository.blob(content.as_bytes()).expect("a blob");
                let entry = git2::IndexEntry {
                    ctime: git2::IndexTime::new(0, 0),
                    mtime: git2::IndexTime::new(0, 0),
                    dev: 0,
                    ino: 0,
                    mode: u32::try_from(*mode).expect("a mode"),
                    uid: 0,
                    gid: 0,
                    file_size: 0,
                    id,
                    flags: 0,
                    flags_extended: 0,
                    path: path.as_bytes().to_vec(),
                };
                index.add(&entry).expect("added");
            }
            let tree = index.write_tree_to(&self.repository).expect("a tree");
            let tree = self.repository.find_tree(tree).expect("the tree");
            let author = git2::Signature::now("a", "a@example.org").expect("a signature");
            let parent = self.repository.head().ok().and_then(|head| head.peel_to_commit().ok());
            let parents: Vec<_> = parent.iter().collect();
            self.repository
                .commit(Some("HEAD"), &author, &author, message, &tree, &parents)
                .expect("a commit")
                .to_string()
        }

        fn source(&self) -> GitSource {
            GitSource {
                name: "web".parse().expect("a name"),
                url: format!("file://{}", self.folder.path().display()),
                branch: "main".into(),
            }
        }
    }

    #[tokio::test]
    async fn a_mirror_follows_its_branch() {
        let origin = Origin::new();
        let first = origin.commit(&[("a", 0o100_644, "1")], "first\n\nmore");
        let home = tempfile::tempdir().expect("a folder");
        let mirrors = Mirrors::new(home.path().join("repos"));
        let source = origin.source();
        assert_eq!(mirrors.head(&source).await.expect("a head").as_str(), first);
        mirrors.fetch(&source, &[]).await.expect("fetched");
        let commit = mirrors.commit(&source.name, "main").await.expect("a commit");
        assert_eq!((commit.id.as_str(), commit.subject.as_str()), (first.as_str(), "first"));

        let second = origin.commit(&[("a", 0o100_644, "2")], "second");
        assert_eq!(mirrors.head(&source).await.expect("a head").as_str(), second);
        assert!(mirrors.commit(&source.name, &second).await.is_err(), "asking fetches nothing");
        mirrors.fetch(&source, &[]).await.expect("fetched");
        assert_eq!(mirrors.commit(&source.name, &second[..9]).await.expect("a commit").subject, "second");
    }

    #[tokio::test]
    async fn trees_and_contents_are_those_of_the_commit() {
        let origin = Origin::new();
        let id = origin.commit(
            &[
                ("app/run", 0o100_755, "#!"),
                ("app/sub/data", 0o100_644, "x"),
                ("app/link", 0o120_000, "sub/data"),
                ("other", 0o100_644, "y"),
            ],
            "files",
        );
        let home = tempfile::tempdir().expect("a folder");
        let mirrors = Mirrors::new(home.path());
        let source = origin.source();
        mirrors.fetch(&source, &[]).await.expect("fetched");
        let id: CommitId = id.parse().expect("an id");
        let entries = mirrors.tree(&source.name, &id, "./app").await.expect("a tree");
        let seen: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.kind)).collect();
        assert_eq!(
            seen,
            [("link", EntryKind::Link), ("run", EntryKind::Executable), ("sub/data", EntryKind::File)]
        );
        assert_eq!(mirrors.blob(&source.name, &entries[2].blob).await.expect("a blob"), "x");
        let gone = mirrors.tree(&source.name, &id, "nowhere").await.expect_err("no folder");
        assert_eq!(
            gone.to_string(),
            format!("there is no folder `nowhere` in repository `web` at {}", id.short())
        );

        let files = mirrors.measure(&source.name, entries).await.expect("files");
        let seen: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.size, f.target.as_str())).collect();
        assert_eq!(seen, [("link", 0, "sub/data"), ("run", 2, ""), ("sub/data", 1, "")]);
        let pieces: Vec<Bytes> =
            mirrors.content(&source.name, &files[1].blob).try_collect().await.expect("a content");
        assert_eq!(pieces.concat(), b"#!");
        let gone = mirrors.content(&source.name, &"1".repeat(40)).try_collect::<Vec<_>>().await;
        assert!(gone.is_err());
    }

    #[tokio::test]
    async fn what_the_other_side_lacks_is_named_and_options_are_not_taken() {
        let origin = Origin::new();
        origin.commit(&[("a", 0o100_644, "1")], "first");
        let home = tempfile::tempdir().expect("a folder");
        let mirrors = Mirrors::new(home.path());
        let other = GitSource { branch: "gone".into(), ..origin.source() };
        assert!(matches!(mirrors.head(&other).await, Err(GitError::NoBranch { .. })));
        let witness = home.path().join("witness");
        let evil = GitSource { url: format!("--upload-pack=touch {}", witness.display()), ..origin.source() };
        assert!(matches!(mirrors.head(&evil).await, Err(GitError::Remote { .. })));
        assert!(!witness.exists());
    }

    /// Trees of nothing but each other, made by `git mktree` as anybody can.
    fn nest(origin: &Origin, leaf: &str, width: usize, depth: usize) -> String {
        let git = |arguments: &[&str], input: &str| -> String {
            let mut child = std::process::Command::new("git")
                .arg("-C")
                .arg(origin.folder.path())
                .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
                .args(arguments)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("git can be run");
            child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "git {arguments:?}");
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        let mut entry = leaf.to_owned();
        for _ in 0..depth {
            let lines: String = (0..width).map(|name| format!("{entry}\t{name:03}\n")).collect();
            entry = format!("040000 tree {}", git(&["mktree", "--missing"], &lines));
        }
        let tree = entry.rsplit(' ').next().expect("an id");
        let commit = git(&["commit-tree", "-m", "nested", tree], "");
        git(&["update-ref", "refs/heads/main", &commit], "");
        commit
    }

    #[tokio::test]
    async fn a_tree_that_is_too_large_is_refused_while_it_is_walked() {
        let origin = Origin::new();
        let blob = origin.repository.blob(b"x").expect("a blob");
        let empty = origin.repository.treebuilder(None).expect("a tree").write().expect("written");
        let home = tempfile::tempdir().expect("a folder");
        let mirrors = Mirrors::new(home.path().join("repos"));
        let source = origin.source();
        let deep = format!("100644 blob {blob}");
        for (leaf, width, depth, reason) in [
            (format!("100644 blob {blob}"), 10, 10, "more than 200000 files and folders"),
            (format!("040000 tree {empty}"), 100, 5, "more than 200000 files and folders"),
            (deep, 1, 150, "more than 100 folders deep"),
        ] {
            let id: CommitId = nest(&origin, &leaf, width, depth).parse().expect("an id");
            mirrors.fetch(&source, &[]).await.expect("fetched");
            let started = std::time::Instant::now();
            let error = mirrors.tree(&source.name, &id, ".").await.expect_err("it is too large");
            assert!(error.to_string().contains(reason) && !error.is_transient(), "{error}");
            assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
        }
    }

    #[tokio::test]
    async fn a_large_blob_is_not_unpacked() {
        let origin = Origin::new();
        let zeros = "0".repeat(OBJECT_MAX + 1);
        let id = origin.commit(&[("Dockerfile", 0o100_644, &zeros)], "large");
        let home = tempfile::tempdir().expect("a folder");
        let mirrors = Mirrors::new(home.path().join("repos"));
        let source = origin.source();
        mirrors.fetch(&source, &[]).await.expect("fetched");
        let id: CommitId = id.parse().expect("an id");
        let entries = mirrors.tree(&source.name, &id, ".").await.expect("a tree");
        let error = mirrors.blob(&source.name, &entries[0].blob).await.expect_err("it is too large");
        assert!(error.to_string().contains("are allowed"), "{error}");
    }

    #[tokio::test]
    async fn a_fetch_gets_past_the_locks_of_a_git_that_was_killed() {
        let origin = Origin::new();
        origin.commit(&[("a", 0o100_644, "1")], "first");
        let home = tempfile::tempdir().expect("a folder");
        let mirrors = Mirrors::new(home.path().join("repos"));
        let source = origin.source();
        mirrors.fetch(&source, &[]).await.expect("fetched");
        let second = origin.commit(&[("a", 0o100_644, "2")], "second");
        for name in ["packed-refs.lock", "shallow.lock", "HEAD.lock", "index.lock", "refs/heads/main.lock"] {
            std::fs::write(home.path().join("repos/web.git").join(name), "").expect("written");
        }
        mirrors.fetch(&source, &[]).await.expect("fetched");
        mirrors.commit(&source.name, &second).await.expect("it is there");
    }
}
