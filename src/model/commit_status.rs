//! What forges show beside a commit.

use super::run::{Run, RunState};

/// Where the state of runs is reported for the commits of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusTarget {
    /// What kind of forge it is.
    pub forge: Forge,
    /// Its address, `https://HOST[:PORT]`; `None` for GitHub's own.
    pub server: Option<String>,
    /// `OWNER/NAME` there.
    pub project: String,
    /// The SSM parameter with the token.
    pub token: String,
}

/// A kind of forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    /// GitHub, or GitHub Enterprise.
    GitHub,
    /// Gitea or Forgejo.
    Gitea,
}

/// A status of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// The commit.
    pub commit: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: &'static str,
    /// What the status is of: a later one of the same replaces it.
    pub context: String,
    /// One line.
    pub description: String,
    /// The page of the run, where its address is known.
    pub link: Option<String>,
}

/// The longest description that forges take, in characters.
pub const DESCRIPTION_MOST: usize = 140;

impl StatusTarget {
    /// Where a status of `commit` is sent. GitHub: REST API, "Commit statuses"; Gitea has the same under `/api/v1`.
    pub fn url(&self, commit: &str) -> String {
        format!("{}/statuses/{commit}", self.repository())
    }

    /// Where comments of the pull request with this number are. GitHub: REST API, "Issue comments"; Gitea has the same.
    pub fn comments(&self, number: u64) -> String {
        format!("{}/issues/{number}/comments", self.repository())
    }

    /// Where one comment is.
    pub fn comment(&self, id: u64) -> String {
        format!("{}/issues/comments/{id}", self.repository())
    }

    fn repository(&self) -> String {
        let api = match (self.forge, self.server.as_deref().map(|server| server.trim_end_matches('/'))) {
            (Forge::GitHub, None) => "https://api.github.com".to_owned(),
            (Forge::GitHub, Some(server)) => format!("{server}/api/v3"),
            (Forge::Gitea, server) => format!("{}/api/v1", server.unwrap_or_default()),
        };
        format!("{api}/repos/{}", self.project)
    }
}

impl CommitStatus {
    /// What is shown of a run; `server` is the address of the page, where others can reach it.
    pub fn of(run: &Run, server: Option<&str>) -> Self {
        let state = match run.state {
            RunState::Queued | RunState::Running => "pending",
            RunState::Succeeded => "success",
            RunState::Failed => "failure",
            RunState::Cancelled | RunState::Superseded | RunState::Quarantined => "error",
        };
        let mut description = match &run.reason {
            Some(reason) => format!("run {}: {}: {reason}", run.id, run.state.word()),
            None => format!("run {}: {}", run.id, run.state.word()),
        };
        if let Some((end, _)) = description.char_indices().nth(DESCRIPTION_MOST) {
            description.truncate(end);
        }
        Self {
            commit: run.commit.to_string(),
            state,
            context: format!("fleetwright/{}", run.pipeline),
            description,
            link: server.map(|server| format!("{}/runs/{}", server.trim_end_matches('/'), run.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_forge_has_its_place() {
        let target = |forge, server: Option<&str>| StatusTarget {
            forge,
            server: server.map(str::to_owned),
            project: "shop/web".to_owned(),
            token: "/shop/forge".to_owned(),
        };
        assert_eq!(
            target(Forge::GitHub, None).url("c0ffee"),
            "https://api.github.com/repos/shop/web/statuses/c0ffee"
        );
        assert_eq!(
            target(Forge::GitHub, Some("https://ghe.example")).url("c0ffee"),
            "https://ghe.example/api/v3/repos/shop/web/statuses/c0ffee"
        );
        assert_eq!(
            target(Forge::Gitea, Some("https://git.example/")).url("c0ffee"),
            "https://git.example/api/v1/repos/shop/web/statuses/c0ffee"
        );
    }
}
