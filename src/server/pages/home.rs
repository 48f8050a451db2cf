//! What the template of the first page is filled with: what needs somebody, and for each repository what is deployed,
//! what waits, and why it is red.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::super::pipeline::Seen;
use super::cluster::OriginView;
use super::views::{RunView, ago};
use crate::driver::pipeline::request::Offered;
use crate::driver::stack_board::Board;
use crate::model::deployed::Phase;
use crate::model::machine::MachineState;
use crate::model::pipeline::{Parameter, ParameterKind};
use crate::model::run::{Run, RunState, StepState};
use crate::model::service::{Revision, RevisionState, ServiceStatus};
use crate::view::words::count;

/// Something that a run can be given, in a form.
#[derive(Debug, Serialize)]
struct ParameterView {
    name: String,
    kind: &'static str,
    choices: Vec<String>,
    default: String,
    required: bool,
    description: String,
}

impl ParameterView {
    /// Of a parameter.
    fn new(parameter: &Parameter) -> Self {
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

/// A pipeline with its runs.
#[derive(Debug)]
pub struct PipelineRuns<'a> {
    /// The pipeline.
    pub offered: &'a Offered,
    /// Its newest run.
    pub last: Option<Run>,
    /// Those that have not ended, oldest first.
    pub open: Vec<Run>,
}

/// A pipeline on the first page.
#[derive(Debug, Serialize)]
struct PipelineView {
    name: String,
    branch: String,
    last: Option<RunView>,
    waiting: Vec<WaitingView>,
    parameters: Vec<ParameterView>,
}

/// A run that waits.
#[derive(Debug, Serialize)]
struct WaitingView {
    id: i64,
    words: &'static str,
}

/// A service that runs what a repository's pipelines made.
#[derive(Debug, Serialize)]
struct DeployedView {
    name: String,
    class: &'static str,
    health: String,
    revision: Option<u64>,
    origin: Option<OriginView>,
    since: Option<String>,
    /// A newer revision that does not run.
    newest: Option<(u64, &'static str, &'static str)>,
    why: Option<String>,
}

/// A repository, and what runs of it.
#[derive(Debug, Serialize)]
struct RepositoryView {
    name: String,
    pipelines: Vec<PipelineView>,
    deployed: Vec<DeployedView>,
}

/// Something that needs somebody.
#[derive(Debug, Serialize)]
struct AttentionView {
    class: &'static str,
    what: String,
    link: String,
    why: String,
}

/// The first page.
#[derive(Debug, Serialize)]
pub struct HomeView {
    attention: Vec<AttentionView>,
    repositories: Vec<RepositoryView>,
    /// Services that no repository's pipeline has made.
    others: Vec<DeployedView>,
    machines: Option<String>,
}

impl HomeView {
    /// Of what is known, as of `now`.
    pub fn new(pipelines: &[PipelineRuns<'_>], seen: &Seen, board: &Board, now: DateTime<Utc>) -> Self {
        let snapshot = seen.snapshot.as_ref().map(|(snapshot, _)| &**snapshot);
        let services = snapshot.map_or(&[][..], |snapshot| snapshot.services.as_slice());
        let mut repositories: BTreeMap<&str, RepositoryView> = BTreeMap::new();
        for one in pipelines {
            let name = one.offered.source.name.as_str();
            let repository = repositories.entry(name).or_insert_with(|| RepositoryView {
                name: name.to_owned(),
                pipelines: Vec::new(),
                deployed: Vec::new(),
            });
            repository.pipelines.push(PipelineView::new(one, now));
        }
        let mut others = Vec::new();
        for service in services {
            let of = service.history.first().map(|newest| newest.origin.repository.as_str());
            let view = DeployedView::new(service, now);
            match of.and_then(|of| repositories.get_mut(of)) {
                Some(repository) => repository.deployed.push(view),
                None => others.push(view),
            }
        }
        let machines = snapshot.filter(|snapshot| !snapshot.machines.is_empty()).map(|snapshot| {
            let ready =
                snapshot.machines.iter().filter(|machine| machine.state == MachineState::Ready).count();
            let all = count(snapshot.machines.len(), "machine");
            if ready == snapshot.machines.len() {
                format!("{all}, all ready")
            } else {
                format!("{all}, {ready} ready")
            }
        });
        Self {
            attention: attention(pipelines, seen, board),
            repositories: repositories.into_values().collect(),
            others,
            machines,
        }
    }
}

/// What needs somebody: questions first, then what is red.
fn attention(pipelines: &[PipelineRuns<'_>], seen: &Seen, board: &Board) -> Vec<AttentionView> {
    let mut found = Vec::new();
    let mut add = |class, what: String, link: String, why: String| {
        found.push(AttentionView { class, what, link, why });
    };
    for run in pipelines.iter().flat_map(|one| &one.open).filter(|run| asks(run)) {
        let what = format!("{} #{} waits for an answer", run.pipeline, run.id);
        add("busy", what, format!("/runs/{}", run.id), run.subject.clone());
    }
    for run in pipelines.iter().filter_map(|one| one.last.as_ref()) {
        if matches!(run.state, RunState::Failed | RunState::Quarantined) {
            let what = format!("{} #{} {}", run.pipeline, run.id, run.state.word());
            add("bad", what, format!("/runs/{}", run.id), run.reason.clone().unwrap_or_default());
        }
    }
    let snapshot = seen.snapshot.iter().map(|(snapshot, _)| snapshot);
    for service in snapshot.clone().flat_map(|snapshot| &snapshot.services) {
        let link = format!("/services/{}", service.name);
        let failed = service.history.first().filter(|newest| newest.failure().is_some());
        if !service.is_whole() && !service.stopped {
            let what = format!("{}: {} of {} healthy", service.name, service.healthy(), service.desired);
            let message = service.instances.iter().find_map(|instance| instance.message.clone());
            add("bad", what, link, message.unwrap_or_default());
        } else if let Some((newest, failure)) = failed.and_then(|one| Some((one, one.failure()?))) {
            let what = format!("{} revision {} {failure}", service.name, newest.number);
            add("bad", what, link, newest.reason.clone().unwrap_or_default());
        }
    }
    for machine in snapshot.flat_map(|snapshot| &snapshot.machines) {
        let link = format!("/machines/{}", machine.id);
        let short: Vec<String> =
            machine.pressure.iter().flat_map(|p| p.short_of()).map(|short| short.to_string()).collect();
        if machine.state == MachineState::Down {
            add("bad", format!("machine {} is down", machine.id), link, String::new());
        } else if !short.is_empty() {
            add("busy", format!("machine {} runs short", machine.id), link, short.join(", "));
        }
    }
    let listed = board.listed.as_ref().and_then(|listed| listed.result.as_ref().ok());
    for stack in listed.into_iter().flatten() {
        let Some(deployed) = &stack.deployed else { continue };
        if matches!(deployed.phase(), Phase::FailedCreate | Phase::Stuck) {
            let what = format!("stack {}: {}", stack.cloud_name, deployed.status);
            add("bad", what, format!("/stacks#{}", stack.cloud_name), deployed.status_reason.clone());
        }
    }
    let report = board.checked.as_ref().and_then(|checked| checked.result.as_ref().ok());
    for stack in report.iter().flat_map(|report| &report.stacks).filter(|stack| !stack.drifted.is_empty()) {
        let names: Vec<&str> = stack.drifted.iter().map(|drifted| drifted.resource.as_str()).collect();
        let link = format!("/stacks#{}", stack.cloud_name);
        add("bad", format!("stack {} was changed by others", stack.stack), link, names.join(", "));
    }
    found
}

fn asks(run: &Run) -> bool {
    run.steps.iter().any(|step| matches!(step.state, StepState::Asking { .. }))
}

impl PipelineView {
    fn new(runs: &PipelineRuns<'_>, now: DateTime<Utc>) -> Self {
        let waiting = runs.open.iter().filter_map(|run| {
            let words = match (run.state, asks(run)) {
                (_, true) => "asks",
                (RunState::Queued, false) => "queued",
                _ => return None,
            };
            Some(WaitingView { id: run.id.0, words })
        });
        Self {
            name: runs.offered.name.to_string(),
            branch: runs.offered.source.branch.clone(),
            last: runs.last.as_ref().map(|run| RunView::new(run, now)),
            waiting: waiting.collect(),
            parameters: runs.offered.parameters.iter().map(ParameterView::new).collect(),
        }
    }
}

impl DeployedView {
    fn new(service: &ServiceStatus, now: DateTime<Utc>) -> Self {
        let is_running = |revision: &&Revision| revision.state == RevisionState::Running;
        let running = service.history.iter().find(is_running);
        let newest = service.history.first().filter(|newest| !is_running(newest));
        let message = service.instances.iter().find_map(|instance| instance.message.clone());
        Self {
            name: service.name.to_string(),
            class: match (service.stopped, service.is_whole()) {
                (true, _) => "",
                (false, true) => "good",
                (false, false) => "bad",
            },
            health: match service.stopped {
                true => "stopped".to_owned(),
                false => format!("{}/{} healthy", service.healthy(), service.desired),
            },
            revision: running.map(|running| running.number),
            origin: running.map(|running| OriginView::new(&running.origin)),
            since: running.map(|running| ago(running.since, now)),
            newest: newest.map(|newest| match newest.state {
                RevisionState::RollingOut => (newest.number, "busy", "is rolling out"),
                RevisionState::RolledBack => (newest.number, "bad", "was rolled back"),
                RevisionState::Failed => (newest.number, "bad", "failed"),
                RevisionState::Running | RevisionState::Replaced => (newest.number, "", "was replaced"),
            }),
            why: newest
                .and_then(|newest| newest.reason.clone())
                .or_else(|| message.filter(|_| !service.is_whole())),
        }
    }
}
