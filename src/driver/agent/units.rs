//! Runs the units of services on this machine. What is done is decided in [`crate::plan::units`]; this looks, asks and
//! does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::model::name::MachineId;
use crate::model::service::HealthCheck;
use crate::model::unit::{UnitState, UnitTaskAsked, Which, Why};
use crate::plan::units::files::{Place, VARIABLES, copied, install, is_template, template_of, variables};
use crate::plan::units::{Action, Decision, Instance, Known, Placeholder, Seen, State, decide, state};
use crate::port::units::{
    Arrived, AskStandings, CheckHealth, Door, Health, Present, PrivateFile, UnitError, UnitManager,
    UnitRecord, UnitStore,
};

/// How often everything is checked, even if nothing seems to have changed.
const REST: Duration = Duration::from_secs(10);
/// Time between two questions to the managers, and between two looks while something is open.
const SOON: Duration = Duration::from_secs(1);
/// How long an answer of theirs is good.
const FRESH: Duration = Duration::from_millis(2_500);
/// A placeholder whose units have ended is kept until the journal has been silent for this long, so that it prints their
/// last lines.
const SILENCE: Duration = Duration::from_millis(500);
/// How long it is kept at most.
const LAST_LINES: Duration = Duration::from_secs(5);
/// Time between two checks for it.
const CHECK: Duration = Duration::from_millis(100);

/// The parts of this machine, and the way to the managers.
pub struct Units {
    /// This machine.
    pub machine: MachineId,
    /// systemd.
    pub systemd: Arc<dyn UnitManager>,
    /// The files.
    pub files: Arc<dyn UnitStore>,
    /// The placeholders.
    pub door: Arc<dyn Door>,
    /// The managers.
    pub control: Arc<dyn AskStandings>,
    /// Health checks.
    pub checks: Arc<dyn CheckHealth>,
}

/// Whose placeholder prints what a unit logs, by the unit's name.
#[derive(Clone, Default)]
pub struct Owners(Arc<Mutex<HashMap<String, String>>>);

impl Owners {
    /// The task that a unit belongs to, or the template that it is an instance of.
    pub fn task(&self, unit: &str) -> Option<String> {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.get(unit).or_else(|| owners.get(&template_of(unit)?)).cloned()
    }

    /// Units of `records` belong to their tasks. One that was removed still belongs to its task while that is one of
    /// `ending`: the journal has its last lines a moment later.
    fn set(&self, records: &BTreeMap<String, UnitRecord>, ending: &BTreeSet<String>) {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, task| ending.contains(task));
        for record in records.values() {
            owners.extend(record.units.iter().map(|unit| (unit.clone(), record.task.clone())));
        }
    }
}

/// What the managers said last.
#[derive(Default)]
struct Answers {
    known: BTreeMap<String, (Known, Instant)>,
    heard: Option<Instant>,
    asking: bool,
    asked: Option<Instant>,
}

/// A health check that runs for as long as this is held.
struct Checking {
    health: Arc<Mutex<Health>>,
    work: JoinHandle<()>,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.work.abort();
    }
}

struct Run<'a> {
    units: &'a Units,
    owners: &'a Owners,
    begun: Instant,
    /// By the task that they belong to now.
    records: BTreeMap<String, UnitRecord>,
    checking: HashMap<String, Checking>,
    /// Connections whose task the managers have answered about: the engine's request to stop may have been missed
    /// before.
    answered: BTreeSet<(String, u64)>,
    /// Placeholders that are to end, with the status that was decided first.
    ending: BTreeSet<String>,
    answers: Arc<Mutex<Answers>>,
    wake: Arc<Notify>,
}

impl Units {
    /// Runs them, until dropped. What runs then keeps running, and is adopted after the next start.
    pub async fn run(&self, owners: &Owners) -> Infallible {
        let (records, stray) = loop {
            match self.files.load().await {
                Ok(loaded) => break loaded,
                Err(error) => tracing::warn!(%error, "taking up the units of this machine"),
            }
            sleep(SOON).await;
        };
        for unit in stray {
            tracing::warn!(unit, "a unit belongs to no service, and is removed");
            let _ = self.systemd.stop(&unit).await;
        }
        let mut run = Run {
            units: self,
            owners,
            begun: Instant::now(),
            records: records.into_iter().map(|record| (record.task.clone(), record)).collect(),
            checking: HashMap::new(),
            answered: BTreeSet::new(),
            ending: BTreeSet::new(),
            answers: Arc::default(),
            wake: Arc::default(),
        };
        owners.set(&run.records, &run.ending);
        loop {
            let open = match run.pass().await {
                Ok(open) => open,
                Err(error) => {
                    tracing::warn!(%error, "running units");
                    true
                }
            };
            let limit = if open { SOON } else { REST };
            tokio::select! {
                () = self.systemd.changed(limit) => {}
                () = self.door.changed() => {}
                () = run.wake.notified() => {}
            }
        }
    }
}

