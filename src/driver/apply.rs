//! Carrying a plan out: every stack as soon as those it depends on are done, and nothing
//! that the plan did not say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cause::{explained, refused};
use super::follow::{Ask, Followed, Follower, Left, Pace, RETRY_LIMIT, computed, insist};
use super::graph::Graph;
use super::hook;
use super::plan::{Found, Wanted, WantedStack, request};
use crate::event::stack::{Failure, Outcome, StackEvent, Work};
use crate::event::{EventKind, Events};
use crate::model::deployed::{ChangeSetId, ChangeSetState, DeployedStack, Phase, ResourceEvent};
use crate::model::name::StackName;
use crate::model::stack::Moment;
use crate::plan::cause::first_cause;
use crate::plan::document;
use crate::plan::owner::{Purpose, refusal};
use crate::plan::stack::{Outputs, ParameterValue, Plan, StackAction, StackPlan, resolve};
use crate::plan::within::beyond;
use crate::port::cloud::{Cloud, CloudError};
use crate::port::hooks::Hooks;

/// What every piece of the work needs.
#[derive(Clone)]
pub struct Shell {
    /// CloudFormation.
    pub cloud: Arc<dyn Cloud>,
    /// Where events go.
    pub events: Events,
    /// How often is asked.
    pub pace: Pace,
    /// Cancelled by the first signal, and when the lock is lost: nothing more is begun then.
    pub stop: CancellationToken,
    /// Cancelled by the first signal: what CloudFormation does is not watched any longer then.
    pub watch: CancellationToken,
    /// Runs what the repository wants run before and after.
    pub hooks: Arc<dyn Hooks>,
    /// One for each stack that may be worked on at the same time.
    pub slots: Arc<Semaphore>,
}

impl Shell {
    /// How many stacks are worked on at once: enough to hide the waiting, and few enough for
    /// CloudFormation, which takes some calls a second for a whole account.
    pub const STACKS_AT_ONCE: usize = 10;

    /// Waits until a stack may be worked on; until what is returned is dropped.
    pub(super) async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    pub(super) fn emit(&self, event: StackEvent) {
        self.events.emit(EventKind::Stack(event));
    }

    pub(super) fn started(&self, stack: &StackName, work: Work, resources: Option<usize>) {
        let resources = resources.and_then(|count| u32::try_from(count).ok());
        self.emit(StackEvent::Started { stack: stack.to_string(), work, resources });
    }

    pub(super) fn finished(
        &self,
        stack: &StackName,
        outcome: Outcome,
        since: Instant,
        failure: Option<Failure>,
    ) {
        let seconds = since.elapsed().as_secs_f64();
        self.emit(StackEvent::Finished { stack: stack.to_string(), outcome, seconds, failure });
    }

    /// What follows the work on a stack that is `before` now. From here on its events are news.
    ///
    /// # Errors
    /// When its events can't be read.
    pub(super) async fn follower(
        &self,
        stack: &str,
        cloud_name: &str,
        before: Option<DeployedStack>,
    ) -> Result<Follower, CloudError> {
        let id = before.as_ref().map_or_else(|| cloud_name.to_owned(), |stack| stack.id.clone());
        let mark = insist(RETRY_LIMIT, &self.stop, || self.cloud.mark(&id)).await?;
        Ok(Follower {
            cloud: Arc::clone(&self.cloud),
            events: self.events.clone(),
            name: stack.to_string(),
            cloud_name: cloud_name.to_owned(),
            id,
            before,
            mark,
            pace: self.pace,
        })
    }
}

/// How each stack's work ended, in the order of dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The stacks.
    pub stacks: Vec<(StackName, Outcome)>,
}

