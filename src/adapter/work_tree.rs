//! The files of a work tree as a commit, uncommitted changes included, without a trace in its repository: git gets an
//! index and a folder for objects of our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::child;
use super::private_file;
use crate::model::git_ref::GitRef;
use crate::model::line::plain;
use crate::model::name::CommitId;
use crate::port::git::GitError;

/// How long one git command may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A work tree as a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: CommitId,
    /// The first line of its message.
    pub subject: String,
    /// The branch that is checked out, if one is.
    pub branch: Option<GitRef>,
    /// Whether it is no commit of the repository's own.
    pub has_changes: bool,
}

/// Makes a mirror at `mirror` that holds the work tree around `folder`: all files that git does not ignore, as they are now.
///
/// # Errors
/// When `folder` is in no work tree, or git fails.
pub async fn snapshot(folder: &Path, mirror: &Path) -> Result<Snapshot, GitError> {
    let git = Git { folder: folder.to_owned(), variables: Vec::new() };
    let top = PathBuf::from(git.line(&["rev-parse", "--show-toplevel"]).await?);
    let own = PathBuf::from(git.line(&["rev-parse", "--absolute-git-dir"]).await?);
    let path = |name: &'static str| {
        let git = &git;
        async move {
            git.line(&["rev-parse", "--path-format=absolute", "--git-path", name]).await.map(PathBuf::from)
        }
    };
    let (objects, index) = (path("objects").await?, path("index").await?);
    git.line(&["init", "--quiet", "--bare", &mirror.to_string_lossy()]).await?;
    let failed = |doing, error: &dyn std::fmt::Display| GitError::Mirror {
        doing,
        path: mirror.display().to_string(),
        reason: error.to_string(),
    };
    // What is committed stays where it is, and is only read.
    private_file::write(
        &mirror.join("objects/info/alternates"),
        format!("{}\n", objects.display()).as_bytes(),
    )
    .map_err(|error| failed("preparing", &error))?;
    let own_index = mirror.join("index");
    match std::fs::copy(&index, &own_index) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("copying the index to", &error)),
    }
    let variable = |name: &'static str, value: &Path| (name, value.as_os_str().to_owned());
    let git = Git {
        folder: top.clone(),
        variables: vec![
            variable("GIT_DIR", &own),
            variable("GIT_WORK_TREE", &top),
            variable("GIT_INDEX_FILE", &own_index),
            variable("GIT_OBJECT_DIRECTORY", &mirror.join("objects")),
            variable("GIT_ALTERNATE_OBJECT_DIRECTORIES", &objects),
            ("GIT_AUTHOR_NAME", "fleetwright".into()),
            ("GIT_AUTHOR_EMAIL", "local".into()),
            ("GIT_COMMITTER_NAME", "fleetwright".into()),
            ("GIT_COMMITTER_EMAIL", "local".into()),
        ],
    };
    git.line(&["add", "--all", "--", ":/"]).await?;
    let tree = git.line(&["write-tree"]).await?;
    let head = git.line(&["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).await.ok();
    let branch = git.line(&["symbolic-ref", "--quiet", "HEAD"]).await.ok();
    let branch = branch.and_then(|name| GitRef::try_from(name).ok());
    let subject = match &head {
        Some(head) => git.line(&["log", "-1", "--format=%s", head]).await?,
        None => "no commit yet".to_owned(),
    };
    if let Some(head) = &head
        && git.line(&["rev-parse", &format!("{head}^{{tree}}")]).await? == tree
    {
        return Ok(Snapshot { commit: id(head, mirror)?, subject, branch, has_changes: false });
    }
    let subject = format!("{subject}, with uncommitted changes");
    let mut arguments = vec!["commit-tree", &tree, "-m", &subject];
    if let Some(head) = &head {
        arguments.extend(["-p", head]);
    }
    let commit = git.line(&arguments).await?;
    Ok(Snapshot { commit: id(&commit, mirror)?, subject, branch, has_changes: true })
}

fn id(text: &str, mirror: &Path) -> Result<CommitId, GitError> {
    text.parse().map_err(|error| GitError::Mirror {
        doing: "reading a commit of",
        path: mirror.display().to_string(),
        reason: format!("{error}"),
    })
}

/// The git program in a folder.
struct Git {
    folder: PathBuf,
    variables: Vec<(&'static str, std::ffi::OsString)>,
}

impl Git {
    /// Runs git; the output without its line end.
    async fn line(&self, arguments: &[&str]) -> Result<String, GitError> {
        let failed = |reason: String| GitError::Mirror {
            doing: "reading the work tree for",
            path: self.folder.display().to_string(),
            reason,
        };
        let mut command = Command::new("git");
        command.args(["-c", "gc.auto=0", "-c", "advice.addEmbeddedRepo=false"]).args(arguments);
        command.current_dir(&self.folder).envs(self.variables.iter().cloned());
        command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").stdin(std::process::Stdio::null());
        let ended = child::run(command, LIMIT).await.map_err(|error| failed(error.to_string()))?;
        if ended.status.success() {
            return Ok(String::from_utf8_lossy(&ended.stdout).trim_end_matches('\n').to_owned());
        }
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
        Err(failed(plain(last.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::git::Mirrors;
    use crate::port::git::GitRemote as _;

    async fn git(folder: &Path, arguments: &[&str]) -> String {
        let variables = vec![
            ("GIT_AUTHOR_NAME", "a".into()),
            ("GIT_AUTHOR_EMAIL", "a".into()),
            ("GIT_COMMITTER_NAME", "a".into()),
            ("GIT_COMMITTER_EMAIL", "a".into()),
        ];
        Git { folder: folder.to_owned(), variables }.line(arguments).await.expect("git")
    }

    #[tokio::test]
    async fn a_work_tree_is_a_commit_and_its_repository_stays_as_it_is() {
        let home = tempfile::tempdir().expect("a folder");
        let tree = home.path().join("tree");
        let write = |path: &str, text: &str| {
            let path = tree.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("written");
        };
        write(".gitignore", "target/\n*.log\n");
        write("kept", "1");
        write("gone", "1");
        git(&tree, &["init", "--quiet", "-b", "main"]).await;
        git(&tree, &["add", "."]).await;
        git(&tree, &["commit", "--quiet", "-m", "first"]).await;
        let mirrors = Mirrors::new(home.path().join("repos"));
        let taken = async |name: &str| {
            let taken = snapshot(&tree.join("."), &home.path().join(format!("repos/{name}.git"))).await;
            let taken = taken.expect("a snapshot");
            let repository = name.parse().expect("a name");
            let files = mirrors.tree(&repository, &taken.commit, ".").await.expect("a tree");
            let paths: Vec<String> = files.into_iter().map(|file| file.path).collect();
            (taken, paths)
        };
        let (clean, paths) = taken("clean").await;
        assert!(!clean.has_changes && clean.subject == "first");
        assert_eq!(clean.branch, Some(GitRef::branch("main")));
        assert_eq!(paths, [".gitignore", "gone", "kept"]);

        write("target/out", "x");
        write("noise.log", "x");
        write("sub/new", "x");
        write("kept", "2");
        std::fs::remove_file(tree.join("gone")).expect("removed");
        let before = (git(&tree, &["status", "--porcelain"]).await, git(&tree, &["count-objects"]).await);
        let (dirty, paths) = taken("dirty").await;
        assert!(dirty.has_changes);
        assert_eq!(dirty.subject, "first, with uncommitted changes");
        assert_eq!(paths, [".gitignore", "kept", "sub/new"]);
        let after = (git(&tree, &["status", "--porcelain"]).await, git(&tree, &["count-objects"]).await);
        assert_eq!(before, after);

        let outside = snapshot(home.path(), &home.path().join("repos/none.git")).await;
        assert!(outside.is_err_and(|error| error.to_string().contains("not a git repository")));
    }
}
