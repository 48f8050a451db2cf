//! Several units against each other: what they name that is not there, and circles of order.

use std::collections::hash_map::Entry as Entries;
use std::collections::{HashMap, HashSet};

use super::Unit;
use super::drop_ins::DropIns;
use super::known;
use super::name::{Kind, UnitName};
use super::parse::Entry;
use super::required::Effective;
use super::table;
use super::words::{Word, words};
use crate::source::{Diagnostic, suggest};

/// Keys that name units which should be there.
const REFERENCES: [&str; 10] = [
    "Requires",
    "Wants",
    "BindsTo",
    "Requisite",
    "PartOf",
    "After",
    "Before",
    "Upholds",
    "OnFailure",
    "OnSuccess",
];

/// The order in which every machine starts.
const BOOT: [(&str, &str); 12] = [
    ("local-fs-pre.target", "local-fs.target"),
    ("local-fs.target", "sysinit.target"),
    ("swap.target", "sysinit.target"),
    ("sysinit.target", "basic.target"),
    ("sockets.target", "basic.target"),
    ("paths.target", "basic.target"),
    ("slices.target", "basic.target"),
    ("basic.target", "multi-user.target"),
    ("multi-user.target", "graphical.target"),
    ("network-pre.target", "network.target"),
    ("network.target", "network-online.target"),
    ("remote-fs-pre.target", "remote-fs.target"),
];

/// Checks `units`, which are installed together, against each other. `known` says which other
/// units there are, besides those of every machine.
pub fn check_set(units: &[Unit], known: &dyn Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut problems = duplicates(units);
    let names = units.iter().filter(|unit| !unit.is_drop_in()).filter_map(Unit::name);
    let entries = units.iter().flat_map(|unit| unit.file().entries());
    let aliases = entries.filter(|(section, entry)| *section == "Install" && entry.key.as_str() == "Alias");
    let set = Set {
        units,
        drop_ins: DropIns::new(units),
        names: names.map(UnitName::as_str).collect(),
        aliases: aliases.flat_map(|(_, entry)| entry.value.as_str().split_whitespace()).collect(),
    };
    set.references(known, &mut problems);
    set.cycles(&mut problems);
    problems
}

/// Units of the same name: only one of the files is read.
fn duplicates(units: &[Unit]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut seen: HashMap<&str, &Unit> = HashMap::new();
    for unit in units.iter().filter(|unit| !unit.is_drop_in()) {
        let Some(name) = unit.name() else { continue };
        if let Some(first) = seen.insert(name.as_str(), unit) {
            let source = unit.file().source();
            let message = format!("`{name}` is given twice; `{}` is the other", first.file().source().name());
            problems.push(Diagnostic::error("duplicate-name", message).at(source, Default::default(), ""));
        }
    }
    problems
}

/// More circles than that help nobody.
const CYCLES: usize = 16;

/// For as many unknown units the nearest name is looked for.
const SUGGESTIONS: usize = 200;

struct Set<'u> {
    units: &'u [Unit],
    drop_ins: DropIns<'u>,
    /// Of all that are no drop-ins.
    names: HashSet<&'u str>,
    /// Names that the units give themselves besides.
    aliases: HashSet<&'u str>,
}

/// One unit starts before another, and where that is said.
struct Edge<'u> {
    to: usize,
    said: Option<(&'u Unit, &'u Entry, std::ops::Range<usize>)>,
}

impl<'u> Set<'u> {
    fn references(&self, known: &dyn Fn(&str) -> bool, problems: &mut Vec<Diagnostic>) {
        let there = |name: &str| {
            let template = UnitName::parse(name).ok().and_then(|name| name.template());
            let here = |name: &str| self.names.contains(name) || self.aliases.contains(name) || known(name);
            known::is_well_known(name) || here(name) || template.is_some_and(|template| here(&template))
        };
        let mut looked = 0;
        for unit in self.units {
            let mut told: HashSet<String> = HashSet::new();
            for (section, entry) in unit.file().entries() {
                let key = entry.key.as_str();
                let names_units = (section == "Unit" && REFERENCES.contains(&key))
                    || (matches!(section, "Timer" | "Path") && key == "Unit")
                    || (section == "Socket" && key == "Service");
                if !names_units {
                    continue;
                }
                for word in named(entry) {
                    // What is no name of systemd's own is told where the unit is checked.
                    let ours = UnitName::parse(&word.text).is_ok_and(|name| !name.kind().is_network());
                    if !ours || there(&word.text) || told.contains(word.text.as_str()) {
                        continue;
                    }
                    let message = format!("there is no unit `{}` here, nor on most machines", word.text);
                    // Looking for what is near takes a while; nobody reads so many.
                    let near = if looked < SUGGESTIONS { self.near(&word.text) } else { None };
                    looked += 1;
                    let label = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
                    let mut problem = Diagnostic::warning("unresolved-reference", message).at(
                        unit.file().source(),
                        entry.value.mark(word.range),
                        label,
                    );
                    problem.path = Some(format!("{section}/{key}"));
                    problems.push(problem);
                    told.insert(word.text);
                }
            }
            self.trigger(unit, &there, problems);
        }
    }

