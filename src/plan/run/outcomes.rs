//! What follows from the end of an action.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Action, Current, Effect, Out, Outcome, Patience, Problem, RolloutEnd, RunMachine};
use crate::event::pipeline::PipelineEvent;
use crate::event::rollout::RolloutEvent;
use crate::model::journal::Record;
use crate::model::name::ServiceName;
use crate::model::run::{
    BuiltImage, ReleaseStage, Released, RunState, ScriptSpec, StepAction, StepResult, StepState,
};
use crate::model::step_container::ContainerEnd;

impl RunMachine {
    /// A command has ended: the step is done, is tried again, or has failed.
    fn executed(
        &mut self,
        now: DateTime<Utc>,
        index: usize,
        image: String,
        attempt: u32,
        end: ContainerEnd,
        out: &mut Out,
    ) {
        let StepAction::Run(script) = self.steps[index].action.clone() else {
            return self.fail(now, index, "it runs no command".to_owned(), out);
        };
        let failure = failure(&script, end);
        let is_last = failure.is_none() || attempt > script.retries || end == ContainerEnd::Gone;
        if is_last && script.keeps_files() && end != ContainerEnd::Gone {
            self.set(index, StepState::Collecting { attempt, end }, out);
            return self.collect(index, &script, attempt, out);
        }
        let Some(reason) = failure else {
            return self.succeed(now, index, StepResult::Run { attempts: attempt }, out);
        };
        if is_last {
            return self.fail(now, index, reason, out);
        }
        out.event(PipelineEvent::Retrying {
            run: self.id,
            step: self.steps[index].name.clone(),
            reason,
            attempt: attempt + 1,
            seconds: 0.0,
        });
        self.set(index, StepState::Creating { image: image.clone(), attempt: attempt + 1 }, out);
        self.create(index, &script, image, attempt + 1, out);
    }

