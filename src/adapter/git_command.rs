//! The `git` program: credentials that no argument shows, locks that a killed one left, limits.
//!
//! A user and password in a repository's URL reach git through a credential helper that is
//! valid for that host alone and reads them from the environment. Arguments can be read by
//! everybody on the machine; an environment only by the same user, who can read the settings as
//! well. A pipe would not do: `git-remote-https`, which asks, has its own standard input.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::child::{self, ChildError};
use super::git_remedy;
use super::private_file;
use crate::model::line::plain;
use crate::model::redact;
use crate::port::git::GitError;

const USER: &str = "FLEETWRIGHT_GIT_USER";
const PASSWORD: &str = "FLEETWRIGHT_GIT_PASSWORD";
/// What git runs through a shell to get credentials; `store` and `erase` have no effect.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \"$FLEETWRIGHT_GIT_USER\" \"$FLEETWRIGHT_GIT_PASSWORD\"; }; f";
/// The ssh that git runs: it asks nobody, and ends when the other side is silent for a minute.
const SSH: &str = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=15 -oServerAliveCountMax=4";
/// How long git may take to read its configuration.
const CONFIGURATION: Duration = Duration::from_secs(10);
/// The most lines of what git and ssh say that are shown.
const CAUSE_LINES: usize = 5;
/// How often a mirror that another process fetches is asked for again.
const LOOK: Duration = Duration::from_millis(100);

/// A repository's URL, its user and password apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The URL without password; without user, too, unless ssh needs it.
    pub url: String,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    /// The scheme, host and port that they are for.
    origin: String,
    user: String,
    password: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Address {
    /// Takes a URL apart.
    pub fn new(url: &str) -> Self {
        let whole = || Self { url: url.to_owned(), credentials: None };
        let (Some(pair), Some((scheme, rest))) = (redact::user_info(url), url.split_once("://")) else {
            return whole();
        };
        let rest = &rest[pair.len() + 1..];
        let (user, password) = pair.split_once(':').unwrap_or((pair, ""));
        if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
            return Self { url: format!("{scheme}://{user}@{rest}"), credentials: None };
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let credentials = Credentials {
            origin: format!("{scheme}://{host}"),
            user: redact::percent_decoded(user),
            password: redact::percent_decoded(password),
        };
        Self { url: format!("{scheme}://{rest}"), credentials: Some(credentials) }
    }

    /// The user and password, where the URL has them.
    pub fn basic(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|known| (known.user.as_str(), known.password.as_str()))
    }

    /// Whether it is asked over HTTP, which needs no ssh.
    pub fn is_http(&self) -> bool {
        ["http://", "https://"].iter().any(|scheme| self.url.starts_with(scheme))
    }

    /// The URL as messages show it: without user and password.
    pub fn shown(&self) -> String {
        match (redact::user_info(&self.url), self.url.split_once("://")) {
            (Some(user), Some((scheme, rest))) => format!("{scheme}://{}", &rest[user.len() + 1..]),
            _ => self.url.clone(),
        }
    }
}

/// A mirror that this process alone works on. The lock is on a file beside the mirror, and git
/// inherits it: it is held until both this process and its git have ended.
#[derive(Debug)]
pub struct Held(File);

/// Waits until no other process of ours works on the mirror at `path`, and removes the locks
/// that a git which was killed has left in it.
///
/// # Errors
/// When the lock can't be made, or is held for longer than `limit`.
pub async fn hold(path: &Path, limit: Duration) -> Result<Held, GitError> {
    let failed = |doing, reason: String| GitError::Mirror { doing, path: path.display().to_string(), reason };
    if let Some(folder) = path.parent() {
        private_file::make_folder(folder).map_err(|error| failed("making", error.to_string()))?;
    }
    let name = path.with_extension("git.lock");
    let file = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(name);
    let file = file.map_err(|error| failed("locking", error.to_string()))?;
    let end = tokio::time::Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < end => {
                tokio::time::sleep(LOOK).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(failed(
                    "locking",
                    "another process has been fetching into it for too long".into(),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("locking", error.to_string())),
        }
    }
    for lock in left_locks(path) {
        tracing::warn!(file = %lock.display(), "a git that was killed left this lock; removing it");
        std::fs::remove_file(&lock)
            .or_else(|error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .map_err(|error| failed("removing a stale lock of", format!("{}: {error}", lock.display())))?;
    }
    Ok(Held(file))
}

/// The files in a mirror that keep git from changing it: `packed-refs.lock`, `HEAD.lock`,
/// `shallow.lock`, `config.lock`, those of single refs and of the commit graph, `gc.pid`.
fn left_locks(mirror: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders =
        vec![mirror.to_owned(), mirror.join("objects/info"), mirror.join("objects/info/commit-graphs")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            // Links are not followed.
            let kind = entry.file_type();
            if kind.as_ref().is_ok_and(std::fs::FileType::is_dir) {
                if folder != mirror || name == "refs" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "lock") || name == "gc.pid" {
                found.push(path);
            }
        }
    }
    found
}

