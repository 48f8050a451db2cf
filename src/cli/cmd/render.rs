//! `fleetwright render`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::stack::RenderedStack;
use crate::source::suggest;
use crate::view;

/// Prints what the templates render to
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Prints the CloudFormation templates of one environment as they are sent to AWS, in the order of
their dependency. Environment variables that are not set are shown as `<unset NAME>`.

Examples:
  fleetwright render                     every stack
  fleetwright render workers             one stack's template
  fleetwright render workers --user-data what its machines get at boot, decoded
  fleetwright render --services          services with the environment's settings
  fleetwright render --jobs              jobs with the environment's settings
  fleetwright render -e production -o json")]
pub struct Args {
    /// The stacks; by default all
    #[arg(value_name = "STACK")]
    stacks: Vec<String>,

    /// Print the machines' user data, decoded, instead of the templates
    #[arg(long)]
    user_data: bool,

    /// Print the services with the environment's settings, instead of the templates
    #[arg(long, conflicts_with_all = ["stacks", "user_data"])]
    services: bool,

    /// Print the jobs with the environment's settings, instead of the templates
    #[arg(long, conflicts_with_all = ["stacks", "user_data", "services"])]
    jobs: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    if args.services {
        let services = repository.services.iter().map(|service| service.in_environment(&environment.name));
        if context.json() {
            view::json::document(&view::render::services_json(environment.name.as_str(), services));
        } else {
            view::out::stdout(&view::render::services(services));
        }
        return Ok(Done::Ok);
    }
    if args.jobs {
        let jobs = repository.jobs.iter().map(|job| job.in_environment(&environment.name));
        if context.json() {
            view::json::document(&view::render::jobs_json(environment.name.as_str(), jobs));
        } else {
            view::out::stdout(&view::render::jobs(jobs));
        }
        return Ok(Done::Ok);
    }
    let rendered = context.rendered(&repository, environment)?;
    let chosen = choose(&rendered, &args.stacks)?;
    if args.user_data && chosen.iter().all(|stack| stack.user_data.is_empty()) {
        return Err(Failure::usage(
            "none of these stacks has machines with user data",
            "name a stack whose template uses `user_data(file=...)`",
        ));
    }
    if context.json() {
        view::json::document(&view::render::json(environment.name.as_str(), &chosen));
        return Ok(Done::Ok);
    }
    if let [only] = chosen.as_slice() {
        // Its text alone is printed, as it is sent; several carry this with them.
        view::render::overridden(only).for_each(|line| eprintln!("{line}"));
    }
    let text =
        if args.user_data { view::render::user_data(&chosen) } else { view::render::templates(&chosen) };
    // A reader that has gone away is no reason to fail.
    view::out::stdout(&text);
    Ok(Done::Ok)
}

/// The stacks of those names, in the order of their dependency; all when there are no names.
fn choose<'s>(stacks: &'s [RenderedStack], names: &[String]) -> Result<Vec<&'s RenderedStack>, Failure> {
    for name in names {
        if stacks.iter().all(|stack| stack.name.as_str() != name) {
            let known: Vec<&str> = stacks.iter().map(|stack| stack.name.as_str()).collect();
            let next = match suggest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the stacks are `{}`", known.join("`, `")),
            };
            return Err(Failure::usage(format!("there is no stack `{name}`"), next));
        }
    }
    Ok(stacks
        .iter()
        .filter(|stack| names.is_empty() || names.iter().any(|name| name == stack.name.as_str()))
        .collect())
}