    pub(super) fn outcome(
        &mut self,
        now: DateTime<Utc>,
        index: usize,
        current: &Current,
        outcome: Outcome,
        out: &mut Out,
    ) {
        let name = self.steps[index].name.clone();
        match (outcome, &current.action) {
            (Outcome::Inspected { key, known: Some(known), .. }, Action::Inspect { build }) => {
                out.event(PipelineEvent::NothingToBuild {
                    run: self.id,
                    step: name,
                    key: key.clone(),
                    digest: known.digest.clone(),
                    same_as: known.built_by.clone(),
                });
                let built = BuiltImage {
                    image: build.image.clone(),
                    key,
                    digest: known.digest,
                    same_as: Some(known.built_by),
                };
                self.succeed(now, index, StepResult::Image(built), out);
            }
            (Outcome::Inspected { key, files, known: None }, Action::Inspect { build }) => {
                let build = build.clone();
                self.set(index, StepState::Building { key: key.clone() }, out);
                out.event(PipelineEvent::Building { run: self.id, step: name, key: key.clone(), files });
                self.perform(index, Action::Build { build, key }, out);
            }
            (Outcome::Built, Action::Build { build, key }) => {
                let (build, key) = (build.clone(), key.clone());
                self.set(index, StepState::Pushing { key: key.clone() }, out);
                let reference = format!("{}/{}:{key}", self.config.push, build.image);
                out.event(PipelineEvent::Pushing { run: self.id, step: name, reference });
                self.perform(index, Action::Push { build, key }, out);
            }
            (Outcome::Pushed { digest }, Action::Push { build, key }) => {
                out.event(PipelineEvent::Pushed { run: self.id, step: name, digest: digest.clone() });
                out.record(Record::Image {
                    key: key.clone(),
                    name: format!("{}/{}", self.config.push, build.image),
                    digest: digest.clone(),
                });
                let built =
                    BuiltImage { image: build.image.clone(), key: key.clone(), digest, same_as: None };
                self.succeed(now, index, StepResult::Image(built), out);
            }
            (Outcome::CheckedOut { files }, Action::CheckOut) => {
                self.succeed(now, index, StepResult::Source { files }, out);
            }
            (Outcome::Prepared { image }, Action::Prepare { .. }) => {
                let StepAction::Run(script) = self.steps[index].action.clone() else {
                    return self.fail(now, index, "it runs no command".to_owned(), out);
                };
                self.set(index, StepState::Creating { image: image.clone(), attempt: 1 }, out);
                self.create(index, &script, image, 1, out);
            }
            (Outcome::Created, Action::Create { attempt, request, .. }) => {
                let (image, attempt) = (request.image.clone(), *attempt);
                self.set(index, StepState::Executing { image: image.clone(), attempt, lines: 0 }, out);
                self.perform(index, Action::Execute { image, attempt, known: 0 }, out);
            }
            (Outcome::Ended(end), Action::Execute { image, attempt, .. }) => {
                self.executed(now, index, image.clone(), *attempt, end, out);
            }
            (Outcome::Answered(answer), Action::Ask { shown }) => {
                if answer.shown != *shown {
                    let reason = format!("the question has changed since {} answered it", answer.by);
                    return self.fail(now, index, reason, out);
                }
                match answer.approved {
                    true => self.succeed(now, index, StepResult::Approved { by: answer.by }, out),
                    false => self.fail(now, index, format!("rejected by {}", answer.by), out),
                }
            }
            (Outcome::Overtaken { run }, Action::Ask { .. }) => {
                let reason = format!("run {run} of a newer commit takes over");
                self.set(index, StepState::Skipped, out);
                self.step_finished(now, index, "skipped", Some(reason.clone()), out);
                self.verdict.get_or_insert((RunState::Superseded, reason));
            }
            (Outcome::Collected { files, tests }, Action::Collect { .. }) => {
                let (StepAction::Run(script), StepState::Collecting { attempt, end }) =
                    (&self.steps[index].action, &self.steps[index].state)
                else {
                    return self.fail(now, index, "it keeps no files".to_owned(), out);
                };
                let (attempt, mut failure) = (*attempt, failure(script, *end));
                if let (Some(reason), Some(tests)) = (&mut failure, &tests)
                    && tests.failed > 0
                {
                    let names = tests.names();
                    reason.push_str(&format!("; {} of {} tests failed: {names}", tests.failed, tests.tests));
                }
                out.record(Record::Files { index, files, tests });
                match failure {
                    None => self.succeed(now, index, StepResult::Run { attempts: attempt }, out),
                    Some(reason) => self.fail(now, index, reason, out),
                }
            }
            (Outcome::JobEnded { failure }, Action::RunJob { spec, .. }) => match failure {
                None => {
                    let job = spec.name.clone();
                    self.succeed(now, index, StepResult::Job { job }, out);
                }
                Some(reason) => self.fail(now, index, reason, out),
            },
            (Outcome::Planned(planned), Action::Infra { .. }) => {
                self.succeed(now, index, StepResult::Planned(planned), out);
            }
            (Outcome::InfraDone { summary }, Action::Infra { .. }) => {
                self.succeed(now, index, StepResult::Infra { summary }, out);
            }
            (Outcome::Looked { before }, Action::Look { .. }) => {
                let stage = ReleaseStage::Deploying { since: now };
                self.set(index, StepState::Releasing { before, revisions: Vec::new(), stage }, out);
                self.go_on(now, index, None, out);
            }
            (Outcome::TakenBack { words }, Action::TakeBack { .. }) => {
                let reason = match &self.steps[index].state {
                    StepState::Releasing { stage: ReleaseStage::Back { reason }, .. } => reason.clone(),
                    _ => String::new(),
                };
                self.fail(now, index, format!("{reason}; the release was taken back: {words}"), out);
            }
            (Outcome::Deployed { revision }, Action::Deploy { deployment, .. }) => {
                let service = deployment.spec.name.clone();
                let digest = deployment.digest.clone();
                match &self.steps[index].state {
                    StepState::Releasing { .. } => {
                        self.stage(index, ReleaseStage::Following, Some(revision), out);
                    }
                    _ => self.set(index, StepState::Following { revision }, out),
                }
                out.event(PipelineEvent::Rollout {
                    run: self.id,
                    step: name,
                    rollout: RolloutEvent::Started {
                        service: service.clone(),
                        revision,
                        digest: digest.clone(),
                    },
                });
                self.perform(index, Action::Follow { service, revision, digest }, out);
            }
            (Outcome::Followed { end, reason }, Action::Follow { service, revision, .. }) => {
                let (service, revision) = (service.clone(), *revision);
                out.event(PipelineEvent::Rollout {
                    run: self.id,
                    step: name,
                    rollout: RolloutEvent::Ended {
                        service: service.clone(),
                        revision,
                        state: end.into(),
                        reason: reason.clone(),
                    },
                });
                let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                match end {
                    RolloutEnd::Running => self.rolled_out(now, index, service, revision, out),
                    RolloutEnd::Replaced => {
                        let reason =
                            format!("something newer replaced revision {revision} of `{service}`{because}");
                        self.set(index, StepState::Skipped, out);
                        self.step_finished(now, index, "skipped", Some(reason.clone()), out);
                        self.verdict.get_or_insert((RunState::Superseded, reason));
                    }
                    RolloutEnd::RolledBack => {
                        let reason = format!("revision {revision} of `{service}` was rolled back{because}");
                        self.give_up(now, index, reason, out);
                    }
                    RolloutEnd::Failed => {
                        let reason = format!("revision {revision} of `{service}` failed{because}");
                        self.give_up(now, index, reason, out);
                    }
                }
            }
            (outcome, action) => {
                self.fail(now, index, format!("{outcome:?} does not answer {action:?}"), out);
            }
        }
    }

