//! Who may do what on a cluster: levels, patterns of IAM principals, and the policy that
//! maps one to the other.
//!
//! A principal is known by the ARN that STS reports for its credentials. Matching is exact
//! and case-sensitive; `*` in a name stands for any characters but `/`. A pattern without an
//! account is about the account that the cluster runs in and no other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The version of a published policy; raised when a field changes its meaning.
pub const ACCESS_VERSION: u32 = 1;

/// What a person, a server or a token may do. Each level includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Reads the state of the cluster and its audit log.
    Viewer,
    /// Deploys, rolls back, drains and reads logs.
    Deployer,
    /// Does everything, tokens and removal included.
    Admin,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Deployer, Self::Admin];

    /// The word in files, flags and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A text that is not the name of a level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a level: use viewer, deployer or admin")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.word() == text).ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

/// The account that a cluster runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The partition, such as `aws` or `aws-cn`.
    pub partition: String,
    /// The account, 12 digits.
    pub account: String,
}

impl Home {
    /// The account of a principal, by its ARN.
    pub fn of(arn: &str) -> Option<Self> {
        let Arn { partition, account, .. } = Arn::read(arn)?;
        Some(Self { partition: partition.to_owned(), account: account.to_owned() })
    }
}

/// The parts of a principal's ARN.
#[derive(Debug, Clone, Copy)]
struct Arn<'a> {
    partition: &'a str,
    account: &'a str,
    who: Who<'a>,
}

/// What an ARN stands for.
#[derive(Debug, Clone, Copy)]
enum Who<'a> {
    /// The account's root user.
    Root,
    /// A user; its path is empty or ends with `/`.
    User { path: &'a str, name: &'a str },
    /// A role, as IAM writes it.
    Role { path: &'a str, name: &'a str },
    /// A session of a role. STS leaves out the role's path.
    Session { role: &'a str, session: &'a str },
    /// A principal that no pattern describes, such as a federated user.
    Other,
}

impl<'a> Arn<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let ("arn", partition, service, "", account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?)
        else {
            return None;
        };
        if !is_partition(partition) || !is_account(account) {
            return None;
        }
        let who = match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" => Who::Root,
            ("iam", Some(("user", rest))) => {
                let (path, name) = split_path(rest)?;
                Who::User { path, name }
            }
            ("iam", Some(("role", rest))) => {
                let (path, name) = split_path(rest)?;
                Who::Role { path, name }
            }
            ("sts", Some(("assumed-role", rest))) => match rest.split_once('/') {
                Some((role, session)) if is_name(role) && is_name(session) => Who::Session { role, session },
                _ => return None,
            },
            ("iam" | "sts", _) => Who::Other,
            _ => return None,
        };
        Some(Self { partition, account, who })
    }
}

/// `team/web/ada` into `team/web/` and `ada`.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let at = text.rfind('/').map_or(0, |at| at + 1);
    let (path, name) = text.split_at(at);
    (is_name(name) && is_path(path)).then_some((path, name))
}

fn is_partition(text: &str) -> bool {
    text.starts_with("aws") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// What IAM allows in the name of a role, a user or a session.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_name_byte)
}

/// Nothing, or names that each end with `/`.
fn is_path(text: &str) -> bool {
    text.is_empty() || text.strip_suffix('/').is_some_and(|inner| inner.split('/').all(is_name))
}

