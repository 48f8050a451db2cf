//! The repository put together from its files, and the names in them that refer to each other.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::decode::Reader;
use super::files::Files;
use super::interpolate::Variables;
use super::pipelines::Decoded;
use super::{
    PROJECT_FILE, graph, host_files, jobs, merge_keys, pipelines, project, service_mounts, service_order,
    service_ports, service_units, services, stacks, unfilled, with_suggestion,
};
use crate::model::job::Runs;
use crate::model::name::{JobName, PipelineName, ProjectName, ServiceName};
use crate::model::pipeline::{Action, OwnSteps, Pipeline, Step};
use crate::model::project::{Environment, HostFile, Job, Repository, Service};
use crate::model::setting::Place;
use crate::model::stack::Stack;
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml;
use crate::yaml::{Node, Scalar};

/// Names that files declare, whether what they stand for could be read or not: a broken
/// service is reported once, not again by every pipeline that names it.
#[derive(Debug, Default)]
struct Declared {
    stacks: Vec<(String, Place)>,
    services: Vec<(String, Place)>,
    jobs: Vec<(String, Place)>,
    host_files: Vec<(String, Place)>,
    pipelines: Vec<(String, Place)>,
    repositories: Vec<(String, Place)>,
    /// Folders (and `fleetwright.yaml`) of which a file could not be read: what is missing
    /// there may well be in it, and is not reported.
    unread: Vec<&'static str>,
}

fn names(declared: &[(String, Place)]) -> Vec<&str> {
    declared.iter().map(|(name, _)| name.as_str()).collect()
}

/// Decodes all files and checks the names they use for each other.
pub fn assemble(
    root: &Path,
    files: &Files,
    variables: Variables<'_>,
    problems: &mut Vec<Diagnostic>,
) -> Repository {
    let mut declared = Declared { unread: files.unread.clone(), ..Declared::default() };
    let mut project = project::Project::default();
    match files.project.as_ref().and_then(|file| Some((file, document(file, problems)?))) {
        Some((file, node)) => {
            project = project::decode(&mut Reader { file, problems }, &node, variables);
            if let Some(node) = node.get("repositories") {
                declare(file, node, "repository", &mut declared.repositories, problems);
            }
        }
        None => declared.unread.push(PROJECT_FILE),
    }
    let mut all_stacks = Vec::new();
    for file in &files.stacks {
        let Some(node) = document(file, problems) else {
            declared.unread.push("stacks");
            continue;
        };
        declare(file, &node, "stack", &mut declared.stacks, problems);
        all_stacks.extend(stacks::decode(&mut Reader { file, problems }, &node, variables));
    }
    let mut all_services: Vec<Service> = Vec::new();
    let environments: Vec<_> = project.environments.iter().map(|one| one.name.clone()).collect();
    for file in &files.services {
        let Some(node) = document(file, problems) else {
            declared.unread.push("services");
            continue;
        };
        declare(file, &node, "service", &mut declared.services, problems);
        unfilled::check(file, &node, "services", &names(&declared.stacks), problems);
        let scope = services::Scope { environments: &environments, stacks: &names(&declared.stacks) };
        all_services.extend(services::decode(&mut Reader { file, problems }, &node, scope));
    }
    let mut all_jobs: Vec<Job> = Vec::new();
    for file in &files.jobs {
        let Some(node) = document(file, problems) else {
            declared.unread.push("jobs");
            continue;
        };
        declare(file, &node, "job", &mut declared.jobs, problems);
        unfilled::check(file, &node, "jobs", &names(&declared.stacks), problems);
        let scope = services::Scope { environments: &environments, stacks: &names(&declared.stacks) };
        all_jobs.extend(jobs::decode(&mut Reader { file, problems }, &node, scope));
    }
    check_jobs(&all_jobs, &all_services, &declared, problems);
    let mut all_host_files: Vec<HostFile> = Vec::new();
    for file in &files.host_files {
        let Some(node) = document(file, problems) else {
            declared.unread.push("host_files");
            continue;
        };
        declare(file, &node, "watched file", &mut declared.host_files, problems);
        let scope = host_files::Scope {
            environments: &environments,
            templates: &files.templates,
            services: (&names(&declared.services), !declared.unread.contains(&"services")),
        };
        all_host_files.extend(host_files::decode(&mut Reader { file, problems }, &node, scope));
    }
    host_files::check_paths(&all_host_files, &environments, problems);
    let mut all_pipelines = Vec::new();
    for file in &files.pipelines {
        let Some(node) = document(file, problems) else {
            declared.unread.push("pipelines");
            continue;
        };
        declare(file, &node, "pipeline", &mut declared.pipelines, problems);
        unfilled::check(file, &node, "pipelines", &names(&declared.stacks), problems);
        for decoded in pipelines::decode(&mut Reader { file, problems }, &node) {
            check_pipeline(file, &decoded, &declared, &all_services, problems);
            all_pipelines.push(decoded.pipeline);
        }
    }
    check_after(&all_pipelines, !declared.unread.contains(&"pipelines"), problems);
    check_stacks(&all_stacks, &declared, problems);
    let complete = !declared.unread.contains(&"services");
    service_order::check(&all_services, &environments, complete, problems);
    service_mounts::check_host_paths(&all_services, &all_jobs, &project.host_paths, problems);
    let name = project.name.clone().unwrap_or_else(placeholder);
    let mounting = (&mut all_services[..], &mut all_jobs[..]);
    service_mounts::render(mounting, &name, &project.environments, &files.templates, problems);
    let context_of = |environment: &Environment| service_mounts::known(&name, environment);
    service_units::render(&mut all_services, &context_of, &project.environments, &files.templates, problems);
    // What units ask of machines is known only now.
    service_ports::check(&all_services, &environments, problems);
    check_registries(&project, &all_pipelines, problems);
    check_overrides(&all_stacks, &project, &declared, files, problems);
    // An environment can have references of its own, and each must have an order.
    let each = project.environments.iter().map(|environment| {
        all_stacks.iter().map(|stack| stack.in_environment(&environment.name)).collect::<Vec<_>>()
    });
    let mut circles = Vec::new();
    each.for_each(|stacks| graph::check_cycles(&stacks, &mut circles));
    if project.environments.is_empty() {
        graph::check_cycles(&all_stacks, &mut circles);
    }
    for circle in circles {
        if !problems.contains(&circle) {
            problems.push(circle);
        }
    }
    Repository {
        root: root.to_owned(),
        // A repository without a name has an error and is never handed out.
        project: name,
        environments: project.environments,
        clusters: project.clusters,
        repositories: project.repositories,
        keep: project.keep,
        stacks: all_stacks,
        services: all_services,
        jobs: all_jobs,
        host_files: all_host_files,
        pipelines: all_pipelines,
        templates: files.templates.clone(),
        files: files.count(),
    }
}

