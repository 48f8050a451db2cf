//! Several machines that all want to reboot, asked in any order, with agents, control machines
//! and answers that are lost at any point.

use proptest::prelude::*;

use super::tests::{NOW, boot, id, machine, node};
use super::turn::{Outcome, Seen, Step, Turn};
use super::*;
use crate::model::member::Manager;
use crate::model::reboot::{Answer, Mark};
use crate::model::service::ServiceStatus;

/// How long a boot takes, in seconds.
const BOOT_S: i64 = 40;

/// One machine, as it really is.
#[derive(Debug, Clone)]
struct Real {
    manager: bool,
    /// How many boots it has had.
    boots: usize,
    /// When it is up again; `None` while it is up.
    back_at: Option<i64>,
    wanted: bool,
    active: bool,
    mark: Option<Mark>,
    /// How many instances of the service it runs.
    instances: usize,
    turn: Turn,
}

/// The cluster, as it really is.
#[derive(Debug, Clone)]
struct World {
    now: i64,
    /// When the window opened.
    opened: i64,
    real: Vec<Real>,
    held: Option<Leave>,
    /// How many instances the service is to have.
    desired: usize,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// An agent takes a step.
    Step(usize),
    /// It does, and what came of it is lost: the control machine's answer, or the agent itself.
    Lost(usize),
    /// It does, and the control machine ends in the middle of it.
    Half(usize),
    /// An agent is killed and starts again.
    Killed(usize),
    /// Time passes, in seconds.
    Time(i64),
}

impl World {
    fn new(managers: usize, workers: usize, wanted: &[bool]) -> Self {
        let all = managers + workers;
        let real = (0..all).map(|number| Real {
            manager: number < managers,
            boots: 0,
            back_at: None,
            wanted: wanted[number % wanted.len()],
            active: true,
            mark: None,
            instances: 0,
            turn: Turn::new(name_of_boot(number, 0)),
        });
        let mut world = Self { now: NOW, opened: NOW, real: real.collect(), held: None, desired: all };
        world.place();
        world
    }

