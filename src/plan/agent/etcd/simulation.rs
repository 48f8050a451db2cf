//! Control machines that come, die, lose their data and leave in any order, against a model of
//! etcd's rules and of the rendezvous. What is done on an old look, and what is cut off in the
//! middle, is part of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{address, group, id};
use super::*;
use crate::model::etcd::ClusterState;
use crate::model::group::Lifecycle;

/// A machine.
#[derive(Debug, Clone)]
struct Machine {
    address: IpAddr,
    /// In its group; `None` once it is gone from it, and then it does not run either.
    lifecycle: Option<Lifecycle>,
    /// Whether others reach it.
    up: bool,
    /// The cluster and the member of its data.
    data: Option<(usize, u64)>,
    /// Whether its unit runs, or tries to.
    running: bool,
    /// What the unit starts with: the state, and the members' peer URLs.
    begin: Option<(ClusterState, BTreeSet<String>)>,
    waited_s: u64,
    /// What its agent is about to do.
    pending: Vec<Effect>,
}

/// Steps of founding, which other machines' steps come between.
#[derive(Debug, Clone, PartialEq)]
enum Effect {
    Claim(u64),
    Record,
    Recheck,
    Found,
}

#[derive(Debug, Clone)]
struct World {
    machines: BTreeMap<u8, Machine>,
    clusters: Vec<BTreeMap<u64, Member>>,
    log: Vec<Entry>,
    /// Claims whose agents gave them up, and that may still arrive.
    late: Vec<(u64, MachineId)>,
    now_s: u64,
    /// When the log grew last.
    grew_s: u64,
    recorded: BTreeSet<MachineId>,
    next_machine: u8,
    next_member: u64,
}

/// What happens; numbers choose among the machines there are.
#[derive(Debug, Clone)]
enum Event {
    Launch,
    /// Launched with the address of a machine that is gone.
    LaunchAgain,
    Lose(usize),
    /// Gone without a word, and its group does not know yet.
    Vanish(usize),
    /// Its group finds out.
    Notice(usize),
    Crash(usize),
    LoseData(usize),
    Cut(usize),
    Heal(usize),
    Terminate(usize),
    /// Its agent is killed between two steps.
    Kill(usize),
    /// A claim arrives that was sent before its agent was killed.
    Late(usize),
    Agent(usize),
    /// Its agent runs that often.
    Agents(usize, u8),
    Minute,
}

impl World {
    fn new() -> Self {
        Self {
            machines: BTreeMap::new(),
            clusters: Vec::new(),
            log: Vec::new(),
            late: Vec::new(),
            now_s: 0,
            grew_s: 0,
            recorded: BTreeSet::new(),
            next_machine: 1,
            next_member: 1,
        }
    }

    fn launch(&mut self, at: Option<IpAddr>) {
        let number = self.next_machine;
        self.next_machine += 1;
        let machine = Machine {
            address: at.unwrap_or_else(|| address(number)),
            lifecycle: Some(Lifecycle::InService),
            up: true,
            data: None,
            running: false,
            begin: None,
            waited_s: 0,
            pending: Vec::new(),
        };
        self.machines.insert(number, machine);
    }

    fn lives(machine: &Machine) -> bool {
        machine.lifecycle.is_some_and(|lifecycle| !lifecycle.is_leaving())
    }

    fn pick(&self, index: usize, which: impl Fn(&Machine) -> bool) -> Option<u8> {
        let found: Vec<u8> =
            self.machines.iter().filter(|(_, one)| which(one)).map(|(number, _)| *number).collect();
        (!found.is_empty()).then(|| found[index % found.len()])
    }

    fn active(&self, cluster: usize, member: u64) -> bool {
        self.machines.values().any(|one| one.up && one.running && one.data == Some((cluster, member)))
    }

    fn decides(&self, cluster: usize) -> bool {
        let voters: Vec<u64> =
            self.clusters[cluster].values().filter(|one| !one.learner).map(|one| one.id).collect();
        voters.iter().filter(|id| self.active(cluster, **id)).count() >= majority(voters.len())
    }

    /// What units do by themselves.
    fn settle(&mut self) {
        for number in self.machines.keys().copied().collect::<Vec<_>>() {
            let machine = &self.machines[&number];
            if !machine.running || !machine.up {
                continue;
            }
            match machine.data {
                // A member that was removed ends.
                Some((cluster, member)) => {
                    if !self.clusters[cluster].contains_key(&member) && self.decides(cluster) {
                        self.machine(number).running = false;
                    }
                }
                None => self.begin(number),
            }
        }
    }

