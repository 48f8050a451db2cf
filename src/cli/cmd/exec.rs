//! `fleetwright exec`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::session::Streams;
use crate::cli::target::Target;
use crate::port::cluster::ClusterError;
use crate::port::streams::{Exec as _, ExecRequest};

/// Executes a program in a running instance
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The program runs in the instance's container, with its files and network. Its exit status is this
command's: 126 when it can't be executed, 127 when it does not exist, 1 when the stream to it breaks.
Without an instance, a healthy one is chosen, and its name is printed on standard error.

With `-t` Ctrl-C goes to the program. Without, it interrupts the program, and the second one kills it.
The program ends when the connection does. `fleetwright audit` shows who executed which program and where;
arguments are not recorded, since they may hold secrets. An instance that is made of systemd units has
no container: sign in to its machine.

Examples:
  fleetwright exec web -it -- sh
  fleetwright exec web@1 -- cat /etc/hosts
  echo 'select 1' | fleetwright exec db@1 -i -- psql shop
  fleetwright exec db@1 -- pg_dump shop >shop.sql")]
pub struct Args {
    /// The service, or one instance of it, such as `web@1`
    #[arg(value_name = "INSTANCE")]
    target: Target,

    #[command(flatten)]
    streams: Streams,

    /// The program and its arguments, after `--`
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    args.streams.check(context)?;
    let request = ExecRequest {
        instance: args.target.instance.clone(),
        occurrence: None,
        command: args.command,
        input: args.streams.interactive,
        terminal: args.streams.terminal(),
    };
    let cluster = context.cluster_api_to_change(&format!("fleetwright exec {}", args.target)).await?;
    let attached = cluster.exec(&args.target.service, &request).await.map_err(|error| match error {
        ClusterError::Refused { reason } => {
            let service = &args.target.service;
            Failure::failed(reason, format!("`fleetwright status {service}` lists its instances"))
        }
        error => failure(&error),
    })?;
    if args.target.instance.is_none() && !context.json() {
        eprintln!("{} on {}", attached.instance, attached.machine);
    }
    args.streams.connect(context, attached, "fleetwright exec").await
}