    /// A service runs its new revision: the next one follows, or the step is done.
    fn rolled_out(
        &mut self,
        now: DateTime<Utc>,
        index: usize,
        service: ServiceName,
        revision: u64,
        out: &mut Out,
    ) {
        let StepAction::Release(specs) = &self.steps[index].action else {
            return self.succeed(now, index, StepResult::Rollout { service, revision }, out);
        };
        let members = self.members(index);
        if members.len() < specs.len() {
            self.stage(index, ReleaseStage::Deploying { since: now }, None, out);
            return self.go_on(now, index, None, out);
        }
        let released =
            members.into_iter().map(|member| Released { service: member.service, revision: member.revision });
        self.succeed(now, index, StepResult::Release(released.collect()), out);
    }

    pub(super) fn problem(
        &mut self,
        now: DateTime<Utc>,
        index: usize,
        mut current: Current,
        problem: Problem,
        out: &mut Out,
    ) {
        if problem.progressed {
            current.attempt = 0;
        }
        let tries = match problem.patience {
            Patience::None => 1,
            Patience::Short => 6,
            Patience::Long => 24,
        };
        if current.attempt >= tries {
            let reason =
                if tries > 1 { format!("{} (tried {tries} times)", problem.reason) } else { problem.reason };
            return self.give_up(now, index, reason, out);
        }
        if self.stopping {
            return;
        }
        let wait = Duration::from_secs(1 << current.attempt.saturating_sub(1).min(3)).min(RETRY_MAX);
        current.attempt += 1;
        out.event(PipelineEvent::Retrying {
            run: self.id,
            step: self.steps[index].name.clone(),
            reason: problem.reason,
            attempt: current.attempt.max(2),
            seconds: wait.as_secs_f64(),
        });
        // Whether the cluster heard what it did not answer is not known.
        if let (
            Action::Deploy { told_since, .. },
            StepState::Deploying { since }
            | StepState::Releasing { stage: ReleaseStage::Deploying { since }, .. },
        ) = (&mut current.action, &self.steps[index].state)
        {
            *told_since = Some(*since);
        }
        self.current.insert(index, current);
        out.after(Effect::Wait { index, time: wait });
    }
}

/// Why a command has failed that has ended; `None` for one that has succeeded.
fn failure(script: &ScriptSpec, end: ContainerEnd) -> Option<String> {
    Some(match end {
        ContainerEnd::Exited { status: 0, .. } => return None,
        ContainerEnd::Exited { out_of_memory: true, .. } => {
            "it used more memory than `resources.limits.memory`".to_owned()
        }
        // Not every kernel reports to the engine that it killed something for its memory.
        ContainerEnd::Exited { status: 137, .. } if script.limits.memory_bytes.is_some() => {
            "it was killed (exit status 137), as a command is that uses more memory than `resources.limits.memory`"
                .to_owned()
        }
        ContainerEnd::Exited { status, .. } => exit_words(status),
        // Whether it ended, and how, is not known: a second one might do things twice.
        ContainerEnd::Gone => {
            "its container is gone from the engine, so how it ended is not known".to_owned()
        }
    })
}

/// What an exit status says.
fn exit_words(status: i64) -> String {
    match status {
        126 => "its command can't be executed (exit status 126)".to_owned(),
        127 => "its command was not found (exit status 127)".to_owned(),
        137 => "it was killed (exit status 137)".to_owned(),
        143 => "it was terminated (exit status 143)".to_owned(),
        status => format!("exit status {status}"),
    }
}

/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(15);
