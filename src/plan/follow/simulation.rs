//! Following against a CloudFormation that loses, delays and repeats, in thousands of seeds.

use std::collections::VecDeque;

use super::*;

const SEEDS: u64 = 6_000;
/// Longer than any run may take.
const END: u64 = 3 * 3600 * 1000;

/// A small generator of numbers that is the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// What a seed's CloudFormation is like.
#[derive(Debug)]
struct Nature {
    asked: Asked,
    create: bool,
    succeeds: bool,
    /// How long the work takes.
    takes: u64,
    /// How many requests are accepted without any effect.
    ignored: u64,
    refuses: bool,
    /// One in so many requests or answers is lost.
    loses: u64,
    /// Outages, from and to; the credentials are refused instead where the last is set.
    outages: Vec<(u64, u64, bool)>,
    /// How old an answer may be.
    lag: u64,
    /// What it never reports.
    hides_events: bool,
    hides_updated: bool,
    hides_execution: bool,
    hides_change_set: bool,
    /// When somebody else updates the stack.
    other: Option<u64>,
}

/// The state at a time.
#[derive(Debug, Clone)]
struct State {
    at: u64,
    status: &'static str,
    updated: i64,
    change_set: &'static str,
    execution: Execution,
    gone: bool,
    events: usize,
}

struct World {
    nature: Nature,
    history: Vec<State>,
    own: Vec<&'static str>,
    /// Changes to come: when, and what.
    to_come: VecDeque<(u64, Change)>,
    /// Requests that arrive later.
    arriving: Vec<u64>,
    ignored: u64,
    executed: u32,
    /// Whether the work that was asked for ended well.
    ended: Option<bool>,
    deleted_set: bool,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Status(&'static str),
    /// The end of the work that was asked for.
    End(bool),
    OthersEnd,
}

impl World {
    fn new(nature: Nature) -> Self {
        let status = match (nature.create, nature.asked) {
            (true, Asked::Execution) => "REVIEW_IN_PROGRESS",
            (_, Asked::Once) => "UPDATE_ROLLBACK_FAILED",
            _ => "UPDATE_COMPLETE",
        };
        let (execution, gone) = (Execution::Waiting, false);
        let change_set = if nature.create { "ours" } else { "former" };
        let first = State { at: 0, status, updated: 1, change_set, execution, gone, events: 0 };
        Self {
            ignored: nature.ignored,
            nature,
            history: vec![first],
            own: Vec::new(),
            to_come: VecDeque::new(),
            arriving: Vec::new(),
            executed: 0,
            ended: None,
            deleted_set: false,
        }
    }

    fn now(&self) -> &State {
        self.history.last().expect("there is a first")
    }

