//! Who a caller is: what a proof must look like before it is sent to STS, what its answer
//! makes of the caller, and which node a machine may register. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::NaiveDateTime;

use crate::model::group::{Group, GroupInstance, Lifecycle};
use crate::model::identity::{
    BODY, CLUSTER_HEADER, CONTENT_TYPE, Caller, CallerKind, Exchange, KEY_HEADER, Proof, SignedAsk, VERSION,
    hash,
};
use crate::model::machine::Role;
use crate::model::member::Node;
use crate::model::name::MachineId;
use crate::model::principal::Principal;

pub mod standing;

/// How far from now a proof may have been signed, in seconds: what a lost race with the network
/// and a clock that is a little off take, and no more.
pub const AGE_S: i64 = 300;
/// How long the longest part of a proof may be, which is a session's token.
const LONGEST: usize = 16 * 1024;
/// The tag of a group with the name of its machines' IAM role.
pub const IAM_ROLE_TAG: &str = "fleetwright:iam-role";
/// The tag of a group with what its machines do in the cluster.
pub const ROLE_TAG: &str = "fleetwright:role";
/// What tags of a group begin with that placement can ask for.
pub const METADATA_TAG: &str = "fleetwright:metadata:";
/// Labels that tags can't give: what the control machines themselves say of a machine.
const RESERVED: &[&str] = &["instance", "address", "group", "role", "zone", "drain", "reboot", "registered"];

/// What a proof must be made for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The cluster: the hash of its authority's certificate.
    pub cluster: &'a str,
    /// The region whose STS is asked.
    pub region: &'a str,
    /// Now, in seconds since 1970.
    pub now: i64,
}

/// Why a proof is refused before anybody is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// It is written in another way.
    #[error("the proof of identity has version {has}, and this control machine reads version {VERSION}")]
    Version {
        /// The proof's version.
        has: u32,
    },
    /// It is for another region.
    #[error("the proof of identity is signed for STS in `{has}`, and this cluster asks STS in `{wants}`")]
    Region {
        /// The proof's region.
        has: String,
        /// The cluster's.
        wants: String,
    },
    /// It is for another cluster.
    #[error("the proof of identity is meant for another cluster")]
    Cluster,
    /// The key is not the one in the proof.
    #[error("the proof of identity is not bound to the public key that was sent with it")]
    Key,
    /// It is too old, or from the future.
    #[error(
        "the proof of identity was signed at {date}, more than {AGE_S} s from this control machine's clock. See whether both clocks are right"
    )]
    Age {
        /// When it was signed.
        date: String,
    },
    /// A part is not as the signer makes it.
    #[error("the proof of identity is malformed: {0}")]
    Malformed(&'static str),
}

/// Checks all of a proof that can be checked without AWS, and returns the request that AWS is to judge.
///
/// # Errors
/// When it is not one that this cluster asks AWS about.
pub fn check(exchange: &Exchange, expected: &Expected<'_>) -> Result<SignedAsk, BadProof> {
    let Proof { region, cluster, key, date, session_token, authorization } = &exchange.proof;
    if exchange.version != VERSION {
        return Err(BadProof::Version { has: exchange.version });
    }
    if region != expected.region {
        let has = region.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(BadProof::Region { has, wants: expected.region.to_owned() });
    }
    if cluster != expected.cluster {
        return Err(BadProof::Cluster);
    }
    let bound = exchange.public_key.as_ref().map(|key| hash(key.as_bytes()));
    if *key != bound {
        return Err(BadProof::Key);
    }
    let signed = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ")
        .ok()
        .filter(|_| date.len() == 16)
        .ok_or(BadProof::Malformed("its date is not one"))?;
    if (signed.and_utc().timestamp() - expected.now).abs() > AGE_S {
        return Err(BadProof::Age { date: date.clone() });
    }
    let mut headers = vec![("content-type", CONTENT_TYPE.to_owned()), ("x-amz-date", date.clone())];
    if let Some(token) = session_token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    headers.push((CLUSTER_HEADER, cluster.clone()));
    if let Some(key) = key {
        headers.push((KEY_HEADER, key.clone()));
    }
    let plain = |text: &str| text.len() <= LONGEST && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if !headers.iter().all(|(_, value)| plain(value)) || !plain(authorization) {
        return Err(BadProof::Malformed("a part is too long or has characters that no signer writes"));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    check_authorization(authorization, region, &date[..8], &names)?;
    headers.push(("authorization", authorization.clone()));
    Ok(SignedAsk { headers, body: BODY })
}

/// Checks that a signature is for STS in that region on that day, and covers `host` and all of `names`.
fn check_authorization(text: &str, region: &str, day: &str, names: &[&str]) -> Result<(), BadProof> {
    let malformed = |what| BadProof::Malformed(what);
    let rest = text
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or(malformed("its signature is not made with AWS4-HMAC-SHA256"))?;
    let parts: Vec<&str> = rest.split(", ").collect();
    let [credential, signed, signature] = parts.as_slice() else {
        return Err(malformed("its signature does not have three parts"));
    };
    let scope: Vec<&str> = credential.strip_prefix("Credential=").unwrap_or_default().split('/').collect();
    match scope.as_slice() {
        [key, on, at, "sts", "aws4_request"] if *on == day && *at == region => {
            let sane = (4..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !sane {
                return Err(malformed("its access key is not one"));
            }
        }
        _ => return Err(malformed("its signature is for something else than STS in this region on its day")),
    }
    // All of them and no others: a header that is not signed could be exchanged on the way.
    let mut wanted: Vec<&str> = names.to_vec();
    wanted.push("host");
    wanted.sort_unstable();
    if signed.strip_prefix("SignedHeaders=") != Some(wanted.join(";").as_str()) {
        return Err(malformed("its signature does not cover exactly the headers that bind it"));
    }
    let hex = signature.strip_prefix("Signature=").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(malformed("its signature is not one"));
    }
    Ok(())
}

/// A machine of the cluster, as its group makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its instance.
    pub instance: MachineId,
    /// The role of its group.
    pub role: Role,
    /// Its group.
    pub group: String,
    /// Its availability zone.
    pub zone: String,
    /// What the group's tags say for placement.
    pub metadata: BTreeMap<String, String>,
}

