//! Control machines that come to one cluster over a parameter store whose calls are late, lost or
//! reordered, while machines freeze, break, are terminated, and their agents are killed between any
//! two steps. Every read is a step of its own, so that decisions rest on old looks.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::group::Lifecycle;
use crate::plan::agent::claim::{FIRST_S, FOUNDING_S};
use crate::plan::agent::majority;
use crate::plan::agent::tests::{group, id};

/// How many worlds are tried.
const SEEDS: u64 = 2_000;
/// How many steps happen in each before faults stop.
const STEPS: u32 = 400;

/// xorshift64*, so that a seed is a world for ever.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A change of the parameter store.
#[derive(Debug, Clone)]
enum Request {
    Create(u64, Entry),
    Hold(MachineId, String, Option<SwarmId>),
    Withdraw(MachineId, String),
    Register(MachineId),
    Forget(MachineId),
    Token(SwarmId),
}

/// The parameter store.
#[derive(Debug, Default)]
struct Store {
    log: Vec<Entry>,
    legacy: Option<MachineId>,
    holders: BTreeMap<(MachineId, String), Option<SwarmId>>,
    registered: BTreeSet<MachineId>,
    token: Option<SwarmId>,
}

/// What an agent has read so far, in this order.
#[derive(Debug, Clone, Default)]
struct Look {
    log: Option<Log>,
    groups: Option<Vec<Group>>,
    holders: Option<Vec<Holder>>,
    registered: Option<Vec<(MachineId, IpAddr)>>,
    token: Option<Option<SwarmId>>,
}

#[derive(Debug)]
struct Machine {
    lifecycle: Option<Lifecycle>,
    frozen: bool,
    /// Its engine starts no swarm.
    broken: bool,
    /// The swarm that its engine holds state of.
    swarm: Option<SwarmId>,
    /// Its engine was in the published swarm once: a restart of the agent does not change that.
    look: Look,
    started_at: u64,
    /// The length of the log when it last grew as this agent saw it, and when that was.
    last: (u64, u64),
    /// How fast its clock runs, in percent.
    clock: u64,
    /// Steps that it checked again and is about to carry out.
    checked: Option<Step>,
}

/// A swarm: its managers, the founder first.
#[derive(Debug, Default)]
struct Swarm {
    managers: BTreeSet<usize>,
    joined: bool,
}

struct World {
    random: Random,
    now: u64,
    store: Store,
    flying: Vec<(u64, Request)>,
    machines: BTreeMap<usize, Machine>,
    swarms: BTreeMap<SwarmId, Swarm>,
    keys: u64,
    /// Whether calls are delayed or lost.
    faults: bool,
}

fn swarm_id(number: usize) -> SwarmId {
    format!("s{number}").parse().expect("an id")
}

fn address(number: usize) -> IpAddr {
    format!("10.0.{}.{}", number / 250, number % 250 + 1).parse().expect("an address")
}

fn number_in(id: &MachineId) -> usize {
    id.as_str().trim_start_matches("i-").parse().expect("a number")
}

