//! Tests of the roll's decisions: single ones, and whole rolls through a simulated world
//! in which machines launch, join, die and leave in any order, and the roll itself is
//! killed in the middle of its steps.

use std::collections::BTreeMap;

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::model::service::Instance;

const GROUP: &str = "demo-local-workers";

fn id(number: u32) -> MachineId {
    format!("i-{number:04}").parse().expect("a machine id")
}

fn template(version: u32) -> LaunchTemplate {
    LaunchTemplate { id: "lt-1".to_owned(), name: GROUP.to_owned(), version: version.to_string() }
}

#[derive(Debug, Clone)]
struct World {
    group: Group,
    machines: Vec<Machine>,
    /// Where each replica of the one service runs.
    replicas: Vec<Option<MachineId>>,
    role: Role,
    launched: u32,
}

impl World {
    fn new(role: Role, size: u32, old: u32, max: u32) -> Self {
        let capacity = Capacity { min: 1, max, desired: size };
        let group = Group {
            name: GROUP.to_owned(),
            capacity,
            launch_template: Some(template(2)),
            instances: Vec::new(),
            tags: BTreeMap::new(),
        };
        let mut world = Self { group, machines: Vec::new(), replicas: vec![None; 2], role, launched: 0 };
        for number in 0..size {
            world.launch(if number < old { 1 } else { 2 });
            world.group.instances[number as usize].lifecycle = Lifecycle::InService;
        }
        world.join();
        world.place();
        world
    }

    fn launch(&mut self, version: u32) {
        self.launched += 1;
        self.group.instances.push(GroupInstance {
            id: id(self.launched),
            lifecycle: Lifecycle::Pending,
            healthy: true,
            zone: "a".to_owned(),
            launch_template: Some(template(version)),
        });
    }

    fn join(&mut self) {
        for instance in self.group.instances.iter().filter(|i| i.lifecycle == Lifecycle::InService) {
            if !self.machines.iter().any(|m| m.id == instance.id) {
                self.machines.push(Machine {
                    id: instance.id.clone(),
                    address: std::net::IpAddr::from([10, 77, 1, 4]),
                    role: self.role,
                    state: MachineState::Ready,
                    leader: self.machines.is_empty(),
                    group: GROUP.to_owned(),
                    metadata: BTreeMap::new(),
                    features: crate::model::feature::Features::default(),
                    pressure: None,
                    host_files: Default::default(),
                });
            }
        }
    }

    /// The engine: replicas that have no ready machine under them get one, if there is one.
    fn place(&mut self) {
        let ready: Vec<MachineId> =
            self.machines.iter().filter(|m| m.state == MachineState::Ready).map(|m| m.id.clone()).collect();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            if !ready.is_empty() && !replica.as_ref().is_some_and(|at| ready.contains(at)) {
                *replica = Some(ready[number % ready.len()].clone());
            }
        }
    }

    fn services(&self) -> Vec<ServiceStatus> {
        let instances = self.replicas.iter().enumerate().map(|(number, at)| Instance {
            id: number.to_string(),
            name: format!("web@{number}"),
            machine: at.clone(),
            addresses: Vec::new(),
            ports: Vec::new(),
            state: if at.is_some() { InstanceState::Healthy } else { InstanceState::Pending },
            digest: None,
            restarts: 0,
            message: None,
            since: DateTime::UNIX_EPOCH,
        });
        vec![ServiceStatus {
            name: "web".parse().expect("a name"),
            desired: 2,
            scaled_from: None,
            stopped: false,
            instances: instances.collect(),
            history: Vec::new(),
        }]
    }

    fn remove(&mut self, gone: &MachineId) {
        self.group.instances.retain(|i| i.id != *gone);
        self.machines.retain(|m| m.id != *gone);
        for replica in &mut self.replicas {
            if replica.as_ref() == Some(gone) {
                *replica = None;
            }
        }
    }

    fn ready(&self) -> u32 {
        let in_service = self.group.instances.iter().filter(|i| i.lifecycle == Lifecycle::InService);
        count(
            in_service
                .filter(|i| self.machines.iter().any(|m| m.id == i.id && m.state == MachineState::Ready))
                .count(),
        )
    }

    fn next(&self, options: Options) -> Step {
        let services = self.services();
        let observed = Observed {
            group: &self.group,
            role: self.role,
            machines: &self.machines,
            services: &services,
            now: 1000,
        };
        next(observed, options).expect("a step")
    }

    /// Carries a step out, of its parts only the first `parts`: what a kill leaves.
    fn perform(&mut self, step: &Step, parts: usize) {
        match step {
            Step::Begin { tags } => self.group.tags.extend(tags.iter().take(parts).cloned()),
            Step::End { tags } => tags.iter().take(parts).for_each(|tag| {
                self.group.tags.remove(tag);
            }),
            Step::SetCapacity(capacity) => self.group.capacity = *capacity,
            Step::Drain(ids) => {
                for machine in
                    self.machines.iter_mut().filter(|m| ids.iter().take(parts).any(|id| m.id == *id))
                {
                    machine.state = MachineState::Draining;
                }
                self.place();
            }
            Step::Terminate(ids) => {
                for id in ids.iter().take(parts) {
                    let busy = self.replicas.iter().any(|at| at.as_ref() == Some(id));
                    assert!(!busy, "{id} is terminated while it runs something");
                    for instance in self.group.instances.iter_mut().filter(|i| i.id == *id) {
                        instance.lifecycle = Lifecycle::TerminatingWait;
                    }
                    self.group.capacity.desired -= 1;
                    assert!(self.group.capacity.desired >= self.group.capacity.min);
                }
            }
            Step::Wait(_) | Step::Done => {}
        }
    }

    /// One thing that happens without us.
    fn happen(&mut self, what: u8) {
        match what % 4 {
            0 => {
                let staying = self.group.instances.iter().filter(|i| !i.lifecycle.is_leaving()).count();
                if count(staying) < self.group.capacity.desired {
                    self.launch(2);
                }
            }
            1 => {
                if let Some(i) = self.group.instances.iter_mut().find(|i| i.lifecycle == Lifecycle::Pending) {
                    i.lifecycle = Lifecycle::InService;
                }
            }
            2 => self.join(),
            _ => {
                let gone =
                    self.group.instances.iter().find(|i| i.lifecycle.is_leaving()).map(|i| i.id.clone());
                if let Some(gone) = gone {
                    self.remove(&gone);
                }
            }
        }
        self.place();
    }
}

