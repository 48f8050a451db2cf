//! The demo's application: a small git repository with one commit a version.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use git2::{IndexAddOption, Repository, Signature};

use super::super::failure::Failure;

/// A version of the application, as a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Answers `v1`.
    First,
    /// Answers `v2`.
    Second,
    /// Answers `v3`, but has lost the file that its health check asks for.
    Broken,
    /// Does not say which version it is, which its own tests notice.
    Untested,
}

impl Version {
    /// What the page says.
    pub fn text(self) -> &'static str {
        match self {
            Self::First => "v1",
            Self::Second => "v2",
            Self::Broken => "v3",
            Self::Untested => "welcome",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::First => "Greet visitors",
            Self::Second => "Greet them better",
            Self::Broken => "Tidy up, health page included",
            Self::Untested => "Greet them without a version",
        }
    }
}

/// The image is made from the base that the demo put into the registry: nothing comes from outside.
const DOCKERFILE: &str = "FROM demo/base:1\nCOPY www /www\n";

/// The application's tests, with what a shell has on its own.
const TESTS: &str = "\
#!/bin/sh
read -r greeting < www/index.html
case \"$greeting\" in
  v[0-9]*) echo \"the page is $greeting\" ;;
  *) echo \"the page says '$greeting', which is no version\"; exit 1 ;;
esac
";

/// The application's repository.
#[derive(Debug)]
pub struct Application {
    path: PathBuf,
}

impl Application {
    /// Makes it anew at `path`; an older one there, which only the demo can have made, is removed.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            std::fs::remove_dir_all(path).map_err(|error| cannot("removing", path, &error))?;
        }
        std::fs::create_dir_all(path.join("www")).map_err(|error| cannot("making", path, &error))?;
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main");
        Repository::init_opts(path, &options).map_err(|error| cannot("making", path, &error))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is; git takes it as a URL.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Commits `version` and gives the commit's id.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn commit(&self, version: Version) -> Result<String, Failure> {
        let write = |name: &str, text: &str| {
            std::fs::write(self.path.join(name), text).map_err(|error| cannot("writing", &self.path, &error))
        };
        write("Dockerfile", DOCKERFILE)?;
        write("test.sh", TESTS)?;
        std::fs::set_permissions(self.path.join("test.sh"), Permissions::from_mode(0o755))
            .map_err(|error| cannot("writing", &self.path, &error))?;
        write("www/index.html", &format!("{}\n", version.text()))?;
        match version {
            Version::First | Version::Second | Version::Untested => write("www/health", "ok\n")?,
            Version::Broken => std::fs::remove_file(self.path.join("www/health"))
                .map_err(|error| cannot("writing", &self.path, &error))?,
        }
        commit_all(&self.path, version.subject()).map_err(|error| cannot("committing to", &self.path, &error))
    }
}

/// Commits everything under `path` to the branch checked out there; gives the commit's id.
pub fn commit_all(path: &Path, subject: &str) -> Result<String, git2::Error> {
    let repository = Repository::open(path)?;
    let mut index = repository.index()?;
    index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
    index.update_all(["*"], None)?;
    index.write()?;
    let tree = repository.find_tree(index.write_tree()?)?;
    let author = Signature::now("fleetwright demo", "demo@localhost")?;
    let parent = repository.head().ok().and_then(|head| head.peel_to_commit().ok());
    let parents: Vec<_> = parent.iter().collect();
    let id = repository.commit(Some("HEAD"), &author, &author, subject, &tree, &parents)?;
    Ok(id.to_string())
}

fn cannot(doing: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(
        format!("{doing} the demo's repository {}: {error}", path.display()),
        "see that the folder can be written, or set FLEETWRIGHT_HOME to another",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_version_loses_its_health_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let application = Application::create(&folder.path().join("web")).expect("a repository");
        for version in [Version::First, Version::Second, Version::Broken] {
            application.commit(version).expect("a commit");
        }
        let repository = Repository::open(application.path()).expect("the repository");
        let head = repository.head().and_then(|head| head.peel_to_commit()).expect("a head");
        let tree = head.tree().expect("a tree");
        assert!(tree.get_path(Path::new("www/index.html")).is_ok());
        assert!(tree.get_path(Path::new("www/health")).is_err());
        assert_eq!(
            head.parent(0).and_then(|parent| parent.parent(0)).map(|first| first.parent_count()),
            Ok(0)
        );
    }
}
