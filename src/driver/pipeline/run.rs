//! The shell around one run: performs what the machine wants, writes down before it does.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, Sleep};

use super::kept;
use super::retention::Removed;
use super::troubles::Troubles;
use super::work::{self, At, Prepared};
use super::{infra, jobs};
use crate::event::pipeline::PipelineEvent;
use crate::event::{EventKind, Events};
use crate::model::line::{LINE_MAX, plain, remains};
use crate::model::redact::Mask;
use crate::model::run::{Run, RunConfig, RunId, StepAction, StepState, Trigger};
use crate::model::step_log::{LineKind, NewLine, StepLog};
use crate::plan::conditions::Begun;
use crate::plan::retention::STRANGERS;
use crate::plan::run::{Action, Change, Effect, Ending, Input, Outcome, Problem, RunMachine};
use crate::port::artifacts::Artifacts;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::commit_statuses::Comments;
use crate::port::engine_storage::EngineStorage;
use crate::port::git::GitRemote;
use crate::port::images::ImageStore;
use crate::port::infra::Infra;
use crate::port::jobs::JobCluster;
use crate::port::journal::{Journal, JournalError, Record, Which};
use crate::port::locks::{Guard, Locks};
use crate::port::space::Space;
use crate::port::step_containers::{Attempt, PrintedLine, StepContainers};
use crate::port::step_logs::StepLogs;

/// How often what a builder says is written down.
const FLUSH: Duration = Duration::from_millis(100);
/// How often the journal is read for whether somebody has cancelled the run.
const LOOK: Duration = Duration::from_millis(500);
/// How many lines of a run a server shows itself. All of them are in the logs of the steps.
pub const SHOWN_MOST: usize = 2000;

/// Finds the cluster; asked again for every action, since control machines come and go.
#[async_trait]
pub trait Connect: Send + Sync {
    /// The environment's cluster.
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError>;

    /// Its jobs.
    async fn jobs(&self) -> Result<Arc<dyn JobCluster>, ClusterError>;
}

/// All that runs need.
#[derive(Clone)]
pub struct Parts {
    /// The repositories.
    pub git: Arc<dyn GitRemote>,
    /// The builder and the registry.
    pub images: Arc<dyn ImageStore>,
    /// The engine that steps run on.
    pub steps: Arc<dyn StepContainers>,
    /// What pipelines have on that engine besides.
    pub storage: Arc<dyn EngineStorage>,
    /// Where files of steps are kept.
    pub artifacts: Arc<dyn Artifacts>,
    /// fleetwright's own commands.
    pub infra: Arc<dyn Infra>,
    /// Pull requests that plans are shown in.
    pub comments: Arc<dyn Comments>,
    /// The disks that runs need.
    pub space: Arc<dyn Space>,
    /// The cluster.
    pub connect: Arc<dyn Connect>,
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// What steps print.
    pub logs: Arc<dyn StepLogs>,
    /// Locks between processes.
    pub locks: Arc<dyn Locks>,
    /// The mask of secrets.
    pub mask: Mask,
    /// How many lines of a run are shown as this process's own output.
    pub shown_most: usize,
    /// Where events go, after they are in the journal.
    pub events: Events,
    /// Raised whenever the journal has changed.
    pub changed: Arc<watch::Sender<u64>>,
    /// What is wrong with the server itself.
    pub troubles: Arc<Troubles>,
    /// How much was removed.
    pub removed: Arc<Removed>,
}

impl Parts {
    /// Writes changes of a run, and tells those who listen.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn record(&self, run: RunId, changes: Vec<Change>) -> Result<(), JournalError> {
        let mut records = Vec::with_capacity(changes.len());
        let mut events = Vec::new();
        for change in changes {
            match change {
                Change::Record(record) => records.push(record),
                Change::Event(event) => {
                    // Reasons may quote what a builder or registry said.
                    let event = self.mask.masked(&event).unwrap_or_else(|| event.withheld());
                    let json = serde_json::to_string(&event).map_err(|error| JournalError::Access {
                        doing: "writing",
                        reason: error.to_string(),
                    })?;
                    records.push(Record::Event(json));
                    events.push(event);
                }
            }
        }
        self.journal.record(Utc::now(), run, &records)?;
        for event in events {
            self.events.emit(EventKind::Pipeline(event));
        }
        self.ring();
        Ok(())
    }

    /// Tells those who wait for it that the journal has changed.
    pub fn ring(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Learns what must not be shown, before anything is written that may hold it.
    ///
    /// # Errors
    /// When the registry's credentials can't be read.
    pub async fn learn(&self) -> Result<(), Problem> {
        self.mask.learn_all(&self.images.secrets().await?);
        Ok(())
    }
}

