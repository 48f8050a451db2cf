//! What the templates of the pages are filled with: texts and classes, nothing to be decided any more.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::log_pages::plan_before;
use crate::model::percent::encoded;
use crate::model::run::{ReleaseStage, Run, RunState, RunStep, StepAction, StepResult, StepState};
use crate::model::step_files::FailedTest;
use crate::view::pipeline::took;
use crate::view::run::size;
use crate::view::time::human;
use crate::view::words::count;

/// A run in a list, or at the head of its page.
#[derive(Debug, Serialize)]
pub struct RunView {
    id: i64,
    pipeline: String,
    repository: String,
    state: &'static str,
    class: &'static str,
    ended: bool,
    commit: String,
    whole_commit: String,
    subject: String,
    reason: Option<String>,
    has_taken: bool,
    took: String,
    begun: String,
    started_by: String,
    reference: Option<String>,
    parameters: Vec<String>,
}

impl RunView {
    /// Of `run`, as of `now`.
    pub fn new(run: &Run, now: DateTime<Utc>) -> Self {
        let took = took(run, now).map(human);
        Self {
            id: run.id.0,
            pipeline: run.pipeline.to_string(),
            repository: run.repository.to_string(),
            state: run.state.word(),
            class: run_class(run.state),
            ended: run.state.is_ended(),
            commit: run.commit.short().to_owned(),
            whole_commit: run.commit.to_string(),
            subject: run.subject.clone(),
            reason: run.reason.clone(),
            has_taken: took.is_some(),
            took: took.unwrap_or_else(|| "–".to_owned()),
            begun: ago(run.started.unwrap_or(run.queued), now),
            started_by: run.started_by(),
            reference: run.reference.as_ref().map(ToString::to_string),
            parameters: run.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        }
    }
}

fn run_class(state: RunState) -> &'static str {
    match state {
        RunState::Succeeded => "good",
        RunState::Failed | RunState::Quarantined => "bad",
        RunState::Running | RunState::Queued => "busy",
        RunState::Cancelled | RunState::Superseded => "",
    }
}

/// A step of a run.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    index: usize,
    name: String,
    state: &'static str,
    class: &'static str,
    result: String,
    same_as: Option<i64>,
    took: String,
    needs: String,
    /// The services that it rolls out.
    services: Vec<String>,
    tests: Option<TestsView>,
    files: Vec<FileView>,
}

/// What the tests of a step have shown.
#[derive(Debug, Clone, Serialize)]
struct TestsView {
    words: String,
    failures: Vec<FailedTest>,
    more: u64,
}

/// A file that a step has kept.
#[derive(Debug, Clone, Serialize)]
struct FileView {
    path: String,
    link: String,
    size: String,
}

/// The plan that a question is about.
#[derive(Debug, Serialize)]
struct PlanView {
    step: usize,
    summary: String,
}

/// What a run asks.
#[derive(Debug, Serialize)]
pub struct QuestionView {
    step: String,
    message: String,
    level: &'static str,
    shown: String,
    plan: Option<PlanView>,
    images: Vec<String>,
    then: Vec<String>,
}

/// What a run asks.
pub fn questions(run: &Run) -> Vec<QuestionView> {
    let Some(config) = &run.config else { return Vec::new() };
    let asked = run.steps.iter().zip(&config.steps).enumerate();
    asked
        .filter_map(|(index, (step, action))| {
            let (StepState::Asking { shown, .. }, StepAction::Approve(question)) = (&step.state, action)
            else {
                return None;
            };
            let built = run.steps.iter().filter_map(|step| match &step.state {
                StepState::Succeeded { result: StepResult::Image(image) } => {
                    Some(format!("{} {}", image.image, image.digest.short()))
                }
                _ => None,
            });
            let plan = plan_before(run, index).and_then(|plan| match &run.steps.get(plan)?.state {
                StepState::Succeeded { result: StepResult::Planned(planned) } => {
                    Some(PlanView { step: plan + 1, summary: planned.summary.clone() })
                }
                _ => None,
            });
            Some(QuestionView {
                step: step.name.clone(),
                plan,
                message: question.message.clone(),
                level: question.level.word(),
                shown: shown.clone(),
                images: built.collect(),
                then: config.steps.iter().skip(index + 1).map(StepAction::name).collect(),
            })
        })
        .collect()
}

impl StepView {
    fn new(run: &Run, index: usize, step: &RunStep, now: DateTime<Utc>) -> Self {
        let (class, mut result) = step_result(&step.state);
        // What was stopped while it was under way ended with its run, for the same reason.
        if step.state == StepState::Skipped && step.started.is_some() {
            result = run.reason.clone().unwrap_or_default();
        }
        let took = step.started.and_then(|started| (step.ended.unwrap_or(now) - started).to_std().ok());
        let same_as = match &step.state {
            StepState::Succeeded { result: StepResult::Image(image) } => {
                image.same_as.as_ref().map(|same| same.run.0)
            }
            _ => None,
        };
        let needs = needs(run, index);
        let names = needs.iter().filter_map(|need| run.steps.get(*need)).map(|step| step.name.as_str());
        Self {
            index: index + 1,
            name: step.name.clone(),
            state: step.state.word(),
            class,
            result,
            same_as,
            took: took.map_or_else(|| "–".to_owned(), human),
            needs: names.collect::<Vec<_>>().join(", "),
            services: services(run, index),
            tests: step.tests.as_ref().map(|tests| TestsView {
                words: match tests.failed {
                    0 => count(usize::try_from(tests.tests).unwrap_or(usize::MAX), "test"),
                    failed => format!("{failed} of {} tests failed", tests.tests),
                },
                failures: tests.failures.clone(),
                more: tests.failed.saturating_sub(tests.failures.len() as u64),
            }),
            files: step
                .files
                .iter()
                .map(|file| FileView {
                    path: file.path.clone(),
                    link: format!(
                        "/v1/runs/{}/file?step={}&path={}",
                        run.id,
                        encoded(&step.name),
                        encoded(&file.path)
                    ),
                    size: size(file.size),
                })
                .collect(),
        }
    }
}