impl Run<'_> {
    /// Checks everything once and does what follows; returns whether something is still open.
    async fn pass(&mut self) -> Result<bool, UnitError> {
        let mut present = self.units.door.present();
        let before = self.ending.len();
        self.ending.retain(|task| present.iter().any(|one| one.arrived.which.task == *task));
        if self.ending.len() < before {
            self.owners.set(&self.records, &self.ending);
        }
        present.retain(|one| !self.ending.contains(&one.arrived.which.task));
        // What was being installed when the agent ended is done again.
        let half: Vec<String> = self
            .records
            .values()
            .filter(|record| !record.started)
            .map(|record| record.task.clone())
            .collect();
        for task in half {
            self.remove(&task).await?;
        }
        let names: Vec<String> =
            self.records.values().flat_map(|record| record.start.iter().cloned()).collect();
        let states = self.units.systemd.states(&names).await?;
        let instances: Vec<Instance> =
            self.records.values().map(|record| self.instance(record, &states)).collect();
        for instance in instances.iter().filter(|one| one.stopping.is_some() && one.state != State::Stopped) {
            // It was asked before, and may not have heard it.
            if let Some(record) = self.records.get(&instance.which.task) {
                self.halt(record).await?;
            }
        }
        self.report(&present, &instances);
        let placeholders: Vec<Placeholder> = present
            .iter()
            .map(|one| Placeholder {
                which: one.arrived.which.clone(),
                told: one.told.map(|at| at.saturating_duration_since(self.begun)),
            })
            .collect();
        let (known, heard) = self.known();
        let seen = Seen {
            now: self.begun.elapsed(),
            placeholders: &placeholders,
            instances: &instances,
            known: &known,
            heard,
        };
        let Decision { actions, mut ask } = decide(&seen);
        let acted = !actions.is_empty();
        self.act(actions, &present, &known).await?;
        let connections: BTreeSet<(String, u64)> =
            present.iter().map(|one| (one.arrived.which.task.clone(), one.connection)).collect();
        for connection in &connections {
            let task = &connection.0;
            if known.contains_key(task) {
                self.answered.insert(connection.clone());
            } else if self.records.contains_key(task)
                && !self.answered.contains(connection)
                && !ask.contains(task)
            {
                ask.push(task.clone());
            }
        }
        self.answered.retain(|connection| connections.contains(connection));
        let unsettled =
            instances.iter().any(|instance| instance.state == State::Starting || instance.stopping.is_some());
        let open = acted || unsettled || !ask.is_empty();
        self.ask(&present, &ask);
        Ok(open)
    }

    fn instance(&self, record: &UnitRecord, states: &BTreeMap<String, UnitState>) -> Instance {
        let health = self
            .checking
            .get(&record.task)
            .map(|checking| checking.health.lock().unwrap_or_else(PoisonError::into_inner).clone());
        Instance {
            which: which(record),
            state: state(&record.start, states, record.stopping.is_some()),
            stopping: record.stopping,
            unhealthy: matches!(health, Some(Health::Unhealthy(_))),
        }
    }

    /// Begins health checks of what is active, and passes on what is known of all.
    fn report(&mut self, present: &[Present], instances: &[Instance]) {
        for instance in instances.iter().filter(|instance| instance.state == State::Active) {
            let task = &instance.which.task;
            let check = self.records.get(task).and_then(|record| record.order.health.clone());
            let health = match (check, self.checking.get(task)) {
                (None, _) => Health::Healthy("active".to_owned()),
                (Some(_), Some(checking)) => {
                    checking.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
                }
                (Some(check), None) => {
                    let checking = begin_checks(&self.units.checks, check, Arc::clone(&self.wake));
                    self.checking.insert(task.clone(), checking);
                    Health::Unknown
                }
            };
            if health != Health::Unknown && present.iter().any(|one| one.arrived.which.task == *task) {
                self.units.door.health(task, health);
            }
        }
    }

    /// What the managers said, as far as that is fresh, and when they answered last.
    fn known(&self) -> (BTreeMap<String, Known>, Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.known.retain(|_, (_, at)| at.elapsed() < FRESH);
        let known = answers.known.iter().map(|(task, (known, _))| (task.clone(), known.clone())).collect();
        let heard = answers.heard.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.begun));
        (known, heard)
    }

    /// Asks the managers in the background: what runs does not wait for them.
    fn ask(&self, present: &[Present], tasks: &[String]) {
        let of_records = self.records.values().map(which);
        let mut wanted: Vec<UnitTaskAsked> = Vec::new();
        for which in of_records.chain(present.iter().map(|one| one.arrived.which.clone())) {
            if tasks.contains(&which.task) && !wanted.iter().any(|other| other.task == which.task) {
                let placeholder = present.iter().any(|one| one.arrived.which.task == which.task);
                wanted.push(UnitTaskAsked::new(&which, placeholder));
            }
        }
        {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            let recently = answers.asked.is_some_and(|at| at.elapsed() < SOON / 2);
            if wanted.is_empty() || answers.asking || recently {
                return;
            }
            answers.asking = true;
            answers.asked = Some(Instant::now());
        }
        let (control, machine) = (Arc::clone(&self.units.control), self.units.machine.clone());
        let (answers, wake) = (Arc::clone(&self.answers), Arc::clone(&self.wake));
        tokio::spawn(async move {
            // What is known is as old as the question.
            let at = Instant::now();
            let answer = control.standings(&machine, &wanted).await;
            {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.asking = false;
                match answer {
                    Ok(tasks) => {
                        answers.heard = Some(at);
                        answers.known.extend(
                            tasks.into_iter().map(|one| {
                                (one.task, (Known { standing: one.standing, epoch: one.epoch }, at))
                            }),
                        );
                    }
                    Err(error) => tracing::debug!(%error, "asking control machines about units"),
                }
            }
            wake.notify_one();
        });
    }

    async fn act(
        &mut self,
        actions: Vec<Action>,
        present: &[Present],
        known: &BTreeMap<String, Known>,
    ) -> Result<(), UnitError> {
        let mut installed = Vec::new();
        for action in actions {
            match action {
                Action::Start(task) => {
                    let Some(one) = present.iter().find(|one| one.arrived.which.task == task) else {
                        continue;
                    };
                    let epoch = known.get(&task).map_or(0, |known| known.epoch);
                    match self.install(&one.arrived, epoch).await {
                        Ok(()) => installed.push(task),
                        Err(error) => self.units.door.end(&task, 1, &error.to_string()),
                    }
                }
                Action::Adopt(from, to) => self.adopt(&from, &to).await?,
                Action::Stop(task, why) => self.stop(&task, why).await?,
                Action::Remove(task) => self.remove(&task).await?,
                Action::Release(task) => self.units.door.end(&task, 0, ""),
                Action::End(task, status, reason) => {
                    tracing::info!(task, status, reason, "units ended");
                    self.ending.insert(task.clone());
                    let door = Arc::clone(&self.units.door);
                    tokio::spawn(async move {
                        last_lines(door.as_ref(), &task).await;
                        door.end(&task, status, &reason);
                    });
                }
            }
        }
        if installed.is_empty() {
            return Ok(());
        }
        // What they write is theirs from the first line on.
        self.owners.set(&self.records, &self.ending);
        // All that is new is read together, since systemd loads everything each time.
        if let Err(error) = self.units.systemd.reload().await {
            for task in installed {
                self.units.door.end(&task, 1, &error.to_string());
            }
            return Err(error);
        }
        for task in installed {
            let Some(record) = self.records.get_mut(&task) else { continue };
            match self.units.systemd.start(&record.target).await {
                Ok(()) => {
                    record.started = true;
                    let record = record.clone();
                    tracing::info!(task, service = record.service, units = ?record.start, "starting units");
                    self.units.files.update(&record).await?;
                }
                Err(error) => self.units.door.end(&task, 1, &error.to_string()),
            }
        }
        Ok(())
    }

    async fn install(&mut self, arrived: &Arrived, epoch: u64) -> Result<(), UnitError> {
        let (which, order) = (&arrived.which, &arrived.order);
        let folder = self.units.files.folder(&which.task);
        let place = Place { task: &which.task, slot: &which.slot, folder: &folder, epoch };
        let installed = install(order, place);
        let mut private: Vec<PrivateFile> = arrived
            .held
            .iter()
            .map(|file| PrivateFile { path: copied(&file.path), ..file.clone() })
            .collect();
        let mut of_secrets = Vec::new();
        for secret in &order.secrets {
            let Some(name) = &secret.env else { continue };
            let file = arrived.held.iter().find(|file| file.path == secret.target);
            let text = file.and_then(|file| std::str::from_utf8(&file.content).ok());
            let Some(text) = text.filter(|text| !text.contains('\0')) else {
                return Err(UnitError {
                    doing: format!("setting variable {name}"),
                    reason: "the secret is no text, and so no variable can hold it".to_owned(),
                });
            };
            of_secrets.push((name.clone(), text.strip_suffix('\n').unwrap_or(text).to_owned()));
        }
        if !of_secrets.is_empty() {
            let content = variables(&of_secrets).into_bytes();
            private.push(PrivateFile { path: VARIABLES.to_owned(), content, mode: 0o600, owner: (0, 0) });
        }
        let record = UnitRecord {
            version: 1,
            task: which.task.clone(),
            installed_for: which.task.clone(),
            service: which.service.clone(),
            slot: which.slot.clone(),
            template: which.template.clone(),
            order: order.clone(),
            target: installed.target.clone(),
            start: installed.start.clone(),
            units: installed.units.clone(),
            started: false,
            stopping: None,
        };
        if let Err(error) = self.units.files.install(&record, &installed, &private).await {
            // Half of it may be there.
            let _ = self.units.files.remove(&record).await;
            return Err(error);
        }
        self.records.insert(which.task.clone(), record);
        Ok(())
    }

    async fn adopt(&mut self, from: &str, to: &str) -> Result<(), UnitError> {
        let Some(mut record) = self.records.remove(from) else { return Ok(()) };
        to.clone_into(&mut record.task);
        tracing::info!(task = to, before = from, units = ?record.start, "units keep running under a new task");
        if let Some(checking) = self.checking.remove(from) {
            self.checking.insert(to.to_owned(), checking);
        }
        let saved = self.units.files.update(&record).await;
        self.records.insert(to.to_owned(), record);
        self.owners.set(&self.records, &self.ending);
        saved
    }

    async fn stop(&mut self, task: &str, why: Why) -> Result<(), UnitError> {
        let Some(record) = self.records.get_mut(task) else { return Ok(()) };
        record.stopping = Some(why);
        let record = record.clone();
        tracing::info!(task, service = record.service, units = ?record.start, ?why, "stopping units");
        self.checking.remove(task);
        self.units.files.update(&record).await?;
        self.halt(&record).await
    }

    /// Has systemd stop all units of a record. Those that do not run are no error.
    async fn halt(&self, record: &UnitRecord) -> Result<(), UnitError> {
        // Instances of a template stop with the target that they are part of.
        for unit in record.units.iter().filter(|unit| !is_template(unit)).chain([&record.target]) {
            self.units.systemd.stop(unit).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, task: &str) -> Result<(), UnitError> {
        let Some(record) = self.records.get(task).cloned() else { return Ok(()) };
        for unit in record.units.iter().filter(|unit| !is_template(unit)) {
            self.units.systemd.forget(unit).await?;
        }
        self.units.files.remove(&record).await?;
        self.records.remove(task);
        self.checking.remove(task);
        self.owners.set(&self.records, &self.ending);
        Ok(())
    }
}

