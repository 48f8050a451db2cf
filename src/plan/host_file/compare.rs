//! What a deployment of a watched file changes: of its definition, and on which machines.

use std::collections::BTreeMap;

use serde::Serialize;
use similar::TextDiff;

use crate::model::host_file::{HostFileSpec, Selection};
use crate::model::machine::Machine;
use crate::model::name::{HostFileName, MachineId};
use crate::plan::deploy::FieldChange;

/// What happens to a watched file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostFileAction {
    /// It is deployed for the first time.
    Create,
    /// Its definition changes.
    Change,
    /// Nothing.
    Nothing,
}

/// A file on a machine, before and after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Rendered {
    /// The same text.
    Same,
    /// The machine gets the file.
    New {
        /// How many lines it has.
        lines: usize,
    },
    /// Another text.
    Changed {
        /// The difference in unified form.
        diff: String,
    },
    /// The machine's file is no longer kept up to date. It stays as it is.
    Left,
    /// It can't be rendered, so the machine keeps what it has.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What happens on machines for which it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineEffect {
    /// The machines, sorted.
    pub machines: Vec<MachineId>,
    /// What happens.
    pub change: Rendered,
}

/// What a deployment of one watched file does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFilePlan {
    /// The file.
    pub name: HostFileName,
    /// Its path on machines.
    pub path: String,
    /// What happens.
    pub action: HostFileAction,
    /// The fields that change, sorted; the template is compared as it is rendered.
    pub changes: Vec<FieldChange>,
    /// What happens on which machines; machines on which nothing does are left out.
    pub machines: Vec<MachineEffect>,
}

impl HostFilePlan {
    /// Whether anything happens.
    pub fn has_changes(&self) -> bool {
        self.action != HostFileAction::Nothing
    }
}

/// Compares what is deployed with what is wanted. `render` renders a definition for a machine.
pub fn compare(
    before: Option<&HostFileSpec>,
    after: &HostFileSpec,
    machines: &[Machine],
    render: impl Fn(&HostFileSpec, &Machine) -> Result<String, String>,
) -> HostFilePlan {
    let action = match before {
        None => HostFileAction::Create,
        Some(before) if before == after => HostFileAction::Nothing,
        Some(_) => HostFileAction::Change,
    };
    let old = before.map(fields).unwrap_or_default();
    let new = fields(after);
    let names: std::collections::BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let changes = names.into_iter().filter(|name| old.get(name) != new.get(name)).map(|name| FieldChange {
        field: name.to_owned(),
        before: old.get(name).cloned(),
        after: new.get(name).cloned(),
    });
    let mut effects: BTreeMap<Rendered, Vec<MachineId>> = BTreeMap::new();
    if action != HostFileAction::Nothing {
        for machine in machines {
            let change = effect(before, after, machine, &render);
            effects.entry(change).or_default().push(machine.id.clone());
        }
    }
    let machines =
        effects.into_iter().filter(|(change, _)| *change != Rendered::Same).map(|(change, mut machines)| {
            machines.sort();
            MachineEffect { machines, change }
        });
    HostFilePlan {
        name: after.name.clone(),
        path: after.path.clone(),
        action,
        changes: changes.collect(),
        machines: machines.collect(),
    }
}

fn effect(
    before: Option<&HostFileSpec>,
    after: &HostFileSpec,
    machine: &Machine,
    render: impl Fn(&HostFileSpec, &Machine) -> Result<String, String>,
) -> Rendered {
    let had = before.filter(|spec| spec.is_on(machine));
    if !after.is_on(machine) {
        return if had.is_some() { Rendered::Left } else { Rendered::Same };
    }
    let text = match render(after, machine) {
        Ok(text) => text,
        Err(reason) => return Rendered::Failed { reason },
    };
    // What could not be rendered before is on no machine.
    match had.filter(|had| had.path == after.path).and_then(|had| render(had, machine).ok()) {
        None => Rendered::New { lines: text.lines().count() },
        Some(before) if before == text => Rendered::Same,
        Some(before) => {
            let diff = TextDiff::from_lines(before.as_str(), text.as_str());
            Rendered::Changed { diff: diff.unified_diff().context_radius(2).to_string() }
        }
    }
}

/// The fields of a definition but its template, by their names in files.
pub fn fields(spec: &HostFileSpec) -> BTreeMap<&'static str, String> {
    let HostFileSpec {
        name: _,
        path,
        source,
        template: _,
        mode,
        owner,
        keys,
        services,
        machines,
        check,
        reload,
        placement,
    } = spec;
    let mut found = BTreeMap::from([
        ("path", path.clone()),
        ("template", source.clone()),
        ("mode", format!("{mode:04o}")),
        ("owner", owner.as_ref().map_or_else(|| "root".to_owned(), ToString::to_string)),
    ]);
    let mut set = |name, value: String| {
        if !value.is_empty() {
            found.insert(name, value);
        }
    };
    set("keys", keys.join(", "));
    set(
        "services",
        match services {
            Selection::All => "all".to_owned(),
            Selection::Named(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        },
    );
    set("machines", if *machines { "true".to_owned() } else { String::new() });
    set("check", check.join(" "));
    set("reload", reload.as_ref().map(ToString::to_string).unwrap_or_default());
    let pairs: Vec<String> = placement.iter().map(|(key, value)| format!("{key}={value}")).collect();
    set("where", pairs.join(", "));
    found
}
