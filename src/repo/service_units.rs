//! The units of services: rendered for each environment, checked as systemd would read them, and what `[X-Fleet]` asks
//! of a scheduler carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tera::Context;

use super::templates::{FOLDER, Templates};
use super::with_suggestion;
use crate::model::mount::FILES_MOST;
use crate::model::name::ServiceName;
use crate::model::project::{Environment, Service, UnitSource};
use crate::model::service::{Scale, ServiceSpec};
use crate::model::setting::Place;
use crate::model::unit::UnitSet;
use crate::source::{Diagnostic, SourceFile, Span};
use crate::unit::{
    Entry, Kind, Options, Unit, UnitName, check, check_set, fleet_options, instance_of_ec2, is_true,
    time_span,
};

/// The folder with the templates of units, within that of templates.
const UNITS: &str = "units/";
/// What belongs to a service of the same name, and is started with it.
const COMPANIONS: [Kind; 3] = [Kind::Socket, Kind::Timer, Kind::Path];
/// Renders the units of services for each environment.
pub fn render(
    services: &mut [Service],
    context_of: &dyn Fn(&Environment) -> Context,
    environments: &[Environment],
    sources: &[Arc<SourceFile>],
    problems: &mut Vec<Diagnostic>,
) {
    let has_units = |one: &Service| {
        one.wanted.units.is_some() || one.environments.values().any(|wanted| wanted.units.is_some())
    };
    if !services.iter().any(has_units) {
        return;
    }
    let templates = Templates::parse(sources, &mut Vec::new());
    for environment in environments {
        let mut asked: Vec<(ServiceName, Asked)> = Vec::new();
        for service in services.iter_mut().filter(|service| has_units(service)) {
            let mut wanted = service.in_environment(&environment.name).clone();
            let Some(source) = wanted.units.clone() else { continue };
            let mut context = context_of(environment);
            context.insert("service", wanted.spec.name.as_str());
            context.insert("env", &wanted.spec.environment);
            let Some((set, units)) = set(&source, &templates, &context, problems) else { continue };
            wanted.spec.units = Some(set);
            let fleet = asks(&mut wanted.spec, &source, &units, &service.place, problems);
            checked(&wanted.spec, &units, problems);
            asked.push((wanted.spec.name.clone(), fleet));
            service.environments.insert(environment.name.clone(), wanted);
        }
        let apart = keep_apart(&asked);
        for service in services.iter_mut() {
            let Some(wanted) = service.environments.get_mut(&environment.name) else { continue };
            if let (Some(units), Some(numbers)) = (&mut wanted.spec.units, apart.get(&wanted.spec.name)) {
                units.apart = numbers.iter().copied().collect();
            }
        }
    }
    // Environments often render the same, and one report is enough.
    let mut seen: Vec<Diagnostic> = Vec::new();
    problems.retain(|problem| {
        let is_new = !seen.contains(problem);
        if is_new {
            seen.push(problem.clone());
        }
        is_new
    });
}

/// The rendered units of a service, by name.
type Units = BTreeMap<String, Unit>;

fn set(
    source: &UnitSource,
    templates: &Templates,
    context: &Context,
    problems: &mut Vec<Diagnostic>,
) -> Option<(UnitSet, Units)> {
    let mut start: Vec<String> = Vec::new();
    let mut units = Units::new();
    let mut complete = true;
    for (name, place) in &source.start {
        let Some(unit) = rendered(name, place, templates, context, problems) else {
            complete = false;
            continue;
        };
        if let Some((activated, named)) = activated_by(name, &unit)
            && !source.start.iter().any(|(one, _)| *one == activated)
            // One that is named may be the machine's own.
            && (!named || templates.has_file(&format!("{UNITS}{activated}")))
        {
            match rendered(&activated, place, templates, context, problems) {
                Some(unit) => drop(units.insert(activated, unit)),
                None => complete = false,
            }
        }
        units.insert(name.clone(), unit);
        let mut activated = false;
        for companion in companions(name).filter(|name| templates.has_file(&format!("{UNITS}{name}"))) {
            if source.start.iter().any(|(named, _)| *named == companion) {
                continue;
            }
            let Some(unit) = rendered(&companion, place, templates, context, problems) else {
                complete = false;
                continue;
            };
            // A timer or a path starts the service when it is time.
            activated |= !companion.ends_with(".socket");
            units.insert(companion.clone(), unit);
            start.push(companion);
        }
        if !activated {
            start.push(name.clone());
        }
    }
    let total: usize = units.values().map(|unit| unit.file().source().text().len()).sum();
    if let (Some((_, place)), true) = (source.start.first(), total > FILES_MOST) {
        let message = format!(
            "the units hold {} KiB together, and a service can have {} KiB",
            total >> 10,
            FILES_MOST >> 10
        );
        problems.push(Diagnostic::error("out-of-range", message).at(&place.file, place.span, ""));
        complete = false;
    }
    let files =
        units.iter().map(|(name, unit)| (name.clone(), unit.file().source().text().to_owned())).collect();
    let set = UnitSet {
        start,
        files,
        exclusive: source.exclusive,
        on_disconnect: source.on_disconnect,
        apart: Vec::new(),
    };
    complete.then_some((set, units))
}