    /// The name that was probably meant, among those of the same kind and about as long.
    fn near(&self, name: &str) -> Option<String> {
        let known: Vec<String> = known::names().collect();
        let all = self.names.iter().copied().chain(known.iter().map(String::as_str));
        let suffix = name.rsplit('.').next().unwrap_or_default();
        let like = |other: &&str| other.len().abs_diff(name.len()) <= other.len().max(3) / 3;
        suggest(name, all.filter(|other| other.rsplit('.').next() == Some(suffix)).filter(like))
            .map(str::to_owned)
    }

    /// A timer, socket or path without the service that it starts.
    fn trigger(&self, unit: &Unit, there: &dyn Fn(&str) -> bool, problems: &mut Vec<Diagnostic>) {
        let Some(name) = unit.name().filter(|_| !unit.is_drop_in()) else { return };
        let drop_ins = self.drop_ins.of(name);
        let Some((target, None)) = triggered(unit, name, &drop_ins) else { return };
        if there(&target) {
            return;
        }
        let message = format!("`{name}` starts `{target}`, which is not here, nor on most machines");
        let section = table::own_section(name.kind()).unwrap_or_default();
        let span = unit.header(section).unwrap_or_default();
        let mut problem =
            Diagnostic::warning("unresolved-reference", message).at(unit.file().source(), span, "");
        problem.path = Some(section.to_owned()).filter(|path| !path.is_empty());
        problems.push(problem);
    }

    fn cycles(&self, problems: &mut Vec<Diagnostic>) {
        let mut graph = Graph::default();
        for (first, second) in BOOT {
            graph.order(first, second, None);
        }
        for unit in self.units.iter().filter(|unit| !unit.is_drop_in()) {
            let Some(name) = unit.name() else { continue };
            let drop_ins = self.drop_ins.of(name);
            let all = std::iter::once(unit).chain(drop_ins.iter().copied());
            for (unit, section, entry) in
                all.flat_map(|unit| unit.file().entries().map(move |(section, entry)| (unit, section, entry)))
            {
                let after = entry.key.as_str() == "After";
                if section != "Unit" || !(after || entry.key.as_str() == "Before") {
                    continue;
                }
                for word in named(entry) {
                    let other = self.resolve(&word.text);
                    let said = Some((unit, entry, word.range));
                    let own = name.as_str();
                    // systemd drops what a unit says of itself; instances of a template differ.
                    if other != own {
                        let (first, second) = if after { (&*other, own) } else { (own, &*other) };
                        graph.order(first, second, said);
                    }
                }
            }
            self.implied(unit, name, &drop_ins, &mut graph);
        }
        for cycle in graph.cycles() {
            problems.extend(graph.report(&cycle));
        }
    }

    /// The order that nobody wrote down.
    fn implied(&self, unit: &'u Unit, name: &UnitName, drop_ins: &[&'u Unit], graph: &mut Graph<'u>) {
        let own = name.as_str();
        if let Some((target, _)) = triggered(unit, name, drop_ins) {
            let target = self.resolve(&target);
            graph.order(own, &target, None);
        }
        let default = Effective::new(unit, drop_ins).text("Unit", "DefaultDependencies").to_lowercase();
        if ["no", "n", "false", "f", "off", "0"].contains(&&*default) {
            return;
        }
        let gate = match name.kind() {
            Kind::Service => {
                graph.order("basic.target", own, None);
                None
            }
            Kind::Socket => Some("sockets.target"),
            Kind::Path => Some("paths.target"),
            Kind::Timer => Some("timers.target"),
            _ => return,
        };
        graph.order("sysinit.target", own, None);
        if let Some(gate) = gate {
            graph.order(own, gate, None);
        }
    }

    /// The name of the set's unit that `name` is an instance of, or the name.
    fn resolve(&self, name: &str) -> String {
        let here = |name: &str| self.names.contains(name);
        let template = UnitName::parse(name).ok().and_then(|name| name.template());
        match template {
            Some(template) if !here(name) && here(&template) => template,
            _ => name.to_owned(),
        }
    }
}

/// The units that an assignment names, but for those that only an instance knows.
fn named(entry: &Entry) -> Vec<Word> {
    let mut all = words(entry.value.as_str()).unwrap_or_default();
    all.retain(|word| !word.text.contains('%'));
    all
}

