//! `[X-Fleet]` of a service's units: what it becomes, and what is rejected. Each case is a row of
//! docs/fleet-compatibility.md.

use std::fmt::Write as _;

use crate::support::fleetwright;
use crate::validate::repository;

/// The units of a service, each with its `[X-Fleet]`.
type Units = [(&'static str, &'static str)];

/// What is tried, the service, and its units.
const CASES: &[(&str, &str, &Units)] = &[
    ("on every machine", "a: {unit: a.service}", &[("a", "Global=yes")]),
    ("not on every machine", "a: {unit: a.service, replicas: 2}", &[("a", "Global=false")]),
    ("on every machine, and on two", "a: {unit: a.service, replicas: 2}", &[("a", "Global=true")]),
    (
        "several pairs in one line and in several",
        "a: {unit: a.service}",
        &[("a", "MachineMetadata=\"disk=ssd\" zone=a\nMachineMetadata=role=worker")],
    ),
    ("either of two values", "a: {unit: a.service}", &[("a", "MachineMetadata=zone=a zone=b")]),
    (
        "another value than the service's own",
        "a: {unit: a.service, placement: {zone: b}}",
        &[("a", "MachineMetadata=zone=a")],
    ),
    ("a pair without a value", "a: {unit: a.service}", &[("a", "MachineMetadata=zone")]),
    (
        "one machine, the first that is named",
        "a: {unit: a.service}",
        &[("a", "MachineID=i-0abc12345678def00\nMachineID=i-0abc12345678def11")],
    ),
    (
        "two machines for units that share one",
        "a: {units: [a.service, b.service]}",
        &[("a", "MachineID=i-0abc12345678def00"), ("b", "MachineID=i-0abc12345678def11")],
    ),
    ("a machine by an id of fleet's", "a: {unit: a.service}", &[("a", "MachineID=148a18ff")]),
    (
        "one machine that the old name gives",
        "a: {unit: a.service}",
        &[("a", "X-ConditionMachineID=i-0abc12345678def00")],
    ),
    (
        "a machine and a conflict",
        "a: {unit: a.service}",
        &[("a", "MachineID=i-0abc12345678def00\nConflicts=b.service")],
    ),
    (
        "where another unit of the service runs",
        "a: {units: [a.service, b.service]}",
        &[("a", ""), ("b", "MachineOf=a.service")],
    ),
    (
        "where a unit of another service runs",
        "a: {unit: a.service}\nb: {unit: b.service}",
        &[("a", ""), ("b", "MachineOf=a.service")],
    ),
    (
        "never beside another, which does not name it",
        "a: {unit: a.service}\nb: {unit: b.service}\nc: {unit: c.service}",
        &[("a", "Conflicts=b*.service"), ("b", ""), ("c", "")],
    ),
    (
        "never beside either of two",
        "a: {unit: a.service}\nb: {unit: b.service}\nc: {unit: c.service}",
        &[("a", "Conflicts=b.service c.service"), ("b", ""), ("c", "")],
    ),
    ("never beside itself", "a: {unit: a@.service, replicas: 3}", &[("a@", "Conflicts=a@*.service")]),
    (
        "never beside another instance, as fleet's users wrote it",
        "a: {unit: a@.service, replicas: 3}",
        &[("a@", "Conflicts=%p@*.service")],
    ),
    ("each instance elsewhere", "a: {unit: a@.service, replicas: 2}", &[("a@", "MachineMetadata=zone=%i")]),
    ("its own pattern matches itself", "a: {unit: a.service}", &[("a", "Conflicts=*")]),
    ("in another's place", "a: {unit: a.service}", &[("a", "Replaces=b.service")]),
    ("a specifier of systemd's", "a: {unit: a.service}", &[("a", "MachineMetadata=zone=%H")]),
    ("a key that fleet has not", "a: {unit: a.service}", &[("a", "MachineMetdata=zone=a")]),
];

#[test]
fn options_of_fleet_are_carried_out_or_rejected_with_what_to_write() {
    let mut all = String::new();
    for (what, service, units) in CASES {
        let folder = repository("base");
        let path = |path: &str| folder.path().join(path);
        for inside in ["services", "templates/units"] {
            std::fs::create_dir_all(path(inside)).expect("made");
        }
        std::fs::write(path("services/units.yaml"), format!("{service}\n")).expect("written");
        for (name, options) in *units {
            let text = format!(
                "[Unit]\nDescription=A test\n\n[Service]\nExecStart=/bin/sleep infinity\n\n[X-Fleet]\n{options}\n"
            );
            std::fs::write(path(&format!("templates/units/{name}.service")), text).expect("written");
        }
        let checked = fleetwright(folder.path(), &["validate"]);
        let shown = if checked.status == Some(0) {
            let rendered = fleetwright(folder.path(), &["render", "--services"]);
            let says = |line: &&str| {
                ["placement", "replicas", "ports", "max_per_machine", "conflicts"]
                    .iter()
                    .any(|key| line.trim_start().starts_with(key))
                    || !line.starts_with(' ')
            };
            rendered.stdout.lines().filter(says).collect::<Vec<_>>().join("\n")
        } else {
            String::new()
        };
        let _ = writeln!(all, "## {what}\n{service}\n");
        for (name, options) in *units {
            let _ = writeln!(all, "{name}.service: {}", options.replace('\n', "; "));
        }
        let _ = writeln!(all, "\n{checked}\n{shown}\n");
    }
    insta::assert_snapshot!(all);
}
