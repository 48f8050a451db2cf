//! One run of a pipeline over time.
//!
//! [`RunMachine`] is a state machine: inputs in, effects out, no I/O. What it wants recorded is on the disk before what
//! follows is begun, so a process that was killed after any effect can be followed by another: a step that has ended is
//! never begun again, a build may be, and a rollout or a command that was begun is followed. Steps run at the same time
//! where none needs the other.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::approval::{self, Proposal};
use super::release::Member;
use crate::event::pipeline::PipelineEvent;
use crate::model::duration::human;
use crate::model::infra_step::{InfraSpec, InfraWork, Planned};
use crate::model::job::{JobImage, Runs};
use crate::model::journal::Record;
use crate::model::name::{CommitId, Digest, PipelineName, RepositoryName};
use crate::model::run::{
    After, Companion, ReleaseStage, Run, RunConfig, RunId, RunState, ScriptSpec, StepAction, StepResult,
    StepState,
};
use crate::model::service::{Deployment, Origin, ServiceSpec};
use crate::model::step_container::ContainerRequest;

#[cfg(test)]
mod infra_tests;
mod outcomes;
mod protocol;
#[cfg(test)]
pub mod tests;

pub use protocol::{Action, Change, Effect, Ending, Input, Outcome, Patience, Problem, RolloutEnd};

/// The state machine of one run.
#[derive(Debug)]
pub struct RunMachine {
    id: RunId,
    pipeline: PipelineName,
    repository: RepositoryName,
    commit: CommitId,
    subject: String,
    fresh: bool,
    config: RunConfig,
    steps: Vec<Step>,
    started: Option<DateTime<Utc>>,
    /// What is being performed, by the step's position.
    current: BTreeMap<usize, Current>,
    /// How the run ends as soon as nothing is performed any more.
    verdict: Option<(RunState, String)>,
    stopping: bool,
    ended: bool,
}

#[derive(Debug)]
struct Step {
    name: String,
    action: StepAction,
    state: StepState,
    started: Option<DateTime<Utc>>,
}

impl Step {
    /// Whether it has been begun and has not ended.
    fn is_under_way(&self) -> bool {
        self.state != StepState::Waiting && !self.state.is_ended()
    }
}

/// The action that is being performed, or waited for.
#[derive(Debug, Clone)]
struct Current {
    action: Action,
    attempt: u32,
}

impl RunMachine {
    /// The machine of `run`, which does what `config` says; one that had begun is resumed where it was.
    pub fn new(run: &Run, config: RunConfig) -> Self {
        let steps = config.steps.iter().enumerate().map(|(index, action)| {
            let known = run.steps.get(index);
            Step {
                name: action.name(),
                action: action.clone(),
                state: known.map_or(StepState::Waiting, |step| step.state.clone()),
                started: known.and_then(|step| step.started),
            }
        });
        Self {
            id: run.id,
            pipeline: run.pipeline.clone(),
            repository: run.repository.clone(),
            commit: run.commit.clone(),
            subject: run.subject.clone(),
            fresh: run.state == RunState::Queued,
            steps: steps.collect(),
            config,
            started: run.started,
            current: BTreeMap::new(),
            // Another process was killed while it waited for steps beside the one that failed.
            verdict: run.steps.iter().find_map(|step| match &step.state {
                StepState::Failed { reason } => Some((RunState::Failed, format!("{}: {reason}", step.name))),
                _ => None,
            }),
            stopping: false,
            ended: run.state.is_ended(),
        }
    }

    /// The step's name.
    pub fn step_name(&self, index: usize) -> &str {
        self.steps.get(index).map_or("", |step| &step.name)
    }

    /// Whether nothing more happens for the step.
    pub fn has_ended(&self, index: usize) -> bool {
        self.steps.get(index).is_none_or(|step| step.state.is_ended())
    }

    /// How long the step may take.
    pub fn timeout(&self, index: usize) -> Duration {
        self.config.timeout(index)
    }