    fn begin(&mut self, number: u8) {
        let machine = self.machines[&number].clone();
        let (name, url) = (id(number).to_string(), peer_url(machine.address));
        let client_urls = vec![url.replace("2380", "2379")];
        match machine.begin {
            Some((ClusterState::New, _)) => {
                for (other, one) in &self.machines {
                    let votes = one.data.is_some_and(|(cluster, member)| {
                        self.clusters[cluster].get(&member).is_some_and(|member| !member.learner)
                    });
                    assert!(!(votes && Self::lives(one)), "i-{number} founds while i-{other} has a vote");
                }
                let member = self.next_member;
                self.next_member += 1;
                let founder = Member {
                    id: member,
                    name: Some(name),
                    peer_urls: vec![url],
                    client_urls,
                    learner: false,
                };
                self.clusters.push(BTreeMap::from([(member, founder)]));
                self.machine(number).data = Some((self.clusters.len() - 1, member));
            }
            Some((ClusterState::Existing, urls)) => {
                // etcd compares what it was told with what the members say.
                let Some(cluster) = (0..self.clusters.len()).rev().find(|cluster| self.decides(*cluster))
                else {
                    return;
                };
                let there: BTreeSet<String> =
                    self.clusters[cluster].values().flat_map(|one| one.peer_urls.clone()).collect();
                let own = self.clusters[cluster].values_mut().find(|one| one.peer_urls.contains(&url));
                if let Some(own) = own
                    && there == urls
                    && own.name.is_none()
                {
                    (own.name, own.client_urls) = (Some(name), client_urls);
                    let member = own.id;
                    self.machine(number).data = Some((cluster, member));
                }
            }
            None => {}
        }
    }

    fn machine(&mut self, number: u8) -> &mut Machine {
        self.machines.get_mut(&number).expect("a machine")
    }

    /// The members as that machine finds them.
    fn members(&self) -> Option<(usize, Vec<Observed>)> {
        let cluster = (0..self.clusters.len()).rev().find(|cluster| self.decides(*cluster))?;
        let observed = self.clusters[cluster].values().map(|member| Observed {
            member: member.clone(),
            healthy: member.name.is_some() && self.active(cluster, member.id),
        });
        Some((cluster, observed.collect()))
    }

    fn groups(&self) -> Vec<Group> {
        let listed: Vec<_> = self
            .machines
            .iter()
            .filter_map(|(number, one)| one.lifecycle.map(|lifecycle| (*number, lifecycle)))
            .collect();
        vec![group(&listed)]
    }

    /// The manager that leads: one that the others reach.
    fn leader(&self) -> Option<u8> {
        self.pick(0, |one| one.up && Self::lives(one))
    }

    /// One round of a machine's agent, with all that its units do on it.
    fn agent(&mut self, number: u8) -> Option<Action> {
        self.settle();
        if !self.machines.get(&number).is_some_and(|one| one.up) {
            return None;
        }
        if !self.machines[&number].pending.is_empty() {
            let effect = self.machine(number).pending.remove(0);
            self.effect(number, &effect);
            return None;
        }
        let machine = self.machines[&number].clone();
        let me = id(number);
        let (groups, found) = (self.groups(), self.members());
        let recorded: Vec<MachineId> = self.recorded.iter().cloned().collect();
        let registered: Vec<_> = self
            .machines
            .iter()
            .filter(|(_, one)| one.lifecycle.is_some())
            .map(|(number, one)| (id(*number), one.address))
            .collect();
        let log = Log::of(self.log.clone());
        let seen = Seen {
            me: &me,
            address: machine.address,
            control_groups: &groups,
            log: &log,
            initialiser: None,
            recorded: &recorded,
            registered: &registered,
            data: machine.data.is_some(),
            service: if machine.running { Service::Running } else { Service::Stopped },
            members: found.as_ref().map(|(_, members)| members.as_slice()),
            leads: self.leader() == Some(number),
            waited_s: machine.waited_s,
            last_for_s: machine.waited_s.min(self.now_s - self.grew_s),
        };
        if machine.lifecycle.is_some_and(Lifecycle::is_leaving) {
            self.go(number, &seen, found.as_ref().map(|(cluster, _)| *cluster));
            return None;
        }
        let action = next(&seen);
        let cluster = found.as_ref().map(|(cluster, _)| *cluster);
        self.perform(number, &action, cluster);
        self.settle();
        Some(action)
    }