/// What the process wants of the run that it works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    GoOn,
    /// Leave it where it is, for another process.
    Stop,
}

/// Works on `run` until it ends or `wish` says otherwise.
///
/// # Errors
/// When the journal can't be read or written: then nothing more is begun.
pub async fn drive(
    parts: &Parts,
    run: &Run,
    config: RunConfig,
    mut wish: watch::Receiver<Wish>,
) -> Result<Ending, JournalError> {
    let frozen = Run { config: Some(config.clone()), ..run.clone() };
    let steps = config.steps.len();
    let mut machine = RunMachine::new(run, config);
    let lines = Lines::new(run.id, &machine, steps);
    let mut prepared: HashMap<usize, Arc<Prepared>> = HashMap::new();
    let mut locks: BTreeMap<usize, Vec<Guard>> = BTreeMap::new();
    let mut flush = tokio::time::interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let supersede = frozen.config.as_ref().is_some_and(|config| config.supersede);
    let mut overtaken = false;
    let mut input = Input::Begin;
    let mut activities = Activities::default();
    let mut wished = false;
    // Until when each step that is at work may be.
    let mut deadlines: BTreeMap<usize, Instant> = BTreeMap::new();
    loop {
        lines.flush(parts)?;
        for effect in machine.handle(Utc::now(), input) {
            match effect {
                Effect::Record(changes) => parts.record(run.id, changes)?,
                Effect::Perform { index, action } => {
                    deadlines.entry(index).or_insert_with(|| Instant::now() + machine.timeout(index));
                    let doing = Doing {
                        index,
                        step: machine.step_name(index).to_owned(),
                        action,
                        prepared: prepared.get(&index).cloned(),
                        locks: locks.remove(&index).unwrap_or_default(),
                    };
                    let performed = perform(parts.clone(), frozen.clone(), doing, lines.clone());
                    activities.0.insert(index, Activity::Action(Box::pin(performed)));
                }
                Effect::Wait { index, time } => {
                    activities.0.insert(index, Activity::Wait(Box::pin(tokio::time::sleep(time))));
                }
                Effect::Drop { index } => {
                    activities.0.remove(&index);
                }
                Effect::Halt { index, attempt } => {
                    let attempt = Attempt { run: run.id, step: index, number: attempt };
                    if let Err(error) = parts.steps.dismiss(attempt).await {
                        // It is stopped with the run at the latest.
                        tracing::warn!(run = run.id.0, %error, "stopping a step");
                    }
                }
                Effect::End(ending) => {
                    drop(activities);
                    lines.flush(parts)?;
                    parts.logs.close(run.id);
                    if ending != Ending::Left {
                        kept::settle(parts, run.id).await;
                    }
                    return Ok(ending);
                }
            }
        }
        // Others may roll out what a step has rolled out.
        locks.retain(|index, _| !machine.has_ended(*index));
        deadlines.retain(|index, _| !machine.has_ended(*index));
        input = loop {
            tokio::select! {
                biased;
                changed = wish.changed(), if !wished => {
                    // A process that has forgotten its wish wants the run left.
                    let now = if changed.is_ok() { *wish.borrow_and_update() } else { Wish::Stop };
                    match now {
                        Wish::GoOn => {}
                        Wish::Stop => { wished = true; break Input::Stop; }
                    }
                }
                (index, done) = activities.end() => {
                    break match done {
                        None => Input::Due { index },
                        Some(Finished { result, prepared: ready, locks: held }) => {
                            if let Some(ready) = ready {
                                prepared.insert(index, Arc::new(ready));
                            }
                            locks.insert(index, held);
                            Input::Done { index, result: Box::new(result) }
                        }
                    };
                }
                index = first_of(&deadlines) => {
                    deadlines.remove(&index);
                    break Input::Expired { index };
                }
                _ = look.tick() => {
                    let now = parts.journal.run(run.id)?.map(|now| now.state);
                    if let Some(state) = now.filter(|state| state.is_ended()) {
                        // Somebody cancelled it; what actions say from here on has no place.
                        drop(activities);
                        parts.logs.close(run.id);
                        clear(parts, &frozen).await;
                        return Ok(Ending::Ended(state));
                    }
                    if supersede && !overtaken && let Some(run) = pushed_since(parts, run) {
                        overtaken = true;
                        break Input::Newer { run };
                    }
                    if let Some(reason) = parts.space.danger() {
                        break Input::NoRoom { reason };
                    }
                }
                _ = flush.tick() => lines.flush(parts)?,
            }
        };
    }
}