impl Report {
    /// Whether everything is as the plan wanted it.
    pub fn is_complete(&self) -> bool {
        self.stacks.iter().all(|(_, outcome)| match outcome {
            Outcome::Created
            | Outcome::Updated
            | Outcome::Deleted
            | Outcome::Imported
            | Outcome::Unchanged
            | Outcome::Settled => true,
            Outcome::Failed
            | Outcome::Blocked
            | Outcome::Skipped
            | Outcome::NotBegun
            | Outcome::LeftRunning => false,
        })
    }

    /// Whether a signal kept something from being done.
    pub fn was_stopped(&self) -> bool {
        self.stacks.iter().any(|(_, outcome)| matches!(outcome, Outcome::NotBegun | Outcome::LeftRunning))
    }

    /// The stacks that ended in one of `outcomes`.
    pub fn ended(&self, outcomes: &[Outcome]) -> Vec<&StackName> {
        self.stacks.iter().filter(|(_, outcome)| outcomes.contains(outcome)).map(|(name, _)| name).collect()
    }
}

/// How one stack's work ended.
pub(super) struct Ended {
    pub(super) stack: StackName,
    pub(super) outcome: Outcome,
    pub(super) outputs: Outputs,
}

/// Waits for work on our stacks that is under way already: an apply that was stopped, or somebody else's.
///
/// # Errors
/// When the cloud can't be asked.
pub async fn settle(shell: &Shell, wanted: &Wanted) -> Result<Report, CloudError> {
    let all = shell.cloud.stacks().await?;
    let mut work = JoinSet::new();
    for wanted in wanted.chosen() {
        let name = wanted.stack.name.clone();
        let Some(stack) = all.iter().find(|stack| stack.name == wanted.stack.cloud_name) else { continue };
        // Somebody else's stack will not be worked on, so nothing is gained by waiting for it.
        if stack.phase() != Phase::Busy || refusal(&wanted.stack, stack, Purpose::Change).is_some() {
            continue;
        }
        let (shell, stack) = (shell.clone(), stack.clone());
        work.spawn(async move {
            let since = Instant::now();
            shell.started(&name, Work::Wait, None);
            let follower = shell.follower(name.as_str(), &stack.name, Some(stack.clone())).await?;
            let (outcome, failure) = match follower.work(Ask::Nothing, &shell.watch).await {
                Followed::Still(_) | Followed::NeverBegan { .. } => (Outcome::Settled, None),
                Followed::LeftRunning(left) => (Outcome::LeftRunning, left.failure("apply")),
            };
            shell.finished(&name, outcome, since, failure);
            Ok::<_, CloudError>((name, outcome))
        });
    }
    let mut stacks = Vec::new();
    while let Some(ended) = work.join_next().await {
        stacks.push(ended.map_err(|error| panicked(&error))??);
    }
    Ok(Report { stacks })
}

