//! A journal and logs of steps that neither keep nor show a secret. What is written is masked with what is
//! known then, and what is read with what has been learnt since.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::event::pipeline::PipelineEvent;
use crate::model::git_ref::GitRef;
use crate::model::name::{CommitId, ImageKey, PipelineName, RepositoryName};
use crate::model::redact::Mask;
use crate::model::run::{Answer, ReleaseStage, Run, RunConfig, RunId, RunStep, StepState};
use crate::model::step_files::{FailedTest, TestReport};
use crate::model::step_log::{Found, LogLine, Needle, NewLine, Search, StepLog};
use crate::port::journal::{
    Cause, Entry, Journal, JournalError, KnownImage, Logged, NewRun, Observed, Printed, Record, Which,
};
use crate::port::step_logs::{StepLogError, StepLogs};

/// A line without what must not be shown.
fn masked_line(mask: &Mask, line: LogLine) -> LogLine {
    LogLine { text: mask.coloured("", &line.text, ""), ..line }
}

/// Logs of steps behind a mask.
#[derive(Debug)]
pub struct MaskedLogs<L> {
    logs: L,
    mask: Mask,
}

impl<L: StepLogs> MaskedLogs<L> {
    /// `logs`, masked by `mask`.
    pub fn new(logs: L, mask: Mask) -> Self {
        Self { logs, mask }
    }
}

impl<L: StepLogs> StepLogs for MaskedLogs<L> {
    fn append(&self, log: StepLog, known: u64, lines: &[NewLine]) -> Result<u64, StepLogError> {
        let masked =
            |line: &NewLine| NewLine { text: self.mask.coloured("", &line.text, ""), ..line.clone() };
        let lines: Vec<NewLine> = lines.iter().map(masked).collect();
        self.logs.append(log, known, &lines)
    }

    fn page(&self, log: StepLog, known: u64, from: u64, count: usize) -> Result<Vec<LogLine>, StepLogError> {
        let lines = self.logs.page(log, known, from, count)?.into_iter();
        Ok(lines.map(|line| masked_line(&self.mask, line)).collect())
    }

    fn search(&self, log: StepLog, known: u64, search: &Search) -> Result<Found, StepLogError> {
        let found = self.logs.search(log, known, search)?;
        let needle = Needle::new(&search.text, search.any_case);
        let lines = found.lines.into_iter().map(|line| masked_line(&self.mask, line));
        // Whether a secret is in a log that was learnt later must not be found out by searching for it.
        Ok(Found { lines: lines.filter(|line| needle.is_in(&line.text)).collect(), ..found })
    }

    fn close(&self, run: RunId) {
        self.logs.close(run);
    }

    fn remove(&self, run: RunId) -> Result<(), StepLogError> {
        self.logs.remove(run)
    }

    fn size(&self, run: RunId) -> Result<u64, StepLogError> {
        self.logs.size(run)
    }

    fn runs(&self) -> Result<Vec<RunId>, StepLogError> {
        self.logs.runs()
    }
}

/// A journal behind a mask.
#[derive(Debug)]
pub struct MaskedJournal<J> {
    journal: J,
    mask: Mask,
}

impl<J: Journal> MaskedJournal<J> {
    /// `journal`, masked by `mask`.
    pub fn new(journal: J, mask: Mask) -> Self {
        Self { journal, mask }
    }

    fn new_run(&self, run: &NewRun) -> NewRun {
        NewRun { subject: self.mask.mask(&run.subject), ..run.clone() }
    }

    /// A run's instructions stay as they are: they are carried out, not shown.
    fn masked(&self, run: RunId, record: &Record) -> Record {
        match record {
            Record::Run { state, reason } => {
                Record::Run { state: *state, reason: reason.as_deref().map(|reason| self.mask.mask(reason)) }
            }
            Record::Step { index, state } => {
                Record::Step { index: *index, state: self.step_state(state.clone()) }
            }
            Record::Files { index, files, tests } => Record::Files {
                index: *index,
                files: files.clone(),
                tests: tests.clone().map(|tests| self.tests(tests)),
            },
            Record::Event(event) => Record::Event(self.event(run, event)),
            Record::Begun(_) | Record::Image { .. } | Record::Lines { .. } => record.clone(),
        }
    }

