//! The machine against a world that is cut off after any effect.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::journal::KnownImage;
use crate::model::name::{ImageKey, ServiceName};
use crate::model::run::{BuildSpec, RunStep, SameAs, Trigger};
use crate::model::service::{Limits, Scale, UpdatePolicy};
use crate::model::step_container::ContainerEnd;

/// A run that waits.
pub fn queued_run(id: i64) -> Run {
    Run {
        id: RunId(id),
        pipeline: "web".parse().expect("a name"),
        repository: "web".parse().expect("a name"),
        commit: "a".repeat(40).parse().expect("a commit"),
        subject: "faster search".into(),
        trigger: Trigger::Poll,
        reference: None,
        parameters: Default::default(),
        asked_by: None,
        state: RunState::Queued,
        reason: None,
        queued: at(0),
        started: None,
        ended: None,
        config: None,
        steps: Vec::new(),
    }
}

pub(super) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).expect("a time")
}

/// What builds an image and rolls a service out.
pub fn config() -> RunConfig {
    let spec = ServiceSpec {
        name: "web".parse().expect("a name"),
        image: "demo/web".into(),
        command: Vec::new(),
        scale: Scale::Replicas(2),
        environment: Default::default(),
        ports: Vec::new(),
        health: None,
        limits: Limits::default(),
        placement: Default::default(),
        update: UpdatePolicy { parallel: 1, monitor: Duration::from_secs(1), deadline: None },
        drain: Duration::from_secs(1),
        container: Default::default(),
        pre_deploy: None,
        units: None,
    };
    let build = BuildSpec {
        image: "demo/web".into(),
        context: ".".into(),
        dockerfile: "Dockerfile".into(),
        args: Default::default(),
        target: None,
        secrets: Default::default(),
    };
    RunConfig {
        environment: "local".into(),
        push: "127.0.0.1:5000".into(),
        pull: "registry.internal:5000".into(),
        steps: vec![StepAction::Build(build), StepAction::Rollout(Box::new(spec))],
        needs: Vec::new(),
        timeouts: vec![None, Some(90)],
        after: Vec::new(),
        left_out: Default::default(),
    }
}

#[test]
fn a_step_that_takes_too_long_fails_and_what_it_does_is_dropped() {
    let mut machine = RunMachine::new(&queued_run(1), config());
    assert_eq!(machine.timeout(0), crate::model::run::BUILD_TIMEOUT);
    assert_eq!(machine.timeout(1), Duration::from_secs(90));
    machine.handle(at(0), Input::Begin);
    let effects = machine.handle(at(3600), Input::Expired { index: 0 });
    assert_eq!(effects[0], Effect::Drop { index: 0 });
    assert_eq!(effects.last(), Some(&Effect::End(Ending::Ended(RunState::Failed))));
    let Effect::Record(changes) = &effects[1] else { panic!("{effects:?}") };
    let failed = changes.iter().any(|change| {
        matches!(change, Change::Record(Record::Step { index: 0, state: StepState::Failed { reason } })
            if reason.contains("within its timeout of 3600 s"))
    });
    assert!(failed, "{changes:?}");
    assert_eq!(machine.handle(at(3601), Input::Expired { index: 0 }), []);
}

pub(super) fn done(index: usize, result: Result<Outcome, Problem>) -> Input {
    Input::Done { index, result: Box::new(result) }
}

fn key() -> ImageKey {
    format!("k-{}", "1".repeat(64)).parse().expect("a key")
}

fn digest() -> Digest {
    format!("sha256:{}", "2".repeat(64)).parse().expect("a digest")
}

/// The journal's side: what has been written, by the same rules as the real one.
pub(super) fn write(run: &mut Run, now: DateTime<Utc>, changes: &[Change], images: &mut BTreeSet<ImageKey>) {
    assert!(!run.state.is_ended(), "nothing is written to a run that has ended: {changes:?}");
    for change in changes {
        match change {
            Change::Record(Record::Begun(config)) => {
                assert_eq!(run.state, RunState::Queued, "a run begins once");
                run.state = RunState::Running;
                run.started = Some(now);
                run.steps = config
                    .steps
                    .iter()
                    .map(|step| RunStep {
                        name: step.name(),
                        state: StepState::Waiting,
                        started: None,
                        ended: None,
                        files: Vec::new(),
                        tests: None,
                    })
                    .collect();
                run.config = Some(config.clone());
            }
            Change::Record(Record::Step { index, state }) => {
                let step = &mut run.steps[*index];
                assert!(!step.state.is_ended(), "a step that has ended stays so: {state:?}");
                step.started = step.started.or(Some(now));
                step.state = state.clone();
            }
            Change::Record(Record::Run { state, reason }) => {
                run.state = *state;
                run.reason = reason.clone();
            }
            Change::Record(Record::Files { .. }) => {}
            Change::Record(Record::Image { key, .. }) => drop(images.insert(key.clone())),
            Change::Record(Record::Event(_)) | Change::Event(_) => {}
        }
    }
}