/// Removes what a run that has ended has on the engine. What remains is removed by
/// [`sweep`](super::retention::sweep).
pub async fn clear(parts: &Parts, run: &Run) {
    parts.infra.clear(run.id);
    let mut commands = run.config.iter().flat_map(|config| &config.steps);
    if commands.any(|step| matches!(step, StepAction::Run(_)))
        && let Err(error) = parts.steps.clear(run.id).await
    {
        tracing::warn!(run = run.id.0, %error, "removing the containers of a run");
    }
}

/// Waits for the first deadline and says which step's it is; never returns when there is none.
async fn first_of(deadlines: &BTreeMap<usize, Instant>) -> usize {
    match deadlines.iter().min_by_key(|(_, at)| **at) {
        Some((index, at)) => {
            tokio::time::sleep_until(*at).await;
            *index
        }
        None => std::future::pending().await,
    }
}

/// What is under way for a step.
enum Activity {
    Wait(Pin<Box<Sleep>>),
    Action(Pin<Box<dyn Future<Output = Finished> + Send>>),
}

/// What is under way, by the steps' positions.
#[derive(Default)]
struct Activities(BTreeMap<usize, Activity>);

impl Activities {
    /// Waits until something has ended: `None` of a wait, something of an action. Never returns while nothing is.
    async fn end(&mut self) -> (usize, Option<Finished>) {
        let (index, done) = std::future::poll_fn(|context| {
            for (index, activity) in &mut self.0 {
                match activity {
                    Activity::Wait(wait) => {
                        if wait.as_mut().poll(context).is_ready() {
                            return Poll::Ready((*index, None));
                        }
                    }
                    Activity::Action(action) => {
                        if let Poll::Ready(finished) = action.as_mut().poll(context) {
                            return Poll::Ready((*index, Some(finished)));
                        }
                    }
                }
            }
            Poll::Pending
        })
        .await;
        self.0.remove(&index);
        (index, done)
    }
}

/// An action with all it needs.
struct Doing {
    index: usize,
    step: String,
    action: Action,
    prepared: Option<Arc<Prepared>>,
    locks: Vec<Guard>,
}

/// What came of it, and what is kept for the next one of its step.
struct Finished {
    result: Result<Outcome, Problem>,
    prepared: Option<Prepared>,
    locks: Vec<Guard>,
}

