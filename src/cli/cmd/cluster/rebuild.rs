//! `fleetwright cluster rebuild`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::model::cluster::Asked;
use crate::model::name::ClusterName;
use crate::plan::cluster as plan;
use crate::port::cluster::Cluster as _;
use crate::port::jobs::JobCluster as _;
use crate::port::recovery::ControlMachines as _;
use crate::view;

/// Restores the services and jobs from the project's bucket
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
For a cluster whose control machines were all lost. New control machines found a cluster and
restore every service on their own before workers join, each in its last good revision and with
its number, and the definitions of jobs: what they start is due after that. This shows what they restore or have restored, and has it done where it was not.

Without `--yes` nothing is changed: exit status 0 when the cluster has everything that the bucket
has, 3 when something would be restored. Reads the bucket with the caller's own AWS identity. With
`--yes` it needs the level admin.

Examples:
  fleetwright cluster rebuild
  fleetwright cluster rebuild --yes main")]
pub struct Args {
    /// Restore: the cluster's name
    #[arg(long, value_name = "CLUSTER")]
    yes: Option<ClusterName>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let name = context.cluster_name()?;
    if args.yes.is_some() {
        context.may_change(&format!("fleetwright cluster rebuild --yes {name}"))?;
    }
    let unread = |error: crate::port::cloud::CloudError| Failure::failed(error.to_string(), error.next());
    let records = context.records().await?;
    let services = records.services.read().await.map_err(unread)?;
    let jobs = records.jobs.read().await.map_err(unread)?;
    let cluster = context.cluster_api().await?;
    let asked: Vec<Asked> = cluster.ask_all().await.unwrap_or_default();
    let changeable = plan::best(&asked).is_some_and(|view| view.has_majority());
    // What there is now: nothing, where nobody can say.
    let present = if changeable {
        let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
        Some((snapshot.services, cluster.jobs().await.map_err(|error| failure(&error))?))
    } else {
        None
    };
    let rows = view::cluster::rebuild_rows(&services, &jobs, present.as_ref());
    let missing = rows.iter().filter(|row| row.is_restored()).count();
    if context.json() {
        view::json::document(&view::cluster::rebuild_document(&rows, changeable));
    } else {
        let text = view::cluster::rebuild(&rows, changeable);
        crate::view::out::stdout(&text);
    }
    if let Some(unreadable) = rows.iter().find_map(|row| row.unreadable()) {
        return Err(Failure::failed(
            format!("a document in the bucket can't be read: {unreadable}"),
            "a later version of fleetwright may have written it: use that version here and on the control machines",
        ));
    }
    if missing == 0 {
        return Ok(Done::Ok);
    }
    let Some(yes) = args.yes else { return Ok(Done::Changes) };
    if !changeable {
        return Err(Failure::failed(
            "no control machine leads a cluster to restore to",
            "where all are lost, the group's new ones found a cluster and restore on their own; where a \
             majority is lost, see `fleetwright cluster recover`",
        ));
    }
    super::confirm(&name, Some(&yes), "restore services and jobs", "fleetwright cluster rebuild").await?;
    let restored = cluster.restore().await.map_err(|error| failure(&error))?;
    if !context.json() {
        eprintln!("restored: {}", restored.names().join(", "));
    }
    Ok(Done::Ok)
}
