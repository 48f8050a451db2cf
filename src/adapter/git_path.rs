//! Paths in a commit's tree, with symbolic links followed as a checkout would follow them.

use git2::{Error, ErrorCode, ObjectType, Oid, Repository, Tree};

use crate::port::git::Located;

/// The most links that are followed, as in the kernel.
const LINKS_MAX: usize = 40;
/// The longest target of a link, in bytes.
pub(super) const TARGET_MAX: usize = 4096;

/// What `path`, from `root`, leads to.
///
/// # Errors
/// When an object is not in the mirror or can't be read.
pub(super) fn locate(mirror: &Repository, root: Tree<'_>, path: &str) -> Result<Located, Error> {
    let mut waiting: Vec<String> = parts(path);
    let mut folders: Vec<(String, Oid)> = Vec::new();
    let mut followed: Option<(String, String)> = None;
    let mut links = 0;
    let here = |folders: &[(String, Oid)], name: &str| {
        folders.iter().map(|(name, _)| name.as_str()).chain([name]).collect::<Vec<_>>().join("/")
    };
    let nowhere = |followed: Option<(String, String)>, reason| match followed {
        Some((link, target)) => Located::Broken { link, target, reason },
        None => Located::Nothing,
    };
    while let Some(name) = waiting.pop() {
        if name == ".." {
            if folders.pop().is_none() {
                return Ok(nowhere(followed, "outside of the repository"));
            }
            continue;
        }
        let tree = match folders.last() {
            Some((_, id)) => mirror.find_tree(*id)?,
            None => root.clone(),
        };
        let entry = match tree.get_path(std::path::Path::new(&name)) {
            Ok(entry) => entry,
            Err(error) if error.code() == ErrorCode::NotFound => {
                return Ok(nowhere(followed, "where the commit has no file"));
            }
            Err(error) => return Err(error),
        };
        let at = here(&folders, &name);
        match (entry.kind(), entry.filemode()) {
            (Some(ObjectType::Tree), _) => folders.push((name, entry.id())),
            (_, 0o160_000) => return Ok(Located::Submodule { path: at }),
            (_, 0o120_000) => {
                links += 1;
                let (size, _) = mirror.odb()?.read_header(entry.id())?;
                let target = if size > TARGET_MAX {
                    "…".to_owned()
                } else {
                    String::from_utf8_lossy(mirror.find_blob(entry.id())?.content()).into_owned()
                };
                let broken = |reason| Located::Broken { link: at.clone(), target: target.clone(), reason };
                if links > LINKS_MAX {
                    return Ok(broken("through more than 40 links"));
                }
                if size > TARGET_MAX || target.contains('\0') || target.is_empty() {
                    return Ok(broken("which is no path"));
                }
                if target.starts_with('/') {
                    return Ok(broken("outside of the repository"));
                }
                waiting.extend(parts(&target));
                followed = Some((at, target));
            }
            _ if waiting.iter().any(|part| part != ".") => {
                return Ok(nowhere(followed, "through a file as if it were a folder"));
            }
            _ => return Ok(Located::File { path: at, blob: entry.id().to_string() }),
        }
    }
    let path = folders.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join("/");
    Ok(Located::Folder { path })
}

/// The parts of a path, the last first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").rev().map(str::to_owned).collect()
}