async fn perform(parts: Parts, run: Run, doing: Doing, lines: Lines) -> Finished {
    let Doing { index, step, action, prepared: ready, mut locks } = doing;
    let mut prepared = None;
    let at = At { repository: &run.repository, commit: &run.commit };
    let say = |line: &str| lines.say(&parts, index, line);
    let result = match &action {
        Action::Inspect { build } => {
            let (git, images, journal) = (&*parts.git, &*parts.images, &*parts.journal);
            async {
                parts.learn().await?;
                let begun = Begun { trigger: run.trigger, reference: run.reference.as_ref() };
                let of_strangers = begun.is_of_strangers();
                let (outcome, found) = work::inspect(git, images, journal, at, build, of_strangers).await?;
                prepared = Some(found);
                Ok(outcome)
            }
            .await
        }
        Action::Build { build, .. } => match &ready {
            Some(ready) => work::build(&parts.git, &*parts.images, at, build, ready, &say).await,
            None => Err(Problem::lasting("the build was not inspected")),
        },
        Action::Push { build, key } => work::push(&*parts.images, build, key, &say).await,
        Action::CheckOut => work::check_out(&parts.git, &*parts.steps, run.id, at, &say).await,
        Action::TakeOver { from, workspace, steps } => {
            kept::take_over(&parts, run.id, *from, *workspace, steps).await
        }
        Action::Prepare { image } => {
            async {
                parts.learn().await?;
                let image = work::pull(&*parts.images, &*parts.steps, image, &say).await?;
                Ok(Outcome::Prepared { image })
            }
            .await
        }
        Action::Create { attempt, request, caches } => {
            let attempt = Attempt { run: run.id, step: index, number: *attempt };
            async {
                let mut request = request.as_ref().clone();
                for companion in &mut request.companions {
                    companion.image =
                        work::pull(&*parts.images, &*parts.steps, &companion.image, &say).await?;
                }
                let begun = Begun { trigger: run.trigger, reference: run.reference.as_ref() };
                // What a stranger has put into a cache is for strangers.
                let of = if begun.is_of_strangers() { STRANGERS } else { "" };
                request.caches =
                    work::caches(&*parts.git, at, &format!("{of}{}", run.pipeline), caches).await?;
                parts.steps.create(attempt, &request, &say).await?;
                Ok(Outcome::Created)
            }
            .await
        }
        Action::Execute { image, attempt: number, known } => {
            let attempt = Attempt { run: run.id, step: index, number: *number };
            let state = |lines| StepState::Executing { image: image.clone(), attempt: *number, lines };
            let known = lines.printed(attempt).max(*known);
            let print = |line: PrintedLine<'_>| {
                lines.print(&parts, index, line);
                lines.note(attempt, line.number, state(line.number));
            };
            let end = parts.steps.follow(attempt, known, &print).await;
            if end.is_ok()
                && has_companions(&run, index)
                && let Err(error) = parts.steps.dismiss(attempt).await
            {
                // They are removed with the run at the latest.
                tracing::warn!(run = run.id.0, %error, "removing what ran beside a step");
            }
            end.map(Outcome::Ended).map_err(|error| Problem {
                progressed: lines.printed(attempt) > known,
                ..Problem::from(error)
            })
        }
        Action::Ask { .. } => loop {
            match parts.journal.answered(run.id, index) {
                Ok(Some(answer)) => break Ok(Outcome::Answered(answer)),
                Ok(None) => match newer(&parts, &run) {
                    // The newer run would wait for the answer to an outdated question.
                    Some(run) => break Ok(Outcome::Overtaken { run }),
                    None => tokio::time::sleep(LOOK).await,
                },
                Err(error) => break Err(error.into()),
            }
        },
        Action::Collect { attempt, artifacts, reports } => {
            let attempt = Attempt { run: run.id, step: index, number: *attempt };
            let kept = work::Kept { artifacts, reports };
            work::collect(&*parts.steps, &*parts.artifacts, attempt, kept, &say).await
        }
        Action::RunJob { spec, image, attempt, known } => {
            let of = |number| Attempt { run: run.id, step: index, number };
            // What came before a failure to ask the cluster may not be in the journal's state that the action was made of.
            let printed = lines.last_attempt(index).unwrap_or((*attempt, *known));
            let print = |attempt: u32, number: u64, text: &str| {
                say(text);
                lines.note(of(attempt), number, StepState::Working { attempt, lines: number });
            };
            let wanted = jobs::Wanted { index, spec, image: image.as_ref() };
            jobs::run_job(&parts, &run, wanted, printed, &print).await
        }
        Action::Infra { spec, planned, approved, resumed } => {
            let (approved, resumed) = (*approved, *resumed);
            let asked =
                infra::Asked { index, step: &step, spec, planned: planned.as_ref(), approved, resumed };
            infra::work(&parts, &run, asked, &say).await
        }
        Action::Look { services } => {
            async {
                if locks.is_empty() {
                    locks = service_locks(&parts, &run, index, &say).await?;
                }
                let cluster = parts.connect.cluster().await?;
                work::look(cluster, services).await
            }
            .await
        }
        Action::TakeBack { members } => {
            let tell = |rollout| {
                lines.event(PipelineEvent::Rollout { run: run.id, step: step.clone(), rollout });
            };
            async {
                if locks.is_empty() {
                    locks = service_locks(&parts, &run, index, &say).await?;
                }
                let cluster = parts.connect.cluster().await?;
                work::take_back(cluster, members, &tell, &say).await
            }
            .await
        }
        Action::Deploy { deployment, told_since } => {
            async {
                if locks.is_empty() {
                    locks = service_locks(&parts, &run, index, &say).await?;
                }
                let cluster = parts.connect.cluster().await?;
                work::deploy(cluster, &*parts.images, deployment, *told_since).await
            }
            .await
        }
        Action::Follow { service, revision, digest } => {
            let tell = |rollout| {
                lines.event(PipelineEvent::Rollout { run: run.id, step: step.clone(), rollout });
            };
            async {
                if locks.is_empty() {
                    locks = service_locks(&parts, &run, index, &say).await?;
                }
                let cluster = parts.connect.cluster().await?;
                let newer = || newer(&parts, &run);
                let rollout = work::Following { service, revision: *revision, digest, newer: &newer };
                work::follow(cluster, rollout, &tell, &say).await
            }
            .await
        }
    };
    Finished { result, prepared, locks }
}

