//! Whether CloudFormation has begun what it was asked for, is at work on it, or is done with it.
//!
//! Answers may be lost, late, repeated or old, and most of what they hold is optional in AWS's documentation.
//! So no single field decides that work began or ended: each of them is evidence, and what is not
//! known is never taken for a failure. The simulation beside this module checks that.

use std::time::Duration;

use crate::model::deployed::{DeployedStack, Execution, Phase};

/// For how long CloudFormation may be unreachable before the following ends.
pub const SILENCE: Duration = Duration::from_secs(10 * 60);
/// The same where it refuses to answer these credentials: waiting longer seldom helps.
pub const DENIED: Duration = Duration::from_secs(60);
/// For how long work may show no sign of having begun.
const BEGINS: Duration = Duration::from_secs(60);
/// The same for work that CloudFormation refused to begin.
const REFUSED_BEGINS: Duration = Duration::from_secs(3);
/// How long to wait before it is asked for again.
const AGAIN: Duration = Duration::from_secs(15);
/// How many answers in a row must agree where one of them may be old.
const AGREEING: u32 = 5;
/// For how long they must agree.
const AGREEING_FOR: Duration = Duration::from_secs(6);
/// How many answers in a row must say that a stack is gone that nobody asked to delete.
const GONE: u32 = 3;

/// What was asked of CloudFormation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: somebody else's work is watched.
    Nothing,
    /// To execute a change set.
    Execution,
    /// To delete the stack.
    Deletion,
    /// Something that must not be asked for twice without a decision.
    Once,
}

/// How the request itself was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It was accepted.
    Accepted,
    /// It was refused; an earlier attempt whose answer was lost may have been accepted all the same.
    Refused,
    /// Its answer was lost.
    Lost,
}

/// A stack as one answer shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it can be asked for.
    pub phase: Phase,
    /// CloudFormation's status.
    pub status: String,
    /// When it last changed, where that is known, as something that differs for each change.
    pub updated: Option<i64>,
    /// The change set it was last changed by, where that is known.
    pub change_set: Option<String>,
}

impl Standing {
    /// The standing of a stack.
    pub fn of(stack: &DeployedStack) -> Self {
        Self {
            phase: stack.phase(),
            status: stack.status.clone(),
            updated: stack.updated.map(|at| at.timestamp_micros()),
            change_set: stack.change_set.clone(),
        }
    }

    fn is_working(&self) -> bool {
        self.phase == Phase::Busy
    }

    /// Whether this must be a later state than `before`: an old answer can't differ in these.
    fn is_later_than(&self, before: &Self) -> bool {
        let differs = |a: Option<&str>, b: Option<&str>| a.is_some() && a != b;
        self.status != before.status
            || (self.updated.is_some() && self.updated != before.updated)
            || differs(self.change_set.as_deref(), before.change_set.as_deref())
    }
}

/// The result of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Answer {
        /// The stack; `None` when CloudFormation says that it does not exist.
        stack: Option<Standing>,
        /// The statuses that events of the stack itself report since the request, oldest first.
        own: Vec<String>,
        /// How far the change set's execution is, where [`Follow::asks_execution`] needs it.
        execution: Option<Execution>,
    },
    /// None.
    Silence {
        /// Whether these credentials were refused.
        denied: bool,
    },
    /// The change set was deleted, so it can't be executed any more.
    Withdrawn,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ask again after a pause.
    Look,
    /// Repeat the request: it was accepted, and nothing shows that it had an effect.
    AskAgain,
    /// Delete the change set, so that it can't begin after it was given up.
    Withdraw,
    /// The stack is at rest again.
    Ended {
        /// The status that the work ended in, where the stack's own status may belong to later work.
        status: Option<String>,
        /// Whether executing the change set went well, where CloudFormation reports that.
        well: Option<bool>,
    },
    /// The work never began and, as far as is known, can no longer begin.
    NeverBegan,
    /// CloudFormation has not answered for too long; the work may go on.
    LeftRunning,
}

