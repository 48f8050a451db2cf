//! Roles of IAM that containers have, and the credentials that they get for them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::identity::hash;
use super::secret::Secret;

/// The port at which a container finds the credentials of its role, on its own loopback. Services with a role
/// can't use it.
pub const ROLE_PORT: u16 = 7446;
/// The path there.
pub const ROLE_PATH: &str = "/v1/credentials";
/// The name of the file in `/run/secrets` that holds what a container shows to get them.
pub const TOKEN_FILE: &str = "fleetwright-aws-role";

/// The most characters of a role's name and of its path.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
const NAME_MOST: usize = 64;
const PATH_MOST: usize = 512;
/// What the path begins with below which control machines may take roles on.
const PATH: &str = "fleetwright";

/// Where the credentials are, for whoever shows the token.
pub fn uri() -> String {
    format!("http://127.0.0.1:{ROLE_PORT}{ROLE_PATH}")
}

/// The variables by which the SDKs of AWS find these credentials.
pub fn variables() -> [(&'static str, String); 2] {
    [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", format!("/run/secrets/{TOKEN_FILE}")),
    ]
}

/// Variables that the SDKs read, and that would send them elsewhere.
pub const OTHER_CREDENTIALS: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// A role, as a file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsRole {
    /// By its ARN.
    Arn(String),
    /// By its name: it has the path `/fleetwright/PROJECT/ENVIRONMENT/`, and is in the cluster's account.
    Name(String),
}

/// Why a text is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a role: {why}")]
pub struct BadRole {
    /// The text.
    pub text: String,
    /// Why.
    pub why: &'static str,
}

impl BadRole {
    /// What to write.
    pub const HELP: &str = "write its ARN, such as `arn:aws:iam::123456789012:role/fleetwright/shop/prod/web`, the name \
                            of a role with the path `/fleetwright/PROJECT/ENVIRONMENT/`, or an output of a stack, \
                            `${stack.RoleArn}`";
}

fn is_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    (1..=NAME_MOST).contains(&text.len()) && text.bytes().all(legal)
}

impl FromStr for AwsRole {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        let bad = |why| BadRole { text: text.to_owned(), why };
        if !text.starts_with("arn:") {
            return match text {
                "" => Err(bad("it is empty")),
                _ if text.contains('/') => Err(bad("a name has no path; give the ARN")),
                _ if !is_name(text) => Err(bad("a name has up to 64 letters, digits and `+=,.@_-`")),
                _ => Ok(Self::Name(text.to_owned())),
            };
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else {
            return Err(bad("it is the ARN of something else"));
        };
        if partition.is_empty() || !partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') {
            return Err(bad("the partition of the ARN is not one of AWS"));
        }
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad("the account of the ARN is not a number of 12 digits"));
        }
        let Some(role) = resource.strip_prefix("role/") else {
            return Err(bad("it is the ARN of something else"));
        };
        let (path, name) = role.rsplit_once('/').unwrap_or(("", role));
        let printable = path.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if !is_name(name) || !printable || path.len() > PATH_MOST {
            return Err(bad("the role in the ARN has no valid name"));
        }
        Ok(Self::Arn(text.to_owned()))
    }
}

/// Whose roles those are that are given by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleHome {
    /// AWS's partition, such as `aws`.
    pub partition: String,
    /// The cluster's account.
    pub account: String,
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
}

impl RoleHome {
    /// The ARN of a role.
    pub fn arn(&self, role: &AwsRole) -> String {
        let Self { partition, account, project, environment } = self;
        match role {
            AwsRole::Arn(arn) => arn.clone(),
            AwsRole::Name(name) => {
                format!("arn:{partition}:iam::{account}:role/{PATH}/{project}/{environment}/{name}")
            }
        }
    }
}

/// What a container shows to get the credentials of its role. Every container of a service has the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleToken(Secret<String>);

impl RoleToken {
    /// That token.
    pub fn new(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// The token, for the request that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is kept of it to recognise it. The token has 256 random bits, so nothing can be found from its hash.
    pub fn hash(&self) -> TokenHash {
        TokenHash(hash(self.0.expose().as_bytes()))
    }
}

/// The SHA-256 of a [`RoleToken`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenHash(pub String);

/// A task whose container has a role, as the managers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleTask {
    /// The service and the number of its instance, or the occurrence of a job: `web.2`, `job.nightly.202611290200`.
    pub name: String,
    /// The role, as it was recorded when the task was created.
    pub role: String,
    /// The node that it was placed on.
    pub node: Option<String>,
    /// Whether it is to run, and has not ended.
    pub runs: bool,
    /// The hashes of the tokens that its container has; one.
    pub tokens: Vec<TokenHash>,
}

/// Credentials of a role. They can't be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleCredentials {
    /// The ARN of the role.
    pub role: String,
    /// The id of the key.
    pub key: String,
    /// The key.
    pub secret: Secret<String>,
    /// The session's token.
    pub token: Secret<String>,
    /// When they expire.
    pub expires: DateTime<Utc>,
}

impl fmt::Display for AwsRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arn(text) | Self::Name(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_an_arn_or_a_name() {
        let home = RoleHome {
            partition: "aws-cn".into(),
            account: "111122223333".into(),
            project: "shop".into(),
            environment: "prod".into(),
        };
        let arn = "arn:aws:iam::123456789012:role/fleetwright/shop/prod/web";
        assert_eq!(arn.parse::<AwsRole>().map(|role| home.arn(&role)), Ok(arn.to_owned()));
        let named: AwsRole = "up.loads@x".parse().expect("a name");
        assert_eq!(home.arn(&named), "arn:aws-cn:iam::111122223333:role/fleetwright/shop/prod/up.loads@x");
        for (text, why) in [
            ("", "empty"),
            ("team/web", "give the ARN"),
            ("two words", "up to 64"),
            ("arn:aws:iam::123456789012:user/web", "something else"),
            ("arn:aws:sts::123456789012:assumed-role/web/x", "something else"),
            ("arn:aws:iam::1234:role/web", "12 digits"),
            ("arn:aws:iam::123456789012:role/", "no valid name"),
            ("arn:aws:iam::123456789012:role/a b/web", "no valid name"),
            ("arn:AWS:iam::123456789012:role/web", "partition"),
        ] {
            let error = text.parse::<AwsRole>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_and_tokens_do_not_print() {
        let credentials = RoleCredentials {
            role: "arn".into(),
            key: "AKIA".into(),
            secret: Secret::new("hunter2".into()),
            token: Secret::new("hunter2".into()),
            expires: DateTime::UNIX_EPOCH,
        };
        let token = RoleToken::new("hunter2".into());
        assert!(!format!("{credentials:?} {token:?} {:?}", token.hash()).contains("hunter2"));
        assert_eq!(token.hash().0.len(), 64);
    }
}
