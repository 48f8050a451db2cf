//! The watched files of this machine: rendered whenever something changes that they are rendered from, checked,
//! replaced, and their programs reloaded.
//!
//! A reload that is due is remembered before the file is replaced, and forgotten when it has succeeded: whatever
//! becomes of the agent in between, the program gets to read what is in place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, sleep_until};

use crate::host_file::{Surroundings, reason, render};
use crate::model::host_file::{
    CANDIDATE, Definition, Feed, FeedLine, HOST_FILE_VERSION, HostFileSpec, Reload,
};
use crate::model::host_file_state::{
    FileProblem, FileStep, HostFileState, HostFileStates, PROBLEMS_MOST, REASON_MOST,
};
use crate::model::name::{HostFileName, MachineId};
use crate::plan::host_file::{BETWEEN_RELOADS, apply, retry_after, wait};
use crate::port::host_files::{Feeds, HostDisk, HostFileRecord, Lines, Programs};

/// Time before a feed that was lost is asked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often files are compared with what they should be although nothing has changed: somebody may have edited them.
const LOOK: Duration = Duration::from_secs(300);

/// What keeps the files of this machine.
pub struct HostFiles {
    /// This machine.
    pub me: MachineId,
    /// The control machines.
    pub feeds: Arc<dyn Feeds>,
    /// The disk.
    pub disk: Arc<dyn HostDisk>,
    /// The programs.
    pub programs: Arc<dyn Programs>,
    /// What templates know beside the cluster's state; the time is that of each rendering.
    pub surroundings: Surroundings,
    /// What time it is.
    pub clock: Arc<Clock>,
}

/// The clock that retries go by.
pub type Clock = dyn Fn() -> Instant + Send + Sync;

/// How far the files have come.
#[derive(Default)]
pub struct Progress {
    feed: Feed,
    /// Whether the files are known since this began.
    known: bool,
    settled: bool,
    records: BTreeMap<HostFileName, HostFileRecord>,
    problems: BTreeMap<HostFileName, Failed>,
    reloads: BTreeMap<Reload, Reloaded>,
    reported: Option<HostFileStates>,
    /// When the first and the last change came that are not dealt with.
    changed: Option<(Instant, Instant)>,
    /// When something that failed is to be tried again.
    next: Option<Instant>,
}

/// The last failure of a file.
struct Failed {
    problem: FileProblem,
    /// What was rendered then; another text is tried at once.
    text: Option<[u8; 32]>,
    failures: u32,
    next: Instant,
}

/// The last reload of a program.
struct Reloaded {
    at: Instant,
    failures: u32,
    next: Instant,
}

impl HostFiles {
    /// Keeps the files, until dropped.
    pub async fn keep(&self) -> std::convert::Infallible {
        let mut progress = loop {
            match self.begin() {
                Ok(progress) => break progress,
                Err(error) => tracing::warn!(%error, "reading what is remembered of watched files"),
            }
            sleep(AGAIN).await;
        };
        let mut lines: Option<Lines> = None;
        loop {
            let due = progress.due((self.clock)());
            tokio::select! {
                opened = self.open(), if lines.is_none() => lines = opened,
                line = next(&mut lines), if lines.is_some() => match line {
                    Some(Ok(line)) => progress.take(line, (self.clock)()),
                    Some(Err(error)) => {
                        tracing::debug!(%error, "following the watched files of this machine");
                        lines = None;
                    }
                    None => lines = None,
                },
                () = sleep_until(due) => self.round(&mut progress).await,
            }
        }
    }

