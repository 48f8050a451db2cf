//! `fleetwright cluster recover`.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::model::cluster::Asked;
use crate::model::name::ClusterName;
use crate::plan::cluster::{self as plan, Recovery, Refusal};
use crate::port::recovery::ControlMachines;
use crate::view;

/// How long the control machines that answered may take to join again.
const JOIN: Duration = Duration::from_secs(300);
/// How long etcd's recovery is tried.
const ETCD: Duration = Duration::from_secs(120);
/// Time between two looks meanwhile.
const LOOK: Duration = Duration::from_secs(3);

/// Brings a cluster back whose majority of control machines is lost for good
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Chooses the control machine with the newest log of those that answer, and makes it the only one.
The others that answer join it again; those that do not are removed from the cluster. What runs
goes on running. Changes that were recorded only on lost machines are lost, except for what is in
the project's bucket, which is restored.

Refused while a majority can be reached: machines that are only switched off or cut off come back
by themselves. Names what it will do, and wants the cluster's name typed. Needs the level admin;
without a majority, the break-glass token.

Examples:
  fleetwright cluster recover --dry-run
  fleetwright cluster recover --yes main")]
pub struct Args {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Do it without asking: the cluster's name
    #[arg(long, value_name = "CLUSTER", conflicts_with = "dry_run")]
    yes: Option<ClusterName>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let name = context.cluster_name()?;
    if !args.dry_run {
        context.may_change(&format!("fleetwright cluster recover --yes {name}"))?;
    }
    let cluster = context.cluster_api().await?;
    let asked = cluster.ask_all().await.map_err(|error| failure(&error))?;
    let etcd = plan::recover_etcd(&asked);
    let recovery = match plan::recover(&asked) {
        Ok(recovery) => Some(recovery),
        Err(Refusal::Majority(_)) if etcd.is_some() => None,
        Err(refusal) => return Err(refused(&refusal)),
    };
    if context.json() {
        view::json::document(&view::cluster::recovery_document(recovery.as_ref(), etcd.as_ref()));
    } else {
        eprint!("{}", view::cluster::recovery(recovery.as_ref(), etcd.as_ref()));
    }
    if args.dry_run {
        return Ok(Done::Ok);
    }
    super::confirm(&name, args.yes.as_ref(), "recover the cluster", "fleetwright cluster recover").await?;
    if let Some(recovery) = &recovery {
        carry_out(context, cluster.as_ref(), recovery).await?;
    }
    recover_etcd(context, cluster.as_ref()).await?;
    Ok(Done::Ok)
}

/// Recovers etcd where it has no majority now: agents that waited for the cluster serve theirs again.
async fn recover_etcd(context: &Context, cluster: &dyn ControlMachines) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let asked = cluster.ask_all().await.map_err(|error| failure(&error))?;
        let Some((machine, log)) = plan::recover_etcd(&asked) else { return Ok(()) };
        match cluster.recover_etcd(&machine, log).await {
            Ok(()) => {
                tell(context, &format!("etcd goes on from {machine}; the other machines join it again"));
                return Ok(());
            }
            // Its agent may be on its way back into the cluster, or etcd found its majority just now.
            Err(error) if start.elapsed() > ETCD => {
                return Err(Failure::failed(
                    format!("recovering etcd on {machine}: {error}"),
                    "see `journalctl -u fleetwright-etcd` there; `fleetwright cluster recover` may be run again",
                ));
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

async fn carry_out(
    context: &Context,
    cluster: &dyn ControlMachines,
    recovery: &Recovery,
) -> Result<(), Failure> {
    cluster.recover(&recovery.machine, recovery.log).await.map_err(|error| {
        Failure::failed(
            error.to_string(),
            "see `fleetwright cluster status`; `fleetwright cluster recover` may be run again",
        )
    })?;
    tell(context, &format!("{} leads the cluster alone", recovery.machine));
    match cluster.restore().await {
        Ok(restored) if restored.names().is_empty() => tell(context, "nothing was lost that the bucket has"),
        Ok(restored) => {
            tell(context, &format!("restored from the bucket: {}", restored.names().join(", ")));
        }
        // The leader goes on trying; workers join after that.
        Err(error) => tell(context, &format!("restoring from the bucket goes on: {error}")),
    }
    let start = Instant::now();
    let wanted = recovery.join_again.len() + 1;
    while start.elapsed() < JOIN {
        let asked = cluster.ask_all().await.map_err(|error| failure(&error))?;
        if reachable(&asked) >= wanted {
            tell(context, &format!("{wanted} of the control machines that answered are back"));
            return Ok(());
        }
        sleep(LOOK).await;
    }
    Err(Failure::failed(
        format!("not every control machine that answered has joined again within {} s", JOIN.as_secs()),
        "the cluster can be changed meanwhile; see `fleetwright cluster status`, and the agent's journal there",
    ))
}

fn reachable(asked: &[Asked]) -> usize {
    plan::best(asked).map_or(0, |view| view.managers.iter().filter(|one| one.reachable).count())
}

fn tell(context: &Context, text: &str) {
    if !context.json() {
        eprintln!("{text}");
    }
}

fn refused(refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::Majority(machine) => Failure::failed(
            format!("control machine {machine} has a majority behind it; there is nothing to recover"),
            "`fleetwright cluster status` shows which machines do not answer; their group replaces them",
        ),
        Refusal::NobodyAnswers => Failure::failed(
            "no control machine answers, so there is no log to go on from",
            "if they are lost for good, see `fleetwright cluster rebuild`",
        ),
        Refusal::NoLog => Failure::failed(
            "no control machine that answers holds the cluster's state",
            "if the others are lost for good, see `fleetwright cluster rebuild`",
        ),
        Refusal::TooOld(machines) => Failure::failed(
            format!("the agent is too old to recover a cluster on {}", machines.join(", ")),
            "upgrade it on that machine, or follow Docker's manual: `docker swarm init --force-new-cluster`",
        ),
        Refusal::SeveralClusters(ids) => Failure::failed(
            format!(
                "the control machines that answer belong to different clusters: {}",
                ids.iter().cloned().collect::<Vec<_>>().join(", ")
            ),
            "terminate those of the wrong one: `fleetwright cluster status` shows which is published",
        ),
    }
}
