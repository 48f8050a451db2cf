//! The stacks of an environment, as `serve` shows them: listed while somebody views them, and checked for drift when
//! somebody asks. Nothing is changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, watch};

use crate::model::deployed::DeployedStack;
use crate::model::group::Group;
use crate::model::name::StackName;
use crate::plan::drift::DriftReport;

/// How old a list may be before it is read again for whoever views it.
const FRESH: TimeDelta = TimeDelta::seconds(15);
/// How long a viewer waits for the first list.
const FIRST: Duration = Duration::from_secs(4);

/// Why stacks can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unread {
    /// What happened.
    pub reason: String,
    /// What to do.
    pub next: String,
}

/// A stack of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackNow {
    /// Its name in the repository; `None` for one that the repository no longer has.
    pub name: Option<StackName>,
    /// Its name in CloudFormation.
    pub cloud_name: String,
    /// How it is deployed; `None` where it does not exist.
    pub deployed: Option<DeployedStack>,
    /// Its autoscaling group, if it has one.
    pub group: Option<Group>,
    /// Whose stack has its name, where it is not this environment's.
    pub not_ours: Option<String>,
}

/// Reads stacks. Each call reads the repository as it is then. Its futures stay in one task, as those of commands do.
#[async_trait(?Send)]
pub trait ReadStacks: Send + Sync {
    /// The stacks of the environment, each after those that it depends on.
    ///
    /// # Errors
    /// When the repository is not valid, or AWS can't be asked.
    async fn stacks(&self) -> Result<Vec<StackNow>, Unread>;

    /// Checks all of them for drift.
    ///
    /// # Errors
    /// When the repository is not valid, or AWS can't be asked.
    async fn drift(&self) -> Result<DriftReport, Unread>;
}

/// A list of stacks.
#[derive(Debug, Clone)]
pub struct Listed {
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The stacks.
    pub result: Result<Vec<StackNow>, Unread>,
}

/// A check for drift that has ended.
#[derive(Debug, Clone)]
pub struct Checked {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Who asked for it, after "asked for".
    pub by: String,
    /// What it found.
    pub result: Result<DriftReport, Unread>,
}

/// What is known of the stacks.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// The last list.
    pub listed: Option<Listed>,
    /// Since when drift is being checked, and who asked for it.
    pub checking: Option<(DateTime<Utc>, String)>,
    /// The last check.
    pub checked: Option<Checked>,
}

/// What is known of the stacks, and what is asked for.
pub struct StackBoard {
    reader: Arc<dyn ReadStacks>,
    board: watch::Sender<Board>,
    list: Notify,
    check: Notify,
}

impl StackBoard {
    /// Nothing is known yet.
    pub fn new(reader: Arc<dyn ReadStacks>) -> Self {
        Self { reader, board: watch::Sender::default(), list: Notify::new(), check: Notify::new() }
    }

    /// What is known now; asks for nothing.
    pub fn seen(&self) -> Board {
        self.board.borrow().clone()
    }

    /// What is known; an old list is read again in the background, and the first one is waited for a moment.
    pub async fn viewed(&self) -> Board {
        let listed = self.board.borrow().listed.as_ref().map(|listed| listed.at);
        if listed.is_none_or(|at| Utc::now() - at > FRESH) {
            self.list.notify_one();
        }
        if listed.is_none() {
            let mut changes = self.board.subscribe();
            let first = changes.wait_for(|board| board.listed.is_some());
            // Whoever waits longer loads the page again.
            drop(tokio::time::timeout(FIRST, first).await);
        }
        self.seen()
    }

    /// Asks for a check of drift; false when one is under way.
    pub fn check(&self, by: &str) -> bool {
        let begins = self.board.send_if_modified(|board| {
            let is_free = board.checking.is_none();
            if is_free {
                board.checking = Some((Utc::now(), by.to_owned()));
            }
            is_free
        });
        if begins {
            self.check.notify_one();
        }
        begins
    }

    /// Does what is asked for, for ever.
    pub async fn work(&self) -> Infallible {
        let (never, _) = tokio::join!(self.list_again(), self.check_again());
        never
    }

    async fn list_again(&self) -> Infallible {
        loop {
            self.list.notified().await;
            let result = self.reader.stacks().await;
            self.board.send_modify(|board| board.listed = Some(Listed { at: Utc::now(), result }));
        }
    }

    async fn check_again(&self) -> Infallible {
        loop {
            self.check.notified().await;
            let result = self.reader.drift().await;
            self.board.send_modify(|board| {
                let by = board.checking.take().map(|(_, by)| by).unwrap_or_default();
                board.checked = Some(Checked { at: Utc::now(), by, result });
            });
            // A resource that is gone may be a stack that is gone.
            self.list.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// AWS without credentials; a check ends when it is let.
    #[derive(Default)]
    struct Nowhere {
        lists: AtomicUsize,
        checks: AtomicUsize,
        go: Notify,
    }

    fn unread() -> Unread {
        Unread { reason: "no credentials".into(), next: "set AWS_PROFILE".into() }
    }

    #[async_trait(?Send)]
    impl ReadStacks for Nowhere {
        async fn stacks(&self) -> Result<Vec<StackNow>, Unread> {
            self.lists.fetch_add(1, Ordering::SeqCst);
            Err(unread())
        }

        async fn drift(&self) -> Result<DriftReport, Unread> {
            self.checks.fetch_add(1, Ordering::SeqCst);
            self.go.notified().await;
            Err(unread())
        }
    }

    #[tokio::test]
    async fn a_check_is_made_once_at_a_time_and_viewers_share_a_list() {
        let reader = Arc::new(Nowhere::default());
        let board = StackBoard::new(Arc::clone(&reader) as Arc<dyn ReadStacks>);
        let story = async {
            let first = board.viewed().await;
            let listed = first.listed.expect("the first list is waited for");
            assert_eq!(listed.result.expect_err("there are no credentials"), unread());
            board.viewed().await;
            board.viewed().await;
            assert_eq!(reader.lists.load(Ordering::SeqCst), 1, "it is fresh");

            assert!(board.check("by anna"));
            assert!(!board.check("by ben"), "one is under way");
            let mut changes = board.board.subscribe();
            reader.go.notify_one();
            let ended = changes.wait_for(|board| board.checked.is_some()).await.expect("it ends").clone();
            assert_eq!(ended.checked.map(|checked| checked.by).as_deref(), Some("by anna"));
            assert!(ended.checking.is_none());
            assert!(board.check("by ben"));
        };
        tokio::select! {
            () = story => {}
            never = board.work() => match never {},
        }
        assert_eq!(reader.checks.load(Ordering::SeqCst), 1);
    }
}