    fn step_state(&self, state: StepState) -> StepState {
        match state {
            StepState::Failed { reason } => StepState::Failed { reason: self.mask.mask(&reason) },
            StepState::Releasing { before, revisions, stage: ReleaseStage::Back { reason } } => {
                let stage = ReleaseStage::Back { reason: self.mask.mask(&reason) };
                StepState::Releasing { before, revisions, stage }
            }
            other => other,
        }
    }

    fn tests(&self, tests: TestReport) -> TestReport {
        let masked = |test: FailedTest| FailedTest {
            name: self.mask.mask(&test.name),
            message: self.mask.mask(&test.message),
        };
        TestReport { failures: tests.failures.into_iter().map(masked).collect(), ..tests }
    }

    /// An event that cannot be read, or that is no event without its secrets, is replaced.
    fn event(&self, run: RunId, event: &str) -> String {
        let json: Option<Value> = serde_json::from_str(event).ok();
        let masked = json.and_then(|json| {
            let masked = self.mask.json(json.clone());
            let shown = masked == json || serde_json::from_value::<PipelineEvent>(masked.clone()).is_ok();
            shown.then(|| masked.to_string())
        });
        // A number and two constants are always JSON.
        masked.unwrap_or_else(|| json!(PipelineEvent::withheld_of(run)).to_string())
    }

    fn entry(&self, run: RunId, entry: Entry) -> Entry {
        Entry { event: self.event(run, &entry.event), ..entry }
    }

    fn shown(&self, run: Run) -> Run {
        let steps = run.steps.into_iter().map(|step| RunStep {
            state: self.step_state(step.state),
            tests: step.tests.map(|tests| self.tests(tests)),
            ..step
        });
        Run {
            subject: self.mask.mask(&run.subject),
            reason: run.reason.map(|reason| self.mask.mask(&reason)),
            steps: steps.collect(),
            ..run
        }
    }
}

impl<J: Journal> Journal for MaskedJournal<J> {
    fn observe(
        &self,
        at: DateTime<Utc>,
        repository: &RepositoryName,
        moved: &BTreeMap<GitRef, CommitId>,
        runs: &[NewRun],
    ) -> Result<Observed, JournalError> {
        let runs: Vec<NewRun> = runs.iter().map(|run| self.new_run(run)).collect();
        self.journal.observe(at, repository, moved, &runs)
    }

    fn seen(
        &self,
        repository: &RepositoryName,
        watched: &GitRef,
    ) -> Result<BTreeMap<GitRef, CommitId>, JournalError> {
        self.journal.seen(repository, watched)
    }

    fn mark(&self, cause: Cause<'_>) -> Result<Option<String>, JournalError> {
        self.journal.mark(cause)
    }

    fn start(
        &self,
        at: DateTime<Utc>,
        cause: Cause<'_>,
        from: Option<&str>,
        to: &str,
        run: Option<&NewRun>,
    ) -> Result<Option<RunId>, JournalError> {
        let run = run.map(|run| self.new_run(run));
        self.journal.start(at, cause, from, to, run.as_ref())
    }

    fn succeeded(&self, pipeline: &PipelineName) -> Result<Option<Run>, JournalError> {
        Ok(self.journal.succeeded(pipeline)?.map(|run| self.shown(run)))
    }

    fn answer(&self, run: RunId, index: usize, answer: &Answer) -> Result<bool, JournalError> {
        self.journal.answer(run, index, answer)
    }

    fn answered(&self, run: RunId, index: usize) -> Result<Option<Answer>, JournalError> {
        self.journal.answered(run, index)
    }

    fn enqueue(&self, at: DateTime<Utc>, run: &NewRun) -> Result<RunId, JournalError> {
        self.journal.enqueue(at, &self.new_run(run))
    }

    fn enqueue_as(&self, at: DateTime<Utc>, run: &NewRun, config: &RunConfig) -> Result<RunId, JournalError> {
        self.journal.enqueue_as(at, &self.new_run(run), config)
    }

    fn record(&self, at: DateTime<Utc>, run: RunId, records: &[Record]) -> Result<(), JournalError> {
        let records: Vec<Record> = records.iter().map(|record| self.masked(run, record)).collect();
        self.journal.record(at, run, &records)
    }

    fn attempt(&self, run: RunId) -> Result<u32, JournalError> {
        self.journal.attempt(run)
    }

    fn leave(&self, run: RunId) -> Result<(), JournalError> {
        self.journal.leave(run)
    }

    fn retry(&self, run: RunId) -> Result<bool, JournalError> {
        self.journal.retry(run)
    }

