//! Claiming a lock and keeping it, as two state machines without I/O.
//!
//! Nothing here compares the clocks of two machines. Durations are readings of one machine's
//! boot clock, which also runs while the machine is suspended:
//!
//! - A holder believes in its lock until a term, less a guard, after the moment at which it
//!   *sent* the last write that succeeded.
//! - A claimer takes a lock over only when it saw the same writing of it a term and a margin
//!   ago. That writing was sent before it was seen, so its holder has stopped believing.
//!
//! Guard and margin cover clocks that run at different speeds. The date is used in one
//! direction only: a lock that looks fresh is refused at once, which is always safe. A write whose
//! answer was lost is read back: every write carries its holder's id and a count, which tell whether
//! it succeeded, and which one did.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{SKEW, Verdict, verdict};
use crate::model::lock::LockRecord;

/// What a process reads from its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The time since its machine was started, suspensions included.
    pub boot: Duration,
    /// The date.
    pub date: DateTime<Utc>,
}

/// The times of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// For how long a lock is taken at a time.
    pub term: Duration,
    /// How much earlier its holder stops believing in it.
    pub guard: Duration,
    /// How long others watch one writing of it before they take it over.
    pub watch: Duration,
}

impl Pace {
    /// Good for clocks whose speeds differ by less than a tenth.
    pub fn of(term: Duration) -> Self {
        Self { term, guard: term / 6, watch: term + term / 6 }
    }
}

/// The outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was done; this is its tag.
    Done(String),
    /// Its condition did not hold.
    Refused,
    /// Unknown: there was no answer.
    Unknown,
}

/// A lock as it was read, with its tag.
pub type Found = Option<(LockRecord, String)>;

/// What a claimer does next.
#[derive(Debug, PartialEq, Eq)]
pub enum ClaimStep {
    /// Write this if the lock has this tag, or if there is none; then [`Claim::written`].
    Write(Box<LockRecord>, Option<String>),
    /// Read the lock; then [`Claim::read`].
    Read,
    /// Wait for this long, then read the lock.
    Watch(Duration),
    /// Somebody holds it.
    Held(Box<LockRecord>),
    /// It is ours.
    Taken(Box<Lease>),
}

/// A process that wants the lock.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    record: LockRecord,
    pace: Pace,
    /// When each write was sent, by its count from 1.
    sent: Vec<Duration>,
    /// The writing that is watched, and since when.
    watched: Option<(String, Duration)>,
}

impl Claim {
    /// A claim by the process that `record` names, whose id nobody else has or had.
    pub fn new(record: LockRecord, pace: Pace) -> Self {
        Self { record, pace, sent: Vec::new(), watched: None }
    }

    /// The first step.
    pub fn begin(&mut self, now: Now) -> ClaimStep {
        self.write(now, None)
    }

    fn write(&mut self, now: Now, only: Option<String>) -> ClaimStep {
        self.sent.push(now.boot);
        let record = written_at(&self.record, self.sent.len() as u64, now, self.pace);
        ClaimStep::Write(Box::new(record), only)
    }

    /// Takes the outcome of the write that was sent last.
    pub fn written(&mut self, outcome: Written) -> ClaimStep {
        match (outcome, self.sent.last()) {
            (Written::Done(tag), Some(sent)) => {
                let record = LockRecord { write: self.sent.len() as u64, ..self.record.clone() };
                ClaimStep::Taken(Box::new(Lease::new(record, tag, *sent, self.pace)))
            }
            _ => ClaimStep::Read,
        }
    }

    /// Takes what was read. `lives` reports whether a process of this host that began then still runs.
    pub fn read(&mut self, now: Now, found: Found, lives: impl Fn(u32, u64) -> bool) -> ClaimStep {
        let Some((found, tag)) = found else { return self.write(now, None) };
        if found.id == self.record.id && !found.released {
            let sent =
                usize::try_from(found.write).ok().and_then(|write| self.sent.get(write.checked_sub(1)?));
            return match sent {
                Some(sent) => ClaimStep::Taken(Box::new(Lease::new(found, tag, *sent, self.pace))),
                None => ClaimStep::Held(Box::new(found)),
            };
        }
        let ahead = TimeDelta::from_std(self.pace.term).unwrap_or(TimeDelta::MAX) + SKEW;
        match verdict(&found, &self.record.host, now.date, lives) {
            Verdict::Free | Verdict::Dead => return self.write(now, Some(tag)),
            // Nobody takes a lock for longer than a term: our own clock must be behind.
            Verdict::Held if found.expires - now.date <= ahead => return ClaimStep::Held(Box::new(found)),
            Verdict::Held | Verdict::Expired => {}
        }
        match &self.watched {
            None => self.watched = Some((tag, now.boot)),
            Some((seen, since)) if *seen == tag => {
                if now.boot.saturating_sub(*since) >= self.pace.watch {
                    return self.write(now, Some(tag));
                }
            }
            // Somebody renewed it, whatever its clock says.
            Some(_) => return ClaimStep::Held(Box::new(found)),
        }
        ClaimStep::Watch(self.pace.term / 12)
    }
}

