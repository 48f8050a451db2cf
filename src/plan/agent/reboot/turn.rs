//! One machine's reboot, as its agent goes through it.
//!
//! What must survive the agent is the cluster's: the mark at the machine's node, with the
//! boot that is to end. An agent that starts asks for the mark first; so it may be killed
//! anywhere, and so may the machine.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::name::BootId;
use crate::model::reboot::{Answer, Mark};

/// How long a machine may take to become empty, from the moment it got leave.
pub const EMPTYING: TimeDelta = TimeDelta::minutes(10);
/// How long the word that a machine may go counts: one that was frozen meanwhile asks again.
const CLEARED: TimeDelta = TimeDelta::seconds(30);
/// How long a machine may take to go down.
const GOING: TimeDelta = TimeDelta::minutes(5);

/// What an agent sees of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The time.
    pub now: DateTime<Utc>,
    /// Whether something on the machine asks for a reboot.
    pub wanted: bool,
    /// When the maintenance window opened, if it is open.
    pub opened: Option<DateTime<Utc>>,
}

/// What an agent does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask the cluster what it knows of an earlier reboot.
    Look,
    /// Ask for leave, or whether it still counts.
    Ask,
    /// Move everything off the machine.
    Empty,
    /// Reboot.
    Reboot,
    /// Give leave back, for that reason.
    GiveBack(Reason),
    /// Nothing.
    Rest,
}

/// Why leave is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The machine has rebooted.
    Rebooted,
    /// Nothing asks for a reboot any more.
    NotWanted,
    /// The window has closed.
    Closed,
    /// The machine can't be emptied.
    Refused,
    /// It did not become empty in time.
    TooSlow,
    /// Leave was given so long ago that it counts no more.
    Lapsed,
    /// It was told to reboot, and still runs.
    StillUp,
}

impl Reason {
    /// The words for the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::Rebooted => "the machine has rebooted",
            Self::NotWanted => "nothing asks for a reboot any more",
            Self::Closed => "the window has closed",
            Self::Refused => "the machine can't be emptied; it is tried again in the next window",
            Self::TooSlow => {
                "the machine did not become empty in 10 minutes; it is tried again in the next window"
            }
            Self::Lapsed => "its leave was given too long ago; it asks again",
            Self::StillUp => "the machine was told to reboot and still runs; see `journalctl -b`",
        }
    }
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What the cluster knows.
    Looked(Option<Mark>),
    /// What it answered.
    Answered(Answer),
    /// The machine runs nothing.
    Emptied,
    /// It can't be emptied.
    NotEmptied,
    /// Its init was told to reboot.
    Told,
    /// It could not be told.
    NotTold,
    /// The leave is given back.
    GivenBack,
}

/// How far the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// It is not known whether it had leave.
    #[default]
    Unknown,
    /// It has none.
    Apart,
    /// It has had leave since then, and must ask whether that counts.
    Had(DateTime<Utc>),
    /// It has leave, and is to become empty.
    Emptying(DateTime<Utc>),
    /// It is empty, and must ask once more.
    Empty(DateTime<Utc>),
    /// It may go, as it heard then.
    Cleared { since: DateTime<Utc>, heard: DateTime<Utc> },
    /// It was told to, then.
    Going(DateTime<Utc>),
    /// Its leave is to be given back.
    Back(Reason),
}

/// The turn of one machine.
#[derive(Debug, Clone)]
pub struct Turn {
    boot: BootId,
    stage: Stage,
    /// The opening of the window in which it had its turn, however that ended.
    had: Option<DateTime<Utc>>,
}

impl Turn {
    /// The turn of a machine in that boot, of which nothing is known.
    pub fn new(boot: BootId) -> Self {
        Self { boot, stage: Stage::Unknown, had: None }
    }

    /// Whether the machine has not asked yet, so that what is under way elsewhere is to be seen first.
    pub fn is_apart(&self) -> bool {
        self.stage == Stage::Apart
    }

    /// What to do now.
    pub fn next(&mut self, seen: Seen) -> Step {
        if let Stage::Cleared { since, heard } = self.stage
            && seen.now - heard > CLEARED
        {
            self.stage = Stage::Had(since);
        }
        if let Stage::Had(since) | Stage::Emptying(since) | Stage::Empty(since) = self.stage
            && seen.now - since > EMPTYING
        {
            self.stage = Stage::Back(Reason::TooSlow);
        }
        if let Stage::Had(_) | Stage::Emptying(_) | Stage::Empty(_) | Stage::Cleared { .. } = self.stage {
            if !seen.wanted {
                self.stage = Stage::Back(Reason::NotWanted);
            } else if seen.opened.is_none() {
                self.stage = Stage::Back(Reason::Closed);
            }
        }
        if let Stage::Going(at) = self.stage
            && seen.now - at > GOING
        {
            self.stage = Stage::Back(Reason::StillUp);
        }
        match self.stage {
            Stage::Unknown => Step::Look,
            Stage::Apart if seen.wanted && seen.opened.is_some() && seen.opened != self.had => Step::Ask,
            Stage::Apart | Stage::Going(_) => Step::Rest,
            Stage::Had(_) | Stage::Empty(_) => Step::Ask,
            Stage::Emptying(_) => Step::Empty,
            Stage::Cleared { .. } => Step::Reboot,
            Stage::Back(reason) => Step::GiveBack(reason),
        }
    }

    /// Takes in what came of a step.
    pub fn took(&mut self, outcome: &Outcome, seen: Seen) {
        self.stage = match (outcome, self.stage) {
            (Outcome::Looked(None), _) => Stage::Apart,
            (Outcome::Looked(Some(mark)), _) if mark.boot == self.boot => Stage::Had(time(mark.since, seen)),
            (Outcome::Looked(Some(_)), _) => Stage::Back(Reason::Rebooted),
            (Outcome::Answered(Answer::Granted { since, alone }), stage) => {
                let since = time(*since, seen);
                // Alone, there is nowhere to go to with what runs here: it stops and starts with
                // the machine.
                if *alone || matches!(stage, Stage::Empty(_)) {
                    Stage::Cleared { since, heard: seen.now }
                } else {
                    Stage::Emptying(since)
                }
            }
            (Outcome::Answered(Answer::Wait { .. }), stage) => stage,
            (Outcome::Answered(Answer::Lapsed), _) => Stage::Back(Reason::Lapsed),
            (Outcome::Emptied, Stage::Emptying(since)) => Stage::Empty(since),
            (Outcome::NotEmptied, _) => Stage::Back(Reason::Refused),
            (Outcome::Told, _) => Stage::Going(seen.now),
            (Outcome::NotTold, _) => Stage::Back(Reason::StillUp),
            // Nothing came of that one.
            (Outcome::GivenBack, Stage::Back(Reason::Lapsed)) => Stage::Apart,
            (Outcome::GivenBack, _) => {
                // Whatever came of it, once in a window is enough: a flag that nothing takes away
                // must not have the machine reboot again and again.
                self.had = seen.opened;
                Stage::Apart
            }
            (Outcome::Emptied, stage) => stage,
        };
    }
}

fn time(seconds: i64, seen: Seen) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or(seen.now)
}
