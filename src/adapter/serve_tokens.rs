//! The tokens of a pipeline server: a file for each in a folder beside its journal, with a hash of the token. The server
//! reads it for every request, so that what is created or revoked counts at once.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::private_file;
use crate::model::name::TokenName;
use crate::model::token::StoredToken;
use crate::port::tokens::KnownTokens;

/// The tokens in one folder.
#[derive(Debug, Clone)]
pub struct ServeTokens {
    folder: PathBuf,
}

impl ServeTokens {
    /// Those of the server whose journal is in `folder`.
    pub fn beside(folder: &Path) -> Self {
        Self { folder: folder.join("tokens") }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, name: &TokenName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Stores a token; `false` when there is one of that name.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn add(&self, token: &StoredToken) -> std::io::Result<bool> {
        private_file::make_folder(&self.folder)?;
        let text = serde_json::to_vec(token).map_err(std::io::Error::other)?;
        let file =
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(self.path(&token.name));
        match file {
            Ok(mut file) => {
                file.write_all(&text)?;
                file.sync_all()?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a token; `false` when there is none of that name.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self, name: &TokenName) -> std::io::Result<bool> {
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All tokens, sorted by name. One that is not understood is left out: it is not accepted either.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn all(&self) -> std::io::Result<Vec<StoredToken>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let name =
                name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| name.parse().ok());
            found.extend(name.and_then(|name| self.token(&name)));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

impl KnownTokens for ServeTokens {
    #[allow(clippy::disallowed_methods, reason = "it reads what it wrote")]
    fn token(&self, name: &TokenName) -> Option<StoredToken> {
        let text = std::fs::read_to_string(self.path(name)).ok()?;
        StoredToken::read(&text).filter(|token| token.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use chrono::DateTime;

    use super::*;
    use crate::model::access::Level;
    use crate::model::token::{TOKEN_VERSION, TokenText};

    fn stored(name: &str) -> StoredToken {
        let name: TokenName = name.parse().expect("a name");
        let at = |second: i64| DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time");
        StoredToken {
            version: TOKEN_VERSION,
            level: Level::Deployer,
            sha256: TokenText::new(name.clone(), [7; 32]).hash(),
            name,
            created: at(0),
            created_by: "root".into(),
            expires: at(1),
        }
    }

    #[test]
    fn tokens_are_there_until_they_are_removed_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = ServeTokens::beside(folder.path());
        assert_eq!(tokens.all().expect("read"), []);
        let (anna, ci) = (stored("anna"), stored("ci"));
        assert!(tokens.add(&ci).expect("written") && tokens.add(&anna).expect("written"));
        assert!(!tokens.add(&anna).expect("asked"), "the name is taken");
        assert_eq!(tokens.all().expect("read"), [anna.clone(), ci.clone()]);
        assert_eq!(tokens.token(&anna.name), Some(anna.clone()));
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(tokens.folder()), mode(&tokens.path(&anna.name))), (0o700, 0o600));
        assert!(tokens.remove(&anna.name).expect("removed"));
        assert!(!tokens.remove(&anna.name).expect("asked"));
        assert_eq!(tokens.token(&anna.name), None);
        // A file under another name is not accepted.
        std::fs::copy(tokens.path(&ci.name), tokens.path(&anna.name)).expect("copied");
        assert_eq!(tokens.token(&anna.name), None);
    }
}
