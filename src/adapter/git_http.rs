//! Where the branches and tags of a repository stand, over HTTP without a process of git's.
//!
//! A server that polls a thousand repositories would start a thousand of them a minute, each of which reads the
//! authorities of the whole machine. This asks over connections that are kept. It speaks version 2 of git's protocol
//! (gitprotocol-v2(5), gitprotocol-http(5)) and nothing else: whatever is unusual is left to git, which also has the
//! last word on why something fails.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, Response, StatusCode};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::child;
use super::git_command::Address;
use crate::model::name::CommitId;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a repository that did not answer this way is left to git.
const APART: Duration = Duration::from_secs(600);
/// How long git may take to print its configuration.
const CONFIGURATION: Duration = Duration::from_secs(10);
/// The most bytes of an answer: a million references.
const ANSWER_MOST: usize = 128 << 20;

/// Asks repositories.
#[derive(Debug, Clone, Default)]
pub struct GitHttp(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// `None` where git is configured in ways that only git itself follows.
    client: OnceCell<Option<Client>>,
    /// What is known of repositories, by their URLs.
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Clone)]
enum Known {
    /// It speaks version 2, at this URL.
    Speaks(String),
    /// It is left to git since then.
    Apart(Instant),
}

impl GitHttp {
    /// The references of a repository that begin with one of `prefixes`; of a tag that is an object of its own, the
    /// commit that it names. `None` where git is to be asked.
    pub async fn references(
        &self,
        address: &Address,
        prefixes: &[&str],
    ) -> Option<BTreeMap<String, CommitId>> {
        if !address.is_http() {
            return None;
        }
        let client = self.0.client.get_or_init(client).await.clone()?;
        let known = self.lock().get(&address.url).cloned();
        let at = match known {
            Some(Known::Apart(since)) if since.elapsed() < APART => return None,
            Some(Known::Speaks(at)) => Some(at),
            Some(Known::Apart(_)) | None => None,
        };
        let found = ask(&client, address, at, prefixes).await;
        let mut all = self.lock();
        match found {
            Ok((at, found)) => {
                all.insert(address.url.clone(), Known::Speaks(at));
                Some(found)
            }
            Err(reason) => {
                tracing::debug!(url = address.shown(), reason, "leaving a repository to git");
                all.insert(address.url.clone(), Known::Apart(Instant::now()));
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client, unless the user has configured how git connects or which URLs stand for others.
async fn client() -> Option<Client> {
    let mut command = Command::new("git");
    command.args(["config", "--get-regexp", r"^(http|url)\."]).stdin(std::process::Stdio::null());
    let configured = child::run(command, CONFIGURATION).await.map_or(true, |ended| ended.status.success());
    let variables = ["GIT_SSL_NO_VERIFY", "GIT_SSL_CAPATH", "GIT_SSL_CERT", "GIT_PROXY_SSL_CAINFO"];
    if configured || variables.iter().any(|name| std::env::var_os(name).is_some()) {
        return None;
    }
    // A server must not send what is private to one without TLS.
    let policy = Policy::custom(|attempt| {
        let secure = |url: &reqwest::Url| url.scheme() == "https";
        let downgrades = attempt.previous().iter().any(secure) && !secure(attempt.url());
        if downgrades || attempt.previous().len() > 5 { attempt.stop() } else { attempt.follow() }
    });
    let mut builder = Client::builder();
    if let Some(file) = std::env::var_os("GIT_SSL_CAINFO") {
        // As git does: these authorities, and no others.
        let bundle = Certificate::from_pem_bundle(&std::fs::read(file).ok()?).ok()?;
        builder = builder.tls_certs_only(bundle);
    }
    builder
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(policy)
        .user_agent("git/fleetwright")
        .build()
        .ok()
}

/// Asks at `at`, or where the repository says that it is; where it was, and its references.
async fn ask(
    client: &Client,
    address: &Address,
    at: Option<String>,
    prefixes: &[&str],
) -> Result<(String, BTreeMap<String, CommitId>), String> {
    let signed = |request: RequestBuilder| {
        let request = request.header("Git-Protocol", "version=2");
        match address.basic() {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    };
    let at = match at {
        Some(at) => at,
        None => {
            let base = address.url.trim_end_matches('/');
            let request = signed(client.get(format!("{base}/info/refs?service=git-upload-pack")));
            let response = request.send().await.map_err(|error| error.to_string())?;
            let url = response.url().clone();
            let bytes = body(response, "application/x-git-upload-pack-advertisement").await?;
            let lines = lines(&bytes)?;
            let says =
                |text: &str| lines.iter().flatten().any(|line| line.trim_ascii_end() == text.as_bytes());
            let lists = lines.iter().flatten().any(|line| line.starts_with(b"ls-refs"));
            // Another kind of hash has other ids; git knows what to do.
            let is_other = lines
                .iter()
                .flatten()
                .any(|line| line.starts_with(b"object-format=") && !line.starts_with(b"object-format=sha1"));
            if !says("version 2") || !lists || is_other {
                return Err("it does not speak version 2 of the protocol".to_owned());
            }
            // Credentials of one host are not for another that it leads to.
            if address.basic().is_some() && !same_origin(&url, base) {
                return Err("it leads to another host".to_owned());
            }
            let moved = url.as_str().split_once("/info/refs").map(|(before, _)| before.to_owned());
            moved.ok_or("it leads elsewhere")?
        }
    };
    let request = signed(client.post(format!("{at}/git-upload-pack")))
        .header("Content-Type", "application/x-git-upload-pack-request")
        .body(question(prefixes));
    let response = request.send().await.map_err(|error| error.to_string())?;
    let bytes = body(response, "application/x-git-upload-pack-result").await?;
    let mut found = BTreeMap::new();
    for line in lines(&bytes)?.iter().flatten() {
        let (name, id) = reference(line).ok_or("a line of its answer is not understood")?;
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            found.insert(name, id);
        }
    }
    Ok((at, found))
}

fn same_origin(url: &reqwest::Url, base: &str) -> bool {
    reqwest::Url::parse(base).is_ok_and(|base| base.origin() == url.origin())
}

/// The body of an answer of that kind.
async fn body(mut response: Response, kind: &str) -> Result<Vec<u8>, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status()));
    }
    let is_it =
        response.headers().get("content-type").is_some_and(|value| value.as_bytes() == kind.as_bytes());
    if !is_it {
        return Err("its answer is of another kind".to_owned());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MOST {
            return Err("its answer is too long".to_owned());
        }
    }
    Ok(bytes)
}