    fn expired(&self, index: usize, action: &Action) -> String {
        let took = self.timeout(index).as_secs();
        let next = match action {
            Action::Inspect { .. }
            | Action::Build { .. }
            | Action::Push { .. }
            | Action::Look { .. }
            | Action::CheckOut
            | Action::Prepare { .. }
            | Action::Create { .. }
            | Action::Execute { .. }
            | Action::Collect { .. } => "its `timeout` in pipelines/ can be longer".to_owned(),
            Action::Infra { spec, .. } if spec.work.changes() => format!(
                "what has begun continues; see `fleetwright status`, and `fleetwright {}`",
                spec.work.word()
            ),
            Action::Infra { .. } => "its `timeout` in pipelines/ can be longer".to_owned(),
            Action::RunJob { spec, .. } => {
                format!("the job continues; see `fleetwright job history {}`", spec.name)
            }
            Action::Ask { .. } => {
                return format!("it was not answered within {}", human(self.timeout(index)));
            }
            Action::Deploy { deployment, .. } => format!(
                "whether the cluster has begun it is unknown; see `fleetwright status {}`",
                deployment.spec.name
            ),
            Action::TakeBack { .. } => {
                "what was rolled out may not be taken back; see `fleetwright status`".to_owned()
            }
            Action::Follow { service, revision, .. } => {
                format!("the cluster continues with revision {revision}; see `fleetwright status {service}`")
            }
        };
        format!("it did not end within its timeout of {took} s; {next}")
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, now: DateTime<Utc>, input: Input) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        let mut out = Out::default();
        match input {
            Input::Begin => self.begin(now, &mut out),
            Input::Done { index, result } => {
                if let Some(current) = self.current.remove(&index) {
                    match *result {
                        Ok(outcome) => self.outcome(now, index, &current, outcome, &mut out),
                        Err(problem) => self.problem(now, index, current, problem, &mut out),
                    }
                }
            }
            Input::Due { index } => {
                if let Some(current) = self.current.get(&index) {
                    out.perform(index, current.action.clone());
                }
            }
            Input::Expired { index } => {
                if let Some(current) = self.current.remove(&index) {
                    out.effects.push(Effect::Drop { index });
                    if let Action::Execute { attempt, .. } | Action::Create { attempt, .. } = &current.action
                    {
                        out.effects.push(Effect::Halt { index, attempt: *attempt });
                    }
                    let reason = self.expired(index, &current.action);
                    self.give_up(now, index, reason, &mut out);
                }
            }
            Input::Cancel { reason } => {
                self.drop_all(&mut out);
                self.skip_rest(now, &mut out);
                self.finish(now, RunState::Cancelled, Some(reason), &mut out);
            }
            Input::Stop => {
                self.stopping = true;
                // These two are short, and their outcome is dear: it is waited for.
                let dear = |current: &Current| {
                    current.attempt == 1
                        && matches!(current.action, Action::Push { .. } | Action::Deploy { .. })
                };
                let left = self.current.iter().filter(|(_, current)| !dear(current));
                for index in left.map(|(index, _)| *index).collect::<Vec<_>>() {
                    self.current.remove(&index);
                    out.effects.push(Effect::Drop { index });
                }
            }
        }
        self.settle(now, &mut out);
        out.done()
    }

    fn drop_all(&mut self, out: &mut Out) {
        let all = std::mem::take(&mut self.current);
        out.effects.extend(all.into_keys().map(|index| Effect::Drop { index }));
    }

    /// Begins what can be begun, and ends what has nothing left to do.
    fn settle(&mut self, now: DateTime<Utc>, out: &mut Out) {
        while !self.ended {
            if let Some((state, reason)) = self.verdict.clone() {
                // What runs beside a step that failed is not cut off in the middle.
                if self.current.is_empty() {
                    let next = self.steps.iter().position(Step::is_under_way);
                    match next.or_else(|| self.after_failure(state)) {
                        Some(_) if self.stopping => self.leave(out),
                        Some(index) => {
                            self.begin_step(now, index, out);
                            continue;
                        }
                        None => {
                            self.skip_rest(now, out);
                            self.finish(now, state, Some(reason), out);
                        }
                    }
                }
                return;
            }
            if (0..self.steps.len()).all(|index| self.has_ended(index) || self.waits_for_failure(index)) {
                self.skip_rest(now, out);
                return self.finish(now, RunState::Succeeded, None, out);
            }
            if self.stopping {
                if self.current.is_empty() {
                    self.leave(out);
                }
                return;
            }
            let Some(index) = self.ready() else { return };
            self.begin_step(now, index, out);
        }
    }

    /// A step that can be begun, or continued, and is not.
    fn ready(&self) -> Option<usize> {
        (0..self.steps.len()).find(|index| {
            !self.steps[*index].state.is_ended()
                && !self.current.contains_key(index)
                && !self.waits_for_failure(*index)
                && (self.steps[*index].is_under_way() || self.has_what_it_needs(*index))
        })
    }

    /// Whether all that the step needs has succeeded. Nothing has failed so far: what is only for failures will not be
    /// begun, and only what it needs itself is waited for.
    fn has_what_it_needs(&self, index: usize) -> bool {
        self.config.needs(index).into_iter().all(|need| {
            matches!(self.steps[need].state, StepState::Succeeded { .. })
                || (self.waits_for_failure(need) && self.has_what_it_needs(need))
        })
    }

    /// Whether the step is begun only after another one has failed.
    fn waits_for_failure(&self, index: usize) -> bool {
        self.config.after(index) == After::Failure && self.steps[index].state == StepState::Waiting
    }

    /// A step that is begun because another one has failed. Of what it needs, only steps of the same kind are waited for:
    /// the others have ended, or will not be begun.
    fn after_failure(&self, verdict: RunState) -> Option<usize> {
        let waits = |index: &usize| {
            self.config.after(*index) != After::Success && self.steps[*index].state == StepState::Waiting
        };
        let free = |index: &usize| !self.config.needs(*index).iter().any(waits);
        if verdict == RunState::Failed {
            (0..self.steps.len()).find(|index| waits(index) && free(index))
        } else {
            None
        }
    }

    fn begin(&mut self, now: DateTime<Utc>, out: &mut Out) {
        if self.fresh {
            self.started = Some(now);
            out.record(Record::Begun(self.config.clone()));
            out.event(PipelineEvent::Started {
                run: self.id,
                pipeline: self.pipeline.clone(),
                commit: self.commit.clone(),
                subject: self.subject.clone(),
                steps: self.steps.iter().map(|step| step.name.clone()).collect(),
            });
            for (index, reason) in self.config.left_out.clone() {
                if index < self.steps.len() {
                    self.set(index, StepState::Skipped, out);
                    self.step_finished(now, index, "skipped", Some(reason), out);
                }
            }
        } else {
            let under_way = self.steps.iter().find(|step| step.is_under_way());
            let step = under_way.or_else(|| self.steps.iter().find(|step| !step.state.is_ended()));
            out.event(PipelineEvent::Resumed {
                run: self.id,
                pipeline: self.pipeline.clone(),
                step: step.map(|step| step.name.clone()),
            });
        }
    }

    /// Begins a step, or continues it where it was.
    fn begin_step(&mut self, now: DateTime<Utc>, index: usize, out: &mut Out) {
        if self.steps[index].started.is_none() {
            self.steps[index].started = Some(now);
            out.event(PipelineEvent::StepStarted { run: self.id, step: self.steps[index].name.clone() });
        }
        match (self.steps[index].action.clone(), self.steps[index].state.clone()) {
            (StepAction::Build(build), _) => {
                self.set(index, StepState::Inspecting, out);
                self.perform(index, Action::Inspect { build }, out);
            }
            (StepAction::Source, _) => {
                self.set(index, StepState::Preparing, out);
                self.perform(index, Action::CheckOut, out);
            }
            (StepAction::Run(script), StepState::Creating { image, attempt }) => {
                self.create(index, &script, image, attempt, out);
            }
            (StepAction::Run(_), StepState::Executing { image, attempt, lines }) => {
                // Whoever comes as far as this has got the run on.
                self.set(index, self.steps[index].state.clone(), out);
                self.perform(index, Action::Execute { image, attempt, known: lines }, out);
            }
            (StepAction::Run(script), StepState::Collecting { attempt, .. }) => {
                self.collect(index, &script, attempt, out);
            }
            (StepAction::Run(script), _) => {
                self.set(index, StepState::Preparing, out);
                let image = self.reference(index, &script.image);
                self.perform(index, Action::Prepare { image }, out);
            }
            (StepAction::Approve(_), StepState::Asking { shown, .. }) => {
                self.perform(index, Action::Ask { shown }, out);
            }
            (StepAction::Approve(_), _) if self.nothing_follows(index) => {
                self.succeed(now, index, StepResult::NothingToApprove, out);
            }
            (StepAction::Approve(question), _) => {
                let shown = approval::shown(&self.proposal(index));
                self.set(index, StepState::Asking { since: now, shown: shown.clone() }, out);
                out.event(PipelineEvent::Asking {
                    run: self.id,
                    step: self.steps[index].name.clone(),
                    message: question.message,
                });
                self.perform(index, Action::Ask { shown }, out);
            }
            (StepAction::Job(spec), state) => {
                let (attempt, known) = match state {
                    StepState::Working { attempt, lines } => (attempt, lines),
                    _ => (0, 0),
                };
                self.set(index, StepState::Working { attempt, lines: known }, out);
                let image = match &spec.runs {
                    Runs::Image(name) => self.built_before(index, name),
                    Runs::Service(_) => None,
                };
                let image = image.map(|digest| JobImage { registry: self.config.pull.clone(), digest });
                self.perform(index, Action::RunJob { spec, image, attempt, known }, out);
            }
            (StepAction::Infra(spec), state) => self.work(now, index, spec, &state, out),
            (StepAction::Rollout(spec), StepState::Following { revision }) => {
                match self.image_for(index, &spec) {
                    Ok(digest) => {
                        self.perform(index, Action::Follow { service: spec.name, revision, digest }, out);
                    }
                    Err(reason) => self.fail(now, index, reason, out),
                }
            }
            (StepAction::Release(_), StepState::Releasing { stage, .. }) => {
                let told_since = match stage {
                    ReleaseStage::Deploying { since } => Some(since),
                    ReleaseStage::Following | ReleaseStage::Back { .. } => None,
                };
                self.go_on(now, index, told_since, out);
            }
            (StepAction::Release(specs), _) => {
                match specs.iter().try_for_each(|spec| self.image_for(index, spec).map(drop)) {
                    Ok(()) => {
                        self.set(index, StepState::Inspecting, out);
                        let services = specs.iter().map(|spec| spec.name.clone()).collect();
                        self.perform(index, Action::Look { services }, out);
                    }
                    Err(reason) => self.fail(now, index, reason, out),
                }
            }
            (StepAction::Rollout(spec), state) => match self.image_for(index, &spec) {
                Ok(digest) => {
                    let told_since = match state {
                        StepState::Deploying { since } => Some(since),
                        _ => {
                            self.set(index, StepState::Deploying { since: now }, out);
                            None
                        }
                    };
                    let deployment = self.deployment(*spec, digest);
                    self.perform(index, Action::Deploy { deployment, told_since }, out);
                }
                Err(reason) => self.fail(now, index, reason, out),
            },
        }
    }

    /// Begins work with the infra repository, or continues it.
    fn work(&mut self, now: DateTime<Utc>, index: usize, spec: InfraSpec, state: &StepState, out: &mut Out) {
        let planned = match &spec.work {
            InfraWork::Apply { plan } => match self.plan_called(plan, index) {
                Some(planned) => Some(planned),
                None => {
                    let reason = format!("no step before it has planned `{plan}`");
                    return self.fail(now, index, reason, out);
                }
            },
            _ => None,
        };
        if let Some((_, planned)) = &planned
            && planned.settles(&spec.work)
        {
            let summary = "nothing to change".to_owned();
            return self.succeed(now, index, StepResult::Infra { summary }, out);
        }
        let resumed = matches!(state, StepState::Working { .. });
        self.set(index, StepState::Working { attempt: 0, lines: 0 }, out);
        let approved =
            self.steps.iter().take(index).any(|step| {
                matches!(step.state, StepState::Succeeded { result: StepResult::Approved { .. } })
            });
        self.perform(index, Action::Infra { spec, planned, approved, resumed }, out);
    }

    /// What the step before `index` has planned that is called `name`.
    fn plan_called(&self, name: &str, index: usize) -> Option<(usize, Planned)> {
        let before = self.steps.iter().enumerate().take(index).rev();
        let mut found = before.filter_map(|(at, step)| match (&step.action, &step.state) {
            (StepAction::Infra(spec), StepState::Succeeded { result: StepResult::Planned(planned) })
                if spec.name == name =>
            {
                Some((at, planned.clone()))
            }
            _ => None,
        });
        found.next()
    }

    /// Whether everything after the question at `index` was planned, and changes nothing.
    fn nothing_follows(&self, index: usize) -> bool {
        let plans: Vec<&Planned> = self
            .steps
            .iter()
            .take(index)
            .filter_map(|step| match &step.state {
                StepState::Succeeded { result: StepResult::Planned(planned) } => Some(planned),
                _ => None,
            })
            .collect();
        let after = self.steps.iter().enumerate().skip(index + 1);
        let mut after = after.filter(|(at, _)| !self.config.left_out.contains_key(at));
        // Where several steps have planned, all of their plans have to be empty.
        !plans.is_empty()
            && after.all(|(_, step)| match &step.action {
                StepAction::Infra(spec) => plans.iter().all(|planned| planned.settles(&spec.work)),
                _ => false,
            })
    }

    /// What the steps after the one at `index` would do.
    fn proposal(&self, index: usize) -> Proposal<'_> {
        let images = self.steps.iter().filter_map(|step| match &step.state {
            StepState::Succeeded { result: StepResult::Image(built) } => Some((&built.image, &built.digest)),
            _ => None,
        });
        let plans = self.steps.iter().filter_map(|step| match &step.state {
            StepState::Succeeded { result: StepResult::Planned(planned) } => {
                Some((&step.name, &planned.hash))
            }
            _ => None,
        });
        Proposal {
            plans: plans.collect(),
            commit: &self.commit,
            environment: &self.config.environment,
            images: images.collect(),
            steps: self.steps.iter().skip(index).map(|step| &step.action).collect(),
        }
    }

    fn deployment(&self, spec: ServiceSpec, digest: Digest) -> Box<Deployment> {
        Box::new(Deployment {
            spec,
            registry: self.config.pull.clone(),
            digest,
            origin: Origin {
                repository: self.repository.to_string(),
                commit: self.commit.to_string(),
                subject: self.subject.clone(),
            },
            restarted: None,
            // The control machine that deploys takes the newest of each.
            secrets: BTreeMap::new(),
            // Whoever deploys it asks the cluster.
            network: false,
        })
    }

    /// The services of a release that the cluster was asked to roll out.
    fn members(&self, index: usize) -> Vec<Member> {
        match (&self.steps[index].action, &self.steps[index].state) {
            (StepAction::Release(specs), StepState::Releasing { before, revisions, .. }) => {
                let each = specs.iter().zip(before).zip(revisions);
                each.map(|((spec, before), revision)| Member {
                    service: spec.name.clone(),
                    before: *before,
                    revision: *revision,
                })
                .collect()
            }
            _ => Vec::new(),
        }
    }

    /// Performs what the stage of a release names, which is written down already.
    fn go_on(&mut self, now: DateTime<Utc>, index: usize, told_since: Option<DateTime<Utc>>, out: &mut Out) {
        let (StepAction::Release(specs), StepState::Releasing { revisions, stage, .. }) =
            (&self.steps[index].action, &self.steps[index].state)
        else {
            return self.fail(now, index, "it is no release".to_owned(), out);
        };
        let at = match stage {
            ReleaseStage::Deploying { .. } => revisions.len(),
            ReleaseStage::Following => revisions.len().saturating_sub(1),
            ReleaseStage::Back { .. } => {
                let members = self.members(index);
                return self.perform(index, Action::TakeBack { members }, out);
            }
        };
        let Some(spec) = specs.get(at).cloned() else {
            return self.fail(now, index, "it has no such service".to_owned(), out);
        };
        let followed = revisions.get(at).copied();
        match (self.image_for(index, &spec), followed) {
            (Ok(digest), None) => {
                let deployment = self.deployment(spec, digest);
                self.perform(index, Action::Deploy { deployment, told_since }, out);
            }
            (Ok(digest), Some(revision)) => {
                self.perform(index, Action::Follow { service: spec.name, revision, digest }, out);
            }
            (Err(reason), _) => self.give_up(now, index, reason, out),
        }
    }

    /// Another stage of a release.
    fn stage(&mut self, index: usize, stage: ReleaseStage, revision: Option<u64>, out: &mut Out) {
        if let StepState::Releasing { before, mut revisions, .. } = self.steps[index].state.clone() {
            revisions.extend(revision);
            self.set(index, StepState::Releasing { before, revisions, stage }, out);
        }
    }

    /// Fails a step; a release takes back first what it has rolled out.
    fn give_up(&mut self, now: DateTime<Utc>, index: usize, reason: String, out: &mut Out) {
        match &self.steps[index].state {
            StepState::Releasing { stage: ReleaseStage::Back { reason: first }, .. } => {
                let reason = format!("{first}; the release could not be taken back: {reason}");
                self.fail(now, index, reason, out);
            }
            StepState::Releasing { revisions, .. } if !revisions.is_empty() => {
                self.stage(index, ReleaseStage::Back { reason }, None, out);
                self.go_on(now, index, None, out);
            }
            _ => self.fail(now, index, reason, out),
        }
    }

    /// The digest of the image that a step before `index` has put into the registry.
    fn image_for(&self, index: usize, spec: &ServiceSpec) -> Result<Digest, String> {
        self.built_before(index, &spec.image)
            .ok_or_else(|| format!("no step before it builds `{}`, the image of `{}`", spec.image, spec.name))
    }

    fn built_before(&self, index: usize, image: &str) -> Option<Digest> {
        let others = self.steps.iter().enumerate().rev().filter(|(other, _)| *other != index);
        others.map(|(_, step)| step).find_map(|step| match &step.state {
            StepState::Succeeded { result: StepResult::Image(built) } if built.image == image => {
                Some(built.digest.clone())
            }
            _ => None,
        })
    }

    /// The image of a command, where a step before has built it by its digest.
    fn reference(&self, index: usize, image: &str) -> String {
        match self.built_before(index, image) {
            Some(digest) => format!("{}/{image}@{digest}", self.config.push),
            None => image.to_owned(),
        }
    }

    /// Keeps files of the workspace, which is written down already.
    fn collect(&mut self, index: usize, script: &ScriptSpec, attempt: u32, out: &mut Out) {
        let (artifacts, reports) = (script.artifacts.clone(), script.reports.clone());
        self.perform(index, Action::Collect { attempt, artifacts, reports }, out);
    }

    /// Creates the container of a command, which is written down already.
    fn create(&mut self, index: usize, script: &ScriptSpec, image: String, attempt: u32, out: &mut Out) {
        let known = [
            ("CI", "true".to_owned()),
            ("FLEETWRIGHT_ATTEMPT", attempt.to_string()),
            ("FLEETWRIGHT_COMMIT", self.commit.to_string()),
            ("FLEETWRIGHT_ENVIRONMENT", self.config.environment.clone()),
            ("FLEETWRIGHT_PIPELINE", self.pipeline.to_string()),
            ("FLEETWRIGHT_RESULT", if self.verdict.is_some() { "failed" } else { "succeeded" }.to_owned()),
            ("FLEETWRIGHT_RUN", self.id.to_string()),
        ];
        let mut env: BTreeMap<String, String> =
            known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        env.extend(script.env.clone());
        let request = ContainerRequest {
            image,
            command: script.command.clone(),
            env,
            secrets: script.secrets.clone(),
            limits: script.limits,
            companions: script
                .companions
                .iter()
                .map(|companion| Companion {
                    image: self.reference(index, &companion.image),
                    ..companion.clone()
                })
                .collect(),
            caches: Vec::new(),
        };
        let caches = script.caches.clone();
        self.perform(index, Action::Create { attempt, request: Box::new(request), caches }, out);
    }

    fn perform(&mut self, index: usize, action: Action, out: &mut Out) {
        if self.stopping {
            return;
        }
        self.current.insert(index, Current { action: action.clone(), attempt: 1 });
        out.perform(index, action);
    }

    fn set(&mut self, index: usize, state: StepState, out: &mut Out) {
        self.steps[index].state = state.clone();
        out.record(Record::Step { index, state });
    }

    fn succeed(&mut self, now: DateTime<Utc>, index: usize, result: StepResult, out: &mut Out) {
        self.set(index, StepState::Succeeded { result }, out);
        self.step_finished(now, index, "succeeded", None, out);
    }

    fn fail(&mut self, now: DateTime<Utc>, index: usize, reason: String, out: &mut Out) {
        self.set(index, StepState::Failed { reason: reason.clone() }, out);
        self.step_finished(now, index, "failed", Some(reason.clone()), out);
        let reason = format!("{}: {reason}", self.steps[index].name);
        self.verdict.get_or_insert((RunState::Failed, reason));
    }

    /// Skips every step that has not ended.
    fn skip_rest(&mut self, now: DateTime<Utc>, out: &mut Out) {
        for index in 0..self.steps.len() {
            if !self.steps[index].state.is_ended() {
                let begun = self.steps[index].state != StepState::Waiting;
                // A run that never began has no steps in the journal.
                if !self.fresh || self.started.is_some() {
                    self.set(index, StepState::Skipped, out);
                }
                if begun {
                    self.step_finished(now, index, "skipped", None, out);
                }
            }
        }
    }

    fn step_finished(
        &self,
        now: DateTime<Utc>,
        index: usize,
        outcome: &str,
        reason: Option<String>,
        out: &mut Out,
    ) {
        out.event(PipelineEvent::StepFinished {
            run: self.id,
            step: self.steps[index].name.clone(),
            outcome: outcome.to_owned(),
            seconds: seconds(self.steps[index].started, now),
            reason,
        });
    }

    fn finish(&mut self, now: DateTime<Utc>, state: RunState, reason: Option<String>, out: &mut Out) {
        out.record(Record::Run { state, reason: reason.clone() });
        out.event(PipelineEvent::Finished {
            run: self.id,
            pipeline: self.pipeline.clone(),
            state,
            seconds: seconds(self.started, now),
            reason,
        });
        self.current.clear();
        self.ended = true;
        out.after(Effect::End(Ending::Ended(state)));
    }

    fn leave(&mut self, out: &mut Out) {
        self.current.clear();
        self.ended = true;
        out.after(Effect::End(Ending::Left));
    }
}

fn seconds(from: Option<DateTime<Utc>>, to: DateTime<Utc>) -> f64 {
    let taken = from.map_or_else(TimeDelta::zero, |from| to - from);
    taken.max(TimeDelta::zero()).as_seconds_f64()
}

/// Collects effects: everything to be written goes into one record, before what it precedes.
#[derive(Default)]
struct Out {
    effects: Vec<Effect>,
    changes: Vec<Change>,
    after: Vec<Effect>,
}

impl Out {
    fn record(&mut self, record: Record) {
        self.changes.push(Change::Record(record));
    }

    fn event(&mut self, event: PipelineEvent) {
        self.changes.push(Change::Event(event));
    }

    fn perform(&mut self, index: usize, action: Action) {
        self.after.push(Effect::Perform { index, action });
    }

    fn after(&mut self, effect: Effect) {
        self.after.push(effect);
    }

    fn done(mut self) -> Vec<Effect> {
        if !self.changes.is_empty() {
            self.effects.push(Effect::Record(self.changes));
        }
        self.effects.append(&mut self.after);
        self.effects
    }
}