/// Everything outside of the machine, as it survives a crash.
struct World {
    run: Run,
    images: BTreeSet<ImageKey>,
    pushed: bool,
    /// Revisions that the cluster was asked to make.
    revisions: u64,
    healthy: bool,
    builds: u32,
    second: i64,
}

impl World {
    fn new(healthy: bool) -> Self {
        Self {
            run: queued_run(1),
            images: BTreeSet::new(),
            pushed: false,
            revisions: 0,
            healthy,
            builds: 0,
            second: 0,
        }
    }

    /// Performs an action completely; what it has done survives even if nobody hears of it.
    fn perform(&mut self, index: usize, action: &Action) -> Outcome {
        let step = &self.run.steps[index].state;
        assert!(!step.is_ended(), "a step that has ended is not begun again");
        match action {
            Action::Inspect { .. } => {
                assert_eq!(*step, StepState::Inspecting);
                let built_by = SameAs { run: self.run.id, commit: self.run.commit.clone() };
                let known = self.images.contains(&key()).then(|| KnownImage { digest: digest(), built_by });
                Outcome::Inspected { key: key(), files: 3, known }
            }
            Action::Build { .. } => {
                assert_eq!(*step, StepState::Building { key: key() });
                self.builds += 1;
                Outcome::Built
            }
            Action::Push { .. } => {
                assert_eq!(*step, StepState::Pushing { key: key() });
                self.pushed = true;
                Outcome::Pushed { digest: digest() }
            }
            Action::Deploy { deployment, told_since } => {
                assert!(matches!(step, StepState::Deploying { .. }));
                assert!(self.pushed, "what is deployed is in the registry");
                assert_eq!(deployment.digest, digest());
                if self.revisions == 0 || told_since.is_none() {
                    self.revisions += 1;
                }
                Outcome::Deployed { revision: self.revisions }
            }
            Action::Follow { revision, .. } => {
                assert_eq!(*step, StepState::Following { revision: *revision });
                let end = if self.healthy { RolloutEnd::Running } else { RolloutEnd::RolledBack };
                Outcome::Followed { end, reason: None }
            }
            other => panic!("it is neither a release nor a command: {other:?}"),
        }
    }

    /// One process works on the run: `lives` effects, then it is killed. Some of its
    /// actions fail for a moment, by `luck`.
    fn live(&mut self, lives: usize, luck: &mut impl Iterator<Item = u8>) -> Option<Ending> {
        let mut machine = RunMachine::new(&self.run, config());
        let mut inputs = vec![Input::Begin];
        let mut effects_left = lives;
        while let Some(input) = inputs.pop() {
            self.second += 1;
            for effect in machine.handle(at(self.second), input) {
                if effects_left == 0 {
                    return None;
                }
                effects_left -= 1;
                match effect {
                    Effect::Record(changes) => {
                        write(&mut self.run, at(self.second), &changes, &mut self.images);
                    }
                    Effect::Perform { index, action } => match luck.next() {
                        Some(0) => {
                            let reason = "the registry is away".into();
                            let problem = Problem { reason, patience: Patience::Short, progressed: false };
                            inputs.push(done(index, Err(problem)));
                        }
                        // Done, but the answer got lost.
                        Some(1) => {
                            self.perform(index, &action);
                            let reason = "the cluster stopped answering".into();
                            let problem = Problem { reason, patience: Patience::Long, progressed: true };
                            inputs.push(done(index, Err(problem)));
                        }
                        _ => inputs.push(done(index, Ok(self.perform(index, &action)))),
                    },
                    Effect::Wait { index, .. } => inputs.push(Input::Due { index }),
                    Effect::Drop { .. } => inputs.clear(),
                    Effect::Halt { .. } => panic!("there is no command"),
                    Effect::End(ending) => return Some(ending),
                }
            }
        }
        panic!("the machine neither wants anything nor has ended");
    }
}