const ONE: Options = Options { batch: 1, all: false };

#[test]
fn a_current_group_is_left_alone() {
    assert_eq!(World::new(Role::Worker, 2, 0, 4).next(ONE), Step::Done);
}

#[test]
fn the_intent_is_written_before_anything_else() {
    let mut world = World::new(Role::Worker, 2, 2, 2);
    let step = world.next(ONE);
    let Step::Begin { tags } = &step else { panic!("{step:?}") };
    insta::assert_snapshot!(
        format!("{} = {}", tags[0].0, tags[0].1),
        @r#"fleetwright:roll = {"v":1,"min":1,"max":2,"desired":2,"to":"lt-1:2","at":1000}"#
    );
    world.perform(&step, 9);
    // The group is full: its maximum is raised for the while.
    assert_eq!(world.next(ONE), Step::SetCapacity(Capacity { min: 1, max: 3, desired: 3 }));
}

#[test]
fn a_machine_is_drained_only_once_its_replacement_is_ready() {
    let mut world = World::new(Role::Worker, 2, 2, 4);
    for _ in 0..2 {
        let step = world.next(ONE);
        world.perform(&step, 9);
    }
    assert_eq!(world.next(ONE), Step::Wait(Waiting::Launching { have: 2, want: 3 }));
    world.happen(0);
    world.happen(1);
    assert_eq!(world.next(ONE), Step::Wait(Waiting::Joining(vec![id(3)])));
    world.happen(2);
    // The leader goes last.
    assert_eq!(world.next(ONE), Step::Drain(vec![id(2)]));
}

#[test]
fn a_service_that_is_not_whole_stops_the_next_batch() {
    let mut world = World::new(Role::Worker, 2, 1, 4);
    for what in [9, 9, 0, 1, 2] {
        let step = world.next(ONE);
        world.perform(&step, 9);
        world.happen(what);
    }
    world.replicas[0] = None;
    assert_eq!(world.next(ONE), Step::Wait(Waiting::NotWhole(vec!["web".to_owned()])));
}

#[test]
fn control_machines_go_one_at_a_time_and_only_while_all_are_ready() {
    let options = Options { batch: 3, all: true };
    let mut world = World::new(Role::Control, 3, 0, 4);
    for what in [9, 9, 0, 1] {
        let step = world.next(options);
        world.perform(&step, 9);
        world.happen(what);
    }
    assert_eq!(world.group.capacity.desired, 4);
    world.happen(2);
    let mut down = world.machines[2].clone();
    down.id = id(77);
    down.group = "another".to_owned();
    down.state = MachineState::Down;
    world.machines.push(down);
    assert_eq!(world.next(options), Step::Wait(Waiting::ControlNotReady(vec![id(77)])));
    world.machines.pop();
    assert_eq!(world.next(options), Step::Drain(vec![id(2)]));
}

#[test]
fn a_group_that_follows_latest_is_refused_with_the_reason() {
    let mut world = World::new(Role::Worker, 1, 0, 2);
    world.group.launch_template = Some(LaunchTemplate { version: "$Latest".to_owned(), ..template(1) });
    let (services, group) = (world.services(), world.group.clone());
    let observed = Observed {
        group: &group,
        role: Role::Worker,
        machines: &world.machines,
        services: &services,
        now: 0,
    };
    assert!(matches!(next(observed, ONE), Err(RollError::FollowsLatest { .. })));
    assert!(matches!(next(observed, Options { all: true, ..ONE }), Ok(Step::Begin { .. })));
}

