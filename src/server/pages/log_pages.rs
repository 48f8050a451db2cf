//! What the page of a run shows of the logs of its steps: one page of lines of one step, or what was searched for in it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::log_api::TEXT_MOST;
use crate::driver::pipeline::logs;
use crate::driver::pipeline::run::Parts;
use crate::event::pipeline::PipelineEvent;
use crate::model::infra_step::InfraWork;
use crate::model::line::{CONTINUES, remains};
use crate::model::percent::encoded;
use crate::model::run::{Run, StepAction, StepState};
use crate::model::step_log::{Found, LineKind, LogLine, Search, StepLog};
use crate::port::journal::{JournalError, Printed};
use crate::view::ansi::{Span, spans};
use crate::view::paint::Paint;
use crate::view::pipeline::Lines;

/// How many lines a page has.
const LINES: u64 = 1000;
/// How many lines before one that is looked for are shown.
const BEFORE: u64 = 100;
/// How many lines a search shows.
const FOUND: usize = 500;
/// The most notes of a step.
const NOTES: u32 = 2000;

/// Which lines are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenLines {
    /// The step's number, from 1; the one that matters most by default.
    step: Option<usize>,
    /// The first line.
    from: Option<u64>,
    /// A line that is to be among them.
    line: Option<u64>,
    /// What is searched for.
    #[serde(default)]
    search: String,
    /// Not empty for a search in any case.
    #[serde(default)]
    any_case: String,
}

/// A line.
#[derive(Debug, Serialize)]
struct LineView {
    number: u64,
    at: String,
    time: String,
    spans: Vec<Span>,
    mark: bool,
}

/// What happened to a step besides what it has printed.
#[derive(Debug, Clone, Serialize)]
struct NoteView {
    at: String,
    time: String,
    text: String,
}

/// The log of a step.
#[derive(Debug, Default, Serialize)]
pub struct StepLogView {
    /// The step's number, from 1; 0 for the run itself.
    index: usize,
    /// The page that links lead to.
    page: String,
    total: u64,
    notes: Vec<NoteView>,
    /// Whether lines are shown.
    open: bool,
    lines: Vec<LineView>,
    /// Where earlier lines begin, and later ones.
    earlier: Option<u64>,
    later: Option<u64>,
    search: String,
    any_case: bool,
    /// What a search has found, in words.
    found: Option<String>,
    /// Where the search continues.
    further: Option<String>,
}

impl StepLogView {
    fn new(run: &Run, index: usize) -> Self {
        Self { index, page: format!("/runs/{}", run.id), ..Self::default() }
    }
}

/// Reads what the page of a run shows of its logs: first what is not of any step, then of each step.
///
/// # Errors
/// When the journal or a log can't be read.
pub fn read(parts: &Parts, run: &Run, chosen: &ChosenLines) -> Result<Vec<StepLogView>, JournalError> {
    let mut views: Vec<StepLogView> =
        (0..=run.steps.len()).map(|index| StepLogView::new(run, index)).collect();
    let mut words = Lines::new(Paint(false));
    for entry in parts.journal.events(run.id, 0, NOTES)? {
        let Ok(event) = serde_json::from_str::<PipelineEvent>(&entry.event) else { continue };
        let of = event.step().and_then(|step| run.steps.iter().position(|other| other.name == step));
        let (Some(text), Some(view)) = (words.line(&event), views.get_mut(of.map_or(0, |of| of + 1))) else {
            continue;
        };
        let own = of.and_then(|of| run.steps.get(of)).map_or("", |step| step.name.as_str());
        let text = text.trim_start().trim_start_matches(own).trim_start().to_owned();
        view.notes.push(NoteView { at: entry.at.to_rfc3339(), time: time(entry.at), text });
    }
    let mut printed = Vec::with_capacity(run.steps.len());
    for (step, view) in views.iter_mut().skip(1).enumerate() {
        let found = logs::printed(parts, StepLog { run: run.id, step })?;
        view.total = found.lines;
        printed.push(found);
    }
    let open = match chosen.step {
        Some(number) => number.checked_sub(1),
        None => matters(run, &printed),
    };
    let Some(step) = open.filter(|step| *step < run.steps.len()) else { return Ok(views) };
    let Some(view) = views.get_mut(step + 1) else { return Ok(views) };
    view.open = true;
    let log = StepLog { run: run.id, step };
    match chosen.search.as_str() {
        "" => {
            let total = printed[step].lines;
            // A failure is looked for only where the step has failed, and nothing else is asked for.
            let has_failed = matches!(run.steps[step].state, StepState::Failed { .. });
            let fault = printed[step].fault.filter(|_| has_failed && chosen.from.is_none());
            let line = chosen.line.or(fault).filter(|line| (1..=total).contains(line));
            let from = match (chosen.from, line) {
                (Some(from), _) => from.clamp(1, total + 1),
                (None, Some(line)) => line.saturating_sub(BEFORE).max(1),
                (None, None) => total.saturating_sub(LINES - 1).max(1),
            };
            let lines = logs::page(parts, log, from, usize::try_from(LINES).unwrap_or(usize::MAX))?;
            view.fill(&lines, line, from);
        }
        text => view.find(parts, log, text, chosen)?,
    }
    Ok(views)
}

