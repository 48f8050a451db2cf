//! A git repository in a temporary folder.

use fleetwright::port::git::GitSource;

/// The repository.
pub struct Origin {
    folder: tempfile::TempDir,
    repository: git2::Repository,
}

impl Origin {
    /// An empty one, on branch `main`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main");
        let repository = git2::Repository::init_opts(folder.path(), &options).expect("a repository");
        Self { folder, repository }
    }

    /// Commits exactly these files; a path that ends in `*` is executable, without the `*`.
    pub fn commit(&self, message: &str, files: &[(&str, &[u8])]) -> String {
        let mut index = git2::Index::new().expect("an index");
        for (path, content) in files {
            let (path, mode) = match path.strip_suffix('*') {
                Some(path) => (path, 0o100_755),
                None => (*path, 0o100_644),
            };
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: self.repository.blob(content).expect("a blob"),
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).expect("added");
        }
        let tree = index.write_tree_to(&self.repository).expect("a tree");
        let tree = self.repository.find_tree(tree).expect("the tree");
        let author = git2::Signature::now("Test", "test@example.org").expect("a signature");
        let parent = self.repository.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        let id = self.repository.commit(Some("HEAD"), &author, &author, message, &tree, &parents);
        id.expect("a commit").to_string()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("file://{}", self.folder.path().display())
    }

    /// It as a source called `web`.
    pub fn source(&self) -> GitSource {
        GitSource { name: "web".parse().expect("a name"), url: self.url(), branch: "main".into() }
    }
}