proptest! {
    /// Killed after any effects, with any actions failing for a moment: the run ends
    /// once, as it would have without all that, and nothing is rolled out twice.
    #[test]
    fn a_run_ends_once_wherever_it_is_cut_off(
        cuts in prop::collection::vec(0_usize..14, 0..6),
        luck in prop::collection::vec(0_u8..6, 0..12),
        healthy: bool,
    ) {
        let mut world = World::new(healthy);
        let mut luck = luck.into_iter();
        for lives in &cuts {
            if world.run.state.is_ended() {
                break;
            }
            world.live(*lives, &mut luck);
        }
        if !world.run.state.is_ended() {
            let mut calm = std::iter::empty();
            let ended = world.live(usize::MAX, &mut calm).is_some();
            prop_assert!(ended);
        }
        let failed_by_luck = world.run.reason.as_deref().is_some_and(|reason| reason.contains("tried 6 times"));
        if !failed_by_luck {
            let expected = if healthy { RunState::Succeeded } else { RunState::Failed };
            prop_assert_eq!(world.run.state, expected, "{:?}", world.run.reason);
            prop_assert_eq!(world.revisions, 1, "one rollout");
        }
        prop_assert!(world.run.steps.iter().all(|step| step.state.is_ended()));
        prop_assert!(RunMachine::new(&world.run, config()).handle(at(0), Input::Begin).is_empty());
    }

    /// Cancelled or stopped after any effect: cancelled for good, or left for another
    /// process, which brings it to the end.
    #[test]
    fn a_run_can_be_cancelled_or_left_anywhere(after in 0_usize..8, cancel: bool) {
        let mut world = World::new(true);
        let mut machine = RunMachine::new(&world.run, config());
        let mut pending = Some(Input::Begin);
        let mut ending = None;
        for round in 0..20 {
            // What an action has done is done, whether or not its answer is still heard.
            let ask = if cancel { Input::Cancel { reason: "by hand".into() } } else { Input::Stop };
            let inputs = (round == after).then_some(ask).into_iter().chain(pending.take());
            for input in inputs.collect::<Vec<_>>() {
                for effect in machine.handle(at(round as i64), input) {
                    match effect {
                        Effect::Record(changes) => {
                            write(&mut world.run, at(round as i64), &changes, &mut world.images);
                        }
                        Effect::Perform { index, action } => {
                            pending = Some(done(index, Ok(world.perform(index, &action))));
                        }
                        Effect::End(end) => ending = Some(end),
                        Effect::Wait { .. } | Effect::Drop { .. } | Effect::Halt { .. } => {}
                    }
                }
            }
        }
        match ending {
            Some(Ending::Left) => {
                prop_assert_eq!(world.run.state, if after == 0 { RunState::Queued } else { RunState::Running });
                prop_assert!(world.live(usize::MAX, &mut std::iter::empty()).is_some());
                prop_assert_eq!(world.run.state, RunState::Succeeded);
                prop_assert_eq!(world.revisions, 1);
            }
            Some(Ending::Ended(state)) => {
                prop_assert_eq!(state, world.run.state);
                prop_assert!(state == RunState::Succeeded || (cancel && state == RunState::Cancelled));
            }
            None => prop_assert!(false, "the machine did not end"),
        }
    }
}

/// Runs to the end without trouble and gives what was to be shown.
fn story(world: &mut World, luck: &[u8]) -> String {
    let mut machine = RunMachine::new(&world.run, config());
    let mut luck = luck.iter().copied();
    let mut lines = Vec::new();
    let mut input = Some(Input::Begin);
    while let Some(now) = input.take() {
        world.second += 1;
        for effect in machine.handle(at(world.second), now) {
            match effect {
                Effect::Record(changes) => {
                    write(&mut world.run, at(world.second), &changes, &mut world.images);
                    for change in changes {
                        lines.push(match change {
                            Change::Event(event) => serde_json::to_string(&event).expect("JSON"),
                            Change::Record(record) => format!("  {record:?}").chars().take(90).collect(),
                        });
                    }
                }
                Effect::Perform { index, action } => {
                    lines.push(format!("-> {index} {action:?}").chars().take(60).collect());
                    let result = match luck.next() {
                        Some(0) => Err(Problem {
                            reason: "the registry is away".into(),
                            patience: Patience::Short,
                            progressed: false,
                        }),
                        _ => Ok(world.perform(index, &action)),
                    };
                    input = Some(done(index, result));
                }
                Effect::Wait { index, time } => {
                    lines.push(format!("-> wait {time:?}"));
                    input = Some(Input::Due { index });
                }
                Effect::Drop { .. } | Effect::Halt { .. } => {}
                Effect::End(ending) => lines.push(format!("-> {ending:?}")),
            }
        }
    }
    lines
        .join("\n")
        .replace(&"1".repeat(64), "1…")
        .replace(&"2".repeat(64), "2…")
        .replace(&"a".repeat(40), "a…")
}

