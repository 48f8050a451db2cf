//! A machine with an agent, an engine and systemd, each of which is killed at any step, and managers that place one
//! instance here or elsewhere: in thousands of histories units run where and when their task does, and stop for no
//! other reason.

use std::collections::BTreeSet;

use super::standing::{Asked, standing};
use super::*;
use crate::model::unit::PlacedTask as Task;
use crate::plan::dice::Dice;

/// How many histories are tried.
const SEEDS: u64 = 3_000;
/// For how many steps of 100 ms things go wrong, and for how many they then may settle.
const FAULTS: u64 = 400;
const CALM: u64 = 400;
const STEP: Duration = Duration::from_millis(100);
/// After how many steps without its engine a machine counts as lost.
const LOST: u64 = 60;
/// After how many steps the engine kills what it asked to stop.
const GRACE: u64 = 100;

/// A container of the engine.
#[derive(Debug, Clone)]
struct Container {
    placeholder: Placeholder,
    connected: bool,
    told_at: Option<u64>,
}

/// Units in systemd, with the agent's record of them.
#[derive(Debug, Clone)]
struct Units {
    which: Which,
    state: State,
    stopping: Option<Why>,
    /// At which step its state changes.
    next: u64,
}

struct World {
    dice: Dice,
    step: u64,
    exclusive: bool,
    /// Whether every node is to have an instance, and not one of them.
    global: bool,
    // Managers.
    wanted: bool,
    template: u64,
    tasks: Vec<Task>,
    answering: bool,
    version: u64,
    // The machine.
    engine: bool,
    engine_since: u64,
    containers: Vec<Container>,
    /// The tasks whose container was started: it is so once.
    started: BTreeSet<String>,
    agent: bool,
    heard: u64,
    known: BTreeMap<String, Known>,
    units: Vec<Units>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (exclusive, global) = (dice.chance(2), dice.chance(2));
        Self {
            dice,
            step: 0,
            exclusive,
            global,
            wanted: true,
            template: 1,
            tasks: Vec::new(),
            answering: true,
            version: 0,
            engine: true,
            engine_since: 0,
            containers: Vec::new(),
            started: BTreeSet::new(),
            agent: true,
            heard: 0,
            known: BTreeMap::new(),
            units: Vec::new(),
        }
    }

    fn which(&self, task: &Task) -> Which {
        Which {
            task: task.id.clone(),
            service: task.service.clone(),
            slot: task.slot.clone(),
            template: task.template.clone(),
            exclusive: self.exclusive,
            on_disconnect: OnDisconnect::Keep,
        }
    }

    fn faults(&mut self) {
        if self.dice.chance(60) {
            self.agent = !self.agent;
            for container in &mut self.containers {
                container.connected = false;
            }
            self.known.clear();
        }
        if self.dice.chance(80) {
            self.engine = !self.engine;
            self.engine_since = self.step;
            // Killed, or shut down: then the engine asks everything to stop, and waits for it.
            if self.engine || self.dice.chance(2) {
                self.containers.clear();
            } else {
                let step = self.step;
                for container in &mut self.containers {
                    container.told_at.get_or_insert(step);
                }
            }
        }
        if self.dice.chance(50) {
            self.answering = !self.answering;
        }
        if self.dice.chance(100) {
            self.wanted = !self.wanted;
        }
        if self.dice.chance(100) {
            self.template += 1;
        }
        if self.dice.chance(70)
            && let Some(units) = self.units.first_mut()
            && units.state == State::Active
        {
            units.state = State::Failed("killed".to_owned());
        }
        if self.dice.chance(90) && !self.containers.is_empty() {
            self.containers.remove(0);
        }
    }

    fn managers(&mut self) {
        let here_lost = !self.engine && self.step - self.engine_since > LOST;
        for task in &mut self.tasks {
            let here = task.node.as_deref() == Some("here");
            let alive = self.containers.iter().any(|one| one.placeholder.which.task == task.id);
            // The engine says what its containers do, as long as it is there.
            if here && self.engine && !alive && (!task.wanted || self.started.contains(&task.id)) {
                task.ended = true;
            }
            if (!self.wanted || (here && here_lost) || task.ended) && task.wanted {
                task.wanted = false;
                self.version += 1;
                task.version = self.version;
            }
        }
        let template = self.template.to_string();
        let is_new = |task: &Task| task.wanted && !task.ended && task.template == template;
        let new_runs = self.tasks.iter().any(|task| {
            is_new(task)
                && (task.node.as_deref() != Some("here")
                    || self.units.iter().any(|one| one.which.task == task.id && one.state == State::Active))
        });
        let old = self.tasks.iter().any(|task| task.wanted && !task.ended && task.template != template);
        // An exclusive one is stopped before, another one after its replacement runs.
        if old && (new_runs || self.exclusive) {
            for task in self.tasks.iter_mut().filter(|task| task.template != template && task.wanted) {
                task.wanted = false;
            }
        }
        let stopping = self.tasks.iter().any(|task| !task.wanted && !task.ended && !here_lost);
        if self.wanted && !self.tasks.iter().any(is_new) && !(self.exclusive && stopping) {
            self.version += 1;
            let here = !here_lost && self.engine && (self.global || !self.dice.chance(3));
            if self.global && !here {
                return;
            }
            self.tasks.push(Task {
                id: format!("t{}", self.version),
                service: "web".to_owned(),
                slot: "1".to_owned(),
                node: Some(if here { "here" } else { "there" }.to_owned()),
                template,
                wanted: true,
                ended: false,
                version: self.version,
            });
        }
        // They forget what is long over.
        if self.tasks.len() > 5 {
            let at = self.tasks.iter().position(|task| task.ended);
            at.map(|at| self.tasks.remove(at));
        }
    }

    fn engine(&mut self) {
        let (step, agent) = (self.step, self.agent);
        if self.engine {
            let placed: Vec<Task> = self
                .tasks
                .iter()
                .filter(|task| task.node.as_deref() == Some("here") && task.wanted && !task.ended)
                .filter(|task| !self.started.contains(&task.id))
                .cloned()
                .collect();
            for task in placed {
                if self.dice.chance(3) {
                    self.started.insert(task.id.clone());
                    let placeholder = Placeholder { which: self.which(&task), told: None };
                    self.containers.push(Container { placeholder, connected: agent, told_at: None });
                }
            }
            let over = |task: &str| !self.tasks.iter().any(|one| one.id == task && one.wanted);
            for container in &mut self.containers {
                if over(&container.placeholder.which.task) {
                    container.told_at.get_or_insert(step);
                }
            }
        }
        self.containers.retain(|container| container.told_at.is_none_or(|at| step - at < GRACE));
        for container in &mut self.containers {
            container.connected |= agent;
            container.placeholder.told =
                container.told_at.map(|at| STEP * u32::try_from(at).expect("few steps"));
        }
    }

    fn systemd(&mut self) {
        for units in self.units.iter_mut().filter(|units| units.next <= self.step) {
            match (&units.state, units.stopping) {
                (State::Starting | State::Active | State::Failed(_), Some(_)) => units.state = State::Stopped,
                (State::Starting, None) => units.state = State::Active,
                _ => {}
            }
        }
    }

    /// What the managers would say now.
    fn truth(&self, which: &Which) -> Standing {
        let placeholder =
            self.containers.iter().any(|one| one.connected && one.placeholder.which.task == which.task);
        let Which { task, service, slot, template, .. } = which;
        let asked = Asked { task, service, slot, template, placeholder };
        standing(asked, "here", self.global && self.wanted, &self.tasks)
    }

    fn agent(&mut self) {
        if !self.agent {
            return;
        }
        let placeholders: Vec<Placeholder> =
            self.containers.iter().filter(|one| one.connected).map(|one| one.placeholder.clone()).collect();
        let instances: Vec<Instance> = self
            .units
            .iter()
            .map(|units| Instance {
                which: units.which.clone(),
                state: units.state.clone(),
                stopping: units.stopping,
                unhealthy: false,
            })
            .collect();
        let time = |step: u64| STEP * u32::try_from(step).expect("few steps");
        let decision = decide(&Seen {
            now: time(self.step),
            placeholders: &placeholders,
            instances: &instances,
            known: &self.known,
            heard: time(self.heard),
        });
        for action in decision.actions {
            self.act(action);
            // Killed between two of them.
            if self.step < FAULTS && self.dice.chance(100) {
                self.agent = false;
                self.known.clear();
                return;
            }
        }
        self.known.clear();
        if self.answering {
            self.heard = self.step;
            for task in decision.ask {
                let which = instances.iter().map(|one| &one.which).find(|which| which.task == task);
                if let Some(which) = which {
                    self.known.insert(task, Known { standing: self.truth(which), epoch: self.version });
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        let next = self.step + 1 + self.dice.below(20);
        match action {
            Action::Start(task) => {
                let placed = self.containers.iter().find(|one| one.placeholder.which.task == task);
                let which = placed.expect("a placeholder is started").placeholder.which.clone();
                assert!(!self.units.iter().any(|one| one.which.task == task), "started twice");
                if self.exclusive {
                    assert_eq!(self.units.len(), 0, "an exclusive unit beside another");
                }
                self.units.push(Units { which, state: State::Starting, stopping: None, next });
            }
            Action::Adopt(from, to) => {
                let units =
                    self.units.iter_mut().find(|one| one.which.task == from).expect("what is adopted");
                units.which.task = to;
            }
            Action::Stop(task, why) => {
                let at = self.units.iter().position(|one| one.which.task == task).expect("what is stopped");
                // An answer is one step old at most.
                let over = self.known.get(&task).is_some_and(|known| match &known.standing {
                    Standing::Over => true,
                    Standing::Succeeded(next) => self.units.iter().any(|one| one.which.task == *next),
                    Standing::Wanted => false,
                });
                let failed = matches!(self.units[at].state, State::Failed(_));
                assert!(over || failed, "stopped, and nobody said so");
                self.units[at].stopping = Some(why);
                self.units[at].next = next;
            }
            Action::Remove(task) => {
                let at = self.units.iter().position(|one| one.which.task == task).expect("what is removed");
                let removed = self.units.remove(at);
                assert!(!matches!(removed.state, State::Starting | State::Active), "removed while it ran");
            }
            Action::End(task, ..) | Action::Release(task) => {
                self.containers.retain(|one| one.placeholder.which.task != task)
            }
        }
    }

    fn advance(&mut self) {
        self.step += 1;
        if self.step < FAULTS {
            self.faults();
        } else if self.step == FAULTS {
            (self.agent, self.answering, self.wanted) = (true, true, true);
            if !self.engine {
                (self.engine, self.engine_since) = (true, self.step);
                self.containers.clear();
            }
        }
        self.managers();
        self.engine();
        self.systemd();
        self.agent();
    }
}

#[test]
fn units_run_where_their_task_does() {
    let mut here = 0;
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        while world.step < FAULTS + CALM {
            world.advance();
        }
        let wanted: Vec<&str> = world
            .tasks
            .iter()
            .filter(|task| task.wanted && !task.ended && task.node.as_deref() == Some("here"))
            .map(|task| task.id.as_str())
            .collect();
        let running: Vec<&str> = world
            .units
            .iter()
            .filter(|units| units.state == State::Active)
            .map(|units| units.which.task.as_str())
            .collect();
        assert_eq!(running, wanted, "seed {seed}: {:?} {:?}", world.tasks, world.units);
        assert_eq!(world.units.len(), running.len(), "seed {seed}: something is left behind");
        here += running.len();
    }
    assert!(here > 100, "the histories end with units on the machine, mostly");
}