/// Runs `git` without any way to ask a person for a password, and gives its output. Of `{url}` in
/// `arguments` the address's URL takes the place.
///
/// # Errors
/// When git says so, or takes longer than `limit`.
pub async fn run(
    address: &Address,
    doing: &'static str,
    mirror: Option<(&Path, &Held)>,
    limit: Duration,
    arguments: &[&str],
) -> Result<String, GitError> {
    let failed = |reason: String| GitError::Remote { doing, url: address.shown(), reason, next: None };
    let mut command = Command::new("git");
    // Housekeeping would go on after the lock is free.
    command.args(["-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false"]);
    // One whose server has gone silent ends, even when this process was killed and nobody ends it.
    command.args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=60"]);
    if let Some(credentials) = &address.credentials {
        // An empty helper removes those of the user's own, which would keep what they are given.
        command.args(["-c", "credential.helper=", "-c"]);
        command.arg(format!("credential.{}.helper={HELPER}", credentials.origin));
        command.env(USER, &credentials.user).env(PASSWORD, &credentials.password);
    }
    let stdin = match mirror {
        Some((mirror, Held(lock))) => {
            command.arg("--git-dir").arg(mirror);
            lock.try_clone().map(Stdio::from).map_err(|error| failed(error.to_string()))?
        }
        None => Stdio::null(),
    };
    command
        .args(arguments.iter().map(|argument| if *argument == "{url}" { &address.url } else { *argument }))
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(stdin);
    if !address.is_http() && !has_own_ssh(mirror.map(|(mirror, _)| mirror)).await {
        command.env("GIT_SSH_COMMAND", SSH);
    }
    let ended = match child::run(command, limit).await {
        Err(ChildError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(failed("the program `git` is not installed".into()));
        }
        Err(error) => return Err(failed(error.to_string())),
        Ok(ended) => ended,
    };
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let next = git_remedy::next(&said, &address.url);
    Err(GitError::Remote { doing, url: address.shown(), reason: cause(&said), next })
}

/// Whether the user has configured which ssh git runs. The variable that [`SSH`] is passed in overrides `core.sshCommand`,
/// so git is asked for that first.
async fn has_own_ssh(mirror: Option<&Path>) -> bool {
    if ["GIT_SSH_COMMAND", "GIT_SSH"].iter().any(|name| std::env::var_os(name).is_some()) {
        return true;
    }
    let mut command = Command::new("git");
    if let Some(mirror) = mirror {
        command.arg("--git-dir").arg(mirror);
    }
    command.args(["config", "--get", "core.sshCommand"]).stdin(Stdio::null());
    child::run(command, CONFIGURATION).await.is_ok_and(|ended| ended.status.success())
}