#[test]
fn a_run_tells_its_story() {
    insta::assert_snapshot!(story(&mut World::new(true), &[9, 9, 0]));
}

#[test]
fn a_known_image_is_neither_built_nor_pushed() {
    let mut world = World::new(false);
    world.images.insert(key());
    world.pushed = true;
    insta::assert_snapshot!(story(&mut world, &[]));
    assert_eq!(world.builds, 0);
}

#[test]
fn a_registry_that_stays_away_fails_the_step_within_bounds() {
    let mut world = World::new(true);
    let story = story(&mut world, &[0; 20]);
    assert_eq!(story.matches("-> 0 Inspect").count(), 6);
    assert_eq!(world.run.reason.as_deref(), Some("build demo/web: the registry is away (tried 6 times)"));
    assert!(matches!(world.run.steps[1].state, StepState::Skipped));
}

/// A cluster of services, each with the revisions that it ran, that outlives the machine.
struct Services {
    /// What each runs: the number, and whether that is the release's.
    present: Vec<Option<u64>>,
    newest: Vec<u64>,
    asked: Vec<u32>,
    /// The service that fails, if one does.
    fails: Option<usize>,
}

fn release() -> RunConfig {
    let mut config = config();
    let StepAction::Rollout(web) = config.steps.remove(1) else { panic!("a rollout") };
    let named = |name: &str| ServiceSpec { name: name.parse().expect("a name"), ..(*web).clone() };
    config.steps.push(StepAction::Release(vec![named("api"), named("worker"), named("web")]));
    config
}

impl Services {
    fn perform(&mut self, action: &Action) -> Outcome {
        let at = |name: &ServiceName| {
            ["api", "worker", "web"].iter().position(|known| *known == name.as_str()).expect("a service")
        };
        match action {
            Action::Inspect { .. } => {
                let built_by = SameAs { run: RunId(1), commit: "a".repeat(40).parse().expect("a commit") };
                Outcome::Inspected {
                    key: key(),
                    files: 3,
                    known: Some(KnownImage { digest: digest(), built_by }),
                }
            }
            Action::Look { .. } => Outcome::Looked { before: self.present.clone() },
            Action::Deploy { deployment, told_since } => {
                let at = at(&deployment.spec.name);
                if self.asked[at] == 0 || told_since.is_none() {
                    self.asked[at] += 1;
                    self.newest[at] += 1;
                    if self.fails != Some(at) {
                        self.present[at] = Some(self.newest[at]);
                    }
                }
                Outcome::Deployed { revision: self.newest[at] }
            }
            Action::Follow { service, .. } => {
                let failed = self.fails == Some(at(service));
                let end = if failed { RolloutEnd::RolledBack } else { RolloutEnd::Running };
                Outcome::Followed { end, reason: None }
            }
            Action::TakeBack { members } => {
                for member in members {
                    let at = at(&member.service);
                    assert!(self.asked[at] > 0, "only what was begun is taken back");
                    self.present[at] = member.before;
                }
                Outcome::TakenBack { words: "all of it".to_owned() }
            }
            other => panic!("the image is known, and there is no command: {other:?}"),
        }
    }
}

