//! Which machine may leave the swarm that it knows and join this cluster now: one at a time, so that
//! what it stops by that runs again before the next one goes. Pure.

use std::fmt;

use crate::model::member::Node;
use crate::model::name::MachineId;
use crate::model::service::ServiceStatus;
use crate::model::standing::HeldTurn;

/// How long a machine may take from its turn to its registration, in seconds.
pub const JOIN_S: i64 = 180;
/// How long services may take to become whole after a machine has joined, in seconds: what they
/// lack may be the machines that wait.
pub const WHOLE_S: i64 = 120;

/// What is decided about a machine that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has the turn already.
    Again,
    /// It gets the turn, after that of the one before is ended, if there is one.
    Grant {
        /// Whether a turn has to be ended first.
        instead: bool,
    },
    /// Not now.
    Wait(Reason),
}

/// Why a machine has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Another machine has the turn and has not joined yet.
    Joining(MachineId),
    /// A machine has joined, and a service is not whole since.
    NotWhole(String),
    /// What ran in the cluster before is not restored yet.
    NotRestored,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joining(machine) => write!(f, "{machine} joins at this moment"),
            Self::NotWhole(service) => {
                write!(f, "service `{service}` does not have all healthy instances yet")
            }
            Self::NotRestored => f.write_str("the cluster's deployments are not restored yet"),
        }
    }
}

/// Whether `machine` may go at `now`, in seconds since 1970.
pub fn turn(
    machine: &MachineId,
    restored: bool,
    held: Option<&HeldTurn>,
    nodes: &[Node],
    services: &[ServiceStatus],
    now: i64,
) -> Verdict {
    if !restored {
        return Verdict::Wait(Reason::NotRestored);
    }
    let Some(held) = held else { return Verdict::Grant { instead: false } };
    let age = now.saturating_sub(held.since);
    if held.machine == *machine && age < JOIN_S {
        return Verdict::Again;
    }
    let joined = nodes.iter().any(|node| node.up && node.instance.as_ref() == Some(&held.machine));
    if !joined {
        return match age < JOIN_S {
            true => Verdict::Wait(Reason::Joining(held.machine.clone())),
            false => Verdict::Grant { instead: true },
        };
    }
    match services.iter().find(|service| !service.is_whole()) {
        Some(service) if age < JOIN_S + WHOLE_S => Verdict::Wait(Reason::NotWhole(service.name.to_string())),
        Some(_) | None => Verdict::Grant { instead: true },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(number: u32) -> MachineId {
        format!("i-{number}").parse().expect("an id")
    }

    fn held(number: u32, since: i64) -> HeldTurn {
        HeldTurn { id: "c1".into(), machine: id(number), since }
    }

    fn node(number: u32, up: bool) -> Node {
        Node {
            id: format!("n{number}"),
            instance: Some(id(number)),
            address: None,
            manager: None,
            up,
            labels: BTreeMap::new(),
            unchanged_s: 0,
        }
    }

    fn service(whole: bool) -> ServiceStatus {
        let name = "web".parse().expect("a name");
        ServiceStatus {
            name,
            desired: u32::from(!whole),
            scaled_from: None,
            stopped: false,
            instances: vec![],
            history: vec![],
        }
    }

    #[test]
    fn nobody_goes_before_the_deployments_are_restored() {
        for held in [None, Some(held(1, 0))] {
            let verdict = turn(&id(1), false, held.as_ref(), &[node(1, true)], &[], 1_000);
            assert_eq!(verdict, Verdict::Wait(Reason::NotRestored));
        }
    }

    #[test]
    fn one_goes_at_a_time_and_an_answer_that_was_lost_is_given_again() {
        assert_eq!(turn(&id(1), true, None, &[], &[], 0), Verdict::Grant { instead: false });
        let first = held(1, 1_000);
        assert_eq!(turn(&id(1), true, Some(&first), &[], &[], 1_001), Verdict::Again);
        let second = |nodes: &[Node], services: &[ServiceStatus], now| {
            turn(&id(2), true, Some(&first), nodes, services, now)
        };
        assert_eq!(second(&[], &[], 1_001), Verdict::Wait(Reason::Joining(id(1))));
        assert_eq!(second(&[node(1, false)], &[], 1_001), Verdict::Wait(Reason::Joining(id(1))));
        let lacking = [service(false)];
        let name = lacking[0].name.to_string();
        assert_eq!(second(&[node(1, true)], &lacking, 1_001), Verdict::Wait(Reason::NotWhole(name)));
        assert_eq!(second(&[node(1, true)], &[service(true)], 1_001), Verdict::Grant { instead: true });
    }

    #[test]
    fn neither_a_machine_that_never_joins_nor_a_service_that_is_never_whole_holds_up_the_others() {
        let first = held(1, 1_000);
        let late = 1_000 + JOIN_S;
        assert_eq!(turn(&id(2), true, Some(&first), &[], &[], late), Verdict::Grant { instead: true });
        let lacking = [service(false)];
        let joined = [node(1, true)];
        let verdict = turn(&id(2), true, Some(&first), &joined, &lacking, late + WHOLE_S);
        assert_eq!(verdict, Verdict::Grant { instead: true });
        // Its own turn, which lapsed, is no reason to refuse it another.
        assert_eq!(turn(&id(1), true, Some(&first), &[], &[], late), Verdict::Grant { instead: true });
    }
}
