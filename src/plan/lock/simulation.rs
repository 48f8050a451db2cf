//! The lock in a world where clocks are wrong by hours and run at different speeds, machines
//! are suspended and killed, requests and answers are late or lost. At no moment do two
//! processes that run believe that they hold it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta};

use super::lease::{Claim, ClaimStep, Found, Lease, LeaseStep, Now, Pace, Written};
use crate::model::lock::{LOCK_VERSION, LockRecord};

const TERM: u64 = 60_000;
/// A call without an answer for this long is given up.
const TIMEOUT: u64 = 10_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Request `call` arrives at the store.
    Arrives { actor: usize, call: u64 },
    /// The answer to `call` arrives, or the time for it is over.
    Answered { actor: usize, call: u64, lost: bool },
    /// The actor's own time has come.
    Wakes { actor: usize, generation: u64 },
    /// The machine is suspended for a time.
    Suspends { actor: usize, time: u64 },
    /// It runs again.
    Resumes { actor: usize },
    /// The process is killed.
    Dies { actor: usize },
}

enum Request {
    Write(LockRecord, Option<String>),
    Read,
}

enum Answer {
    Write(Written),
    Read(Found),
}

enum State {
    Idle,
    Claims(Claim),
    Holds(Lease),
}

struct Actor {
    host: usize,
    state: State,
    /// Thousandths of real time that its clock counts.
    speed: u64,
    /// What its clock showed at the beginning.
    boot: u64,
    /// How wrong its date is.
    skew: i64,
    suspended_until: u64,
    alive: bool,
    born: u64,
    claims: u64,
    generation: u64,
    /// The call whose answer is waited for.
    waits_for: u64,
    /// When it will give the lock back, in real time.
    until: u64,
}

struct World {
    random: Random,
    pace: Pace,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    ordered: u64,
    requests: HashMap<u64, Request>,
    answers: HashMap<u64, Answer>,
    calls: u64,
    store: Found,
    tags: u64,
    actors: Vec<Actor>,
    faults: bool,
    taken: usize,
    taken_over: usize,
    violation: Option<String>,
}

impl World {
    fn new(seed: u64, pace: Pace) -> Self {
        let mut random = Random(seed);
        let actors = (0..4)
            .map(|actor| Actor {
                // Two processes share a host.
                host: actor.max(1),
                state: State::Idle,
                speed: 960 + random.below(81),
                boot: random.below(1_000_000_000),
                skew: i64::try_from(random.below(14_400_000)).unwrap_or(0) - 7_200_000,
                suspended_until: 0,
                alive: true,
                born: 0,
                claims: 0,
                generation: 0,
                waits_for: 0,
                until: 0,
            })
            .collect();
        let mut world = Self {
            random,
            pace,
            now: 0,
            queue: BinaryHeap::new(),
            ordered: 0,
            requests: HashMap::new(),
            answers: HashMap::new(),
            calls: 0,
            store: None,
            tags: 0,
            actors,
            faults: true,
            taken: 0,
            taken_over: 0,
            violation: None,
        };
        for actor in 0..world.actors.len() {
            let at = world.random.below(TERM);
            world.wake(actor, at);
        }
        world
    }

    fn at(&mut self, time: u64, what: What) {
        self.ordered += 1;
        self.queue.push(Reverse((time, self.ordered, what)));
    }

    fn wake(&mut self, actor: usize, time: u64) {
        self.actors[actor].generation += 1;
        let generation = self.actors[actor].generation;
        self.at(time, What::Wakes { actor, generation });
    }

    fn clock(&self, actor: usize) -> Now {
        let actor = &self.actors[actor];
        let date = i64::try_from(self.now).unwrap_or(0) + actor.skew;
        Now {
            boot: Duration::from_millis(actor.boot + self.now * actor.speed / 1000),
            date: DateTime::from_timestamp(1_700_000_000, 0).expect("a time") + TimeDelta::milliseconds(date),
        }
    }

    fn send(&mut self, actor: usize, request: Request) {
        self.calls += 1;
        let call = self.calls;
        self.actors[actor].waits_for = call;
        self.requests.insert(call, request);
        let late = self.faults && self.random.chance(15);
        let delay = if late { self.random.below(3 * TERM) } else { self.random.below(400) };
        if !(self.faults && self.random.chance(8)) {
            self.at(self.now + delay, What::Arrives { actor, call });
        }
        self.at(self.now + TIMEOUT, What::Answered { actor, call, lost: true });
    }

