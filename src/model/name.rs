//! Identities, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {rule}")]
pub struct BadName {
    /// The text given.
    pub text: String,
    /// The kind of name wanted, with its article.
    pub what: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// The rule shared by names people choose: they become parts of CloudFormation stack
/// names, SSM paths and Docker names, so the strictest of those wins.
const NAME_RULE: &str = "use 1 to 40 of a-z, 0-9 and `-`, starting with a letter";

fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { text: text.to_owned(), what: $what, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name! {
    /// The project's name in `fleetwright.yaml`.
    ProjectName, "a project name", NAME_RULE, is_name
}
name! {
    /// An environment of the project, such as `production`.
    EnvironmentName, "an environment name", NAME_RULE, is_name
}
name! {
    /// A stack as the repository calls it; CloudFormation knows it as PROJECT-ENVIRONMENT-STACK.
    StackName, "a stack name", NAME_RULE, is_name
}
name! {
    /// A cluster in `fleetwright.yaml`.
    ClusterName, "a cluster name", NAME_RULE, is_name
}
name! {
    /// A service of a cluster.
    ServiceName, "a service name", NAME_RULE, is_name
}
name! {
    /// A job of a cluster.
    JobName, "a job name", NAME_RULE, is_name
}
name! {
    /// A watched file.
    HostFileName, "the name of a watched file", NAME_RULE, is_name
}
name! {
    /// A pipeline.
    PipelineName, "a pipeline name", NAME_RULE, is_name
}
name! {
    /// A git repository named in `fleetwright.yaml`.
    RepositoryName, "a repository name", NAME_RULE, is_name
}
name! {
    /// A token of a cluster.
    TokenName, "a token's name", NAME_RULE, is_name
}
name! {
    /// A secret of an environment: a part of a parameter's name, and the name of a file.
    SecretName, "a secret's name", "use 1 to 63 letters, digits, `_`, `-` and `.`, starting with a letter",
    |text| (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
name! {
    /// A volume of an environment, kept on one machine.
    VolumeName, "a volume's name", "use 1 to 40 of a-z, 0-9, `_` and `-`, starting with a letter",
    |text| (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}
name! {
    /// A local cloud on this computer; a part of Docker names.
    LocalName, "a local cloud's name", NAME_RULE, is_name
}
name! {
    /// A machine: the id of its EC2 instance, such as `i-0d3c1f2a9b8e7d6c5`.
    MachineId, "a machine id", "use 1 to 64 of a-z, 0-9 and `-`",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
name! {
    /// One boot of a machine, from `/proc/sys/kernel/random/boot_id`: a UUID, which Linux makes at each.
    BootId, "the id of a boot", "use 1 to 64 of a-f, 0-9 and `-`",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-')
}
name! {
    /// A swarm: the id that its engine gave it, and that every certificate of its nodes carries.
    SwarmId, "the id of a swarm", "use 1 to 64 of a-z and 0-9",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
name! {
    /// The digest of an image manifest: `sha256:` and 64 hexadecimal digits.
    Digest, "a digest", "it is `sha256:` followed by 64 hexadecimal digits",
    |text| text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

name! {
    /// A git commit.
    CommitId, "a commit id", "it is 40 digits of 0-9 and a-f",
    |text| text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
name! {
    /// The hash of all that goes into an image; images are tagged with it.
    ImageKey, "an image key", "it is `k-` followed by 64 hexadecimal digits",
    |text| text.strip_prefix("k-").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

name! {
    /// A version of the agent; a part of keys and paths that shells and signatures take as they are.
    AgentVersion, "a version of the agent", "use 1 to 64 of letters, digits, `.`, `_` and `-`, starting with a letter or digit",
    |text| (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
name! {
    /// The SHA-256 of the agent's executable.
    AgentSum, "a SHA-256", "it is 64 digits of 0-9 and a-f",
    |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl AgentSum {
    /// The first twelve digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl CommitId {
    /// The first seven digits.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl ImageKey {
    /// A form short enough for a line: `k-9f2c41ab`.
    pub fn short(&self) -> &str {
        &self.0[..10]
    }
}

impl Digest {
    /// The digest of what has that SHA-256.
    pub fn of_sha256(hash: &[u8; 32]) -> Self {
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}"))
    }

    /// A form short enough for a table: `sha256:9f2c…41ab`.
    pub fn short(&self) -> String {
        let hex = &self.0["sha256:".len()..];
        format!("sha256:{}…{}", &hex[..4], &hex[60..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_the_edge() {
        assert!("web-2".parse::<ServiceName>().is_ok());
        for bad in ["", "Web", "2web", "we b", "../x"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
        assert!("sha256:00".parse::<Digest>().is_err());
        let digest: Digest = format!("sha256:{}41ab", "9f2c".repeat(15)).parse().expect("a digest");
        assert_eq!(digest.short(), "sha256:9f2c…41ab");
    }
}