    fn change(&mut self, at: u64, with: impl FnOnce(&mut State, &mut Vec<&'static str>)) {
        let mut state = self.now().clone();
        state.at = at;
        with(&mut state, &mut self.own);
        state.events = self.own.len();
        self.history.push(state);
    }

    fn is_busy(&self) -> bool {
        !self.to_come.is_empty()
    }

    fn advance(&mut self, now: u64) {
        self.arriving.sort_unstable();
        while self.arriving.first().is_some_and(|at| *at <= now) {
            let at = self.arriving.remove(0);
            self.work(at);
            self.request(at);
        }
        if self.nature.other.is_some_and(|at| at <= now) && !self.is_busy() && !self.now().gone {
            let at = self.nature.other.take().expect("it was looked at").max(self.now().at);
            if !self.now().status.starts_with("REVIEW") && self.nature.asked == Asked::Execution {
                let was_executed = self.executed > 0;
                self.change(at, |state, own| {
                    (state.status, state.updated, state.change_set) =
                        ("UPDATE_IN_PROGRESS", state.updated + 1, "others");
                    own.push("UPDATE_IN_PROGRESS");
                    if !was_executed {
                        state.execution = Execution::Obsolete;
                    }
                });
                self.to_come.push_back((at + 4000, Change::OthersEnd));
            }
        }
        self.work(now);
    }

    fn work(&mut self, now: u64) {
        while self.to_come.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, change)) = self.to_come.pop_front() else { return };
            let (create, asked) = (self.nature.create, self.nature.asked);
            match change {
                Change::Status(status) => self.change(at, |state, own| {
                    state.status = status;
                    own.push(status);
                }),
                Change::OthersEnd => self.change(at, |state, own| {
                    state.status = "UPDATE_ROLLBACK_COMPLETE";
                    own.push(state.status);
                }),
                Change::End(well) => {
                    self.ended = Some(well);
                    self.change(at, |state, own| {
                        state.status = match (asked, create, well) {
                            (Asked::Deletion, _, true) => "DELETE_COMPLETE",
                            (Asked::Deletion, _, false) => "DELETE_FAILED",
                            (Asked::Once, _, true) => "UPDATE_ROLLBACK_COMPLETE",
                            (Asked::Once, _, false) => "UPDATE_ROLLBACK_FAILED",
                            (_, true, true) => "CREATE_COMPLETE",
                            (_, true, false) => "ROLLBACK_COMPLETE",
                            (_, false, true) => "UPDATE_COMPLETE",
                            (_, false, false) => "UPDATE_ROLLBACK_COMPLETE",
                        };
                        own.push(state.status);
                        state.gone = asked == Asked::Deletion && well;
                        state.execution = if well { Execution::Done } else { Execution::Failed };
                    });
                }
            }
        }
    }

    /// A request arrives. Repeated ones are refused: nothing here knows a token.
    fn request(&mut self, now: u64) -> bool {
        let state = self.now();
        let possible = match self.nature.asked {
            Asked::Execution => state.execution == Execution::Waiting && !self.deleted_set,
            Asked::Deletion => !state.gone,
            Asked::Once => state.status == "UPDATE_ROLLBACK_FAILED" && self.ended.is_none(),
            Asked::Nothing => false,
        };
        if self.nature.refuses || !possible {
            return false;
        }
        if self.is_busy() {
            return self.nature.asked == Asked::Deletion;
        }
        if self.ignored > 0 {
            self.ignored -= 1;
            return true;
        }
        self.executed += 1;
        let (create, asked, takes) = (self.nature.create, self.nature.asked, self.nature.takes);
        self.change(now, |state, own| {
            state.status = match (asked, create) {
                (Asked::Deletion, _) => "DELETE_IN_PROGRESS",
                (Asked::Once, _) => "UPDATE_ROLLBACK_IN_PROGRESS",
                (_, true) => "CREATE_IN_PROGRESS",
                (_, false) => "UPDATE_IN_PROGRESS",
            };
            own.push(state.status);
            (state.updated, state.execution) = (state.updated + 1, Execution::Running);
            if asked == Asked::Execution {
                state.change_set = "ours";
            }
        });
        if !self.nature.succeeds && asked == Asked::Execution {
            let status = if create { "ROLLBACK_IN_PROGRESS" } else { "UPDATE_ROLLBACK_IN_PROGRESS" };
            self.to_come.push_back((now + takes / 2, Change::Status(status)));
        }
        self.to_come.push_back((now + takes, Change::End(self.nature.succeeds)));
        true
    }

    fn outage(&self, now: u64) -> Option<bool> {
        let found = self.nature.outages.iter().find(|(from, to, _)| (*from..*to).contains(&now));
        found.map(|(_, _, denied)| *denied)
    }

    /// Sends a request, as the SDK does: what came back, and when.
    fn ask(&mut self, now: u64, dice: &mut Dice) -> (Reply, u64) {
        let (mut now, mut refused) = (now, false);
        for _ in 0..4 {
            self.advance(now);
            now += 20 + dice.below(200);
            if self.outage(now).is_some() || dice.one_in(self.nature.loses) {
                // It may arrive late, or never.
                if dice.one_in(3) {
                    self.arriving.push(now + dice.below(8000));
                }
                now += 300;
                continue;
            }
            self.advance(now);
            let accepted = self.request(now);
            if dice.one_in(5) {
                self.arriving.push(now + dice.below(5000));
            }
            if dice.one_in(self.nature.loses) {
                now += 300;
                continue;
            }
            refused |= !accepted;
            return (if refused { Reply::Refused } else { Reply::Accepted }, now);
        }
        (Reply::Lost, now)
    }

    /// The state as an answer shows it, which may be old.
    fn seen(&self, now: u64, dice: &mut Dice) -> State {
        let at = now - dice.below(self.nature.lag + 1).min(now);
        let seen = self.history.iter().rev().find(|state| state.at <= at);
        seen.unwrap_or(&self.history[0]).clone()
    }

    fn look(&mut self, follow: &Follow, now: u64, known: &mut usize, dice: &mut Dice) -> Heard {
        self.advance(now);
        if let Some(denied) = self.outage(now) {
            return Heard::Silence { denied };
        }
        if dice.one_in(self.nature.loses) {
            return Heard::Silence { denied: false };
        }
        let events = self.seen(now, dice);
        let own = match self.nature.hides_events {
            true => Vec::new(),
            false => {
                let own = self.own[(*known).min(events.events)..events.events].to_vec();
                *known = (*known).max(events.events);
                own.into_iter().map(str::to_owned).collect()
            }
        };
        let seen = self.seen(now, dice);
        let stack = (!seen.gone).then(|| self.standing(&seen));
        let execution = follow.asks_execution(stack.as_ref()).then(|| {
            let seen = self.seen(now, dice);
            match (self.nature.hides_execution, self.deleted_set) {
                (true, _) => Execution::Unknown,
                (false, true) => Execution::Missing,
                (false, false) => seen.execution,
            }
        });
        Heard::Answer { stack, own, execution }
    }

    fn standing(&self, state: &State) -> Standing {
        let stack = DeployedStack { status: state.status.to_owned(), ..DeployedStack::default() };
        Standing {
            updated: (!self.nature.hides_updated).then_some(state.updated),
            change_set: (!self.nature.hides_change_set).then(|| state.change_set.to_owned()),
            ..Standing::of(&stack)
        }
    }
}

