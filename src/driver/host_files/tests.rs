//! What machines are sent, from a cluster that changes.

use std::collections::BTreeMap;

use super::*;
use crate::model::host_file::{Definition, Endpoint, Feed, Host, HostFileSpec, Selection};
use crate::model::machine::{Machine, MachineState, Role};
use crate::model::name::ServiceName;
use crate::model::service::InstanceState;
use crate::plan::host_file::apply;

fn machine(number: u32) -> Machine {
    Machine {
        id: format!("i-{number}").parse().expect("an id"),
        address: std::net::Ipv4Addr::from(0x0a00_0000 + number).into(),
        role: Role::Worker,
        state: MachineState::Ready,
        leader: false,
        group: "workers".to_owned(),
        metadata: BTreeMap::from([("role".to_owned(), "worker".to_owned())]),
        features: crate::model::feature::Features::own(),
        pressure: None,
        host_files: BTreeMap::new(),
    }
}

fn definition(name: &str, services: Selection) -> Arc<Definition> {
    let spec = HostFileSpec {
        name: name.parse().expect("a name"),
        path: format!("/etc/{name}"),
        source: String::new(),
        template: String::new(),
        mode: 0o644,
        owner: None,
        keys: Vec::new(),
        services,
        machines: false,
        check: Vec::new(),
        reload: None,
        placement: BTreeMap::new(),
    };
    Arc::new(Definition { number: 1, spec })
}

fn endpoint(service: usize, slot: u32, healthy: bool) -> Endpoint {
    let host = Host::from(&machine(slot));
    Endpoint {
        name: format!("s{service}@{slot}"),
        id: format!("{service}.{slot}"),
        machine: host.id,
        address: host.address,
        port: Some(20_000),
        ports: BTreeMap::from([("80".to_owned(), 20_000)]),
        healthy,
        state: if healthy { InstanceState::Healthy } else { InstanceState::Starting },
    }
}

fn service(number: usize) -> ServiceName {
    format!("s{number}").parse().expect("a name")
}

/// 100 machines and 1,000 services, as in a large fleet: one instance of one service changes. Machines whose files
/// do not name it are sent nothing, and what the others are sent is small.
#[test]
fn one_change_reaches_those_who_name_it_and_costs_the_others_nothing() {
    let machines: Vec<Machine> = (1..=100).map(machine).collect();
    let mut world = World {
        files: vec![
            definition("all", Selection::All),
            definition("one", Selection::Named([service(7)].into())),
        ],
        hosts: Arc::new(machines.iter().map(Host::from).collect()),
        machines,
        services: (0..1000)
            .map(|of| (service(of), Arc::new((1..=3).map(|slot| endpoint(of, slot, true)).collect())))
            .collect(),
        keys: BTreeMap::new(),
    };
    // Half of the machines have the file that names every service.
    for (at, machine) in world.machines.iter_mut().enumerate() {
        machine.metadata.insert("proxy".to_owned(), if at % 2 == 0 { "yes" } else { "no" }.to_owned());
    }
    let all = Arc::make_mut(&mut world.files[0]);
    all.spec.placement.insert("proxy".to_owned(), "yes".to_owned());
    let before: Vec<Feed> = world.machines.iter().map(|machine| feed(&world, &machine.id)).collect();
    let mut after = world.clone();
    after.services.insert(service(8), Arc::new(vec![endpoint(8, 1, true), endpoint(8, 2, false)]));
    let (mut bytes, mut sent) = (0, 0);
    for (machine, known) in after.machines.iter().zip(&before) {
        let now = feed(&after, &machine.id);
        let line = difference(known, &now);
        let is_proxy = machine.metadata["proxy"] == "yes";
        assert_eq!(is_empty(&line), !is_proxy);
        if is_proxy {
            bytes += serde_json::to_vec(&line).expect("JSON").len();
            sent += 1;
            let mut held = known.clone();
            apply(&mut held, line);
            assert_eq!(held, now);
        }
    }
    assert_eq!(sent, 50);
    assert!(bytes / sent < 600, "{bytes} bytes for {sent} machines");
}

/// Before the definitions are read, and before the machines are seen, nothing is sent: it would look as if there were no files.
/// A file whose keys are not known is left out, and the others are not.
#[test]
fn what_is_not_known_is_not_sent() {
    let mut reading = Reading::default();
    assert!(reading.shown().is_none(), "the definitions were not read");
    reading.has_files = true;
    assert_eq!(reading.shown(), Some(World::default()), "there are none");
    reading.world.files =
        vec![definition("plain", Selection::All), definition("keyed", Selection::default())];
    Arc::make_mut(&mut reading.world.files[1]).spec.keys = vec!["/app".to_owned()];
    assert!(reading.shown().is_none(), "no machine was seen");
    reading.world.machines = vec![machine(1)];
    let names = |reading: &Reading| -> Vec<String> {
        let world = reading.shown().expect("it is known");
        world.files.iter().map(|file| file.spec.name.to_string()).collect()
    };
    assert_eq!(names(&reading), ["plain"]);
    reading.has_keys = true;
    assert_eq!(names(&reading), ["plain", "keyed"]);
}