/// The plan that an answer to the step at `asks` is about: what the last step before it shows that plans.
pub(super) fn plan_before(run: &Run, asks: usize) -> Option<usize> {
    let before = run.config.as_ref()?.steps.get(..asks)?;
    before.iter().rposition(
        |action| matches!(action, StepAction::Infra(spec) if matches!(spec.work, InfraWork::Plan { .. })),
    )
}

/// The step whose log is shown when none is asked for: the plan that people are asked about, the first that has failed, or
/// the last that runs.
fn matters(run: &Run, printed: &[Printed]) -> Option<usize> {
    let asks = run.steps.iter().position(|step| matches!(step.state, StepState::Asking { .. }));
    let planned = asks.and_then(|asks| plan_before(run, asks));
    if let Some(plan) = planned.filter(|plan| printed.get(*plan).is_some_and(|printed| printed.lines > 0)) {
        return Some(plan);
    }
    let steps = || run.steps.iter().zip(printed).enumerate().filter(|(_, (_, printed))| printed.lines > 0);
    let failed = steps().find(|(_, (step, _))| matches!(step.state, StepState::Failed { .. }));
    let runs = || steps().rfind(|(_, (step, _))| step.started.is_some() && !step.state.is_ended());
    failed.or_else(runs).map(|(index, _)| index)
}

impl StepLogView {
    /// Shows a page.
    fn fill(&mut self, lines: &[LogLine], mark: Option<u64>, from: u64) {
        self.lines = lines.iter().map(|line| LineView::new(line, mark)).collect();
        let next = lines.last().map_or(from, |last| last.number + 1);
        self.earlier = (from > 1).then(|| from.saturating_sub(LINES).max(1));
        self.later = (next <= self.total).then_some(next);
    }

    /// Shows what a search finds.
    fn find(
        &mut self,
        parts: &Parts,
        log: StepLog,
        text: &str,
        chosen: &ChosenLines,
    ) -> Result<(), JournalError> {
        let text = &text[..text.floor_char_boundary(TEXT_MOST)];
        let any_case = !chosen.any_case.is_empty();
        let from = chosen.from.unwrap_or(1);
        let search = Search { text: text.to_owned(), any_case, from, limit: FOUND };
        let Found { lines, next } = logs::search(parts, log, &search)?;
        self.lines = lines.iter().map(|line| LineView::new(line, None)).collect();
        let count = match lines.len() {
            0 => "No line".to_owned(),
            1 => "1 line".to_owned(),
            many => format!("{many} lines"),
        };
        let until = next.map_or(String::new(), |next| format!(" before line {next}"));
        self.found = Some(format!("{count} with `{text}`{until}"));
        self.further = next.map(|next| {
            let any_case = if any_case { "&any_case=1" } else { "" };
            format!("{}?step={}&from={next}&search={}{any_case}", self.page, self.index, encoded(text))
        });
        self.search = text.to_owned();
        self.any_case = any_case;
        Ok(())
    }
}

impl LineView {
    fn new(line: &LogLine, mark: Option<u64>) -> Self {
        let mut spans = spans(remains(&line.text));
        if line.kind == LineKind::Continues {
            spans.push(Span { class: "c0".to_owned(), text: CONTINUES.to_owned() });
        }
        Self {
            number: line.number,
            at: line.at.to_rfc3339(),
            time: time(line.at),
            spans,
            mark: mark == Some(line.number),
        }
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S").to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Logs of a run with `text` wherever others may have written something.
    pub fn of(run: &Run, text: &str) -> Vec<StepLogView> {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let line = |number, text: String| LogLine { number, at, kind: LineKind::Whole, text };
        let mut views: Vec<StepLogView> =
            (0..=run.steps.len()).map(|index| StepLogView::new(run, index)).collect();
        let view = &mut views[1];
        view.open = true;
        view.total = 3000;
        view.notes.push(NoteView { at: at.to_rfc3339(), time: time(at), text: text.to_owned() });
        let lines = [line(1001, text.to_owned()), line(1002, format!("\u{1b}[31m{text}\u{1b}[0m"))];
        view.fill(&lines, Some(1002), 1001);
        view.search = text.to_owned();
        view.found = Some(format!("2 lines with `{text}`"));
        view.further = Some(format!("/runs/7?step=1&from=9&search={}", encoded(text)));
        views
    }
}