/// Why a caller is not one of the cluster's machines, or not known as a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKnown {
    /// The credentials are not those of an instance.
    #[error(
        "{arn} is not the role of an instance. Machines prove themselves with the credentials of their instance role"
    )]
    NotAnInstance {
        /// Whose they are.
        arn: String,
    },
    /// They are of another account.
    #[error("instance {instance} belongs to account {has}, and the cluster to {wants}")]
    Account {
        /// The instance.
        instance: MachineId,
        /// Its account.
        has: String,
        /// The cluster's.
        wants: String,
    },
    /// No group of the cluster has the instance.
    #[error("instance {instance} is in no group of this cluster")]
    NotInGroup {
        /// The instance.
        instance: MachineId,
    },
    /// The group does not say which IAM role its machines have.
    #[error(
        "group {group} has no tag `{IAM_ROLE_TAG}`, so its machines can't be distinguished from others. Apply its stack with the current template"
    )]
    NoRole {
        /// The group.
        group: String,
    },
    /// The role is another than the group's.
    #[error("instance {instance} has role `{has}`, and the machines of group {group} have `{wants}`")]
    Role {
        /// The instance.
        instance: MachineId,
        /// Its group.
        group: String,
        /// The role that was proved.
        has: String,
        /// The role of the group.
        wants: String,
    },
    /// The group's tag says nothing that is a role in a cluster.
    #[error("group {group} has no tag `{ROLE_TAG}` with `control` or `worker`")]
    NoClusterRole {
        /// The group.
        group: String,
    },
    /// A machine of the cluster asks for a token of a person.
    #[error(
        "instance {instance} is a machine of this cluster. Its agent uses a certificate; nothing else on it has an identity here"
    )]
    IsAMachine {
        /// The instance.
        instance: MachineId,
    },
}

/// The machine that an identity is, by the groups of the cluster as read completely.
///
/// # Errors
/// When it is none of them.
pub fn machine(caller: &Caller, account: &str, groups: &[Group]) -> Result<Member, NotKnown> {
    let not = || NotKnown::NotAnInstance { arn: person(caller).to_string() };
    let CallerKind::Role { role, session } = &caller.kind else { return Err(not()) };
    let instance: MachineId = session.parse().map_err(|_| not())?;
    if !session.starts_with("i-") {
        return Err(not());
    }
    if caller.account != account {
        let (has, wants) = (caller.account.clone(), account.to_owned());
        return Err(NotKnown::Account { instance, has, wants });
    }
    let Some((group, _)) = listed(groups, &instance) else { return Err(NotKnown::NotInGroup { instance }) };
    let Some(wants) = group.tags.get(IAM_ROLE_TAG).filter(|name| !name.is_empty()) else {
        return Err(NotKnown::NoRole { group: group.name.clone() });
    };
    if wants != role {
        let (group, has, wants) = (group.name.clone(), role.clone(), wants.clone());
        return Err(NotKnown::Role { instance, group, has, wants });
    }
    member(groups, &instance)
}

