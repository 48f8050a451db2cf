//! One run of a pipeline: its steps, what its tests have shown, what it asks, what it has kept.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::paint::{BAD, BOLD, CHANGE, DIM, GOOD, Paint};
use super::table::table;
use super::time::human;
use super::words::count;
use crate::model::run::{Question, Run, RunId, RunStep, StepAction, StepResult, StepState};
use crate::model::step_files::StepFile;

/// How many failed tests are shown.
const FAILURES: usize = 20;
/// How many lines of a failed test's message are shown.
const LINES: usize = 6;

/// A run with its steps.
pub fn shown(run: &Run, now: DateTime<Utc>, paint: Paint) -> String {
    let mut text = String::new();
    let title = paint.paint(BOLD, &format!("{} #{}", run.pipeline, run.id));
    let of = run.reference.as_ref().map(|reference| format!(" of {reference}")).unwrap_or_default();
    let _ = writeln!(
        text,
        "{title}  {}, {}: {}{of} \"{}\"",
        run.state.word(),
        plain(&run.started_by()),
        run.commit.short(),
        plain(&run.subject)
    );
    for (name, value) in &run.parameters {
        let _ = writeln!(text, "  {name}={}", plain(value));
    }
    if let Some(reason) = &run.reason {
        let _ = writeln!(text, "  {}", paint.paint(BAD, &plain(reason)));
    }
    if !run.steps.is_empty() {
        let rows: Vec<Vec<String>> = run.steps.iter().map(|step| row(run, step, now)).collect();
        let _ = write!(text, "\n{}", table(&["STEP", "STATE", "TOOK", "RESULT"], &rows));
    }
    for step in &run.steps {
        failures(&mut text, step, paint);
    }
    let asks =
        run.steps.iter().enumerate().filter(|(_, step)| matches!(step.state, StepState::Asking { .. }));
    for (index, _) in asks {
        if let Some(StepAction::Approve(question)) =
            run.config.as_ref().and_then(|config| config.steps.get(index))
        {
            let _ = write!(text, "\n{}", proposal(run, index, question, paint));
            let _ = writeln!(
                text,
                "`fleetwright pipeline approve {0}` or `fleetwright pipeline reject {0}`",
                run.id
            );
        }
    }
    text
}

fn row(run: &Run, step: &RunStep, now: DateTime<Utc>) -> Vec<String> {
    let took = step.started.and_then(|started| (step.ended.unwrap_or(now) - started).to_std().ok());
    vec![
        step.name.clone(),
        step.state.word().to_owned(),
        took.map_or_else(|| "-".to_owned(), human),
        result(run, step),
    ]
}

fn result(run: &Run, step: &RunStep) -> String {
    let own = match &step.state {
        StepState::Failed { reason } => plain(reason),
        StepState::Succeeded { result: StepResult::Image(image) } => image.digest.short().to_owned(),
        StepState::Succeeded { result: StepResult::Source { files } } => count(*files, "file"),
        StepState::Succeeded { result: StepResult::Run { attempts } } if *attempts > 1 => {
            format!("at try {attempts}")
        }
        StepState::Succeeded { result: StepResult::Rollout { service, revision } } => {
            format!("{service} revision {revision}")
        }
        StepState::Succeeded { result: StepResult::Release(services) } => {
            let each = services.iter().map(|one| format!("{} revision {}", one.service, one.revision));
            each.collect::<Vec<_>>().join(", ")
        }
        StepState::Succeeded { result: StepResult::Approved { by } } => format!("by {}", plain(by)),
        StepState::Succeeded { result: StepResult::NothingToApprove } => "nothing to approve".to_owned(),
        StepState::Succeeded { result: StepResult::Planned(planned) } => plain(&planned.summary),
        StepState::Succeeded { result: StepResult::Infra { summary } } => plain(summary),
        StepState::Skipped => left_out(run, step).unwrap_or_default(),
        _ => String::new(),
    };
    let tests = step.tests.as_ref().map(|tests| match (tests.failed, tests.skipped) {
        (0, 0) => format!("{} tests", tests.tests),
        (0, skipped) => format!("{} tests, {skipped} skipped", tests.tests),
        (failed, _) => format!("{failed} of {} tests failed", tests.tests),
    });
    // A failure names its tests itself.
    let tests = tests.filter(|_| !matches!(step.state, StepState::Failed { .. }));
    let files = (!step.files.is_empty()).then(|| format!("{} kept", count(step.files.len(), "file")));
    let parts = [Some(own).filter(|own| !own.is_empty()), tests, files];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn left_out(run: &Run, step: &RunStep) -> Option<String> {
    let index = run.steps.iter().position(|other| other.name == step.name)?;
    run.config.as_ref()?.left_out.get(&index).cloned()
}

fn failures(text: &mut String, step: &RunStep, paint: Paint) {
    let Some(tests) = step.tests.as_ref().filter(|tests| tests.failed > 0) else { return };
    let _ = writeln!(
        text,
        "\n{}",
        paint.paint(BOLD, &format!("{}: {} of {} tests failed", step.name, tests.failed, tests.tests))
    );
    for test in tests.failures.iter().take(FAILURES) {
        let _ = writeln!(text, "  {} {}", paint.paint(BAD, "✗"), plain(&test.name));
        for line in test.message.lines().take(LINES) {
            let _ = writeln!(text, "      {}", paint.paint(DIM, &plain(line)));
        }
    }
    let more = usize::try_from(tests.failed)
        .unwrap_or(usize::MAX)
        .saturating_sub(FAILURES.min(tests.failures.len()));
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
}

/// What the steps after a question would do.
pub fn proposal(run: &Run, index: usize, question: &Question, paint: Paint) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", paint.paint(CHANGE, &plain(&question.message)));
    let environment = run.config.as_ref().map_or("", |config| config.environment.as_str());
    let _ = writeln!(text, "  environment  {environment}");
    let _ = writeln!(text, "  commit       {} \"{}\"", run.commit.short(), plain(&run.subject));
    for step in &run.steps {
        if let StepState::Succeeded { result: StepResult::Image(image) } = &step.state {
            let _ =
                writeln!(text, "  image        {} {}", image.image, paint.paint(GOOD, &image.digest.short()));
        }
    }
    let after = run.config.iter().flat_map(|config| &config.steps).skip(index + 1);
    for action in after {
        let _ = writeln!(text, "  then         {}", action.name());
    }
    text
}

/// The files that steps have kept.
pub fn files<'r>(id: RunId, files: impl Iterator<Item = (&'r str, &'r StepFile)>) -> String {
    let rows: Vec<Vec<String>> =
        files.map(|(step, file)| vec![step.to_owned(), size(file.size), file.path.clone()]).collect();
    if rows.is_empty() {
        return format!("Run {id} has kept no files; `artifacts` of a step says which it keeps.\n");
    }
    table(&["STEP", "SIZE", "FILE"], &rows)
}

/// A size for people: `714 B`, `1.4 MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut found = None;
    for unit in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        found = Some(unit);
    }
    found.map_or_else(|| format!("{bytes} B"), |unit| format!("{value:.1} {unit}"))
}

/// What others wrote, on one line and without characters that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