/// Work that is followed. Times are counted from any fixed point.
#[derive(Debug)]
pub struct Follow {
    asked: Asked,
    /// The change set, where one is executed.
    change_set: Option<String>,
    reply: Reply,
    before: Option<Standing>,
    began_at: Duration,
    asked_at: Duration,
    silent_since: Option<Duration>,
    only_denied: bool,
    /// Whether anything shows that the work began.
    started: bool,
    /// The status in which the first piece of work since the request ended.
    own_end: Option<String>,
    execution: Option<Execution>,
    quiet: u32,
    calm: u32,
    calm_since: Option<Duration>,
    gone: u32,
    withdrawn: bool,
}

impl Follow {
    /// Follows what was asked at `now` of a stack that was `before`; `None` where it did not exist.
    pub fn new(asked: Asked, reply: Reply, before: Option<Standing>, now: Duration) -> Self {
        Self {
            asked,
            change_set: None,
            reply,
            before,
            began_at: now,
            asked_at: now,
            silent_since: None,
            only_denied: true,
            started: asked == Asked::Nothing,
            own_end: None,
            execution: None,
            quiet: 0,
            calm: 0,
            calm_since: None,
            gone: 0,
            withdrawn: false,
        }
    }

    /// The same for the execution of the change set with this id.
    pub fn execution(change_set: &str, reply: Reply, before: Option<Standing>, now: Duration) -> Self {
        let change_set = Some(change_set.to_owned());
        Self { change_set, ..Self::new(Asked::Execution, reply, before, now) }
    }

    /// Whether anything shows that the work began.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Whether to ask how far the change set's execution is, for a stack that stands like this: whoever
    /// else works on it, that alone is about the work that was asked for.
    pub fn asks_execution(&self, stack: Option<&Standing>) -> bool {
        self.asked == Asked::Execution && !stack.is_some_and(Standing::is_working)
    }

    /// Decides what to do at `now`, after `heard`.
    pub fn handle(&mut self, now: Duration, heard: Heard) -> Next {
        match heard {
            Heard::Silence { denied } => self.silence(now, denied),
            Heard::Withdrawn => {
                (self.withdrawn, self.quiet) = (true, 0);
                self.execution = Some(Execution::Missing);
                Next::Look
            }
            Heard::Answer { stack, own, execution } => {
                (self.silent_since, self.only_denied) = (None, true);
                self.answer(now, stack, &own, execution)
            }
        }
    }

    fn silence(&mut self, now: Duration, denied: bool) -> Next {
        let since = *self.silent_since.get_or_insert(now);
        self.only_denied &= denied;
        // Answers count as agreeing only without a gap between them.
        (self.calm, self.calm_since, self.gone) = (0, None, 0);
        let limit = if self.only_denied { DENIED } else { SILENCE };
        if now.saturating_sub(since) >= limit { Next::LeftRunning } else { Next::Look }
    }

    fn answer(
        &mut self,
        now: Duration,
        stack: Option<Standing>,
        own: &[String],
        execution: Option<Execution>,
    ) -> Next {
        self.take_evidence(stack.as_ref(), own, execution);
        let Some(stack) = stack else { return self.is_gone() };
        self.gone = 0;
        if stack.phase == Phase::Gone {
            return Next::Ended { status: None, well: None };
        }
        if self.asked == Asked::Nothing {
            let still = Next::Ended { status: None, well: None };
            return if stack.is_working() { Next::Look } else { still };
        }
        if !self.started || (!stack.is_working() && self.is_of_somebody_else(&stack)) {
            return self.not_begun(now);
        }
        self.quiet = 0;
        if stack.is_working() || stack.phase == Phase::InReview {
            (self.calm, self.calm_since) = (0, None);
            return Next::Look;
        }
        self.calm += 1;
        let since = *self.calm_since.get_or_insert(now);
        let agreed = self.calm >= AGREEING && now.saturating_sub(since) >= AGREEING_FOR;
        let later = self.before.as_ref().is_none_or(|before| stack.is_later_than(before));
        let failed = self.execution == Some(Execution::Failed);
        let ended = match &self.own_end {
            Some(own) if *own == stack.status => later || agreed,
            // Either an old answer, or later work of somebody else.
            Some(_) => agreed,
            // Where executing failed, a rollback may be about to begin.
            None => (later && !(failed && stack.status == self.status_before())) || agreed,
        };
        let well = match self.execution {
            Some(Execution::Done) => Some(true),
            Some(Execution::Failed) => Some(false),
            _ => None,
        };
        if ended { Next::Ended { status: self.own_end.clone(), well } } else { Next::Look }
    }

