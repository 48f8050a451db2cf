//! `fleetwright cluster`: what concerns a cluster as a whole. One file per subcommand.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::name::ClusterName;

pub mod rebuild;
pub mod recover;
pub mod status;
pub mod token;

/// Works on a cluster as a whole: its control machines, what is kept of it, its tokens
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Status(status::Args),
    Recover(recover::Args),
    Rebuild(rebuild::Args),
    Token(token::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Status(args) => status::run(context, args).await,
        Action::Recover(args) => recover::run(context, args).await,
        Action::Rebuild(args) => rebuild::run(context, args).await,
        Action::Token(args) => token::run(context, args).await,
    }
}

/// Wants the cluster's name, from `--yes` or typed.
async fn confirm(
    name: &ClusterName,
    yes: Option<&ClusterName>,
    what: &str,
    command: &str,
) -> Result<(), Failure> {
    let typed = match yes {
        Some(yes) => Some(yes.to_string()),
        None => ask(&format!("Type `{name}` to {what}:"), command).await?,
    };
    if typed.as_deref() == Some(name.as_str()) {
        return Ok(());
    }
    Err(Failure::usage(
        format!("the cluster is `{name}`, and that is not what was given; nothing was changed"),
        format!("give its name: `{command} --yes {name}`"),
    ))
}

/// Asks on the terminal; `None` at its end.
async fn ask(question: &str, command: &str) -> Result<Option<String>, Failure> {
    use std::io::{BufRead as _, IsTerminal as _};
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to type the cluster's name on; nothing was changed",
            format!("give it: `{command} --yes CLUSTER`"),
        ));
    }
    eprint!("{question} ");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|read| (read > 0).then_some(line))
    });
    match line.await {
        Ok(Ok(line)) => Ok(line.map(|line| line.trim().to_owned())),
        Ok(Err(error)) => {
            Err(Failure::failed(format!("reading the answer: {error}"), "give it with `--yes`"))
        }
        Err(_) => Ok(None),
    }
}
