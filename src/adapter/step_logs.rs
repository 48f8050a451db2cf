//! What steps print, in files: a folder for each run and step, in it segments that are only appended to.
//!
//! An open segment has about 4 MiB; then it is closed, which compresses it, and another one begins. A log is only read up
//! to the number of lines that the journal has, so a reader never sees a line that a killed process may write again.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::statvfs::statvfs;

mod record;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use super::artifacts;
use crate::model::run::RunId;
use crate::model::step_log::{Found, LogLine, Needle, NewLine, Search, StepLog};
use crate::port::step_logs::{StepLogError, StepLogs};
use record::Record;
use writer::{Bounds, Writer, gone};

/// How long an open segment becomes, and how long the log of a step may, in bytes.
const BOUNDS: Bounds = Bounds { segment: 4 << 20, log: 2 << 30 };
/// Below so much room on the disk nothing more is kept, in bytes. The journal has to work on.
const LEAST: u64 = 512 << 20;
/// How much text a page has at most, in bytes; one line may have more.
const PAGE: usize = 4 << 20;
/// How much text one search goes through, in bytes.
const SEARCHED: usize = 512 << 20;
/// How often a log is read again in which lines seem to be missing.
const TRIES: usize = 5;

/// The logs in one folder.
#[derive(Debug)]
pub struct StepLogFolder {
    root: PathBuf,
    bounds: Bounds,
    least: u64,
    writers: Mutex<HashMap<StepLog, Arc<Mutex<Writer>>>>,
}

impl StepLogFolder {
    /// The logs in `root`, which is made with the first of them.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), bounds: BOUNDS, least: LEAST, writers: Mutex::default() }
    }

    fn folder(&self, log: StepLog) -> PathBuf {
        self.root.join(log.run.to_string()).join(log.step.to_string())
    }

    /// The open end of a log that has `known` lines.
    fn writer(&self, log: StepLog, known: u64) -> io::Result<Arc<Mutex<Writer>>> {
        let found = self.lock().get(&log).cloned();
        if let Some(writer) = found
            && writer.lock().unwrap_or_else(PoisonError::into_inner).lines() == known
        {
            return Ok(writer);
        }
        // The journal did not get what was appended last, or it is the first line of this process.
        let writer = Arc::new(Mutex::new(Writer::open(&self.folder(log), self.bounds, known)?));
        self.lock().insert(log, Arc::clone(&writer));
        Ok(writer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<StepLog, Arc<Mutex<Writer>>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing more can be kept, as far as the disk is concerned.
    fn lack(&self) -> Option<String> {
        let found = statvfs(&self.root).ok()?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        let (free, least) = (free >> 20, self.least >> 20);
        (free < least).then(|| format!("the server's disk has {free} MiB left, and logs leave {least} MiB"))
    }

    /// Passes the lines from `from` to `known` on to `take` until that ends it.
    fn read(
        &self,
        log: StepLog,
        (from, known): (u64, u64),
        take: &mut dyn FnMut(Record<'_>) -> bool,
    ) -> io::Result<()> {
        let folder = self.folder(log);
        let mut next = from.max(1);
        let mut tries = 0;
        while next <= known {
            let segments = segment::list(&folder)?;
            let begin = segments.partition_point(|segment| segment.first <= next).saturating_sub(1);
            let mut moved = false;
            for segment in &segments[begin.min(segments.len())..] {
                let read = segment::read(segment, next, &mut |record| {
                    moved = record.number > next && tries < TRIES;
                    if record.number > known || moved {
                        return false;
                    }
                    next = record.number + 1;
                    take(record)
                });
                match read {
                    Ok(true) => {}
                    Ok(false) if !moved => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::NotFound || tries == TRIES => {
                        return Err(error);
                    }
                    Ok(false) | Err(_) => break,
                }
            }
            // A segment that is closed while the folder is read may be missed: the open one is gone, and the closed one
            // was not seen yet.
            if tries == TRIES {
                return Ok(());
            }
            tries += 1;
        }
        Ok(())
    }
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StepLogError {
    let path = path.display().to_string();
    move |error| StepLogError { doing, path: path.clone(), reason: error.to_string() }
}

impl StepLogs for StepLogFolder {
    fn append(&self, log: StepLog, known: u64, lines: &[NewLine]) -> Result<u64, StepLogError> {
        let folder = self.folder(log);
        let error = failed("writing", &folder);
        let writer = self.writer(log, known).map_err(&error)?;
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.append(lines, self.lack().as_deref()) {
            Ok(()) => Ok(writer.lines()),
            Err(full) if matches!(full.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                tracing::warn!(%full, folder = %folder.display(), "nothing more is kept of what a step prints");
                writer.give_up();
                Ok(known)
            }
            Err(other) => {
                self.lock().remove(&log);
                Err(error(other))
            }
        }
    }

    fn page(&self, log: StepLog, known: u64, from: u64, count: usize) -> Result<Vec<LogLine>, StepLogError> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        let end = from.saturating_add(count as u64).saturating_sub(1).min(known);
        self.read(log, (from, end), &mut |record| {
            bytes += record.text.len();
            lines.push(record.line());
            bytes < PAGE && record.number < end
        })
        .map_err(failed("reading", &self.folder(log)))?;
        Ok(lines)
    }

    fn search(&self, log: StepLog, known: u64, search: &Search) -> Result<Found, StepLogError> {
        let needle = Needle::new(&search.text, search.any_case);
        let mut found = Found::default();
        let mut bytes = 0;
        self.read(log, (search.from, known), &mut |record| {
            if found.lines.len() >= search.limit || bytes > SEARCHED {
                found.next = Some(record.number);
                return false;
            }
            bytes += record.text.len();
            if needle.is_in(record.text) {
                found.lines.push(record.line());
            }
            true
        })
        .map_err(failed("searching", &self.folder(log)))?;
        Ok(found)
    }

    fn close(&self, run: RunId) {
        let ended: Vec<_> = self.lock().extract_if(|log, _| log.run == run).collect();
        for (log, writer) in ended {
            // It is read as well as it is, only not compressed.
            if let Err(error) = writer.lock().unwrap_or_else(PoisonError::into_inner).close() {
                tracing::warn!(run = run.0, step = log.step, %error, "closing the log of a step");
            }
        }
    }

    fn remove(&self, run: RunId) -> Result<(), StepLogError> {
        self.lock().retain(|log, _| log.run != run);
        let folder = self.root.join(run.to_string());
        gone(fs::remove_dir_all(&folder)).map_err(failed("removing", &folder))
    }

    fn size(&self, run: RunId) -> Result<u64, StepLogError> {
        let folder = self.root.join(run.to_string());
        artifacts::gone(artifacts::size(&folder)).map_err(failed("measuring", &folder))
    }

    fn runs(&self) -> Result<Vec<RunId>, StepLogError> {
        let error = failed("listing", &self.root);
        let entries = match fs::read_dir(&self.root) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(&error)?,
        };
        let mut runs = Vec::new();
        for entry in entries {
            let name = entry.map_err(&error)?.file_name();
            runs.extend(name.to_str().and_then(|name| name.parse().ok()).map(RunId));
        }
        runs.sort();
        Ok(runs)
    }
}