    fn arrives(&mut self, actor: usize, call: u64) {
        let Some(request) = self.requests.remove(&call) else { return };
        let answer = match request {
            Request::Read => Answer::Read(self.store.clone()),
            Request::Write(record, only) => {
                if self.store.as_ref().map(|(_, tag)| tag) == only.as_ref() {
                    self.tags += 1;
                    let tag = self.tags.to_string();
                    self.store = Some((record, tag.clone()));
                    Answer::Write(Written::Done(tag))
                } else {
                    Answer::Write(Written::Refused)
                }
            }
        };
        if self.faults && self.random.chance(10) {
            return;
        }
        self.answers.insert(call, answer);
        let delay = self.random.below(400);
        self.at(self.now + delay, What::Answered { actor, call, lost: false });
    }

    fn record(&self, actor: usize) -> LockRecord {
        let now = self.clock(actor).date;
        LockRecord {
            version: LOCK_VERSION,
            id: format!("{actor}-{}", self.actors[actor].claims),
            holder: actor.to_string(),
            host: format!("h{}", self.actors[actor].host),
            process: u32::try_from(actor).unwrap_or(0),
            started: self.actors[actor].born,
            command: "apply".to_owned(),
            since: now,
            expires: now,
            released: false,
            write: 0,
        }
    }

    fn wakes(&mut self, actor: usize) {
        let now = self.clock(actor);
        match std::mem::replace(&mut self.actors[actor].state, State::Idle) {
            State::Idle => {
                self.actors[actor].claims += 1;
                let mut claim = Claim::new(self.record(actor), self.pace);
                let step = claim.begin(now);
                self.claim(actor, claim, step);
            }
            State::Claims(claim) => self.claim(actor, claim, ClaimStep::Read),
            State::Holds(mut lease) => {
                if self.now >= self.actors[actor].until && lease.believes(now.boot) {
                    let (record, tag) = lease.release();
                    let (record, tag) = (record, Some(tag.to_owned()));
                    // Its answer is nothing that anybody waits for.
                    self.send(actor, Request::Write(record, tag));
                    self.actors[actor].waits_for = 0;
                    self.rests(actor);
                } else {
                    let step = lease.next(now);
                    self.hold(actor, lease, step);
                }
            }
        }
    }

    fn rests(&mut self, actor: usize) {
        self.actors[actor].state = State::Idle;
        self.actors[actor].waits_for = 0;
        let at = self.now + self.random.below(2 * TERM);
        self.wake(actor, at);
    }

    fn claim(&mut self, actor: usize, mut claim: Claim, step: ClaimStep) {
        match step {
            ClaimStep::Write(record, only) => {
                let over = self.store.as_ref().is_some_and(|(held, _)| !held.released && only.is_some());
                self.taken_over += usize::from(over);
                self.actors[actor].state = State::Claims(claim);
                self.send(actor, Request::Write(*record, only));
            }
            ClaimStep::Read => {
                self.actors[actor].state = State::Claims(claim);
                self.send(actor, Request::Read);
            }
            ClaimStep::Watch(time) => {
                self.actors[actor].state = State::Claims(claim);
                let time = u64::try_from(time.as_millis()).unwrap_or(0);
                self.wake(actor, self.now + time);
            }
            ClaimStep::Held(_) => {
                drop(claim);
                self.rests(actor);
            }
            ClaimStep::Taken(mut lease) => {
                drop(std::mem::replace(&mut claim, Claim::new(self.record(actor), self.pace)));
                self.taken += 1;
                self.actors[actor].until = self.now + self.random.below(5 * TERM);
                let step = lease.next(self.clock(actor));
                self.hold(actor, *lease, step);
            }
        }
    }

    fn hold(&mut self, actor: usize, lease: Lease, step: LeaseStep) {
        match step {
            LeaseStep::Write(record, tag) => {
                self.actors[actor].state = State::Holds(lease);
                self.send(actor, Request::Write(*record, Some(tag)));
            }
            LeaseStep::Read => {
                self.actors[actor].state = State::Holds(lease);
                self.send(actor, Request::Read);
            }
            LeaseStep::Wait(until) => {
                let boot = self.clock(actor).boot;
                let time = u64::try_from(until.saturating_sub(boot).as_millis()).unwrap_or(0);
                let real = self.now + time * 1000 / self.actors[actor].speed + 1;
                let until = real.min(self.actors[actor].until.max(self.now + 1));
                self.actors[actor].state = State::Holds(lease);
                self.wake(actor, until);
            }
            LeaseStep::Lost => self.rests(actor),
        }
    }