proptest! {
    /// Killed after any effects, a release ends once: every service runs its new revision, or all of them
    /// what they ran before. None is deployed twice.
    #[test]
    fn a_release_is_whole_or_taken_back_wherever_it_is_cut_off(
        cuts in prop::collection::vec(0_usize..12, 0..8),
        fails in prop::option::of(0_usize..3),
        exists in prop::collection::vec(any::<bool>(), 3),
    ) {
        let before: Vec<Option<u64>> = exists.iter().map(|exists| exists.then_some(7)).collect();
        let mut services =
            Services { present: before.clone(), newest: vec![7; 3], asked: vec![0; 3], fails };
        let mut run = queued_run(1);
        let mut second = 0;
        for lives in cuts.into_iter().chain([usize::MAX]) {
            if run.state.is_ended() {
                break;
            }
            let mut machine = RunMachine::new(&run, release());
            let (mut inputs, mut left) = (vec![Input::Begin], lives);
            'life: while let Some(input) = inputs.pop() {
                second += 1;
                for effect in machine.handle(at(second), input) {
                    if left == 0 {
                        break 'life;
                    }
                    left -= 1;
                    match effect {
                        Effect::Record(changes) => write(&mut run, at(second), &changes, &mut BTreeSet::new()),
                        Effect::Perform { index, action } => {
                            inputs.push(done(index, Ok(services.perform(&action))));
                        }
                        Effect::Wait { index, .. } => inputs.push(Input::Due { index }),
                        Effect::Drop { .. } => inputs.clear(),
                    Effect::Halt { .. } => panic!("there is no command"),
                        Effect::End(_) => {}
                    }
                }
            }
        }
        prop_assert!(services.asked.iter().all(|asked| *asked <= 1), "{:?}", services.asked);
        match fails {
            None => {
                prop_assert_eq!(run.state, RunState::Succeeded, "{:?}", run.reason);
                prop_assert_eq!(services.present, vec![Some(8); 3]);
            }
            Some(_) => {
                prop_assert_eq!(run.state, RunState::Failed);
                prop_assert_eq!(services.present, before);
                prop_assert!(run.reason.is_some_and(|reason| reason.contains("taken back: all of it")));
            }
        }
    }
}

/// An engine with the containers of commands, which outlives the machine.
#[derive(Default)]
struct Commands {
    /// By step and attempt: `false` while it is created only.
    containers: BTreeMap<(usize, u32), bool>,
    /// The statuses with which attempts at each step end, in order; 0 afterwards.
    statuses: Vec<Vec<i64>>,
}

/// A run of commands, each of which needs some before it.
pub(super) fn commands(needs: &[Vec<usize>], after: &[After]) -> RunConfig {
    let script = |number: usize| ScriptSpec {
        name: format!("s{number}"),
        image: "r/tools@sha256:1".to_owned(),
        command: vec!["true".to_owned()],
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        retries: 1,
        limits: Limits::default(),
        companions: Vec::new(),
        caches: Vec::new(),
        artifacts: Vec::new(),
        reports: if number.is_multiple_of(2) { vec!["r.xml".to_owned()] } else { Vec::new() },
    };
    let steps = (1..=needs.len()).map(|number| StepAction::Run(Box::new(script(number))));
    let shifted = needs.iter().map(|of| std::iter::once(0).chain(of.iter().map(|need| need + 1)).collect());
    RunConfig {
        steps: std::iter::once(StepAction::Source).chain(steps).collect(),
        needs: std::iter::once(Vec::new()).chain(shifted).collect(),
        timeouts: Vec::new(),
        after: std::iter::once(After::Success).chain(after.iter().copied()).collect(),
        ..config()
    }
}

impl Commands {
    fn perform(&mut self, index: usize, action: &Action, run: &Run, config: &RunConfig) -> Outcome {
        for need in config.needs(index).into_iter().filter(|_| config.after(index) == After::Success) {
            // A step that is left out may stand between it and one that is for failures.
            let is_done = matches!(run.steps[need].state, StepState::Succeeded { .. });
            assert!(is_done || config.after(need) == After::Failure, "{index} needs {need}");
        }
        let failed = run.steps.iter().any(|step| matches!(step.state, StepState::Failed { .. }));
        // Whatever stands between them: nothing is begun before what it needs has ended.
        let mut before = config.needs[index].clone();
        while let Some(need) = before.pop().filter(|_| !failed) {
            let passed_over = config.left_out.contains_key(&need) || config.after(need) == After::Failure;
            assert!(run.steps[need].state.is_ended() || passed_over, "{index} needs {need}");
            before.extend(&config.needs[need]);
        }
        assert!(failed || config.after(index) != After::Failure, "{index} is for failures");
        match action {
            Action::CheckOut => Outcome::CheckedOut { files: 3 },
            Action::Prepare { image } => Outcome::Prepared { image: image.clone() },
            Action::Create { attempt, .. } => {
                let state = &run.steps[index].state;
                assert!(
                    matches!(state, StepState::Creating { attempt: now, .. } if now == attempt),
                    "{state:?}"
                );
                self.containers.entry((index, *attempt)).or_insert(false);
                Outcome::Created
            }
            Action::Execute { attempt, .. } => {
                let started = self.containers.get_mut(&(index, *attempt)).expect("it was created");
                *started = true;
                let tries = usize::try_from(*attempt - 1).expect("few");
                let status = self.statuses[index].get(tries).copied().unwrap_or_default();
                Outcome::Ended(ContainerEnd::Exited { status, out_of_memory: false })
            }
            Action::Collect { attempt, reports, .. } => {
                assert_eq!(reports, &["r.xml"]);
                assert!(self.containers[&(index, *attempt)], "it has run");
                Outcome::Collected { files: Vec::new(), tests: None }
            }
            other => panic!("it is no command: {other:?}"),
        }
    }
}

