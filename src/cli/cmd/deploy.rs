//! `fleetwright deploy`.

use crate::adapter::docker_build::{CredentialSource, DockerImages};
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::rollouts::{Begun, Voice, confirm, deploy_failure, follow_all, not_there};
use crate::cli::{Done, pipelines};
use crate::driver::deploy::{Images, Prepared, Version, prepare};
use crate::model::name::ServiceName;
use crate::model::project::{Environment, Repository, Wanted};
use crate::plan::deploy::ServicePlan;
use crate::view;
use crate::view::paint::Paint;

/// Deploys services as services/*.yaml describes them
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Compares services/*.yaml with what is running, lists the differences by field, asks for
confirmation, rolls the changes out and follows them to the end. An image that a pipeline builds
keeps the digest that is running; a third-party image is resolved from the tag in the file. A
number of instances set with `scale` is kept until the number in the file changes.

  + new   ± instances are replaced   ~ changed without replacing instances

Exit status: 0 done, 1 failed, 2 invalid input; with --plan 0 no change, 3 changes.

Examples:
  fleetwright deploy                          every service
  fleetwright deploy web cache
  fleetwright deploy --plan                   show what would change, and change nothing
  fleetwright deploy web --image team/web:1.4 an image that is in the registry
  fleetwright deploy web --revision 7         the image of revision 7, with today's file
  fleetwright deploy -y -o json               one event a line, described in docs/json.md")]
pub struct Args {
    /// The services; by default all
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

    /// Return as soon as the rollouts have begun
    #[arg(long, conflicts_with = "plan")]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    let wanted = choose(&repository, environment, &args.services)?;
    let version = match (&args.image, args.revision) {
        (None, None) => Version::Kept,
        (Some(image), _) => Version::Image(image.clone()),
        (None, Some(number)) => Version::Revision(number),
    };
    if version != Version::Kept && wanted.len() != 1 {
        return Err(Failure::usage(
            "`--image` and `--revision` are about one service",
            "name it: `fleetwright deploy SERVICE --image REF`",
        ));
    }
    let command = command_line(&args);
    if !args.plan {
        may_change(context, environment, &command)?;
    }
    let cluster = context.cluster_of(&repository, environment).await?;
    let registries = Registries::of(context, &repository, environment).await?;
    let images = registries.images();
    let each = wanted.iter().map(|wanted| prepare(cluster.as_ref(), &images, wanted, &version));
    let prepared = futures_util::future::join_all(each).await;
    let prepared: Vec<Prepared> = prepared
        .into_iter()
        .map(|one| one.map_err(|error| deploy_failure(&error)))
        .collect::<Result<_, _>>()?;
    let changes = show(context, environment, prepared.iter().map(|one| one.plan.clone()), args.plan);
    match (args.plan, changes) {
        (true, true) => return Ok(Done::Changes),
        (_, false) => return Ok(Done::Ok),
        (false, true) => {}
    }
    confirm("Roll this out?", args.yes, &command).await?;
    let voice = Voice::new(context);
    let mut begun = Vec::new();
    for one in prepared.iter().filter(|one| one.plan.has_changes()) {
        let deployment = &one.deployment;
        let revision = cluster.deploy(deployment).await.map_err(|error| {
            let told: Vec<&str> = begun.iter().map(|begun: &Begun| begun.service.as_str()).collect();
            match (failure(&error), told.is_empty()) {
                (Failure::Failed { message, next }, false) => Failure::failed(
                    format!(
                        "service `{}`: {message}; {} was begun before",
                        deployment.spec.name,
                        told.join(", ")
                    ),
                    next,
                ),
                (other, _) => other,
            }
        })?;
        let one = Begun {
            service: deployment.spec.name.clone(),
            revision,
            digest: Some(deployment.digest.clone()),
        };
        voice.began(&one);
        begun.push(one);
    }
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, begun).await }
}

/// The command as it would be typed again.
fn command_line(args: &Args) -> String {
    let mut words = vec!["fleetwright deploy".to_owned()];
    words.extend(args.services.iter().map(ToString::to_string));
    words.extend(args.image.iter().map(|image| format!("--image {image}")));
    words.extend(args.revision.iter().map(|number| format!("--revision {number}")));
    words.join(" ")
}

/// The services of those names, with the settings of the environment; all without names.
fn choose<'r>(
    repository: &'r Repository,
    environment: &Environment,
    names: &[ServiceName],
) -> Result<Vec<&'r Wanted>, Failure> {
    let known: Vec<&str> = repository.services.iter().map(|service| service.name().as_str()).collect();
    if names.is_empty() {
        if known.is_empty() {
            return Err(Failure::usage(
                "this repository has no services",
                "describe one in services/, as docs/infra-repository.md shows",
            ));
        }
        let all = repository.services.iter();
        return Ok(all.map(|service| service.in_environment(&environment.name)).collect());
    }
    names
        .iter()
        .map(|name| repository.service(name, &environment.name).ok_or_else(|| not_there(name, &known)))
        .collect()
}

/// Where images of an environment are looked up.
pub(super) struct Registries {
    store: DockerImages,
    /// The hosts of the environment's registry: where it is pushed to, and where machines pull from.
    hosts: Option<(String, String)>,
}

impl Registries {
    /// Those of `environment`. Nothing is asked of them yet.
    ///
    /// # Errors
    /// When a variable that this needs is not set.
    pub(super) async fn of(
        context: &Context,
        repository: &Repository,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let Some(registry) = &environment.registry else {
            let store = pipelines::images(context, "docker.io", CredentialSource::None)?;
            return Ok(Self { store, hosts: None });
        };
        let store = pipelines::registry_images(context, repository, environment, registry).await?;
        let hosts = Some((registry.push.get()?.to_owned(), registry.pull.get()?.to_owned()));
        Ok(Self { store, hosts })
    }

    /// As the driver takes them.
    pub(super) fn images(&self) -> Images<'_> {
        let registry = self.hosts.as_ref().map(|(push, pull)| (push.as_str(), pull.as_str()));
        Images { store: &self.store, registry }
    }
}

/// Shows plans without what must not be shown: as the command's result if they are all that was asked
/// for, or else beside it. Returns whether they have changes.
pub(super) fn show(
    context: &Context,
    environment: &Environment,
    plans: impl Iterator<Item = ServicePlan>,
    only: bool,
) -> bool {
    let mask = context.mask();
    let mut plans: Vec<ServicePlan> = plans.collect();
    for change in plans.iter_mut().flat_map(|plan| &mut plan.changes) {
        for value in [&mut change.before, &mut change.after].into_iter().flatten() {
            *value = mask.mask(value);
        }
    }
    match (context.json(), only) {
        (true, true) => view::json::document(&view::deploy::json(environment.name.as_str(), &plans)),
        // The events report what is rolled out.
        (true, false) => {}
        (false, true) => view::out::stdout(&view::deploy::human(&plans, Paint(context.colour_out))),
        (false, false) => eprint!("{}", view::deploy::human(&plans, Paint(context.colour_err))),
    }
    plans.iter().any(ServicePlan::has_changes)
}