/// Waits until a placeholder has printed what its units logged last.
async fn last_lines(door: &dyn Door, task: &str) {
    let begun = Instant::now();
    while begun.elapsed() < LAST_LINES {
        sleep(CHECK).await;
        if door.printed(task).is_some_and(|at| at.elapsed() > SILENCE) && begun.elapsed() > SILENCE {
            return;
        }
    }
}

fn which(record: &UnitRecord) -> Which {
    Which {
        task: record.task.clone(),
        service: record.service.clone(),
        slot: record.slot.clone(),
        template: record.template.clone(),
        exclusive: record.order.units.exclusive,
        on_disconnect: record.order.units.on_disconnect,
    }
}

/// Checks health as the engine does it for containers.
fn begin_checks(checks: &Arc<dyn CheckHealth>, check: HealthCheck, wake: Arc<Notify>) -> Checking {
    let health = Arc::new(Mutex::new(Health::Unknown));
    let (checks, shared) = (Arc::clone(checks), Arc::clone(&health));
    let work = tokio::spawn(async move {
        let begun = Instant::now();
        let mut failures = 0;
        loop {
            let answer = checks.check(&check.probe, check.timeout).await;
            let found = match answer {
                Ok(words) => {
                    failures = 0;
                    Some(Health::Healthy(words))
                }
                Err(_) if begun.elapsed() < check.start_period => None,
                Err(words) => {
                    failures += 1;
                    (failures >= check.retries).then_some(Health::Unhealthy(words))
                }
            };
            if let Some(found) = found {
                let mut held = shared.lock().unwrap_or_else(PoisonError::into_inner);
                let changes = std::mem::discriminant(&*held) != std::mem::discriminant(&found);
                *held = found;
                drop(held);
                if changes {
                    wake.notify_one();
                }
            }
            // The first success ends the wait of a rollout, so it is not waited for longer than needed.
            let starting = *shared.lock().unwrap_or_else(PoisonError::into_inner) == Health::Unknown;
            sleep(if starting { check.interval.min(SOON) } else { check.interval }).await;
        }
    });
    Checking { health, work }
}