fn number_of(address: IpAddr) -> usize {
    let text = address.to_string();
    let mut parts = text.split('.').skip(2).map(|part| part.parse::<usize>().expect("a number"));
    let (third, fourth) = (parts.next().expect("a part"), parts.next().expect("a part"));
    third * 250 + fourth - 1
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: 0,
            store: Store::default(),
            flying: vec![],
            machines: BTreeMap::new(),
            swarms: BTreeMap::new(),
            keys: 0,
            faults: true,
        }
    }

    fn launch(&mut self) {
        let number = self.machines.len() + 1;
        let clock = 80 + self.random.below(41);
        let machine = Machine {
            lifecycle: Some(Lifecycle::InService),
            frozen: false,
            broken: false,
            swarm: None,
            look: Look::default(),
            started_at: self.now,
            last: (0, self.now),
            clock,
            checked: None,
        };
        self.machines.insert(number, machine);
    }

    fn lives(machine: &Machine) -> bool {
        machine.lifecycle.is_some_and(|lifecycle| !lifecycle.is_leaving())
    }

    fn living(&self) -> Vec<usize> {
        self.machines.iter().filter(|(_, one)| Self::lives(one)).map(|(number, _)| *number).collect()
    }

    fn pick(&mut self, numbers: &[usize]) -> Option<usize> {
        if numbers.is_empty() {
            return None;
        }
        let index = self.random.below(numbers.len() as u64) as usize;
        Some(numbers[index])
    }

    fn works(&self, number: usize) -> bool {
        self.machines.get(&number).is_some_and(|one| one.lifecycle.is_some() && !one.frozen)
    }

    fn decides(&self, swarm: &SwarmId) -> bool {
        let managers = &self.swarms[swarm].managers;
        managers.iter().filter(|number| self.works(**number)).count() >= majority(managers.len())
    }

    /// Carries a change out, and checks what must hold for ever.
    fn apply(&mut self, request: Request) -> bool {
        match request {
            Request::Create(number, entry) => {
                if number != self.store.log.len() as u64 + 1 {
                    assert!(
                        number <= self.store.log.len() as u64,
                        "a record was created before the one before it"
                    );
                    return false;
                }
                if let Entry::Published { cluster, .. } = &entry {
                    let log = Log::of(self.store.log.clone());
                    assert!(!log.ever_published(cluster), "{cluster} is published twice");
                    let legacy = self.store.legacy.is_some() && *cluster == swarm_id(1);
                    let joined = self.swarms[cluster].joined;
                    assert!(!joined || legacy, "{cluster} was joined before it was published");
                    // What is replaced has no living machine that holds it.
                    if let Some(old) = log.published() {
                        let holds =
                            |one: &&Machine| Self::lives(one) && one.swarm.as_ref() == Some(old.cluster);
                        let held = self.machines.values().find(holds);
                        assert!(held.is_none(), "{} is replaced while {held:?} holds it", old.cluster);
                    }
                }
                self.store.log.push(entry);
                true
            }
            Request::Hold(machine, key, cluster) => {
                self.store.holders.insert((machine, key), cluster);
                true
            }
            Request::Withdraw(machine, key) => {
                self.store.holders.remove(&(machine, key));
                true
            }
            Request::Register(machine) => self.store.registered.insert(machine),
            Request::Forget(machine) => {
                self.store.holders.retain(|(other, _), _| *other != machine);
                self.store.registered.remove(&machine)
            }
            Request::Token(swarm) => {
                self.store.token = Some(swarm);
                true
            }
        }
    }

    /// Sends a change; whether the machine hears that it was made.
    fn send(&mut self, request: Request) -> bool {
        if !self.faults || self.random.chance(70) {
            self.apply(request);
            return true;
        }
        match self.random.below(3) {
            // Made, but the answer is lost.
            0 => drop(self.apply(request)),
            // Lost.
            1 => {}
            // Made at some later time, after later calls.
            _ => {
                let at = self.now + 1 + self.random.below(600);
                self.flying.push((at, request));
            }
        }
        false
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("k{}", self.keys)
    }

    /// One step of a machine's agent: one read, or one change.
    fn agent(&mut self, number: usize) {
        if !self.works(number) || !Self::lives(&self.machines[&number]) {
            return;
        }
        let (me, now) = (id(number), self.now);
        let listed: Vec<(usize, Lifecycle)> =
            self.machines.iter().filter_map(|(number, one)| Some((*number, one.lifecycle?))).collect();
        let machine = self.machines.get_mut(&number).expect("a machine");
        let look = &mut machine.look;
        if look.log.is_none() {
            let log = Log::of(self.store.log.clone());
            if machine.last.0 != log.next_number() {
                machine.last = (log.next_number(), now);
            }
            look.log = Some(log);
        } else if look.groups.is_none() {
            look.groups = Some(vec![group("control", &listed)]);
        } else if look.holders.is_none() {
            let holders = self.store.holders.iter().map(|((machine, key), cluster)| Holder {
                machine: machine.clone(),
                key: key.clone(),
                cluster: cluster.clone(),
            });
            look.holders = Some(holders.collect());
        } else if look.registered.is_none() {
            let listed = self.store.registered.iter().map(|id| (id.clone(), address(number_in(id))));
            look.registered = Some(listed.collect());
        } else if look.token.is_none() {
            look.token = Some(self.store.token.clone());
        } else {
            let look = std::mem::take(look);
            self.act(number, &me, &look);
        }
    }

    fn act(&mut self, number: usize, me: &MachineId, look: &Look) {
        let (Some(log), Some(groups), Some(holders), Some(registered), Some(token)) =
            (&look.log, &look.groups, &look.holders, &look.registered, &look.token)
        else {
            return;
        };
        let machine = &self.machines[&number];
        let seconds = |since: u64| (self.now - since) * machine.clock / 100;
        let seen = Seen {
            me,
            role: Role::Control,
            control_groups: groups,
            log,
            legacy: self.store.legacy.as_ref(),
            token: token.is_some(),
            registered,
            holders,
            waited_s: seconds(machine.started_at),
            last_for_s: seconds(machine.last.1),
        };
        if let Some(swarm) = machine.swarm.clone() {
            if !self.decides(&swarm) {
                return;
            }
            let own = Own {
                cluster: &swarm,
                token_is_ours: token.as_ref().map(|token| *token == swarm),
                alone: Some(self.swarms[&swarm].managers.len() == 1),
            };
            let standing = standing(&seen, &own);
            return self.settle(number, me, &swarm, look, &standing);
        }
        let step = enter(&seen);
        // Founding is decided twice, on two looks.
        let checked = self.machines.get_mut(&number).expect("a machine").checked.take();
        match step {
            Step::Wait(_) => {}
            Step::Record(cluster) => {
                let key = self.key();
                self.send(Request::Hold(me.clone(), key, cluster));
            }
            Step::Withdraw(keys) => {
                for key in keys {
                    self.send(Request::Withdraw(me.clone(), key));
                }
            }
            Step::Claim { .. } => {
                let entry = Entry::Claim { machine: me.clone() };
                self.send(Request::Create(log.next_number(), entry));
            }
            Step::Found if checked == Some(Step::Found) => {
                if !self.machines[&number].broken {
                    let swarm = swarm_id(self.swarms.len() + 1);
                    self.swarms
                        .insert(swarm.clone(), Swarm { managers: BTreeSet::from([number]), joined: false });
                    self.machines.get_mut(&number).expect("a machine").swarm = Some(swarm);
                }
            }
            Step::Found => self.machines.get_mut(&number).expect("a machine").checked = Some(step),
            Step::Join(via) => self.join(number, &via, token.as_ref()),
        }
    }

    fn join(&mut self, number: usize, via: &[IpAddr], token: Option<&SwarmId>) {
        let Some(token) = token else { return };
        let through = via
            .iter()
            .map(|address| number_of(*address))
            .find(|other| self.works(*other) && self.machines[other].swarm.as_ref() == Some(token));
        // A token of another swarm opens nothing.
        if through.is_none() || !self.decides(token) {
            return;
        }
        let log = Log::of(self.store.log.clone());
        let legacy = self.store.legacy.is_some() && *token == swarm_id(1);
        assert!(legacy || log.ever_published(token), "{token} is joined and was never published");
        assert!(
            self.store.holders.iter().any(|((machine, _), _)| *machine == id(number)),
            "i-{number} joins without a record"
        );
        let swarm = self.swarms.get_mut(token).expect("a swarm");
        swarm.managers.insert(number);
        swarm.joined = true;
        self.machines.get_mut(&number).expect("a machine").swarm = Some(token.clone());
    }

    fn settle(&mut self, number: usize, me: &MachineId, swarm: &SwarmId, look: &Look, standing: &Standing) {
        let log = look.log.as_ref().expect("read");
        match standing {
            Standing::Wait(_) => {}
            Standing::Record => {
                let key = self.key();
                self.send(Request::Hold(me.clone(), key, Some(swarm.clone())));
            }
            Standing::Publish => {
                let entry = Entry::Published { machine: me.clone(), cluster: swarm.clone() };
                self.send(Request::Create(log.next_number(), entry));
            }
            Standing::Claim { .. } => {
                let entry = Entry::Claim { machine: me.clone() };
                self.send(Request::Create(log.next_number(), entry));
            }
            Standing::GiveWay => {
                assert!(!Log::of(self.store.log.clone()).ever_published(swarm), "{swarm} was published");
                assert_eq!(self.swarms[swarm].managers.len(), 1, "{swarm} was joined");
                self.swarms.get_mut(swarm).expect("a swarm").managers.clear();
                self.machines.get_mut(&number).expect("a machine").swarm = None;
            }
            Standing::Report(trouble) => {
                assert_eq!(*trouble, Trouble::Superseded, "i-{number}");
                panic!("i-{number} holds {swarm}, which was replaced");
            }
            Standing::Member => self.member(number, me, swarm, look),
        }
    }

    /// What a member does, above all the one that leads.
    fn member(&mut self, number: usize, me: &MachineId, swarm: &SwarmId, look: &Look) {
        let log = look.log.as_ref().expect("read");
        let founder = log.published().is_some_and(|one| one.machine == me);
        let leads = self.swarms[swarm].managers.iter().find(|other| self.works(**other)) == Some(&number);
        if (founder || leads) && self.store.token.as_ref() != Some(swarm) {
            if !self.send(Request::Token(swarm.clone())) {
                return;
            }
        }
        if self.store.token.as_ref() == Some(swarm) && !self.store.registered.contains(me) {
            self.send(Request::Register(me.clone()));
        }
        if !leads {
            return;
        }
        let gone = |number: &usize| self.machines[number].lifecycle.is_none();
        let out = self.swarms[swarm].managers.iter().copied().find(gone);
        if let Some(out) = out {
            self.swarms.get_mut(swarm).expect("a swarm").managers.remove(&out);
        }
        let recorded: BTreeSet<MachineId> = self
            .store
            .holders
            .keys()
            .map(|(machine, _)| machine.clone())
            .chain(self.store.registered.iter().cloned())
            .collect();
        for machine in recorded {
            if self.machines[&number_in(&machine)].lifecycle.is_none() {
                self.send(Request::Forget(machine));
            }
        }
    }

    /// Something happens.
    fn step(&mut self) {
        self.now += self.random.below(4);
        self.deliver();
        let living = self.living();
        let all: Vec<usize> = self.machines.keys().copied().collect();
        match self.random.below(100) {
            0..2 if living.len() < 5 => self.launch(),
            2 => {
                if let Some(number) = self.pick(&living) {
                    self.terminate(number);
                }
            }
            3..5 => {
                if let Some(number) = self.pick(&all) {
                    let frozen = !self.machines[&number].frozen;
                    self.machines.get_mut(&number).expect("a machine").frozen = frozen;
                }
            }
            5 => {
                if let Some(number) = self.pick(&living) {
                    let broken = !self.machines[&number].broken;
                    self.machines.get_mut(&number).expect("a machine").broken = broken;
                }
            }
            6 => {
                if let Some(number) = self.pick(&living) {
                    let now = self.now;
                    let machine = self.machines.get_mut(&number).expect("a machine");
                    (machine.look, machine.started_at, machine.last) = (Look::default(), now, (0, now));
                    machine.checked = None;
                }
            }
            7..9 => self.now += 20 + self.random.below(FOUNDING_S),
            _ => {
                // Mostly several steps of one, so that all of it comes about between two of another.
                let Some(number) = self.pick(&living) else { return };
                for _ in 0..1 + self.random.below(14) {
                    self.agent(number);
                }
            }
        }
    }

    fn terminate(&mut self, number: usize) {
        let machine = self.machines.get_mut(&number).expect("a machine");
        machine.lifecycle = None;
    }

    fn deliver(&mut self) {
        let now = self.now;
        while let Some(index) = self.flying.iter().position(|(at, _)| *at <= now) {
            let (_, request) = self.flying.remove(index);
            self.apply(request);
        }
    }

    /// Whether the cluster can become whole without a person: it was never founded, all that hold it are gone,
    /// or a majority of them lives.
    fn can_recover(&self) -> bool {
        let log = Log::of(self.store.log.clone());
        let legacy = self.store.legacy.as_ref().map(|_| swarm_id(1));
        let Some(cluster) = log.published().map(|one| one.cluster.clone()).or(legacy) else { return true };
        let holds = |one: &&Machine| Self::lives(one) && one.swarm.as_ref() == Some(&cluster);
        let living = self.machines.values().filter(holds).count();
        living == 0 || living >= majority(self.swarms[&cluster].managers.len())
    }

    /// No faults any more: what was on its way arrives, in any order, and all machines work.
    fn calm(&mut self) {
        self.faults = false;
        self.now += 10_000;
        while !self.flying.is_empty() {
            let index = self.random.below(self.flying.len() as u64) as usize;
            let (_, request) = self.flying.swap_remove(index);
            self.apply(request);
        }
        if self.living().is_empty() {
            self.launch();
        }
        for machine in self.machines.values_mut() {
            (machine.frozen, machine.broken) = (false, false);
        }
    }

    fn is_whole(&self) -> bool {
        let log = Log::of(self.store.log.clone());
        let Some(published) = log.published() else { return false };
        let whole = |number: usize| self.machines[&number].swarm.as_ref() == Some(published.cluster);
        self.living().into_iter().all(whole) && self.store.token.as_ref() == Some(published.cluster)
    }

    fn check(&self, seed: u64) {
        let log = Log::of(self.store.log.clone());
        let published =
            log.published().unwrap_or_else(|| panic!("seed {seed}: nothing is published: {log:?}"));
        for number in self.living() {
            let swarm = self.machines[&number].swarm.as_ref();
            assert_eq!(swarm, Some(published.cluster), "seed {seed}: i-{number}, {log:?} {:#?}", self.store);
        }
        assert_eq!(self.store.token.as_ref(), Some(published.cluster), "seed {seed}");
    }
}

