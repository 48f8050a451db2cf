//! Ports of machines that two services ask for.

use crate::model::project::Service;
use crate::source::Diagnostic;

/// Reports services that ask for the same port of a machine that both may run on, and one that asks twice.
pub fn check(services: &[Service], problems: &mut Vec<Diagnostic>) {
    for (index, service) in services.iter().enumerate() {
        let hosts: Vec<u16> = service.spec.ports.iter().filter_map(|port| port.host).collect();
        for (at, host) in hosts.iter().enumerate() {
            let name = &service.spec.name;
            let place = &service.place;
            if hosts[..at].contains(host) {
                let message = format!("service `{name}` asks twice for port {host} of the machine");
                let problem = Diagnostic::error("port-conflict", message).at(&place.file, place.span, "");
                problems
                    .push(problem.help("give each of its ports a `host` of its own, or leave `host` out"));
                continue;
            }
            let rival = services[..index].iter().find(|other| {
                other.spec.ports.iter().any(|port| port.host == Some(*host)) && meet(service, other)
            });
            if let Some(other) = rival {
                let (theirs, there) = (&other.spec.name, &other.place);
                let message =
                    format!("services `{theirs}` and `{name}` both ask for port {host} of the machine");
                problems.push(
                    Diagnostic::error("port-conflict", message)
                        .at(&place.file, place.span, format!("`{theirs}` has it, {there}"))
                        .help("give one of them another `host`, leave `host` out (the engine picks a free one), or keep them apart with `placement`"),
                );
            }
        }
    }
}

/// Whether a machine may run both: it can't where they want different values of the same metadata.
fn meet(a: &Service, b: &Service) -> bool {
    a.spec.placement.iter().all(|(key, value)| b.spec.placement.get(key).is_none_or(|other| other == value))
}
