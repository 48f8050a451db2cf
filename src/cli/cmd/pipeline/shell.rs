//! `fleetwright pipeline shell`.

use std::io::IsTerminal as _;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipeline_server::{Finder, failure};
use crate::cli::session::Streams;
use crate::cli::terminal;
use crate::model::run::RunId;
use crate::port::pipeline_wire::ShellRequest;

/// Opens a shell in a step that has failed, for as long as its container is kept
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The container of a step that has failed, and the workspace of its run, are kept for an hour, or until the disk
is low. The shell is in a new container with the same files, variables, secrets, limits and user, and with the
workspace itself. Services beside the step are not started. The role deployer is needed, and the run records
who has opened it.

With a terminal as standard input the program gets one. Its exit status is this command's. The program ends
when the connection does.

Examples:
  fleetwright pipeline shell 12 test
  fleetwright pipeline shell 12 test -- bash -l
  echo 'ls -l' | fleetwright pipeline shell 12 test -- sh")]
pub struct Args {
    /// The run's number
    #[arg(value_name = "RUN")]
    run: i64,
    /// The step
    #[arg(value_name = "STEP")]
    step: String,
    /// The program and its arguments, after `--`; `sh` by default
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let Args { run, step, command } = args;
    let again = format!("fleetwright pipeline shell {run} {step}");
    context.may_change(&again)?;
    let tty = terminal::is_input() && std::io::stdout().is_terminal() && !context.json();
    let streams = Streams { interactive: true, tty };
    let api = Finder::new(context)?.find(context)?;
    let request = ShellRequest { step, command, input: true, terminal: streams.terminal() };
    let attached = api.shell(RunId(run), &request).await.map_err(|error| failure(&error))?;
    let next = "check that the pipeline server runs; the program is ended with its stream, and the workspace is kept";
    streams.connect_or(context, attached, &again, next).await
}
