//! `fleetwright scale`, and what it shares with `stop` and `start`.

use std::str::FromStr;
use std::sync::Arc;

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::rollouts::follow_numbers;
use crate::model::name::ServiceName;
use crate::model::service::ScaleTo;
use crate::port::cluster::Cluster;
use crate::view;

/// Changes the number of instances of services
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
No instance is replaced and no revision is created. The number is kept until `scale` sets another
one or the number in services/ changes; `fleetwright status` shows where the two differ.

Examples:
  fleetwright scale web=5
  fleetwright scale web=5 worker=0
  fleetwright scale web=5 --no-wait")]
pub struct Args {
    /// The services, each with its number of instances
    #[arg(value_name = "SERVICE=N", required = true)]
    numbers: Vec<Number>,

    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

/// `web=5`.
#[derive(Debug, Clone)]
struct Number {
    service: ServiceName,
    replicas: u32,
}

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, number)) = text.split_once('=') else {
            return Err("write the service and its number, such as `web=5`".to_owned());
        };
        let service = name.parse().map_err(|error: crate::model::name::BadName| error.to_string())?;
        let replicas = number.parse().ok().filter(|number| *number <= 10_000);
        let replicas =
            replicas.ok_or_else(|| format!("`{number}` is not a number of instances from 0 to 10000"))?;
        Ok(Self { service, replicas })
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let words: Vec<String> =
        args.numbers.iter().map(|number| format!("{}={}", number.service, number.replicas)).collect();
    let cluster = context.cluster_to_change(&format!("fleetwright scale {}", words.join(" "))).await?;
    let numbers = args.numbers.into_iter().map(|number| (number.service, ScaleTo::Replicas(number.replicas)));
    carry_out(context, &cluster, numbers.collect(), !args.no_wait).await
}

/// The services that `stop` and `start` change.
#[derive(Debug, clap::Args)]
pub(super) struct Services {
    /// The services
    #[arg(value_name = "SERVICE", required = true)]
    services: Vec<ServiceName>,

    /// Return at once
    #[arg(long)]
    no_wait: bool,
}

impl Services {
    /// Carries out `command`, which changes all of them in the same way.
    ///
    /// # Errors
    /// When a service does not exist, or does not reach its number.
    pub(super) async fn change(self, context: &Context, command: &str, to: ScaleTo) -> Result<Done, Failure> {
        let names: Vec<&str> = self.services.iter().map(ServiceName::as_str).collect();
        let command = format!("fleetwright {command} {}", names.join(" "));
        let cluster = context.cluster_to_change(&command).await?;
        let changes = self.services.into_iter().map(|service| (service, to)).collect();
        carry_out(context, &cluster, changes, !self.no_wait).await
    }
}

/// Makes the changes, and waits until the services have their new number of instances.
///
/// # Errors
/// When a service does not exist, or does not reach its number.
async fn carry_out(
    context: &Context,
    cluster: &Arc<dyn Cluster>,
    changes: Vec<(ServiceName, ScaleTo)>,
    wait: bool,
) -> Result<Done, Failure> {
    for (service, to) in &changes {
        cluster.scale(service, *to).await.map_err(|error| failure(&error))?;
        if !context.json() {
            let words = match to {
                ScaleTo::Replicas(1) => "to 1 instance".to_owned(),
                ScaleTo::Replicas(count) => format!("to {count} instances"),
                ScaleTo::Stop => "stopping".to_owned(),
                ScaleTo::Start => "starting".to_owned(),
            };
            eprintln!("{service}   {words}");
        }
    }
    let services: Vec<ServiceName> = changes.into_iter().map(|(service, _)| service).collect();
    if wait {
        follow_numbers(context, cluster, &services).await?;
    }
    if context.json() {
        let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
        let all: Vec<_> = snapshot
            .services
            .iter()
            .filter(|status| services.contains(&status.name))
            .map(|status| {
                let (healthy, desired) = (status.healthy(), status.desired);
                json!({"service": status.name, "desired": desired, "healthy": healthy, "stopped": status.stopped})
            })
            .collect();
        view::json::document(&json!({"version": 1, "services": all}));
    }
    Ok(Done::Ok)
}