    fn run(&self, id: RunId) -> Result<Option<Run>, JournalError> {
        Ok(self.journal.run(id)?.map(|run| self.shown(run)))
    }

    fn runs(&self, which: &Which) -> Result<Vec<Run>, JournalError> {
        Ok(self.journal.runs(which)?.into_iter().map(|run| self.shown(run)).collect())
    }

    fn rows(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Logged>, JournalError> {
        let rows = self.journal.rows(run, after, limit)?.into_iter();
        let masked = |row| match row {
            Logged::Event(entry) => Logged::Event(self.entry(run, entry)),
            // The names of steps are those of the run's instructions.
            Logged::Lines(lines) => Logged::Lines(lines),
        };
        Ok(rows.map(masked).collect())
    }

    fn events(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Entry>, JournalError> {
        let entries = self.journal.events(run, after, limit)?.into_iter();
        Ok(entries.map(|entry| self.entry(run, entry)).collect())
    }

    fn printed(&self, log: StepLog) -> Result<Printed, JournalError> {
        self.journal.printed(log)
    }

    fn old_lines(&self, log: StepLog, from: u64, count: u32) -> Result<Vec<LogLine>, JournalError> {
        let lines = self.journal.old_lines(log, from, count)?.into_iter();
        Ok(lines.map(|line| masked_line(&self.mask, line)).collect())
    }

    fn log_sizes(&self) -> Result<BTreeMap<RunId, u64>, JournalError> {
        self.journal.log_sizes()
    }

    fn forget(&self, run: RunId) -> Result<bool, JournalError> {
        self.journal.forget(run)
    }

    fn image(&self, key: &ImageKey, name: &str) -> Result<Option<KnownImage>, JournalError> {
        self.journal.image(key, name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chrono::DateTime;

    use super::*;
    use crate::model::step_log::LineKind;

    /// Lines in memory.
    #[derive(Debug, Clone, Default)]
    struct Memory(Arc<Mutex<Vec<LogLine>>>);

    impl StepLogs for Memory {
        fn append(&self, _: StepLog, known: u64, lines: &[NewLine]) -> Result<u64, StepLogError> {
            let mut kept = self.0.lock().expect("no panic");
            for (line, number) in lines.iter().zip(known + 1..) {
                kept.push(LogLine { number, at: line.at, kind: line.kind, text: line.text.clone() });
            }
            Ok(kept.len() as u64)
        }

        fn page(&self, _: StepLog, _: u64, _: u64, _: usize) -> Result<Vec<LogLine>, StepLogError> {
            Ok(self.0.lock().expect("no panic").clone())
        }

        fn search(&self, _: StepLog, _: u64, search: &Search) -> Result<Found, StepLogError> {
            let kept = self.0.lock().expect("no panic");
            let lines = kept.iter().filter(|line| line.text.contains(&search.text)).cloned().collect();
            Ok(Found { lines, next: None })
        }

        fn close(&self, _: RunId) {}

        fn remove(&self, _: RunId) -> Result<(), StepLogError> {
            Ok(())
        }

        fn size(&self, _run: RunId) -> Result<u64, StepLogError> {
            Ok(0)
        }

        fn runs(&self) -> Result<Vec<RunId>, StepLogError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_secret_is_neither_kept_nor_shown_nor_found() {
        let (memory, mask) = (Memory::default(), Mask::default());
        let logs = MaskedLogs::new(memory.clone(), mask.clone());
        mask.learn("hunter22");
        let log = StepLog { run: RunId(1), step: 0 };
        let line =
            |text: &str| NewLine { at: DateTime::default(), kind: LineKind::Whole, text: text.to_owned() };
        logs.append(log, 0, &[line("a hun\u{1b}[1mter22 b"), line("later: open-sesame")]).expect("kept");
        let kept: Vec<String> =
            memory.0.lock().expect("no panic").iter().map(|line| line.text.clone()).collect();
        assert_eq!(kept, ["a [redacted]\u{1b}[1m b", "later: open-sesame"]);
        let find = |text: &str| {
            let search = Search { text: text.to_owned(), any_case: false, from: 1, limit: 9 };
            logs.search(log, 2, &search).expect("searched").lines.len()
        };
        assert_eq!(find("open-s"), 1);
        mask.learn("open-sesame");
        assert_eq!((find("open-s"), find("later")), (0, 1));
        let shown = logs.page(log, 2, 1, 9).expect("read");
        assert_eq!(shown[1].text, "later: [redacted]");
    }
}
