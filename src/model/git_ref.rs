//! What of a git repository moves: branches, tags, and what pull requests propose.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The full name of a branch, a tag or a pull request: `refs/heads/main`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GitRef(String);

/// What a reference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind<'a> {
    /// A branch, by its name.
    Branch(&'a str),
    /// A tag, by its name.
    Tag(&'a str),
    /// A pull request, by its number.
    PullRequest(u64),
}

/// It names neither a branch nor a tag nor a pull request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a branch nor a tag nor a pull request")]
pub struct BadRef(String);

impl GitRef {
    /// The branch of that name.
    pub fn branch(name: &str) -> Self {
        Self(format!("refs/heads/{name}"))
    }

    /// The full name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is.
    pub fn kind(&self) -> RefKind<'_> {
        kind(&self.0).unwrap_or(RefKind::Branch(&self.0))
    }
}

/// GitHub, Gitea and Forgejo have pull requests at `refs/pull/N/head`, GitLab at `refs/merge-requests/N/head`.
fn kind(name: &str) -> Option<RefKind<'_>> {
    if let Some(branch) = name.strip_prefix("refs/heads/") {
        return (!branch.is_empty()).then_some(RefKind::Branch(branch));
    }
    if let Some(tag) = name.strip_prefix("refs/tags/") {
        return (!tag.is_empty() && !tag.ends_with("^{}")).then_some(RefKind::Tag(tag));
    }
    let request = name.strip_prefix("refs/pull/").or_else(|| name.strip_prefix("refs/merge-requests/"))?;
    request.strip_suffix("/head")?.parse().ok().map(RefKind::PullRequest)
}

impl TryFrom<String> for GitRef {
    type Error = BadRef;

    fn try_from(name: String) -> Result<Self, BadRef> {
        match kind(&name) {
            Some(_) => Ok(Self(name)),
            None => Err(BadRef(name)),
        }
    }
}

impl From<GitRef> for String {
    fn from(reference: GitRef) -> Self {
        reference.0
    }
}

/// As people say it: `main`, `v1.2`, `pull request 7`.
impl fmt::Display for GitRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            RefKind::Branch(name) | RefKind::Tag(name) => f.write_str(name),
            RefKind::PullRequest(number) => write!(f, "pull request {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_tags_and_pull_requests_are_told_apart() {
        let shown = |name: &str| GitRef::try_from(name.to_owned()).map(|reference| reference.to_string());
        assert_eq!(shown("refs/heads/release/2"), Ok("release/2".to_owned()));
        assert_eq!(shown("refs/tags/v1"), Ok("v1".to_owned()));
        assert_eq!(shown("refs/pull/7/head"), Ok("pull request 7".to_owned()));
        assert_eq!(shown("refs/merge-requests/12/head"), Ok("pull request 12".to_owned()));
        for other in
            ["HEAD", "refs/pull/7/merge", "refs/pull/x/head", "refs/notes/x", "refs/tags/v1^{}", "main"]
        {
            assert!(shown(other).is_err(), "{other}");
        }
    }
}