    /// What a machine does that was told to go.
    fn go(&mut self, number: u8, seen: &Seen<'_>, cluster: Option<usize>) {
        if let Some(action) = tidy(seen) {
            return self.perform(number, &action, cluster);
        }
        match leave(seen) {
            Leave::Wait => {}
            Leave::Last => self.lose(number),
            Leave::Now(member) => self.remove(cluster.expect("members"), member),
            Leave::Out => {
                self.recorded.remove(&id(number));
                self.lose(number);
            }
        }
    }

    fn lose(&mut self, number: u8) {
        let machine = self.machine(number);
        (machine.lifecycle, machine.up, machine.running) = (None, false, false);
        machine.pending.clear();
    }

    fn perform(&mut self, number: u8, action: &Action, cluster: Option<usize>) {
        let me = id(number);
        let url = peer_url(self.machines[&number].address);
        match action {
            Action::Wait(_) => {}
            Action::Settled => drop(self.recorded.insert(me)),
            Action::Claim { .. } => {
                let next = Log::of(self.log.clone()).next_number();
                self.machine(number).pending = vec![Effect::Claim(next)];
            }
            Action::Found => {
                self.machine(number).pending = vec![Effect::Record, Effect::Recheck, Effect::Found];
            }
            Action::Add => {
                let cluster = cluster.expect("members");
                let members = &self.clusters[cluster];
                let whole = members.values().all(|one| !one.learner && self.active(cluster, one.id));
                let new = members.values().all(|one| !one.peer_urls.contains(&url));
                if whole && new && self.decides(cluster) {
                    let member = Member {
                        id: self.next_member,
                        name: None,
                        peer_urls: vec![url],
                        client_urls: vec![],
                        learner: true,
                    };
                    self.next_member += 1;
                    self.clusters[cluster].insert(member.id, member);
                }
            }
            Action::Join => {
                let members = &self.clusters[cluster.expect("members")];
                let urls = members.values().flat_map(|one| one.peer_urls.clone()).collect();
                let machine = self.machine(number);
                (machine.begin, machine.running) = (Some((ClusterState::Existing, urls)), true);
            }
            Action::Start => self.machine(number).running = true,
            Action::Promote(member) => {
                self.recorded.insert(me);
                let cluster = cluster.expect("members");
                let members = &self.clusters[cluster];
                if members.keys().all(|id| self.active(cluster, *id)) && self.decides(cluster) {
                    self.clusters[cluster].get_mut(member).expect("the member").learner = false;
                }
            }
            Action::Remove { member, reason } => {
                let cluster = cluster.expect("members");
                for (other, one) in &self.machines {
                    let holds = one.data == Some((cluster, *member));
                    let waits = self.clusters[cluster][member].peer_urls.contains(&peer_url(one.address));
                    let theirs = holds || (self.clusters[cluster][member].name.is_none() && waits);
                    assert!(!(theirs && Self::lives(one)), "{reason:?}: i-{other} lives");
                }
                self.remove(cluster, *member);
            }
            Action::SetAside => {
                let (cluster, member) = self.machines[&number].data.expect("data");
                let votes = self.clusters[cluster].get(&member).is_some_and(|one| !one.learner);
                assert!(!votes, "i-{number} has a vote still");
                let machine = self.machine(number);
                (machine.data, machine.running, machine.begin) = (None, false, None);
            }
            Action::Withdraw => {
                assert!(self.machines[&number].data.is_none());
                self.recorded.remove(&me);
            }
            Action::Forget(machine) => drop(self.recorded.remove(machine)),
        }
    }

    fn remove(&mut self, cluster: usize, member: u64) {
        let members = &self.clusters[cluster];
        let rest: Vec<u64> =
            members.values().filter(|one| !one.learner && one.id != member).map(|one| one.id).collect();
        let active = rest.iter().filter(|id| self.active(cluster, **id)).count();
        let goes_on = !rest.is_empty() && active >= majority(rest.len());
        assert!(self.decides(cluster) && goes_on, "the majority would be lost, and etcd refuses");
        self.clusters[cluster].remove(&member);
    }