proptest! {
    /// Killed after any effects, with answers that come in any order: each attempt has one container, a step begins
    /// after those that it needs, and the run ends once, as its commands do.
    #[test]
    fn commands_run_once_and_in_order_wherever_a_run_is_cut_off(
        shape in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..7),
        fails in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0_i64), Just(1)], 0..3), 8),
        cuts in prop::collection::vec(0_usize..20, 0..8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        after in prop::collection::vec(
            prop_oneof![4 => Just(After::Success), 1 => Just(After::Failure), 1 => Just(After::Always)], 7),
        left_out in prop::collection::vec(prop::bool::weighted(0.2), 7),
    ) {
        // What is only for failures is needed by nothing that is only for success.
        let fits = |at: usize, need: &usize| after[at] != After::Success || after[*need] != After::Failure;
        let needs: Vec<Vec<usize>> = shape
            .iter()
            .enumerate()
            .map(|(at, of)| {
                if at == 0 { return Vec::new() }
                of.iter().map(|need| need.index(at)).filter(|need| fits(at, need)).collect()
            })
            .collect();
        let left_out = (0..needs.len()).filter(|at| left_out[*at]).map(|at| (at + 1, "not now".to_owned()));
        let config = RunConfig { left_out: left_out.collect(), ..commands(&needs, &after[..needs.len()]) };
        let mut engine = Commands { statuses: fails.clone(), ..Commands::default() };
        let mut run = queued_run(1);
        let mut order = order.into_iter();
        let mut second = 0;
        for lives in cuts.into_iter().chain([usize::MAX]) {
            if run.state.is_ended() {
                break;
            }
            let mut machine = RunMachine::new(&run, config.clone());
            let (mut inputs, mut left) = (vec![Input::Begin], lives);
            'life: while !inputs.is_empty() {
                let next = order.next().map_or(0, |index| index.index(inputs.len()));
                let input = inputs.remove(next);
                second += 1;
                for effect in machine.handle(at(second), input) {
                    if left == 0 {
                        break 'life;
                    }
                    left -= 1;
                    match effect {
                        Effect::Record(changes) => write(&mut run, at(second), &changes, &mut BTreeSet::new()),
                        Effect::Perform { index, action } => {
                            inputs.push(done(index, Ok(engine.perform(index, &action, &run, &config))));
                        }
                        Effect::Wait { .. } | Effect::Drop { .. } | Effect::Halt { .. } => {
                            panic!("nothing waits or is dropped")
                        }
                        Effect::End(_) => {}
                    }
                }
            }
        }
        prop_assert!(run.state.is_ended());
        // Two attempts at most, and each step whose first two fail ends the run.
        let broken = |index: usize| fails[index].len() > 1 && fails[index][..2].iter().all(|status| *status != 0);
        let failed: Vec<usize> = (1..config.steps.len())
            .filter(|index| matches!(run.steps[*index].state, StepState::Failed { .. }))
            .collect();
        prop_assert!(failed.iter().all(|index| broken(*index)));
        for index in 1..config.steps.len() {
            let is_done = matches!(run.steps[index].state, StepState::Succeeded { .. } | StepState::Failed { .. });
            match config.after(index) {
                _ if config.left_out.contains_key(&index) => prop_assert!(!is_done, "{index} is left out"),
                After::Always => prop_assert!(is_done, "{index} always runs"),
                After::Failure => prop_assert_eq!(is_done, !failed.is_empty(), "{} is for failures", index),
                After::Success => prop_assert!(is_done || !failed.is_empty(), "{index} runs"),
            }
        }
        let expected = if failed.is_empty() { RunState::Succeeded } else { RunState::Failed };
        prop_assert_eq!(run.state, expected, "{:?}", run.reason);
        if failed.is_empty() {
            let has_run = |index: &usize| matches!(run.steps[*index].state, StepState::Succeeded { .. });
            prop_assert!((1..config.steps.len()).filter(has_run).all(|index| !broken(index)));
        }
        prop_assert!(run.steps.iter().all(|step| step.state.is_ended()));
        prop_assert!(engine.containers.keys().all(|(_, attempt)| *attempt <= 2));
    }
}