    /// The engine: what lacks instances gets them, wherever work is taken.
    fn place(&mut self) {
        let running: usize =
            self.real.iter().filter(|one| one.back_at.is_none()).map(|one| one.instances).sum();
        for _ in running..self.desired {
            let takes = self.real.iter_mut().filter(|one| one.active && one.back_at.is_none());
            if let Some(least) = takes.min_by_key(|one| one.instances) {
                least.instances += 1;
            }
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let of = |(number, real): (usize, &Real)| Node {
            up: real.back_at.is_none(),
            manager: real
                .manager
                .then_some(Manager { leader: number == 0, reachable: real.back_at.is_none() }),
            ..node(number, real.manager)
        };
        self.real.iter().enumerate().map(of).collect()
    }

    fn machines(&self) -> Vec<Machine> {
        let of = |(number, real): (usize, &Real)| {
            let state = match (&real.mark, real.back_at, real.active) {
                (Some(_), _, _) => MachineState::Rebooting,
                (None, Some(_), _) => MachineState::Down,
                (None, None, true) => MachineState::Ready,
                (None, None, false) => MachineState::Draining,
            };
            machine(number, state)
        };
        self.real.iter().enumerate().map(of).collect()
    }

    fn services(&self) -> Vec<ServiceStatus> {
        let up = self.real.iter().enumerate().filter(|(_, real)| real.back_at.is_none());
        let on: Vec<usize> =
            up.flat_map(|(number, real)| std::iter::repeat_n(number, real.instances)).collect();
        vec![super::tests::service(u32::try_from(self.desired).expect("few"), &on)]
    }

    fn with_cluster<T>(&self, ask: impl FnOnce(Cluster<'_>) -> T) -> T {
        let (nodes, machines, services) = (self.nodes(), self.machines(), self.services());
        ask(Cluster {
            held: self.held.as_ref(),
            nodes: &nodes,
            machines: &machines,
            services: &services,
            now: self.now,
        })
    }

    /// Whether a control machine can be asked and the engine can be changed.
    fn decides(&self) -> bool {
        let managers = self.real.iter().filter(|one| one.manager);
        let up = managers.clone().filter(|one| one.back_at.is_none()).count();
        up >= majority(managers.count())
    }

    fn seen(&self, number: usize) -> Seen {
        let at = |seconds| chrono::DateTime::from_timestamp(seconds, 0).expect("a time");
        Seen { now: at(self.now), wanted: self.real[number].wanted, opened: Some(at(self.opened)) }
    }

    /// What the control machine does, in the order the driver does it; `half` of it when it ends between.
    fn ask(&mut self, number: usize, half: bool) -> Option<Answer> {
        let name = name_of_boot(number, self.real[number].boots);
        match self.with_cluster(|cluster| leave(&id(number), &name, cluster)) {
            Verdict::Lapsed => Some(Answer::Lapsed),
            Verdict::Refuse(refusal) => Some(Answer::Wait { reason: refusal.to_string() }),
            Verdict::Again { since, alone } => {
                self.real[number].mark = Some(Mark { since, boot: name });
                Some(Answer::Granted { since, alone })
            }
            Verdict::Grant { instead, alone } => {
                if instead.is_some() {
                    self.held = None;
                }
                // The engine takes one object of the name.
                assert_eq!(self.held, None, "leave is given once");
                let mark = Mark { since: self.now, boot: name };
                self.held = Some(Leave { machine: id(number), mark: mark.clone() });
                if half {
                    return None;
                }
                self.real[number].mark = Some(mark);
                Some(Answer::Granted { since: self.now, alone })
            }
        }
    }

    fn give_back(&mut self, number: usize, half: bool) -> Option<Outcome> {
        loop {
            let marked = self.real[number].mark.is_some();
            match self.with_cluster(|cluster| give_back(&id(number), marked, cluster)) {
                Return::Resume => {
                    self.real[number].mark = None;
                    self.real[number].active = true;
                    if half {
                        return None;
                    }
                }
                Return::End => {
                    self.held = None;
                    return Some(Outcome::GivenBack);
                }
                Return::Wait(_) => return None,
                Return::Done => return Some(Outcome::GivenBack),
            }
        }
    }

    /// Moves everything off a machine, when there is another that takes work.
    fn empty(&mut self, number: usize) -> Outcome {
        self.real[number].active = false;
        if !self.real.iter().any(|one| one.active && one.back_at.is_none()) {
            self.real[number].active = true;
            return Outcome::NotEmptied;
        }
        self.real[number].instances = 0;
        self.place();
        Outcome::Emptied
    }

    /// What comes of a step; `None` when the agent hears nothing.
    fn perform(&mut self, number: usize, step: Step, half: bool) -> Option<Outcome> {
        match step {
            Step::Rest => None,
            Step::Reboot => {
                self.real[number].back_at = Some(self.now + BOOT_S);
                Some(Outcome::Told)
            }
            _ if !self.decides() => None,
            Step::Look => {
                let held = self.held.as_ref().filter(|leave| leave.machine == id(number));
                let mark = held.map(|leave| leave.mark.clone()).or_else(|| self.real[number].mark.clone());
                Some(Outcome::Looked(mark))
            }
            Step::Ask => self.ask(number, half).map(Outcome::Answered),
            Step::Empty => Some(self.empty(number)),
            Step::GiveBack(_) => self.give_back(number, half),
        }
    }

    fn step(&mut self, number: usize, lost: bool, half: bool) {
        if self.real[number].back_at.is_some() {
            return;
        }
        let seen = self.seen(number);
        let step = self.real[number].turn.next(seen);
        let outcome = self.perform(number, step, half);
        if let (Some(outcome), false) = (outcome, lost) {
            self.real[number].turn.took(&outcome, seen);
        }
    }

    fn happen(&mut self, happens: Happens) {
        let count = self.real.len();
        match happens {
            Happens::Step(number) => self.step(number % count, false, false),
            Happens::Lost(number) => self.step(number % count, true, false),
            Happens::Half(number) => self.step(number % count, false, true),
            Happens::Killed(number) => {
                let number = number % count;
                let boots = self.real[number].boots;
                self.real[number].turn = Turn::new(name_of_boot(number, boots));
            }
            Happens::Time(seconds) => {
                self.now += seconds;
                let now = self.now;
                for (number, real) in self.real.iter_mut().enumerate() {
                    if real.back_at.is_some_and(|at| at <= now) {
                        real.back_at = None;
                        real.boots += 1;
                        // What asked for the reboot goes with it: /run is new.
                        real.wanted = false;
                        real.turn = Turn::new(name_of_boot(number, real.boots));
                    }
                }
                self.place();
            }
        }
        self.check();
    }

    /// What must hold at every moment.
    fn check(&self) {
        let away: Vec<&Real> = self.real.iter().filter(|one| one.back_at.is_some()).collect();
        assert!(away.len() <= 1, "{} machines are away at once", away.len());
        let managers = self.real.iter().filter(|one| one.manager).count();
        assert!(managers == 1 || self.decides(), "the managers can't decide");
        for one in away {
            assert!(one.instances == 0 || self.real.len() == 1, "it went with what it ran");
        }
    }

    fn is_done(&self) -> bool {
        self.held.is_none()
            && self
                .real
                .iter()
                .all(|one| !one.wanted && one.active && one.mark.is_none() && one.back_at.is_none())
    }
}

fn name_of_boot(machine: usize, boots: usize) -> BootId {
    boot(machine * 1_000 + boots)
}

fn any_happens() -> impl Strategy<Value = Happens> {
    let who = 0_usize..6;
    prop_oneof![
        6 => who.clone().prop_map(Happens::Step),
        1 => who.clone().prop_map(Happens::Lost),
        1 => who.clone().prop_map(Happens::Half),
        1 => who.prop_map(Happens::Killed),
        2 => (1_i64..60).prop_map(Happens::Time),
        1 => (60_i64..2_400).prop_map(Happens::Time),
    ]
}

proptest! {
    #[test]
    fn one_at_a_time_and_everybody_in_the_end(
        // Two managers can't do without one of them, and never reboot.
        managers in prop_oneof![Just(1_usize), Just(3), Just(5)],
        workers in 0_usize..4,
        wanted in proptest::collection::vec(any::<bool>(), 1..8),
        history in proptest::collection::vec(any_happens(), 0..120),
    ) {
        let mut world = World::new(managers, workers, &wanted);
        let before: Vec<bool> = world.real.iter().map(|one| one.wanted).collect();
        for happens in history {
            world.happen(happens);
        }
        // From here on nothing fails, and the window opens anew each hour for those that had a
        // turn in it which did not end in a reboot.
        for round in 0..3_000 {
            if world.is_done() {
                break;
            }
            if round % 720 == 719 {
                world.opened = world.now;
            }
            for number in 0..world.real.len() {
                world.happen(Happens::Step(number));
            }
            world.happen(Happens::Time(5));
        }
        prop_assert!(world.is_done(), "{world:#?}");
        for (number, wanted) in before.into_iter().enumerate() {
            prop_assert_eq!(world.real[number].boots > 0, wanted, "machine {}", number);
        }
    }

    #[test]
    fn two_managers_never_leave_each_other(history in proptest::collection::vec(any_happens(), 0..120)) {
        let mut world = World::new(2, 2, &[true, true, false, false]);
        for happens in history {
            world.happen(happens);
        }
        prop_assert!(world.real.iter().take(2).all(|one| one.boots == 0 && one.back_at.is_none()));
    }
}
