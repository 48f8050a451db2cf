//! Following CloudFormation's work on a stack: its events as they come, until it stands still.
//!
//! What the answers mean is decided in `plan::follow`; here they are asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::event::stack::StackEvent;
use crate::event::{EventKind, Events};
use crate::model::deployed::{
    ChangeSet, ChangeSetId, ChangeSetState, DeployedStack, EventMark, Execution, Phase, ResourceEvent,
};
use crate::plan::follow::{Asked, Follow, Heard, Next, Reply, Standing};
use crate::port::cloud::{Cloud, CloudError};

/// After how much silence people are told.
const SAY_SO: Duration = Duration::from_secs(5);
/// The pause before a call is repeated that nobody answered.
const PAUSE: Duration = Duration::from_secs(2);
/// How long apply and its like repeat calls that nobody answers, before and after CloudFormation works.
pub const RETRY_LIMIT: Duration = Duration::from_secs(3 * 60);
/// In how many rounds events may be missing before the following ends without them.
const WITHOUT_EVENTS: u32 = 5;

/// How often is asked: soon after something happened, ever less often while nothing does.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    shortest: Duration,
    longest: Duration,
    now: Duration,
}

impl Pace {
    /// Between 0.3 and 3 seconds.
    pub fn adaptive() -> Self {
        Self::between(Duration::from_millis(300), Duration::from_secs(3))
    }

    /// Between `shortest` and `longest`.
    pub fn between(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, now: shortest }
    }

    /// Something happened.
    pub fn quicken(&mut self) {
        self.now = self.shortest;
    }

    /// Waits for the next turn; `false` when `stop` came first.
    pub async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let wait = self.now;
        self.now = (self.now * 3 / 2).min(self.longest);
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = stop.cancelled() => false,
        }
    }
}

/// How the following of a stack ended.
#[derive(Debug)]
pub enum Followed {
    /// The stack stands still again.
    Still(Box<Still>),
    /// What was asked for never began, and will not.
    NeverBegan {
        /// Why, where CloudFormation gave a reason.
        why: Option<CloudError>,
    },
    /// CloudFormation goes on without being watched.
    LeftRunning(Left),
}

/// Why nobody watches any more.
#[derive(Debug)]
pub enum Left {
    /// A signal came.
    Stopped,
    /// CloudFormation did not answer for too long; the last error.
    Unanswered(CloudError),
}

/// A stack that stands still again.
#[derive(Debug)]
pub struct Still {
    /// The stack; `None` when it is gone.
    pub stack: Option<DeployedStack>,
    /// The status that the work ended in; the stack's own may be one of later work.
    pub status: String,
    /// Whether the change set was executed well, where the work's own end is not known and that is.
    pub well: Option<bool>,
    /// What happened to it meanwhile, oldest first.
    pub events: Vec<ResourceEvent>,
}

impl Still {
    /// Whether the work ended in one of `statuses`.
    pub fn ended_as(&self, statuses: &[&str]) -> bool {
        self.well.unwrap_or_else(|| statuses.contains(&self.status.as_str()))
    }
}

/// What is asked of CloudFormation, so that it can be asked for again.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    /// Nothing: work that is under way is watched.
    Nothing,
    /// To execute a change set.
    Execute(&'a ChangeSetId),
    /// To delete the stack.
    Delete,
    /// Something that was asked for already, with this answer.
    Once,
}

/// A stack whose work is followed.
pub struct Follower {
    /// CloudFormation.
    pub cloud: Arc<dyn Cloud>,
    /// Where its events go.
    pub events: Events,
    /// The stack as the repository names it.
    pub name: String,
    /// The stack before; `None` where it did not exist.
    pub before: Option<DeployedStack>,
    /// Its name in CloudFormation.
    pub cloud_name: String,
    /// Its id, or its name where that is not known.
    pub id: String,
    /// The events that are not news.
    pub mark: EventMark,
    /// How often is asked.
    pub pace: Pace,
}

/// What one round of questions came to.
struct Round {
    heard: Heard,
    stack: Option<DeployedStack>,
    news: Vec<ResourceEvent>,
    /// Whether the events could be read.
    complete: bool,
    error: Option<CloudError>,
}

