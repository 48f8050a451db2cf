//! Steps that a git repository holds itself, in a file of each commit, and what a pipeline lets them use.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::steps::path;
use super::{read_steps, timeout};
use crate::model::name::{JobName, ServiceName};
use crate::model::pipeline::{Action, OwnSteps, Pipeline, Step, fits_parameter};
use crate::model::project::Repository;
use crate::repo::decode::{Fields, Reader};
use crate::repo::{merge_keys, references, unfilled};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml;
use crate::yaml::Node;

/// What steps may use that stand elsewhere.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    services: Vec<ServiceName>,
    jobs: Vec<JobName>,
    secrets: Vec<String>,
}

/// What `allow` says; only steps that stand elsewhere need it.
pub(super) fn allow(reader: &mut Reader<'_>, fields: &Fields<'_>, is_own: bool) -> Allowed {
    let Some(node) = fields.get("allow") else { return Allowed::default() };
    if !is_own {
        let diagnostic = Diagnostic::error(
            "conflicting-keys",
            "`allow` limits steps that are read from the git repository",
        );
        reader.problem(diagnostic, node.span, "these steps stand here; remove it");
        return Allowed::default();
    }
    let keys = ["services", "jobs", "secrets"];
    let Some(fields) = reader.fields(node, node.span, "`allow`", &keys) else { return Allowed::default() };
    let mut allowed = Allowed::default();
    if let Some(node) = fields.get("services") {
        let items = reader.items(node, "`services`");
        allowed.services = items.iter().filter_map(|item| reader.name(item)).collect();
    }
    if let Some(node) = fields.get("jobs") {
        let items = reader.items(node, "`jobs`");
        allowed.jobs = items.iter().filter_map(|item| reader.name(item)).collect();
    }
    if let Some(node) = fields.get("secrets") {
        for item in reader.items(node, "`secrets`") {
            super::steps::not_a_value(reader, item);
            allowed.secrets.extend(reader.text(item, "a secret").map(str::to_owned));
        }
    }
    allowed
}

/// Where the steps are.
pub(super) fn own(reader: &mut Reader<'_>, node: &Node, place: Span, allowed: Allowed) -> Option<OwnSteps> {
    let fields = reader.fields(node, place, "a mapping in `steps`", &["file"])?;
    let node = reader.required(&fields, "file")?;
    let file = path(reader, node, "`file`")?;
    let Allowed { services, jobs, secrets } = allowed;
    Some(OwnSteps { file, services, jobs, secrets })
}

/// What is wrong with the steps of a commit.
#[derive(Debug, thiserror::Error)]
#[error("{}", in_one_line(.0))]
pub struct OwnProblems(pub Vec<Diagnostic>);

/// The first error, and how many there are besides.
fn in_one_line(problems: &[Diagnostic]) -> String {
    let mut errors = problems.iter().filter(|problem| problem.is_error());
    let Some(first) = errors.next() else { return "the steps can't be read".to_owned() };
    match errors.count() {
        0 => first.in_one_line(),
        more => format!("{} (and {more} more)", first.in_one_line()),
    }
}

/// The pipeline with the steps of a commit, as its file has them, and what is odd about these.
///
/// # Errors
/// When they can't be read, or use what the pipeline does not give them.
pub fn own_steps(
    repository: &Repository,
    pipeline: &Pipeline,
    own: &OwnSteps,
    text: &[u8],
) -> Result<(Pipeline, Vec<Diagnostic>), OwnProblems> {
    let mut problems = Vec::new();
    let Ok(text) = std::str::from_utf8(text) else {
        let message = format!("{} is not UTF-8", own.file);
        return Err(OwnProblems(vec![Diagnostic::error("unreadable-file", message)]));
    };
    let file = SourceFile::new(own.file.clone(), text);
    let steps = read(&file, repository, pipeline, own, &mut problems);
    match steps {
        Some(steps) if !problems.iter().any(Diagnostic::is_error) => {
            Ok((Pipeline { steps, ..pipeline.clone() }, problems))
        }
        _ => Err(OwnProblems(problems)),
    }
}

fn read(
    file: &Arc<SourceFile>,
    repository: &Repository,
    pipeline: &Pipeline,
    own: &OwnSteps,
    problems: &mut Vec<Diagnostic>,
) -> Option<Vec<Step>> {
    let mut node = yaml::parse(file, problems)?;
    merge_keys::merge(file, &mut node, false, problems);
    unfilled::check(file, &node, "pipelines", &[], problems);
    let mut reader = Reader { file, problems };
    let start = Span::new(0, 0);
    let fields = reader.fields(&node, start, "a file of steps", &["timeout", "steps"])?;
    let all = timeout(&mut reader, &fields);
    let node = reader.required(&fields, "steps")?;
    let (steps, complete) = read_steps(&mut reader, node, all);
    for step in &steps {
        for (what, help) in exceeded(pipeline, own, step) {
            let diagnostic = Diagnostic::error("not-allowed", what).help(help);
            reader.problem(diagnostic, step.place.span, "the pipeline does not allow it");
        }
    }
    references::check_own(file, &steps, complete, repository, problems);
    Some(steps)
}

/// What a step uses that its pipeline does not give it, each with what would change that.
fn exceeded(pipeline: &Pipeline, own: &OwnSteps, step: &Step) -> Vec<(String, String)> {
    let name = &pipeline.name;
    let add = |key: &str, what: &str| {
        format!(
            "if they are meant to, add `{what}` to `allow.{key}` of pipeline `{name}` in the infra repository"
        )
    };
    let secrets = |secrets: &BTreeMap<String, String>| {
        let is_given =
            |parameter: &String| own.secrets.iter().any(|pattern| fits_parameter(pattern, parameter));
        let missing = secrets.values().filter(|parameter| !is_given(parameter));
        missing
            .map(|one| (format!("these steps may not have the secret `{one}`"), add("secrets", one)))
            .collect::<Vec<_>>()
    };
    match &step.action {
        Action::Build(build) => secrets(&build.secrets),
        Action::Run(script) => secrets(&script.secrets),
        Action::Rollout(rollout) => {
            let missing = rollout.services.iter().filter(|service| !own.services.contains(service));
            missing
                .map(|one| {
                    (format!("these steps may not roll out service `{one}`"), add("services", one.as_str()))
                })
                .collect()
        }
        Action::Job(run) if !own.jobs.contains(&run.job) => {
            vec![(format!("these steps may not run job `{}`", run.job), add("jobs", run.job.as_str()))]
        }
        Action::Infra(spec) => vec![(
            format!("`{}` is a step of infra repositories only", spec.work.word()),
            format!("move the step to pipelines/ of the infra repository, or remove it from {}", own.file),
        )],
        Action::Job(_) | Action::Approve(_) => Vec::new(),
    }
}