    /// What was remembered.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn begin(&self) -> std::io::Result<Progress> {
        Ok(Progress { records: self.disk.records()?, ..Progress::default() })
    }

    async fn open(&self) -> Option<Lines> {
        match self.feeds.feed(&self.me).await {
            Ok(lines) => Some(lines),
            Err(error) => {
                tracing::debug!(%error, "asking for the watched files of this machine");
                sleep(AGAIN).await;
                None
            }
        }
    }

    /// Makes every file what it should be, as far as that can be done now.
    pub async fn round(&self, progress: &mut Progress) {
        progress.changed = None;
        progress.next = Some((self.clock)() + LOOK);
        if progress.known {
            for file in progress.feed.files.clone() {
                self.file(&file, progress).await;
            }
            self.forget(progress);
        }
        self.reload(progress).await;
        if progress.known && !progress.settled {
            match self.disk.settled() {
                Ok(()) => progress.settled = true,
                Err(error) => tracing::warn!(%error, "saying that the watched files are in place"),
            }
        }
        self.report(progress).await;
    }

    /// Renders one file, and replaces it where it differs.
    async fn file(&self, file: &Definition, progress: &mut Progress) {
        let spec = &file.spec;
        let text = self.rendered(spec, &progress.feed).await;
        let hash = text.as_ref().ok().map(|text| <[u8; 32]>::from(Sha256::digest(text)));
        if let Some(failed) = progress.problems.get(&spec.name)
            && failed.problem.at != FileStep::Reload
            && failed.text == hash
            && failed.next > (self.clock)()
        {
            let next = failed.next;
            progress.no_later_than(next);
            return;
        }
        let done = match text {
            Ok(text) => self.put(file, &text, progress).await,
            Err(reason) => Err((FileStep::Render, reason)),
        };
        match done {
            Ok(()) => progress.solved(&spec.name, |at| at != FileStep::Reload),
            Err((at, reason)) => progress.failed(&spec.name, at, &reason, hash, (self.clock)()),
        }
    }

    async fn rendered(&self, spec: &HostFileSpec, feed: &Feed) -> Result<String, String> {
        let (spec, facts) = (spec.clone(), feed.facts.clone());
        let surroundings = Surroundings { now: Utc::now(), ..self.surroundings.clone() };
        // Addresses may be looked up, which takes its time.
        let rendered = tokio::task::spawn_blocking(move || {
            render(&spec, &facts, &surroundings).map_err(|error| reason(&error, &spec.source))
        });
        rendered.await.map_err(|error| error.to_string())?
    }

    async fn put(
        &self,
        file: &Definition,
        text: &str,
        progress: &mut Progress,
    ) -> Result<(), (FileStep, String)> {
        let spec = &file.spec;
        let written = |error: std::io::Error| (FileStep::Write, format!("{}: {error}", spec.path));
        let held = self.disk.read(spec).map_err(written)?;
        let known = progress.records.get(&spec.name);
        let is_current = held.is_some_and(|held| held.is_owned && held.bytes == text.as_bytes());
        let due = match (is_current, known) {
            (true, Some(known)) if known.number == file.number => return Ok(()),
            (true, known) => known.and_then(|known| known.due.clone()),
            (false, known) => spec.reload.clone().or_else(|| known.and_then(|known| known.due.clone())),
        };
        let record = HostFileRecord { version: HOST_FILE_VERSION, number: file.number, due };
        if is_current {
            return self.remember(&spec.name, record, progress).map_err(written);
        }
        let candidate = self.disk.prepare(spec, text).map_err(written)?;
        if !spec.check.is_empty() {
            let command: Vec<String> =
                spec.check.iter().map(|word| word.replace(CANDIDATE, &candidate)).collect();
            if let Err(reason) = self.programs.check(&command).await {
                self.disk.discard(&candidate);
                // Its path means nothing to anybody.
                return Err((FileStep::Check, reason.replace(&candidate, &spec.path)));
            }
        }
        let replaced =
            self.remember(&spec.name, record, progress).and_then(|()| self.disk.replace(&candidate, spec));
        if let Err(error) = replaced {
            self.disk.discard(&candidate);
            return Err(written(error));
        }
        tracing::info!(file = %spec.name, path = spec.path, "replaced");
        Ok(())
    }

    fn remember(
        &self,
        name: &HostFileName,
        record: HostFileRecord,
        progress: &mut Progress,
    ) -> std::io::Result<()> {
        if progress.records.get(name) != Some(&record) {
            self.disk.record(name, &record)?;
            progress.records.insert(name.clone(), record);
        }
        Ok(())
    }

    /// Forgets files that are not this machine's any more; they stay as they are.
    fn forget(&self, progress: &mut Progress) {
        let is_gone = |name: &HostFileName| progress.feed.files.iter().all(|file| file.spec.name != *name);
        let gone: Vec<HostFileName> = progress
            .records
            .iter()
            .filter(|(name, record)| record.due.is_none() && is_gone(name))
            .map(|(name, _)| name.clone())
            .collect();
        progress.problems.retain(|name, failed| {
            failed.problem.at == FileStep::Reload
                || progress.feed.files.iter().any(|file| file.spec.name == *name)
        });
        for name in gone {
            match self.disk.forget(&name) {
                Ok(()) => drop(progress.records.remove(&name)),
                Err(error) => tracing::warn!(file = %name, %error, "forgetting a watched file"),
            }
        }
    }

    /// Reloads every program that is due, each once.
    async fn reload(&self, progress: &mut Progress) {
        let mut due: BTreeMap<Reload, Vec<HostFileName>> = BTreeMap::new();
        for (name, record) in &progress.records {
            if let Some(reload) = &record.due {
                due.entry(reload.clone()).or_default().push(name.clone());
            }
        }
        let now = (self.clock)();
        progress.reloads.retain(|reload, last| due.contains_key(reload) || now - last.at < BETWEEN_RELOADS);
        for (reload, names) in due {
            let now = (self.clock)();
            let last = progress.reloads.get(&reload);
            if let Some(next) = last.map(|last| last.next).filter(|next| *next > now) {
                progress.no_later_than(next);
                continue;
            }
            let failures = last.map_or(0, |last| last.failures);
            let outcome = self.programs.reload(&reload).await;
            let at = (self.clock)();
            match outcome {
                Ok(()) => {
                    tracing::info!(%reload, "reloaded");
                    progress.reloads.insert(reload, Reloaded { at, failures: 0, next: at + BETWEEN_RELOADS });
                    for name in names {
                        let Some(record) = progress.records.get(&name).cloned() else { continue };
                        let record = HostFileRecord { due: None, ..record };
                        // One that is not remembered is reloaded again, which does no harm.
                        if let Err(error) = self.remember(&name, record, progress) {
                            tracing::warn!(file = %name, %error, "remembering that a program was reloaded");
                            progress.no_later_than(at + AGAIN);
                        }
                        progress.solved(&name, |at| at == FileStep::Reload);
                    }
                }
                Err(reason) => {
                    let failures = failures.saturating_add(1);
                    let next = at + retry_after(failures);
                    progress.no_later_than(next);
                    progress.reloads.insert(reload.clone(), Reloaded { at, failures, next });
                    for name in names {
                        progress.failed(&name, FileStep::Reload, &format!("{reload}: {reason}"), None, at);
                    }
                }
            }
        }
    }

    async fn report(&self, progress: &mut Progress) {
        let states = progress.states();
        if progress.reported.as_ref() == Some(&states) {
            return;
        }
        match self.feeds.report(&self.me, &states).await {
            Ok(()) => progress.reported = Some(states),
            Err(error) => {
                tracing::debug!(%error, "reporting the watched files of this machine");
                progress.no_later_than((self.clock)() + AGAIN * 5);
            }
        }
    }
}