/// The lines of an answer: each has four hexadecimal digits before it, which count themselves. `None` stands for the end of a
/// section.
fn lines(mut bytes: &[u8]) -> Result<Vec<Option<&[u8]>>, String> {
    let broken = || "its answer is broken".to_owned();
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at_checked(4).ok_or_else(broken)?;
        let digits =
            std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = digits.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or_else(broken)?;
        if length < 4 {
            found.push(None);
            bytes = rest;
            continue;
        }
        let (line, rest) = rest.split_at_checked(length - 4).ok_or_else(broken)?;
        found.push(Some(line));
        bytes = rest;
    }
    Ok(found)
}

/// A request for references.
fn question(prefixes: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let line = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
    };
    line(&mut bytes, "command=ls-refs");
    line(&mut bytes, "object-format=sha1");
    bytes.extend_from_slice(b"0001");
    line(&mut bytes, "peel");
    for prefix in prefixes {
        line(&mut bytes, &format!("ref-prefix {prefix}"));
    }
    bytes.extend_from_slice(b"0000");
    bytes
}

/// `ID NAME`, with ` peeled:ID` after a tag that is an object of its own.
fn reference(line: &[u8]) -> Option<(String, CommitId)> {
    let text = std::str::from_utf8(line).ok()?.trim_end_matches('\n');
    let mut words = text.split(' ');
    let (id, name) = (words.next()?, words.next()?);
    let peeled = words.find_map(|word| word.strip_prefix("peeled:"));
    Some((name.to_owned(), peeled.unwrap_or(id).parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "1111111111111111111111111111111111111111";
    const TAGGED: &str = "2222222222222222222222222222222222222222";

    fn framed(texts: &[&str]) -> Vec<u8> {
        let line = |text: &&str| format!("{:04x}{text}", text.len() + 4);
        (texts.iter().map(line).collect::<String>() + "0000").into_bytes()
    }

    #[test]
    fn a_tag_names_its_commit_and_an_unborn_branch_is_left_to_git() {
        let text = format!("{ID} refs/tags/v1 peeled:{TAGGED}\n");
        let answer = framed(&[&format!("{ID} refs/heads/main\n"), &text]);
        let all = lines(&answer).expect("lines");
        let found: Vec<_> = all.iter().flatten().map(|line| reference(line).expect("a reference")).collect();
        assert_eq!(found[0], ("refs/heads/main".to_owned(), ID.parse().expect("an id")));
        assert_eq!(found[1], ("refs/tags/v1".to_owned(), TAGGED.parse().expect("an id")));
        assert_eq!(reference(b"unborn HEAD symref-target:refs/heads/main"), None);
    }

    #[test]
    fn a_question_is_written_as_the_protocol_says() {
        let bytes = question(&["refs/heads/"]);
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "0014command=ls-refs\n0017object-format=sha1\n00010009peel\n001bref-prefix refs/heads/\n0000"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(256)))]

        #[test]
        fn any_answer_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for line in lines(&bytes).into_iter().flatten().flatten() {
                let _ = reference(line);
            }
        }

        #[test]
        fn what_is_framed_is_read(texts in proptest::collection::vec("[ -~]{0,80}", 0..6)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let bytes = framed(&texts);
            let found = lines(&bytes).expect("lines");
            let read: Vec<&[u8]> = found.iter().flatten().copied().collect();
            prop_assert_eq!(read, texts.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
            prop_assert!(lines(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
