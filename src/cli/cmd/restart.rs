//! `fleetwright restart`.

use chrono::Utc;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::rollouts::{Begun, Voice, follow_all};
use crate::model::name::ServiceName;

/// Replaces the instances of services with new ones of the same revision
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Rolled out like any other change: a new instance must be healthy before an old one is stopped,
and if one does not become healthy, the old instances keep running. Changes in services/ are not
deployed.

Examples:
  fleetwright restart web
  fleetwright restart web worker
  fleetwright restart web --no-wait")]
pub struct Args {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<ServiceName>,

    /// Return as soon as it has begun
    #[arg(long)]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let names: Vec<&str> = args.services.iter().map(ServiceName::as_str).collect();
    let cluster = context.cluster_to_change(&format!("fleetwright restart {}", names.join(" "))).await?;
    let mut all = Vec::new();
    for service in &args.services {
        let deployed = cluster.deployed(service, None).await.map_err(|error| failure(&error))?;
        if deployed.stopped {
            return Err(Failure::usage(
                format!("service `{service}` is stopped; nothing was restarted"),
                format!("`fleetwright start {service}` starts it"),
            ));
        }
        all.push(deployed.deployment);
    }
    let voice = Voice::new(context);
    let mut begun = Vec::new();
    for mut deployment in all {
        deployment.restarted = Some(Utc::now());
        let revision = cluster.deploy(&deployment).await.map_err(|error| failure(&error))?;
        let one = Begun { service: deployment.spec.name, revision, digest: Some(deployment.digest) };
        voice.began(&one);
        begun.push(one);
    }
    if args.no_wait { Ok(Done::Ok) } else { follow_all(context, &cluster, begun).await }
}