fn nature(seed: u64, dice: &mut Dice) -> Nature {
    let asked = match dice.below(8) {
        0 => Asked::Deletion,
        1 => Asked::Once,
        _ => Asked::Execution,
    };
    let outages = match dice.below(4) {
        0 => Vec::new(),
        1 => vec![(dice.below(20_000), 20_000 + dice.below(9 * 60 * 1000), false)],
        2 => vec![(dice.below(3000), 3000 + dice.below(40_000), dice.one_in(2))],
        _ => {
            let from = dice.below(30_000);
            vec![(from, from + dice.below(2 * 3600 * 1000), dice.one_in(3))]
        }
    };
    let takes = [50, 1500, 20_000, 400_000][usize::try_from(dice.below(4)).expect("small")];
    let lag = if dice.one_in(3) { dice.below(4000) } else { 0 };
    let hides = dice.below(16);
    // What is always the same and at once done can't be seen where nothing else is reported.
    let hides = if hides & 0b0101 == 0b0101 { hides & 0b1010 } else { hides };
    let create = asked == Asked::Execution && dice.one_in(3);
    Nature {
        asked,
        create,
        succeeds: !dice.one_in(4),
        takes,
        ignored: if dice.one_in(6) { 1 + dice.below(12) } else { 0 },
        refuses: dice.one_in(12),
        loses: [4, 10, 1_000_000][usize::try_from(dice.below(3)).expect("small")],
        outages,
        lag,
        hides_events: hides & 1 != 0,
        // A rollback that fails again ends as it began: only these two show that it ran.
        hides_updated: hides & 2 != 0 && (asked != Asked::Once || hides & 1 == 0),
        hides_execution: hides & 4 != 0,
        hides_change_set: hides & 8 != 0,
        // Whose work it is can't be told where the change set's status is not reported.
        other: (seed.is_multiple_of(5) && hides & 4 == 0).then(|| dice.below(60_000)),
    }
}