/// What a holder does next.
#[derive(Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write this if the lock has this tag; then [`Lease::written`].
    Write(Box<LockRecord>, String),
    /// Read the lock; then [`Lease::read`].
    Read,
    /// Nothing until then, by the boot clock.
    Wait(Duration),
    /// It is no longer ours, and never again.
    Lost,
}

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    record: LockRecord,
    tag: String,
    pace: Pace,
    good_until: Duration,
    renew_at: Duration,
    /// Writes whose outcome is not known yet, by count, and when they were sent.
    open: Vec<(u64, Duration)>,
    lost: bool,
}

impl Lease {
    fn new(record: LockRecord, tag: String, sent: Duration, pace: Pace) -> Self {
        let (good_until, renew_at) = (sent + (pace.term - pace.guard), sent + pace.term / 3);
        Self { record, tag, pace, good_until, renew_at, open: Vec::new(), lost: false }
    }

    /// Whether the holder may act: it has not lost the lock, and nobody else can have it yet.
    pub fn believes(&self, boot: Duration) -> bool {
        !self.lost && boot < self.good_until
    }

    /// Until when [`Lease::believes`], unless it is renewed.
    pub fn good_until(&self) -> Duration {
        self.good_until
    }

    /// What to do now.
    pub fn next(&mut self, now: Now) -> LeaseStep {
        if !self.believes(now.boot) {
            self.lost = true;
            return LeaseStep::Lost;
        }
        if now.boot < self.renew_at {
            return LeaseStep::Wait(self.renew_at.min(self.good_until));
        }
        let write = self.open.last().map_or(self.record.write, |(write, _)| *write) + 1;
        self.open.push((write, now.boot));
        LeaseStep::Write(Box::new(written_at(&self.record, write, now, self.pace)), self.tag.clone())
    }

    /// Takes the outcome of the write that was sent last.
    pub fn written(&mut self, now: Now, outcome: Written) -> LeaseStep {
        match (outcome, self.open.last().copied()) {
            (Written::Done(tag), Some((write, sent))) => {
                self.renewed(write, tag, sent);
                self.next(now)
            }
            _ => LeaseStep::Read,
        }
    }

    /// Takes what was read after a write without a known outcome; an error is what could not be read.
    pub fn read(&mut self, now: Now, found: Result<Found, ()>) -> LeaseStep {
        match found {
            Ok(Some((found, tag))) if found.id == self.record.id && !found.released => {
                match self.open.iter().find(|(write, _)| *write == found.write).copied() {
                    Some((write, sent)) => self.renewed(write, tag, sent),
                    // None of them has arrived; those that still may are refused once another has.
                    None => {
                        self.tag = tag;
                        self.renew_at = now.boot + self.pace.term / 20;
                    }
                }
            }
            Ok(_) => self.lost = true,
            Err(()) => self.renew_at = now.boot + self.pace.term / 20,
        }
        self.next(now)
    }

    fn renewed(&mut self, write: u64, tag: String, sent: Duration) {
        let last = self.open.last().map_or(write, |(write, _)| *write);
        let record = LockRecord { write, ..self.record.clone() };
        // A write that arrived before this one was not the last; counts are never given twice.
        let open = self.open.iter().filter(|(open, _)| *open > write && *open <= last).copied().collect();
        *self = Self { open, lost: self.lost, ..Self::new(record, tag, sent, self.pace) };
    }

    /// What to write, and onto which tag, to give the lock back.
    pub fn release(&self) -> (LockRecord, &str) {
        let write = self.open.last().map_or(self.record.write, |(write, _)| *write) + 1;
        (LockRecord { released: true, write, ..self.record.clone() }, &self.tag)
    }

    /// What to write instead after the first try had no known outcome and this was read; `None`
    /// when the lock is not ours any more.
    pub fn release_again(&self, found: &Found) -> Option<(LockRecord, String)> {
        let (found, tag) = found.as_ref()?;
        let ours = found.id == self.record.id && !found.released;
        ours.then(|| (self.release().0, tag.clone()))
    }
}

fn written_at(record: &LockRecord, write: u64, now: Now, pace: Pace) -> LockRecord {
    let term = TimeDelta::from_std(pace.term).unwrap_or(TimeDelta::zero());
    LockRecord { write, expires: now.date + term, ..record.clone() }
}