    fn answered(&mut self, actor: usize, call: u64, lost: bool) {
        if self.actors[actor].waits_for != call {
            return;
        }
        let answer = if lost { None } else { self.answers.remove(&call) };
        self.actors[actor].waits_for = 0;
        let now = self.clock(actor);
        let alive: Vec<(bool, u64)> = self.actors.iter().map(|actor| (actor.alive, actor.born)).collect();
        let lives = |process: u32, started: u64| {
            alive.get(process as usize).is_some_and(|(alive, born)| *alive && *born == started)
        };
        match std::mem::replace(&mut self.actors[actor].state, State::Idle) {
            State::Idle => {}
            State::Claims(mut claim) => {
                let step = match answer {
                    Some(Answer::Write(written)) => claim.written(written),
                    Some(Answer::Read(found)) => claim.read(now, found, lives),
                    None => ClaimStep::Read,
                };
                self.claim(actor, claim, step);
            }
            State::Holds(mut lease) => {
                let step = match answer {
                    Some(Answer::Write(written)) => lease.written(now, written),
                    Some(Answer::Read(found)) => lease.read(now, Ok(found)),
                    // Whether it was a read or a write: what is there is read, or read again later.
                    None if self.requests.get(&call).is_some_and(|call| matches!(call, Request::Read)) => {
                        lease.read(now, Err(()))
                    }
                    None => lease.written(now, Written::Unknown),
                };
                self.hold(actor, lease, step);
            }
        }
    }

    fn disturb(&mut self) {
        let actor = usize::try_from(self.random.below(4)).unwrap_or(0);
        if self.random.chance(2) {
            let time = self.random.below(6 * TERM);
            self.at(self.now, What::Suspends { actor, time });
        } else if self.random.chance(1) {
            self.at(self.now, What::Dies { actor });
        }
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((time, _, what))) = self.queue.pop() else { return false };
        self.now = self.now.max(time);
        let actor = match &what {
            What::Arrives { actor, call } => {
                self.arrives(*actor, *call);
                return true;
            }
            What::Answered { actor, .. }
            | What::Wakes { actor, .. }
            | What::Suspends { actor, .. }
            | What::Resumes { actor }
            | What::Dies { actor } => *actor,
        };
        let suspended = self.actors[actor].suspended_until;
        if suspended > self.now {
            // It happens when the machine runs again.
            self.at(suspended, what);
            return true;
        }
        match what {
            What::Answered { call, lost, .. } => self.answered(actor, call, lost),
            What::Wakes { generation, .. } if generation == self.actors[actor].generation => {
                self.wakes(actor)
            }
            What::Suspends { time, .. } => {
                self.actors[actor].suspended_until = self.now + time;
                self.at(self.now + time, What::Resumes { actor });
            }
            What::Dies { .. } => {
                self.actors[actor].state = State::Idle;
                self.actors[actor].born = self.now + 1;
                self.rests(actor);
            }
            What::Arrives { .. } | What::Wakes { .. } | What::Resumes { .. } => {}
        }
        if self.faults {
            self.disturb();
        }
        let believers: Vec<usize> = (0..self.actors.len())
            .filter(|actor| self.actors[*actor].suspended_until <= self.now)
            .filter(|actor| match &self.actors[*actor].state {
                State::Holds(lease) => lease.believes(self.clock(*actor).boot),
                State::Idle | State::Claims(_) => false,
            })
            .collect();
        if believers.len() > 1 {
            self.violation = Some(format!("{believers:?} believe at {} ms", self.now));
        }
        self.violation.is_none()
    }
}

fn run(seed: u64, pace: Pace) -> World {
    let mut world = World::new(seed, pace);
    for _ in 0..1500 {
        if !world.step() {
            break;
        }
    }
    world
}

#[test]
fn two_never_believe_that_they_hold_it() {
    let (mut taken, mut over) = (0, 0);
    for seed in 0..4000 {
        let world = run(seed, Pace::of(Duration::from_millis(TERM)));
        assert_eq!(world.violation, None, "seed {seed}");
        taken += world.taken;
        over += world.taken_over;
    }
    assert!(taken > 20_000 && over > 2_000, "the worlds were too quiet: {taken} taken, {over} taken over");
}

/// What the watching is for: with a lock that is taken over as soon as the date says so, as at
/// e1e3c77, the same worlds do break it.
#[test]
fn the_date_alone_lets_two_believe() {
    let careless = Pace { watch: Duration::ZERO, ..Pace::of(Duration::from_millis(TERM)) };
    let broken = (0..200).filter(|seed| run(*seed, careless).violation.is_some()).count();
    assert!(broken > 20, "only {broken} worlds of 200 broke it");
}

/// When everything works again, whoever wants the lock has it before long.
#[test]
fn a_lock_is_not_left_behind() {
    for seed in 0..500 {
        let mut world = run(seed, Pace::of(Duration::from_millis(TERM)));
        world.faults = false;
        world.actors.iter_mut().for_each(|actor| actor.suspended_until = world.now);
        let (calm, before) = (world.now, world.taken);
        while world.now < calm + 40 * TERM {
            assert!(world.step(), "seed {seed}: {:?}", world.violation);
        }
        assert!(world.taken > before, "seed {seed}: nobody took it");
    }
}
