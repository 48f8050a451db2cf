//! `fleetwright remove`.

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::protect::{Consent, may_change, may_destroy};
use crate::cli::stacks::{ask, signals};
use crate::model::name::ServiceName;
use crate::view;

/// Removes a service and its history from the cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Its file stays in the repository. If it is deployed again, its revision numbers continue.

Examples:
  fleetwright remove web         asks for the service's name first
  fleetwright remove web -y      does not ask")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// PROJECT-ENVIRONMENT, in place of typing the service's name: in a protected environment `-y` alone is
    /// not enough
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let command = format!("fleetwright remove {}", args.service);
    let consent = match context.repository_if_any()? {
        Some(repository) => {
            let environment = context.environment(&repository)?;
            may_change(context, environment, &command)?;
            may_destroy((&repository.project, environment), args.yes, args.confirm.as_deref(), &command)?
        }
        None if args.yes => Consent::Given,
        None => Consent::Ask,
    };
    let cluster = context.cluster().await?;
    if consent == Consent::Ask {
        let question = format!(
            "This stops every instance of `{0}` and forgets its revisions. Type `{0}` to go on:",
            args.service
        );
        let answer = ask(&question, &command, &signals()).await?;
        if answer.as_deref() != Some(args.service.as_str()) {
            return Err(Failure::usage(
                "the name was not typed; nothing was removed",
                "type it, or give `-y`",
            ));
        }
    }
    cluster.remove(&args.service).await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&json!({"version": 1, "removed": args.service}));
    } else {
        eprintln!("{}   removed", args.service);
    }
    Ok(Done::Ok)
}