fn has_companions(run: &Run, index: usize) -> bool {
    let step = run.config.as_ref().and_then(|config| config.steps.get(index));
    matches!(step, Some(StepAction::Run(script)) if !script.companions.is_empty())
}

/// The run of a newer push that waits for `run` to end, where a push has started that as well.
fn pushed_since(parts: &Parts, run: &Run) -> Option<RunId> {
    let by_push = |trigger: Trigger| trigger == Trigger::Poll || trigger.is_pull_request();
    let open = parts.journal.runs(&Which::Open(run.pipeline.clone())).unwrap_or_default();
    let newer = |other: &&Run| {
        other.id > run.id
            && other.commit != run.commit
            && other.reference == run.reference
            && by_push(other.trigger)
    };
    open.iter().filter(newer).map(|other| other.id).max().filter(|_| by_push(run.trigger))
}

/// The run of a newer commit that waits for `run` to end.
fn newer(parts: &Parts, run: &Run) -> Option<RunId> {
    let open = parts.journal.runs(&Which::Open(run.pipeline.clone())).unwrap_or_default();
    let newer = |other: &&Run| {
        // A tag or another branch is no newer version of this one.
        other.id > run.id && other.commit != run.commit && other.reference == run.reference
    };
    open.iter().filter(newer).map(|other| other.id).max()
}