fn placeholder() -> ProjectName {
    "project".parse().expect("it is a name")
}

/// The file's document. An empty `fleetwright.yaml` is an error; other files may be empty.
fn document(file: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut node = yaml::parse(file, problems)?;
    merge_keys::merge(file, &mut node, false, problems);
    if node.scalar() != Some(Scalar::Null) {
        return Some(node);
    }
    let name = file.name();
    problems.push(if name == PROJECT_FILE {
        Diagnostic::error("empty-file", format!("{name} is empty")).at(file, Span::new(0, 0), "").help(
            "it needs the keys `project`, `environments` and `clusters`; `fleetwright init DIR` shows one",
        )
    } else {
        Diagnostic::warning("empty-file", format!("{name} is empty"))
            .at(file, Span::new(0, 0), "")
            .help("fill it or remove it")
    });
    None
}

/// Takes the names of a mapping, which must be unique over all files.
fn declare(
    file: &Arc<SourceFile>,
    node: &Node,
    what: &str,
    declared: &mut Vec<(String, Place)>,
    problems: &mut Vec<Diagnostic>,
) {
    for (key, _) in node.entries().unwrap_or_default() {
        let Some(name) = key.text() else { continue };
        match declared.iter().find(|(known, _)| known == name) {
            Some((_, first)) => problems.push(
                Diagnostic::error(
                    "duplicate-name",
                    format!("there are two definitions of the {what} `{name}`"),
                )
                .at(file, key.span, format!("the first is at {first}")),
            ),
            None => declared.push((name.to_owned(), Place::new(file, key.span))),
        }
    }
}

