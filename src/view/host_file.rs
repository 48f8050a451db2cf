//! Watched files: what is deployed, and how far machines have come with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::table::table;
use crate::model::host_file::Definition;
use crate::model::host_file_state::HostFileState;
use crate::model::machine::Machine;
use crate::plan::host_file::fields;

/// How far a machine has come with a file.
fn state<'m>(file: &Definition, machine: &'m Machine) -> Option<&'m HostFileState> {
    machine.host_files.get(&file.spec.name)
}

/// The machines that have a file.
fn on<'m>(file: &Definition, machines: &'m [Machine]) -> impl Iterator<Item = &'m Machine> {
    machines.iter().filter(|machine| file.spec.is_on(machine))
}

fn words(file: &Definition, machine: &Machine) -> String {
    match state(file, machine) {
        Some(HostFileState { problem: Some(problem), .. }) => {
            format!("{}: {}", problem.at.words(), problem.reason)
        }
        Some(state) if state.number >= file.number => "in place".to_owned(),
        Some(_) => "an earlier definition is in place".to_owned(),
        None => "not reported yet".to_owned(),
    }
}

/// A table of watched files.
pub fn list(files: &[Definition], machines: &[Machine]) -> String {
    if files.is_empty() {
        return "The cluster has no watched files; `fleetwright deploy` deploys those in host_files/.\n"
            .to_owned();
    }
    let rows: Vec<Vec<String>> = files
        .iter()
        .map(|file| {
            let all: Vec<&Machine> = on(file, machines).collect();
            let good = all.iter().filter(|machine| words(file, machine) == "in place").count();
            let bad =
                all.iter().find(|machine| state(file, machine).is_some_and(|state| state.problem.is_some()));
            let state = match bad {
                Some(machine) => format!("{}: {}", machine.id, words(file, machine)),
                None if all.is_empty() => "no machine has it".to_owned(),
                None if good == all.len() => "in place".to_owned(),
                None => "being put in place".to_owned(),
            };
            vec![file.spec.name.to_string(), file.spec.path.clone(), format!("{good}/{}", all.len()), state]
        })
        .collect();
    table(&["FILE", "PATH", "MACHINES", "STATE"], &rows)
}

/// One watched file, with its machines.
pub fn show(file: &Definition, machines: &[Machine]) -> String {
    let mut text = format!("{} (definition {})\n\n", file.spec.name, file.number);
    let fields: BTreeMap<&str, String> = fields(&file.spec);
    let width = fields.keys().map(|name| name.len()).max().unwrap_or(0);
    for (name, value) in &fields {
        let _ = writeln!(text, "  {name:width$}   {value}");
    }
    text.push('\n');
    let rows: Vec<Vec<String>> =
        on(file, machines).map(|machine| vec![machine.id.to_string(), words(file, machine)]).collect();
    if rows.is_empty() {
        text.push_str("No machine has this file: none has the metadata that `where` asks for.\n");
    } else {
        text.push_str(&table(&["MACHINE", "STATE"], &rows));
    }
    text
}

/// The same as JSON.
pub fn json(file: &Definition, machines: &[Machine]) -> Value {
    let machines: Vec<Value> = on(file, machines)
        .map(|machine| {
            let state = state(file, machine);
            json!({
                "machine": machine.id,
                "number": state.map(|state| state.number),
                "problem": state.and_then(|state| state.problem.as_ref()),
            })
        })
        .collect();
    json!({ "number": file.number, "file": file.spec, "machines": machines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host_file_state::{FileProblem, FileStep};
    use crate::model::machine::{MachineState, Role};

    fn machine(id: &str, state: Option<HostFileState>) -> Machine {
        Machine {
            id: id.parse().expect("an id"),
            address: "10.0.0.1".parse().expect("an address"),
            role: Role::Worker,
            state: MachineState::Ready,
            leader: false,
            group: "workers".to_owned(),
            metadata: BTreeMap::from([("role".to_owned(), "worker".to_owned())]),
            features: crate::model::feature::Features::own(),
            pressure: None,
            host_files: state.into_iter().map(|state| ("proxy".parse().expect("a name"), state)).collect(),
        }
    }

    #[test]
    fn each_machine_says_how_far_it_has_come() {
        let file = |name: &str, role: &str| {
            Definition {
            number: 2,
            spec: serde_json::from_value(json!({
                "name": name, "path": format!("/etc/{name}.cfg"), "source": format!("templates/host_files/{name}.cfg"),
                "template": "x", "mode": 0o640, "owner": {"user": "root", "group": "haproxy"},
                "services": {"named": ["web", "api"]}, "keys": ["/proxy"], "where": {"role": role},
                "check": ["haproxy", "-c", "-f", "{candidate}"],
                "reload": {"signal": {"signal": "HUP", "unit": "haproxy.service"}},
            }))
            .expect("a definition"),
        }
        };
        let problem = FileProblem { at: FileStep::Check, reason: "exit status 1: line 3".to_owned() };
        let machines = [
            machine("i-1", Some(HostFileState { number: 2, problem: None })),
            machine("i-2", Some(HostFileState { number: 1, problem: Some(problem) })),
            machine("i-3", Some(HostFileState { number: 1, problem: None })),
            machine("i-4", None),
        ];
        let files = [file("proxy", "worker"), file("other", "control")];
        let shown =
            [list(&files, &machines), show(&files[0], &machines), show(&files[1], &machines)].join("\n--\n");
        insta::assert_snapshot!(shown);
        assert!(list(&[], &machines).contains("no watched files"));
        let document = json(&files[0], &machines);
        assert_eq!(document["machines"][1]["problem"]["at"], "check");
    }
}
