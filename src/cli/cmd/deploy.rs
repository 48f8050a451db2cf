//! `fleetwright deploy`.

use std::sync::Arc;

use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::registries::Registries;
use crate::cli::release::release;
use crate::cli::rollouts::{Begun, Voice, begin, confirm, deploy_failure, follow_all, not_there};
use crate::cli::{Done, host_files, later};
use crate::driver::deploy::{Prepared, PreparedJob, Version, prepare, prepare_job};
use crate::model::host_file::HostFileSpec;
use crate::model::name::ServiceName;
use crate::model::project::{Environment, Repository, Wanted, WantedJob};
use crate::model::stack::Piece;
use crate::plan::comparison::Comparison;
use crate::plan::deploy::ServicePlan;
use crate::plan::release::{DependsOn, groups};
use crate::port::cluster::Cluster;
use crate::port::host_files::HostFileCluster;
use crate::port::jobs::JobCluster;
use crate::view;
use crate::view::paint::Paint;

/// Deploys services, jobs and watched files as services/, jobs/ and host_files/ describe them
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Compares services/*.yaml with what is running, lists the differences by field, asks for
confirmation, rolls the changes out and follows them to the end. An image that a pipeline builds
keeps the digest that is running; a third-party image is resolved from the tag in the file. A
service of systemd units rolls out when a unit in templates/units/ changes. A number of instances
set with `scale` is kept until the number in the file changes.

Services roll out at the same time, but each after those that it names in `depends_on`. With
--together they roll out one after the other, and if one fails, those before it go back to what
they ran: a service that did not exist before is removed.

A rollout that is under way already, of a service that is as its file says, is followed to its end.

A job follows its new definition from its next occurrence; a running one continues.

A watched file is deployed last: each machine renders it and, if it differs, checks and replaces it.

  + new   ± instances are replaced   ~ changed without replacing instances

Exit status: 0 done, 1 failed, 2 invalid input; with --plan 0 no change, 3 changes.

Examples:
  fleetwright deploy                          every service, job and watched file
  fleetwright deploy web cache
  fleetwright deploy --plan                   show what would change, and change nothing
  fleetwright deploy web --image team/web:1.4 an image that is in the registry
  fleetwright deploy web --revision 7         the image of revision 7, with today's file
  fleetwright deploy api web --together       all of them or none
  fleetwright deploy -y -o json               one event a line, described in docs/json.md")]
pub struct Args {
    /// The services, jobs and watched files; by default all
    #[arg(value_name = "SERVICE")]
    services: Vec<ServiceName>,

    /// The image to deploy: NAME:TAG, NAME@DIGEST, or a digest of the service's own image
    #[arg(long, value_name = "REF", conflicts_with = "revision")]
    image: Option<String>,

    /// Deploy the image that this revision runs
    #[arg(long, value_name = "N")]
    revision: Option<u64>,

    /// Show what would change, and change nothing
    #[arg(long)]
    plan: bool,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,

    /// Roll out one after the other, and take all of them back if one fails
    #[arg(long, conflicts_with_all = ["plan", "no_wait"])]
    together: bool,

    /// Return as soon as the rollouts have begun
    #[arg(long, conflicts_with = "plan")]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    let Chosen { services: wanted, jobs, files } = choose(&repository, environment, &args.services)?;
    let version = match (&args.image, args.revision) {
        (None, None) => Version::Kept,
        (Some(image), _) => Version::Image(image.clone()),
        (None, Some(number)) => Version::Revision(number),
    };
    if version != Version::Kept && (wanted.len() != 1 || !jobs.is_empty() || !files.is_empty()) {
        return Err(Failure::usage(
            "`--image` and `--revision` are about one service",
            "name it: `fleetwright deploy SERVICE --image REF`",
        ));
    }
    let command = command_line(&args);
    if !args.plan {
        may_change(context, environment, &command)?;
    }
    let api = context.cluster_api_of(&repository, environment).await?;
    let cluster: Arc<dyn Cluster> = api.clone();
    let registries = Registries::of(context, &repository, environment).await?;
    let images = registries.images();
    let variables = wanted.iter().flat_map(|wanted| &wanted.later);
    let variables: Vec<_> = variables.chain(jobs.iter().flat_map(|job| &job.later)).collect();
    let known = later::known(context, &repository, environment, &variables).await?;
    let wanted = ready(wanted.iter().map(|wanted| wanted.ready(&known)))?;
    let jobs = ready(jobs.iter().map(|job| job.ready(&known)))?;
    let each = wanted.iter().map(|wanted| prepare(cluster.as_ref(), &images, wanted, &version));
    let prepared = futures_util::future::join_all(each).await;
    let prepared: Vec<Prepared> = prepared
        .into_iter()
        .map(|one| one.map_err(|error| deploy_failure(&error)))
        .collect::<Result<_, _>>()?;
    let services: Vec<&Wanted> =
        repository.services.iter().map(|service| service.in_environment(&environment.name)).collect();
    let each = jobs.iter().map(|job| prepare_job(api.as_ref(), cluster.as_ref(), &images, job, &services));
    let prepared_jobs = futures_util::future::join_all(each).await;
    let prepared_jobs: Vec<PreparedJob> = prepared_jobs
        .into_iter()
        .map(|one| one.map_err(|error| deploy_failure(&error)))
        .collect::<Result<_, _>>()?;
    let file_plans = host_files::plans(api.as_ref(), &repository, environment, &files).await?;
    let changed_files: Vec<&HostFileSpec> = files
        .into_iter()
        .zip(&file_plans)
        .filter(|(_, plan)| plan.has_changes())
        .map(|(spec, _)| spec)
        .collect();
    let compared = Comparison {
        services: prepared.iter().map(|one| one.plan.clone()).collect(),
        jobs: prepared_jobs.iter().map(|one| one.plan.clone()).collect(),
        host_files: file_plans,
        notes: Vec::new(),
    };
    let changes = show_all(context, environment, compared, args.plan);
    if args.plan {
        return Ok(if changes { Done::Changes } else { Done::Ok });
    }
    if changes {
        confirm("Roll this out?", args.yes, &command).await?;
    }
    let voice = Voice::new(context);
    // Those whose rollout somebody has begun already are followed as well.
    let changed: Vec<&Prepared> = prepared.iter().filter(|one| one.plan.has_changes() || one.rolls).collect();
    let names: Vec<ServiceName> = changed.iter().map(|one| one.deployment.spec.name.clone()).collect();
    let groups = groups(&names, &depends_on(&services));
    let of = |name: &ServiceName| changed.iter().find(|one| one.deployment.spec.name == *name).copied();
    let mut begun = Vec::new();
    if args.together {
        let all = groups.iter().flatten().filter_map(of);
        let (new, old): (Vec<_>, Vec<_>) = all.partition(|one| one.plan.has_changes());
        begun.extend(old.into_iter().filter_map(|one| under_way(&voice, one)));
        if !new.is_empty() {
            release(context, &cluster, new).await?;
        }
    }
    let last = groups.len().saturating_sub(1);
    for (at, group) in groups.iter().enumerate().filter(|_| !args.together) {
        for one in group.iter().filter_map(of) {
            match under_way(&voice, one) {
                Some(one) => begun.push(one),
                None => {
                    let one = begin(cluster.as_ref(), &voice, one, &begun).await?;
                    begun.push(one);
                }
            }
        }
        if at < last && !args.no_wait {
            let next: Vec<&str> = groups[at + 1..].iter().flatten().map(ServiceName::as_str).collect();
            let followed = follow_all(context, &cluster, std::mem::take(&mut begun)).await;
            followed.map_err(|error| not_begun(error, &next))?;
        }
    }
    // After the services: a job may run what one of them is to run.
    for one in prepared_jobs.iter().filter(|one| one.plan.has_changes()) {
        api.deploy_job(&one.deployment).await.map_err(|error| failure(&error))?;
        voice.note(&format!("{}   job deployed", one.deployment.spec.name));
    }
    for spec in changed_files {
        api.deploy_host_file(spec).await.map_err(|error| failure(&error))?;
        voice.note(&format!("{}   watched file deployed", spec.name));
    }
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, begun).await }
}

/// Reports the rollout of a service that was begun earlier, if it is still under way.
fn under_way(voice: &Voice, one: &Prepared) -> Option<Begun> {
    let begun = Begun::under_way(one)?;
    voice.began(&begun);
    Some(begun)
}

/// What has the values of all its variables.
fn ready<'w, T>(each: impl Iterator<Item = Result<T, &'w Piece>>) -> Result<Vec<T>, Failure> {
    each.collect::<Result<_, _>>().map_err(later::unknown)
}

/// What each service depends on.
fn depends_on(services: &[&Wanted]) -> DependsOn {
    let names = |wanted: &Wanted| wanted.depends_on.iter().map(|(name, _)| name.clone()).collect();
    services.iter().map(|wanted| (wanted.spec.name.clone(), names(wanted))).collect()
}

/// A failure after which services were not begun that come later.
fn not_begun(error: Failure, services: &[&str]) -> Failure {
    let services = services.join(", ");
    match error {
        Failure::Failed { message, next } => {
            Failure::failed(message, format!("{next}; not begun: {services}, which depend on it"))
        }
        Failure::Interrupted { left } => {
            Failure::Interrupted { left: format!("{left}; not begun: {services}") }
        }
        other => other,
    }
}

/// The command as it would be typed again.
fn command_line(args: &Args) -> String {
    let mut words = vec!["fleetwright deploy".to_owned()];
    words.extend(args.services.iter().map(ToString::to_string));
    words.extend(args.image.iter().map(|image| format!("--image {image}")));
    words.extend(args.revision.iter().map(|number| format!("--revision {number}")));
    words.extend(args.together.then(|| "--together".to_owned()));
    words.join(" ")
}

/// What is deployed, with the settings of the environment.
struct Chosen<'r> {
    services: Vec<&'r Wanted>,
    jobs: Vec<&'r WantedJob>,
    files: Vec<&'r HostFileSpec>,
}

/// The services, jobs and watched files of those names; all without names.
fn choose<'r>(
    repository: &'r Repository,
    environment: &Environment,
    names: &[ServiceName],
) -> Result<Chosen<'r>, Failure> {
    let services = || repository.services.iter().map(|service| service.in_environment(&environment.name));
    let jobs = || repository.jobs.iter().map(|job| job.in_environment(&environment.name));
    let files = || repository.host_files.iter().map(|file| file.in_environment(&environment.name));
    let known: Vec<&str> = repository.services.iter().map(|service| service.name().as_str()).collect();
    if names.is_empty() {
        if known.is_empty() && repository.jobs.is_empty() && repository.host_files.is_empty() {
            return Err(Failure::usage(
                "this repository has no services",
                "describe one in services/, as docs/infra-repository.md shows",
            ));
        }
        return Ok(Chosen {
            services: services().collect(),
            jobs: jobs().collect(),
            files: files().collect(),
        });
    }
    let mut chosen = Chosen { services: Vec::new(), jobs: Vec::new(), files: Vec::new() };
    for name in names {
        let service = services().find(|service| service.spec.name == *name);
        let job = jobs().find(|job| job.spec.name.as_str() == name.as_str());
        let file = files().find(|file| file.name.as_str() == name.as_str());
        if service.is_none() && job.is_none() && file.is_none() {
            return Err(not_there(name, &known));
        }
        chosen.services.extend(service);
        chosen.jobs.extend(job);
        chosen.files.extend(file);
    }
    Ok(chosen)
}

/// Shows plans without what must not be shown: as the command's result if they are all that was asked
/// for, or else beside it. Returns whether they have changes.
pub(super) fn show(
    context: &Context,
    environment: &Environment,
    plans: impl Iterator<Item = ServicePlan>,
    only: bool,
) -> bool {
    let compared = Comparison { services: plans.collect(), ..Comparison::default() };
    show_all(context, environment, compared, only)
}

/// The same with jobs and watched files.
fn show_all(context: &Context, environment: &Environment, mut compared: Comparison, only: bool) -> bool {
    let mask = context.mask();
    compared.map_values(|value| mask.mask(value));
    match (context.json(), only) {
        (true, true) => view::json::document(&view::deploy::json(environment.name.as_str(), &compared)),
        // The events report what is rolled out.
        (true, false) => {}
        (false, true) => view::out::stdout(&view::deploy::human(&compared, Paint(context.colour_out))),
        (false, false) => eprint!("{}", view::deploy::human(&compared, Paint(context.colour_err))),
    }
    compared.has_changes()
}