#[test]
fn an_intent_of_another_version_is_not_guessed_at() {
    let mut world = World::new(Role::Worker, 1, 1, 2);
    world.group.tags.insert(INTENT_TAG.to_owned(), r#"{"v":2}"#.to_owned());
    assert!(matches!(intent(&world.group), Err(RollError::BadIntent { .. })));
    // The first version's sample must stay readable for ever.
    let sample = r#"{"v":1,"min":2,"max":4,"desired":2,"to":"lt-0a1b:7","at":1700000000,"all":true}"#;
    world.group.tags.insert(INTENT_TAG.to_owned(), sample.to_owned());
    let read = intent(&world.group).expect("it is readable").expect("there is one");
    assert_eq!(read.capacity(), Capacity { min: 2, max: 4, desired: 2 });
    assert!(read.all);
}

#[test]
fn ids_of_a_full_roll_fit_into_tags() {
    let mut world = World::new(Role::Worker, 40, 0, 40);
    let step = world.next(Options { batch: 1, all: true });
    let Step::Begin { tags } = &step else { panic!("{step:?}") };
    assert!(tags.iter().all(|(_, value)| value.len() <= TAG_LENGTH));
    assert_eq!(tags.last().map(|(key, _)| key.as_str()), Some(INTENT_TAG));
    world.perform(&step, 99);
    assert_eq!(candidates(&world.group, false).expect("they can be told").len(), 40);
}

#[derive(Debug, Clone)]
enum Turn {
    /// We decide and act, and are killed after so many parts of the step.
    Act(usize),
    /// Something happens without us.
    Happen(u8),
    /// A machine dies.
    Die(u8),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => (0usize..4).prop_map(Turn::Act),
        8 => any::<u8>().prop_map(Turn::Happen),
        1 => any::<u8>().prop_map(Turn::Die),
    ];
    prop::collection::vec(turn, 0..80)
}

proptest! {
    #[test]
    fn a_roll_killed_anywhere_converges_and_keeps_its_promises(
        control in any::<bool>(),
        size in 1u32..6,
        old in 0u32..6,
        batch in 1u32..4,
        all in any::<bool>(),
        turns in turns(),
    ) {
        let role = if control { Role::Control } else { Role::Worker };
        let mut world = World::new(role, size, old.min(size), size + 1);
        let original = world.group.capacity;
        let options = Options { batch, all };
        let most = size + if control { 1 } else { batch };
        let first: BTreeSet<MachineId> = world.group.instances.iter().map(|i| i.id.clone()).collect();
        let mut begun = false;
        let mut act = |world: &mut World, parts: usize| -> Result<bool, TestCaseError> {
            let step = world.next(options);
            world.perform(&step, parts);
            begun |= matches!(step, Step::Begin { .. }) && world.group.tags.contains_key(INTENT_TAG);
            if matches!(step, Step::Drain(_) | Step::Terminate(_)) {
                prop_assert!(world.ready() >= size, "{} of {size} ready after {step:?}", world.ready());
            }
            prop_assert!(world.group.capacity.desired <= most);
            if matches!(step, Step::Done) {
                prop_assert_eq!(world.group.capacity, original);
                prop_assert!(world.group.tags.is_empty());
            }
            // With `all`, running again after the end is a new roll: the end is the end.
            Ok(matches!(step, Step::Done) || (begun && world.group.tags.is_empty()))
        };
        let mut ended = false;
        for turn in turns {
            match turn {
                Turn::Act(parts) if !ended => ended = act(&mut world, parts)?,
                Turn::Act(_) => {}
                Turn::Happen(what) => world.happen(what),
                Turn::Die(which) => {
                    let at = usize::from(which) % world.group.instances.len().max(1);
                    if let Some(gone) = world.group.instances.get(at).map(|i| i.id.clone()) {
                        world.remove(&gone);
                        world.place();
                    }
                }
            }
        }
        for round in 0..1000u32 {
            if ended {
                break;
            }
            for what in 0..4 {
                world.happen(what);
            }
            ended = act(&mut world, 99)?;
            prop_assert!(round < 999, "it never ended: {:?}", world.next(options));
        }
        prop_assert_eq!(world.group.capacity, original);
        prop_assert!(world.group.instances.iter().all(|i| i.launch_template == Some(template(2))
            || i.lifecycle.is_leaving()));
        if all && begun {
            prop_assert!(world.group.instances.iter().all(|i| !first.contains(&i.id)));
        }
    }
}

#[test]
fn every_recorded_intent_loads() {
    for (name, text) in crate::source::samples::of("roll") {
        let intent: Intent = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(intent.capacity(), Capacity { min: 2, max: 4, desired: 3 }, "{name}");
    }
}