fn check_pipeline(
    file: &Arc<SourceFile>,
    decoded: &Decoded,
    declared: &Declared,
    services: &[Service],
    problems: &mut Vec<Diagnostic>,
) {
    let pipeline = &decoded.pipeline;
    let name = pipeline.repository.as_str();
    let known = names(&declared.repositories);
    if !known.contains(&name) && !declared.unread.contains(&PROJECT_FILE) {
        let diagnostic = Diagnostic::error("unknown-repository", format!("there is no repository `{name}`"));
        let place = format!("`repositories` of {PROJECT_FILE}");
        problems.push(with_suggestion(diagnostic, file, decoded.repository, name, &known, &place));
    }
    if let Some(own) = &pipeline.own {
        check_allowed(own, declared, &pipeline.place, problems);
    }
    check_steps(file, (&pipeline.steps, decoded.complete), declared, services, problems);
}

/// Reports services and jobs that a pipeline allows and that don't exist.
fn check_allowed(own: &OwnSteps, declared: &Declared, place: &Place, problems: &mut Vec<Diagnostic>) {
    let known = names(&declared.services);
    for service in own.services.iter().map(ServiceName::as_str).filter(|one| !known.contains(one)) {
        if !declared.unread.contains(&"services") {
            let diagnostic = Diagnostic::error("unknown-service", format!("there is no service `{service}`"));
            problems.push(with_suggestion(diagnostic, &place.file, place.span, service, &known, "services/"));
        }
    }
    let known = names(&declared.jobs);
    for job in own.jobs.iter().map(JobName::as_str).filter(|one| !known.contains(one)) {
        if !declared.unread.contains(&"jobs") {
            let diagnostic = Diagnostic::error("unknown-job", format!("there is no job `{job}`"));
            problems.push(with_suggestion(diagnostic, &place.file, place.span, job, &known, "jobs/"));
        }
    }
}

/// Checks steps that stand elsewhere than in the repository, as those that stand in it.
pub fn check_own(
    file: &Arc<SourceFile>,
    steps: &[Step],
    complete: bool,
    repository: &Repository,
    problems: &mut Vec<Diagnostic>,
) {
    let services = repository.services.iter().map(|one| (one.name().to_string(), one.place.clone()));
    let jobs = repository.jobs.iter().map(|one| (one.wanted.spec.name.to_string(), one.place.clone()));
    let declared = Declared { services: services.collect(), jobs: jobs.collect(), ..Declared::default() };
    check_steps(file, (steps, complete), &declared, &repository.services, problems);
}

/// Checks the jobs and services that steps name.
fn check_steps(
    file: &Arc<SourceFile>,
    (steps, complete): (&[Step], bool),
    declared: &Declared,
    services: &[Service],
    problems: &mut Vec<Diagnostic>,
) {
    let jobs = names(&declared.jobs);
    for step in steps {
        let Action::Job(run) = &step.action else { continue };
        if !jobs.contains(&run.job.as_str()) && !declared.unread.contains(&"jobs") {
            let diagnostic = Diagnostic::error("unknown-job", format!("there is no job `{}`", run.job));
            let (at, name) = (&step.place, run.job.as_str());
            problems.push(with_suggestion(diagnostic, &at.file, at.span, name, &jobs, "jobs/"));
        }
    }
    let known = names(&declared.services);
    for (index, step) in steps.iter().enumerate() {
        let Action::Rollout(rollout) = &step.action else { continue };
        let built: Vec<&str> = before(steps, index)
            .into_iter()
            .filter_map(|earlier| match &steps[earlier].action {
                Action::Build(build) => Some(build.image.as_str()),
                Action::Run(_)
                | Action::Rollout(_)
                | Action::Approve(_)
                | Action::Job(_)
                | Action::Infra(_) => None,
            })
            .collect();
        for service in &rollout.services {
            check_rollout(
                Rolls { file, complete, step, built: &built },
                service,
                (declared, &known),
                services,
                problems,
            );
        }
    }
}

/// Reports pipelines after which others run that don't exist, and those that would start each other for ever.
fn check_after(pipelines: &[Pipeline], complete: bool, problems: &mut Vec<Diagnostic>) {
    let known: Vec<&str> = pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    for pipeline in pipelines {
        for (name, place) in &pipeline.triggers.after {
            if !known.contains(&name.as_str()) && complete {
                let diagnostic =
                    Diagnostic::error("unknown-pipeline", format!("there is no pipeline `{name}`"));
                let found =
                    with_suggestion(diagnostic, &place.file, place.span, name.as_str(), &known, "pipelines/");
                problems.push(found);
            }
            if sets_off(pipelines, pipeline, name) {
                let message =
                    format!("`{}` runs after `{name}`, which runs after `{}`", pipeline.name, pipeline.name);
                let diagnostic = Diagnostic::error("pipeline-circle", message);
                problems.push(diagnostic.at(&place.file, place.span, "they would start each other for ever"));
            }
        }
    }
}