impl Progress {
    /// Takes what has changed.
    pub fn take(&mut self, line: FeedLine, now: Instant) {
        apply(&mut self.feed, line);
        self.known = true;
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
    }

    /// When there is something to do.
    fn due(&self, now: Instant) -> Instant {
        let changed = self.changed.map(|(first, last)| now + wait(now - first, now - last));
        // A reload may be due since before the agent began.
        let next = self.next.unwrap_or(now);
        changed.map_or(next, |changed| changed.min(next))
    }

    fn no_later_than(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn failed(
        &mut self,
        name: &HostFileName,
        at: FileStep,
        reason: &str,
        text: Option<[u8; 32]>,
        now: Instant,
    ) {
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MOST).collect();
        let before = self.problems.get(name).filter(|before| before.problem.at == at && before.text == text);
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        if before.is_none_or(|before| before.problem.reason != reason) {
            tracing::warn!(file = %name, reason, "{}", at.words());
        }
        let next = now + retry_after(failures);
        self.no_later_than(next);
        let problem = FileProblem { at, reason };
        self.problems.insert(name.clone(), Failed { problem, text, failures, next });
    }

    fn solved(&mut self, name: &HostFileName, is_it: impl Fn(FileStep) -> bool) {
        if self.problems.get(name).is_some_and(|failed| is_it(failed.problem.at)) {
            self.problems.remove(name);
        }
    }

    /// What is reported.
    pub fn states(&self) -> HostFileStates {
        let state = |name: &HostFileName| HostFileState {
            number: self.records.get(name).map_or(0, |record| record.number),
            problem: self.problems.get(name).map(|failed| failed.problem.clone()),
        };
        let names = self.feed.files.iter().map(|file| &file.spec.name).chain(self.problems.keys());
        let mut states: HostFileStates = names.map(|name| (name.clone(), state(name))).collect();
        let mut left = PROBLEMS_MOST;
        for state in states.values_mut().filter(|state| state.problem.is_some()) {
            if left == 0 {
                state.problem = None;
            }
            left = left.saturating_sub(1);
        }
        states
    }
}

async fn next(lines: &mut Option<Lines>) -> Option<Result<FeedLine, crate::port::cluster::ClusterError>> {
    match lines {
        Some(lines) => lines.next().await,
        None => None,
    }
}

#[cfg(test)]
mod tests;