/// The member that an instance is.
///
/// # Errors
/// When no group has it, or its group has no role in the cluster.
pub fn member(groups: &[Group], instance: &MachineId) -> Result<Member, NotKnown> {
    let Some((group, found)) = listed(groups, instance) else {
        return Err(NotKnown::NotInGroup { instance: instance.clone() });
    };
    let role = match group.tags.get(ROLE_TAG).map(String::as_str) {
        Some("control") => Role::Control,
        Some("worker") => Role::Worker,
        _ => return Err(NotKnown::NoClusterRole { group: group.name.clone() }),
    };
    let metadata = group.tags.iter().filter_map(|(key, value)| {
        let key = key.strip_prefix(METADATA_TAG)?;
        (!RESERVED.contains(&key) && !key.is_empty()).then(|| (key.to_owned(), value.clone()))
    });
    Ok(Member {
        instance: instance.clone(),
        role,
        group: group.name.clone(),
        zone: found.zone.clone(),
        metadata: metadata.collect(),
    })
}

/// An instance that is there, and its group. One that waits to be terminated still is: it has to leave.
fn listed<'a>(groups: &'a [Group], instance: &MachineId) -> Option<(&'a Group, &'a GroupInstance)> {
    groups.iter().find_map(|group| {
        let found = group.instances.iter().find(|one| one.id == *instance)?;
        (found.lifecycle != Lifecycle::Terminated).then_some((group, found))
    })
}

/// The person that an identity is.
pub fn person(caller: &Caller) -> Principal {
    let Caller { partition, account, kind } = caller;
    match kind {
        CallerKind::Role { role, session } => Principal::Person {
            arn: format!("arn:{partition}:iam::{account}:role/{role}"),
            session: Some(session.clone()),
        },
        CallerKind::Root => {
            Principal::Person { arn: format!("arn:{partition}:iam::{account}:root"), session: None }
        }
        CallerKind::User(name) => {
            Principal::Person { arn: format!("arn:{partition}:iam::{account}:user/{name}"), session: None }
        }
    }
}

/// The person that an identity is, if it is not one of the cluster's machines: what runs on a
/// machine beside its agent has the same credentials.
///
/// # Errors
/// When it is a machine.
pub fn known_person(caller: &Caller, account: &str, groups: &[Group]) -> Result<Principal, NotKnown> {
    if let CallerKind::Role { session, .. } = &caller.kind
        && caller.account == account
        && let Ok(instance) = session.parse::<MachineId>()
        && listed(groups, &instance).is_some()
    {
        return Err(NotKnown::IsAMachine { instance });
    }
    Ok(person(caller))
}

/// Why a node is not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// There is no such node.
    #[error("there is no node `{node}`")]
    NoNode {
        /// The node.
        node: String,
    },
    /// It connected from elsewhere.
    #[error(
        "node `{node}` is not on the machine that registers it: it connected from {has}, and this request comes from {peer}"
    )]
    Elsewhere {
        /// The node.
        node: String,
        /// Where it connected from.
        has: String,
        /// Where the request comes from.
        peer: IpAddr,
    },
    /// It is another machine's.
    #[error("node `{node}` is registered as machine {machine}")]
    Others {
        /// The node.
        node: String,
        /// Whose it is.
        machine: MachineId,
    },
    /// The machine has another node.
    #[error("machine {machine} is node `{node}` already, and that node answers")]
    Second {
        /// The machine.
        machine: MachineId,
        /// Its node.
        node: String,
    },
}

/// Decides whether `node` is registered as the machine that asks from `peer`.
///
/// # Errors
/// When it is not, with the reason.
pub fn register<'a>(
    nodes: &'a [Node],
    node: &str,
    machine: &MachineId,
    peer: IpAddr,
) -> Result<&'a Node, NotRegistered> {
    let found = nodes.iter().find(|one| one.id == node);
    let Some(found) = found else { return Err(NotRegistered::NoNode { node: node.to_owned() }) };
    if found.address != Some(peer.to_canonical()) {
        let has = found.address.map_or_else(|| "an unknown address".to_owned(), |one| one.to_string());
        return Err(NotRegistered::Elsewhere { node: node.to_owned(), has, peer });
    }
    if let Some(other) = found.instance.as_ref().filter(|known| *known != machine) {
        return Err(NotRegistered::Others { node: node.to_owned(), machine: other.clone() });
    }
    let second = nodes.iter().find(|one| one.id != node && one.instance.as_ref() == Some(machine) && one.up);
    if let Some(second) = second {
        return Err(NotRegistered::Second { machine: machine.clone(), node: second.id.clone() });
    }
    Ok(found)
}

/// The labels of a machine's node. `address` is the one that it was seen at.
pub fn labels(member: &Member, address: IpAddr) -> BTreeMap<String, String> {
    let mut labels = member.metadata.clone();
    for (key, value) in [
        ("instance", member.instance.to_string()),
        ("address", address.to_canonical().to_string()),
        ("group", member.group.clone()),
        ("role", member.role.word().to_owned()),
        ("zone", member.zone.clone()),
    ] {
        labels.insert(key.to_owned(), value);
    }
    labels
}

#[cfg(test)]
mod tests;
