//! What a build is made from: the Dockerfile and the files of the context, as a checkout of the
//! commit would give them to `docker build`.

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::work::At;
use crate::model::image::TreeEntry;
use crate::model::run::BuildSpec;
use crate::plan::context::context;
use crate::plan::dockerignore::Dockerignore;
use crate::plan::run::Problem;
use crate::port::git::{GitRemote, Located};

/// The source of a build.
#[derive(Debug)]
pub struct Source {
    /// The Dockerfile's path as the step names it.
    pub dockerfile: String,
    /// The Dockerfile as it is in git.
    pub text: String,
    /// The `.dockerignore`, empty when there is none.
    pub ignore: Bytes,
    /// The files of the context.
    pub entries: Vec<TreeEntry>,
    /// When the commit was made.
    pub time: DateTime<Utc>,
}

/// Reads the source of `build`.
///
/// # Errors
/// When git fails, or `docker build` would refuse the source.
pub async fn read(git: &dyn GitRemote, at: At<'_>, build: &BuildSpec) -> Result<Source, Problem> {
    let shown = || format!("in `{}` of `{}` at {}", build.context, at.repository, at.commit.short());
    let time = git.commit(at.repository, at.commit.as_str()).await?.time;
    let folder = match git.locate(at.repository, at.commit, &build.context).await? {
        Located::Folder { path } => path,
        Located::Submodule { path } => {
            return Err(Problem::lasting(format!(
                "the context `{}` lies in `{path}`, a git submodule, whose files are not in repository `{}`: \
                 build it with a pipeline of its own repository",
                build.context, at.repository
            )));
        }
        Located::Broken { link, target, reason } => return Err(broken(&link, &target, reason)),
        Located::File { .. } | Located::Nothing => {
            return Err(Problem::lasting(format!(
                "there is no folder `{}` in repository `{}` at {}",
                build.context,
                at.repository,
                at.commit.short()
            )));
        }
    };
    let find = async |path: &str| {
        let path = format!("{folder}/{path}");
        match git.locate(at.repository, at.commit, &path).await? {
            Located::File { path, blob } => Ok(Some((path, git.blob(at.repository, &blob).await?))),
            Located::Nothing => Ok(None),
            Located::Broken { link, target, reason } => Err(broken(&link, &target, reason)),
            Located::Folder { path } => Err(Problem::lasting(format!("`{path}` is a folder, not a file"))),
            Located::Submodule { path } => Err(Problem::lasting(format!(
                "`{path}` is a git submodule, whose files are not in this repository"
            ))),
        }
    };

    let wanted = build.dockerfile.trim_start_matches("./");
    let mut found = find(wanted).await?;
    if found.is_none() && wanted == "Dockerfile" {
        // As Docker does when none is named.
        found = find("dockerfile").await?;
    }
    let (_, text) = found.ok_or_else(|| Problem::lasting(format!("there is no `{wanted}` {}", shown())))?;
    if crate::model::image::is_lfs_pointer(&text) {
        return Err(Problem::lasting(format!(
            "`{wanted}` {} is a Git LFS pointer: commit the file itself (`git lfs untrack`)",
            shown()
        )));
    }
    let text = String::from_utf8(text.to_vec())
        .map_err(|_| Problem::lasting(format!("`{wanted}` {} is not UTF-8", shown())))?;
    // One that belongs to this Dockerfile replaces the context's.
    let own = format!("{wanted}.dockerignore");
    let (ignore_name, ignore) = match find(&own).await? {
        Some((_, text)) => (own.as_str(), text),
        None => (".dockerignore", find(".dockerignore").await?.map(|(_, text)| text).unwrap_or_default()),
    };
    if crate::model::image::is_lfs_pointer(&ignore) {
        return Err(Problem::lasting(format!(
            "`{ignore_name}` {} is a Git LFS pointer: commit the file itself (`git lfs untrack`)",
            shown()
        )));
    }
    let rules = Dockerignore::parse(&ignore)
        .map_err(|error| Problem::lasting(format!("`{ignore_name}` {}: {error}", shown())))?;
    let tree = git.tree(at.repository, at.commit, if folder.is_empty() { "." } else { &folder }).await?;
    let entries = context(&tree, &rules).map_err(|error| Problem::lasting(error.to_string()))?;
    Ok(Source { dockerfile: wanted.to_owned(), text, ignore, entries, time })
}

fn broken(link: &str, target: &str, reason: &str) -> Problem {
    Problem::lasting(format!(
        "`{link}` is a symbolic link to `{target}`, {reason}: point it at a file of the repository"
    ))
}
