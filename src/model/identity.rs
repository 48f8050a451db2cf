//! Proofs of identity: a request for STS's GetCallerIdentity, signed by whoever wants to be
//! known and sent by whoever wants to know. Only AWS can say whose signature it is.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The version of [`Exchange`] and [`Issued`].
pub const VERSION: u32 = 1;
/// The body that is signed: this call, and no other.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// The type of [`BODY`], which is signed, too.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// The signed header with the cluster that the proof is meant for.
pub const CLUSTER_HEADER: &str = "x-fleetwright-cluster";
/// The signed header with the hash of the machine's public key.
pub const KEY_HEADER: &str = "x-fleetwright-key";

/// The host of STS in a region. It is signed, and follows from the region alone: nobody who
/// proves anything has a say in it.
pub fn sts_host(region: &str) -> String {
    let suffix = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else if region.starts_with("us-iso-") {
        "c2s.ic.gov"
    } else if region.starts_with("us-isob-") {
        "sc2s.sgov.gov"
    } else if region.starts_with("eusc-") {
        "amazonaws.eu"
    } else {
        "amazonaws.com"
    };
    format!("sts.{region}.{suffix}")
}

/// The SHA-256 of a text, as hexadecimal digits.
pub fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What of a signed request its recipient does not know already: method, host, path and body are fixed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The region that the request is signed for.
    pub region: String,
    /// The cluster that the proof is meant for: the hash of its authority's certificate.
    pub cluster: String,
    /// The hash of the machine's public key; `None` for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it was signed, such as `20261128T171326Z`.
    pub date: String,
    /// The session's token, where the credentials have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// The header `authorization`, with the signature.
    pub authorization: String,
}

impl fmt::Debug for Proof {
    /// Leaves out what could be used again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("region", &self.region)
            .field("cluster", &self.cluster)
            .field("key", &self.key)
            .field("date", &self.date)
            .finish_non_exhaustive()
    }
}

/// What is sent to a control machine to become known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// [`VERSION`].
    pub version: u32,
    /// Who it is.
    pub proof: Proof,
    /// A machine's public key, as PEM, whose hash is in the proof; `None` for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// [`VERSION`].
    pub version: u32,
    /// How long it is valid from now on, in seconds.
    pub valid_s: u64,
    /// For a machine: a certificate for its key, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// For a person: a token to bear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl fmt::Debug for Issued {
    /// Leaves out the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("version", &self.version)
            .field("valid_s", &self.valid_s)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The one request that a proof stands for. Method (POST), path (`/`) and host are fixed, too.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedAsk {
    /// Its headers, but for `host`.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: &'static str,
}

/// Whose credentials they were that signed a proof, as AWS answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// `aws`, `aws-cn`, and so on.
    pub partition: String,
    /// The account.
    pub account: String,
    /// What in the account.
    pub kind: CallerKind,
}

/// What in an account makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerKind {
    /// A session of a role. Sessions that EC2 makes for an instance are named by its id.
    Role {
        /// The role's name, without its path.
        role: String,
        /// The session's name.
        session: String,
    },
    /// A user, by its path and name.
    User(String),
    /// The account itself.
    Root,
}

/// Why an ARN is not the identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a user, nor a role's session, nor an account")]
pub struct BadCaller(String);

impl Caller {
    /// Reads the ARN that STS answers with.
    ///
    /// # Errors
    /// When it is something else, such as a federated user, or no ARN.
    pub fn read(arn: &str) -> Result<Self, BadCaller> {
        let bad = || BadCaller(arn.chars().take(200).collect());
        let mut parts = arn.splitn(6, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (head, partition, service, region, account, rest) =
            (part(), part(), part(), part(), part(), part());
        let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        if head != "arn" || partition.is_empty() || !region.is_empty() || !digits {
            return Err(bad());
        }
        let kind = match (service, rest.split_once('/')) {
            ("sts", Some(("assumed-role", rest))) => match rest.split_once('/') {
                Some((role, session))
                    if !role.is_empty() && !session.is_empty() && !session.contains('/') =>
                {
                    CallerKind::Role { role: role.to_owned(), session: session.to_owned() }
                }
                _ => return Err(bad()),
            },
            ("iam", None) if rest == "root" => CallerKind::Root,
            ("iam", Some(("user", name))) if !name.is_empty() => CallerKind::User(name.to_owned()),
            _ => return Err(bad()),
        };
        Ok(Self { partition: partition.to_owned(), account: account.to_owned(), kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_users_and_sessions_of_roles() {
        let caller =
            Caller::read("arn:aws:sts::123456789012:assumed-role/demo-worker/i-0abc").expect("a role");
        assert_eq!(caller.account, "123456789012");
        assert_eq!(caller.kind, CallerKind::Role { role: "demo-worker".into(), session: "i-0abc".into() });
        let user = Caller::read("arn:aws-cn:iam::123456789012:user/team/ann").expect("a user");
        assert_eq!((user.partition.as_str(), user.kind), ("aws-cn", CallerKind::User("team/ann".into())));
        for bad in [
            "",
            "arn:aws:iam::123456789012:root/x",
            "arn:aws:sts::123456789012:root",
            "arn:aws:sts::123456789012:federated-user/ann",
            "arn:aws:sts::123456789012:assumed-role/demo-worker",
            "arn:aws:sts::123456789012:assumed-role/demo-worker/",
            "arn:aws:sts::123456789012:assumed-role/demo/worker/i-0abc",
            "arn:aws:sts::12345678901a:assumed-role/demo-worker/i-0abc",
            "arn:aws:sts:eu-west-1:123456789012:assumed-role/demo-worker/i-0abc",
            "arn:aws:iam::123456789012:assumed-role/demo-worker/i-0abc",
            "arn:aws:iam::123456789012:user/",
        ] {
            Caller::read(bad).expect_err(bad);
        }
    }

    #[test]
    fn proofs_keep_their_sent_form_and_do_not_print_what_could_be_used_again() {
        let text = r#"{"version":1,"proof":{"region":"eu-west-1","cluster":"c0","key":"k0","date":"20261128T171326Z","session_token":"secret-a","authorization":"secret-b"},"public_key":"PEM"}"#;
        let exchange: Exchange = serde_json::from_str(text).expect("JSON");
        assert_eq!(serde_json::to_string(&exchange).expect("JSON"), text);
        assert!(!format!("{exchange:?}").contains("secret"), "{exchange:?}");
        let unknown = text.replace("\"region\"", "\"host\":\"sts.evil.example\",\"region\"");
        serde_json::from_str::<Exchange>(&unknown).expect_err("nobody names a host");
    }

    #[test]
    fn the_host_follows_from_the_region() {
        assert_eq!(sts_host("eu-west-1"), "sts.eu-west-1.amazonaws.com");
        assert_eq!(sts_host("us-gov-west-1"), "sts.us-gov-west-1.amazonaws.com");
        assert_eq!(sts_host("cn-north-1"), "sts.cn-north-1.amazonaws.com.cn");
    }
}
