use proptest::prelude::*;

use super::*;
use crate::model::host_file::{HostFileSpec, Reload};
use crate::model::machine::{MachineState, Role};
use crate::model::service::InstanceState;

fn machine(id: &str, role: Role) -> Machine {
    Machine {
        id: id.parse().expect("an id"),
        address: "10.0.0.1".parse().expect("an address"),
        role,
        state: MachineState::Ready,
        leader: false,
        group: role.word().to_owned(),
        metadata: BTreeMap::from([("role".to_owned(), role.word().to_owned())]),
        features: crate::model::feature::Features::own(),
        pressure: None,
        host_files: BTreeMap::new(),
    }
}

fn spec(name: &str) -> HostFileSpec {
    HostFileSpec {
        name: name.parse().expect("a name"),
        path: format!("/etc/{name}.conf"),
        source: format!("templates/host_files/{name}.conf"),
        template: "x".to_owned(),
        mode: 0o644,
        owner: None,
        keys: Vec::new(),
        services: Selection::default(),
        machines: false,
        check: Vec::new(),
        reload: None,
        placement: BTreeMap::new(),
    }
}

fn endpoint(name: &str, port: u16) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        id: format!("{name}.{port}"),
        machine: "i-2".parse().expect("an id"),
        address: "10.0.0.2".parse().expect("an address"),
        port: Some(port),
        ports: BTreeMap::new(),
        healthy: port.is_multiple_of(2),
        state: InstanceState::Healthy,
    }
}

fn file() -> impl Strategy<Value = Definition> {
    let services = prop_oneof![
        1 => Just(Selection::All),
        4 => proptest::collection::btree_set("[a-c]", 0..3)
            .prop_map(|names| Selection::Named(names.iter().map(|name| name.parse().expect("a name")).collect())),
    ];
    let place = proptest::option::of(proptest::sample::select(vec!["worker", "control"]));
    ("[x-z]", 1..4_u64, services, any::<bool>(), proptest::collection::vec("/[kl](/[m-n])?", 0..2), place)
        .prop_map(|(name, number, services, machines, keys, place)| {
            let place = place.map(|role| ("role".to_owned(), role.to_owned()));
            let spec = HostFileSpec {
                services,
                machines,
                keys,
                placement: place.into_iter().collect(),
                ..spec(&name)
            };
            Definition { number, spec }
        })
}

fn world() -> impl Strategy<Value = World> {
    let services = proptest::collection::btree_map(
        "[a-d]".prop_map(|name| name.parse::<ServiceName>().expect("a name")),
        proptest::collection::vec(
            ("[a-d]@[1-3]", 1..9_u16).prop_map(|(name, port)| endpoint(&name, port)),
            0..3,
        ),
        0..4,
    );
    let keys = proptest::collection::btree_map("/[k-m](/[m-o])?", "[a-c]", 0..5);
    let machines = prop_oneof![
        Just(vec![machine("i-1", Role::Control), machine("i-2", Role::Worker)]),
        Just(vec![machine("i-2", Role::Worker)]),
    ];
    (proptest::collection::vec(file(), 0..4), machines, services, keys).prop_map(
        |(files, machines, services, keys)| World {
            files: files.into_iter().map(Arc::new).collect(),
            hosts: Arc::new(machines.iter().map(Host::from).collect()),
            machines,
            services: services.into_iter().map(|(name, endpoints)| (name, Arc::new(endpoints))).collect(),
            keys,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(256)))]

    /// Whatever happens in a cluster, a machine that applies every line has what it would be sent as a whole.
    #[test]
    fn lines_add_up_to_the_feed(worlds in proptest::collection::vec(world(), 1..6)) {
        let id: MachineId = "i-2".parse().expect("an id");
        let mut sent = Feed::default();
        let mut held = Feed::default();
        for (at, world) in worlds.iter().enumerate() {
            let now = feed(world, &id);
            let line = if at == 0 { whole(&now) } else { difference(&sent, &now) };
            let text = serde_json::to_string(&line).expect("JSON");
            prop_assert_eq!(at > 0 && sent == now, is_empty(&line));
            apply(&mut held, serde_json::from_str(&text).expect("what was written"));
            prop_assert_eq!(&held, &now);
            sent = now;
        }
        // A line with the whole feed makes up for anything.
        apply(&mut held, whole(&feed(&worlds[0], &id)));
        prop_assert_eq!(held, feed(&worlds[0], &id));
    }

    /// What a machine's files do not name does not reach it.
    #[test]
    fn a_machine_is_sent_only_what_its_files_name(world in world()) {
        let id: MachineId = "i-2".parse().expect("an id");
        let sent = feed(&world, &id);
        let specs: Vec<&HostFileSpec> = sent.files.iter().map(|file| &file.spec).collect();
        prop_assert!(specs.iter().all(|spec| spec.placement.get("role").is_none_or(|role| role == "worker")));
        prop_assert!(sent.facts.services.keys().all(|name| specs.iter().any(|spec| spec.services.has(name))));
        let is_named = |key: &str| {
            specs.iter().flat_map(|spec| &spec.keys).any(|prefix| crate::host_file::is_under(key, prefix))
        };
        prop_assert!(sent.facts.keys.keys().all(|key| is_named(key)));
        prop_assert!(sent.facts.machines.is_empty() || specs.iter().any(|spec| spec.machines));
    }

    #[test]
    fn changes_that_follow_each_other_are_waited_for_and_not_for_ever(first in 0..3_000_u64, gap in 0..3_000_u64) {
        let (first, last) = (Duration::from_millis(first), Duration::from_millis(gap.min(first)));
        let wait = wait(first, last);
        prop_assert!(wait <= QUIET && first + wait <= LATEST.max(first));
        prop_assert_eq!(wait.is_zero(), last >= QUIET || first >= LATEST);
    }
}

