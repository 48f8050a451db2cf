//! Leaders with old views and clocks of their own, machines that die, helpers that ask twice: in
//! thousands of histories nothing runs twice and each occurrence is recorded once. In some of them a service
//! is deployed again and again, with revisions that run a command before: none is rolled out before its
//! command has succeeded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::permit::{after, before};
use super::*;
use crate::model::before::{Action as Step, Command, Waiting, Waits};
use crate::model::schedule::{Schedule, Times};
use crate::plan::dice::Dice;

/// How many histories are tried; FLEETWRIGHT_MODELS tries more (`make test-models`: 10,000).
const SEEDS: u64 = 600;
/// The leaders that there may be at once.
const LEADERS: usize = 3;
/// The machines.
const MACHINES: u64 = 3;

type Key = (OccurrenceId, u32);

/// The claim of an occurrence, as the managers agreed on it.
#[derive(Debug, Clone)]
struct Claim {
    at: DateTime<Utc>,
    outcome: Option<(Outcome, DateTime<Utc>)>,
}

/// A permit.
#[derive(Debug, Clone)]
struct Held {
    version: u64,
    permit: Permit,
    /// Which helper took it.
    nonce: Option<u64>,
}

#[derive(Debug, Clone)]
struct Service {
    created: DateTime<Utc>,
    task: Option<u64>,
    down: bool,
}

/// A revision's record.
#[derive(Debug, Clone, Copy)]
struct Revision {
    version: u64,
    waits: bool,
    /// It failed, or a newer one took its place.
    over: bool,
}

/// What the managers agreed on.
#[derive(Debug, Clone, Default)]
struct Store {
    revisions: BTreeMap<u64, Revision>,
    /// The highest number of a revision or a removal.
    newest: u64,
    /// The revision that the service is at.
    current: u64,
    /// The version of the service.
    version: u64,
    index: u64,
    claims: BTreeMap<OccurrenceId, Claim>,
    permits: BTreeMap<Key, Held>,
    services: BTreeMap<Key, Service>,
    recorded: DateTime<Utc>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// On its way to its machine.
    Placed,
    /// The helper asks: nothing was done yet.
    Asks,
    /// A control machine has found that it may, by what it saw.
    Checked,
    /// Its permit is there.
    Created,
    /// The command runs.
    Executes,
    /// It ended.
    Ended { exit: i64, at: i64, told: bool },
}

#[derive(Debug, Clone)]
struct Container {
    key: Key,
    machine: u64,
    at: At,
}

/// A leader, or one that believes it is.
#[derive(Debug, Clone, Default)]
struct Leader {
    /// How far its clock is off.
    off: i64,
    /// What it is about to do, with the version of the permit that it saw.
    queue: VecDeque<(Action, Option<u64>)>,
    /// What it is about to do about revisions, with the versions of the record and the service that it saw.
    steps: VecDeque<(Step, u64, u64)>,
}

/// What really happened to an occurrence.
#[derive(Debug, Clone, Default)]
struct Truth {
    runs: u32,
    running: bool,
    /// A machine was lost while it ran.
    lost: bool,
    /// A machine was lost after it was permitted, or before its end was reported.
    doubtful: bool,
    succeeded: bool,
    settled: Vec<Outcome>,
}

struct World {
    dice: Dice,
    now: i64,
    store: Store,
    containers: BTreeMap<u64, Container>,
    up: BTreeSet<u64>,
    leaders: Vec<Leader>,
    rules: Rules,
    schedule: Schedule,
    times: Times,
    from: i64,
    catch_up: Option<Duration>,
    truth: BTreeMap<OccurrenceId, Truth>,
    /// How likely the command fails, one in.
    fails: u64,
    quiet: bool,
    /// Whether a service is deployed, instead of a job.
    deploys: bool,
    /// The revisions that were rolled out after their command.
    rolled_out: BTreeSet<u64>,
}

/// The service that is deployed.
const SERVICE: &str = "web";

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

