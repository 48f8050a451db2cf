//! What opens the pipeline server's page and API: a token that the user chose, or one that is
//! made at the first start and kept in the data folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::adapter::{authority, private_file};
use crate::model::secret::Secret;
use crate::model::token::TokenText;

/// The token that callers must bear.
pub const VARIABLE: &str = "FLEETWRIGHT_SERVE_TOKEN";

/// The token, and where it comes from.
pub struct PageToken {
    /// The token.
    pub token: Secret<String>,
    /// The file that holds it; `None` when the user's variable does.
    pub file: Option<PathBuf>,
}

/// The token of [`VARIABLE`], or else of `folder`, where it is made at the first start.
///
/// # Errors
/// When the file can be neither read nor written, or the variable holds a named token.
pub fn page_token(folder: &Path) -> Result<PageToken, Failure> {
    if let Some(token) = std::env::var(VARIABLE).ok().filter(|token| !token.is_empty()) {
        // It would become a second token of the server itself, which may do everything.
        if let Ok(named) = token.parse::<TokenText>() {
            return Err(Failure::usage(
                format!(
                    "{VARIABLE} holds the named token `{}`, which can't be the server's own",
                    named.name()
                ),
                format!("unset {VARIABLE}, or set it to another long random text"),
            ));
        }
        return Ok(PageToken { token: Secret::new(token), file: None });
    }
    let file = page_token_file(folder);
    if let Some(token) = kept(&file) {
        return Ok(PageToken { token, file: Some(file) });
    }
    let failed = |error: String| {
        Failure::failed(error, format!("see that {} can be written, or set {VARIABLE}", folder.display()))
    };
    let token = authority::token().map_err(|error| failed(error.to_string()))?;
    std::fs::create_dir_all(folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
    private_file::write(&file, token.expose().as_bytes()).map_err(|error| failed(error.to_string()))?;
    Ok(PageToken { token, file: Some(file) })
}

/// Where a token that was made is kept.
pub fn page_token_file(folder: &Path) -> PathBuf {
    folder.join("page-token")
}

/// The token in `file`, if nobody else can read it.
#[allow(clippy::disallowed_methods, reason = "it reads what it wrote")]
pub fn kept(file: &Path) -> Option<Secret<String>> {
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    let text = std::fs::read_to_string(file).ok()?;
    (mode & 0o077 == 0 && text.len() == 64).then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_while_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = |folder: &Path| {
            let PageToken { token, file } = page_token(folder).expect("a token");
            (token, file.expect("its file"))
        };
        let (first, file) = made(&folder.path().join("serve/shop"));
        assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
        let (second, _) = made(&folder.path().join("serve/shop"));
        assert!(first == second, "it is kept");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
        let (third, _) = made(&folder.path().join("serve/shop"));
        assert!(first != third, "others could have read it");
        std::fs::write(&file, "").expect("written");
        assert_eq!(made(&folder.path().join("serve/shop")).0.expose().len(), 64);
    }
}