/// The unit that a socket, a timer or a path starts, and whether it names it. From systemd.socket(5), systemd.timer(5)
/// and systemd.path(5).
fn activated_by(name: &str, unit: &Unit) -> Option<(String, bool)> {
    let parsed = UnitName::parse(name).ok()?;
    let (section, key) = match parsed.kind() {
        Kind::Socket => ("Socket", "Service"),
        Kind::Timer => ("Timer", "Unit"),
        Kind::Path => ("Path", "Unit"),
        _ => return None,
    };
    let says = |key: &str| {
        let of = |(of, entry): &(&str, &Entry)| *of == section && entry.key.as_str() == key;
        unit.file().entries().filter(of).last().map(|(_, entry)| entry.value.as_str().to_owned())
    };
    if let Some(named) = says(key) {
        return Some((named, true));
    }
    let stem = name.rsplit_once('.')?.0;
    let each = section == "Socket" && says("Accept").is_some_and(|value| is_true(&value));
    let at = if each && !stem.ends_with('@') { "@" } else { "" };
    Some((format!("{stem}{at}.service"), false))
}

/// The units that belong to a service by their name.
fn companions(name: &str) -> impl Iterator<Item = String> {
    let stem = name.strip_suffix(".service").map(str::to_owned);
    COMPANIONS.into_iter().filter_map(move |kind| Some(format!("{}.{}", stem.as_ref()?, kind.suffix())))
}

fn rendered(
    name: &str,
    place: &Place,
    templates: &Templates,
    context: &Context,
    problems: &mut Vec<Diagnostic>,
) -> Option<Unit> {
    let template = format!("{UNITS}{name}");
    let Some(source) = templates.file(&template) else {
        let known: Vec<&str> = templates.names(UNITS).collect();
        let diagnostic =
            Diagnostic::error("missing-template", format!("there is no file {FOLDER}{template}"));
        let folder = format!("{FOLDER}{UNITS}");
        problems.push(with_suggestion(diagnostic, &place.file, place.span, name, &known, &folder));
        return None;
    };
    if !templates.is_parsed(&template) {
        return None;
    }
    match templates.render(&template, || context.clone()) {
        // A place in a text without instructions is one in its template.
        Ok((text, _)) if text == source.text() => Some(Unit::read(source)),
        Ok((text, _)) => Some(Unit::parse(&format!("{FOLDER}{template}"), text)),
        Err(found) => {
            problems.extend(found);
            None
        }
    }
}

/// What a service asks of the scheduler beside its own keys.
#[derive(Debug, Default)]
struct Asked {
    /// Patterns of units that it is never on one machine with.
    conflicts: Vec<String>,
    /// Its own units.
    units: Vec<String>,
}