/// A session that EC2 opened for an instance is named after it.
fn is_instance(session: &str) -> bool {
    session.strip_prefix("i-").is_some_and(|id| {
        (8..=17).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Principals, as `access:` in `fleetwright.yaml` names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    /// The account it is about; `None` for the cluster's own.
    account: Option<Home>,
    subject: Subject,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// Every user and every role of the account, but no instance and not the root user.
    Anyone,
    Root,
    User {
        path: String,
        name: String,
    },
    Role {
        path: String,
        name: String,
    },
}

/// Why a text is not a pattern of principals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It is neither of the forms.
    #[error("it names neither a role nor a user")]
    NoKind,
    /// IAM groups, policies and the like never sign a request.
    #[error("`{0}` is not a kind of principal: no request is ever signed by one")]
    NotAPrincipal(String),
    /// A session instead of its role.
    #[error("it names one session of a role")]
    Session,
    /// The name, or a part of the path, holds something that IAM does not allow.
    #[error("`{0}` is not a name that IAM allows")]
    Name(String),
    /// An ARN whose account is missing or is not 12 digits.
    #[error("the account of an ARN must be 12 digits")]
    Account,
    /// An ARN of another service, or no complete ARN.
    #[error("it is not the ARN of a role or a user")]
    Arn,
    /// A wildcard where STS does not say what it stands for.
    #[error("a role's path can't have `*`, and neither can its name when there is a path")]
    RolePath,
}

impl BadPattern {
    /// What to write instead of `text`.
    pub fn help(&self, text: &str) -> String {
        match self {
            Self::NoKind if is_name(text) => format!("write `role/{text}` or `user/{text}`"),
            Self::NoKind | Self::NotAPrincipal(_) => {
                "write `role/NAME`, `user/NAME`, `root`, `*`, or the ARN of a role or user in another account"
                    .to_owned()
            }
            Self::Session => match text.rsplit(':').next().and_then(|rest| rest.split('/').nth(1)) {
                Some(role) => format!("write `role/{role}`: every session of the role matches it"),
                None => "write `role/NAME`: every session of the role matches it".to_owned(),
            },
            Self::Name(_) => {
                "names have letters, digits and `+=,.@_-`; `*` stands for any of them, but not for `/`"
                    .to_owned()
            }
            Self::Account | Self::Arn => {
                "write it like `arn:aws:iam::123456789012:role/deploy`; each other account is named in full"
                    .to_owned()
            }
            Self::RolePath => {
                "STS does not report the path of a role: leave the path out, or name the role in full"
                    .to_owned()
            }
        }
    }
}

impl Pattern {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has a `*`, so that principals that do not exist yet can match it.
    pub fn has_wildcard(&self) -> bool {
        self.text.contains('*')
    }

    /// Whether the principal with that ARN is meant, for a cluster in `home`.
    pub fn matches(&self, home: &Home, arn: &str) -> bool {
        let Some(arn) = Arn::read(arn) else { return false };
        let account = self.account.as_ref().unwrap_or(home);
        if arn.partition != account.partition || arn.account != account.account {
            return false;
        }
        match (&self.subject, arn.who) {
            (Subject::Root, Who::Root) => true,
            (Subject::Anyone, Who::User { .. } | Who::Role { .. }) => true,
            (Subject::Anyone, Who::Session { session, .. }) => !is_instance(session),
            (Subject::User { path, name }, Who::User { path: p, name: n }) => glob(path, p) && glob(name, n),
            (Subject::Role { path, name }, Who::Role { path: p, name: n }) => path == p && glob(name, n),
            // The name of a role is unique in its account, whatever its path.
            (Subject::Role { name, .. }, Who::Session { role, session }) => {
                glob(name, role) && (name != "*" || !is_instance(session))
            }
            (Subject::Anyone | Subject::Root | Subject::User { .. } | Subject::Role { .. }, _) => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let (account, resource) = match text.strip_prefix("arn:") {
            None => (None, text),
            Some(rest) => {
                let parts: Vec<&str> = rest.splitn(5, ':').collect();
                let [partition, service, region, account, resource] = parts[..] else {
                    return Err(BadPattern::Arn);
                };
                if service == "sts" && resource.starts_with("assumed-role/") {
                    return Err(BadPattern::Session);
                }
                if service != "iam" || !region.is_empty() || !is_partition(partition) {
                    return Err(BadPattern::Arn);
                }
                if !is_account(account) {
                    return Err(BadPattern::Account);
                }
                (Some(Home { partition: partition.to_owned(), account: account.to_owned() }), resource)
            }
        };
        let subject = subject(resource, account.is_some())?;
        Ok(Self { text: text.to_owned(), account, subject })
    }
}

fn subject(resource: &str, of_an_arn: bool) -> Result<Subject, BadPattern> {
    match (resource, resource.split_once('/')) {
        // All of another account would let that account's owner decide.
        ("*", _) if of_an_arn => Err(BadPattern::Arn),
        ("*", _) => Ok(Subject::Anyone),
        ("root", _) => Ok(Subject::Root),
        (_, Some(("user", rest))) => {
            let (path, name) = named(rest)?;
            Ok(Subject::User { path, name })
        }
        (_, Some(("role", rest))) => {
            let (path, name) = named(rest)?;
            if path.contains('*') || (!path.is_empty() && name.contains('*')) {
                return Err(BadPattern::RolePath);
            }
            Ok(Subject::Role { path, name })
        }
        (_, Some(("assumed-role", _))) => Err(BadPattern::Session),
        (_, Some((kind, _))) if is_name(kind) => Err(BadPattern::NotAPrincipal(kind.to_owned())),
        _ => Err(BadPattern::NoKind),
    }
}

/// The path and the name of a pattern; both may have `*`.
fn named(text: &str) -> Result<(String, String), BadPattern> {
    for part in text.split('/') {
        let good = !part.is_empty() && part.bytes().all(|b| is_name_byte(b) || b == b'*');
        if !good {
            return Err(BadPattern::Name(part.to_owned()));
        }
    }
    let at = text.rfind('/').map_or(0, |at| at + 1);
    Ok((text[..at].to_owned(), text[at..].to_owned()))
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

/// Whether `text` is what `pattern` describes; `*` stands for any run of characters but `/`.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star is, and how far the text has been given to it.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match (pattern.get(p), star) {
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(byte), _) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            (_, Some((at, given))) if text[given] != b'/' => {
                star = Some((at, given + 1));
                p = at + 1;
                t = given + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Who has which level on the clusters of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Those who may do everything.
    pub admin: Vec<Pattern>,
    /// Those who deploy.
    pub deployer: Vec<Pattern>,
    /// Those who only read.
    pub viewer: Vec<Pattern>,
}

/// A policy as it is published.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    version: u32,
    admin: Vec<Pattern>,
    deployer: Vec<Pattern>,
    viewer: Vec<Pattern>,
}

/// Why a published policy can't be used. Nobody has access through it then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadablePolicy {
    /// A later version of fleetwright published it.
    #[error("the access policy has version {found}, this version of fleetwright knows {ACCESS_VERSION}")]
    Newer {
        /// The version found.
        found: u32,
    },
    /// It is damaged, or has something that this version does not know.
    #[error("the access policy can't be read: {0}")]
    Malformed(String),
}

