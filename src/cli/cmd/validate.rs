//! `fleetwright validate`.

use std::time::Instant;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::explain::explain;
use crate::cli::failure::Failure;
use crate::view::diagnostics;
use crate::{repo, view};

/// Checks every file of the repository, offline
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Reads fleetwright.yaml, stacks/, templates/, services/ and pipelines/, renders every stack for
every environment, checks what comes of them against the schemas of all resource types, and
reports all problems at once. Needs no network and changes nothing.

Examples:
  fleetwright validate                 the repository around the current folder
  fleetwright -C infra validate        the repository in infra/
  fleetwright validate --explain unknown-property
  fleetwright validate -o json         one JSON document, for editors and scripts

Exit status: 0 no errors, 2 errors.")]
pub struct Args {
    /// Say what the code of a finding means, and check nothing
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    if let Some(code) = args.explain {
        return explain(context, &code);
    }
    let start = Instant::now();
    let (problems, files) = repo::check(&context.root()?);
    if context.json() {
        view::json::document(&diagnostics::json(&problems, files));
    } else {
        diagnostics::print_check(&problems, files, start.elapsed(), context.colour_err);
    }
    if problems.iter().any(crate::source::Diagnostic::is_error) {
        Err(Failure::Refused)
    } else {
        Ok(Done::Ok)
    }
}