/// Runs one seed as the driver does; what it says is checked against what happened.
fn run(seed: u64) -> &'static str {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::new(nature(seed, &mut dice));
    let asked = world.nature.asked;
    let before = world.standing(&world.history[0].clone());
    let begun = 1000;
    let (reply, mut now) = world.ask(begun, &mut dice);
    let at = Duration::from_millis;
    let mut follow = match asked {
        Asked::Execution => Follow::execution("ours", reply, Some(before), at(now)),
        asked => Follow::new(asked, reply, Some(before), at(now)),
    };
    let (mut known, mut pace, mut silent): (usize, u64, Option<u64>) = (0, 300, None);
    let mut heard = world.look(&follow, now, &mut known, &mut dice);
    loop {
        silent = match &heard {
            Heard::Silence { .. } => silent.or(Some(now)),
            Heard::Answer { .. } | Heard::Withdrawn => None,
        };
        let (context, nature) = (format!("seed {seed} at {now} ms"), format!("{:?}", world.nature));
        let happened = format!("{:?}", world.history);
        match follow.handle(at(now), heard) {
            Next::Look => {
                now += pace;
                pace = (pace * 3 / 2).min(3000);
                heard = world.look(&follow, now, &mut known, &mut dice);
            }
            Next::AskAgain => {
                assert_ne!(asked, Asked::Once, "{context}");
                now = world.ask(now, &mut dice).1;
                heard = world.look(&follow, now, &mut known, &mut dice);
            }
            Next::Withdraw => {
                world.advance(now);
                let lost = world.outage(now).is_some() || dice.one_in(world.nature.loses);
                // One that is being executed can't be deleted.
                heard = if lost {
                    Heard::Silence { denied: false }
                } else if matches!(world.now().execution, Execution::Waiting | Execution::Obsolete) {
                    world.deleted_set = true;
                    Heard::Withdrawn
                } else {
                    world.look(&follow, now, &mut known, &mut dice)
                };
            }
            Next::Ended { status, well } => {
                let own = status.is_some();
                let status = status.unwrap_or_else(|| world.now().status.to_owned());
                let well = match (asked, well) {
                    (Asked::Deletion, _) => world.now().gone,
                    (_, Some(well)) if !own => well,
                    _ => status.ends_with("_COMPLETE") && !status.contains("ROLLBACK_COMPLETE"),
                };
                let well = well || (asked == Asked::Once && status == "UPDATE_ROLLBACK_COMPLETE");
                // A deletion that failed may be asked for again; a change set is executed once.
                let once = world.executed == 1 || (asked == Asked::Deletion && world.executed > 1);
                assert!(once, "{context}: it ends as {status}\n{nature}\n{happened}");
                assert_eq!(world.ended, Some(well), "{context}: it ends as {status}\n{nature}\n{happened}");
                return "ended";
            }
            Next::NeverBegan => {
                // Requests under way may still arrive, and must change nothing.
                world.advance(now + 60_000);
                assert_eq!(world.executed, 0, "{context}: never began\n{nature}\n{happened}");
                return "never";
            }
            Next::LeftRunning => {
                let since = now - silent.expect("there was no answer");
                assert!(since >= 60_000, "{context}: given up after {since} ms\n{nature}");
                return "left";
            }
        }
        assert!(now < END, "{context}: it never ends\n{nature}\n{happened}");
    }
}

#[test]
fn what_is_said_of_work_is_what_happened_to_it() {
    let mut ends = std::collections::BTreeMap::new();
    for seed in 1..=SEEDS {
        *ends.entry(run(seed)).or_insert(0_u32) += 1;
    }
    // The simulation is worth nothing where it never comes to one of the ends.
    assert!(ends["ended"] > 1000 && ends["never"] > 100 && ends["left"] > 100, "{ends:?}");
}
