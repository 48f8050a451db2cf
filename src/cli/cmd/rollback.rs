//! `fleetwright rollback`.

use tokio::sync::mpsc::UnboundedReceiver;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::driver::rollout::{Outcome, follow};
use crate::event::rollout::RolloutEvent;
use crate::event::{Event, EventKind, Events};
use crate::model::name::{Digest, ServiceName};
use crate::model::service::RevisionState;
use crate::port::cluster::Cluster;
use crate::view;

/// Goes back to the revision before
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Makes a new revision that runs what ran before the present one, health-gated like any rollout,
and follows it to its end. Going back is not rolled back itself: if the earlier revision does
not become healthy either, it stops where it is. The number of instances stays what it is now.

Examples:
  fleetwright rollback web
  fleetwright rollback web --no-wait
  fleetwright rollback web -o json       one event a line, described in docs/json.md")]
pub struct Args {
    /// The service
    service: ServiceName,

    /// Return as soon as it has begun
    #[arg(long)]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let cluster = context.cluster_to_change(&format!("fleetwright rollback {}", args.service)).await?;
    let revision = cluster.rollback(&args.service).await.map_err(|error| failure(&error))?;
    let (events, mut heard) = Events::channel();
    let tell = |kind: EventKind, heard: &mut UnboundedReceiver<Event>| {
        events.emit(kind);
        while let Ok(event) = heard.try_recv() {
            if let Ok(value) = serde_json::to_value(&event) {
                view::json::line(&value);
            }
        }
    };
    if context.json() {
        let started = match digest(cluster.as_ref(), &args.service, revision).await {
            Some(digest) => {
                let service = args.service.clone();
                EventKind::Rollout(RolloutEvent::Started { service, revision, digest })
            }
            None => EventKind::Note { text: format!("{} revision {revision} rolling out", args.service) },
        };
        tell(started, &mut heard);
    } else {
        eprintln!("{}   revision {revision}   rolling out", args.service);
    }
    if args.no_wait {
        return Ok(Done::Ok);
    }
    let outcome = tokio::select! {
        outcome = follow(cluster.as_ref(), &args.service, revision) => outcome.map_err(|error| failure(&error))?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::Interrupted {
                left: format!("the cluster goes on by itself; `fleetwright status {}` shows it", args.service),
            });
        }
    };
    if context.json() {
        let (state, reason) = match &outcome {
            Outcome::Running => (RevisionState::Running, None),
            Outcome::Undone { reason } => (RevisionState::Failed, Some(reason.clone())),
            Outcome::Superseded { by } => {
                (RevisionState::Replaced, Some(format!("superseded by revision {by}")))
            }
        };
        let service = args.service.clone();
        tell(EventKind::Rollout(RolloutEvent::Ended { service, revision, state, reason }), &mut heard);
    }
    match outcome {
        Outcome::Running if context.json() => Ok(Done::Ok),
        Outcome::Running => {
            eprintln!("{}   revision {revision}   running", args.service);
            Ok(Done::Ok)
        }
        Outcome::Undone { reason } => Err(Failure::failed(
            format!("revision {revision} of `{}` did not become healthy: {reason}", args.service),
            format!("see `fleetwright logs {}`", args.service),
        )),
        Outcome::Superseded { by } => Err(Failure::failed(
            format!("revision {revision} of `{}` was superseded by revision {by}", args.service),
            format!("see `fleetwright status {}`", args.service),
        )),
    }
}

/// The image of a revision, where it is known.
async fn digest(cluster: &dyn Cluster, service: &ServiceName, revision: u64) -> Option<Digest> {
    let snapshot = cluster.snapshot().await.ok()?;
    let status = snapshot.services.into_iter().find(|status| status.name == *service)?;
    status.history.into_iter().find(|known| known.number == revision)?.digest
}