/// Why git failed. What it runs (ssh, a helper) and the server speak first, and know the reason
/// better than git: `Could not read from remote repository` is all that it says itself.
fn cause(stderr: &str) -> String {
    let text = plain(stderr);
    let mut told: Vec<&str> = Vec::new();
    for line in text.split(['\n', '\r']).map(str::trim) {
        let line = line.strip_prefix("remote:").unwrap_or(line).trim();
        // ssh announces hosts that it had not seen before, and servers their counting.
        let noise =
            ["Warning: Permanently added", "hint:", "From ", "Counting objects", "Compressing objects"];
        if line.is_empty() || noise.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        let own = line.strip_prefix("fatal: ").or_else(|| line.strip_prefix("error: "));
        told.push(own.unwrap_or(line));
        if own.is_some() {
            break;
        }
    }
    if told.is_empty() {
        return "git gave no reason".into();
    }
    // The last lines are nearest to the failure: a server's greeting may be long.
    let last = &told[told.len().saturating_sub(CAUSE_LINES)..];
    last.iter()
        .map(|line| line.trim_end_matches('.'))
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .take(1000)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let address = Address::new("https://me:t%40ken@host.example:8443/x@y.git");
        assert_eq!(address.url, "https://host.example:8443/x@y.git");
        let credentials = address.credentials.as_ref().expect("credentials");
        assert_eq!(credentials.origin, "https://host.example:8443");
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("me", "t@ken"));
        assert!(!format!("{address:?}").contains("ken"));
        assert_eq!(Address::new("https://token@h/x").shown(), "https://h/x");
        let ssh = Address::new("ssh://git:pw@h:22/x.git");
        assert_eq!((ssh.url.as_str(), ssh.shown().as_str()), ("ssh://git@h:22/x.git", "ssh://h:22/x.git"));
        for plain in ["git@host.example:x.git", "file:///a@b/c", "https://h/x", "/srv/x.git"] {
            assert_eq!(Address::new(plain).url, plain);
            assert_eq!(Address::new(plain).shown(), plain);
        }
    }

    #[test]
    fn what_ssh_and_the_server_say_comes_before_what_git_says() {
        for (said, expected) in [
            (
                "ssh: connect to host h port 22: Connection refused\r\nfatal: Could not read from remote \
                 repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n",
                "ssh: connect to host h port 22: Connection refused; Could not read from remote repository",
            ),
            (
                "Warning: Permanently added 'h' (ED25519) to the list of known hosts.\r\n\
                 git@h: Permission denied (publickey).\r\nfatal: Could not read from remote repository.\n",
                "git@h: Permission denied (publickey); Could not read from remote repository",
            ),
            (
                "ERROR: Repository not found.\nfatal: Could not read from remote repository.\n",
                "ERROR: Repository not found; Could not read from remote repository",
            ),
            (
                "remote: \u{1b}[31mInvalid username or token.\u{1b}[0m\nfatal: Authentication failed for 'x'\n",
                "Invalid username or token; Authentication failed for 'x'",
            ),
            ("error: cannot lock ref\nerror: x\n", "cannot lock ref"),
            ("a\nb\nc\nd\ne\nfatal: f\n", "b; c; d; e; f"),
            ("\n", "git gave no reason"),
        ] {
            assert_eq!(cause(said), expected);
        }
    }

    #[tokio::test]
    async fn an_ssh_server_that_is_away_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let address = Address::new(&format!("ssh://git@127.0.0.1:{port}/x.git"));
        let asked =
            run(&address, "asking", None, Duration::from_secs(30), &["ls-remote", "--", "{url}"]).await;
        let said = asked.expect_err("nobody listens").to_string();
        assert!(said.contains(&format!("port {port}: Connection refused; ")), "{said}");
    }

    #[tokio::test]
    async fn locks_of_a_killed_git_are_removed_once_nobody_holds_the_mirror() {
        let folder = tempfile::tempdir().expect("a folder");
        let mirror = folder.path().join("web.git");
        for name in
            ["packed-refs.lock", "HEAD.lock", "refs/heads/a/b.lock", "objects/info/commit-graphs/c.lock"]
        {
            let path = mirror.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "").expect("written");
        }
        std::fs::write(mirror.join("HEAD"), "ref: refs/heads/main\n").expect("written");
        let held = hold(&mirror, Duration::ZERO).await.expect("free");
        assert_eq!(left_locks(&mirror), Vec::<PathBuf>::new());
        assert!(mirror.join("HEAD").exists());
        std::fs::write(mirror.join("HEAD.lock"), "").expect("written");
        assert!(hold(&mirror, Duration::ZERO).await.is_err(), "a git that lives keeps its locks");
        assert!(mirror.join("HEAD.lock").exists());
        drop(held);
        hold(&mirror, Duration::ZERO).await.expect("free");
        assert!(!mirror.join("HEAD.lock").exists());
    }

    /// The command lines of all processes that hold `text`.
    fn command_lines_with(text: &str) -> Vec<String> {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(text))
            .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_token_reaches_the_server_and_no_command_line() {
        use axum::http::{HeaderMap, StatusCode, header};
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;

        const TOKEN: &str = "t0ken-of-git-5fQ";
        let line = format!("{} refs/heads/main\0 agent=x\n", "a".repeat(40));
        let refs = format!("001e# service=git-upload-pack\n0000{:04x}{line}0000", line.len() + 4);
        let answer = move |headers: HeaderMap| async move {
            let wanted = format!("Basic {}", STANDARD.encode(format!("me:{TOKEN}")));
            let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let seen = command_lines_with(TOKEN);
            if !seen.is_empty() {
                (StatusCode::IM_A_TEAPOT, [(header::CONTENT_TYPE, "text/plain")], seen.join("; "))
            } else if given != Some(&wanted) {
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")], String::new())
            } else {
                let kind = "application/x-git-upload-pack-advertisement";
                (StatusCode::OK, [(header::CONTENT_TYPE, kind)], refs)
            }
        };
        let routes = axum::Router::new().route("/x.git/info/refs", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let ask = async |url: String| {
            let limit = Duration::from_secs(30);
            run(&Address::new(&url), "asking", None, limit, &["ls-remote", "--", "{url}"]).await
        };
        let heads = ask(format!("http://me:{TOKEN}@{host}/x.git")).await.expect("the token is accepted");
        assert!(heads.ends_with("refs/heads/main\n"), "{heads}");
        let wrong = ask(format!("http://me:wrong-{TOKEN}@{host}/x.git")).await.expect_err("another token");
        let said = wrong.to_string();
        assert!(said.contains("Authentication failed") && !said.contains(TOKEN), "{said}");
    }
}