    /// Creates a record of the log unless it is there.
    fn claim(&mut self, at: u64, machine: MachineId) {
        if at == Log::of(self.log.clone()).next_number() {
            self.log.push(Entry::Claim { machine });
            self.grew_s = self.now_s;
        }
    }

    fn effect(&mut self, number: u8, effect: &Effect) {
        let me = id(number);
        match effect {
            Effect::Claim(at) => self.claim(*at, me),
            Effect::Record => drop(self.recorded.insert(me)),
            Effect::Recheck => {
                let recorded: Vec<MachineId> = self.recorded.iter().cloned().collect();
                if !may_found(&me, &self.groups(), &Log::of(self.log.clone()), &recorded) {
                    self.recorded.remove(&me);
                    self.machine(number).pending.clear();
                }
            }
            Effect::Found => {
                let machine = self.machine(number);
                (machine.begin, machine.running) = (Some((ClusterState::New, BTreeSet::new())), true);
                self.settle();
            }
        }
    }

    fn happen(&mut self, event: &Event) {
        let living = |one: &Machine| Self::lives(one) && one.up;
        match event {
            Event::Launch if self.machines.values().filter(|one| Self::lives(one)).count() < 5 => {
                self.launch(None);
            }
            Event::LaunchAgain => {
                let used = |address| {
                    self.machines.values().any(|one| one.lifecycle.is_some() && one.address == address)
                };
                let gone = self.machines.values().map(|one| one.address).find(|address| !used(*address));
                if let Some(address) = gone {
                    self.launch(Some(address));
                }
            }
            Event::Launch => {}
            Event::Lose(index) => {
                if let Some(number) = self.pick(*index, living) {
                    self.lose(number);
                }
            }
            Event::Vanish(index) => {
                if let Some(number) = self.pick(*index, living) {
                    let machine = self.machine(number);
                    (machine.up, machine.running) = (false, false);
                    machine.pending.clear();
                }
            }
            Event::Notice(index) => {
                if let Some(number) = self.pick(*index, |one| !one.up && !one.running) {
                    self.lose(number);
                }
            }
            Event::Crash(index) => {
                if let Some(number) = self.pick(*index, living) {
                    self.machine(number).running = false;
                }
            }
            Event::LoseData(index) => {
                if let Some(number) = self.pick(*index, living) {
                    let machine = self.machine(number);
                    (machine.data, machine.running, machine.begin) = (None, false, None);
                }
            }
            Event::Cut(index) => {
                if let Some(number) = self.pick(*index, living) {
                    self.machine(number).up = false;
                }
            }
            Event::Heal(index) => {
                if let Some(number) = self.pick(*index, |one| one.lifecycle.is_some() && !one.up) {
                    self.machine(number).up = true;
                }
            }
            Event::Terminate(index) => {
                if let Some(number) = self.pick(*index, living) {
                    let machine = self.machine(number);
                    machine.lifecycle = Some(Lifecycle::TerminatingWait);
                    machine.pending.clear();
                }
            }
            Event::Kill(index) => {
                if let Some(number) = self.pick(*index, living) {
                    let pending = std::mem::take(&mut self.machine(number).pending);
                    if let Some(Effect::Claim(at)) = pending.first() {
                        self.late.push((*at, id(number)));
                    }
                }
            }
            Event::Late(index) => {
                if !self.late.is_empty() {
                    let (at, machine) = self.late.remove(*index % self.late.len());
                    self.claim(at, machine);
                }
            }
            Event::Agent(index) => {
                if let Some(number) = self.pick(*index, |one| one.up) {
                    self.agent(number);
                }
            }
            Event::Agents(index, times) => {
                for _ in 0..*times {
                    self.happen(&Event::Agent(*index));
                }
            }
            Event::Minute => {
                self.now_s += 70;
                self.machines.values_mut().for_each(|one| one.waited_s += 70);
            }
        }
        self.settle();
        // What founding rests on.
        for (number, one) in self.machines.iter().filter(|(_, one)| Self::lives(one)) {
            let votes = one.data.is_some_and(|(cluster, member)| {
                self.clusters[cluster].get(&member).is_some_and(|member| !member.learner)
            });
            assert!(!votes || self.recorded.contains(&id(*number)), "i-{number} votes and is not on record");
        }
    }