impl World {
    fn new(seed: u64, deploys: bool) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let overlap = [Overlap::Skip, Overlap::Queue, Overlap::Replace][dice.below(3) as usize];
        let rules = Rules {
            overlap,
            timeout: dice.chance(2).then(|| Duration::from_secs(30 + dice.below(300))),
            retries: if deploys { 0 } else { dice.below(3) as u32 },
        };
        let rules = if deploys { Rules { overlap: Overlap::Queue, ..rules } } else { rules };
        // Half of the histories lie in a night whose clocks change.
        let (cron, start) = match dice.below(4) {
            0 => ("*/20 1-3 * * *", "2026-03-29T00:00:00Z"),
            1 => ("*/20 1-3 * * *", "2026-10-25T00:00:00Z"),
            2 => ("* * * * *", "2026-06-01T12:00:20Z"),
            _ => ("*/3 * * * *", "2026-06-01T12:00:20Z"),
        };
        let from = start.parse::<DateTime<Utc>>().expect("a time").timestamp();
        let leaders =
            (0..LEADERS).map(|_| Leader { off: dice.below(9) as i64 - 4, ..Leader::default() }).collect();
        let schedule = Schedule { cron: cron.to_owned(), timezone: "Europe/Berlin".to_owned() };
        Self {
            now: from,
            store: Store { recorded: time(from), ..Store::default() },
            containers: BTreeMap::new(),
            up: (0..MACHINES).collect(),
            leaders,
            rules,
            times: schedule.times().expect("a schedule"),
            schedule,
            from,
            catch_up: dice.chance(2).then(|| Duration::from_secs(600)),
            truth: BTreeMap::new(),
            fails: 1 + dice.below(4),
            quiet: false,
            deploys,
            rolled_out: BTreeSet::new(),
            dice,
        }
    }

    fn job(&self) -> Job {
        Job {
            name: "night".parse().expect("a name"),
            times: Some(self.times.clone()),
            from: time(self.from),
            recorded: self.store.recorded,
            catch_up: self.catch_up,
        }
    }

    /// The jobs that are deployed.
    fn jobs(&self) -> Vec<Job> {
        if self.deploys { Vec::new() } else { vec![self.job()] }
    }

    /// The revisions that wait for their command.
    fn waits(&self) -> Waits {
        let store = &self.store;
        let waiting = store.revisions.iter().filter(|(_, one)| one.waits && !one.over);
        let command = |number: u64| match store.claims.get(&OccurrenceId::before(SERVICE, number)) {
            None => Command::Unclaimed,
            Some(Claim { outcome: None, .. }) => Command::Open,
            Some(Claim { outcome: Some((outcome, _)), .. }) => Command::Ended(*outcome),
        };
        let waiting = waiting.map(|(number, _)| Waiting { revision: *number, command: command(*number) });
        Waits { current: store.current, newest: store.newest, waiting: waiting.collect() }
    }

    /// Whether an occurrence may still begin.
    fn wanted(&self, id: &OccurrenceId) -> bool {
        let Some(revision) = id.revision() else { return true };
        let waits = self.waits();
        waits.is_wanted(revision) && waits.waiting.iter().any(|one| one.revision == revision)
    }

    /// Somebody deploys, with a command before or without one, or removes the service.
    fn deploy(&mut self) {
        let store = &mut self.store;
        store.newest += 1;
        store.index += 1;
        let (number, version) = (store.newest, store.index);
        match self.dice.below(10) {
            0 => {
                store.revisions.clear();
                (store.current, store.version) = (0, version);
            }
            1 | 2 => {
                store.revisions.insert(number, Revision { version, waits: false, over: false });
                (store.current, store.version) = (number, version);
            }
            kind => {
                store.revisions.insert(number, Revision { version, waits: true, over: false });
                // Whoever created the record may be killed before the claim.
                if kind < 7 {
                    self.step_about(Step::Claim { revision: number }, version, 0);
                }
            }
        }
    }

    /// What the executor does about a revision.
    fn step_about(&mut self, step: Step, record: u64, service: u64) {
        let now = time(self.now);
        self.store.index += 1;
        let index = self.store.index;
        let is_as_seen = |store: &Store, number: u64| {
            store.revisions.get(&number).is_some_and(|one| one.version == record)
        };
        let change = |store: &mut Store, number: u64, change: fn(&mut Revision)| {
            if is_as_seen(store, number)
                && let Some(one) = store.revisions.get_mut(&number)
            {
                change(one);
                one.version = index;
            }
        };
        match step {
            Step::Claim { revision } => {
                let id = OccurrenceId::before(SERVICE, revision);
                self.store.claims.entry(id).or_insert(Claim { at: now, outcome: None });
            }
            Step::RollOut { revision } => {
                if self.store.version != service {
                    return;
                }
                let truth = &self.truth[&OccurrenceId::before(SERVICE, revision)];
                assert!(truth.succeeded && truth.settled == [Outcome::Succeeded], "{revision}: {truth:?}");
                assert!(revision > self.store.current, "{revision} after {}", self.store.current);
                (self.store.current, self.store.version) = (revision, index);
                self.rolled_out.insert(revision);
                // It may be killed before it has recorded that.
                if !self.dice.chance(3) {
                    change(&mut self.store, revision, |one| one.waits = false);
                }
            }
            Step::Begun { revision } => change(&mut self.store, revision, |one| one.waits = false),
            Step::Fail { revision, .. } => {
                assert!(!self.rolled_out.contains(&revision), "{revision} was rolled out");
                change(&mut self.store, revision, |one| one.over = true);
            }
            Step::Replace { revision } => change(&mut self.store, revision, |one| one.over = true),
        }
    }

    fn task(&self, service: &Service) -> Task {
        let Some(container) = service.task.and_then(|id| self.containers.get(&id)) else {
            return Task::None;
        };
        match container.at {
            // The engine forgets a task that it was asked to stop.
            At::Ended { .. } if service.down => Task::None,
            At::Ended { exit, at, .. } => Task::Ended { at: time(at), exit: Some(exit), reason: None },
            _ if !self.up.contains(&container.machine) => Task::Lost,
            At::Placed => Task::Waiting { message: None },
            At::Asks | At::Checked | At::Created | At::Executes => Task::Running,
        }
    }

    /// What a manager sees.
    fn view(&self) -> Vec<Claimed> {
        let attempts = |id: &OccurrenceId| {
            let mut numbers: BTreeSet<u32> =
                self.store.permits.keys().filter(|(of, _)| of == id).map(|(_, n)| *n).collect();
            numbers.extend(self.store.services.keys().filter(|(of, _)| of == id).map(|(_, n)| *n));
            numbers
                .into_iter()
                .map(|number| {
                    let key = (id.clone(), number);
                    let service = self.store.services.get(&key);
                    Attempt {
                        number,
                        since: service.map_or(time(self.now), |service| service.created),
                        permit: self.store.permits.get(&key).map_or(Permit::Free, |held| held.permit.clone()),
                        service: service.map(|service| self.task(service)),
                    }
                })
                .collect()
        };
        let claims = self.store.claims.iter();
        claims
            .map(|(id, claim)| Claimed {
                id: id.clone(),
                at: claim.at,
                rules: Some(self.rules),
                problem: None,
                wanted: self.wanted(id),
                outdated: false,
                attempts: attempts(id),
                outcome: claim.outcome,
            })
            .collect()
    }

    /// A leader looks, and decides by its own clock.
    fn look(&mut self, leader: usize) {
        let now = time(self.now + self.leaders[leader].off);
        let decided = decide(now, &self.jobs(), &self.view());
        let seen = |action: &Action| match action {
            Action::Stop { id, attempt, .. }
            | Action::Lost { id, attempt, .. }
            | Action::End { id, attempt, .. } => {
                self.store.permits.get(&(id.clone(), *attempt)).map(|held| held.version)
            }
            _ => None,
        };
        let queue: VecDeque<_> = decided.into_iter().map(|action| (action.clone(), seen(&action))).collect();
        self.leaders[leader].queue.extend(queue);
        let record = |step: &Step| {
            let (Step::Claim { revision }
            | Step::RollOut { revision }
            | Step::Begun { revision }
            | Step::Fail { revision, .. }
            | Step::Replace { revision }) = step;
            self.store.revisions.get(revision).map_or(0, |one| one.version)
        };
        let steps = crate::plan::before::decide(&self.waits());
        let steps: VecDeque<_> =
            steps.into_iter().map(|step| (step, record(&step), self.store.version)).collect();
        self.leaders[leader].steps.extend(steps);
    }

    fn settle(&mut self, id: &OccurrenceId, outcome: Outcome) {
        let now = time(self.now);
        let Some(claim) = self.store.claims.get_mut(id) else { return };
        if claim.outcome.is_none() {
            claim.outcome = Some((outcome, now));
            self.truth.entry(id.clone()).or_default().settled.push(outcome);
        }
    }

    /// Changes a permit as it was seen.
    fn note(&mut self, key: &Key, version: Option<u64>, change: impl FnOnce(&mut Permit)) -> bool {
        self.store.index += 1;
        let index = self.store.index;
        match self.store.permits.get_mut(key) {
            Some(held) if Some(held.version) == version => {
                change(&mut held.permit);
                held.version = index;
                true
            }
            _ => false,
        }
    }

    /// What the executor does about an action.
    fn act(&mut self, action: Action, version: Option<u64>) {
        let now = time(self.now);
        match action {
            Action::Claim { at, missed, job } => {
                let id = OccurrenceId::due(&job, at);
                if !self.store.claims.contains_key(&id) {
                    self.store.claims.insert(id.clone(), Claim { at, outcome: None });
                    if missed {
                        self.settle(&id, Outcome::Missed);
                    }
                }
            }
            Action::Start { id, attempt } => {
                let new = Service { created: now, task: None, down: false };
                self.store.services.entry((id, attempt)).or_insert(new);
            }
            Action::Void { id, attempt, why } => {
                self.store.index += 1;
                let void = Permit::Void { why, at: now };
                let new = Held { version: self.store.index, permit: void, nonce: None };
                self.store.permits.entry((id, attempt)).or_insert(new);
            }
            Action::Stop { id, attempt, why } => {
                let key = (id, attempt);
                let noted = self.note(&key, version, |permit| {
                    if let Permit::Held { stop, .. } = permit {
                        stop.get_or_insert(why);
                    }
                });
                if let Some(service) = self.store.services.get_mut(&key).filter(|_| noted) {
                    service.down = true;
                }
            }
            Action::Lost { id, attempt, lost } => {
                self.note(&(id, attempt), version, |permit| {
                    if let Permit::Held { lost: noted, .. } = permit {
                        *noted = lost.then_some(now);
                    }
                });
            }
            Action::End { id, attempt, end } => {
                self.note(&(id, attempt), version, |permit| {
                    if let Permit::Held { end: noted, .. } = permit {
                        noted.get_or_insert(end);
                    }
                });
            }
            Action::Settle { id, outcome, .. } => self.settle(&id, outcome),
            Action::Remove { id, attempt } => {
                let removed = self.store.services.remove(&(id, attempt));
                if let Some(task) = removed.and_then(|service| service.task) {
                    self.kill(task);
                }
            }
            // A recovery makes it; the leaders do not.
            Action::Record { .. } => {}
            Action::Tidy { id } => {
                if self.store.claims.get(&id).is_none_or(|claim| claim.outcome.is_some()) {
                    self.store.permits.retain(|(of, _), _| *of != id);
                }
            }
            Action::Forget { id, at } => {
                self.store.recorded = self.store.recorded.max(at);
                self.store.claims.remove(&id);
                self.store.permits.retain(|(of, _), _| *of != id);
            }
        }
    }

    /// A container's machine stops it.
    fn kill(&mut self, task: u64) {
        let now = self.now;
        let Some(container) = self.containers.get_mut(&task) else { return };
        if matches!(container.at, At::Ended { .. }) {
            return;
        }
        if container.at == At::Executes {
            self.truth.entry(container.key.0.clone()).or_default().running = false;
        }
        container.at = At::Ended { exit: 143, at: now, told: false };
    }

    /// Something happens to the container of a task.
    fn contain(&mut self, id: u64) {
        let Some(Container { key, machine, at }) = self.containers.get(&id).cloned() else { return };
        if !self.up.contains(&machine) {
            return;
        }
        let view = self.view();
        let one = view.iter().find(|one| one.id == key.0);
        let recorded = Some(self.store.recorded);
        let next = match at {
            At::Placed => At::Asks,
            At::Asks => {
                let held = self.store.permits.get(&key);
                match before(one, key.1, recorded) {
                    Ok(()) => At::Checked,
                    // It asks again because an answer was lost.
                    Err(_) if held.is_some_and(|held| held.nonce == Some(id)) => At::Created,
                    Err(_) => At::Ended { exit: 75, at: self.now, told: false },
                }
            }
            // The control machine died, or its answer was lost.
            At::Checked | At::Created if self.dice.chance(8) => At::Asks,
            At::Checked => {
                self.store.index += 1;
                let permit = Permit::Held { since: time(self.now), stop: None, lost: None, end: None };
                let new = Held { version: self.store.index, permit, nonce: Some(id) };
                self.store.permits.entry(key.clone()).or_insert(new);
                At::Created
            }
            At::Created => {
                let own = self.store.permits.get(&key).filter(|held| held.nonce == Some(id)).cloned();
                let void = |held: &Held| matches!(held.permit, Permit::Void { .. });
                match own {
                    Some(own) if !void(&own) => {
                        let rivals = self.store.permits.iter().filter(|((of, _), _)| *of != key.0);
                        let allowed = after(one, recorded, rivals.map(|(_, held)| &held.permit));
                        match allowed {
                            Ok(()) => At::Executes,
                            Err(_) => {
                                let now = time(self.now);
                                let void = Permit::Void { why: Void::Moved, at: now };
                                self.note(&key, Some(own.version), |permit| *permit = void);
                                At::Ended { exit: 75, at: self.now, told: false }
                            }
                        }
                    }
                    _ => At::Ended { exit: 75, at: self.now, told: false },
                }
            }
            At::Executes => {
                let truth = self.truth.entry(key.0.clone()).or_default();
                truth.running = false;
                let exit = i64::from(self.dice.chance(self.fails));
                truth.succeeded |= exit == 0;
                At::Ended { exit, at: self.now, told: false }
            }
            // Its machine reports how it ended.
            At::Ended { exit, at, told: false } => {
                let version = self.store.permits.get(&key).map(|held| held.version);
                let end = End { at: time(at), exit: Exit::Status(Some(exit)) };
                self.note(&key, version, |permit| {
                    if let Permit::Held { end: noted, .. } = permit {
                        noted.get_or_insert(end);
                    }
                });
                At::Ended { exit, at, told: true }
            }
            At::Ended { .. } => return,
        };
        if next == At::Executes {
            self.executes(&key);
        }
        if let Some(container) = self.containers.get_mut(&id) {
            container.at = next;
        }
    }

    fn executes(&mut self, key: &Key) {
        let unknown = |truth: &Truth| truth.lost;
        let others =
            self.truth.iter().filter(|(id, truth)| **id != key.0 && truth.running && !unknown(truth));
        let others: Vec<_> = others.map(|(id, _)| id.clone()).collect();
        assert!(others.is_empty(), "{} runs beside {others:?}", key.0);
        let truth = self.truth.entry(key.0.clone()).or_default();
        assert!(!truth.running && !truth.succeeded && !truth.lost, "{key:?} runs again: {truth:?}");
        assert!(truth.settled.is_empty(), "{key:?} runs after it was recorded: {truth:?}");
        truth.runs += 1;
        assert!(truth.runs <= 1 + self.rules.retries, "{key:?}: {truth:?}");
        truth.running = true;
    }

    fn engine(&mut self) {
        // A service gets one task, ever.
        let waiting: Vec<Key> = self
            .store
            .services
            .iter()
            .filter(|(_, service)| service.task.is_none() && !service.down)
            .map(|(key, _)| key.clone())
            .collect();
        let up: Vec<u64> = self.up.iter().copied().collect();
        for key in waiting {
            if up.is_empty() || !self.dice.chance(2) {
                continue;
            }
            let machine = up[self.dice.below(up.len() as u64) as usize];
            let id = self.containers.len() as u64 + 1;
            self.containers.insert(id, Container { key: key.clone(), machine, at: At::Placed });
            if let Some(service) = self.store.services.get_mut(&key) {
                service.task = Some(id);
            }
        }
        let down: Vec<u64> = self
            .store
            .services
            .values()
            .filter(|service| service.down)
            .filter_map(|service| service.task)
            .collect();
        for task in down {
            let reachable = self.containers.get(&task).is_some_and(|one| self.up.contains(&one.machine));
            if reachable {
                self.kill(task);
            }
        }
    }

    fn machines(&mut self) {
        let machine = self.dice.below(MACHINES);
        if self.up.remove(&machine) {
            // Its containers are gone with it: they will not be seen again.
            for container in self.containers.values_mut().filter(|one| one.machine == machine) {
                let truth = self.truth.entry(container.key.0.clone()).or_default();
                truth.doubtful = true;
                if container.at == At::Executes {
                    (truth.running, truth.lost) = (false, true);
                    // The engine never starts it again.
                    container.machine = MACHINES;
                } else if !matches!(container.at, At::Ended { .. }) {
                    container.machine = MACHINES;
                }
            }
        } else {
            self.up.insert(machine);
        }
    }

    fn step(&mut self) {
        match self.dice.below(if self.quiet { 8 } else { 10 }) {
            0 => self.now += 1 + self.dice.below(12) as i64,
            1 | 2 => {
                let leader = self.dice.below(LEADERS as u64) as usize;
                self.look(leader);
            }
            3 | 4 => {
                let leader = self.dice.below(LEADERS as u64) as usize;
                if let Some((action, seen)) = self.leaders[leader].queue.pop_front() {
                    self.act(action, seen);
                }
                if let Some((step, record, service)) = self.leaders[leader].steps.pop_front() {
                    self.step_about(step, record, service);
                }
            }
            5 if self.deploys && self.dice.chance(12) => self.deploy(),
            5 => self.engine(),
            6 | 7 if !self.containers.is_empty() => {
                let newest = self.containers.len() as u64;
                let id = newest - self.dice.below(newest.min(6));
                self.contain(id);
            }
            8 if self.dice.chance(6) => self.machines(),
            9 if self.dice.chance(4) => {
                // A leader dies, or one comes that hears of everything late.
                let leader = self.dice.below(LEADERS as u64) as usize;
                self.leaders[leader].queue.clear();
                self.leaders[leader].steps.clear();
            }
            _ => {}
        }
    }

    /// One leader is left, and everything works.
    fn calm(&mut self) {
        self.quiet = true;
        self.up = (0..MACHINES).collect();
        let until = self.now;
        for leader in 0..LEADERS {
            // What the others had sent arrives late.
            while let Some((action, seen)) = self.leaders[leader].queue.pop_front() {
                self.act(action, seen);
            }
            while let Some((step, record, service)) = self.leaders[leader].steps.pop_front() {
                self.step_about(step, record, service);
            }
        }
        self.schedule.cron = "0 0 1 1 *".to_owned();
        self.times = self.schedule.times().expect("a schedule");
        self.leaders[0].off = 0;
        for _ in 0..400 {
            self.look(0);
            while let Some((action, seen)) = self.leaders[0].queue.pop_front() {
                self.act(action, seen);
            }
            while let Some((step, record, service)) = self.leaders[0].steps.pop_front() {
                self.step_about(step, record, service);
            }
            self.engine();
            let ids: Vec<u64> = self.containers.keys().copied().collect();
            for id in ids {
                if !matches!(self.containers[&id].at, At::Ended { told: true, .. }) {
                    self.contain(id);
                }
            }
            self.now += 5;
            let settled = self.store.claims.values().all(|claim| claim.outcome.is_some());
            if self.now > until + 60 && settled && self.waits().waiting.is_empty() {
                break;
            }
        }
    }

    /// Compares what was recorded with what happened.
    fn check(&self) {
        for (id, claim) in &self.store.claims {
            assert!(
                claim.outcome.is_some(),
                "{id} has no outcome: {:?}",
                self.view().iter().find(|one| one.id == *id)
            );
        }
        for (id, truth) in &self.truth {
            let [outcome] = truth.settled.as_slice() else { panic!("{id} was recorded {:?}", truth.settled) };
            let right = match outcome {
                Outcome::Succeeded => truth.succeeded && !truth.lost,
                // A machine may have been lost between the end of the command and the report on it.
                Outcome::Failed | Outcome::TimedOut => !truth.lost,
                Outcome::Skipped | Outcome::Missed => truth.runs == 0 || !truth.succeeded && !truth.lost,
                Outcome::Replaced => !truth.lost,
                // Only a machine that was lost with a permit makes one unknown.
                Outcome::Unknown => truth.lost || truth.doubtful,
            };
            assert!(right, "{id} was recorded as {outcome:?}: {truth:?}");
        }
        // The newest revision was rolled out if its command succeeded, and the service is at it then.
        let store = &self.store;
        assert_eq!(self.waits().waiting, [], "they wait for ever");
        if let Some(truth) = self.truth.get(&OccurrenceId::before(SERVICE, store.newest)) {
            let succeeded = truth.settled == [Outcome::Succeeded];
            assert_eq!(store.current == store.newest, succeeded, "{}: {truth:?}", store.newest);
        }
    }
}

