//! systemd's unit files: read without loss, and checked as systemd 252 and later would take them.
//!
//! An error is what systemd would ignore, refuse or read otherwise than it looks; what is less
//! sure is a warning. Nothing is known here of files on a disk, of machines, or of where units
//! come from: [`Unit::parse`] takes a name and a text, [`check`] holds one unit against what
//! systemd knows, [`check_set`] several units against each other.

use std::sync::Arc;

use std::collections::HashSet;

use drop_ins::DropIns;

use crate::source::{Diagnostic, SourceFile, Span};

mod check;
mod drop_ins;
mod exec;
mod fleet;
mod known;
mod name;
mod parse;
mod paths;
mod required;
mod scalar;
mod set;
mod table;
mod time;
mod value;
mod words;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;

pub use fleet::{glob as matches, instance as instance_of_ec2, is_true, options as fleet_options};
pub use known::is_well_known;
pub use name::{Kind, UnitName, escape_path, unescape_path};
pub use parse::{Broken, Entry, Item, ItemKind, LINE_MAX, Text, UnitFile};
pub use set::check_set;
pub use table::Value;
pub use time::duration as time_span;

/// A unit file, or a drop-in of one, with its name.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The name, or of a drop-in that of the unit it belongs to; what is wrong with it otherwise.
    /// `None` for a drop-in whose unit is not known, or that is for all units of a kind.
    name: Option<Result<UnitName, String>>,
    kind: Option<Kind>,
    /// A drop-in's own name.
    drop_in: Option<String>,
    file: UnitFile,
}

impl Unit {
    /// Reads `text`. `name` is the unit's, a drop-in's behind its folder
    /// (`docker.service.d/proxy.conf`), or a path that ends so.
    pub fn parse(name: &str, text: impl Into<String>) -> Self {
        Self::read(&SourceFile::new(name, text))
    }

    /// Reads `source`, whose name is understood as in [`Unit::parse`].
    pub fn read(source: &Arc<SourceFile>) -> Self {
        let mut parts = source.name().rsplit('/');
        let file = parts.next().unwrap_or_default();
        let folder = parts.next().and_then(|folder| folder.strip_suffix(".d"));
        let (name, drop_in) = match folder {
            _ if !file.ends_with(".conf") && folder.is_none() => (Some(file), None),
            folder => (folder, Some(file.to_owned())),
        };
        let kind = name.and_then(|name| Kind::of_suffix(name.rsplit('.').next().unwrap_or_default()));
        // `service.d` is for all services.
        let name = name.filter(|name| drop_in.is_none() || Kind::of_suffix(name).is_none());
        Self { name: name.map(UnitName::parse), kind, drop_in, file: UnitFile::parse(source) }
    }

    /// Its name, or that of the unit a drop-in belongs to, if that is known and valid.
    pub fn name(&self) -> Option<&UnitName> {
        self.name.as_ref()?.as_ref().ok()
    }

    /// What it is, if its name says so.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Whether it only adds to another unit.
    pub fn is_drop_in(&self) -> bool {
        self.drop_in.is_some()
    }

    /// Its lines.
    pub fn file(&self) -> &UnitFile {
        &self.file
    }

    /// Where a section begins, the first of its name.
    fn header(&self, section: &str) -> Option<Span> {
        self.file.items().iter().find_map(|item| match &item.kind {
            ItemKind::Section(name) if name.as_str() == section => Some(name.mark(0..section.len())),
            _ => None,
        })
    }

    /// Whether this drop-in is for `unit`: by its whole name, its template's, the beginning of it
    /// up to a dash, or its kind.
    pub fn adds_to(&self, unit: &UnitName) -> bool {
        if !self.is_drop_in() || self.kind != Some(unit.kind()) {
            return false;
        }
        match &self.name {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(own)) => {
                own == unit
                    || unit.template().is_some_and(|template| template == own.as_str())
                    || (own.stem().ends_with('-') && unit.stem().starts_with(own.stem()))
            }
        }
    }
}

/// What is known of a unit beyond its text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'u> {
    /// Something enables it, so that it must say in `[Install]` what that means.
    pub enabled: bool,
    /// Its drop-ins, in the order in which systemd reads them.
    pub drop_ins: &'u [&'u Unit],
}

/// Checks a unit by itself, in the order of its lines.
pub fn check(unit: &Unit, options: &Options<'_>) -> Vec<Diagnostic> {
    let mut check = check::Check::new(unit);
    check.name();
    check.lines();
    check.fleet();
    check.required(options);
    sorted(check.problems)
}

/// Checks a text by itself: for a unit that stands in another file. The labels' bytes count
/// from the text's begin.
pub fn check_text(name: &str, text: &str, options: &Options<'_>) -> Vec<Diagnostic> {
    check(&Unit::parse(name, text), options)
}

/// Checks units that are installed together: each by itself, with its drop-ins, then all of
/// them against each other. `known` says which other units there are.
pub fn check_all(units: &[Unit], known: &dyn Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let all = DropIns::new(units);
    let whole = units.iter().filter(|unit| !unit.is_drop_in());
    let there: HashSet<&str> = whole.filter_map(Unit::name).map(UnitName::as_str).collect();
    for unit in units {
        let drop_ins = match unit.name() {
            Some(name) if !unit.is_drop_in() => all.of(name),
            _ => Vec::new(),
        };
        let mut own = check(unit, &Options { enabled: false, drop_ins: &drop_ins });
        // A drop-in is only taken for one too many where its unit can't be asked.
        if unit.is_drop_in() && unit.name().is_some_and(|name| there.contains(name.as_str())) {
            own.retain(|problem| problem.code != "second-command");
        }
        problems.extend(own);
    }
    problems.extend(check_set(units, known));
    sorted(problems)
}

fn sorted(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    problems.sort_by_cached_key(|problem| {
        problem.label.as_ref().map(|label| (label.file.name().to_owned(), label.span))
    });
    problems
}