impl Follower {
    /// Asks for the work and follows it until the stack stands still. Answers that are lost on the way are no
    /// failure: what CloudFormation does decides.
    pub async fn work(self, ask: Ask<'_>, stop: &CancellationToken) -> Followed {
        let asked = self.ask(ask).await;
        self.follow(ask, asked, stop).await
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<(), CloudError> {
        match ask {
            Ask::Execute(id) => self.cloud.execute_change_set(id).await,
            Ask::Delete => self.cloud.delete_stack(&self.id).await,
            Ask::Nothing | Ask::Once => Ok(()),
        }
    }

    /// Follows what was asked for already, with the answer `asked`.
    pub async fn follow(
        mut self,
        ask: Ask<'_>,
        mut asked: Result<(), CloudError>,
        stop: &CancellationToken,
    ) -> Followed {
        let begun = Instant::now();
        let reply = match &asked {
            Ok(()) => Reply::Accepted,
            Err(error) if is_lost(error) => Reply::Lost,
            Err(_) => Reply::Refused,
        };
        let before = self.before.as_ref().map(Standing::of);
        let mut follow = match ask {
            Ask::Execute(id) => Follow::execution(&id.0, reply, before, Duration::ZERO),
            Ask::Delete => Follow::new(Asked::Deletion, reply, before, Duration::ZERO),
            Ask::Once => Follow::new(Asked::Once, reply, before, Duration::ZERO),
            Ask::Nothing => Follow::new(Asked::Nothing, reply, before, Duration::ZERO),
        };
        let mut seen: Vec<ResourceEvent> = Vec::new();
        let (mut silent, mut told, mut incomplete): (Option<Instant>, bool, u32) = (None, false, 0);
        let mut last: Option<CloudError> = None;
        let mut withdrawn = false;
        loop {
            // A question that gets no answer does not hold up a signal.
            let round = tokio::select! {
                round = self.round(&follow, ask, std::mem::take(&mut withdrawn)) => round,
                () = stop.cancelled() => return Followed::LeftRunning(Left::Stopped),
            };
            let Round { heard, stack, news, complete, error } = round;
            if matches!(heard, Heard::Silence { .. }) {
                let since = *silent.get_or_insert_with(Instant::now);
                if !told && since.elapsed() >= SAY_SO {
                    told = true;
                    let why = error.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.events.note(format!(
                        "{}: no answer for {} s ({why}); CloudFormation continues, and is asked again",
                        self.name,
                        since.elapsed().as_secs()
                    ));
                }
            } else {
                (silent, told) = (None, false);
            }
            last = error.or(last);
            if !news.is_empty() {
                self.pace.quicken();
            }
            self.mark.add(&news);
            for event in news {
                self.emit(&event);
                seen.push(event);
            }
            incomplete = if complete { 0 } else { incomplete + 1 };
            let next = follow.handle(begun.elapsed(), heard);
            match next {
                // The last events say why something failed.
                Next::Ended { .. } if !complete && incomplete < WITHOUT_EVENTS => {}
                Next::Ended { status, well } => {
                    let stack = stack.filter(|stack| stack.phase() != Phase::Gone);
                    let well = well.filter(|_| status.is_none());
                    let now = || stack.as_ref().map_or("DELETE_COMPLETE", |stack| stack.status.as_str());
                    let status = status.unwrap_or_else(|| now().to_owned());
                    return Followed::Still(Box::new(Still { stack, status, well, events: seen }));
                }
                Next::NeverBegan => return Followed::NeverBegan { why: asked.err() },
                Next::LeftRunning => {
                    let unknown = || CloudError::Unreachable {
                        doing: format!("following stack `{}`", self.cloud_name),
                        reason: "no answer".to_owned(),
                    };
                    return Followed::LeftRunning(Left::Unanswered(last.unwrap_or_else(unknown)));
                }
                Next::AskAgain => {
                    // Its answer does not matter: the next round shows the outcome.
                    if let (Err(error), Ok(())) = (self.ask(ask).await, &asked) {
                        asked = Err(error);
                    }
                }
                Next::Withdraw => {
                    if let Ask::Execute(id) = ask {
                        withdrawn = self.cloud.delete_change_set(id).await.is_ok();
                    }
                    if withdrawn {
                        continue;
                    }
                }
                Next::Look => {}
            }
            if !self.pace.wait(stop).await {
                return Followed::LeftRunning(Left::Stopped);
            }
        }
    }

    /// Asks once.
    async fn round(&self, follow: &Follow, ask: Ask<'_>, withdrawn: bool) -> Round {
        if withdrawn {
            let (stack, news, complete, error) = (None, Vec::new(), true, None);
            return Round { heard: Heard::Withdrawn, stack, news, complete, error };
        }
        // The stack first: when it is at rest, everything that happened is among its events.
        let stack = self.cloud.stack(&self.id).await;
        let events = match stack {
            Ok(_) => self.cloud.events(&self.id, &self.mark).await,
            Err(_) => Ok(Vec::new()),
        };
        let (news, complete) = match events {
            Ok(news) => (news, true),
            // Between a deletion's end and the next question, the stack's name is gone.
            Err(_) => (Vec::new(), matches!(stack, Ok(None))),
        };
        let silence = |error: CloudError, news: Vec<ResourceEvent>| Round {
            heard: Heard::Silence { denied: is_denied(&error) },
            stack: None,
            news,
            complete: false,
            error: Some(error),
        };
        let stack = match stack {
            Ok(stack) => stack,
            Err(error) => return silence(error, news),
        };
        let standing = stack.as_ref().map(Standing::of);
        let execution = match ask {
            Ask::Execute(id) if follow.asks_execution(standing.as_ref()) => {
                match self.cloud.execution(id).await {
                    Ok(execution) => Some(execution),
                    // Rights may be missing for this one question.
                    Err(CloudError::Denied { .. }) => Some(Execution::Unknown),
                    Err(error) => return silence(error, news),
                }
            }
            _ => None,
        };
        let own = news.iter().filter(|event| event.is_of_stack(&self.cloud_name));
        let own = own.map(|event| event.status.clone()).collect();
        Round { heard: Heard::Answer { stack: standing, own, execution }, stack, news, complete, error: None }
    }

    fn emit(&self, event: &ResourceEvent) {
        self.events.emit(EventKind::Stack(StackEvent::Resource {
            stack: self.name.clone(),
            resource: event.resource.clone(),
            resource_type: event.resource_type.clone(),
            status: event.status.clone(),
            reason: event.reason.clone(),
        }));
    }
}

/// Whether CloudFormation may have done what it was asked for, although this came back.
fn is_lost(error: &CloudError) -> bool {
    error.is_passing() || matches!(error, CloudError::Incomplete { .. } | CloudError::Strange { .. })
}

/// Whether the same credentials are refused for as long as nobody does anything.
fn is_denied(error: &CloudError) -> bool {
    matches!(
        error,
        CloudError::Denied { .. }
            | CloudError::NoCredentials { .. }
            | CloudError::Expired { .. }
            | CloudError::WrongCredentials { .. }
    )
}

/// Repeats `call` while it is not answered, for at most `limit`.
///
/// # Errors
/// With the last error; the first one that is an answer ends the repetitions.
pub async fn insist<T, F>(
    limit: Duration,
    stop: &CancellationToken,
    mut call: impl FnMut() -> F,
) -> Result<T, CloudError>
where
    F: Future<Output = Result<T, CloudError>>,
{
    let begun = Instant::now();
    loop {
        match call().await {
            Err(error) if is_lost(&error) && begun.elapsed() < limit => {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = stop.cancelled() => return Err(error),
                }
            }
            answer => return answer,
        }
    }
}

/// Waits until a change set is computed; `None` when a signal came first. Questions that nobody answers are
/// repeated for `limit`.
///
/// # Errors
/// When the cloud can't be asked.
pub async fn computed(
    cloud: &dyn Cloud,
    id: &ChangeSetId,
    mut pace: Pace,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<Option<ChangeSet>, CloudError> {
    loop {
        // A question that gets no answer does not hold up a signal.
        let change_set = tokio::select! {
            change_set = insist(limit, stop, || cloud.change_set(id)) => change_set?,
            () = stop.cancelled() => return Ok(None),
        };
        if change_set.state != ChangeSetState::Computing {
            return Ok(Some(change_set));
        }
        if !pace.wait(stop).await {
            return Ok(None);
        }
    }
}
