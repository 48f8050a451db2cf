//! What runs have printed, read: from the logs of their steps, and from journals of versions that kept lines there.

use chrono::{DateTime, Utc};

use super::run::Parts;
use crate::event::pipeline::PipelineEvent;
use crate::model::run::RunId;
use crate::model::step_log::{Found, LineKind, LogLine, Needle, Search, StepLog};
use crate::port::journal::{Entry, JournalError, LinesEntry, Logged, Printed};

/// How many lines of old journals are read at a time.
const BATCH: u32 = 2000;

/// Which part of a run's stream is read.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    /// What comes after this number.
    pub after: i64,
    /// At most so many entries.
    pub limit: u32,
    /// The lines of this step alone; of all by default.
    pub step: Option<&'a str>,
}

/// Entries of a run's stream, with a line of a step in each where it has printed; and the number up to which all was
/// read, which may be higher than the last entry's.
///
/// # Errors
/// When the journal or a log can't be read.
pub fn entries(parts: &Parts, run: RunId, selected: Selected<'_>) -> Result<(Vec<Entry>, i64), JournalError> {
    let mut after = selected.after;
    let mut entries = Vec::new();
    for row in parts.journal.rows(run, selected.after, selected.limit)? {
        match row {
            Logged::Event(entry) => {
                after = entry.seq;
                entries.push(entry);
            }
            Logged::Lines(lines) => {
                after = lines.seq + i64::from(lines.count) - 1;
                if selected.step.is_none_or(|step| step == lines.step) {
                    expand(parts, run, &lines, &mut entries)?;
                }
            }
        }
    }
    Ok((entries, after))
}

fn expand(
    parts: &Parts,
    run: RunId,
    lines: &LinesEntry,
    entries: &mut Vec<Entry>,
) -> Result<(), JournalError> {
    let log = StepLog { run, step: lines.index };
    let known = lines.first + u64::from(lines.count) - 1;
    let mut at = DateTime::default();
    let mut number = lines.first;
    while number <= known {
        let page =
            parts.logs.page(log, known, number, usize::try_from(known + 1 - number).unwrap_or(usize::MAX))?;
        let read_to = page.last().map_or(known, |line| line.number);
        let mut page = page.into_iter().peekable();
        while number <= read_to {
            let line = page.next_if(|line| line.number == number);
            let line = line.unwrap_or_else(|| LogLine::missing(number, at));
            at = line.at;
            let event = PipelineEvent::Log { run, step: lines.step.clone(), text: line.words() };
            let event = serde_json::to_string(&event)
                .map_err(|error| JournalError::Access { doing: "reading", reason: error.to_string() })?;
            let seq = lines.seq + i64::try_from(number - lines.first).unwrap_or_default();
            entries.push(Entry { seq, at, event });
            number += 1;
        }
    }
    Ok(())
}

/// How much a step has printed.
///
/// # Errors
/// When the journal can't be read.
pub fn printed(parts: &Parts, log: StepLog) -> Result<Printed, JournalError> {
    parts.journal.printed(log)
}

/// Lines of a step from the one of that number, at most `count`, and fewer when they are long, but at least one where
/// there is one.
///
/// # Errors
/// When the journal or the log can't be read.
pub fn page(parts: &Parts, log: StepLog, from: u64, count: usize) -> Result<Vec<LogLine>, JournalError> {
    let printed = parts.journal.printed(log)?;
    page_of(parts, log, printed, from, count)
}

fn page_of(
    parts: &Parts,
    log: StepLog,
    printed: Printed,
    from: u64,
    count: usize,
) -> Result<Vec<LogLine>, JournalError> {
    let from = from.max(1);
    let mut lines = Vec::new();
    if from <= printed.old {
        let wanted = u32::try_from(count).unwrap_or(u32::MAX).min(BATCH);
        lines = parts.journal.old_lines(log, from, wanted)?;
    }
    let next = from + lines.len() as u64;
    if lines.len() < count && next > printed.old {
        let mut page = parts.logs.page(log, printed.lines, next, count - lines.len())?.into_iter().peekable();
        // What is missing leaves no gap: a page is as long as it says.
        let most = from.saturating_add(count as u64).saturating_sub(1);
        let end = page.clone().last().map_or(printed.lines.min(most), |line| line.number);
        let mut at: DateTime<Utc> = lines.last().map(|line: &LogLine| line.at).unwrap_or_default();
        for number in next..=end {
            let line = page.next_if(|line| line.number == number);
            let line = line.unwrap_or_else(|| LogLine::missing(number, at));
            at = line.at;
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Searches what a step has printed.
///
/// # Errors
/// When the journal or the log can't be read.
pub fn search(parts: &Parts, log: StepLog, search: &Search) -> Result<Found, JournalError> {
    let printed = parts.journal.printed(log)?;
    let needle = Needle::new(&search.text, search.any_case);
    let mut found = Found::default();
    let mut next = search.from.max(1);
    while next <= printed.old {
        let batch = parts.journal.old_lines(log, next, BATCH)?;
        if batch.is_empty() {
            break;
        }
        for line in batch {
            if found.lines.len() >= search.limit {
                return Ok(Found { next: Some(line.number), ..found });
            }
            next = line.number + 1;
            if needle.is_in(&line.text) {
                found.lines.push(line);
            }
        }
    }
    let rest = Search { from: next, limit: search.limit - found.lines.len(), ..search.clone() };
    let further = parts.logs.search(log, printed.lines, &rest)?;
    found.lines.extend(further.lines);
    Ok(Found { next: further.next, ..found })
}

/// What a step has printed from a line on, as it was printed: a piece of it, and the line that comes next.
///
/// # Errors
/// When the journal or the log can't be read.
pub fn copy(parts: &Parts, log: StepLog, from: u64) -> Result<Option<(Vec<u8>, u64)>, JournalError> {
    let printed = parts.journal.printed(log)?;
    if from > printed.lines {
        return Ok(None);
    }
    let page = page_of(parts, log, printed, from, BATCH as usize)?;
    let mut bytes = Vec::new();
    for line in &page {
        bytes.extend_from_slice(line.text.as_bytes());
        if line.kind != LineKind::Continues {
            bytes.push(b'\n');
        }
    }
    Ok(page.last().map(|last| (bytes, last.number + 1)))
}
