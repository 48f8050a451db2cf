//! What a service's containers find in their file system beside their image: secrets, files of the
//! repository, and volumes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{BadName, SecretName, VolumeName};

/// The folder that holds secrets with no other path.
pub const SECRETS: &str = "/run/secrets";
/// The permission bits of secrets and files, unless given.
pub const MODE: u32 = 0o444;
/// The most bytes that the files of one service hold together. They are part of what is kept of each
/// revision, and control machines read all of that often.
pub const FILES_MOST: usize = 100 << 10;

const MANAGER: &str = "secretsmanager:";

/// Where the value of a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// In the environment's own parameter of that name, which `fleetwright secret set` writes.
    Parameter(SecretName),
    /// In Secrets Manager, under that name.
    Manager(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => f.pad(name.as_str()),
            Self::Manager(name) => f.pad(&format!("{MANAGER}{name}")),
        }
    }
}

impl FromStr for SecretRef {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let Some(name) = text.strip_prefix(MANAGER) else { return text.parse().map(Self::Parameter) };
        // The characters that Secrets Manager allows in names, by its API's reference of CreateSecret.
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
        if (1..=512).contains(&name.len()) && name.bytes().all(legal) {
            return Ok(Self::Manager(name.to_owned()));
        }
        Err(BadName {
            text: name.to_owned(),
            what: "the name of a secret of Secrets Manager",
            rule: "use 1 to 512 letters, digits and `/_+=.@-`",
        })
    }
}

impl TryFrom<String> for SecretRef {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl SecretRef {
    /// How a person sets it.
    pub fn how_to_set(&self) -> String {
        match self {
            Self::Parameter(name) => format!("set it with `fleetwright secret set {name}`"),
            Self::Manager(name) => {
                format!("create `{name}` in Secrets Manager, in the environment's region")
            }
        }
    }
}

/// Names of secrets in a message.
pub fn listed(secrets: &[SecretRef]) -> String {
    let names: Vec<String> = secrets.iter().map(|secret| format!("`{secret}`")).collect();
    names.join(", ")
}

/// Which value of a secret. Two values of one secret never have the same version, also where the secret was
/// removed and set again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretVersion(String);

impl SecretVersion {
    /// Version `number` of a parameter, which was written at `seconds` of Unix time. Numbers begin at 1 again
    /// where a parameter was deleted.
    pub fn of_parameter(number: i64, seconds: i64) -> Self {
        Self(format!("{number}.{seconds}"))
    }

    /// The version that Secrets Manager has an id for.
    pub fn of_manager(id: &str) -> Self {
        Self(id.to_owned())
    }

    /// The number of a parameter's version.
    pub fn number(&self) -> Option<i64> {
        self.0.split_once('.')?.0.parse().ok()
    }

    /// The text that is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((number, seconds)) = self.0.split_once('.') else {
            return write!(f, "version {}", self.0);
        };
        let at = seconds.parse().ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
        match at {
            Some(at) => write!(f, "version {number} ({})", at.format("%Y-%m-%d %H:%M:%S")),
            None => write!(f, "version {number}"),
        }
    }
}

/// A secret that a service's containers get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretMount {
    /// Where its value is kept.
    pub from: SecretRef,
    /// The file that holds it.
    pub target: String,
    /// The variable that the container's first process gets it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file's owner and permission bits.
    #[serde(default, skip_serializing_if = "Owned::is_default")]
    pub owned: Owned,
}

/// A file of the repository that a service's containers get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMount {
    /// Where it is in the container.
    pub target: String,
    /// What it holds, rendered.
    pub content: String,
    /// Its owner and permission bits.
    #[serde(default, skip_serializing_if = "Owned::is_default")]
    pub owned: Owned,
}

/// The owner and the permission bits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owned {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

impl Default for Owned {
    fn default() -> Self {
        Self { uid: 0, gid: 0, mode: MODE }
    }
}

impl Owned {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A volume that a service's containers get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// Where it is in the container.
    pub target: String,
    /// What it is.
    pub source: VolumeSource,
    /// Whether the container can't write to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VolumeSource {
    /// A folder that the engine keeps on one machine, which binds the service to it.
    Named(VolumeName),
    /// A folder of an NFS server.
    Nfs {
        /// The server's address or name.
        server: String,
        /// The exported folder.
        path: String,
        /// Options of the mount, beside the address.
        options: String,
    },
    /// A folder of the machine.
    Host(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_by_where_it_is_kept() {
        for text in ["DATABASE_URL", "db-password", "tls.key", "secretsmanager:team/db+1"] {
            let parsed: SecretRef = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(parsed.to_string(), text);
            assert_eq!(serde_json::to_value(&parsed).expect("JSON"), text);
        }
        for text in ["", "-x", "a/b", "a b", "secretsmanager:", "secretsmanager:a b", &"x".repeat(64)] {
            assert!(text.parse::<SecretRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_version_says_when_it_was_written() {
        let version = SecretVersion::of_parameter(3, 1_790_000_000);
        assert_eq!(
            (version.number(), version.to_string().as_str()),
            (Some(3), "version 3 (2026-09-21 14:13:20)")
        );
        let version = SecretVersion::of_manager("EXAMPLE1-90ab-cdef-fedc-ba987EXAMPLE");
        assert_eq!(
            (version.number(), version.to_string().as_str()),
            (None, "version EXAMPLE1-90ab-cdef-fedc-ba987EXAMPLE")
        );
    }
}
