//! What services and jobs mount: files rendered for each environment, and folders of machines that are allowed.

use std::sync::Arc;

use tera::Context;

use super::templates::{FOLDER, Templates};
use super::with_suggestion;
use crate::model::job::Runs;
use crate::model::mount::{FILES_MOST, FileMount, VolumeMount, VolumeSource};
use crate::model::name::ProjectName;
use crate::model::project::{Environment, FileSource, Job, Service};
use crate::model::setting::Place;
use crate::source::{Diagnostic, SourceFile};

/// The folder that such files are usually kept in.
const FILES: &str = "files/";

/// Reports folders of machines that a service or a job mounts without being allowed to.
pub fn check_host_paths(
    services: &[Service],
    jobs: &[Job],
    allowed: &[String],
    problems: &mut Vec<Diagnostic>,
) {
    let mut check = |what: String, volumes: &[VolumeMount], place: &Place| {
        for volume in volumes {
            let VolumeSource::Host(path) = &volume.source else { continue };
            let within = |folder: &String| {
                let folder = folder.trim_end_matches('/');
                path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if allowed.iter().any(within) {
                continue;
            }
            let message = format!("{what} mounts `{path}` of its machine, which is not allowed");
            let diagnostic = Diagnostic::error("host-path", message).at(&place.file, place.span, "");
            let help = format!(
                "a container that can write to folders of its machine may become root there; if that is \
                 meant, add `host_paths: [{path}]` to fleetwright.yaml"
            );
            problems.push(diagnostic.help(help));
        }
    };
    for service in services {
        for wanted in std::iter::once(&service.wanted).chain(service.environments.values()) {
            let what = format!("service `{}`", wanted.spec.name);
            check(what, &wanted.spec.container.volumes, &service.place);
        }
    }
    for job in jobs {
        for wanted in std::iter::once(&job.wanted).chain(job.environments.values()) {
            check(format!("job `{}`", wanted.spec.name), &wanted.spec.container.volumes, &job.place);
        }
    }
}

/// Renders the files of services and jobs for each environment.
pub fn render(
    (services, jobs): (&mut [Service], &mut [Job]),
    project: &ProjectName,
    environments: &[Environment],
    sources: &[Arc<SourceFile>],
    problems: &mut Vec<Diagnostic>,
) {
    let of_services =
        services.iter().flat_map(|one| std::iter::once(&one.wanted).chain(one.environments.values()));
    let of_jobs = jobs.iter().flat_map(|one| std::iter::once(&one.wanted).chain(one.environments.values()));
    if of_services.map(|one| &one.files).chain(of_jobs.map(|one| &one.files)).all(Vec::is_empty) {
        return;
    }
    let templates = Templates::parse(sources, problems);
    let known = |environment: &Environment| known(project, environment);
    for service in services {
        for environment in environments {
            let mut wanted = service.in_environment(&environment.name).clone();
            if wanted.files.is_empty() {
                continue;
            }
            let spec = &mut wanted.spec;
            let mut context = known(environment);
            context.insert("service", spec.name.as_str());
            context.insert("env", &spec.environment);
            let what = ("service", spec.name.as_str());
            spec.container.files.extend(files(what, &wanted.files, &templates, &context, problems));
            service.environments.insert(environment.name.clone(), wanted);
        }
    }
    for job in jobs {
        for environment in environments {
            let mut wanted = job.in_environment(&environment.name).clone();
            if wanted.files.is_empty() {
                continue;
            }
            let spec = &mut wanted.spec;
            let mut context = known(environment);
            context.insert("job", spec.name.as_str());
            if let Runs::Service(service) = &spec.runs {
                context.insert("service", service.as_str());
            }
            context.insert("env", &spec.environment);
            let what = ("job", spec.name.as_str());
            spec.container.files.extend(files(what, &wanted.files, &templates, &context, problems));
            job.environments.insert(environment.name.clone(), wanted);
        }
    }
}

/// What templates of services and jobs know of an environment.
pub fn known(project: &ProjectName, environment: &Environment) -> Context {
    let mut context = Context::new();
    context.insert("project", project.as_str());
    context.insert("environment", environment.name.as_str());
    context.insert("region", environment.region.shown());
    context.insert("cluster", environment.cluster.as_str());
    context
}

/// The rendered files of a service or job, which is named by its kind and its name.
fn files(
    (kind, name): (&str, &str),
    wanted: &[FileSource],
    templates: &Templates,
    context: &Context,
    problems: &mut Vec<Diagnostic>,
) -> Vec<FileMount> {
    let mut rendered = Vec::new();
    for file in wanted {
        let place = &file.place;
        if !templates.has_file(&file.template) {
            let known: Vec<&str> = templates.names(FILES).collect();
            let message = format!("there is no file {FOLDER}{}", file.template);
            let diagnostic = Diagnostic::error("missing-template", message);
            let short = file.template.strip_prefix(FILES).unwrap_or(&file.template);
            let folder = format!("{FOLDER}{FILES}");
            problems.push(with_suggestion(diagnostic, &place.file, place.span, short, &known, &folder));
            continue;
        }
        if !templates.is_parsed(&file.template) {
            continue;
        }
        match templates.render(&file.template, || context.clone()) {
            Ok((content, _)) => {
                rendered.push(FileMount { target: file.target.clone(), content, owned: file.owned })
            }
            Err(found) => problems.extend(found),
        }
    }
    let total: usize = rendered.iter().map(|file: &FileMount| file.content.len()).sum();
    if let (Some(file), true) = (wanted.first(), total > FILES_MOST) {
        let message = format!(
            "the files of {kind} `{name}` hold {} KiB together, and a {kind} can have {} KiB",
            total.div_ceil(1 << 10),
            FILES_MOST >> 10
        );
        let diagnostic = Diagnostic::error("out-of-range", message).at(&file.place.file, file.place.span, "");
        problems.push(diagnostic.help("put large files into the image, or on a volume"));
    }
    rendered
}