/// Carries `[X-Fleet]` out.
fn asks(
    spec: &mut ServiceSpec,
    source: &UnitSource,
    units: &Units,
    place: &Place,
    problems: &mut Vec<Diagnostic>,
) -> Asked {
    let mut asked = Asked { conflicts: Vec::new(), units: units.keys().cloned().collect() };
    let started: Vec<&str> = source.start.iter().map(|(name, _)| name.as_str()).collect();
    let mut metadata: BTreeMap<String, String> = BTreeMap::new();
    for (name, unit) in units {
        let mut machine = false;
        for (key, entry) in fleet_options(unit) {
            let mut refuse = |message: String, help: &str| {
                let file = unit.file().source();
                let diagnostic = Diagnostic::error("x-fleet", message).at(file, entry.key.span(), "");
                problems.push(diagnostic.help(help.to_owned()));
            };
            let Some(value) = expanded(entry.value.as_str(), name) else {
                refuse(
                    format!(
                        "`{key}=` of `{name}` differs from instance to instance, which share one placement"
                    ),
                    "write a service for each; `max_per_machine: 1` and `spread: zone` distribute the instances of one",
                );
                continue;
            };
            let value = value.as_str();
            let words = value.split_whitespace().map(|word| word.trim_matches('"'));
            match key {
                "Global" if is_true(value) => match (spec.scale, source.counted) {
                    (Scale::EveryMachine, _) | (_, false) => spec.scale = Scale::EveryMachine,
                    (Scale::Replicas(_), true) => refuse(
                        format!(
                            "`Global=true` of `{name}` and `replicas` of service `{}` exclude each other",
                            spec.name
                        ),
                        "remove one of them",
                    ),
                },
                "MachineMetadata" => {
                    for (key, value) in words.filter_map(|word| word.split_once('=')) {
                        let before = metadata.insert(key.to_owned(), value.to_owned());
                        if before.is_some_and(|before| before != value) {
                            refuse(
                                format!(
                                    "`MachineMetadata=` asks for two values of `{key}`, and fleet took either"
                                ),
                                "give the machines of both a tag in common, `fleetwright:metadata:KEY`, and ask for that",
                            );
                        }
                    }
                }
                "MachineOf" => {
                    for other in words.filter(|other| !started.contains(other)) {
                        refuse(
                            format!(
                                "`{name}` follows `{other}`, which is no unit of service `{}`",
                                spec.name
                            ),
                            "units that share a machine are one service: name both in its `units`",
                        );
                    }
                }
                "Conflicts" => asked.conflicts.extend(words.map(str::to_owned)),
                // Of several in one unit, fleet takes the first.
                "MachineID" if machine => {}
                "MachineID" if instance_of_ec2(value).is_some() => {
                    machine = true;
                    let before = metadata.insert("instance".to_owned(), value.to_owned());
                    if before.is_some_and(|before| before != value) {
                        refuse(
                            format!("the units of service `{}` are bound to different machines", spec.name),
                            "units of one service share a machine: remove one `MachineID=`, or make them two services",
                        );
                    }
                }
                "MachineID" => refuse(
                    format!("`{value}` is no machine of this platform"),
                    "write an id that `fleetwright machines` lists, such as `MachineID=i-0abc12345678def00`; or tag \
                     the machine's group `fleetwright:metadata:KEY`, write `MachineMetadata=KEY=VALUE`, and the \
                     unit survives the machine",
                ),
                "Replaces" => refuse(
                    format!("`{name}` would push other units off their machine"),
                    "use `Conflicts=` to keep them apart, or give the units `resources`",
                ),
                // What is wrong with it is reported with the rest of the unit.
                _ => {}
            }
        }
    }
    for (key, value) in metadata {
        match spec.placement.get(&key) {
            Some(other) if *other != value => {
                let message = format!(
                    "`placement` of service `{}` and `[X-Fleet]` ask for different values of `{key}`",
                    spec.name
                );
                problems.push(Diagnostic::error("x-fleet", message).at(&place.file, place.span, ""));
            }
            _ => drop(spec.placement.insert(key, value)),
        }
    }
    // Instances of a template that keep away from each other.
    if asked.conflicts.iter().any(|pattern| asked.units.iter().any(|unit| matches(pattern, unit)))
        && spec.scale != Scale::EveryMachine
    {
        spec.container.max_per_machine.get_or_insert(1);
    }
    asked
}

/// A value with fleet's specifiers replaced, unless they differ between instances of a template.
fn expanded(value: &str, unit: &str) -> Option<String> {
    let whole = unit.rsplit_once('.').map_or(unit, |(whole, _)| whole);
    let (prefix, is_template) = whole.split_once('@').map_or((whole, false), |(prefix, _)| (prefix, true));
    let of_instances = ["%i", "%n", "%N"].iter().any(|specifier| value.contains(specifier));
    if is_template && of_instances {
        return None;
    }
    Some(value.replace("%p", prefix).replace("%n", unit).replace("%N", whole).replace("%i", ""))
}

/// Whether a pattern of fleet's matches a unit; one of instances matches their template.
fn matches(pattern: &str, unit: &str) -> bool {
    let instance = unit.replace("@.", "@1.");
    crate::unit::matches(pattern, unit) || crate::unit::matches(pattern, &instance)
}

/// A number for each two services that may not share a machine: each reserves it, so the scheduler keeps them apart.
fn keep_apart(asked: &[(ServiceName, Asked)]) -> BTreeMap<ServiceName, BTreeSet<u16>> {
    let mut pairs: BTreeSet<(&ServiceName, &ServiceName)> = BTreeSet::new();
    for (service, of) in asked {
        for (other, theirs) in asked.iter().filter(|(other, _)| other != service) {
            let conflict =
                of.conflicts.iter().any(|pattern| theirs.units.iter().any(|unit| matches(pattern, unit)));
            if conflict {
                pairs.insert((service.min(other), service.max(other)));
            }
        }
    }
    let mut taken = BTreeSet::new();
    let mut found: BTreeMap<ServiceName, BTreeSet<u16>> = BTreeMap::new();
    for (one, other) in pairs {
        let mut number = number(one, other);
        while !taken.insert(number) {
            number = if number == u16::MAX { FIRST } else { number + 1 };
        }
        for service in [one, other] {
            found.entry(service.clone()).or_default().insert(number);
        }
    }
    found
}