/// Waits until no other run rolls out a service of the step. All runs take the locks in the same order.
async fn service_locks(
    parts: &Parts,
    run: &Run,
    index: usize,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Vec<Guard>, Problem> {
    let step = run.config.as_ref().and_then(|config| config.steps.get(index));
    let mut services = step.map(StepAction::services).unwrap_or_default();
    services.sort();
    let mut guards = Vec::with_capacity(services.len());
    for service in services {
        guards.push(service_lock(parts, run, service, say).await?);
    }
    Ok(guards)
}

/// Waits until no other run rolls the service out.
async fn service_lock(
    parts: &Parts,
    run: &Run,
    service: &crate::model::name::ServiceName,
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Guard, Problem> {
    let environment = run.config.as_ref().map_or("", |config| config.environment.as_str());
    let name = format!("service-{environment}-{service}");
    let mut told = false;
    loop {
        match parts.locks.try_lock(&name) {
            Ok(Some(guard)) => return Ok(guard),
            Ok(None) => {
                if !told {
                    say(&format!("waiting for another rollout of `{service}` to end"));
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Err(error) => return Err(Problem::lasting(format!("the lock `{name}`: {error}"))),
        }
    }
}

/// What actions say, collected until it is written down.
#[derive(Clone)]
struct Lines {
    run: RunId,
    /// The names of the steps.
    steps: Arc<[String]>,
    state: Arc<Mutex<Collected>>,
}

#[derive(Default)]
struct Collected {
    waiting: Vec<Waiting>,
    /// How many lines this process has shown.
    shown: usize,
    /// How many lines the logs of the steps have, by their positions.
    known: BTreeMap<usize, u64>,
    /// The attempts at commands whose lines come, by the steps' positions: how many have come, and the state of the step
    /// that says so. It is written down together with the lines, so that another process neither loses nor repeats one.
    executing: BTreeMap<usize, (Attempt, u64, Option<StepState>)>,
}

/// What is to be written down.
enum Waiting {
    Event(PipelineEvent),
    Line { step: usize, line: NewLine },
}

impl Lines {
    fn new(run: RunId, machine: &RunMachine, steps: usize) -> Self {
        let steps = (0..steps).map(|index| machine.step_name(index).to_owned()).collect();
        Self { run, steps, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line of ours, or of an engine.
    fn say(&self, parts: &Parts, step: usize, line: &str) {
        // Masked before it is cut, so that no half of a secret remains.
        let masked = parts.mask.coloured("", line, "");
        let mut rest = masked.as_str();
        while rest.len() > LINE_MAX {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(LINE_MAX));
            self.add(step, piece.to_owned(), LineKind::Continues);
            rest = after;
        }
        self.add(step, rest.to_owned(), LineKind::Whole);
    }

    /// Takes a line of a command.
    fn print(&self, parts: &Parts, step: usize, line: PrintedLine<'_>) {
        let kind = if line.continues { LineKind::Continues } else { LineKind::Whole };
        self.add(step, parts.mask.coloured(line.before, line.text, line.after), kind);
    }

    fn add(&self, step: usize, text: String, kind: LineKind) {
        let line = NewLine { at: Utc::now(), kind, text };
        self.lock().waiting.push(Waiting::Line { step, line });
    }

    /// How many lines of a command have come.
    fn printed(&self, attempt: Attempt) -> u64 {
        let state = self.lock();
        let known = state.executing.get(&attempt.step).filter(|(of, ..)| *of == attempt);
        known.map_or(0, |(_, lines, _)| *lines)
    }

    /// The attempt whose lines come for the step at `index`, and how many have come.
    fn last_attempt(&self, index: usize) -> Option<(u32, u64)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.executing.get(&index).map(|(attempt, lines, _)| (attempt.number, *lines))
    }

    /// Takes note of how many lines of a command have come.
    fn note(&self, attempt: Attempt, lines: u64, step: StepState) {
        self.lock().executing.insert(attempt.step, (attempt, lines, Some(step)));
    }

    fn event(&self, event: PipelineEvent) {
        self.lock().waiting.push(Waiting::Event(event));
    }

    /// Writes down what has come: lines first, in the logs of their steps, and then how many they are, in the journal.
    fn flush(&self, parts: &Parts) -> Result<(), JournalError> {
        let (waiting, states) = {
            let mut state = self.lock();
            let waiting = std::mem::take(&mut state.waiting);
            let states = state.executing.iter_mut().filter_map(|(index, (.., step))| {
                step.take().map(|state| Change::Record(Record::Step { index: *index, state }))
            });
            (waiting, states.collect::<Vec<_>>())
        };
        if waiting.is_empty() && states.is_empty() {
            return Ok(());
        }
        let mut changes = Vec::new();
        let mut waiting = waiting.into_iter().peekable();
        while let Some(next) = waiting.next() {
            match next {
                Waiting::Event(event) => changes.push(Change::Event(event)),
                Waiting::Line { step, line } => {
                    let mut lines = vec![line];
                    while let Some(Waiting::Line { line, .. }) =
                        waiting.next_if(|next| matches!(next, Waiting::Line { step: of, .. } if *of == step))
                    {
                        lines.push(line);
                    }
                    self.show(parts, step, &lines);
                    changes.push(Change::Record(self.keep(parts, step, &lines)?));
                }
            }
        }
        changes.extend(states);
        parts.record(self.run, changes)
    }

    /// Appends lines to the log of their step.
    fn keep(&self, parts: &Parts, step: usize, lines: &[NewLine]) -> Result<Record, JournalError> {
        let log = StepLog { run: self.run, step };
        let known = self.lock().known.get(&step).copied();
        let known = match known {
            Some(known) => known,
            None => parts.journal.printed(log)?.lines,
        };
        let now = parts.logs.append(log, known, lines)?;
        self.lock().known.insert(step, now);
        let fault = lines.iter().zip(known + 1..=now).find(|(line, _)| is_fault(&line.text));
        Ok(Record::Lines { index: step, known, now, fault: fault.map(|(_, number)| number) })
    }

    /// Shows lines as this process's own output, which may be read slowly and waits in memory until it is.
    fn show(&self, parts: &Parts, step: usize, lines: &[NewLine]) {
        let name = self.steps.get(step).map_or("", String::as_str);
        let mut state = self.lock();
        for line in lines {
            state.shown += 1;
            if state.shown > parts.shown_most {
                return;
            }
            let mut words = plain(remains(&line.text));
            if state.shown == parts.shown_most {
                words = format!("(`fleetwright pipeline logs {}` shows further lines)", self.run);
            }
            let event = PipelineEvent::Log { run: self.run, step: name.to_owned(), text: words };
            parts.events.emit(EventKind::Pipeline(event));
        }
    }
}

/// Whether a line reads like a failure.
fn is_fault(line: &str) -> bool {
    const WORDS: [&str; 10] = [
        "error",
        "errors",
        "failed",
        "failure",
        "fail",
        "panicked",
        "panic",
        "exception",
        "traceback",
        "fatal",
    ];
    let plain = plain(remains(line));
    let mut words = plain.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| {
        (4..=9).contains(&word.len()) && WORDS.iter().any(|fault| fault.eq_ignore_ascii_case(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_reads_like_a_failure_is_found() {
        for line in
            ["Error: x", "\u{1b}[31merror\u{1b}[0m[E0308]", "test a ... FAILED", "thread 'x' panicked at"]
        {
            assert!(is_fault(line), "{line}");
        }
        for line in ["0 errors_total", "terror", "failing over", "error\rok", ""] {
            assert!(!is_fault(line), "{line}");
        }
    }
}