    /// Whether what happened to the stack was not the execution that was asked for.
    fn is_of_somebody_else(&self, stack: &Standing) -> bool {
        let ours = self.change_set.is_some() && self.change_set == stack.change_set;
        let is_waiting = match self.execution {
            Some(Execution::Waiting | Execution::Obsolete) => true,
            Some(Execution::Missing) => self.withdrawn,
            _ => false,
        };
        is_waiting && !(ours && stack.phase != Phase::InReview)
    }

    fn status_before(&self) -> &str {
        self.before.as_ref().map_or("", |before| before.status.as_str())
    }

    fn take_evidence(&mut self, stack: Option<&Standing>, own: &[String], execution: Option<Execution>) {
        for status in own {
            self.started = true;
            // The status of an event is optional.
            let is_end = !status.is_empty() && !status.ends_with("_IN_PROGRESS");
            if is_end && self.own_end.is_none() {
                self.own_end = Some(status.clone());
            }
        }
        if let Some(execution) = execution {
            self.execution = Some(execution);
            self.started |= matches!(execution, Execution::Running | Execution::Done | Execution::Failed);
        }
        if let (Some(stack), Some(before)) = (stack, &self.before) {
            let same_review = stack.phase == Phase::InReview && before.phase == Phase::InReview;
            self.started |= !same_review && (stack.is_working() || stack.is_later_than(before));
        } else if let Some(stack) = stack {
            self.started |= stack.phase != Phase::InReview;
        }
    }

    fn is_gone(&mut self) -> Next {
        self.gone += 1;
        if self.asked == Asked::Deletion || self.asked == Asked::Nothing || self.gone >= GONE {
            return Next::Ended { status: None, well: None };
        }
        Next::Look
    }

    /// CloudFormation answers, and nothing shows that the work began.
    fn not_begun(&mut self, now: Duration) -> Next {
        self.quiet += 1;
        let waited = now.saturating_sub(self.began_at);
        let enough = match (self.reply, self.execution) {
            // Somebody else's change came in between, so it can never be executed.
            (_, Some(Execution::Obsolete)) => Duration::ZERO,
            (Reply::Refused, _) => REFUSED_BEGINS,
            (Reply::Accepted | Reply::Lost, _) => BEGINS,
        };
        let agreeing = if self.withdrawn || enough == Duration::ZERO { 2 } else { AGREEING };
        let settled = self.quiet >= agreeing;
        // A request may arrive long after it was sent.
        let arrived = self.reply == Reply::Refused || now.saturating_sub(self.asked_at) >= AGAIN;
        if waited >= enough && settled && (arrived || self.asked == Asked::Execution) {
            if self.asked == Asked::Execution && !self.withdrawn && self.may_still_begin() {
                return Next::Withdraw;
            }
            return Next::NeverBegan;
        }
        let again = now.saturating_sub(self.asked_at) >= AGAIN && self.quiet >= 3;
        let can_repeat = match self.asked {
            Asked::Execution => self.execution == Some(Execution::Waiting),
            Asked::Deletion => true,
            Asked::Nothing | Asked::Once => false,
        };
        if again && can_repeat && self.reply != Reply::Refused && !self.withdrawn {
            self.asked_at = now;
            return Next::AskAgain;
        }
        Next::Look
    }

    fn may_still_begin(&self) -> bool {
        !matches!(self.execution, Some(Execution::Missing))
    }
}

#[cfg(test)]
mod simulation;