/// Carries `plan` out.
pub async fn apply(shell: &Shell, wanted: Arc<Wanted>, plan: Arc<Plan>, found: Arc<Found>) -> Report {
    let mut work: JoinSet<Ended> = JoinSet::new();
    let mut outputs: BTreeMap<StackName, Outputs> = BTreeMap::new();
    let mut outcomes: BTreeMap<StackName, Outcome> = BTreeMap::new();
    for (stack, blocked) in plan.blocked() {
        let failure = Failure { cause: blocked.why.clone(), at: None, next: blocked.next.clone() };
        shell.finished(&stack.stack, Outcome::Blocked, Instant::now(), Some(failure));
        outcomes.insert(stack.stack.clone(), Outcome::Blocked);
        // What depends on it and goes on is unchanged, and was planned with the outputs that it has.
        let existing = found.stacks.get(&stack.stack).map(|stack| stack.outputs.clone());
        outputs.insert(stack.stack.clone(), existing.unwrap_or_default());
    }
    // What depends on a blocked stack and would change is blocked itself.
    let go_on = plan.stacks.iter().filter(|stack| !outcomes.contains_key(&stack.stack));
    let mut graph = Graph::new(go_on.map(|s| (s.stack.clone(), s.depends_on.clone())).collect());
    loop {
        if shell.stop.is_cancelled() {
            for name in graph.abandon() {
                shell.finished(&name, Outcome::NotBegun, Instant::now(), None);
                outcomes.insert(name, Outcome::NotBegun);
            }
        }
        for name in graph.ready() {
            let one = One {
                shell: shell.clone(),
                wanted: Arc::clone(&wanted),
                plan: Arc::clone(&plan),
                existing: found.stacks.get(&name).cloned(),
                outputs: outputs.clone(),
                name,
            };
            work.spawn(one.run());
        }
        let ended = tokio::select! {
            ended = work.join_next() => ended,
            () = shell.stop.cancelled(), if !graph.is_done() && !shell.stop.is_cancelled() => continue,
        };
        match ended {
            None => break,
            Some(Ok(ended)) => {
                let well = matches!(ended.outcome, Outcome::Created | Outcome::Updated | Outcome::Unchanged);
                outcomes.insert(ended.stack.clone(), ended.outcome);
                outputs.insert(ended.stack.clone(), ended.outputs);
                let stopped = matches!(ended.outcome, Outcome::NotBegun | Outcome::LeftRunning);
                for name in graph.finished(&ended.stack, well) {
                    let outcome = if stopped { Outcome::NotBegun } else { Outcome::Skipped };
                    shell.finished(&name, outcome, Instant::now(), None);
                    outcomes.insert(name, outcome);
                }
            }
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let stacks = plan.stacks.iter().filter_map(|s| Some((s.stack.clone(), outcomes.remove(&s.stack)?)));
    Report { stacks: stacks.collect() }
}

fn panicked(error: &tokio::task::JoinError) -> CloudError {
    CloudError::Unreachable { doing: "waiting for a stack".to_owned(), reason: error.to_string() }
}

/// The work on one stack.
struct One {
    shell: Shell,
    wanted: Arc<Wanted>,
    plan: Arc<Plan>,
    existing: Option<DeployedStack>,
    outputs: BTreeMap<StackName, Outputs>,
    name: StackName,
}

/// Why the work on one stack ended without success.
enum Trouble {
    Failed(Failure),
    Stopped(Outcome),
    /// CloudFormation continues; why it is no longer watched.
    Left(Option<Failure>),
}

impl From<CloudError> for Trouble {
    fn from(error: CloudError) -> Self {
        let next = format!("{}: `fleetwright apply` resumes from here", error.next());
        Self::Failed(Failure { cause: error.to_string(), at: None, next })
    }
}

impl One {
    async fn run(self) -> Ended {
        let _slot = self.shell.slot().await;
        let since = Instant::now();
        let (outcome, outputs, failure) = match self.work().await {
            Ok((outcome, outputs)) => (outcome, outputs, None),
            Err(Trouble::Failed(failure)) => (Outcome::Failed, Outputs::new(), Some(failure)),
            Err(Trouble::Stopped(outcome)) => (outcome, Outputs::new(), None),
            Err(Trouble::Left(failure)) => (Outcome::LeftRunning, Outputs::new(), failure),
        };
        self.shell.finished(&self.name, outcome, since, failure);
        Ended { stack: self.name, outcome, outputs }
    }

    async fn work(&self) -> Result<(Outcome, Outputs), Trouble> {
        let (Some(wanted), Some(plan)) = (self.wanted.stack(&self.name), self.plan.stack(&self.name)) else {
            return Err(failed("the plan holds a stack that the repository does not".to_owned(), None));
        };
        let parameters = self.parameters(wanted, plan)?;
        match (&plan.action, &self.existing) {
            (StackAction::Unchanged, Some(existing)) => Ok((Outcome::Unchanged, existing.outputs.clone())),
            (StackAction::Unchanged, None) | (StackAction::Blocked(_), _) => {
                Err(failed(format!("stack `{}` can't be changed in its present state", self.name), None))
            }
            (StackAction::Create, _) => {
                self.hooks(wanted, Moment::BeforeApply, Work::Create, &Outputs::new()).await?;
                let done = self.change(wanted, plan, parameters, true).await?;
                self.still_locked(wanted, plan)?;
                if plan.policy.is_some()
                    && let Some(stack) = self.stack_now(wanted).await?
                {
                    self.set_policy(wanted, plan, &stack).await?;
                }
                self.protect(wanted, plan).await?;
                self.hooks(wanted, Moment::AfterApply, Work::Create, &done.1).await?;
                Ok(done)
            }
            (StackAction::Update, Some(existing)) => {
                self.hooks(wanted, Moment::BeforeApply, Work::Update, &existing.outputs).await?;
                // The plan was made with the new policy, so the change is carried out under it.
                self.set_policy(wanted, plan, existing).await?;
                let done = if plan.needs_change_set() {
                    self.change(wanted, plan, parameters, false).await?
                } else {
                    self.shell.started(&self.name, Work::Update, None);
                    (Outcome::Updated, existing.outputs.clone())
                };
                self.still_locked(wanted, plan)?;
                self.protect(wanted, plan).await?;
                self.hooks(wanted, Moment::AfterApply, Work::Update, &done.1).await?;
                Ok(done)
            }
            (StackAction::Update, None) => {
                Err(failed(format!("stack `{}` was to be updated, and does not exist", self.name), None))
            }
        }
    }

    /// Ends the work on the stack where something is left to do for which the lock is needed, and it was lost.
    fn still_locked(&self, wanted: &WantedStack, plan: &StackPlan) -> Result<(), Trouble> {
        let hooks = wanted.stack.hooks(Moment::AfterApply).next().is_some();
        let is_left = plan.protect.is_some() || plan.policy.is_some() || hooks;
        if is_left && self.shell.stop.is_cancelled() && !self.shell.watch.is_cancelled() {
            return Err(Trouble::Failed(Failure {
                cause:
                    "the stack itself is changed; the lock was lost before its policy, its protection and \
                        its hooks"
                        .to_owned(),
                at: None,
                next:
                    "`fleetwright apply` again: it sets the policy and the protection; run the hooks by hand"
                        .to_owned(),
            }));
        }
        Ok(())
    }

    async fn stack_now(&self, wanted: &WantedStack) -> Result<Option<DeployedStack>, CloudError> {
        let name = &wanted.stack.cloud_name;
        insist(RETRY_LIMIT, &self.shell.watch, || self.shell.cloud.stack(name)).await
    }

    /// Changes the stack's protection from deletion, where the plan says so.
    async fn protect(&self, wanted: &WantedStack, plan: &StackPlan) -> Result<(), CloudError> {
        let (name, cloud) = (&wanted.stack.cloud_name, &self.shell.cloud);
        match plan.protect {
            Some(protect) => insist(RETRY_LIMIT, &self.shell.watch, || cloud.protect(name, protect)).await,
            None => Ok(()),
        }
    }

    /// Changes the stack's policy, where the plan says so.
    async fn set_policy(
        &self,
        wanted: &WantedStack,
        plan: &StackPlan,
        stack: &DeployedStack,
    ) -> Result<(), CloudError> {
        match &wanted.stack.policy {
            Some(policy) if plan.policy.is_some() => {
                let (cloud, document) = (&self.shell.cloud, policy.document().to_string());
                insist(RETRY_LIMIT, &self.shell.watch, || cloud.set_policy(stack, &document)).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Runs the stack's hooks of a moment, one after the other.
    async fn hooks(
        &self,
        wanted: &WantedStack,
        moment: Moment,
        work: Work,
        outputs: &Outputs,
    ) -> Result<(), Trouble> {
        let of = hook::Of { shell: &self.shell, wanted: &self.wanted, stack: &wanted.stack, work, outputs };
        match hook::run(&of, moment).await {
            Ok(()) => Ok(()),
            Err(None) => Err(Trouble::Stopped(Outcome::NotBegun)),
            Err(Some(failure)) => Err(Trouble::Failed(failure)),
        }
    }

    /// The values of the parameters, now that everything before is done; those that the plan
    /// knew must not have changed since.
    fn parameters(
        &self,
        wanted: &WantedStack,
        plan: &StackPlan,
    ) -> Result<BTreeMap<String, String>, Trouble> {
        let mut values = BTreeMap::new();
        for (name, value) in resolve(&wanted.stack, &self.outputs) {
            let text = match value {
                ParameterValue::Known(text) => text,
                ParameterValue::AfterApply(references) => {
                    let cause = format!("parameter `{name}` needs {references}, which does not exist");
                    return Err(failed(cause, Some(wanted.stack.place_of(&name).to_string())));
                }
                ParameterValue::Hidden => continue,
            };
            let planned = match plan.parameters.iter().find(|change| change.name == name) {
                Some(change) => match &change.after {
                    ParameterValue::Known(planned) => Some(planned),
                    ParameterValue::AfterApply(_) | ParameterValue::Hidden => None,
                },
                None if document::is_hidden(&wanted.document, &name) => None,
                None => self.existing.as_ref().and_then(|stack| stack.parameters.get(&name)),
            };
            if let Some(planned) = planned.filter(|planned| **planned != text) {
                return Err(Trouble::Failed(Failure {
                    cause: format!("parameter `{name}` became `{text}`; the plan said `{planned}`"),
                    at: Some(wanted.stack.place_of(&name).to_string()),
                    next: "`fleetwright apply` again: it plans with what is there now".to_owned(),
                }));
            }
            values.insert(name, text);
        }
        Ok(values)
    }

    async fn change(
        &self,
        wanted: &WantedStack,
        plan: &StackPlan,
        parameters: BTreeMap<String, String>,
        create: bool,
    ) -> Result<(Outcome, Outputs), Trouble> {
        let shell = &self.shell;
        let cloud = &shell.cloud;
        if shell.stop.is_cancelled() {
            return Err(Trouble::Stopped(Outcome::NotBegun));
        }
        let work = if create { Work::Create } else { Work::Update };
        shell.started(&self.name, work, Some(plan.resources.len()));
        let asked = request(&wanted.stack, parameters, create);
        let id = match insist(RETRY_LIMIT, &shell.stop, || cloud.create_change_set(&asked)).await {
            Ok(id) => id,
            // It may have been made all the same; the next apply takes it up or replaces it.
            Err(_) if shell.stop.is_cancelled() => return Err(Trouble::Stopped(Outcome::NotBegun)),
            Err(error) => return Err(error.into()),
        };
        let change_set = match computed(cloud.as_ref(), &id, shell.pace, RETRY_LIMIT, &shell.stop).await {
            Ok(Some(change_set)) => change_set,
            Ok(None) => {
                self.withdraw(&id, create).await?;
                return Err(Trouble::Stopped(Outcome::NotBegun));
            }
            Err(error) => {
                self.withdraw(&id, create).await?;
                return Err(error.into());
            }
        };
        match change_set.state {
            ChangeSetState::Empty => {
                self.withdraw(&id, create).await?;
                let outputs = self.existing.as_ref().map(|stack| stack.outputs.clone()).unwrap_or_default();
                return Ok((Outcome::Unchanged, outputs));
            }
            ChangeSetState::Failed { reason } => {
                let reason = refused(cloud.as_ref(), &wanted.stack.cloud_name, &id, &reason).await;
                self.withdraw(&id, create).await?;
                return Err(failed(reason, Some(wanted.stack.template_file.clone())));
            }
            ChangeSetState::Computing | ChangeSetState::Ready => {}
        }
        let beyond = beyond(plan, &change_set);
        if !beyond.is_empty() || shell.stop.is_cancelled() {
            self.withdraw(&id, create).await?;
            if beyond.is_empty() {
                return Err(Trouble::Stopped(Outcome::NotBegun));
            }
            return Err(Trouble::Failed(Failure {
                cause: format!("the change goes beyond the plan: {}", beyond.join("; ")),
                at: None,
                next: "`fleetwright plan` shows what it is now; `fleetwright apply` applies that".to_owned(),
            }));
        }
        let exchanged = match cloud.exchanged(&id, &asked).await {
            Ok(exchanged) => exchanged,
            Err(error) => {
                self.withdraw(&id, create).await?;
                return Err(error.into());
            }
        };
        if let Some(what) = exchanged {
            self.withdraw(&id, create).await?;
            let at = Some(wanted.stack.template_file.clone());
            return Err(Trouble::Failed(Failure { at, ..intercepted(&what) }));
        }
        let follower = match self.ready(wanted, create).await {
            Ok(follower) => follower,
            Err(trouble) => {
                self.withdraw(&id, create).await?;
                return Err(trouble);
            }
        };
        match follower.work(Ask::Execute(&id), &shell.watch).await {
            Followed::LeftRunning(left) => Err(Trouble::Left(left.failure("apply"))),
            Followed::NeverBegan { why } => {
                // It can't begin any more: its change set is deleted. What one for a new stack brought is too.
                self.withdraw(&id, create).await?;
                Err(Trouble::Failed(never_began("execute the change set", why.as_ref(), "apply")))
            }
            Followed::Still(still) => match &still.stack {
                Some(stack) if still.ended_as(&["CREATE_COMPLETE", "UPDATE_COMPLETE"]) => {
                    let outcome = if create { Outcome::Created } else { Outcome::Updated };
                    Ok((outcome, stack.outputs.clone()))
                }
                stack => {
                    let cause = explained(cloud.as_ref(), wanted, stack.as_ref(), &still.events).await;
                    Err(Trouble::Failed(cause))
                }
            },
        }
    }

    /// Everything that must be known of the stack before its change set is executed.
    async fn ready(&self, wanted: &WantedStack, create: bool) -> Result<Follower, Trouble> {
        let (shell, cloud_name) = (&self.shell, &wanted.stack.cloud_name);
        let before = insist(RETRY_LIMIT, &shell.stop, || shell.cloud.stack(cloud_name)).await?;
        if before.is_none() && !create {
            return Err(failed("the stack is gone; somebody deleted it meanwhile".to_owned(), None));
        }
        Ok(shell.follower(self.name.as_str(), cloud_name, before).await?)
    }

    /// Takes back a change set that is not to be executed, and with it the empty stack that
    /// one for a new stack brings.
    async fn withdraw(&self, id: &ChangeSetId, create: bool) -> Result<(), CloudError> {
        let name = self.wanted.stack(&self.name).map(|wanted| wanted.stack.cloud_name.as_str());
        withdraw(self.shell.cloud.as_ref(), id, name.filter(|_| create)).await
    }
}

/// Takes back a change set that is not to be executed, and the empty stack of that name, if it brought one.
pub(super) async fn withdraw(
    cloud: &dyn Cloud,
    id: &ChangeSetId,
    new: Option<&str>,
) -> Result<(), CloudError> {
    cloud.delete_change_set(id).await?;
    if let Some(name) = new
        && let Some(stack) = cloud.stack(name).await?
        && stack.phase() == Phase::InReview
    {
        cloud.delete_stack(&stack.id).await?;
    }
    Ok(())
}

/// The failure when CloudFormation was asked for something and nothing shows that it began.
pub(super) fn never_began(what: &str, why: Option<&CloudError>, command: &str) -> Failure {
    let cause = match why {
        Some(error) => error.to_string(),
        None => format!("CloudFormation accepted the request to {what} and never began; nothing was changed"),
    };
    let next = match why {
        Some(error) => format!("{}: `fleetwright {command}` resumes from here", error.next()),
        None => format!("`fleetwright {command}` again; if it happens again, look at the stack's events"),
    };
    Failure { cause, at: None, next }
}

impl Left {
    /// Why nobody watches any more, where that was not a signal; `command` takes it up again.
    pub(super) fn failure(self, command: &str) -> Option<Failure> {
        match self {
            Self::Stopped => None,
            Self::Unanswered(error) => Some(Failure {
                cause: format!("CloudFormation continues, but does not answer: {error}"),
                at: None,
                next: format!("`fleetwright {command}` again: it waits for what is under way and continues"),
            }),
        }
    }
}

/// The failure when somebody exchanged what was uploaded.
pub(super) fn intercepted(what: &str) -> Failure {
    Failure {
        cause: format!("CloudFormation would execute something else than was rendered: {what} was exchanged in the bucket"),
        at: None,
        next: "find out who else can write to the project's bucket, and take that right away; nothing was executed"
            .to_owned(),
    }
}

fn failed(cause: String, at: Option<String>) -> Trouble {
    let next = "remove the cause, then `fleetwright apply` again".to_owned();
    Trouble::Failed(Failure { cause, at, next })
}

/// What went wrong first, where it stands, and what to do.
pub(super) fn explain(
    wanted: &WantedStack,
    stack: Option<&DeployedStack>,
    events: &[ResourceEvent],
) -> Failure {
    let cause = first_cause(&wanted.stack.cloud_name, events);
    let resource = cause.as_ref().and_then(|cause| cause.resource.clone());
    let words = match (&cause, stack) {
        (Some(cause), _) => match &cause.resource {
            Some(resource) => format!("{resource}: {}", cause.reason),
            None => cause.reason.clone(),
        },
        (None, Some(stack)) if !stack.status_reason.is_empty() => stack.status_reason.clone(),
        (None, Some(stack)) => format!("it ended as {}, and CloudFormation gives no reason", stack.status),
        (None, None) => "the stack is gone; somebody deleted it meanwhile".to_owned(),
    };
    let words = match stack.map(|stack| stack.status_reason.trim()) {
        Some(said) if is_news(said, &words) => format!("{words} (the stack: {said})"),
        Some(_) | None => words,
    };
    let status = stack.map(|stack| stack.status.clone()).unwrap_or_default();
    let next = match stack.map(DeployedStack::phase) {
        Some(Phase::FailedCreate) => format!(
            "remove the cause; the stack is {status}: `fleetwright recover {}` deletes what is left of it, \
             then `fleetwright apply`",
            wanted.stack.name
        ),
        Some(Phase::Stuck) => format!(
            "the stack is {status}: `fleetwright recover {}` brings it to rest; remove the cause, then \
             `fleetwright apply`",
            wanted.stack.name
        ),
        _ => "remove the cause, then `fleetwright apply` again".to_owned(),
    };
    Failure { cause: words, at: resource.and_then(|resource| place(wanted, &resource)), next }
}

/// Whether what CloudFormation says of the stack says more than its cause.
fn is_news(said: &str, cause: &str) -> bool {
    let known = ["User Initiated", "The following resource(s) failed to"];
    !said.is_empty() && !cause.contains(said) && !known.iter().any(|known| said.starts_with(known))
}

/// Where a resource stands in its template: file and line, or the file alone when the
/// line is made by the template's logic.
pub(super) fn place(wanted: &WantedStack, resource: &str) -> Option<String> {
    let file = &wanted.stack.template_file;
    let text = wanted.source.as_ref().map(|source| source.text())?;
    let key = format!("{resource}:");
    let line = text.lines().position(|line| {
        line.starts_with([' ', '\t'])
            && line
                .trim_start()
                .strip_prefix(key.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '#']))
    });
    Some(line.map_or_else(|| file.clone(), |line| format!("{file}:{}", line + 1)))
}