/// Whether a run of `first` leads to one of `other`.
fn sets_off(pipelines: &[Pipeline], first: &Pipeline, other: &PipelineName) -> bool {
    let mut reached = BTreeSet::from([&first.name]);
    loop {
        let next = pipelines.iter().filter(|pipeline| {
            !reached.contains(&pipeline.name)
                && pipeline.triggers.after.iter().any(|(name, _)| reached.contains(name))
        });
        let next: Vec<&PipelineName> = next.map(|pipeline| &pipeline.name).collect();
        if next.is_empty() {
            return reached.contains(other);
        }
        reached.extend(next);
    }
}

/// The positions of the steps that have ended before the one at `index` begins.
fn before(steps: &[Step], index: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open: Vec<usize> = steps[index].needs.clone();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(&steps[next].needs);
        }
    }
    found
}

/// A rollout step, and the images that are built before it.
#[derive(Clone, Copy)]
struct Rolls<'r> {
    file: &'r Arc<SourceFile>,
    /// Whether all steps could be read.
    complete: bool,
    step: &'r Step,
    built: &'r [&'r str],
}

/// Reports a service of a rollout step that does not exist, or whose image is not built.
fn check_rollout(
    Rolls { file, complete, step, built }: Rolls<'_>,
    rolled_out: &ServiceName,
    (declared, known): (&Declared, &[&str]),
    services: &[Service],
    problems: &mut Vec<Diagnostic>,
) {
    let name = rolled_out.as_str();
    if !known.contains(&name) {
        if declared.unread.contains(&"services") {
            return;
        }
        let diagnostic = Diagnostic::error("unknown-service", format!("there is no service `{name}`"));
        problems.push(with_suggestion(diagnostic, file, step.place.span, name, known, "services/"));
    } else if let Some(service) = services.iter().find(|service| service.name() == rolled_out)
        && service.wanted.units.is_some()
    {
        let message = format!("service `{name}` is made of units, and no pipeline builds these");
        problems.push(
            Diagnostic::error("image-not-built", message)
                .at(file, step.place.span, "it has no image")
                .help(format!("`fleetwright deploy {name}` rolls it out; remove the step")),
        );
    } else if let Some(service) = services.iter().find(|service| service.name() == rolled_out)
        && let Some(elsewhere) = &service.wanted.elsewhere
    {
        let message = format!("no pipeline builds `{}`, the image of `{name}`", elsewhere.shown);
        problems.push(
            Diagnostic::error("image-not-built", message)
                .at(file, step.place.span, "it is a third-party image")
                .help(format!("`fleetwright deploy {name}` rolls it out; remove the step")),
        );
    } else if let Some(service) = services.iter().find(|service| service.name() == rolled_out)
        && !built.contains(&service.wanted.spec.image.as_str())
        && complete
    {
        let image = &service.wanted.spec.image;
        problems.push(
            Diagnostic::warning(
                "image-not-built",
                format!("no step before builds `{image}`, the image of `{name}`"),
            )
            .at(file, step.place.span, "there will be nothing to roll out")
            .help(format!(
                "add a step `build: {{image: {image}}}` before, or correct `image` of {}",
                service.place
            )),
        );
    }
}

