//! Whether an attempt may execute its command.
//!
//! The control machine asks before it creates the permit and again after it: what it saw before may
//! have changed meanwhile. Of two occurrences of a job, or two revisions of a service, whose permits were
//! created at the same time, at least one is seen by the other, and gives its permit back; both may, and
//! then they begin again in order.

use chrono::{DateTime, Utc};

use crate::model::job::Kind;
use crate::model::occurrence::{Attempt, Claimed, Permit};

/// Why an attempt may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such occurrence, or its outcome is recorded.
    #[error("this occurrence is over")]
    Over,
    /// The permit of the attempt is taken.
    #[error("this attempt was permitted before, or withdrawn")]
    Taken,
    /// It is not the attempt whose turn it is.
    #[error("this is not the attempt whose turn it is")]
    NotNext,
    /// A later version claimed it.
    #[error("this control machine can't read the occurrence")]
    Unreadable,
    /// Another occurrence of the job, or another revision's of the service, runs.
    #[error("another occurrence of the same name runs")]
    Another,
}

/// Whether the permit of an attempt may be created. `recorded` is when the job's records begin.
///
/// # Errors
/// Why not.
pub fn before(one: Option<&Claimed>, attempt: u32, recorded: Option<DateTime<Utc>>) -> Result<(), Refusal> {
    let one = open(one, recorded)?;
    if one.rules.is_none() {
        return Err(Refusal::Unreadable);
    }
    match one.attempts.iter().find(|known| known.number == attempt) {
        Some(known) if known.permit != Permit::Free => return Err(Refusal::Taken),
        Some(_) | None => {}
    }
    let earlier = |known: &&Attempt| known.number < attempt;
    let closed = |permit: &Permit| match permit {
        Permit::Free => false,
        Permit::Void { .. } => true,
        Permit::Held { end, .. } => end.is_some(),
    };
    let closed_before = one.attempts.iter().filter(earlier).filter(|known| closed(&known.permit)).count();
    let later = one.attempts.iter().any(|known| known.number > attempt);
    if later || closed_before + 1 != attempt as usize { Err(Refusal::NotNext) } else { Ok(()) }
}

/// Whether an attempt may run whose permit was created. `rivals` are the permits of the other
/// occurrences of the same job.
///
/// # Errors
/// Why not; the permit is void then.
pub fn after<'c>(
    one: Option<&Claimed>,
    recorded: Option<DateTime<Utc>>,
    mut rivals: impl Iterator<Item = &'c Permit>,
) -> Result<(), Refusal> {
    let one = open(one, recorded)?;
    let runs = |permit: &Permit| matches!(permit, Permit::Held { end: None, .. });
    let alone = match one.id.kind {
        Kind::Job | Kind::Before => true,
        Kind::Command => false,
    };
    if alone && rivals.any(runs) { Err(Refusal::Another) } else { Ok(()) }
}

fn open(one: Option<&Claimed>, recorded: Option<DateTime<Utc>>) -> Result<&Claimed, Refusal> {
    let one = one.filter(|one| one.outcome.is_none()).ok_or(Refusal::Over)?;
    if !one.wanted {
        return Err(Refusal::Over);
    }
    let forgotten = one.id.is_due() && recorded.is_some_and(|recorded| one.at <= recorded);
    if forgotten { Err(Refusal::Over) } else { Ok(one) }
}