/// The steps in their order.
pub fn steps(run: &Run, now: DateTime<Utc>) -> Vec<StepView> {
    let steps = run.steps.iter().enumerate();
    steps.map(|(index, step)| StepView::new(run, index, step, now)).collect()
}

/// The steps in columns: each stands after all that it needs.
pub fn columns(run: &Run, steps: &[StepView]) -> Vec<Vec<StepView>> {
    let mut depths: Vec<usize> = Vec::new();
    let mut columns: BTreeMap<usize, Vec<StepView>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        let before = needs(run, index).into_iter().filter_map(|need| depths.get(need));
        let depth = before.max().map_or(0, |deepest| deepest + 1);
        depths.push(depth);
        columns.entry(depth).or_default().push(step.clone());
    }
    columns.into_values().collect()
}

/// The services that a step rolls out.
fn services(run: &Run, index: usize) -> Vec<String> {
    match run.config.as_ref().and_then(|config| config.steps.get(index)) {
        Some(StepAction::Rollout(spec)) => vec![spec.name.to_string()],
        Some(StepAction::Release(specs)) => specs.iter().map(|spec| spec.name.to_string()).collect(),
        _ => Vec::new(),
    }
}

fn needs(run: &Run, index: usize) -> Vec<usize> {
    run.config.as_ref().map(|config| config.needs(index)).unwrap_or_default()
}

fn step_result(state: &StepState) -> (&'static str, String) {
    match state {
        StepState::Waiting | StepState::Skipped => ("", String::new()),
        StepState::Executing { attempt, .. } if *attempt > 1 => ("busy", format!("try {attempt}")),
        StepState::Inspecting
        | StepState::Building { .. }
        | StepState::Pushing { .. }
        | StepState::Preparing
        | StepState::Creating { .. }
        | StepState::Executing { .. }
        | StepState::Collecting { .. }
        | StepState::Working { .. }
        | StepState::Asking { .. }
        | StepState::Deploying { .. } => ("busy", String::new()),
        StepState::Following { revision } => ("busy", format!("revision {revision}")),
        StepState::Releasing { revisions, stage: ReleaseStage::Back { reason }, .. } => {
            ("bad", format!("taking {} back: {reason}", revisions.len()))
        }
        StepState::Releasing { before, revisions, .. } => {
            ("busy", format!("{} of {}", revisions.len(), before.len()))
        }
        StepState::Succeeded { result } => ("good", succeeded(result)),
        StepState::Failed { reason } => ("bad", reason.clone()),
    }
}

fn succeeded(result: &StepResult) -> String {
    match result {
        StepResult::Release(services) => {
            let each = services.iter().map(|one| format!("{} revision {}", one.service, one.revision));
            each.collect::<Vec<_>>().join(", ")
        }
        StepResult::Image(image) => match &image.same_as {
            Some(same) => {
                format!("{}, nothing to build: same tree as {} in", image.digest.short(), same.commit.short())
            }
            None => format!("{}, built and pushed", image.digest.short()),
        },
        StepResult::Source { files } => count(*files, "file"),
        StepResult::Approved { by } => format!("by {by}"),
        StepResult::NothingToApprove => "nothing to approve".to_owned(),
        StepResult::Planned(planned) => planned.summary.clone(),
        StepResult::Infra { summary } => summary.clone(),
        StepResult::Job { .. } => String::new(),
        StepResult::Run { attempts: 1 } => String::new(),
        StepResult::Run { attempts } => format!("at try {attempts}"),
        StepResult::Rollout { service, revision } => format!("{service} revision {revision}"),
    }
}

/// How long ago something was.
pub fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let since = (now - at).to_std().unwrap_or(Duration::ZERO);
    // Tenths of a second would only flicker.
    if since < Duration::from_secs(10) { "now".to_owned() } else { format!("{} ago", human(since)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::run::tests::{config, queued_run};

    #[test]
    fn a_step_stands_after_all_that_it_needs() {
        let mut config = config();
        let step = config.steps[0].clone();
        config.steps = vec![step; 5];
        config.needs = vec![vec![], vec![0], vec![0], vec![1, 2], vec![]];
        let names = ["source", "unit", "lint", "rollout", "alone"];
        let mut run = queued_run(1);
        run.steps = names
            .iter()
            .map(|name| RunStep {
                name: (*name).to_owned(),
                state: StepState::Waiting,
                started: None,
                ended: None,
                files: Vec::new(),
                tests: None,
            })
            .collect();
        run.config = Some(config);
        let steps = steps(&run, run.queued);
        let columns = columns(&run, &steps);
        let names: Vec<Vec<&str>> =
            columns.iter().map(|column| column.iter().map(|step| step.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["source", "alone"], vec!["unit", "lint"], vec!["rollout"]]);
        assert_eq!(steps[3].needs, "unit, lint");
    }
}