/// What a timer, path or socket starts, and the assignment that says so, if one does.
fn triggered<'u>(
    unit: &'u Unit,
    name: &UnitName,
    drop_ins: &[&'u Unit],
) -> Option<(String, Option<&'u Entry>)> {
    let effective = Effective::new(unit, drop_ins);
    let entry = match name.kind() {
        Kind::Timer => effective.last("Timer", "Unit"),
        Kind::Path => effective.last("Path", "Unit"),
        Kind::Socket => effective.last("Socket", "Service"),
        _ => return None,
    };
    let accept = effective.text("Socket", "Accept").to_lowercase();
    let accepts = ["1", "yes", "y", "true", "t", "on"].contains(&&*accept);
    match entry {
        Some(entry) if entry.value.as_str().contains('%') => None,
        Some(entry) => Some((entry.value.as_str().to_owned(), Some(entry))),
        None if accepts => Some((format!("{}@.service", name.prefix()), None)),
        None => Some((format!("{}.service", name.stem()), None)),
    }
}

#[derive(Default)]
struct Graph<'u> {
    index: HashMap<String, usize>,
    names: Vec<String>,
    edges: Vec<Vec<Edge<'u>>>,
    /// Where in its list the edge between two nodes is.
    places: HashMap<(usize, usize), usize>,
}

impl<'u> Graph<'u> {
    fn node(&mut self, name: &str) -> usize {
        if let Some(node) = self.index.get(name) {
            return *node;
        }
        self.names.push(name.to_owned());
        self.edges.push(Vec::new());
        self.index.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    fn order(
        &mut self,
        first: &str,
        second: &str,
        said: Option<(&'u Unit, &'u Entry, std::ops::Range<usize>)>,
    ) {
        let (from, to) = (self.node(first), self.node(second));
        let next = self.edges[from].len();
        match self.places.entry((from, to)) {
            Entries::Occupied(place) => {
                let edge = &mut self.edges[from][*place.get()];
                if edge.said.is_none() {
                    edge.said = said;
                }
            }
            Entries::Vacant(place) => {
                place.insert(next);
                self.edges[from].push(Edge { to, said });
            }
        }
    }

    /// Circles of nodes, at most [`CYCLES`] of them.
    fn cycles(&self) -> Vec<Vec<usize>> {
        let mut found: Vec<Vec<usize>> = Vec::new();
        // 0 not seen, 1 on the way, 2 done.
        let mut state = vec![0u8; self.names.len()];
        for start in 0..self.names.len() {
            if state[start] != 0 {
                continue;
            }
            let mut way = vec![(start, 0)];
            state[start] = 1;
            while let Some((node, next)) = way.last_mut() {
                let Some(edge) = self.edges[*node].get(*next) else {
                    state[*node] = 2;
                    way.pop();
                    continue;
                };
                *next += 1;
                match state[edge.to] {
                    0 => {
                        state[edge.to] = 1;
                        way.push((edge.to, 0));
                    }
                    1 => {
                        let from = way.iter().position(|(node, _)| *node == edge.to).unwrap_or(0);
                        let cycle: Vec<usize> = way[from..].iter().map(|(node, _)| *node).collect();
                        found.push(cycle);
                        if found.len() == CYCLES {
                            return found;
                        }
                    }
                    _ => {}
                }
            }
        }
        found
    }

    fn report(&self, cycle: &[usize]) -> Option<Diagnostic> {
        let next = |at: usize| cycle[(at + 1) % cycle.len()];
        let edges = cycle.iter().enumerate().map(|(at, node)| {
            let edge = self.edges[*node].iter().find(|edge| edge.to == next(at));
            (*node, next(at), edge.and_then(|edge| edge.said.as_ref()))
        });
        let edges: Vec<_> = edges.collect();
        let (unit, entry, range) = edges.iter().find_map(|(_, _, said)| said.cloned())?;
        let chain: Vec<_> =
            cycle.iter().chain(cycle.first()).map(|node| format!("`{}`", self.names[*node])).collect();
        let message = "the order of these units is a circle, so systemd leaves out one of them";
        let mut problem = Diagnostic::error("ordering-cycle", message).at(
            unit.file().source(),
            entry.value.mark(range),
            "",
        );
        problem.path = Some(format!("Unit/{}", entry.key.as_str()));
        problem = problem.help(format!("each starts before the next: {}", chain.join(", ")));
        let implied: Vec<_> = edges
            .iter()
            .filter(|(_, _, said)| said.is_none())
            .map(|(first, second, _)| format!("`{}` before `{}`", self.names[*first], self.names[*second]))
            .collect();
        if !implied.is_empty() {
            problem = problem.help(format!("systemd itself orders {}", implied.join(", ")));
        }
        Some(problem)
    }
}
