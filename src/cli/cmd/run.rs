//! `fleetwright run`.

use crate::adapter::cluster_api::ClusterApi;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::occurrences::{Followed, begun, ended, follow, key};
use crate::cli::session::Streams;
use crate::model::job::{Kind, OccurrenceId, Outcome, Progress};
use crate::model::name::ServiceName;
use crate::port::cluster_wire::CommandRequest;
use crate::port::jobs::JobCluster;
use crate::port::streams::{Exec as _, ExecRequest};

/// Runs a command with a service's image and settings
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Starts a container of its own, on any machine that fits, with the image, environment variables, secrets,
files and limits of the revision that the service runs. Its output is followed, its exit status is passed
on, and the container is removed. The image's entry point is not used: name the program itself.

The command runs once: when its machine is lost, that is reported, and nothing is repeated.
Ctrl-C stops following; the command continues. `audit` records who ran which program.

With `-i` or `-t` this process is connected with the program, as with `exec`: Ctrl-C interrupts the
program, and it and its container end when the connection does.

Examples:
  fleetwright run web -it -- bin/console
  fleetwright run web -i -- psql <dump.sql
  fleetwright run web -- bin/migrate --check
  fleetwright run web -- sh -c 'env | sort'
  fleetwright run web --no-wait -- bin/rebuild-index")]
pub struct Args {
    /// The service
    #[arg(value_name = "SERVICE")]
    service: ServiceName,

    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<String>,

    #[command(flatten)]
    streams: Streams,

    /// Return as soon as it was accepted
    #[arg(long, conflicts_with_all = ["interactive", "tty"])]
    no_wait: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let shown = format!("fleetwright run {} -- {}", args.service, args.command.join(" "));
    args.streams.check(context)?;
    let cluster = context.cluster_api_to_change(&shown).await?;
    let id = OccurrenceId::asked(Kind::Command, args.service.as_str(), &key())
        .map_err(|error| Failure::failed(error.to_string(), "report this"))?;
    if args.streams.interactive || args.streams.tty {
        return attend(context, &cluster, &id, args).await;
    }
    let request = CommandRequest { command: args.command, attended: false };
    cluster.run_command(&id, &request, None).await.map_err(|error| failure(&error))?;
    if args.no_wait {
        if !context.json() {
            eprintln!("{id} was accepted; `fleetwright job history --commands` shows its outcome");
        }
        return Ok(Done::Ok);
    }
    let one = match follow(context, cluster.as_ref(), &id).await? {
        Followed::Ended(one) => one,
        Followed::Interrupted => {
            return Err(Failure::Interrupted {
                left: "the command continues; `fleetwright job history --commands` shows its outcome"
                    .to_owned(),
            });
        }
    };
    // The status is the command's own, as if it had run here.
    match (one.progress, one.exit) {
        (Progress::Ended(Outcome::Succeeded), _) => Ok(Done::Ok),
        (Progress::Ended(Outcome::Failed), Some(exit)) if exit != 0 => {
            if let Some(reason) = one.reason.as_ref().filter(|reason| !reason.starts_with("it exited")) {
                eprintln!("fleetwright: {reason}");
            }
            Ok(Done::Status(u8::try_from(exit).unwrap_or(1)))
        }
        _ => ended(context, &one, &format!("the command with the image of `{}`", args.service)),
    }
}

/// Runs the command with this process connected to it.
async fn attend(
    context: &Context,
    cluster: &ClusterApi,
    id: &OccurrenceId,
    args: Args,
) -> Result<Done, Failure> {
    // What the program is given goes to it alone, and is recorded nowhere.
    let program = args.command.iter().take(1).cloned().collect();
    let request = CommandRequest { command: program, attended: true };
    cluster.run_command(id, &request, None).await.map_err(|error| failure(&error))?;
    let one = tokio::select! {
        one = begun(cluster, id) => one?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::Interrupted {
                left: format!("the program was not executed; the container of {id} is removed"),
            });
        }
    };
    if let Progress::Ended(_) = one.progress {
        return ended(context, &one, &format!("the command with the image of `{}`", args.service));
    }
    let request = ExecRequest {
        instance: None,
        occurrence: Some(id.clone()),
        command: args.command,
        input: args.streams.interactive,
        terminal: args.streams.terminal(),
    };
    let attached = cluster.exec(&args.service, &request).await.map_err(|error| failure(&error))?;
    args.streams.connect(context, attached, "fleetwright run").await
}
