//! The order of services: what they depend on exists, and does not depend on them.

use std::collections::{BTreeMap, BTreeSet};

use super::with_suggestion;
use crate::model::name::{EnvironmentName, ServiceName};
use crate::model::project::{Service, Wanted};
use crate::source::Diagnostic;

/// What each service depends on.
type DependsOn<'w> = BTreeMap<&'w ServiceName, &'w Wanted>;

/// Reports services that do not exist, unless `complete` is false because a file could not be read, and the
/// first circle.
pub fn check(
    services: &[Service],
    environments: &[EnvironmentName],
    complete: bool,
    problems: &mut Vec<Diagnostic>,
) {
    let known: Vec<&str> = services.iter().map(|service| service.name().as_str()).collect();
    let mut reported = BTreeSet::new();
    for service in services.iter().filter(|_| complete) {
        for wanted in std::iter::once(&service.wanted).chain(service.environments.values()) {
            for (name, place) in &wanted.depends_on {
                if known.contains(&name.as_str()) || !reported.insert((service.name(), name)) {
                    continue;
                }
                let diagnostic =
                    Diagnostic::error("unknown-service", format!("there is no service `{name}`"));
                problems.push(with_suggestion(
                    diagnostic,
                    &place.file,
                    place.span,
                    name.as_str(),
                    &known,
                    "services/",
                ));
            }
        }
    }
    let each = environments.iter().map(Some).chain(environments.is_empty().then_some(None));
    for environment in each {
        let wanted: DependsOn<'_> = services
            .iter()
            .map(|service| {
                let wanted = environment.map_or(&service.wanted, |name| service.in_environment(name));
                (service.name(), wanted)
            })
            .collect();
        if let Some(circle) = circle(&wanted) {
            report(&circle, &wanted, problems);
            return;
        }
    }
}

fn report(circle: &[&ServiceName], services: &DependsOn<'_>, problems: &mut Vec<Diagnostic>) {
    let Some(first) = circle.first() else { return };
    let next = circle.get(1).unwrap_or(first);
    let names: Vec<String> = circle.iter().chain([first]).map(|name| format!("`{name}`")).collect();
    let message = format!("services depend on each other in a circle: {}", names.join(" -> "));
    let mut diagnostic = Diagnostic::error("service-cycle", message);
    let place = services
        .get(*first)
        .and_then(|wanted| wanted.depends_on.iter().find(|(name, _)| name == *next))
        .map(|(_, place)| place);
    if let Some(place) = place {
        diagnostic = diagnostic.at(&place.file, place.span, format!("`{first}` depends on `{next}`"));
    }
    let help =
        "`depends_on` only orders rollouts; services that need each other while they run need no entry";
    problems.push(diagnostic.help(help));
}

/// The first circle, each service with the one that it depends on after it.
fn circle<'w>(services: &DependsOn<'w>) -> Option<Vec<&'w ServiceName>> {
    services.keys().find_map(|start| way_back(start, start, services, &mut BTreeSet::new()))
}

/// The services from `at` that lead to `start`.
fn way_back<'w>(
    start: &ServiceName,
    at: &ServiceName,
    services: &DependsOn<'w>,
    seen: &mut BTreeSet<&'w ServiceName>,
) -> Option<Vec<&'w ServiceName>> {
    let (at, wanted) = services.get_key_value(at)?;
    for (next, _) in &wanted.depends_on {
        if next == start {
            return Some(vec![*at]);
        }
        if seen.insert(next)
            && let Some(mut way) = way_back(start, next, services, seen)
        {
            way.insert(0, *at);
            return Some(way);
        }
    }
    None
}