fn run(seed: u64, prepare: impl Fn(&mut World)) -> World {
    let mut world = World::new(seed);
    let machines = 1 + world.random.below(4);
    (0..machines).for_each(|_| world.launch());
    prepare(&mut world);
    for _ in 0..STEPS {
        world.step();
    }
    world.calm();
    if world.can_recover() {
        for _ in 0..120 {
            world.now += FIRST_S;
            for number in world.living() {
                (0..7).for_each(|_| world.agent(number));
            }
            if world.is_whole() {
                break;
            }
        }
        world.check(seed);
    }
    world
}

#[test]
fn machines_come_to_one_cluster_whatever_is_late_or_lost() {
    let (mut clusters, mut taken_over, mut recovered, mut in_vain) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let world = run(seed, |_| {});
        let log = Log::of(world.store.log.clone());
        let published = log.all_published().count();
        clusters += usize::from(published > 1);
        taken_over += usize::from(world.store.log.len() > 2 * published);
        recovered += usize::from(world.can_recover());
        in_vain += usize::from(world.swarms.len() > published);
    }
    // The worlds are only worth something if these things happen in them.
    let seen = (clusters, taken_over, recovered, in_vain);
    assert!(clusters > 25 && taken_over > 100 && recovered > 1_000 && in_vain > 25, "{seen:?}");
}

#[test]
fn a_cluster_of_the_version_before_the_log_stays_the_cluster() {
    for seed in 0..SEEDS / 4 {
        run(seed, |world| {
            // Machine 1 founded it and all others that are there have joined.
            let swarm = swarm_id(1);
            let managers: BTreeSet<usize> = world.machines.keys().copied().collect();
            for number in &managers {
                world.machines.get_mut(number).expect("a machine").swarm = Some(swarm.clone());
                world.store.registered.insert(id(*number));
            }
            world.store.legacy = Some(id(1));
            world.store.token = Some(swarm.clone());
            world.swarms.insert(swarm, Swarm { managers, joined: false });
        });
    }
}