/// The times at which the job was due, which nobody may lose.
fn due(world: &World, until: i64) -> Vec<DateTime<Utc>> {
    let times = Schedule { timezone: "Europe/Berlin".to_owned(), ..world.schedule.clone() };
    times.times().expect("a schedule").between(time(world.from), time(until), TIMES)
}

fn deployments(seed: u64) -> BTreeMap<&'static str, u32> {
    let mut world = World::new(seed, true);
    world.deploy();
    for _ in 0..2500 {
        world.step();
    }
    world.look(0);
    world.calm();
    world.check();
    let mut counts = BTreeMap::from([("rolled out", world.rolled_out.len() as u32)]);
    for outcome in world.truth.values().flat_map(|truth| &truth.settled) {
        *counts.entry(outcome.label()).or_default() += 1;
    }
    counts
}

fn run(seed: u64) -> BTreeMap<&'static str, u32> {
    let mut world = World::new(seed, false);
    for _ in 0..2500 {
        world.step();
    }
    // What is due within a clock's error may or may not be claimed yet.
    let due = due(&world, world.now - 60);
    world.look(0);
    world.calm();
    world.check();
    let (recorded, name) = (&world.truth, world.job().name);
    let unrecorded: Vec<_> =
        due.iter().filter(|at| !recorded.contains_key(&OccurrenceId::due(&name, **at))).collect();
    // Of a long time without any leader only the newest are recorded.
    assert!(unrecorded.len() <= due.len().saturating_sub(MISSED), "seed {seed}: {unrecorded:?}");
    let mut counts = BTreeMap::new();
    for outcome in world.truth.values().flat_map(|truth| &truth.settled) {
        *counts.entry(outcome.label()).or_default() += 1;
    }
    counts
}

/// What happened in all histories together.
fn histories(run: fn(u64) -> BTreeMap<&'static str, u32>) -> BTreeMap<&'static str, u32> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let seeds = std::env::var("FLEETWRIGHT_MODELS").ok();
    let seeds = seeds.map_or(SEEDS, |seeds| seeds.parse().expect("FLEETWRIGHT_MODELS is a number"));
    for seed in 0..seeds {
        let seen = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        for (label, count) in seen {
            *counts.entry(label).or_default() += count;
        }
    }
    counts
}

#[test]
fn no_revision_runs_its_command_twice_or_is_rolled_out_before_it_has_succeeded() {
    let counts = histories(deployments);
    let all = ["rolled out", "succeeded", "failed", "timed out", "replaced", "unknown"];
    assert!(all.iter().all(|label| counts.get(label).is_some_and(|count| *count > 5)), "{counts:?}");
}

#[test]
fn nothing_runs_twice_and_each_occurrence_is_recorded_once() {
    let counts = histories(run);
    // A world in which something never happens would show nothing about it.
    let all = ["succeeded", "failed", "timed out", "skipped", "missed", "replaced", "unknown"];
    assert!(all.iter().all(|label| counts.get(label).is_some_and(|count| *count > 5)), "{counts:?}");
}
