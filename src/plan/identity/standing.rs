//! Whether a machine with a valid certificate is still one of the cluster: asked of AWS every
//! few seconds at most, and answered from what was read last while AWS can't be reached.

use super::{Member, NotKnown, member};
use crate::model::group::Group;
use crate::model::name::MachineId;

/// How old a list may be to be taken as it is, in seconds.
pub const FRESH_S: u64 = 10;
/// How old a list may be to say that an instance is not there, in seconds: it may just have begun.
pub const FRESH_ABSENT_S: u64 = 2;
/// How old a list may be while AWS does not answer, in seconds. A machine that is terminated in
/// such a time keeps its standing for as long; a machine that lives loses it after that, and
/// what runs on it goes on.
pub const STALE_S: u64 = 900;

/// What is known of the groups.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The list that was read completely, and how old it is in seconds.
    pub list: Option<(&'a [Group], u64)>,
    /// Whether reading a newer one has just failed.
    pub failed: bool,
}

/// What follows for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is a machine of the cluster.
    Member(Member),
    /// It is not.
    Not(NotKnown),
    /// Read the groups, then ask again.
    Read,
    /// AWS does not answer, and what is known is too old.
    Unknown,
}

/// Decides on the standing of a machine.
pub fn standing(seen: &Seen<'_>, instance: &MachineId) -> Standing {
    let Some((groups, age)) = seen.list else {
        return if seen.failed { Standing::Unknown } else { Standing::Read };
    };
    let found = member(groups, instance);
    let fresh = if found.is_ok() { FRESH_S } else { FRESH_ABSENT_S };
    match found {
        _ if age > fresh && !seen.failed => Standing::Read,
        Ok(member) if age <= STALE_S => Standing::Member(member),
        Err(not) if age <= fresh => Standing::Not(not),
        // An old list does not know the machines that began after it.
        Ok(_) | Err(_) => Standing::Unknown,
    }
}

#[cfg(test)]
mod tests;