impl Policy {
    /// The principals of `level`.
    pub fn of(&self, level: Level) -> &[Pattern] {
        match level {
            Level::Viewer => &self.viewer,
            Level::Deployer => &self.deployer,
            Level::Admin => &self.admin,
        }
    }

    /// Adds `pattern` to `level`.
    pub fn add(&mut self, level: Level, pattern: Pattern) {
        match level {
            Level::Viewer => self.viewer.push(pattern),
            Level::Deployer => self.deployer.push(pattern),
            Level::Admin => self.admin.push(pattern),
        }
    }

    /// The text to publish. Equal policies have equal texts.
    pub fn publish(&self) -> String {
        let published = Published {
            version: ACCESS_VERSION,
            admin: sorted(&self.admin),
            deployer: sorted(&self.deployer),
            viewer: sorted(&self.viewer),
        };
        serde_json::to_string(&published).expect("a structure of texts and one number is JSON")
    }

    /// Reads what was published.
    ///
    /// # Errors
    /// When a later version wrote it, or it is not understood completely.
    pub fn read(text: &str) -> Result<Self, UnreadablePolicy> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |error: serde_json::Error| UnreadablePolicy::Malformed(error.to_string());
        let Version { version } = serde_json::from_str(text).map_err(malformed)?;
        if version != ACCESS_VERSION {
            return Err(UnreadablePolicy::Newer { found: version });
        }
        let Published { admin, deployer, viewer, .. } = serde_json::from_str(text).map_err(malformed)?;
        Ok(Self { admin, deployer, viewer })
    }
}

fn sorted(patterns: &[Pattern]) -> Vec<Pattern> {
    let mut patterns = patterns.to_vec();
    patterns.sort_by(|a, b| a.text.cmp(&b.text));
    patterns.dedup();
    patterns
}

/// The highest level that `policy` gives the principal with that ARN, for a cluster in `home`.
pub fn level_of(policy: &Policy, home: &Home, arn: &str) -> Option<Level> {
    Level::ALL
        .into_iter()
        .rev()
        .find(|level| policy.of(*level).iter().any(|pattern| pattern.matches(home, arn)))
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
