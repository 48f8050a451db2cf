//! Ports of machines that two services ask for.

use crate::model::name::EnvironmentName;
use crate::model::project::Service;
use crate::model::service::ServiceSpec;
use crate::model::setting::Place;
use crate::source::Diagnostic;

/// Reports services that ask for the same port of a machine that both may run on, and one that asks
/// twice, in any environment.
pub fn check(services: &[Service], environments: &[EnvironmentName], problems: &mut Vec<Diagnostic>) {
    let all: Vec<Placed<'_>> = services.iter().map(|one| (&one.wanted.spec, &one.place)).collect();
    check_all(&all, problems);
    for environment in environments {
        if services.iter().any(|service| service.environments.contains_key(environment)) {
            let all: Vec<Placed<'_>> =
                services.iter().map(|one| (&one.in_environment(environment).spec, &one.place)).collect();
            check_all(&all, problems);
        }
    }
}

/// What a service is to be in one environment, and where it stands.
type Placed<'a> = (&'a ServiceSpec, &'a Place);

fn check_all(services: &[Placed<'_>], problems: &mut Vec<Diagnostic>) {
    for (index, (spec, place)) in services.iter().enumerate() {
        let hosts: Vec<_> = spec.ports.iter().filter_map(|port| Some((port.host?, port.protocol))).collect();
        let name = &spec.name;
        for (at, wanted) in hosts.iter().enumerate() {
            let (host, protocol) = (wanted.0, wanted.1.word());
            let port =
                if protocol == "tcp" { format!("port {host}") } else { format!("port {host}/{protocol}") };
            if hosts[..at].contains(wanted) {
                let message = format!("service `{name}` asks twice for {port} of the machine");
                let problem = Diagnostic::error("port-conflict", message).at(&place.file, place.span, "");
                problems
                    .push(problem.help("give each of its ports a `host` of its own, or leave `host` out"));
                continue;
            }
            let rival = services[..index].iter().find(|(other, _)| {
                other.ports.iter().any(|port| port.host == Some(host) && port.protocol == wanted.1)
                    && meet(spec, other)
            });
            if let Some((theirs, there)) = rival.map(|(other, place)| (&other.name, place)) {
                let message = format!("services `{theirs}` and `{name}` both ask for {port} of the machine");
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
fn meet(a: &ServiceSpec, b: &ServiceSpec) -> bool {
    a.placement.iter().all(|(key, value)| b.placement.get(key).is_none_or(|other| other == value))
}