#[test]
fn an_endpoint_is_an_instance_with_a_place() {
    use crate::model::service::{Instance, InstancePort, Protocol};
    let port = |container, host| InstancePort { container, protocol: Protocol::Tcp, host };
    let instance = |slot: u32, machine: Option<&str>, state| Instance {
        id: format!("t{slot}"),
        name: format!("web@{slot}"),
        machine: machine.map(|id| id.parse().expect("an id")),
        addresses: Vec::new(),
        ports: vec![port(8080, 20_000 + u16::try_from(slot).expect("few")), port(9090, 30_000)],
        state,
        restarts: 0,
        digest: None,
        message: None,
        since: chrono::DateTime::UNIX_EPOCH,
    };
    let service = ServiceStatus {
        name: "web".parse().expect("a name"),
        desired: 3,
        scaled_from: None,
        stopped: false,
        instances: vec![
            instance(2, Some("i-2"), InstanceState::Stopping),
            instance(1, Some("i-2"), InstanceState::Healthy),
            instance(3, None, InstanceState::Pending),
            instance(4, Some("i-9"), InstanceState::Healthy),
        ],
        history: Vec::new(),
    };
    let found = endpoints(&[service], &[machine("i-2", Role::Worker)]);
    let of: Vec<(String, Option<u16>, bool)> =
        found.values().flatten().map(|one| (one.name.clone(), one.port, one.healthy)).collect();
    assert_eq!(of, [("web@1".to_owned(), Some(20_001), true), ("web@2".to_owned(), Some(20_002), false)]);
    assert_eq!(found.values().flatten().next().expect("one").ports["9090"], 30_000);
}

#[test]
fn a_plan_says_what_becomes_of_the_file_on_each_machine() {
    let machines = [
        machine("i-1", Role::Control),
        machine("i-2", Role::Worker),
        machine("i-3", Role::Worker),
        machine("i-4", Role::Worker),
    ];
    let render = |spec: &HostFileSpec, machine: &Machine| match (spec.template.as_str(), machine.id.as_str())
    {
        ("broken", "i-4") => Err("line 1: no".to_owned()),
        (_, "i-3") => Ok("always this".to_owned()),
        (text, _) => Ok(text.to_owned()),
    };
    let workers = BTreeMap::from([("role".to_owned(), "worker".to_owned())]);
    let old = spec("app");
    let new = HostFileSpec {
        template: "broken".to_owned(),
        placement: workers,
        reload: Some(Reload::Signal { signal: "HUP".to_owned(), unit: "app.service".to_owned() }),
        ..old.clone()
    };
    let plan = compare(Some(&old), &new, &machines, render);
    insta::assert_snapshot!(serde_json::to_string_pretty(&plan).expect("JSON"));
    assert!(plan.has_changes() && !compare(Some(&new), &new, &machines, render).has_changes());
    let created = compare(None, &old, &machines, render);
    assert_eq!(created.action, HostFileAction::Create);
    assert_eq!((created.machines.len(), created.machines[0].machines.len()), (1, 4), "{created:?}");
    let moved = HostFileSpec { path: "/etc/other.conf".to_owned(), ..old.clone() };
    assert!(
        compare(Some(&old), &moved, &machines, render)
            .machines
            .iter()
            .all(|one| matches!(one.change, Rendered::New { .. }))
    );
}