    /// Whether etcd can be whole again without anybody's help: whatever cluster a machine
    /// with a vote lives of has a majority on machines that live.
    fn can_recover(&self) -> bool {
        (0..self.clusters.len()).all(|cluster| {
            let holds = |member: &Member| {
                self.machines.values().any(|one| Self::lives(one) && one.data == Some((cluster, member.id)))
            };
            let voters: Vec<&Member> = self.clusters[cluster].values().filter(|one| !one.learner).collect();
            let living = voters.iter().filter(|one| holds(one)).count();
            living == 0 || living >= majority(voters.len())
        })
    }
}

fn event() -> impl Strategy<Value = Event> {
    let index = 0_usize..8;
    prop_oneof![
        3 => Just(Event::Launch),
        1 => Just(Event::LaunchAgain),
        1 => index.clone().prop_map(Event::Lose),
        1 => index.clone().prop_map(Event::Vanish),
        2 => index.clone().prop_map(Event::Notice),
        1 => index.clone().prop_map(Event::Crash),
        1 => index.clone().prop_map(Event::LoseData),
        1 => index.clone().prop_map(Event::Cut),
        2 => index.clone().prop_map(Event::Heal),
        1 => index.clone().prop_map(Event::Terminate),
        1 => index.clone().prop_map(Event::Kill),
        1 => index.clone().prop_map(Event::Late),
        12 => index.clone().prop_map(Event::Agent),
        8 => (index, 2_u8..12).prop_map(|(index, times)| Event::Agents(index, times)),
        1 => Just(Event::Minute),
    ]
}

proptest! {
    #[test]
    fn etcd_stays_one_and_becomes_whole(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        world.launch(None);
        for event in &events {
            world.happen(event);
        }
        // Now things stay still: whoever lives is reached, and whoever is not is gone.
        for number in world.machines.keys().copied().collect::<Vec<_>>() {
            if world.machines[&number].lifecycle.is_some_and(|one| !one.is_leaving()) {
                world.machine(number).up = true;
            } else {
                world.lose(number);
            }
        }
        let can_recover = world.can_recover();
        let mut last = BTreeMap::new();
        for round in 0..120 {
            // Long enough for a living machine that claimed and does not found.
            if round % 20 == 0 {
                world.happen(&Event::Minute);
            }
            for number in world.machines.keys().copied().collect::<Vec<_>>() {
                last.insert(number, world.agent(number));
            }
        }
        let living: BTreeSet<String> = world
            .machines
            .iter()
            .filter(|(_, one)| World::lives(one))
            .map(|(number, _)| id(*number).to_string())
            .collect();
        if can_recover && !living.is_empty() {
            let members = world.members().expect("a majority").1;
            let names: BTreeSet<String> =
                members.iter().filter_map(|one| one.member.name.clone()).collect();
            prop_assert_eq!(&names, &living, "{:#?} {:#?}", world, last);
            prop_assert!(members.iter().all(|one| one.healthy && !one.member.learner));
            let recorded: BTreeSet<String> = world.recorded.iter().map(ToString::to_string).collect();
            prop_assert_eq!(recorded, living);
        }
    }
}

#[test]
fn two_that_take_over_at_once_found_one() {
    let mut begun = World::new();
    (0..3).for_each(|_| begun.launch(None));
    let agent = |world: &mut World, numbers: &[u8]| {
        for number in numbers {
            world.agent(*number);
        }
    };
    // The first claims and is gone. The second claims and stands still before it records itself, for
    // so long that the third takes over from it.
    agent(&mut begun, &[1, 1]);
    begun.lose(1);
    begun.happen(&Event::Minute);
    agent(&mut begun, &[2, 2, 2]);
    (0..3).for_each(|_| begun.happen(&Event::Minute));
    agent(&mut begun, &[3, 3, 3]);
    let founding = vec![Effect::Record, Effect::Recheck, Effect::Found];
    assert!([2, 3].iter().all(|number| begun.machines[number].pending == founding));
    // Every order of their three steps; founding twice is found out by the world itself.
    for order in (0_u32..64).filter(|order| order.count_ones() == 3) {
        let mut world = begun.clone();
        let steps: Vec<u8> = (0..6).map(|step| if (order >> step) & 1 == 1 { 2 } else { 3 }).collect();
        agent(&mut world, &steps);
        for _ in 0..40 {
            agent(&mut world, &[2, 3]);
        }
        let members = world.members().expect("a majority").1;
        assert_eq!((world.clusters.len(), members.len()), (1, 2), "{steps:?}");
        assert!(members.iter().all(|one| !one.member.learner), "{steps:?}");
    }
}