/// Jobs that run a service's image need that service.
fn check_jobs(jobs: &[Job], services: &[Service], declared: &Declared, problems: &mut Vec<Diagnostic>) {
    let known = names(&declared.services);
    for job in jobs {
        let wanted = std::iter::once(&job.wanted).chain(job.environments.values());
        let named = wanted.filter_map(|wanted| match &wanted.spec.runs {
            Runs::Service(service) => Some(service.as_str()),
            Runs::Image(_) => None,
        });
        let named: Vec<&str> = named.collect();
        let of_units = |name: &&&str| {
            services.iter().any(|one| one.name().as_str() == **name && one.wanted.units.is_some())
        };
        if let Some(name) = named.iter().find(of_units) {
            let place = job.service.as_ref().unwrap_or(&job.place);
            let message = format!("service `{name}` is made of units, and has no image for a job");
            let diagnostic = Diagnostic::error("conflicting-keys", message);
            let help = "give the job an `image`, or write a timer beside the unit";
            problems.push(diagnostic.at(&place.file, place.span, "").help(help.to_owned()));
        }
        let missing =
            named.into_iter().filter(|name| !known.contains(name)).collect::<std::collections::BTreeSet<_>>();
        for name in missing {
            if declared.unread.contains(&"services") {
                continue;
            }
            let place = job.service.as_ref().unwrap_or(&job.place);
            let diagnostic = Diagnostic::error("unknown-service", format!("there is no service `{name}`"));
            problems.push(with_suggestion(diagnostic, &place.file, place.span, name, &known, "services/"));
        }
    }
}

/// Pipelines build images, and an environment without a registry has nowhere to put them.
fn check_registries(project: &project::Project, pipelines: &[Pipeline], problems: &mut Vec<Diagnostic>) {
    let builds =
        |pipeline: &&Pipeline| pipeline.steps.iter().any(|step| matches!(step.action, Action::Build(_)));
    let Some(pipeline) = pipelines.iter().find(builds) else { return };
    for environment in project.environments.iter().filter(|environment| environment.registry.is_none()) {
        let message = format!("environment `{}` has no registry to push images to", environment.name);
        let place = &environment.place;
        problems.push(
            Diagnostic::warning("no-registry", message)
                .at(&place.file, place.span, "add `registry`")
                .help(format!("pipeline `{}` at {} builds an image", pipeline.name, pipeline.place)),
        );
    }
}

/// What stacks say of single environments: of those that there are, and nothing that no template asks for.
fn check_overrides(
    stacks: &[Stack],
    project: &project::Project,
    declared: &Declared,
    files: &Files,
    problems: &mut Vec<Diagnostic>,
) {
    let environments: Vec<&str> = project.environments.iter().map(|e| e.name.as_str()).collect();
    let used = |name: &str| files.templates.iter().any(|file| has_word(file.text(), name));
    for own in stacks.iter().flat_map(|stack| &stack.overrides) {
        let name = own.environment.as_str();
        if !environments.contains(&name) && !declared.unread.contains(&PROJECT_FILE) {
            let diagnostic =
                Diagnostic::error("unknown-environment", format!("there is no environment `{name}`"));
            let (Place { file, span }, what) = (&own.place, format!("`environments` of {PROJECT_FILE}"));
            problems.push(with_suggestion(diagnostic, file, *span, name, &environments, &what));
        }
    }
    for stack in stacks {
        let known: Vec<&str> = stack.values.iter().map(|(name, _)| name.as_str()).collect();
        let own = stack.overrides.iter().flat_map(|own| &own.values);
        // One that stands nowhere else is fine where a template asks for it.
        for (name, _, place) in own.filter(|(name, ..)| !known.contains(&name.as_str()) && !used(name)) {
            let message =
                format!("`values` of stack `{}` have no `{name}`, and no template uses it", stack.name);
            let (diagnostic, what) = (Diagnostic::error("unknown-key", message), "`values` of the stack");
            problems.push(with_suggestion(diagnostic, &place.file, place.span, name, &known, what));
        }
    }
}

/// Whether `word` stands in `text` as a name of its own.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(part_of_name) && !text[at + word.len()..].starts_with(part_of_name)
    })
}

fn check_stacks(stacks: &[Stack], declared: &Declared, problems: &mut Vec<Diagnostic>) {
    let known = names(&declared.stacks);
    for stack in stacks {
        let own = stack.overrides.iter().flat_map(|own| &own.parameters);
        let parameters = stack.parameters.iter().chain(own);
        for (reference, place) in parameters.flat_map(|parameter| &parameter.references) {
            let name = reference.stack.as_str();
            if !known.contains(&name) && !declared.unread.contains(&"stacks") {
                let message =
                    format!("stack `{}` refers to a stack `{name}`, which there is not", stack.name);
                let diagnostic = Diagnostic::error("unknown-stack", message);
                problems.push(with_suggestion(diagnostic, &place.file, place.span, name, &known, "stacks/"));
            }
        }
    }
}
