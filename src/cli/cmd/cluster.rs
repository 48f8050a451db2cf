//! `fleetwright cluster`: what concerns a cluster as a whole. One file per subcommand.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

pub mod token;

/// Works on a cluster as a whole: its tokens
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Token(token::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Token(args) => token::run(context, args).await,
    }
}
