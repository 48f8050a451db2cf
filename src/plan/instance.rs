//! Which instance is meant, and whether its machine can do what is asked.

use crate::model::feature::Feature;
use crate::model::machine::{Machine, MachineState};
use crate::model::service::{Instance, InstanceState, ServiceStatus};

/// An instance and where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The instance.
    pub instance: &'a Instance,
    /// Its machine.
    pub machine: &'a Machine,
}

/// Why nothing can be done in an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The service has no instance of that name that runs.
    #[error("service `{service}` has no running instance `{wanted}`{}", listed(.running))]
    NoInstance {
        /// The service.
        service: String,
        /// What was asked for.
        wanted: String,
        /// The instances that run.
        running: Vec<String>,
    },
    /// None is healthy.
    #[error("service `{service}` has no healthy instance{}", listed(.running))]
    NoneHealthy {
        /// The service.
        service: String,
        /// The instances that run.
        running: Vec<String>,
    },
    /// Its machine does not answer.
    #[error("instance `{instance}` is on machine {machine}, which does not answer")]
    Down {
        /// The instance.
        instance: String,
        /// Its machine.
        machine: String,
    },
    /// Its machine's agent is of an earlier version.
    #[error(
        "instance `{instance}` is on machine {machine}, whose agent is too old for it (it lacks {}). Upgrade \
         it: give its group's cloud-config this version, then `fleetwright apply` and `fleetwright roll`",
        Feature::Streams
    )]
    TooOld {
        /// The instance.
        instance: String,
        /// Its machine.
        machine: String,
    },
}

fn listed(running: &[String]) -> String {
    match running {
        [] => "; none runs. See `fleetwright status`".to_owned(),
        some => format!("; running: {}", some.join(", ")),
    }
}

/// How well an instance suits a process that is to be executed in it; `None` when it has none.
fn rank(state: InstanceState) -> Option<u8> {
    match state {
        InstanceState::Healthy => Some(2),
        InstanceState::Starting => Some(1),
        InstanceState::Stopping => Some(0),
        InstanceState::Pending | InstanceState::Failed => None,
    }
}

/// The instance of `service` with the name `wanted`, or a healthy one. Of several with one name, as
/// there are during a rollout, the one that is meant to stay.
///
/// # Errors
/// When there is none, or its machine can't do it.
pub fn choose<'a>(
    service: &'a ServiceStatus,
    wanted: Option<&str>,
    machines: &'a [Machine],
) -> Result<Place<'a>, NoPlace> {
    let placed = |instance: &'a Instance| {
        let machine = instance.machine.as_ref()?;
        let machine = machines.iter().find(|one| one.id == *machine)?;
        rank(instance.state).map(|rank| (rank, Place { instance, machine }))
    };
    let places: Vec<(u8, Place<'a>)> = service.instances.iter().filter_map(placed).collect();
    let running = || {
        let mut names: Vec<String> = Vec::new();
        for (_, place) in &places {
            if !names.contains(&place.instance.name) {
                names.push(place.instance.name.clone());
            }
        }
        names
    };
    let usable = |place: &Place<'_>| {
        place.machine.state != MachineState::Down && place.machine.features.has(Feature::Streams)
    };
    let best = match wanted {
        Some(wanted) => places
            .iter()
            .filter(|(_, place)| place.instance.name == wanted)
            .max_by_key(|(rank, place)| (*rank, place.instance.since)),
        None => places
            .iter()
            .filter(|(_, place)| place.instance.state == InstanceState::Healthy)
            // The first of those that can do it.
            .min_by_key(|(_, place)| !usable(place)),
    };
    let Some((_, place)) = best else {
        let service = service.name.to_string();
        return Err(match wanted {
            Some(wanted) => NoPlace::NoInstance { service, wanted: wanted.to_owned(), running: running() },
            None => NoPlace::NoneHealthy { service, running: running() },
        });
    };
    let (instance, machine) = (place.instance.name.clone(), place.machine.id.to_string());
    if place.machine.state == MachineState::Down {
        return Err(NoPlace::Down { instance, machine });
    }
    if !place.machine.features.has(Feature::Streams) {
        return Err(NoPlace::TooOld { instance, machine });
    }
    Ok(*place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;
    use crate::model::feature::Features;
    use crate::model::machine::Role;

    fn instance(name: &str, id: &str, machine: &str, state: InstanceState, since_s: i64) -> Instance {
        Instance {
            id: id.to_owned(),
            name: name.to_owned(),
            machine: machine.parse().ok(),
            addresses: Vec::new(),
            ports: Vec::new(),
            state,
            restarts: 0,
            digest: None,
            message: None,
            since: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(since_s),
        }
    }

    fn machine(id: &str, state: MachineState, features: Features) -> Machine {
        Machine {
            id: id.parse().expect("an id"),
            address: "10.0.0.1".parse().expect("an address"),
            role: Role::Worker,
            state,
            leader: false,
            group: String::new(),
            metadata: BTreeMap::new(),
            features,
            pressure: None,
            host_files: Default::default(),
        }
    }

    fn service(instances: Vec<Instance>) -> ServiceStatus {
        ServiceStatus {
            name: "web".parse().expect("a name"),
            desired: 2,
            scaled_from: None,
            stopped: false,
            instances,
            history: Vec::new(),
        }
    }

    #[test]
    fn the_one_that_stays_is_meant() {
        use InstanceState::{Failed, Healthy, Pending, Starting, Stopping};
        let machines = [
            machine("i-1", MachineState::Ready, Features::own()),
            machine("i-2", MachineState::Draining, Features::own()),
            machine("i-3", MachineState::Down, Features::own()),
            machine("i-4", MachineState::Ready, Features::default()),
        ];
        let web = service(vec![
            instance("web@1", "old", "i-1", Stopping, 1),
            instance("web@1", "new", "i-1", Starting, 9),
            instance("web@2", "t2", "i-4", Healthy, 2),
            instance("web@3", "t3", "i-2", Healthy, 3),
            instance("web@4", "t4", "i-3", Healthy, 3),
            instance("web@5", "t5", "i-1", Failed, 3),
            instance("web@6", "t6", "i-1", Pending, 3),
        ]);
        let chosen = |wanted| choose(&web, wanted, &machines).map(|place| place.instance.id.as_str());
        assert_eq!(chosen(Some("web@1")), Ok("new"));
        assert_eq!(chosen(Some("web@3")), Ok("t3"));
        // Any of those that can do it.
        assert_eq!(chosen(None), Ok("t3"));
        let error = |wanted| choose(&web, wanted, &machines).expect_err("none").to_string();
        assert!(
            error(Some("web@2")).contains("too old for it (it lacks streams)"),
            "{}",
            error(Some("web@2"))
        );
        assert!(error(Some("web@4")).ends_with("on machine i-3, which does not answer"));
        for gone in ["web@5", "web@9"] {
            let text = error(Some(gone));
            assert_eq!(
                text,
                format!(
                    "service `web` has no running instance `{gone}`; running: web@1, web@2, web@3, web@4"
                )
            );
        }
        let none = service(vec![instance("web@1", "t1", "i-1", Failed, 1)]);
        let text = choose(&none, None, &machines).expect_err("none").to_string();
        assert_eq!(text, "service `web` has no healthy instance; none runs. See `fleetwright status`");
    }
}
