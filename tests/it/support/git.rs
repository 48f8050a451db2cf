//! A git repository in a temporary folder.

use fleetwright::port::git::GitSource;

/// A word that no build before had in its Dockerfile: the builder keeps the steps that it knows.
pub fn unique() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("u{}", now.expect("after 1970").as_nanos())
}

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
        let entry = |(path, content): &(&str, &[u8])| match path.strip_suffix('*') {
            Some(path) => (path.as_bytes().to_vec(), 0o100_755, content.to_vec()),
            None => (path.as_bytes().to_vec(), 0o100_644, content.to_vec()),
        };
        self.commit_modes(message, &files.iter().map(entry).collect::<Vec<_>>())
    }

    /// Commits exactly these paths, with their modes and contents.
    pub fn commit_modes(&self, message: &str, entries: &[(Vec<u8>, u32, Vec<u8>)]) -> String {
        let mut index = git2::Index::new().expect("an index");
        for (path, mode, content) in entries {
            let id = match mode {
                0o160_000 => git2::Oid::from_str(&"5".repeat(40)).expect("an id"),
                _ => self.repository.blob(content).expect("a blob"),
            };
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: *mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.clone(),
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

    /// Commits a tree with `width` to the power of `depth` files, which takes a few kilobytes:
    /// every folder holds the same folder many times. `files` are at its root.
    pub fn bomb(&self, width: usize, depth: usize, files: &[(&str, &[u8])]) -> String {
        let blob = self.repository.blob(b"x").expect("a blob");
        let (mut id, mut mode) = (blob, 0o100_644);
        for _ in 0..depth {
            let mut builder = self.repository.treebuilder(None).expect("a tree");
            for name in 0..width {
                builder.insert(format!("{name:02}"), id, mode).expect("inserted");
            }
            (id, mode) = (builder.write().expect("written"), 0o040_000);
        }
        let mut root = self.repository.treebuilder(None).expect("a tree");
        root.insert("bomb", id, mode).expect("inserted");
        for (path, content) in files {
            root.insert(path, self.repository.blob(content).expect("a blob"), 0o100_644).expect("inserted");
        }
        let tree = self.repository.find_tree(root.write().expect("written")).expect("the tree");
        let author = git2::Signature::now("Test", "test@example.org").expect("a signature");
        let parent = self.repository.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        let id = self.repository.commit(Some("HEAD"), &author, &author, "a bomb", &tree, &parents);
        id.expect("a commit").to_string()
    }

    /// Sets a reference to a commit, wherever it was.
    pub fn point(&self, reference: &str, commit: &str) {
        let id = git2::Oid::from_str(commit).expect("a commit");
        self.repository.reference(reference, id, true, "moved").expect("set");
    }

    /// The commit that a reference names.
    pub fn head(&self, reference: &str) -> String {
        let found = self.repository.refname_to_id(reference);
        found.expect("a reference").to_string()
    }

    /// Removes a reference.
    pub fn remove(&self, reference: &str) {
        self.repository.find_reference(reference).and_then(|mut found| found.delete()).expect("removed");
    }

    /// Its folder.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
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
