//! `fleetwright completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{Cli, Done};

/// Prints the shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  fleetwright completions bash > ~/.local/share/bash-completion/completions/fleetwright
  fleetwright completions zsh > ~/.zfunc/_fleetwright
  fleetwright completions fish > ~/.config/fish/completions/fleetwright.fish")]
pub struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub async fn run(_context: &Context, args: Args) -> Result<Done, Failure> {
    // Written at once: the generator itself panics when a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fleetwright", &mut script);
    crate::view::out::stdout(&String::from_utf8_lossy(&script));
    Ok(Done::Ok)
}
