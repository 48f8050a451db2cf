//! What the templates of the pages are filled with: texts and classes, nothing to be decided any more.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::super::pipeline::Seen;
use crate::driver::pipeline::request::Offered;
use crate::model::machine::{Machine, MachineState};
use crate::model::percent::encoded;
use crate::model::pipeline::{Parameter, ParameterKind};
use crate::model::run::{ReleaseStage, Run, RunState, RunStep, StepAction, StepResult, StepState};
use crate::model::service::{
    Instance, InstanceState, PreDeployState, Revision, RevisionState, ServiceStatus,
};
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

/// What a run asks.
#[derive(Debug, Serialize)]
pub struct QuestionView {
    step: String,
    message: String,
    level: &'static str,
    shown: String,
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
            Some(QuestionView {
                step: step.name.clone(),
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
        let (class, result) = step_result(&step.state);
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

/// Something that a run can be given, in a form.
#[derive(Debug, Serialize)]
pub struct ParameterView {
    name: String,
    kind: &'static str,
    choices: Vec<String>,
    default: String,
    required: bool,
    description: String,
}

impl ParameterView {
    /// Of a parameter.
    pub fn new(parameter: &Parameter) -> Self {
        let (kind, choices) = match &parameter.kind {
            ParameterKind::Text => ("text", Vec::new()),
            ParameterKind::Number => ("number", Vec::new()),
            ParameterKind::Boolean => ("choice", vec!["true".to_owned(), "false".to_owned()]),
            ParameterKind::Choice(choices) => ("choice", choices.clone()),
        };
        Self {
            name: parameter.name.clone(),
            kind,
            choices,
            default: parameter.default.clone().unwrap_or_default(),
            required: parameter.default.is_none(),
            description: parameter.description.clone(),
        }
    }
}

/// A pipeline on the first page.
#[derive(Debug, Serialize)]
pub struct PipelineView {
    name: String,
    repository: String,
    branch: String,
    last: Option<RunView>,
    waiting: Vec<i64>,
    deployed: Vec<Deployed>,
    parameters: Vec<ParameterView>,
}

/// What runs of a repository.
#[derive(Debug, Serialize)]
struct Deployed {
    name: String,
    words: String,
}

impl PipelineView {
    /// Of `offered`, whose newest run is `last` and whose `waiting` runs wait.
    pub fn new(
        offered: &Offered,
        last: Option<&Run>,
        waiting: Vec<i64>,
        seen: &Seen,
        now: DateTime<Utc>,
    ) -> Self {
        let services = seen.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
        let deployed = services.filter_map(|service| {
            let running = service.history.iter().find(|revision| revision.state == RevisionState::Running)?;
            let origin = &running.origin;
            (origin.repository == offered.source.name.as_str()).then(|| Deployed {
                name: service.name.to_string(),
                words: format!(
                    "revision {}, {} “{}”",
                    running.number,
                    origin.commit.get(..7).unwrap_or("by hand"),
                    origin.subject
                ),
            })
        });
        Self {
            name: offered.name.to_string(),
            repository: offered.source.name.to_string(),
            branch: offered.source.branch.clone(),
            last: last.map(|run| RunView::new(run, now)),
            waiting,
            deployed: deployed.collect(),
            parameters: offered.parameters.iter().map(ParameterView::new).collect(),
        }
    }
}

/// What is known of the cluster.
#[derive(Debug, Serialize)]
pub struct ClusterView {
    lost: Option<String>,
    since: Option<String>,
    asking: bool,
    empty: bool,
    services: Vec<ServiceView>,
    machines: Vec<MachineView>,
}

impl ClusterView {
    /// Of what was seen, as of `now`.
    pub fn new(seen: &Seen, now: DateTime<Utc>) -> Self {
        let snapshot = seen.snapshot.as_ref();
        let services = snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
        let machines = snapshot.iter().flat_map(|(snapshot, _)| &snapshot.machines);
        Self {
            lost: seen.lost.as_deref().map(|lost| lost.trim_end_matches('.').to_owned()),
            since: snapshot.filter(|_| seen.lost.is_some()).map(|(_, at)| ago(*at, now)),
            asking: snapshot.is_none() && seen.lost.is_none(),
            empty: snapshot.is_some_and(|(snapshot, _)| snapshot.services.is_empty()),
            services: services.map(|status| ServiceView::new(status, now)).collect(),
            machines: machines.map(MachineView::new).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct ServiceView {
    name: String,
    class: &'static str,
    healthy: u32,
    desired: u64,
    running: Option<RevisionView>,
    newest: Option<RevisionView>,
    instances: Vec<InstanceView>,
    history: Vec<RevisionView>,
}

impl ServiceView {
    fn new(status: &ServiceStatus, now: DateTime<Utc>) -> Self {
        let is_running = |revision: &&Revision| revision.state == RevisionState::Running;
        let revision = |revision| RevisionView::new(revision, now);
        Self {
            name: status.name.to_string(),
            class: if status.is_whole() { "good" } else { "bad" },
            healthy: status.healthy(),
            desired: u64::from(status.desired),
            running: status.history.iter().find(is_running).map(revision),
            newest: status.history.first().filter(|first| !is_running(first)).map(revision),
            instances: status.instances.iter().map(|instance| InstanceView::new(instance, now)).collect(),
            history: status.history.iter().map(revision).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct RevisionView {
    number: u64,
    class: &'static str,
    words: &'static str,
    reason: Option<String>,
    digest: String,
    image: String,
    origin: String,
}

impl RevisionView {
    fn new(revision: &Revision, now: DateTime<Utc>) -> Self {
        let waits = matches!(revision.pre_deploy, Some(PreDeployState::Waiting | PreDeployState::Running));
        let (class, words) = match revision.state {
            RevisionState::RollingOut if waits => ("busy", "runs its pre_deploy"),
            RevisionState::RollingOut => ("busy", "is rolling out"),
            RevisionState::RolledBack => ("bad", "was rolled back"),
            RevisionState::Failed => ("bad", "failed"),
            RevisionState::Replaced => ("", "was replaced"),
            RevisionState::Running => ("good", "runs"),
        };
        let origin = &revision.origin;
        let what = match origin.commit.get(..7) {
            Some(commit) => format!("{}@{commit} “{}”", origin.repository, origin.subject),
            None => "by hand".to_owned(),
        };
        Self {
            number: revision.number,
            class,
            words,
            reason: revision.reason.clone(),
            digest: revision.digest.as_ref().map(ToString::to_string).unwrap_or_default(),
            image: revision.image().to_string(),
            origin: format!("{what}, {}", ago(revision.since, now)),
        }
    }
}

#[derive(Debug, Serialize)]
struct InstanceView {
    name: String,
    class: &'static str,
    state: &'static str,
    message: Option<String>,
    machine: Option<String>,
    addresses: Vec<String>,
    image: String,
    since: String,
}

impl InstanceView {
    fn new(instance: &Instance, now: DateTime<Utc>) -> Self {
        let dash = || "–".to_owned();
        let mut addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() {
            addresses.push(dash());
        }
        Self {
            name: instance.name.clone(),
            class: match instance.state {
                InstanceState::Healthy => "good",
                InstanceState::Starting | InstanceState::Stopping | InstanceState::Pending => "busy",
                InstanceState::Failed => "bad",
            },
            state: instance.state.word(),
            message: instance.message.clone(),
            machine: instance.machine.as_ref().map(ToString::to_string),
            addresses,
            image: instance.digest.as_ref().map_or_else(dash, |digest| digest.short().to_string()),
            since: ago(instance.since, now),
        }
    }
}

#[derive(Debug, Serialize)]
struct MachineView {
    id: String,
    class: &'static str,
    state: &'static str,
    role: String,
    address: String,
    zone: String,
    group: String,
}

impl MachineView {
    fn new(machine: &Machine) -> Self {
        Self {
            id: machine.id.to_string(),
            class: match machine.state {
                MachineState::Ready => "good",
                MachineState::Paused | MachineState::Draining | MachineState::Rebooting => "busy",
                MachineState::Down => "bad",
            },
            state: machine.state.word(),
            role: format!("{}{}", machine.role.word(), if machine.leader { ", leader" } else { "" }),
            address: machine.address.to_string(),
            zone: machine.metadata.get("zone").cloned().unwrap_or_else(|| "–".to_owned()),
            group: machine.group.clone(),
        }
    }
}

fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
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
