//! A journal that neither keeps nor shows a secret. What is written is masked with what is
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
use crate::port::journal::{
    Cause, Entry, Journal, JournalError, KnownImage, NewRun, Observed, Record, Which,
};

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
            Record::Begun(_) | Record::Image { .. } => record.clone(),
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

    fn entries(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<Entry>, JournalError> {
        let entries = self.journal.entries(run, after, limit)?.into_iter();
        Ok(entries.map(|entry| Entry { event: self.event(run, &entry.event), ..entry }).collect())
    }

    fn image(&self, key: &ImageKey, name: &str) -> Result<Option<KnownImage>, JournalError> {
        self.journal.image(key, name)
    }
}