/// The least number that is reserved.
const FIRST: u16 = 1024;

/// A number that follows from the names alone, so that another pair changes nothing about this one.
fn number(one: &ServiceName, other: &ServiceName) -> u16 {
    use sha2::{Digest as _, Sha256};
    let hash = Sha256::digest(format!("{one} {other}"));
    let number = u32::from(u16::from_be_bytes([hash[0], hash[1]]));
    let range = u32::from(u16::MAX - FIRST);
    u16::try_from(u32::from(FIRST) + number % range).unwrap_or(FIRST)
}

/// Checks units as systemd would read them, and against what the service says.
fn checked(spec: &ServiceSpec, units: &Units, problems: &mut Vec<Diagnostic>) {
    for unit in units.values() {
        problems.extend(check(unit, &Options::default()));
        let Some(name) = unit.name() else { continue };
        let file = unit.file().source();
        let entry = |section: &str, key: &str| {
            let found =
                unit.file().entries().filter(|(of, entry)| *of == section && entry.key.as_str() == key);
            found.map(|(_, entry)| entry).last()
        };
        if name.kind() != Kind::Service {
            continue;
        }
        for key in ["TimeoutStopSec", "TimeoutSec"] {
            let Some(said) = entry("Service", key) else { continue };
            let too_long = time_span(said.value.as_str()).is_none_or(|time| time > spec.drain);
            if too_long {
                let message = format!(
                    "`{key}={}` is longer than `stop_grace_period` of service `{}`, after which the unit counts as stopped",
                    said.value.as_str(),
                    spec.name
                );
                let diagnostic = Diagnostic::error("unit-outlives", message).at(file, said.key.span(), "");
                problems.push(
                    diagnostic.help("raise `stop_grace_period` in services/, or shorten the time".to_owned()),
                );
            }
        }
        let is =
            |key: &str, value: &str| entry("Service", key).is_some_and(|entry| entry.value.as_str() == value);
        let starts = spec.units.as_ref().is_some_and(|set| set.start.iter().any(|one| one == name.as_str()));
        if starts
            && is("Type", "oneshot")
            && !entry("Service", "RemainAfterExit").is_some_and(|one| is_true(one.value.as_str()))
        {
            let message =
                format!("`{name}` ends as soon as it has done its work, and would be started again for ever");
            let span = entry("Service", "Type").map_or(Span::default(), |entry| entry.key.span());
            let diagnostic = Diagnostic::error("unit-ends", message).at(file, span, "");
            problems.push(
                diagnostic.help(
                    "add `RemainAfterExit=yes`, add a timer of the same name beside it, or make it a job"
                        .to_owned(),
                ),
            );
        }
    }
    let all: Vec<Unit> = units.values().cloned().collect();
    // What else is on the machine is not known here.
    let known = |name: &str| UnitName::parse(name).is_ok();
    problems.extend(check_set(&all, &known));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, units: &[&str], conflicts: &[&str]) -> (ServiceName, Asked) {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        (name.parse().expect("a name"), Asked { conflicts: texts(conflicts), units: texts(units) })
    }

    #[test]
    fn services_that_conflict_share_a_number_and_no_other_does() {
        let web = asked("web", &["web@.service"], &["batch*", "web@*.service"]);
        let (batch, cache) =
            (asked("batch", &["batch.service"], &[]), asked("cache", &["cache.service"], &[]));
        let apart = keep_apart(&[web, batch, cache]);
        let of = |name: &str| apart.get(&name.parse().expect("a name")).cloned().unwrap_or_default();
        assert_eq!(of("web"), of("batch"));
        assert_eq!((of("web").len(), of("cache").len()), (1, 0));
        // Another pair changes nothing about this one, so it restarts nothing of it.
        let web = asked("web", &["web@.service"], &["batch*", "cache.service"]);
        let (batch, cache) =
            (asked("batch", &["batch.service"], &[]), asked("cache", &["cache.service"], &[]));
        let more = keep_apart(&[cache, batch, web]);
        assert_eq!(more[&"batch".parse().expect("a name")], of("batch"));
        assert_eq!(more[&"web".parse().expect("a name")].len(), 2);
    }

    #[test]
    fn a_pattern_of_instances_matches_their_template() {
        assert!(matches("web@*.service", "web@.service") && matches("web@1.service", "web@.service"));
        assert!(matches("web*", "web.service") && !matches("web@*.service", "web.service"));
    }
}
