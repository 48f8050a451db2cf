//! Following CloudFormation's work on a stack: its events as they come, until it stands still.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::event::stack::StackEvent;
use crate::event::{EventKind, Events};
use crate::model::deployed::{ChangeSet, ChangeSetId, ChangeSetState, DeployedStack, Phase, ResourceEvent};
use crate::port::cloud::{Cloud, CloudError};

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

/// A stack that stands still again.
#[derive(Debug)]
pub struct Still {
    /// The stack; `None` when it is gone.
    pub stack: Option<DeployedStack>,
    /// What happened to it meanwhile, oldest first.
    pub events: Vec<ResourceEvent>,
}

/// A stack whose work is followed.
pub struct Follower {
    /// CloudFormation.
    pub cloud: Arc<dyn Cloud>,
    /// Where its events go.
    pub events: Events,
    /// The stack as the repository names it.
    pub name: String,
    /// Its name in CloudFormation.
    pub cloud_name: String,
    /// Its id, or its name where that is not known.
    pub id: String,
    /// The last event that is not news.
    pub after: Option<String>,
    /// How often is asked.
    pub pace: Pace,
}

impl Follower {
    /// Follows until the stack stands still; `None` when a signal came first. With `begun`, work was asked for just now:
    /// the stack's status may not show it yet, so only its own event ends the following.
    ///
    /// # Errors
    /// When the cloud can't be asked.
    pub async fn follow(
        mut self,
        begun: bool,
        stop: &CancellationToken,
    ) -> Result<Option<Still>, CloudError> {
        let mut seen: Vec<ResourceEvent> = Vec::new();
        // A provider that reports no events of the stack itself is believed after a while.
        let mut still_for = 0;
        loop {
            let news = match self.cloud.events(&self.id, self.after.as_deref()).await {
                Ok(news) => news,
                // Between a deletion's end and the next question, the stack's name is gone.
                Err(CloudError::Refused { .. }) if self.cloud.stack(&self.id).await?.is_none() => Vec::new(),
                Err(error) => return Err(error),
            };
            if let Some(last) = news.last() {
                self.after = Some(last.id.clone());
                self.pace.quicken();
            }
            let mut ended = !begun;
            for event in news {
                self.emit(&event);
                ended |= self.is_end(&event);
                seen.push(event);
            }
            let ended = ended || seen.iter().any(|event| self.is_end(event));
            let stack = self.cloud.stack(&self.id).await?;
            let still = match stack.as_ref().map(DeployedStack::phase) {
                None | Some(Phase::Gone) => true,
                Some(Phase::Busy) => {
                    still_for = 0;
                    false
                }
                Some(Phase::InReview) => !begun,
                Some(Phase::Settled | Phase::FailedCreate | Phase::Stuck) => true,
            };
            if still {
                still_for += 1;
                if ended || still_for >= 10 {
                    let stack = stack.filter(|stack| stack.phase() != Phase::Gone);
                    return Ok(Some(Still { stack, events: seen }));
                }
            }
            if !self.pace.wait(stop).await {
                return Ok(None);
            }
        }
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

    fn is_end(&self, event: &ResourceEvent) -> bool {
        event.resource == self.cloud_name && !event.status.ends_with("_IN_PROGRESS")
    }
}

/// Waits until a change set is computed; `None` when a signal came first.
///
/// # Errors
/// When the cloud can't be asked.
pub async fn computed(
    cloud: &dyn Cloud,
    id: &ChangeSetId,
    mut pace: Pace,
    stop: &CancellationToken,
) -> Result<Option<ChangeSet>, CloudError> {
    loop {
        // A question that gets no answer does not hold up a signal.
        let change_set = tokio::select! {
            change_set = cloud.change_set(id) => change_set?,
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
